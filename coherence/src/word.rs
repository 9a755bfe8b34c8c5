//! The ownership word in memory: read, judged, exchanged; and whoever sleeps on it, woken.
//!
//! [`crate::own`] says which words there are and which follow which. Whatever is done to the word
//! of a descriptor is done here.

use pool_core::descriptor::Descriptor;
use pool_core::planted;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::base;
use crate::error::LeaseError;
use crate::own::{CorruptWord, Own, Refused};
use crate::wait::Wait;

/// Reads and judges the ownership word.
#[inline]
pub(crate) fn judged(line: &Descriptor) -> Result<Own, CorruptWord> {
    // Acquire pairs with the release of `exchange`, so that what is judged by this word is not
    // older than it.
    if planted!("own.read_relaxed") {
        return Own::judge(line.own.load(Relaxed));
    }
    Own::judge(line.own.load(Acquire))
}

/// One change of the word. False where it is another one by now.
#[inline]
pub(crate) fn exchange(line: &Descriptor, from: Own, to: Own) -> bool {
    exchange_or_see(line, from, to).is_ok()
}

/// One change of the word.
///
/// # Errors
/// What it is instead, by now.
#[inline]
pub(crate) fn exchange_or_see(line: &Descriptor, from: Own, to: Own) -> Result<(), u64> {
    let (from, to) = (from.word(), to.word());
    if planted!("own.load_and_store") {
        let now = line.own.load(Acquire);
        if now != from {
            return Err(now);
        }
        line.own.store(to, Release);
        return Ok(());
    }
    let (success, failure) = if planted!("own.relaxed") {
        (Relaxed, Relaxed)
    } else {
        // Acquire of a grant pairs with release of whoever held the unit before: each change goes
        // through this one line, so it is both. What is seen instead is judged, as in `judged`.
        (AcqRel, Acquire)
    };
    let done = line.own.compare_exchange(from, to, success, failure);
    done.map(drop)
}

/// Moves the event on and wakes all who sleep.
#[cold]
pub(crate) fn wake(line: &Descriptor, wait: &impl Wait) {
    if !planted!("wait.event_not_moved") {
        // Release pairs with the acquire in `sleep`.
        line.event.fetch_add(1, Release);
    }
    wait.wake_all(&line.event);
}

/// Why a change was refused, with the version that was good last where the contents are lost.
#[cold]
pub(crate) fn refusal(refused: Refused, line: &Descriptor) -> LeaseError {
    LeaseError::from_refusal(refused, || {
        // In this order: a version that is older than the note could not be told from one that is
        // newer. Acquire pairs with the release of each note.
        let noted = line.base.load(Acquire);
        base::version(noted, line.version.load(Relaxed))
    })
}
