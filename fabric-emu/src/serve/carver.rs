//! A client of a host's memory socket: files of memory that the host has.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::SockType;
use nix::sys::stat::fstat;
use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::packet::{self, PacketError};

use super::client::{ConnectError, connect};
use super::wire::{CARVED_MAX, Carved, CarvedSpan, MemoryAnswer, MemoryRequest, Outcome, Verb};
use crate::cci::{List, Wire as _};
use crate::id::{LdId, MemdevId};
use crate::span::Span;

/// How long is waited for an answer where nothing else is said: long files take their time.
const PATIENCE: Nanos = Nanos::from_millis(60_000);

/// Nothing was carved, given back or told. Only after [`CarverError::Refused`],
/// [`CarverError::MachineShort`] and [`CarverError::TooMany`] can the connection be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CarverError {
    /// The emulator said no; it says what to do.
    #[error("refused: {}", .0.advice())]
    Refused(Outcome),
    /// The machine of the emulator has not as much memory. Free some.
    #[error("the emulator's machine has {available_bytes} bytes to spare: free some")]
    MachineShort {
        /// What it has to spare; 0 where it did not say.
        available_bytes: u64,
    },
    /// More ranges than a request has room for: carve them in parts. Nothing was sent.
    #[error("{0} ranges are more than one carving has: carve them in parts")]
    TooMany(usize),
    /// The emulator ended, or has dropped this connection. Connect anew.
    #[error("the emulator has closed the connection: connect anew")]
    Closed,
    /// No answer came in time. Connect anew, and list what is carved.
    #[error("no answer came in time: connect anew, and list what is carved")]
    TimedOut,
    /// What came is no answer. Connect anew; do not rely on it.
    #[error("what came is no answer to it")]
    Malformed,
    /// A system call failed. Connect anew.
    #[error("the connection failed: {0}")]
    Os(Errno),
}

/// A file of memory that a host has.
#[derive(Debug)]
pub struct Cut {
    /// The number of the carving.
    pub carving: u64,
    /// How long the file is.
    pub bytes: u64,
    /// The file: of mode 0600, sealed against another length, filled; read only where the memory
    /// is.
    pub file: OwnedFd,
}

/// A connection to the memory of one host.
#[derive(Debug)]
pub struct Carver {
    socket: OwnedFd,
    patience: Nanos,
    /// Whether an answer was missed.
    is_out_of_step: bool,
}

impl Carver {
    /// Connects to a socket `hostN.memory`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        Self::connect_within(path, PATIENCE)
    }

    /// The same, and waits no longer than `patience` to be taken in, and for each answer.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_within(path: &Path, patience: Nanos) -> Result<Self, ConnectError> {
        Ok(Self {
            socket: connect(path, SockType::SeqPacket, Deadline::after(patience))?,
            patience,
            is_out_of_step: false,
        })
    }

    /// The same, with another time to wait for each answer.
    #[must_use]
    pub const fn with_patience(mut self, patience: Nanos) -> Self {
        self.patience = patience;
        self
    }

    /// Carves ranges of a logical device that the host has: a file that holds them end to end.
    ///
    /// # Errors
    /// [`CarverError`].
    pub fn carve(
        &mut self,
        memdev: MemdevId,
        ld: LdId,
        spans: &[Span],
    ) -> Result<Cut, CarverError> {
        let all: Vec<CarvedSpan> = spans.iter().copied().map(CarvedSpan::from).collect();
        let spans = List::try_from(all).map_err(|many| CarverError::TooMany(many.count))?;
        let request = MemoryRequest {
            memdev,
            ld,
            spans,
            ..bare(Verb::Carve, 0)
        };
        self.cut(&request)
    }

    /// Another descriptor of the file of a carving.
    ///
    /// # Errors
    /// [`CarverError`].
    pub fn open(&mut self, carving: u64) -> Result<Cut, CarverError> {
        self.cut(&bare(Verb::Open, carving))
    }

    /// Ends a carving. Its memory is the host's still, and what was in the file is gone, unless it
    /// is shared.
    ///
    /// # Errors
    /// [`CarverError`].
    pub fn give_back(&mut self, carving: u64) -> Result<(), CarverError> {
        self.ask(&bare(Verb::GiveBack, carving)).map(|_| ())
    }

    /// All carvings of the host, by their numbers.
    ///
    /// # Errors
    /// [`CarverError`].
    pub fn list(&mut self) -> Result<Vec<Carved>, CarverError> {
        let mut all: Vec<Carved> = Vec::new();
        loop {
            let last = all.last().map_or(0, |carved| carved.carving);
            let (answer, _) = self.ask(&bare(Verb::List, last))?;
            let some = answer.carvings.into_vec();
            // Numbers rise, so it ends.
            if some.iter().any(|carved| carved.carving <= last) {
                return Err(CarverError::Malformed);
            }
            let is_last = some.len() < CARVED_MAX;
            all.extend(some);
            if is_last {
                return Ok(all);
            }
        }
    }

    fn cut(&mut self, request: &MemoryRequest) -> Result<Cut, CarverError> {
        let (answer, file) = self.ask(request)?;
        let file = file.ok_or(CarverError::Malformed)?;
        let length = fstat(file.as_fd()).map_err(CarverError::Os)?.st_size;
        if u64::try_from(length) != Ok(answer.bytes) {
            return Err(CarverError::Malformed);
        }
        Ok(Cut {
            carving: answer.carving,
            bytes: answer.bytes,
            file,
        })
    }

    fn ask(
        &mut self,
        request: &MemoryRequest,
    ) -> Result<(MemoryAnswer, Option<OwnedFd>), CarverError> {
        if self.is_out_of_step {
            return Err(CarverError::Closed);
        }
        self.is_out_of_step = true;
        let deadline = Deadline::after(self.patience);
        let socket = self.socket.as_fd();
        packet::send_by(socket, &request.encode(), &[], deadline).map_err(lost)?;
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let packet = packet::receive_by(socket, &mut buffer, deadline).map_err(lost)?;
        let answer = MemoryAnswer::decode(&buffer[..packet.len]);
        let answer = answer.map_err(|_| CarverError::Malformed)?;
        let mut files = packet.descriptors;
        if files.len() > 1 {
            return Err(CarverError::Malformed);
        }
        self.is_out_of_step = false;
        match answer.outcome {
            Outcome::Done => Ok((answer, files.pop())),
            Outcome::MachineShort => Err(CarverError::MachineShort {
                available_bytes: answer.bytes,
            }),
            outcome => Err(CarverError::Refused(outcome)),
        }
    }
}

fn bare(verb: Verb, carving: u64) -> MemoryRequest {
    MemoryRequest {
        verb,
        memdev: MemdevId(0),
        ld: LdId(0),
        carving,
        spans: List::new(),
    }
}

fn lost(error: PacketError) -> CarverError {
    match error {
        PacketError::Closed => CarverError::Closed,
        PacketError::TimedOut => CarverError::TimedOut,
        PacketError::Os { errno, .. } => CarverError::Os(errno),
        _ => CarverError::Malformed,
    }
}
