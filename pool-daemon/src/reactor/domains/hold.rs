//! What the daemon does to units whose holders live: it looks who they are, and takes units to be
//! copied away from them. See [`coherence::evict`].

use coherence::evict::{self, Held};
use coherence::recover::{self, Verdict};
use coherence::{FutexWait, Own, State};
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_core::{BackingId, SegmentId, planted};

use super::super::Reactor;
use crate::engine::command::{Command, Seen, Written};
use crate::engine::effect::Hold;

/// Units that a pass names which members write; the next one names others.
const WRITTEN_MAX: usize = 64;

impl Reactor {
    /// Sees who holds a unit.
    pub(in crate::reactor) fn look(&mut self, segment: SegmentId, directory: BackingId, unit: u32) {
        let line = self.domains.directory(directory);
        let line = line.ok().and_then(|directory| directory.line(unit));
        let seen = line.and_then(seen_of);
        self.step(Command::Looked {
            segment,
            unit,
            seen,
        });
    }

    /// Lets everybody in again whom somebody keeps out that does not come.
    pub(in crate::reactor) fn end_recall(&self, directory: BackingId, unit: u32) {
        let line = self.domains.directory(directory);
        let line = line.ok().and_then(|directory| directory.line(unit));
        if let Some(Err(error)) = line.map(|line| recover::rouse(line, &FutexWait)) {
            tracing::warn!(%directory, unit, %error, "a recall cannot be ended yet");
        }
    }
}

/// Takes a unit to be copied. What cannot be told of is left: nobody can have it either.
pub(super) fn unit((unit, line): (u32, &Descriptor), hold: &Hold, written: &mut Vec<Written>) {
    if hold.fences && planted!("evict.places_early") {
        line.backing.fetch_add(1, Release);
    }
    let held = match evict::hold(line, hold.evicted, hold.fences) {
        Ok(held) => held,
        Err(error) => {
            let segment = hold.segment;
            tracing::warn!(%segment, unit, %error, "a unit cannot be held to be copied");
            return;
        }
    };
    if hold.fences && planted!("evict.judges_before_the_copy") {
        // What becomes of it shows in the word.
        let _ = recover::settle(line, &FutexWait, |_| Verdict::Good);
    }
    if let Held::Written { slot, epoch } = held
        && written.len() < WRITTEN_MAX
    {
        written.push(Written { unit, slot, epoch });
    }
}

/// Who holds a unit or has asked for it, if anybody has and it can be told.
fn seen_of(line: &Descriptor) -> Option<Seen> {
    let own = Own::judge(line.own.load(Acquire)).ok()?;
    let writes = own.state() == State::Exclusive;
    let left = own.state() == State::Free && own.is_recalled();
    (own.holders() != 0 || left).then_some(Seen {
        holders: own.holders(),
        epoch: own.epoch(),
        writes,
        is_recalled: own.is_recalled(),
    })
}
