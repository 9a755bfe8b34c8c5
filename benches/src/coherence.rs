//! The suite of leases: what it costs to be granted a unit and to let go of it, alone, against
//! others, and from process to process.
//!
//! Two processes map one domain, each as a member of it: this one, and the [`partner`] that it
//! starts. Peers use the same memory ([`domain`]). What each case was expected to give, and what
//! the design asks for, stands in [`claims`], written before it was measured.

use std::path::PathBuf;

use pool_core::units::PAGE_BYTES;

use crate::machine::Machine;
use crate::plot;
use crate::report::{Format, Report};
use crate::results;

mod claims;
mod contended;
mod domain;
mod handover;
#[cfg(feature = "peers")]
mod iceoryx;
#[cfg(not(feature = "peers"))]
#[path = "coherence/no_iceoryx.rs"]
mod iceoryx;
mod locks;
pub(crate) mod partner;
mod pthread;
mod publish;
mod rings;
mod software;
mod uncontended;

use domain::{Domain, Shape};
use partner::{Partner, Side};

const SUITE: &str = "coherence";
/// The domain of small units.
const SHAPE: Shape = Shape {
    unit_bytes: PAGE_BYTES,
    units: 1024,
};
const _: () = assert!(SHAPE.units >= publish::UNITS_MIN);

/// How to run the suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write charts into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Write coherence.jsonl and the measured part of coherence.md into this folder.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Rounds of each contest.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only the cases of these parts: uncontended, contended, publish, handover,
    /// rings, software.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

/// A part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Uncontended,
    Contended,
    Publish,
    Handover,
    Rings,
    Software,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Uncontended,
        Self::Contended,
        Self::Publish,
        Self::Handover,
        Self::Rings,
        Self::Software,
    ];

    fn measure(
        self,
        side: &Side<'_>,
        partner: &Partner,
        rounds: usize,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        match self {
            Self::Uncontended => uncontended::measure(side, rounds, report),
            Self::Contended => contended::measure(side, partner, rounds, report),
            Self::Publish => publish::measure(side, partner, rounds, report),
            Self::Handover => handover::measure(side, partner, rounds, report),
            Self::Rings => rings::measure(side, partner, rounds, report),
            Self::Software => software::measure(rounds, report),
        }
    }
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
    let domain = Domain::create(SHAPE)?;
    let (side, partner) = (Side::new(&domain, 0)?, Partner::start(&domain)?);
    for part in Part::ALL {
        if arguments.only.is_empty() || arguments.only.contains(&part) {
            part.measure(&side, &partner, rounds, &mut report)?;
        }
    }
    let measured = report.finish()?;
    if let Some(folder) = &arguments.plot {
        plot::write(folder, SUITE, measured)?;
    }
    if let Some(folder) = &arguments.results {
        results::write(folder, &report, rounds, &claims::CLAIMS)?;
    }
    Ok(())
}
