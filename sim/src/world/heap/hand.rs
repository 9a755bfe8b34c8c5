//! What a simulated process has of the heap of its host.

use std::ptr::NonNull;

use allocator::pool::{Audit, BlockInfo, Cell, HeapError, PoolHeap, ThreadHeap};
use coherence::Slot;
use pool_core::SegmentId;
use pool_core::sync::{Arc, Mutex, lock};

use super::book::Book;
use super::memory::{Memory, Standing, free, resize, retire};

/// Threads of one process that may have the heap.
pub(crate) const THREADS: usize = 2;
/// Roots that the heap has.
pub(crate) const ROOTS: usize = 4;

/// Who has the heap: a slot of its domain, and in which era.
pub(crate) type Member = (Slot, u64);

/// See the module. Where it is dropped its process has died.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) domain: SegmentId,
    pub(crate) member: Member,
    /// Which of the control areas is that of its heap.
    pub(crate) control: usize,
    pid: u32,
    book: Arc<Mutex<Book>>,
    memory: Arc<Memory>,
    /// None once it has left in good order.
    heap: Option<PoolHeap>,
    threads: [Option<ThreadHeap>; THREADS],
}

impl Hand {
    /// Sets the heap up, or opens the one that there is.
    pub(crate) fn new(standing: Standing, is_new: bool) -> Result<Self, HeapError> {
        let (domain, pid) = (standing.domain, standing.pid);
        let (member, control) = ((standing.slot, standing.era), standing.control);
        let (book, memory) = (Arc::clone(&standing.book), Arc::clone(&standing.memory));
        let ground = Box::new(standing);
        let heap = if is_new {
            PoolHeap::create(ground, &[("hbm", 1)])?
        } else {
            PoolHeap::open(ground)?
        };
        Ok(Self {
            domain,
            member,
            control,
            pid,
            book,
            memory,
            heap: Some(heap),
            threads: [const { None }; THREADS],
        })
    }

    fn heap(&self) -> Result<&PoolHeap, HeapError> {
        self.heap.as_ref().ok_or(HeapError::Ended)
    }

    fn thread(&mut self, thread: usize) -> Result<&mut ThreadHeap, HeapError> {
        let place = &mut self.threads[thread % THREADS];
        match place {
            Some(thread) => Ok(thread),
            None => {
                let heap = self.heap.as_ref().ok_or(HeapError::Ended)?;
                Ok(place.insert(heap.thread()?))
            }
        }
    }

    fn block(&self, offset: usize) -> Result<NonNull<u8>, HeapError> {
        self.memory
            .block(offset)
            .ok_or(HeapError::NoBlock { address: offset })
    }

    /// A pending block: how far from the base it is.
    pub(crate) fn allocate(&mut self, thread: usize, bytes: usize) -> Result<usize, HeapError> {
        let block = self.thread(thread)?.allocate(bytes)?;
        Ok(self.memory.offset(block))
    }

    pub(crate) fn publish(&mut self, thread: usize, offset: usize) -> Result<(), HeapError> {
        let block = self.block(offset)?;
        self.thread(thread)?.publish(block)
    }

    pub(crate) fn free(&mut self, thread: usize, offset: usize) -> Result<(), HeapError> {
        let block = self.block(offset)?;
        free(self.thread(thread)?, block)
    }

    pub(crate) fn resize(
        &mut self,
        thread: usize,
        offset: usize,
        bytes: usize,
    ) -> Result<bool, HeapError> {
        let block = self.block(offset)?;
        resize(self.thread(thread)?, block, bytes)
    }

    fn root(&self, root: usize) -> Result<Cell, HeapError> {
        self.heap()?.root(["a", "b", "c", "d"][root % ROOTS])
    }

    /// The block that a root has.
    pub(crate) fn load(&self, root: usize) -> Result<Option<usize>, HeapError> {
        let value = self.heap()?.load(self.root(root)?)?;
        Ok(self.memory.offset_of_value(value))
    }

    /// Has a root that has `old` have a pending block.
    pub(crate) fn link(
        &mut self,
        thread: usize,
        root: usize,
        old: Option<usize>,
        offset: usize,
    ) -> Result<(), HeapError> {
        let (cell, block) = (self.root(root)?, self.block(offset)?);
        let old = old.map_or(0, |offset| self.memory.value(offset));
        self.thread(thread)?.link(cell, old, block)
    }

    /// Takes a block out of a root and frees it.
    pub(crate) fn retire(
        &mut self,
        thread: usize,
        root: usize,
        offset: usize,
    ) -> Result<(), HeapError> {
        let (cell, block) = (self.root(root)?, self.block(offset)?);
        retire(self.thread(thread)?, cell, block, 0)
    }

    /// Has a root that has a block have none; the block stays.
    pub(crate) fn unlink(&self, root: usize, offset: usize) -> Result<(), HeapError> {
        let cell = self.root(root)?;
        self.heap()?.exchange(cell, self.memory.value(offset), 0)
    }

    /// Its threads keep nothing ready.
    pub(crate) fn rest(&mut self) -> Result<(), HeapError> {
        let mut threads = self.threads.iter_mut().flatten();
        threads.try_for_each(ThreadHeap::rest)
    }

    /// A thread goes.
    pub(crate) fn end_thread(&mut self, thread: usize) {
        self.threads[thread % THREADS] = None;
    }

    pub(crate) fn recover(&self) -> Result<usize, HeapError> {
        self.heap()?.recover()
    }

    pub(crate) fn trim(&self) -> Result<usize, HeapError> {
        self.heap()?.trim()
    }

    pub(crate) fn end_heap(&self) -> Result<(), HeapError> {
        self.heap()?.end()
    }

    pub(crate) fn audit(&self) -> Result<Audit, HeapError> {
        self.heap()?.audit()
    }

    /// All blocks, by where they are, and whether each is pending.
    pub(crate) fn blocks(&self) -> Result<Vec<(usize, BlockInfo)>, HeapError> {
        let base = self.memory.control(0);
        let blocks = self.heap()?.blocks()?.into_iter();
        let told = blocks.map(|block| (block.address.wrapping_sub(base), block));
        Ok(told.collect())
    }

    pub(crate) fn sign(&self, offset: usize, bytes: usize, seed: u64) {
        self.memory.sign(offset, bytes, seed);
    }

    pub(crate) fn is_signed(&self, offset: usize, bytes: usize, seed: u64) -> bool {
        self.memory.is_signed(offset, bytes, seed)
    }

    /// It ends in good order: what is pending is free.
    pub(crate) fn leave(&mut self) {
        for thread in 0..THREADS {
            self.end_thread(thread);
        }
        self.heap = None;
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        #[cfg(feature = "fault")]
        self.heap.iter().for_each(PoolHeap::die);
        lock(&self.book).forget(self.pid);
    }
}
