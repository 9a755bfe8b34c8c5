//! `cargo xtask gate`: all checks a change must pass. The first that fails ends the gate.

use std::path::Path;

use crate::command::{cargo, has_cargo_command, run as run_command};
use crate::{test, tidy};

/// One check and the way to run it.
type Step = (&'static str, fn(&Path) -> anyhow::Result<()>);

/// Cheap ones first: a slip of the pen is told within seconds.
const STEPS: [Step; 6] = [
    ("format", format),
    ("tidy", tidy::run),
    ("clippy", clippy),
    ("test", test::run),
    ("documentation", documentation),
    ("licences", licences),
];

/// Runs every step.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    for (name, step) in STEPS {
        println!("== gate: {name}");
        step(root).map_err(|error| error.context(format!("the gate is shut: {name}")))?;
    }
    println!("== gate: open");
    Ok(())
}

fn format(root: &Path) -> anyhow::Result<()> {
    run_command(cargo(root).args(["fmt", "--all", "--check"]))
}

fn clippy(root: &Path) -> anyhow::Result<()> {
    let scope = ["--workspace", "--all-targets"];
    run_command(
        cargo(root)
            .arg("clippy")
            .args(scope)
            .args(["--", "-D", "warnings"]),
    )
}

fn documentation(root: &Path) -> anyhow::Result<()> {
    let scope = ["--workspace", "--no-deps"];
    run_command(
        cargo(root)
            .env("RUSTDOCFLAGS", "-D warnings")
            .arg("doc")
            .args(scope),
    )
}

/// The one optional step: cargo-deny is no part of a Rust installation.
fn licences(root: &Path) -> anyhow::Result<()> {
    if !has_cargo_command(root, "deny")? {
        println!("not run: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    // Not `advisories`: its database is fetched by git, which a closed network does not allow.
    run_command(cargo(root).args(["deny", "check", "bans", "licenses", "sources"]))
}
