//! Freeing a block of a slab that the heap owns.

use pool_core::sync::atomic::Ordering::{Relaxed, Release};

use crate::frame::Frame;
use crate::heap::Heap;
use crate::heap::front::{FRONT, HALF};
use crate::layout::FRAME_BYTES;
use crate::list::{self, Membership};
use crate::owner::Owner;
use crate::purge;
use crate::report::{Misuse, misuse};
use crate::size_class::{self, SMALL};
use crate::window::WINDOW;

impl Heap {
    /// Frees the block at `address` of the small slab `slab`, which this heap owns.
    #[inline(always)]
    pub(crate) fn free_small(&mut self, slab: Frame, class: usize, address: usize) {
        let bin = &mut self.bins[class];
        let offset = address & (FRAME_BYTES - 1);
        let Some(index) = size_class::block_at(offset, bin.reciprocal) else {
            misuse(Misuse::InvalidFree, address);
        };
        if bin.freed >= bin.most {
            // With no front all is checked, what another thread freed as well.
            if bin.most == 0 && slab.remote(index >> 6).load(Relaxed) >> (index & 63) & 1 != 0 {
                misuse(Misuse::DoubleFree, address);
            }
            self.free_block(slab, class, index, address);
            return;
        }
        // What is in front is allocated by the bitmap.
        let allocated = slab.allocated(index >> 6).load(Relaxed);
        if allocated >> (index & 63) & 1 == 0 || bin.last == address {
            misuse(Misuse::DoubleFree, address);
        }
        let place = ((bin.half ^ HALF) | bin.freed) as usize % FRONT;
        bin.last = address;
        bin.freed = bin.freed.wrapping_add(1);
        self.fronts[class][place] = address;
    }

    /// Frees block `index` of `slab`, which this heap owns, past the front.
    #[inline(always)]
    pub(crate) fn free_block(&mut self, slab: Frame, class: usize, index: usize, address: usize) {
        let bin = &mut self.bins[class];
        let (word, bit) = (index >> 6, 1_u64 << (index & 63));
        let allocated = slab.allocated(word);
        let taken = allocated.load(Relaxed);
        let is_held = bin.held == core::ptr::from_ref(allocated).addr();
        if taken & bit == 0 || (is_held && bin.free & bit != 0) {
            misuse(Misuse::DoubleFree, address);
        }
        if is_held {
            bin.free |= bit;
            bin.is_zero = false;
            return;
        }
        let left = taken & !bit;
        allocated.store(left, Relaxed);
        let summary = &slab.descriptor().summary;
        let before = summary.load(Relaxed);
        // Most often it is set, and what is only read is there sooner.
        if before >> (word & 63) & 1 == 0 {
            summary.store(before | 1 << (word & 63), Relaxed);
        }
        // A slab that was full is in the wrong list; one without blocks may go.
        if before == 0 || left == 0 {
            self.settle(slab, class);
        }
    }

    /// Puts a slab where it belongs that has a free block now.
    #[cold]
    #[inline(never)]
    pub(super) fn settle(&mut self, slab: Frame, class: usize) {
        if self.slabs[class].current == Some(slab) {
            return;
        }
        let slabs = &mut self.slabs[class];
        if list::is_in(slab, Membership::Full) {
            slabs.full.remove(slab);
            slabs.partial.push(slab, Membership::Partial);
        }
        // One slab without blocks is kept, for those that come and go. Large ones are not.
        let may_go = class > SMALL || !slabs.partial.is_single();
        if may_go && slab.is_empty(Self::words(class)) {
            slabs.partial.remove(slab);
            give_up(slab);
        }
    }
}

/// Makes a slab that its heap owns, is in no list and has no blocks, free frames.
pub(super) fn give_up(slab: Frame) {
    slab.descriptor().owner.store(Owner::FREEING.0, Release);
    WINDOW.release(slab);
    purge::after_release();
}
