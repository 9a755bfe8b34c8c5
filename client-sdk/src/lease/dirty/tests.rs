use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const UNIT: u64 = 256;

fn of(parts: &[(u64, u64)]) -> Dirty {
    let mut dirty = Dirty::new(Bytes::new(UNIT));
    for &(start, len) in parts {
        dirty.add(start, len);
    }
    dirty
}

fn sorted(dirty: &Dirty) -> Vec<(u64, u64)> {
    let mut ranges: Vec<_> = dirty.ranges().collect();
    ranges.sort_unstable();
    ranges
}

#[test]
fn what_follows_itself_is_one_range() {
    let dirty = of(&[(8, 8), (16, 8), (24, 0), (20, 8)]);
    assert_eq!(sorted(&dirty), [(8, 28)]);
    assert!(of(&[(5, 0)]).is_empty());
}

#[test]
fn of_too_many_ranges_the_two_nearest_grow_together() {
    let dirty = of(&[(0, 8), (60, 8), (110, 8), (200, 8), (240, 8)]);
    assert_eq!(sorted(&dirty), [(0, 8), (60, 68), (110, 118), (200, 248)]);
    // Neither of the two need be the last.
    let dirty = of(&[(0, 8), (20, 8), (110, 8), (180, 8), (240, 8)]);
    assert_eq!(
        sorted(&dirty),
        [(0, 28), (110, 118), (180, 188), (240, 248)]
    );
    assert!(dirty.touches(10, 11) && !dirty.touches(188, 240));
}

#[test]
fn a_unit_that_nothing_was_written_to_is_never_marked() {
    let parts: Vec<_> = (0..100).map(|step| (step * 2 * UNIT, 8)).collect();
    let dirty = of(&parts);
    for unit in 0..200 {
        let touched = dirty.touches(unit * UNIT, (unit + 1) * UNIT);
        assert_eq!(touched, unit % 2 == 0, "unit {unit}");
    }
    // Two units that follow each other may have one range, and each was written.
    let dirty = of(&[(250, 1), (260, 1), (0, 1), (511, 1), (2_000, 1)]);
    assert_eq!(
        sorted(&dirty),
        [(0, 1), (250, 261), (511, 512), (2_000, 2_001)]
    );
}

/// The same by a list that is gone through anew for each range that does not meet the last one.
#[derive(Default)]
struct Naive {
    ranges: Vec<(u64, u64)>,
    last: (u64, u64),
    added: BTreeSet<u64>,
}

impl Naive {
    fn add(&mut self, start: u64, len: u64) {
        if len == 0 {
            return;
        }
        self.added.extend(start..start + len);
        self.ranges.push((start, start + len));
        if self.ranges.len() > 1 && start <= self.last.1 && start + len >= self.last.0 {
            self.last = (self.last.0.min(start), self.last.1.max(start + len));
            return;
        }
        self.join_nearest();
        let has_it = |range: &&(u64, u64)| range.0 <= start && range.1 >= start + len;
        self.last = *self.ranges.iter().find(has_it).unwrap();
    }

    fn join_nearest(&mut self) {
        self.join(|gap, _| gap == 0);
        while self.ranges.len() > RANGES {
            let gaps = self.ranges.windows(2).map(|pair| pair[1].0 - pair[0].1);
            let may = |pair: &[(u64, u64)]| {
                let between = (pair[0].1 - 1) / UNIT + 1..pair[1].0 / UNIT;
                between.is_empty()
            };
            let pairs = gaps.zip(self.ranges.windows(2)).enumerate();
            let nearest = pairs.filter(|(_, (_, pair))| may(pair));
            let Some(at) = nearest.min_by_key(|(_, (gap, _))| *gap).map(|(at, _)| at) else {
                return;
            };
            self.join(|_, left| left == at);
        }
    }

    /// Sorts, and joins each range with the next where `joined` says so.
    fn join(&mut self, joined: impl Fn(u64, usize) -> bool) {
        self.ranges.sort_unstable();
        let mut all: Vec<(u64, u64)> = Vec::new();
        for (index, &(start, end)) in self.ranges.iter().enumerate() {
            match all.last_mut() {
                Some(last) if joined(start.saturating_sub(last.1), index - 1) => {
                    last.1 = last.1.max(end);
                }
                _ => all.push((start, end)),
            }
        }
        self.ranges = all;
    }
}

/// Scattered over a few units, or over many.
fn parts() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let few = vec((0..4 * UNIT, 0..24_u64), 0..40);
    let many = vec((0..64 * UNIT, 0..2 * UNIT), 0..40);
    let apart = vec((0..64_u64).prop_map(|at| (at * UNIT / 2, 4)), 0..80);
    prop_oneof![few, many, apart]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn it_is_what_a_naive_list_is(parts in parts()) {
        let (mut dirty, mut naive) = (Dirty::new(Bytes::new(UNIT)), Naive::default());
        for &(start, len) in &parts {
            dirty.add(start, len);
            naive.add(start, len);
            let bytes = |ranges: &[(u64, u64)]| -> BTreeSet<u64> {
                ranges.iter().flat_map(|&(start, end)| start..end).collect()
            };
            let ranges = sorted(&dirty);
            let marked = bytes(&ranges);
            prop_assert_eq!(&marked, &bytes(&naive.ranges));
            prop_assert!(naive.added.is_subset(&marked), "something is missing");
            for unit in 0..70 {
                let (from, to) = (unit * UNIT, (unit + 1) * UNIT);
                let written = naive.added.range(from..to).next().is_some();
                prop_assert_eq!(dirty.touches(from, to), written, "unit {}", unit);
            }
            let units: BTreeSet<_> = naive.added.iter().map(|byte| byte / UNIT).collect();
            prop_assert!(ranges.len() <= RANGES.max(units.len()) + 1, "{:?}", ranges);
        }
    }
}
