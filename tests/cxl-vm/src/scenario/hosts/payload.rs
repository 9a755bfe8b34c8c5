//! What lies in the extents that two machines exchange.
//!
//! ```text
//! word 0      the version that this is: what the directory says, or the contents are not those
//!             that were published last
//!      1      how often the extent went from one machine to the other
//!      2      who wrote it: the slot, and one; 0 for nobody
//!      3      not 0 where the last machine takes its leave
//! line 512 n  a pattern of that version, for n from 1 to 63: through all of the extent
//! ```

use anyhow::ensure;
use client_sdk::{Segment, ViewMut};
use pool_core::units::LINE_BYTES;
use pool_core::{Bytes, EXTENT_BYTES};

/// The first extent of the segment has the board.
pub(super) const BOARD_BYTES: u64 = EXTENT_BYTES;
/// How many extents are exchanged; as many has the board.
pub(super) const EXTENTS: u32 = 16;
/// Patterned lines, and how many words lie from one to the next.
const LINES: usize = 63;
const STRIDE: usize = 512 * LINE_WORDS;
const LINE_WORDS: usize = (LINE_BYTES / 8) as usize;
const WORDS: usize = (EXTENT_BYTES / 8) as usize;
const _: () = assert!((LINES + 1) * STRIDE == WORDS);

/// The first words of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: u64,
    pub(super) exchanges: u64,
    pub(super) writer: u64,
    pub(super) leaves: u64,
}

/// An extent that this machine holds.
#[derive(Debug)]
pub(super) struct Payload<'s> {
    words: ViewMut<'s, u64>,
    extent: u32,
}

impl<'s> Payload<'s> {
    pub(super) fn of(segment: &'s Segment, extent: u32) -> anyhow::Result<Self> {
        let offset = BOARD_BYTES + u64::from(extent) * EXTENT_BYTES;
        let words = segment.view_mut(Bytes::new(offset), WORDS)?;
        Ok(Self { words, extent })
    }

    pub(super) fn head(&self) -> anyhow::Result<Head> {
        let mut words = [0; 4];
        self.words.read_into(0, &mut words)?;
        let [version, exchanges, writer, leaves] = words;
        Ok(Head {
            version,
            exchanges,
            writer,
            leaves,
        })
    }

    /// Fails unless all of it is what was published under this version.
    pub(super) fn is(&self, version: u64) -> anyhow::Result<Head> {
        let head = self.head()?;
        let extent = self.extent;
        ensure!(
            head.version == version,
            "extent {extent} is version {version}, and has {head:?}"
        );
        if version == 0 {
            return Ok(head);
        }
        for line in 1..=LINES {
            let mut found = [0; LINE_WORDS];
            self.words.read_into(line * STRIDE, &mut found)?;
            let pattern = self.pattern(version, line);
            ensure!(
                found == pattern,
                "extent {extent}, version {version}, line {line}: {found:x?}, not {pattern:x?}"
            );
        }
        Ok(head)
    }

    /// Writes all of it.
    pub(super) fn write(&self, head: Head) -> anyhow::Result<()> {
        self.write_lines(head.version, LINES)?;
        let words = [head.version, head.exchanges, head.writer, head.leaves];
        Ok(self.words.write_from(0, &words)?)
    }

    /// Writes a half, as one does who dies amid that.
    pub(super) fn write_half(&self, version: u64) -> anyhow::Result<()> {
        self.words.set(0, version)?;
        self.write_lines(version, LINES / 2)
    }

    fn write_lines(&self, version: u64, count: usize) -> anyhow::Result<()> {
        for line in 1..=count {
            let pattern = self.pattern(version, line);
            self.words.write_from(line * STRIDE, &pattern)?;
        }
        Ok(())
    }

    fn pattern(&self, version: u64, line: usize) -> [u64; LINE_WORDS] {
        let seed = version << 24 | u64::from(self.extent) << 16 | line as u64;
        core::array::from_fn(|word| (seed << 4 | word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}
