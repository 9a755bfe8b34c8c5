//! Checksums of leased units, in domains that have them: see [`coherence::sum`].
//!
//! A writer stores that of each unit it has changed after it has written back what it wrote, and
//! before anything of the publication. So each publication costs one pass over the whole unit,
//! however little of it was written; in other domains one branch. A reader may verify what it
//! holds, by the same pass.

use std::mem::offset_of;

use coherence::Grant;
use coherence::sum::{Digest, Hashing};
use pool_core::Bytes;
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::{Ordering, fence};

use super::error::LeaseError;
use super::{Kind, Lease, Units};
use crate::error::AccessError;

/// What is copied out of a simulated cache at a time.
const CHUNK: usize = 4096;

impl Units<'_> {
    /// Stores the checksum of the unit at `index`, which is about to be published where it was
    /// `changed`. What was written is written back.
    #[inline]
    pub(super) fn sum_up(
        &self,
        index: u32,
        line: &Descriptor,
        grant: &Grant,
        changed: bool,
    ) -> Result<(), LeaseError> {
        if !changed || !self.membership.info.checksums {
            return Ok(());
        }
        self.store_sum(index, line, grant)
    }

    #[inline(never)]
    fn store_sum(&self, index: u32, line: &Descriptor, grant: &Grant) -> Result<(), LeaseError> {
        let contents = self.digest(index)?;
        let stored = self.member().set_sum(line, grant, contents);
        stored.map_err(|refused| self.refused(index, refused))
    }

    /// The hash of the unit at `index`, as this process sees it.
    fn digest(&self, index: u32) -> Result<Digest, LeaseError> {
        let (start, end) = self.unit_range(index);
        let mut hashing = Hashing::default();
        if let Some(cache) = self.membership.caches.simulated() {
            let mut chunk = [0; CHUNK];
            // A unit is a whole number of pages.
            for offset in (start..end).step_by(CHUNK) {
                cache.read(offset, &mut chunk);
                hashing.add(&chunk);
            }
            return Ok(hashing.digest());
        }
        let directory = self.domain.layout().directory().get();
        let at = Bytes::new(directory.saturating_add(start));
        let added = hashing.add_mapped(self.held.mapped(), at, self.domain.unit_bytes());
        added.map_err(AccessError::from)?;
        Ok(hashing.digest())
    }

    /// The checksum that is stored for the unit at `index`.
    fn sum(&self, index: u32) -> Result<u64, LeaseError> {
        match self.line(index) {
            Some(line) => Ok(line.sum.load(Ordering::Acquire)),
            None => self.word(index, offset_of!(Descriptor, sum)),
        }
    }
}

impl Lease<'_> {
    /// Whether the contents of every unit, which is held for reading, are those of its checksum.
    pub(super) fn verify(&self) -> Result<(), LeaseError> {
        let units = &self.units;
        if !units.membership.info.checksums {
            let segment = units.segment_id();
            return Err(LeaseError::NoChecksums { segment });
        }
        for (grant, index) in std::iter::once(&self.first).chain(&self.more).zip(0..) {
            let (start, end) = units.unit_range(index);
            self.check(Kind::Read, start, end.saturating_sub(start))?;
            let (sum, contents) = (units.sum(index)?, units.digest(index)?);
            // What was read is read before the word is looked at again.
            fence(Ordering::Acquire);
            self.check(Kind::Read, start, end.saturating_sub(start))?;
            if sum != contents.word(grant.version) {
                let (unit, version) = (units.unit(index), grant.version);
                return Err(LeaseError::Damaged { unit, version });
            }
        }
        Ok(())
    }
}
