//! The calls of a workload: as they are, or each of them timed.
//!
//! A workload is written once, over [`Calls`]. The totals come of [`Plain`], which adds nothing;
//! the tail comes of [`Timed`], in a run of its own, whose totals are not used.

use pool_core::clock;

use super::super::times::Times;
use super::heap::Block;

/// How a workload calls the heap.
pub(super) trait Calls: Default + Send {
    fn malloc(&mut self, bytes: usize) -> Block;
    fn calloc(&mut self, bytes: usize) -> Block;
    fn realloc(&mut self, block: Block, bytes: usize) -> Block;
    fn free(&mut self, block: Block);
    /// How long the calls took, where that was looked at.
    fn times(self) -> Times;

    /// Puts `block` where another may have been, which is freed.
    #[inline]
    fn replace(&mut self, place: &mut Option<Block>, bytes: usize) {
        if let Some(old) = place.take() {
            self.free(old);
        }
        *place = Some(self.malloc(bytes));
    }

    /// Frees what is in `places`, in their order.
    #[inline]
    fn free_all(&mut self, places: &mut [Option<Block>]) {
        for block in places.iter_mut().filter_map(Option::take) {
            self.free(block);
        }
    }
}

/// Calls as they are.
#[derive(Debug, Default)]
pub(super) struct Plain;

impl Calls for Plain {
    #[inline]
    fn malloc(&mut self, bytes: usize) -> Block {
        Block::new(bytes)
    }

    #[inline]
    fn calloc(&mut self, bytes: usize) -> Block {
        Block::zeroed(bytes)
    }

    #[inline]
    fn realloc(&mut self, block: Block, bytes: usize) -> Block {
        block.resized(bytes)
    }

    #[inline]
    fn free(&mut self, block: Block) {
        block.free();
    }

    fn times(self) -> Times {
        Times::default()
    }
}

/// Calls that are timed one by one. Each time has that of one look at the clock in it.
#[derive(Debug)]
pub(super) struct Timed(Times);

impl Default for Timed {
    fn default() -> Self {
        Self(Times::new())
    }
}

impl Timed {
    #[inline]
    fn timed<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = clock::now();
        let done = call();
        self.0.add(clock::now().saturating_since(start).get());
        done
    }
}

impl Calls for Timed {
    #[inline]
    fn malloc(&mut self, bytes: usize) -> Block {
        self.timed(|| Block::new(bytes))
    }

    #[inline]
    fn calloc(&mut self, bytes: usize) -> Block {
        self.timed(|| Block::zeroed(bytes))
    }

    #[inline]
    fn realloc(&mut self, block: Block, bytes: usize) -> Block {
        self.timed(|| block.resized(bytes))
    }

    #[inline]
    fn free(&mut self, block: Block) {
        self.timed(|| block.free());
    }

    fn times(self) -> Times {
        self.0
    }
}
