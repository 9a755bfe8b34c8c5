use coherence::ring::mpsc::{Popped, Receiver};
use coherence::ring::{Mpsc, Owner, RingError};
use pool_core::clock::Deadline;
use pool_core::sync::{Arc, thread};

use super::{Shared, after_the_others, capacity, explore, made, owner, record, value};

type Many<'a> = Mpsc<'a, 2>;

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

fn open_many(shared: &Shared) -> Many<'_> {
    Many::open(shared.memory.memory()).unwrap()
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

/// Catches: mpsc.free_before_copy
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

/// Catches: mpsc.ready_before_record
/// Catches: mpsc.relaxed_ready
/// Catches: mpsc.skips_live_producer
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

/// Catches: mpsc.tail_left_to_the_claimant
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
