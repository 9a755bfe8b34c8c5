//! One thread of the load.

use std::sync::mpsc::{Receiver, SendError, Sender};

use allocator::malloc;
use pool_core::clock::Deadline;
use pool_core::rng::Rng;

/// How many steps there are between two looks at the clock.
const STEPS: usize = 256;
/// Where a block is written to: wherever it may have a page.
const PAGE: usize = 4 << 10;

/// Of which sizes blocks are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    pub(crate) name: &'static str,
    least: usize,
    doublings: usize,
}

impl Shift {
    /// Of `least` to `most` bytes, a power of two times as many; each doubling as often.
    pub(crate) const fn of(name: &'static str, least: usize, most: usize) -> Self {
        Self {
            name,
            least,
            doublings: (most / least).ilog2() as usize,
        }
    }

    /// How many bytes slabs have, one of each class: see `size_class.rs`.
    pub(crate) fn slab_bytes(self) -> usize {
        (0..self.doublings)
            .map(|doubling| match self.least << doubling {
                0..8_192 => 64 << 10,
                8_192..65_536 => 512 << 10,
                65_536..524_288 => 4 << 20,
                _ => 0,
            })
            .map(|slab| 8 * slab)
            .sum()
    }

    fn bytes(self, random: &mut Rng) -> usize {
        let least = self.least << below(random, self.doublings);
        least + below(random, least)
    }
}

fn below(random: &mut Rng, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap_or(0)
}

/// A block, which holds its number wherever it may have a page.
#[derive(Debug)]
pub(crate) struct Block {
    place: usize,
    bytes: usize,
    seed: u8,
}

impl Block {
    fn new(random: &mut Rng, shift: Shift) -> Self {
        let bytes = shift.bytes(random);
        let place = if random.below(8) == 0 {
            malloc::calloc(1, bytes)
        } else {
            malloc::malloc(bytes)
        };
        Self::fill(place, bytes, random)
    }

    fn fill(place: *mut u8, bytes: usize, random: &mut Rng) -> Self {
        assert!(!place.is_null());
        let block = Self {
            place: place.expose_provenance(),
            bytes,
            seed: random.number().to_le_bytes()[0],
        };
        for at in block.places() {
            // SAFETY: within the block, which is this value's alone.
            unsafe { place.wrapping_add(at).write(block.seed) };
        }
        block
    }

    fn pointer(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.place)
    }

    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.bytes).step_by(PAGE).chain([self.bytes - 1])
    }

    fn check(&self, bytes: usize) {
        for at in self.places().filter(|&at| at < bytes) {
            // SAFETY: within the block, which is this value's alone.
            let found = unsafe { self.pointer().wrapping_add(at).read() };
            assert_eq!(found, self.seed, "at {at} of {self:?}");
        }
    }

    /// Looks whether it holds what it should, and frees it.
    pub(crate) fn free(self) {
        self.check(self.bytes);
        // SAFETY: the block is this value's alone, and this value is gone.
        unsafe { malloc::free(self.pointer()) };
    }

    fn resize(self, bytes: usize, random: &mut Rng) -> Self {
        self.check(self.bytes);
        // SAFETY: the block is of this value, which is not used as such again.
        let place = unsafe { malloc::realloc(self.pointer(), bytes) };
        let kept = self.bytes.min(bytes);
        let moved = Self {
            place: place.expose_provenance(),
            ..self
        };
        moved.check(kept);
        Self::fill(place, bytes, random)
    }

    /// What it counts for: with what is noted of it, in a vector that doubles.
    fn cost(&self) -> usize {
        self.bytes + 2 * size_of::<Self>()
    }
}

/// A thread's blocks.
#[derive(Debug)]
pub(crate) struct Worker {
    shift: Shift,
    random: Rng,
    blocks: Vec<Block>,
    cost: usize,
    taken: u64,
    most: usize,
}

/// What became of a worker.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) blocks: Vec<Block>,
    /// How many blocks it took.
    pub(crate) taken: u64,
    /// How many bytes it had at most.
    pub(crate) most_bytes: usize,
}

impl Worker {
    /// One that goes on with the blocks of another one.
    pub(crate) fn new(shift: Shift, seed: u64, blocks: Vec<Block>) -> Self {
        Self {
            shift,
            random: Rng::new(seed),
            cost: blocks.iter().map(Block::cost).sum(),
            blocks,
            taken: 0,
            most: 0,
        }
    }

    /// Works until `deadline`, with blocks that cost up to `budget`.
    pub(crate) fn work(
        mut self,
        budget: usize,
        deadline: Deadline,
        incoming: &Receiver<Block>,
        next: Sender<Block>,
    ) -> Done {
        while !deadline.expired() {
            for _ in 0..STEPS {
                self.step(budget, &next);
            }
            for block in incoming.try_iter() {
                self.put(block);
                self.free_down_to(budget);
            }
            // All at once, now and then: then slabs and runs go back as a whole.
            if self.random.below(1_000) == 0 {
                self.free_down_to(budget / 4);
            }
        }
        drop(next);
        for block in incoming {
            self.put(block);
            self.free_down_to(budget);
        }
        Done {
            blocks: self.blocks,
            taken: self.taken,
            most_bytes: self.most,
        }
    }

    fn put(&mut self, block: Block) {
        self.cost += block.cost();
        self.most = self.most.max(self.cost);
        self.blocks.push(block);
    }

    /// One of the blocks, whichever.
    fn pick(&mut self) -> Option<Block> {
        let count = self.blocks.len();
        let index = below(&mut self.random, count);
        let block = (count != 0).then(|| self.blocks.swap_remove(index))?;
        self.cost -= block.cost();
        Some(block)
    }

    fn free_down_to(&mut self, budget: usize) {
        while self.cost > budget
            && let Some(block) = self.pick()
        {
            block.free();
        }
    }

    fn step(&mut self, budget: usize, next: &Sender<Block>) {
        let what = self.random.below(100);
        if what < 55 {
            let block = Block::new(&mut self.random, self.shift);
            self.taken += 1;
            self.put(block);
            self.free_down_to(budget);
            return;
        }
        let Some(block) = self.pick() else { return };
        match what {
            55..60 => {
                let bytes = self.shift.bytes(&mut self.random);
                let block = block.resize(bytes, &mut self.random);
                self.put(block);
            }
            60..68 => {
                // The next one may be done: then the block comes back.
                if let Err(SendError(block)) = next.send(block) {
                    block.free();
                }
            }
            _ => block.free(),
        }
    }
}
