//! Processes that had slots and may live: their ends are waited for, since nobody gets a slot in
//! whose name somebody may still store.

use std::ops::Bound::{Excluded, Unbounded};
use std::os::fd::OwnedFd;

use coherence::Slot;
use pool_core::{SegmentId, clock};

use super::RETRY_PAUSE;
use crate::engine::command::{Command, PeerIdentity};
use crate::reactor::poller::{Interest, Token};
use crate::reactor::{Reactor, process};

/// Processes that are watched by a descriptor of each; further ones are looked for now and then.
const WATCHED_MAX: usize = 1_024;
/// Of those, so many at once.
const LOOKED_FOR_MAX: usize = 64;

/// A process whose end is waited for.
#[derive(Debug)]
pub(super) struct Departed {
    pub(super) process: PeerIdentity,
    /// The slots it had, in any domains.
    pub(super) slots: Vec<(SegmentId, Slot)>,
    /// `None` where it could not be had: the process is looked for again.
    pub(super) pidfd: Option<OwnedFd>,
}

impl Reactor {
    /// Waits for the end of a process that had a slot.
    pub(in crate::reactor) fn await_end(
        &mut self,
        segment: SegmentId,
        slot: Slot,
        process: PeerIdentity,
    ) {
        if !self.engine.awaits_end(segment, slot) {
            return;
        }
        let same = |departed: &Departed| {
            (departed.process.pid, departed.process.started_ticks)
                == (process.pid, process.started_ticks)
        };
        let mut known = self.domains.departed.values_mut();
        if let Some(departed) = known.find(|departed| same(departed)) {
            return departed.slots.push((segment, slot));
        }
        self.domains.last_departed += 1;
        let number = self.domains.last_departed;
        let (slots, pidfd) = (vec![(segment, slot)], None);
        let departed = Departed {
            process,
            slots,
            pidfd,
        };
        self.domains.departed.insert(number, departed);
        self.look_for(number);
    }

    pub(super) fn look_for_departed(&mut self) {
        let after = (Excluded(self.domains.looked_for), Unbounded);
        let unwatched = self.domains.departed.range(after);
        let unwatched = unwatched.filter(|(_, departed)| departed.pidfd.is_none());
        let next: Vec<_> = unwatched
            .map(|(&number, _)| number)
            .take(LOOKED_FOR_MAX)
            .collect();
        let is_last = next.len() < LOOKED_FOR_MAX;
        self.domains.looked_for = next.last().copied().filter(|_| !is_last).unwrap_or(0);
        next.into_iter().for_each(|number| self.look_for(number));
        if !is_last {
            self.look_again();
        }
    }

    fn look_again(&mut self) {
        let again = clock::now().saturating_add(RETRY_PAUSE);
        self.domains.look_at.get_or_insert(again);
    }

    fn look_for(&mut self, number: u64) {
        let departed = self.domains.departed.values();
        let watched = departed.filter(|departed| departed.pidfd.is_some()).count();
        let Some(departed) = self.domains.departed.get_mut(&number) else {
            return;
        };
        let found = process::find(&departed.process).and_then(|found| {
            if let Some(pidfd) = found.as_ref().filter(|_| watched < WATCHED_MAX) {
                let token = Token::Departed(number);
                self.poller.add(pidfd, token, Interest::Readable)?;
            }
            Ok(found)
        });
        match found {
            Ok(Some(pidfd)) if watched < WATCHED_MAX => departed.pidfd = Some(pidfd),
            Ok(Some(_)) => self.look_again(),
            Ok(None) => self.has_ended(number),
            Err(error) => {
                tracing::warn!(%error, "a process that had a slot cannot be watched yet");
                self.look_again();
            }
        }
    }

    /// A process that had slots has ended.
    pub(in crate::reactor) fn has_ended(&mut self, number: u64) {
        let Some(departed) = self.domains.departed.remove(&number) else {
            return;
        };
        if let Some(pidfd) = &departed.pidfd {
            self.poller.remove(pidfd);
        }
        for (segment, slot) in departed.slots {
            self.step(Command::Ended { segment, slot });
        }
    }
}
