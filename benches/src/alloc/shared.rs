//! The heap that several processes map: workloads of one process and of two at the same time,
//! against other heaps in shared memory.
//!
//! A case is one workload with one number of processes. In each round each contender does it once,
//! by a program of its own that makes a heap, starts the second process where there is one, and
//! tells what it cost ([`mod@line`]). All programs do the same workloads from the same seeds, and
//! their lines say so; one that did something else is refused. What a peer cannot do at all, it is
//! not asked for: its cell is empty. What a death costs ([`death`]) is measured of our heap alone.

use anyhow::ensure;

use super::means::Means;
use super::private::Run;
use super::turns::{Entry, Lines, turns};
use super::{Plan, tables};
use crate::contest::{OURS_AGAIN, Result};
use crate::report::Report;

pub(crate) mod death;
mod heaps;
mod line;
pub(crate) mod ours;
mod workloads;

pub(super) use heaps::Heaps;

use heaps::Heap;
use line::{Asked, Line};
use workloads::{WORKLOADS, Workload};

/// What the names of all cases of this half begin with.
const HEAD: &str = "shared ";
const MEAN: &str = "shared geometric mean";

/// Whether there is a workload of that name.
pub(super) fn has(name: &str) -> bool {
    name == death::NAME || WORKLOADS.iter().any(|workload| workload.name == name)
}

/// Measures.
pub(super) fn measure(heaps: &Heaps, plan: &Plan<'_>, report: &mut Report) -> anyhow::Result<()> {
    for (peer, why) in &heaps.missing {
        report.leave_out("all shared workloads".into(), peer, why)?;
    }
    let mut means = Means::new(MEAN);
    for workload in &WORKLOADS {
        if !plan.wants(workload.name) {
            continue;
        }
        for &processes in workload.processes {
            let case = Shape {
                workload,
                processes,
                plan,
            };
            case.measure(heaps, report, &mut means)?;
        }
    }
    if let (Some(socket), true) = (heaps.socket(), plan.wants(death::NAME)) {
        let deaths = death::measure(&socket, plan.rounds)?;
        eprintln!("{}", tables::progress("shared death", &deaths));
        report.add_quietly(deaths)?;
    }
    report.add_quietly(means.results()?)
}

/// One figure of a run, and whether it is part of the mean.
type Figure = (&'static str, &'static str, bool, fn(&Line) -> f64);

/// One workload with one number of processes.
#[derive(Debug, Clone, Copy)]
struct Shape<'a> {
    workload: &'a Workload,
    processes: u64,
    plan: &'a Plan<'a>,
}

impl Shape<'_> {
    fn measure(&self, heaps: &Heaps, report: &mut Report, means: &mut Means) -> anyhow::Result<()> {
        let name = self.name();
        let mut told = Vec::new();
        let mut lines = self.turns(heaps, self.plan.run)?;
        for (figure, unit, counts, of) in self.figures() {
            let results = lines.results(format!("{name}: {figure}"), unit, of)?;
            if counts {
                means.add(figure, unit, &results);
            }
            told.extend(results);
        }
        if self.workload.counts.tail && lines.has_subject() {
            let timed = self.turns(heaps, self.plan.run.tail())?;
            told.extend(timed.results(format!("{name}: p99.9 of one call"), "ns", Line::tail)?);
            lines.why.extend(timed.why);
        }
        let head = format!("{name} ({})", self.workload.shows);
        eprintln!("{}", tables::progress(&head, &told));
        for (peer, why) in lines.why {
            report.leave_out(name.clone(), peer, why)?;
        }
        report.add_quietly(told)
    }

    fn name(&self) -> String {
        let plural = if self.processes == 1 { "" } else { "es" };
        let (workload, processes) = (self.workload.name, self.processes);
        format!("{HEAD}{workload}, {processes} process{plural}")
    }

    fn figures(&self) -> Vec<Figure> {
        let counts = self.workload.counts;
        let mut figures: Vec<Figure> = vec![("wall", "ns", counts.time, Line::wall)];
        if counts.cpu {
            figures.push(("CPU", "ns", counts.time, Line::cpu));
        }
        if counts.held {
            figures.push(("memory for each live byte", "bytes", true, Line::held));
        }
        figures
    }

    /// Lets all who can do it do it in turns. What they did must be the same.
    fn turns(&self, heaps: &Heaps, run: Run) -> anyhow::Result<Lines<Line>> {
        let asked = Asked::new(self.workload, self.processes, run);
        let entry = |heap: &Heap, name| {
            let (heap, asked) = (heap.clone(), asked.clone());
            Entry::new((name, heap.version), move || heap.work(&asked))
        };
        let mut all = vec![
            entry(&heaps.ours, heaps.ours.name),
            entry(&heaps.ours, OURS_AGAIN),
        ];
        let able = heaps
            .peers
            .iter()
            .filter(|peer| peer.processes >= self.processes);
        all.extend(able.map(|peer| entry(peer, peer.name)));
        let lines = turns(all, self.plan.rounds)?;
        let mut all = lines.all();
        let first = all.next();
        for (name, line) in all {
            ensure!(
                first.is_none_or(|(_, first)| line.did_the_same(first)),
                "{}: {name} did {line:?}, the first did {first:?}",
                self.name()
            );
        }
        Ok(lines)
    }
}

/// All tables of this half: what each contender is, then its figures.
pub(super) fn tables(heaps: &Heaps, results: &[Result]) -> String {
    let of_this_half = results
        .iter()
        .filter(|result| result.case.name.starts_with(HEAD));
    let results: Vec<_> = of_this_half.cloned().collect();
    format!("{}{}", heaps.table(), tables::tables(&results))
}
