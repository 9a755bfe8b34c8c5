//! Where descriptors wait while the daemon is dead.
//!
//! A memfd lives as long as somebody has it open. So that the daemon may die, each descriptor is
//! also held by another process: the service manager, where there is one, or else a keeper, a
//! small process the daemon starts once and finds again. What they hold are duplicates of the
//! daemon's own file description, so they do not count where the daemon proves that a file is free
//! ([`crate::device::proof`]), and what they give back is a master again.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use pool_core::BackingId;
use pool_core::packet::PacketError;

use crate::sys::Failed;

pub mod keeper;
pub mod none;
#[cfg(feature = "server")]
pub mod systemd;

/// A place that outlives the daemon.
pub trait DescriptorStore: Send + std::fmt::Debug {
    /// `systemd`, `keeper` or `clients`.
    fn kind(&self) -> &'static str;

    /// Takes out everything kept from before. Called once, first. The store keeps it all the same.
    ///
    /// # Errors
    /// Where the store does not answer.
    fn recover(&mut self) -> Result<Vec<(BackingId, OwnedFd)>, StoreError>;

    /// Keeps a duplicate of `file`. Once it is settled, the death of the daemon does not lose it.
    ///
    /// # Errors
    /// Where the store does not answer, or is full: that is no failure, and it keeps what it has.
    fn put(&mut self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), StoreError>;

    /// Waits until all that was put before is kept for certain.
    ///
    /// # Errors
    /// Where the store does not answer, or has lost something of it: fill it anew.
    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// After a failure: connects anew where that is needed, and keeps exactly `files`, but for
    /// those that there is no place for, which it tells. What it has is not sent again.
    ///
    /// # Errors
    /// As the other calls, but for a full store; what is kept then is some of these. Try again
    /// later.
    fn refill(
        &mut self,
        files: &[(BackingId, BorrowedFd<'_>)],
    ) -> Result<Vec<BackingId>, StoreError>;

    /// The connection to a process that keeps the descriptors, to be polled for its end: the
    /// process is gone then, and so is what it kept.
    fn connection(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Lets go of it. When it returns, the store has closed its duplicate.
    ///
    /// # Errors
    /// Where the store does not answer.
    fn remove(&mut self, backing: BackingId) -> Result<(), StoreError>;
}

/// Why the store failed. The daemon goes on; the descriptor is then kept by its clients alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The process behind the store is gone, or answers no more. Refill it.
    #[error("the descriptor store does not answer")]
    Gone,
    /// The store keeps no more until something is removed from it. Raise its limit
    /// (`FileDescriptorStoreMax`, `LimitNOFILE`), or have fewer segments.
    #[error("the descriptor store is full with {limit} descriptors")]
    Full {
        /// The most it keeps.
        limit: usize,
    },
    /// A system call failed.
    #[error("the descriptor store failed in {call} with error number {errno}")]
    Os {
        /// What was tried.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
    /// What came back is not what the store says. Refill it.
    #[error("the descriptor store answered out of order")]
    OutOfOrder,
}

impl From<Failed> for StoreError {
    fn from(Failed { call, errno }: Failed) -> Self {
        let errno = errno as i32;
        Self::Os { call, errno }
    }
}

impl From<PacketError> for StoreError {
    fn from(error: PacketError) -> Self {
        match error {
            PacketError::Closed | PacketError::TimedOut | PacketError::WouldBlock => Self::Gone,
            PacketError::Os { call, errno } => Failed { call, errno }.into(),
            PacketError::DescriptorsLost { .. } => Failed {
                call: "recvmsg",
                errno: Errno::EMFILE,
            }
            .into(),
            _ => Self::OutOfOrder,
        }
    }
}

/// Puts what a store does not have, and tells what there was no place for.
fn put_each<'f>(
    files: impl Iterator<Item = &'f (BackingId, BorrowedFd<'f>)>,
    mut put: impl FnMut(BackingId, BorrowedFd<'f>) -> Result<(), StoreError>,
) -> Result<Vec<BackingId>, StoreError> {
    let mut left_out = Vec::new();
    for &(backing, file) in files {
        match put(backing, file) {
            Err(StoreError::Full { .. }) => left_out.push(backing),
            done => done?,
        }
    }
    Ok(left_out)
}

/// The name under which a store knows a descriptor.
#[cfg(feature = "server")]
fn name_of(backing: BackingId) -> String {
    backing.to_string()
}

/// The backing of this name, where it is one of ours.
#[cfg(feature = "server")]
fn backing_of(name: &str) -> Option<BackingId> {
    let backing = BackingId::new(name.strip_prefix("back-")?.parse().ok()?)?;
    (name_of(backing) == name).then_some(backing)
}
