//! Checksums of units: what a writer says of the contents that it publishes, and how the daemon
//! tells by it whether those of a dead writer are whole.
//!
//! A domain has them by its terms, or has none. The word `sum` of a descriptor is
//!
//! ```text
//! sum = xxh3 of all bytes of the unit, 64 bits  ^  version * MIX  (modulo 2^64)
//! ```
//!
//! `MIX` is odd, so that each version has another word for the same contents: the word says of
//! which version it is. No word means that there is none: a new domain has that of zeroes at
//! version 0 in each descriptor. It tells accidents, and no forgery: members trust each other.
//!
//! # Protocol
//! 1. A writer writes its contents back, and then stores the word of the version that it is about
//!    to publish ([`Member::set_sum`](crate::Member::set_sum)), before it notes and raises that
//!    version, see `publish.rs`. So whoever is granted the unit finds the word of its version.
//! 2. The daemon judges a fenced unit by the word that it finds ([`judge`]). It is good where the
//!    contents are those of the last version that was published, of the one after it, or of the
//!    present one, which the daemon has raised; anything else is lost, whatever else the terms say.
//! 3. Before a good unit is said to be, the word of the present version is swapped in.
//!
//! # Who dies where, and why each is right or errs to the safe side
//! - A writer before its first store: the contents are those of the last version, and the word is
//!   of it. Good: nobody is told of a loss.
//! - A writer between its first store and the word: the contents fit no word. Lost. Where it stored
//!   what was there before they fit, and are those of the last version.
//! - A writer between the word and the release: it had written all that it wanted to publish. Good,
//!   and what is served is the version that it was publishing.
//! - A writer that restores what was lost, anywhere before the release: lost, for it has published
//!   nothing, and nothing of before is left.
//! - Who was handed the unit and has not taken it: judged as any other.
//! - The daemon after it swapped the word: the present version does not change any more, for it is
//!   noted under the epoch of the fence. So the next life finds the word of the present version,
//!   and the same verdict.
//! - A writer that was fenced and lives: it stores the word by a compare-exchange from what it
//!   loaded while the word named it. Either it was first, and the contents decide, or somebody has
//!   swapped another word in since, of another version, and it fails: had it loaded that one, by an
//!   acquire, it would have found itself fenced. Of a unit that was judged to
//!   be lost it may store late: whoever restores it stores another one before it publishes.

use pool_core::descriptor::Descriptor;
#[cfg(not(loom))]
use pool_core::mem::{BoundsError, Mapped};
use pool_core::sync::atomic::Ordering::Release;
use pool_core::{Bytes, crash_point, planted};
use xxhash_rust::xxh3::Xxh3Default;

use crate::recover::{Fenced, Verdict};

/// Odd, so that no two versions have the same product; its bits are those of the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// What is copied out of shared memory at a time.
const CHUNK: usize = 4096;

/// The hash of all bytes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u64);

impl Digest {
    /// The word of contents with this hash, as those of `version`.
    #[must_use]
    pub const fn word(self, version: u64) -> u64 {
        self.0 ^ version.wrapping_mul(MIX)
    }

    /// That of `bytes` bytes of zero.
    #[must_use]
    pub fn of_zeroes(bytes: Bytes) -> Self {
        let (mut hashing, mut left) = (Hashing::default(), bytes.get());
        while left > 0 {
            let len = left.min(CHUNK as u64);
            hashing.add(&[0; CHUNK][..usize::try_from(len).unwrap_or(CHUNK)]);
            left -= len;
        }
        hashing.digest()
    }
}

/// A hash that is being made of a unit, from its first byte to its last.
#[derive(Clone, Default)]
pub struct Hashing(Xxh3Default);

impl Hashing {
    /// Adds the bytes that follow.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds the `len` bytes of shared memory from `offset`.
    ///
    /// # Errors
    /// [`BoundsError::Outside`], and nothing was added.
    #[cfg(not(loom))]
    pub fn add_mapped(
        &mut self,
        mapped: Mapped<'_>,
        offset: Bytes,
        len: Bytes,
    ) -> Result<(), BoundsError> {
        let count = len.to_usize().unwrap_or(usize::MAX);
        let view = mapped.view::<u8>(offset, count)?;
        let mut chunk = [0; CHUNK];
        for start in (0..count).step_by(CHUNK) {
            let part = &mut chunk[..CHUNK.min(count - start)];
            view.read_into(start, part)?;
            self.add(part);
        }
        Ok(())
    }

    /// The hash of what was added.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(self.0.digest())
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hashing(so far {:?})", self.digest())
    }
}

/// Judges a fenced unit of a domain that has checksums, by its contents as they are now, and swaps
/// in the word of the present version where they are good. For the daemon, inside of the `judge` of
/// [`crate::recover`].
#[must_use]
pub fn judge(line: &Descriptor, fenced: &Fenced, contents: Digest) -> Verdict {
    if fenced.was_lost {
        return Verdict::Lost;
    }
    let next = fenced.last_good.wrapping_add(1);
    let versions = [fenced.last_good, next, fenced.present];
    let versions = if planted!("judge.forgets_the_last_version") {
        [next, next, fenced.present]
    } else {
        versions
    };
    let fits = versions.map(|version| contents.word(version) == fenced.sum);
    if !fits.contains(&true) && !planted!("judge.trusts_without_looking") {
        return Verdict::Lost;
    }
    // Release pairs with the acquire of a grant, by the word that is changed after it. Swapped, so
    // that what a writer that was fenced exchanges came before, or fails.
    line.sum.swap(contents.word(fenced.present), Release);
    crash_point!("recover.sum_swapped");
    Verdict::Good
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
