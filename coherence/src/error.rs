//! Why a lease is not given, or is one no more.

use crate::own::{CorruptWord, Refused};

/// A lease was not granted, or what was leased is held no more. The unit is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Others hold it. Wait for it, with a deadline, or do something else first.
    #[error("others hold the unit: {0}")]
    Busy(Refused),
    /// Others held it until the deadline. Try again, or find out who does not let go.
    #[error("others held the unit until the deadline: {0}")]
    TimedOut(Refused),
    /// Its last writer died or was cut off, and the contents are not to be trusted. Restore it from
    /// what you have, or do without; version `last_good` was the last that was published.
    #[error("the contents are lost; the last version that was published is {last_good}")]
    Lost {
        /// The last version that was published before.
        last_good: u64,
    },
    /// It was withdrawn: the segment it was part of is gone. Ask for it anew.
    #[error("the unit has been withdrawn")]
    Retired,
    /// What was held was taken away: this process did not let go when it was asked to, or is taken
    /// for dead. What was written since the last release is not part of the contents.
    #[error("the lease was taken away")]
    Revoked,
    /// A member has overwritten the ownership words. Nothing of this domain is to be trusted.
    #[error(transparent)]
    Corrupt(#[from] CorruptWord),
}

impl LeaseError {
    pub(crate) fn from_refusal(refused: Refused, last_good: impl FnOnce() -> u64) -> Self {
        match refused {
            Refused::Lost => Self::Lost {
                last_good: last_good(),
            },
            Refused::Retired => Self::Retired,
            Refused::NotHeld | Refused::State => Self::Revoked,
            Refused::Held | Refused::HeldHere | Refused::Recalled | Refused::Fenced => {
                Self::Busy(refused)
            }
        }
    }
}
