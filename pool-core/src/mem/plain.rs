//! The types whose every bit pattern is a value, and which one instruction loads or stores.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A number that may be read from and written to mapped memory: no padding, no invalid values.
#[expect(
    private_bounds,
    reason = "sealed: what may be added here is for this module to judge"
)]
pub trait Plain: Copy + Default + core::fmt::Debug + Send + Sync + 'static + Word {
    /// Its bytes in the order of memory, and zeros.
    fn to_memory(self) -> [u8; 8];

    /// Tells the type from the others, in memory that other programs read: never changed, never
    /// given to another type.
    const KIND: u8;

    /// The number whose bytes are the first of `bytes`.
    fn from_memory(bytes: [u8; 8]) -> Self;
}

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
    ($($kind:literal: $number:ty, $atomic:ty, $bits:ty, $from_bits:expr, $to_bits:expr;)*) => {$(
        const _: () = assert!(size_of::<$number>() == size_of::<$bits>());

        impl Plain for $number {
            const KIND: u8 = $kind;

            fn to_memory(self) -> [u8; 8] {
                u64::from($to_bits(self)).to_le_bytes()
            }

            fn from_memory(bytes: [u8; 8]) -> Self {
                let mut own = [0; size_of::<$bits>()];
                own.copy_from_slice(&bytes[..size_of::<$bits>()]);
                $from_bits(<$bits>::from_le_bytes(own))
            }
        }

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
    1: u8, AtomicU8, u8, core::convert::identity, core::convert::identity;
    2: u16, AtomicU16, u16, core::convert::identity, core::convert::identity;
    3: u32, AtomicU32, u32, core::convert::identity, core::convert::identity;
    4: u64, AtomicU64, u64, core::convert::identity, core::convert::identity;
    5: i8, AtomicU8, u8, u8::cast_signed, i8::cast_unsigned;
    6: i16, AtomicU16, u16, u16::cast_signed, i16::cast_unsigned;
    7: i32, AtomicU32, u32, u32::cast_signed, i32::cast_unsigned;
    8: i64, AtomicU64, u64, u64::cast_signed, i64::cast_unsigned;
    9: f32, AtomicU32, u32, f32::from_bits, f32::to_bits;
    10: f64, AtomicU64, u64, f64::from_bits, f64::to_bits;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_what_its_bytes_are() {
        assert_eq!(0x1234_u16.to_memory(), [0x34, 0x12, 0, 0, 0, 0, 0, 0]);
        assert_eq!((-2_i8).to_memory(), [0xfe, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(i8::from_memory([0xfe, 1, 1, 1, 1, 1, 1, 1]), -2);
        assert_eq!(f32::from_memory(1.5_f32.to_memory()), 1.5);
        assert_eq!(u64::from_memory(u64::MAX.to_memory()), u64::MAX);
    }
}
