//! The calls of a heap about cells: words in which addresses of blocks are kept for others.
//!
//! # Safety
//! Every function asks of its caller what `tierpool.h` says, and that pointers are null or valid.

use core::ffi::{c_char, c_int};

use client_sdk::Cell;

use crate::code::{Failure, answer};
use crate::handle::HeapHandle;
use crate::input::{put, seen, text, there};

/// The cell at `place`: whether one is there, the heap says.
fn cell(place: *const u64) -> Result<Cell, Failure> {
    let place = there(place.cast_mut(), "the cell")?;
    // SAFETY: the header asks of the caller that the word is one of an allocated block, or a root.
    Ok(unsafe { Cell::at(place) })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_root(
    heap: *const HeapHandle,
    name: *const c_char,
    place: *mut *mut u64,
) -> c_int {
    answer(|| {
        let place = there(place, "the cell's place")?;
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?.heap()?;
        // SAFETY: see the module.
        let root = heap.root(unsafe { text(name, "the name") }?)?;
        // SAFETY: see the module.
        unsafe { put(place, root.place()) };
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_load(
    heap: *const HeapHandle,
    from: *const u64,
    place: *mut u64,
) -> c_int {
    answer(|| {
        let place = there(place, "the value's place")?;
        let from = cell(from)?;
        // SAFETY: see the module.
        let value = unsafe { seen(heap, "the heap") }?.heap()?.load(from)?;
        // SAFETY: see the module.
        unsafe { put(place, value) };
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_exchange(
    heap: *const HeapHandle,
    at: *mut u64,
    expected: u64,
    value: u64,
) -> c_int {
    answer(|| {
        let at = cell(at)?;
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?.heap()?;
        Ok(heap.exchange(at, expected, value)?)
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_link(
    heap: *const HeapHandle,
    into: *mut u64,
    expected: u64,
    block: *mut u8,
) -> c_int {
    answer(|| {
        let (into, block) = (cell(into)?, there(block, "the block")?);
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?;
        heap.with_thread(|mine| mine.link(into, expected, block))
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_retire(
    heap: *const HeapHandle,
    from: *mut u64,
    block: *mut u8,
    value: u64,
) -> c_int {
    answer(|| {
        let (from, block) = (cell(from)?, there(block, "the block")?);
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?;
        // SAFETY: the caller says that nobody uses the block.
        heap.with_thread(|mine| unsafe { mine.retire(from, block, value) })
    })
}
