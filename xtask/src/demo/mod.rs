//! `cargo xtask demo`: a training job over the pool, killed halfway.
//!
//! Builds the programs, starts the daemon on its default configuration, and trains a model three
//! times: alone in private memory, over the pool undisturbed, and over the pool with the worker and
//! the daemon killed halfway and started again. Then it shows what the pool held, and checks each
//! claim: equal addresses everywhere, bit-identical weights, accuracy, accounting. It needs nothing
//! but Rust and a C linker, leaves nothing behind, and fails where a claim does not hold. With
//! `--fabric` it runs another one, `poolctl fabric demo`, which is a part of that program.

mod child;
mod daemon;
mod fact;
mod job;
mod place;
mod progress;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use pool_core::clock;

use self::daemon::Daemon;
use self::fact::Fact;
use self::job::Stage;
use self::place::{Place, Users};
use crate::command::{cargo, output, run as run_command, target_directory};

/// The programs it runs; each is the name of its package.
const PROGRAMS: [&str; 3] = ["pool-daemon", "poolctl", "digits"];

/// How long to train.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many steps to train.
    #[arg(long, default_value_t = 13_200, value_parser = clap::value_parser!(u32).range(440..))]
    steps: u32,
    /// Show instead how capacity moves between the hosts of an emulated fabric.
    #[arg(long, conflicts_with = "steps")]
    fabric: bool,
}

/// Runs all of it.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    println!("Building the programs, with optimisation.");
    let programs = build(root)?;
    if arguments.fabric {
        // It has everything that it starts beside it, and cleans up itself.
        return run_command(Command::new(programs.join("poolctl")).args(["fabric", "demo"]));
    }
    let place = Place::make(&programs)?;
    let stage = Stage {
        place: &place,
        programs: &programs,
        steps: arguments.steps,
    };

    println!(
        "\n1. The reference: {} steps in one process, without a pool.",
        stage.steps
    );
    let reference = reference(stage)?;
    println!(
        "  digits named rightly: {} of {}",
        reference.hits, reference.held_out
    );

    let daemon = Daemon::start(&place, &programs)?;
    println!("\n2. Over the pool, undisturbed. {}", users(&place));
    let (daemon, undisturbed) = job::run(stage, daemon, false)?;
    println!("\n3. Over the pool; halfway the worker and the daemon are killed.");
    let (daemon, disturbed) = job::run(stage, daemon, true)?;
    let at_rest = daemon.picture_at_rest()?;
    daemon.stop()?;

    let killed_after = job::kill_after(stage.steps);
    report::show(&report::Runs {
        reference,
        undisturbed,
        disturbed,
        at_rest,
        killed_after,
    })
}

/// Builds the programs, and returns where they lie.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut build = cargo(root);
    build.args(["build", "--release"]);
    run_command(build.args(PROGRAMS.iter().flat_map(|program| ["--package", program])))?;
    Ok(target_directory(root)?.join("release"))
}

/// What the training alone ends with.
fn reference(stage: Stage<'_>) -> anyhow::Result<report::Reference> {
    let mut command = Command::new(stage.programs.join("digits"));
    let start = clock::now();
    let said = output(command.args(["reference", "--steps", &stage.steps.to_string()]))?;
    let took = clock::now().saturating_since(start);
    let (mut digest, mut judged) = (None, None);
    for line in said.lines() {
        match Fact::parse(line)? {
            Fact::Digest(told) => digest = Some(told),
            Fact::Hits { hits, held_out } => judged = Some((hits, held_out)),
            _ => {}
        }
    }
    let (hits, held_out) = judged.context("the reference has not judged what it learned")?;
    let digest = digest.context("the reference has not told the digest")?;
    Ok(report::Reference {
        digest,
        hits,
        held_out,
        took,
    })
}

fn users(place: &Place) -> String {
    match place.users() {
        Users::Apart([data, training]) => format!(
            "The tenants are users {data} and {training}, the daemon is another: the kernel keeps \
             them apart."
        ),
        Users::Shared(uid) => format!(
            "Daemon and tenants are one user ({uid}): what keeps them apart is courtesy. Run as \
             root, from a folder that others can reach, to have the kernel do it."
        ),
    }
}
