//! No store: descriptors outlive the daemon in its clients alone.

use std::os::fd::{BorrowedFd, OwnedFd};

use pool_core::BackingId;

use super::{DescriptorStore, StoreError};

/// Keeps nothing. A segment that no client holds when the daemon dies is lost with it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ClientsOnly;

impl DescriptorStore for ClientsOnly {
    fn kind(&self) -> &'static str {
        "clients"
    }

    fn recover(&mut self) -> Result<Vec<(BackingId, OwnedFd)>, StoreError> {
        Ok(Vec::new())
    }

    fn put(&mut self, _backing: BackingId, _file: BorrowedFd<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn refill(
        &mut self,
        _files: &[(BackingId, BorrowedFd<'_>)],
    ) -> Result<Vec<BackingId>, StoreError> {
        Ok(Vec::new())
    }

    fn remove(&mut self, _backing: BackingId) -> Result<(), StoreError> {
        Ok(())
    }
}
