//! Ranges of bytes, and sets of them.
//!
//! # Invariants
//! Of a [`SpanSet`]: its spans are not empty, do not overlap, and do not touch: two that would are
//! one. So two sets of the same bytes are equal.

use std::collections::BTreeMap;
use std::fmt;

/// A range of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Span {
    /// The range of `bytes` from `start` on; `None` where it has none, or runs past the end of the
    /// numbers.
    #[must_use]
    pub const fn new(start: u64, bytes: u64) -> Option<Self> {
        match start.checked_add(bytes) {
            Some(_) if bytes > 0 => Some(Self { start, bytes }),
            _ => None,
        }
    }

    /// Where it ends: the first byte after it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.start.saturating_add(self.bytes)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// What of it is in `other` too.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end().min(other.end()));
        Self::new(start, end.checked_sub(start)?)
    }

    /// What of it is before `other`, and what is after.
    #[must_use]
    pub fn without(self, other: Self) -> [Option<Self>; 2] {
        let Some(common) = self.common(other) else {
            return [Some(self), None];
        };
        let before = Self::new(self.start, common.start - self.start);
        [before, Self::new(common.end(), self.end() - common.end())]
    }

    /// Whether both of its ends are at multiples of `block`.
    #[must_use]
    pub const fn is_of(self, block: u64) -> bool {
        block != 0 && self.start.is_multiple_of(block) && self.bytes.is_multiple_of(block)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.start, self.bytes)
    }
}

/// A set of bytes, as the ranges that it is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanSet {
    /// By their starts, their lengths.
    spans: BTreeMap<u64, u64>,
}

impl SpanSet {
    /// All of `span`.
    #[must_use]
    pub fn of(span: Span) -> Self {
        Self {
            spans: [(span.start, span.bytes)].into(),
        }
    }

    /// All of `spans`; `None` where two of them overlap.
    #[must_use]
    pub fn of_all(spans: impl IntoIterator<Item = Span>) -> Option<Self> {
        let mut set = Self::default();
        let mut spans = spans.into_iter();
        spans.all(|span| set.insert(span)).then_some(set)
    }

    /// What of `span` is not in it, from the lowest.
    #[must_use]
    pub fn gaps(&self, span: Span) -> Vec<Span> {
        let (mut gaps, mut left) = (Vec::new(), Some(span));
        for part in self.iter() {
            let Some(rest) = left.filter(|rest| rest.common(part).is_some()) else {
                continue;
            };
            let [before, after] = rest.without(part);
            gaps.extend(before);
            left = after;
        }
        gaps.extend(left);
        gaps
    }

    /// Its ranges, from the lowest.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.spans
            .iter()
            .map(|(&start, &bytes)| Span { start, bytes })
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.spans.values().sum()
    }

    /// Whether all of `span` is in it.
    #[must_use]
    pub fn contains(&self, span: Span) -> bool {
        let before = self.spans.range(..=span.start).next_back();
        before.is_some_and(|(&start, &bytes)| Span { start, bytes }.contains(span))
    }

    /// Whether a byte of `span` is in it.
    #[must_use]
    pub fn overlaps(&self, span: Span) -> bool {
        let before = self.spans.range(..span.end()).next_back();
        before.is_some_and(|(&start, &bytes)| Span { start, bytes }.common(span).is_some())
    }

    /// Adds a range. False, and nothing changed, where a byte of it was there.
    #[must_use]
    pub fn insert(&mut self, span: Span) -> bool {
        if self.overlaps(span) {
            return false;
        }
        let mut new = span;
        let before = self.spans.range(..span.start).next_back();
        if let Some((&start, &bytes)) = before
            && start + bytes == span.start
        {
            new.start = start;
            new.bytes += bytes;
        }
        if let Some(bytes) = self.spans.remove(&span.end()) {
            new.bytes += bytes;
        }
        self.spans.insert(new.start, new.bytes);
        true
    }

    /// Takes a range away. False, and nothing changed, where a byte of it was missing.
    #[must_use]
    pub fn remove(&mut self, span: Span) -> bool {
        if !self.contains(span) {
            return false;
        }
        let before = self.spans.range(..=span.start).next_back();
        let Some(whole) = before.map(|(&start, &bytes)| Span { start, bytes }) else {
            return false;
        };
        self.spans.remove(&whole.start);
        for rest in whole.without(span).into_iter().flatten() {
            self.spans.insert(rest.start, rest.bytes);
        }
        true
    }

    /// Takes `bytes` away in one piece that begins at a multiple of `align`, the lowest there is.
    pub fn take_one(&mut self, bytes: u64, align: u64) -> Option<Span> {
        let found = self.iter().find_map(|span| {
            let start = span.start.checked_next_multiple_of(align)?;
            Span::new(start, bytes).filter(|piece| span.contains(*piece))
        })?;
        self.remove(found).then_some(found)
    }

    /// Takes `bytes`, a multiple of `align`, away in pieces that begin and end at multiples of
    /// `align`, the lowest there are. `None`, and nothing changed, where there are fewer.
    pub fn take_some(&mut self, bytes: u64, align: u64) -> Option<Vec<Span>> {
        let (mut left, mut pieces) = (bytes, Vec::new());
        for span in self.iter() {
            if left == 0 {
                break;
            }
            let start = span.start.checked_next_multiple_of(align)?;
            let room = span.end().saturating_sub(start) / align * align;
            if let Some(piece) = Span::new(start, room.min(left)) {
                left -= piece.bytes;
                pieces.push(piece);
            }
        }
        if left != 0 {
            return None;
        }
        pieces
            .iter()
            .all(|&piece| self.remove(piece))
            .then_some(pieces)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(start: u64, bytes: u64) -> Span {
        Span::new(start, bytes).unwrap()
    }

    #[test]
    fn a_span_has_bytes_and_an_end() {
        assert_eq!(Span::new(3, 0), None);
        assert_eq!(Span::new(u64::MAX, 1), None);
        assert_eq!(
            span(4, 4).without(span(5, 1)),
            [Some(span(4, 1)), Some(span(6, 2))]
        );
        assert_eq!(span(4, 4).without(span(0, 9)), [None, None]);
        assert_eq!(span(4, 4).without(span(9, 1)), [Some(span(4, 4)), None]);
        assert!(span(4, 4).is_of(4) && !span(4, 4).is_of(8) && !span(4, 4).is_of(0));
    }

    #[test]
    fn pieces_are_taken_from_the_lowest_at_multiples() {
        let mut set = SpanSet::of(span(3, 13));
        assert_eq!(set.take_one(4, 4), Some(span(4, 4)));
        assert_eq!(set.take_some(8, 4), Some(vec![span(8, 8)]));
        assert_eq!(set.take_some(4, 4), None);
        assert_eq!(set.iter().collect::<Vec<_>>(), [span(3, 1)]);
    }

    /// The bytes of some spans, all of them in `whole`.
    fn part_of(whole: &Span, spans: &[Span]) -> BTreeSet<u64> {
        assert!(spans.iter().all(|&span| whole.contains(span)));
        spans
            .iter()
            .flat_map(|span| span.start..span.end())
            .collect()
    }

    proptest! {
        /// A set does what a set of single bytes does.
        #[test]
        fn a_set_is_the_bytes_that_were_put_in(
            acts in prop::collection::vec((any::<bool>(), 0_u64..40, 1_u64..12), 0..60)
        ) {
            let (mut set, mut bytes) = (SpanSet::default(), BTreeSet::new());
            for (inserts, start, length) in acts {
                let part: BTreeSet<u64> = (start..start + length).collect();
                let act = span(start, length);
                prop_assert_eq!(set.overlaps(act), !bytes.is_disjoint(&part));
                prop_assert_eq!(set.contains(act), bytes.is_superset(&part));
                if inserts {
                    prop_assert_eq!(set.insert(act), bytes.is_disjoint(&part));
                    if bytes.is_disjoint(&part) {
                        bytes.extend(part);
                    }
                } else {
                    prop_assert_eq!(set.remove(act), bytes.is_superset(&part));
                    if bytes.is_superset(&part) {
                        bytes.retain(|byte| !part.contains(byte));
                    }
                }
                let all: BTreeSet<u64> = set.iter().flat_map(|it| it.start..it.end()).collect();
                prop_assert_eq!(&all, &bytes);
                let missing: BTreeSet<u64> = part_of(&act, &set.gaps(act));
                let expected = (act.start..act.end()).filter(|byte| !bytes.contains(byte));
                prop_assert_eq!(missing, expected.collect::<BTreeSet<u64>>());
                let spans: Vec<_> = set.iter().collect();
                prop_assert!(spans.windows(2).all(|pair| pair[0].end() < pair[1].start));
            }
        }
    }
}
