//! The memory of the heap of one host, what a simulated process has its heap stand on, and what it
//! does to blocks: all that is unsafe in this crate.
//!
//! # Layout
//! One anonymous mapping of this program, of pages that are there once they are touched: a chunk's
//! worth of control areas, and a place for each of some chunks. All simulated processes of a host
//! have it at one address, for they are one address space: what a mapping of one of them would
//! keep others from is not seen here. Which place a segment has is in [`super::book`].

#![expect(
    unsafe_code,
    reason = "memory is mapped, a ground promises what a heap believes, and blocks are freed"
)]

use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;

use allocator::pool::{
    CHUNK_BYTES, CONTROL_BYTES, Cell, Ground, GroundError, HeapError, ThreadHeap,
};
use coherence::Slot;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use pool_core::SegmentId;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, Mutex, lock};

use super::super::members::Members;
use super::book::{Book, Wish};
use crate::trace::fold;

/// Places for chunks: those that there may be, and as many again that somebody has not let go of.
pub(crate) const PLACES: usize = 12;
/// Control areas that there may be at a time, of heaps that ended as well.
pub(crate) const CONTROLS: usize = CHUNK_BYTES / CONTROL_BYTES;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    start: usize,
    bytes: usize,
    /// The first multiple of a chunk in it.
    base: usize,
}

impl Memory {
    pub(crate) fn new() -> Result<Self, Errno> {
        let bytes = CHUNK_BYTES * (PLACES + 2);
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let place = unsafe { mmap_anonymous(None, length, access, flags) }?;
        let start = place.as_ptr().expose_provenance();
        let base = start.next_multiple_of(CHUNK_BYTES);
        let memory = Self { start, bytes, base };
        // SAFETY: changes nothing but how large the pages are that come.
        let small = unsafe { madvise(place, bytes, MmapAdvise::MADV_NOHUGEPAGE) };
        match small {
            // A kernel that has no huge pages knows no such advice.
            Ok(()) | Err(Errno::EINVAL) => Ok(memory),
            Err(error) => Err(error),
        }
    }

    /// Where chunk places begin, counted from the base, and where they end.
    const fn chunks() -> Range<usize> {
        CHUNK_BYTES..CHUNK_BYTES * (PLACES + 1)
    }

    /// The control area `index`, of [`CONTROLS`].
    pub(crate) const fn control(&self, index: usize) -> usize {
        self.base + CONTROL_BYTES * index
    }

    /// The place `index` of a chunk, of [`PLACES`].
    pub(crate) const fn place(&self, index: usize) -> usize {
        self.base + CHUNK_BYTES * (1 + index)
    }

    /// Which place an address is in.
    pub(crate) fn place_of(&self, address: usize) -> Option<usize> {
        let at = address.checked_sub(self.base)?;
        Self::chunks().contains(&at).then(|| at / CHUNK_BYTES - 1)
    }

    /// How far from the base a block is: the same in every run, which its address is not.
    pub(crate) fn offset(&self, block: NonNull<u8>) -> usize {
        block.as_ptr().addr().wrapping_sub(self.base)
    }

    /// What a cell holds that has the block at `offset`.
    pub(crate) const fn value(&self, offset: usize) -> u64 {
        (self.base + offset) as u64
    }

    /// How far from the base the block is that a cell holds; `None` where it holds none.
    pub(crate) fn offset_of_value(&self, value: u64) -> Option<usize> {
        let address = usize::try_from(value).ok().filter(|&at| at != 0)?;
        Some(address.wrapping_sub(self.base))
    }

    /// The block that is so far from the base.
    pub(crate) fn block(&self, offset: usize) -> Option<NonNull<u8>> {
        let place = std::ptr::with_exposed_provenance_mut(self.base.wrapping_add(offset));
        NonNull::new(place)
    }

    /// Has a part of it be zeros.
    pub(crate) fn empty(&self, at: usize, bytes: usize) -> Result<(), Errno> {
        let is_within = at >= self.base && at + bytes <= self.base + Self::chunks().end;
        let place = std::ptr::with_exposed_provenance_mut(at);
        let Some(place) = NonNull::new(place).filter(|_| is_within) else {
            return Err(Errno::EFAULT);
        };
        // SAFETY: of the mapping; whoever looks at it reads atomics, for which zeros are values.
        unsafe { madvise(place, bytes, MmapAdvise::MADV_DONTNEED) }
    }

    /// The words of a block that is in a place of a chunk; none of one that is not.
    fn words(&self, offset: usize, bytes: usize) -> &[AtomicU64] {
        let end = offset.checked_add(bytes);
        let is_within = Self::chunks().contains(&offset)
            && end.is_some_and(|end| end <= Self::chunks().end)
            && offset.is_multiple_of(8);
        if !is_within {
            return &[];
        }
        let first: *const AtomicU64 = std::ptr::with_exposed_provenance(self.base + offset);
        // SAFETY: mapped for as long as this is, and reached as atomics alone.
        unsafe { std::slice::from_raw_parts(first, bytes / 8) }
    }

    /// The words of a block that are written and looked at, and what each of them holds.
    fn signed(&self, offset: usize, bytes: usize, seed: u64) -> Vec<(&AtomicU64, u64)> {
        let words = self.words(offset, bytes);
        let last = words.len().saturating_sub(1);
        let places = [0, 1, last / 2, last];
        let known = places
            .into_iter()
            .filter_map(|at| words.get(at).zip(Some(at)));
        let held = |at: usize| fold(fold(seed, offset as u64), at as u64);
        known.map(|(word, at)| (word, held(at))).collect()
    }

    /// Writes into a block what follows from where it is and from `seed`.
    pub(crate) fn sign(&self, offset: usize, bytes: usize, seed: u64) {
        for (word, held) in self.signed(offset, bytes, seed) {
            word.store(held, Relaxed);
        }
    }

    /// Whether a block holds what [`Memory::sign`] wrote.
    pub(crate) fn is_signed(&self, offset: usize, bytes: usize, seed: u64) -> bool {
        let words = self.signed(offset, bytes, seed);
        !words.is_empty() && words.iter().all(|(word, held)| word.load(Relaxed) == *held)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let place = NonNull::new(std::ptr::with_exposed_provenance_mut(self.start));
        if let Some(place) = place {
            // SAFETY: it was mapped by `new`, and whoever has a heap on it has it as well. It can
            // fail by nothing that could be done about.
            let _gone = unsafe { munmap(place, self.bytes) };
        }
    }
}

/// What one simulated process has its heap stand on.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) memory: Arc<Memory>,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) members: Members,
    pub(crate) domain: SegmentId,
    /// Which of the control areas is that of the heap.
    pub(crate) control: usize,
    pub(crate) pid: u32,
    pub(crate) slot: Slot,
    pub(crate) era: u64,
}

impl Standing {
    /// Whether it still is a member, and reaches the daemon: one that does not changes nothing.
    fn check(&self, book: &Book) -> Result<(), GroundError> {
        if !self.members.lives(self.slot, self.era) {
            return Err(GroundError::new("this process is no member any more"));
        }
        if book.reaches_daemon {
            return Ok(());
        }
        Err(GroundError::new("the daemon is not reached"))
    }

    /// Keeps the segment of chunk `number`, where this process has it.
    fn keep(&self, book: &mut Book, number: usize) -> Result<Option<usize>, GroundError> {
        let Some(segment) = book.offered.get(&number).copied() else {
            return Ok(None);
        };
        let place = book.keep((segment, number), self.pid);
        let none = || GroundError::new("there is no place for a chunk");
        let (place, is_new) = place.ok_or_else(none)?;
        let place = self.memory.place(place);
        if is_new {
            self.memory
                .empty(place, CHUNK_BYTES)
                .map_err(GroundError::new)?;
        }
        Ok(Some(place))
    }
}

// SAFETY: the memory is mapped for as long as this is; each segment has a place of its own in it
// for as long as somebody keeps it, at the same address for everybody, and numbers are those of the
// names of segments. A segment that ends is zeros from then on.
unsafe impl Ground for Standing {
    fn control(&self) -> usize {
        self.memory.control(self.control)
    }

    fn id(&self) -> u64 {
        self.domain.number()
    }

    fn window(&self) -> Range<usize> {
        self.memory.place(0)..self.memory.place(PLACES)
    }

    fn member(&self) -> (usize, u64) {
        (usize::from(self.slot.index()), self.era)
    }

    fn lives(&self, member: usize, era: u64) -> bool {
        let slot = u8::try_from(member).ok().and_then(Slot::new);
        slot.is_some_and(|slot| self.members.lives(slot, era))
    }

    fn add(&self, number: usize, tier: &str) -> Result<usize, GroundError> {
        let book = &mut *lock(&self.book);
        let kept = self.check(book).and_then(|()| self.keep(book, number));
        if let Ok(Some(place)) = kept {
            book.added(number);
            return Ok(place);
        }
        book.leave_number(number);
        kept?;
        book.wishes.push(Wish::Make(number, tier.to_owned()));
        Err(GroundError::shortage("the daemon is asked for the chunk"))
    }

    fn map(&self, number: usize) -> Result<usize, GroundError> {
        let book = &mut *lock(&self.book);
        let kept = self.check(book).and_then(|()| self.keep(book, number));
        if let Ok(Some(place)) = kept {
            return Ok(place);
        }
        book.leave_number(number);
        kept?;
        book.wishes.push(Wish::Open(number));
        Err(GroundError::new("the daemon is asked to open the chunk"))
    }

    fn unmap(&self, chunk: usize) {
        if let Some(place) = self.memory.place_of(chunk) {
            lock(&self.book).let_go(place, self.pid);
        }
    }

    fn remove(&self, number: usize, chunk: usize) -> Result<(), GroundError> {
        let book = &mut *lock(&self.book);
        let place = self.memory.place_of(chunk);
        let none = || GroundError::new(format!("chunk {number} is not mapped"));
        let place = place.ok_or_else(none)?;
        let given = self
            .check(book)
            .and_then(|()| book.give_back((number, place), self.pid));
        given.inspect_err(|_| book.leave(place))
    }
}

/// Frees a block.
pub(crate) fn free(mine: &mut ThreadHeap, block: NonNull<u8>) -> Result<(), HeapError> {
    // SAFETY: no simulated process uses a block that one of them frees, or the heap itself was
    // to see to it, which is what is tried.
    unsafe { mine.free(block) }
}

/// Takes a block out of a cell and frees it.
pub(crate) fn retire(
    mine: &mut ThreadHeap,
    cell: Cell,
    block: NonNull<u8>,
    value: u64,
) -> Result<(), HeapError> {
    // SAFETY: as `free`; the cell was looked at just before, and one process acts at a time.
    unsafe { mine.retire(cell, block, value) }
}

/// Has a block have room for so many bytes where it is.
pub(crate) fn resize(
    mine: &mut ThreadHeap,
    block: NonNull<u8>,
    bytes: usize,
) -> Result<bool, HeapError> {
    // SAFETY: as `free`; of what is given up nobody knows any more.
    unsafe { mine.resize(block, bytes) }
}
