//! What `tierpool.h` declares beyond the malloc family.

use allocator::stats::Stats;
use core::ffi::{CStr, c_char, c_int};

use crate::large;

/// `struct tierpool_private_stats` of `tierpool.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct PrivateStats {
    used_bytes: usize,
    idle_bytes: usize,
    runs: usize,
    run_bytes: usize,
    slabs: usize,
    abandoned: usize,
    allocated: usize,
    pool_blocks: usize,
    pool_fallbacks: usize,
}

impl From<&Stats> for PrivateStats {
    fn from(stats: &Stats) -> Self {
        let (pool_blocks, pool_fallbacks) = large::counts();
        Self {
            used_bytes: stats.used_bytes,
            idle_bytes: stats.idle_bytes,
            runs: stats.runs,
            run_bytes: stats.run_bytes,
            slabs: stats.classes().map(|class| class.slabs).sum(),
            abandoned: stats.abandoned,
            allocated: stats.classes().map(|class| class.allocated).sum(),
            pool_blocks,
            pool_fallbacks,
        }
    }
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_private_stats(place: *mut u8, bytes: usize) -> c_int {
    if place.is_null() {
        return libc::EINVAL;
    }
    let stats = PrivateStats::from(&Stats::now());
    let bytes = bytes.min(size_of::<PrivateStats>());
    // SAFETY: the caller has room for so many bytes, and they are of whole numbers.
    unsafe {
        core::ptr::from_ref(&stats)
            .cast::<u8>()
            .copy_to(place, bytes)
    };
    0
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn tierpool_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
