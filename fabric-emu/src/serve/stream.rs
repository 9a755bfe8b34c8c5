//! One connection of a stream socket, and what it may cost.
//!
//! # Invariants
//! 1. One message is done at a time: the next is looked at when the answer to it is sent, and more
//!    is read once no whole message is left. So what is kept of a connection is less than a
//!    message, a read, and an answer; besides answers that were late and are due.
//! 2. Where a message is begun, its rest comes in time, and where an answer is sent, it is read in
//!    time; a connection that is late is dropped. Between messages it may be silent for ever.

use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use pool_core::Nanos;
use pool_core::clock::Deadline;

use super::names::Door;
use crate::cci::Message;

/// The longest message that is taken, as 0001h says, with its header.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The longest line of an operator.
pub const ORDER_BYTES_MAX: usize = 4 * 1_024;
/// As much as is read at once.
const READ_BYTES: usize = 64 * 1_024;

/// The connection is over: it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over;

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) door: Door,
    socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// By when the rest of a message has come, or an answer is read.
    due: Option<Deadline>,
    patience: Nanos,
}

impl Stream {
    /// `socket` does not block.
    pub(super) const fn new(door: Door, socket: UnixStream, patience: Nanos) -> Self {
        Self {
            door,
            socket,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            due: None,
            patience,
        }
    }

    /// Takes what has come, as far as it is looked at next.
    pub(super) fn read(&mut self) -> Result<(), Over> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Over),
                Ok(read) => {
                    self.input.extend_from_slice(&buffer[..read]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
    }

    /// The next message, once all of it is there and the one before is answered.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Over> {
        let length = if self.is_telling() {
            None
        } else {
            self.whole()?
        };
        let Some(length) = length else {
            self.expect();
            return Ok(None);
        };
        let rest = self.input.split_off(length);
        self.due = None;
        Ok(Some(core::mem::replace(&mut self.input, rest)))
    }

    /// How long the message is that has come.
    fn whole(&self) -> Result<Option<usize>, Over> {
        let (length, most) = match self.door {
            Door::Control => {
                let end = self.input.iter().position(|&byte| byte == b'\n');
                (end.map(|end| end + 1), ORDER_BYTES_MAX)
            }
            Door::Cci(_) | Door::Memory(_) => (Message::length(&self.input), MESSAGE_BYTES_MAX),
        };
        match length {
            Some(length) if length > most => Err(Over),
            Some(length) if length <= self.input.len() => Ok(Some(length)),
            // A line whose end is not known yet.
            None if self.input.len() > most => Err(Over),
            _ => Ok(None),
        }
    }

    /// From when on the peer is late, where it is waited for.
    fn expect(&mut self) {
        if self.input.is_empty() && !self.is_telling() {
            self.due = None;
        } else if self.due.is_none() {
            self.due = Some(Deadline::after(self.patience));
        }
    }

    /// Answers the message that was taken last, or one before it, late.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.output.extend_from_slice(bytes);
        self.tell()
    }

    /// Sends as much of the answer as there is room for.
    pub(super) fn tell(&mut self) -> Result<(), Over> {
        while self.is_telling() {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match send(self.socket.as_raw_fd(), &self.output[self.sent..], flags) {
                Ok(sent) => self.sent += sent,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.expect();
                    return Ok(());
                }
                Err(_) => return Err(Over),
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        self.due = None;
        Ok(())
    }

    /// Whether an answer is not sent.
    pub(super) fn is_telling(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Whether a message can be done without waiting for the peer.
    pub(super) fn has_work(&self) -> bool {
        !self.is_telling() && !matches!(self.whole(), Ok(None))
    }

    pub(super) const fn due(&self) -> Option<Deadline> {
        self.due
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
