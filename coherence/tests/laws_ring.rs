//! Rings against a queue of the standard library, step by step, with deaths and successors.

#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use std::collections::VecDeque;

use coherence::Slot;
use coherence::ring::mpsc::{Place, Popped, Receiver};
use coherence::ring::spsc::{Consumer, Producer};
use coherence::ring::{Capacity, Mpsc, OwnedMemory, Owner, RingError, Spsc};
use proptest::prelude::*;

fn owner(slot: u8, era: u32) -> Owner {
    let slot = Slot::new(slot).unwrap();
    Owner { slot, era }
}

fn record(value: u64) -> [u64; 4] {
    [value, !value, value.rotate_left(17), 7]
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    PushMany(usize),
    Stage,
    Publish,
    Pop,
    PopMany(usize),
    Peek(usize),
    Advance(u64),
    ProducerDies,
    ConsumerDies,
    ProducerLeaves,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        2 => (0..6usize).prop_map(Step::PushMany),
        2 => Just(Step::Stage),
        2 => Just(Step::Publish),
        4 => Just(Step::Pop),
        2 => (0..6usize).prop_map(Step::PopMany),
        2 => (0..6usize).prop_map(Step::Peek),
        2 => (0..4u64).prop_map(Step::Advance),
        1 => Just(Step::ProducerDies),
        1 => Just(Step::ConsumerDies),
        1 => Just(Step::ProducerLeaves),
    ]
}

/// What a ring of one producer and one consumer must be.
#[derive(Default)]
struct Oracle {
    visible: VecDeque<u64>,
    staged: VecDeque<u64>,
    /// Records from the head on that the consumer knows to be there.
    known: usize,
    value: u64,
}

impl Oracle {
    fn used(&self) -> usize {
        self.visible.len() + self.staged.len()
    }

    fn stage(&mut self) -> [u64; 4] {
        self.value += 1;
        self.staged.push_back(self.value);
        record(self.value)
    }

    fn publish(&mut self) {
        self.visible.append(&mut self.staged);
    }

    fn take(&mut self, count: usize) -> Vec<[u64; 4]> {
        self.known = self.known.saturating_sub(count);
        self.visible.drain(..count).map(record).collect()
    }

    fn front(&self, count: usize) -> Vec<[u64; 4]> {
        self.visible
            .iter()
            .take(count)
            .copied()
            .map(record)
            .collect()
    }
}

/// One producer, one consumer, and what they must do.
struct Both<'a> {
    ring: Spsc<'a, 4>,
    producer: Producer<'a, 4>,
    consumer: Consumer<'a, 4>,
    oracle: Oracle,
    era: u32,
}

impl Both<'_> {
    fn produce(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (producer, oracle) = (&mut self.producer, &mut self.oracle);
        let places = usize::try_from(self.ring.capacity().records()).unwrap();
        let room = places - oracle.used();
        match *step {
            Step::Push if room == 0 => {
                prop_assert_eq!(producer.try_push(&record(0)), Err(RingError::Full));
            }
            Step::Push => {
                producer.try_push(&oracle.stage()).unwrap();
                oracle.publish();
            }
            Step::PushMany(count) => {
                let fits = count.min(room);
                let mut records: Vec<_> = (0..fits).map(|_| oracle.stage()).collect();
                records.resize(count, record(0));
                prop_assert_eq!(producer.try_push_many(&records), Ok(fits));
                oracle.publish();
            }
            Step::Stage if room == 0 => {
                prop_assert_eq!(producer.stage(&record(0)), Err(RingError::Full));
            }
            Step::Stage => producer.stage(&oracle.stage()).unwrap(),
            _ => {
                producer.publish();
                oracle.publish();
            }
        }
        Ok(())
    }

    fn consume(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (consumer, oracle) = (&mut self.consumer, &mut self.oracle);
        match *step {
            Step::Pop => {
                let expected = oracle.take(oracle.visible.len().min(1));
                prop_assert_eq!(consumer.try_pop().unwrap(), expected.first().copied());
            }
            Step::PopMany(count) => {
                let mut records = vec![[0; 4]; count];
                let popped = consumer.try_pop_many(&mut records).unwrap();
                records.truncate(popped);
                prop_assert_eq!(records, oracle.take(oracle.visible.len().min(count)));
            }
            Step::Advance(count) => {
                let passed = usize::try_from(count).unwrap();
                match consumer.advance(count) {
                    Ok(()) => {
                        prop_assert!(passed <= oracle.visible.len());
                        oracle.take(passed);
                    }
                    Err(error) => prop_assert!(passed > oracle.known, "{error}"),
                }
            }
            Step::Peek(count) => {
                let mut records = vec![[0; 4]; count];
                let seen = consumer.peek_many(&mut records).unwrap();
                records.truncate(seen);
                prop_assert_eq!(&records, &oracle.front(count));
                oracle.known = oracle.known.max(seen);
            }
            _ => {
                let dead = owner(2, 0);
                *consumer = self.ring.take_over_consumer(dead, |by| by == dead).unwrap();
                oracle.known = 0;
            }
        }
        Ok(())
    }

    /// The producer dies or leaves: what it had not published is gone.
    fn replace_producer(&mut self, dies: bool) -> Result<(), TestCaseError> {
        let (ring, old) = (self.ring, owner(1, self.era));
        self.era += 1;
        let new = owner(1, self.era);
        let refused = ring.take_over_producer(new, |_| false);
        prop_assert_eq!(refused.err(), Some(RingError::Claimed { by: old }));
        if dies {
            self.producer = ring.take_over_producer(new, |by| by == old).unwrap();
        } else {
            let staying = ring.take_over_producer(old, |_| true).unwrap();
            staying.release().unwrap();
            self.producer = ring.producer(new).unwrap();
        }
        self.oracle.staged.clear();
        Ok(())
    }
}

fn one_producer(shift: u32, steps: &[Step]) -> Result<(), TestCaseError> {
    let capacity = Capacity::new(1 << shift).unwrap();
    let memory = OwnedMemory::new(Spsc::<4>::bytes(capacity));
    let ring = Spsc::<4>::create(memory.memory(), capacity).unwrap();
    let mut both = Both {
        ring,
        producer: ring.producer(owner(1, 0)).unwrap(),
        consumer: ring.consumer(owner(2, 0)).unwrap(),
        oracle: Oracle::default(),
        era: 0,
    };
    for step in steps {
        match step {
            Step::ProducerDies => both.replace_producer(true)?,
            Step::ProducerLeaves => both.replace_producer(false)?,
            Step::Push | Step::PushMany(_) | Step::Stage | Step::Publish => both.produce(step)?,
            _ => both.consume(step)?,
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Act {
    Push(u8),
    Claim(u8),
    /// Of the places that are claimed.
    Publish(usize),
    Abandon(usize),
    Die(u8),
    Pop,
    PeekThenPop,
    Skip,
    ReceiverDies,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..4u8).prop_map(Act::Push),
        2 => (1..4u8).prop_map(Act::Claim),
        2 => (0..4usize).prop_map(Act::Publish),
        1 => (0..4usize).prop_map(Act::Abandon),
        1 => (1..4u8).prop_map(Act::Die),
        6 => Just(Act::Pop),
        1 => Just(Act::PeekThenPop),
        2 => Just(Act::Skip),
        1 => Just(Act::ReceiverDies),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slotted {
    Claimed(Owner),
    Ready(u64),
    Abandoned,
}

/// What a ring of many producers must be: a queue of places.
#[derive(Default)]
struct ManyOracle {
    queue: VecDeque<(u64, Slotted)>,
    places: Vec<(u64, Owner, Place)>,
    eras: [u32; 4],
    value: u64,
    position: u64,
}

impl ManyOracle {
    fn owner(&self, slot: u8) -> Owner {
        owner(slot, self.eras[usize::from(slot)])
    }

    fn is_dead(&self, who: Owner) -> bool {
        self.owner(who.slot.index()) != who
    }

    fn settle(&mut self, index: usize, to: Slotted) -> Option<(Owner, Place)> {
        if self.places.is_empty() {
            return None;
        }
        let (position, by, place) = self.places.swap_remove(index % self.places.len());
        if self.is_dead(by) {
            return None;
        }
        let slotted = self
            .queue
            .iter_mut()
            .find(|(at, _)| *at == position)
            .unwrap();
        slotted.1 = to;
        Some((by, place))
    }

    fn add(&mut self, slotted: Slotted) -> u64 {
        self.queue.push_back((self.position, slotted));
        self.position += 1;
        self.position - 1
    }

    fn head(&mut self) -> Popped<4> {
        while let Some((_, Slotted::Abandoned)) = self.queue.front() {
            self.queue.pop_front();
        }
        match self.queue.front() {
            None => Popped::Empty,
            Some((_, Slotted::Ready(value))) => Popped::Record(record(*value)),
            Some((_, Slotted::Claimed(producer))) => Popped::Pending {
                producer: *producer,
            },
            Some((_, Slotted::Abandoned)) => unreachable!("removed above"),
        }
    }
}

/// Many producers, one receiver, and what they must do.
struct All<'a> {
    ring: Mpsc<'a, 4>,
    receiver: Receiver<'a, 4>,
    oracle: ManyOracle,
}

const READER: u8 = 9;

impl All<'_> {
    fn send(&mut self, act: &Act) -> Result<(), TestCaseError> {
        let (ring, oracle) = (&self.ring, &mut self.oracle);
        // Abandoned places are taken until the head passes them.
        let places = usize::try_from(ring.capacity().records()).unwrap();
        let full = oracle.queue.len() == places;
        match *act {
            Act::Push(slot) => {
                let sender = ring.sender(oracle.owner(slot));
                oracle.value += 1;
                let pushed = sender.try_push(&record(oracle.value));
                prop_assert_eq!(pushed, if full { Err(RingError::Full) } else { Ok(()) });
                if !full {
                    oracle.add(Slotted::Ready(oracle.value));
                }
            }
            Act::Claim(slot) => {
                let by = oracle.owner(slot);
                match ring.sender(by).claim() {
                    Ok(place) => {
                        prop_assert!(!full);
                        let position = oracle.add(Slotted::Claimed(by));
                        oracle.places.push((position, by, place));
                    }
                    Err(error) => prop_assert!(full && error == RingError::Full),
                }
            }
            Act::Publish(index) => {
                let value = oracle.value + 1;
                if let Some((by, place)) = oracle.settle(index, Slotted::Ready(value)) {
                    oracle.value = value;
                    ring.sender(by).publish(place, &record(value)).unwrap();
                }
            }
            Act::Abandon(index) => {
                if let Some((by, place)) = oracle.settle(index, Slotted::Abandoned) {
                    ring.sender(by).abandon(place).unwrap();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self, act: &Act) -> Result<(), TestCaseError> {
        let (receiver, oracle) = (&mut self.receiver, &mut self.oracle);
        match act {
            Act::Skip => {
                let expected = match oracle.queue.front() {
                    Some((_, Slotted::Claimed(by))) if oracle.is_dead(*by) => Some(*by),
                    _ => None,
                };
                let skipped = receiver.skip_dead(|by| oracle.is_dead(by)).unwrap();
                prop_assert_eq!(skipped, expected);
                if skipped.is_some() {
                    oracle.queue.pop_front();
                }
            }
            Act::ReceiverDies => {
                let dead = owner(READER, 0);
                *receiver = self.ring.take_over_receiver(dead, |by| by == dead).unwrap();
            }
            _ => {
                let expected = oracle.head();
                if matches!(act, Act::PeekThenPop) {
                    prop_assert_eq!(receiver.peek().unwrap(), expected);
                }
                prop_assert_eq!(receiver.try_pop().unwrap(), expected);
                if matches!(expected, Popped::Record(_)) {
                    oracle.queue.pop_front();
                }
            }
        }
        Ok(())
    }
}

fn many_producers(shift: u32, acts: &[Act]) -> Result<(), TestCaseError> {
    let capacity = Capacity::new(1 << shift).unwrap();
    let memory = OwnedMemory::new(Mpsc::<4>::bytes(capacity));
    let ring = Mpsc::<4>::create(memory.memory(), capacity).unwrap();
    let mut all = All {
        ring,
        receiver: ring.receiver(owner(READER, 0)).unwrap(),
        oracle: ManyOracle::default(),
    };
    for act in acts {
        match act {
            Act::Die(slot) => all.oracle.eras[usize::from(*slot)] += 1,
            Act::Push(_) | Act::Claim(_) | Act::Publish(_) | Act::Abandon(_) => all.send(act)?,
            _ => all.receive(act)?,
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_ring_of_one_producer_is_a_queue(
        shift in 1..5u32,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        one_producer(shift, &steps)?;
    }

    #[test]
    fn a_ring_of_many_producers_is_a_queue_of_places(
        shift in 1..5u32,
        acts in prop::collection::vec(act(), 0..200),
    ) {
        many_producers(shift, &acts)?;
    }
}
