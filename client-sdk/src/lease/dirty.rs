//! What was written under a lease: a few ranges, which grow together where they are too many.
//!
//! # Invariants
//! 1. Every byte that was added lies in one of the first `count` ranges.
//! 2. Each of these is a range: it begins before it ends.

/// How many ranges are told apart.
const RANGES: usize = 4;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dirty {
    ranges: [(u64, u64); RANGES],
    count: usize,
}

impl Dirty {
    /// Adds the `len` bytes from `start`.
    #[inline]
    pub(crate) fn add(&mut self, start: u64, len: u64) {
        if len == 0 {
            return;
        }
        let end = start.saturating_add(len);
        // Whoever writes one element after the other stays in the range that it began last.
        if let Some(last) = self.count.checked_sub(1).map(|last| &mut self.ranges[last])
            && start >= last.0
            && start <= last.1
        {
            last.1 = last.1.max(end);
            return;
        }
        self.add_apart(start, end);
    }

    #[cold]
    fn add_apart(&mut self, start: u64, end: u64) {
        let known = &mut self.ranges[..self.count];
        let touched = known
            .iter_mut()
            .find(|(from, to)| start <= *to && end >= *from);
        if let Some((from, to)) = touched {
            (*from, *to) = ((*from).min(start), (*to).max(end));
        } else if self.count < RANGES {
            self.ranges[self.count] = (start, end);
            self.count += 1;
        } else {
            // The one that grows least takes it in.
            let grown = |(from, to): &(u64, u64)| {
                let (from, to) = ((*from).min(start), (*to).max(end));
                to - from
            };
            let size = |range: &(u64, u64)| grown(range) - (range.1 - range.0);
            if let Some((from, to)) = known.iter_mut().min_by_key(|range| size(range)) {
                (*from, *to) = ((*from).min(start), (*to).max(end));
            }
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Beginnings and ends.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges[..self.count].iter().copied()
    }

    /// Whether anything between `start` and `end` was added.
    #[inline]
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
        let ranges: Vec<_> = dirty.ranges().collect();
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
