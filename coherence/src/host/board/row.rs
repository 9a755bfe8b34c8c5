//! A row: two blocks that are written in turn.

use pool_core::planted;

use super::{BLOCK_WORDS, Board, BoardError, Seen, WORDS};
use crate::cache::Caches;
use crate::host::message::NUMBER_MAX;
use crate::simulated::Backing;

/// How often a row is read anew whose writer is faster than its reader.
const TRIES: usize = 8;

/// Where the two blocks of a row lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    /// The first line of the first block.
    pub(super) line: u64,
    /// Lines of one block.
    pub(super) lines: u64,
}

impl Pair {
    /// Where the block lies that has a number.
    pub(super) const fn block(self, number: u64) -> u64 {
        self.line + number % 2 * self.lines
    }

    /// At most [`BLOCK_WORDS`], by the shape of a board.
    fn words(self) -> usize {
        usize::try_from(self.lines * WORDS).unwrap_or(BLOCK_WORDS)
    }
}

/// A row as it was read: the number it was written under, and its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) words: [u64; BLOCK_WORDS],
}

impl Row {
    /// What was never written.
    pub(super) const NEVER: Self = Self {
        number: 0,
        words: [0; BLOCK_WORDS],
    };
}

impl<M: Backing, C: Caches> Board<M, C> {
    /// The row that was written last, as a whole.
    ///
    /// # Errors
    /// [`BoardError::Damaged`].
    pub(super) fn row(&self, at: Pair) -> Result<Row, BoardError> {
        for _ in 0..TRIES {
            if let Some(row) = self.row_once(at) {
                return Ok(row);
            }
        }
        Err(BoardError::Damaged { line: at.line })
    }

    /// Nothing where the blocks do not belong together: a writer may have gone on in between.
    fn row_once(&self, at: Pair) -> Option<Row> {
        let (mut even, mut odd) = (Row::NEVER, Row::NEVER);
        let length = at.words();
        let seen = [(&mut even, 0), (&mut odd, 1)].map(|(row, parity)| {
            let found = self.read(at.block(parity), row.words.get_mut(..length)?);
            match found {
                Seen::Whole(number) if number % 2 != parity || number == 0 => return None,
                // No writer gets as far: it would have no next number.
                Seen::Whole(number) if number > NUMBER_MAX => return None,
                Seen::Whole(number) => row.number = number,
                Seen::Empty | Seen::Broken => {}
            }
            Some(found)
        });
        match (seen[0]?, seen[1]?) {
            (Seen::Whole(even), Seen::Whole(odd)) if even.abs_diff(odd) != 1 => None,
            (Seen::Whole(a), Seen::Whole(b)) if a < b => Some(odd),
            (Seen::Whole(_), Seen::Whole(_) | Seen::Broken) => Some(even),
            (Seen::Broken, Seen::Whole(_)) | (Seen::Empty, Seen::Whole(1)) => Some(odd),
            // The first one goes to the odd block.
            (Seen::Empty, Seen::Empty | Seen::Broken) => Some(Row::NEVER),
            _ => None,
        }
    }

    /// Writes a row that was last written under the number `last`, and tells its number.
    pub(super) fn renew(&self, at: Pair, last: u64, words: &mut [u64; BLOCK_WORDS]) -> u64 {
        let number = last + 1;
        let over = if planted!("board.row_is_written_over_itself") {
            last
        } else {
            number
        };
        let length = at.words().min(BLOCK_WORDS);
        self.write(at.block(over), number, &mut words[..length]);
        number
    }

    /// The one value of a row; 0 where it was never written.
    pub(super) fn get(&self, at: Pair) -> Result<u64, BoardError> {
        Ok(self.row(at)?.words[1])
    }

    /// Writes the one value of a row.
    pub(super) fn set(&self, at: Pair, value: u64) -> Result<(), BoardError> {
        let last = self.row(at)?.number;
        let mut words = [0; BLOCK_WORDS];
        words[1] = value;
        self.renew(at, last, &mut words);
        Ok(())
    }
}
