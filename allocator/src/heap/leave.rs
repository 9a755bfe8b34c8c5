//! The end of a thread: its slabs are left to whoever needs them.
//!
//! # After a fork
//! In the child the other threads are gone, each at some instruction of its own. What they owned
//! is found by the owner words and made whole from the bitmaps: their lists may be half changed.
//! A block that such a thread was about to be given, or was about to free, stays allocated.

use pool_core::planted;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::frame::Frame;
use crate::heap::refill::among;
use crate::heap::{Heap, local};
use crate::left;
use crate::list::Membership;
use crate::owner::{Kind, Owner};
use crate::size_class::CLASSES;
use crate::slot::{self, Posted};
use crate::window::WINDOW;

impl Heap {
    /// Forgets what was posted and not looked at yet. Only where it is posted again.
    pub(crate) fn forget_mail(&mut self) {
        self.posted = Posted::default();
    }

    /// Gives everything up. The heap may be used for another thread by [`Heap::begin`].
    pub(crate) fn end(&mut self) {
        self.tell_all();
        loop {
            while !self.posted.is_empty() || self.slot().has_mail() {
                self.hear(0);
            }
            for class in 1..CLASSES {
                self.put_back_ready(class);
                self.abandon_all(class);
            }
            // What was posted meanwhile is of others or was abandoned just now. To look at it may
            // be to adopt it, so the mailbox is open until there is nothing in it: else whoever
            // frees a block of such a slab would have to wait until it is abandoned again.
            if planted!("leave.leaves_the_mailbox_open") || self.slot().close() {
                break;
            }
        }
        slot::give_back(self.slot);
    }

    /// Keeps nothing ready: what has no blocks is given up, and what others freed is looked at.
    pub(crate) fn rest(&mut self) {
        self.tell_all();
        // No class has number 0, so this looks at all that was posted.
        self.hear(0);
        for class in 1..CLASSES {
            self.put_back_ready(class);
            let slabs = &mut self.slabs[class];
            let current = slabs.current.take();
            // The one that is kept although it has no blocks.
            let kept = slabs.partial.is_single().then(|| slabs.partial.pop());
            for slab in [current, kept.flatten()].into_iter().flatten() {
                if slab.is_empty(Self::words(class)) {
                    local::give_up(slab);
                } else {
                    self.shelve(slab, class);
                }
            }
        }
    }

    /// Makes the blocks free that the bin had ready.
    fn put_back_ready(&mut self, class: usize) {
        let bin = &mut self.bins[class];
        let free = core::mem::take(&mut bin.free);
        bin.held = 0;
        if let Some(slab) = self.slabs[class].current
            && free != 0
        {
            let word = bin.word & 63;
            let allocated = slab.allocated(word as usize);
            allocated.store(allocated.load(Relaxed) & !free, Relaxed);
            let summary = &slab.descriptor().summary;
            summary.store(summary.load(Relaxed) | 1 << word, Relaxed);
        }
        self.clear_front(class);
    }

    fn abandon_all(&mut self, class: usize) {
        loop {
            let slabs = &mut self.slabs[class];
            let slab = slabs.current.take();
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
    let order = if planted!("leave.abandons_relaxed") {
        Relaxed
    } else {
        Release
    };
    if planted!("leave.stacks_before_it_abandons") {
        left::push(slab, class);
    }
    // Release pairs with whoever adopts it.
    let owner = &slab.descriptor().owner;
    owner.store(Owner::abandoned(class).0, order);
    if planted!("leave.abandons_before_it_unlinks") {
        let none = Membership::None as u32;
        slab.descriptor().list.store(none, Relaxed);
    }
    if !planted!("leave.stacks_before_it_abandons") {
        left::push(slab, class);
    }
}

/// Leaves all slabs of slots that are not `kept` to whoever needs them, and makes what is known of
/// the chunks anew. Only in a child, which has one thread.
///
/// The kept heaps have forgotten what they were told: [`Heap::forget_mail`].
///
/// `held(slot, class, word)` are the blocks of that word that the slot had not given out.
pub(crate) fn recover_after_fork(
    kept: impl Fn(usize) -> bool,
    held: impl Fn(usize, usize, usize) -> u64,
) {
    // Mail is made anew as well: who was about to post a slab is gone.
    for index in slot::taken() {
        slot::slot(index).take_all().for_each(drop);
    }
    WINDOW.make_anew(|slab| {
        let owner = slab.owner();
        match (owner.kind(), owner.slot()) {
            (Kind::Slab(class), Some(slot)) if kept(slot) => post_again(slab, class, slot),
            (Kind::Slab(class), Some(slot)) => {
                make_whole(slab, class, |word| held(slot, class, word));
                slab.descriptor()
                    .owner
                    .store(Owner::abandoned(class).0, Release);
            }
            (Kind::Slab(class), None) => make_whole(slab, class, |_| 0),
            _ => {}
        }
    });
    for index in slot::taken().filter(|&index| !kept(index)) {
        let is_closed = slot::slot(index).close();
        debug_assert!(is_closed);
        slot::give_back(index);
    }
}

/// Has the owner of a slab look at it where others freed blocks of it.
fn post_again(slab: Frame, class: usize, slot: usize) {
    let is_told = (0..Heap::words(class)).any(|word| slab.remote(word).load(Acquire) != 0);
    slab.queue().queued.store(u32::from(is_told), Relaxed);
    if is_told {
        let is_posted = slot::slot(slot).push(slab);
        debug_assert!(is_posted);
    }
}

/// Makes what is known of a slab anew from its bitmaps, whose owner is gone.
fn make_whole(slab: Frame, class: usize, held: impl Fn(usize) -> u64) {
    let opened = slab.descriptor().opened.load(Relaxed) as usize;
    let mut summary = 0;
    for word in 0..Heap::words(class) {
        let (allocated, remote) = (slab.allocated(word), slab.remote(word));
        let freed = remote.load(Acquire);
        let address = core::ptr::from_ref(allocated).addr();
        let taken = allocated.load(Relaxed) & !freed & !held(address);
        allocated.store(taken, Relaxed);
        remote.fetch_and(!freed, AcqRel);
        summary |= u64::from(!taken & among(opened, word) != 0) << word;
    }
    let descriptor = slab.descriptor();
    descriptor.summary.store(summary, Relaxed);
    descriptor.list.store(Membership::None as u32, Relaxed);
    slab.queue().queued.store(0, Relaxed);
}
