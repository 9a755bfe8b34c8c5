//! A lease for reading.

use std::fmt;

use coherence::Epoch;
use pool_core::Bytes;

use super::error::LeaseError;
use super::view::LeasedView;
use super::write::WriteGuard;
use super::{Kind, Lease};
use crate::error::AccessError;
use crate::view::Element;

/// Units that are leased for reading: nobody writes them while the lease stands. Dropped, it gives
/// them back; [`ReadGuard::release`] says besides whether they were held to the end.
pub struct ReadGuard<'d> {
    lease: Lease<'d>,
    /// They are to be given back.
    held: bool,
}

impl<'d> ReadGuard<'d> {
    #[inline(always)]
    pub(super) const fn new(lease: Lease<'d>) -> Self {
        Self { lease, held: true }
    }

    /// The `count` elements from `offset` of the range.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline(always)]
    pub fn view<T: Element>(
        &self,
        offset: Bytes,
        count: usize,
    ) -> Result<LeasedView<'_, T>, LeaseError> {
        LeasedView::new(&self.lease, Kind::Read, offset, count)
    }

    /// The address of the range, for code that takes one: `None` in a domain of simulated caches,
    /// which it would go past. It stays readable while the guard lives. Whoever reads through it is
    /// not told of a revocation: what was read counts once [`ReadGuard::release`] has said that the
    /// lease stood.
    #[must_use]
    pub fn as_ptr(&self) -> Option<*const u8> {
        self.lease.as_ptr()
    }

    /// The version of the contents: of the first unit, where there are several. It rises with each
    /// publication, and not always by one.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.lease.first.version
    }

    /// The epoch of the lease: the same for as long as nobody has written.
    pub(crate) const fn epoch(&self) -> Epoch {
        self.lease.first.epoch()
    }

    /// Whether somebody waits for it. Let go soon: one that does not may be cut off.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where it was taken away; [`LeaseError`].
    pub fn recalled(&self) -> Result<bool, LeaseError> {
        self.lease.is_recalled(Kind::Read)
    }

    /// Whether the lease stands.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`]; [`LeaseError`].
    pub fn check(&self) -> Result<(), LeaseError> {
        let units = &self.lease.units;
        self.lease.check(Kind::Read, units.start, units.bytes)
    }

    /// Whether the contents are those that were published, by the checksum of each unit that the
    /// guard has a byte of: one pass over these units. Whoever writes a unit publishes all of it,
    /// damage included: who wants to know before verifies, and [upgrades](Self::upgrade).
    ///
    /// # Errors
    /// [`LeaseError::Damaged`] where they are not; [`LeaseError::NoChecksums`] where the domain was
    /// made without; [`LeaseError::Revoked`]; [`LeaseError`].
    pub fn verify(&self) -> Result<(), LeaseError> {
        self.lease.verify()
    }

    /// Makes it a lease for writing, where nobody else reads the units, also no thread of this
    /// process. Nobody has written them in between. Nobody is waited for: two readers that waited
    /// for each other would wait for ever.
    ///
    /// # Errors
    /// The guard as it was, and why: [`LeaseError::Busy`] where others read.
    #[expect(
        clippy::result_large_err,
        reason = "the guard comes back, and a box would be made to be opened at once"
    )]
    pub fn upgrade(mut self) -> Result<WriteGuard<'d>, (Self, LeaseError)> {
        match self.lease.upgrade() {
            Ok(()) => {
                self.held = false;
                Ok(WriteGuard::new(self.lease.take_out()))
            }
            Err(error) => Err((self, error)),
        }
    }

    /// Gives the units back.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where one was taken away before: what was read through the address
    /// may be of any version.
    #[inline(always)]
    pub fn release(mut self) -> Result<(), LeaseError> {
        self.held = false;
        match self.let_go_at_once() {
            Some(done) => done,
            None => self.take_out().let_go(),
        }
    }

    /// The way to let go of one unit whose word is there. `None` where there is more to do; nothing
    /// was done then.
    #[inline(always)]
    fn let_go_at_once(&self) -> Option<Result<(), LeaseError>> {
        let Lease { units, first, more } = &self.lease;
        let line = units.line.filter(|_| more.is_empty())?;
        if !units.held.is_standing() {
            return None;
        }
        let units = *units;
        let given = units.member().release_shared(units.first, line, first);
        Some(given.map_err(|refused| units.refused(0, refused)))
    }

    /// The same, to be ended; this one holds nothing any more.
    fn take_out(&mut self) -> Self {
        self.held = false;
        Self::new(self.lease.take_out())
    }

    /// Lets go of what nobody has let go of.
    #[inline(never)]
    fn end(self) {
        // Whoever wants to know whether the lease stood to the end calls `release`; each access has
        // said so as well.
        let _ = self.release();
    }

    /// Lets go of every unit.
    #[inline(never)]
    fn let_go(mut self) -> Result<(), LeaseError> {
        self.held = false;
        self.lease.units.held.check_standing()?;
        self.lease
            .each(|units, index, grant| units.give_back(Kind::Read, index, grant))
    }
}

impl Lease<'_> {
    /// All units, or none.
    fn upgrade(&mut self) -> Result<(), LeaseError> {
        self.units.held.check_standing()?;
        if self.units.domain.access() == pool_core::mem::Access::ReadOnly {
            return Err(AccessError::ReadOnly.into());
        }
        let mut upgraded = 0;
        let done = self.each(|units, index, grant| {
            if index > upgraded {
                return Ok(()); // One before it could not be had.
            }
            let line = units.line(index).ok_or(AccessError::ReadOnly)?;
            let wider = units.member().try_upgrade(line, grant);
            *grant = wider.map_err(|refused| units.refused(index, refused))?;
            upgraded += 1;
            Ok(())
        });
        if done.is_err() {
            // What it is told is why it is none for writing. A lease that was taken away meanwhile
            // says so at the next access.
            let _ = self.each(|units, index, grant| {
                if let Some(line) = units.line(index).filter(|_| index < upgraded) {
                    let back = units.member().downgrade(line, grant, false);
                    *grant = back.map_err(|refused| units.refused(index, refused))?;
                }
                Ok(())
            });
        }
        done
    }
}

impl Drop for ReadGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.held {
            self.take_out().end();
        }
    }
}

impl fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadGuard({:?})", self.lease.units)
    }
}
