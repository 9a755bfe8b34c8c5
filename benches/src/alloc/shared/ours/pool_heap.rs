//! Our heap, as one process has it.
//!
//! # Invariants
//! 1. An address that is written, read or freed is that of a block which this process took or which
//!    another handed to it, and nobody else has it: workloads see to that, and their tests check it
//!    ([`super::workloads`]). Each block has eight bytes at least.
//!
//! Reads and writes are volatile, as they are in the programs of the peers: none is left out.

#![expect(unsafe_code, reason = "blocks are reached through pointers")]

use std::ptr::{self, NonNull};

use anyhow::Context as _;
use client_sdk::{HeapOptions, Pool, PoolHeap, ThreadHeap};

use super::heap::SharedHeap;
use crate::daemon::TIER;

/// A thread's part of the heap.
#[derive(Debug)]
pub(super) struct OurHeap {
    thread: ThreadHeap,
    /// Kept for as long as its threads are.
    process: PoolHeap,
}

impl OurHeap {
    /// A new heap, which stays until it is removed. It has memory before another process
    /// comes: that the daemon gives some is measured elsewhere.
    pub(super) fn create(pool: &Pool, name: &str) -> anyhow::Result<Self> {
        let options = HeapOptions::new(name).tier(TIER);
        let mut heap = Self::of(pool.create_heap(&options)?)?;
        let first = heap.allocate(size_of::<u64>())?;
        heap.publish(first)?;
        heap.free(first)?;
        Ok(heap)
    }

    /// One that another process has made.
    pub(super) fn open(pool: &Pool, name: &str) -> anyhow::Result<Self> {
        Self::of(pool.open_heap(name)?)
    }

    fn of(process: PoolHeap) -> anyhow::Result<Self> {
        Ok(Self {
            thread: process.thread()?,
            process,
        })
    }
}

#[inline]
fn pointer(at: usize) -> anyhow::Result<NonNull<u8>> {
    NonNull::new(ptr::with_exposed_provenance_mut(at)).context("a block is at no address")
}

impl SharedHeap for OurHeap {
    #[inline]
    fn allocate(&mut self, bytes: usize) -> anyhow::Result<usize> {
        Ok(self.thread.allocate(bytes)?.as_ptr().expose_provenance())
    }

    #[inline]
    fn publish(&mut self, at: usize) -> anyhow::Result<()> {
        Ok(self.thread.publish(pointer(at)?)?)
    }

    #[inline]
    fn free(&mut self, at: usize) -> anyhow::Result<()> {
        let at = pointer(at)?;
        // SAFETY: this process has the block, and gives it up (invariant 1).
        Ok(unsafe { self.thread.free(at) }?)
    }

    #[inline]
    fn resolve(&self, at: usize) -> anyhow::Result<()> {
        Ok(self.process.resolve(pointer(at)?)?)
    }

    #[inline]
    fn write(&mut self, at: usize, word: u64) -> anyhow::Result<()> {
        let at = pointer(at)?.cast();
        // SAFETY: this process has the block, which has a word (invariant 1).
        unsafe { at.write_volatile(word) };
        Ok(())
    }

    #[inline]
    fn read(&self, at: usize) -> anyhow::Result<u64> {
        let at = pointer(at)?.cast();
        // SAFETY: as in `write`.
        Ok(unsafe { at.read_volatile() })
    }
}
