//! Blocks of malloc that another heap gives: one that the library for C installs, where its user
//! asks for it.
//!
//! Only the faces of [`malloc`](crate::malloc) ask it. Rust's allocator, and so the code of the
//! other heap itself, has private blocks alone: asking never comes back here.
//!
//! # Invariants
//! 1. Nothing of this is on a fast path. Of small blocks no question is asked, and a block of the
//!    private heap is freed before one is.
//! 2. What is installed stays: it is read without a lock.
//! 3. A call leaves `errno` as it was, as what succeeds does.

use core::ptr;

use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::sync::atomic::{AtomicPtr, AtomicUsize};

use crate::size_class::SMALL_BYTES;
use crate::system;

/// Another heap, as functions. None of them panics.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere {
    /// A block of `bytes` at a multiple of `align`, of zeros where that is asked for.
    pub allocate: fn(bytes: usize, align: usize, is_zero: bool) -> Given,
    /// Frees the block at an address; `None` where none of this heap begins there.
    pub free: fn(address: usize) -> Option<Freed>,
    /// How many bytes the block at an address has; `None` where none of this heap begins there,
    /// and 0 where it did in the process that this one was forked from, which has it alone.
    pub usable_bytes: fn(address: usize) -> Option<usize>,
    /// Makes the block at an address have `bytes` where it is, and says whether it has.
    pub resize: fn(address: usize, bytes: usize) -> bool,
    /// Gives memory that nobody uses back, and says whether there was any.
    pub trim: fn() -> bool,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The block.
    Block(usize),
    /// The private heap is to give one.
    Private,
    /// There is to be none.
    Refused,
}

/// What became of a block that was freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// It is free now.
    Now,
    /// It was free already.
    Before,
}

static INSTALLED: AtomicPtr<Elsewhere> = AtomicPtr::new(ptr::null_mut());
/// The fewest bytes that are asked for there: more than any block has, where nothing is installed.
static LEAST: AtomicUsize = AtomicUsize::new(usize::MAX);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Has blocks of `least` to `most` bytes be of `heap` from now on. Smaller ones than 8 KiB never
/// are: those are given without a question.
pub fn install(heap: &'static Elsewhere, least: usize, most: usize) {
    INSTALLED.store(ptr::from_ref(heap).cast_mut(), Release);
    MOST.store(most, Relaxed);
    LEAST.store(least.max(SMALL_BYTES + 1), Relaxed);
}

/// What is installed. Acquire pairs with `install`.
fn installed() -> Option<&'static Elsewhere> {
    // SAFETY: null, or what was installed, which stays.
    unsafe { INSTALLED.load(Acquire).as_ref() }
}

/// Whether a block of `bytes` is to be asked for there.
#[inline(always)]
pub(crate) fn takes(bytes: usize) -> bool {
    bytes >= LEAST.load(Relaxed) && bytes <= MOST.load(Relaxed)
}

/// A block, if one is to be of there.
#[cold]
pub(crate) fn allocate(bytes: usize, align: usize, is_zero: bool) -> Given {
    match installed() {
        Some(heap) if takes(bytes) => system::quietly(|| (heap.allocate)(bytes, align, is_zero)),
        _ => Given::Private,
    }
}

/// Frees a block of there; `None` where none begins at `address`.
#[cold]
pub(crate) fn free(address: usize) -> Option<Freed> {
    installed().and_then(|heap| system::quietly(|| (heap.free)(address)))
}

/// How many bytes a block of there has; `None` where none begins at `address`.
pub(crate) fn usable_bytes(address: usize) -> Option<usize> {
    installed().and_then(|heap| system::quietly(|| (heap.usable_bytes)(address)))
}

/// Makes a block of there have `bytes` where it is, and says whether it has.
pub(crate) fn resize(address: usize, bytes: usize) -> bool {
    installed().is_some_and(|heap| system::quietly(|| (heap.resize)(address, bytes)))
}

/// Gives memory back there.
pub(crate) fn trim() -> bool {
    installed().is_some_and(|heap| system::quietly(heap.trim))
}
