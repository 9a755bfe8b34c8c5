//! Contents that can be told from any others: each word follows from a seed and its place.

use pool_core::mem::{Mapped, WriteView};
use pool_core::{Bytes, EXTENT_BYTES};

/// Words that are compared at once.
const CHUNK_WORDS: usize = 4096;
const WORD_BYTES: u64 = size_of::<u64>() as u64;

/// The word at `index` of what `seed` writes. Never zero, which is what fresh memory holds.
#[must_use]
pub const fn word(seed: u64, index: u64) -> u64 {
    let mut mixed = seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) | 1
}

/// Fills all of `mapped`, whose first byte is the `from`-th of its segment.
pub fn write(mapped: &Mapped<'_>, from: u64, seed: u64) {
    let view = writable(mapped);
    let first = from / WORD_BYTES;
    let mut chunk = vec![0; CHUNK_WORDS];
    for start in (0..view.len()).step_by(CHUNK_WORDS) {
        let count = CHUNK_WORDS.min(view.len() - start);
        for (offset, slot) in chunk[..count].iter_mut().enumerate() {
            *slot = word(seed, first + (start + offset) as u64);
        }
        view.write_from(start, &chunk[..count])
            .expect("inside of the view");
    }
}

/// Whether all of `mapped` is what `seed` wrote there.
#[must_use]
pub fn holds(mapped: &Mapped<'_>, from: u64, seed: u64) -> bool {
    let first = from / WORD_BYTES;
    all(mapped, |index, found| found == word(seed, first + index))
}

/// Whether all of `mapped` is zero.
#[must_use]
pub fn is_zero(mapped: &Mapped<'_>) -> bool {
    all(mapped, |_, found| found == 0)
}

fn all(mapped: &Mapped<'_>, is_right: impl Fn(u64, u64) -> bool) -> bool {
    let count = usize::try_from(mapped.bytes().get() / WORD_BYTES).expect("it is mapped");
    let view = mapped.view::<u64>(Bytes::ZERO, count).expect("all of it");
    let mut chunk = vec![0; CHUNK_WORDS];
    (0..count).step_by(CHUNK_WORDS).all(|start| {
        let part = &mut chunk[..CHUNK_WORDS.min(count - start)];
        view.read_into(start, part).expect("inside of the view");
        (start as u64..)
            .zip(part.iter())
            .all(|(index, found)| is_right(index, *found))
    })
}

fn writable<'a>(mapped: &Mapped<'a>) -> WriteView<'a, u64> {
    let count = usize::try_from(mapped.bytes().get() / WORD_BYTES).expect("it is mapped");
    mapped
        .write_view(Bytes::ZERO, count)
        .expect("mapped to be written")
}

const _: () = assert!(EXTENT_BYTES.is_multiple_of(CHUNK_WORDS as u64 * WORD_BYTES));

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use pool_core::mem::{Access, FileMap};

    use super::*;

    #[test]
    fn what_was_written_is_told_from_all_else() {
        let file = memfd_create("pattern", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, 1 << 21).unwrap();
        let map = FileMap::new(
            file.as_fd(),
            Bytes::ZERO,
            Bytes::new(1 << 21),
            Access::ReadWrite,
        );
        let map = map.unwrap();
        assert!(is_zero(&map.mapped()) && !holds(&map.mapped(), 0, 1));
        write(&map.mapped(), 4096, 1);
        assert!(holds(&map.mapped(), 4096, 1) && !is_zero(&map.mapped()));
        assert!(!holds(&map.mapped(), 0, 1), "the place counts");
        assert!(!holds(&map.mapped(), 4096, 2), "the seed counts");
        let last = map
            .mapped()
            .write_view::<u64>(Bytes::new((1 << 21) - 8), 1)
            .unwrap();
        last.set(0, 0).unwrap();
        assert!(!holds(&map.mapped(), 4096, 1), "every word counts");
    }
}
