//! One message with descriptors over a Unix socket of type `SOCK_SEQPACKET`: what the daemon and
//! its clients speak on the session socket.
//!
//! The kernel keeps the bounds of messages, so a packet is whole or it is an error. Nothing here
//! blocks except where a [`Deadline`] is given; nothing raises `SIGPIPE`.
//!
//! # Invariants
//! 1. A descriptor that the kernel has put into this process is in an `OwnedFd` before anything is
//!    judged, so every error path closes it. It is closed on exec.
//! 2. The control buffer holds [`DESCRIPTORS_MAX`] descriptors and is aligned for a `cmsghdr`. A
//!    peer that sends more is told from one that does not by `MSG_CTRUNC`.
//! 3. A message of no bytes cannot be told from the end of the file. None is sent, and one that is
//!    received ends the session.
//!
//! # Why libc receives
//! nix hands out no descriptors where `MSG_CTRUNC` is set, although the kernel has installed those
//! that fit: they would leak, and a hostile peer could make the daemon run out of them.

use core::mem;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, sendmsg, socketpair,
};

use crate::clock::Deadline;
use crate::fault::{self, Call};
use crate::limits::{DESCRIPTORS_MAX, MESSAGE_BYTES_MAX};

#[cfg(test)]
mod tests;

/// A message was not sent or not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Nothing to receive, or no room to send. Wait with [`wait_readable`] or [`wait_writable`].
    #[error("the socket is not ready")]
    WouldBlock,
    /// The peer has closed the socket or is gone. Drop the session.
    #[error("the peer has closed the session")]
    Closed,
    /// The deadline passed first. Try again with a later one, or give up.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The message has no bytes, which would look like the end of the session. Send at least one.
    #[error("a message must have at least one byte")]
    Empty,
    /// The message is longer than may be sent, or than the buffer it was received into. A received
    /// one is gone, its descriptors are closed: the peer breaks the protocol, drop the session.
    #[error("a message of {len} bytes where at most {max} may be sent")]
    TooLarge {
        /// The bytes of the message.
        len: usize,
        /// The most there may be.
        max: usize,
    },
    /// More descriptors than one message may carry. Send fewer.
    #[error("{count} descriptors where one message carries at most {max}")]
    TooManyDescriptors {
        /// The descriptors that were to be sent.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// The kernel dropped descriptors of a received message and those that came are closed: the
    /// peer sent more than [`DESCRIPTORS_MAX`], or this process has no room for another descriptor
    /// (see `RLIMIT_NOFILE`). Drop the session.
    #[error("only {received} descriptors of a message could be received")]
    DescriptorsLost {
        /// The descriptors that came, and were closed.
        received: usize,
    },
    /// The system call failed otherwise. `EMSGSIZE`: the socket's send buffer is smaller than the
    /// message. `ETOOMANYREFS`: too many descriptors of this user are under way, try again later.
    #[error("{call} on the session socket: {errno}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What it answered.
        errno: Errno,
    },
}

/// What one call of [`receive`] brought. The bytes are in the caller's buffer.
#[derive(Debug)]
pub struct Packet {
    /// The bytes of the message; at least one.
    pub len: usize,
    /// The descriptors that came along, in the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// Who is at the other end, by the kernel's word: the process that connected, or that made the
/// pair, also where it has handed the socket on since.
#[derive(Debug)]
pub struct Peer {
    /// Its process id, for messages to people only: it may be another process's by now. Zero where
    /// the process is not in sight of this one's pid namespace.
    pub pid: i32,
    /// Its effective user at the time.
    pub uid: u32,
    /// Its effective group at the time.
    pub gid: u32,
    /// The process itself; readable once it is dead. Never another process's.
    pub pidfd: OwnedFd,
}

/// Two ends of a session, for tests and for processes that start one another.
///
/// # Errors
/// [`PacketError::Os`] where the process or the system is out of descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd), PacketError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).map_err(os("socketpair"))
}

/// Sends one message. Either all of it is sent or none, and it never blocks.
///
/// # Errors
/// [`PacketError`], nothing having been sent.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), PacketError> {
    check_sendable(bytes.len(), descriptors.len())?;
    let mut raw = [0 as RawFd; DESCRIPTORS_MAX];
    for (slot, descriptor) in raw.iter_mut().zip(descriptors) {
        *slot = descriptor.as_raw_fd();
    }
    let rights = [ControlMessage::ScmRights(&raw[..descriptors.len()])];
    let control = if descriptors.is_empty() {
        &[][..]
    } else {
        &rights[..]
    };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let parts = [IoSlice::new(bytes)];
    uninterrupted(|| {
        fault::syscall(Call::Send)?;
        sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None)
    })
    .map_err(os("sendmsg"))?;
    Ok(())
}

fn check_sendable(len: usize, descriptors: usize) -> Result<(), PacketError> {
    if len == 0 {
        return Err(PacketError::Empty);
    }
    if len > MESSAGE_BYTES_MAX {
        return Err(PacketError::TooLarge {
            len,
            max: MESSAGE_BYTES_MAX,
        });
    }
    if descriptors > DESCRIPTORS_MAX {
        let max = DESCRIPTORS_MAX;
        return Err(PacketError::TooManyDescriptors {
            count: descriptors,
            max,
        });
    }
    Ok(())
}

/// Receives one message into `buffer`, which should hold [`MESSAGE_BYTES_MAX`]. Never blocks.
///
/// # Errors
/// [`PacketError`]. Descriptors that came with a message that is refused are closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Packet, PacketError> {
    let mut descriptors = Vec::new();
    let len = receive_with(socket, buffer, &mut descriptors)?;
    Ok(Packet { len, descriptors })
}

/// The same, for who minds where descriptors are closed: those that came are in `descriptors`, also
/// where the message is refused.
///
/// # Errors
/// [`PacketError`].
pub fn receive_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, PacketError> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast::<libc::c_void>(),
        iov_len: buffer.len(),
    };
    let mut header = header(&mut part, &mut control);
    // MSG_TRUNC asks for the length of the message where it is longer than the buffer.
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
    let len = uninterrupted(|| {
        fault::syscall(Call::Receive)?;
        // SAFETY: `header` names `part` and `control`, which live through the call and are as long
        // as it says; `part` names `buffer`, which is borrowed mutably.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        Errno::result(received)
    })
    .map_err(os("recvmsg"))?;

    let before = descriptors.len();
    take_descriptors(&header, descriptors);
    let len = len.cast_unsigned();
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(PacketError::DescriptorsLost {
            received: descriptors.len() - before,
        });
    }
    judge_length(len, buffer.len())?;
    Ok(len)
}

/// Receives one message from a peer that has no descriptor to send. Never blocks.
///
/// Descriptors that come all the same never enter this process: closing a file can take as long as
/// its file system likes, and a hostile peer may be that file system.
///
/// # Errors
/// [`PacketError`]; [`PacketError::DescriptorsLost`] where descriptors came. The message is gone.
pub fn receive_bytes(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, PacketError> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast::<libc::c_void>(),
        iov_len: buffer.len(),
    };
    // SAFETY: a msghdr is numbers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    let len = uninterrupted(|| {
        fault::syscall(Call::Receive)?;
        // SAFETY: `header` names `part`, which lives through the call and names `buffer`, which is
        // borrowed mutably; it has no room for control data.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        Errno::result(received)
    })
    .map_err(os("recvmsg"))?
    .cast_unsigned();
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(PacketError::DescriptorsLost { received: 0 });
    }
    judge_length(len, buffer.len())?;
    Ok(len)
}

/// Refuses what is longer than its buffer, and what looks like the end (invariant 3).
fn judge_length(len: usize, max: usize) -> Result<(), PacketError> {
    match len {
        0 => Err(PacketError::Closed),
        len if len > max => Err(PacketError::TooLarge { len, max }),
        _ => Ok(()),
    }
}

/// Bytes of the control data of a message with [`DESCRIPTORS_MAX`] descriptors.
const CONTROL_BYTES: usize = {
    let payload = DESCRIPTORS_MAX * size_of::<RawFd>();
    assert!(payload < u32::MAX as usize);
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let payload = payload as u32;
    // SAFETY: computes with its argument only.
    let space = unsafe { libc::CMSG_SPACE(payload) };
    space as usize
};

/// Room for control data (invariant 2).
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

fn header(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a msghdr is numbers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast::<libc::c_void>();
    header.msg_controllen = CONTROL_BYTES;
    header
}

/// Takes ownership of every descriptor that came (invariant 1).
fn take_descriptors(header: &libc::msghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: `header` was filled in by recvmsg and its control buffer lives (invariant 2).
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: not null, it points to a whole and aligned cmsghdr in the control buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            take_rights(message, descriptors);
        }
        // SAFETY: as for the first one; `message` lies in the buffer of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
}

fn take_rights(message: &libc::cmsghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: computes with its argument only.
    let head = unsafe { libc::CMSG_LEN(0) } as usize;
    let count = message.cmsg_len.saturating_sub(head) / size_of::<RawFd>();
    // SAFETY: `message` lies in the control buffer, which the data follow.
    let data = unsafe { libc::CMSG_DATA(message) }.cast::<RawFd>();
    for place in 0..count {
        // SAFETY: the kernel wrote `count` descriptors here, and `count` is what fits (invariant
        // 2).
        let slot = unsafe { data.add(place) };
        // SAFETY: as above; the data need not be aligned to anything.
        let descriptor = unsafe { slot.read_unaligned() };
        // SAFETY: the kernel has just opened this descriptor for us and nobody else knows of it.
        descriptors.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
}

/// Sends one message as soon as there is room for it.
///
/// # Errors
/// As [`send`], with [`PacketError::TimedOut`] in place of [`PacketError::WouldBlock`].
pub fn send_by(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<(), PacketError> {
    loop {
        match send(socket, bytes, descriptors) {
            Err(PacketError::WouldBlock) => wait_writable(socket, deadline)?,
            done => return done,
        }
    }
}

/// Receives one message as soon as there is one.
///
/// # Errors
/// As [`receive`], with [`PacketError::TimedOut`] in place of [`PacketError::WouldBlock`].
pub fn receive_by(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    deadline: Deadline,
) -> Result<Packet, PacketError> {
    loop {
        match receive(socket, buffer) {
            Err(PacketError::WouldBlock) => wait_readable(socket, deadline)?,
            done => return done,
        }
    }
}

/// Waits until reading from `descriptor` would not block: data, the end of the file, or, for a
/// pidfd, the death of its process.
///
/// # Errors
/// [`PacketError::TimedOut`], or [`PacketError::Os`] where the descriptor cannot be waited for.
pub fn wait_readable(descriptor: BorrowedFd<'_>, deadline: Deadline) -> Result<(), PacketError> {
    wait(descriptor, PollFlags::POLLIN, deadline)
}

/// Waits until writing to `descriptor` would not block: there is room, or the peer is gone.
///
/// # Errors
/// [`PacketError::TimedOut`], or [`PacketError::Os`] where the descriptor cannot be waited for.
pub fn wait_writable(descriptor: BorrowedFd<'_>, deadline: Deadline) -> Result<(), PacketError> {
    wait(descriptor, PollFlags::POLLOUT, deadline)
}

fn wait(
    descriptor: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Deadline,
) -> Result<(), PacketError> {
    let mut polled = [PollFd::new(descriptor, events)];
    let ready = uninterrupted(|| {
        fault::syscall(Call::Poll)?;
        ppoll(&mut polled, deadline.remaining_timespec(), None)
    })
    .map_err(os("ppoll"))?;
    if ready == 0 {
        return Err(PacketError::TimedOut);
    }
    match polled[0].revents() {
        Some(events) if events.contains(PollFlags::POLLNVAL) => Err(os("ppoll")(Errno::EBADF)),
        _ => Ok(()),
    }
}

/// Who is at the other end of a connected `socket`.
///
/// # Errors
/// [`PacketError::Closed`] where that process is dead and gone, [`PacketError::Os`] otherwise.
pub fn peer(socket: BorrowedFd<'_>) -> Result<Peer, PacketError> {
    let who = getsockopt(&socket, PeerCredentials).map_err(os("getsockopt SO_PEERCRED"))?;
    let pidfd = getsockopt(&socket, PeerPidfd).map_err(|errno| match errno {
        Errno::ESRCH => PacketError::Closed,
        errno => os("getsockopt SO_PEERPIDFD")(errno),
    })?;
    Ok(Peer {
        pid: who.pid(),
        uid: who.uid(),
        gid: who.gid(),
        pidfd,
    })
}

/// Makes a system call again for as long as a signal interrupts it.
fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn os(call: &'static str) -> impl Fn(Errno) -> PacketError {
    move |errno| match errno {
        Errno::EAGAIN => PacketError::WouldBlock,
        Errno::EPIPE | Errno::ECONNRESET => PacketError::Closed,
        errno => PacketError::Os { call, errno },
    }
}
