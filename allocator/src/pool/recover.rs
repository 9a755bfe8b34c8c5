//! What becomes of the slots of threads that died.
//!
//! Whoever wants to recover a slot claims it first, by its member and era; a claim of somebody
//! dead is taken over. Then it brings the intent of the slot to an end, goes through the owner
//! words of all frames, and makes good what it finds of the slot. Then the slot is free. Each step
//! may be the last one of whoever recovers: what is done is found done by the next, which goes
//! through all of it once more. Nobody waits meanwhile: those that live have slots of their own.
//!
//! The intent comes first. A block that it retires is spared by whoever owns it until the intent
//! is cleared, and one that it links is in a slab that nobody else has before it is left to
//! others.

use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::sync::lock;
use pool_core::{crash_point, planted};

use super::cell;
use super::control::{Control, MEMBERS, SLOTS, Slot};
use super::frames::{self, Seen};
use super::local::Local;
use super::process::Process;
use super::slabs::{among, leave, summary_of, words};
use crate::frame::Frame;
use crate::owner::{Kind, Owner};
use crate::size_class::slab_blocks;

/// A claim: the era above the member.
const MEMBER_BITS: u32 = 6;

impl Process {
    /// Recovers the slots of all that died, and says how many.
    ///
    /// Slots that somebody else recovers, or that cannot be recovered because a chunk cannot be
    /// mapped, are left as they are.
    pub(crate) fn recover_dead(&self) -> usize {
        let slots = (1..MEMBERS).flat_map(|member| self.control.taken(member));
        let claimed: Vec<usize> = slots.filter(|&index| self.claim_dead(index)).collect();
        self.recover_claimed(&claimed)
    }

    /// Recovers a slot, if its owner is dead and nobody else does.
    #[cfg(loom)]
    pub(super) fn recover(&self, index: usize) -> bool {
        self.claim_dead(index) && self.recover_claimed(&[index]) == 1
    }

    /// Claims the recovery of a slot whose owner is dead.
    fn claim_dead(&self, index: usize) -> bool {
        let (member, ..) = Control::place_of(index);
        let Some(slot) = self.control.slot(index) else {
            return false;
        };
        let era = slot.era.load(Acquire);
        if era == 0 || self.ground.lives(member, era) || !self.claim_slot(slot) {
            return false;
        }
        crash_point!("heap.recovery_claimed");
        // Somebody may have been faster, and have gone again.
        let is_still = slot.era.load(Acquire) == era;
        if !is_still {
            slot.helped.recoverer.store(0, Release);
        }
        is_still
    }

    /// Recovers slots that were claimed, all of them in one pass, and says how many.
    fn recover_claimed(&self, slots: &[usize]) -> usize {
        if slots.is_empty() {
            return 0;
        }
        let is_ready = self.refresh().is_ok();
        let mut recovered = 0;
        let good = if is_ready {
            self.make_good(slots)
        } else {
            Vec::new()
        };
        for &index in slots {
            let Some(slot) = self.control.slot(index) else {
                continue;
            };
            if good.contains(&index) {
                recovered += 1;
                self.control.recovered.fetch_add(1, Relaxed);
                if planted!("recover.lets_go_of_the_claim_early") {
                    slot.helped.recoverer.store(0, Release);
                }
                self.free_slot(index);
            }
            // Release pairs with `claim_slot`: whoever claims it next finds the era gone. Not
            // before it is: somebody would recover the slot while another thread takes it.
            slot.helped.recoverer.store(0, Release);
        }
        recovered
    }

    /// Claims the recovery of a slot.
    fn claim_slot(&self, slot: &Slot) -> bool {
        let recoverer = &slot.helped.recoverer;
        let own = self.claim_word();
        let now = recoverer.load(Acquire);
        let member = usize::try_from(now & ((1 << MEMBER_BITS) - 1)).unwrap_or(0);
        if now == own || (now != 0 && self.ground.lives(member, now >> MEMBER_BITS)) {
            return false;
        }
        if planted!("recover.claims_by_a_store") {
            recoverer.store(own, Release);
            return true;
        }
        recoverer
            .compare_exchange(now, own, AcqRel, Relaxed)
            .is_ok()
    }

    fn claim_word(&self) -> u64 {
        self.era << MEMBER_BITS | self.member as u64
    }

    /// Frees what slots had not published, and leaves the rest to others. Those of which that is
    /// done: all but those whose intents cannot be brought to an end yet.
    pub(super) fn make_good(&self, slots: &[usize]) -> Vec<usize> {
        let _scan = self.chunks.scan();
        let roll = |&index: &usize| {
            let slot = self.control.slot(index);
            slot.is_none_or(|slot| cell::roll(self, index, slot))
        };
        let sweeps_first = planted!("recover.sweeps_before_it_rolls");
        let all = slots.iter().copied();
        let good: Vec<usize> = all.filter(|index| sweeps_first || roll(index)).collect();
        let mut is_one = vec![false; SLOTS];
        for &index in &good {
            if let Some(is_one) = is_one.get_mut(index) {
                *is_one = true;
            }
        }
        for frame in self.chunks.all().flat_map(Seen::frames) {
            match frame.owner().slot() {
                Some(index) if is_one.get(index) == Some(&true) => {
                    self.make_frame_good(frame, index);
                }
                Some(_) => {}
                None => frames::mend(frame),
            }
        }
        if sweeps_first {
            return good.into_iter().filter(|index| roll(index)).collect();
        }
        good
    }

    fn make_frame_good(&self, frame: Frame, index: usize) {
        // The word of the dead one: whoever goes on after a death finds it as well.
        let freeing = Owner::heap(index, 0).freeing();
        match frame.owner().kind() {
            Kind::Slab(class) => self.sweep(frame, class, freeing),
            Kind::PendingRun => {
                frame.descriptor().owner.store(freeing.0, Release);
                self.control.recovered_blocks.fetch_add(1, Relaxed);
                frames::release(frame);
            }
            Kind::Between if !planted!("recover.leaves_what_is_between") => frames::release(frame),
            _ => {}
        }
    }

    /// Frees the blocks of a slab that were not published, and those that others freed, and leaves
    /// the slab to others.
    fn sweep(&self, slab: Frame, class: usize, freeing: Owner) {
        for word in 0..words(class) {
            let (allocated, pending) = (slab.allocated(word), slab.pending(word));
            let taken = allocated.load(Acquire) & among(slab_blocks(class), word);
            let marks = pending.load(Relaxed);
            if planted!("recover.unmarks_before_it_frees") {
                pending.store(0, Release);
                crash_point!("heap.swept_word");
            }
            allocated.store(taken & !marks, Release);
            crash_point!("heap.swept_word");
            pending.store(0, Release);
            let freed = u64::from((taken & marks).count_ones());
            self.control.recovered_blocks.fetch_add(freed, Relaxed);
        }
        self.drain_swept(slab, class);
        let summary = summary_of(slab, class);
        slab.descriptor().summary.store(summary, Relaxed);
        if slab.is_empty(words(class)) {
            slab.descriptor().owner.store(freeing.0, Release);
            crash_point!("heap.slab_freeing");
            frames::release(slab);
        } else {
            leave(slab, class);
        }
    }

    /// Frees what others freed of a slab whose owner is dead.
    fn drain_swept(&self, slab: Frame, class: usize) {
        let mut freed = [0; 64];
        for (word, freed) in freed.iter_mut().enumerate().take(words(class)) {
            *freed = slab.remote(word).load(Acquire);
        }
        // What is spared stays told, for whoever adopts the slab.
        cell::spare_in_flight(self.control, slab, class, &mut freed);
        for (word, &freed) in freed.iter().enumerate().take(words(class)) {
            let allocated = slab.allocated(word);
            allocated.store(allocated.load(Relaxed) & !freed, Release);
            crash_point!("heap.drained");
            slab.remote(word).fetch_and(!freed, AcqRel);
        }
    }

    /// Frees the slabs that nobody owns and of which others freed all blocks.
    pub(super) fn collect(&self) {
        let is_told = |frame: &Frame, class| {
            let left =
                |word| frame.allocated(word).load(Acquire) & !frame.remote(word).load(Acquire);
            (0..words(class)).all(|word| left(word) == 0)
        };
        let mut told = Vec::new();
        let scan = self.chunks.scan();
        for frame in self.chunks.all().flat_map(Seen::frames) {
            let owner = frame.owner();
            if let (Kind::Slab(class), true) = (owner.kind(), owner.is_abandoned())
                && is_told(&frame, class)
            {
                told.push((frame, class));
            }
        }
        // Where no slot is free the slabs stay as they are, which loses nothing.
        if !told.is_empty()
            && let Ok((slot, owner)) = self.take_slot()
        {
            let mut heap = Local::new(slot, owner, None);
            for (slab, class) in told {
                heap.adopt(self, slab, class);
            }
            drop(scan);
            heap.end(self);
        }
    }

    /// Has the slabs of threads of this process that ended be everybody's, as far as all of their
    /// blocks are published by now.
    pub(super) fn tend_keeper(&self) {
        if let Ok(mut keeper) = self.keeper.try_lock()
            && let Some(keeper) = keeper.as_mut()
        {
            keeper.leave_published(self);
        }
    }
}

impl Drop for Process {
    /// What no thread published is freed: there is none any more that could.
    fn drop(&mut self) {
        // First: in a child the lock may be held for ever.
        if self.is_forked() {
            return;
        }
        let keeper = lock(&self.keeper).take();
        if let Some(keeper) = keeper {
            self.make_good(&[keeper.slot]);
            self.free_slot(keeper.slot);
        }
    }
}
