//! Many seeds, on all processors, and what they come to together.
//!
//! Each seed is a world of its own: which thread runs it, and when, changes nothing. What they come
//! to is told in the order of the seeds.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::sync::thread;

use crate::mix::Mix;
use crate::run::{Outcome, run};
use crate::trace::{MARKS, Point, fold};
use crate::world::heap::POINTS;

/// From so many ops on in all, everything rare has to be reached.
pub const MARKS_FROM_OPS: usize = 1_000_000;

/// What the seeds came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Of all seeds, in their order.
    pub hash: u64,
    /// How many seeds were run.
    pub seeds: u64,
    /// How many ops were played.
    pub ops: usize,
    /// Each event, and how often it happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Each fault, and how often it was done.
    pub faults: BTreeMap<&'static str, u64>,
    /// Which rare things were reached.
    pub marks: BTreeSet<&'static str>,
    /// Which crash points of the heap were passed, and how often somebody died there.
    pub points: BTreeMap<&'static str, Point>,
    /// The seeds that broke something, and what came of them.
    pub failures: Vec<(u64, Outcome)>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.hash = fold(fold(self.hash, seed), outcome.hash);
        self.seeds += 1;
        self.ops += outcome.ops;
        for (name, count) in &outcome.counts {
            *self.counts.entry(name).or_default() += count;
        }
        for (name, count) in &outcome.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, point) in &outcome.points {
            let all = self.points.entry(name).or_default();
            (all.passed, all.died) = (all.passed + point.passed, all.died + point.died);
        }
        self.marks.extend(&outcome.marks);
        if outcome.failure.is_some() {
            self.failures.push((seed, outcome));
        }
    }

    /// What was to be reached and was not; nothing is to be where few ops were played.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        if self.ops < MARKS_FROM_OPS {
            return Vec::new();
        }
        let missed = MARKS.into_iter().filter(|mark| !self.marks.contains(mark));
        let died = |point: &&str| self.points.get(point).is_some_and(|point| point.died > 0);
        // Where no heaps are built in, nobody passes any of them.
        let points = POINTS.into_iter().filter(|_| cfg!(feature = "fault"));
        missed.chain(points.filter(|point| !died(point))).collect()
    }

    /// Crash points of the heap at which somebody died, and how many there are.
    #[must_use]
    pub fn died_at(&self) -> (usize, usize) {
        let died = self.points.values().filter(|point| point.died > 0);
        (died.count(), POINTS.len())
    }
}

/// Runs `count` seeds from `first` on, each with `ops` ops, in so many `threads`. `tell` is told
/// each outcome, in the order of the seeds.
pub fn campaign(
    (first, count): (u64, u64),
    ops: usize,
    threads: usize,
    mut tell: impl FnMut(u64, &Outcome),
) -> Summary {
    let threads = threads.max(1);
    let mine = |thread: usize| {
        let seeds = (first..first.saturating_add(count))
            .skip(thread)
            .step_by(threads);
        let run_one = |seed| {
            let mix = Mix::draw(seed);
            (seed, run(&mix, &mix.ops(ops)))
        };
        seeds.map(run_one).collect::<Vec<_>>()
    };
    let mut all: Vec<(u64, Outcome)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || mine(thread)))
            .collect();
        // A panic within a run is its outcome; one outside of it is this program's own.
        let done = running.into_iter().map(thread::ScopedJoinHandle::join);
        done.flat_map(|done| match done {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
        .collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    let mut summary = Summary::default();
    for (seed, outcome) in all {
        tell(seed, &outcome);
        summary.add(seed, outcome);
    }
    summary
}
