//! The last version that was published, and under which epoch that was noted, in one word.
//!
//! A holder notes it, with its own epoch, before it raises the version. Whoever fences it later
//! learns from it which version was the last that was published, even where the holder died between
//! raising the version and letting go. The daemon notes it with the epochs of the fence and of the
//! grant that may follow it, [`crate::recover`].
//!
//! A note that is left for whoever restores a lost unit says so. It stands for as long as that
//! member writes the unit anew, so whoever fences it knows that there were no contents before.
//!
//! ```text
//! bit 63..38 epoch    37 contents are lost    36..0 the lowest 37 bits of the version
//! ```

use crate::own::Epoch;

const EPOCH_SHIFT: u32 = 38;
const LOST: u64 = 1 << 37;
const VERSION_MASK: u64 = LOST - 1;

/// The word.
#[must_use]
pub(crate) const fn pack(epoch: Epoch, version: u64) -> u64 {
    (epoch.number() as u64) << EPOCH_SHIFT | version & VERSION_MASK
}

/// The word where the contents are lost, and `epoch` is, or will be, of whoever restores them.
#[must_use]
pub(crate) const fn pack_lost(epoch: Epoch, version: u64) -> u64 {
    pack(epoch, version) | LOST
}

/// Whether `word` was noted of contents that are lost.
#[must_use]
pub(crate) const fn is_lost(word: u64) -> bool {
    word & LOST != 0
}

/// The epoch in `word`.
#[must_use]
pub(crate) const fn epoch(word: u64) -> Epoch {
    // The shift leaves 26 bits.
    Epoch::new((word >> EPOCH_SHIFT) as u32)
}

/// Whether `word` was noted under one of the 2^25 epochs before `epoch`. Of what is older that is
/// not said: it could be of a later one.
#[inline]
#[must_use]
pub(crate) const fn is_before(word: u64, epoch: Epoch) -> bool {
    // The last word that could be noted under the epoch before. What is above it has the topmost
    // bit set in the difference, as has what is half of all epochs below.
    let last = pack(epoch, 0).wrapping_sub(1);
    last.wrapping_sub(word) >> 63 == 0
}

/// The version in `word`, where the version is `now` by now: at most 2^37 later.
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
    fn a_note_is_before_the_epochs_after_its_own() {
        let half = 1 << (Epoch::BITS - 1);
        for number in [0, 1, 77, half - 1, half, 2 * half - 1] {
            let noted = Epoch::new(number);
            let later = |by| Epoch::new(number.wrapping_add(by));
            for version in [0, 1, VERSION_MASK] {
                for word in [pack(noted, version), pack_lost(noted, version)] {
                    assert!([1, 2, half].iter().all(|by| is_before(word, later(*by))));
                    let not = [0, half + 1, 2 * half - 2, 2 * half - 1];
                    assert!(!not.iter().any(|by| is_before(word, later(*by))));
                }
            }
        }
    }

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
            let whole = pack(Epoch::new(77), version_then);
            let lost = pack_lost(Epoch::new(77), version_then);
            assert!(!is_lost(whole) && is_lost(lost));
            for word in [whole, lost] {
                assert_eq!(epoch(word), Epoch::new(77));
                for later in [0, 1, 2, 1_000] {
                    assert_eq!(version(word, version_then + later), version_then);
                }
            }
        }
    }
}
