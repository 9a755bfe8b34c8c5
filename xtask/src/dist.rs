//! `cargo xtask dist`: the Debian package, with man pages and completions.
//!
//! The programs write their own pages: `PROGRAM generate man DIR` and `PROGRAM generate
//! completions DIR`, hidden subcommands that print what clap knows, so that help, page and
//! completion cannot differ. What goes where in the package stands in `pool-daemon/Cargo.toml`
//! under `package.metadata.deb`; this module fills the folders it names.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::command::{cargo, has_cargo_command, run as run_command};

/// The programs of the package. Each is the name of its package too.
const PROGRAMS: [&str; 2] = ["pool-daemon", "poolctl"];
/// What each program writes about itself; also the folders under `target/dist`.
const PAGES: [&str; 2] = ["man", "completions"];

/// Builds the programs, their pages, and the package of both.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut build = cargo(root);
    // The package's paths are relative to `target`, so an environment's own folder is set aside.
    build.args(["build", "--release", "--locked", "--target-dir", "target"]);
    run_command(build.args(PROGRAMS.iter().flat_map(|program| ["--package", program])))?;
    write_pages(root)?;
    if !has_cargo_command(root, "deb")? {
        bail!(
            "the pages are in target/dist, but the package needs cargo-deb: \
             cargo install --locked cargo-deb (3.8 or newer: older ones make no user for the \
             service), and apt install dpkg-dev for its dependency lists"
        );
    }
    // Not stripped: a crash in the field is to be read.
    let package = [
        "deb",
        "--package",
        "pool-daemon",
        "--no-build",
        "--no-strip",
        "--locked",
    ];
    run_command(cargo(root).env("CARGO_TARGET_DIR", "target").args(package))
}

/// Fills `target/dist` anew, so that nothing of an older version is packed.
fn write_pages(root: &Path) -> anyhow::Result<()> {
    let dist = root.join("target/dist");
    if dist.exists() {
        fs::remove_dir_all(&dist).with_context(|| format!("cannot empty {}", dist.display()))?;
    }
    for kind in PAGES {
        let folder = dist.join(kind);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for program in PROGRAMS {
            let program = root.join("target/release").join(program);
            run_command(Command::new(program).args(["generate", kind]).arg(&folder))?;
        }
    }
    Ok(())
}
