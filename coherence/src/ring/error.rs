//! What a ring answers where it does not do what was asked.

use core::fmt;

use pool_core::clock::TimedOut;
use pool_core::units::Bytes;

use super::Owner;

/// A ring did not do what was asked; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// No place is free. Try again once the consumer has advanced, or wait with `push`.
    #[error("the ring is full")]
    Full,
    /// Others were faster each time. Try again; where it stays so, distrust the memory.
    #[error("others were faster {attempts} times")]
    Contended {
        /// How often it was tried.
        attempts: u64,
    },
    /// The deadline passed first. Ask again with a later one, or see whether the other side lives.
    #[error("the ring did not change: {0}")]
    TimedOut(#[from] TimedOut),
    /// The role is another's. Where that one is dead, take the role over.
    #[error("{by} has claimed that side of the ring")]
    Claimed {
        /// Who has it.
        by: Owner,
    },
    /// The place was taken from its producer, who was declared dead. The record was not sent: stop,
    /// and attach anew.
    #[error("the place of position {position} was taken away from its producer")]
    Lost {
        /// The position of the place.
        position: u64,
    },
    /// More records were to be passed over than were looked at. Advance by what `peek` showed.
    #[error("cannot advance by {count} where {seen} were looked at")]
    Unseen {
        /// By how many records the head was to move.
        count: u64,
        /// How many had been seen and not yet passed.
        seen: u64,
    },
    /// The capacity is no power of two or out of bounds. Choose another one.
    #[error("{capacity} places are no power of two from {min} to {max}")]
    Capacity {
        /// What was asked for.
        capacity: u64,
        /// The least there may be.
        min: u64,
        /// The most there may be.
        max: u64,
    },
    /// The memory is smaller than the ring. Give it more; for one that was opened, distrust it.
    #[error("a ring of {needed} does not fit into {given}")]
    TooSmall {
        /// What the ring needs.
        needed: Bytes,
        /// What there is.
        given: Bytes,
    },
    /// The memory holds a value that no honest side writes. Stop using this ring and quarantine it.
    #[error("the {what} of the ring cannot be {found:#x}")]
    Corrupt {
        /// What is wrong.
        what: Field,
        /// What was found there.
        found: u64,
    },
}

/// A part of a ring in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named as in the layout of the ring")]
#[non_exhaustive]
pub enum Field {
    Magic,
    Shape,
    ProducerClaim,
    ConsumerClaim,
    Tail,
    Head,
    Place,
    Event,
    Sequence,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "magic number",
            Self::Shape => "shape",
            Self::ProducerClaim => "producer's claim",
            Self::ConsumerClaim => "consumer's claim",
            Self::Tail => "tail",
            Self::Head => "head",
            Self::Place => "place",
            Self::Event => "event",
            Self::Sequence => "sequence number",
        })
    }
}

impl Field {
    pub(super) const fn corrupt(self, found: u64) -> RingError {
        RingError::Corrupt { what: self, found }
    }
}
