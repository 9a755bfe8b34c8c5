//! The heap of one thread: from where it takes blocks, and to where it frees them.
//!
//! # How a block is found
//! Of each class the heap has one *current* slab, and of that slab one word of 64 blocks, the
//! *held* word. When it takes a word it marks the blocks of it that are free as allocated in the
//! bitmap, and keeps them in [`Bin::free`]; from then on a block is the lowest bit of that number.
//! No atomic operation, and neither the bitmap nor the block is touched. Words are held in turns,
//! so that each has as long as can be to gather free blocks: through all of a slab that was given
//! out before, then a few blocks that were not, and so on until the slab is *open* as a whole; then
//! through the next slab that has free blocks.
//!
//! # How a block is freed
//! By its owner into the *front* of the class while that has room, from where blocks are given out
//! first. Else into `free`, if it is of the held word, and else by clearing its bit. By others see
//! [`remote`].
//!
//! # Invariants
//! 1. A slab that a heap owns is the current one of its class, or in its list of slabs with free
//!    blocks, or in its list of full ones.
//! 2. Only the owner of a slab changes its bitmap of allocated blocks.
//! 3. Bits of the bitmap for which the slab has no block are never set.
//! 4. A block that others freed is in the bitmap until the owner has looked, so that a slab whose
//!    bitmap is empty has nothing to be told.
//! 5. A word of which a block is free that was given out before has its bit in `summary` set,
//!    unless it is held.
//! 6. The first `opened` blocks of a slab were given out before, and no others.
//!
//! # Files
//! [`front`]: blocks that were freed last. [`refill`]: a bin without blocks. [`local`]: freeing
//! what is the heap's own. [`remote`]: freeing what is not, and hearing of what others freed.
//! [`leave`]: the end of a thread, and of the others in a child after a fork.

mod front;
mod leave;
mod local;
mod refill;
mod remote;

use crate::frame::Frame;
use crate::heap::front::{FRONT, HALF};
use crate::list::List;
use crate::owner::Owner;
use crate::size_class::{self, CLASSES, SMALL};
use crate::slot::{self, Posted};
use crate::window::{Bounds, WINDOW};

#[cfg(not(loom))]
pub(crate) use leave::recover_after_fork;

/// What a heap has of one class, and looks at for each block.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Bin {
    /// How many blocks of the front may be given out, and how many were freed into it since.
    ready: u32,
    freed: u32,
    /// Where the half of the front begins that blocks are given out of: 0 or [`HALF`].
    half: u32,
    /// How many blocks each half may have.
    most: u32,
    /// The block that was freed into the front last, while it is among those freed.
    last: usize,
    /// Blocks of the held word that may be given out.
    free: u64,
    /// Where the first block of the held word is.
    base: usize,
    /// The address of the held word; 0 before there is one.
    held: usize,
    /// The size of a block.
    bytes: u32,
    /// See [`size_class::reciprocal`]; 0 in classes that are not small.
    reciprocal: u32,
    /// Which word of its slab is held.
    word: u32,
    /// Whether the blocks in `free` are zero.
    is_zero: bool,
}

const _: () = assert!(size_of::<Bin>() == 64);

/// The slabs of one class that a heap owns.
#[derive(Debug, Default)]
struct Slabs {
    /// The one that blocks are taken from.
    current: Option<Frame>,
    /// Words of it before this one had their turn.
    next_word: u32,
    partial: List,
    full: List,
}

/// A block that was given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) address: usize,
    /// Whether it is known to be zero.
    pub(crate) is_zero: bool,
}

/// See the module. Zeroed memory becomes one by [`Heap::begin`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Heap {
    /// The owner word of this heap, with kind 0.
    pub(crate) owner: Owner,
    /// Where the window is: what [`Window::bounds`](crate::window::Window::bounds) says.
    pub(crate) window: Bounds,
    bins: [Bin; CLASSES],
    /// Blocks that were freed last, of each class.
    fronts: [[usize; FRONT]; SMALL + 1],
    slabs: [Slabs; CLASSES],
    /// Blocks of others that are free, and were not told to them yet.
    away: [remote::Away; SMALL + 1],
    slot: usize,
    /// What was in the mailbox and was not looked at yet.
    posted: Posted,
}

impl Bin {
    /// Lets the blocks that were freed into the front be given out.
    #[inline(always)]
    fn turn(&mut self) {
        self.ready = self.freed;
        self.freed = 0;
        self.half ^= HALF;
        self.last = 0;
    }

    #[inline(always)]
    fn pop_held(&mut self) -> Option<usize> {
        let free = self.free;
        if free == 0 {
            return None;
        }
        self.free = free & free.wrapping_sub(1);
        let index = free.trailing_zeros() as usize;
        Some(
            self.base
                .wrapping_add(index.wrapping_mul(self.bytes as usize)),
        )
    }
}

impl Heap {
    /// Makes it the heap of `slot`, whose `generation`th thread has it now.
    ///
    /// It may hold anything that a heap holds: the thread that had it before may have been gone all
    /// at once, in a fork.
    pub(crate) fn begin(&mut self, slot: usize, generation: u32) {
        self.owner = Owner::heap(slot, generation);
        self.slot = slot;
        self.posted = Posted::default();
        self.window = WINDOW.bounds();
        for slabs in &mut self.slabs {
            *slabs = Slabs::default();
        }
        for away in &mut self.away {
            *away = remote::Away::default();
        }
        for (class, bin) in self.bins.iter_mut().enumerate().skip(1) {
            bin.bytes = u32::try_from(size_class::block_bytes(class)).unwrap_or(0);
            bin.reciprocal = if class <= SMALL {
                size_class::reciprocal(class)
            } else {
                0
            };
            bin.ready = 0;
            bin.freed = 0;
            bin.half = 0;
            bin.last = 0;
            bin.most = front::most(class);
            bin.free = 0;
            bin.held = 0;
        }
    }

    /// A block of `class`, if its bin has one.
    #[inline(always)]
    pub(crate) fn pop(&mut self, class: usize) -> Option<usize> {
        let bin = &mut self.bins[class];
        if bin.ready == 0 {
            if bin.freed == 0 {
                return bin.pop_held();
            }
            bin.turn();
        }
        bin.ready = bin.ready.wrapping_sub(1);
        let place = (bin.half | bin.ready) as usize % FRONT;
        Some(self.fronts[class][place])
    }

    /// A block of `class`; none where there is no memory.
    pub(crate) fn allocate(&mut self, class: usize) -> Option<Block> {
        loop {
            let bin = &mut self.bins[class];
            let is_zero = bin.ready == 0 && bin.freed == 0 && bin.is_zero;
            let block = if class <= SMALL {
                self.pop(class)
            } else {
                bin.pop_held()
            };
            if let Some(address) = block {
                return Some(Block { address, is_zero });
            }
            if !self.refill(class) {
                return None;
            }
        }
    }

    /// Which blocks were not given out, of the word of `class` at the address `word`.
    pub(crate) fn held(&self, class: usize, word: usize) -> u64 {
        self.bins
            .get(class)
            .filter(|bin| bin.held == word)
            .map_or(0, |bin| bin.free)
    }

    fn slot(&self) -> &'static slot::Slot {
        slot::slot(self.slot)
    }
}
