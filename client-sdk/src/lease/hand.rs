//! Handing units to another process, without their being free in between.
//!
//! The receiver makes out a [`Ticket`] and sends it to the giver, by whatever way they have. The
//! giver hands over, and the receiver, which waits for it, holds the units for writing from then
//! on. See [`coherence`] for the protocol, and for what happens where either dies.

use std::fmt;
use std::time::Duration;

use coherence::{Directory, Grant, NotHanded, Receiver, Slot};
use pool_core::clock::Deadline;

use super::error::LeaseError;
use super::write::WriteGuard;
use super::{Kind, Lease, Units, deadline};
use crate::error::AccessError;

/// Bits of the number of a ticket that tell the slot.
const SLOT_BITS: u32 = 5;

/// Names one process among all that were ever members of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) fn new(slot: Slot, era: u64) -> Self {
        Self(era << SLOT_BITS | u64::from(slot.index()))
    }

    /// The ticket with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number, to be sent.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Where the member is.
    #[must_use]
    pub fn slot(self) -> Slot {
        let index = self.0.to_le_bytes()[0] & (Slot::COUNT - 1);
        // Every index of so few bits is that of a slot.
        Slot::new(index).unwrap_or(Slot::DAEMON)
    }

    const fn era(self) -> u64 {
        self.0 >> SLOT_BITS
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, era {})", self.slot(), self.era())
    }
}

impl<'d> WriteGuard<'d> {
    /// Publishes what was written, and makes the process of the ticket the holder of the units.
    /// Nobody has them in between. That process has them once it
    /// [receives](Units::receive) them; should it never, they are its until it closes the domain
    /// or ends.
    ///
    /// # Errors
    /// [`LeaseError::ReceiverGone`] where that process is no member any more: the units that it did
    /// not get were let go as by a release. [`LeaseError`].
    pub fn hand_over(mut self, to: Ticket) -> Result<(), LeaseError> {
        self.keep_held();
        self.write_back()?;
        let slot = to.slot();
        let receiver = Receiver {
            slot,
            era: to.era(),
        };
        let dirty = &self.dirty;
        self.lease.each(|units, index, grant| {
            let line = units.line(index).ok_or(AccessError::ReadOnly)?;
            let directory = Directory::new(units.held.mapped(), units.domain.layout());
            let directory = directory.map_err(AccessError::from)?;
            // What cannot be read does not live.
            let lives = || directory.lives(slot, to.era()) == Ok(true);
            let (start, end) = units.unit_range(index);
            let changed = dirty.touches(start, end);
            units.sum_up(index, line, grant, changed)?;
            let member = units.member();
            let unit = units.unit(index);
            match member.hand_over(line, grant, changed, receiver, lives) {
                Ok(version) => {
                    units.membership.saw(unit, version, grant.backing);
                    Ok(())
                }
                Err(NotHanded::Gone(kept)) => {
                    // Published, where it was, before the death was seen, or else now.
                    let rest = changed && kept.version == grant.version;
                    let let_go = member.release_exclusive(line, &kept, rest);
                    let_go.map_err(|refused| units.refused(index, refused))?;
                    Err(LeaseError::ReceiverGone { unit, slot })
                }
                Err(NotHanded::Lease(refused)) => Err(units.refused(index, refused)),
                Err(_) => Err(LeaseError::Revoked { unit }),
            }
        })
    }
}

impl<'d> Units<'d> {
    /// Takes the units that another process hands over to this one, and waits at most `timeout` for
    /// it: all of them or none.
    ///
    /// Where it fails, those that had come are let go, and so are those of the rest that are here
    /// by then. What a giver hands over later than that is this process's, and waits for it to
    /// receive again: with no time that takes the whole range, or lets go of what there is of it.
    ///
    /// # Errors
    /// [`LeaseError::TimedOut`]; [`LeaseError`]. No unit of the range is held.
    pub fn receive(&self, timeout: Duration) -> Result<WriteGuard<'d>, LeaseError> {
        self.held.check(0, self.domain.layout().directory().get())?;
        let until = deadline(timeout);
        let mut taken: Option<Lease<'d>> = None;
        for index in 0..self.count {
            match self.take_handed(index, until) {
                Ok(grant) => match &mut taken {
                    Some(lease) => lease.more.push(grant),
                    None => taken = Some(self.lease_of(grant)),
                },
                Err(error) => {
                    // Dropped, it lets go of those that came.
                    drop(taken.map(WriteGuard::new));
                    self.let_go_of_handed(index);
                    return Err(error);
                }
            }
        }
        // There is one unit at least.
        let lease = taken.ok_or(LeaseError::Revoked { unit: self.first })?;
        Ok(WriteGuard::new(lease))
    }

    fn take_handed(&self, index: u32, until: Deadline) -> Result<Grant, LeaseError> {
        let line = self.line(index).ok_or(AccessError::ReadOnly)?;
        let era = self.membership.era;
        let grant = self.member().receive(line, era, until);
        let grant = grant.map_err(|refused| self.refused(index, refused))?;
        self.catch_up(Kind::Write, index, &grant, Some(until))?;
        Ok(grant)
    }

    /// Lets go of the units from `index` on that were handed to this process and that it does not
    /// want any more.
    fn let_go_of_handed(&self, index: u32) {
        for index in index..self.count {
            let Some(line) = self.line(index) else {
                return;
            };
            if let Ok(grant) = self.member().try_receive(line, self.membership.era) {
                // Nothing was written; where it was taken away there is nothing to be let go.
                let _ = self.give_back(Kind::Write, index, &grant);
            }
        }
    }
}
