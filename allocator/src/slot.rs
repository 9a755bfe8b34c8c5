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
//! 3. *A mailbox that nobody empties takes nothing.* A thread that ends closes its mailbox after
//!    it has given up all its slabs. Whoever finds it closed reads the owner word again.
//! 4. A thread that finds a slab in its mailbox that it does not own (the slot had another thread
//!    when the owner word was read) posts it again.

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

static TAKEN: [AtomicU64; MAX_SLOTS / 64] = [const { AtomicU64::new(0) }; MAX_SLOTS / 64];
static SLOTS: [Slot; MAX_SLOTS] = [const { Slot::new() }; MAX_SLOTS];

/// Takes a slot: its number, and which of its threads this is.
pub(crate) fn take() -> Option<(usize, u32)> {
    loop {
        let index = bits::find_one(&TAKEN, |_| u64::MAX)?;
        if bits::reserve(&TAKEN, &(index..index + 1)) {
            let generation = SLOTS[index].generation.fetch_add(1, Relaxed);
            SLOTS[index].mailbox.store(0, Release);
            return Some((index, generation));
        }
    }
}

/// Gives a slot back whose mailbox is closed.
pub(crate) fn give_back(index: usize) {
    bits::clear(&TAKEN, &(index..index + 1));
}

/// Whether some thread has the slot.
pub(crate) fn is_taken(index: usize) -> bool {
    bits::count(&TAKEN, &(index..index + 1)) != 0
}

pub(crate) fn slot(index: usize) -> &'static Slot {
    &SLOTS[index % MAX_SLOTS]
}

impl Slot {
    const fn new() -> Self {
        Self {
            mailbox: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            heap: AtomicUsize::new(0),
        }
    }

    /// Posts a slab; false where the mailbox is closed.
    #[must_use]
    pub(crate) fn push(&self, slab: Frame) -> bool {
        let mut head = self.mailbox.load(Relaxed);
        loop {
            if head == CLOSED {
                return false;
            }
            slab.queue().next.store(head, Relaxed);
            // Release pairs with `take_all`: the owner sees `next`.
            match self
                .mailbox
                .compare_exchange_weak(head, slab.address(), Release, Relaxed)
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

    /// Takes all that was posted, and lets nothing more be posted.
    pub(crate) fn close(&self) -> Posted {
        Posted(self.mailbox.swap(CLOSED, Acquire))
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
        slab.queue().queued.swap(0, AcqRel);
        Some(slab)
    }
}
