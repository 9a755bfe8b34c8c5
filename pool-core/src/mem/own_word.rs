//! A word of private memory that a forked child reads as zero.
//!
//! A child does not inherit pool mappings, but it does inherit the values that lead to them. A
//! value that checks a word of this kind before it goes on finds out that it is a copy in another
//! process for the price of a load, with no system call and no fork handler.

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;

use super::MapError;
use super::sys::{self, Span};
use crate::addr::PoolAddr;
use crate::fault::{self, Call};
use crate::sync::atomic::AtomicU64;
use crate::units::{Bytes, PAGE_BYTES};

/// A 64-bit word on a page of its own, zero at first and in every forked child.
pub struct OwnWord {
    map: MmapRaw,
}

impl OwnWord {
    /// Makes a word.
    ///
    /// # Errors
    /// [`MapError::Os`].
    pub fn new() -> Result<Self, MapError> {
        let refused = |errno| {
            let (call, at, len) = ("mmap", PoolAddr::new(0), Bytes::new(PAGE_BYTES));
            MapError::Os {
                call,
                at,
                len,
                errno,
            }
        };
        fault::syscall(Call::Mmap).map_err(refused)?;
        let map = MmapOptions::new()
            .len(WORD_BYTES)
            .map_anon()
            .map_err(|error| {
                refused(error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw))
            })?;
        let map = MmapRaw::from(map);
        let start = NonNull::new(map.as_mut_ptr()).ok_or_else(|| refused(Errno::EFAULT))?;
        sys::wipe_on_fork(Span::new(start, WORD_BYTES))?;
        Ok(Self { map })
    }
}

/// The page is the kernel's to round up to.
const WORD_BYTES: usize = size_of::<u64>();

impl Deref for OwnWord {
    type Target = AtomicU64;

    #[inline]
    fn deref(&self) -> &AtomicU64 {
        // SAFETY: the first word of a page that is ours alone for as long as `self` lives, in a
        // forked child too, and that is only accessed atomically.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>()) }
    }
}

impl fmt::Debug for OwnWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OwnWord({:#x})",
            self.load(crate::sync::atomic::Ordering::Relaxed)
        )
    }
}
