//! What a grant may ask for before the contents are looked at: a newer mapping, and the dropping of
//! lines that are older than it.

use coherence::Grant;
use pool_core::Nanos;
use pool_core::clock::{Backoff, Deadline};

use super::call::call_deadline;
use super::error::LeaseError;
use super::{Kind, Units};
use crate::error::{Error, ErrorClass, Reason};

/// Pauses before a mapping that is older than a grant is brought up to date again.
const FOLLOW_FIRST: Nanos = Nanos::from_millis(1);
const FOLLOW_LONGEST: Nanos = Nanos::from_millis(20);

impl Units<'_> {
    /// Brings the mapping up to date, and drops lines that may be older than the grant.
    #[cold]
    pub(super) fn catch_up(
        &self,
        kind: Kind,
        index: u32,
        grant: &Grant,
        until: Option<Deadline>,
    ) -> Result<(), LeaseError> {
        let followed = self.follow(index, grant.backing, until);
        let current = followed.and_then(|()| self.drop_stale_lines(index, grant));
        if current.is_err() {
            // What it is told is why the unit is not to be had.
            let _ = self.give_back(kind, index, grant);
        }
        current
    }

    fn drop_stale_lines(&self, index: u32, grant: &Grant) -> Result<(), LeaseError> {
        let unit = self.unit(index);
        if self.membership.is_stale(unit, grant) {
            let (start, end) = self.unit_range(index);
            self.membership.caches.invalidate(self.held, start, end)?;
            self.membership.saw(unit, grant.version, grant.backing);
        }
        Ok(())
    }

    /// Maps the memory that holds the contents since incarnation `backing`.
    fn follow(&self, index: u32, backing: u64, until: Option<Deadline>) -> Result<(), LeaseError> {
        let mut backoff = Backoff::new(FOLLOW_FIRST, FOLLOW_LONGEST);
        let segment = self.domain.segment();
        while backing > self.held.incarnation() {
            let by = call_deadline(segment.life().shared(), until);
            let current = segment.bring_up_to_date(by);
            current.map_err(|error| self.not_current(index, error))?;
            let late = !until.is_some_and(|until| backoff.pause(until));
            if late && backing > self.held.incarnation() {
                let (unit, segment) = (self.unit(index), self.domain.id());
                return Err(LeaseError::Moving { unit, segment });
            }
        }
        Ok(())
    }

    /// Why the mapping cannot be brought up to date. What is held no more was taken away, and the
    /// news of it are on their way. What was not had in time is brought up to date by the
    /// background thread, or short waits would never see it.
    fn not_current(&self, index: u32, error: Error) -> LeaseError {
        let (unit, segment) = (self.unit(index), self.segment_id());
        let moving = error.reason() == Some(Reason::Busy);
        if moving || error.class() == ErrorClass::Unreachable {
            self.domain.segment().life().shared().postpone(segment);
        }
        match error.reason() {
            Some(Reason::NotFound) => LeaseError::Revoked { unit },
            _ if moving => LeaseError::Moving { unit, segment },
            _ => error.into(),
        }
    }
}
