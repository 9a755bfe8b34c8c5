//! Taking from one unit what was held in slots that nobody has any more.

use coherence::pass::Pass;
use coherence::recover::{self, Fenced, RecoverError, Verdict};
use coherence::sum::Digest;
use coherence::{Directory, FutexWait, Slot};
use pool_core::Incarnation;
use pool_core::descriptor::Descriptor;

use super::sums;
use crate::engine::command::{Recovered, Unrecovered};
use crate::engine::effect::Recovery;

/// Has a unit judged that was handed to a member that is gone, by one that died as well.
pub(super) fn free_stranded(
    line: &Descriptor,
    recovery: &Recovery,
    directory: &Directory<'_>,
) -> Result<(), RecoverError> {
    if recovery.in_order {
        return Ok(());
    }
    recover::fence_stranded(line, &FutexWait, |slot, era| {
        // What cannot be read does not live.
        let full = directory.era(slot).unwrap_or(0);
        u32::try_from(full & u64::from(u32::MAX)) == Ok(era)
            && directory.lives(slot, full) == Ok(true)
    })
}

/// Takes from a unit what is held in the slots of a recovery, and finishes what an earlier one
/// began: see [`coherence::pass`].
pub(super) fn recover_unit(
    line: &Descriptor,
    recovery: &Recovery,
    found: &mut Recovered,
    mut contents: impl FnMut() -> Option<Digest>,
) -> Result<(), RecoverError> {
    let pass = Pass {
        slots: recovery.slots,
        cut_off: recovery.cut_off,
        moved: recovery.contents_in.map(Incarnation::number),
        settles: recovery.settles,
        in_order: recovery.in_order,
    };
    let judge = |holder: Option<Slot>, fenced: Fenced| {
        let cut_off = holder.is_some_and(|slot| recovery.cut_off & slot.bit() != 0);
        // Where there are checksums, that of the version which is raised has to be stored as well.
        if cut_off && !recovery.checks && !fenced.was_lost {
            return Verdict::Good;
        }
        sums::verdict(line, &fenced, recovery, &mut contents)
    };
    let tell = |holder: Option<Slot>, what| {
        // Neither the daemon's own hold nor what was lost before is news.
        if holder != Some(Slot::DAEMON) && (holder.is_some() || recovery.settles) {
            note(found, what);
        }
    };
    pass.go_on(line, &FutexWait, judge, tell)
}

/// Counts a unit that cannot be recovered. A word that is none is worse than one that changes. What
/// could not be read is told before both, for it is tried again, and a member that overwrites a
/// word must not keep others waiting for what it never held.
pub(super) fn count_stuck(stuck: &mut Option<Unrecovered>, unit: u32, reason: RecoverError) {
    let stuck = stuck.get_or_insert(Unrecovered {
        units: 0,
        first: unit,
        reason,
    });
    stuck.units = stuck.units.saturating_add(1);
    let weight = |reason: &RecoverError| match reason {
        RecoverError::Contended => 0,
        RecoverError::Undecided => 2,
        _ => 1,
    };
    if weight(&reason) > weight(&stuck.reason) {
        (stuck.first, stuck.reason) = (unit, reason);
    }
}

fn note(found: &mut Recovered, what: recover::Recovered) {
    let count = match what {
        recover::Recovered::Untouched => return,
        recover::Recovered::Cleared => &mut found.cleared,
        recover::Recovered::Repaired => &mut found.repaired,
        recover::Recovered::Lost { .. } => &mut found.lost,
    };
    *count = count.saturating_add(1);
}
