//! What the contents of a unit are, for domains that have checksums: the daemon reads a unit whose
//! writer is gone, and judges it by the checksum that was stored for it. See [`coherence::sum`].
//!
//! # Invariants
//! 1. What is read is what members have by now: the files that the engine has for the payload when
//!    the unit is judged, so after an eviction the copies.
//! 2. A mapping lasts for one unit, and is made from the master's own description, so the proof of
//!    release does not see it.
//! 3. One unit is read in one round of the reactor, and each piece of it where it lies: whole
//!    extents are mapped, for files of huge pages have no smaller ones.
//! 4. Where members write lines back by instructions the lines of this host are dropped before they
//!    are read: it may have read the unit before.

use coherence::cache::Mode;
use coherence::recover::{Fenced, Verdict};
use coherence::sum::{self, Digest, Hashing};
use pool_core::descriptor::Descriptor;
use pool_core::flush::Flusher;
use pool_core::mem::{Access, FileMap};
use pool_core::{Bytes, EXTENT_BYTES, SegmentId};

use super::super::files::Files;
use super::OpenError;
use crate::engine::Engine;
use crate::engine::effect::Recovery;

/// The verdict on a fenced unit of a recovery: by its contents where the domain has checksums, else
/// by its terms. What it is to do is asked of `contents` once, and only where it is needed.
pub(super) fn verdict(
    line: &Descriptor,
    fenced: &Fenced,
    recovery: &Recovery,
    contents: impl FnOnce() -> Option<Digest>,
) -> Verdict {
    if !recovery.checks {
        return fenced.by_terms(recovery.keeps);
    }
    if fenced.was_lost {
        return Verdict::Lost;
    }
    contents().map_or(Verdict::Undecided, |contents| {
        sum::judge(line, fenced, contents)
    })
}

/// What a look at contents has found, with a note that there was one and whether it went well.
pub(super) fn noted(
    found: Result<Digest, OpenError>,
    looked: &mut Option<Result<(), OpenError>>,
) -> Option<Digest> {
    let (contents, how) = match found {
        Ok(contents) => (Some(contents), Ok(())),
        Err(error) => (None, Err(error)),
    };
    *looked = Some(how);
    contents
}

/// Reads a unit of a domain.
///
/// # Errors
/// [`OpenError`]: a file of it is not there, or cannot be mapped.
pub(super) fn contents(
    engine: &Engine,
    files: &Files,
    segment: SegmentId,
    unit: u32,
) -> Result<Digest, OpenError> {
    let payload = engine.payload(segment).ok_or(OpenError::Gone)?;
    let bytes = payload.layout.unit().get();
    let start = bytes.saturating_mul(u64::from(unit));
    let end = start.saturating_add(bytes);
    let (mut hashing, mut read, mut piece) = (Hashing::default(), 0, 0);
    for (backing, len) in payload.files {
        let piece_end = len.get().saturating_add(piece);
        let (from, to) = (start.max(piece), end.min(piece_end));
        if from < to {
            let master = files.master(backing).ok_or(OpenError::Gone)?;
            let whole = (from - piece) / EXTENT_BYTES * EXTENT_BYTES;
            let up_to = (to - piece).next_multiple_of(EXTENT_BYTES);
            let (at, room) = (Bytes::new(whole), Bytes::new(up_to - whole));
            let map = FileMap::new(master, at, room, Access::ReadOnly)?;
            let (at, len) = (Bytes::new(from - piece - whole), Bytes::new(to - from));
            if payload.mode == Mode::Software {
                let flusher = Flusher::detect();
                flusher.invalidate(&map.mapped(), at, len)?;
                flusher.fence_all();
            }
            hashing.add_mapped(map.mapped(), at, len)?;
            read += len.get();
        }
        piece = piece_end;
    }
    (read == bytes)
        .then(|| hashing.digest())
        .ok_or(OpenError::Gone)
}

#[cfg(test)]
mod tests;
