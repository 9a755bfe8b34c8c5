//! Blocks that a thread freed last, kept to be given out first.
//!
//! By the bitmaps a block in front is allocated and pending: as one that was never given out of
//! the held word. So to put it there is one store, the mark of its being pending, and a death
//! frees it.
//!
//! A block that is freed again, or published, while it is in front is found by a look at all of
//! them. That is paid by who frees or publishes what is pending and was not allocated last. So
//! only blocks that were published come here: with a thread that publishes nothing the front is
//! empty, and there is nothing to look at.

use pool_core::sync::atomic::AtomicU64;

use crate::frame::Frame;
use crate::size_class::{CLASSES, SMALL, block_bytes};

/// How many blocks of one class may be in front, and how many bytes of them.
pub(super) const FRONT: usize = 32;
const FRONT_BYTES: usize = 64 << 10;

/// Where the mark of a block is: the address of its word of pending blocks, and which bit of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark(u64);

const BIT_BITS: u32 = 6;
const WORD_SHIFT: u32 = 3;

impl Mark {
    pub(super) fn new(word: &AtomicU64, bit: u32) -> Self {
        let address = core::ptr::from_ref(word).expose_provenance() as u64;
        Self(address >> WORD_SHIFT << BIT_BITS | u64::from(bit))
    }

    /// The mark so many bits further on in the same word.
    #[inline(always)]
    pub(super) fn further(self, bits: u32) -> Self {
        Self(self.0 | u64::from(bits))
    }

    /// Whether both are in one word.
    #[inline(always)]
    pub(super) fn is_beside(self, other: Self) -> bool {
        (self.0 ^ other.0) >> BIT_BITS == 0
    }

    /// The bit, as it is in its word.
    #[inline(always)]
    pub(super) fn bit(self) -> u64 {
        1 << (self.0 & 63)
    }

    /// The word of pending blocks.
    ///
    /// # Safety
    /// The mark was made of a word that is mapped, of a slab that this heap owns.
    #[inline(always)]
    pub(super) unsafe fn word(self) -> &'static AtomicU64 {
        // SAFETY: as the caller says.
        unsafe { Frame::pending_at(self.address()) }
    }

    /// The word of the same blocks that others freed.
    ///
    /// # Safety
    /// As for [`Mark::word`].
    #[inline(always)]
    pub(super) unsafe fn remote(self) -> &'static AtomicU64 {
        // SAFETY: as the caller says.
        unsafe { Frame::remote_beside(self.address()) }
    }

    #[inline(always)]
    fn address(self) -> usize {
        usize::try_from(self.0 >> BIT_BITS << WORD_SHIFT).unwrap_or(0)
    }
}

/// A block, and where its mark is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready {
    pub(super) address: usize,
    pub(super) mark: Mark,
}

/// The fronts of all classes. How many blocks of one there are its bin knows.
#[derive(Debug)]
pub(super) struct Fronts(Box<[[Ready; FRONT]; CLASSES]>);

impl Fronts {
    pub(super) fn new() -> Self {
        // Row by row on the heap: all of them are more than the stack of a model has.
        let rows = vec![[Ready::default(); FRONT]; CLASSES].into_boxed_slice();
        let Ok(rows) = rows.try_into() else {
            unreachable!("there is a row for each class");
        };
        Self(rows)
    }

    /// Block `place` of the front of `class`.
    #[inline(always)]
    pub(super) fn get(&self, class: usize, place: u32) -> Ready {
        self.0[class][place as usize % FRONT]
    }

    #[inline(always)]
    pub(super) fn set(&mut self, class: usize, place: u32, ready: Ready) {
        self.0[class][place as usize % FRONT] = ready;
    }

    /// Whether one of the first `count` blocks of the front of `class` is that at `address`.
    pub(super) fn has(&self, class: usize, count: u32, address: usize) -> bool {
        let front = &self.0[class][..(count as usize).min(FRONT)];
        front.iter().any(|ready| ready.address == address)
    }
}

/// How many blocks of `class` may be in front.
pub(super) fn most(class: usize) -> u32 {
    if class == 0 || class > SMALL {
        return 0;
    }
    let most = (FRONT_BYTES / block_bytes(class)).min(FRONT);
    u32::try_from(most).unwrap_or(0)
}
