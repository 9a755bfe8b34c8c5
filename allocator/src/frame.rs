//! The one door to the metadata of a frame.
//!
//! # Invariants
//! 1. A [`Frame`] is the address of a descriptor of a frame of data, in a chunk whose metadata is
//!    mapped. Chunks of slabs and runs of a private heap are never unmapped, those of a pool heap
//!    once the table of the heap has them no more and nobody looks; whoever has the frame of a
//!    block of its own chunks has it only as long as that block lives.
//! 2. Metadata is reached through shared references to atomics, so that no thread breaks a
//!    reference of another by what it writes.
//! 3. Zeroed metadata is that of a free frame.
//!
//! In a model a frame is the same number, and its metadata is what [`model`] has: there alone it
//! is not where the number says.

#[cfg(loom)]
pub(crate) mod model;

use core::num::NonZeroUsize;

use pool_core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

#[cfg(not(loom))]
use crate::layout::{
    ALLOC_ARRAY, ARRAY_STEP, LINE_ARRAYS, LINE_BYTES, LINE_WORDS, LINES, PENDING_ARRAY,
    QUEUE_ARRAY, REMOTE_ARRAY,
};
use crate::layout::{
    ARRAY_BYTES, CHUNK_BYTES, DATA_END, FEWEST_META_FRAMES, FRAME_SHIFT, FRAMES, LINE_SHIFT,
};
use crate::owner::Owner;

/// What is known of one frame, or of the slab, run or block that begins there.
///
/// All but `owner` is written by its owner alone, and by whoever makes or frees it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Descriptor {
    /// See [`crate::owner`].
    pub(crate) owner: AtomicU64,
    /// Bit w: word w of the bitmap may have free blocks that were given out before.
    pub(crate) summary: AtomicU64,
    /// The next and the one before in the list of its heap; addresses of descriptors, 0 is none.
    pub(crate) next: AtomicU64,
    pub(crate) previous: AtomicU64,
    /// Of a block of its own chunks, how many bytes it has; of a run as well.
    pub(crate) bytes: AtomicU64,
    /// How many frames it has.
    pub(crate) frames: AtomicU32,
    /// Whether it is in a list, and in which.
    pub(crate) list: AtomicU32,
    /// How many blocks were given out before: the first ones.
    pub(crate) opened: AtomicU32,
    /// 1 where the others are zero.
    pub(crate) is_zero: AtomicU32,
}

/// How others find a slab, and the owner what they did. In a line of its own: they write it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Queue {
    /// 1 from the moment somebody takes it on to post the slab until its owner takes it up.
    pub(crate) queued: AtomicU32,
    /// The next in the mailbox.
    pub(crate) next: AtomicU64,
    /// 1 while it is in a stack of abandoned slabs: see [`crate::left`].
    pub(crate) stacked: AtomicU32,
    /// The one below it in that stack.
    pub(crate) below: AtomicU64,
}

/// What is known of a chunk. All of it can be made anew from the owner words.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct ChunkHead {
    /// Frames that somebody has, or is about to.
    pub(crate) taken: [AtomicU64; FRAMES / 64],
    /// Frames that may hold other than zeros.
    pub(crate) dirty: [AtomicU64; FRAMES / 64],
    /// Frames of a pool heap at which slabs begin that nobody owns, as far as is known.
    pub(crate) left: [AtomicU64; FRAMES / 64],
    /// 1 once the chunk of a pool heap is about to be given back.
    pub(crate) doomed: AtomicU32,
    /// Which pool heap the chunk is of: see [`crate::pool`].
    pub(crate) stamp: AtomicU64,
    /// How many frames of data are free. In a private heap alone.
    pub(crate) free: AtomicU32,
}

/// Where the head of a chunk is.
#[cfg(not(loom))]
const HEAD_AT: usize = QUEUE_ARRAY * ARRAY_STEP + LINE_BYTES;

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Descriptor>() == LINE_BYTES);
    assert!(size_of::<Queue>() == LINE_BYTES);
    // The head of a chunk is where the queue lines of the metadata frames would be, after the line
    // on which the descriptors end.
    assert!(HEAD_AT >= ARRAY_BYTES);
    let queues = QUEUE_ARRAY * ARRAY_STEP + FEWEST_META_FRAMES * LINE_BYTES;
    assert!(HEAD_AT + size_of::<ChunkHead>() <= queues);
};

/// A frame of data, by the address of its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame(NonZeroUsize);

impl Frame {
    /// The frame that the address lies in.
    ///
    /// # Safety
    /// `address` is in the data of a chunk whose metadata is mapped.
    #[inline(always)]
    pub(crate) unsafe fn of(address: usize) -> Self {
        let chunk = address & !(CHUNK_BYTES - 1);
        let index = (address >> FRAME_SHIFT) & (FRAMES - 1);
        // SAFETY: no data lies in the chunk at address 0.
        Self(unsafe { NonZeroUsize::new_unchecked(chunk | (index << LINE_SHIFT)) })
    }

    /// The frame that was put into a list as `address`, unless it is the end of the list.
    ///
    /// # Safety
    /// `address` is 0, or was made by [`Frame::address`] of a frame that is still one.
    #[inline]
    pub(crate) unsafe fn from_list(address: u64) -> Option<Self> {
        NonZeroUsize::new(usize::try_from(address).unwrap_or(0)).map(Self)
    }

    /// The frame as a number for a list.
    #[inline]
    pub(crate) fn address(self) -> u64 {
        self.0.get() as u64
    }

    /// Where its data begins.
    #[inline(always)]
    pub(crate) fn start(self) -> usize {
        self.chunk() | (self.index() << FRAME_SHIFT)
    }

    /// Where its chunk begins.
    #[inline(always)]
    pub(crate) fn chunk(self) -> usize {
        self.0.get() & !(CHUNK_BYTES - 1)
    }

    /// Which frame of its chunk it is.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        (self.0.get() & (ARRAY_BYTES - 1)) >> LINE_SHIFT
    }

    /// The frame of the same chunk with `index`.
    ///
    /// Null where `index` is that of metadata in every kind of chunk, or of another chunk.
    #[inline]
    pub(crate) fn sibling(self, index: usize) -> Option<Self> {
        let is_data = (FEWEST_META_FRAMES..DATA_END).contains(&index);
        let place = self.chunk() | (index << LINE_SHIFT);
        NonZeroUsize::new(place).filter(|_| is_data).map(Self)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn descriptor(self) -> &'static Descriptor {
        let place: *const Descriptor = core::ptr::with_exposed_provenance(self.0.get());
        // SAFETY: by invariant 1 it is mapped, by invariant 2 nothing in it is not an atomic.
        unsafe { &*place }
    }

    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn queue(self) -> &'static Queue {
        let place = self.0.get().wrapping_add(QUEUE_ARRAY * ARRAY_STEP);
        let place: *const Queue = core::ptr::with_exposed_provenance(place);
        // SAFETY: by invariant 1 it is mapped, by invariant 2 nothing in it is not an atomic.
        unsafe { &*place }
    }

    /// Word `word`, below 64, of its bitmap of allocated blocks.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn allocated(self, word: usize) -> &'static AtomicU64 {
        self.word(ALLOC_ARRAY, word)
    }

    /// Word `word`, below 64, of its bitmap of blocks that others freed.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn remote(self, word: usize) -> &'static AtomicU64 {
        self.word(REMOTE_ARRAY, word)
    }

    /// Word `word`, below 64, of its bitmap of pending blocks, in a pool heap.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn pending(self, word: usize) -> &'static AtomicU64 {
        self.word(PENDING_ARRAY, word)
    }

    /// The word of pending blocks that is at `address`.
    ///
    /// # Safety
    /// It is the address of what [`Frame::pending`] answered.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) unsafe fn pending_at(address: usize) -> &'static AtomicU64 {
        let place: *const AtomicU64 = core::ptr::with_exposed_provenance(address);
        // SAFETY: by invariant 1 it is mapped; an atomic by invariant 2.
        unsafe { &*place }
    }

    /// The word of blocks that others freed of the same blocks as the word of pending ones at
    /// `address`.
    ///
    /// # Safety
    /// As for [`Frame::pending_at`].
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) unsafe fn remote_beside(address: usize) -> &'static AtomicU64 {
        let place = address.wrapping_sub((PENDING_ARRAY - REMOTE_ARRAY) * ARRAY_STEP);
        let place: *const AtomicU64 = core::ptr::with_exposed_provenance(place);
        // SAFETY: by invariant 1 it is mapped; an atomic by invariant 2.
        unsafe { &*place }
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn word(self, array: usize, word: usize) -> &'static AtomicU64 {
        debug_assert!(word < LINES * LINE_WORDS);
        // Words follow each other in a line; the next line is some arrays further on.
        let lines_gap = LINE_ARRAYS * ARRAY_STEP - LINE_BYTES;
        let place = self
            .0
            .get()
            .wrapping_add(array * ARRAY_STEP)
            .wrapping_add(word << 3)
            .wrapping_add((word / LINE_WORDS).wrapping_mul(lines_gap));
        let place: *const AtomicU64 = core::ptr::with_exposed_provenance(place);
        // SAFETY: by invariant 1 it is mapped; an atomic by invariant 2.
        unsafe { &*place }
    }

    /// The head of its chunk.
    #[inline]
    pub(crate) fn head(self) -> &'static ChunkHead {
        // SAFETY: by invariant 1 the metadata of the chunk is mapped.
        unsafe { ChunkHead::at(self.chunk()) }
    }

    #[inline(always)]
    pub(crate) fn owner(self) -> Owner {
        Owner(self.descriptor().owner.load(Relaxed))
    }

    /// Whether none of the first `words` words of its bitmap has an allocated block.
    pub(crate) fn is_empty(self, words: usize) -> bool {
        (0..words).all(|word| self.allocated(word).load(Relaxed) == 0)
    }
}

impl ChunkHead {
    /// The head of the chunk that begins at `chunk`.
    ///
    /// # Safety
    /// The metadata of that chunk is mapped.
    #[cfg(not(loom))]
    pub(crate) unsafe fn at(chunk: usize) -> &'static Self {
        let place = chunk.wrapping_add(HEAD_AT);
        let place: *const Self = core::ptr::with_exposed_provenance(place);
        // SAFETY: it is mapped, says the caller; nothing in it is not an atomic.
        unsafe { &*place }
    }
}
