//! The suite of the emulated fabric: how many events a second its reducer does on this machine, and
//! how that, and the memory it takes, grow with hosts.
//!
//! Rates are *measured*: they are of this machine and say how long a test or a simulation runs.
//! Latencies are *emulated*: they follow from the topology, the seed and the events, and are the
//! same on every machine. There is no peer that keeps a fabric with caches, commands and dynamic
//! capacity in one process, so events are put beside what a caller would have without a fabric: a
//! map of lines ([`accesses`]), and for time the steady state of the same streams ([`steady`]).
//!
//! Fabrics are [`racks`] of 16 hosts around one switch and one memory device with a logical device
//! for each. What each case was expected to give stands in [`claims`], written before it was
//! measured.

use std::path::PathBuf;

use crate::contest::{Case, Contender, OURS, OURS_AGAIN, Result, compare, take_turns};
use crate::machine::Machine;
use crate::plot;
use crate::report::{Format, Report};
use crate::results;

mod accesses;
mod claims;
mod commands;
mod growth;
pub(crate) mod making;
mod racks;
mod scene;
mod steady;

const SUITE: &str = "fabric";
/// Hosts of the fabrics that are measured.
const HOSTS: [u16; 6] = [1, 4, 16, 64, 256, 1_024];

/// How to run the suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write charts into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Write fabric.jsonl and the measured part of fabric.md into this folder.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Rounds of each contest.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only fabrics of at most so many hosts.
    #[arg(long, default_value_t = 1_024)]
    hosts_max: u16,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let format = if arguments.json {
        Format::Json
    } else {
        Format::Table
    };
    let rounds = usize::from(arguments.rounds);
    let mut report = Report::new(SUITE, format, Machine::here()?)?;
    for hosts in HOSTS
        .into_iter()
        .filter(|&hosts| hosts <= arguments.hosts_max)
    {
        making::measure(hosts, rounds, &mut report)?;
        accesses::measure(hosts, rounds, &mut report)?;
        commands::measure(hosts, rounds, &mut report)?;
        steady::measure(hosts, rounds, &mut report)?;
    }
    let measured = report.finish()?;
    if let Some(folder) = &arguments.plot {
        plot::write(folder, SUITE, measured)?;
        growth::plot(folder, measured)?;
    }
    if let Some(folder) = &arguments.results {
        let results = report.results();
        let tables = format!("{}{}", growth::table(results)?, results::table(results)?);
        results::write(folder, &report, rounds, &tables, &claims::CLAIMS)?;
    }
    Ok(())
}

/// A case that has no peer: its figure, and how far it is from itself.
fn hold_alone(
    case: &Case,
    rounds: usize,
    mut run: impl FnMut() -> anyhow::Result<f64> + Clone,
) -> anyhow::Result<Vec<Result>> {
    let mut again = run.clone();
    let mut both = [
        Contender::new(OURS, &mut run),
        Contender::new(OURS_AGAIN, &mut again),
    ];
    let sides = take_turns(&mut both, rounds)?;
    let ours = sides.first().map(|(_, runs)| runs.clone());
    let mut results = vec![Result::alone(case.clone(), ours.unwrap_or_default())];
    results.extend(compare(case, sides)?);
    Ok(results)
}

/// What a case is called that is of a fabric of so many hosts.
fn name(what: &str, hosts: u16) -> String {
    let plural = if hosts == 1 { "" } else { "s" };
    format!("{what}, {hosts} host{plural}")
}
