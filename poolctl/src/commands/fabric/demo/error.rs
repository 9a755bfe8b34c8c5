//! Why the demonstration cannot go on.

use std::io;
use std::path::PathBuf;

use super::order::Said;

/// Why the demonstration cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// There is no daemon to run. Build one, or say where it is.
    #[error(
        "there is no pool-daemon at {}: build one (cargo build --package pool-daemon), or say \
         --daemon PATH",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NoProgram { tried: Vec<PathBuf> },
    /// The folder of `--keep` has something in it, or cannot be used. Name another one.
    #[error("cannot run in {}: {source}; name a new or empty folder", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    /// The name of the folder cannot stand in a configuration. Name another one.
    #[error("{} is no text: name another folder", folder.display())]
    Name { folder: PathBuf },
    /// Something was not as it is promised to be. Look at the logs, and report it.
    #[error("step {step} is not as promised: {promise}")]
    NotAsPromised { step: u8, promise: String },
    /// A process could not be started, signalled or waited for. Mend what it says.
    #[error("{who}: {source}")]
    Process { who: String, source: io::Error },
    /// A process ended by itself. Its log says why.
    #[error("{who} has ended by itself{log}")]
    Ended { who: String, log: String },
    /// A process does not answer in time. Look at its log; on a busy machine raise `--timeout`.
    #[error("{who} does not answer in time; on a busy machine raise --timeout{log}")]
    Silent { who: String, log: String },
    /// A client could not do what it had to. What the library told says what to do.
    #[error("{who} was refused: {why}")]
    Refused { who: String, why: String },
    /// A client said what answers something else. Use one `poolctl` for all of it.
    #[error("{who} answers something else: {said:?}")]
    Answer { who: String, said: Box<Said> },
    /// It was told to end.
    #[error("interrupted: everything that was started has been ended")]
    Interrupted,
}

impl DemoError {
    /// The process's exit code.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::NoProgram { .. } | Self::Folder { .. } | Self::Name { .. } => 2,
            _ => 1,
        }
    }
}
