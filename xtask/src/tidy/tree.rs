//! The files that the rules look at: what git tracks or would add, read as text.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::rust::Rust;
use crate::command::output;

/// Endings of files that hold data, not text.
const DATA: [&str; 5] = [".gz", ".png", ".bin", ".csv", ".pdf"];

/// One file, with what it holds as Rust where it is Rust.
#[derive(Debug)]
pub(super) struct File {
    /// From the root of the workspace, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// `None` where the file is no Rust; an error where it claims to be and cannot be read so.
    pub(super) rust: Option<Result<Rust, String>>,
}

impl File {
    fn new(path: &str, text: String) -> Self {
        let rust = path.ends_with(".rs").then(|| Rust::parse(&text));
        Self {
            path: path.to_owned(),
            text,
            rust,
        }
    }

    /// What the file holds as Rust, where it does.
    pub(super) fn as_rust(&self) -> Option<&Rust> {
        self.rust.as_ref()?.as_ref().ok()
    }
}

/// All files of the tree.
#[derive(Debug)]
pub(super) struct Tree {
    files: Vec<File>,
}

impl Tree {
    /// The tree of the workspace at `root`.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut list = Command::new("git");
        list.current_dir(root)
            .args(["ls-files", "-z", "--cached", "--others"]);
        let names = output(list.arg("--exclude-standard"))?;
        let mut files = Vec::new();
        for name in names.split_terminator('\0') {
            // A tracked file that was deleted but not yet committed is listed, and is not there.
            let path = root.join(name);
            if DATA.iter().any(|ending| name.ends_with(ending)) || !path.is_file() {
                continue;
            }
            let text = fs::read(&path).with_context(|| format!("cannot read {name}"))?;
            let text = String::from_utf8(text).with_context(|| format!("{name} is not UTF-8"))?;
            files.push(File::new(name, text));
        }
        Ok(Self { files })
    }

    /// A tree of these paths and texts.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File::new(path, (*text).into()))
                .collect(),
        }
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// The file at exactly this path.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}
