//! Rings in memory that somebody scribbles on: every call answers, none panics, none hangs.

#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use coherence::FutexWait;
use coherence::Slot;
use coherence::ring::events::{Event, EventRing};
use coherence::ring::{Capacity, Field, Mpsc, OwnedMemory, Owner, RingError, Spsc};
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::units::{Bytes, Nanos};
use proptest::prelude::*;

fn owner(slot: u8) -> Owner {
    let slot = Slot::new(slot).unwrap();
    Owner { slot, era: 1 }
}

fn capacity() -> Capacity {
    Capacity::new(4).unwrap()
}

/// A word to write somewhere, and how many calls to make then.
#[derive(Debug, Clone)]
struct Scribble {
    at: usize,
    value: u64,
    /// Added to what is there, which comes close to valid values more often.
    relative: bool,
    calls: Vec<u8>,
}

fn scribbles() -> impl Strategy<Value = Vec<Scribble>> {
    let value = prop_oneof![
        any::<u64>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        0..16u64,
        (0..16u64).prop_map(|less| u64::MAX - less),
    ];
    // Mostly the words that matter: header, counts, notes, the first places.
    let at = prop_oneof![
        0..4usize,
        16..18usize,
        32..34usize,
        48..112usize,
        0..200usize
    ];
    let calls = prop::collection::vec(0..8u8, 0..12);
    let scribble =
        (at, value, any::<bool>(), calls).prop_map(|(at, value, relative, calls)| Scribble {
            at,
            value,
            relative,
            calls,
        });
    prop::collection::vec(scribble, 1..20)
}

impl Scribble {
    fn apply(&self, memory: &OwnedMemory) {
        let words = memory.words();
        let word = &words[self.at % words.len()];
        let base = if self.relative { word.load(Relaxed) } else { 0 };
        word.store(base.wrapping_add(self.value), Relaxed);
        let signals = memory.signals();
        let low = u32::try_from(self.value & 0xffff_ffff).unwrap();
        signals[self.at % signals.len()].store(low, Relaxed);
    }
}

fn at_once() -> Deadline {
    Deadline::at(Nanos::ZERO)
}

fn one_producer(scribbles: &[Scribble]) {
    let memory = OwnedMemory::new(Spsc::<4>::bytes(capacity()));
    let ring = Spsc::<4>::create(memory.memory(), capacity()).unwrap();
    let mut producer = ring.producer(owner(1)).unwrap();
    let mut consumer = ring.consumer(owner(2)).unwrap();
    let mut records = [[0; 4]; 6];
    for scribble in scribbles {
        scribble.apply(&memory);
        for call in &scribble.calls {
            // Any answer will do, as long as there is one.
            match call {
                0 => drop(producer.try_push(&[1; 4])),
                1 => drop(producer.try_push_many(&records)),
                2 => drop(consumer.try_pop()),
                3 => drop(consumer.try_pop_many(&mut records)),
                4 => drop(producer.push(&[1; 4], &FutexWait, at_once())),
                5 => drop(consumer.pop(&FutexWait, at_once())),
                6 => {
                    if let Ok(ring) = Spsc::<4>::open(memory.memory())
                        && let Ok(taken) = ring.take_over_producer(owner(3), |_| true)
                    {
                        producer = taken;
                    }
                }
                _ => {
                    if let Ok(ring) = Spsc::<4>::open(memory.memory())
                        && let Ok(taken) = ring.take_over_consumer(owner(4), |_| true)
                    {
                        consumer = taken;
                    }
                }
            }
        }
    }
}

fn many_producers(scribbles: &[Scribble]) {
    let memory = OwnedMemory::new(Mpsc::<4>::bytes(capacity()));
    let ring = Mpsc::<4>::create(memory.memory(), capacity()).unwrap();
    let sender = ring.sender(owner(1));
    let mut receiver = ring.receiver(owner(2)).unwrap();
    for scribble in scribbles {
        scribble.apply(&memory);
        for call in &scribble.calls {
            match call {
                0 | 1 => drop(sender.try_push(&[1; 4])),
                2 => drop(sender.claim()),
                3 => drop(receiver.try_pop()),
                4 => drop(receiver.skip_dead(|_| true)),
                5 => drop(sender.push(&[1; 4], &FutexWait, at_once())),
                6 => drop(receiver.pop(&FutexWait, at_once(), |_| true)),
                _ => {
                    if let Ok(ring) = Mpsc::<4>::open(memory.memory())
                        && let Ok(taken) = ring.take_over_receiver(owner(4), |_| true)
                    {
                        receiver = taken;
                    }
                }
            }
        }
    }
}

fn events(scribbles: &[Scribble]) {
    let event = Event {
        kind: 1,
        slot: Slot::DAEMON,
        unit: 2,
        value: 3,
    };
    let memory = OwnedMemory::new(EventRing::bytes(capacity()));
    let ring = EventRing::create(memory.memory(), capacity()).unwrap();
    let mut sender = ring.sender(owner(1), |_| false).unwrap();
    let mut receiver = ring.receiver(owner(2), |_| false).unwrap();
    for scribble in scribbles {
        scribble.apply(&memory);
        for call in &scribble.calls {
            match call {
                0..=2 => drop(sender.send(event, &FutexWait)),
                3 | 4 => drop(receiver.try_receive()),
                5 => drop(receiver.receive(&FutexWait, at_once())),
                6 => {
                    if let Ok(taken) = ring.sender(owner(3), |_| true) {
                        sender = taken;
                    }
                }
                _ => {
                    if let Ok(taken) = ring.receiver(owner(4), |_| true) {
                        receiver = taken;
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn scribbles_on_a_ring_of_one_producer_are_survived(scribbles in scribbles()) {
        one_producer(&scribbles);
    }

    #[test]
    fn scribbles_on_a_ring_of_many_producers_are_survived(scribbles in scribbles()) {
        many_producers(&scribbles);
    }

    #[test]
    fn scribbles_on_a_ring_of_events_are_survived(scribbles in scribbles()) {
        events(&scribbles);
    }
}

fn corrupt<T: core::fmt::Debug>(answer: Result<T, RingError>, expected: Field) {
    match answer {
        Err(RingError::Corrupt { what, .. }) => assert_eq!(what, expected),
        other => panic!("{expected} is wrong, and the answer was {other:?}"),
    }
}

#[test]
fn each_word_that_cannot_be_is_told() {
    let memory = OwnedMemory::new(Spsc::<4>::bytes(capacity()));
    let ring = Spsc::<4>::create(memory.memory(), capacity()).unwrap();
    let mut producer = ring.producer(owner(1)).unwrap();
    let mut consumer = ring.consumer(owner(2)).unwrap();
    for _ in 0..4 {
        producer.try_push(&[1; 4]).unwrap();
    }
    let words = memory.words();
    let (tail, head) = (&words[16], &words[32]);
    head.store(5, Relaxed);
    corrupt(producer.try_push(&[1; 4]), Field::Head);
    head.store(u64::MAX, Relaxed);
    corrupt(producer.try_push(&[1; 4]), Field::Head);
    head.store(0, Relaxed);
    tail.store(5, Relaxed);
    let mut records = [[0; 4]; 6];
    corrupt(consumer.try_pop_many(&mut records), Field::Tail);
    corrupt(ring.take_over_consumer(owner(2), |_| true), Field::Tail);
    tail.store(4, Relaxed);
    words[2].store(2, Relaxed);
    corrupt(ring.producer(owner(3)), Field::ProducerClaim);
    words[1].store(0, Relaxed);
    corrupt(Spsc::<4>::open(memory.memory()), Field::Shape);
    words[0].store(0, Relaxed);
    corrupt(Spsc::<4>::open(memory.memory()), Field::Magic);
}

#[test]
fn a_ring_is_opened_as_what_it_is_and_in_all_of_its_memory() {
    let memory = OwnedMemory::new(Mpsc::<4>::bytes(capacity()));
    Spsc::<4>::create(memory.memory(), capacity()).unwrap();
    corrupt(Spsc::<2>::open(memory.memory()), Field::Shape);
    corrupt(Mpsc::<4>::open(memory.memory()), Field::Shape);
    corrupt(EventRing::open(memory.memory()), Field::Shape);
    assert!(Spsc::<4>::open(memory.memory()).is_ok());
    // The same header with more places than there is memory for.
    memory.words()[1].fetch_add(1 << 24, Relaxed);
    assert!(Spsc::<4>::open(memory.memory()).is_ok());
    memory.words()[1].fetch_add(1 << 24, Relaxed);
    let answer = Spsc::<4>::open(memory.memory()).unwrap_err();
    assert!(matches!(answer, RingError::TooSmall { .. }), "{answer}");
    let none = OwnedMemory::new(Bytes::ZERO);
    assert!(Spsc::<4>::open(none.memory()).is_err());
    assert!(Spsc::<4>::create(none.memory(), capacity()).is_err());
    for records in [0, 1, 3, 1 << 25, u64::MAX] {
        assert!(Capacity::new(records).is_err());
    }
}
