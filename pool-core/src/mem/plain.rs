//! The types whose every bit pattern is a value, and which one instruction loads or stores.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A number that may be read from and written to mapped memory: no padding, no invalid values.
#[expect(
    private_bounds,
    reason = "sealed: what may be added here is for this module to judge"
)]
pub trait Plain: Copy + Default + core::fmt::Debug + Send + Sync + 'static + Word {}

pub(super) trait Word: Sized {
    /// One relaxed load.
    ///
    /// # Safety
    /// `from` is mapped and aligned to the size of `Self` (invariants 1 and 2).
    unsafe fn load(from: *mut u8) -> Self;

    /// One relaxed store.
    ///
    /// # Safety
    /// As for [`Word::load`], and mapped read-write.
    unsafe fn store(to: *mut u8, value: Self);
}

macro_rules! plain {
    ($($number:ty, $atomic:ty, $bits:ty, $from_bits:expr, $to_bits:expr;)*) => {$(
        const _: () = assert!(size_of::<$number>() == size_of::<$bits>());

        impl Plain for $number {}

        impl Word for $number {
            #[inline]
            unsafe fn load(from: *mut u8) -> Self {
                // SAFETY: the caller vouches for mapping and alignment; all accesses of this
                // process are atomic (of what size is said in the module), and a relaxed load is
                // defined on read-only memory (invariant 3).
                let word = unsafe { <$atomic>::from_ptr(from.cast::<$bits>()) };
                $from_bits(word.load(Relaxed))
            }

            #[inline]
            unsafe fn store(to: *mut u8, value: Self) {
                // SAFETY: as for `load`, and the caller vouches that it may be written.
                let word = unsafe { <$atomic>::from_ptr(to.cast::<$bits>()) };
                word.store($to_bits(value), Relaxed);
            }
        }
    )*};
}

plain! {
    u8, AtomicU8, u8, core::convert::identity, core::convert::identity;
    u16, AtomicU16, u16, core::convert::identity, core::convert::identity;
    u32, AtomicU32, u32, core::convert::identity, core::convert::identity;
    u64, AtomicU64, u64, core::convert::identity, core::convert::identity;
    i8, AtomicU8, u8, u8::cast_signed, i8::cast_unsigned;
    i16, AtomicU16, u16, u16::cast_signed, i16::cast_unsigned;
    i32, AtomicU32, u32, u32::cast_signed, i32::cast_unsigned;
    i64, AtomicU64, u64, u64::cast_signed, i64::cast_unsigned;
    f32, AtomicU32, u32, f32::from_bits, f32::to_bits;
    f64, AtomicU64, u64, f64::from_bits, f64::to_bits;
}
