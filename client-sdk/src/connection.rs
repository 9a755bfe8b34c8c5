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
    /// The deadline passed before there was room to send the request.
    NotSent,
    /// The deadline passed. The request was sent, and its answer is still to come.
    NoAnswer,
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

    /// Sends a request and waits for its answer.
    pub(crate) fn round_trip(
        &mut self,
        request_id: u64,
        body: &request::Body,
        files: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<Answer, Trip> {
        self.send(request_id, body, files, deadline)?;
        self.answer(request_id, deadline)
    }

    /// Sends a request.
    pub(crate) fn send(
        &mut self,
        request_id: u64,
        body: &request::Body,
        files: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), Trip> {
        let bytes = wire::encode(request_id, body.clone());
        if bytes.len() > MESSAGE_BYTES_MAX {
            let (len, max) = (bytes.len(), MESSAGE_BYTES_MAX);
            return Err(Trip::Unsent(PacketError::TooLarge { len, max }));
        }
        packet::send_by(self.socket.as_fd(), &bytes, files, deadline).map_err(|error| match error {
            PacketError::Closed => Trip::Gone,
            PacketError::TimedOut => Trip::NotSent,
            error => Trip::Unsent(error),
        })
    }

    /// Waits for the answer to the request that was sent last. Answers to earlier ones, which
    /// nobody waits for any more, are dropped and their descriptors closed.
    pub(crate) fn answer(&mut self, request_id: u64, deadline: Deadline) -> Result<Answer, Trip> {
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
            PacketError::TimedOut => Trip::NoAnswer,
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
