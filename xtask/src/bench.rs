//! `cargo xtask bench SUITE`: builds the measuring program with optimisation and hands over to it.

use std::path::{Path, PathBuf};

use crate::command::{cargo, run as run_command};

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
}

/// Runs the suite; its output is the program's own.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = cargo(root);
    command.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "tierpool-benches",
        "--",
    ]);
    command.arg(&arguments.suite);
    if arguments.json {
        command.arg("--json");
    }
    if let Some(folder) = &arguments.plot {
        // The program runs in the workspace; the folder was named from where the user stands.
        command.arg("--plot").arg(std::path::absolute(folder)?);
    }
    run_command(&mut command)
}
