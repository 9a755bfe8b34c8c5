//! The operator's command of Tierpool: it asks a running daemon, and shows what it answers.
//!
//! One invocation is one command (`cli`), which one file of `commands` carries out over one
//! connection (`connect`). Answers go to standard output, as a table or with `--json` as the
//! message of the interface; everything else goes to standard error.
//!
//! # Exit codes
//! | code | meaning |
//! |---|---|
//! | 0 | done, and the answer is yes; also where the reader of a pipe had enough |
//! | 1 | the answer is no: the accounts do not balance, something is broken, the daemon refused |
//! | 2 | the command line, a file it names or the output is wrong |
//! | 3 | the daemon cannot be reached, or does not answer in time |
//! | 4 | the answer cannot be right: corrupt |

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod connect;
mod error;
mod generate;
mod output;
mod span;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use error::CtlError;

/// Whether the answer is the one that was hoped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Yes,
    No,
}

/// Does what `arguments` say, the name of the program first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Cli::try_parse_from(arguments) {
        Ok(cli) => commands::run(cli),
        Err(error) => return tell(&error),
    };
    match outcome {
        Ok(Verdict::Yes) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("poolctl: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Help, version, or what is wrong with the command line.
fn tell(told: &clap::Error) -> ExitCode {
    match told.print() {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(source) => {
            let error = CtlError::Output { source };
            eprintln!("poolctl: {error}");
            return ExitCode::from(error.exit_code());
        }
    }
    if told.use_stderr() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}
