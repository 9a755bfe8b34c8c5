//! What a writer does between its last store to the contents and letting go: the version rises.
//!
//! # Protocol
//! 1. `base` is noted: the epoch of the grant, and the version it was granted with. Whoever fences
//!    the holder from here on learns which version was the last that was published.
//! 2. The version is raised.
//! 3. The word is released, by the caller: that is the publication.
//!
//! In a domain that has checksums the caller stores that of the version to come before all of this
//! ([`set_sum`]): a holder that dies in the middle of these steps has written all it wanted to.
//!
//! # Why a holder that was fenced does no harm, however late it comes
//! Both steps are a compare-exchange from what was there while it held the unit. The daemon notes
//! `base` and raises the version before it lets anybody in again, so either the holder came first,
//! and the daemon finds what it wrote, or it fails. Of `base` it must be known that what was found
//! is of the time it held the unit. Where it is of the epoch before its own, nobody has noted
//! anything since, but for a holder that slept through all but one of the epochs there are (see
//! invariant 3 of [`crate::own`]); where it is of an older one, for which many a later one is taken
//! when epochs begin anew, the word is looked at after it.

use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::{crash_point, planted};

use crate::base;
use crate::error::LeaseError;
use crate::grant::Grant;
use crate::slot::Slot;
use crate::word::judged;

/// Raises the version where the contents were changed, and returns what it is.
///
/// # Errors
/// [`LeaseError::Revoked`] where the unit was taken away meanwhile; nothing will be published.
#[inline]
pub(crate) fn publish(
    line: &Descriptor,
    slot: Slot,
    grant: &Grant,
    changed: bool,
) -> Result<u64, LeaseError> {
    if !changed {
        return Ok(grant.version);
    }
    crash_point!("lease.version_to_raise");
    note(line, slot, grant)?;
    crash_point!("lease.exclusive_noted");
    let version = grant.version.wrapping_add(1);
    if planted!("publish.stores_version") {
        line.version.store(version, Release);
        return Ok(version);
    }
    // Release pairs with the acquire in `recover`: whoever sees it raised sees the note. The next
    // holder sees it by the release of the word, which follows.
    let raised = line
        .version
        .compare_exchange(grant.version, version, Release, Relaxed);
    crash_point!("lease.version_raised");
    if planted!("publish.sum_after_version") {
        line.sum.store(line.spare.load(Relaxed), Release);
    }
    match raised {
        Ok(_) => Ok(version),
        Err(_) => Err(LeaseError::Revoked),
    }
}

/// Stores the checksum `sum` of the version that is about to be published.
///
/// # Errors
/// [`LeaseError::Revoked`] where the unit was taken away meanwhile.
pub(crate) fn set_sum(
    line: &Descriptor,
    slot: Slot,
    grant: &Grant,
    sum: u64,
) -> Result<(), LeaseError> {
    loop {
        // Acquire pairs with the release of each sum: one of somebody who came later shows that the
        // word is not this holder's any more. So a holder that was fenced writes over none.
        let before = if planted!("publish.reads_sum_relaxed") {
            line.sum.load(Relaxed)
        } else {
            line.sum.load(Acquire)
        };
        if !judged(line)?.is_exclusive_of(slot, grant.epoch()) {
            return Err(LeaseError::Revoked);
        }
        if planted!("publish.sum_after_version") {
            // Where `publish` finds it.
            line.spare.store(sum, Relaxed);
            return Ok(());
        }
        if planted!("publish.stores_sum") {
            line.sum.store(sum, Release);
            return Ok(());
        }
        // Release pairs with the acquire in `recover`: whoever sees it sees the contents.
        let stored = line.sum.compare_exchange(before, sum, Release, Relaxed);
        if stored.is_ok() {
            crash_point!("lease.sum_stored");
            return Ok(());
        }
    }
}

/// Step 1. Nothing where it is noted already: the daemon does so for a unit that is lost.
#[inline]
fn note(line: &Descriptor, slot: Slot, grant: &Grant) -> Result<(), LeaseError> {
    // Acquire pairs with the release of each note: a note of somebody who came later shows that the
    // word is not this holder's any more.
    let noted = line.base.load(Acquire);
    if base::epoch(noted) == grant.epoch() {
        return Ok(());
    }
    let is_latest = base::epoch(noted).after() == grant.epoch();
    let held = is_latest || judged(line)?.is_exclusive_of(slot, grant.epoch());
    let note = base::pack(grant.epoch(), grant.version);
    if planted!("member.notes_late") {
        line.base.store(note, Release);
        return Ok(());
    }
    if !held && !planted!("publish.notes_unheld") {
        return Err(LeaseError::Revoked);
    }
    match line.base.compare_exchange(noted, note, Release, Relaxed) {
        Ok(_) => Ok(()),
        Err(_) => Err(LeaseError::Revoked),
    }
}
