//! Blocks that were freed last, kept ready to be given out first.
//!
//! By the bitmap they are allocated. So whoever frees one of them again is told only where it is
//! the one freed last, and with no front (`TIERPOOL_CHECK=1`) always.

use crate::heap::Heap;
use crate::options;
use crate::place::{self, Place};
use crate::size_class::{SMALL, block_bytes};

/// How many blocks of a class may be in front, and how many bytes of them.
pub(super) const FRONT: usize = 32;
const FRONT_BYTES: usize = 32 << 10;

/// How many blocks of `class` may be in front.
pub(super) fn most(class: usize) -> u32 {
    if class > SMALL || options::checks_all() {
        return 0;
    }
    u32::try_from(FRONT.min(FRONT_BYTES / block_bytes(class))).unwrap_or(0)
}

impl Heap {
    /// Leaves the blocks in front of `class` to the bitmap.
    pub(super) fn clear_front(&mut self, class: usize) {
        let ready = core::mem::take(&mut self.bins[class].ready) as usize;
        for index in 0..ready {
            let address = self.fronts[class][index % FRONT];
            if let Some(Place::Slab { slab, index, .. }) = place::of(address) {
                self.free_block(slab, class, index, address);
            }
        }
    }
}
