//! `cargo xtask bench SUITE`: builds the measuring program and what it measures with optimisation,
//! and hands over to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, run as run_command, target_directory};

/// What to measure, and how to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The suite, as `pool`.
    suite: String,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write charts into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Leave out the peers that take long to build or need more than Rust and a C linker: iceoryx2,
    /// whose build needs libclang. The output says so.
    #[arg(long)]
    no_peers: bool,
    /// What the suite itself takes, as `--rounds 3`.
    #[arg(last = true)]
    suite_arguments: Vec<String>,
}

/// Runs the suite; its output is the program's own.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let mut build = cargo(root);
    build.args(["build", "--release", "--quiet"]);
    // Together, so that both are built from the same tree with the same features.
    build.args(["--package", "pool-daemon", "--package", "tierpool-benches"]);
    if arguments.suite == "coherence" && !arguments.no_peers {
        build.args(["--features", "tierpool-benches/peers"]);
    }
    run_command(&mut build)?;
    let program = target_directory(root)?.join("release/tierpool-benches");
    let mut command = Command::new(program);
    command.arg(&arguments.suite);
    if arguments.json {
        command.arg("--json");
    }
    if let Some(folder) = &arguments.plot {
        command.arg("--plot").arg(folder);
    }
    command.args(&arguments.suite_arguments);
    run_command(&mut command)
}
