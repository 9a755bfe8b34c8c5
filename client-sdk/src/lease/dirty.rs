//! What was written under a lease: a few ranges, which grow together where they are too many.
//!
//! Most guards write one range, from its beginning to its end. It is kept in place; memory is
//! allocated for the others only.
//!
//! # Invariants
//! 1. Every byte that was added lies in `first` or in one of `more`.
//! 2. `first` is empty only where nothing was added, and none of `more` is.

/// How many ranges are told apart.
const RANGES: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Dirty {
    first: Range,
    more: Vec<Range>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    const fn len(self) -> u64 {
        self.end - self.start
    }

    fn with(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Whether the two have bytes in common, or no byte between them.
    const fn meets(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl Dirty {
    /// Adds the `len` bytes from `start`.
    #[inline]
    pub(crate) fn add(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        let added = Range { start, end };
        if added.meets(self.first) && len > 0 && !self.is_empty() {
            self.first = self.first.with(added);
        } else if len > 0 {
            self.add_apart(added);
        }
    }

    #[cold]
    fn add_apart(&mut self, added: Range) {
        if self.is_empty() {
            self.first = added;
            return;
        }
        if let Some(range) = self.more.iter_mut().find(|range| range.meets(added)) {
            *range = range.with(added);
            // Whoever writes one element after the other goes on there.
            std::mem::swap(&mut self.first, range);
        } else if self.more.len() + 1 < RANGES {
            self.more.push(std::mem::replace(&mut self.first, added));
        } else {
            // The one that grows least takes it in.
            let all = std::iter::once(&mut self.first).chain(&mut self.more);
            let least = all.min_by_key(|range| range.with(added).len() - range.len());
            if let Some(range) = least {
                *range = range.with(added);
            }
        }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.first.len() == 0
    }

    /// Beginnings and ends.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = (!self.is_empty()).then_some(&self.first);
        let all = first.into_iter().chain(&self.more);
        all.map(|range| (range.start, range.end))
    }

    /// Whether anything between `start` and `end` was added.
    pub(crate) fn touches(&self, start: u64, end: u64) -> bool {
        self.ranges().any(|(from, to)| from < end && to > start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(u64, u64)]) -> Dirty {
        let mut dirty = Dirty::default();
        for &(start, len) in parts {
            dirty.add(start, len);
        }
        dirty
    }

    #[test]
    fn what_follows_itself_is_one_range() {
        let dirty = of(&[(8, 8), (16, 8), (24, 0), (20, 8)]);
        assert_eq!(dirty.ranges().collect::<Vec<_>>(), [(8, 28)]);
        assert!(of(&[(5, 0)]).is_empty());
    }

    #[test]
    fn too_many_ranges_grow_together_where_that_costs_least() {
        let dirty = of(&[(0, 8), (100, 8), (200, 8), (300, 8), (120, 8)]);
        let mut ranges: Vec<_> = dirty.ranges().collect();
        ranges.sort_unstable();
        assert_eq!(ranges, [(0, 8), (100, 128), (200, 208), (300, 308)]);
        assert!(dirty.touches(110, 111) && !dirty.touches(128, 200));
    }

    #[test]
    fn nothing_that_was_added_is_ever_missing() {
        let mut dirty = Dirty::default();
        let starts: Vec<u64> = (0..200).map(|step| step * 7_919 % 4_096).collect();
        for (index, &start) in starts.iter().enumerate() {
            dirty.add(start, 16);
            for &start in &starts[..=index] {
                let whole = |(from, to)| from <= start && to >= start + 16;
                assert!(dirty.ranges().any(whole), "{start} in {dirty:?}");
            }
        }
    }
}
