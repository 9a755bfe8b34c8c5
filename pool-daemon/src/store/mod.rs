//! Where descriptors wait while the daemon is dead.
//!
//! A memfd lives as long as somebody has it open. So that the daemon may die, each descriptor is
//! also held by another process: the service manager, where there is one, or else a keeper, a small
//! process the daemon starts once and finds again.

use std::os::fd::{BorrowedFd, OwnedFd};

use pool_core::BackingId;

/// A place that outlives the daemon.
pub trait DescriptorStore: Send + std::fmt::Debug {
    /// `systemd`, `keeper` or `clients`.
    fn kind(&self) -> &'static str;

    /// Takes out everything kept from before. Called once, first.
    ///
    /// # Errors
    /// Where the store does not answer.
    fn recover(&mut self) -> Result<Vec<(BackingId, OwnedFd)>, StoreError>;

    /// Keeps a duplicate of `file`. When it returns, the death of the daemon does not lose it.
    ///
    /// # Errors
    /// Where the store does not answer or is full.
    fn put(&mut self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), StoreError>;

    /// Lets go of it. When it returns, the store has closed its duplicate.
    ///
    /// # Errors
    /// Where the store does not answer.
    fn remove(&mut self, backing: BackingId) -> Result<(), StoreError>;
}

/// Why the store failed. The daemon goes on; the descriptor is then kept by its clients alone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The process behind the store is gone, or a system call failed.
    #[error("the descriptor store failed in {call} with error number {errno}")]
    Os {
        /// What was tried.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
    /// What came back is not what the store says.
    #[error("the descriptor store answered out of order")]
    OutOfOrder,
}
