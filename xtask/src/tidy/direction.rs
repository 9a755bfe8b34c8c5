//! Who may name whom: dependencies between the members point downwards only.
//!
//! ```text
//! tests benches xtask     anything
//! clients/*            -> client-sdk, pool-core
//! sim                  -> anything, but no servers
//! poolctl              -> charts, client-sdk, fabric-emu, pool-core, pool-proto
//! allocator/c          -> allocator, client-sdk, pool-core
//! client-sdk           -> allocator, coherence, pool-core, pool-proto
//! pool-daemon          -> coherence, fabric-emu, kernel-cxl, pool-core, pool-proto
//! allocator            -> coherence, pool-core
//! coherence fabric-emu kernel-cxl -> pool-core
//! charts pool-core pool-proto -> nothing
//! ```
//!
//! What a member needs for its own tests alone does not count: it is in nothing that is shipped.
//! Beyond the members, [`RUNTIME_FREE`] ones reach neither tokio nor tonic: a model checker cannot
//! build those, and a client brings its own runtime or none.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::Finding;
use crate::command::{cargo, output};

/// Members that reach no asynchronous runtime.
const RUNTIME_FREE: [&str; 6] = [
    "pool-core",
    "coherence",
    "allocator",
    "client-sdk",
    "tierpool-c",
    "sim",
];
/// What a runtime-free member must not reach.
const RUNTIMES: [&str; 2] = ["tokio", "tonic"];

/// One member, by the folder it lies in, with the members it names.
#[derive(Debug)]
struct Member {
    name: String,
    folder: String,
    names: Vec<String>,
}

/// Compares what cargo knows of the members with the picture above.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let metadata = output(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata = serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
    let members = members(&metadata).context("cargo metadata has another form than we know")?;
    let mut findings: Vec<_> = members.iter().flat_map(upward).collect();
    for name in RUNTIME_FREE {
        let format = ["--edges", "normal", "--prefix", "none", "--format", "{p}"];
        let tree = output(cargo(root).args(["tree", "--package", name]).args(format))?;
        findings.extend(runtimes_in(name, &tree));
    }
    Ok(findings)
}

/// The members in the answer of `cargo metadata`, or `None` where a field is not where it was.
fn members(metadata: &Value) -> Option<Vec<Member>> {
    let root = metadata["workspace_root"].as_str()?;
    let mut members = Vec::new();
    for package in metadata["packages"].as_array()? {
        let manifest = Path::new(package["manifest_path"].as_str()?)
            .strip_prefix(root)
            .ok()?;
        let mut names = Vec::new();
        for dependency in package["dependencies"].as_array()? {
            let is_shipped = dependency["kind"].as_str() != Some("dev");
            if is_shipped && dependency["path"].is_string() {
                names.push(dependency["name"].as_str()?.to_owned());
            }
        }
        let name = package["name"].as_str()?.to_owned();
        members.push(Member {
            name,
            folder: manifest.parent()?.to_str()?.to_owned(),
            names,
        });
    }
    Some(members)
}

/// The members that the one in `folder` may name; `None` for any. `Err` for a folder not known.
fn allowed(folder: &str) -> Result<Option<&'static [&'static str]>, ()> {
    match folder {
        "charts" | "pool-core" | "pool-proto" => Ok(Some(&[])),
        "coherence" | "fabric-emu" | "kernel-cxl" => Ok(Some(&["pool-core"])),
        "allocator" => Ok(Some(&["coherence", "pool-core"])),
        "allocator/c" => Ok(Some(&["allocator", "client-sdk", "pool-core"])),
        "client-sdk" => Ok(Some(&["allocator", "coherence", "pool-core", "pool-proto"])),
        "pool-daemon" => Ok(Some(&[
            "coherence",
            "fabric-emu",
            "kernel-cxl",
            "pool-core",
            "pool-proto",
        ])),
        "poolctl" => Ok(Some(&[
            "charts",
            "client-sdk",
            "fabric-emu",
            "pool-core",
            "pool-proto",
        ])),
        "sim" | "tests" | "tests/cxl-vm" | "benches" | "xtask" => Ok(None),
        _ if folder.starts_with("clients/") => Ok(Some(&["client-sdk", "pool-core"])),
        _ => Err(()),
    }
}

fn upward(member: &Member) -> Vec<Finding> {
    let manifest = format!("{}/Cargo.toml", member.folder);
    let allowed = match allowed(&member.folder) {
        Ok(None) => return Vec::new(),
        Ok(Some(allowed)) => allowed,
        Err(()) => {
            let message = "a new member: say in xtask/src/tidy/direction.rs whom it may name";
            return vec![Finding::breach(&manifest, 0, message)];
        }
    };
    let wrong = member
        .names
        .iter()
        .filter(|name| !allowed.contains(&name.as_str()));
    let message = |name: &String| format!("`{}` must not name `{name}`", member.name);
    wrong
        .map(|name| Finding::breach(&manifest, 0, message(name)))
        .collect()
}

/// The runtimes in what `cargo tree` printed of `member`.
fn runtimes_in(member: &str, tree: &str) -> Vec<Finding> {
    let reached = |runtime: &&str| {
        tree.lines()
            .any(|line| line.split_whitespace().next() == Some(*runtime))
    };
    let manifest = format!("{member}/Cargo.toml");
    let message = |name: &str| format!("`{member}` must not reach `{name}`, see `cargo tree`");
    RUNTIMES
        .iter()
        .filter(|runtime| reached(runtime))
        .map(|runtime| Finding::breach(&manifest, 0, message(runtime)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cargo would say of one member that names `dependency` in the way `kind` says.
    fn metadata(folder: &str, dependency: &str, kind: Value) -> Value {
        serde_json::json!({
            "workspace_root": "/tree",
            "packages": [{
                "name": folder,
                "manifest_path": format!("/tree/{folder}/Cargo.toml"),
                "dependencies": [
                    { "name": dependency, "kind": kind, "path": format!("/tree/{dependency}") },
                    { "name": "serde", "kind": null, "path": null },
                ],
            }],
        })
    }

    fn findings(folder: &str, dependency: &str, kind: Value) -> usize {
        let metadata = metadata(folder, dependency, kind);
        members(&metadata).unwrap().iter().flat_map(upward).count()
    }

    #[test]
    fn a_member_names_only_what_lies_below_it() {
        for (folder, below) in [
            ("client-sdk", "pool-core"),
            ("pool-daemon", "pool-proto"),
            ("coherence", "pool-core"),
            ("client-sdk", "coherence"),
            ("poolctl", "client-sdk"),
            ("poolctl", "fabric-emu"),
            ("clients/digits", "client-sdk"),
            ("tests", "pool-daemon"),
            ("sim", "pool-daemon"),
        ] {
            assert_eq!(
                findings(folder, below, Value::Null),
                0,
                "{folder} -> {below}"
            );
        }
        for (folder, above) in [
            ("pool-core", "pool-proto"),
            ("pool-proto", "pool-core"),
            ("coherence", "pool-proto"),
            ("pool-daemon", "client-sdk"),
            ("client-sdk", "pool-daemon"),
            ("poolctl", "pool-daemon"),
            ("clients/digits", "pool-proto"),
            ("client-sdk", "xtask"),
        ] {
            assert_eq!(
                findings(folder, above, Value::Null),
                1,
                "{folder} -> {above}"
            );
            assert_eq!(
                findings(folder, above, "build".into()),
                1,
                "{folder} -> {above}"
            );
        }
    }

    #[test]
    fn what_only_tests_need_may_lie_anywhere() {
        assert_eq!(findings("pool-core", "tests", "dev".into()), 0);
    }

    #[test]
    fn a_member_without_a_place_is_caught() {
        assert_eq!(findings("helpers", "pool-core", Value::Null), 1);
    }

    #[test]
    fn a_runtime_is_found_however_deep() {
        let tree = "client-sdk v0.1.0 (x)\npool-core v0.1.0\ntokio v1.54.1\ntokio-util v0.7.0\n";
        let found = runtimes_in("client-sdk", tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("`tokio`"), "{}", found[0]);
        assert_eq!(runtimes_in("client-sdk", "tokio-util v0.7.0\n"), []);
    }
}
