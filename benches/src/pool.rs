//! The suite of the daemon: what a client waits for, how much one daemon serves, and what it costs.

use std::path::{Path, PathBuf};

use client_sdk::Bytes;
use pool_core::units::GIB;

use crate::bare::Bare;
use crate::daemon::Daemon;
use crate::machine::Machine;
use crate::plot;
use crate::report::{Format, Report};

pub(crate) mod deaths;
mod footprint;
mod grants;
mod throughput;

/// The pool of the suite: nothing of it is taken from the machine before it is granted.
const POOL: Bytes = Bytes::new(6 * GIB);

/// How to run the suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write charts into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// The daemon to measure; the default lies beside this program.
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// Rounds of each contest.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only the cases of these parts: grants, throughput, deaths, footprint, modelled.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

/// A part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Grants,
    Throughput,
    Deaths,
    Footprint,
    Modelled,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let format = if arguments.json {
        Format::Json
    } else {
        Format::Table
    };
    let program = crate::daemon::program(arguments.daemon.as_deref())?;
    let rounds = usize::from(arguments.rounds);
    let mut report = Report::new("pool", format, Machine::here()?)?;
    against_the_peer(arguments, &program, rounds, &mut report)?;
    if arguments.wants(Part::Footprint) {
        report.add(footprint::cases(&program)?)?;
    }
    if arguments.wants(Part::Modelled) {
        report.add(crate::modelled::cases()?)?;
    }
    let results = report.finish()?;
    if let Some(folder) = &arguments.plot {
        plot::write(folder, "pool", results)?;
    }
    Ok(())
}

fn against_the_peer(
    arguments: &Arguments,
    program: &Path,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (daemon, bare) = (Daemon::start(program, POOL)?, Bare::start()?);
    if arguments.wants(Part::Grants) {
        grants::measure(&daemon, &bare, rounds, report)?;
    }
    if arguments.wants(Part::Throughput) {
        throughput::measure(&daemon, &bare, rounds, report)?;
    }
    if arguments.wants(Part::Deaths) {
        deaths::measure(&daemon, rounds, report)?;
    }
    daemon.stop()
}
