//! Typed notices to several subscribers, none of whom can hold up the sender.
//!
//! Each subscriber has a ring of its own. Where it is full the event is not sent to that
//! subscriber; it is counted, and the subscriber is told [`Notice::Missed`] with the number, at
//! the place in the order where the events would have been. It then asks for the state that the
//! events were about.
//!
//! # Layout
//! A record of four words: kind (bits 0..16), slot (16..24), zero (24..32), unit (32..64); the
//! value; the sequence number; zero. The producer's note is the number of events so far, sent and
//! missed; the consumer's note is the sequence number that it expects.
//!
//! # Protocol
//! An event's sequence number is the number of events before it, missed ones included: a jump is
//! what was missed. The sender raises its note, with release, after the record is published or the
//! event is given up. The subscriber acquires the note *before* it looks at the ring: where it
//! finds the ring empty, every event up to that note was published and seen, or missed.
//! A sender that dies between the two leaves the note one behind the last record; its successor
//! looks at that record. A subscriber stores its note before it passes a record, so that a
//! successor may find a record one before what is expected, and knows it for a repetition.

use core::fmt;

use pool_core::clock::Deadline;
use pool_core::planted;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::units::Bytes;

use super::layout::{Kind, bytes_needed};
use super::signal::{ONE_STEP, Step};
use super::spsc::{Consumer, Producer};
use super::{Capacity, Field, Owner, RingError, RingMemory, Spsc};
use crate::Slot;
use crate::wait::Wait;

const WORDS: usize = 4;
/// A jump past this is no number of missed events but a scribble.
const JUMP_MAX: u64 = 1 << 62;

/// Something that happened to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// What happened; the numbers are the users'.
    pub kind: u16,
    /// Whom it concerns.
    pub slot: Slot,
    /// The unit's index.
    pub unit: u32,
    /// What there is to say: a version, an epoch, an amount.
    pub value: u64,
}

impl Event {
    fn to_record(self, sequence: u64) -> [u64; WORDS] {
        let what =
            u64::from(self.kind) | u64::from(self.slot.index()) << 16 | u64::from(self.unit) << 32;
        [what, self.value, sequence, 0]
    }

    fn from_record(record: [u64; WORDS]) -> Result<(Self, u64), RingError> {
        let [what, value, sequence, zero] = record;
        let [k0, k1, slot, pad, u0, u1, u2, u3] = what.to_le_bytes();
        match Slot::new(slot) {
            Some(slot) if pad == 0 && zero == 0 => {
                let event = Self {
                    kind: u16::from_le_bytes([k0, k1]),
                    slot,
                    unit: u32::from_le_bytes([u0, u1, u2, u3]),
                    value,
                };
                Ok((event, sequence))
            }
            _ => Err(Field::Event.corrupt(what)),
        }
    }
}

/// What a subscriber is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// This happened.
    Event(Event),
    /// The ring was full when this many events happened. Ask for the state anew.
    Missed {
        /// How many.
        count: u64,
    },
}

/// The ring of one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct EventRing<'a>(Spsc<'a, WORDS>);

impl<'a> EventRing<'a> {
    /// The memory that a ring of this capacity takes.
    #[must_use]
    pub fn bytes(capacity: Capacity) -> Bytes {
        bytes_needed(Kind::Events, WORDS, capacity)
    }

    /// Makes an empty ring in memory that nobody uses yet.
    ///
    /// # Errors
    /// [`RingError::TooSmall`].
    pub fn create(memory: RingMemory<'a>, capacity: Capacity) -> Result<Self, RingError> {
        Spsc::create_as(memory, Kind::Events, capacity).map(Self)
    }

    /// Opens a ring that somebody made.
    ///
    /// # Errors
    /// [`RingError::Corrupt`], [`RingError::TooSmall`].
    pub fn open(memory: RingMemory<'a>) -> Result<Self, RingError> {
        Spsc::open_as(memory, Kind::Events).map(Self)
    }

    /// Claims the sender's side, from a dead sender too. `is_dead` says yes only of one that is
    /// proven gone.
    ///
    /// # Errors
    /// As [`Spsc::take_over_producer`].
    pub fn sender(
        &self,
        owner: Owner,
        is_dead: impl FnOnce(Owner) -> bool,
    ) -> Result<EventSender<'a>, RingError> {
        let producer = self.0.take_over_producer(owner, is_dead)?;
        // Our predecessor's, or zero.
        let mut count = producer.area().producer_note.load(Acquire);
        if let Some([_, _, last, _]) = producer.last()?
            && last == count
        {
            count = count.wrapping_add(1);
        }
        Ok(EventSender { producer, count })
    }

    /// Claims the subscriber's side, from a dead subscriber too. `is_dead` says yes only of one
    /// that is proven gone. Its last event may come again.
    ///
    /// # Errors
    /// As [`Spsc::take_over_consumer`].
    pub fn receiver(
        &self,
        owner: Owner,
        is_dead: impl FnOnce(Owner) -> bool,
    ) -> Result<EventReceiver<'a>, RingError> {
        let consumer = self.0.take_over_consumer(owner, is_dead)?;
        let expected = consumer.area().consumer_note.load(Acquire);
        let may_repeat = !consumer.is_new() || expected > 0;
        Ok(EventReceiver {
            consumer,
            expected,
            may_repeat,
        })
    }
}

/// Sends to one subscriber. See [`Publisher`] for several.
#[derive(Debug)]
pub struct EventSender<'a> {
    producer: Producer<'a, WORDS>,
    /// Events so far, sent and missed.
    count: u64,
}

impl EventSender<'_> {
    /// Sends `event`, or counts it as missed where the ring is full; says whether it was sent.
    /// Never waits.
    ///
    /// # Errors
    /// [`RingError::Corrupt`], and the event is missed.
    pub fn send(&mut self, event: Event, wait: &impl Wait) -> Result<bool, RingError> {
        let record = event.to_record(self.count);
        if planted!("events.count_before_record") {
            let note = self.producer.area().producer_note;
            note.store(self.count.wrapping_add(1), Release);
        }
        let outcome = self.producer.try_push(&record);
        if !(planted!("events.forgets_the_missed") && outcome.is_err()) {
            self.count = self.count.wrapping_add(1);
        }
        // Release pairs with the acquire in `EventReceiver::try_receive`: who sees the count sees
        // the records before it.
        self.producer
            .area()
            .producer_note
            .store(self.count, Release);
        self.producer.notify(wait);
        match outcome {
            Ok(()) => Ok(true),
            Err(RingError::Full) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the claim back.
    ///
    /// # Errors
    /// As [`Producer::release`].
    pub fn release(self) -> Result<(), RingError> {
        self.producer.release()
    }
}

/// Receives what is sent to one subscriber.
#[derive(Debug)]
pub struct EventReceiver<'a> {
    consumer: Consumer<'a, WORDS>,
    expected: u64,
    /// Whether the next record may be one that a dead predecessor has seen.
    may_repeat: bool,
}

impl EventReceiver<'_> {
    /// The next notice, or `None` where there is none.
    ///
    /// # Errors
    /// [`RingError::Corrupt`].
    pub fn try_receive(&mut self) -> Result<Option<Notice>, RingError> {
        // Before the ring is looked at: see the module.
        let count = self.consumer.area().producer_note.load(Acquire);
        let Some(record) = self.consumer.peek()? else {
            return self.missed_up_to(count);
        };
        let (event, sequence) = Event::from_record(record)?;
        let repeated = self.may_repeat && sequence.wrapping_add(1) == self.expected;
        if !repeated && let Some(missed) = self.missed_up_to(sequence)? {
            // The event itself stays in the ring for the next call.
            return Ok(Some(missed));
        }
        self.may_repeat = false;
        self.expect(sequence.wrapping_add(1));
        self.consumer.advance(1)?;
        Ok(Some(Notice::Event(event)))
    }

    /// The next notice; waits for one until `until`.
    ///
    /// # Errors
    /// [`RingError::TimedOut`], [`RingError::Corrupt`].
    pub fn receive(&mut self, wait: &impl Wait, until: Deadline) -> Result<Notice, RingError> {
        let ready = self.consumer.area().ready;
        ready.until(wait, until, ONE_STEP, || self.try_receive().map(Step::from))
    }

    /// Gives the claim back.
    ///
    /// # Errors
    /// As [`Consumer::release`].
    pub fn release(self) -> Result<(), RingError> {
        self.consumer.release()
    }

    fn missed_up_to(&mut self, sequence: u64) -> Result<Option<Notice>, RingError> {
        match sequence.wrapping_sub(self.expected) {
            0 => Ok(None),
            count if count < JUMP_MAX => {
                self.expect(sequence);
                Ok(Some(Notice::Missed { count }))
            }
            // The note of a sender that died before it could raise it is one behind; an older one
            // than that is a scribble.
            u64::MAX => Ok(None),
            _ => Err(Field::Sequence.corrupt(sequence)),
        }
    }

    fn expect(&mut self, sequence: u64) {
        self.expected = sequence;
        // Seen by a successor through the release of the head that follows, or through our death.
        self.consumer.area().consumer_note.store(sequence, Relaxed);
    }
}

/// Sends to several subscribers.
#[derive(Debug, Default)]
pub struct Publisher<'a> {
    senders: Vec<(Owner, EventSender<'a>)>,
}

impl<'a> Publisher<'a> {
    /// One without subscribers.
    #[must_use]
    pub const fn new() -> Self {
        let senders = Vec::new();
        Self { senders }
    }

    /// Sends to this subscriber, too, from now on.
    pub fn subscribe(&mut self, subscriber: Owner, sender: EventSender<'a>) {
        self.senders.push((subscriber, sender));
    }

    /// Sends to this subscriber no more, and gives its senders back.
    pub fn unsubscribe(&mut self, subscriber: Owner) -> impl Iterator<Item = EventSender<'a>> {
        self.senders
            .extract_if(.., move |(to, _)| *to == subscriber)
            .map(|(_, sender)| sender)
    }

    /// Sends `event` to each subscriber whose ring has room, and says how many missed it. Never
    /// waits. A subscriber whose ring is broken is told to `broken` and gets nothing from now on.
    pub fn publish(
        &mut self,
        event: Event,
        wait: &impl Wait,
        mut broken: impl FnMut(Owner, RingError),
    ) -> usize {
        let mut missed = 0;
        self.senders
            .retain_mut(|(subscriber, sender)| match sender.send(event, wait) {
                Ok(sent) => {
                    missed += usize::from(!sent);
                    true
                }
                Err(error) => {
                    broken(*subscriber, error);
                    false
                }
            });
        missed
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => write!(
                f,
                "event {} of {}, unit {}: {}",
                event.kind, event.slot, event.unit, event.value
            ),
            Self::Missed { count } => write!(f, "{count} events missed"),
        }
    }
}
