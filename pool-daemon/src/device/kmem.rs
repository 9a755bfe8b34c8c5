//! CXL memory that is a node of the machine's: files are bound to it, while it is there.
//!
//! A file holds its pages by itself and goes the way of any anonymous file ([`super::memfd`]); it
//! ends where its node does. The kernel lets go of a node only once nothing lies there.

use std::os::fd::BorrowedFd;

use pool_core::sync::Arc;
use pool_core::{BackingId, Bytes};

use super::cxl::CxlRegion;
use super::memfd::{MemfdDevice, empty};
use super::{Device, NewFile, Place};
use crate::engine::command::WorldError;

/// See the module.
#[derive(Debug)]
pub struct KmemDevice {
    region: Arc<CxlRegion>,
}

impl KmemDevice {
    /// A device of files on the node that a region is.
    #[must_use]
    pub(super) const fn of(region: Arc<CxlRegion>) -> Self {
        Self { region }
    }

    fn on_node<T>(
        &self,
        build: impl FnOnce(&MemfdDevice) -> Result<T, WorldError>,
    ) -> Result<T, WorldError> {
        let taken = self.region.taken();
        let node = taken.as_ref().and_then(|taken| taken.node.as_ref());
        node.map_or(Err(WorldError::Withdrawn), build)
    }
}

impl Device for KmemDevice {
    fn build(
        &self,
        backing: BackingId,
        place: Place<'_>,
        shareable: bool,
    ) -> Result<NewFile, WorldError> {
        self.on_node(|node| node.build(backing, place, shareable))
    }

    fn build_ahead(&self, bytes: Bytes, shareable: bool) -> Option<Result<NewFile, WorldError>> {
        // Ahead of a node nothing is built, and nothing is to be tried again for it.
        let built = self.on_node(|node| Ok(node.build_ahead(bytes, shareable)));
        built.ok().flatten()
    }

    fn destroy(&self, _backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        empty(file)
    }
}
