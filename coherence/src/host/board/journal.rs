//! The home's journal on the board: a row for each thing, which is the last one written.

use std::collections::BTreeMap;

use super::encoding::{decode_row, encode_row, standing};
use super::row::Pair;
use super::{BLOCK_WORDS, Board, BoardError, LIFE_MAX};
use crate::cache::Caches;
use crate::host::row::Record;
use crate::simulated::Backing;

/// The writer's side: under which number each row was written last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Journal {
    numbers: BTreeMap<u64, u64>,
}

impl Journal {
    /// Reads all that was written. From then on this host writes it, and no other does.
    ///
    /// # Errors
    /// [`BoardError::Damaged`].
    pub(super) fn read<M: Backing, C: Caches>(
        board: &Board<M, C>,
    ) -> Result<(Self, Vec<Record>), BoardError> {
        let (mut journal, mut records) = (Self::default(), Vec::new());
        let shape = board.shape();
        if let Some(words) = journal.take(board, shape.term())? {
            records.push(Record::Term { term: words[1] });
        }
        for slot in 0..shape.hosts() {
            let at = shape.host(slot);
            let Some([_, era, boot, number, ..]) = journal.take(board, at)? else {
                continue;
            };
            let standing = standing(number).filter(|_| boot <= LIFE_MAX);
            let standing = standing.ok_or(BoardError::Damaged { line: at.line })?;
            records.push(Record::Host {
                slot,
                era,
                boot,
                standing,
            });
        }
        for extent in 0..shape.extents() {
            let at = shape.extent(extent);
            let Some(words) = journal.take(board, at)? else {
                continue;
            };
            let row = decode_row(&words, shape.hosts());
            let row = row.ok_or(BoardError::Damaged { line: at.line })?;
            records.push(Record::Extent { extent, row });
        }
        Ok((journal, records))
    }

    fn take<M: Backing, C: Caches>(
        &mut self,
        board: &Board<M, C>,
        at: Pair,
    ) -> Result<Option<[u64; BLOCK_WORDS]>, BoardError> {
        let row = board.row(at)?;
        if row.number == 0 {
            return Ok(None);
        }
        self.numbers.insert(at.line, row.number);
        Ok(Some(row.words))
    }

    /// Writes a record. When this returns it is in the memory that hosts share.
    ///
    /// # Errors
    /// [`BoardError::NoSuchHost`] where the record names a host that the board has not.
    pub(super) fn write<M: Backing, C: Caches>(
        &mut self,
        board: &Board<M, C>,
        record: &Record,
    ) -> Result<(), BoardError> {
        let shape = board.shape();
        let mut words = [0; BLOCK_WORDS];
        let at = match record {
            Record::Term { term } => {
                words[1] = *term;
                shape.term()
            }
            Record::Host {
                slot,
                era,
                boot,
                standing,
            } => {
                board.check(*slot, 0)?;
                words[1..4].copy_from_slice(&[*era, *boot, *standing as u64]);
                shape.host(*slot)
            }
            Record::Extent { extent, row } => {
                words = encode_row(row);
                shape.extent(*extent)
            }
        };
        let last = self.numbers.entry(at.line).or_default();
        *last = board.renew(at, *last, &mut words);
        Ok(())
    }
}
