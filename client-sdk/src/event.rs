//! What the daemon tells unasked, and the queues through which the program hears of it.

use std::collections::VecDeque;
use std::sync::{PoisonError, Weak};
use std::time::Duration;

use pool_core::clock::Deadline;
use pool_core::sync::{Arc, Condvar, Mutex, lock};
use pool_core::{Bytes, Nanos, SegmentId};

use crate::error::Error;
use crate::shared::Shared;

/// Events that wait for one subscriber who does not read them.
pub(crate) const EVENTS_MAX: usize = 1_024;

/// Something that happened to the pool, or to what this process holds of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A tenant that is guaranteed memory of the tier asks for it. Give back `bytes` of burst
    /// memory by `deadline`, or the daemon revokes burst segments, newest first.
    Pressure {
        /// Of which tier.
        tier: String,
        /// How much.
        bytes: Bytes,
        /// Until when, counted from the event.
        deadline: Duration,
    },
    /// The segment was taken away: every access to it fails. Drop it.
    Revoked {
        /// Which.
        segment: SegmentId,
    },
    /// The contents of the segment are gone: every access to it fails. Drop it.
    Lost {
        /// Which.
        segment: SegmentId,
    },
    /// A part of the segment holds nothing any more, because memory failed: an access to it may end
    /// the process. The rest is as it was. It may be said more than once.
    Damaged {
        /// Which.
        segment: SegmentId,
        /// Where the part begins.
        offset: Bytes,
        /// How long it is.
        len: Bytes,
    },
    /// The size, place or incarnation of the segment changed, and its mapping with it.
    Changed {
        /// Which.
        segment: SegmentId,
    },
    /// Somebody waits for a unit of a domain that this process holds. Let go of it by `deadline`,
    /// or the domain is taken away, and what was written of the unit since it was leased with it.
    Recalled {
        /// Of which domain.
        segment: SegmentId,
        /// Which unit.
        unit: u32,
        /// Until when, counted from the event.
        deadline: Duration,
    },
    /// A device is to be taken out of the pool. Close these segments or move them elsewhere.
    DeviceLeaving {
        /// Which.
        device: String,
        /// Those of this process that lie on it.
        segments: Vec<SegmentId>,
    },
    /// A device that was leaving is back.
    DeviceBack {
        /// Which.
        device: String,
    },
    /// The daemon does not answer. What is held stays usable.
    DaemonGone,
    /// The daemon answers again. What is not held any more has an event of its own.
    DaemonBack {
        /// Rises with each start of the daemon.
        epoch: u64,
    },
    /// So many events were dropped here, because this subscriber did not read.
    Missed(u64),
}

/// A subscription: every event since it was taken out, in order.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl Events {
    /// The next event, or `None` where there is none within `timeout`.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.shared.check_owner()?;
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Ok(self.queue.next(Deadline::after(Nanos::new(nanos))))
    }
}

/// All subscriptions of one session.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    queues: Mutex<Vec<Weak<Queue>>>,
}

impl Hub {
    pub(crate) fn subscribe(&self, shared: Arc<Shared>) -> Events {
        let queue = Arc::new(Queue::default());
        if shared.check_owner().is_ok() {
            lock(&self.queues).push(Arc::downgrade(&queue));
        }
        Events { queue, shared }
    }

    pub(crate) fn publish(&self, event: &Event) {
        lock(&self.queues).retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.push(event.clone());
                true
            }
            None => false,
        });
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Dropped since the last event that was queued.
    missed: u64,
}

impl Queue {
    fn push(&self, event: Event) {
        let mut waiting = lock(&self.waiting);
        let room = EVENTS_MAX - waiting.events.len();
        // Where some were missed, two places are needed: one tells of them.
        if room == 0 || (waiting.missed > 0 && room == 1) {
            waiting.missed += 1;
        } else {
            let missed = std::mem::take(&mut waiting.missed);
            if missed > 0 {
                waiting.events.push_back(Event::Missed(missed));
            }
            waiting.events.push_back(event);
        }
        self.ready.notify_all();
    }

    fn next(&self, deadline: Deadline) -> Option<Event> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(event) = waiting.events.pop_front() {
                return Some(event);
            }
            if waiting.missed > 0 {
                return Some(Event::Missed(std::mem::take(&mut waiting.missed)));
            }
            let left = deadline.remaining();
            if left == Nanos::ZERO {
                return None;
            }
            let woken = self
                .ready
                .wait_timeout(waiting, Duration::from_nanos(left.get()));
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past() -> Deadline {
        Deadline::at(Nanos::ZERO)
    }

    fn revoked(number: u64) -> Event {
        Event::Revoked {
            segment: SegmentId::new(number).unwrap(),
        }
    }

    #[test]
    fn events_are_read_in_order_and_once() {
        let queue = Queue::default();
        queue.push(revoked(1));
        queue.push(Event::DaemonGone);
        assert_eq!(queue.next(past()), Some(revoked(1)));
        assert_eq!(queue.next(past()), Some(Event::DaemonGone));
        assert_eq!(queue.next(past()), None);
    }

    #[test]
    fn a_reader_is_woken_by_the_event_it_waits_for() {
        let queue = Arc::new(Queue::default());
        let waiting = Arc::clone(&queue);
        let reader = std::thread::spawn(move || waiting.next(Deadline::NEVER));
        queue.push(revoked(7));
        assert_eq!(reader.join().unwrap(), Some(revoked(7)));
    }

    #[test]
    fn a_subscriber_who_does_not_read_is_told_how_many_it_missed_and_where() {
        let queue = Queue::default();
        let (kept, missed) = (EVENTS_MAX as u64, 5);
        for number in 1..=kept + missed {
            queue.push(revoked(number));
        }
        assert_eq!(queue.next(past()), Some(revoked(1)));
        assert_eq!(queue.next(past()), Some(revoked(2)));
        queue.push(Event::DaemonGone);
        for number in 3..=kept {
            assert_eq!(queue.next(past()), Some(revoked(number)));
        }
        assert_eq!(queue.next(past()), Some(Event::Missed(missed)));
        assert_eq!(queue.next(past()), Some(Event::DaemonGone));
        assert_eq!(queue.next(past()), None);
    }

    #[test]
    fn what_was_missed_is_told_also_when_nothing_follows() {
        let queue = Queue::default();
        for number in 1..=EVENTS_MAX as u64 + 1 {
            queue.push(revoked(number));
        }
        for _ in 0..EVENTS_MAX {
            assert!(matches!(queue.next(past()), Some(Event::Revoked { .. })));
        }
        assert_eq!(queue.next(past()), Some(Event::Missed(1)));
    }
}
