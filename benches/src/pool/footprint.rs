//! What the daemon itself takes: memory with an empty pool and with a full one, and the time to
//! come back after a kill.
//!
//! The full pool is the largest that is really there: [`SEGMENTS`] segments of one extent each,
//! which is also the worst shape, since each has a file, a descriptor and rows of its own.

use std::path::Path;

use client_sdk::{Bytes, Create};
use pool_core::units::{EXTENT_BYTES, KIB};

use crate::contest::{Case, Result, number, timed};
use crate::daemon::{Daemon, Resident, TIER};

const SEGMENTS: u64 = 2_048;
/// A daemon is killed and started again so often.
const RESTARTS: usize = 7;

/// All cases of this part.
pub(super) fn cases(program: &Path) -> anyhow::Result<Vec<Result>> {
    let mut daemon = Daemon::start(program, Bytes::new(SEGMENTS * EXTENT_BYTES))?;
    let mut results = resident("empty", daemon.resident()?);
    let (time, filled) = timed(|| fill(&daemon));
    filled?;
    let name = format!("filling the pool with {SEGMENTS} named segments of 2 MiB, each");
    results.push(Result::alone(
        Case::time(name, "us"),
        vec![time / 1e3 / number(SEGMENTS)],
    ));
    results.extend(resident(
        &format!("{SEGMENTS} extents granted"),
        daemon.resident()?,
    ));
    let journal = number(daemon.journal_bytes()? / KIB);
    let case = Case::time(format!("journal, {SEGMENTS} extents granted"), "KiB");
    results.push(Result::alone(case, vec![journal]));
    results.push(restarts(&mut daemon)?);
    daemon.stop()?;
    Ok(results)
}

/// Segments that stay although nobody holds them: one client may hold 1,024 at most.
fn fill(daemon: &Daemon) -> anyhow::Result<()> {
    let pool = daemon.attach("filler")?;
    for number in 0..SEGMENTS {
        let name = format!("segment-{number}");
        pool.create(
            &Create::new(TIER, Bytes::new(EXTENT_BYTES))
                .name(&name)
                .persistent(),
        )?;
    }
    Ok(())
}

/// From the kill of a daemon with all of it granted to the first answer of the next.
fn restarts(daemon: &mut Daemon) -> anyhow::Result<Result> {
    let mut runs = Vec::new();
    for _ in 0..RESTARTS {
        daemon.kill()?;
        let (time, attached) = timed(|| {
            daemon.launch()?;
            daemon.attach("restart")
        });
        attached?;
        runs.push(time / 1e6);
    }
    let name = format!("restart after kill -9, {SEGMENTS} extents granted, to the first answer");
    Ok(Result::alone(Case::time(name, "ms"), runs))
}

fn resident(state: &str, resident: Resident) -> Vec<Result> {
    let Resident {
        all,
        anonymous,
        shared,
    } = resident;
    [("VmRSS", all), ("RssAnon", anonymous), ("RssShmem", shared)]
        .map(|(name, kib)| {
            let case = Case::time(format!("daemon {name}, {state}"), "KiB");
            Result::alone(case, vec![number(kib)])
        })
        .into()
}
