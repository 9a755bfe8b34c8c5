//! The heap of one process: the classic workloads, each in a process of its own that is run with
//! one contender's library in the place of the C library's heap.
//!
//! A case is one workload with one number of threads. In each round each contender does it once, in
//! a new process that times itself ([`worker`]); the same operations each time. Where the tail of
//! single calls is told, it comes of a second run, which times each call.

use super::means::Means;
use super::turns::{Entry, Lines, turns};
use super::{Plan, tables};
use crate::contest::{OURS_AGAIN, Result};
use crate::report::Report;

mod calls;
mod crew;
mod heap;
mod heaps;
pub(crate) mod worker;
mod workloads;

pub(super) use heaps::Heaps;
pub(super) use workloads::Run;

use heaps::Heap;
use worker::Line;
use workloads::{WORKLOADS, Workload};

/// Whether there is a workload of that name.
pub(super) fn has(name: &str) -> bool {
    Workload::named(name).is_some()
}

/// Measures.
pub(super) fn measure(heaps: &Heaps, plan: &Plan<'_>, report: &mut Report) -> anyhow::Result<()> {
    for missing in &heaps.missing {
        report.leave_out("all workloads".into(), missing.name, missing.why)?;
    }
    let mut means = Means::new("geometric mean");
    for workload in &WORKLOADS {
        if !plan.wants(workload.name) {
            continue;
        }
        for &threads in workload.threads {
            measure_one(heaps, plan, (workload, threads), report, &mut means)?;
        }
    }
    report.add_quietly(means.results()?)
}

/// One figure of a run.
#[derive(Debug, Clone, Copy)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    /// Part of the mean over all workloads.
    counts: bool,
    of: fn(&Line) -> f64,
}

fn figures(workload: &Workload) -> Vec<Figure> {
    let figure = |name, unit, counts, of| Figure {
        name,
        unit,
        counts,
        of,
    };
    let counts = workload.counts;
    let mut figures = vec![
        figure("CPU", "ns", counts.time, Line::cpu),
        figure("wall", "ns", counts.time, Line::wall),
    ];
    if counts.memory {
        figures.push(figure("peak memory", "MiB", true, Line::grown));
    }
    if counts.left {
        figures.push(figure("memory left", "MiB", false, Line::left));
    }
    figures
}

/// One workload with one number of threads.
fn measure_one(
    heaps: &Heaps,
    plan: &Plan<'_>,
    (workload, threads): (&Workload, usize),
    report: &mut Report,
    means: &mut Means,
) -> anyhow::Result<()> {
    let name = case_name(workload, threads);
    let mut told = Vec::new();
    let lines = all_work(heaps, workload, threads, plan.run, plan.rounds)?;
    for figure in figures(workload) {
        let results = figure.results(&name, &lines)?;
        if figure.counts {
            means.add(figure.name, figure.unit, &results);
        }
        told.extend(results);
    }
    // Without the subject there is no tail.
    let mut failed = lines;
    if workload.counts.tail && failed.has_subject() {
        let tail = Figure {
            name: "p99.9 of one call",
            unit: "ns",
            counts: false,
            of: Line::tail,
        };
        let lines = all_work(heaps, workload, threads, plan.run.tail(), plan.rounds)?;
        told.extend(tail.results(&name, &lines)?);
        failed.why.extend(lines.why);
    }
    let head = format!("{name} ({})", workload.shows);
    eprintln!("{}", tables::progress(&head, &told));
    for (peer, why) in failed.why {
        report.leave_out(name.clone(), peer, why)?;
    }
    report.add_quietly(told)
}

fn case_name(workload: &Workload, threads: usize) -> String {
    let plural = if threads == 1 { "" } else { "s" };
    format!("{}, {threads} thread{plural}", workload.name)
}

/// Lets all do it in turns.
fn all_work(
    heaps: &Heaps,
    workload: &Workload,
    threads: usize,
    run: Run,
    rounds: usize,
) -> anyhow::Result<Lines<Line>> {
    let entry = |heap: &Heap, name| {
        let (heap, workload) = (heap.clone(), *workload);
        let named = (name, heap.version);
        Entry::new(named, move || heap.work(&workload, threads, run))
    };
    let mut all = vec![
        entry(&heaps.ours, heaps.ours.name),
        entry(&heaps.ours, OURS_AGAIN),
    ];
    all.extend(heaps.peers.iter().map(|peer| entry(peer, peer.name)));
    turns(all, rounds)
}

impl Figure {
    fn results(&self, name: &str, lines: &Lines<Line>) -> anyhow::Result<Vec<Result>> {
        lines.results(format!("{name}: {}", self.name), self.unit, self.of)
    }
}
