//! An event log of a component: records that somebody is to read and clear, with room for so many.
//!
//! # Invariants
//! 1. Handles of the records that are there differ, and none is 0.
//! 2. Records are cleared from the oldest on.
//! 3. A record that found no room is counted, until the overflow was read and cleared.

use std::collections::VecDeque;

use crate::refusal::Refusal;
use crate::timing::Picos;

/// What did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overflow {
    /// How many records.
    pub count: u16,
    /// When the first and the last of them came.
    pub first: Picos,
    /// See `first`.
    pub last: Picos,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log<T> {
    room: usize,
    records: VecDeque<(u16, T)>,
    handle: u16,
    overflow: Option<Overflow>,
    /// Whether it takes no records, though there would be room.
    is_closed: bool,
}

impl<T> Log<T> {
    /// An empty one for so many records.
    #[must_use]
    pub const fn new(room: usize) -> Self {
        Self {
            room,
            records: VecDeque::new(),
            handle: 0,
            overflow: None,
            is_closed: false,
        }
    }

    /// How many more records it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.is_closed {
            return 0;
        }
        self.room.saturating_sub(self.records.len())
    }

    /// Has it take no records, or take them again.
    pub const fn close(&mut self, is_closed: bool) {
        self.is_closed = is_closed;
    }

    /// Adds a record, at a time. Where there is no room, that is noted in its place.
    pub fn push(&mut self, now: Picos, record: T) {
        if self.room() == 0 {
            let overflow = self.overflow.get_or_insert(Overflow {
                count: 0,
                first: now,
                last: now,
            });
            overflow.count = overflow.count.saturating_add(1);
            overflow.last = now;
            return;
        }
        self.handle = self.handle.checked_add(1).unwrap_or(1);
        self.records.push_back((self.handle, record));
    }

    /// The oldest records, so many at most, and whether there are more.
    pub fn oldest(&self, most: usize) -> (impl Iterator<Item = (u16, &T)> + '_, bool) {
        let records = self.records.iter().take(most);
        let records = records.map(|(handle, record)| (*handle, record));
        (records, self.records.len() > most)
    }

    /// What did not fit since it was last cleared.
    #[must_use]
    pub const fn overflow(&self) -> Option<Overflow> {
        self.overflow
    }

    /// Clears the records of these handles, the oldest ones in their order.
    ///
    /// # Errors
    /// [`Refusal::Input`] where they are others: nothing is cleared then.
    pub fn clear(&mut self, handles: &[u16]) -> Result<(), Refusal> {
        let oldest = self.records.iter().map(|(handle, _)| handle);
        if handles.len() > self.records.len() || !oldest.take(handles.len()).eq(handles) {
            return Err(Refusal::Input("records are cleared from the oldest on"));
        }
        self.records.drain(..handles.len());
        self.overflow = None;
        Ok(())
    }

    /// Clears all of it.
    ///
    /// # Errors
    /// [`Refusal::Input`] where nothing was lost: a log that did not overflow is read first.
    pub fn clear_all(&mut self) -> Result<(), Refusal> {
        if self.overflow.is_none() {
            return Err(Refusal::Input(
                "a log is cleared as a whole once it overflowed",
            ));
        }
        self.records.clear();
        self.overflow = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handles(log: &Log<char>, most: usize) -> Vec<u16> {
        log.oldest(most).0.map(|(handle, _)| handle).collect()
    }

    #[test]
    fn records_are_cleared_from_the_oldest_on() {
        let mut log = Log::new(3);
        for record in ['a', 'b', 'c'] {
            log.push(Picos::new(1), record);
        }
        assert_eq!(handles(&log, 2), [1, 2]);
        assert!(log.oldest(2).1 && !log.oldest(3).1);
        for wrong in [&[2][..], &[1, 3], &[1, 2, 3, 4], &[0]] {
            assert!(log.clear(wrong).is_err(), "{wrong:?}");
            assert_eq!(handles(&log, 9), [1, 2, 3]);
        }
        log.clear(&[1, 2]).unwrap();
        assert_eq!(handles(&log, 9), [3]);
        assert_eq!(log.room(), 2);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_handles_are_never_zero() {
        let mut log = Log::new(1);
        assert!(log.clear_all().is_err());
        for now in 5..8 {
            log.push(Picos::new(now), 'x');
        }
        let lost = Overflow {
            count: 2,
            first: Picos::new(6),
            last: Picos::new(7),
        };
        assert_eq!(log.overflow(), Some(lost));
        log.clear_all().unwrap();
        assert_eq!((log.overflow(), log.room()), (None, 1));
        log.handle = u16::MAX;
        log.push(Picos::new(9), 'y');
        assert_eq!(handles(&log, 1), [1]);
    }
}
