//! Size classes: which block a request of some bytes gets.
//!
//! Steps of 16 bytes to 128, then eight classes for each doubling, up to 512 KiB. So a block is
//! at most an eighth larger than what was asked for, from 128 bytes on, and at most 15 bytes
//! larger below.
//!
//! # Layout
//! Class 0 is none. Classes 1 to [`SMALL`] have blocks of up to 8 KiB and slabs of one frame, of 8
//! to 4,096 blocks; the others have slabs of as many frames as 8 blocks take, so of fewer than 16.
//!
//! # Invariants
//! 1. `block_bytes` rises with the class, and is a multiple of 16.
//! 2. `block_bytes(of(size)) >= size`, and the class before is too small.

use crate::layout::FRAME_BYTES;

/// The smallest block, and what every block is aligned to.
pub(crate) const MIN_BLOCK: usize = 16;
/// The largest block of a slab of one frame.
pub(crate) const SMALL_BYTES: usize = 8 << 10;
/// The largest block of any slab.
pub(crate) const SLAB_BYTES: usize = 512 << 10;

/// Up to here the classes are 16 bytes apart.
const LINEAR_BYTES: usize = 128;
const LINEAR: usize = LINEAR_BYTES / MIN_BLOCK;
/// log2 of [`LINEAR_BYTES`].
const LINEAR_SHIFT: usize = 7;
/// Classes in each doubling, and log2 of it.
const STEPS: usize = 8;
const STEPS_SHIFT: usize = 3;

/// The number of classes, the one that is none included.
pub(crate) const CLASSES: usize = of(SLAB_BYTES) + 1;
/// The last class of slabs of one frame.
pub(crate) const SMALL: usize = of(SMALL_BYTES);

/// The class for `size` bytes, which are at most [`SLAB_BYTES`].
pub(crate) const fn of(size: usize) -> usize {
    if size <= LINEAR_BYTES {
        let class = size.wrapping_add(MIN_BLOCK - 1) / MIN_BLOCK;
        return if class == 0 { 1 } else { class };
    }
    let last = size.wrapping_sub(1);
    let doubling = (last.ilog2() as usize).wrapping_sub(LINEAR_SHIFT);
    let step = (last >> doubling.wrapping_add(LINEAR_SHIFT - STEPS_SHIFT)) & (STEPS - 1);
    (LINEAR + 1)
        .wrapping_add(doubling.wrapping_mul(STEPS))
        .wrapping_add(step)
}

/// The same for at most [`SMALL_BYTES`], by one look into a table.
#[inline(always)]
pub(crate) fn of_small(size: usize) -> usize {
    usize::from(TABLE[size.wrapping_add(MIN_BLOCK - 1) / MIN_BLOCK])
}

const ENTRIES: usize = SMALL_BYTES / MIN_BLOCK + 1;
static TABLE: [u8; ENTRIES] = {
    let mut table = [0; ENTRIES];
    let mut entry = 0;
    while entry < ENTRIES {
        table[entry] = low_byte(of(entry * MIN_BLOCK));
        entry += 1;
    }
    table
};

#[expect(
    clippy::cast_possible_truncation,
    reason = "small classes are below 256"
)]
const fn low_byte(class: usize) -> u8 {
    assert!(class < 256);
    class as u8
}

/// How large the blocks of `class` are.
pub(crate) const fn block_bytes(class: usize) -> usize {
    if class <= LINEAR {
        return class * MIN_BLOCK;
    }
    let (doubling, step) = ((class - LINEAR - 1) / STEPS, (class - LINEAR - 1) % STEPS);
    (LINEAR_BYTES << doubling) + ((step + 1) << (doubling + LINEAR_SHIFT - STEPS_SHIFT))
}

/// How many blocks a slab has at least.
const FEWEST_BLOCKS: usize = 8;

/// How many frames a slab of `class` has: one, or what the fewest blocks take. A larger slab would
/// be memory that a few blocks hold.
pub(crate) const fn slab_frames(class: usize) -> usize {
    if class <= SMALL {
        1
    } else {
        (FEWEST_BLOCKS * block_bytes(class)).div_ceil(FRAME_BYTES)
    }
}

/// How many blocks a slab of `class` has.
pub(crate) const fn slab_blocks(class: usize) -> usize {
    slab_frames(class) * FRAME_BYTES / block_bytes(class)
}

/// What an offset into a slab of one frame is multiplied with by [`block_at`].
pub(crate) const fn reciprocal(class: usize) -> u32 {
    let bytes = block_bytes(class) as u64;
    let up = (1_u64 << 32).div_ceil(bytes);
    #[expect(clippy::cast_possible_truncation, reason = "2^32 / 16 and less")]
    {
        up as u32
    }
}

/// Which block of a slab of one frame begins at `offset`, if one does, by the [`reciprocal`] of its
/// class.
///
/// In units of 2^-32 blocks the product is the offset, and too large by less than 2^16, for the
/// reciprocal is rounded up and an offset is below 2^16. So at a multiple of the size its low half
/// is below 2^16; at any other place it is at least the reciprocal, which stands for one byte and
/// is more than that, and it does not reach the next whole number.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is the half that is meant"
)]
pub(crate) fn block_at(offset: usize, reciprocal: u32) -> Option<usize> {
    let product = (offset as u64).wrapping_mul(u64::from(reciprocal));
    ((product as u32) < reciprocal).then_some((product >> 32) as usize)
}

/// The class whose blocks have `size` bytes or more and lie at multiples of `align` in a slab, if
/// there is one. `align` is a power of two, and no more than a frame.
pub(crate) fn aligned(size: usize, align: usize) -> Option<usize> {
    let size = size.max(1).checked_next_multiple_of(align)?;
    if size > SLAB_BYTES {
        return None;
    }
    (of(size)..CLASSES).find(|&class| block_bytes(class).is_multiple_of(align))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_gets_the_smallest_class_that_holds_it() {
        for size in 0..=SLAB_BYTES {
            let class = of(size);
            assert!(block_bytes(class) >= size, "{size}");
            assert!(class == 1 || block_bytes(class - 1) < size, "{size}");
            if size <= SMALL_BYTES {
                assert_eq!(of_small(size), class, "{size}");
            }
        }
    }

    #[test]
    fn a_block_wastes_an_eighth_at_most() {
        for size in LINEAR_BYTES..=SLAB_BYTES {
            assert!((block_bytes(of(size)) - size) * 8 <= size, "{size}");
        }
    }

    #[test]
    fn a_slab_has_eight_blocks_at_least_and_a_word_for_each_64() {
        for class in 1..CLASSES {
            assert!(slab_blocks(class) >= 8, "{class}");
            assert!(slab_blocks(class) <= 64 * 64, "{class}");
            assert!(class <= SMALL || slab_blocks(class) < 16, "{class}");
        }
    }

    #[test]
    fn a_block_begins_at_multiples_of_its_size_and_nowhere_else() {
        for class in 1..=SMALL {
            let bytes = block_bytes(class);
            for offset in 0..FRAME_BYTES {
                let expected = offset.is_multiple_of(bytes).then_some(offset / bytes);
                let found = block_at(offset, reciprocal(class));
                assert_eq!(found, expected, "{class} {offset}");
            }
        }
        assert_eq!(block_at(64, 0), None);
    }

    #[test]
    fn an_aligned_class_holds_the_size_at_multiples_of_the_alignment() {
        for shift in 0..=16 {
            let align = 1 << shift;
            for size in (0..SLAB_BYTES).step_by(61) {
                if let Some(class) = aligned(size, align) {
                    assert!(block_bytes(class) >= size);
                    assert!(block_bytes(class).is_multiple_of(align));
                }
            }
            assert!(aligned(align, align).is_some());
        }
    }
}
