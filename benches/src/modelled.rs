//! A pool with 100,000 extents granted, which is 195 GiB: the real engine and the real journal in a
//! process of its own, without the memory, the files and the clients.
//!
//! What is missing from the figures: a descriptor for each file (the daemon's, and the keeper's
//! duplicate), which the kernel pays for, and taking them back from the keeper at a restart.

use std::process::Command;

use anyhow::Context as _;
use pool_core::clock;
use pool_core::units::KIB;
use pool_daemon::engine::{Engine, Found};
use pool_daemon::journal::Journal as _;
use pool_daemon::journal::database::{DatabaseJournal, Durability};
use serde::{Deserialize, Serialize};

use crate::contest::{Case, Result, number, timed};
use crate::daemon::Resident;
use crate::drive::{BOOT_ID, Drive, plan};

/// Commits of the journal hold so many grants; the daemon commits what came together.
const GRANTS_PER_COMMIT: usize = 64;
/// Fewer than one client may hold.
const SEGMENTS_PER_CLIENT: u32 = 1_000;
/// The journal is read and the engine recovered so often.
const RESTARTS: usize = 5;

/// How many segments, of how many extents each.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Shape {
    #[arg(long)]
    segments: u32,
    #[arg(long)]
    extents: u32,
}

/// What the process tells when it is done.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// What it has more in memory than before, with everything granted.
    resident_kib: u64,
    journal_kib: u64,
    /// A grant with its share of a commit.
    grant_us: f64,
    load_ms: Vec<f64>,
    recover_ms: Vec<f64>,
}

/// All cases of this part.
pub(crate) fn cases() -> anyhow::Result<Vec<Result>> {
    let mut results = Vec::new();
    for shape in [
        Shape {
            segments: 1_000,
            extents: 100,
        },
        Shape {
            segments: 100_000,
            extents: 1,
        },
    ] {
        let told = shape.in_a_process()?;
        let name = |what: &str| {
            let Shape { segments, extents } = shape;
            format!("{what}, 100,000 extents in {segments} segments of {extents}")
        };
        let time = |what: &str, unit| Case::time(name(what), unit).modelled();
        let whole = told.load_ms.iter().zip(&told.recover_ms);
        let whole = whole.map(|(load, recover)| load + recover).collect();
        results.extend([
            Result::alone(
                time("engine and journal: resident", "KiB"),
                vec![number(told.resident_kib)],
            ),
            Result::alone(time("journal: file", "KiB"), vec![number(told.journal_kib)]),
            Result::alone(
                time("engine and journal: one grant", "us"),
                vec![told.grant_us],
            ),
            Result::alone(time("restart: journal load", "ms"), told.load_ms),
            Result::alone(time("restart: engine recover", "ms"), told.recover_ms),
            Result::alone(time("restart: both", "ms"), whole),
        ]);
    }
    Ok(results)
}

impl Shape {
    fn in_a_process(self) -> anyhow::Result<Told> {
        let output = Command::new(std::env::current_exe()?)
            .arg("modelled")
            .arg("--segments")
            .arg(self.segments.to_string())
            .arg("--extents")
            .arg(self.extents.to_string())
            .stderr(std::process::Stdio::inherit())
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "the model ended with {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).context("the model tells something else")
    }
}

/// What the process does.
pub(crate) fn run(shape: &Shape) -> anyhow::Result<()> {
    let home = tempfile::Builder::new()
        .prefix("tierpool-model-")
        .tempdir()?;
    let path = home.path().join("journal.redb");
    let before = Resident::of(std::process::id())?.all;
    let plan = plan(shape.segments * shape.extents);
    let mut journal = DatabaseJournal::open(&path, Durability::Process, BOOT_ID)?;
    journal.load()?;
    let mut drive = Drive::new(plan.clone())?;
    let (grants, filled) = timed(|| fill(&mut drive, &mut journal, shape));
    filled?;
    let resident_kib = Resident::of(std::process::id())?.all.saturating_sub(before);
    let journal_kib = std::fs::metadata(&path)?.len() / KIB;
    let present = drive.engine.backing_ids().collect();
    drop((drive, journal));
    let found = Found {
        boot_id: BOOT_ID.to_owned(),
        present,
        ..Found::default()
    };
    let (mut load_ms, mut recover_ms) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        let (time, loaded) = timed(|| {
            let mut journal = DatabaseJournal::open(&path, Durability::Process, BOOT_ID)?;
            let rows = journal.load()?;
            anyhow::Ok((journal, rows))
        });
        load_ms.push(time / 1e6);
        let (mut journal, rows) = loaded?;
        let (time, recovered) = timed(|| {
            let (engine, effects) = Engine::recover(plan.clone(), rows, &found, clock::now())?;
            journal.commit(&effects.records)?;
            anyhow::Ok(engine)
        });
        recover_ms.push(time / 1e6);
        let granted = recovered?.status(clock::now()).granted_bytes;
        anyhow::ensure!(granted == drive_bytes(shape), "{granted} bytes came back");
    }
    let grant_us = grants / 1e3 / f64::from(shape.segments);
    let told = Told {
        resident_kib,
        journal_kib,
        grant_us,
        load_ms,
        recover_ms,
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

fn drive_bytes(shape: &Shape) -> u64 {
    u64::from(shape.segments) * u64::from(shape.extents) * pool_core::EXTENT_BYTES
}

fn fill(drive: &mut Drive, journal: &mut DatabaseJournal, shape: &Shape) -> anyhow::Result<()> {
    let mut client = drive.attach()?;
    for segment in 0..shape.segments {
        if segment > 0 && segment.is_multiple_of(SEGMENTS_PER_CLIENT) {
            client = drive.attach()?;
        }
        drive.create(client, shape.extents)?;
        if (segment as usize).is_multiple_of(GRANTS_PER_COMMIT) {
            journal.commit(&std::mem::take(&mut drive.records))?;
        }
    }
    Ok(journal.commit(&std::mem::take(&mut drive.records))?)
}
