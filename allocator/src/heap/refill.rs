//! A bin without blocks gets some, from what costs least.
//!
//! In this order: the next word of its slab, what others freed, another slab with free blocks, a
//! slab that a thread left behind, new frames.

use pool_core::planted;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::sync::atomic::fence;

use crate::bits;
use crate::frame::Frame;
use crate::heap::{Bin, Heap, Slabs};
use crate::left;
use crate::list::Membership;
use crate::owner::{Kind, Owner};
use crate::size_class::{slab_blocks, slab_frames};
use crate::window::{Claim, WINDOW};

/// How many bytes of a slab are opened at once: four pages, and one block at least.
const OPENED_BYTES: usize = 16 << 10;

/// The bits of word `word` that stand for the first `blocks` blocks of a slab.
pub(super) fn among(blocks: usize, word: usize) -> u64 {
    bits::below(blocks.saturating_sub(word * 64))
}

impl Bin {
    /// Holds some free blocks of the slab: those of the next word that has any, and once all words
    /// had their turn, blocks that were never given out. False where there are none.
    ///
    /// Only with `free` 0: then nothing of the word that was held is forgotten.
    fn take_word(&mut self, slabs: &mut Slabs, class: usize) -> bool {
        debug_assert_eq!(self.free, 0);
        let Some(slab) = slabs.current else {
            return false;
        };
        let descriptor = slab.descriptor();
        while slabs.next_word < 64 {
            let summary = descriptor.summary.load(Relaxed);
            let ahead = summary & (u64::MAX << slabs.next_word);
            if ahead == 0 {
                break;
            }
            let word = ahead.trailing_zeros();
            slabs.next_word = word + 1;
            descriptor.summary.store(summary & !(1 << word), Relaxed);
            let opened = descriptor.opened.load(Relaxed) as usize;
            let taken = slab.allocated(word as usize).load(Relaxed);
            let free = !taken & among(opened, word as usize);
            if free != 0 {
                self.hold(slab, word, free, false);
                return true;
            }
        }
        // Those that are freed meanwhile have their turn before more is opened.
        slabs.next_word = 0;
        self.open(slab, class)
    }

    /// Holds blocks that were never given out; false where all were.
    fn open(&mut self, slab: Frame, class: usize) -> bool {
        let descriptor = slab.descriptor();
        let opened = descriptor.opened.load(Relaxed);
        let (word, first) = (opened / 64, opened as usize % 64);
        let left = (slab_blocks(class) - opened as usize).min(64 - first);
        if left == 0 {
            return false;
        }
        let count = (OPENED_BYTES / self.bytes as usize).clamp(1, left);
        let is_zero = descriptor.is_zero.load(Relaxed) != 0;
        self.hold(slab, word, bits::below(count) << first, is_zero);
        let opened = opened.wrapping_add(self.free.count_ones());
        descriptor.opened.store(opened, Relaxed);
        true
    }

    /// Holds the blocks `free` of a word: from here on they are allocated in the bitmap.
    fn hold(&mut self, slab: Frame, word: u32, free: u64, is_zero: bool) {
        let allocated = slab.allocated(word as usize);
        // Another thread may fork at any time. Its child must not find the blocks of one word with
        // the name of another: it would take them for blocks that were not given out.
        self.held = 0;
        fence(Release);
        allocated.store(allocated.load(Relaxed) | free, Relaxed);
        self.free = free;
        self.is_zero = is_zero;
        self.word = word;
        let offset = (word as usize * 64).wrapping_mul(self.bytes as usize);
        self.base = slab.start().wrapping_add(offset);
        fence(Release);
        self.held = core::ptr::from_ref(allocated).addr();
    }
}

impl Heap {
    /// Fills the bin of `class`; false where there is no memory.
    #[cold]
    #[inline(never)]
    pub(crate) fn refill(&mut self, class: usize) -> bool {
        self.tell_away(class);
        while !self.bins[class].take_word(&mut self.slabs[class], class) {
            self.put_by(class);
            self.hear(class);
            let mut slab = self.slabs[class].partial.pop();
            if slab.is_none() && self.adopt_any(class) {
                slab = self.slabs[class].partial.pop();
            }
            let Some(slab) = slab.or_else(|| self.new_slab(class)) else {
                return false;
            };
            let slabs = &mut self.slabs[class];
            slabs.current = Some(slab);
            slabs.next_word = 0;
        }
        true
    }

    /// Puts the slab of the bin with the others of its class.
    fn put_by(&mut self, class: usize) {
        let Some(slab) = self.slabs[class].current.take() else {
            return;
        };
        // Nothing is held from here on: where there is no other slab, blocks that are freed go to
        // the bitmap, where whoever has the slab next finds them.
        debug_assert_eq!(self.bins[class].free, 0);
        self.bins[class].held = 0;
        self.shelve(slab, class);
    }

    /// Puts a slab of this heap, which is in no list, into the one where it belongs.
    pub(super) fn shelve(&mut self, slab: Frame, class: usize) {
        let slabs = &mut self.slabs[class];
        let descriptor = slab.descriptor();
        let is_open = descriptor.opened.load(Relaxed) as usize == slab_blocks(class);
        if is_open && descriptor.summary.load(Relaxed) == 0 {
            slabs.full.push(slab, Membership::Full);
        } else {
            slabs.partial.push(slab, Membership::Partial);
        }
    }

    /// Makes a slab of frames that nobody has.
    fn new_slab(&mut self, class: usize) -> Option<Frame> {
        let frames = slab_frames(class);
        let Claim { head, is_zero } = WINDOW.claim(self.owner, frames, 1)?;
        let descriptor = head.descriptor();
        descriptor.summary.store(0, Relaxed);
        descriptor.opened.store(0, Relaxed);
        descriptor.is_zero.store(u32::from(is_zero), Relaxed);
        descriptor.list.store(Membership::None as u32, Relaxed);
        // Release pairs with the load of whoever frees a block of it.
        descriptor.owner.store(self.owner.slab(class).0, Release);
        Some(head)
    }

    /// Takes a slab of `class` over that a thread left behind; true where it has free blocks.
    fn adopt_any(&mut self, class: usize) -> bool {
        while self.slabs[class].partial.is_empty() {
            let Some(slab) = left::pop(class) else {
                return false;
            };
            if self.adopt(slab, class) {
                continue;
            }
            // It may have become a slab of another class since, and be found nowhere now.
            let owner = slab.owner();
            if let (true, Kind::Slab(other)) = (owner.is_abandoned(), owner.kind()) {
                left::push(slab, other);
            }
            if planted!("left.clears_after_the_look") {
                slab.queue().stacked.swap(0, AcqRel);
            }
        }
        true
    }

    /// Takes over an abandoned slab of `class`; false where another thread was first.
    pub(super) fn adopt(&mut self, slab: Frame, class: usize) -> bool {
        let (old, new) = (Owner::abandoned(class), self.owner.slab(class));
        let owner = &slab.descriptor().owner;
        // Acquire pairs with the store by which its last owner gave it up.
        if planted!("refill.adopts_by_a_store") && owner.load(Acquire) == old.0 {
            owner.store(new.0, Relaxed);
        } else if owner
            .compare_exchange(old.0, new.0, Acquire, Relaxed)
            .is_err()
        {
            return false;
        }
        self.shelve(slab, class);
        // Where it is not set, whoever frees a block of it from now on finds this heap.
        let is_told = slab.queue().queued.load(Acquire) != 0;
        if is_told && !planted!("refill.adopts_without_draining") {
            self.drain(slab, class);
        }
        true
    }

    /// Words that a slab of `class` has.
    pub(super) fn words(class: usize) -> usize {
        slab_blocks(class).div_ceil(64)
    }
}
