//! A member's place in a sharing domain.

use core::fmt;

/// One of the 32 places of a sharing domain; place 0 is the daemon's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// How many places there are.
    pub const COUNT: u8 = 32;
    /// The daemon's place.
    pub const DAEMON: Self = Self(0);

    /// The place with this index, or `None` past the last one.
    #[must_use]
    pub const fn new(index: u8) -> Option<Self> {
        if index < Self::COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The index, below [`Self::COUNT`].
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// The place's bit in a mask of all places.
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
    fn each_slot_has_a_bit_of_its_own() {
        let slots = (0..=u8::MAX).filter_map(Slot::new);
        assert_eq!(slots.clone().count(), usize::from(Slot::COUNT));
        assert_eq!(slots.map(Slot::bit).fold(0, |all, bit| all ^ bit), u32::MAX);
    }
}
