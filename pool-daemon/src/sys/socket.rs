//! Sockets of type `SOCK_SEQPACKET` under a name in the file system, and waiting for several
//! descriptors at once.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket,
};
use nix::sys::time::TimeSpec;
use pool_core::clock::Deadline;
use pool_core::fault::Call;

use super::{Failed, failed, made, make_private, planned};

fn seqpacket() -> Result<OwnedFd, Failed> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    made("socket", || {
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
    })
}

/// Listens under `path`, for this user alone. A socket that nobody listens to any more is
/// replaced in one step, so that whoever finds the name finds a listener.
///
/// # Errors
/// `ENAMETOOLONG` past 100 bytes, or where the directory cannot be written.
pub fn listen_privately(path: &Path) -> Result<OwnedFd, Failed> {
    let listener = seqpacket()?;
    // The name takes the permissions that the socket has when it is bound.
    make_private(listener.as_fd())?;
    let fresh = path.with_added_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("unlink", &error)),
        Ok(()) | Err(_) => {}
    }
    made("bind", || {
        bind(listener.as_raw_fd(), &UnixAddr::new(&fresh)?)
    })?;
    made("listen", || listen(&listener, Backlog::new(16)?))?;
    std::fs::rename(&fresh, path).map_err(|error| failed("rename", &error))?;
    Ok(listener)
}

/// Connects to the listener under `path`.
///
/// # Errors
/// `ENOENT` or `ECONNREFUSED` where there is none, `EAGAIN` where too many wait for it already.
pub fn connect_to(path: &Path) -> Result<OwnedFd, Failed> {
    let socket = seqpacket()?;
    planned(Call::Open, "connect", || {
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
    })?;
    Ok(socket)
}

/// The user at the other end: who connected, or who listens. Known also where that process is
/// dead.
///
/// # Errors
/// Where the kernel does not say.
pub fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32, Failed> {
    let peer = made("getsockopt", || getsockopt(&socket, PeerCredentials))?;
    Ok(peer.uid())
}

/// Waits until something can be read from one of these, or its end has come, and tells from which;
/// none where the deadline passed.
///
/// # Errors
/// Where the kernel has not the memory to wait.
pub fn wait_for_any(
    descriptors: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<Vec<bool>, Failed> {
    let mut polled: Vec<_> = descriptors
        .iter()
        .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
        .collect();
    planned(Call::Poll, "ppoll", || {
        let left = Duration::from_nanos(deadline.remaining().get());
        let left = (deadline != Deadline::NEVER).then(|| TimeSpec::from_duration(left));
        ppoll(&mut polled, left, None)
    })?;
    Ok(polled.iter().map(|one| one.any() == Some(true)).collect())
}
