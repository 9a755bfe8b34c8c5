//! Models of what threads share: the code of this crate under every schedule.
//!
//! What runs is the code that a program runs. Only the doors are others: metadata is what
//! [`crate::frame::model`] has, statics are new in each schedule, and the operating system is
//! `model/system.rs`. There are four frames of data at most, bitmaps of two words, and a slot for
//! each thread. Plain `cargo test` cannot run these: a real window has more than one frame.
//!
//! # What every model of heaps asks at its end
//! Each heap that did not end gives out blocks until it has none. Those and the blocks that were
//! kept are all blocks of the frames there are, each of them once: none is lost, and none is given
//! out twice. See [`Found`].
//!
//! # Which thread goes first
//! loom 0.7 remembers one last access of each atomic. Where a thread loads a word and then changes
//! it, the load is what it remembers, and it does not turn that change around with a load that
//! another thread made before. So each model is explored twice: from the schedule in which the
//! first thread goes first, and from the one in which it lets each that it spawns go first.
//!
//! # Files
//! [`frames`]: bits, frames, runs and idle memory. [`remote`]: blocks that others free. [`leave`]:
//! the same with threads that end. [`left`]: how others find what they left. [`misuse`]: blocks
//! that are freed twice.

#[cfg(test)]
mod frames;
#[cfg(test)]
mod leave;
#[cfg(test)]
mod left;
#[cfg(test)]
mod misuse;
#[cfg(test)]
mod remote;

use pool_core::sync::{UnsafeCell, thread};

use crate::frame::model::FRAMES_OF_MODEL;
use crate::frame::{self, Frame};
use crate::heap::Heap;
use crate::place::{self, Place};
use crate::size_class::{self, block_bytes, slab_blocks};
use crate::slot;

/// The class of slabs of 8 blocks, each of which is told of at once.
pub(crate) fn of_eight() -> usize {
    size_class::of(8 << 10)
}

/// The class of slabs of 128 blocks, in two words.
pub(crate) fn of_two_words() -> usize {
    size_class::of(512)
}

/// Tells of two accesses of which neither comes before the other: loom sees those of a cell, and
/// of an atomic it finds stale values only. The cell holds nothing.
#[derive(Debug, Default)]
pub(crate) struct Watch(UnsafeCell<()>);

// SAFETY: what is in the cell is of no size, and never touched.
unsafe impl Sync for Watch {}

impl Watch {
    /// An access of somebody who is the only one to have what is watched.
    pub(crate) fn touch(&self) {
        self.0.with_mut(|_| ());
    }
}

pool_core::sync::lazy_static! {
    static ref BLOCKS: [Watch; FRAMES_OF_MODEL * 8] = core::array::from_fn(|_| Watch::default());
}

/// An access to a block of 8 KiB, by who has it. Others are not watched.
pub(crate) fn touch(block: usize, class: usize) {
    if class == of_eight() {
        BLOCKS[(block - Frame::of_model(0).start()) / block_bytes(class)].touch();
    }
}

/// Where a model begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    is_turned: bool,
}

impl Start {
    /// A thread that does `work`.
    pub(crate) fn spawn<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let thread = thread::spawn(work);
        if self.is_turned {
            thread::yield_now();
        }
        thread
    }
}

/// The world of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    frames: usize,
}

/// A world with that many frames of data.
pub(crate) fn with_frames(frames: usize) -> World {
    World { frames }
}

impl World {
    /// Runs `body` under every schedule, from both first ones.
    pub(crate) fn model(self, body: impl Fn(Start) + Copy + Send + Sync + 'static) {
        for is_turned in [false, true] {
            pool_core::sync::model(move || {
                frame::model::begin(self.frames);
                body(Start { is_turned });
            });
        }
    }
}

/// A heap for one more thread.
pub(crate) fn heap() -> Box<Heap> {
    // SAFETY: zeroed memory becomes a heap by `begin`.
    let mut heap = unsafe { Box::<Heap>::new_zeroed().assume_init() };
    let (slot, generation) = slot::take().expect("as many slots as threads");
    heap.begin(slot, generation);
    heap
}

/// A block of `class`, which is written to.
pub(crate) fn take(heap: &mut Heap, class: usize) -> Option<usize> {
    let block = heap.allocate(class)?.address;
    touch(block, class);
    Some(block)
}

/// Every block that `heap` has to give of `class`, until there is no memory.
pub(crate) fn take_all(heap: &mut Heap, class: usize) -> Vec<usize> {
    core::iter::from_fn(|| take(heap, class)).collect()
}

/// Writes to a block a last time, and frees it as a thread does with this heap.
pub(crate) fn free(heap: &mut Heap, address: usize) {
    if let Some(Place::Slab { class, .. }) = place::of(address) {
        touch(address, class);
    }
    free_unwatched(heap, address);
}

/// Frees a block that is not its own perhaps.
pub(crate) fn free_unwatched(heap: &mut Heap, address: usize) {
    let Some(Place::Slab { slab, class, index }) = place::of(address) else {
        panic!("no block begins at {address:#x}");
    };
    if slab.owner() == heap.owner.slab(class) {
        heap.free_block(slab, class, index, address);
    } else {
        heap.free_away(slab, class, index, address);
    }
}

/// Blocks that were given out, each of which is somebody's.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<usize>);

impl Found {
    /// Adds some.
    pub(crate) fn and(mut self, blocks: impl IntoIterator<Item = usize>) -> Self {
        self.0.extend(blocks);
        self
    }

    /// Adds all that `heap` has to give.
    pub(crate) fn and_of(self, heap: &mut Heap, class: usize) -> Self {
        self.and(take_all(heap, class))
    }

    /// They are the blocks of `slabs` slabs of `class`, each of them once.
    pub(crate) fn are_all(mut self, slabs: usize, class: usize) {
        self.0.sort_unstable();
        let count = self.0.len();
        self.0.dedup();
        assert_eq!(self.0.len(), count, "a block was given out twice");
        assert_eq!(count, slabs * slab_blocks(class), "blocks were lost");
    }
}
