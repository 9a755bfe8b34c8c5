//! Freeing a block of a slab that another heap owns, and hearing of what others freed.
//!
//! # Protocol
//! Whoever frees a block of a slab that is not its own sets the bit of the block in the slab, and
//! then reads who owns the slab. Of that slot it sets the hint bit of the slab's number, unless
//! the word of the block already had a bit. The owner takes hint bits by exchanging their word,
//! and then reads the bits of the slabs that they stand for.
//!
//! 1. *No bit is overlooked while those that set bits live.* The first to set a bit of a word sets
//!    the hint after it. Both change the hint by operations that read and write: where the owner's
//!    comes later it reads from the other's, and sees the bit; where it comes earlier the hint is
//!    set for the next time. Whoever finds a bit in the word sets no hint. So the owner, where a
//!    bit came between its look at the word and its change of it, hints to itself: whoever set
//!    that bit may have found those that are cleared.
//! 2. *Whoever adopts a slab overlooks none either*: it has the slab first, and then looks at each
//!    word of bits by an operation that reads and writes. A bit that it does not see was set by
//!    somebody who sees the new owner.
//! 3. *A slab that nobody owns* is adopted by whoever frees a block of it, where it is of a tier
//!    that its heap uses; otherwise it keeps the bit for whoever adopts it.
//! 4. *A bit is cleared after the block is free in the bitmap.* Who is killed in between leaves
//!    what the next to look does once more.
//! 5. *A block that somebody retires* stays allocated while it stands in his intent: see
//!    [`super::cell`]. So the free is repeated only while its bit is still set, or nobody was
//!    given the block since.

use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::{crash_point, planted};

use super::cell;
use super::control::HINTS;
use super::error::HeapError;
use super::local::{Local, Own};
use super::process::Process;
use super::slabs::{is_of, words};
use crate::bits;
use crate::frame::Frame;
use crate::layout::Cut;
use crate::owner::Owner;
use crate::size_class::block_bytes;

impl Local {
    /// Frees block `index` of `slab`, which is of `class` and not this heap's own.
    ///
    /// It is told at once: what was gathered first would be allocated for ever after a death.
    pub(super) fn free_away(
        &mut self,
        on: &Process,
        slab: Frame,
        class: usize,
        index: usize,
        address: usize,
    ) -> Result<(), HeapError> {
        let (word, bit) = (index >> 6, 1_u64 << (index & 63));
        let is_allocated = slab.allocated(word).load(Relaxed) & bit != 0;
        // What is pending its owner has, or keeps ready: nobody else can tell which. The second
        // look is for one that was published while the intent was read.
        let is_pending = || slab.pending(word).load(Acquire) & bit != 0;
        if is_allocated
            && is_pending()
            && !cell::is_being_linked(on.control, slab.owner(), address)
            && is_pending()
        {
            return Err(HeapError::NotOwner { address });
        }
        if !is_allocated || self.tell(on, slab, (class, word), bit) != 0 {
            return Err(HeapError::DoubleFree { address });
        }
        Ok(())
    }

    /// Sets the bits of freed blocks, and has the owner look. Those that were set already.
    pub(super) fn tell(
        &mut self,
        on: &Process,
        slab: Frame,
        (class, word): (usize, usize),
        mask: u64,
    ) -> u64 {
        let order = if planted!("pool.tells_relaxed") {
            Relaxed
        } else {
            AcqRel
        };
        if planted!("pool.hints_before_it_tells") {
            hint(on, slab, slab.owner());
            return slab.remote(word).fetch_or(mask, order) & mask;
        }
        let _busy = on.chunks.busy(self.slot);
        // Release pairs with the owner, who gives the blocks to somebody else.
        let before = slab.remote(word).fetch_or(mask, order);
        crash_point!("heap.told");
        // Of a frame that became something else by now, all blocks were told of before.
        let owner = slab.owner();
        if is_of(slab, self.owner, class) {
            self.drain(on, slab, class, false);
        } else if owner == Owner::abandoned(class) {
            if self.may_have(on, slab, class) {
                self.adopt(on, slab, class);
            }
        } else if before == 0 {
            hint(on, slab, owner);
        }
        before & mask
    }

    /// Whether a slab is in a chunk for blocks of its class, and of a tier that this heap uses.
    fn may_have(&self, on: &Process, slab: Frame, class: usize) -> bool {
        let chunks = on.chunks.all();
        let mut with_it = chunks.filter(|seen| seen.entry.chunk() == slab.chunk());
        with_it.any(|seen| {
            let is_cut = seen.entry.cut() == Cut::of(block_bytes(class));
            is_cut && self.tier.is_none_or(|tier| seen.entry.tier() == tier)
        })
    }

    /// Looks at all slabs that others told of.
    pub(super) fn hear(&mut self, on: &Process) {
        let Some(slot) = on.control.slot(self.slot) else {
            return;
        };
        for (index, word) in slot.hints.iter().enumerate() {
            if word.load(Relaxed) == 0 {
                continue;
            }
            // Acquire pairs with `hint`: the bits of the slabs are there.
            for bit in bits::ones(word.swap(0, AcqRel)) {
                self.look_at(on, index * 64 + bit);
            }
        }
    }

    /// Looks at the slabs that hint `first` stands for.
    fn look_at(&mut self, on: &Process, first: usize) {
        for number in (first..self.own.len()).step_by(HINTS) {
            if let Some(Own { slab, class, .. }) = self.own[number] {
                self.drain(on, slab, class, false);
            }
        }
    }

    /// Makes free what others freed of a slab of this heap. `is_new`: it was adopted just now.
    pub(super) fn drain(&mut self, on: &Process, slab: Frame, class: usize, is_new: bool) {
        let mut freed = [0; 64];
        let mut any = 0;
        for (word, freed) in freed.iter_mut().enumerate().take(words(class)) {
            let remote = slab.remote(word);
            // Acquire pairs with `tell`.
            *freed = if is_new && !planted!("pool.adopts_and_only_reads") {
                remote.fetch_or(0, AcqRel)
            } else {
                remote.load(Acquire)
            };
            any |= *freed;
        }
        if any == 0 {
            return;
        }
        if cell::spare_in_flight(on.control, slab, class, &mut freed) {
            // They are looked at once more.
            hint(on, slab, self.owner);
        }
        let mut changed = 0;
        for (word, &freed) in freed.iter().enumerate().take(words(class)) {
            if freed != 0 {
                self.drain_word(on, slab, (class, word), freed);
                changed |= 1 << word;
            }
        }
        if changed != 0 {
            // It may have been one of these, freed by somebody else.
            if !planted!("pool.keeps_the_last_that_is_drained") {
                self.forget_last();
            }
            let summary = slab.descriptor().summary.load(Relaxed) | changed;
            slab.descriptor().summary.store(summary, Relaxed);
            self.settle(slab, class);
        }
    }

    /// Those of `freed`, bits of a word, whose blocks are in front: two threads have freed them.
    fn in_front(&self, slab: Frame, (class, word): (usize, usize), freed: u64) -> u64 {
        let start = slab.start() + word * 64 * block_bytes(class);
        let is_in_front = |&bit: &usize| self.is_ready(class, start + bit * block_bytes(class));
        let pending = freed & slab.pending(word).load(Relaxed);
        let twice = bits::ones(pending).filter(is_in_front);
        twice.fold(0, |twice, bit| twice | 1 << bit)
    }

    fn drain_word(&self, on: &Process, slab: Frame, (class, word): (usize, usize), freed: u64) {
        let (allocated, pending) = (slab.allocated(word), slab.pending(word));
        let taken = allocated.load(Relaxed);
        // What was not given out is marked as allocated while its word is held.
        let free = !taken | self.held(class, allocated) | self.in_front(slab, (class, word), freed);
        let twice = u64::from((freed & free).count_ones());
        if twice != 0 {
            on.control.freed_twice.fetch_add(twice, Relaxed);
        }
        let freed_once = freed & !free;
        if planted!("pool.drains_in_the_wrong_order") {
            slab.remote(word).fetch_and(!freed, AcqRel);
            crash_point!("heap.drained");
        }
        allocated.store(taken & !freed_once, Release);
        crash_point!("heap.drained");
        pending.store(pending.load(Relaxed) & !freed_once, Release);
        crash_point!("heap.drained_pending");
        let before = slab.remote(word).fetch_and(!freed, AcqRel);
        if before & !freed != 0 && !planted!("pool.forgets_what_came_meanwhile") {
            hint(on, slab, self.owner);
        }
    }
}

/// Has the owner of a slab look at it.
pub(super) fn hint(on: &Process, slab: Frame, owner: Owner) {
    let slot = owner.slot().and_then(|slot| on.control.slot(slot));
    if let Some(slot) = slot {
        let number = slab.descriptor().list.load(Relaxed) as usize % HINTS;
        // Release pairs with `hear`.
        slot.hints[number / 64].fetch_or(1 << (number % 64), AcqRel);
    }
}
