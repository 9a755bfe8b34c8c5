//! The last version that was published, and under which epoch that was noted, in one word.
//!
//! A holder notes it, with its own epoch, before it raises the version. Whoever fences it later
//! learns from it which version was the last that was published, even where the holder died between
//! raising the version and letting go. The daemon notes it with the epochs of the fence and of the
//! grant that may follow it, [`crate::recover`].
//!
//! ```text
//! bit 63..38 epoch    37..0 the lowest 38 bits of the version
//! ```

use crate::own::Epoch;

const VERSION_BITS: u32 = 38;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;

/// The word.
#[must_use]
pub(crate) const fn pack(epoch: Epoch, version: u64) -> u64 {
    (epoch.number() as u64) << VERSION_BITS | version & VERSION_MASK
}

/// The epoch in `word`.
#[must_use]
pub(crate) const fn epoch(word: u64) -> Epoch {
    // The shift leaves 26 bits.
    Epoch::new((word >> VERSION_BITS) as u32)
}

/// The version in `word`, where the version is `now` by now: at most 2^38 later.
#[must_use]
pub(crate) const fn version(word: u64, now: u64) -> u64 {
    now.wrapping_sub(now.wrapping_sub(word) & VERSION_MASK)
}

/// The version that was published last of a unit whose contents are lost, by the words `base` and
/// `version` of its descriptor.
#[must_use]
pub const fn last_good(base: u64, now: u64) -> u64 {
    version(base, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_found_again() {
        for version_then in [
            0,
            1,
            VERSION_MASK - 1,
            VERSION_MASK,
            VERSION_MASK + 5,
            1 << 60,
        ] {
            let word = pack(Epoch::new(77), version_then);
            assert_eq!(epoch(word), Epoch::new(77));
            for later in [0, 1, 2, 1_000] {
                assert_eq!(version(word, version_then + later), version_then);
            }
        }
    }
}
