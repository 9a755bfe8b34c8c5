//! The contents of a unit: a number, and a watch over who looks at it when.
//!
//! # Invariants
//! 1. The cell holds nothing, and no pointer to it is read or written through. It is here since a
//!    model checker reports each two accesses of a cell, one of them to write, that no ordering
//!    keeps apart; of an atomic it finds stale values only.

use pool_core::sync::UnsafeCell;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;

/// The contents.
pub(crate) struct Page {
    number: AtomicU64,
    watch: UnsafeCell<()>,
}

// SAFETY: invariant 1: what is in the cell is of no size, and never touched.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros.
    pub(crate) fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            watch: UnsafeCell::new(()),
        }
    }

    /// What is in it; nobody writes meanwhile.
    pub(crate) fn read(&self) -> u64 {
        self.watch.with(|_| self.number.load(Relaxed))
    }

    /// Writes it; nobody reads or writes meanwhile.
    pub(crate) fn write(&self, number: u64) {
        self.watch.with_mut(|_| self.number.store(number, Relaxed));
    }
}
