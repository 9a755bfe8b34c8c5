//! What all clients of a served fabric do: connect, and send and receive whole messages in time.

use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockType, send};
use pool_core::clock::{Deadline, eventually};
use pool_core::packet::{self, PacketError};

use super::directory::connect_to;

/// Nobody listens there, or nobody takes the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// There is no such socket, or nobody behind it. Start the emulator, or mend the path.
    #[error("nobody serves {}: {errno}; is `poolctl fabric serve` running?", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// As many wait to be taken in as may. Connect again later.
    #[error("{} takes nobody in: connect again later", path.display())]
    Busy {
        /// The socket.
        path: PathBuf,
    },
}

/// Connects by a deadline. The socket does not block.
pub(super) fn connect(
    path: &Path,
    kind: SockType,
    deadline: Deadline,
) -> Result<OwnedFd, ConnectError> {
    let tried = eventually(deadline, || match connect_to(path, kind) {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    });
    let path = path.to_owned();
    match tried {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(errno)) => Err(ConnectError::Nobody { path, errno }),
        Err(_) => Err(ConnectError::Busy { path }),
    }
}

/// Why a message did not come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    Closed,
    TimedOut,
    TooLong,
    Os(Errno),
}

/// A stream of messages, each of which is asked and answered whole.
#[derive(Debug)]
pub(super) struct Messages {
    socket: UnixStream,
    input: Vec<u8>,
}

impl Messages {
    pub(super) fn connect(path: &Path, deadline: Deadline) -> Result<Self, ConnectError> {
        let socket = connect(path, SockType::Stream, deadline)?;
        Ok(Self {
            socket: socket.into(),
            input: Vec::new(),
        })
    }

    /// Sends a message, and receives what answers it.
    pub(super) fn exchange(
        &mut self,
        message: &[u8],
        form: (impl Fn(&[u8]) -> Option<usize>, usize),
        deadline: Deadline,
    ) -> Result<Vec<u8>, Lost> {
        self.send(message, deadline)?;
        self.next(form, deadline)
    }

    /// Receives the next message: as long as `length` says of its beginning, and `most` bytes at
    /// most. What has come of it when it is late stays.
    pub(super) fn next(
        &mut self,
        (length, most): (impl Fn(&[u8]) -> Option<usize>, usize),
        deadline: Deadline,
    ) -> Result<Vec<u8>, Lost> {
        loop {
            match length(&self.input) {
                Some(length) if length > most => return Err(Lost::TooLong),
                Some(length) if length <= self.input.len() => {
                    let rest = self.input.split_off(length);
                    return Ok(core::mem::replace(&mut self.input, rest));
                }
                None if self.input.len() > most => return Err(Lost::TooLong),
                _ => self.receive(deadline)?,
            }
        }
    }

    pub(super) fn send(&mut self, mut message: &[u8], deadline: Deadline) -> Result<(), Lost> {
        while !message.is_empty() {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match send(self.socket.as_raw_fd(), message, flags) {
                Ok(sent) => message = &message[sent..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    packet::wait_writable(self.socket.as_fd(), deadline).map_err(lost)?;
                }
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Lost::Closed),
                Err(errno) => return Err(Lost::Os(errno)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Deadline) -> Result<(), Lost> {
        let mut buffer = [0; 64 * 1_024];
        match self.socket.read(&mut buffer) {
            Ok(0) => Err(Lost::Closed),
            Ok(read) => {
                self.input.extend_from_slice(&buffer[..read]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::WouldBlock => {
                    packet::wait_readable(self.socket.as_fd(), deadline).map_err(lost)
                }
                ErrorKind::ConnectionReset => Err(Lost::Closed),
                _ => Err(Lost::Os(
                    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
                )),
            },
        }
    }
}

fn lost(error: PacketError) -> Lost {
    match error {
        PacketError::Closed => Lost::Closed,
        PacketError::TimedOut => Lost::TimedOut,
        PacketError::Os { errno, .. } => Lost::Os(errno),
        _ => Lost::Os(Errno::EPROTO),
    }
}
