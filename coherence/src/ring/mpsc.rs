//! Many producers, one consumer.
//!
//! # Layout of a place's state
//! Bits 0..2: 0 = free, 1 = claimed, 2 = ready, 3 = abandoned. Bits 2..7: the producer's slot. Bits
//! 7..32: the lap, `position / capacity` modulo 2^25. Bits 32..64: the producer's era. Slot and era
//! of a free place are zero. A new ring's states are zero: free in lap 0.
//!
//! # Protocol
//! A producer claims the place at the tail: one compare-exchange of its state from *free in lap l*
//! to *claimed in lap l by (slot, era)*. Only then does the tail move on, by whoever comes first:
//! the claimant, or another producer who finds the place taken. So there is no moment at which a
//! place is taken and it is not known by whom, and no death holds the tail up. The claimant writes
//! the record and makes the place *ready* by a compare-exchange with release. The consumer looks
//! at the place at its head only: acquires *ready*, copies the record, and stores *free in lap l +
//! 1* with release, which the next claimant acquires.
//!
//! The tail is a hint: it is the first position not known to be claimed. The head in memory is a
//! hint too, for a successor of the consumer: it is at most the head, and places that are a lap
//! ahead of it have been passed. Truth is in the states.
//!
//! # Why each case is safe
//! - A producer reads an old tail: the place's state is of a later lap, or taken in this one. The
//!   claim fails and the tail is read again. Whoever reads a state has, by its acquire, also seen
//!   the tail that its claimant saw; so a state that does not fit and a tail that does not change
//!   are corruption.
//! - A state comes back to what it was, 2^25 laps later, between a producer's load and its
//!   compare-exchange: the place is free, at a later position. The claim is as good as any other;
//!   the tail will find it taken when it gets there.
//! - A producer dies before its claim: nothing happened. Before *ready*: the place says whose it
//!   is. The consumer tells [`Popped::Pending`] until its caller vouches that this owner is dead,
//!   and passes the place by a compare-exchange. After *ready*: the record is delivered.
//! - A producer is slow, and alive: records behind its place wait for it; places before it do not.
//! - A producer is declared dead and lives: its compare-exchange to *ready* fails, and it is told
//!   [`RingError::Lost`]. It may have spoilt the record of another in the meantime, which is why
//!   `is_dead` must be proven.
//! - The consumer dies before it frees the place: the record is delivered again to its successor.
//!   After, and before it stores the head: the successor finds the place a lap ahead and passes it.

use core::fmt;

use pool_core::clock::Deadline;
use pool_core::planted;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::units::Bytes;

use super::layout::{Area, Kind, bytes_needed, read, write};
use super::signal::{STEP_PLACES, Step};
use super::{Capacity, Field, Owner, RingError, RingMemory};
use crate::wait::Wait;

const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const READY: u64 = 2;
const ABANDONED: u64 = 3;
const STEP_MASK: u64 = 3;
const LAP_SHIFT: u32 = 7;
const LAP_MASK: u64 = (1 << 25) - 1;

/// A ring of records of `N` words in shared memory. It is not a side of the ring: claim one.
#[derive(Clone, Copy)]
pub struct Mpsc<'a, const N: usize> {
    area: Area<'a, N>,
}

impl<'a, const N: usize> Mpsc<'a, N> {
    /// The memory that a ring of this capacity takes.
    #[must_use]
    pub fn bytes(capacity: Capacity) -> Bytes {
        bytes_needed(Kind::Mpsc, N, capacity)
    }

    /// Makes an empty ring in memory that nobody uses yet.
    ///
    /// # Errors
    /// [`RingError::TooSmall`].
    pub fn create(memory: RingMemory<'a>, capacity: Capacity) -> Result<Self, RingError> {
        let area = Area::create(memory, Kind::Mpsc, capacity)?;
        Ok(Self { area })
    }

    /// Opens a ring that somebody made.
    ///
    /// # Errors
    /// [`RingError::Corrupt`] where there is no such ring; [`RingError::TooSmall`] where there is
    /// less memory than its header says.
    pub fn open(memory: RingMemory<'a>) -> Result<Self, RingError> {
        let area = Area::open(memory, Kind::Mpsc)?;
        Ok(Self { area })
    }

    /// How many records the ring holds.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        self.area.capacity
    }

    /// A producer's side for `owner`. There may be any number, of one owner too.
    #[must_use]
    pub const fn sender(&self, owner: Owner) -> Sender<'a, N> {
        let area = self.area;
        Sender { area, owner }
    }

    /// Claims the consumer's side.
    ///
    /// # Errors
    /// [`RingError::Claimed`], [`RingError::Corrupt`].
    pub fn receiver(&self, owner: Owner) -> Result<Receiver<'a, N>, RingError> {
        self.take_over_receiver(owner, |_| false)
    }

    /// Claims the consumer's side, from a dead consumer too. `is_dead` says yes only of one that is
    /// proven gone. What that one had read but not passed is delivered again.
    ///
    /// # Errors
    /// [`RingError::Claimed`], [`RingError::Corrupt`]; [`RingError::Contended`] where the role was
    /// given back at this moment.
    pub fn take_over_receiver(
        &self,
        owner: Owner,
        is_dead: impl FnOnce(Owner) -> bool,
    ) -> Result<Receiver<'a, N>, RingError> {
        let area = self.area;
        area.consumer.take(owner, is_dead)?;
        let mut head = area.head.load(Acquire);
        // The predecessor may have freed places and died before it stored the head: at most all of
        // them, after which the first would be two laps ahead.
        for _ in 0..area.capacity.records() {
            let (state, _) = area.place(head)?;
            let ahead = lap_of(state.load(Acquire)).wrapping_sub(area.lap(head)) & LAP_MASK;
            if ahead != 1 {
                break;
            }
            head = head.wrapping_add(1);
        }
        let seen = false;
        Ok(Receiver {
            area,
            owner,
            head,
            seen,
        })
    }
}

const fn lap_of(state: u64) -> u64 {
    state >> LAP_SHIFT & LAP_MASK
}

impl<'a, const N: usize> Area<'a, N> {
    /// The most steps that an honest ring can need at once: one a place to pass them all, and as
    /// many to move a tail that lags and to lose places to others, [`STEP_PLACES`] at a time.
    const fn burst(&self) -> u64 {
        self.capacity.records() + STEP_PLACES
    }

    fn lap(&self, position: u64) -> u64 {
        position >> self.capacity.shift() & LAP_MASK
    }

    /// The place of a position: its state, and its record.
    fn place(&self, position: u64) -> Result<(&'a AtomicU64, &'a [AtomicU64; N]), RingError> {
        let index = self.index(position).saturating_mul(2);
        let [state, ..] = self.part(index, Field::Place)?.as_slice() else {
            return Err(Field::Place.corrupt(position));
        };
        Ok((state, self.part(index + 1, Field::Place)?))
    }

    /// The state of a position's place while it is free.
    fn free(&self, position: u64) -> u64 {
        FREE | self.lap(position) << LAP_SHIFT
    }
}

impl<const N: usize> fmt::Debug for Mpsc<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpsc")
            .field("record_words", &N)
            .field("capacity", &self.area.capacity.records())
            .finish_non_exhaustive()
    }
}

/// A side that writes: one of many.
#[derive(Clone, Copy)]
pub struct Sender<'a, const N: usize> {
    area: Area<'a, N>,
    owner: Owner,
}

/// A place that a producer has claimed and not yet published.
///
/// The consumer cannot pass it while its producer lives: publish it or abandon it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "publish it or abandon it: until then it holds up every record behind it"]
pub struct Place {
    position: u64,
    state: u64,
}

impl<const N: usize> Sender<'_, N> {
    /// Claims the next place. [`Self::try_push`] claims and publishes.
    ///
    /// # Errors
    /// [`RingError::Full`], [`RingError::Contended`], [`RingError::Corrupt`].
    #[inline]
    pub fn claim(&self) -> Result<Place, RingError> {
        // A lagging tail is moved at most once a place; the rest is for places lost to others.
        self.claim_within(2 * self.area.capacity.records() + 64)
    }

    #[inline]
    fn claim_within(&self, attempts: u64) -> Result<Place, RingError> {
        let area = &self.area;
        for _ in 0..attempts {
            // Acquire pairs with the release of whoever moved the tail: the claim of the position a
            // lap before is seen.
            let tail = area.tail.load(Acquire);
            let (state, _) = area.place(tail)?;
            // Acquire pairs with whoever wrote the state: see the module.
            let seen = state.load(Acquire);
            let free = area.free(tail);
            if seen == free {
                let claimed = free | CLAIMED | self.owner.to_bits();
                // Acquire: the consumer's loads from the place come before our stores to it.
                // Release: who sees the claim sees the tail that we saw.
                if state
                    .compare_exchange(seen, claimed, AcqRel, Relaxed)
                    .is_ok()
                {
                    return Ok(Place {
                        position: tail,
                        state: claimed,
                    });
                }
                continue;
            }
            let taken = seen & STEP_MASK != FREE;
            match lap_of(seen).wrapping_sub(area.lap(tail)) & LAP_MASK {
                // Claimed, or claimed and freed since: the tail lags.
                0 if taken && planted!("mpsc.tail_left_to_the_claimant") => {}
                0 if taken => self.move_tail(tail),
                1 if !taken => self.move_tail(tail),
                LAP_MASK if taken => return Err(RingError::Full),
                _ if area.tail.load(Acquire) == tail => return Err(Field::Place.corrupt(seen)),
                _ => {}
            }
        }
        Err(RingError::Contended { attempts })
    }

    /// Writes the record into the place and makes it visible.
    ///
    /// # Errors
    /// [`RingError::Lost`]; [`RingError::Corrupt`].
    #[inline]
    pub fn publish(&self, place: Place, record: &[u64; N]) -> Result<(), RingError> {
        // First, so that others need not find out that the place is taken.
        self.move_tail(place.position);
        let (state, words) = self.area.place(place.position)?;
        if planted!("mpsc.ready_before_record") {
            state.store(place.state ^ CLAIMED ^ READY, Release);
        }
        write(words, record);
        if planted!("mpsc.ready_before_record") {
            return Ok(());
        }
        self.settle(&place, READY)
    }

    /// Gives a place up: the consumer passes it.
    ///
    /// # Errors
    /// [`RingError::Lost`]; [`RingError::Corrupt`].
    pub fn abandon(&self, place: Place) -> Result<(), RingError> {
        self.move_tail(place.position);
        self.settle(&place, ABANDONED)
    }

    /// Writes a record and makes it visible. Wakes nobody: see [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Full`], [`RingError::Contended`], [`RingError::Lost`], [`RingError::Corrupt`].
    #[inline]
    pub fn try_push(&self, record: &[u64; N]) -> Result<(), RingError> {
        let place = self.claim()?;
        self.publish(place, record)
    }

    /// Wakes the consumer where it sleeps. Costs a fence, and a system call only if it does.
    #[inline]
    pub fn notify(&self, wait: &impl Wait) {
        self.area.ready.notify(wait);
    }

    /// Writes a record, makes it visible and wakes the consumer; waits for a place until `until`.
    /// Where others are faster for longer than honest ones can be, it sleeps between its attempts.
    ///
    /// # Errors
    /// [`RingError::TimedOut`], [`RingError::Lost`], [`RingError::Corrupt`].
    pub fn push(
        &self,
        record: &[u64; N],
        wait: &impl Wait,
        until: Deadline,
    ) -> Result<(), RingError> {
        self.area.room.until(wait, until, self.area.burst(), || {
            let place = match self.claim_within(STEP_PLACES) {
                Ok(place) => place,
                Err(RingError::Full) => return Ok(Step::Blocked),
                Err(RingError::Contended { .. }) => return Ok(Step::More),
                Err(error) => return Err(error),
            };
            self.publish(place, record).map(Step::Done)
        })?;
        self.notify(wait);
        Ok(())
    }

    /// Moves the tail past a position that is taken, unless somebody did.
    fn move_tail(&self, from: u64) {
        // Release pairs with the acquire in `claim`, also through the exchanges of others that
        // follow. A failure means that the tail is past already.
        let next = from.wrapping_add(1);
        let _past = self
            .area
            .tail
            .compare_exchange(from, next, Release, Relaxed);
    }

    fn settle(&self, place: &Place, step: u64) -> Result<(), RingError> {
        let (state, _) = self.area.place(place.position)?;
        let settled = place.state ^ CLAIMED ^ step;
        let order = if planted!("mpsc.relaxed_ready") {
            Relaxed
        } else {
            Release
        };
        // Release pairs with the acquire in `Receiver::peek`: who sees the state sees the record.
        state
            .compare_exchange(place.state, settled, order, Relaxed)
            .map_err(|_| RingError::Lost {
                position: place.position,
            })?;
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Sender<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// What lies at the head of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Popped<const N: usize> {
    /// The oldest record.
    Record([u64; N]),
    /// Nothing.
    Empty,
    /// A place that is claimed and not published. Wait for its producer, or see whether it lives:
    /// [`Receiver::skip_dead`].
    Pending {
        /// Who claimed it.
        producer: Owner,
    },
}

/// The side that reads.
///
/// A value that is dropped keeps its claim, as if its process had died there; `release` gives the
/// claim back.
#[must_use = "dropped, it keeps its claim: release it"]
pub struct Receiver<'a, const N: usize> {
    area: Area<'a, N>,
    owner: Owner,
    head: u64,
    /// Whether `peek` showed the record at the head.
    seen: bool,
}

impl<const N: usize> Receiver<'_, N> {
    /// What lies at the head. A record stays in the ring until [`Self::advance`].
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; [`RingError::Contended`] where places are abandoned without end.
    #[inline]
    pub fn peek(&mut self) -> Result<Popped<N>, RingError> {
        self.peek_within(self.area.capacity.records() + 1)
    }

    #[inline]
    fn peek_within(&mut self, attempts: u64) -> Result<Popped<N>, RingError> {
        self.seen = false;
        for _ in 0..attempts {
            let (state, words) = self.area.place(self.head)?;
            // Acquire pairs with the release in `Sender::settle`: the record is seen.
            let seen = state.load(Acquire);
            if seen == self.area.free(self.head) {
                return Ok(Popped::Empty);
            }
            if lap_of(seen) != self.area.lap(self.head) {
                return Err(Field::Place.corrupt(seen));
            }
            match seen & STEP_MASK {
                CLAIMED => {
                    let producer = Owner::from_bits(seen);
                    return Ok(Popped::Pending { producer });
                }
                READY => {
                    if planted!("mpsc.free_before_copy") {
                        self.free()?;
                        return Ok(Popped::Record(read(words)));
                    }
                    self.seen = true;
                    return Ok(Popped::Record(read(words)));
                }
                ABANDONED => self.free()?,
                _ => return Err(Field::Place.corrupt(seen)),
            }
        }
        Err(RingError::Contended { attempts })
    }

    /// Passes the record that [`Self::peek`] showed. Wakes nobody: see [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Unseen`] where it showed none.
    #[inline]
    pub fn advance(&mut self) -> Result<(), RingError> {
        if !self.seen {
            return Err(RingError::Unseen { count: 1, seen: 0 });
        }
        self.free()
    }

    /// Takes the oldest record. Wakes nobody: see [`Self::notify`].
    ///
    /// # Errors
    /// [`RingError::Corrupt`], [`RingError::Contended`].
    #[inline]
    pub fn try_pop(&mut self) -> Result<Popped<N>, RingError> {
        let popped = self.peek()?;
        if self.seen {
            self.free()?;
        }
        Ok(popped)
    }

    /// Passes the place at the head where it is claimed and its producer is dead, and says whose it
    /// was. `is_dead` says yes only of one that is proven gone.
    ///
    /// # Errors
    /// [`RingError::Corrupt`].
    pub fn skip_dead(
        &mut self,
        is_dead: impl FnOnce(Owner) -> bool,
    ) -> Result<Option<Owner>, RingError> {
        let (state, _) = self.area.place(self.head)?;
        let seen = state.load(Acquire);
        if lap_of(seen) != self.area.lap(self.head) || seen & STEP_MASK != CLAIMED {
            return Ok(None);
        }
        let producer = Owner::from_bits(seen);
        if !is_dead(producer) && !planted!("mpsc.skips_live_producer") {
            return Ok(None);
        }
        let next = self.head.wrapping_add(self.area.capacity.records());
        let free = self.area.free(next);
        // Release as in `free`. Where this fails, the producer has published just before it died.
        if state
            .compare_exchange(seen, free, Release, Relaxed)
            .is_err()
        {
            return Ok(None);
        }
        self.pass();
        Ok(Some(producer))
    }

    /// Wakes the producers that sleep. Costs a fence, and a system call only if some do.
    #[inline]
    pub fn notify(&self, wait: &impl Wait) {
        self.area.room.notify(wait);
    }

    /// Takes the oldest record and wakes the producers; waits for a record until `until`, and
    /// passes the places of producers that `is_dead` says are gone: one place between two looks at
    /// the clock. Where the deadline comes before the record what was passed stays passed. Where it
    /// has passed every place of the ring and there is no record yet, it sleeps between.
    ///
    /// # Errors
    /// [`RingError::TimedOut`], [`RingError::Corrupt`].
    pub fn pop(
        &mut self,
        wait: &impl Wait,
        until: Deadline,
        is_dead: impl Fn(Owner) -> bool,
    ) -> Result<[u64; N], RingError> {
        let area = self.area;
        let step = || self.step(&is_dead);
        let record = area.ready.until(wait, until, area.burst(), step)?;
        self.notify(wait);
        Ok(record)
    }

    /// One step of a call that waits: takes the record at the head, or passes one dead producer's
    /// place or some that are abandoned.
    fn step(&mut self, is_dead: impl Fn(Owner) -> bool) -> Result<Step<[u64; N]>, RingError> {
        match self.peek_within(STEP_PLACES) {
            Ok(Popped::Record(record)) => {
                if self.seen {
                    self.free()?;
                }
                Ok(Step::Done(record))
            }
            Ok(Popped::Empty) => Ok(Step::Blocked),
            Ok(Popped::Pending { .. }) => {
                let passed = self.skip_dead(&is_dead)?;
                Ok(passed.map_or(Step::Blocked, |_| Step::More))
            }
            Err(RingError::Contended { .. }) => Ok(Step::More),
            Err(error) => Err(error),
        }
    }

    /// Gives the claim back.
    ///
    /// # Errors
    /// [`RingError::Claimed`] where another took the role over, [`RingError::Corrupt`].
    pub fn release(self) -> Result<(), RingError> {
        self.area.consumer.release(self.owner)
    }

    /// Frees the place at the head for the next lap, and passes it.
    #[inline]
    fn free(&mut self) -> Result<(), RingError> {
        let (state, _) = self.area.place(self.head)?;
        let next = self.head.wrapping_add(self.area.capacity.records());
        // Release pairs with the acquire of the claim: our loads come before its stores.
        state.store(self.area.free(next), Release);
        self.pass();
        Ok(())
    }

    /// Passes the place at the head, which is free. The head in memory is a hint for a successor,
    /// who acquires the claim.
    #[inline]
    fn pass(&mut self) {
        self.head = self.head.wrapping_add(1);
        self.seen = false;
        self.area.head.store(self.head, Release);
    }
}

impl<const N: usize> fmt::Debug for Receiver<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("owner", &self.owner)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}
