//! Addresses in the window, which exist in every process of a pool, and the window itself.
//!
//! A [`PoolAddr`] is a number, not a pointer: only [`crate::mem`] turns one into the other, and
//! only inside a window this process has reserved. There is no `+`: an address that may have come
//! from a message is moved by `checked_add` or not at all.

use core::fmt;

use crate::units::{Bytes, EXTENT_BYTES, TIB};

/// An address inside some pool's window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolAddr(u64);

impl PoolAddr {
    /// The address with this number.
    #[must_use]
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// The number, as it travels and as it is journaled.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, or `None` past the end of the numbers.
    #[must_use]
    pub const fn checked_add(self, bytes: Bytes) -> Option<Self> {
        match self.0.checked_add(bytes.get()) {
            Some(addr) => Some(Self(addr)),
            None => None,
        }
    }

    /// How far `self` lies after `start`, or `None` where it lies before.
    #[must_use]
    pub const fn checked_offset_from(self, start: Self) -> Option<Bytes> {
        match self.0.checked_sub(start.0) {
            Some(bytes) => Some(Bytes::new(bytes)),
            None => None,
        }
    }

    /// Whether an extent may start here.
    #[must_use]
    pub const fn is_extent_aligned(self) -> bool {
        self.0.is_multiple_of(EXTENT_BYTES)
    }
}

impl fmt::Display for PoolAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for PoolAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The virtual range every process of a pool reserves at the same base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRange {
    base: PoolAddr,
    len: Bytes,
}

/// The window must start and end on an extent, hold at least one, and end below 2^47.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the window of {len} at {base} is not usable: base and size must be multiples of 2 MiB, \
     the size at least 2 MiB, the base at least 4 GiB and the end at most 2^47"
)]
pub struct WindowRangeError {
    /// The base that was asked for.
    pub base: PoolAddr,
    /// The size that was asked for.
    pub len: Bytes,
}

impl WindowRange {
    /// 16 TiB at 0x2000_0000_0000: above what executables, heaps and stacks use on `x86_64` and
    /// `aarch64` Linux, below 2^47 which 4-level page tables can reach.
    pub const DEFAULT: Self = Self {
        base: PoolAddr::new(0x2000_0000_0000),
        len: Bytes::new(16 * TIB),
    };

    /// The lowest base: below it lie non-PIE executables and 32-bit mappings.
    const BASE_MIN: u64 = 4 << 30;
    /// The end of user addresses with 4-level page tables.
    const END_MAX: u64 = 1 << 47;

    /// The range of `len` bytes from `base`.
    ///
    /// # Errors
    /// [`WindowRangeError`] where it is not aligned to extents, empty, too low or too high.
    pub const fn new(base: PoolAddr, len: Bytes) -> Result<Self, WindowRangeError> {
        let aligned = base.is_extent_aligned() && len.get().is_multiple_of(EXTENT_BYTES);
        let placed = match base.checked_add(len) {
            Some(end) => base.get() >= Self::BASE_MIN && end.get() <= Self::END_MAX,
            None => false,
        };
        if aligned && placed && len.get() > 0 {
            Ok(Self { base, len })
        } else {
            Err(WindowRangeError { base, len })
        }
    }

    /// The first address.
    #[must_use]
    pub const fn base(self) -> PoolAddr {
        self.base
    }

    /// The size.
    #[must_use]
    pub const fn len(self) -> Bytes {
        self.len
    }

    /// Whether `len` bytes from `start` lie inside.
    #[must_use]
    pub const fn contains(self, start: PoolAddr, len: Bytes) -> bool {
        match start.checked_offset_from(self.base) {
            None => false,
            Some(offset) => match offset.checked_add(len) {
                None => false,
                Some(end) => end.get() <= self.len.get(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_window_is_a_valid_one() {
        let w = WindowRange::DEFAULT;
        assert_eq!(WindowRange::new(w.base(), w.len()), Ok(w));
    }

    #[test]
    fn a_window_that_no_process_could_reserve_is_refused() {
        for (base, len) in [
            (0, EXTENT_BYTES),
            (1 << 40, 0),
            ((1 << 40) + 4096, EXTENT_BYTES),
            (1 << 40, 4096),
            (1 << 46, 1 << 47),
            (u64::MAX - EXTENT_BYTES + 1, EXTENT_BYTES),
        ] {
            assert!(
                WindowRange::new(PoolAddr::new(base), Bytes::new(len)).is_err(),
                "{base:#x}"
            );
        }
    }

    #[test]
    fn containment_is_exact_at_both_ends_and_does_not_wrap() {
        let w = WindowRange::new(PoolAddr::new(1 << 40), Bytes::new(2 * EXTENT_BYTES)).unwrap();
        let at = |offset: u64| w.base().checked_add(Bytes::new(offset)).unwrap();
        assert!(w.contains(w.base(), w.len()));
        assert!(!w.contains(at(1), w.len()));
        assert!(w.contains(at(2 * EXTENT_BYTES), Bytes::ZERO));
        assert!(!w.contains(PoolAddr::new((1 << 40) - 1), Bytes::new(1)));
        assert!(!w.contains(at(1), Bytes::new(u64::MAX)));
    }
}
