//! What tests do with the blocks of a pool heap, by their addresses.
//!
//! A test uses no block after it freed it, and frees none that others use: so each of these is
//! safe wherever the heap is right, and where it is not the test is to find out.

#![expect(unsafe_code, reason = "who frees a block promises that nobody uses it")]

use std::ptr::NonNull;

use allocator::pool::{Cell, HeapError, ThreadHeap};

use crate::pattern::word;

/// The block at `address`.
fn block(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(address)).expect("no block is at 0")
}

/// The cell that the first word of a block is.
#[must_use]
pub fn cell(address: usize) -> Cell {
    // SAFETY: see the module.
    unsafe { Cell::at(block(address).cast()) }
}

/// A pending block of `bytes`.
///
/// # Errors
/// As [`ThreadHeap::allocate`].
pub fn allocate(mine: &mut ThreadHeap, bytes: usize) -> Result<usize, HeapError> {
    Ok(mine.allocate(bytes)?.as_ptr().expose_provenance())
}

/// Publishes a block.
///
/// # Errors
/// As [`ThreadHeap::publish`].
pub fn publish(mine: &mut ThreadHeap, address: usize) -> Result<(), HeapError> {
    mine.publish(block(address))
}

/// Frees a block.
///
/// # Errors
/// As [`ThreadHeap::free`].
pub fn free(mine: &mut ThreadHeap, address: usize) -> Result<(), HeapError> {
    // SAFETY: see the module.
    unsafe { mine.free(block(address)) }
}

/// Links a block.
///
/// # Errors
/// As [`ThreadHeap::link`].
pub fn link(
    mine: &mut ThreadHeap,
    cell: Cell,
    expected: u64,
    address: usize,
) -> Result<(), HeapError> {
    mine.link(cell, expected, block(address))
}

/// Retires a block, in whose place the cell has `value` then.
///
/// # Errors
/// As [`ThreadHeap::retire`].
pub fn retire(
    mine: &mut ThreadHeap,
    cell: Cell,
    address: usize,
    value: u64,
) -> Result<(), HeapError> {
    // SAFETY: see the module.
    unsafe { mine.retire(cell, block(address), value) }
}

/// Has a block have room for `bytes` where it is.
///
/// # Errors
/// As [`ThreadHeap::resize`].
pub fn resize(mine: &mut ThreadHeap, address: usize, bytes: usize) -> Result<bool, HeapError> {
    // SAFETY: see the module.
    unsafe { mine.resize(block(address), bytes) }
}

/// The words of a block of `bytes`.
fn words(address: usize, bytes: usize) -> &'static [pool_core::sync::atomic::AtomicU64] {
    let first: *const pool_core::sync::atomic::AtomicU64 =
        std::ptr::with_exposed_provenance(address);
    // SAFETY: whoever asks has a block there of as many bytes, in memory that stays mapped for as
    // long as the process has its family; words of it are changed as atomics alone.
    unsafe { std::slice::from_raw_parts(first, bytes / 8) }
}

/// Writes into a block of at least `bytes`, from 16 on, what follows from its address and `seed`.
pub fn sign(address: usize, bytes: usize, seed: u64) {
    let (words, seed) = (words(address, bytes), seed ^ address as u64);
    for (word_of, index) in words.iter().zip(0..) {
        word_of.store(
            word(seed, index),
            pool_core::sync::atomic::Ordering::Relaxed,
        );
    }
}

/// Whether a block holds what [`sign`] wrote.
#[must_use]
pub fn is_signed(address: usize, bytes: usize, seed: u64) -> bool {
    let (words, seed) = (words(address, bytes), seed ^ address as u64);
    let is_right = |(found, index): (&pool_core::sync::atomic::AtomicU64, u64)| {
        found.load(pool_core::sync::atomic::Ordering::Relaxed) == word(seed, index)
    };
    words.iter().zip(0..).all(is_right)
}
