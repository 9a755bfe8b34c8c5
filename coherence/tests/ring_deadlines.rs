//! Blocking calls end by their deadlines, however much of the ring there is to pass.

#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use std::cell::Cell;

use coherence::ring::mpsc::{Popped, Sender};
use coherence::ring::{Capacity, Mpsc, OwnedMemory, Owner, RingError};
use coherence::{ModelWait, Slot, Wait};
use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_core::sync::atomic::AtomicU32;

const PLACES: u64 = 512;

fn owner(slot: u8) -> Owner {
    let slot = Slot::new(slot).unwrap();
    Owner { slot, era: 1 }
}

/// Checks a ring of which every place but the last was claimed by one who died, or abandoned.
fn with_dead_places(abandoned: bool, check: impl FnOnce(Mpsc<'_, 1>)) {
    let capacity = Capacity::new(PLACES).unwrap();
    let memory = OwnedMemory::new(Mpsc::<1>::bytes(capacity));
    let ring = Mpsc::<1>::create(memory.memory(), capacity).unwrap();
    let (dead, alive) = (ring.sender(owner(1)), ring.sender(owner(2)));
    for _ in 1..PLACES {
        let place = dead.claim().unwrap();
        if abandoned {
            dead.abandon(place).unwrap();
        }
    }
    alive.try_push(&[7]).unwrap();
    check(ring);
}

#[test]
fn a_receiver_that_passes_the_dead_stops_at_its_deadline_and_goes_on_where_it_was() {
    with_dead_places(false, |ring| {
        let mut receiver = ring.receiver(owner(3)).unwrap();
        let (wait, asked) = (ModelWait::new(), Cell::new(0));
        let until = Deadline::after(Nanos::from_millis(5));
        let popped = receiver.pop(&wait, until, |_| {
            asked.set(asked.get() + 1);
            // The deadline passes while the third of the dead is looked for.
            while asked.get() == 3 && !until.expired() {
                std::hint::spin_loop();
            }
            true
        });
        assert!(matches!(popped, Err(RingError::TimedOut(_))), "{popped:?}");
        assert!(asked.get() <= 3, "{} were asked for", asked.get());
        let popped = receiver.pop(&wait, Deadline::NEVER, |_| true);
        assert_eq!(popped, Ok([7]));
    });
}

#[test]
fn a_receiver_whose_deadline_has_passed_takes_one_step() {
    with_dead_places(true, |ring| {
        let mut receiver = ring.receiver(owner(3)).unwrap();
        let (wait, passed) = (ModelWait::new(), Deadline::at(Nanos::ZERO));
        let popped = receiver.pop(&wait, passed, |_| true);
        assert!(matches!(popped, Err(RingError::TimedOut(_))), "{popped:?}");
        // What was passed stays passed, and a call that does not wait finds the rest.
        assert_eq!(receiver.try_pop(), Ok(Popped::Record([7])));
    });
}

/// Its sleeps end at once, and in the last of them an honest producer sends a record.
struct Sleeps<'a> {
    left: Cell<u32>,
    honest: Sender<'a, 1>,
}

impl Wait for Sleeps<'_> {
    fn wait(&self, _word: &AtomicU32, _seen: u32, _until: Deadline) {
        let left = self.left.get().checked_sub(1).unwrap();
        self.left.set(left);
        if left == 0 {
            self.honest.try_push(&[7]).unwrap();
        }
    }

    fn wake_all(&self, _word: &AtomicU32) {}
}

#[test]
fn a_receiver_without_a_deadline_sleeps_though_the_dead_claim_places_for_ever() {
    let capacity = Capacity::new(4).unwrap();
    let memory = OwnedMemory::new(Mpsc::<1>::bytes(capacity));
    let ring = Mpsc::<1>::create(memory.memory(), capacity).unwrap();
    let hostile = ring.sender(owner(1));
    let wait = Sleeps {
        left: Cell::new(3),
        honest: ring.sender(owner(2)),
    };
    let mut receiver = ring.receiver(owner(3)).unwrap();
    drop(hostile.claim().unwrap());
    let asked = Cell::new(0);
    let popped = receiver.pop(&wait, Deadline::NEVER, |_| {
        asked.set(asked.get() + 1);
        assert!(asked.get() < 1_000, "it spins for ever");
        // Whoever writes what he likes claims the next place in the name of one who is dead.
        if wait.left.get() > 0 {
            drop(hostile.claim().unwrap());
        }
        true
    });
    assert_eq!((popped, wait.left.get()), (Ok([7]), 0));
}

#[test]
fn what_is_there_is_had_after_the_deadline_as_well() {
    let capacity = Capacity::new(2).unwrap();
    let memory = OwnedMemory::new(Mpsc::<1>::bytes(capacity));
    let ring = Mpsc::<1>::create(memory.memory(), capacity).unwrap();
    let (sender, mut receiver) = (ring.sender(owner(1)), ring.receiver(owner(2)).unwrap());
    let (wait, passed) = (ModelWait::new(), Deadline::at(Nanos::ZERO));
    sender.push(&[1], &wait, passed).unwrap();
    sender.push(&[2], &wait, passed).unwrap();
    let full = sender.push(&[3], &wait, passed);
    assert!(matches!(full, Err(RingError::TimedOut(_))), "{full:?}");
    assert_eq!(receiver.pop(&wait, passed, |_| false), Ok([1]));
}
