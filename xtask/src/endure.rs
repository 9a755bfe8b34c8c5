//! `cargo xtask endure`: the private heap under loads that shift, for as long as one likes.
//!
//! The load, and what its memory is held to, stand in `allocator/tests/endurance`. A line is
//! printed for each phase; the first one whose memory is out of proportion ends the run.

use std::path::Path;

use crate::command::{cargo, run as run_command};

/// How long to go on.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Minutes; no less than eight cycles of the load, which take 20 seconds.
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
}

/// Runs the load; fails where it fails.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    run_command(
        cargo(root)
            .env("TIERPOOL_ENDURE_MINUTES", arguments.minutes.to_string())
            .args(["test", "--release", "--package", "allocator"])
            .args(["--test", "endurance", "--", "--nocapture"]),
    )
}
