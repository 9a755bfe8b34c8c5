//! What the daemon does to each unit of a domain in a pass that takes back what is held in some
//! slots: those of members that are gone, and, after an eviction, those of the evicted and its own.
//!
//! # Protocol, unit by unit
//! 1. Where the contents have moved their new place is said.
//! 2. What each of the slots holds is taken away, by [`recover`].
//! 3. What was found fenced is judged, by [`settle`]; beside an eviction only what is known to be
//!    lost is said to be.
//! 4. Whoever sleeps is woken, by [`rouse`].
//!
//! What a member holds that was evicted earlier is noted to be as it was published, before it is
//! taken away: of a fenced unit it cannot be seen who held it, and that this one had nothing of it.
//!
//! # Invariants
//! 1. The place is said before anything is given back: whoever is granted the unit next finds it
//!    with the grant, and writes where the contents are by now.
//! 2. Beside an eviction, from the fencing of what the evicted write to the copy, no unit that was
//!    found fenced is judged by its contents: its writer may be one of the evicted, live, and store
//!    to where they still are. The pass after the copy judges what is in the copy. What this very
//!    pass takes from a slot is judged at once, beside an eviction as well: nobody lives who had
//!    that slot and has the contents mapped, and from the slots of the evicted nothing is taken
//!    before the copy.
//! 3. A unit that was lost and is set aside has nothing to be judged, so it is lost again, and may
//!    be restored, whenever the daemon gives its own holds back.
//!
//! # Why the daemon may die between any two steps
//! The pass is begun anew, with the first unit. Each step does nothing where it was done, and none
//! is left out because of one that was: that the new place is said already says nothing of whether
//! the holds were given back.

use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_core::{crash_point, planted};

use crate::member::hand;
use crate::recover::{
    Fenced, RecoverError, Recovered, TRIES_MAX, Verdict, is_decided, recover, rouse, settle,
};
use crate::slot::{Slot, Slots};
use crate::wait::Wait;
use crate::word::judged;

/// A pass over all units of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// The slots in which what is held is taken back: a bit each. With the daemon's own where the
    /// contents have moved.
    pub slots: u32,
    /// Of these, those of members that were evicted, and never had the contents where they are now.
    pub cut_off: u32,
    /// Where the contents have moved: the incarnation of the memory in which they are by now.
    pub moved: Option<u64>,
    /// Units that are found fenced are judged. False beside an eviction.
    pub settles: bool,
    /// Whoever had the slots has left in order, and nothing of before is unfinished: nobody died
    /// between a change of a word and the waking of those who sleep. So who sleeps has said so in
    /// the word, and the system call is spared where nobody has: with it, 8,192 units that nobody
    /// holds take 3 times as long.
    pub in_order: bool,
}

impl Pass {
    /// Goes on with the unit whose descriptor is `line`. `judge` says what the contents of a fenced
    /// unit are; it is told whose hold was found, or none where the unit was found fenced. `tell`
    /// is told what became of the unit, for each hold.
    ///
    /// # Errors
    /// [`RecoverError`]; what was done so far stands, and is taken up by the next pass.
    pub fn go_on<W: Wait>(
        &self,
        line: &Descriptor,
        wait: &W,
        mut judge: impl FnMut(Option<Slot>, Fenced) -> Verdict,
        mut tell: impl FnMut(Option<Slot>, Recovered),
    ) -> Result<(), RecoverError> {
        if planted!("pass.skips_what_is_placed") && self.is_placed(line) {
            return Ok(());
        }
        let late = planted!("pass.places_after_giving_back");
        if !late {
            self.place(line);
        }
        let held = judged(line)?.holders() & self.slots;
        let some = planted!("pass.takes_from_one_holder");
        let count = if some { 1 } else { usize::MAX };
        for slot in Slots::from_bits(held).iter().take(count) {
            if self.cut_off & slot.bit() != 0 {
                note_without_contents(line, slot)?;
            }
            let done = recover(line, slot, wait, |fenced| judge(Some(slot), fenced))?;
            tell(Some(slot), done);
        }
        if late {
            self.place(line);
        }
        let settles = self.settles || planted!("evict.judges_before_the_copy");
        if settles || is_decided(line)? && !planted!("pass.keeps_what_is_set_aside") {
            tell(None, settle(line, wait, |fenced| judge(None, fenced))?);
        }
        let own = judged(line)?;
        if self.in_order && !own.has_waiters() && !own.is_recalled() {
            return Ok(());
        }
        rouse(line, wait)
    }

    fn place(&self, line: &Descriptor) {
        if let Some(incarnation) = self.moved {
            // Release pairs with the acquire of a grant.
            line.backing.store(incarnation, Release);
            crash_point!("evict.unit_placed");
        }
    }

    /// Whether the place of the unit is said.
    fn is_placed(&self, line: &Descriptor) -> bool {
        let place = line.backing.load(Acquire);
        self.moved == Some(place)
    }
}

/// [`hand::note_without_contents`], as often as it takes.
fn note_without_contents(line: &Descriptor, slot: Slot) -> Result<(), RecoverError> {
    if planted!("pass.forgets_who_was_cut_off") {
        return Ok(());
    }
    for _ in 0..TRIES_MAX {
        if hand::note_without_contents(line, slot)? {
            return Ok(());
        }
    }
    Err(RecoverError::Contended)
}
