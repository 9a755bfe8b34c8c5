//! The system calls of sessions: who comes, who it is, and the secret it gets.
//!
//! The invariants are those of [`crate::sys`].

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};
use pool_core::fault::{self, Call};

use super::Failed;

/// Takes the next connection of a listening socket: closed on exec, and never blocking.
///
/// # Errors
/// `EAGAIN` where nobody waits; `EMFILE` and the like where this process may have no more.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    fault::syscall(Call::Accept)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// `SO_PASSRIGHTS` of Linux 6.16, which libc does not name.
const SO_PASSRIGHTS: libc::c_int = 83;
const NUMBER_BYTES: libc::socklen_t = 4;
const _: () = assert!(size_of::<libc::c_int>() == NUMBER_BYTES as usize);

/// Whether descriptors may be sent to this socket. Where they may not, the sender is refused, and
/// none is ever on its way. A listening socket hands its choice on to the connections it accepts.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.16.
pub fn pass_descriptors(socket: BorrowedFd<'_>, pass: bool) -> Result<(), Failed> {
    let call = "setsockopt SO_PASSRIGHTS";
    fault::syscall(Call::Setsockopt).map_err(|errno| Failed { call, errno })?;
    let pass = libc::c_int::from(pass);
    // SAFETY: the kernel reads one number of this frame (invariants 1 and 2).
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const pass).cast::<libc::c_void>(),
            NUMBER_BYTES,
        )
    };
    Errno::result(answer)
        .map(drop)
        .map_err(|errno| Failed { call, errno })
}

/// Bytes of memory that sent messages take which the peer has not read yet; 0 where it has read
/// all.
///
/// # Errors
/// None that is known, of a socket.
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> Result<i32, Failed> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one number to this frame (invariants 1 and 2).
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    let call = "ioctl TIOCOUTQ";
    Errno::result(answer).map_err(|errno| Failed { call, errno })?;
    Ok(bytes)
}

/// A descriptor of the process that has this id now.
///
/// # Errors
/// `ESRCH` where there is none.
pub fn open_process(pid: u32) -> nix::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: takes two numbers and returns one.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let pidfd = i32::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just opened it for us, closed on exec, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Sixteen bytes that nobody can guess.
///
/// # Errors
/// `EAGAIN` where the kernel has not collected enough randomness yet, early in a boot.
pub fn random_token() -> Result<[u8; 16], Failed> {
    let mut token = [0; 16];
    let (start, len) = (token.as_mut_ptr().cast::<libc::c_void>(), token.len());
    // SAFETY: the kernel writes at most `len` bytes to `token` (invariant 2).
    let answer = unsafe { libc::getrandom(start, len, libc::GRND_NONBLOCK) };
    match Errno::result(answer) {
        // So few bytes come whole.
        Ok(filled) if filled.cast_unsigned() == len => Ok(token),
        Ok(_) => Err(Failed {
            call: "getrandom",
            errno: Errno::EAGAIN,
        }),
        Err(errno) => Err(Failed {
            call: "getrandom",
            errno,
        }),
    }
}
