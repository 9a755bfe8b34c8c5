//! Waiting for units, and telling the daemon when that takes long.
//!
//! The wait is that of [`coherence::Member`], which knows neither units nor a daemon: it sleeps by
//! way of [`AskingWait`], at most 50 ms at a time. Before it waits a thread says here for which
//! unit; before each of its sleeps it looks whether it has waited for the recall time, and then has
//! the background thread tell the daemon. So what it has announced in the word stands all the
//! while, and whoever does not wait pays nothing. It asks again after another recall time.
//!
//! A wait that is over before the recall time asks nobody, and a daemon that is away holds up no
//! wait.
//!
//! # Waits that follow each other
//! Whoever waits for a moment again and again waits for long all the same. So what was left of the
//! recall time when a wait ended without the unit is kept for the next one. That begins anew where
//! longer than a recall time has passed since, or where the epoch of the unit is another: somebody
//! has had it to write meanwhile, perhaps this process itself, by the simple way that leaves no
//! trace here. Who holds a unit and does not let go raises no epoch.
//!
//! # Who holds others meanwhile
//! A wait for one unit of a range ends where the daemon recalls something of the domain: others may
//! wait for what is held. It hears of that between two sleeps, which last a quarter of the recall
//! time at most, as the one who is recalled has no more than a whole one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use coherence::{Epoch, FutexWait, Own, Wait};
use pool_core::clock::{Deadline, now};
use pool_core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use pool_core::sync::{Arc, Mutex, lock};
use pool_core::{Nanos, SegmentId};

use super::Units;
use crate::shared::Shared;

thread_local! {
    /// What this thread waits for. A thread waits for one unit at a time.
    static WAITING: RefCell<Option<Patience>> = const { RefCell::new(None) };
}

/// When the daemon is to be told that a unit is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    shared: Arc<Shared>,
    segment: SegmentId,
    unit: u32,
    times: Times,
}

/// When whoever waits for a unit does what.
#[derive(Debug, Clone)]
struct Times {
    recall: Nanos,
    ask_at: Deadline,
    /// It is one that sleeps.
    sleeps: bool,
    /// Where others are held: the recalls of the domain, and how many had been heard before the
    /// first unit was taken.
    heard: Option<(Arc<AtomicU64>, u64)>,
}

impl Patience {
    /// Whether the wait is to end.
    pub(super) fn is_over(&self) -> bool {
        let heard = self.times.heard.as_ref();
        heard.is_some_and(|(recalls, heard)| recalls.load(Ordering::Relaxed) != *heard)
    }

    /// Asks, where it has waited for long enough. It is about to sleep.
    pub(super) fn look(&mut self) {
        self.times.sleeps = true;
        if self.times.ask_at.expired() {
            self.times.ask_at = Deadline::after(self.times.recall);
            self.shared.recall(self.segment, self.unit);
        }
    }

    /// The longest sleep, where there is one.
    pub(super) fn longest(&self) -> Option<Nanos> {
        self.times.longest()
    }
}

impl Times {
    /// What is held meanwhile may be recalled: a sleep ends while there is time to let go of it.
    fn longest(&self) -> Option<Nanos> {
        let quarter = Nanos::new(self.recall.get() / 4);
        self.heard.as_ref().map(|_| quarter)
    }

    /// When a sleep that begins now is to end, of a wait until `until`: to ask in time, and to hear
    /// of recalls.
    fn sleeps_until(&self, until: Deadline) -> Deadline {
        let longest = self.longest().map_or(Deadline::NEVER, Deadline::after);
        until.min(self.ask_at).min(longest)
    }
}

/// The waits that ended without the unit, by their units: one a unit at most.
#[derive(Debug, Default)]
pub(crate) struct Awaited(Mutex<BTreeMap<u32, Ended>>);

/// How the last wait for a unit ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    at: Nanos,
    /// What no wait sees changed while others hold the unit all along.
    epoch: Option<Epoch>,
    /// When the daemon was to be asked next.
    ask_at: Deadline,
}

impl Awaited {
    /// When a wait that begins now asks: as the one before, where that has just ended and nobody
    /// has written since.
    fn ask_at(&self, unit: u32, epoch: Option<Epoch>, recall: Nanos) -> Deadline {
        let before = lock(&self.0).get(&unit).copied();
        let follows =
            |ended: &Ended| ended.epoch == epoch && now().saturating_since(ended.at) <= recall;
        let before = before.filter(follows);
        before.map_or_else(|| Deadline::after(recall), |ended| ended.ask_at)
    }

    /// A wait has ended without the unit.
    fn keep(&self, unit: u32, epoch: Option<Epoch>, ask_at: Deadline) {
        let at = now();
        lock(&self.0).insert(unit, Ended { at, epoch, ask_at });
    }

    fn forget(&self, unit: u32) {
        lock(&self.0).remove(&unit);
    }
}

impl Units<'_> {
    /// Does `wait` for the unit at `index`, which sleeps by way of [`AskingWait`]. Where others are
    /// held it ends when more than `heard` recalls have come.
    #[cold]
    pub(super) fn waiting<T, E>(
        self,
        index: u32,
        heard: Option<u64>,
        wait: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let waiting = Waiting::begin(self.patience(index, heard));
        let done = wait();
        if let Some(patience) = waiting.end() {
            self.waited(index, &patience, done.is_ok());
        }
        done
    }

    /// That of a wait for the unit at `index` which begins now.
    #[cold]
    pub(super) fn patience(self, index: u32, heard: Option<u64>) -> Patience {
        let (unit, recall) = (self.unit(index), self.membership.info.recall);
        let epoch = self.own(index).ok().map(Own::epoch);
        Patience {
            shared: Arc::clone(self.domain.segment().life().shared()),
            segment: self.segment_id(),
            unit,
            times: Times {
                recall,
                ask_at: self.membership.awaited.ask_at(unit, epoch, recall),
                sleeps: false,
                heard: heard.map(|heard| (Arc::clone(&self.membership.recalls), heard)),
            },
        }
    }

    /// A wait for the unit at `index` has ended.
    pub(super) fn waited(self, index: u32, patience: &Patience, granted: bool) {
        let (unit, awaited) = (patience.unit, &self.membership.awaited);
        if granted {
            awaited.forget(unit);
        } else if patience.times.sleeps {
            let epoch = self.own(index).ok().map(Own::epoch);
            awaited.keep(unit, epoch, patience.times.ask_at);
        }
    }
}

/// This thread waits while it lives.
struct Waiting;

impl Waiting {
    fn begin(patience: Patience) -> Self {
        let _ended = WAITING.try_with(|waiting| waiting.replace(Some(patience)));
        Self
    }

    /// `None` where the thread ends.
    fn end(self) -> Option<Patience> {
        WAITING.try_with(RefCell::take).ok().flatten()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ended = WAITING.try_with(|waiting| waiting.take());
    }
}

/// Sleeps as [`FutexWait`] does, and tells the daemon where that takes long.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AskingWait;

impl Wait for AskingWait {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        let look = |waiting: &RefCell<Option<Patience>>| {
            let mut waiting = waiting.borrow_mut();
            waiting.as_mut().map(|patience| {
                patience.look();
                patience.times.sleeps_until(until)
            })
        };
        // Nobody is there to ask while the thread ends.
        let asked = WAITING.try_with(look).ok().flatten();
        FutexWait.wait(word, seen, asked.unwrap_or(until));
    }

    fn wake_all(&self, word: &AtomicU32) {
        FutexWait.wake_all(word);
    }

    fn is_over(&self) -> bool {
        let over = |waiting: &RefCell<Option<Patience>>| {
            waiting.borrow().as_ref().is_some_and(Patience::is_over)
        };
        WAITING.try_with(over).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Nanos = Nanos::from_millis(3_600_000);

    #[test]
    fn waits_that_follow_each_other_count_as_one_while_nobody_writes() {
        let (awaited, epoch) = (Awaited::default(), Some(Epoch::new(7)));
        let ask_at = Deadline::at(Nanos::new(1));
        awaited.keep(3, epoch, ask_at);
        assert_eq!(awaited.ask_at(3, epoch, LONG), ask_at);
        assert_eq!(
            awaited.ask_at(3, epoch, LONG),
            ask_at,
            "several threads may wait"
        );
        let anew = |unit, epoch| !awaited.ask_at(unit, epoch, LONG).expired();
        assert!(anew(3, Some(Epoch::new(8))), "somebody has had it to write");
        assert!(anew(4, epoch), "another unit");
        awaited.forget(3);
        assert!(anew(3, epoch), "it was granted");
    }

    #[test]
    fn a_wait_begins_anew_where_the_last_one_ended_long_ago() {
        let (awaited, ask_at) = (Awaited::default(), Deadline::at(Nanos::new(1)));
        let at = now();
        let ended = Ended {
            at,
            epoch: None,
            ask_at,
        };
        lock(&awaited.0).insert(0, ended);
        while now() == at {}
        assert_ne!(awaited.ask_at(0, None, Nanos::ZERO), ask_at);
        assert_eq!(awaited.ask_at(0, None, LONG), ask_at);
    }

    #[test]
    fn a_sleep_ends_in_time_to_ask_and_to_let_go_of_what_is_held() {
        let recall = LONG;
        let ask_at = Deadline::after(recall);
        let alone = Times {
            recall,
            ask_at,
            sleeps: true,
            heard: None,
        };
        assert_eq!(alone.sleeps_until(Deadline::NEVER), ask_at);
        let with_others = Times {
            heard: Some((Arc::default(), 0)),
            ..alone
        };
        let quarter = Nanos::new(recall.get() / 4);
        let end = with_others.sleeps_until(Deadline::NEVER);
        assert!(!end.expired() && end <= Deadline::after(quarter));
        let soon = Deadline::at(Nanos::new(1));
        assert_eq!(with_others.sleeps_until(soon), soon);
    }
}
