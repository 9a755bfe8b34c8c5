//! The heap of one process: the classic workloads, each in a process of its own that is run with
//! one contender's library in the place of the C library's heap.
//!
//! A case is one workload with one number of threads. In each round each contender does it once, in
//! a new process that times itself ([`worker`]); the same operations each time. Where the tail of
//! single calls is told, it comes of a second run, which times each call.

use std::cell::RefCell;

use anyhow::ensure;

use crate::contest::{Better, Case, Contender, Named, OURS_AGAIN, Result, compare, take_turns};
use crate::report::Report;

mod calls;
mod crew;
mod heap;
mod heaps;
mod means;
mod random;
mod tables;
pub(crate) mod worker;
mod workloads;

pub(super) use heaps::Heaps;
pub(super) use tables::tables;
pub(super) use workloads::Run;

use heaps::Heap;
use means::Means;
use worker::Line;
use workloads::{WORKLOADS, Workload};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) rounds: usize,
    pub(super) run: Run,
    /// Names of workloads; all where it is empty.
    pub(super) only: &'a [String],
}

/// Measures, and says whether nothing was left out.
pub(super) fn measure(heaps: &Heaps, plan: &Plan<'_>, report: &mut Report) -> anyhow::Result<bool> {
    for name in plan.only {
        ensure!(Workload::named(name).is_some(), "no workload {name:?}");
    }
    for missing in &heaps.missing {
        report.leave_out("all workloads".into(), missing.name, missing.why)?;
    }
    let mut means = Means::default();
    for workload in &WORKLOADS {
        let asked_for = plan.only.iter().any(|name| name == workload.name);
        if !plan.only.is_empty() && !asked_for {
            continue;
        }
        for &threads in workload.threads {
            measure_one(heaps, plan, (workload, threads), report, &mut means)?;
        }
    }
    report.add_quietly(means.results()?)?;
    Ok(report.left_out().is_empty())
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
    let lines = turns(heaps, workload, threads, plan.run, plan.rounds)?;
    for figure in figures(workload) {
        let results = figure.results(&name, &lines)?;
        if figure.counts {
            means.add(figure.name, figure.unit, &results);
        }
        told.extend(results);
    }
    // Without the subject there is nothing to compare the others with, nor a tail.
    let mut failed = lines;
    if workload.counts.tail && failed.has_subject() {
        let tail = Figure {
            name: "p99.9 of one call",
            unit: "ns",
            counts: false,
            of: Line::tail,
        };
        let lines = turns(heaps, workload, threads, plan.run.tail(), plan.rounds)?;
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

/// What came of all rounds of a case.
#[derive(Debug)]
struct Lines {
    /// The subject, the subject again, and each peer that did it.
    lines: Vec<(Named, Vec<Line>)>,
    /// Who did not, and why.
    why: Vec<(&'static str, &'static str)>,
}

impl Lines {
    fn has_subject(&self) -> bool {
        let mut names = self.lines.iter().map(|((name, _), _)| *name);
        names.next().is_some() && names.next() == Some(OURS_AGAIN)
    }
}

/// Lets all do it in turns. One that fails is not asked again.
fn turns(
    heaps: &Heaps,
    workload: &Workload,
    threads: usize,
    run: Run,
    rounds: usize,
) -> anyhow::Result<Lines> {
    let failures = RefCell::new(Vec::new());
    let contender = |heap: &Heap, name| {
        let (failures, heap) = (&failures, heap.clone());
        let mut has_failed = false;
        let version = heap.version;
        let work = move || {
            if has_failed {
                return Ok(None);
            }
            let done = heap.work(workload, threads, run);
            Ok(done
                .map_err(|error| {
                    has_failed = true;
                    let why: &str = format!("{error:#}").leak();
                    failures.borrow_mut().push((name, why));
                })
                .ok())
        };
        Contender::new(name, work).of(version)
    };
    let mut all = vec![
        contender(&heaps.ours, heaps.ours.name),
        contender(&heaps.ours, OURS_AGAIN),
    ];
    all.extend(heaps.peers.iter().map(|peer| contender(peer, peer.name)));
    let mut lines = Vec::new();
    for (named, runs) in take_turns(&mut all, rounds)? {
        if let Some(runs) = runs.into_iter().collect::<Option<Vec<_>>>() {
            lines.push((named, runs));
        }
    }
    drop(all);
    let why = failures.into_inner();
    Ok(Lines { lines, why })
}

impl Figure {
    fn results(&self, name: &str, lines: &Lines) -> anyhow::Result<Vec<Result>> {
        if !lines.has_subject() {
            return Ok(Vec::new());
        }
        let name = format!("{name}: {}", self.name);
        let case = Case::figure(name, self.unit, Better::Lower);
        let sides = lines.lines.iter().map(|(named, lines)| {
            let runs = lines.iter().map(self.of).collect();
            (*named, runs)
        });
        compare(&case, sides.collect())
    }
}
