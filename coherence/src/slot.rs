//! Which place of a domain a member has.

use core::fmt;

/// A place among the at most 32 holders of a domain.
///
/// Place 0 is the daemon's. The others are the members': a process has one in each domain it has
/// joined, whatever the number of its threads, and a place is given away again only after all that
/// was held in it has been recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// How many there are.
    pub const COUNT: u8 = 32;
    /// The daemon's.
    pub const DAEMON: Self = Self(0);

    /// The place number `index`, or `None` where there is no such place.
    #[must_use]
    pub const fn new(index: u8) -> Option<Self> {
        if index < Self::COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// Every place a member can have.
    pub fn members() -> impl Iterator<Item = Self> {
        (1..Self::COUNT).map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// Its bit in a set of holders.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_bit_of_its_own() {
        let bits = Slot::members().fold(Slot::DAEMON.bit(), |bits, slot| {
            assert_eq!(bits & slot.bit(), 0, "{slot}");
            bits | slot.bit()
        });
        assert_eq!(bits, u32::MAX);
        assert_eq!(Slot::new(32), None);
    }
}
