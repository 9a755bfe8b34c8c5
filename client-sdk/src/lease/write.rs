//! A lease for writing.

use std::fmt;
use std::thread::panicking;

use pool_core::Bytes;

use super::dirty::Dirty;
use super::error::LeaseError;
use super::read::ReadGuard;
use super::view::{LeasedView, LeasedViewMut};
use super::{Kind, Lease};
use crate::error::AccessError;
use crate::view::Element;

/// Units that are leased for writing: nobody else reads or writes them while the lease stands.
///
/// What was written through the guard is published when it is released or dropped; a guard that
/// wrote nothing publishes nothing, and the version stays. Where a thread panics after it has
/// written, the contents are lost as with a process that died, unless the domain keeps them and has
/// no checksums.
pub struct WriteGuard<'d> {
    pub(super) lease: Lease<'d>,
    pub(super) dirty: Dirty,
    /// They are to be given back.
    held: bool,
    /// The contents are lost until all of them have been written.
    restoring: bool,
    /// The thread was panicking already.
    panicked: bool,
}

impl<'d> WriteGuard<'d> {
    #[inline(always)]
    pub(super) fn new(lease: Lease<'d>) -> Self {
        Self {
            dirty: Dirty::new(lease.units.domain.unit_bytes()),
            lease,
            held: true,
            restoring: false,
            panicked: panicking(),
        }
    }

    pub(super) fn restoring(lease: Lease<'d>) -> Self {
        let mut guard = Self::new(lease);
        guard.restoring = true;
        guard.mark_all();
        guard
    }

    /// The `count` elements from `offset` of the range, to read.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline(always)]
    pub fn view<T: Element>(
        &self,
        offset: Bytes,
        count: usize,
    ) -> Result<LeasedView<'_, T>, LeaseError> {
        LeasedView::new(&self.lease, Kind::Write, offset, count)
    }

    /// The `count` elements from `offset` of the range, to read and write. What is written is
    /// recorded.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline(always)]
    pub fn view_mut<T: Element>(
        &mut self,
        offset: Bytes,
        count: usize,
    ) -> Result<LeasedViewMut<'_, T>, LeaseError> {
        LeasedViewMut::new(&self.lease, &mut self.dirty, offset, count)
    }

    /// Tells that the `len` bytes from `offset` of the range are written by other means than a view
    /// of this guard.
    ///
    /// # Errors
    /// [`LeaseError::Access`] where they are not inside the range; nothing was recorded.
    pub fn mark_dirty(&mut self, offset: Bytes, len: Bytes) -> Result<(), LeaseError> {
        let size = self.lease.units.bytes();
        let end = offset.checked_add(len);
        if end.is_none_or(|end| end > size) {
            return Err(AccessError::Outside { offset, len, size }.into());
        }
        let start = self.lease.units.start.saturating_add(offset.get());
        self.dirty.add(start, len.get());
        Ok(())
    }

    pub(super) fn mark_all(&mut self) {
        self.dirty
            .add(self.lease.units.start, self.lease.units.bytes);
    }

    /// The address of the range, for code that takes one: `None` in a domain of simulated caches,
    /// which it would go past. It stays readable and writable while the guard lives. All of the
    /// range counts as written then. Whoever wants to say what was takes the address from the
    /// domain, and [marks it](Self::mark_dirty).
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> Option<*mut u8> {
        let start = self.lease.as_ptr()?.cast_mut();
        self.mark_all();
        Some(start)
    }

    /// The version of the contents as they were published last: of the first unit, where there are
    /// several.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.lease.first.version
    }

    /// Whether somebody waits for it. Let go soon: one that does not may be cut off.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where it was taken away; [`LeaseError`].
    pub fn recalled(&self) -> Result<bool, LeaseError> {
        self.lease.is_recalled(Kind::Write)
    }

    /// Whether the lease stands.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`]; [`LeaseError`].
    pub fn check(&self) -> Result<(), LeaseError> {
        let units = &self.lease.units;
        self.lease.check(Kind::Write, units.start, units.bytes)
    }

    /// Publishes what was written, and goes on reading: nobody has written in between.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where a unit was taken away before: nothing of it was published.
    /// Nothing is held then.
    pub fn downgrade(mut self) -> Result<ReadGuard<'d>, LeaseError> {
        self.held = false;
        self.write_back()?;
        let dirty = &self.dirty;
        let done = self.lease.each(|units, index, grant| {
            let line = units.line(index).ok_or(AccessError::ReadOnly)?;
            let (start, end) = units.unit_range(index);
            let changed = dirty.touches(start, end);
            units.sum_up(index, line, grant, changed)?;
            let shared = units.member().downgrade(line, grant, changed);
            *grant = shared.map_err(|refused| units.refused(index, refused))?;
            units
                .membership
                .saw(units.unit(index), grant.version, grant.backing);
            Ok(())
        });
        // Where one was taken away the guard gives the others back.
        let guard = ReadGuard::new(self.lease.take_out());
        done.map(|()| guard)
    }

    /// Publishes what was written and gives the units back. Returns the version that the first unit
    /// has now.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where a unit was taken away before: nothing of it was published.
    #[inline(always)]
    pub fn release(mut self) -> Result<u64, LeaseError> {
        self.held = false;
        match self.publish_at_once() {
            Some(done) => done,
            None => self.take_out().publish(),
        }
    }

    /// Gives the contents up, and the units with them: they are lost to everybody, until somebody
    /// [restores](super::Units::restore) them. For who has written half of a change and cannot
    /// write the other half.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where a unit was taken away before.
    pub fn abandon(mut self) -> Result<(), LeaseError> {
        self.lose()
    }

    /// The way to let go of one unit of which the word tells everything. `None` where there is more
    /// to do; nothing was done then.
    #[inline(always)]
    fn publish_at_once(&self) -> Option<Result<u64, LeaseError>> {
        let Lease { units, first, more } = &self.lease;
        let line = units.line.filter(|_| more.is_empty())?;
        let (changed, membership) = (!self.dirty.is_empty(), units.membership);
        let is_plain = !changed || membership.publishes_by_the_word();
        if !is_plain || !units.held.is_standing() {
            return None;
        }
        let units = *units;
        let given = membership.member.release_exclusive(line, first, changed);
        Some(given.map_err(|refused| units.refused(0, refused)))
    }

    /// Writes back, and publishes, what there is of every unit. Returns the version that the first
    /// has now.
    #[inline(never)]
    fn publish(mut self) -> Result<u64, LeaseError> {
        self.held = false;
        self.write_back()?;
        let dirty = &self.dirty;
        self.lease.each(|units, index, grant| {
            let line = units.line(index).ok_or(AccessError::ReadOnly)?;
            let (start, end) = units.unit_range(index);
            let changed = dirty.touches(start, end);
            units.sum_up(index, line, grant, changed)?;
            let given = units.member().release_exclusive(line, grant, changed);
            grant.version = given.map_err(|refused| units.refused(index, refused))?;
            units
                .membership
                .saw(units.unit(index), grant.version, grant.backing);
            Ok(())
        })?;
        Ok(self.lease.first.version)
    }

    /// The same, to be ended; this one holds nothing any more.
    fn take_out(&mut self) -> Self {
        self.held = false;
        Self {
            lease: self.lease.take_out(),
            dirty: self.dirty.take_out(),
            held: true,
            restoring: self.restoring,
            panicked: self.panicked,
        }
    }

    /// Writes back what was written.
    #[inline]
    pub(super) fn write_back(&self) -> Result<(), LeaseError> {
        let units = &self.lease.units;
        units.held.check_standing()?;
        if !self.dirty.is_empty() {
            let caches = &units.membership.caches;
            caches.write_back(units.held, self.dirty.ranges())?;
        }
        Ok(())
    }

    /// Lets go of what nobody has let go of.
    #[inline(never)]
    fn end(mut self) {
        let keeps = self.lease.units.membership.keeps_on_death();
        let broken = panicking() && !self.panicked && !self.dirty.is_empty() && !keeps;
        // Whoever wants to know whether it was published calls `release`.
        let _ = if self.restoring || broken {
            self.lose()
        } else {
            self.release().map(drop)
        };
    }

    fn lose(&mut self) -> Result<(), LeaseError> {
        self.held = false;
        // A dirty line that stayed would be written back some time later, over what somebody has
        // restored by then.
        self.write_back()?;
        self.lease.each(|units, index, grant| {
            let line = units.line(index).ok_or(AccessError::ReadOnly)?;
            let lost = units.member().abandon(line, grant);
            lost.map_err(|refused| units.refused(index, refused))
        })
    }

    /// Lets the guard end without giving anything back.
    pub(super) fn keep_held(&mut self) {
        self.held = false;
    }
}

impl Drop for WriteGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.held {
            self.take_out().end();
        }
    }
}

impl fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lease, dirty, .. } = self;
        write!(f, "WriteGuard({:?}, written {dirty:?})", lease.units)
    }
}
