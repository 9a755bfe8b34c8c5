//! What a successor finds where its predecessor died between two stores, and what a sleeper does
//! where its waker did.

#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use coherence::FutexWait;
use coherence::Slot;
use coherence::ring::events::{Event, EventRing, EventSender, Notice, Publisher};
use coherence::ring::mpsc::Popped;
use coherence::ring::{Capacity, Field, Mpsc, OwnedMemory, Owner, RingError, Spsc};
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, thread};
use pool_core::units::Nanos;

/// Words of a ring, as in the layout.
const TAIL: usize = 16;
const PRODUCER_NOTE: usize = 17;
const HEAD: usize = 32;
const CONSUMER_NOTE: usize = 33;

fn owner(slot: u8) -> Owner {
    let slot = Slot::new(slot).unwrap();
    Owner { slot, era: 1 }
}

fn capacity() -> Capacity {
    Capacity::new(4).unwrap()
}

fn event(value: u64) -> Event {
    Event {
        kind: 1,
        slot: Slot::DAEMON,
        unit: 2,
        value,
    }
}

fn send(sender: &mut EventSender<'_>, values: impl Iterator<Item = u64>) -> Vec<bool> {
    values
        .map(|value| sender.send(event(value), &FutexWait).unwrap())
        .collect()
}

#[test]
fn places_that_a_dead_receiver_freed_are_not_read_again() {
    // It frees places and stores the head after each: all but that may be lost with it.
    for lost in 0..=4 {
        let memory = OwnedMemory::new(Mpsc::<1>::bytes(capacity()));
        let ring = Mpsc::<1>::create(memory.memory(), capacity()).unwrap();
        let sender = ring.sender(owner(1));
        let mut receiver = ring.receiver(owner(2)).unwrap();
        for value in 0..4 {
            sender.try_push(&[value]).unwrap();
        }
        for value in 0..lost {
            assert_eq!(receiver.try_pop().unwrap(), Popped::Record([value]));
        }
        memory.words()[HEAD].store(0, Relaxed);
        for value in 4..4 + lost {
            sender.try_push(&[value]).unwrap();
        }
        let mut successor = ring.take_over_receiver(owner(3), |_| true).unwrap();
        for value in lost..4 + lost {
            assert_eq!(successor.try_pop().unwrap(), Popped::Record([value]));
        }
        assert_eq!(successor.try_pop().unwrap(), Popped::Empty);
    }
}

#[test]
fn a_producer_that_was_skipped_learns_that_its_record_is_lost() {
    let memory = OwnedMemory::new(Mpsc::<1>::bytes(capacity()));
    let ring = Mpsc::<1>::create(memory.memory(), capacity()).unwrap();
    let sender = ring.sender(owner(1));
    let mut receiver = ring.receiver(owner(2)).unwrap();
    let place = sender.claim().unwrap();
    assert_eq!(receiver.skip_dead(|_| true).unwrap(), Some(owner(1)));
    let lost = RingError::Lost { position: 0 };
    assert_eq!(sender.publish(place, &[7]), Err(lost));
    assert_eq!(receiver.try_pop().unwrap(), Popped::Empty);
}

#[test]
fn a_role_that_was_given_back_or_taken_over_is_the_next_ones() {
    let memory = OwnedMemory::new(Spsc::<1>::bytes(capacity()));
    let ring = Spsc::<1>::create(memory.memory(), capacity()).unwrap();
    let first = ring.producer(owner(1)).unwrap();
    let by = owner(1);
    assert_eq!(
        ring.producer(owner(2)).unwrap_err(),
        RingError::Claimed { by }
    );
    assert_eq!(
        ring.producer(owner(1)).unwrap_err(),
        RingError::Claimed { by }
    );
    first.release().unwrap();
    let second = ring.producer(owner(2)).unwrap();
    let third = ring.take_over_producer(owner(3), |_| true).unwrap();
    let by = owner(3);
    assert_eq!(second.release(), Err(RingError::Claimed { by }));
    third.release().unwrap();
}

#[test]
fn an_event_counts_once_where_its_sender_died_before_it_raised_the_count() {
    for died in [false, true] {
        let memory = OwnedMemory::new(EventRing::bytes(capacity()));
        let ring = EventRing::create(memory.memory(), capacity()).unwrap();
        let mut receiver = ring.receiver(owner(2), |_| false).unwrap();
        let mut sender = ring.sender(owner(1), |_| false).unwrap();
        assert_eq!(send(&mut sender, 0..2), [true; 2]);
        if died {
            memory.words()[PRODUCER_NOTE].store(1, Relaxed);
        }
        let mut sender = ring.sender(owner(3), |by| by == owner(1)).unwrap();
        assert_eq!(send(&mut sender, 2..4), [true; 2]);
        for value in 0..4 {
            let notice = receiver.try_receive().unwrap();
            assert_eq!(notice, Some(Notice::Event(event(value))));
        }
        assert_eq!(receiver.try_receive().unwrap(), None);
    }
}

#[test]
fn an_event_comes_again_and_none_is_missed_where_its_subscriber_died_with_it() {
    let memory = OwnedMemory::new(EventRing::bytes(capacity()));
    let ring = EventRing::create(memory.memory(), capacity()).unwrap();
    let mut sender = ring.sender(owner(1), |_| false).unwrap();
    let mut receiver = ring.receiver(owner(2), |_| false).unwrap();
    assert_eq!(send(&mut sender, 0..3), [true; 3]);
    assert!(receiver.try_receive().unwrap().is_some());
    // It had noted the second one, and not passed it.
    memory.words()[CONSUMER_NOTE].store(2, Relaxed);
    let mut receiver = ring.receiver(owner(3), |by| by == owner(2)).unwrap();
    for value in 1..3 {
        let notice = receiver.try_receive().unwrap();
        assert_eq!(notice, Some(Notice::Event(event(value))));
    }
    assert_eq!(receiver.try_receive().unwrap(), None);
}

#[test]
fn what_was_missed_last_is_told_without_another_event() {
    let memory = OwnedMemory::new(EventRing::bytes(capacity()));
    let ring = EventRing::create(memory.memory(), capacity()).unwrap();
    let mut sender = ring.sender(owner(1), |_| false).unwrap();
    let mut receiver = ring.receiver(owner(2), |_| false).unwrap();
    let sent = send(&mut sender, 0..6);
    assert_eq!(sent, [true, true, true, true, false, false]);
    for value in 0..4 {
        let notice = receiver.try_receive().unwrap();
        assert_eq!(notice, Some(Notice::Event(event(value))));
    }
    let missed = Some(Notice::Missed { count: 2 });
    assert_eq!(receiver.try_receive().unwrap(), missed);
    assert_eq!(receiver.try_receive().unwrap(), None);
}

#[test]
fn no_subscriber_holds_up_another() {
    let memories = [1, 2, 3].map(|_| OwnedMemory::new(EventRing::bytes(capacity())));
    let rings = memories
        .each_ref()
        .map(|memory| EventRing::create(memory.memory(), capacity()).unwrap());
    let mut publisher = Publisher::new();
    for (slot, ring) in (1..).zip(&rings) {
        publisher.subscribe(owner(slot), ring.sender(owner(9), |_| false).unwrap());
    }
    let mut quick = rings[0].receiver(owner(1), |_| false).unwrap();
    // The second one never reads, and the third one's head is scribbled on.
    memories[2].words()[HEAD].store(77, Relaxed);
    let mut broken = Vec::new();
    let mut missed = 0;
    for value in 0..10 {
        missed += publisher.publish(event(value), &FutexWait, |subscriber, error| {
            broken.push((subscriber, error));
        });
        let notice = quick.try_receive().unwrap();
        assert_eq!(notice, Some(Notice::Event(event(value))));
    }
    assert_eq!(missed, 6);
    let what = Field::Head;
    let expected = RingError::Corrupt { what, found: 77 };
    assert_eq!(broken, [(owner(3), expected)]);
    assert_eq!(publisher.unsubscribe(owner(2)).count(), 1);
    assert_eq!(publisher.unsubscribe(owner(3)).count(), 0);
    assert_eq!(memories[1].words()[TAIL].load(Relaxed), 4);
}

#[test]
fn a_waker_that_dies_before_its_wake_costs_no_more_than_the_cap() {
    let memory = Arc::new(OwnedMemory::new(Spsc::<1>::bytes(capacity())));
    let ring = Spsc::<1>::create(memory.memory(), capacity()).unwrap();
    let other = Arc::clone(&memory);
    let sleeper = thread::spawn(move || {
        let ring = Spsc::<1>::open(other.memory()).unwrap();
        let mut consumer = ring.consumer(owner(2)).unwrap();
        consumer.pop(&FutexWait, Deadline::NEVER).unwrap()
    });
    // Published, and never woken for.
    ring.producer(owner(1)).unwrap().try_push(&[7]).unwrap();
    assert_eq!(sleeper.join().unwrap(), [7]);
}

#[test]
fn a_wait_ends_by_its_deadline() {
    let memory = OwnedMemory::new(Spsc::<1>::bytes(capacity()));
    let ring = Spsc::<1>::create(memory.memory(), capacity()).unwrap();
    let mut consumer = ring.consumer(owner(2)).unwrap();
    let mut producer = ring.producer(owner(1)).unwrap();
    let soon = || Deadline::after(Nanos::from_millis(1));
    let timed_out = |answer| matches!(answer, Err(RingError::TimedOut(_)));
    assert!(timed_out(consumer.pop(&FutexWait, soon()).map(|_| ())));
    for _ in 0..4 {
        producer.push(&[1], &FutexWait, soon()).unwrap();
    }
    assert!(timed_out(producer.push(&[1], &FutexWait, soon())));
    assert_eq!(consumer.wait(&FutexWait, soon()), Ok([1]));
}
