//! Tests that do not run on this machine, told in the form that `cargo xtask test` collects.

use std::io::{Write as _, stdout};

/// Tells that a test did not run, and why. Written past the capture of the test harness.
pub(crate) fn skipped(test: &str, why: &str) {
    writeln!(stdout(), "skipped: {test}: {why}").expect("the standard output takes it");
}
