//! One connection of a host's memory socket.
//!
//! One request is done at a time, and one that waits for a file to be filled keeps those after it
//! in the socket. A peer that does not read its answer in time is dropped; descriptors that it
//! sends never enter this process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::packet::{self, PacketError};

use super::stream::Over;
use super::wire::{MemoryAnswer, MemoryRequest, Outcome};
use crate::cci::Wire as _;
use crate::id::HostId;

/// How far a request has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// There is none.
    Idle,
    /// The file of this carving is being filled. The carving is of this request, and ends with it
    /// where it fails, unless it is opened only.
    Waits { carving: u64, is_new: bool },
    /// The answer is not sent.
    Tells(Vec<u8>, Option<OwnedFd>, Deadline),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) host: HostId,
    pub(super) stage: Stage,
    socket: OwnedFd,
    patience: Nanos,
}

impl Session {
    /// `socket` does not block.
    pub(super) const fn new(host: HostId, socket: OwnedFd, patience: Nanos) -> Self {
        Self {
            host,
            stage: Stage::Idle,
            socket,
            patience,
        }
    }

    /// The next request; none where there is none yet, or where it meant nothing and was told so.
    pub(super) fn next(&mut self) -> Result<Option<MemoryRequest>, Over> {
        if !matches!(self.stage, Stage::Idle) {
            return Ok(None);
        }
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let bytes = match packet::receive_bytes(self.socket.as_fd(), &mut buffer) {
            Ok(bytes) => bytes,
            Err(PacketError::WouldBlock) => return Ok(None),
            Err(_) => return Err(Over),
        };
        match MemoryRequest::decode(&buffer[..bytes]) {
            Ok(request) => Ok(Some(request)),
            Err(_) => {
                self.answer(&MemoryAnswer::bare(Outcome::Malformed), None)?;
                Ok(None)
            }
        }
    }

    /// Answers the request that was taken last.
    pub(super) fn answer(
        &mut self,
        answer: &MemoryAnswer,
        file: Option<OwnedFd>,
    ) -> Result<(), Over> {
        let due = Deadline::after(self.patience);
        self.stage = Stage::Tells(answer.encode(), file, due);
        self.tell()
    }

    /// Sends the answer, if there is room for it.
    pub(super) fn tell(&mut self) -> Result<(), Over> {
        let Stage::Tells(bytes, file, _) = &self.stage else {
            return Ok(());
        };
        let file: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).collect();
        match packet::send(self.socket.as_fd(), bytes, &file) {
            Ok(()) => self.stage = Stage::Idle,
            Err(PacketError::WouldBlock) => {}
            Err(_) => return Err(Over),
        }
        Ok(())
    }

    pub(super) const fn due(&self) -> Option<Deadline> {
        match &self.stage {
            Stage::Tells(_, _, due) => Some(*due),
            Stage::Idle | Stage::Waits { .. } => None,
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
