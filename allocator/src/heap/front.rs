//! Blocks that were freed last, kept ready to be given out first.
//!
//! A front has two halves. Blocks are given out of one and freed into the other; they change
//! places when the first is empty. So what is stored by who frees a block is not what the next one
//! to allocate has to wait for, as it would be on one stack.
//!
//! By the bitmap a block in front is allocated. So whoever frees it again is told only where it is
//! the one freed last, and with no front (`TIERPOOL_CHECK=1`) always.

use crate::heap::Heap;
use crate::options;
use crate::place::{self, Place};
use crate::size_class::{SMALL, block_bytes};

/// How many blocks of a class may be in front, how many in each half, and how many bytes in each.
pub(super) const FRONT: usize = 2 * HALF as usize;
pub(super) const HALF: u32 = 64;
const HALF_BYTES: usize = 32 << 10;

/// How many blocks of `class` may be in each half of the front.
pub(super) fn most(class: usize) -> u32 {
    if class > SMALL || options::checks_all() {
        return 0;
    }
    u32::try_from(HALF_BYTES / block_bytes(class)).map_or(HALF, |most| most.min(HALF))
}

impl Heap {
    /// Leaves the blocks in front of `class` to the bitmap.
    pub(super) fn clear_front(&mut self, class: usize) {
        for _ in 0..2 {
            let bin = &mut self.bins[class];
            let (first, ready) = (bin.half as usize, bin.ready as usize);
            bin.turn();
            for index in first..first + ready {
                let address = self.fronts[class][index % FRONT];
                if let Some(Place::Slab { slab, index, .. }) = place::of(address) {
                    self.free_block(slab, class, index, address);
                }
            }
        }
    }
}
