//! Queues of fixed-size records in shared memory, which outlive the death of either side.
//!
//! A record is `N` words of 64 bits, `N` being 1, 2, 4 or 8. Small messages travel in it; large
//! data stays where it lies, and a record names it by a unit's index, a length and a version.
//! There are indices only, no pointers: each process may map a ring at an address of its own.
//!
//! - [`Spsc`]: one producer, one consumer. The fast path shares one line.
//! - [`Mpsc`]: many producers, one consumer.
//! - [`events`]: typed notices over an [`Spsc`] for each subscriber, which never hold up the
//!   sender.
//!
//! ```
//! use coherence::Slot;
//! use coherence::ring::{Capacity, OwnedMemory, Owner, RingError, Spsc};
//!
//! let capacity = Capacity::new(64)?;
//! // Between processes: `RingMemory::mapped`.
//! let memory = OwnedMemory::new(Spsc::<1>::bytes(capacity));
//! let ring = Spsc::<1>::create(memory.memory(), capacity)?;
//! let me = Owner { slot: Slot::DAEMON, era: 1 };
//! let (mut producer, mut consumer) = (ring.producer(me)?, ring.consumer(me)?);
//! producer.try_push(&[7])?;
//! assert_eq!(consumer.try_pop()?, Some([7]));
//! # Ok::<(), RingError>(())
//! ```
//!
//! # Layout
//! In bytes from the start, which is a multiple of 128. Lines that different sides write are 128
//! bytes apart, since processors fetch lines in pairs.
//!
//! | from | what | written by |
//! |---|---|---|
//! | 0 | `ready`: event u32, waiters u32 | both |
//! | 64 | `room`: event u32, waiters u32 | both |
//! | 128 | magic u64, shape u64, the producer's and the consumer's claim u64 | creator, claimants |
//! | 256 | tail u64, the producer's note u64 | producer |
//! | 384 | head u64, the consumer's note u64 | consumer |
//! | 512 | the places | whoever owns the place |
//!
//! A place of an [`Spsc`] is the `N` words of its record. One of an [`Mpsc`] is twice as long: its
//! state, `N - 1` words that are not used, and the record; so no record lies across two lines.
//!
//! The shape is version (8 bits), kind (8), words a record (8), logarithm of the capacity (8).
//! Zeroed places are empty ones.
//!
//! # Invariants
//! 1. Head and tail count records since the ring was made, and wrap at 2^64. `tail - head` is at
//!    most the capacity. Position `p` is place `p mod capacity`.
//! 2. Places of an [`Spsc`] from head to tail are the consumer's, all others the producer's.
//! 3. A place of an [`Mpsc`] belongs to whom its state says: see [`Mpsc`].
//! 4. Whatever is read from the ring is checked: counts against each other and against private
//!    copies, states against positions. A value that no honest side writes is
//!    [`RingError::Corrupt`]. Places are found by masking and by one bounds check.
//! 5. Each call that does not block ends after a number of steps that the capacity bounds, whatever
//!    the memory holds. A call that blocks is made of such steps, of a few places each: it looks at
//!    the clock between them, and one whose deadline has passed takes one step and never sleeps.
//!    After as many steps in a row as the capacity bounds it sleeps, however much more there is to
//!    do: so hostile memory makes no call spin for ever that has no deadline.
//!
//! # Protocol of an [`Spsc`]
//! The producer writes a record into the place at its tail, then stores the tail with release. The
//! consumer loads the tail with acquire, copies the record, then stores the head with release; the
//! producer loads that with acquire before it reuses the place. So a record is visible whole or not
//! at all, and no place is written while it is read. Each side keeps its own count privately and
//! the other's as it last saw it: it looks at the shared one only where the ring seems full or
//! empty.
//!
//! # Death
//! Each side claims its role by one compare-exchange from zero to its slot and era. A second
//! claimant is refused. Where the caller knows the claimant to be dead, it takes the role over: the
//! successor goes on from the shared count. `is_dead` must answer true only for an owner that is
//! proven gone, its last store included (an ended process, a fenced host): a living one would share
//! the role with its successor.
//!
//! - A producer dies before it stores the tail: nothing of the record is visible, and the successor
//!   overwrites it. After: the record is delivered.
//! - A consumer dies before it stores the head: its records are delivered **again**, to the
//!   successor. Delivery is exactly once while consumers live and at least once where one dies.
//!   `peek` and `advance` let the consumer finish its work with a record in between, so that none
//!   is lost; `try_pop` advances before it returns the record, so a consumer that dies with the
//!   record in its hands has lost it.
//! - Either dies between its store and the wake that follows: the other sleeps at most
//!   [`WAIT_CAP`](crate::wait::WAIT_CAP) and looks again.
//!
//! # Waiting
//! The methods with `try_` neither wait nor wake. [`spsc::Producer::notify`] and its like wake
//! whoever sleeps on the other side: once after each batch. The blocking methods do both.
//!
//! A sleeper reads the event (acquire), sets the waiters flag, passes a fence, looks at the ring
//! once more, and sleeps while the event is what it read. A waker has changed the ring; it passes a
//! fence and reads the flag; where that is set it clears it by an exchange, raises the event
//! (release) and wakes. Who meets no sleeper makes no system call. Why no wake-up is lost:
//!
//! - The waker's fence comes first: the sleeper's second look sees the change.
//! - The sleeper's fence comes first: the waker finds the flag set, or cleared by another waker
//!   after the sleeper set it. Whoever clears it then raises the event.
//! - That raise comes after the value that the sleeper read, so the sleep ends. Had the sleeper
//!   read the raised event, or a later one, then by release and acquire the flag would have been
//!   cleared before the sleeper set it, and not after. For this the event is read *before* the
//!   flag is set: in the other order a waker of an earlier change may clear the flag and wake in
//!   between, and the sleeper sleeps on the raised event with its flag gone.

mod claim;
mod error;
pub mod events;
mod layout;
pub mod mpsc;
mod signal;
pub mod spsc;

pub use claim::Owner;
pub use error::{Field, RingError};
pub use layout::{Capacity, OwnedMemory, RingMemory};
pub use mpsc::Mpsc;
pub use spsc::Spsc;
