//! A training job over Tierpool, and the same without it: `digits --help`.
//!
//! A loader stages a data set of handwritten digits for another tenant; a trainer and a worker of
//! that tenant learn from it in turns. All they share they share by pointer, in segments that every
//! process sees at the same addresses. `cargo xtask demo` runs the job and kills parts of it.

#![forbid(unsafe_code)]

mod data;
mod job;
mod memory;
mod model;
mod order;
mod protocol;
mod reference;
mod roles;
mod shared;
mod staged;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::data::Digits;
use crate::job::Job;
use crate::roles::Session;

/// Learns to read handwritten digits, over a pool or without one.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Stage the data set in the pool for another tenant; free it at the end of the input.
    Loader {
        #[command(flatten)]
        session: Session,
        /// The tenant that may read it.
        #[arg(long, value_name = "TENANT")]
        reader: String,
    },
    /// Apply gradients until all steps are done; free what was shared at the end of the input.
    Trainer {
        #[command(flatten)]
        session: Session,
        /// The tenant that has staged the data set.
        #[arg(long, value_name = "TENANT")]
        owner: String,
        #[command(flatten)]
        length: Length,
    },
    /// Compute gradients until all steps are done; stay until the end of the input.
    Worker {
        #[command(flatten)]
        session: Session,
        /// The tenant that has staged the data set.
        #[arg(long, value_name = "TENANT")]
        owner: String,
        #[command(flatten)]
        length: Length,
    },
    /// Train in this process and its private memory, without a pool.
    Reference {
        #[command(flatten)]
        length: Length,
    },
}

/// How long to train.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Length {
    /// How many steps to train.
    #[arg(long, default_value_t = 13_200)]
    steps: u32,
}

fn main() -> ExitCode {
    let done = match &Command::parse() {
        Command::Loader { session, reader } => roles::load(session, reader),
        Command::Trainer {
            session,
            owner,
            length,
        } => roles::train(session, owner, length.steps),
        Command::Worker {
            session,
            owner,
            length,
        } => roles::work(session, owner, length.steps),
        Command::Reference { length } => train_alone(length.steps),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digits: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn train_alone(steps: u32) -> anyhow::Result<()> {
    let digits = Digits::carried()?;
    let rows = u32::try_from(digits.labels.len())?;
    let job = Job::new(rows, steps).context("the data set is too small for the job")?;
    let outcome = reference::run(&job, &digits)?;
    println!("digest {:016x}", outcome.digest);
    println!("hits {} {}", outcome.hits, outcome.held_out);
    Ok(())
}
