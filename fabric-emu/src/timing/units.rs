//! Amounts of emulated time, of bytes a second, and parts of a whole. Each stops at the end of its
//! numbers: it neither wraps nor panics.
//!
//! There is no `+`: what is written says what happens at the end of the numbers. A division by
//! nothing is the largest amount there is, for a link of no bandwidth ends no transfer.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Picoseconds in a second.
pub(super) const PICOS_PER_SECOND: u64 = 1_000_000_000_000;

/// As much of `wide` as fits.
pub(super) fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// `a * b / c`, rounded down. Nothing of nothing is nothing; by nothing, else, is all there is.
pub(super) fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    match product.checked_div(u128::from(c)) {
        Some(quotient) => narrow(quotient),
        None if product == 0 => 0,
        None => u64::MAX,
    }
}

/// [`mul_div`], rounded up.
pub(super) fn mul_div_up(a: u64, b: u64, c: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    match c {
        0 if product == 0 => 0,
        0 => u64::MAX,
        _ => narrow(product.div_ceil(u128::from(c))),
    }
}

/// What amounts have in common.
macro_rules! amount {
    ($name:ident) => {
        impl $name {
            /// The sum, or [`Self::MAX`].
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// What is left, or none.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// So many times as much, or [`Self::MAX`].
            #[must_use]
            pub const fn times(self, count: u64) -> Self {
                Self(self.0.saturating_mul(count))
            }

            /// This part of it, rounded down.
            #[must_use]
            pub fn part(self, share: Share) -> Self {
                Self(share.of(self.0))
            }
        }
    };
}

amount!(Picos);
amount!(Rate);

/// A time or a duration in picoseconds: 213 days at most.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Picos(u64);

impl Picos {
    /// No time.
    pub const ZERO: Self = Self(0);
    /// Never: what takes as long does not end.
    pub const MAX: Self = Self(u64::MAX);

    /// This many picoseconds.
    #[must_use]
    pub const fn new(picos: u64) -> Self {
        Self(picos)
    }

    /// This many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos.saturating_mul(1000))
    }

    /// The number of picoseconds.
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
}

impl fmt::Display for Picos {
    /// In nanoseconds with one digit after the point, the rest cut off.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ns", self.0 / 1000, self.0 % 1000 / 100)
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(u64);

impl Rate {
    /// Nothing moves.
    pub const ZERO: Self = Self(0);
    /// As fast as there is.
    pub const MAX: Self = Self(u64::MAX);

    /// This many bytes a second.
    #[must_use]
    pub const fn new(bytes_per_second: u64) -> Self {
        Self(bytes_per_second)
    }

    /// The number of bytes a second.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// How long `bytes` take, rounded up; [`Picos::MAX`] where nothing moves.
    #[must_use]
    pub fn time_of(self, bytes: u64) -> Picos {
        Picos(mul_div_up(bytes, PICOS_PER_SECOND, self.0))
    }

    /// How many whole bytes move in `time`.
    #[must_use]
    pub fn bytes_in(self, time: Picos) -> u64 {
        mul_div(self.0, time.0, PICOS_PER_SECOND)
    }

    /// The rate at which `bytes` each `time` move, rounded down.
    #[must_use]
    pub fn of(bytes: u64, time: Picos) -> Self {
        Self(mul_div(bytes, PICOS_PER_SECOND, time.0))
    }
}

impl fmt::Display for Rate {
    /// In GB/s (10^9 bytes) with two digits after the point, the rest cut off.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 / 10_000_000;
        write!(f, "{}.{:02} GB/s", hundredths / 100, hundredths % 100)
    }
}

/// Parts of a whole, in units of 1/2^32: a share of reads, a utilisation. A utilisation that is
/// asked for may be more than the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(u64);

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const ONE: Self = Self(1 << 32);
    /// More than anything can be of anything.
    pub const MAX: Self = Self(u64::MAX);

    /// This many of 2^32 parts.
    #[must_use]
    pub const fn from_parts(parts: u64) -> Self {
        Self(parts)
    }

    /// This many of 1000 parts.
    #[must_use]
    pub fn from_permille(permille: u64) -> Self {
        Self::ratio(permille, 1000)
    }

    /// `part` of `whole`, rounded up, so that more than the whole never looks like the whole.
    #[must_use]
    pub fn ratio(part: u64, whole: u64) -> Self {
        Self(mul_div_up(part, Self::ONE.0, whole))
    }

    /// The number of parts of 2^32.
    #[must_use]
    pub const fn parts(self) -> u64 {
        self.0
    }

    /// The number of parts of 1000, rounded to the nearest.
    #[must_use]
    pub fn permille(self) -> u64 {
        narrow((u128::from(self.0) * 1000 + u128::from(Self::ONE.0 / 2)) >> 32)
    }

    /// This part of `amount`, rounded down.
    #[must_use]
    pub fn of(self, amount: u64) -> u64 {
        mul_div(amount, self.0, Self::ONE.0)
    }

    /// What is missing to the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ONE.0.saturating_sub(self.0))
    }

    /// The sum, or [`Self::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// At most the whole.
    #[must_use]
    pub fn at_most_one(self) -> Self {
        self.min(Self::ONE)
    }
}

impl fmt::Display for Share {
    /// In percent with one digit after the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permille = self.permille();
        write!(f, "{}.{} %", permille / 10, permille % 10)
    }
}
