//! One connection to the session socket: a request and its answer.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use pool_core::clock::Deadline;
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::packet::{self, PacketError};
use pool_proto::session::v1::request;

use crate::error::ProtocolError;
use crate::wire::{self, Answer};

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trip {
    /// The deadline passed. The request may still be carried out.
    TimedOut,
    /// The daemon closed the connection. The request may have been carried out.
    Gone,
    /// The daemon broke the protocol.
    Broken(ProtocolError),
    /// The request was not sent.
    Unsent(PacketError),
    /// The answer came and could not be taken in.
    Unreceived(PacketError),
}

impl Connection {
    /// Connects, without waiting.
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self {
            socket,
            buffer: wire::buffer(),
        })
    }

    /// Sends a request and waits for its answer. Answers to earlier requests, which nobody waits
    /// for any more, are dropped and their descriptors closed.
    pub(crate) fn round_trip(
        &mut self,
        request_id: u64,
        body: &request::Body,
        files: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<Answer, Trip> {
        let bytes = wire::encode(request_id, body.clone());
        if bytes.len() > MESSAGE_BYTES_MAX {
            let (len, max) = (bytes.len(), MESSAGE_BYTES_MAX);
            return Err(Trip::Unsent(PacketError::TooLarge { len, max }));
        }
        match packet::send_by(self.socket.as_fd(), &bytes, files, deadline) {
            Ok(()) => {}
            Err(PacketError::Closed) => return Err(Trip::Gone),
            Err(PacketError::TimedOut) => return Err(Trip::TimedOut),
            Err(error) => return Err(Trip::Unsent(error)),
        }
        loop {
            let (answered, answer) = self.receive(deadline)?;
            if answered == request_id {
                return Ok(answer);
            }
            if answered > request_id {
                let (sent, got) = (request_id, answered);
                return Err(Trip::Broken(ProtocolError::RequestId { sent, got }));
            }
        }
    }

    fn receive(&mut self, deadline: Deadline) -> Result<(u64, Answer), Trip> {
        let packet = packet::receive_by(self.socket.as_fd(), &mut self.buffer, deadline);
        let packet = packet.map_err(|error| match error {
            PacketError::Closed => Trip::Gone,
            PacketError::TimedOut => Trip::TimedOut,
            PacketError::TooLarge { .. } => Trip::Broken(ProtocolError::Undecodable),
            error => Trip::Unreceived(error),
        })?;
        let (answered, body) = wire::decode(&self.buffer[..packet.len]).map_err(Trip::Broken)?;
        Ok((
            answered,
            Answer {
                body,
                descriptors: packet.descriptors,
            },
        ))
    }
}
