//! Segments kept ready, so that a grant need not ask the daemon.
//!
//! A [`Reserve`] is a stack of segments of one size in one tier, filled by the background thread.
//! Taking one that is ready is a lock and a pop. The thread is not woken for it, which would cost
//! more than the grant: it looks by itself, each millisecond while segments are being taken and
//! ever more rarely, down to 20 times a second, while none are.

use std::sync::Weak;
use std::time::Duration;

use pool_core::clock::Deadline;
use pool_core::mem::Access;
use pool_core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pool_core::sync::{Arc, Mutex, lock};
use pool_core::{Bytes, Nanos};

use crate::error::Error;
use crate::held::Fate;
use crate::pool::{Create, Life};
use crate::segment::Segment;
use crate::shared::{SessionGuard, Shared};
use crate::table::HeldRef;

/// How often the thread looks after reserves.
const LOOK_OFTEN: Nanos = Nanos::from_millis(1);
const LOOK_RARELY: Nanos = Nanos::from_millis(50);
/// The pause after a segment could not be had.
const AFTER_REFUSAL: Nanos = Nanos::from_millis(100);
/// Most segments of one reserve.
const DEPTH_MAX: usize = 256;

/// Segments kept ready. Dropped, it gives them back.
#[derive(Debug)]
pub struct Reserve {
    ready: Arc<Ready>,
    life: Arc<Life>,
}

/// What the background thread fills.
#[derive(Debug)]
pub(crate) struct Ready {
    tier: String,
    bytes: Bytes,
    depth: usize,
    stack: Mutex<Vec<HeldRef>>,
    misses: AtomicU64,
    /// Something was taken since the thread last looked.
    taken: AtomicBool,
    /// Not to be filled before this point of the clock.
    paused_until: AtomicU64,
}

impl Reserve {
    pub(crate) fn new(life: Arc<Life>, tier: &str, bytes: Bytes, depth: usize) -> Self {
        let ready = Arc::new(Ready {
            tier: tier.to_owned(),
            bytes,
            depth: depth.min(DEPTH_MAX),
            stack: Mutex::default(),
            misses: AtomicU64::new(0),
            taken: AtomicBool::new(true),
            paused_until: AtomicU64::new(0),
        });
        lock(&life.shared().reserves).push(Arc::downgrade(&ready));
        life.shared().wake();
        Self { ready, life }
    }

    /// A segment: a ready one, or else one that the daemon is asked for.
    ///
    /// # Errors
    /// As [`crate::Pool::create`], where none was ready.
    pub fn take(&self) -> Result<Segment, Error> {
        self.life.shared().check_owner()?;
        if let Some(held) = self.ready.pop() {
            return Ok(Segment::new(
                Arc::clone(&self.life),
                held,
                Access::ReadWrite,
            ));
        }
        self.ready.misses.fetch_add(1, Ordering::Relaxed);
        self.life.shared().wake();
        self.life
            .create(&Create::new(&self.ready.tier, self.ready.bytes))
    }

    /// How many segments are ready: none for a forked child.
    #[must_use]
    pub fn ready(&self) -> usize {
        if self.life.shared().check_owner().is_err() {
            return 0;
        }
        self.ready.live()
    }

    /// How often none was ready.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.ready.misses.load(Ordering::Relaxed)
    }
}

impl Ready {
    fn pop(&self) -> Option<HeldRef> {
        self.drop_ended();
        self.taken.store(true, Ordering::Relaxed);
        lock(&self.stack).pop()
    }

    /// How many there are.
    fn live(&self) -> usize {
        self.drop_ended();
        lock(&self.stack).len()
    }

    /// Drops the segments that were taken away: nobody else can have their addresses meanwhile.
    fn drop_ended(&self) {
        let ended = |held: &mut HeldRef| held.fate() != Fate::Live;
        // Dropped when the stack is free again: that takes other locks.
        let ended: Vec<_> = lock(&self.stack).extract_if(.., ended).collect();
        drop(ended);
    }

    fn wants_more(&self) -> bool {
        let paused = Deadline::at(Nanos::new(self.paused_until.load(Ordering::Relaxed)));
        self.live() < self.depth && paused.expired()
    }

    fn pause(&self, span: Nanos) {
        self.paused_until
            .store(Deadline::after(span).time().get(), Ordering::Relaxed);
    }
}

/// The background thread's side of all reserves.
pub(crate) struct Reserves {
    shared: Arc<Shared>,
    interval: Nanos,
    next_look: Option<Deadline>,
}

impl Reserves {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            interval: LOOK_OFTEN,
            next_look: None,
        }
    }

    /// When to look again; `None` where there are no reserves.
    pub(crate) const fn next_look(&self) -> Option<Deadline> {
        self.next_look
    }

    /// Whether one is to be filled now.
    pub(crate) fn want_something(&mut self) -> bool {
        let all = self.shared.all_reserves();
        let taken = |ready: &Arc<Ready>| ready.taken.swap(false, Ordering::Relaxed);
        self.interval = if all.iter().filter(|ready| taken(ready)).count() > 0 {
            LOOK_OFTEN
        } else {
            LOOK_RARELY.min(Nanos::new(self.interval.get().saturating_mul(2)))
        };
        self.next_look = (!all.is_empty()).then(|| Deadline::after(self.interval));
        all.iter().any(|ready| ready.wants_more())
    }

    /// Adds one segment to the reserve that has the fewest of those that want more. True where one
    /// wants more after that: events and callers have their turn in between.
    pub(crate) fn fill(&self, session: &mut SessionGuard<'_>) -> bool {
        let all = self.shared.all_reserves();
        let wanting = all.iter().filter(|ready| ready.wants_more());
        let Some(ready) = wanting.min_by_key(|ready| ready.live()) else {
            return false;
        };
        let create = Create::new(&ready.tier, ready.bytes);
        match create.ask(&self.shared, session, self.shared.deadline()) {
            Ok(held) => lock(&ready.stack).push(held),
            // Whoever finds the reserve empty asks for itself, and learns why.
            Err(_) => ready.pause(AFTER_REFUSAL),
        }
        all.iter().any(|ready| ready.wants_more())
    }
}

impl Shared {
    fn all_reserves(&self) -> Vec<Arc<Ready>> {
        let mut reserves = lock(&self.reserves);
        reserves.retain(|ready| ready.strong_count() > 0);
        reserves.iter().filter_map(Weak::upgrade).collect()
    }

    /// Gives the ready segments of a tier back, and leaves it alone for as long as others ask.
    pub(crate) fn give_ready_back(&self, tier: &str, span: Duration) {
        let all = self.all_reserves();
        for ready in all.iter().filter(|ready| ready.tier == tier) {
            ready.pause(Nanos::new(
                u64::try_from(span.as_nanos()).unwrap_or(u64::MAX),
            ));
            let unused = std::mem::take(&mut *lock(&ready.stack));
            drop(unused);
        }
    }
}
