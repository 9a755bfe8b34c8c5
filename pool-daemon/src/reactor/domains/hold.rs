//! What the daemon does to units whose holders live: it looks who they are, and takes units to be
//! copied away from them. See [`coherence::evict`].

use coherence::evict::{self, Held};
use coherence::recover::{self, RecoverError};
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

/// What a pass has found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    written: Vec<Written>,
    missed: bool,
    /// Words that are none: nobody can have those units.
    corrupt: u32,
}

impl Found {
    /// Takes a unit to be copied.
    pub(super) fn hold(&mut self, (unit, line): (u32, &Descriptor), hold: &Hold) {
        if hold.fences && planted!("evict.places_early") {
            line.backing.fetch_add(1, Release);
        }
        let held = match evict::hold(line, hold.evicted, hold.fences) {
            Ok(held) => held,
            Err(RecoverError::Corrupt(_)) => {
                self.corrupt = self.corrupt.saturating_add(1);
                return;
            }
            Err(_) => {
                self.missed = true;
                return;
            }
        };
        if let Held::Written { slot, epoch } = held
            && self.written.len() < WRITTEN_MAX
        {
            self.written.push(Written { unit, slot, epoch });
        }
    }

    /// The pass is over.
    pub(super) fn tell(self, segment: SegmentId) -> Command {
        let Self {
            written,
            missed,
            corrupt,
        } = self;
        if corrupt > 0 {
            tracing::warn!(%segment, corrupt, "units with words that are none cannot be held");
        }
        Command::Held {
            segment,
            written,
            missed,
        }
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
        is_awaited: own.has_waiters(),
    })
}
