//! Rings under every schedule of two or three threads. Plain `cargo test` runs each body once.
//!
//! # What loom does not see
//! loom 0.7 remembers one last access of a location. A thread that loads it and then stores to it
//! hides the load that another thread made before, and the order of that load and this store is not
//! turned around. So the thread that looks lets the one that acts go first
//! (`thread::yield_now`): a load is moved before a store in every case. A thread that has yielded
//! reads no old value any more that it saw before; so a ring is made, and filled, by a thread of
//! its own. And each model says which outcomes its schedules must have, since one that explores
//! nothing proves nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use coherence::Slot;
use coherence::ring::{Capacity, OwnedMemory, Owner};
use coherence::{ModelWait, Wait};
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_core::sync::atomic::{AtomicBool, AtomicU32};
use pool_core::sync::{Arc, model, thread};
use pool_core::units::Bytes;

mod events;
mod many;
mod one;

type Record = [u64; 2];

/// Runs `body` under every schedule. Its answers tell schedules apart: under loom each of
/// `outcomes` comes.
fn explore<T: PartialEq + core::fmt::Debug + Clone + Send + Sync + 'static>(
    outcomes: &[T],
    body: impl Fn() -> T + Send + Sync + 'static,
) {
    // A lock of the standard library: it is none of the model's.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = std::sync::Arc::clone(&seen);
    model(move || {
        let outcome = body();
        let mut seen = all.lock().unwrap();
        if !seen.contains(&outcome) {
            seen.push(outcome);
        }
    });
    if cfg!(loom) {
        let seen = seen.lock().unwrap();
        let missing: Vec<_> = outcomes.iter().filter(|one| !seen.contains(one)).collect();
        assert!(
            missing.is_empty(),
            "no schedule led to {missing:?}, but to {seen:?}"
        );
    }
}

/// Lets the other threads go first: see the top of this file.
fn after_the_others() {
    thread::yield_now();
}

/// What the threads of a model share.
struct Shared {
    memory: OwnedMemory,
    wait: CountedWait,
    /// Whether the thread that dies has.
    dead: AtomicBool,
}

impl Shared {
    fn new(bytes: Bytes) -> Arc<Self> {
        Arc::new(Self {
            memory: OwnedMemory::new(bytes),
            wait: CountedWait::default(),
            dead: AtomicBool::new(false),
        })
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Acquire)
    }

    fn die(&self) {
        self.dead.store(true, Release);
    }
}

/// Says whether anybody slept.
#[derive(Default)]
struct CountedWait {
    wait: ModelWait,
    slept: std::sync::Mutex<bool>,
}

impl CountedWait {
    fn slept(&self) -> bool {
        *self.slept.lock().unwrap()
    }
}

impl Wait for CountedWait {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        *self.slept.lock().unwrap() = true;
        self.wait.wait(word, seen, until);
    }

    fn wake_all(&self, word: &AtomicU32) {
        self.wait.wake_all(word);
    }
}

fn owner(slot: u8) -> Owner {
    let slot = Slot::new(slot).unwrap();
    Owner { slot, era: 7 }
}

fn capacity(records: u64) -> Capacity {
    Capacity::new(records).unwrap()
}

/// What `make` makes, by a thread of its own: see the top of this file.
fn made<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(make).join().unwrap()
}

/// A record that shows when it is torn.
fn record(value: u64) -> Record {
    [value, !value]
}

fn value(record: Record) -> u64 {
    assert_eq!(record[0], !record[1], "the record is torn");
    record[0]
}
