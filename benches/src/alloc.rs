//! The suite of the allocator: what its heaps cost, against the allocators that people use instead.
//!
//! [`private`] is the heap of one process, as `malloc` gives it. [`shared`] is the heap in memory
//! that several processes map. Both say who takes part, and are measured in the same way: [`turns`]
//! lets workers of several heaps take turns, [`tables`] shows what came of it, [`means`] makes one
//! number of it.

use std::path::PathBuf;

use anyhow::{bail, ensure};

use private::Run;

use crate::machine::Machine;
use crate::plot;
use crate::report::{Format, Report};
use crate::results;

mod claims;
mod means;
mod private;
mod random;
mod shared;
mod tables;
mod times;
mod turns;
mod watch;

pub(crate) use private::worker;
pub(crate) use shared::death::Victim;
pub(crate) use shared::ours as shared_worker;

const SUITE: &str = "alloc";

/// How to run the suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
    /// Write charts into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Write alloc.jsonl and the measured part of alloc.md into this folder.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Rounds of each contest.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Do a third of the work.
    #[arg(long)]
    quick: bool,
    /// Do as little as there is, to see that everything runs. The figures say nothing.
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// The library to measure; the default, libtierpool.so, lies beside this program.
    #[arg(long, value_name = "FILE")]
    ours: Option<PathBuf>,
    /// What `cargo xtask bench alloc` has built to measure against.
    #[arg(long, value_name = "FILE", hide = true)]
    peer_list: Option<PathBuf>,
    /// The same for shared heaps.
    #[arg(long, value_name = "FILE", hide = true)]
    shared_peer_list: Option<PathBuf>,
    /// A program to measure in the place of our shared heap; it does what those of the peers do.
    #[arg(long, value_name = "FILE")]
    ours_shared: Option<PathBuf>,
    /// Only this half; the files of results have both.
    #[arg(long, conflicts_with = "results")]
    half: Option<Half>,
    /// Only these workloads, as `larson,xmalloc`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
}

/// A half of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Half {
    /// The heap of one process.
    Private,
    /// The heap that several processes map.
    Shared,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let format = if arguments.json {
        Format::Json
    } else {
        Format::Table
    };
    for name in &arguments.only {
        let is_known = private::has(name) || shared::has(name);
        ensure!(is_known, "no workload {name:?}");
    }
    let mut report = Report::new(SUITE, format, Machine::here()?)?;
    let mut tables = String::new();
    if arguments.wants(Half::Private) {
        tables += &arguments.measure_private(&mut report)?;
    }
    if arguments.wants(Half::Shared) {
        tables += &arguments.measure_shared(&mut report)?;
    }
    let measured = report.finish_with(&tables)?;
    if let Some(folder) = &arguments.plot {
        plot::write(folder, SUITE, measured)?;
    }
    if let Some(folder) = &arguments.results {
        let rounds = usize::from(arguments.rounds);
        results::write(folder, &report, rounds, &tables, &claims::CLAIMS)?;
    }
    if !report.left_out().is_empty() {
        bail!("not everything was measured: see what was left out");
    }
    Ok(())
}

impl Arguments {
    fn wants(&self, half: Half) -> bool {
        let has = match half {
            Half::Private => private::has,
            Half::Shared => shared::has,
        };
        let is_asked_for = self.only.is_empty() || self.only.iter().any(|name| has(name));
        is_asked_for && self.half.is_none_or(|only| only == half)
    }

    /// Measures that half; its tables.
    fn measure_private(&self, report: &mut Report) -> anyhow::Result<String> {
        let heaps = private::Heaps::find(self.ours.as_deref(), self.peer_list.as_deref())?;
        private::measure(&heaps, &self.plan(), report)?;
        Ok(tables::tables(report.results()))
    }

    /// Measures that half; its tables.
    fn measure_shared(&self, report: &mut Report) -> anyhow::Result<String> {
        let list = self.shared_peer_list.as_deref();
        let heaps = shared::Heaps::find(self.ours_shared.as_deref(), list)?;
        shared::measure(&heaps, &self.plan(), report)?;
        let tables = shared::tables(&heaps, report.results());
        heaps.stop()?;
        Ok(tables)
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            rounds: usize::from(self.rounds),
            run: self.amount(),
            only: &self.only,
        }
    }

    const fn amount(&self) -> Run {
        match (self.quick, self.smoke) {
            (true, _) => Run::QUICK,
            (_, true) => Run::SMOKE,
            _ => Run::WHOLE,
        }
    }
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
struct Plan<'a> {
    rounds: usize,
    run: Run,
    /// Names of workloads; all where it is empty.
    only: &'a [String],
}

impl Plan<'_> {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
