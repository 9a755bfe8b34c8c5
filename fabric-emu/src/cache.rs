//! The caches of one host, seen as one: lines that were read or written and are not, or not only,
//! in memory.
//!
//! What makes shared memory hard is here: a line that was written stays here until it is written
//! back or there is no room, nobody but the seed knows when; a line that was read stays here
//! however memory changes; and a host that dies takes what it has not written back with it. A host
//! that is not known to write back no clean lines may write a line that it only read over newer
//! memory.
//!
//! # Invariants
//! 1. A line is here once, and no more are here than there is room for.
//! 2. What happens follows from the seed and the calls.

use std::collections::BTreeMap;

use pool_core::planted;
use pool_core::rng::Rng;

use crate::media::Line;

/// Of the lines that make room, one in so many is written back though it was only read, by a host
/// that may do so. A guess: what hosts do is not published.
const CLEAN_WRITTEN_IN: u32 = 4;

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached {
    /// Its address.
    pub address: u64,
    /// What it holds.
    pub content: Line,
    /// Whether it was written since it was read.
    pub is_dirty: bool,
}

/// A line that made room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// The line.
    pub line: Cached,
    /// Whether it is written to memory.
    pub is_written: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Cache {
    room: usize,
    writes_clean_lines: bool,
    lines: Vec<Cached>,
    /// By address, where in `lines`.
    places: BTreeMap<u64, usize>,
    rng: Rng,
}

impl Cache {
    /// An empty one for so many lines, one at least.
    #[must_use]
    pub fn new(room: u32, writes_clean_lines: bool, rng: Rng) -> Self {
        Self {
            room: usize::try_from(room).unwrap_or(usize::MAX).max(1),
            writes_clean_lines,
            lines: Vec::new(),
            places: BTreeMap::new(),
            rng,
        }
    }

    /// Has lines be written back that were only read, or not any more. No draw is shifted.
    pub const fn write_clean_lines(&mut self, may: bool) {
        self.writes_clean_lines = may;
    }

    /// How many lines are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The line at an address, if it is here.
    #[must_use]
    pub fn get(&self, address: u64) -> Option<&Cached> {
        self.lines.get(*self.places.get(&address)?)
    }

    /// Puts a line here, in the place of the one with its address. The line that made room.
    #[must_use]
    pub fn put(&mut self, line: Cached) -> Option<Evicted> {
        if let Some(here) = self.place_mut(line.address) {
            *here = line;
            return None;
        }
        let evicted = if self.lines.len() >= self.room {
            self.evict()
        } else {
            None
        };
        self.places.insert(line.address, self.lines.len());
        self.lines.push(line);
        evicted
    }

    /// Makes a line clean: what has to be written to memory for that. It stays here.
    #[must_use]
    pub fn clean(&mut self, address: u64) -> Option<Cached> {
        let line = self.place_mut(address)?;
        let was = *line;
        line.is_dirty = false;
        was.is_dirty.then_some(was)
    }

    /// Lets go of a line: what it was.
    pub fn drop_line(&mut self, address: u64) -> Option<Cached> {
        let place = self.places.remove(&address)?;
        let line = self.lines.swap_remove(place);
        if let Some(moved) = self.lines.get(place) {
            self.places.insert(moved.address, place);
        }
        Some(line)
    }

    /// The addresses of the lines of a range that are here.
    #[must_use]
    pub fn addresses(&self, start: u64, end: u64) -> Vec<u64> {
        self.places
            .range(start..end.max(start))
            .map(|(&at, _)| at)
            .collect()
    }

    /// The host is dead: of each line that was not written back it is drawn whether it had left by
    /// then. Those that had, in the order in which they left, and how many are lost.
    pub fn die(&mut self) -> (Vec<Cached>, usize) {
        self.places.clear();
        let mut dirty: Vec<Cached> = std::mem::take(&mut self.lines);
        dirty.retain(|line| line.is_dirty);
        self.rng.shuffle(&mut dirty);
        let before = dirty.len();
        dirty.retain(|_| self.rng.once_in(2));
        let lost = before - dirty.len();
        (dirty, lost)
    }

    fn place_mut(&mut self, address: u64) -> Option<&mut Cached> {
        self.lines.get_mut(*self.places.get(&address)?)
    }

    fn evict(&mut self) -> Option<Evicted> {
        let drawn = self.rng.below(self.lines.len() as u64);
        let line = *self.lines.get(usize::try_from(drawn).unwrap_or(0))?;
        self.drop_line(line.address);
        let is_written_clean = self.rng.once_in(CLEAN_WRITTEN_IN) && self.writes_clean_lines;
        Some(Evicted {
            line,
            is_written: (line.is_dirty && !planted!("cache.drops_what_was_written"))
                || is_written_clean,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::LINE;

    fn line(address: u64, byte: u8, is_dirty: bool) -> Cached {
        Cached {
            address,
            content: [byte; LINE],
            is_dirty,
        }
    }

    fn cache(room: u32, writes_clean_lines: bool) -> Cache {
        Cache::new(room, writes_clean_lines, Rng::new(7))
    }

    #[test]
    fn what_was_written_is_here_or_was_written_back() {
        let mut cache = cache(4, false);
        let mut memory = BTreeMap::new();
        let mut write = |line: Cached| {
            assert!(line.is_dirty, "a clean line was written back");
            memory.insert(line.address, line.content);
        };
        let mut expected = BTreeMap::new();
        let mut rng = Rng::new(1);
        for _ in 0..2_000 {
            let (address, byte) = (rng.below(16) * 64, u8::try_from(rng.below(256)).unwrap());
            let evicted = cache.put(line(address, byte, true));
            if let Some(evicted) = evicted.filter(|it| it.is_written) {
                write(evicted.line);
            }
            expected.insert(address, [byte; LINE]);
            let other = rng.below(16) * 64;
            match rng.below(3) {
                0 => cache.clean(other).map(&mut write),
                1 => cache
                    .drop_line(other)
                    .filter(|it| it.is_dirty)
                    .map(&mut write),
                _ => None,
            };
            assert!(cache.len() <= 4);
        }
        for (address, content) in expected {
            let here = cache.get(address).map(|line| line.content);
            assert_eq!(
                here.or_else(|| memory.get(&address).copied()),
                Some(content)
            );
        }
    }

    #[test]
    fn a_host_that_dies_loses_some_of_what_it_wrote_and_nothing_else() {
        let mut cache = cache(64, false);
        for number in 0..64 {
            let evicted = cache.put(line(number * 64, 1, number % 2 == 0));
            assert_eq!(evicted, None);
        }
        let (left, lost) = cache.die();
        assert_eq!(left.len() + lost, 32);
        assert!(left.iter().all(|line| line.is_dirty));
        assert!(!left.is_empty() && lost > 0);
        assert!(cache.is_empty() && cache.get(0).is_none());
    }

    #[test]
    fn only_a_host_that_may_writes_back_what_it_only_read() {
        for may in [false, true] {
            let mut cache = cache(1, may);
            let evicted = (0..100).filter_map(|at| cache.put(line(at * 64, 0, false)));
            assert_eq!(evicted.filter(|it| it.is_written).count() > 0, may);
        }
    }
}
