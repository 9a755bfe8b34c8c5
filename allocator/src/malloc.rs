//! The private heap as C sees it: pointers, null where there is no memory, and `errno`.
//!
//! Each function is what POSIX or the C library says of the one with its name, and what it says
//! there about pointers is asked of the caller here.

use crate::elsewhere::{self, Given};
use crate::layout::PAGE_BYTES;
use crate::{private, system};

#[inline(always)]
fn answer(block: Option<usize>) -> *mut u8 {
    match block {
        Some(address) => core::ptr::with_exposed_provenance_mut(address),
        None => no_memory(),
    }
}

#[cold]
fn no_memory() -> *mut u8 {
    system::set_no_memory();
    core::ptr::null_mut()
}

/// A block of `bytes`; of none, one that is unlike all others.
#[inline(always)]
#[must_use]
pub fn malloc(bytes: usize) -> *mut u8 {
    match private::allocate_fast(bytes) {
        Some(address) => core::ptr::with_exposed_provenance_mut(address),
        None => malloc_slowly(bytes),
    }
}

#[cold]
#[inline(never)]
fn malloc_slowly(bytes: usize) -> *mut u8 {
    if elsewhere::takes(bytes) {
        return answer(allocate_large(bytes, private::ALIGN));
    }
    answer(private::allocate_slowly(bytes).map(|block| block.address))
}

/// A block of the heap that is to give those of so many bytes.
fn allocate_large(bytes: usize, align: usize) -> Option<usize> {
    match elsewhere::allocate(bytes, align, false) {
        Given::Block(address) => Some(address),
        Given::Private => private::allocate_aligned(bytes, align),
        Given::Refused => None,
    }
}

#[cold]
fn calloc_elsewhere(bytes: usize) -> Option<usize> {
    match elsewhere::allocate(bytes, private::ALIGN, true) {
        Given::Block(address) => Some(address),
        Given::Private => private::allocate_zeroed(bytes),
        Given::Refused => None,
    }
}

/// A block of `count * bytes` zeros.
#[inline(always)]
#[must_use]
pub fn calloc(count: usize, bytes: usize) -> *mut u8 {
    match count.checked_mul(bytes) {
        Some(all) if elsewhere::takes(all) => answer(calloc_elsewhere(all)),
        Some(all) => answer(private::allocate_zeroed(all)),
        None => no_memory(),
    }
}

/// Frees a block; nothing for null.
///
/// # Safety
/// Nobody uses the block any more.
#[inline(always)]
pub unsafe fn free(block: *mut u8) {
    // SAFETY: as the caller says.
    unsafe { private::free(block.expose_provenance()) };
}

/// Makes a block have `bytes`, here or elsewhere. No bytes free it, and the answer is null.
///
/// # Safety
/// Nobody else uses the block.
#[must_use]
pub unsafe fn realloc(block: *mut u8, bytes: usize) -> *mut u8 {
    if bytes == 0 && !block.is_null() {
        // SAFETY: as the caller says.
        unsafe { free(block) };
        return core::ptr::null_mut();
    }
    let address = block.expose_provenance();
    let there = elsewhere::usable_bytes(address);
    if there.is_some() || elsewhere::takes(bytes) {
        // SAFETY: as the caller says.
        return answer(unsafe { move_between(address, there, bytes) });
    }
    // SAFETY: as the caller says.
    answer(unsafe { private::reallocate(address, bytes) })
}

/// Makes a block have `bytes` where one of the two blocks is, or is to be, of the other heap.
/// `there` is how many bytes the old one has, if it is.
///
/// # Safety
/// As of [`realloc`].
#[cold]
unsafe fn move_between(address: usize, there: Option<usize>, bytes: usize) -> Option<usize> {
    // What it held is not in this process, which was forked from the one that has it.
    if there == Some(0) {
        return None;
    }
    let is_to_be_there = elsewhere::takes(bytes);
    if there.is_some() && is_to_be_there && elsewhere::resize(address, bytes) {
        return Some(address);
    }
    let new = match elsewhere::allocate(bytes, private::ALIGN, false) {
        Given::Block(new) => new,
        Given::Refused => return None,
        Given::Private if there.is_some() => private::allocate(bytes)?,
        // SAFETY: as the caller says.
        Given::Private => return unsafe { private::reallocate(address, bytes) },
    };
    let old = there.unwrap_or_else(|| private::usable_bytes(address));
    // SAFETY: the caller has the old block, and now the new one.
    unsafe { system::copy(address, new, old.min(bytes)) };
    // SAFETY: the caller gives the old block up.
    unsafe { private::free(address) };
    Some(new)
}

/// [`realloc`] to `count * bytes`.
///
/// # Safety
/// Nobody else uses the block.
#[must_use]
pub unsafe fn reallocarray(block: *mut u8, count: usize, bytes: usize) -> *mut u8 {
    match count.checked_mul(bytes) {
        // SAFETY: as the caller says.
        Some(all) => unsafe { realloc(block, all) },
        None => no_memory(),
    }
}

/// A block at a multiple of `align`, made a power of two if it is none.
#[must_use]
pub fn memalign(align: usize, bytes: usize) -> *mut u8 {
    match align.checked_next_power_of_two() {
        Some(align) => answer(allocate_large(bytes, align)),
        None => no_memory(),
    }
}

/// The same, without `errno`: null where there is no memory. `align` is a power of two.
#[must_use]
pub fn aligned(align: usize, bytes: usize) -> *mut u8 {
    let block = allocate_large(bytes, align).unwrap_or(0);
    core::ptr::with_exposed_provenance_mut(block)
}

/// A block of whole pages, at the start of one.
#[must_use]
pub fn pvalloc(bytes: usize) -> *mut u8 {
    match bytes.max(1).checked_next_multiple_of(PAGE_BYTES) {
        Some(bytes) => memalign(PAGE_BYTES, bytes),
        None => no_memory(),
    }
}

/// How many bytes of a block may be used; 0 of null.
///
/// # Safety
/// It is a block.
#[must_use]
pub unsafe fn usable_size(block: *mut u8) -> usize {
    private::usable_bytes(block.expose_provenance())
}

/// Gives memory that nobody uses back to the system. Whether there was any.
pub fn trim() -> bool {
    let is_other_smaller = elsewhere::trim();
    private::trim() || is_other_smaller
}
