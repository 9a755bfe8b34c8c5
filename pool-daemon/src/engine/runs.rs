//! A set of numbers kept as runs: the free extents of a device, the free addresses of the window.
//!
//! Every operation costs the logarithm of the number of runs, however fragmented the set is; taking
//! several runs costs that for each. Taking an aligned one looks besides at runs that are long
//! enough and have no aligned place: these are all shorter than what is taken and the alignment
//! together.
//!
//! # Invariants
//! 1. Runs are not empty, do not overlap and do not touch: neighbours are merged.
//! 2. `len` (what `count` says) is the sum of the runs' counts.
//! 3. `by_count` has the very runs of `runs`.

use std::collections::{BTreeMap, BTreeSet};

/// `count` neighbouring numbers from `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The lowest.
    pub first: u32,
    /// How many; never 0 inside a set.
    pub count: u32,
}

impl Run {
    /// One past the highest. The number space ends at `u32::MAX`, which no run contains.
    #[must_use]
    pub fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

/// Disjoint runs of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSet {
    /// First number to count.
    runs: BTreeMap<u32, u32>,
    /// Count and first number.
    by_count: BTreeSet<(u32, u32)>,
    len: u32,
}

/// The run is not what the set has: it overlaps, is missing, or passes the end of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run of {} from {} does not fit the set", run.count, run.first)]
pub struct Misfit {
    /// The run.
    pub run: Run,
}

impl RunSet {
    /// The numbers of one run.
    #[must_use]
    pub fn of(run: Run) -> Self {
        let mut set = Self::default();
        if run.count > 0 {
            set.put(run);
            set.len = run.count;
        }
        set
    }

    fn put(&mut self, run: Run) {
        self.runs.insert(run.first, run.count);
        self.by_count.insert((run.count, run.first));
    }

    fn pull(&mut self, run: Run) {
        self.runs.remove(&run.first);
        self.by_count.remove(&(run.count, run.first));
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.len
    }

    /// The runs from the lowest.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs
            .iter()
            .map(|(&first, &count)| Run { first, count })
    }

    /// Adds a run.
    ///
    /// # Errors
    /// [`Misfit`], and the set is unchanged, where a number of it is there already.
    pub fn insert(&mut self, run: Run) -> Result<(), Misfit> {
        if run.count == 0 {
            return Ok(());
        }
        let end = run.first.checked_add(run.count).ok_or(Misfit { run })?;
        let before = self
            .runs
            .range(..=run.first)
            .next_back()
            .map(|(&f, &c)| Run { first: f, count: c });
        let after = self
            .runs
            .range(run.first..)
            .next()
            .map(|(&f, &c)| Run { first: f, count: c });
        if before.is_some_and(|b| b.end() > run.first) || after.is_some_and(|a| a.first < end) {
            return Err(Misfit { run });
        }
        let mut merged = run;
        if let Some(b) = before.filter(|b| b.end() == run.first) {
            self.pull(b);
            merged = Run {
                first: b.first,
                count: b.count + merged.count,
            };
        }
        if let Some(a) = after.filter(|a| a.first == end) {
            self.pull(a);
            merged.count += a.count;
        }
        self.put(merged);
        self.len += run.count;
        Ok(())
    }

    /// Takes just this run out.
    ///
    /// # Errors
    /// [`Misfit`], and the set is unchanged, where a number of it is missing.
    pub fn remove(&mut self, run: Run) -> Result<(), Misfit> {
        if run.count == 0 {
            return Ok(());
        }
        let end = run.first.checked_add(run.count).ok_or(Misfit { run })?;
        let holding = self
            .runs
            .range(..=run.first)
            .next_back()
            .map(|(&f, &c)| Run { first: f, count: c });
        let holding = holding.filter(|h| h.end() >= end).ok_or(Misfit { run })?;
        self.pull(holding);
        if holding.first < run.first {
            self.put(Run {
                first: holding.first,
                count: run.first - holding.first,
            });
        }
        if end < holding.end() {
            self.put(Run {
                first: end,
                count: holding.end() - end,
            });
        }
        self.len -= run.count;
        Ok(())
    }

    /// Takes `count` neighbours out: of the shortest run that has them, the lowest of these.
    pub fn take_run(&mut self, count: u32) -> Option<Run> {
        self.take_aligned(count, 1, 0)
    }

    /// Takes `count` neighbours out of which the lowest and `phase` add up to a multiple of
    /// `align`, for which 0 is as good as 1: of the shortest run that has them, the lowest of
    /// these.
    pub fn take_aligned(&mut self, count: u32, align: u32, phase: u32) -> Option<Run> {
        let place_in = |&(length, first): &(u32, u32)| {
            let place = u64::from(first) + u64::from(phase);
            let skipped = place.next_multiple_of(u64::from(align.max(1))) - place;
            let skipped = u32::try_from(skipped).ok()?;
            let first = first.checked_add(skipped)?;
            (length.checked_sub(skipped)? >= count).then_some(Run { first, count })
        };
        let run = self.by_count.range((count, 0)..).find_map(place_in)?;
        self.remove(run).ok()?;
        Some(run)
    }

    /// Takes `count` numbers out: as one run where one is long enough, otherwise in as few runs as
    /// can be, the longest first. `None`, and the set is unchanged, where there are fewer.
    pub fn take(&mut self, count: u32) -> Option<Vec<Run>> {
        if count > self.len {
            return None;
        }
        let (mut taken, mut missing) = (Vec::new(), count);
        while missing > 0 {
            if let Some(rest) = self.take_run(missing) {
                taken.push(rest);
                return Some(taken);
            }
            let &(count, first) = self.by_count.last()?;
            let run = Run { first, count };
            self.remove(run).ok()?;
            missing -= count;
            taken.push(run);
        }
        Some(taken)
    }

    /// Takes the `count` highest numbers out. `None`, and the set is unchanged, where there are
    /// fewer.
    pub fn take_highest(&mut self, count: u32) -> Option<Vec<Run>> {
        if count > self.len {
            return None;
        }
        let mut taken = Vec::new();
        let mut missing = count;
        while missing > 0 {
            let (&first, &length) = self.runs.iter().next_back()?;
            let part = length.min(missing);
            let run = Run {
                first: first + (length - part),
                count: part,
            };
            self.remove(run).ok()?;
            missing -= part;
            taken.push(run);
        }
        Some(taken)
    }
}

impl RunSet {
    /// The numbers that both sets have.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut common = Self::default();
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        while let (Some(&a), Some(&b)) = (ours.peek(), theirs.peek()) {
            let first = a.first.max(b.first);
            let count = a.end().min(b.end()).saturating_sub(first);
            if count > 0 {
                common.put(Run { first, count });
                common.len += count;
            }
            if a.end() <= b.end() {
                ours.next();
            } else {
                theirs.next();
            }
        }
        common
    }

    /// The parts of a run that the set has, from the lowest.
    #[must_use]
    pub fn within(&self, run: Run) -> Vec<Run> {
        let before = self.runs.range(..run.first).next_back();
        let inside = self.runs.range(run.first..run.end());
        let all = before.into_iter().chain(inside);
        let parts = all.filter_map(|(&first, &count)| {
            let (low, high) = (first.max(run.first), (first + count).min(run.end()));
            let count = high.checked_sub(low).filter(|&count| count > 0)?;
            Some(Run { first: low, count })
        });
        parts.collect()
    }

    /// The numbers that the other set has not.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        for run in self.common(other).iter() {
            // It is a part of a run of ours.
            let removed = rest.remove(run);
            debug_assert!(removed.is_ok(), "what is common is ours");
        }
        rest
    }

    /// Adds all numbers of another set.
    ///
    /// # Errors
    /// [`Misfit`] where one is there already; runs before it are added by then.
    pub fn add(&mut self, other: &Self) -> Result<(), Misfit> {
        other.iter().try_for_each(|run| self.insert(run))
    }
}

impl FromIterator<Run> for RunSet {
    /// The numbers of all runs: what several have is there once.
    fn from_iter<T: IntoIterator<Item = Run>>(runs: T) -> Self {
        let mut runs: Vec<Run> = runs.into_iter().filter(|run| run.count > 0).collect();
        runs.sort_unstable_by_key(|run| run.first);
        let (mut all, mut runs) = (Self::default(), runs.into_iter().peekable());
        while let Some(mut run) = runs.next() {
            while let Some(next) = runs.next_if(|next| next.first <= run.end()) {
                run.count = run.end().max(next.end()) - run.first;
            }
            run.count = run.end() - run.first;
            all.put(run);
            all.len += run.count;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn numbers(runs: &[Run]) -> BTreeSet<u32> {
        runs.iter().flat_map(|r| r.first..r.end()).collect()
    }

    /// Each number of each run is tried: the lowest that will do, of the shortest run.
    fn aligned_place(set: &RunSet, count: u32, align: u32, phase: u32) -> Option<Run> {
        let fits = |run: Run| {
            let places = (run.first..run.end()).filter(|n| (n + phase).is_multiple_of(align));
            let mut long_enough = places.filter(|n| run.end() - n >= count);
            let first = long_enough.next()?;
            Some((run.count, Run { first, count }))
        };
        let best = set.iter().filter_map(fits).min();
        best.map(|(_, run)| run)
    }

    #[derive(Debug, Clone)]
    enum Op {
        Insert(Run),
        Remove(Run),
        TakeAligned(u32, u32, u32),
        Take(u32),
        TakeHighest(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        let run = (0..60_u32, 0..12_u32).prop_map(|(first, count)| Run { first, count });
        let aligns = (0..6_u32).prop_map(|shift| 1 << shift);
        prop_oneof![
            3 => run.clone().prop_map(Op::Insert),
            2 => run.prop_map(Op::Remove),
            1 => (1..12_u32).prop_map(|count| Op::TakeAligned(count, 1, 0)),
            2 => (1..12_u32, aligns, 0..32_u32).prop_map(|(n, a, p)| Op::TakeAligned(n, a, p)),
            1 => (1..24_u32).prop_map(Op::Take),
            1 => (1..24_u32).prop_map(Op::TakeHighest),
        ]
    }

    fn set_of(runs: &[(u32, u32)]) -> RunSet {
        let mut set = RunSet::default();
        for &(first, count) in runs {
            set.insert(Run { first, count }).unwrap();
        }
        set
    }

    #[test]
    fn what_is_aligned_is_taken_of_the_shortest_run_that_has_a_place_for_it() {
        // Of the first one, 5 to 8, only the last is a multiple of 4.
        let mut set = set_of(&[(5, 4), (17, 8), (33, 16)]);
        let run = |first, count| Some(Run { first, count });
        assert_eq!(set.take_aligned(4, 4, 0), run(20, 4));
        assert_eq!(
            set.take_aligned(4, 4, 3),
            run(5, 4),
            "5 and 3 are a multiple of 4"
        );
        assert_eq!(set.take_aligned(8, 8, 0), run(40, 8));
        assert_eq!(
            set.take_aligned(8, 8, 0),
            None,
            "what is left is too short or has no place"
        );
        assert_eq!(set.iter().count(), 4);
        assert_eq!(set.take_aligned(7, 0, 9), run(33, 7), "0 is as good as 1");
    }

    #[test]
    fn an_aligned_place_at_the_end_of_the_numbers_is_none_that_wraps() {
        let last = u32::MAX - 1;
        let mut set = set_of(&[(last, 1)]);
        for (align, phase) in [
            (4, 0),
            (1 << 31, 0),
            (1 << 31, u32::MAX),
            (u32::MAX, u32::MAX),
        ] {
            assert_eq!(set.take_aligned(1, align, phase), None, "{align} {phase}");
        }
        let due = Run {
            first: last,
            count: 1,
        };
        assert_eq!(set.take_aligned(1, 1 << 31, 2), Some(due));
        assert_eq!(set.count(), 0);
    }

    fn some_runs() -> impl Strategy<Value = Vec<Run>> {
        let run = (0..60_u32, 0..12_u32).prop_map(|(first, count)| Run { first, count });
        proptest::collection::vec(run, 0..8)
    }

    proptest! {
        #[test]
        fn two_run_sets_are_two_sets_of_numbers(a in some_runs(), b in some_runs()) {
            let (ours, theirs) = (numbers(&a), numbers(&b));
            let (a, b) = (RunSet::from_iter(a), RunSet::from_iter(b));
            let all = |set: &RunSet| numbers(&set.iter().collect::<Vec<_>>());
            prop_assert_eq!(all(&a), ours.clone());
            let (common, rest) = (a.common(&b), a.minus(&b));
            prop_assert_eq!(all(&common), &ours & &theirs);
            prop_assert_eq!(all(&rest), &ours - &theirs);
            prop_assert_eq!(common.count() + rest.count(), a.count());
            let within = b.iter().flat_map(|run| a.within(run)).collect::<RunSet>();
            prop_assert_eq!(&within, &common);
            let mut again = rest;
            prop_assert!(again.add(&common).is_ok());
            prop_assert_eq!(again, a);
        }

        #[test]
        fn a_run_set_is_a_set_of_numbers(ops in proptest::collection::vec(op(), 1..200)) {
            let (mut set, mut oracle) = (RunSet::default(), BTreeSet::new());
            for op in ops {
                match op {
                    Op::Insert(run) => {
                        let wanted = numbers(&[run]);
                        let fits = wanted.is_disjoint(&oracle);
                        prop_assert_eq!(set.insert(run).is_ok(), fits);
                        if fits { oracle.extend(wanted); }
                    }
                    Op::Remove(run) => {
                        let wanted = numbers(&[run]);
                        let fits = wanted.is_subset(&oracle);
                        prop_assert_eq!(set.remove(run).is_ok(), fits);
                        if fits { oracle.retain(|n| !wanted.contains(n)); }
                    }
                    Op::TakeAligned(count, align, phase) => {
                        let due = aligned_place(&set, count, align, phase);
                        let taken = match align {
                            1 => set.take_run(count),
                            align => set.take_aligned(count, align, phase),
                        };
                        prop_assert_eq!(taken, due);
                        for n in numbers(taken.as_slice()) { prop_assert!(oracle.remove(&n)); }
                    }
                    Op::Take(count) | Op::TakeHighest(count) => {
                        let highest = matches!(op, Op::TakeHighest(_));
                        let taken = if highest { set.take_highest(count) } else { set.take(count) };
                        prop_assert_eq!(taken.is_some(), oracle.len() >= count as usize);
                        let taken = numbers(&taken.unwrap_or_default());
                        if !taken.is_empty() { prop_assert_eq!(taken.len(), count as usize); }
                        for n in &taken { prop_assert!(oracle.remove(n)); }
                        if highest && let (Some(low), Some(rest)) = (taken.first(), oracle.last()) {
                            prop_assert!(rest < low);
                        }
                    }
                }
                let runs: Vec<Run> = set.iter().collect();
                prop_assert_eq!(&numbers(&runs), &oracle);
                prop_assert_eq!(set.count() as usize, oracle.len());
                for pair in runs.windows(2) {
                    prop_assert!(pair[0].end() < pair[1].first, "invariant 1");
                }
            }
        }
    }
}
