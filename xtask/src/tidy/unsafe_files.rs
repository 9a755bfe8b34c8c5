//! `unsafe` only in the files of `xtask/unsafe-files.txt`: what a reader must read to trust the
//! memory safety of the whole. A listed file that needs it no more is an error as well, so that
//! the list stays the truth. In the list, `#` begins a comment.

use super::Finding;
use super::tree::Tree;

const LIST: &str = "xtask/unsafe-files.txt";

/// Compares the list with the tree, both ways.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let text = tree.file(LIST).map_or("", |file| file.text.as_str());
    let listed: Vec<_> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .enumerate()
        .filter(|(_, path)| !path.is_empty())
        .collect();
    let mut findings = Vec::new();
    for (index, path) in &listed {
        let rust = tree.file(path).and_then(|file| file.as_rust());
        if rust.is_none_or(|rust| rust.unsafe_lines.is_empty()) {
            let message = format!("`{path}` holds no `unsafe`, or is not there: take it off");
            findings.push(Finding::breach(LIST, index + 1, message));
        }
    }
    for file in tree.files() {
        let lines = file.as_rust().map_or(&[][..], |rust| &rust.unsafe_lines);
        if let Some(line) = lines
            .first()
            .filter(|_| !listed.iter().any(|(_, p)| *p == file.path))
        {
            let message = format!("`unsafe` in a file that is not listed in {LIST}");
            findings.push(Finding::breach(&file.path, *line, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Finding;
    use super::super::tree::Tree;

    const USES: &str = "\nfn f() { unsafe { g() } }\n";

    fn check(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        let place = |finding: Finding| (finding.path, finding.line);
        super::check(&Tree::of(files))
            .into_iter()
            .map(place)
            .collect()
    }

    #[test]
    fn a_listed_file_may_be_unsafe_and_no_other() {
        let list = ("xtask/unsafe-files.txt", "# why\na.rs # the door\n");
        assert_eq!(check(&[("a.rs", USES), list]), []);
        assert_eq!(
            check(&[("a.rs", USES), ("b.rs", USES), list]),
            [("b.rs".to_owned(), 2)]
        );
    }

    #[test]
    fn an_entry_that_is_not_needed_is_stale() {
        let list = ("xtask/unsafe-files.txt", "a.rs\n\ngone.rs\n");
        let stale = [(list.0.to_owned(), 1), (list.0.to_owned(), 3)];
        assert_eq!(check(&[("a.rs", "fn f() {}"), list]), stale);
    }
}
