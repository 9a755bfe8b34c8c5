//! What a member has to do to the caches between it and the shared memory: the three modes of a
//! domain.
//!
//! The protocol is one and the same in every mode. It says which ranges were written and which may
//! be stale; what that costs is the mode's:
//! - [`Mode::Hardware`]: nothing, the hardware keeps all caches of the domain the same;
//! - [`Mode::Software`]: instructions on each line, [`Software`];
//! - [`Mode::Simulated`]: a private cache in software, [`crate::simulated::SimCache`], which finds
//!   on any machine what a protocol forgot.
//!
//! # The rules, which [`Caches`] states call by call
//! 1. Release of a writer: [`write_back`](Caches::write_back) of every range it wrote, then
//!    [`fence_stores`](Caches::fence_stores), then the version, then the release.
//! 2. Acquire, where the version is not the one this member saw last:
//!    [`invalidate`](Caches::invalidate) of the whole range, then [`fence_all`](Caches::fence_all),
//!    then loads.
//! 3. The words of the protocol itself (owner, version, place) are in memory that *is* coherent
//!    among the members, and never in a line with payload.
//! 4. Two members never hold parts of one line: a line is written back whole, with what its host
//!    holds of the other's part.

#[cfg(not(loom))]
use pool_core::Bytes;
#[cfg(not(loom))]
use pool_core::flush::Flusher;
#[cfg(not(loom))]
use pool_core::mem::Mapped;

mod mode;

pub use mode::{Capabilities, Mode, ModeRefused, Sharing, UnknownMode};

/// What one member needs of the caches between it and the memory. Offsets and lengths are in bytes
/// of the payload; ranges need not be aligned.
pub trait Caches {
    /// Begins to write the lines of a range that was written back to memory, and returns how many
    /// lines that are. Several ranges may follow each other before one fence.
    ///
    /// # Panics
    /// Where the range is not inside of the payload: it is that of a guard, which was checked.
    fn write_back(&self, offset: u64, len: u64) -> u64;

    /// Begins to drop the lines of a range that may be stale, dirty ones after they were written
    /// back, and returns how many lines that are.
    ///
    /// # Panics
    /// As for [`Caches::write_back`].
    fn invalidate(&self, offset: u64, len: u64) -> u64;

    /// After the write-backs of a release and before its version store: what was written back is in
    /// memory.
    fn fence_stores(&self);

    /// After the drops of an acquire and before its loads: they find what memory holds. Does what
    /// [`Caches::fence_stores`] does as well.
    fn fence_all(&self);
}

impl<C: Caches + ?Sized> Caches for &C {
    fn write_back(&self, offset: u64, len: u64) -> u64 {
        (**self).write_back(offset, len)
    }

    fn invalidate(&self, offset: u64, len: u64) -> u64 {
        (**self).invalidate(offset, len)
    }

    fn fence_stores(&self) {
        (**self).fence_stores();
    }

    fn fence_all(&self) {
        (**self).fence_all();
    }
}

/// Caches that the hardware keeps coherent: there is nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hardware;

impl Caches for Hardware {
    #[inline]
    fn write_back(&self, _offset: u64, _len: u64) -> u64 {
        0
    }

    #[inline]
    fn invalidate(&self, _offset: u64, _len: u64) -> u64 {
        0
    }

    #[inline]
    fn fence_stores(&self) {}

    #[inline]
    fn fence_all(&self) {}
}

/// The caches of this host, acted on by instructions. For a domain that [`Mode::admit`] has
/// admitted to [`Mode::Software`].
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy)]
pub struct Software<'a> {
    payload: Mapped<'a>,
    flusher: Flusher,
}

#[cfg(not(loom))]
impl<'a> Software<'a> {
    /// The caches of this host over `payload`, which may be mapped read-only for a reader.
    #[must_use]
    pub const fn new(payload: Mapped<'a>, flusher: Flusher) -> Self {
        Self { payload, flusher }
    }
}

#[cfg(not(loom))]
impl Caches for Software<'_> {
    fn write_back(&self, offset: u64, len: u64) -> u64 {
        self.flusher
            .write_back(&self.payload, Bytes::new(offset), Bytes::new(len))
            .expect("the range of a guard is inside of the payload")
    }

    fn invalidate(&self, offset: u64, len: u64) -> u64 {
        self.flusher
            .invalidate(&self.payload, Bytes::new(offset), Bytes::new(len))
            .expect("the range of a guard is inside of the payload")
    }

    fn fence_stores(&self) {
        self.flusher.fence_stores();
    }

    fn fence_all(&self) {
        self.flusher.fence_all();
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use pool_core::mem::{Access, FileMap};
    use pool_core::units::PAGE_BYTES;

    use super::*;

    fn page() -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE_BYTES).unwrap();
        file
    }

    fn map(file: &std::fs::File, access: Access) -> FileMap {
        FileMap::new(file.as_fd(), Bytes::ZERO, Bytes::new(PAGE_BYTES), access).unwrap()
    }

    #[test]
    fn coherent_hardware_needs_nothing_and_counts_no_line() {
        assert_eq!(Hardware.write_back(0, 4096), 0);
        assert_eq!(Hardware.invalidate(5, u64::MAX), 0);
    }

    #[test]
    fn each_line_of_each_operation_is_counted() {
        let file = page();
        let map = map(&file, Access::ReadWrite);
        let member = Software::new(map.mapped(), Flusher::detect());
        let word = map.mapped().write_view::<u64>(Bytes::new(8), 1).unwrap();
        word.set(0, 7).unwrap();
        assert_eq!(member.write_back(8, 8), 1);
        assert_eq!(member.write_back(63, 2), 2);
        member.fence_stores();
        assert_eq!(member.invalidate(0, PAGE_BYTES), 64);
        member.fence_all();
        assert_eq!(word.get(0), Some(7));
    }

    #[test]
    fn a_reader_that_may_not_write_drops_its_lines() {
        let file = page();
        let (writer, reader) = (map(&file, Access::ReadWrite), map(&file, Access::ReadOnly));
        let reader = reader.mapped();
        let word = writer.mapped().write_view::<u64>(Bytes::ZERO, 1).unwrap();
        word.set(0, 9).unwrap();
        let caches = Software::new(reader, Flusher::detect());
        assert_eq!(caches.invalidate(0, 8), 1);
        caches.fence_all();
        assert_eq!(reader.view::<u64>(Bytes::ZERO, 1).unwrap().get(0), Some(9));
    }

    #[test]
    #[should_panic(expected = "inside of the payload")]
    fn a_range_outside_of_the_payload_is_the_callers_mistake() {
        let file = page();
        let map = map(&file, Access::ReadWrite);
        Software::new(map.mapped(), Flusher::detect()).write_back(PAGE_BYTES, 1);
    }
}
