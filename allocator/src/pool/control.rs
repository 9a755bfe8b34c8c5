//! What all processes of a pool heap share besides its chunks: the control area.
//!
//! # Layout
//! One page-aligned area of [`CONTROL_BYTES`], zero when it is new. It begins with a line of
//! counters, then the tiers, the table of chunks, the roots, the members and the slots, each an
//! array of atomics. Zero is a heap without anything, but for the magic number, which says that
//! the tiers were written.
//!
//! # Invariants
//! 1. An entry of the table of chunks is 0, or the claim of somebody who changes it, or names a
//!    chunk that is there; such an entry never comes twice, because it has a number that rises.
//! 2. A slot whose era is 0 belongs to nobody: no owner word names it and its intent is none.
//! 3. Only the process of a member takes slots of it; its own thread frees one, or a recoverer
//!    that claimed it.
//! 4. A root is known by a hash of its name, which one compare-exchange puts there and nothing
//!    takes away. The name is written after it, by whoever looks it up first: the same bytes.
//!
//! All of it is writable by each process of the heap: what is read here is checked before use.

#[cfg(loom)]
mod model;

use core::fmt;

use pool_core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::error::HeapError;
use crate::layout::{CHUNK_BYTES, Cut};

/// How large the control area of a pool heap is.
pub const CONTROL_BYTES: usize = 2 << 20;
/// The most chunks of one heap: as many segments as a client may hold, less some for others.
#[cfg(not(loom))]
pub const MOST_CHUNKS: usize = 960;
/// The same in a model.
#[cfg(loom)]
pub const MOST_CHUNKS: usize = 1;
/// The most tiers of one heap.
#[cfg(not(loom))]
pub const MOST_TIERS: usize = 8;
/// The same in a model.
#[cfg(loom)]
pub const MOST_TIERS: usize = 1;
/// The most bytes of the name of a tier or a root.
#[cfg(not(loom))]
pub const NAME_BYTES: usize = 48;
/// The same in a model.
#[cfg(loom)]
pub const NAME_BYTES: usize = 8;
/// The most roots of one heap.
#[cfg(not(loom))]
pub const MOST_ROOTS: usize = 1024;
/// The same in a model.
#[cfg(loom)]
pub const MOST_ROOTS: usize = 1;
/// Members of a domain, the daemon included.
#[cfg(not(loom))]
pub(crate) const MEMBERS: usize = 32;
/// The same in a model.
#[cfg(loom)]
pub(crate) const MEMBERS: usize = 4;
/// How many threads of one process may have the heap at a time.
#[cfg(not(loom))]
pub const MEMBER_THREADS: usize = 128;
/// The same in a model.
#[cfg(loom)]
pub const MEMBER_THREADS: usize = 1;
pub(crate) const SLOTS: usize = MEMBERS * MEMBER_THREADS;
/// What a slab is told by: see [`Slot::hints`].
#[cfg(not(loom))]
pub(crate) const HINTS: usize = 512;
/// The same in a model.
#[cfg(loom)]
pub(crate) const HINTS: usize = 64;

/// The format of this page, and that it is one.
const MAGIC: u64 = u64::from_le_bytes(*b"TPHEAP\0\x02");
/// In its place once the heap is about to be removed.
const ENDED: u64 = u64::from_le_bytes(*b"TPHEAPX\x01");

/// See the module.
#[repr(C)]
pub(crate) struct Control {
    magic: AtomicU64,
    /// Rises with each change of the table of chunks.
    pub(crate) generation: AtomicU64,
    /// Chunks that are not of the tier that was wanted first.
    pub(crate) fallbacks: AtomicU64,
    /// Blocks that two had freed at once, found by the owner.
    pub(crate) freed_twice: AtomicU64,
    /// Slots of the dead that were recovered, and their blocks and runs that became free.
    pub(crate) recovered: AtomicU64,
    pub(crate) recovered_blocks: AtomicU64,
    /// What the ground calls the heap: chunks that are of another one are not its own.
    pub(crate) id: AtomicU64,
    unused: AtomicU64,
    pub(crate) tiers: [Tier; MOST_TIERS],
    pub(crate) chunks: [AtomicU64; MOST_CHUNKS],
    pub(crate) roots: [Root; MOST_ROOTS],
    pub(crate) members: [Member; MEMBERS],
    pub(crate) slots: [Slot; SLOTS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Control>() <= CONTROL_BYTES);

/// A name in shared words; zeros follow it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Name([AtomicU64; NAME_BYTES / 8]);

/// A tier that chunks may be of.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Tier {
    pub(crate) name: Name,
    /// 1 more than its share of the chunks; 0 where there is no such tier.
    pub(crate) share: AtomicU64,
    unused: AtomicU64,
}

/// A word that is found by a name.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Root {
    /// A hash of the name; 0 is no root.
    pub(crate) hash: AtomicU64,
    /// What the root holds: a cell.
    pub(crate) cell: AtomicU64,
    /// The name: bytes as they are, the first of them not 0.
    pub(crate) name: Name,
}

/// What is known of the threads of one member.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Member {
    /// Slots that somebody has or had.
    pub(crate) taken: [AtomicU64; MEMBER_THREADS.div_ceil(64)],
    /// Slots that have retired something: see [`super::cell`].
    pub(crate) retiring: [AtomicU64; MEMBER_THREADS.div_ceil(64)],
}

/// What is known of one thread that has the heap.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// The era of the member that has it; 0 is nobody.
    pub(crate) era: AtomicU64,
    /// Rises with each thread that takes it.
    pub(crate) generation: AtomicU32,
    pub(crate) intent: Intent,
    /// Written by others: the number of the last intent whose cell was changed for the owner.
    pub(crate) helped: Helped,
    /// Which of its slabs the owner is to look at: bit n of all of them stands for those with the
    /// number n, or n more than a multiple of [`HINTS`].
    pub(crate) hints: [AtomicU64; HINTS / 64],
}

/// What a thread is about to do to a cell: see [`super::cell`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Intent {
    /// The number of it, and in the two lowest bits what it is.
    pub(crate) word: AtomicU64,
    pub(crate) cell: AtomicU64,
    pub(crate) block: AtomicU64,
    /// What the cell holds at the end.
    pub(crate) value: AtomicU64,
}

/// In a line of its own, because others write it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Helped {
    pub(crate) number: AtomicU64,
    /// Who recovers the slot: an era above the six bits of a member; 0 is nobody.
    pub(crate) recoverer: AtomicU64,
}

impl Control {
    /// The control area at `address`.
    ///
    /// # Safety
    /// [`CONTROL_BYTES`] are mapped there, for reading and writing, for as long as the answer is
    /// used, and the address is a multiple of 64.
    #[cfg(not(loom))]
    pub(crate) unsafe fn at(address: usize) -> &'static Self {
        let place: *const Self = core::ptr::with_exposed_provenance(address);
        // SAFETY: as the caller says; nothing in it is not an atomic, so no value is invalid.
        unsafe { &*place }
    }

    /// Whether the heap was set up, in this format, and has not ended.
    pub(crate) fn check(&self) -> Result<(), HeapError> {
        match self.magic.load(Acquire) {
            MAGIC => Ok(()),
            0 => Err(HeapError::NotSetUp),
            ENDED => Err(HeapError::Ended),
            _ => Err(HeapError::OtherFormat),
        }
    }

    /// Whether the heap was not removed since it was opened: what is gone reads as zeros.
    #[inline(always)]
    pub(crate) fn is_there(&self) -> bool {
        self.magic.load(Relaxed) == MAGIC
    }

    /// Says that the heap ends: nobody takes frames or adds chunks from here on.
    #[cfg(not(loom))]
    pub(crate) fn end(&self) {
        self.magic.store(ENDED, Release);
    }

    /// Says that the heap is set up.
    pub(crate) fn set_up(&self) {
        // Release pairs with `check`: who finds it set finds the tiers.
        self.magic.store(MAGIC, Release);
    }

    /// Slot `index`, of those that there are.
    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)
    }

    /// The member that slot `index` is of, and where its bit is.
    pub(crate) fn place_of(index: usize) -> (usize, usize, u64) {
        let thread = index % MEMBER_THREADS;
        (index / MEMBER_THREADS, thread / 64, 1 << (thread % 64))
    }

    /// The slots of `member` that somebody has or had: those with an era are had.
    pub(crate) fn taken(&self, member: usize) -> impl Iterator<Item = usize> + '_ {
        let words = self.members.get(member).map(|member| &member.taken[..]);
        ones(words.unwrap_or_default(), member)
    }

    /// The slots of `member` that have retired something.
    pub(crate) fn retiring(&self, member: usize) -> impl Iterator<Item = usize> + '_ {
        let words = self.members.get(member).map(|member| &member.retiring[..]);
        ones(words.unwrap_or_default(), member)
    }

    /// How many tiers there are.
    pub(crate) fn tier_count(&self) -> usize {
        let is_one = |tier: &&Tier| tier.share.load(Relaxed) != 0;
        self.tiers.iter().take_while(is_one).count()
    }
}

/// The slots of a member whose bits are set.
fn ones(words: &[AtomicU64], member: usize) -> impl Iterator<Item = usize> + '_ {
    // Acquire pairs with the release of whoever sets a bit: its era is there by then.
    let bits = move |(index, word): (usize, &AtomicU64)| {
        let first = member * MEMBER_THREADS + index * 64;
        crate::bits::ones(word.load(Acquire)).map(move |bit| first + bit)
    };
    words.iter().enumerate().flat_map(bits)
}

impl Name {
    /// Writes `name`, which is at most [`NAME_BYTES`].
    pub(crate) fn write(&self, name: &str) {
        let mut bytes = [0; NAME_BYTES];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        // The first word last: a name that begins is whole.
        for (word, eight) in self.0.iter().zip(bytes.chunks_exact(8)).rev() {
            let eight = eight.try_into().unwrap_or_default();
            word.store(u64::from_le_bytes(eight), Release);
        }
    }

    /// The name; empty before it was written.
    pub(crate) fn read(&self) -> String {
        let bytes: Vec<u8> = self
            .0
            .iter()
            .flat_map(|word| word.load(Acquire).to_le_bytes())
            .take_while(|&byte| byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// An entry of the table of chunks.
///
/// Bits 26..64: the address, of which the lower bits are 0. Bits 5..26: a number that rises, so
/// that an entry never comes twice. Bits 2..5: the tier. Bit 1: how it is cut. Bit 0 is set.
///
/// Where bit 0 is clear it is none: 0, or the claim of a member, in bits 1..7, of the era above,
/// who adds or removes memory under that number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    const NUMBER_SHIFT: u32 = 5;
    const NUMBER_MASK: u64 = (1 << 21) - 1;
    const TIER_SHIFT: u32 = 2;
    const MEMBER_BITS: u32 = 6;

    pub(crate) fn new(chunk: usize, cut: Cut, tier: usize, number: u64) -> Self {
        let number = (number & Self::NUMBER_MASK) << Self::NUMBER_SHIFT;
        let tier = (tier as u64 & 7) << Self::TIER_SHIFT;
        let cut = u64::from(cut == Cut::Tiny) << 1;
        Self(chunk as u64 | number | tier | cut | 1)
    }

    /// Where the chunk begins.
    pub(crate) fn chunk(self) -> usize {
        usize::try_from(self.0).unwrap_or(0) & !(CHUNK_BYTES - 1)
    }

    /// A number under which this member adds or removes memory.
    pub(crate) fn claim(member: usize, era: u64) -> Self {
        Self((era << Self::MEMBER_BITS | member as u64) << 1)
    }

    /// What a word of the table says; 0 where it is no chunk.
    pub(crate) fn read(word: u64) -> Self {
        Self(if word & 1 == 0 { 0 } else { word })
    }

    /// Who has claimed the number: the member and his era.
    pub(crate) fn claimant(self) -> Option<(usize, u64)> {
        let word = self.0 >> 1;
        let member = word & ((1 << Self::MEMBER_BITS) - 1);
        let member = usize::try_from(member).unwrap_or(0);
        (self.0 & 1 == 0 && self.0 != 0).then_some((member, word >> Self::MEMBER_BITS))
    }

    pub(crate) fn cut(self) -> Cut {
        if self.0 & 2 == 0 {
            Cut::Ordinary
        } else {
            Cut::Tiny
        }
    }

    pub(crate) fn tier(self) -> usize {
        usize::try_from(self.0 >> Self::TIER_SHIFT & 7).unwrap_or(0)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#x}, {:?}, tier {}",
            self.chunk(),
            self.cut(),
            self.tier()
        )
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Sets a bit of `words`, and says whether it was clear.
    pub(crate) fn mark(words: &[AtomicU64], word: usize, bit: u64) -> bool {
        words
            .get(word)
            .is_some_and(|word| word.fetch_or(bit, AcqRel) & bit == 0)
    }

    pub(crate) fn unmark(words: &[AtomicU64], word: usize, bit: u64) {
        if let Some(word) = words.get(word) {
            word.fetch_and(!bit, AcqRel);
        }
    }
}
