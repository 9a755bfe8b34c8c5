//! Epoch and version at the last exclusive grant, in one word.
//!
//! The holder notes them before it is granted a unit. Whoever fences it later learns from them
//! which version was the last that was published, even where the holder died between raising the
//! version and letting go.
//!
//! A holder that writes a lost unit anew is granted a later version than the last one that was
//! published. Both count: from the first one the holder raises the version, and a fence must leave
//! it a later one, so that a holder that was cut off raises nothing; the second one is what whoever
//! asks for a lost unit is told.
//!
//! ```text
//! bit 63..38 epoch
//!     37..30 how many versions before that of the grant the last published one is
//!     29..0  the lowest 30 bits of the version at the grant
//! ```
//!
//! After 255 holders in a row that were gone before they had written a lost unit anew the last
//! published version is not known any more, and a later one is told.

use crate::own::Epoch;

const EPOCH_SHIFT: u32 = 38;
const BEHIND_SHIFT: u32 = 30;
const BEHIND_MAX: u64 = 0xff;
const VERSION_MASK: u64 = (1 << BEHIND_SHIFT) - 1;

/// The word of a grant under `epoch` of version `version`, where `good` is the last published one.
#[must_use]
pub(crate) const fn pack(epoch: Epoch, version: u64, good: u64) -> u64 {
    let behind = version.wrapping_sub(good);
    let behind = if behind < BEHIND_MAX {
        behind
    } else {
        BEHIND_MAX
    };
    (epoch.number() as u64) << EPOCH_SHIFT | behind << BEHIND_SHIFT | version & VERSION_MASK
}

/// The epoch in `word`.
#[must_use]
pub(crate) const fn epoch(word: u64) -> Epoch {
    // The shift leaves 26 bits.
    Epoch::new((word >> EPOCH_SHIFT) as u32)
}

/// The version at the grant, where the version is `now` by now: at most 2^30 later.
#[must_use]
pub(crate) const fn version(word: u64, now: u64) -> u64 {
    now.wrapping_sub(now.wrapping_sub(word) & VERSION_MASK)
}

/// The last version that was published before the grant.
#[must_use]
pub(crate) const fn good(word: u64, now: u64) -> u64 {
    version(word, now).wrapping_sub(word >> BEHIND_SHIFT & BEHIND_MAX)
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
            let word = pack(Epoch::new(77), version_then, version_then.wrapping_sub(3));
            assert_eq!(epoch(word), Epoch::new(77));
            for later in [0, 1, 2, 1_000] {
                assert_eq!(version(word, version_then + later), version_then);
                let published = version_then.wrapping_sub(3);
                assert_eq!(good(word, version_then + later), published);
            }
        }
    }
}
