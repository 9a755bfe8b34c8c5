//! What the two processes of a run share besides the heap: a file that both map.
//!
//! ```text
//! 0 arrivals | 128 failed | 256 written | 384 read | 4 KiB ring | 64 KiB desk of 0 | desk of 1
//! ```
//!
//! # Protocol
//! *Meeting*: each that comes adds one to `arrivals`, and waits until it is a multiple of the
//! number of members; what one did before is there for the other after. *Desk*: a member writes its
//! own before a meeting, and reads the other's between that meeting and the next. *Ring*: the first
//! member writes a slot, then raises `written`; the second reads it, then raises `read`; neither
//! lets the counts be further apart than there are slots. Whoever waits looks again and again, lets
//! others run between looks, and gives up where the other says that it failed.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, bail};
use pool_core::mem::{Access, FileMap};
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::sync::{hint, thread};
use pool_core::units::KIB;
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device as _, Place};

const BYTES: Bytes = Bytes::new(2 * EXTENT_BYTES);
const ARRIVALS: u64 = 0;
const FAILED: u64 = 128;
const WRITTEN: u64 = 256;
const READ: u64 = 384;
const RING_AT: u64 = 4 * KIB;
const SLOTS: usize = 4_096;
const DESKS_AT: u64 = 64 * KIB;
/// Words of a desk.
const DESK: usize = 200_000;
/// Looks between two times that others are let run.
const LOOKS: u32 = 64;

/// The file, mapped here.
#[derive(Debug)]
pub(super) struct Board {
    file: OwnedFd,
    map: FileMap,
    members: u64,
}

impl Board {
    /// A new one for so many.
    pub(super) fn create(members: u64) -> anyhow::Result<Self> {
        let device = MemfdDevice::new(PagePolicy::Auto, None, Bytes::ZERO)?;
        let file = device
            .build(BackingId::FIRST, Place::anywhere(BYTES), false)?
            .file;
        Self::map(file, members)
    }

    /// One that another process has made.
    pub(super) fn open(path: &Path, members: u64) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Self::map(file.into(), members)
    }

    fn map(file: OwnedFd, members: u64) -> anyhow::Result<Self> {
        let map = FileMap::new(file.as_fd(), Bytes::ZERO, BYTES, Access::ReadWrite)?;
        Ok(Self { file, map, members })
    }

    /// Where another process of the same user finds the file.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    fn word(&self, at: u64) -> anyhow::Result<&AtomicU64> {
        Ok(self.map.mapped().atomic_u64(Bytes::new(at))?)
    }

    /// Tells whoever waits that it waits in vain.
    pub(super) fn fail(&self) -> anyhow::Result<()> {
        self.word(FAILED)?.store(1, Release);
        Ok(())
    }

    fn wait(&self, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
        if is_so() {
            return Ok(());
        }
        let failed = self.word(FAILED)?;
        let mut looks = 0;
        while !is_so() {
            looks += 1;
            if looks % LOOKS != 0 {
                hint::spin_loop();
                continue;
            }
            if failed.load(Acquire) != 0 {
                bail!("the other process failed");
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Waits until all are here.
    pub(super) fn meet(&self) -> anyhow::Result<()> {
        let arrivals = self.word(ARRIVALS)?;
        let mine = arrivals.fetch_add(1, AcqRel);
        let all = (mine / self.members + 1) * self.members;
        self.wait(|| arrivals.load(Acquire) >= all)
    }

    /// The words that a member leaves for the other.
    pub(super) fn desk(&self, member: usize) -> anyhow::Result<&[AtomicU64]> {
        let at = DESKS_AT + (member * DESK * size_of::<u64>()) as u64;
        Ok(self.map.mapped().atomics_u64(Bytes::new(at), DESK)?)
    }

    /// The end of the ring that this member has: the first writes, the second reads.
    pub(super) fn end(&self, member: usize) -> anyhow::Result<End<'_>> {
        let (written, read) = (self.word(WRITTEN)?, self.word(READ)?);
        let (mine, other) = if member == 0 {
            (written, read)
        } else {
            (read, written)
        };
        let slots = self.map.mapped().atomics_u64(Bytes::new(RING_AT), SLOTS)?;
        Ok(End {
            board: self,
            slots: slots.try_into().context("a ring of another length")?,
            mine,
            other,
            count: mine.load(Relaxed),
            seen: other.load(Acquire),
        })
    }
}

/// One end of the ring.
#[derive(Debug)]
pub(super) struct End<'a> {
    board: &'a Board,
    slots: &'a [AtomicU64; SLOTS],
    mine: &'a AtomicU64,
    other: &'a AtomicU64,
    /// How often this end went on.
    count: u64,
    /// How often the other did, when this one last looked.
    seen: u64,
}

impl End<'_> {
    /// Waits for room, and leaves a word.
    #[inline]
    pub(super) fn push(&mut self, word: u64) -> anyhow::Result<()> {
        if self.count - self.seen == SLOTS as u64 {
            let (other, mut seen, count) = (self.other, self.seen, self.count);
            self.board.wait(|| {
                // Acquire: the slot was read before the count was raised.
                seen = other.load(Acquire);
                count - seen < SLOTS as u64
            })?;
            self.seen = seen;
        }
        self.slot().store(word, Relaxed);
        self.go_on();
        Ok(())
    }

    /// Waits for a word, and takes it.
    #[inline]
    pub(super) fn pop(&mut self) -> anyhow::Result<u64> {
        if self.count == self.seen {
            let (other, mut seen, count) = (self.other, self.seen, self.count);
            self.board.wait(|| {
                // Acquire: the slot was written before the count was raised.
                seen = other.load(Acquire);
                count < seen
            })?;
            self.seen = seen;
        }
        let word = self.slot().load(Relaxed);
        self.go_on();
        Ok(word)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
    fn slot(&self) -> &AtomicU64 {
        &self.slots[self.count as usize % SLOTS]
    }

    #[inline]
    fn go_on(&mut self) {
        self.count += 1;
        // Release: pairs with the acquire of the other end.
        self.mine.store(self.count, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_comes_out_once_and_in_order() {
        let board = Board::create(2).unwrap();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut end = board.end(0).unwrap();
                (0..20_000).for_each(|word| end.push(word).unwrap());
            });
            let mut end = board.end(1).unwrap();
            for word in 0..20_000 {
                assert_eq!(end.pop().unwrap(), word);
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn one_that_fails_lets_nobody_wait() {
        let board = Board::create(2).unwrap();
        let other = Board::open(Path::new(&board.path()), 2).unwrap();
        other.fail().unwrap();
        assert!(board.meet().is_err());
    }

    #[test]
    fn what_one_leaves_on_its_desk_the_other_finds() {
        let board = Board::create(2).unwrap();
        let other = Board::open(Path::new(&board.path()), 2).unwrap();
        board.desk(0).unwrap()[DESK - 1].store(7, Relaxed);
        assert_eq!(other.desk(0).unwrap()[DESK - 1].load(Relaxed), 7);
        assert_eq!(other.desk(1).unwrap()[0].load(Relaxed), 0);
    }
}
