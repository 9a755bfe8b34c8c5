//! The ways of a board: messages from one host to another.

use pool_core::planted;

use super::encoding::{Message, decode, encode};
use super::{Board, LIFE_MAX, PLACES, Seen};
use crate::cache::Caches;
use crate::simulated::Backing;

/// Bits of a number below those of the life.
const COUNT_BITS: u32 = 32;
/// No message has a higher number: as many again as all lives begin with.
const NUMBER_MAX: u64 = ((LIFE_MAX + 1) << COUNT_BITS) * 2;

/// A way that begins here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outgoing {
    first: u64,
    next: u64,
}

/// A way that ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incoming {
    first: u64,
    /// The highest number that was taken, or passed over.
    last: u64,
}

impl Outgoing {
    /// The way at these lines, for a host in this life, which is not more than [`LIFE_MAX`]. Its
    /// numbers begin above all that is there, and above what a former life can have used where
    /// nothing of that is left.
    pub(super) fn new<M: Backing, C: Caches>(board: &Board<M, C>, first: u64, life: u64) -> Self {
        let sent = Incoming::new(board, first).last;
        let next = (sent + 1).max(life << COUNT_BITS);
        Self { first, next }
    }

    /// The number of the next message.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Writes a message, over the oldest one.
    pub(super) fn send<M: Backing, C: Caches>(&mut self, board: &Board<M, C>, message: Message) {
        let mut words = [0; 8];
        words[1..7].copy_from_slice(&encode(message));
        board.write(self.first + self.next % PLACES, self.next, &mut words);
        self.next += 1;
    }
}

impl Incoming {
    /// The way at these lines, without what was sent before.
    pub(super) fn new<M: Backing, C: Caches>(board: &Board<M, C>, first: u64) -> Self {
        let mut way = Self { first, last: 0 };
        way.last = way.highest(board);
        way
    }

    /// The highest number of a message that is there.
    fn highest<M: Backing, C: Caches>(&self, board: &Board<M, C>) -> u64 {
        let mut highest = self.last;
        for place in 0..PLACES {
            let line = self.first + place;
            // Most say nothing new: those are not looked at any further.
            let seen = board.number(line);
            if seen <= highest {
                continue;
            }
            if planted!("board.torn_message_is_passed_over") && seen <= NUMBER_MAX {
                highest = seen;
            }
            if let Seen::Whole(number) = board.read(line, &mut [0; 8])
                && number <= NUMBER_MAX
            {
                highest = highest.max(number);
            }
        }
        highest
    }

    /// All messages that came since the last time, in their order; and how many blocks were none
    /// that a host writes.
    pub(super) fn take<M: Backing, C: Caches>(
        &mut self,
        board: &Board<M, C>,
    ) -> (Vec<Message>, u64) {
        let highest = self.highest(board);
        let (mut messages, mut garbled) = (Vec::new(), 0);
        if highest == self.last {
            return (messages, garbled);
        }
        let lowest = highest.saturating_sub(PLACES - 1).max(self.last + 1);
        for number in lowest..=highest {
            let mut words = [0; 8];
            // Whatever is there instead was written over it since, or never was whole.
            let found = board.read(self.first + number % PLACES, &mut words);
            let is_it = match found {
                Seen::Whole(it) => it == number || planted!("board.takes_whatever_lies_there"),
                Seen::Empty | Seen::Broken => false,
            };
            if !is_it {
                continue;
            }
            let [_, contents @ .., _] = words;
            match decode(contents) {
                Some(message) => messages.push(message),
                None => garbled += 1,
            }
        }
        self.last = highest;
        (messages, garbled)
    }
}

#[cfg(test)]
mod models;
