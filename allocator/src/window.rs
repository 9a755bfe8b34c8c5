//! The window of the private heap: the addresses that all its blocks are at, and who has which.
//!
//! Reserved once, when the process makes its first allocation, and cut into chunks. A chunk is
//! committed when it is needed, and then has frames for slabs and runs, or is a part of one huge
//! block. Chunks of frames stay: their memory goes back, their metadata does not.
//!
//! # Invariants
//! 1. A chunk of kind `FRAMES` has its metadata and its data mapped, for ever.
//! 2. Whoever has set the bit of a frame in `taken` has the frame, until it clears the bit.
//! 3. A frame whose bit in `dirty` is not set is zero.
//! 4. The owner word of a frame is free while its bit in `taken` is not set.
//!
//! # Who waits for whom
//! Nobody: frames and chunks are taken by setting bits. Threads that take the same place at once
//! look for another one. Two threads that both find no room may both commit a chunk.

#[cfg(loom)]
mod model;

use core::ops::Range;

use pool_core::planted;
use pool_core::sync::atomic::{
    AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::bits;
use crate::frame::{ChunkHead, Frame};
use crate::layout::{
    CHUNK_BYTES, DATA_FRAMES, FRAME_BYTES, FRAMES, MAPPED_META, META_BYTES, META_FRAMES,
};
use crate::owner::{Kind, Owner};
use crate::{left, options, purge, system};

/// The most chunks that a window has, whatever memory there is: 64 TiB.
#[cfg(not(loom))]
const MAX_CHUNKS: usize = 1 << 20;
/// In a model: the one that it begins with.
#[cfg(loom)]
const MAX_CHUNKS: usize = 1;
/// What is reserved where the machine has not much more memory than that: 1 TiB.
#[cfg(not(loom))]
const USUAL_BYTES: usize = 1 << 40;
/// How often a place is looked for in one chunk that others take from at the same time.
const TRIES: usize = 4;

const NONE: u8 = 0;
const FRAMES_KIND: u8 = 1;
const HUGE_KIND: u8 = 2;

/// See the module.
pub(crate) struct Window {
    base: AtomicUsize,
    bytes: AtomicUsize,
    /// Chunks that somebody has.
    taken: [AtomicU64; MAX_CHUNKS.div_ceil(64)],
    kinds: [AtomicU8; MAX_CHUNKS],
    /// No chunk of frames is at this index or after it.
    end: AtomicUsize,
    /// A hint: chunks of frames before this index are full.
    first: AtomicUsize,
    /// Frames that somebody has, and frames that nobody has and that are dirty.
    pub(crate) used: AtomicUsize,
    pub(crate) idle: AtomicUsize,
}

/// The window of this process.
#[cfg(not(loom))]
pub(crate) static WINDOW: Window = Window::new();

#[cfg(loom)]
pool_core::sync::lazy_static! {
    pub(crate) static ref WINDOW: Window = Window::of_model();
}

/// The addresses of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    base: usize,
    bytes: usize,
}

impl Bounds {
    #[inline(always)]
    pub(crate) fn contains(self, address: usize) -> bool {
        address.wrapping_sub(self.base) < self.bytes
    }
}

/// Frames that were taken: nobody else has them, and they are nothing yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) head: Frame,
    /// Whether they are zero.
    pub(crate) is_zero: bool,
}

impl Window {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self {
            base: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            taken: [const { AtomicU64::new(0) }; MAX_CHUNKS / 64],
            kinds: [const { AtomicU8::new(NONE) }; MAX_CHUNKS],
            end: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
        }
    }

    /// Reserves the window, unless that was done. To be called before anything else, by one thread.
    ///
    /// What there is not room for is halved: a process may be bounded in its addresses.
    #[cfg(not(loom))]
    pub(crate) fn open(&self) {
        if self.bytes.load(Relaxed) != 0 {
            return;
        }
        let wanted = system::machine_bytes()
            .saturating_mul(4)
            .next_power_of_two();
        let most = system::address_limit().map_or(usize::MAX, |limit| limit / 2);
        let mut bytes = wanted.clamp(USUAL_BYTES, MAX_CHUNKS * CHUNK_BYTES);
        while bytes > most {
            bytes /= 2;
        }
        while bytes >= CHUNK_BYTES {
            if let Some(base) = reserve_aligned(bytes) {
                options::read();
                if !options::place(&(base..base + bytes)) {
                    options::refuse_nodes();
                }
                self.base.store(base, Relaxed);
                self.bytes.store(bytes, Release);
                return;
            }
            bytes /= 2;
        }
    }

    /// Where the window is.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            base: self.base.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    /// Whether an address is in the window.
    fn contains(&self, address: usize) -> bool {
        self.bounds().contains(address)
    }

    /// The frame that an address lies in, if it lies in the data of a chunk.
    pub(crate) fn frame_of(&self, address: usize) -> Option<Frame> {
        if !self.contains(address) {
            return None;
        }
        let offset = address.wrapping_sub(self.base.load(Relaxed));
        // Acquire pairs with the store in `add_chunk` and `commit_huge`: the metadata is there.
        let kind = self.kinds[offset / CHUNK_BYTES].load(Acquire);
        if kind == NONE || offset % CHUNK_BYTES < META_BYTES {
            return None;
        }
        // SAFETY: the address is in the data of a chunk whose descriptors are mapped.
        Some(unsafe { Frame::of(address) })
    }

    fn chunk(&self, index: usize) -> usize {
        self.base.load(Relaxed).wrapping_add(index * CHUNK_BYTES)
    }

    /// The chunks of frames, with their heads.
    pub(crate) fn heads(&self) -> impl DoubleEndedIterator<Item = (usize, &'static ChunkHead)> {
        self.heads_of(0..self.end.load(Acquire))
    }

    fn heads_of(
        &self,
        indices: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = (usize, &'static ChunkHead)> {
        indices.filter_map(|index| {
            if self.kinds[index].load(Acquire) != FRAMES_KIND {
                return None;
            }
            let chunk = self.chunk(index);
            // SAFETY: by invariant 1 its metadata is mapped.
            Some((chunk, unsafe { ChunkHead::at(chunk) }))
        })
    }

    /// Takes `frames` neighbouring frames, the first of them at a multiple of `align`, for `heap`.
    ///
    /// None where there is no memory.
    pub(crate) fn claim(&self, heap: Owner, frames: usize, align: usize) -> Option<Claim> {
        let end = self.end.load(Acquire);
        let first = self.first.load(Relaxed).min(end);
        // What is before the hint is looked at as well before the process grows.
        for indices in [first..end, 0..first] {
            for (chunk, head) in self.heads_of(indices) {
                if let Some(claim) = self.claim_in(chunk, head, heap, frames, align) {
                    return Some(claim);
                }
            }
        }
        let start = META_FRAMES.next_multiple_of(align);
        let range = start..start + frames;
        let (chunk, head) = self.add_chunk(&range)?;
        self.used.fetch_add(frames, Relaxed);
        self.make_owned(chunk, head, heap, &range)
    }

    fn claim_in(
        &self,
        chunk: usize,
        head: &ChunkHead,
        heap: Owner,
        frames: usize,
        align: usize,
    ) -> Option<Claim> {
        if (head.free.load(Relaxed) as usize) < frames {
            self.pass_over(chunk, head);
            return None;
        }
        for _ in 0..TRIES {
            let start = if frames == 1 && align == 1 {
                // What is dirty is there already, and in the caches perhaps.
                bits::find_one(&head.taken, |word| head.dirty[word].load(Relaxed))
                    .or_else(|| bits::find_one(&head.taken, |_| u64::MAX))
            } else {
                bits::find(&head.taken, frames, align, META_FRAMES)
            }?;
            let range = start..start + frames;
            if bits::reserve(&head.taken, &range) {
                self.take_out(head, frames);
                self.used.fetch_add(frames, Relaxed);
                return self.make_owned(chunk, head, heap, &range);
            }
        }
        None
    }

    /// Writes the owner words of frames whose bits were just set.
    fn make_owned(
        &self,
        chunk: usize,
        head: &ChunkHead,
        heap: Owner,
        range: &Range<usize>,
    ) -> Option<Claim> {
        let dirty = bits::count(&head.dirty, range);
        self.take_from_idle(dirty);
        let frame = self.frame_at(chunk, range.start)?;
        frame.descriptor().owner.store(heap.claimed().0, Relaxed);
        for index in range.start + 1..range.end {
            let tail = Owner::tail(index - range.start);
            self.frame_at(chunk, index)?
                .descriptor()
                .owner
                .store(tail.0, Relaxed);
        }
        frame.descriptor().frames.store(count(range.len()), Relaxed);
        Some(Claim {
            head: frame,
            is_zero: dirty == 0,
        })
    }

    fn frame_at(&self, chunk: usize, index: usize) -> Option<Frame> {
        let address = chunk + index * FRAME_BYTES;
        debug_assert!(self.contains(address));
        // SAFETY: the callers have a chunk of frames, and an index of data in it.
        (index >= META_FRAMES).then(|| unsafe { Frame::of(address) })
    }

    /// Gives frames back that nobody uses any more. The owner word of the head is not that of a
    /// slab or a run by now.
    pub(crate) fn release(&self, head: Frame) {
        let frames = head.descriptor().frames.load(Relaxed) as usize;
        self.release_range(head, head.index()..head.index() + frames);
    }

    /// Gives back the last frames of what begins at `head`, all but `keep`.
    pub(crate) fn release_end(&self, head: Frame, keep: usize) {
        let frames = head.descriptor().frames.load(Relaxed) as usize;
        head.descriptor().frames.store(count(keep), Relaxed);
        self.release_range(head, head.index() + keep..head.index() + frames);
    }

    /// Gives back frames of the chunk of `head`.
    ///
    /// They are free, dirty and counted as idle before anybody can take them: whoever does changes
    /// all three.
    fn release_range(&self, head: Frame, range: Range<usize>) {
        let chunk = head.head();
        if !planted!("window.frees_what_it_let_go") {
            self.make_free(head, &range);
        }
        if !planted!("window.is_dirty_late") {
            bits::set(&chunk.dirty, &range);
        }
        self.idle.fetch_add(range.len(), Relaxed);
        self.used.fetch_sub(range.len(), Relaxed);
        self.put_back(head.chunk(), chunk, &range);
        if planted!("window.frees_what_it_let_go") {
            self.make_free(head, &range);
        }
        if planted!("window.is_dirty_late") {
            bits::set(&chunk.dirty, &range);
        }
    }

    /// Takes the frames that follow, so that what begins at `head` has `frames` of them.
    ///
    /// Whether the new ones are zero; none where somebody has one of them.
    pub(crate) fn extend(&self, head: Frame, frames: usize) -> Option<bool> {
        let old = head.descriptor().frames.load(Relaxed) as usize;
        let range = head.index() + old..head.index() + frames;
        let chunk = head.head();
        if range.end > FRAMES || !bits::reserve(&chunk.taken, &range) {
            return None;
        }
        self.take_out(chunk, range.len());
        self.used.fetch_add(range.len(), Relaxed);
        let dirty = bits::count(&chunk.dirty, &range);
        self.take_from_idle(dirty);
        for index in range.clone() {
            let tail = Owner::tail(index - head.index());
            head.sibling(index)?
                .descriptor()
                .owner
                .store(tail.0, Relaxed);
        }
        head.descriptor().frames.store(count(frames), Relaxed);
        Some(dirty == 0)
    }

    fn make_free(&self, head: Frame, range: &Range<usize>) {
        for index in range.clone().rev() {
            if let Some(frame) = head.sibling(index) {
                frame.descriptor().owner.store(Owner::FREE.0, Relaxed);
            }
        }
    }

    /// Counts frames of a chunk as taken, whose bits were just set.
    pub(crate) fn take_out(&self, head: &ChunkHead, frames: usize) {
        head.free.fetch_sub(count(frames), Relaxed);
    }

    fn take_from_idle(&self, frames: usize) {
        let before = self.idle.fetch_sub(frames, Relaxed);
        purge::note_idle(before.saturating_sub(frames));
    }

    /// Lets others have frames whose bits are set.
    pub(crate) fn put_back(&self, chunk: usize, head: &ChunkHead, range: &Range<usize>) {
        bits::clear(&head.taken, range);
        head.free.fetch_add(count(range.len()), Relaxed);
        self.first.fetch_min(self.index(chunk), Relaxed);
    }

    fn index(&self, chunk: usize) -> usize {
        chunk.wrapping_sub(self.base.load(Relaxed)) / CHUNK_BYTES
    }

    /// Moves the hint on where a chunk is full.
    fn pass_over(&self, chunk: usize, head: &ChunkHead) {
        let index = self.index(chunk);
        if head.free.load(Relaxed) == 0 {
            let _ = self
                .first
                .compare_exchange(index, index + 1, Relaxed, Relaxed);
        }
    }

    /// Commits one more chunk of frames, of which the caller has those of `range`: others may take
    /// all that it has as soon as they see it.
    fn add_chunk(&self, range: &Range<usize>) -> Option<(usize, &'static ChunkHead)> {
        let index = self.take_chunks(1)?;
        let chunk = self.chunk(index);
        let data = chunk + META_BYTES..chunk + CHUNK_BYTES;
        let metadata = chunk + MAPPED_META.start..chunk + MAPPED_META.end;
        if !system::commit(&metadata) || !system::commit(&data) {
            self.drop_chunks(&(index..index + 1), 0);
            return None;
        }
        // The first chunk has small pages: a small process is to stay small.
        if options::huge_pages() && index != 0 {
            system::advise_huge(&data);
        }
        // SAFETY: its metadata was just mapped.
        let head = unsafe { ChunkHead::at(chunk) };
        head.taken[0].store(u64::MAX, Relaxed);
        bits::set(&head.taken, range);
        head.free.store(count(DATA_FRAMES - range.len()), Relaxed);
        self.kinds[index].store(FRAMES_KIND, Release);
        self.end.fetch_max(index + 1, AcqRel);
        Some((chunk, head))
    }

    fn take_chunks(&self, chunks: usize) -> Option<usize> {
        let all = self.bytes.load(Relaxed) / CHUNK_BYTES;
        loop {
            let index = bits::find(&self.taken, chunks, 1, 0)?;
            if index + chunks > all {
                return None;
            }
            if bits::reserve(&self.taken, &(index..index + chunks)) {
                return Some(index);
            }
        }
    }

    /// Makes chunks a mere reservation again, but for the first `kept` bytes. Where the kernel
    /// refuses that, they are lost.
    fn drop_chunks(&self, range: &Range<usize>, kept: usize) {
        for index in range.clone() {
            self.kinds[index].store(NONE, Release);
        }
        let addresses = self.chunk(range.start) + kept..self.chunk(range.end);
        // SAFETY: the caller has them, and nobody uses what is in them.
        let is_reserved = unsafe { system::decommit(&addresses) };
        if is_reserved && options::place(&addresses) {
            bits::clear(&self.taken, range);
        }
    }

    /// Commits chunks for one block of `bytes` at a multiple of `align`, which is less than a
    /// chunk. The block is zero, and room for `room` bytes follows its start, committed or not.
    pub(crate) fn commit_huge(&self, bytes: usize, room: usize, align: usize) -> Option<Frame> {
        let offset = META_BYTES.next_multiple_of(align);
        let chunks = offset.checked_add(room.max(bytes))?.div_ceil(CHUNK_BYTES);
        let index = self.take_chunks(chunks)?;
        let chunk = self.chunk(index);
        let descriptors = chunk + MAPPED_META.start..chunk + FRAME_BYTES;
        let data = chunk + offset..chunk + offset + bytes;
        if !system::commit(&descriptors) || !system::commit(&data) {
            self.drop_chunks(&(index..index + chunks), 0);
            return None;
        }
        if options::huge_pages() {
            system::advise_huge(&data);
        }
        // SAFETY: its descriptor was just mapped.
        let head = unsafe { Frame::of(data.start) };
        let descriptor = head.descriptor();
        descriptor.bytes.store(bytes as u64, Relaxed);
        descriptor.frames.store(count(chunks), Relaxed);
        descriptor.owner.store(Owner::HUGE.0, Relaxed);
        self.kinds[index].store(HUGE_KIND, Release);
        Some(head)
    }

    /// Makes all hints anew from the owner words, after `repair` had a look at each slab.
    ///
    /// Only while no other thread runs: frames that were being taken or given back are free then.
    pub(crate) fn make_anew(&self, repair: impl Fn(Frame)) {
        left::forget();
        let mut counts = Remade { used: 0, idle: 0 };
        for (chunk, head) in self.heads() {
            counts = self.make_chunk_anew(chunk, head, &repair, counts);
        }
        self.used.store(counts.used, Relaxed);
        self.idle.store(counts.idle, Relaxed);
        self.first.store(0, Relaxed);
    }

    fn make_chunk_anew(
        &self,
        chunk: usize,
        head: &ChunkHead,
        repair: &impl Fn(Frame),
        mut counts: Remade,
    ) -> Remade {
        bits::clear(&head.taken, &(META_FRAMES..FRAMES));
        // Whatever a frame is now, it may have been a slab in a stack, or one that somebody posted.
        for frame in (META_FRAMES..FRAMES).filter_map(|index| self.frame_at(chunk, index)) {
            let line = frame.queue();
            // Looked at first: what is not written is not copied for the child.
            for mark in [&line.stacked, &line.queued] {
                if mark.load(Relaxed) != 0 {
                    mark.store(0, Relaxed);
                }
            }
        }
        let (mut index, mut free) = (META_FRAMES, 0);
        while let Some(frame) = (index < FRAMES)
            .then(|| self.frame_at(chunk, index))
            .flatten()
        {
            let kind = frame.owner().kind();
            let frames = match kind {
                Kind::Slab(_) | Kind::Run => frame.descriptor().frames.load(Relaxed) as usize,
                _ => 0,
            };
            if frames == 0 {
                if kind != Kind::Free {
                    frame.descriptor().owner.store(Owner::FREE.0, Relaxed);
                    bits::set(&head.dirty, &(index..index + 1));
                }
                counts.idle += bits::count(&head.dirty, &(index..index + 1));
                (free, index) = (free + 1, index + 1);
                continue;
            }
            repair(frame);
            bits::set(&head.taken, &(index..(index + frames).min(FRAMES)));
            if let Kind::Slab(class) = kind
                && frame.owner().is_abandoned()
            {
                left::push(frame, class);
            }
            (counts.used, index) = (counts.used + frames, index + frames);
        }
        head.free.store(free, Relaxed);
        counts
    }

    /// Gives a block of its own chunks back.
    ///
    /// Its descriptor stays mapped, and is that of a free frame: whoever frees the block again is
    /// to be told, and looks there.
    pub(crate) fn drop_huge(&self, head: Frame) {
        let chunks = head.descriptor().frames.load(Relaxed) as usize;
        let chunk = head.chunk();
        let descriptors = chunk + MAPPED_META.start..chunk + FRAME_BYTES;
        // SAFETY: the block is gone, and nobody else looks at what is known of it.
        let is_free = unsafe { system::discard(&descriptors) };
        if !is_free {
            // Locked memory: then by hand.
            let descriptor = head.descriptor();
            descriptor.bytes.store(0, Relaxed);
            descriptor.frames.store(0, Relaxed);
            descriptor.owner.store(Owner::FREE.0, Relaxed);
        }
        let index = self.index(chunk);
        self.drop_chunks(&(index..index + chunks), FRAME_BYTES);
    }
}

/// Counters of a window that are made anew.
struct Remade {
    used: usize,
    idle: usize,
}

fn count(frames: usize) -> u32 {
    u32::try_from(frames).unwrap_or(u32::MAX)
}

/// Reserves `bytes` at a multiple of a chunk.
#[cfg(not(loom))]
fn reserve_aligned(bytes: usize) -> Option<usize> {
    let place = system::reserve(bytes.checked_add(CHUNK_BYTES)?)?;
    let base = place.next_multiple_of(CHUNK_BYTES);
    let end = place + bytes + CHUNK_BYTES;
    for excess in [place..base, base + bytes..end] {
        if !excess.is_empty() {
            // SAFETY: it was just reserved, and is used by nobody.
            unsafe { system::unmap(excess) };
        }
    }
    Some(base)
}
