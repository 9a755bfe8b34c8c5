//! What the contents of a unit are, for domains that have checksums: the daemon reads a unit whose
//! writer is gone, and judges it by the checksum that was stored for it. See [`coherence::sum`].
//!
//! # Invariants
//! 1. What is read is what members have by now: the files that the engine has for the payload when
//!    the unit is judged, so after an eviction the copies.
//! 2. A mapping lasts for one part of a unit, and is made from the master's own description, so the
//!    proof of release does not see it.
//! 3. A unit may be as large as its domain, so it is read a part in each round of the reactor, of
//!    [`BYTES_A_ROUND`] at most, and no more than one unit in a round. It is fenced meanwhile, and
//!    nobody who may have its contents mapped lives, so the parts are of one time.
//! 4. Each piece is read where it lies: whole extents are mapped, for files of huge pages have no
//!    smaller ones.
//! 5. Where members write lines back by instructions the lines of this host are dropped before they
//!    are read: it may have read the unit before.

use std::ops::Range;

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

/// What is read of a unit in one round: a GiB takes a third of a second, so this some 6 ms, about
/// as long as a round of words. In between everybody else is served.
pub(super) const BYTES_A_ROUND: u64 = 16 << 20;

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

/// A unit that is being read, from its first byte to its last.
#[derive(Debug)]
pub(super) struct Reading {
    unit: u32,
    hashing: Hashing,
    /// How many bytes of it were read.
    at: u64,
}

impl Reading {
    pub(super) fn new(unit: u32) -> Self {
        let (hashing, at) = (Hashing::default(), 0);
        Self { unit, hashing, at }
    }

    /// Where in the payload the part lies that comes next, of units of `bytes` bytes.
    fn part(&self, bytes: u64) -> Range<u64> {
        let first = bytes.saturating_mul(u64::from(self.unit));
        let end = self.at.saturating_add(BYTES_A_ROUND).min(bytes);
        first.saturating_add(self.at)..first.saturating_add(end)
    }
}

/// The hash of a unit of zeroes, which is made a part in each round as well.
#[derive(Debug)]
pub(super) struct Zeroes {
    hashing: Hashing,
    left: u64,
}

impl Zeroes {
    pub(super) fn new(unit: Bytes) -> Self {
        let (hashing, left) = (Hashing::default(), unit.get());
        Self { hashing, left }
    }

    /// Goes on for a round; the hash where it is made.
    pub(super) fn proceed(&mut self) -> Option<Digest> {
        const ZEROES: [u8; 4096] = [0; 4096];
        let mut part = self.left.min(BYTES_A_ROUND);
        self.left -= part;
        while part > 0 {
            let len = part.min(ZEROES.len() as u64);
            let bytes = usize::try_from(len).ok().and_then(|len| ZEROES.get(..len));
            self.hashing.add(bytes.unwrap_or(&ZEROES));
            part -= len;
        }
        (self.left == 0).then(|| self.hashing.digest())
    }
}

/// Reads the next part of a unit of a domain; its hash where that was the last.
///
/// # Errors
/// [`OpenError`]: a file of it is not there, or cannot be mapped.
pub(super) fn read_on(
    engine: &Engine,
    files: &Files,
    segment: SegmentId,
    reading: &mut Reading,
) -> Result<Option<Digest>, OpenError> {
    let payload = engine.payload(segment).ok_or(OpenError::Gone)?;
    let bytes = payload.layout.unit().get();
    let Range { start, end } = reading.part(bytes);
    let (mut read, mut piece) = (0, 0);
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
            reading.hashing.add_mapped(map.mapped(), at, len)?;
            read += len.get();
        }
        piece = piece_end;
    }
    if read != end - start {
        return Err(OpenError::Gone);
    }
    reading.at += read;
    Ok((reading.at == bytes).then(|| reading.hashing.digest()))
}

#[cfg(test)]
mod tests;
