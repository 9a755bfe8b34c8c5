//! Rings under every schedule of two or three threads. Plain `cargo test` runs each body once.
//!
//! # What loom does not see
//! loom 0.7 remembers one last access of a location. A thread that loads it and then stores to it
//! hides the load that another thread made before, and the order of that load and this store is not
//! turned around. So the thread that looks lets the one that acts go first
//! (`thread::yield_now`): a load is moved before a store in every case. A thread that has yielded
//! reads no old value any more that it saw before; so a ring is made, and filled, by a thread of its
//! own. And each model says which outcomes its schedules must have, since one that explores nothing
//! proves nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use coherence::Slot;
use coherence::ring::events::{Event, EventReceiver, EventRing, Notice};
use coherence::ring::mpsc::{Popped, Receiver};
use coherence::ring::spsc::Consumer;
use coherence::ring::{Capacity, Mpsc, OwnedMemory, Owner, RingError, Spsc};
use coherence::wait::{ModelWait, Wait};
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_core::sync::atomic::{AtomicBool, AtomicU32};
use pool_core::sync::{Arc, model, thread};
use pool_core::units::Bytes;

type Record = [u64; 2];
type Ring<'a> = Spsc<'a, 2>;
type Many<'a> = Mpsc<'a, 2>;

/// Runs `body` under every schedule. Its answers tell schedules apart: under loom each of `outcomes`
/// comes.
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

fn ring(records: u64) -> Arc<Shared> {
    full_ring(records, 0)
}

/// A ring with the records from 1 to `filled`.
fn full_ring(records: u64, filled: u64) -> Arc<Shared> {
    made(move || {
        let capacity = capacity(records);
        let shared = Shared::new(Ring::bytes(capacity));
        let ring = Ring::create(shared.memory.memory(), capacity).unwrap();
        let mut producer = ring.producer(owner(1)).unwrap();
        for value in 1..=filled {
            producer.try_push(&record(value)).unwrap();
        }
        producer.release().unwrap();
        shared
    })
}

fn many(records: u64) -> Arc<Shared> {
    full_many(records, &[])
}

fn full_many(records: u64, filled: &'static [u64]) -> Arc<Shared> {
    made(move || {
        let capacity = capacity(records);
        let shared = Shared::new(Many::bytes(capacity));
        Many::create(shared.memory.memory(), capacity).unwrap();
        assert_eq!(send(&shared, 1, filled), filled);
        shared
    })
}

fn open(shared: &Shared) -> Ring<'_> {
    Ring::open(shared.memory.memory()).unwrap()
}

fn open_many(shared: &Shared) -> Many<'_> {
    Many::open(shared.memory.memory()).unwrap()
}

/// A record that shows when it is torn.
fn record(value: u64) -> Record {
    [value, !value]
}

fn value(record: Record) -> u64 {
    assert_eq!(record[0], !record[1], "the record is torn");
    record[0]
}

/// Pops at most `tries` times.
fn pop(consumer: &mut Consumer<'_, 2>, tries: usize) -> Vec<u64> {
    let popped = (0..tries).filter_map(|_| consumer.try_pop().unwrap());
    popped.map(value).collect()
}

/// Pushes 1, 2, .. at most `count` times, and says which were pushed.
fn push(shared: &Shared, count: u64) -> Vec<u64> {
    let mut producer = open(shared).producer(owner(1)).unwrap();
    let pushed = (1..=count).filter(|&value| match producer.try_push(&record(value)) {
        Ok(()) => true,
        Err(RingError::Full) => false,
        Err(error) => panic!("{error}"),
    });
    pushed.collect()
}

#[test]
fn a_record_is_seen_whole_once_and_in_order() {
    explore(&[0, 1, 2], || {
        let shared = ring(4);
        let other = Arc::clone(&shared);
        let producer = thread::spawn(move || push(&other, 2));
        after_the_others();
        let mut consumer = open(&shared).consumer(owner(2)).unwrap();
        let mut popped = pop(&mut consumer, 2);
        let early = popped.len();
        assert_eq!(producer.join().unwrap(), [1, 2]);
        popped.extend(pop(&mut consumer, 3));
        assert_eq!(popped, [1, 2]);
        early
    });
}

#[test]
fn a_place_is_written_again_only_after_it_was_read() {
    explore(&[2, 3, 4], || {
        let shared = ring(2);
        let other = Arc::clone(&shared);
        let producer = thread::spawn(move || push(&other, 4));
        after_the_others();
        let mut consumer = open(&shared).consumer(owner(2)).unwrap();
        let mut popped = pop(&mut consumer, 3);
        let pushed = producer.join().unwrap();
        popped.extend(pop(&mut consumer, 3));
        assert_eq!(popped, pushed);
        pushed.len()
    });
}

#[test]
fn a_batch_is_seen_at_once() {
    explore(&[0, 2], || {
        let shared = ring(2);
        let other = Arc::clone(&shared);
        let producer = thread::spawn(move || {
            let mut producer = open(&other).producer(owner(1)).unwrap();
            producer.try_push_many(&[1, 2, 3].map(record)).unwrap()
        });
        after_the_others();
        let mut consumer = open(&shared).consumer(owner(2)).unwrap();
        let mut records = [[0; 2]; 3];
        let count = consumer.try_pop_many(&mut records).unwrap();
        assert!(count == 0 || count == 2, "{count}");
        assert_eq!(producer.join().unwrap(), 2);
        if count == 0 {
            assert_eq!(consumer.try_pop_many(&mut records).unwrap(), 2);
        }
        assert_eq!([value(records[0]), value(records[1])], [1, 2]);
        count
    });
}

#[test]
fn a_sleeping_consumer_is_woken_by_a_record() {
    explore(&[false, true], || {
        let shared = ring(2);
        let other = Arc::clone(&shared);
        let producer = thread::spawn(move || {
            let mut producer = open(&other).producer(owner(1)).unwrap();
            producer.try_push(&record(1)).unwrap();
            producer.notify(&other.wait);
        });
        after_the_others();
        let mut consumer = open(&shared).consumer(owner(2)).unwrap();
        let popped = consumer.pop(&shared.wait, Deadline::NEVER).unwrap();
        assert_eq!(value(popped), 1);
        producer.join().unwrap();
        shared.wait.slept()
    });
}

#[test]
fn a_sleeping_producer_is_woken_by_a_place() {
    explore(&[false, true], || {
        let shared = full_ring(2, 2);
        let other = Arc::clone(&shared);
        let consumer = thread::spawn(move || {
            let mut consumer = open(&other).consumer(owner(2)).unwrap();
            let popped = pop(&mut consumer, 1);
            consumer.notify(&other.wait);
            popped
        });
        after_the_others();
        let ring = open(&shared);
        let mut producer = ring.producer(owner(1)).unwrap();
        producer
            .push(&record(3), &shared.wait, Deadline::NEVER)
            .unwrap();
        assert_eq!(consumer.join().unwrap(), [1]);
        let mut rest = ring.take_over_consumer(owner(2), |_| true).unwrap();
        assert_eq!(pop(&mut rest, 3), [2, 3]);
        shared.wait.slept()
    });
}

#[test]
fn both_sides_may_sleep_in_turn() {
    explore(&[false, true], || {
        let shared = ring(2);
        let other = Arc::clone(&shared);
        let producer = thread::spawn(move || {
            let mut producer = open(&other).producer(owner(1)).unwrap();
            for value in 1..=3 {
                let (record, wait) = (record(value), &other.wait);
                producer.push(&record, wait, Deadline::NEVER).unwrap();
            }
        });
        after_the_others();
        let mut consumer = open(&shared).consumer(owner(2)).unwrap();
        for expected in 1..=3 {
            let popped = consumer.pop(&shared.wait, Deadline::NEVER).unwrap();
            assert_eq!(value(popped), expected);
        }
        producer.join().unwrap();
        shared.wait.slept()
    });
}

#[test]
fn a_role_has_one_claimant() {
    explore(&[false, true], || {
        let shared = ring(2);
        let other = Arc::clone(&shared);
        let rival = thread::spawn(move || open(&other).producer(owner(1)).is_ok());
        after_the_others();
        let mine = open(&shared).producer(owner(2));
        let theirs = rival.join().unwrap();
        assert!(mine.is_ok() != theirs);
        if let Err(error) = mine {
            assert_eq!(error, RingError::Claimed { by: owner(1) });
        }
        theirs
    });
}

#[test]
fn a_producer_that_dies_before_it_publishes_hides_nothing() {
    explore(&[vec![1], vec![1, 3], vec![3]], || {
        let shared = ring(4);
        let (dying, reading) = (Arc::clone(&shared), Arc::clone(&shared));
        let dying = thread::spawn(move || {
            let Ok(mut producer) = open(&dying).producer(owner(1)) else {
                return false;
            };
            producer.try_push(&record(1)).unwrap();
            producer.stage(&record(2)).unwrap();
            dying.die();
            true
        });
        let reading = thread::spawn(move || {
            let mut consumer = open(&reading).consumer(owner(2)).unwrap();
            pop(&mut consumer, 2)
        });
        after_the_others();
        let first = open(&shared).take_over_producer(owner(3), |by| {
            assert_eq!(by, owner(1));
            shared.is_dead()
        });
        // Where we came first there was nobody to take over from.
        let was_there = dying.join().unwrap();
        let mut expected = if was_there { vec![1] } else { Vec::new() };
        if let Ok(mut successor) = first {
            successor.try_push(&record(3)).unwrap();
            expected.push(3);
        }
        let mut popped = reading.join().unwrap();
        let mut consumer = open(&shared)
            .take_over_consumer(owner(4), |_| true)
            .unwrap();
        popped.extend(pop(&mut consumer, 3));
        assert_eq!(popped, expected);
        expected
    });
}

#[test]
fn a_consumer_that_dies_before_it_advances_has_its_record_delivered_again() {
    explore(&[false, true], || {
        let shared = full_ring(4, 3);
        let other = Arc::clone(&shared);
        let mut first = open(&shared).consumer(owner(2)).unwrap();
        assert_eq!(pop(&mut first, 1), [1]);
        let successor = thread::spawn(move || {
            let ring = open(&other);
            match ring.take_over_consumer(owner(3), |_| other.is_dead()) {
                Ok(mut consumer) => pop(&mut consumer, 3),
                Err(RingError::Claimed { by }) => {
                    assert_eq!(by, owner(2));
                    Vec::new()
                }
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(pop(&mut first, 1), [2]);
        assert_eq!(first.peek().unwrap().map(value), Some(3));
        shared.die();
        let mut again = successor.join().unwrap();
        let early = !again.is_empty();
        if again.is_empty() {
            let ring = open(&shared);
            let mut consumer = ring.take_over_consumer(owner(3), |_| true).unwrap();
            again = pop(&mut consumer, 3);
        }
        assert_eq!(again, [3]);
        early
    });
}

/// Pops at most `tries` times; asks whether the producer of a pending place is dead.
fn receive(
    receiver: &mut Receiver<'_, 2>,
    tries: usize,
    is_dead: impl Fn(Owner) -> bool,
) -> Vec<u64> {
    let mut popped = Vec::new();
    for _ in 0..tries {
        match receiver.try_pop().unwrap() {
            Popped::Record(record) => popped.push(value(record)),
            Popped::Empty => {}
            Popped::Pending { producer } => {
                let skipped = receiver.skip_dead(|by| {
                    assert_eq!(by, producer);
                    is_dead(by)
                });
                assert!(skipped.unwrap().is_none_or(|by| by == producer));
            }
        }
    }
    popped
}

fn send(shared: &Shared, slot: u8, values: &[u64]) -> Vec<u64> {
    let sender = open_many(shared).sender(owner(slot));
    let sent = values
        .iter()
        .filter(|&&value| match sender.try_push(&record(value)) {
            Ok(()) => true,
            Err(RingError::Full) => false,
            Err(error) => panic!("{error}"),
        });
    sent.copied().collect()
}

#[test]
fn each_record_of_two_producers_comes_once_and_in_their_order() {
    explore(&[(0, 2), (1, 2), (1, 3)], || {
        let shared = many(2);
        let (first, second) = (Arc::clone(&shared), Arc::clone(&shared));
        let first = thread::spawn(move || send(&first, 1, &[1]));
        let second = thread::spawn(move || send(&second, 2, &[11, 12]));
        after_the_others();
        let mut receiver = open_many(&shared).receiver(owner(3)).unwrap();
        let mut popped = receive(&mut receiver, 1, |_| false);
        let early = popped.len();
        let (first, second) = (first.join().unwrap(), second.join().unwrap());
        popped.extend(receive(&mut receiver, 3, |_| false));
        let of = |from: u64| {
            popped
                .iter()
                .copied()
                .filter(move |value| value / 10 == from)
        };
        assert!(of(0).eq(first), "{popped:?}");
        assert!(of(1).eq(second), "{popped:?}");
        (early, popped.len())
    });
}

#[test]
fn a_place_of_many_producers_is_written_again_only_after_it_was_read() {
    explore(&[2, 3], || {
        let shared = many(2);
        let other = Arc::clone(&shared);
        let sender = thread::spawn(move || send(&other, 1, &[1, 2, 3]));
        after_the_others();
        let mut receiver = open_many(&shared).receiver(owner(3)).unwrap();
        let mut popped = receive(&mut receiver, 2, |_| false);
        let sent = sender.join().unwrap();
        popped.extend(receive(&mut receiver, 3, |_| false));
        assert_eq!(popped, sent);
        sent.len()
    });
}

#[test]
fn a_slow_producer_is_waited_for_and_never_skipped() {
    explore(&[false, true], || {
        let shared = many(2);
        let other = Arc::clone(&shared);
        let slow = thread::spawn(move || {
            let sender = open_many(&other).sender(owner(1));
            let place = sender.claim().unwrap();
            sender.publish(place, &record(1)).unwrap();
        });
        after_the_others();
        let mut receiver = open_many(&shared).receiver(owner(3)).unwrap();
        let (mut popped, mut pending) = (Vec::new(), false);
        for _ in 0..2 {
            pending |= receiver.peek().unwrap() == Popped::Pending { producer: owner(1) };
            popped.extend(receive(&mut receiver, 1, |_| false));
        }
        slow.join().unwrap();
        popped.extend(receive(&mut receiver, 2, |_| false));
        assert_eq!(popped, [1]);
        pending
    });
}

#[test]
fn a_producer_that_dies_with_a_place_holds_up_nobody() {
    explore(&[0, 1], || {
        let shared = many(2);
        let (dying, living) = (Arc::clone(&shared), Arc::clone(&shared));
        let dying = thread::spawn(move || {
            let sender = open_many(&dying).sender(owner(1));
            let _place = sender.claim().unwrap();
            dying.die();
        });
        let living = thread::spawn(move || send(&living, 2, &[11]));
        after_the_others();
        let mut receiver = open_many(&shared).receiver(owner(3)).unwrap();
        let is_dead = |by| by == owner(1) && shared.is_dead();
        let mut popped = receive(&mut receiver, 2, is_dead);
        let early = popped.len();
        dying.join().unwrap();
        assert_eq!(living.join().unwrap(), [11]);
        popped.extend(receive(&mut receiver, 4, is_dead));
        assert_eq!(popped, [11]);
        assert_eq!(receiver.try_pop().unwrap(), Popped::Empty);
        early
    });
}

#[test]
fn an_abandoned_place_is_passed() {
    explore(&[0, 1], || {
        let shared = many(2);
        let other = Arc::clone(&shared);
        let sender = thread::spawn(move || {
            let sender = open_many(&other).sender(owner(1));
            let place = sender.claim().unwrap();
            sender.abandon(place).unwrap();
            sender.try_push(&record(1)).unwrap();
        });
        after_the_others();
        let mut receiver = open_many(&shared).receiver(owner(3)).unwrap();
        let mut popped = receive(&mut receiver, 2, |_| false);
        let early = popped.len();
        sender.join().unwrap();
        popped.extend(receive(&mut receiver, 2, |_| false));
        assert_eq!(popped, [1]);
        early
    });
}

#[test]
fn a_sleeping_receiver_is_woken_by_either_producer() {
    explore(&[false, true], || {
        let shared = many(2);
        let senders = [1, 2].map(|slot| {
            let other = Arc::clone(&shared);
            thread::spawn(move || {
                let sender = open_many(&other).sender(owner(slot));
                sender.try_push(&record(slot.into())).unwrap();
                sender.notify(&other.wait);
            })
        });
        after_the_others();
        let mut receiver = open_many(&shared).receiver(owner(3)).unwrap();
        let first = receiver.pop(&shared.wait, Deadline::NEVER, |_| false);
        for sender in senders {
            sender.join().unwrap();
        }
        let second = receive(&mut receiver, 1, |_| false);
        assert_eq!(value(first.unwrap()) + second[0], 3);
        shared.wait.slept()
    });
}

#[test]
fn two_sleeping_producers_are_woken_by_places() {
    explore(&[false, true], || {
        let shared = full_many(2, &[1, 2]);
        let senders = [1, 2].map(|slot| {
            let other = Arc::clone(&shared);
            thread::spawn(move || {
                let sender = open_many(&other).sender(owner(slot));
                let (record, wait) = (record(u64::from(slot) + 2), &other.wait);
                sender.push(&record, wait, Deadline::NEVER).unwrap();
            })
        });
        after_the_others();
        let mut receiver = open_many(&shared).receiver(owner(3)).unwrap();
        assert_eq!(receive(&mut receiver, 2, |_| false), [1, 2]);
        receiver.notify(&shared.wait);
        for sender in senders {
            sender.join().unwrap();
        }
        let rest = receive(&mut receiver, 2, |_| false);
        assert_eq!(rest.iter().sum::<u64>(), 7);
        shared.wait.slept()
    });
}

fn event(value: u64) -> Event {
    let slot = Slot::DAEMON;
    Event {
        kind: 1,
        slot,
        unit: 2,
        value,
    }
}

/// Takes at most `tries` notices, and checks that the events and the misses are those in order.
/// Says how many were missed.
fn notices(receiver: &mut EventReceiver<'_>, tries: usize, position: &mut u64) -> u64 {
    let mut missed = 0;
    for _ in 0..tries {
        match receiver.try_receive().unwrap() {
            Some(Notice::Event(found)) => {
                assert_eq!(found, event(*position));
                *position += 1;
            }
            Some(Notice::Missed { count }) => {
                *position += count;
                missed += count;
            }
            None => {}
        }
    }
    missed
}

#[test]
fn an_event_is_received_or_told_as_missed_at_its_place_in_the_order() {
    const SENT: u64 = 4;
    explore(&[0, 1, 2], || {
        let capacity = capacity(2);
        let shared = made(move || {
            let shared = Shared::new(EventRing::bytes(capacity));
            EventRing::create(shared.memory.memory(), capacity).unwrap();
            shared
        });
        let other = Arc::clone(&shared);
        let sender = thread::spawn(move || {
            let ring = EventRing::open(other.memory.memory()).unwrap();
            let mut sender = ring.sender(owner(1), |_| false).unwrap();
            for value in 0..SENT {
                let _sent = sender.send(event(value), &other.wait).unwrap();
            }
        });
        after_the_others();
        let ring = EventRing::open(shared.memory.memory()).unwrap();
        let mut receiver = ring.receiver(owner(2), |_| false).unwrap();
        let mut position = 0;
        let mut missed = notices(&mut receiver, 3, &mut position);
        sender.join().unwrap();
        missed += notices(&mut receiver, 6, &mut position);
        assert_eq!(position, SENT);
        assert_eq!(receiver.try_receive().unwrap(), None);
        missed
    });
}
