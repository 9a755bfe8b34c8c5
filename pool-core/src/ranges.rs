//! Ranges of addresses that a signal handler finds while other threads enter some and take out
//! others.
//!
//! Who looks waits for nobody, takes no lock and allocates nothing: it may have interrupted the
//! very thread that changes an entry.
//!
//! # Protocol
//! An entry has a *turn*, a number that rises by one with each step: it is free, is filled in, is
//! listed, is free again. Whoever raises it from free is the only one who changes the entry until
//! it is free again. Whoever looks reads the turn, then the range, then the turn once more, and
//! believes the range where both turns are the same and say that it is listed.
//!
//! # Why no range is torn
//! Say that both turns are `t`. No part of the range is older than `t`: the turn was raised to `t`
//! by a release store after the whole range was written, and was read by an acquire load before
//! it. None is younger: each part is written by a release store after the turn was raised past
//! `t`, and read by an acquire load. Had that load found it, then whatever came before the store
//! would have come before the second look at the turn, which would have found more than `t`.
//!
//! # Invariants
//! 1. A range is in the list from [`Ranges::enter`] to the drop of what that returned.
//! 2. A range is its process's: a child that was forked inherits the list and finds nothing there.
//! 3. Entries are used again and never freed: who walks the list meets no hole.

use core::ops::Range;
use std::sync::OnceLock;

use crate::planted;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// See the module.
#[derive(Debug)]
pub(crate) struct Ranges {
    first: OnceLock<&'static Entry>,
}

#[derive(Debug)]
struct Entry {
    turn: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    /// Whose range it is.
    process: AtomicUsize,
    next: OnceLock<&'static Self>,
}

/// What the turn of an entry says of it, by its remainder.
const STEPS: usize = 3;
const FREE: usize = 0;
const LISTED: usize = 2;

/// A range that is in the list for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Entered {
    entry: &'static Entry,
    turn: usize,
}

impl Ranges {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self {
            first: OnceLock::new(),
        }
    }

    /// Enters a range of the process of this number.
    pub(crate) fn enter(&'static self, range: &Range<usize>, process: usize) -> Entered {
        let (entry, turn) = self.free_entry();
        entry.start.store(range.start, Release);
        entry.end.store(range.end, Release);
        entry.process.store(process, Release);
        entry.turn.store(turn + 1, Release);
        let turn = turn + 1;
        Entered { entry, turn }
    }

    /// The range of the process of this number that has this address.
    pub(crate) fn find(&'static self, at: usize, process: usize) -> Option<Range<usize>> {
        let mut ranges = self.entries().filter_map(|entry| entry.range(process));
        ranges.find(|range| range.contains(&at))
    }

    /// An entry that is filled in by nobody else, and its turn.
    fn free_entry(&'static self) -> (&'static Entry, usize) {
        if let Some(taken) = self.entries().find_map(Entry::take) {
            return taken;
        }
        let entry: &Entry = Box::leak(Box::new(Entry::taken()));
        let mut place = &self.first;
        // Who finds that another one was faster comes after it.
        while place.set(entry).is_err() {
            place = place.get().map_or(place, |other| &other.next);
        }
        (entry, FREE + 1)
    }

    fn entries(&'static self) -> impl Iterator<Item = &'static Entry> {
        let first = self.first.get().copied();
        core::iter::successors(first, |entry| entry.next.get().copied())
    }

    /// How many entries there are, of ranges and free.
    #[cfg(test)]
    pub(crate) fn count(&'static self) -> usize {
        self.entries().count()
    }
}

impl Entry {
    /// A new one, which is filled in next.
    fn taken() -> Self {
        Self {
            turn: AtomicUsize::new(FREE + 1),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            process: AtomicUsize::new(0),
            next: OnceLock::new(),
        }
    }

    fn take(&'static self) -> Option<(&'static Self, usize)> {
        let turn = self.turn.load(Relaxed);
        if turn % STEPS != FREE {
            return None;
        }
        let taken = self.turn.compare_exchange(turn, turn + 1, Acquire, Relaxed);
        taken.ok().map(|_| (self, turn + 1))
    }

    /// What is listed here for a process.
    fn range(&self, process: usize) -> Option<Range<usize>> {
        let turn = self.turn.load(Acquire);
        let (start, end) = (self.start.load(Acquire), self.end.load(Acquire));
        let whose = self.process.load(Acquire);
        let is_whole = self.turn.load(Acquire) == turn || planted!("ranges.looks_once");
        (turn % STEPS == LISTED && whose == process && is_whole).then_some(start..end)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.entry.turn.store(self.turn + 1, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{model, thread};

    const ME: usize = 7;
    const OLD: Range<usize> = 0x1000..0x2000;
    const NEW: Range<usize> = 0x8000..0x9000;
    /// In neither of them, and between the begin of the old one and the end of the new one.
    const BETWEEN: usize = 0x5000;

    fn ranges() -> &'static Ranges {
        Box::leak(Box::new(Ranges::new()))
    }

    /// Catches: ranges.looks_once
    #[test]
    fn a_range_is_found_whole_or_not_at_all_while_its_entry_is_used_again() {
        model(|| {
            let ranges = ranges();
            let old = ranges.enter(&OLD, ME);
            let other = thread::spawn(move || {
                drop(old);
                ranges.enter(&NEW, ME)
            });
            assert_eq!(ranges.find(BETWEEN, ME), None);
            let new = other.join().unwrap();
            assert_eq!(ranges.find(NEW.start, ME), Some(NEW));
            assert_eq!(ranges.find(OLD.start, ME), None);
            drop(new);
            assert_eq!(ranges.find(NEW.start, ME), None);
        });
    }

    #[test]
    fn a_range_that_stays_is_found_whatever_else_comes_and_goes() {
        model(|| {
            let ranges = ranges();
            let (other, kept) = (ranges.enter(&NEW, ME), ranges.enter(&OLD, ME));
            let other = thread::spawn(move || {
                drop(other);
                drop(ranges.enter(&NEW, ME));
            });
            assert_eq!(ranges.find(OLD.start, ME), Some(OLD));
            other.join().unwrap();
            drop(kept);
        });
    }

    #[test]
    fn two_that_enter_at_once_have_an_entry_each() {
        model(|| {
            let ranges = ranges();
            drop(ranges.enter(&OLD, ME));
            let other = thread::spawn(move || ranges.enter(&NEW, ME));
            let old = ranges.enter(&OLD, ME);
            let new = other.join().unwrap();
            assert_eq!(ranges.find(OLD.start, ME), Some(OLD));
            assert_eq!(ranges.find(NEW.start, ME), Some(NEW));
            assert!(ranges.count() <= 2);
            drop((old, new));
        });
    }

    #[test]
    fn a_range_of_another_process_is_not_found() {
        model(|| {
            let ranges = ranges();
            let entered = ranges.enter(&OLD, ME);
            assert_eq!(ranges.find(OLD.start, ME + 1), None);
            drop(entered);
        });
    }
}
