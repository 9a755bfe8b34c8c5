//! The end of a thread: its slabs are left to whoever needs them.
//!
//! # After a fork
//! In the child the other threads are gone, each at some instruction of its own. What they owned
//! is found by the owner words and made whole from the bitmaps: their lists may be half changed.
//! A block that such a thread was about to be given, or was about to free, stays allocated.

use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::bits;
use crate::frame::Frame;
use crate::heap::Heap;
use crate::heap::refill::valid;
use crate::list::Membership;
use crate::owner::{Kind, MAX_SLOTS, Owner};
use crate::place::{self, Place};
use crate::size_class::CLASSES;
use crate::slot;
use crate::window::WINDOW;

impl Heap {
    /// Gives everything up. The heap may be used for another thread by [`Heap::begin`].
    pub(crate) fn end(&mut self) {
        self.tell_all();
        while !self.posted.is_empty() || self.slot().has_mail() {
            self.hear(0);
        }
        for class in 1..CLASSES {
            self.put_back_ready(class);
            self.abandon_all(class);
        }
        // Nothing is posted here any more; what was, is of others or was abandoned just now.
        for slab in self.slot().close() {
            self.look_at(slab);
        }
        // To look at it may have been to adopt it.
        for class in 1..CLASSES {
            self.abandon_all(class);
        }
        slot::give_back(self.slot);
    }

    /// Makes the blocks free that the bin had ready.
    fn put_back_ready(&mut self, class: usize) {
        let bin = &mut self.bins[class];
        let free = core::mem::take(&mut bin.free);
        bin.held = 0;
        if let Some(slab) = bin.slab
            && free != 0
        {
            let word = bin.next_word.wrapping_sub(1) & 63;
            let allocated = slab.allocated(word as usize);
            allocated.store(allocated.load(Relaxed) & !free, Relaxed);
            let summary = &slab.descriptor().summary;
            summary.store(summary.load(Relaxed) | 1 << word, Relaxed);
        }
        self.free_front(class);
    }

    /// Frees the blocks that are in front.
    pub(super) fn free_front(&mut self, class: usize) {
        let ready = core::mem::take(&mut self.bins[class].ready) as usize;
        for index in 0..ready {
            let address = self.fronts[class][index];
            if let Some(Place::Slab { slab, index, .. }) = place::of(address) {
                self.free_block(slab, class, index, address);
            }
        }
    }

    fn abandon_all(&mut self, class: usize) {
        loop {
            let slabs = &mut self.slabs[class];
            let slab = self.bins[class].slab.take();
            let next = slab
                .or_else(|| slabs.partial.pop())
                .or_else(|| slabs.full.pop());
            let Some(slab) = next else { return };
            self.abandon(slab, class);
        }
    }
}

/// Leaves a slab of the calling heap, or of one that is gone, to whoever needs it.
pub(super) fn let_go(slab: Frame, class: usize) {
    bits::set(&slab.head().abandoned, &(slab.index()..slab.index() + 1));
    WINDOW.abandoned.fetch_add(1, Relaxed);
    // Release pairs with whoever adopts it.
    slab.descriptor()
        .owner
        .store(Owner::abandoned(class).0, Release);
}

/// Leaves all slabs of slots that are not `kept` to whoever needs them, and makes what is known of
/// the chunks anew. Only in a child, which has one thread.
///
/// `held(slot, class, word)` are the blocks of that word that the slot had not given out.
pub(crate) fn recover_after_fork(
    kept: impl Fn(usize) -> bool,
    held: impl Fn(usize, usize, usize) -> u64,
) {
    let gone = || (0..MAX_SLOTS).filter(|&index| slot::is_taken(index) && !kept(index));
    if gone().next().is_none() {
        return;
    }
    WINDOW.make_anew(|slab| {
        let owner = slab.owner();
        if let (Kind::Slab(class), Some(slot)) = (owner.kind(), owner.slot())
            && !kept(slot)
        {
            make_whole(slab, class, |word| held(slot, class, word));
            slab.descriptor()
                .owner
                .store(Owner::abandoned(class).0, Release);
        }
    });
    for index in gone() {
        // What was posted there was looked at above.
        for slab in slot::slot(index).close() {
            debug_assert!(slab.owner().slot() != Some(index));
        }
        slot::give_back(index);
    }
}

/// Makes what is known of a slab anew from its bitmaps, whose owner is gone.
fn make_whole(slab: Frame, class: usize, held: impl Fn(usize) -> u64) {
    let mut summary = 0;
    for word in 0..Heap::words(class) {
        let (allocated, remote) = (slab.allocated(word), slab.remote(word));
        let freed = remote.load(Acquire);
        let address = core::ptr::from_ref(allocated).addr();
        let taken = allocated.load(Relaxed) & !freed & !held(address);
        allocated.store(taken, Relaxed);
        remote.fetch_and(!freed, AcqRel);
        summary |= u64::from(!taken & valid(class, word) != 0) << word;
    }
    let descriptor = slab.descriptor();
    descriptor.summary.store(summary, Relaxed);
    descriptor.virgin.store(0, Relaxed);
    descriptor.list.store(Membership::None as u32, Relaxed);
    slab.queue().queued.store(0, Relaxed);
}
