//! `cargo xtask sim`: whole pools in one thread from one seed, many seeds on all processors.
//!
//! Builds the simulator in its own profile, optimised and with all its checks, and hands the
//! arguments on. It is built with the feature `fault`, without which nobody dies within the heap
//! and no world has one; but for `--exhaustive`, whose worlds have none.

use std::path::Path;

use crate::command::{cargo, run as run_command};

/// What `pool-sim` is given; see `cargo xtask sim -- --help`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// As `--seeds N`, `--seed S`, `--ops K`, `--shrink`, `--replay FILE`, `--planted`,
    /// `--exhaustive`, `--json`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs it; fails where a rule is broken, a bug is not found or something rare is not reached.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = cargo(root);
    command.args(["run", "--package", "sim", "--profile", "sim"]);
    let has = |wanted| arguments.arguments.iter().any(|word| word == wanted);
    if has("--planted") || !has("--exhaustive") {
        command.args(["--features", "fault"]);
    }
    run_command(command.arg("--").args(&arguments.arguments))
}
