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

/// A set of places, a bit a slot, as it is told to people: `slot 3`, or `slots 1, 3 and 7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slots(u32);

impl Slots {
    /// The places of a set of holders.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Each of them, from the lowest.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        let all = (0..Slot::COUNT).map(Slot);
        all.filter(move |slot| self.0 & slot.bit() != 0)
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.count_ones();
        f.write_str(match count {
            0 => return f.write_str("no slot"),
            1 => "slot",
            _ => "slots",
        })?;
        for (slot, place) in self.iter().zip(1..) {
            let before = match place {
                1 => " ",
                place if place == count => " and ",
                _ => ", ",
            };
            write!(f, "{before}{}", slot.0)?;
            if slot == Slot::DAEMON {
                f.write_str(" (the daemon)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_told_as_a_list_with_the_daemon_by_name() {
        let told = [
            (0, "no slot"),
            (0b1000, "slot 3"),
            (0b1000_1000, "slots 3 and 7"),
            (0b1000_1010, "slots 1, 3 and 7"),
            (1, "slot 0 (the daemon)"),
            (0x8000_0001, "slots 0 (the daemon) and 31"),
        ];
        for (bits, text) in told {
            assert_eq!(Slots::from_bits(bits).to_string(), text);
        }
        let all: u32 = Slots::from_bits(u32::MAX).iter().map(Slot::bit).sum();
        assert_eq!(all, u32::MAX);
    }

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
