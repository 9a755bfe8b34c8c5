//! What the daemon does to a unit whose holder is gone: dead, or cut off.
//!
//! A reader that is gone has its bit cleared, for the contents are as they were. A writer that is
//! gone may have left half of a change, so its unit is fenced: nobody can have it until the daemon
//! has judged the contents.
//!
//! # Protocol
//! 1. The word goes from exclusive to fenced: from here on the unit is the daemon's alone, and
//!    whatever the holder still tries is refused by its epoch.
//! 2. The last version that was published stands in `base` under the epoch of the holder, which
//!    noted it before it was granted the unit. Where it does not, somebody has overwritten it, and
//!    the version that there is passes for good.
//! 3. The version becomes the one after that of the grant, unless the holder has raised it so far
//!    already; that was no publication, since it did not let go. A holder that lives raises it no
//!    more. Whoever has lines of the contents cached will
//!    drop them, for some may stem from the change that was cut short.
//! 4. The contents are judged, and the word goes to free or to lost.
//!
//! # Why the daemon may die between any two
//! Each step does nothing where it was done: 2 finds the epoch, 3 stores the same number, and 1 and
//! 4 are a compare-exchange each. A daemon that starts again goes through all units of the domain
//! and takes up what it finds fenced. The judgement must be the same each time: it depends on what
//! is in the memory, which nobody may write meanwhile.
//!
//! Members write this memory as well, and a hostile one can change a word as often as it likes.
//! Each step is tried [`TRIES_MAX`] times.

use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{Relaxed, Release};
use pool_core::{crash_point, planted};

use crate::base;
use crate::member::{exchange, judged, wake};
use crate::own::{CorruptWord, Own, Refused, State};
use crate::slot::Slot;
use crate::wait::Wait;

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
}

/// Whether the contents of a fenced unit are those that were published last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are, or are to pass for it.
    Good,
    /// They are not, or nobody knows.
    Lost,
}

/// What is known of the contents that are to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// The last version that was published.
    pub last_good: u64,
    /// The checksum that was noted last; of which version is not known.
    pub sum: u64,
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
    let (granted, last_good) = noted(line, own);
    crash_point!("recover.noted");
    let now = line.version.load(Relaxed);
    if now == granted && !planted!("recover.version_not_raised") {
        // Release pairs with the acquire in `granted`: a member that was cut off before it knew the
        // version of its grant, and sees this one, sees the fence as well.
        line.version.store(now.wrapping_add(1), Release);
    }
    crash_point!("recover.version_raised");
    let sum = line.sum.load(Relaxed);
    let verdict = judge(Fenced { last_good, sum });
    crash_point!("recover.judged");
    change(line, wait, |own| {
        let fenced = own.state() == State::Fenced;
        fenced.then(|| match verdict {
            Verdict::Good => own.repaired(),
            Verdict::Lost => own.lost(),
        })
    })?;
    crash_point!("recover.settled");
    Ok(match verdict {
        Verdict::Good => Recovered::Repaired,
        Verdict::Lost => Recovered::Lost { last_good },
    })
}

/// The version that the holder of the epoch before the fence was granted, and the last one that
/// was published.
fn noted(line: &Descriptor, own: Own) -> (u64, u64) {
    let holder = own.epoch().before();
    let (noted, now) = (line.base.load(Relaxed), line.version.load(Relaxed));
    if base::epoch(noted) == holder {
        return (base::version(noted, now), base::good(noted, now));
    }
    // No honest holder is without a note.
    line.base.store(base::pack(holder, now, now), Relaxed);
    (now, now)
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
            if own.has_waiters() && !changed.has_waiters() {
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
    wake(line, wait);
    Ok(())
}
