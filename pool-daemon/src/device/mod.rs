//! Memory the daemon owns, and how files of it come to be and are proven gone.
//!
//! A [`Device`] builds files; a file backs one piece of one segment and belongs to one tenant for
//! all its life. It is never handed to another one: it is destroyed, and its pages go back to the
//! kernel, which zeroes them.

use std::os::fd::{BorrowedFd, OwnedFd};

use pool_core::{BackingId, Bytes};
use pool_proto::common::v1::{Access, Pages};

use crate::engine::command::{FileIdentity, WorldError};

/// A file just built: `bytes` zeroed bytes, every page of which exists.
#[derive(Debug)]
pub struct NewFile {
    /// The daemon's own descriptor, read-write, of a file description nobody else shares.
    pub file: OwnedFd,
    /// The pages it got.
    pub pages: Pages,
    /// What tells it from any other file.
    pub identity: FileIdentity,
}

/// Memory of one kind.
pub trait Device: Send + Sync + std::fmt::Debug {
    /// Builds a file of `bytes` (whole extents): zeroed, all of it really there, mode 0600, sealed
    /// against growing, shrinking and further seals where the device can.
    ///
    /// With `shareable`, no writer can make a page of it missing for others.
    ///
    /// # Errors
    /// Where the machine has not enough, or a system call failed. Nothing is left behind.
    fn build(
        &self,
        backing: BackingId,
        bytes: Bytes,
        shareable: bool,
    ) -> Result<NewFile, WorldError>;

    /// Opens a file that was built before the daemon restarted, where the device keeps files under
    /// names; `None` where it does not, or the file is gone.
    ///
    /// # Errors
    /// Where a system call failed.
    fn find(&self, backing: BackingId) -> Result<Option<OwnedFd>, WorldError>;

    /// Frees the pages of a file that nobody else has open or mapped, and forgets it.
    ///
    /// # Errors
    /// Where a system call failed; the file is then as before.
    fn destroy(&self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError>;
}

/// A descriptor of the same file to be given away: a file description of its own.
///
/// # Errors
/// Where a system call failed.
pub fn open_for(_file: BorrowedFd<'_>, _access: Access) -> Result<OwnedFd, WorldError> {
    unreachable!("written with the back ends")
}
