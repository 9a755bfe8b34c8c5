//! What the daemon does to a unit whose holder is gone: dead, or cut off.
//!
//! A reader that is gone has its bit cleared, for the contents are as they were. A writer that is
//! gone may have left half of a change, so its unit is fenced: nobody can have it until the daemon
//! has judged the contents.
//!
//! # Protocol
//! 1. The word goes from exclusive to fenced: from here on the unit is the daemon's alone, and
//!    whatever the holder still tries is refused by its epoch.
//! 2. The last version that was published is noted in `base`, under the epoch of the holder, unless
//!    the holder noted it before it raised the version.
//! 3. The version is raised, and then the note put under the epoch of the fence. Whoever has lines
//!    of the contents cached will drop them, for some may stem from the change that was cut short;
//!    and the holder, should it live, cannot raise what it was granted any more, not even where its
//!    grant was of the version after the last good one, because it restored a lost unit.
//! 4. The contents are judged, and the word goes to free or to lost. Before it goes to lost the
//!    note is put under the epoch after the fence, which will be that of whoever restores the unit:
//!    it may die before it has noted anything, and the version it was granted was never good. The
//!    note says that the contents are lost; where that member is gone as well the judge is told so.
//!
//! # Why the daemon may die between any two
//! Each step does nothing where it was done: 2 and 3 find the epoch, and 1 and 4 are a
//! compare-exchange each. Between the two stores of 3 the version is raised once more, which does
//! no harm: it has to differ, and to rise. A daemon that starts again goes through all units of the
//! domain and takes up what it finds fenced. The judgement must be the same each time: it depends
//! on what is in the memory, which nobody may write meanwhile. One that is noted to be lost stands.
//!
//! Where the contents cannot be looked at for a moment nothing is noted, and the unit stays fenced.
//!
//! Members write this memory as well, and a hostile one can change a word as often as it likes.
//! Each step is tried [`TRIES_MAX`] times.

use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::{crash_point, planted};

use crate::base;
use crate::member::hand::{is_stranded, is_untaken};
use crate::own::{CorruptWord, Epoch, Own, Refused, State};
use crate::slot::Slot;
use crate::wait::Wait;
use crate::word::{exchange, judged, wake};

/// How often a step is tried where the word changes under it. Honest members change it a few times
/// at most: each does so once before it sleeps.
pub const TRIES_MAX: u32 = 1_000;

/// What became of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// There was nothing to do.
    Untouched,
    /// A reader that is gone holds it no more.
    Cleared,
    /// It was fenced, and its contents were found good.
    Repaired,
    /// It was fenced, and its contents are lost.
    Lost {
        /// The last version that was published.
        last_good: u64,
    },
}

/// A unit could not be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// A member has overwritten the word. Withdraw the domain.
    #[error(transparent)]
    Corrupt(#[from] CorruptWord),
    /// Somebody changes the word all the time. Try again later, or withdraw the domain.
    #[error("the ownership word changed {TRIES_MAX} times while it was to be recovered")]
    Contended,
    /// The contents could not be looked at, and the unit is fenced still. Try again later.
    #[error("the contents of a fenced unit could not be looked at")]
    Undecided,
}

/// Whether the contents of a fenced unit are those that were published last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are, or are to pass for it.
    Good,
    /// They are not, or nobody knows.
    Lost,
    /// They cannot be looked at for a moment: the unit stays fenced.
    Undecided,
}

/// What is known of the contents that are to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// The last version that was published.
    pub last_good: u64,
    /// The present version, which differs from the last one that was published.
    pub present: u64,
    /// The checksum that was stored last, where the domain has checksums: see [`crate::sum`].
    pub sum: u64,
    /// It was handed to a member that had not taken it: nobody had it since it was published.
    pub is_untaken: bool,
    /// The contents were lost before, or were given up: its holder was writing all of them anew,
    /// and has published nothing. There is nothing of before that they could pass for.
    pub was_lost: bool,
}

impl Fenced {
    /// The verdict of a domain that has no checksums, and `keeps` what a writer left that is gone
    /// or not. Whoever was handed the unit and died before it took it has written nothing. What was
    /// lost before stays so: whoever wrote it anew has not published it.
    #[must_use]
    pub const fn by_terms(&self, keeps: bool) -> Verdict {
        if self.is_untaken || keeps && !self.was_lost {
            Verdict::Good
        } else {
            Verdict::Lost
        }
    }
}

/// Takes all that `slot` holds of the unit away, and finishes what an earlier recovery began.
/// `judge` says what the contents of a fenced unit are.
///
/// The holder at `slot` must not be able to change the contents that are judged: it is dead, or the
/// others have the contents in other memory by now.
///
/// # Errors
/// [`RecoverError`]; what was done so far stands, and is taken up when this is called again.
pub fn recover(
    line: &Descriptor,
    slot: Slot,
    wait: &impl Wait,
    judge: impl FnOnce(Fenced) -> Verdict,
) -> Result<Recovered, RecoverError> {
    let own = judged(line)?;
    if own.state() == State::Shared && own.is_held_by(slot) {
        crash_point!("recover.reader_found");
        change(line, wait, |own| {
            let held = own.state() == State::Shared && own.is_held_by(slot);
            held.then(|| own.release_shared(slot, own.epoch()))
        })?;
        return Ok(Recovered::Cleared);
    }
    if own.state() == State::Exclusive && own.is_held_by(slot) {
        crash_point!("recover.writer_found");
        if planted!("recover.frees_without_fence") {
            let free = |own: Own| Some(own.release_exclusive(slot, own.epoch()));
            change(line, wait, free)?;
            return Ok(Recovered::Cleared);
        }
        let fence = |own: Own| {
            let held = own.state() == State::Exclusive && own.is_held_by(slot);
            held.then(|| own.fence())
        };
        change(line, wait, fence)?;
        crash_point!("recover.fenced");
    }
    settle(line, wait, judge)
}

/// Fences a unit that was handed to a member that is gone, where its giver has not taken it back:
/// the giver may have died as well, after the slot of the receiver was recovered, and then nobody
/// would ever ask for it. [`settle`] finds the contents as they were published. A giver that lives
/// is told that the unit was taken away. For every unit of a domain one of whose members has died.
/// `lives` says whether a member does, by its slot and the lowest 32 bits of its era.
///
/// # Errors
/// [`RecoverError`].
pub fn fence_stranded(
    line: &Descriptor,
    wait: &impl Wait,
    lives: impl Fn(Slot, u32) -> bool,
) -> Result<(), RecoverError> {
    change(line, wait, |own| {
        let stranded = own.state() == State::Exclusive && is_stranded(line, own, &lives);
        stranded.then(|| own.fence())
    })
}

/// Finishes the recovery of a unit that is fenced: steps 2 to 4.
///
/// # Errors
/// [`RecoverError`], as [`recover`].
pub fn settle(
    line: &Descriptor,
    wait: &impl Wait,
    judge: impl FnOnce(Fenced) -> Verdict,
) -> Result<Recovered, RecoverError> {
    let own = judged(line)?;
    if own.state() != State::Fenced {
        return Ok(Recovered::Untouched);
    }
    let (last_good, was_lost) = raise_version(line, own.epoch());
    crash_point!("recover.version_raised");
    let verdict = if is_noted_lost(line, own.epoch()) && !planted!("recover.judges_what_was_lost") {
        Verdict::Lost
    } else {
        judge(Fenced {
            last_good,
            // Nobody raises it any more: the note is under the epoch of the fence.
            present: line.version.load(Relaxed),
            // Acquire pairs with the release of whoever stored it: what is looked at after it is
            // what it is the checksum of.
            sum: line.sum.load(Acquire),
            is_untaken: is_untaken(line, own.epoch().before()),
            was_lost,
        })
    };
    crash_point!("recover.judged");
    let note = match verdict {
        Verdict::Undecided => return Err(RecoverError::Undecided),
        Verdict::Good => base::pack(own.epoch(), last_good),
        Verdict::Lost if planted!("recover.forgets_who_restores") => {
            base::pack(own.epoch(), last_good)
        }
        // Whoever restores it has the next epoch, and may die before it has done anything.
        Verdict::Lost => base::pack_lost(own.epoch().after(), last_good),
    };
    // Swapped, as all that a late holder exchanges: it came before this, or fails.
    line.base.swap(note, Release);
    crash_point!("recover.verdict_noted");
    change(line, wait, |own| {
        let fenced = own.state() == State::Fenced;
        fenced.then(|| match verdict {
            Verdict::Good => own.repaired(),
            _ => own.lost(),
        })
    })?;
    crash_point!("recover.settled");
    Ok(match verdict {
        Verdict::Good => Recovered::Repaired,
        _ => Recovered::Lost { last_good },
    })
}

/// Whether a fenced unit has been judged to be lost, and waits for nothing but to be said so.
///
/// # Errors
/// [`RecoverError::Corrupt`].
pub fn is_decided(line: &Descriptor) -> Result<bool, RecoverError> {
    let own = judged(line)?;
    Ok(own.state() == State::Fenced && is_noted_lost(line, own.epoch()))
}

/// Whether the verdict on a unit that has been fenced since `fence` is noted to be that it is lost.
/// It stands: a lost unit that was set aside has no other contents since.
fn is_noted_lost(line: &Descriptor, fence: Epoch) -> bool {
    base::epoch(line.base.load(Relaxed)) == fence.after()
}

/// Steps 2 and 3, for a unit that is to be settled later: what follows may change where the
/// contents are.
pub(crate) fn note_fence(line: &Descriptor, fence: Epoch) {
    let _judged_later = raise_version(line, fence);
}

/// Steps 2 and 3, of a unit that has been fenced since `fence`. Returns the last version that was
/// published before, and whether the contents were lost when the holder was granted them.
fn raise_version(line: &Descriptor, fence: Epoch) -> (u64, bool) {
    let holder = fence.before();
    // Acquire pairs with the release of a holder that raised it: its note is seen as well.
    let mut now = line.version.load(Acquire);
    let noted = line.base.load(Relaxed);
    if planted!("recover.reads_note_first") {
        now = line.version.load(Acquire);
    }
    let last_good = base::version(noted, now);
    let by = base::epoch(noted);
    if by == fence || by == fence.after() {
        return (last_good, base::is_lost(noted));
    }
    let (last_good, was_lost) = if by == holder {
        (last_good, base::is_lost(noted))
    } else {
        // It died before it noted anything, and so before it raised the version.
        line.base.swap(base::pack(holder, now), Release);
        (now, false)
    };
    crash_point!("recover.noted");
    let is_raised = planted!("recover.raises_what_was_good_only") && now != last_good;
    if !is_raised && !planted!("recover.version_not_raised") {
        // Release pairs with the acquire of a grant: a holder that was fenced and finds this
        // version finds the fence as well. Added, for the holder may have raised it since.
        line.version.fetch_add(1, Release);
    }
    crash_point!("recover.raise_to_note");
    // The daemon may die here, and finds in the note what it found in the one before.
    let note = if was_lost {
        base::pack_lost(fence, last_good)
    } else {
        base::pack(fence, last_good)
    };
    line.base.swap(note, Release);
    (last_good, was_lost)
}

/// Makes a change for as long as there is one to make.
fn change(
    line: &Descriptor,
    wait: &impl Wait,
    wanted: impl Fn(Own) -> Option<Result<Own, Refused>>,
) -> Result<(), RecoverError> {
    for _ in 0..TRIES_MAX {
        let own = judged(line)?;
        // A refusal means that the word is as wanted, or somebody else's by now.
        let Some(Ok(changed)) = wanted(own) else {
            return Ok(());
        };
        if exchange(line, own, changed) {
            crash_point!("recover.changed_not_woken");
            let marked = own.has_waiters() && !changed.has_waiters();
            if marked && !planted!("recover.wakes_nobody") {
                wake(line, wait);
            }
            return Ok(());
        }
    }
    Err(RecoverError::Contended)
}

/// Ends the recall of a writer that may be dead, and wakes all who sleep: those who still want to
/// write ask again. For every unit of a domain one of whose members has died.
///
/// # Errors
/// [`RecoverError`].
pub fn rouse(line: &Descriptor, wait: &impl Wait) -> Result<(), RecoverError> {
    change(line, wait, |own| {
        let asked = own.has_waiters() || own.is_recalled();
        asked.then(|| Ok(own.recall_ended()))
    })?;
    // A waker may have died between its change of the word and the waking.
    if !planted!("recover.trusts_the_mark") {
        wake(line, wait);
    }
    Ok(())
}
