//! `cargo xtask loom`: runs every model under each schedule that the bound allows, then with each
//! of the bugs that it must catch.
//!
//! Which models there are, and what each catches, stands in the source alone: see
//! [`crate::tidy::Model`]. Each run is a process of its own, for a planted bug is the process's.
//! A model that holds has passed and told how many schedules it explored. A bug that is caught
//! made exactly that one test fail: a process that runs too long, is killed or finds no test has
//! caught nothing.

mod plan;
mod process;
mod program;
mod report;
mod verdict;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pool_core::{Nanos, clock};

use self::plan::{Choice, Job};
use self::report::Report;
use crate::tidy;

/// Processes that run at a time: models are made to finish on two cores.
const AT_ONCE: usize = 2;

/// Which models to run, and how far.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run the models as they are, and plant no bug.
    #[arg(long, conflicts_with = "bugs_only")]
    models_only: bool,
    /// Run the models with their planted bugs only.
    #[arg(long)]
    bugs_only: bool,
    /// Run only what has this in the name of the model or of the bug.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    filter: String,
    /// How often a schedule may take a thread off where it could have gone on.
    #[arg(long, value_name = "N", default_value_t = 3)]
    preemptions: u8,
    /// Seconds after which a process is killed and has failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    limit: u64,
}

/// Runs what is asked for; fails unless every model holds and every bug is caught.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let started = clock::now();
    let models = tidy::models(root)?;
    if models.is_empty() {
        bail!("there are no models");
    }
    let mut programs = Vec::new();
    for program in program::build(root, &models)? {
        let tests = program.tests()?;
        programs.push((program, tests));
    }
    let cases = plan::cases(&models, &programs)?;
    let choice = Choice {
        models: !arguments.bugs_only,
        bugs: !arguments.models_only,
        filter: &arguments.filter,
    };
    let jobs = plan::jobs(&cases, choice);
    if jobs.is_empty() {
        bail!("no model and no bug is named like `{}`", arguments.filter);
    }
    println!(
        "{} to run, at most {} preemptions a schedule; built in {:.0} s",
        jobs.len(),
        arguments.preemptions,
        seconds_since(started)
    );
    let (mut report, mut error) = (Report::new(&jobs), None);
    let limit = Duration::from_secs(arguments.limit);
    let command =
        |job: &Job<'_>| (job.case.program).command(&job.case.test, job.bug, arguments.preemptions);
    process::each(
        jobs,
        AT_ONCE,
        |job| process::run(command(job), limit),
        |job, ended| match ended {
            Ok(ended) => {
                let repeats = || program::typed(root, &command(&job));
                print!("{}", report.told(job, &ended, repeats));
            }
            Err(failed) => error = Some(failed),
        },
    );
    if let Some(error) = error {
        return Err(error).context("a model could not be run");
    }
    println!(
        "loom: {}; {:.0} s in all",
        report.totals(),
        seconds_since(started)
    );
    if report.failed() > 0 {
        bail!("loom: {} of the runs failed", report.failed());
    }
    Ok(())
}

fn seconds_since(started: Nanos) -> f64 {
    let took = clock::now().saturating_since(started);
    Duration::from_nanos(took.get()).as_secs_f64()
}
