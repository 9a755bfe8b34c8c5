//! Bitmaps of what is taken, in which several threads find and reserve without a lock.
//!
//! A set bit is taken. [`reserve`] sets bits word by word and takes its own back where one was
//! set already: for a moment others may find something taken that is not, never the reverse.

use core::ops::Range;

use pool_core::planted;
use pool_core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

const WORD: usize = 64;

/// The bits of `range` that are in word `index`.
fn mask(range: &Range<usize>, index: usize) -> u64 {
    let first = range.start.saturating_sub(index * WORD).min(WORD);
    let end = range.end.saturating_sub(index * WORD).min(WORD);
    below(end) & !below(first)
}

/// The `count` lowest bits.
pub(crate) fn below(count: usize) -> u64 {
    if count >= WORD {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

fn words(range: &Range<usize>) -> Range<usize> {
    range.start / WORD..range.end.div_ceil(WORD)
}

/// The lowest free bit that is also set in `among`.
pub(crate) fn find_one(taken: &[AtomicU64], among: impl Fn(usize) -> u64) -> Option<usize> {
    (0..taken.len()).find_map(|index| {
        let free = !taken[index].load(Relaxed) & among(index);
        (free != 0).then(|| index * WORD + free.trailing_zeros() as usize)
    })
}

/// The lowest place of `count` free bits, at a multiple of `align` bits, from bit `from` on.
pub(crate) fn find(taken: &[AtomicU64], count: usize, align: usize, from: usize) -> Option<usize> {
    let end = taken.len() * WORD;
    let mut start = from.next_multiple_of(align);
    while start + count <= end {
        match last_taken(taken, &(start..start + count)) {
            None => return Some(start),
            Some(last) => start = first_free(taken, last + 1)?.next_multiple_of(align),
        }
    }
    None
}

/// The lowest bit that is free, from bit `from` on.
fn first_free(taken: &[AtomicU64], from: usize) -> Option<usize> {
    (from / WORD..taken.len()).find_map(|index| {
        let before = below(from.saturating_sub(index * WORD));
        let free = !taken[index].load(Relaxed) & !before;
        (free != 0).then(|| index * WORD + free.trailing_zeros() as usize)
    })
}

/// The highest bit of `range` that is taken.
fn last_taken(taken: &[AtomicU64], range: &Range<usize>) -> Option<usize> {
    words(range).rev().find_map(|index| {
        let set = taken[index].load(Relaxed) & mask(range, index);
        (set != 0).then(|| index * WORD + WORD - 1 - set.leading_zeros() as usize)
    })
}

/// Takes all bits of `range`, or none.
///
/// Acquire pairs with [`clear`]: whoever takes what another let go sees what that one did before.
#[must_use]
pub(crate) fn reserve(taken: &[AtomicU64], range: &Range<usize>) -> bool {
    for index in words(range) {
        let mask = mask(range, index);
        let before = taken[index].fetch_or(mask, AcqRel);
        if before & mask != 0 {
            let own = if planted!("bits.clears_what_others_have") {
                mask
            } else {
                mask & !before
            };
            taken[index].fetch_and(!own, Release);
            let done = range.start..(index * WORD).max(range.start);
            if !planted!("bits.keeps_what_it_gives_up") {
                clear(taken, &done);
            }
            return false;
        }
    }
    true
}

/// Whether a bit is set.
pub(crate) fn has(bits: &[AtomicU64], index: usize) -> bool {
    bits[index / WORD].load(Relaxed) >> (index % WORD) & 1 != 0
}

/// Sets the bits of `range`.
pub(crate) fn set(bits: &[AtomicU64], range: &Range<usize>) {
    for index in words(range) {
        bits[index].fetch_or(mask(range, index), AcqRel);
    }
}

/// Clears the bits of `range`.
pub(crate) fn clear(bits: &[AtomicU64], range: &Range<usize>) {
    for index in words(range) {
        bits[index].fetch_and(!mask(range, index), Release);
    }
}

/// The indices of the bits that are set, from the lowest.
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

/// How many bits of `range` are set.
pub(crate) fn count(bits: &[AtomicU64], range: &Range<usize>) -> usize {
    words(range)
        .map(|index| (bits[index].load(Acquire) & mask(range, index)).count_ones() as usize)
        .sum()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pool_core::rng::Rng;

    use super::*;

    fn bitmap(words: &[u64]) -> Vec<AtomicU64> {
        words.iter().map(|&word| AtomicU64::new(word)).collect()
    }

    fn values(bits: &[AtomicU64]) -> Vec<u64> {
        bits.iter().map(|word| word.load(Relaxed)).collect()
    }

    #[test]
    fn a_place_is_found_at_its_alignment_and_across_words() {
        let taken = bitmap(&[!0 >> 4, 0xf0, 0]);
        assert_eq!(find(&taken, 4, 1, 0), Some(60));
        assert_eq!(find(&taken, 8, 1, 0), Some(60));
        assert_eq!(find(&taken, 8, 8, 0), Some(72));
        assert_eq!(find(&taken, 64, 64, 0), Some(128));
        assert_eq!(find(&taken, 121, 1, 0), None);
        assert_eq!(find(&taken, 120, 1, 0), Some(72));
        assert_eq!(find(&taken, 4, 1, 61), Some(61));
        assert_eq!(find(&taken, 8, 1, 61), Some(72));
    }

    /// A word as bitmaps have them: free, taken, or with few, many or half of its bits taken.
    fn drawn(rng: &mut Rng) -> u64 {
        let (one, other) = (rng.number(), rng.number());
        match rng.below(6) {
            0 => 0,
            1 => !0,
            2 => one & other & rng.number() & rng.number(),
            3 => one | other | rng.number(),
            4 => !0 << (one % 64),
            _ => !0 >> (one % 64),
        }
    }

    #[test]
    fn a_place_is_the_one_that_a_search_bit_by_bit_finds() {
        let mut rng = Rng::new(1);
        let mut found = 0;
        for _ in 0..20_000 {
            let words: Vec<u64> = (0..1 + rng.below(4)).map(|_| drawn(&mut rng)).collect();
            let (taken, end) = (bitmap(&words), words.len() * WORD);
            let mut below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap();
            let (count, align, from) = (1 + below(80), 1 << below(7), below(end + 2));
            let is_place = |&start: &usize| {
                let bits = start..start + count;
                start.is_multiple_of(align)
                    && bits.end <= end
                    && !bits.into_iter().any(|bit| has(&taken, bit))
            };
            let expected = (from..end).find(is_place);
            let place = find(&taken, count, align, from);
            assert_eq!(
                place, expected,
                "{words:x?}, {count} at {align} from {from}"
            );
            found += u32::from(expected.is_some());
        }
        assert!((4_000..16_000).contains(&found), "{found}");
    }

    #[test]
    fn a_reservation_takes_all_or_nothing() {
        let taken = bitmap(&[0, 0, 1 << 5]);
        assert!(!reserve(&taken, &(60..135)));
        assert_eq!(values(&taken), [0, 0, 1 << 5]);
        assert!(reserve(&taken, &(60..133)));
        assert_eq!(values(&taken), [0xf << 60, !0, 0x3f]);
        assert!(!reserve(&taken, &(0..61)));
        assert_eq!(values(&taken), [0xf << 60, !0, 0x3f]);
        clear(&taken, &(60..133));
        assert_eq!(values(&taken), [0, 0, 1 << 5]);
        assert_eq!((count(&taken, &(0..134)), count(&taken, &(0..133))), (1, 0));
    }

    #[test]
    fn the_first_free_bit_among_some_is_found() {
        let taken = bitmap(&[!0, 0b1011]);
        assert_eq!(find_one(&taken, |_| !0), Some(66));
        assert_eq!(
            find_one(&taken, |index| if index == 1 { 0b1_1000 } else { 0 }),
            Some(68)
        );
        assert_eq!(find_one(&taken, |_| 0), None);
    }
}
