//! A member of a heap that does everything at random with objects, each of which is reached through
//! one root, and has been taken out of it before it is free.
//!
//! Objects are linked and retired alone, so that at any moment, once the dead are recovered, the
//! published blocks are exactly those that roots have. A root with an even number is one from which
//! one member alone retires, which so may look at what it finds there; from the others anybody
//! does.

use std::collections::BTreeSet;

use allocator::pool::{Cell, HeapError, PoolHeap, ThreadHeap};
use pool_core::Nanos;
use pool_core::clock::now;

use crate::blocks;
use crate::random::Random;

/// How many roots there are.
pub const ROOTS: usize = 24;
/// How many members retire.
const RETIRERS: usize = 3;
/// What of each object is written, at most.
const SIGNED: usize = 512;
const SEED: u64 = 7;
/// How many pending blocks it has at most.
const PENDING: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Rooted {
    heap: PoolHeap,
    mine: ThreadHeap,
    random: Random,
    roots: Vec<Cell>,
    /// Which of those that retire it is.
    which: usize,
    pending: Vec<usize>,
    /// The longest that one step took.
    pub longest: Nanos,
}

impl Rooted {
    /// The `which`th one, from 0 to 2.
    #[must_use]
    pub fn new(heap: &PoolHeap, which: usize, seed: u64) -> Self {
        let root = |index| heap.root(&format!("root {index}")).expect("there is room");
        Self {
            mine: heap.thread().expect("there is room"),
            roots: (0..ROOTS).map(root).collect(),
            heap: heap.clone(),
            random: Random::new(seed),
            which,
            pending: Vec::new(),
            longest: Nanos::ZERO,
        }
    }

    /// Does something.
    ///
    /// # Errors
    /// What the heap should not have said.
    pub fn step(&mut self) -> Result<(), HeapError> {
        let begun = now();
        let index = usize::try_from(self.random.below(ROOTS as u64)).expect("a small number");
        let cell = self.roots[index];
        match self.random.below(64) {
            0 => self.mine.rest()?,
            1 if self.pending.is_empty() => self.mine = self.heap.thread()?,
            2 => drop(self.heap.recover()?),
            3 => drop(self.heap.trim()?),
            4..8 => drop(self.heap.exchange(cell, 2, 4)),
            8..24 => self.keep()?,
            _ => match usize::try_from(self.heap.load(cell)?).expect("an address") {
                0 => self.link(cell)?,
                block => self.retire(index, block)?,
            },
        }
        self.longest = self.longest.max(now().saturating_since(begun));
        Ok(())
    }

    fn allocate(&mut self) -> Result<usize, HeapError> {
        let most = *self
            .random
            .one_of(&[&64, &64, &1_000, &9_000, &100_000, &700_000]);
        let bytes = usize::try_from(self.random.below(most)).expect("a small number");
        blocks::allocate(&mut self.mine, bytes)
    }

    /// Takes or frees a block that nobody else knows of.
    fn keep(&mut self) -> Result<(), HeapError> {
        let count = self.pending.len() as u64;
        if self.pending.len() < PENDING && (count == 0 || self.random.once_in(2)) {
            let block = self.allocate()?;
            self.pending.push(block);
            return Ok(());
        }
        let at = usize::try_from(self.random.below(count)).expect("a small number");
        let block = self.pending.swap_remove(at);
        blocks::free(&mut self.mine, block)
    }

    fn link(&mut self, cell: Cell) -> Result<(), HeapError> {
        let block = self.allocate()?;
        blocks::sign(block, signed(&self.heap, block)?, SEED);
        match blocks::link(&mut self.mine, cell, 0, block) {
            Err(HeapError::Changed { .. }) => blocks::free(&mut self.mine, block),
            linked => linked,
        }
    }

    fn retire(&mut self, index: usize, block: usize) -> Result<(), HeapError> {
        let is_shared = !index.is_multiple_of(2);
        if !is_shared && index / 2 % RETIRERS != self.which {
            return Ok(());
        }
        if !is_shared {
            check(&self.heap, block)?;
        }
        match blocks::retire(&mut self.mine, self.roots[index], block, 0) {
            // Another one was faster, and it is free or something else by now.
            Err(
                HeapError::Changed { .. }
                | HeapError::NoBlock { .. }
                | HeapError::DoubleFree { .. },
            ) if is_shared => Ok(()),
            retired => retired,
        }
    }

    /// Frees what nobody else knows of, and keeps nothing ready.
    ///
    /// # Errors
    /// What the heap should not have said.
    pub fn rest(&mut self) -> Result<(), HeapError> {
        for block in std::mem::take(&mut self.pending) {
            blocks::free(&mut self.mine, block)?;
        }
        self.mine.rest()
    }

    /// What the roots have, once all of it was looked at.
    ///
    /// # Errors
    /// What the heap should not have said.
    pub fn reached(&self) -> Result<BTreeSet<usize>, HeapError> {
        let mut reached = BTreeSet::new();
        for &cell in &self.roots {
            let block = usize::try_from(self.heap.load(cell)?).expect("an address");
            if block != 0 {
                check(&self.heap, block)?;
                assert!(reached.insert(block), "two roots have {block:#x}");
            }
        }
        Ok(reached)
    }

    /// Retires everything.
    ///
    /// # Errors
    /// What the heap should not have said.
    pub fn clear(&mut self) -> Result<(), HeapError> {
        for cell in self.roots.clone() {
            let block = usize::try_from(self.heap.load(cell)?).expect("an address");
            if block != 0 {
                blocks::retire(&mut self.mine, cell, block, 0)?;
            }
        }
        self.mine.rest()
    }
}

/// How many bytes of a block are written.
fn signed(heap: &PoolHeap, block: usize) -> Result<usize, HeapError> {
    let place = std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(block));
    Ok(heap
        .usable_bytes(place.expect("no block is at 0"))?
        .min(SIGNED))
}

fn check(heap: &PoolHeap, block: usize) -> Result<(), HeapError> {
    let bytes = signed(heap, block)?;
    assert!(
        blocks::is_signed(block, bytes, SEED),
        "{block:#x} is another's as well"
    );
    Ok(())
}
