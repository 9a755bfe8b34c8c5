//! The slots of threads, and the mailboxes in which others post slabs to them.
//!
//! # Protocol
//! Whoever frees a block of a slab that it does not own sets a bit in the slab and then sees to it
//! that the owner looks: it sets `queued` of the slab, and where that was not set before, pushes
//! the slab into the mailbox of the slot that the owner word names. The owner takes all that is in
//! its mailbox at once; of each it first clears `queued`, then reads the bits.
//!
//! 1. *No bit is overlooked.* Both change `queued` by a swap. If the freer's swap comes first, the
//!    owner's reads from it or a later one of the same kind, and sees the bit. If it comes later,
//!    the freer finds it clear and posts the slab once more.
//! 2. *A slab is in one mailbox at most*: only who set `queued` from clear pushes it.
//! 3. *A mailbox that nobody empties takes nothing.* A thread that ends closes its mailbox while it
//!    is empty, after it has given up all its slabs, and owns none from then on. Whoever finds it
//!    closed sees that, and reads the owner word again: once, and not until something happens.
//! 4. A thread that finds a slab in its mailbox that it does not own (the slot had another thread
//!    when the owner word was read) posts it again.
//! 5. *Whoever cannot post looks itself.* Who set `queued` and finds that the slab is its own by
//!    now, or that there is no slab, clears it, and then looks as an owner does by 1: others that
//!    found it set meanwhile rely on that. There may be another slab by then.

use pool_core::planted;
use pool_core::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::bits;
use crate::frame::Frame;
use crate::owner::MAX_SLOTS;

/// What a mailbox holds that is closed. No descriptor has this address.
const CLOSED: u64 = 1;

/// What others see of the thread that has a slot.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// The slab that was posted last; 0 is none.
    mailbox: AtomicU64,
    /// Which of the threads that had the slot it is.
    generation: AtomicU32,
    /// Where its heap is, once it has had one.
    pub(crate) heap: AtomicUsize,
}

#[cfg(not(loom))]
static TAKEN: [AtomicU64; MAX_SLOTS / 64] = [const { AtomicU64::new(0) }; MAX_SLOTS / 64];
#[cfg(not(loom))]
static SLOTS: [Slot; MAX_SLOTS] = [const { Slot::new() }; MAX_SLOTS];
#[cfg(loom)]
pool_core::sync::lazy_static! {
    // The slots that there are not are taken.
    static ref TAKEN: [AtomicU64; 1] = [AtomicU64::new(u64::MAX << MAX_SLOTS)];
    static ref SLOTS: [Slot; MAX_SLOTS] = core::array::from_fn(|_| Slot::new());
}

/// Takes a slot: its number, and which of its threads this is.
pub(crate) fn take() -> Option<(usize, u32)> {
    loop {
        let index = bits::find_one(&TAKEN[..], |_| u64::MAX)?;
        if bits::reserve(&TAKEN[..], &(index..index + 1)) {
            let generation = SLOTS[index].generation.fetch_add(1, Relaxed);
            SLOTS[index].mailbox.store(0, Release);
            return Some((index, generation));
        }
    }
}

/// Gives a slot back whose mailbox is closed.
pub(crate) fn give_back(index: usize) {
    bits::clear(&TAKEN[..], &(index..index + 1));
}

/// The slots that threads have.
pub(crate) fn taken() -> impl Iterator<Item = usize> {
    TAKEN
        .iter()
        .enumerate()
        .flat_map(|(index, word)| bits::ones(word.load(Relaxed)).map(move |bit| index * 64 + bit))
}

pub(crate) fn slot(index: usize) -> &'static Slot {
    &SLOTS[index % MAX_SLOTS]
}

impl Slot {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self {
            mailbox: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            heap: AtomicUsize::new(0),
        }
    }

    #[cfg(loom)]
    fn new() -> Self {
        Self {
            mailbox: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            heap: AtomicUsize::new(0),
        }
    }

    /// Posts a slab; false where the mailbox is closed.
    #[must_use]
    pub(crate) fn push(&self, slab: Frame) -> bool {
        // Most often nothing was posted since the owner last looked.
        let mut head = 0;
        loop {
            if head == CLOSED {
                return false;
            }
            slab.queue().next.store(head, Relaxed);
            // Release pairs with `take_all`: the owner sees `next`. Acquire pairs with `close`.
            match self
                .mailbox
                .compare_exchange_weak(head, slab.address(), Release, Acquire)
            {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Whether anything was posted.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.mailbox.load(Relaxed) != 0
    }

    /// Takes all that was posted.
    pub(crate) fn take_all(&self) -> Posted {
        Posted(self.mailbox.swap(0, Acquire))
    }

    /// Lets nothing more be posted, unless something was.
    ///
    /// Release pairs with `push`: whoever finds it closed sees who has the slab now.
    #[must_use]
    pub(crate) fn close(&self) -> bool {
        self.mailbox
            .compare_exchange(0, CLOSED, AcqRel, Relaxed)
            .is_ok()
    }
}

/// Slabs that were posted, the last one first.
#[derive(Debug, Default)]
pub(crate) struct Posted(u64);

impl Posted {
    pub(crate) fn is_empty(&self) -> bool {
        self.0 == 0 || self.0 == CLOSED
    }
}

impl Iterator for Posted {
    type Item = Frame;

    /// The next one. It may be posted again from now on.
    fn next(&mut self) -> Option<Frame> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: mailboxes hold addresses of descriptors of slabs, 0 and CLOSED.
        let slab = unsafe { Frame::from_list(self.0) }?;
        self.0 = slab.queue().next.load(Relaxed);
        // Acquire and release: rule 1 of the module.
        if planted!("mailbox.clears_by_a_store") {
            slab.queue().queued.store(0, Release);
        } else if !planted!("mailbox.clears_after_the_look") {
            slab.queue().queued.swap(0, AcqRel);
        }
        Some(slab)
    }
}
