//! The malloc family of C, POSIX and glibc.
//!
//! # Safety
//! Every function asks of its caller what the manual page of its name asks.

use allocator::malloc as heap;

/// See malloc(3).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn malloc(bytes: usize) -> *mut u8 {
    heap::malloc(bytes)
}

/// See calloc(3).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn calloc(count: usize, bytes: usize) -> *mut u8 {
    heap::calloc(count, bytes)
}

/// See free(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free(block: *mut u8) {
    // SAFETY: see the module.
    unsafe { heap::free(block) };
}

/// See free(3): the old name of it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cfree(block: *mut u8) {
    // SAFETY: see the module.
    unsafe { heap::free(block) };
}

/// `free` of C23, which is told how many bytes were asked for.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free_sized(block: *mut u8, _bytes: usize) {
    // SAFETY: see the module.
    unsafe { heap::free(block) };
}

/// `free` of C23, which is told what was asked for.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free_aligned_sized(block: *mut u8, _align: usize, _bytes: usize) {
    // SAFETY: see the module.
    unsafe { heap::free(block) };
}

/// See realloc(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn realloc(block: *mut u8, bytes: usize) -> *mut u8 {
    // SAFETY: see the module.
    unsafe { heap::realloc(block, bytes) }
}

/// See reallocarray(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn reallocarray(
    block: *mut u8,
    count: usize,
    bytes: usize,
) -> *mut u8 {
    // SAFETY: see the module.
    unsafe { heap::reallocarray(block, count, bytes) }
}

/// See posix_memalign(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_memalign(
    place: *mut *mut u8,
    align: usize,
    bytes: usize,
) -> libc::c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut u8>()) {
        return libc::EINVAL;
    }
    let block = heap::aligned(align, bytes);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's place for the answer.
    unsafe { place.write(block) };
    0
}

/// See aligned_alloc(3).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn aligned_alloc(align: usize, bytes: usize) -> *mut u8 {
    heap::memalign(align, bytes)
}

/// See memalign(3).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn memalign(align: usize, bytes: usize) -> *mut u8 {
    heap::memalign(align, bytes)
}

/// See valloc(3).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn valloc(bytes: usize) -> *mut u8 {
    heap::memalign(4_096, bytes)
}

/// See pvalloc(3).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pvalloc(bytes: usize) -> *mut u8 {
    heap::pvalloc(bytes)
}

/// See malloc_usable_size(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc_usable_size(block: *mut u8) -> usize {
    // SAFETY: see the module.
    unsafe { heap::usable_size(block) }
}

/// See malloc_trim(3).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn malloc_trim(_pad: usize) -> libc::c_int {
    libc::c_int::from(heap::trim())
}
