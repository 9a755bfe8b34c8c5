//! The suite of leases: what it costs to be granted a unit and to let go of it, alone, against
//! others, and from process to process.
//!
//! Two processes map one domain, each as a member of it: this one, and the [`partner`] that it
//! starts. Peers use the same memory ([`domain`]). What each case was expected to give, and what
//! the design asks for, stands in [`claims`], written before it was measured.

use std::path::{Path, PathBuf};

use pool_core::units::PAGE_BYTES;

use crate::daemon;
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
mod library;
mod locks;
pub(crate) mod partner;
mod pthread;
mod publish;
mod rings;
mod software;
mod uncontended;

use domain::{Domain, Shape};
use partner::{Partner, Side};
pub(crate) use pthread::version as libc_version;

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
    /// The daemon that the client library speaks to; the default lies beside this program.
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Only the cases of these parts: uncontended, library, contended, publish, handover,
    /// rings, software.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

/// A part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Uncontended,
    Library,
    Contended,
    Publish,
    Handover,
    Rings,
    Software,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Uncontended,
        Self::Library,
        Self::Contended,
        Self::Publish,
        Self::Handover,
        Self::Rings,
        Self::Software,
    ];

    fn measure(self, scene: &Scene<'_>, report: &mut Report) -> anyhow::Result<()> {
        let &Scene {
            ref side,
            ref partner,
            program,
            rounds,
        } = scene;
        match self {
            Self::Uncontended => uncontended::measure(side, rounds, report),
            Self::Library => library::measure(side, program, rounds, report),
            Self::Contended => contended::measure(side, partner, rounds, report),
            Self::Publish => publish::measure(side, partner, rounds, report),
            Self::Handover => handover::measure(side, partner, rounds, report),
            Self::Rings => rings::measure(side, partner, rounds, report),
            Self::Software => software::measure(rounds, report),
        }
    }
}

/// What the parts have in common.
#[derive(Debug)]
struct Scene<'a> {
    side: Side<'a>,
    partner: Partner,
    /// The daemon.
    program: &'a Path,
    rounds: usize,
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
    let scene = Scene {
        side: Side::new(&domain, 0)?,
        partner: Partner::start(&domain)?,
        program: &daemon::program(arguments.daemon.as_deref())?,
        rounds,
    };
    for part in Part::ALL {
        if arguments.only.is_empty() || arguments.only.contains(&part) {
            part.measure(&scene, &mut report)?;
        }
    }
    let measured = report.finish()?;
    if let Some(folder) = &arguments.plot {
        plot::write(folder, SUITE, measured)?;
    }
    if let Some(folder) = &arguments.results {
        let tables = results::table(report.results())?;
        results::write(folder, &report, rounds, &tables, &claims::CLAIMS)?;
    }
    Ok(())
}
