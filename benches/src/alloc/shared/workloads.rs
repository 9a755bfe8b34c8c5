//! The workloads of shared heaps: what each is, how much of it, and what it shows. What they do
//! stands in the programs that do it: `ours/workloads.rs`, `benches/shared_peers/workloads.hpp`.
//!
//! An operation is a block taken, its first word written, published where a heap knows that, and
//! given back. They were sized so that the slowest peer takes some seconds.

use super::super::private::Run;

/// One workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// What the programs call it.
    pub(super) kind: &'static str,
    /// Bytes of a block; zero where blocks are of many sizes.
    pub(super) bytes: usize,
    /// With how many processes it is run.
    pub(super) processes: &'static [u64],
    /// About how many operations all processes do together.
    operations: u64,
    /// They do whole units of so many together, times the number of processes.
    unit: u64,
    pub(super) counts: Counts,
    /// What a heap has to do well here.
    pub(super) shows: &'static str,
}

/// What of a workload is told besides the time that it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// Its time is part of the mean over all.
    pub(super) time: bool,
    /// Processor time, which is told where nobody waits for the other.
    pub(super) cpu: bool,
    /// The memory for what is live.
    pub(super) held: bool,
    /// Single calls are timed, in a run of their own.
    pub(super) tail: bool,
}

const TIME: Counts = Counts {
    time: true,
    cpu: true,
    held: false,
    tail: false,
};
const BOTH: Counts = Counts { held: true, ..TIME };
const ALL: Counts = Counts { tail: true, ..BOTH };
/// One waits for the other, and looks again and again.
const PASSED: Counts = Counts {
    cpu: false,
    held: false,
    ..ALL
};
/// Too short for its time to be weighed with that of others.
const MEMORY: Counts = Counts {
    time: false,
    ..BOTH
};

macro_rules! workload {
    ($name:literal, $kind:literal, $bytes:literal, $processes:expr, $operations:expr, $unit:expr,
     $counts:ident, $shows:literal) => {
        Workload {
            name: $name,
            kind: $kind,
            bytes: $bytes,
            processes: &$processes,
            operations: $operations,
            unit: $unit,
            counts: $counts,
            shows: $shows,
        }
    };
}

/// All of them.
#[rustfmt::skip]
pub(super) const WORKLOADS: [Workload; 11] = [
    workload!("batch-16", "batch", 16, [1, 2], 2_000_000, 10_000, TIME,
        "ten thousand of the smallest, in order"),
    workload!("batch-64", "batch", 64, [1, 2], 2_000_000, 10_000, TIME,
        "ten thousand of one size, in order"),
    workload!("batch-256", "batch", 256, [1, 2], 2_000_000, 10_000, TIME,
        "the same, larger"),
    workload!("batch-512", "batch", 512, [1, 2], 2_000_000, 10_000, TIME,
        "the same, larger still"),
    workload!("lifo-64", "lifo", 64, [1, 2], 2_000_000, 1, TIME,
        "the shortest way"),
    workload!("random", "random", 0, [1, 2], 1_000_000, 1, ALL,
        "a working set of 10,000 blocks of 16 to 1,024 bytes, at random"),
    workload!("threadtest-8", "threadtest", 8, [1, 2], 2_000_000, 100_000, BOTH,
        "many of the smallest"),
    workload!("threadtest-512", "threadtest", 512, [1, 2], 2_000_000, 100_000, BOTH,
        "more than a cache holds"),
    workload!("larson-512", "larson", 0, [1, 2], 1_000_000, 50_000, ALL,
        "blocks of 8 to 512 bytes, freed by the other process"),
    workload!("hand-over", "hand-over", 0, [2], 1_000_000, 1, PASSED,
        "blocks given back by a process that takes none"),
    workload!("survivor", "survivor", 64, [1, 2], 200_000, 100_000, MEMORY,
        "one survivor of 1,024 in a row, then as many blocks again"),
];

impl Workload {
    /// How many operations so many processes do.
    pub(super) fn amount(&self, processes: u64, run: Run) -> u64 {
        let unit = self.unit * processes;
        (self.operations / run.part / unit).max(1) * unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_does_whole_units_and_one_at_least() {
        for workload in WORKLOADS {
            for &processes in workload.processes {
                for run in [Run::WHOLE, Run::QUICK, Run::SMOKE, Run::WHOLE.tail()] {
                    let amount = workload.amount(processes, run);
                    let share = amount / processes;
                    assert!(share >= workload.unit, "{}", workload.name);
                    assert_eq!(share % workload.unit, 0, "{}", workload.name);
                    assert!(run.part == u64::MAX || amount <= workload.operations);
                }
            }
        }
    }

    #[test]
    fn a_name_is_of_one_workload() {
        let mut names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WORKLOADS.len());
    }
}
