//! The daemon under test: the program that ships, built with feature `fault`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pool_daemon::cli::main()
}
