//! The owner word of a frame: who may change the slab that begins there, and what it is.
//!
//! It is the truth about a frame; lists and the bitmaps of a chunk are hints that can be made anew
//! from it. Every change of it is one store or one compare-exchange.
//!
//! # Layout
//! Bits 0..8: the kind. 0 is free, 1 to 104 is a slab of that class, the rest are named below.
//! Bits 8..32: one more than the slot of the thread that owns it; 0 is nobody, all ones is
//! *abandoned*. Bits 32..64: which of the threads that had the slot it is; of a tail, how many
//! frames the head is before it.
//!
//! A heap holds its own word with kind 0. So the exclusive or of the word of a slab with it is the
//! class of the slab where the heap owns it, and larger than any class where it does not.

use crate::size_class::CLASSES;

const SLOT_SHIFT: u32 = 8;
const SLOT_MASK: u64 = 0xff_ffff;
const HIGH_SHIFT: u32 = 32;
const ABANDONED: u64 = SLOT_MASK << SLOT_SHIFT;

const CLAIMED: u64 = 0xf0;
const RUN: u64 = 0xf1;
const HUGE: u64 = 0xf2;
const TAIL: u64 = 0xf3;
const FREEING: u64 = 0xf4;
const PENDING_RUN: u64 = 0xf5;
const KIND_MASK: u64 = 0xff;

const _: () = assert!((CLASSES as u64) < CLAIMED);

/// The most slots there can be.
#[cfg(not(loom))]
pub(crate) const MAX_SLOTS: usize = 1 << 16;
/// In a model: one for each thread of it.
#[cfg(loom)]
pub(crate) const MAX_SLOTS: usize = 4;

/// A value of an owner word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u64);

/// What begins at a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Free,
    /// A slab of this class.
    Slab(usize),
    /// A run.
    Run,
    /// A run of a pool heap that is not published.
    PendingRun,
    /// A block of its own chunks.
    Huge,
    /// It belongs to what begins that many frames before.
    Tail(usize),
    /// It is being made something, or being made free.
    Between,
    /// No owner word of ours has this value.
    Unknown,
}

impl Owner {
    pub(crate) const FREE: Self = Self(0);
    pub(crate) const RUN: Self = Self(RUN);
    pub(crate) const HUGE: Self = Self(HUGE);
    pub(crate) const FREEING: Self = Self(FREEING);

    /// The word of the heap in `slot`, the `generation`th that has it.
    pub(crate) fn heap(slot: usize, generation: u32) -> Self {
        Self((slot as u64 + 1) << SLOT_SHIFT | u64::from(generation) << HIGH_SHIFT)
    }

    /// A slab of `class` that this heap owns.
    pub(crate) fn slab(self, class: usize) -> Self {
        Self(self.0 | class as u64)
    }

    /// A slab of `class` that nobody owns.
    pub(crate) fn abandoned(class: usize) -> Self {
        Self(ABANDONED | class as u64)
    }

    /// A frame that this heap is making something of.
    pub(crate) fn claimed(self) -> Self {
        Self(self.0 | CLAIMED)
    }

    /// A frame that this heap is making free.
    pub(crate) fn freeing(self) -> Self {
        Self(self.0 | FREEING)
    }

    /// A run that this heap has not published.
    pub(crate) fn pending_run(self) -> Self {
        Self(self.0 | PENDING_RUN)
    }

    pub(crate) fn tail(distance: usize) -> Self {
        Self(TAIL | (distance as u64) << HIGH_SHIFT)
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 & KIND_MASK {
            0 if self.0 == 0 => Kind::Free,
            RUN => Kind::Run,
            HUGE => Kind::Huge,
            CLAIMED | FREEING => Kind::Between,
            PENDING_RUN => Kind::PendingRun,
            TAIL => Kind::Tail(usize::try_from(self.0 >> HIGH_SHIFT).unwrap_or(usize::MAX)),
            class if class != 0 && class < CLASSES as u64 => {
                Kind::Slab(usize::try_from(class).unwrap_or(0))
            }
            _ => Kind::Unknown,
        }
    }

    pub(crate) fn is_abandoned(self) -> bool {
        self.0 & ABANDONED == ABANDONED && self.0 & KIND_MASK < CLAIMED
    }

    /// The slot of the thread that owns it, if one does.
    pub(crate) fn slot(self) -> Option<usize> {
        let slot = self.0 >> SLOT_SHIFT & SLOT_MASK;
        let slot = usize::try_from(slot).ok()?.checked_sub(1)?;
        (slot < MAX_SLOTS).then_some(slot)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_slab_differs_from_its_heap_by_the_class_alone() {
        let heap = Owner::heap(7, 3);
        for class in 1..CLASSES {
            let slab = heap.slab(class);
            assert_eq!(slab.0 ^ heap.0, class as u64);
            assert_eq!(slab.kind(), Kind::Slab(class));
            assert_eq!(slab.slot(), Some(7));
            for other in [Owner::heap(7, 4), Owner::heap(8, 3), Owner::heap(0, 3)] {
                assert!(slab.0 ^ other.0 > KIND_MASK);
            }
            let abandoned = Owner::abandoned(class);
            assert!(abandoned.is_abandoned() && !slab.is_abandoned());
            assert_eq!(
                (abandoned.kind(), abandoned.slot()),
                (Kind::Slab(class), None)
            );
        }
    }

    #[test]
    fn what_is_not_a_slab_is_never_taken_for_one_of_a_heap() {
        let heap = Owner::heap(MAX_SLOTS - 1, u32::MAX);
        for word in [
            Owner::FREE,
            Owner::RUN,
            Owner::HUGE,
            Owner::FREEING,
            heap.claimed(),
            Owner::tail(1),
            Owner::tail(511),
        ] {
            assert!(word.0 ^ heap.0 >= CLASSES as u64, "{word:?}");
            assert!(!matches!(word.kind(), Kind::Slab(_)), "{word:?}");
        }
        assert_eq!(Owner::tail(511).kind(), Kind::Tail(511));
    }
}
