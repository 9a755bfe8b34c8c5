//! Runs `poolctl` and compares what it says.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// The program, away from whatever daemon this machine has.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    command
        .env_remove("TIERPOOL_ADMIN_SOCKET")
        .env_remove("XDG_RUNTIME_DIR");
    command
}

/// Runs it against the daemon at `socket`.
pub(crate) fn ask<A: AsRef<OsStr>>(socket: &Path, arguments: &[A]) -> Answer {
    let mut command = program();
    command.env("TIERPOOL_ADMIN_SOCKET", socket).args(arguments);
    Answer::of(command.output().unwrap())
}

/// What it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// One clear line on standard error, nothing on standard output, and this exit code.
    pub(crate) fn assert_refused(&self, code: i32, with: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(
            self.err.starts_with("poolctl: ") && self.err.contains(with),
            "{self:?}"
        );
    }
}
