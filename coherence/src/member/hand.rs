//! Handing a unit that is held for writing to another member, without its being free in between.
//!
//! # Protocol
//! The giver
//! 1. publishes what it wrote, as for a release;
//! 2. notes in `handed` who is to have the unit, and by which epoch;
//! 3. makes the receiver the holder, with that epoch;
//! 4. looks whether the receiver lives. The daemon takes back what a dead member holds *after* it
//!    has declared it dead. So either the giver sees the death, or the daemon sees what was given.
//!    Where it sees the death it puts a note that nobody takes in the place of its own, and then
//!    takes the unit back.
//!
//! The receiver sees the word name it, with the epoch of the note, takes the note away, and looks
//! at the word once more. Only then are the contents its.
//!
//! ```text
//! handed: bit 63..38 epoch    37..33 slot    32..1 era, lowest 32 bits    0 there is a note
//! ```
//!
//! # Why each case is safe
//! - The note is taken away by one compare-exchange, so one of these has the unit: one thread of
//!   the receiver, or the giver that takes it back. Until the giver has it there is a note, so that
//!   a daemon that fences the unit in between keeps the contents, which nobody has touched.
//! - A giver that was fenced between 2 and 3 leaves a note of an epoch that nobody is ever granted:
//!   the fence used it up. What it notes late is written over by the next giver, which notes by
//!   compare-exchange from what it found while it was the holder.
//! - A receiver that dies and is recovered before 3, and a giver that dies before 4: the recovery
//!   of the giver finds a note of this epoch whose receiver does not live, and fences the unit.
//! - A receiver that dies before it took the note has touched nothing: the daemon finds the note,
//!   and the contents are those that the giver published. One that took it is a writer that died.
//! - A member that comes to the slot of a dead one has another era, and takes no note of its.
//! - A holder of which the daemon knows that it never had the contents is noted by it before it is
//!   fenced, as if it had not taken them ([`note_without_contents`]): by compare-exchange from what
//!   was found while it was the holder, and not where it is handing the unit over, so no note of a
//!   giver is written over.

use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use pool_core::sync::atomic::fence;
use pool_core::{clock::Deadline, crash_point, planted};

use super::Member;
use crate::base;
use crate::error::LeaseError;
use crate::grant::{Grant, granted, stands};
use crate::own::{CorruptWord, Epoch, Own, Refused, State};
use crate::publish::publish;
use crate::slot::Slot;
use crate::wait::Wait;
use crate::word::{exchange, judged, refusal};

const THERE: u64 = 1;
const ERA_SHIFT: u32 = 1;
const SLOT_SHIFT: u32 = 33;
const EPOCH_SHIFT: u32 = 38;
const NOTHING: u64 = 0;

/// A member that can be handed a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receiver {
    /// Where it is.
    pub slot: Slot,
    /// Which of the members that were there it is.
    pub era: u64,
}

/// A unit was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotHanded {
    /// The receiver is no member any more. The unit is held as before, by this grant; what was
    /// written is published.
    #[error("the receiver is no member of the domain any more")]
    Gone(Grant),
    /// The unit is not held any more.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// The note for `to` under `epoch`.
fn note(epoch: Epoch, to: Receiver) -> u64 {
    let era = to.era & u64::from(u32::MAX);
    u64::from(epoch.number()) << EPOCH_SHIFT
        | u64::from(to.slot.index()) << SLOT_SHIFT
        | era << ERA_SHIFT
        | THERE
}

/// Whether whoever was handed the unit under `epoch` has not taken it.
pub(crate) fn is_untaken(line: &Descriptor, epoch: Epoch) -> bool {
    // Acquire pairs with the change in `take_note`: a note that is gone was gone before the fence,
    // or its receiver finds the fence.
    let handed = line.handed.load(Acquire);
    handed & THERE != 0 && handed >> EPOCH_SHIFT == u64::from(epoch.number())
}

/// Leaves a note that nobody takes for the holder at `slot`, which never had the contents: whoever
/// finds the unit fenced, if only a later life of the daemon, finds that they are as they were
/// published. Not for one that writes anew what was lost: there are no contents. False where the
/// note was changed by somebody else meanwhile: try again.
pub(crate) fn note_without_contents(line: &Descriptor, slot: Slot) -> Result<bool, CorruptWord> {
    // Acquire, as in `leave_note`.
    let before = line.handed.load(Acquire);
    let own = judged(line)?;
    let noted = line.base.load(Relaxed);
    let restores = base::is_lost(noted) && base::epoch(noted) == own.epoch();
    if own.state() != State::Exclusive || !own.is_held_by(slot) || restores {
        return Ok(true);
    }
    let of = before >> EPOCH_SHIFT;
    let [now, next] = [own.epoch(), own.epoch().after()].map(|epoch| u64::from(epoch.number()));
    if before & THERE != 0 && (of == now || of == next) {
        return Ok(true);
    }
    let daemon = Receiver {
        slot: Slot::DAEMON,
        era: 0,
    };
    let kept = note(own.epoch(), daemon);
    if planted!("hand.notes_over_the_giver") {
        line.handed.store(kept, Release);
        return Ok(true);
    }
    let left = line.handed.compare_exchange(before, kept, AcqRel, Relaxed);
    Ok(left.is_ok())
}

/// Whether a unit that is exclusive by `own` is nobody's for good: it was handed to a member that
/// does not live, or is being taken back from one, by a giver that may be dead as well. `lives`
/// says whether a member does, by its slot and the lowest 32 bits of its era.
pub(crate) fn is_stranded(
    line: &Descriptor,
    own: Own,
    lives: impl FnOnce(Slot, u32) -> bool,
) -> bool {
    // Acquire, as in `is_untaken`. The word was read before: a note of its epoch is none of before.
    let handed = line.handed.load(Acquire);
    if handed & THERE == 0 || handed >> EPOCH_SHIFT != u64::from(own.epoch().number()) {
        return false;
    }
    let [_, _, _, _, slot, ..] = (handed >> SLOT_SHIFT << 32).to_le_bytes();
    let slot = Slot::new(slot & (Slot::COUNT - 1));
    let era = u32::try_from(handed >> ERA_SHIFT & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    !slot.is_some_and(|slot| own.is_held_by(slot) && lives(slot, era))
}

/// Takes the note away. False where somebody has.
fn take_note(line: &Descriptor, note: u64) -> bool {
    if planted!("hand.takes_twice") && line.handed.load(Acquire) == note {
        line.handed.store(NOTHING, Release);
        return true;
    }
    let taken = line.handed.compare_exchange(note, NOTHING, AcqRel, Relaxed);
    taken.is_ok()
}

impl<W: Wait> Member<W> {
    /// Hands a unit that was leased for writing to `to`, and returns the version that it has.
    /// Where `changed`, the caller has written back what it wrote. `lives` says whether `to` is a
    /// member: by what the daemon wrote, not by what was heard before.
    ///
    /// The receiver has it once it asks for it; whoever else wants it waits until the receiver has
    /// let go. One that never asks keeps it until it leaves the domain.
    ///
    /// # Errors
    /// [`NotHanded`].
    pub fn hand_over(
        &self,
        line: &Descriptor,
        grant: &Grant,
        changed: bool,
        to: Receiver,
        lives: impl Fn() -> bool,
    ) -> Result<u64, NotHanded> {
        if !lives() {
            return Err(NotHanded::Gone(*grant));
        }
        let version = publish(line, self.slot, grant, changed)?;
        let grant = Grant { version, ..*grant };
        let given = note(grant.epoch().after(), to);
        self.leave_note(line, &grant, given)?;
        crash_point!("hand.noted");
        let hand = |own: Own| own.hand_over(self.slot, grant.epoch(), to.slot);
        let handed = self.give_back(line, &grant, hand);
        if let Err(error) = handed {
            // Nobody can take it. Where it is gone another giver has left one.
            let _ = take_note(line, given);
            return Err(error.into());
        }
        crash_point!("hand.given");
        // Pairs with the fence after the daemon's word that the receiver is dead: of the two who
        // each wrote one word and then read the other's, at least one sees what was written.
        fence(SeqCst);
        if lives() || planted!("hand.without_second_look") {
            return Ok(version);
        }
        self.take_back(line, &grant, to, given)
    }

    /// Notes who is to have the unit.
    fn leave_note(&self, line: &Descriptor, grant: &Grant, given: u64) -> Result<(), LeaseError> {
        loop {
            // Acquire pairs with the change that left it: the word that is read next is not older,
            // so a holder that was fenced writes over no later note.
            let before = line.handed.load(Acquire);
            if !judged(line)?.is_exclusive_of(self.slot, grant.epoch()) {
                return Err(LeaseError::Revoked);
            }
            let left = line.handed.compare_exchange(before, given, AcqRel, Relaxed);
            if left.is_ok() {
                return Ok(());
            }
        }
    }

    /// Takes a unit back whose receiver is dead, unless it took it before it died.
    fn take_back(
        &self,
        line: &Descriptor,
        grant: &Grant,
        to: Receiver,
        given: u64,
    ) -> Result<u64, NotHanded> {
        let (slot, epoch) = (self.slot, grant.epoch().after());
        // In the place of the receiver's, a note that nobody takes: should the daemon fence the
        // unit before this member has it, it finds that the contents are as they were published.
        let kept = note(epoch, Receiver { slot, ..to });
        let kept = if planted!("hand.takes_the_note_first") {
            NOTHING
        } else {
            kept
        };
        let taken = line.handed.compare_exchange(given, kept, AcqRel, Relaxed);
        if taken.is_err() {
            return Ok(grant.version);
        }
        loop {
            let own = judged(line).map_err(LeaseError::from)?;
            let mine = own
                .hand_over(to.slot, epoch, slot)
                .map_err(|refused| refusal(refused, line))?;
            if exchange(line, own, mine) {
                // Of an epoch that has passed: it is of no use to anybody, and does no harm.
                let _ = take_note(line, kept);
                self.after_release(line, own, mine);
                let grant = granted(line, mine);
                self.check_exclusive(line, &grant)?;
                return Err(NotHanded::Gone(grant));
            }
        }
    }

    /// Takes a unit that another member has handed to this one, which is here since `era`, now or
    /// not at all.
    ///
    /// # Errors
    /// [`LeaseError::Busy`] where it was not handed over yet; [`LeaseError`].
    pub fn try_receive(&self, line: &Descriptor, era: u64) -> Result<Grant, LeaseError> {
        let own = judged(line)?;
        self.take_handed(line, own, era)
    }

    /// Takes a unit that another member hands to this one, waiting for it until `until`.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn receive(
        &self,
        line: &Descriptor,
        era: u64,
        until: Deadline,
    ) -> Result<Grant, LeaseError> {
        loop {
            let own = judged(line)?;
            let refused = match self.take_handed(line, own, era) {
                Err(LeaseError::Busy(refused)) => refused,
                done => return done,
            };
            if until.expired() {
                return Err(LeaseError::TimedOut(refused));
            }
            // Whether it could say so or not, it looks again.
            let _ = self.sleep(line, own, own.awaited(), until);
        }
    }

    /// Takes what was handed, where the word was `own`.
    fn take_handed(&self, line: &Descriptor, own: Own, era: u64) -> Result<Grant, LeaseError> {
        match own.state() {
            State::Lost | State::Retired => return Err(refusal(own.refusal(), line)),
            State::Exclusive if own.is_held_by(self.slot) => {}
            _ => return Err(LeaseError::Busy(Refused::Held)),
        }
        let to = Receiver {
            slot: self.slot,
            era,
        };
        // The word was read by an acquire, and named this member after the note was left.
        if !take_note(line, note(own.epoch(), to)) {
            return Err(LeaseError::Busy(Refused::HeldHere));
        }
        crash_point!("hand.taken");
        let grant = granted(line, own);
        // Fenced meanwhile, the daemon may have found the note and taken the contents for whole;
        // and the place that was read may be the one of others, as in `take`.
        self.check_exclusive(line, &grant)?;
        // Of a unit that is handed on and on the note is renewed here, and nowhere else.
        stands(line, &grant)
            .then_some(grant)
            .ok_or(LeaseError::Revoked)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
