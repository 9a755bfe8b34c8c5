//! The workloads: what each does, how much of it, and what it shows.
//!
//! They are written after the descriptions of classic programs, not after their code. An operation
//! is a block taken and given back, or a buffer resized. Each does the same operations for each
//! contender, for a quarter of a second to one on the machine that they were sized on.

use super::super::random::Random;
use super::super::times::Times;
use super::calls::{Calls, Plain, Timed};
use super::crew::{Done, Task, together};
use super::heap::{Block, Slot};

mod batch;
mod cache;
mod fragmentation;
mod glibc;
mod large;
mod larson;
mod lifo;
mod mstress;
mod realloc;
mod rptest;
mod shbench;
mod threadtest;
mod xmalloc;

/// One workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// With how many threads it is run.
    pub(super) threads: &'static [usize],
    /// About how many operations each thread does.
    pub(super) operations: u64,
    /// A thread does whole units of so many.
    unit: usize,
    plain: fn(Task) -> Done,
    timed: fn(Task) -> Done,
    pub(super) counts: Counts,
    /// What an allocator has to do well here.
    pub(super) shows: &'static str,
}

/// What of a workload is told besides its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// Its time is part of the mean over all.
    pub(super) time: bool,
    /// It takes enough memory for that to be compared.
    pub(super) memory: bool,
    /// What is left at its end is told.
    pub(super) left: bool,
    /// Single calls are timed, in a run of their own.
    pub(super) tail: bool,
}

const TIME: Counts = Counts {
    time: true,
    memory: false,
    left: false,
    tail: false,
};
const BOTH: Counts = Counts {
    memory: true,
    ..TIME
};
const ALL: Counts = Counts { tail: true, ..BOTH };
/// No part of the mean: what is measured is a cache, or a kernel.
const ASIDE: Counts = Counts {
    time: false,
    ..TIME
};
const MEMORY: Counts = Counts {
    memory: true,
    ..ASIDE
};
const LEFT: Counts = Counts {
    left: true,
    ..MEMORY
};

macro_rules! workload {
    ($name:literal, $threads:expr, $operations:expr, $unit:expr, $($run:ident)::+, $counts:ident,
     $shows:literal) => {
        Workload {
            name: $name,
            threads: &$threads,
            operations: $operations,
            unit: $unit,
            plain: $($run)::+::<Plain>,
            timed: $($run)::+::<Timed>,
            counts: $counts,
            shows: $shows,
        }
    };
}

/// All of them.
#[rustfmt::skip]
pub(super) const WORKLOADS: [Workload; 17] = [
    workload!("larson", [1, 2], 4_000_000, larson::TURN, larson::run, ALL,
        "blocks that outlive their thread"),
    workload!("xmalloc", [2, 4], 4_000_000, xmalloc::BATCH, xmalloc::run, ALL,
        "blocks given back by a thread that takes none"),
    workload!("threadtest", [1, 2], 20_000_000, threadtest::OBJECTS, threadtest::run, TIME,
        "many of the smallest"),
    workload!("sh6", [1, 2], 10_000_000, shbench::ROUND, shbench::sh6, TIME,
        "runs of one size, back and forth"),
    workload!("sh8", [1, 2], 10_000_000, shbench::ROUND, shbench::sh8, TIME,
        "the same, some of them in other hands"),
    workload!("mstress", [1, 2], 4_000_000, mstress::LIFE, mstress::run, ALL,
        "mixed lifetimes, threads that come and go"),
    workload!("rptest", [1, 2], 4_000_000, rptest::LOOP, rptest::run, ALL,
        "sizes up to 16,000 bytes, some in other hands"),
    workload!("glibc-simple", [1, 2], 10_000_000, glibc::PASS, glibc::simple, TIME,
        "a few of one size at a time"),
    workload!("glibc-thread", [1, 2], 8_000_000, 1, glibc::thread, ALL,
        "a working set at random"),
    workload!("lifo", [1, 2], 40_000_000, 1, lifo::run, TIME,
        "the shortest way"),
    workload!("batch", [1, 2], 20_000_000, batch::BLOCKS, batch::in_order, TIME,
        "ten thousand of one size, in order"),
    workload!("batch-shuffled", [1, 2], 15_000_000, batch::BLOCKS, batch::shuffled, TIME,
        "ten thousand of one size, in any order"),
    workload!("realloc", [1, 2], 1_500_000, 1, realloc::run, BOTH,
        "buffers that grow"),
    workload!("large", [1, 2], 200, 1, large::run, MEMORY,
        "blocks of 1 to 25 MiB"),
    workload!("fragmentation", [2], 2_000_000, fragmentation::UNIT, fragmentation::run, LEFT,
        "one survivor of each 64 KiB"),
    workload!("cache-scratch", [1, 2], 2_000_000, 1, cache::scratch, ASIDE,
        "no line for two threads, passively"),
    workload!("cache-thrash", [1, 2], 2_000_000, 1, cache::thrash, ASIDE,
        "no line for two threads, actively"),
];

/// How much of a workload is done, and whether each call is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Run {
    /// One part of so many; a unit of each thread at least.
    #[arg(long)]
    pub(in crate::alloc) part: u64,
    #[arg(long)]
    pub(in crate::alloc) timed: bool,
}

impl Run {
    /// All of it.
    pub(crate) const WHOLE: Self = Self {
        part: 1,
        timed: false,
    };
    /// A third of it.
    pub(crate) const QUICK: Self = Self {
        part: 3,
        timed: false,
    };
    /// As little as there is.
    pub(crate) const SMOKE: Self = Self {
        part: u64::MAX,
        timed: false,
    };

    /// What is done for the tail: a quarter, each call timed.
    pub(in crate::alloc) const fn tail(self) -> Self {
        Self {
            part: self.part.saturating_mul(4),
            timed: true,
        }
    }

    /// As a worker is told.
    pub(super) fn arguments(self) -> impl Iterator<Item = String> {
        let part = ["--part".to_owned(), self.part.to_string()];
        part.into_iter()
            .chain(self.timed.then(|| "--timed".to_owned()))
    }
}

impl Workload {
    /// The one of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        WORKLOADS.into_iter().find(|workload| workload.name == name)
    }

    /// What it is with so many threads.
    pub(super) fn task(&self, threads: usize, run: Run) -> Task {
        Task::new(
            threads,
            self.operations * threads as u64 / run.part,
            self.unit,
        )
    }

    /// Does it.
    pub(super) fn run(&self, task: Task, run: Run) -> Done {
        let work = if run.timed { self.timed } else { self.plain };
        work(task)
    }
}

/// Room for as many blocks.
fn places(count: usize) -> Vec<Option<Block>> {
    std::iter::repeat_with(|| None).take(count).collect()
}

/// Room for as many blocks, among threads.
fn desk(count: usize) -> Vec<Slot> {
    std::iter::repeat_with(Slot::default).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_does_what_it_is_to_do() {
        for workload in WORKLOADS {
            for &threads in workload.threads {
                for run in [Run::SMOKE, Run::SMOKE.tail()] {
                    let task = workload.task(threads, run);
                    let done = workload.run(task, run);
                    assert_eq!(done.operations, task.operations, "{}", workload.name);
                    let timed = done.times.all_but_a_thousandth().is_some();
                    assert_eq!(timed, run.timed, "{}", workload.name);
                }
            }
        }
    }

    #[test]
    fn a_name_is_of_one_workload() {
        for workload in WORKLOADS {
            let named = Workload::named(workload.name).unwrap();
            assert_eq!(named.shows, workload.shows);
        }
        assert!(Workload::named("none").is_none());
    }
}
