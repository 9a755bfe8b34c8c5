//! `cargo xtask tidy`: the rules of this tree that no compiler knows.
//!
//! The tree is what git knows or would add ([`tree`]); what cargo generates lies in `target` and
//! is no part of it. Each rule is a module and a function from the tree to what it finds, so that
//! a test can plant a breach in a tree of two lines and see it caught.
//!
//! A [`Finding`] either fails the check or, for a habit that has good exceptions, is only shown.

mod direction;
mod planted;
mod promises;
mod readme;
mod rust;
mod size;
mod text;
mod tree;
mod unsafe_files;

use std::fmt;
use std::path::Path;

use anyhow::bail;

pub(crate) use self::planted::Model;
use self::tree::Tree;

/// What becomes of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Shown; the check passes.
    Habit,
    /// The check fails.
    Breach,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 where the whole file is meant.
    line: usize,
    weight: Weight,
    message: String,
}

impl Finding {
    fn breach(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            weight: Weight::Breach,
            message: message.into(),
        }
    }

    fn habit(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            weight: Weight::Habit,
            ..Self::breach(path, line, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Habit => "note",
            Weight::Breach => "error",
        };
        match self.line {
            0 => write!(f, "{}: {weight}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {weight}: {}", self.path, self.message),
        }
    }
}

/// Checks the workspace at `root`; fails with the number of breaches after all are shown.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let tree = Tree::read(root)?;
    let mut findings = in_tree(&tree);
    findings.extend(direction::check(root)?);
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    let breaches = findings
        .iter()
        .filter(|finding| finding.weight == Weight::Breach)
        .count();
    if breaches > 0 {
        bail!("tidy: {breaches} breaches");
    }
    println!("tidy: {} files, no breach", tree.files().len());
    Ok(())
}

/// The models in the workspace at `root`, with the planted bugs that each must catch.
pub(crate) fn models(root: &Path) -> anyhow::Result<Vec<Model>> {
    Ok(planted::models(&Tree::read(root)?))
}

/// The rules that need no more than the files.
fn in_tree(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        findings.extend(text::check(file));
        findings.extend(size::check(file));
        findings.extend(rust::check(file));
    }
    findings.extend(unsafe_files::check(tree));
    findings.extend(promises::check(tree));
    findings.extend(planted::check(tree));
    findings.extend(readme::check(tree));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_runs_over_the_tree() {
        let planted = concat!(
            "fn used() { unsafe { f() } }\n",
            "fn unfinished() { to",
            "do!() }\n",
            "// caf\u{e9}\n",
            "fn mistaken() { planted!(\"a.bug\") }\n",
        );
        let long = format!(
            "fn f() {{\n{}}}\n",
            "    g();\n".repeat(size::FUNCTION_LINES)
        );
        let rows = "| id | promise | held by |\n|---|---|---|\n| A | b | `a::absent` |\n";
        let tree = Tree::of(&[
            ("a/src/lib.rs", planted),
            ("a/src/long.rs", &long),
            ("SPECIFICATION.md", rows),
            ("xtask/unsafe-files.txt", "gone.rs\n"),
        ]);
        let found: Vec<_> = in_tree(&tree)
            .into_iter()
            .map(|finding| (finding.path, finding.line))
            .collect();
        for expected in [
            ("a/src/lib.rs", 1),
            ("a/src/lib.rs", 2),
            ("a/src/lib.rs", 3),
            ("a/src/lib.rs", 4),
            ("a/src/long.rs", 1),
            ("SPECIFICATION.md", 3),
            ("xtask/unsafe-files.txt", 1),
            ("README.md", 0),
        ] {
            let (path, line) = expected;
            assert!(
                found.contains(&(path.to_owned(), line)),
                "{expected:?} in {found:?}"
            );
        }
    }

    #[test]
    fn a_finding_reads_as_a_compiler_s_message() {
        assert_eq!(
            Finding::breach("a.rs", 3, "bad").to_string(),
            "a.rs:3: error: bad"
        );
        assert_eq!(
            Finding::habit("a.rs", 0, "long").to_string(),
            "a.rs: note: long"
        );
    }
}
