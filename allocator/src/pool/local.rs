//! What one thread has of a pool heap: from where it takes blocks, and to where it frees them.
//!
//! It works as the heap of a thread of the private heap does (`heap.rs`), with these differences:
//! - A block that is given out is *pending* until it is published. The thread that holds a word
//!   marks its free blocks as pending first and as allocated then, so that to give one out changes
//!   nothing that is shared.
//! - A block of the held word that is freed becomes pending again, and may be given out next; so
//!   may others that are freed, while the [`front`](super::front) has room.
//! - Lists are in memory of the process, by number; a slab has its number in its descriptor.
//!   Nothing that another process writes is followed.
//! - Whoever frees a block of another's slab sets a bit of a hint besides that of the block, and
//!   the owner looks at slabs whose bits are set. A lost hint costs time and nothing else: each
//!   time the heap wants frames it looks at some slabs that nobody told it of.
//!
//! # What a death leaves
//! Of a thread that is killed between any two instructions: a block of a slab of its own is
//! 1. free by the bitmap, pending or not: free;
//! 2. allocated and pending: not given out, or not published: recovery frees it;
//! 3. allocated and not pending: published, and as it was.
//!
//! And a run is published or names the slot, by its owner word.
//!
//! # Invariants
//! 1. Only the owner of a slab changes its bitmaps of allocated and of pending blocks, and whoever
//!    recovers the slot of an owner that died.
//! 2. A bit that is to be both becomes pending first, and one that is to be neither is first not
//!    allocated: so that it is never allocated and published in between.
//! 3. A slab with a block that is pending is not given to another process.
//! 4. A word with a free block that was given out before has its bit in `summary`, unless it is
//!    held.

use pool_core::planted;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::error::HeapError;
use super::front::{self, Fronts, Mark, Ready};
use super::process::Process;
use crate::frame::Frame;
use crate::layout::FRAME_BYTES;
use crate::owner::Owner;
use crate::place::Place;
use crate::size_class::{self, CLASSES, SMALL, block_bytes};

/// What a heap has of one class, and looks at for each block.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Bin {
    /// Blocks of the held word that may be given out: allocated and pending.
    pub(super) free: u64,
    /// Where the first block of the held word is.
    pub(super) base: usize,
    /// The address of the held word of the bitmap; 0 before there is one.
    pub(super) held: usize,
    pub(super) bytes: u32,
    /// See [`size_class::reciprocal`]; 0 in classes that are not small.
    pub(super) reciprocal: u32,
    /// Which word of its slab is held.
    pub(super) word: u32,
    /// How many blocks are in front, and how many may be.
    pub(super) ready: u32,
    most: u32,
    pub(super) is_zero: bool,
    /// That of the first block of the held word; of nothing where none is held.
    pub(super) mark: Mark,
}

const _: () = assert!(size_of::<Bin>() == 64);

/// The slabs of one class that a heap owns, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Slabs {
    pub(super) current: Option<u32>,
    /// Words of it before this one had their turn.
    pub(super) next_word: u32,
    pub(super) partial: Vec<u32>,
}

/// Where a slab of this heap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    /// It is the one that blocks are taken from.
    Current,
    /// At this place of the partial ones.
    Partial(u32),
    /// It has no free block.
    Full,
}

/// A slab of this heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) slab: Frame,
    pub(super) class: usize,
    pub(super) shelf: Shelf,
}

/// A block that was given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) address: usize,
    pub(crate) is_zero: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Local {
    /// The owner word of this heap, with kind 0.
    pub(crate) owner: Owner,
    pub(crate) slot: usize,
    /// The tier that its frames are of; any where none is named.
    pub(super) tier: Option<usize>,
    pub(super) bins: Box<[Bin; CLASSES]>,
    pub(super) slabs: Box<[Slabs]>,
    /// By number.
    pub(super) own: Vec<Option<Own>>,
    /// Numbers that no slab has.
    pub(super) unused: Vec<u32>,
    /// Where to look next for slabs that nobody told of, and for slabs that nobody owns.
    pub(super) looked: usize,
    pub(super) scanned: usize,
    /// The block that was given out last, and not freed since: most often the next to be
    /// published, and often the next to be freed.
    last: Ready,
    /// The class that was asked for last: that of the block, unless it was asked for in vain.
    last_class: usize,
    pub(super) fronts: Fronts,
    /// Runs that were allocated, and of which some are pending yet.
    pub(super) runs: Vec<Frame>,
}

impl Local {
    pub(crate) fn new(slot: usize, owner: Owner, tier: Option<usize>) -> Self {
        Self {
            owner,
            slot,
            tier,
            bins: Box::new(core::array::from_fn(Bin::new)),
            slabs: (0..CLASSES).map(|_| Slabs::default()).collect(),
            own: Vec::new(),
            unused: Vec::new(),
            looked: 0,
            scanned: 0,
            last: Ready::default(),
            last_class: 0,
            fronts: Fronts::new(),
            runs: Vec::new(),
        }
    }

    /// A block of `class`, if its bin has one.
    #[inline(always)]
    pub(crate) fn pop(&mut self, class: usize) -> Option<usize> {
        let bin = self.bins.get_mut(class)?;
        self.last_class = class;
        if bin.ready != 0 {
            bin.ready = bin.ready.wrapping_sub(1);
            self.last = self.fronts.get(class, bin.ready);
            return Some(self.last.address);
        }
        let free = bin.free;
        if free == 0 {
            return None;
        }
        bin.free = free & free.wrapping_sub(1);
        let bit = free.trailing_zeros();
        let offset = (bit as usize).wrapping_mul(bin.bytes as usize);
        let address = bin.base.wrapping_add(offset);
        let mark = bin.mark.further(bit);
        self.last = Ready { address, mark };
        Some(address)
    }

    /// A block of `class`, pending.
    pub(crate) fn allocate(&mut self, on: &Process, class: usize) -> Result<Given, HeapError> {
        loop {
            let is_zero = self.bins[class].ready == 0 && self.bins[class].is_zero;
            if let Some(address) = self.pop(class) {
                return Ok(Given { address, is_zero });
            }
            self.refill(on, class)?;
        }
    }

    /// Block and slab at `address`, where the slab is small and this heap's own.
    #[inline(always)]
    fn own_block(&self, on: &Process, address: usize) -> Option<(Frame, usize, usize)> {
        let frame = on.chunks.frame_of(address)?;
        let class = frame.owner().0 ^ self.owner.0;
        if class.wrapping_sub(1) >= SMALL as u64 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "compared just now")]
        let class = class as usize;
        let bin = self.bins.get(class)?;
        let offset = address & (FRAME_BYTES - 1);
        size_class::block_at(offset, bin.reciprocal).map(|index| (frame, class, index))
    }

    /// The blocks that were not given out, of a word of `class`.
    #[inline(always)]
    pub(super) fn held(&self, class: usize, word: &pool_core::sync::atomic::AtomicU64) -> u64 {
        let bin = &self.bins[class];
        if bin.held == core::ptr::from_ref(word).addr() {
            bin.free
        } else {
            0
        }
    }

    /// Publishes the block at `address`: from now on it outlives this thread.
    #[inline(always)]
    pub(crate) fn publish(&mut self, on: &Process, address: usize) -> Result<(), HeapError> {
        if self.publish_last(address) {
            return Ok(());
        }
        self.publish_any(on, address)
    }

    /// The same for the block that was given out last. False where it is another one, or odd.
    #[inline(always)]
    pub(crate) fn publish_last(&mut self, address: usize) -> bool {
        if address != self.last.address || address == 0 {
            return false;
        }
        // SAFETY: its slab is this heap's: the last block is forgotten where a slab is left to
        // others.
        let pending = unsafe { self.last.mark.word() };
        let (marks, bit) = (pending.load(Relaxed), self.last.mark.bit());
        if marks & bit == 0 {
            return false;
        }
        // Release: whoever recovers this slot finds the contents with the mark gone.
        pending.store(marks & !bit, Release);
        true
    }

    /// The same for blocks that were given out before, and runs.
    #[inline(never)]
    fn publish_any(&mut self, on: &Process, address: usize) -> Result<(), HeapError> {
        match on.place_at(address)? {
            Place::Slab { slab, class, index } => {
                if slab.owner() != self.owner.slab(class) {
                    return Err(HeapError::NotOwner { address });
                }
                self.publish_block(slab, (class, index), address)
            }
            Place::Run(head) => self.publish_run(head),
            Place::Huge(_) => Err(HeapError::NoBlock { address }),
        }
    }

    fn publish_block(
        &mut self,
        slab: Frame,
        (class, index): (usize, usize),
        address: usize,
    ) -> Result<(), HeapError> {
        let (word, bit) = (index >> 6, 1_u64 << (index & 63));
        if !self.is_pending(slab, (class, index), address) {
            return Err(HeapError::NotPending { address });
        }
        let pending = slab.pending(word);
        let marks = pending.load(Relaxed);
        // Release: as in `publish_last`.
        pending.store(marks & !bit, Release);
        Ok(())
    }

    /// Whether block `index` of a slab of this heap, at `address`, was given out and neither
    /// published nor freed since.
    #[inline(always)]
    pub(super) fn is_pending(
        &self,
        slab: Frame,
        (class, index): (usize, usize),
        address: usize,
    ) -> bool {
        let (word, bit) = (index >> 6, 1_u64 << (index & 63));
        // What is pending is allocated.
        let marks = slab.pending(word).load(Relaxed) & !self.held(class, slab.allocated(word));
        marks & bit != 0 && !self.is_ready(class, address)
    }

    /// Whether the block at `address` is in front.
    #[inline(always)]
    pub(super) fn is_ready(&self, class: usize, address: usize) -> bool {
        let count = self.bins[class].ready;
        count != 0 && self.fronts.has(class, count, address)
    }

    /// Has no block be the last one: its slab may be left to others from here on.
    pub(super) fn forget_last(&mut self) {
        self.last = Ready::default();
    }

    /// Frees the block at `address`.
    #[inline(always)]
    pub(crate) fn free(&mut self, on: &Process, address: usize) -> Result<(), HeapError> {
        if self.free_quickly(on, address) {
            return Ok(());
        }
        self.free_any(on, address)
    }

    /// Frees a block of a small slab of this heap, where that is quickly done. False, and nothing
    /// changed, where it is not, or the block is another's, or not there to be freed.
    #[inline(always)]
    pub(crate) fn free_quickly(&mut self, on: &Process, address: usize) -> bool {
        if address == self.last.address && address != 0 && self.free_last() {
            return true;
        }
        match self.own_block(on, address) {
            Some((slab, class, index)) => self.free_own::<false>(slab, (class, index), address),
            None => false,
        }
    }

    /// Frees the block that was given out last, where it is of a word that is held.
    #[inline(always)]
    fn free_last(&mut self) -> bool {
        let (mark, bit) = (self.last.mark, self.last.mark.bit());
        let Some(bin) = self.bins.get_mut(self.last_class) else {
            return false;
        };
        if !bin.mark.is_beside(mark) && !planted!("pool.frees_the_last_into_another_word") {
            return false;
        }
        // SAFETY: it is of a word that is held, and so of a slab of this heap.
        let pending = unsafe { mark.word() };
        // SAFETY: the same.
        let remote = unsafe { mark.remote() };
        let is_told = remote.load(Relaxed) & bit != 0;
        if is_told && !planted!("pool.frees_the_last_that_is_told") {
            return false;
        }
        // As in `free_own`.
        pending.store(pending.load(Relaxed) | bit, Release);
        bin.free |= bit;
        bin.is_zero = false;
        self.forget_last();
        true
    }

    /// Frees the block at `address`, whatever it is.
    #[inline(never)]
    pub(super) fn free_any(&mut self, on: &Process, address: usize) -> Result<(), HeapError> {
        match on.place_at(address)? {
            Place::Slab { slab, class, index } => {
                if slab.owner() != self.owner.slab(class) {
                    return self.free_away(on, slab, class, index, address);
                }
                let is_freed = self.free_own::<true>(slab, (class, index), address);
                is_freed
                    .then_some(())
                    .ok_or(HeapError::DoubleFree { address })
            }
            Place::Run(head) => self.free_run(on, head),
            Place::Huge(_) => Err(HeapError::NoBlock { address }),
        }
    }

    /// Frees block `index` of `slab`, which this heap owns. False, and nothing changed, where it is
    /// free already; and unless `ALL` where there is more to be done than some stores: then it is
    /// called once more with `ALL`, and finds what it found.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a bit of a word")]
    fn free_own<const ALL: bool>(
        &mut self,
        slab: Frame,
        (class, index): (usize, usize),
        address: usize,
    ) -> bool {
        let (word, bit) = (index >> 6, 1_u64 << (index & 63));
        let (allocated, pending) = (slab.allocated(word), slab.pending(word));
        let (taken, marks) = (allocated.load(Relaxed), pending.load(Relaxed));
        let bin = &self.bins[class];
        let is_held = bin.held == core::ptr::from_ref(allocated).addr();
        if taken & !slab.remote(word).load(Relaxed) & bit == 0
            || (is_held && bin.free & bit != 0)
            || (marks & bit != 0
                && bin.ready != 0
                // What was given out last is not in front.
                && address != self.last.address
                && (!ALL || self.is_ready(class, address)))
        {
            return false;
        }
        let is_for_front = marks & bit == 0 && bin.ready < bin.most;
        if !ALL && !is_held && !is_for_front && is_to_settle(slab, taken & !bit) {
            return false;
        }
        if address == self.last.address {
            self.forget_last();
        }
        let bin = &mut self.bins[class];
        if is_held {
            // One store: it was published or not, and is not given out from here on.
            pending.store(marks | bit, Release);
            bin.free |= bit;
            bin.is_zero = false;
        } else if is_for_front {
            pending.store(marks | bit, Release);
            let mark = Mark::new(pending, index as u32 & 63);
            self.fronts.set(class, bin.ready, Ready { address, mark });
            bin.ready = bin.ready.wrapping_add(1);
        } else if free_past_front(slab, index) {
            self.settle(slab, class);
        }
        true
    }

    /// How many bytes the block at `address` has.
    pub(crate) fn usable_bytes(on: &Process, address: usize) -> Result<usize, HeapError> {
        match on.place_at(address)? {
            Place::Slab { slab, class, index } => {
                // Acquire pairs with whoever gave it out and told us.
                let word = slab.allocated(index >> 6).load(Acquire);
                if word >> (index & 63) & 1 == 0 {
                    return Err(HeapError::NoBlock { address });
                }
                Ok(block_bytes(class))
            }
            Place::Run(head) => Ok(super::frames::extent(head) * FRAME_BYTES),
            Place::Huge(_) => Err(HeapError::NoBlock { address }),
        }
    }
}

/// Whether a slab belongs elsewhere once the free of a block leaves a word of it as `left`.
#[inline(always)]
fn is_to_settle(slab: Frame, left: u64) -> bool {
    left == 0 || slab.descriptor().summary.load(Relaxed) == 0
}

/// Frees block `index` of an own slab that is neither of the held word nor in front. Whether the
/// slab belongs elsewhere from now on.
#[inline(always)]
pub(super) fn free_past_front(slab: Frame, index: usize) -> bool {
    let (word, bit) = (index >> 6, 1_u64 << (index & 63));
    let (allocated, pending) = (slab.allocated(word), slab.pending(word));
    let marks = pending.load(Relaxed);
    let left = allocated.load(Relaxed) & !bit;
    if planted!("pool.unmarks_before_it_frees") {
        pending.store(marks & !bit, Release);
        pool_core::crash_point!("heap.freed_pending");
    }
    allocated.store(left, Release);
    pool_core::crash_point!("heap.freed_pending");
    if marks & bit != 0 {
        pending.store(marks & !bit, Release);
    }
    let summary = &slab.descriptor().summary;
    let before = summary.load(Relaxed);
    if before >> (word & 63) & 1 == 0 {
        summary.store(before | 1 << (word & 63), Relaxed);
    }
    before == 0 || left == 0
}

impl Bin {
    /// Holds no word.
    pub(super) fn let_go(&mut self) {
        self.held = 0;
        self.mark = Mark::default();
    }

    fn new(class: usize) -> Self {
        Self {
            free: 0,
            base: 0,
            held: 0,
            bytes: u32::try_from(block_bytes(class)).unwrap_or(0),
            reciprocal: if (1..=SMALL).contains(&class) {
                size_class::reciprocal(class)
            } else {
                0
            },
            word: 0,
            ready: 0,
            most: front::most(class),
            is_zero: false,
            mark: Mark::default(),
        }
    }
}
