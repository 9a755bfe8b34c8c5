//! What was written under a lease: a few ranges, which grow together where they are too many.
//!
//! Most guards write one range, from its beginning to its end. It is kept in place; memory is
//! allocated for the others only.
//!
//! Where two ranges grow together the bytes between them count as written. That costs lines that
//! are written back in vain, and nothing else, as long as they are of units that were written
//! anyway: the version of a unit rises for others to see. So ranges that have a whole unit between
//! them which nothing was written to stay apart, however many they are; of the others the two grow
//! together that are nearest to each other.
//!
//! # Invariants
//! 1. Every byte that was added lies in `hot` or in one of `rest`.
//! 2. Every unit that a range touches has a byte that was added.
//! 3. `hot` is empty only where nothing was added. `rest` is in rising order, and its ranges have
//!    bytes between each other; `hot`, which grows in place, may have come to meet some of them.
//! 4. After each range that was added apart there are at most [`RANGES`] ranges, or no two
//!    neighbours that may grow together. So there are no more than units that were written, or
//!    [`RANGES`].

use pool_core::Bytes;

/// How many ranges are told apart where they may grow together.
const RANGES: usize = 4;

#[derive(Debug)]
pub(crate) struct Dirty {
    /// The one that was added to last.
    hot: Range,
    rest: Vec<Range>,
    /// The logarithm of the size of a unit.
    unit: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
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
    /// Nothing yet, of units of `unit` bytes, a power of two.
    #[inline]
    pub(crate) const fn new(unit: Bytes) -> Self {
        Self {
            hot: Range { start: 0, end: 0 },
            rest: Vec::new(),
            unit: unit.get().trailing_zeros(),
        }
    }

    /// Adds the `len` bytes from `start`.
    #[inline]
    pub(crate) fn add(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        let added = Range { start, end };
        if len == 0 {
            // Nothing is written.
        } else if self.is_empty() {
            self.hot = added;
        } else if added.meets(self.hot) {
            self.hot = self.hot.with(added);
        } else {
            *self = self.take_out().with_apart(added);
        }
    }

    /// With a range that does not meet the one that was added to last.
    #[cold]
    #[inline(never)]
    fn with_apart(mut self, added: Range) -> Self {
        self.insert(self.hot);
        // Whoever writes one element after the other goes on there.
        let mut at = self.insert(added);
        while self.rest.len() > RANGES {
            let Some(left) = self.nearest() else { break };
            let right = self.rest.remove(left + 1);
            self.rest[left] = self.rest[left].with(right);
            if at > left {
                at -= 1;
            }
        }
        self.hot = self.rest.remove(at);
        self
    }

    /// Puts a range where it belongs, together with those that it meets. Says where it is.
    fn insert(&mut self, added: Range) -> usize {
        let from = self.rest.partition_point(|range| range.end < added.start);
        let to = self.rest.partition_point(|range| range.start <= added.end);
        let met = self.rest[from..to].iter();
        let grown = met.fold(added, |grown, range| grown.with(*range));
        self.rest.splice(from..to, [grown]);
        from
    }

    /// The left one of the two neighbours that are nearest to each other, of those that may grow
    /// together.
    fn nearest(&self) -> Option<usize> {
        let pairs = self.rest.iter().zip(self.rest.iter().skip(1)).enumerate();
        let mergeable = pairs.filter(|(_, (left, right))| self.may_merge(**left, **right));
        let nearest = mergeable.min_by_key(|(_, (left, right))| right.start - left.end);
        nearest.map(|(left, _)| left)
    }

    /// Whether there is no whole unit between the two.
    const fn may_merge(&self, left: Range, right: Range) -> bool {
        // No range is empty, so it has a last byte.
        right.start >> self.unit <= ((left.end - 1) >> self.unit) + 1
    }

    /// The same; nothing is left here.
    #[inline]
    pub(crate) fn take_out(&mut self) -> Self {
        Self {
            hot: std::mem::take(&mut self.hot),
            rest: std::mem::take(&mut self.rest),
            unit: self.unit,
        }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.hot.end == 0
    }

    /// Beginnings and ends.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let hot = (!self.is_empty()).then_some(&self.hot);
        let all = hot.into_iter().chain(&self.rest);
        all.map(|range| (range.start, range.end))
    }

    /// Whether anything between `start` and `end` was added.
    pub(crate) fn touches(&self, start: u64, end: u64) -> bool {
        let touched = |range: &Range| range.start < end && range.end > start;
        let first = self.rest.partition_point(|range| range.end <= start);
        touched(&self.hot) || self.rest.get(first).is_some_and(touched)
    }
}

#[cfg(test)]
mod tests;
