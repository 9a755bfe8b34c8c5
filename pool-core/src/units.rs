//! Amounts of memory and of time, which cannot be mixed up and do not wrap.
//!
//! There is no `+` and no `-`: whoever computes with an amount that may have come from a message
//! says `checked_add` or `saturating_sub`, and thereby what shall happen at the end of the numbers.

use core::fmt;
use core::ops::Range;

/// Bytes in one KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes in one MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in one GiB.
pub const GIB: u64 = 1 << 30;
/// Bytes in one TiB.
pub const TIB: u64 = 1 << 40;

/// Bytes in one extent: 2 MiB, the size of a huge page on `x86_64` and on `aarch64` with 4 KiB
/// pages.
pub const EXTENT_BYTES: u64 = 2 * MIB;
/// Bytes in one operating-system page of the platforms we support.
pub const PAGE_BYTES: u64 = 4 * KIB;
/// Bytes in one cache line.
pub const LINE_BYTES: u64 = 64;

const _: () =
    assert!(EXTENT_BYTES.is_multiple_of(PAGE_BYTES) && PAGE_BYTES.is_multiple_of(LINE_BYTES));

/// The lines that hold a byte of the `len` bytes from `offset`, by their index: none where `len` is
/// 0, and up to the last line of all where the range is said to end past it.
#[must_use]
pub fn lines_touched(offset: u64, len: u64) -> Range<u64> {
    let first = offset / LINE_BYTES;
    let Some(before_end) = len.checked_sub(1) else {
        return first..first;
    };
    if crate::planted!("lines.end_is_not_rounded_up") {
        return first..first + len / LINE_BYTES;
    }
    first..offset.saturating_add(before_end) / LINE_BYTES + 1
}

/// An amount of memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(u64);

impl Bytes {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The amount as a number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` past the end of the numbers.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// What is left, or `None` where `other` is more.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// The amount as a length in this address space, or `None` where it does not fit.
    #[must_use]
    pub fn to_usize(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }

    /// Parses `"64 MiB"`, `"2GiB"` or `"4096"`.
    ///
    /// # Errors
    /// [`ParseBytesError`] for anything else, a fraction or an amount past 2^64 - 1 included.
    pub fn parse(text: &str) -> Result<Self, ParseBytesError> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale = match unit.trim() {
            "" | "B" => 1,
            "KiB" => KIB,
            "MiB" => MIB,
            "GiB" => GIB,
            "TiB" => TIB,
            _ => return Err(ParseBytesError),
        };
        let number: u64 = number.parse().map_err(|_| ParseBytesError)?;
        number.checked_mul(scale).map(Self).ok_or(ParseBytesError)
    }
}

/// Write an amount as a whole number and a unit: `4096`, `64 KiB`, `64 MiB`, `2 GiB` or `1 TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an amount of memory: write a whole number and B, KiB, MiB, GiB or TiB, as in \"64 MiB\""
)]
pub struct ParseBytesError;

impl fmt::Display for Bytes {
    /// Exact: the largest unit that divides the amount.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scale, unit) in [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
            if self.0 != 0 && self.0.is_multiple_of(scale) {
                return write!(f, "{} {unit}", self.0 / scale);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A number of extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Extents(u32);

impl Extents {
    /// None.
    pub const ZERO: Self = Self(0);

    /// This many extents.
    #[must_use]
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The fewest extents that hold `bytes`, or `None` where that is more than can be counted.
    #[must_use]
    pub fn holding(bytes: Bytes) -> Option<Self> {
        u32::try_from(bytes.get().div_ceil(EXTENT_BYTES))
            .ok()
            .map(Self)
    }

    /// What they hold. Never overflows: 2^32 extents are 2^53 bytes.
    #[must_use]
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 as u64 * EXTENT_BYTES)
    }

    /// The sum, or `None` past the end of the numbers.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// What is left, or `None` where `other` is more.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// What is left, and none where `other` is more.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Extents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} extents)", self.bytes(), self.0)
    }
}

/// A point on the monotonic clock, or a span on it, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(u64);

impl Nanos {
    /// The clock's beginning, or no time at all.
    pub const ZERO: Self = Self(0);

    /// This many nanoseconds.
    #[must_use]
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// This many milliseconds, or the longest span there is.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The number of nanoseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The later point, at the longest the end of time (year 2554 of the clock).
    #[must_use]
    pub const fn saturating_add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span from `earlier` to here; none where `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_printed() {
        for amount in [0, 1, 4096, 3 * MIB, GIB, 5 * TIB, u64::MAX] {
            let amount = Bytes::new(amount);
            assert_eq!(Bytes::parse(&amount.to_string()), Ok(amount));
        }
        assert_eq!(Bytes::parse(" 64 MiB "), Ok(Bytes::new(64 * MIB)));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "MiB",
            "1.5 GiB",
            "-1",
            "64 MB",
            "99999999999999 TiB",
            "1 2",
        ] {
            assert_eq!(Bytes::parse(text), Err(ParseBytesError), "{text}");
        }
    }

    #[test]
    fn a_line_is_touched_where_one_of_its_bytes_is() {
        assert_eq!(lines_touched(0, 0), 0..0);
        assert_eq!(lines_touched(130, 0), 2..2);
        assert_eq!(lines_touched(0, 1), 0..1);
        assert_eq!(lines_touched(0, 64), 0..1);
        assert_eq!(lines_touched(63, 2), 0..2);
        assert_eq!(lines_touched(64, 65), 1..3);
        let last = u64::MAX / LINE_BYTES;
        assert_eq!(lines_touched(u64::MAX, u64::MAX), last..last + 1);
    }

    #[test]
    fn extents_round_up_and_end_rather_than_wrap() {
        assert_eq!(Extents::holding(Bytes::new(1)), Some(Extents::new(1)));
        assert_eq!(
            Extents::holding(Bytes::new(EXTENT_BYTES + 1)),
            Some(Extents::new(2))
        );
        assert_eq!(Extents::holding(Bytes::ZERO), Some(Extents::ZERO));
        assert_eq!(Extents::holding(Bytes::new(u64::MAX)), None);
        assert_eq!(
            Extents::new(u32::MAX).bytes().get(),
            u64::from(u32::MAX) << 21
        );
    }
}
