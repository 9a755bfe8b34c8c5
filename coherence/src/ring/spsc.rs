//! One producer, one consumer. The layout, the invariants and the protocol are those of
//! [`ring`](super).

use core::fmt;

use pool_core::clock::Deadline;
use pool_core::planted;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::units::Bytes;

use super::layout::{Area, Kind, bytes_needed, read, write};
use super::signal::{ONE_STEP, Step};
use super::{Capacity, Field, Owner, RingError, RingMemory};
use crate::wait::Wait;

/// A ring of records of `N` words in shared memory. It is not a side of the ring: claim one.
#[derive(Clone, Copy)]
pub struct Spsc<'a, const N: usize> {
    area: Area<'a, N>,
}

impl<'a, const N: usize> Spsc<'a, N> {
    /// The memory that a ring of this capacity takes.
    #[must_use]
    pub fn bytes(capacity: Capacity) -> Bytes {
        bytes_needed(Kind::Spsc, N, capacity)
    }

    /// Makes an empty ring in memory that nobody uses yet.
    ///
    /// # Errors
    /// [`RingError::TooSmall`].
    pub fn create(memory: RingMemory<'a>, capacity: Capacity) -> Result<Self, RingError> {
        Self::create_as(memory, Kind::Spsc, capacity)
    }

    /// Opens a ring that somebody made.
    ///
    /// # Errors
    /// [`RingError::Corrupt`] where there is no such ring; [`RingError::TooSmall`] where there is
    /// less memory than its header says.
    pub fn open(memory: RingMemory<'a>) -> Result<Self, RingError> {
        Self::open_as(memory, Kind::Spsc)
    }

    pub(super) fn create_as(
        memory: RingMemory<'a>,
        kind: Kind,
        capacity: Capacity,
    ) -> Result<Self, RingError> {
        let area = Area::create(memory, kind, capacity)?;
        Ok(Self { area })
    }

    pub(super) fn open_as(memory: RingMemory<'a>, kind: Kind) -> Result<Self, RingError> {
        let area = Area::open(memory, kind)?;
        Ok(Self { area })
    }

    /// How many records the ring holds.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        self.area.capacity
    }

    /// Claims the producer's side.
    ///
    /// # Errors
    /// [`RingError::Claimed`], [`RingError::Corrupt`].
    pub fn producer(&self, owner: Owner) -> Result<Producer<'a, N>, RingError> {
        self.take_over_producer(owner, |_| false)
    }

    /// Claims the consumer's side.
    ///
    /// # Errors
    /// [`RingError::Claimed`], [`RingError::Corrupt`].
    pub fn consumer(&self, owner: Owner) -> Result<Consumer<'a, N>, RingError> {
        self.take_over_consumer(owner, |_| false)
    }

    /// Claims the producer's side, from a dead producer too. `is_dead` says yes only of one that is
    /// proven gone.
    ///
    /// # Errors
    /// [`RingError::Claimed`], [`RingError::Corrupt`]; [`RingError::Contended`] where the role was
    /// given back at this moment.
    pub fn take_over_producer(
        &self,
        owner: Owner,
        is_dead: impl FnOnce(Owner) -> bool,
    ) -> Result<Producer<'a, N>, RingError> {
        let area = self.area;
        area.producer.take(owner, is_dead)?;
        let (head, tail) = self.counts()?;
        Ok(Producer {
            area,
            owner,
            tail,
            staged: tail,
            head,
        })
    }

    /// Claims the consumer's side, from a dead consumer too. `is_dead` says yes only of one that is
    /// proven gone. What that one had read but not passed is delivered again.
    ///
    /// # Errors
    /// [`RingError::Claimed`], [`RingError::Corrupt`]; [`RingError::Contended`] where the role was
    /// given back at this moment.
    pub fn take_over_consumer(
        &self,
        owner: Owner,
        is_dead: impl FnOnce(Owner) -> bool,
    ) -> Result<Consumer<'a, N>, RingError> {
        let area = self.area;
        area.consumer.take(owner, is_dead)?;
        let (head, tail) = self.counts()?;
        Ok(Consumer {
            area,
            owner,
            head,
            tail,
        })
    }

    /// Head and tail, checked against each other. A claimant of either side finds its own count at
    /// rest, and the other one within its bounds at each moment: invariant 1.
    fn counts(&self) -> Result<(u64, u64), RingError> {
        // Acquire pairs with the release of whoever stored the count: the places are seen too.
        let head = self.area.head.load(Acquire);
        let tail = self.area.tail.load(Acquire);
        if tail.wrapping_sub(head) > self.area.capacity.records() {
            return Err(Field::Tail.corrupt(tail));
        }
        Ok((head, tail))
    }
}

impl<const N: usize> fmt::Debug for Spsc<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spsc")
            .field("record_words", &N)
            .field("capacity", &self.area.capacity.records())
            .finish_non_exhaustive()
    }
}

/// The side that writes.
///
/// A value that is dropped keeps its claim, as if its process had died there; `release` gives the
/// claim back.
#[must_use = "dropped, it keeps its claim: release it"]
pub struct Producer<'a, const N: usize> {
    area: Area<'a, N>,
    owner: Owner,
    /// What the shared tail is.
    tail: u64,
    /// What it will be once the staged records are published.
    staged: u64,
    /// The consumer's head as last seen.
    head: u64,
}

impl<'a, const N: usize> Producer<'a, N> {
    /// Writes a record that the consumer does not see before [`Self::publish`].
    ///
    /// # Errors
    /// [`RingError::Full`], [`RingError::Corrupt`].
    #[inline]
    pub fn stage(&mut self, record: &[u64; N]) -> Result<(), RingError> {
        let capacity = self.area.capacity.records();
        if self.staged.wrapping_sub(self.head) >= capacity && !planted!("ring.head_not_checked") {
            self.look()?;
            if self.staged.wrapping_sub(self.head) >= capacity {
                return Err(RingError::Full);
            }
        }
        let index = self.area.index(self.staged);
        write(self.area.part(index, Field::Tail)?, record);
        self.staged = self.staged.wrapping_add(1);
        Ok(())
    }

    /// Makes the staged records visible to the consumer, all at once.
    #[inline]
    pub fn publish(&mut self) {
        self.tail = self.staged;
        // Release pairs with the acquire in `Consumer::look`: who sees the tail sees the records.
        let order = if planted!("ring.relaxed_publish") {
            Relaxed
        } else {
            Release
        };
        self.area.tail.store(self.tail, order);
    }

    /// Writes a record and makes it visible. Wakes nobody: see [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Full`], [`RingError::Corrupt`].
    #[inline]
    pub fn try_push(&mut self, record: &[u64; N]) -> Result<(), RingError> {
        if planted!("ring.tail_before_record") {
            self.area.tail.store(self.staged.wrapping_add(1), Release);
        }
        self.stage(record)?;
        self.publish();
        Ok(())
    }

    /// Writes as many of `records` as there are places for, makes them visible all at once, and
    /// says how many. Wakes nobody: see [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Corrupt`], and what was written before is visible.
    #[inline]
    pub fn try_push_many(&mut self, records: &[[u64; N]]) -> Result<usize, RingError> {
        let mut pushed = 0;
        let mut outcome = Ok(());
        for record in records {
            outcome = self.stage(record);
            if outcome.is_err() {
                break;
            }
            pushed += 1;
        }
        self.publish();
        match outcome {
            Ok(()) | Err(RingError::Full) => Ok(pushed),
            Err(error) => Err(error),
        }
    }

    /// Wakes the consumer where it sleeps. Costs a fence, and a system call only if it does.
    #[inline]
    pub fn notify(&self, wait: &impl Wait) {
        self.area.ready.notify(wait);
    }

    /// Writes a record, makes it visible and wakes the consumer; waits for a place until `until`.
    ///
    /// # Errors
    /// [`RingError::TimedOut`], [`RingError::Corrupt`].
    pub fn push(
        &mut self,
        record: &[u64; N],
        wait: &impl Wait,
        until: Deadline,
    ) -> Result<(), RingError> {
        let area = self.area;
        area.room
            .until(wait, until, ONE_STEP, || match self.try_push(record) {
                Ok(()) => Ok(Step::Done(())),
                Err(RingError::Full) => Ok(Step::Blocked),
                Err(error) => Err(error),
            })?;
        self.notify(wait);
        Ok(())
    }

    /// How many places are free, as far as this side has to know: those seen when last looked.
    ///
    /// # Errors
    /// [`RingError::Corrupt`].
    pub fn room(&mut self) -> Result<u64, RingError> {
        self.look()?;
        let used = self.staged.wrapping_sub(self.head);
        Ok(self.area.capacity.records().saturating_sub(used))
    }

    /// Gives the claim back. Records that were staged and not published are forgotten.
    ///
    /// # Errors
    /// [`RingError::Claimed`] where another took the role over, [`RingError::Corrupt`].
    pub fn release(self) -> Result<(), RingError> {
        self.area.producer.release(self.owner)
    }

    /// Reads the consumer's head. It has not gone back and is not past what was published.
    fn look(&mut self) -> Result<(), RingError> {
        // Acquire pairs with the release in `Consumer::advance`: the consumer's loads from the
        // places it passed come before our stores to them.
        let head = self.area.head.load(Acquire);
        if head.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
            return Err(Field::Head.corrupt(head));
        }
        self.head = head;
        Ok(())
    }

    pub(super) const fn area(&self) -> Area<'a, N> {
        self.area
    }

    /// The record before the tail, where there has been one.
    pub(super) fn last(&self) -> Result<Option<[u64; N]>, RingError> {
        if self.tail == 0 {
            return Ok(None);
        }
        let index = self.area.index(self.tail.wrapping_sub(1));
        Ok(Some(read(self.area.part(index, Field::Tail)?)))
    }
}

impl<const N: usize> fmt::Debug for Producer<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("owner", &self.owner)
            .field("tail", &self.tail)
            .field("staged", &self.staged)
            .finish_non_exhaustive()
    }
}

/// The side that reads.
///
/// A value that is dropped keeps its claim, as if its process had died there; `release` gives the
/// claim back.
#[must_use = "dropped, it keeps its claim: release it"]
pub struct Consumer<'a, const N: usize> {
    area: Area<'a, N>,
    owner: Owner,
    /// What the shared head is.
    head: u64,
    /// The producer's tail as last seen; at most the capacity past the head.
    tail: u64,
}

impl<'a, const N: usize> Consumer<'a, N> {
    /// The oldest record, which stays in the ring until [`Self::advance`].
    ///
    /// # Errors
    /// [`RingError::Corrupt`].
    #[inline]
    pub fn peek(&mut self) -> Result<Option<[u64; N]>, RingError> {
        if self.head == self.tail {
            self.look()?;
            if self.head == self.tail {
                return Ok(None);
            }
        }
        self.record(self.head).map(Some)
    }

    /// Fills `records` from the oldest on, as far as there are some, and says how many. They stay
    /// in the ring until [`Self::advance`].
    ///
    /// # Errors
    /// [`RingError::Corrupt`].
    #[inline]
    pub fn peek_many(&mut self, records: &mut [[u64; N]]) -> Result<usize, RingError> {
        let wanted = u64::try_from(records.len()).unwrap_or(u64::MAX);
        if self.tail.wrapping_sub(self.head) < wanted {
            self.look()?;
        }
        let mut position = self.head;
        let mut read = 0;
        for record in records {
            if position == self.tail {
                break;
            }
            *record = self.record(position)?;
            position = position.wrapping_add(1);
            read += 1;
        }
        Ok(read)
    }

    /// Passes the `count` oldest records: their places are the producer's. Wakes nobody: see
    /// [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Unseen`], and nothing was passed.
    #[inline]
    pub fn advance(&mut self, count: u64) -> Result<(), RingError> {
        let seen = self.tail.wrapping_sub(self.head);
        if count > seen {
            return Err(RingError::Unseen { count, seen });
        }
        self.head = self.head.wrapping_add(count);
        // Release pairs with the acquire in `Producer::look`: our loads come before its stores.
        self.area.head.store(self.head, Release);
        Ok(())
    }

    /// Takes the oldest record. Wakes nobody: see [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Corrupt`].
    #[inline]
    pub fn try_pop(&mut self) -> Result<Option<[u64; N]>, RingError> {
        if planted!("ring.head_before_copy") && self.peek()?.is_some() {
            let position = self.head;
            self.advance(1)?;
            return self.record(position).map(Some);
        }
        let record = self.peek()?;
        if record.is_some() {
            self.advance(1)?;
        }
        Ok(record)
    }

    /// Fills `records` with the oldest ones, as far as there are some, takes them, and says how
    /// many. Wakes nobody: see [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Corrupt`].
    #[inline]
    pub fn try_pop_many(&mut self, records: &mut [[u64; N]]) -> Result<usize, RingError> {
        let count = self.peek_many(records)?;
        if count > 0 {
            self.advance(u64::try_from(count).unwrap_or(u64::MAX))?;
        }
        Ok(count)
    }

    /// Wakes the producer where it sleeps. Costs a fence, and a system call only if it does.
    #[inline]
    pub fn notify(&self, wait: &impl Wait) {
        self.area.room.notify(wait);
    }

    /// Takes the oldest record and wakes the producer; waits for a record until `until`.
    ///
    /// # Errors
    /// [`RingError::TimedOut`], [`RingError::Corrupt`].
    pub fn pop(&mut self, wait: &impl Wait, until: Deadline) -> Result<[u64; N], RingError> {
        let area = self.area;
        let record = area
            .ready
            .until(wait, until, ONE_STEP, || self.try_pop().map(Step::from))?;
        self.notify(wait);
        Ok(record)
    }

    /// Waits until there is a record to peek at, or until `until`.
    ///
    /// # Errors
    /// [`RingError::TimedOut`], [`RingError::Corrupt`].
    pub fn wait(&mut self, wait: &impl Wait, until: Deadline) -> Result<[u64; N], RingError> {
        let area = self.area;
        area.ready
            .until(wait, until, ONE_STEP, || self.peek().map(Step::from))
    }

    /// Gives the claim back.
    ///
    /// # Errors
    /// [`RingError::Claimed`] where another took the role over, [`RingError::Corrupt`].
    pub fn release(self) -> Result<(), RingError> {
        self.area.consumer.release(self.owner)
    }

    /// Reads the producer's tail. It has not gone back and is at most the capacity past the head.
    fn look(&mut self) -> Result<(), RingError> {
        // Acquire pairs with the release in `Producer::publish`: the records are seen.
        let tail = self.area.tail.load(Acquire);
        let unread = self.tail.wrapping_sub(self.head);
        let room = self.area.capacity.records().saturating_sub(unread);
        if tail.wrapping_sub(self.tail) > room {
            return Err(Field::Tail.corrupt(tail));
        }
        self.tail = tail;
        Ok(())
    }

    #[inline]
    fn record(&self, position: u64) -> Result<[u64; N], RingError> {
        let index = self.area.index(position);
        Ok(read(self.area.part(index, Field::Head)?))
    }

    pub(super) const fn area(&self) -> Area<'a, N> {
        self.area
    }

    /// Whether no record was ever passed.
    pub(super) const fn is_new(&self) -> bool {
        self.head == 0
    }
}

impl<const N: usize> fmt::Debug for Consumer<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("owner", &self.owner)
            .field("head", &self.head)
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}
