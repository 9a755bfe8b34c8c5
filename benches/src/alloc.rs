//! The suite of the allocator: what its heaps cost, against the allocators that people use instead.
//!
//! [`private`] is the heap of one process, as `malloc` gives it.

use std::path::PathBuf;

use anyhow::bail;

use crate::machine::Machine;
use crate::plot;
use crate::report::{Format, Report};
use crate::results;

mod claims;
mod private;

pub(crate) use private::worker;

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
    /// Only these workloads, as `larson,xmalloc`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let format = if arguments.json {
        Format::Json
    } else {
        Format::Table
    };
    let rounds = usize::from(arguments.rounds);
    let heaps = private::Heaps::find(arguments.ours.as_deref(), arguments.peer_list.as_deref())?;
    let mut report = Report::new(SUITE, format, Machine::here()?)?;
    let plan = private::Plan {
        rounds,
        run: arguments.amount(),
        only: &arguments.only,
    };
    let whole = private::measure(&heaps, &plan, &mut report)?;
    let tables = private::tables(report.results());
    let measured = report.finish_with(&tables)?;
    if let Some(folder) = &arguments.plot {
        plot::write(folder, SUITE, measured)?;
    }
    if let Some(folder) = &arguments.results {
        results::write(folder, &report, rounds, &tables, &claims::CLAIMS)?;
    }
    if !whole {
        bail!("not everything was measured: see what was left out");
    }
    Ok(())
}

impl Arguments {
    const fn amount(&self) -> private::Run {
        match (self.quick, self.smoke) {
            (true, _) => private::Run::QUICK,
            (_, true) => private::Run::SMOKE,
            _ => private::Run::WHOLE,
        }
    }
}
