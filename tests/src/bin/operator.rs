//! `poolctl`, as it is.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    poolctl::run(std::env::args_os())
}
