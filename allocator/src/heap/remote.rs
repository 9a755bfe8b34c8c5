//! Freeing a block of a slab that another heap owns, and hearing of what others freed.
//!
//! See [`crate::slot`] for the protocol between those two. Here is what comes before it: frees of
//! blocks of the same word are gathered, so that one atomic operation tells of up to 64 of them.
//! One word of each class may be gathered, of blocks of up to [`GATHERED_BYTES`]; it is told when
//! another word comes, and when the heap next lacks blocks of that class.

use pool_core::planted;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::frame::Frame;
use crate::heap::{Heap, local};
use crate::list::{self, Membership};
use crate::options;
use crate::owner::{Kind, Owner};
use crate::report::{Misuse, misuse};
use crate::slot;

/// Larger blocks are told of at once: they are worth it.
const GATHERED_BYTES: u32 = 1 << 10;

/// How many slabs are looked at once: so many that mail does not pile up, and so few that nobody
/// waits for long.
const LOOKS: usize = 8;
/// At how many slabs that were posted a heap looks when it adopts one: more than come to it so.
const HEARD: usize = 2;

/// Blocks of one word that are free and were not told to their owner.
#[derive(Debug, Default)]
pub(super) struct Away {
    slab: Option<Frame>,
    word: usize,
    mask: u64,
}

impl Heap {
    /// Frees block `index` of `slab`, which is of `class` and not this heap's own.
    pub(crate) fn free_away(&mut self, slab: Frame, class: usize, index: usize, address: usize) {
        let (word, bit) = (index >> 6, 1_u64 << (index & 63));
        if slab.allocated(word).load(Relaxed) & bit == 0 {
            misuse(Misuse::DoubleFree, address);
        }
        if self.bins[class].bytes > GATHERED_BYTES || options::checks_all() {
            self.tell(slab, class, word, bit);
            return;
        }
        let away = &mut self.away[class];
        if away.slab == Some(slab) && away.word == word {
            if away.mask & bit != 0 {
                misuse(Misuse::DoubleFree, address);
            }
            away.mask |= bit;
            return;
        }
        self.tell_away(class);
        self.away[class] = Away {
            slab: Some(slab),
            word,
            mask: bit,
        };
    }

    /// Tells of what is gathered of `class`.
    #[inline]
    pub(super) fn tell_away(&mut self, class: usize) {
        let Some(away) = self.away.get_mut(class) else {
            return;
        };
        if let Some(slab) = away.slab.take() {
            let (word, mask) = (away.word, away.mask);
            self.tell(slab, class, word, mask);
        }
    }

    /// Sets the bits of freed blocks, and sees to it that the owner looks.
    fn tell(&mut self, slab: Frame, class: usize, word: usize, mask: u64) {
        let order = if planted!("remote.tells_relaxed") {
            Relaxed
        } else {
            AcqRel
        };
        // Release pairs with the owner, who gives the blocks to somebody else.
        let before = slab.remote(word).fetch_or(mask, order);
        if before & mask != 0 && !planted!("remote.tells_of_no_second_free") {
            self.refuse(slab, class, word, before & mask);
        }
        if slab.owner() == self.owner.slab(class) {
            // The slab became this heap's own in the meantime.
            self.drain(slab, class);
        } else if self.notify(slab) {
            // A heap that frees what others left, and lacks nothing, would never hear, and the
            // slabs that come to it this way would stay for ever.
            for _ in 0..HEARD {
                if let Some(slab) = self.posted() {
                    self.look_at(slab);
                }
            }
        }
    }

    /// Ends the process, for the first of `blocks` of a word was free when it was freed.
    #[cold]
    fn refuse(&self, slab: Frame, class: usize, word: usize, blocks: u64) -> ! {
        let index = word * 64 + blocks.trailing_zeros() as usize;
        let bytes = self.bins[class].bytes as usize;
        misuse(Misuse::DoubleFree, slab.start().wrapping_add(index * bytes))
    }

    /// Sees to it that whoever owns the slab looks at what others freed. Whether this heap owns it,
    /// and has looked.
    pub(super) fn notify(&mut self, slab: Frame) -> bool {
        while slab.queue().queued.swap(1, AcqRel) == 0 {
            if self.post(slab) {
                return false;
            }
            slab.queue().queued.swap(0, AcqRel);
            // Who set a bit meanwhile found it queued, and left the rest to this thread.
            let owner = slab.owner();
            match owner.kind() {
                _ if planted!("remote.leaves_what_came_meanwhile") => return false,
                Kind::Slab(class) if owner == self.owner.slab(class) => {
                    if !planted!("refill.adopts_without_draining") {
                        self.drain(slab, class);
                    }
                    return true;
                }
                Kind::Slab(_) => {}
                _ => return false,
            }
        }
        false
    }

    /// Posts the slab to its owner. False where that is this heap now, or where there is no slab.
    fn post(&mut self, slab: Frame) -> bool {
        loop {
            // Acquire pairs with whoever adopts or abandons it.
            let owner = Owner(slab.descriptor().owner.load(Acquire));
            let Kind::Slab(class) = owner.kind() else {
                return false;
            };
            match owner.slot() {
                Some(index) if slot::slot(index).push(slab) => return true,
                Some(_) => {}
                None if owner.is_abandoned() && self.adopt(slab, class) => return false,
                None => {}
            }
        }
    }

    /// Looks at slabs that were posted: at [`LOOKS`] of them, and at more until one of `class` has
    /// blocks.
    pub(crate) fn hear(&mut self, class: usize) {
        let mut looks = 0;
        while let Some(slab) = self.posted() {
            self.look_at(slab);
            if planted!("mailbox.clears_after_the_look") {
                slab.queue().queued.swap(0, AcqRel);
            }
            looks += 1;
            if looks >= LOOKS && !self.slabs[class].partial.is_empty() {
                return;
            }
        }
    }

    /// The next slab that was posted here.
    fn posted(&mut self) -> Option<Frame> {
        if self.posted.is_empty() && self.slot().has_mail() {
            self.posted = self.slot().take_all();
        }
        self.posted.next()
    }

    /// Takes up what others freed of a slab that was posted here.
    pub(super) fn look_at(&mut self, slab: Frame) {
        let owner = slab.owner();
        // A frame that is no slab any more was posted by somebody who was late, about nothing.
        let Kind::Slab(class) = owner.kind() else {
            return;
        };
        if owner == self.owner.slab(class) {
            self.drain(slab, class);
        } else if !planted!("remote.drops_the_mail_of_others") {
            self.notify(slab);
        }
    }

    /// Makes free what others freed of a slab of this heap, which is in a list or the current one.
    ///
    /// A block is first cleared in the bitmap and then in the bits of the others: who is killed in
    /// between leaves what the next to do this does once more.
    pub(super) fn drain(&mut self, slab: Frame, class: usize) {
        let mut words = 0;
        for word in 0..Self::words(class) {
            // Acquire pairs with `tell`.
            let freed = slab.remote(word).load(Acquire);
            if freed == 0 {
                continue;
            }
            let allocated = slab.allocated(word);
            let taken = allocated.load(Relaxed);
            // What was not given out is marked as allocated while its word is held.
            let free = !taken | self.held(class, core::ptr::from_ref(allocated).addr());
            if freed & free != 0 {
                self.refuse(slab, class, word, freed & free);
            }
            if planted!("remote.drains_in_the_wrong_order") {
                slab.remote(word).fetch_and(!freed, AcqRel);
            }
            allocated.store(taken & !freed, Relaxed);
            slab.remote(word).fetch_and(!freed, AcqRel);
            words |= 1 << word;
        }
        if words == 0 {
            return;
        }
        let summary = slab.descriptor().summary.load(Relaxed) | words;
        slab.descriptor().summary.store(summary, Relaxed);
        self.settle(slab, class);
    }

    /// Tells of all that is gathered.
    pub(super) fn tell_all(&mut self) {
        for class in 1..self.away.len() {
            self.tell_away(class);
        }
    }

    /// Frees the frames of a slab of this heap that has no blocks, or gives it up as it is.
    pub(super) fn abandon(&mut self, slab: Frame, class: usize) {
        debug_assert!(list::is_in(slab, Membership::None));
        if slab.is_empty(Self::words(class)) {
            local::give_up(slab);
            return;
        }
        super::leave::let_go(slab, class);
    }
}
