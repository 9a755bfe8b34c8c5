use coherence::ring::spsc::Consumer;
use coherence::ring::{RingError, Spsc};
use pool_core::clock::Deadline;
use pool_core::sync::{Arc, thread};

use super::{Shared, after_the_others, capacity, explore, made, owner, record, value};

type Ring<'a> = Spsc<'a, 2>;

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

fn open(shared: &Shared) -> Ring<'_> {
    Ring::open(shared.memory.memory()).unwrap()
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

/// Catches: ring.tail_before_record
/// Catches: ring.relaxed_publish
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

/// Catches: ring.head_not_checked
/// Catches: ring.head_before_copy
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

/// Catches: ring.sleeps_without_recheck
/// Catches: ring.sleeps_without_fence
/// Catches: ring.wakes_without_fence
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

/// Catches: ring.event_not_raised
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

/// Catches: ring.event_read_after_flag
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

/// Catches: ring.claims_by_a_store
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

/// Catches: ring.takes_over_the_living
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
