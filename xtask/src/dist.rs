//! `cargo xtask dist`: the Debian package, with man pages and completions, and the library for C.
//!
//! `target/dist/c` is what a program in C is built against: `lib`, `include` and a pkg-config file
//! that finds both wherever the folder is put.
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
/// The package of the library for C.
const LIBRARY: &str = "tierpool-c";
/// What each program writes about itself; also the folders under `target/dist`.
const PAGES: [&str; 2] = ["man", "completions"];

/// Builds the programs, the library, their pages, and the package of all.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut build = cargo(root);
    // The package's paths are relative to `target`, so an environment's own folder is set aside.
    build.args(["build", "--release", "--locked", "--target-dir", "target"]);
    let packages = PROGRAMS.iter().chain([&LIBRARY]);
    run_command(build.args(packages.flat_map(|package| ["--package", package])))?;
    write_pages(root)?;
    write_library(&root.join("target/release"), root)?;
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

/// Puts together `target/dist/c`, of the library that was built in `built`.
fn write_library(built: &Path, root: &Path) -> anyhow::Result<()> {
    let place = root.join("target/dist/c");
    let source = root.join("allocator/c");
    for (from, to) in [
        (built.join("libtierpool.so"), "lib/libtierpool.so"),
        (source.join("include/tierpool.h"), "include/tierpool.h"),
    ] {
        let to = place.join(to);
        make_folder_of(&to)?;
        fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    let template = source.join("tierpool.pc.in");
    let template = fs::read_to_string(&template)
        .with_context(|| format!("cannot read {}", template.display()))?;
    let text = template.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    let to = place.join("lib/pkgconfig/tierpool.pc");
    make_folder_of(&to)?;
    fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))
}

fn make_folder_of(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
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
