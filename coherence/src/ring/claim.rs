//! Who has a role in a ring, or a place of it, as a word in shared memory.
//!
//! # Layout
//! Bits 0..2: 0 = nobody's, 1 = claimed. Bits 2..7: the slot. Bits 7..32: zero in a claim of a
//! role; a place keeps its lap there. Bits 32..64: the era.

use core::fmt;

use pool_core::planted;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::{Field, RingError};
use crate::Slot;

const CLAIMED: u64 = 1;
const SLOT_SHIFT: u32 = 2;
const SLOT_MASK: u64 = 0x1f;
const ERA_SHIFT: u32 = 32;

const _: () = assert!(SLOT_MASK + 1 == Slot::COUNT as u64);

/// A member of the sharing domain at one time: a slot is used again, with another era.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The place in the domain.
    pub slot: Slot,
    /// Which of the slot's users it is.
    pub era: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in era {}", self.slot, self.era)
    }
}

impl Owner {
    /// The owner's bits of a word, every other bit zero.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.era) << ERA_SHIFT | u64::from(self.slot.index()) << SLOT_SHIFT
    }

    /// The owner that a word names; any word names one.
    pub(super) fn from_bits(word: u64) -> Self {
        // The mask leaves five bits, each value of which is a slot, and 32 bits for the era.
        let slot = u8::try_from(word >> SLOT_SHIFT & SLOT_MASK).ok();
        Self {
            slot: slot.and_then(Slot::new).unwrap_or(Slot::DAEMON),
            era: u32::try_from(word >> ERA_SHIFT).unwrap_or(u32::MAX),
        }
    }
}

/// The claim of a role: zero, or who has it.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) word: &'a AtomicU64,
    pub(super) what: Field,
}

impl Claim<'_> {
    /// Claims the role for `owner`, unless another has it who is not dead.
    pub(super) fn take(
        &self,
        owner: Owner,
        is_dead: impl FnOnce(Owner) -> bool,
    ) -> Result<(), RingError> {
        // Acquire, here and below, pairs with the release of a former holder: its counts are seen.
        // Those of a dead one are seen because its death was, which is for `is_dead` to see to.
        let seen = self.word.load(Acquire);
        if let Some(by) = self.holder(seen)?
            && !is_dead(by)
            && !planted!("ring.takes_over_the_living")
        {
            return Err(RingError::Claimed { by });
        }
        let mine = owner.to_bits() | CLAIMED;
        if planted!("ring.claims_by_a_store") {
            self.word.store(mine, Release);
            return Ok(());
        }
        match self.word.compare_exchange(seen, mine, AcqRel, Acquire) {
            Ok(_) => Ok(()),
            Err(now) => Err(self
                .holder(now)?
                .map_or(RingError::Contended { attempts: 1 }, |by| {
                    RingError::Claimed { by }
                })),
        }
    }

    /// Gives the role back, where `owner` still has it.
    pub(super) fn release(&self, owner: Owner) -> Result<(), RingError> {
        let mine = owner.to_bits() | CLAIMED;
        match self.word.compare_exchange(mine, 0, Release, Relaxed) {
            Ok(_) => Ok(()),
            Err(now) => Err(self
                .holder(now)?
                .map_or(self.what.corrupt(now), |by| RingError::Claimed { by })),
        }
    }

    fn holder(&self, word: u64) -> Result<Option<Owner>, RingError> {
        if word == 0 {
            return Ok(None);
        }
        let owner = Owner::from_bits(word);
        if word != owner.to_bits() | CLAIMED {
            return Err(self.what.corrupt(word));
        }
        Ok(Some(owner))
    }
}
