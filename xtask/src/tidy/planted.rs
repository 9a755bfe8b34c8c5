//! Every planted bug is caught by a test that says so.
//!
//! Code asks `planted!("ring.lost_slot")` where a mistake would be grave. A test that catches the
//! mistake names it in its documentation, `/// Catches: ring.lost_slot, ring.other`. Both stand in
//! the source, so that neither can be left behind:
//! - a bug that no test names was planted for nothing;
//! - a name that no source plants is a bug that is gone, or misspelt;
//! - a test that names a bug plants it, or is a model, which `cargo xtask loom` runs with the bug.
//!
//! A **model** is a test of a file `tests/loom_*` of a member, or a test within its `src` that
//! calls `model` itself.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::rust::Function;
use super::tree::{File, Tree};

/// A model, by the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// The folder of its member.
    pub(crate) package: String,
    /// The integration test that holds it; `None` within the library.
    pub(crate) target: Option<String>,
    /// The name of its function.
    pub(crate) name: String,
    /// The planted bugs that it must catch.
    pub(crate) catches: Vec<String>,
}

/// All models of the tree.
pub(super) fn models(tree: &Tree) -> Vec<Model> {
    let mut models = Vec::new();
    for (file, function) in functions(tree) {
        models.extend(model(file, function));
    }
    models
}

/// Compares the bugs that are planted with those that are caught.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let planted = planted(tree);
    let mut findings = Vec::new();
    let mut caught = BTreeSet::new();
    for (file, function) in functions(tree) {
        for bug in &function.catches {
            match catches(file, function, bug, &planted) {
                Ok(()) => drop(caught.insert(bug.as_str())),
                Err(why) => findings.push(Finding::breach(&file.path, function.line, why)),
            }
        }
    }
    for (bug, (file, line)) in planted {
        if !is_name(bug) {
            let message = format!("`{bug}` is no name of a bug, as `ring.lost_slot` is");
            findings.push(Finding::breach(&file.path, line, message));
        } else if !caught.contains(bug) {
            let message = format!("no test says `Catches: {bug}`");
            findings.push(Finding::breach(&file.path, line, message));
        }
    }
    for file in tree.files() {
        let stray = file.as_rust().map(|rust| rust.stray_catches.as_slice());
        findings.extend(
            stray.unwrap_or_default().iter().map(|line| {
                Finding::breach(&file.path, *line, "`Catches:` stands above a test only")
            }),
        );
    }
    findings
}

fn functions(tree: &Tree) -> impl Iterator<Item = (&File, &Function)> {
    tree.files().iter().flat_map(|file| {
        let functions = file.as_rust().map(|rust| rust.functions.as_slice());
        functions.unwrap_or_default().iter().map(move |f| (file, f))
    })
}

/// The bugs that code plants, each with the first place.
fn planted(tree: &Tree) -> BTreeMap<&str, (&File, usize)> {
    let mut planted = BTreeMap::new();
    for file in tree.files() {
        for (line, bug) in file.as_rust().iter().flat_map(|rust| &rust.planted) {
            planted.entry(bug.as_str()).or_insert((file, *line));
        }
    }
    planted
}

/// Whether `function` can catch `bug`, or why not.
fn catches(
    file: &File,
    function: &Function,
    bug: &str,
    planted: &BTreeMap<&str, (&File, usize)>,
) -> Result<(), String> {
    let name = &function.name;
    if !function.is_test {
        return Err(format!("`{name}` is no test, and catches nothing"));
    }
    if function.is_ignored {
        return Err(format!("`{name}` is ignored, and catches nothing"));
    }
    if !planted.contains_key(bug) {
        return Err(format!("`{name}` catches `{bug}`, which no source plants"));
    }
    let is_planted_here = || {
        file.as_rust()
            .is_some_and(|rust| rust.strings.contains(bug))
    };
    if model(file, function).is_none() && !is_planted_here() {
        return Err(format!(
            "`{name}` is no model, and this file does not plant `{bug}`"
        ));
    }
    Ok(())
}

/// Two words or more of small letters, digits and underscores, with dots between them.
fn is_name(bug: &str) -> bool {
    let is_word = |word: &str| {
        let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        !word.is_empty() && word.chars().all(is_of_name)
    };
    bug.contains('.') && bug.split('.').all(is_word)
}

/// `function` of `file` as a model, where it is one.
fn model(file: &File, function: &Function) -> Option<Model> {
    if !function.is_test {
        return None;
    }
    let (package, target) = if let Some((package, path)) = file.path.split_once("/tests/") {
        let target = path.split_once('/').map_or(path, |(folder, _)| folder);
        let target = target.strip_suffix(".rs").unwrap_or(target);
        (package, Some(target).filter(|t| t.starts_with("loom_"))?)
    } else {
        let (package, _) = file.path.split_once("/src/")?;
        if !function.calls_model {
            return None;
        }
        (package, "")
    };
    Some(Model {
        package: package.to_owned(),
        target: Some(target.to_owned()).filter(|target| !target.is_empty()),
        name: function.name.clone(),
        catches: function.catches.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{Model, models};

    const PLANTS: &str = "fn f() { if planted!(\"ring.lost\") {} }\n";

    fn check(path: &str, tests: &str) -> Vec<String> {
        let tree = Tree::of(&[("pool/src/ring.rs", PLANTS), (path, tests)]);
        let findings = super::check(&tree).into_iter();
        findings.map(|finding| finding.to_string()).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn a_bug_is_caught_by_a_model_or_by_a_test_that_plants_it() {
        let model = "/// Catches: ring.lost\n#[test] fn law() { model(|| ()); }";
        assert_eq!(check("pool/tests/loom_ring.rs", model), NONE);
        assert_eq!(check("pool/tests/loom_ring/torn.rs", model), NONE);
        assert_eq!(check("pool/src/tests.rs", model), NONE);
        let test = "#[test]\n/// Catches: ring.lost\nfn law() { plant(Some(\"ring.lost\")); }";
        assert_eq!(check("pool/tests/explore.rs", test), NONE);
    }

    #[test]
    fn a_bug_that_no_test_catches_is_found_where_it_is_planted() {
        let lost = "pool/src/ring.rs:1: error: no test says `Catches: ring.lost`";
        let silent = "#[test] fn law() { model(|| ()); }\n// Catches: ring.lost\n";
        assert_eq!(check("pool/tests/loom_ring.rs", silent), [lost]);
        for (path, text, why) in [
            ("loom_a", "/// Catches: ring.lost\nfn help() {}", "no test"),
            (
                "loom_a",
                "/// Catches: ring.lost\n#[test] #[ignore] fn law() {}",
                "is ignored",
            ),
            (
                "law",
                "/// Catches: ring.lost\n#[test] fn law() { model(body); }",
                "no model",
            ),
            ("loom_a", "/// Catches: ring.lost\nstruct S;", "above"),
        ] {
            let found = check(&format!("pool/tests/{path}.rs"), text);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.contains(&lost.to_owned()), "{found:?}");
            assert!(found.iter().any(|found| found.contains(why)), "{found:?}");
        }
    }

    #[test]
    fn a_name_that_nobody_plants_is_found_at_the_test() {
        for names in [
            "ring.gone",
            "ring.lost.",
            "`ring.lost`",
            "ring.lost ring.lost",
            "",
        ] {
            let text = format!("/// Catches: ring.lost, {names}\n#[test]\nfn law() {{}}");
            let found = check("pool/tests/loom_a.rs", &text);
            assert_eq!(
                found,
                [format!(
                    "pool/tests/loom_a.rs:3: error: `law` catches `{names}`, which no source plants"
                )]
            );
        }
    }

    #[test]
    fn a_bug_has_a_name_that_an_environment_holds() {
        for name in ["ring", "ring lost", "ring.", "Ring.lost", "ring.lost=1"] {
            let text = format!("fn f() {{ planted!(\"{name}\") }}");
            let tree = Tree::of(&[("pool/src/ring.rs", &text)]);
            let found = super::check(&tree);
            assert!(found[0].message.contains("is no name of a bug"), "{name}");
        }
    }

    #[test]
    fn models_are_told_from_other_tests() {
        let body =
            "#[test] fn law() { model(|| ()); } #[test] fn other() {} fn help() { model(f) }";
        let tree = Tree::of(&[
            ("pool/tests/loom_a.rs", body),
            ("pool/src/a.rs", body),
            ("pool/tests/laws.rs", body),
        ]);
        let model = |target: Option<&str>, name: &str| Model {
            package: "pool".to_owned(),
            target: target.map(str::to_owned),
            name: name.to_owned(),
            catches: Vec::new(),
        };
        assert_eq!(
            models(&tree),
            [
                model(Some("loom_a"), "law"),
                model(Some("loom_a"), "other"),
                model(None, "law"),
            ]
        );
    }
}
