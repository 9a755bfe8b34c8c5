//! Waiting for units, and telling the daemon when that takes long.
//!
//! The wait is that of [`coherence::Member`], which knows neither units nor a daemon: it sleeps by
//! way of [`AskingWait`], at most 50 ms at a time. Before it waits a thread says here for which
//! unit; each of its sleeps ends with a look whether it has waited for the recall time, and then
//! has the background thread tell the daemon. So what it has announced in the word stands all the
//! while, and whoever does not wait pays nothing. It asks again after another recall time.
//!
//! A wait that is over before the recall time asks nobody, and a daemon that is away holds up no
//! wait.

use std::cell::RefCell;

use coherence::{FutexWait, Wait};
use pool_core::clock::Deadline;
use pool_core::sync::Arc;
use pool_core::sync::atomic::{AtomicU32, Ordering};
use pool_core::{Nanos, SegmentId};

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
    recall: Nanos,
    ask_at: Deadline,
    /// The recalls that had been heard before the first unit was taken, where others are held.
    heard: Option<u64>,
}

impl Patience {
    /// Of a wait that begins now.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        (segment, unit): (SegmentId, u32),
        recall: Nanos,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            segment,
            unit,
            recall,
            ask_at: Deadline::after(recall),
            heard: None,
        }
    }

    /// The wait ends when anything is recalled after `heard` recalls: whoever waits holds other
    /// units meanwhile, and can let go of none of them before it is back.
    pub(crate) fn giving_way(mut self, heard: u64) -> Self {
        self.heard = Some(heard);
        self
    }

    /// Whether the wait is to end.
    pub(crate) fn is_over(&self) -> bool {
        let now = || self.shared.recalls.load(Ordering::Relaxed);
        self.heard.is_some_and(|heard| heard != now())
    }

    /// Asks, where it has waited for long enough.
    pub(crate) fn look(&mut self) {
        if self.ask_at.expired() {
            self.ask_at = Deadline::after(self.recall);
            self.shared.recall(self.segment, self.unit);
        }
    }

    /// Does `wait`, which sleeps by way of [`AskingWait`].
    pub(crate) fn during<T>(self, wait: impl FnOnce() -> T) -> T {
        let _waiting = Waiting::begin(self);
        wait()
    }
}

/// This thread waits while it lives.
struct Waiting;

impl Waiting {
    fn begin(patience: Patience) -> Self {
        let _ended = WAITING.try_with(|waiting| waiting.replace(Some(patience)));
        Self
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
        FutexWait.wait(word, seen, until);
        // Nobody is there to ask while the thread ends.
        let _ended = WAITING.try_with(|waiting| {
            if let Some(patience) = waiting.borrow_mut().as_mut() {
                patience.look();
            }
        });
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
