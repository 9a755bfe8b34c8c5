//! Why a command failed, and the exit code that says so.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use client_sdk::ErrorClass;
use fabric_emu::schedule::ScheduleError;
use fabric_emu::serve::{AskError, ConnectError, OperatorError, ServeError};
use fabric_emu::timing::TableError;
use fabric_emu::timing::curves::CurvesError;
use fabric_emu::topology::TopologyError;
use pool_core::Bytes;
use tonic::{Code, Status, TimeoutExpired};

use crate::commands::DemoError;
use crate::text;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// Two options do not go together, or one needs another. Mend the command line.
    #[error("{given} {rule}; see poolctl --help")]
    Combination {
        given: &'static str,
        rule: &'static str,
    },
    /// A file of the command line cannot be read or written. Mend its path or its permissions.
    #[error("cannot use {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The address or a certificate is not what it should be. Mend it.
    #[error("cannot use the address {address}: {reason}")]
    Address { address: String, reason: String },
    /// No socket is where sockets are. Start the daemon, or say where it is.
    #[error(
        "no daemon: there is no {}; start pool-daemon, or say --socket PATH",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and no ")
    )]
    NoSocket { tried: Vec<PathBuf> },
    /// Nobody answers at the address, or the connection broke. Start the daemon, or mend
    /// the address.
    #[error("cannot reach the daemon at {address}: {reason}; is pool-daemon running?")]
    Unreachable { address: String, reason: String },
    /// The daemon did not answer in time. Look before you repeat a change; it may have been made.
    #[error(
        "the daemon at {address} did not answer within {} ms: look before you repeat a change",
        waited.as_millis()
    )]
    Silent { address: String, waited: Duration },
    /// The daemon said no, and why.
    #[error("refused: {reason}")]
    Refused { reason: String },
    /// A device was told to drain and is not empty yet. Wait longer, or free what lies on it.
    #[error(
        "device {device} still has {left} after {} s, and goes on draining; `poolctl segments` \
         says whose",
        waited.as_secs()
    )]
    NotEmpty {
        device: String,
        left: Bytes,
        waited: Duration,
    },
    /// What came back cannot be right. Do not rely on it; look at the daemon's log.
    #[error("the answer of the daemon at {address} is corrupt: {reason}")]
    Corrupt { address: String, reason: String },
    /// What was given is neither the name of a topology nor a file of one. Mend it.
    #[error("cannot use {given}: {source}; topologies by name: {known}")]
    NoTopology {
        given: String,
        known: String,
        source: io::Error,
    },
    /// The file of a topology is wrong. Mend what it says.
    #[error("{0}")]
    Topology(Box<TopologyError>),
    /// A schedule of faults is wrong, or not of this topology. Mend what it says.
    #[error("{0}")]
    Schedule(Box<ScheduleError>),
    /// A fabric cannot be served: it says why.
    #[error("cannot serve the fabric: {0}")]
    Serve(#[from] ServeError),
    /// Nobody serves a fabric there.
    #[error(transparent)]
    NoEmulator(#[from] ConnectError),
    /// The emulator did not answer. Look whether it runs before you repeat a change.
    #[error("the emulator: {reason}")]
    EmulatorSilent { reason: String },
    /// What the emulator answered cannot be right. Use a `poolctl` of its version.
    #[error("the emulator: {reason}")]
    EmulatorCorrupt { reason: String },
    /// A file of timing parameters is wrong. Mend what it says.
    #[error(
        "timing parameters{}: {why}",
        path.as_ref().map(|path| format!(" of {}", path.display())).unwrap_or_default()
    )]
    Timing {
        path: Option<PathBuf>,
        why: Box<TableError>,
    },
    /// The timing model has no curves of a class. Ask for another one.
    #[error("no curves: {source}")]
    Curves { source: CurvesError },
    /// What was measured cannot be: nothing is written. Measure again on a quiet machine.
    #[error(
        "what was measured is no table of parameters: {why}; measure again, on a quiet machine"
    )]
    Measured { why: Box<TableError> },
    /// A heap cannot be looked at or changed: its own words say what to do.
    #[error("heap {name}: {cause}")]
    Heap {
        name: String,
        cause: Box<client_sdk::Error>,
    },
    /// The demonstration cannot go on: it says why.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The demonstration was not as promised, and what it left is there to be looked at.
    #[error("{cause}\n  configurations and logs are in {}", folder.display())]
    DemoFailed { cause: Box<Self>, folder: PathBuf },
    /// The machine is out of descriptors or memory. Free some.
    #[error("cannot start: {source}")]
    Machine { source: io::Error },
    /// The answer could not be written.
    #[error("cannot write the answer: {source}")]
    Output { source: io::Error },
}

impl CtlError {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::NotEmpty { .. } | Self::DemoFailed { .. } => 1,
            Self::Demo(error) => error.exit_code(),
            Self::Heap { cause, .. } => match cause.class() {
                ErrorClass::Unreachable => 3,
                ErrorClass::Corrupt => 4,
                _ => 1,
            },
            Self::Combination { .. }
            | Self::File { .. }
            | Self::Address { .. }
            | Self::NoTopology { .. }
            | Self::Topology(_)
            | Self::Schedule(_)
            | Self::Timing { .. }
            | Self::Curves { .. }
            | Self::Measured { .. }
            | Self::Serve(_)
            | Self::Machine { .. }
            | Self::Output { .. } => 2,
            Self::NoSocket { .. }
            | Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::NoEmulator(_)
            | Self::EmulatorSilent { .. } => 3,
            Self::Corrupt { .. } | Self::EmulatorCorrupt { .. } => 4,
        }
    }

    /// Whether the reader of the output had enough, which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What a status of a call to the daemon at `address` means. The daemon's own refusals name
    /// their class; a status without one is gRPC's.
    pub(crate) fn from_status(status: &Status, address: &str, waited: Duration) -> Self {
        let address = address.to_owned();
        let class = status.metadata().get("tierpool-class");
        // A status that came over the wire has no cause; its message is the daemon's own.
        let reason = match status.source() {
            Some(cause) => first_cause(cause),
            // It may repeat a name that somebody else chose.
            None => text::plain(status.message()),
        };
        match (class.and_then(|class| class.to_str().ok()), status.code()) {
            (_, Code::DeadlineExceeded) => Self::Silent { address, waited },
            (None, Code::Cancelled) if is_timeout(status) => Self::Silent { address, waited },
            (Some("unreachable"), _) => Self::Unreachable { address, reason },
            (Some("corrupt"), _) => Self::Corrupt { address, reason },
            (Some(_), _) => Self::Refused { reason },
            (None, Code::Cancelled | Code::Unavailable | Code::Unknown) => {
                Self::Unreachable { address, reason }
            }
            (None, Code::Internal | Code::DataLoss) => Self::Corrupt { address, reason },
            (None, _) => Self::Refused { reason },
        }
    }
}

impl From<OperatorError> for CtlError {
    fn from(error: OperatorError) -> Self {
        let reason = error.to_string();
        match error {
            OperatorError::Refused(reason) => Self::Refused { reason },
            OperatorError::Malformed(_) => Self::EmulatorCorrupt { reason },
            _ => Self::EmulatorSilent { reason },
        }
    }
}

impl From<AskError> for CtlError {
    fn from(error: AskError) -> Self {
        let reason = error.to_string();
        match error {
            AskError::Malformed(_) => Self::EmulatorCorrupt { reason },
            AskError::Dropped | AskError::TimedOut | AskError::Os(_) => {
                Self::EmulatorSilent { reason }
            }
            AskError::Refused(_) | AskError::Begun | AskError::TooLong | AskError::TagTaken => {
                Self::Refused { reason }
            }
        }
    }
}

/// Whether it is how the client's own timeout looks. It comes without a cause to tell it by.
fn is_timeout(status: &Status) -> bool {
    status.message() == TimeoutExpired(()).to_string()
}

/// The text of the first cause: what is around it says "transport error".
pub(crate) fn first_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
