//! Judging a descriptor that comes back from a client or a store after a restart.
//!
//! Whoever brings it may be hostile: it may be of any file, and its description is shared with the
//! bringer. So the file is told by device and inode number first, asking only this kernel and no
//! file system in user space that might never answer; then it is opened anew; and then
//! everything that a client could have changed is looked at, on the new description.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, SealFlag};
use nix::sys::stat::SFlag;
use nix::unistd::geteuid;
use pool_core::Bytes;

use super::dax;
use crate::engine::command::FileIdentity;
use crate::sys::{self, Failed};

/// The seals of every sealed file of the pool.
pub const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);
/// The seal against becoming executable, which kernels from 6.3 on add when asked to.
pub(super) const SEAL_EXEC: SealFlag = SealFlag::from_bits_retain(0x20);

/// A descriptor is not of the file it should be. Refuse it, and close it where that may take
/// long: a file system in user space may hold up the close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongFile {
    /// It is of another file.
    #[error("the file is inode {} of device {}", found.inode, found.device)]
    Other {
        /// Which.
        found: FileIdentity,
    },
    /// The file is not the daemon's, or others may open it.
    #[error("the file belongs to uid {uid} with mode {mode:o}")]
    Permissions {
        /// Its owner.
        uid: u32,
        /// Its type and permissions, as in `st_mode`.
        mode: u32,
    },
    /// The file has been resized. Its contents are damaged.
    #[error("the file has {found_bytes} bytes and should have {expected_bytes}")]
    Length {
        /// As it is.
        found_bytes: u64,
        /// As it was built.
        expected_bytes: u64,
    },
    /// The file lacks seals, or has more than it was given.
    #[error("the file has the seals {found:#x}")]
    Seals {
        /// As they are.
        found: i32,
    },
    /// A system call failed.
    #[error("{call} failed with error number {errno}")]
    Os {
        /// Which.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl From<Failed> for WrongFile {
    fn from(Failed { call, errno }: Failed) -> Self {
        let errno = errno as i32;
        Self::Os { call, errno }
    }
}

/// Checks that a descriptor is of the file that was built, unchanged but for its contents.
///
/// # Errors
/// [`WrongFile`] says in what it differs.
pub fn verify(
    file: BorrowedFd<'_>,
    expected: FileIdentity,
    bytes: Bytes,
    sealed: bool,
) -> Result<(), WrongFile> {
    let found = sys::status(file)?;
    if found.identity != expected {
        let found = found.identity;
        return Err(WrongFile::Other { found });
    }
    let (uid, mode) = (found.uid, found.mode);
    let kind = match found.stands_for {
        Some(_) => SFlag::S_IFCHR,
        None => SFlag::S_IFREG,
    };
    if uid != geteuid().as_raw() || mode != kind.bits() | sys::PRIVATE_FILE.bits() {
        return Err(WrongFile::Permissions { uid, mode });
    }
    // A dax device has no length of its own, and takes no seals: it is as long as it was cut.
    let found_bytes = match found.stands_for {
        Some(numbers) => dax::length(numbers)?,
        None => found.bytes,
    };
    if found_bytes != bytes.get() {
        return Err(WrongFile::Length {
            found_bytes,
            expected_bytes: bytes.get(),
        });
    }
    if sealed && found.stands_for.is_none() {
        let seals = sys::seals(file)?;
        if seals.difference(SEAL_EXEC) != SEALS {
            let found = seals.bits();
            return Err(WrongFile::Seals { found });
        }
    }
    Ok(())
}

/// Takes a descriptor that somebody brought back, if it is of the file that was built, and opens
/// the file anew: what it returns is a master that shares its description with nobody.
///
/// # Errors
/// [`WrongFile`] says why not.
pub fn adopt(
    brought: BorrowedFd<'_>,
    expected: FileIdentity,
    bytes: Bytes,
    sealed: bool,
) -> Result<OwnedFd, WrongFile> {
    let found = sys::status(brought)?.identity;
    if found != expected {
        return Err(WrongFile::Other { found });
    }
    let master = sys::reopen(brought, OFlag::O_RDWR)?;
    verify(master.as_fd(), expected, bytes, sealed)?;
    Ok(master)
}
