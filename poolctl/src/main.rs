//! The operator's command of Tierpool. All of it lies in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    poolctl::run(std::env::args_os())
}
