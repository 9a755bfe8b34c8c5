//! A training job over Tierpool, and the same without it: `digits --help`.

#![forbid(unsafe_code)]

mod data;
mod job;
mod memory;
mod model;
mod order;
#[cfg(test)]
mod protocol;
mod reference;

use anyhow::Context as _;
use clap::Parser;

use crate::data::Digits;
use crate::job::Job;

/// Learns to read handwritten digits.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Train in this process and its private memory, without a pool.
    Reference {
        /// How many steps to train.
        #[arg(long, default_value_t = 13_200)]
        steps: u32,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Reference { steps } => train_alone(steps),
    }
}

fn train_alone(steps: u32) -> anyhow::Result<()> {
    let digits = Digits::carried()?;
    let rows = u32::try_from(digits.labels.len())?;
    let job = Job::new(rows, steps).context("the data set is too small for the job")?;
    let outcome = reference::run(&job, &digits)?;
    println!("digest {:016x}", outcome.digest);
    println!("hits {} of {}", outcome.hits, outcome.held_out);
    Ok(())
}
