//! Every promise of `SPECIFICATION.md` names the tests that hold it, and those exist.
//!
//! A promise is a row of a table whose last column is headed `held by`: there stand tests as
//! `` `FOLDER::NAME` ``, the folder of a member and the name of a function under it that carries
//! `#[test]` and is not ignored, or is made by a macro that does; or the words `not yet tested`.
//! The first cell is the promise's number, which no other row has.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

const SPECIFICATION: &str = "SPECIFICATION.md";
const UNTESTED: &str = "not yet tested";

/// Compares the promises with the tests of the tree.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.file(SPECIFICATION) else {
        return vec![Finding::breach(
            SPECIFICATION,
            0,
            "there are no promises to hold",
        )];
    };
    let mut findings = Vec::new();
    let mut numbers = BTreeSet::new();
    for (line, number, held_by) in promises(&file.text) {
        if !numbers.insert(number) {
            findings.push(Finding::breach(
                SPECIFICATION,
                line,
                format!("a second `{number}`"),
            ));
        }
        if held_by == UNTESTED {
            continue;
        }
        for test in held_by.split(',').map(str::trim) {
            if let Err(why) = find(tree, test) {
                findings.push(Finding::breach(
                    SPECIFICATION,
                    line,
                    format!("{number}: {why}"),
                ));
            }
        }
    }
    findings
}

/// The rows that are promises: line, number, and the cell that says what holds them.
fn promises(text: &str) -> Vec<(usize, &str, &str)> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for (index, line) in text.lines().enumerate() {
        let Some(row) = line
            .trim()
            .strip_prefix('|')
            .and_then(|row| row.strip_suffix('|'))
        else {
            in_table = false;
            continue;
        };
        let mut cells = row.split('|').map(str::trim);
        let (first, last) = (
            cells.next().unwrap_or_default(),
            cells.next_back().unwrap_or_default(),
        );
        let is_rule = first.chars().all(|character| "-: ".contains(character));
        if in_table && !is_rule {
            rows.push((index + 1, first, last));
        }
        in_table |= last == "held by";
    }
    rows
}

/// Whether `test`, in backticks, names a test that runs.
fn find(tree: &Tree, test: &str) -> Result<(), String> {
    let named = test
        .strip_prefix('`')
        .and_then(|test| test.strip_suffix('`'));
    let Some((folder, name)) = named.and_then(|test| test.rsplit_once("::")) else {
        return Err(format!(
            "`{test}` is neither `FOLDER::TEST` nor \"{UNTESTED}\""
        ));
    };
    let mut found: Result<(), String> = Err(format!("no test `{name}` under {folder}/"));
    for file in tree.files() {
        if !file
            .path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
        {
            continue;
        }
        let Some(rust) = file.as_rust() else { continue };
        if rust.made_tests.iter().any(|made| made == name) {
            return Ok(());
        }
        for function in rust
            .functions
            .iter()
            .filter(|f| f.is_test && f.name == name)
        {
            if !function.is_ignored {
                return Ok(());
            }
            found = Err(format!("test `{name}` in {} is ignored", file.path));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;

    const TESTS: &str = "\
        macro_rules! laws { ($law:ident) => { #[test] fn $law() {} }; }\n\
        laws!(of_each_kind);\n#[test] fn law() {}\n\
        #[test] #[ignore] fn asleep() {}\nfn helper() {}\n";

    fn check(rows: &str) -> Vec<String> {
        let text = format!("# Promises\n\n| no | promise | held by |\n|---|---|---|\n{rows}\n");
        let tree = Tree::of(&[("SPECIFICATION.md", &text), ("pool/src/a.rs", TESTS)]);
        super::check(&tree)
            .into_iter()
            .map(|finding| finding.to_string())
            .collect()
    }

    #[test]
    fn a_promise_is_held_by_a_test_that_runs_or_says_that_none_does() {
        let none: [&str; 0] = [];
        assert_eq!(
            check("| 1 | x | `pool::law` |\n| 2 | y | not yet tested |"),
            none
        );
        assert_eq!(check("| 1 | x | `pool::law`, `pool::of_each_kind` |"), none);
    }

    #[test]
    fn a_promise_without_a_test_that_runs_is_caught() {
        for (cell, why) in [
            ("`pool::gone`", "no test `gone` under pool/"),
            ("`po::law`", "no test `law` under po/"),
            ("`pool::helper`", "no test `helper`"),
            ("`pool::asleep`", "is ignored"),
            ("`pool::law`, `pool::gone`", "no test `gone`"),
            ("law", "is neither"),
            ("", "is neither"),
        ] {
            let found = check(&format!("| 1 | x | {cell} |"));
            assert_eq!(found.len(), 1, "{cell}: {found:?}");
            assert!(
                found[0].starts_with("SPECIFICATION.md:5: error: 1: "),
                "{found:?}"
            );
            assert!(found[0].contains(why), "{found:?}");
        }
    }

    #[test]
    fn a_number_names_one_promise() {
        let found = check("| 1 | x | not yet tested |\n| 1 | y | not yet tested |");
        assert_eq!(found, ["SPECIFICATION.md:6: error: a second `1`"]);
    }

    #[test]
    fn a_table_of_other_things_holds_no_promise() {
        let none: [&str; 0] = [];
        assert_eq!(
            check("\n| word | meaning |\n|---|---|\n| line | 64 B |"),
            none
        );
    }

    #[test]
    fn a_tree_without_promises_is_caught() {
        assert_eq!(super::check(&Tree::of(&[])).len(), 1);
    }
}
