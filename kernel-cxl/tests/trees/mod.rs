//! Files that a kernel showed, laid into a folder that stands for `/`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A kernel's files: see the text itself.
pub(crate) const TREE: &str = include_str!("two-expanders.txt");

/// One line of such a text.
#[derive(Clone, Copy)]
pub(crate) enum Line<'t> {
    File(&'t str, &'t str),
    Link(&'t str, &'t str),
}

pub(crate) fn lines(text: &str) -> Vec<Line<'_>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = |line| match str::split_once(line, " -> ") {
        Some((path, target)) => Line::Link(path, target),
        None => {
            let (path, value) = line.split_once('=').expect("a file and what it holds");
            Line::File(path, value)
        }
    };
    lines.map(line).collect()
}

pub(crate) fn lay(root: &Path, lines: &[Line<'_>]) {
    for line in lines {
        let (Line::File(path, _) | Line::Link(path, _)) = line;
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("within the root")).expect("a folder of ours");
        let laid = match line {
            Line::File(_, value) => fs::write(path, value.replace('|', "\n")),
            Line::Link(_, target) => symlink(target, path),
        };
        laid.expect("a folder of ours");
    }
}
