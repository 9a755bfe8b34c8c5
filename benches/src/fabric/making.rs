//! What it takes to make a fabric, to give its hosts memory, and to keep it.
//!
//! Memory is that of a process of its own, before and after: with empty caches, which is what a
//! fabric is begun with, and with [`HOT`](super::accesses) lines in the caches of each host.

use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::accesses;
use super::name;
use super::racks::racks;
use super::scene::Scene;
use crate::contest::{Better, Case, Result, number, timed};
use crate::daemon::Resident;
use crate::report::Report;

/// How many hosts.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    hosts: u16,
}

/// What the process tells when it is done.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// What it has more in memory than before.
    furnished_kib: u64,
    warm_kib: u64,
}

/// All cases of this part.
pub(super) fn measure(hosts: u16, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let topology = racks(hosts)?;
    let (mut making, mut furnishing) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (made, scene) = timed(|| Scene::new(&topology));
        let mut scene = scene?;
        let (furnished, done) = timed(|| scene.furnish());
        done?;
        if round > 0 {
            making.push(made / 1e3);
            furnishing.push(furnished / 1e3 / f64::from(hosts));
        }
    }
    let output = Command::new(std::env::current_exe()?)
        .args(["fabric-making", "--hosts", &hosts.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let is_done = output.status.success();
    anyhow::ensure!(is_done, "the process ended with {}", output.status);
    let told: Told = serde_json::from_slice(&output.stdout).context("it tells something else")?;
    let kib = |what: &str, kib: u64| {
        let case = Case::figure(name(what, hosts), "KiB", Better::Lower);
        Result::alone(case, vec![number(kib) / f64::from(hosts)])
    };
    report.add([
        Result::alone(Case::time(name("a fabric is made", hosts), "us"), making),
        Result::alone(
            Case::time(
                name("bound, added, taken and mapped, each host", hosts),
                "us",
            ),
            furnishing,
        ),
        kib("memory, each host", told.furnished_kib),
        kib("memory with 64 KiB in caches, each host", told.warm_kib),
    ])
}

/// What the process does.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let topology = racks(arguments.hosts)?;
    let resident = || anyhow::Ok(Resident::of(std::process::id())?.all);
    let before = resident()?;
    let mut scene = Scene::new(&topology)?;
    scene.furnish()?;
    let furnished_kib = resident()?.saturating_sub(before);
    let bench = accesses::Bench::warmed(scene)?;
    let warm_kib = resident()?.saturating_sub(before);
    drop(bench);
    let told = Told {
        furnished_kib,
        warm_kib,
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}
