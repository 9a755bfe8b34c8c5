//! Why a lease is not given, or is one no more.

use coherence::Slot;
use pool_core::{Bytes, SegmentId};

use crate::error::{AccessError, Error, ErrorClass, Holders};

/// Units could not be leased, or a lease does not stand. Where it was not granted nothing is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Others hold the unit. Wait for it, with a deadline, or do something else first.
    #[error("unit {unit} is held by {}", Holders(*holders))]
    Busy {
        /// Which unit.
        unit: u32,
        /// Who held it: a bit a slot, 0 where the daemon was deciding about it, or where somebody
        /// who has waited was let in first.
        holders: u32,
    },
    /// Others held the unit until the deadline. Try again, or find out who does not let go: who
    /// keeps a wait up for twice the [recall time](crate::DomainOptions::recall_time) of the domain
    /// gets past them, in one call or in several that follow each other. Not past itself: a guard
    /// of this very process is waited for in vain by the thread that has it.
    #[error(
        "unit {unit} was held until the deadline, at last by {}; who does not let go is evicted \
         after somebody has waited for twice the domain's recall_ms (`DomainOptions::recall_time`)",
        Holders(*holders)
    )]
    TimedOut {
        /// Which unit.
        unit: u32,
        /// Who held it, as in [`LeaseError::Busy`].
        holders: u32,
    },
    /// The lease was taken away: this process was taken for dead, or kept others waiting for twice
    /// the [recall time](crate::DomainOptions::recall_time) of the domain, of which it was told
    /// after the first. Nothing that was written under it since the last release was published.
    /// Lease anew; where that is refused as revoked, this process is no member any more: drop the
    /// domain and open it again.
    #[error(
        "the lease of unit {unit} was taken away: this process was taken for dead, or kept others \
         waiting for twice the domain's recall_ms (`DomainOptions::recall_time`); lease anew, and \
         where that is refused as revoked, drop the domain and open it again"
    )]
    Revoked {
        /// Which unit.
        unit: u32,
    },
    /// The last writer died, was cut off or gave up. Restore the contents from what you have, or do
    /// without.
    #[error("the contents of unit {unit} are lost since version {last_good}")]
    Lost {
        /// Which unit.
        unit: u32,
        /// The version that was published last.
        last_good: u64,
    },
    /// There is nothing to restore: the unit has contents. Lease it as usual.
    #[error("the contents of unit {unit} are not lost")]
    NotLost {
        /// Which unit.
        unit: u32,
    },
    /// Only a part of a unit was to be restored, and the rest would pass for whole. Restore all of
    /// it.
    #[error("a range that is no whole number of units of {unit} cannot be restored")]
    PartOfUnit {
        /// Bytes of a unit.
        unit: Bytes,
    },
    /// It is a unit no more. Ask for other memory.
    #[error("unit {unit} was withdrawn")]
    Withdrawn {
        /// Which unit.
        unit: u32,
    },
    /// The contents are being moved, and the mapping here does not follow yet. Try again.
    #[error("the contents of unit {unit} of {segment} are elsewhere by now: try again")]
    Moving {
        /// Which unit.
        unit: u32,
        /// Of which domain.
        segment: SegmentId,
    },
    /// A member has overwritten the ownership word. Nothing of this domain is to be trusted.
    #[error("the ownership word of unit {unit} is none")]
    Corrupt {
        /// Which unit.
        unit: u32,
    },
    /// The contents are not those that were published, by their checksum: somebody has written them
    /// without a lease, or the memory has failed. Use nothing of them; write all of them anew.
    #[error(
        "the contents of unit {unit} do not fit the checksum of version {version}: write all of it \
         anew"
    )]
    Damaged {
        /// Which unit.
        unit: u32,
        /// Which version the checksum was to be of.
        version: u64,
    },
    /// The domain was made without checksums: there is nothing to verify by. Create it with
    /// [`DomainOptions::checksums`](crate::DomainOptions::checksums).
    #[error("{segment} has no checksums: create the domain with them (`DomainOptions::checksums`)")]
    NoChecksums {
        /// Which domain.
        segment: SegmentId,
    },
    /// The unit was to be handed to a member that is gone. It was let go as by a release.
    #[error("the member at {slot} is gone: unit {unit} was let go")]
    ReceiverGone {
        /// Which unit.
        unit: u32,
        /// Who was to have it.
        slot: Slot,
    },
    /// The guard was given back by an earlier call, and nothing is lent any more. Use that guard.
    #[error("unit {unit} is not lent any more: its guard was given back")]
    NotLent {
        /// The first unit.
        unit: u32,
    },
    /// A range of no bytes has no units. Ask for one byte at least.
    #[error("a range of no bytes at {offset} has no units: ask for one byte at least")]
    Empty {
        /// Where it was to begin.
        offset: Bytes,
    },
    /// The memory itself cannot be accessed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A call that the lease needs failed.
    #[error(transparent)]
    Call(Box<Error>),
}

impl LeaseError {
    pub(super) fn of(unit: u32, holders: u32, refused: coherence::LeaseError) -> Self {
        use coherence::LeaseError as Refused;
        match refused {
            Refused::Busy(_) => Self::Busy { unit, holders },
            Refused::TimedOut(_) => Self::TimedOut { unit, holders },
            Refused::Lost { last_good } => Self::Lost { unit, last_good },
            Refused::Retired => Self::Withdrawn { unit },
            Refused::Revoked => Self::Revoked { unit },
            _ => Self::Corrupt { unit },
        }
    }

    /// Whose fault it is, and so what to do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Busy { .. } | Self::TimedOut { .. } => ErrorClass::Exhausted,
            Self::Revoked { .. } | Self::Withdrawn { .. } => ErrorClass::Revoked,
            Self::Lost { .. } | Self::ReceiverGone { .. } => ErrorClass::Lost,
            Self::NotLost { .. }
            | Self::PartOfUnit { .. }
            | Self::NotLent { .. }
            | Self::NoChecksums { .. }
            | Self::Empty { .. } => ErrorClass::Caller,
            Self::Moving { .. } => ErrorClass::Unreachable,
            Self::Corrupt { .. } | Self::Damaged { .. } => ErrorClass::Corrupt,
            Self::Access(error) => error.class(),
            Self::Call(error) => error.class(),
        }
    }
}

impl From<Error> for LeaseError {
    fn from(error: Error) -> Self {
        match error {
            Error::Access(error) => Self::Access(error),
            Error::Forked => Self::Access(AccessError::Forked),
            error => Self::Call(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_told_as_slots_and_what_time_decides_names_the_option() {
        let busy = |holders| LeaseError::Busy { unit: 5, holders }.to_string();
        assert_eq!(busy(1 << 3 | 1 << 7), "unit 5 is held by slots 3 and 7");
        assert_eq!(busy(1), "unit 5 is held by slot 0 (the daemon)");
        assert_eq!(
            busy(0),
            "unit 5 is held by nobody: the daemon decides about it, or somebody who has waited \
             goes first"
        );
        let late = LeaseError::TimedOut {
            unit: 5,
            holders: 1 << 3,
        };
        let late = late.to_string();
        assert!(late.contains("at last by slot 3;"), "{late}");
        let revoked = LeaseError::Revoked { unit: 5 }.to_string();
        assert!(revoked.contains("drop the domain and open it"), "{revoked}");
        for message in [late, revoked] {
            assert!(message.contains("recall_ms"), "{message}");
            assert!(
                message.contains("`DomainOptions::recall_time`"),
                "{message}"
            );
        }
    }
}
