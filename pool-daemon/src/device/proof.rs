//! Whether anybody still has a file: the proof that its memory may be given to somebody else.
//!
//! The kernel counts, per inode, the file descriptions that are open for writing and those that
//! are open for reading only. A mapping holds the description it was made from, so does each
//! duplicate of a descriptor, in a child or in flight in a socket, wherever it is. And the kernel
//! grants a *write lease* exactly to a description that is the only one. So asking for one, and
//! giving it back at once, is the proof; it costs 1.2 us and needs no cooperation of anybody.
//!
//! # What does not count
//! - Duplicates of the asking description itself: the stores hold such, on purpose.
//! - A descriptor opened with `O_PATH`. Another user cannot reopen it (mode 0600); it keeps the
//!   inode, not the pages, since a file is emptied before it is closed.
//! - Pages that a process has pinned for I/O. They leave the file when it is emptied, stay the
//!   process's for as long as it pins them, within its `RLIMIT_MEMLOCK`, and are seen by nobody
//!   else.
//!
//! # Dax devices
//! The kernel gives no leases on a file that is a device. Instead, each description that is given
//! away has a lock of its own upon it, shared with all others (`flock`): the kernel keeps it for as
//! long as the description is open or mapped by anybody, and refuses an exclusive one until then.
//! A holder may take the lock off, and hides so. That gains it nothing: a dax device is
//! destroyed by taking its driver away, which ends each mapping, and its file leads nowhere from
//! then on. Pages that it has pinned are another matter: see `docs/cxl.md`.
//!
//! # What is relied on, and is therefore tried when a device is set up
//! - The daemon owns the file: the kernel grants leases to the owner.
//! - The master is counted. The descriptor that `memfd_create` returns is not; one that is opened
//!   is, so [`super::memfd`] reopens it.
//! - The file system counts mappings on the inode that was opened. An overlay does not.
//!
//! Measured on Linux 6.18 for memfd of both page sizes and for ext4.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use pool_core::clock::{Deadline, eventually};
use pool_core::{Bytes, EXTENT_BYTES, Nanos};

use super::SetupError;
use crate::engine::command::WorldError;
use crate::sys::{self, Mapping};

/// Whether any other file description of the file exists anywhere: open, mapped or under way.
///
/// # Errors
/// Where a system call failed; the file must then be taken for held.
pub fn is_held_elsewhere(master: BorrowedFd<'_>) -> Result<bool, WorldError> {
    match sys::is_open_elsewhere(master) {
        Err(failed) if failed.errno == Errno::EINVAL => match sys::status(master)?.stands_for {
            Some(_) => Ok(sys::has_holder(master)?),
            None => Err(failed.into()),
        },
        held => Ok(held?),
    }
}

/// How long a mapping may seem to be there that is gone: a child that another thread has forked has
/// a copy of every descriptor until it runs its own program.
const PATIENCE: Nanos = Nanos::from_millis(2_000);

/// Tries the proof on a fresh file of at least one extent: it must see a bare mapping, and see it
/// go.
///
/// # Errors
/// [`SetupError::NoProof`] where it does not.
pub(super) fn try_on(master: BorrowedFd<'_>, files: &'static str) -> Result<(), SetupError> {
    let other = sys::reopen(master, OFlag::O_RDWR)?;
    let mapping = Mapping::of(other.as_fd(), Bytes::new(EXTENT_BYTES))?;
    drop(other);
    let while_mapped = sys::is_open_elsewhere(master);
    drop(mapping);
    let gone = eventually(Deadline::after(PATIENCE), || {
        let held = sys::is_open_elsewhere(master);
        (!matches!(held, Ok(true))).then_some(held)
    });
    match (while_mapped, gone.unwrap_or(Ok(true))) {
        (Ok(true), Ok(false)) => Ok(()),
        (Err(failed), _) | (_, Err(failed)) if failed.errno != Errno::EINVAL => Err(failed.into()),
        _ => Err(SetupError::NoProof { files }),
    }
}
