//! What one client waits for: to attach, to be granted memory, to open, to give back.
//!
//! Each operation is timed alone, with a pause before it in which the daemon comes to rest: its
//! stock of extents is full again. A run is the median of [`OPERATIONS`].

use client_sdk::{Access, Bytes, Create, Force, Pool};
use pool_core::Nanos;
use pool_core::units::{EXTENT_BYTES, MIB};

use crate::bare::{Bare, BareClient, Want};
use crate::contest::{Case, Contender, hold, median, timed};
use crate::daemon::{Daemon, TIER, await_free, free, rest, until};
use crate::report::Report;

/// Operations of one run.
const OPERATIONS: usize = 40;
/// Building an extent takes about a millisecond, and the daemon keeps four.
const PAUSE: Nanos = Nanos::from_millis(8);
const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);
/// The stock has files of one extent.
const SMALLEST_UNSTOCKED: Bytes = Bytes::new(2 * EXTENT_BYTES);
const LARGE: Bytes = Bytes::new(64 * MIB);
/// Segments that a reserve keeps.
const RESERVE: usize = 64;

/// All cases of this part.
pub(super) fn measure(
    daemon: &Daemon,
    bare: &Bare,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let pool = daemon.attach("grants")?;
    report.add(cold(&pool, bare, rounds)?)?;
    report.add(commits(daemon)?)?;
    report.add(back_to_back(&pool, bare, rounds)?)?;
    report.add(cold_built(
        &pool,
        bare,
        rounds,
        "4 MiB",
        SMALLEST_UNSTOCKED,
    )?)?;
    report.add(cold_built(&pool, bare, rounds, "64 MiB", LARGE)?)?;
    report.add(from_reserve(&pool, bare, rounds)?)?;
    report.add(open(&pool, bare, rounds)?)?;
    report.add(give_back(&pool, bare, rounds)?)?;
    report.add(until_free(&pool, rounds)?)?;
    // Last: what the daemon still has to do for sessions that ended must not be in other figures.
    report.add(attach(daemon, bare, rounds)?)
}

type Outcome = anyhow::Result<Vec<crate::contest::Result>>;

/// The median of `OPERATIONS` operations, each after a pause, in microseconds.
fn run(mut operation: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut all = Vec::with_capacity(OPERATIONS);
    for _ in 0..OPERATIONS {
        rest(PAUSE);
        all.push(operation()? / 1e3);
    }
    Ok(median(&all))
}

/// A round trip with a descriptor to the peer.
fn passed<'a>(
    name: &'static str,
    bare: &Bare,
    want: Want,
    bytes: Bytes,
) -> anyhow::Result<Contender<'a>> {
    let mut client = bare.connect()?;
    Ok(Contender::new(name, move || {
        run(|| one_grant(&mut client, want, bytes))
    }))
}

fn one_grant(client: &mut BareClient, want: Want, bytes: Bytes) -> anyhow::Result<f64> {
    let (time, region) = timed(|| client.grant(want, bytes));
    region?.release()?;
    Ok(time)
}

/// A round trip without one.
fn echoed<'a>(bare: &Bare) -> anyhow::Result<Contender<'a>> {
    let mut client = bare.connect()?;
    Ok(Contender::new("bare round trip", move || {
        run(|| {
            let (time, done) = timed(|| client.echo());
            done.map(|()| time)
        })
    }))
}

fn attach(daemon: &Daemon, bare: &Bare, rounds: usize) -> Outcome {
    let ours = || {
        run(|| {
            let (time, pool) = timed(|| daemon.attach("attach"));
            pool.map(|_pool| time)
        })
    };
    let page = Bytes::new(EXTENT_BYTES);
    let peer = Contender::new("bare connect and pass", move || {
        run(|| {
            let (time, granted) = timed(|| {
                let mut client = bare.connect()?;
                client.grant(Want::Pass, page)
            });
            granted?.release()?;
            Ok(time)
        })
    });
    hold(&Case::time("attach", "us"), rounds, ours, vec![peer])
}

fn cold(pool: &Pool, bare: &Bare, rounds: usize) -> Outcome {
    let create = Create::new(TIER, EXTENT);
    let ours = || {
        run(|| {
            let (time, segment) = timed(|| pool.create(&create));
            gone(pool, segment?)?;
            Ok(time)
        })
    };
    let peers = vec![passed("bare pass", bare, Want::Pass, EXTENT)?];
    hold(
        &Case::time("grant cold 2 MiB, from stock", "us"),
        rounds,
        ours,
        peers,
    )
}

/// Where the time of a cold grant goes, by the daemon's own clock.
fn commits(daemon: &Daemon) -> anyhow::Result<[crate::contest::Result; 2]> {
    let mean = |name: &str, labels: &str| {
        let sum = daemon.metric(&format!("tierpool_{name}_seconds_sum{labels}"))?;
        anyhow::Ok(sum * 1e6 / daemon.metric(&format!("tierpool_{name}_seconds_count{labels}"))?)
    };
    let alone = |name, mean| crate::contest::Result::alone(Case::time(name, "us"), vec![mean]);
    Ok([
        alone(
            "daemon: one commit of the journal, mean",
            mean("journal_commit", "")?,
        ),
        alone(
            "daemon: create, from read to sent, mean",
            mean("request", "{kind=\"create\"}")?,
        ),
    ])
}

/// Closes a segment, and waits until the daemon has heard of it.
fn gone(pool: &Pool, segment: client_sdk::Segment) -> anyhow::Result<()> {
    drop(segment);
    // The release goes before the question.
    free(pool).map(drop)
}

/// One after the other without a pause: the daemon is awake, and builds while it grants.
fn back_to_back(pool: &Pool, bare: &Bare, rounds: usize) -> Outcome {
    let create = Create::new(TIER, EXTENT);
    let all = free(pool)?;
    let ours = || {
        await_free(pool, all)?;
        let mut held = Vec::new();
        let mut times = Vec::new();
        for _ in 0..OPERATIONS {
            let (time, segment) = timed(|| pool.create(&create));
            held.push(segment?);
            times.push(time / 1e3);
        }
        Ok(median(&times))
    };
    let mut client = bare.connect()?;
    let peer = Contender::new("bare pass", move || {
        let mut times = Vec::new();
        for _ in 0..OPERATIONS {
            times.push(one_grant(&mut client, Want::Pass, EXTENT)? / 1e3);
        }
        Ok(median(&times))
    });
    hold(
        &Case::time("grant cold 2 MiB, back to back", "us"),
        rounds,
        ours,
        vec![peer],
    )
}

/// More than one extent never lies in stock: its memory is taken from the kernel, and zeroed, while
/// the client waits.
fn cold_built(pool: &Pool, bare: &Bare, rounds: usize, name: &str, bytes: Bytes) -> Outcome {
    let create = Create::new(TIER, bytes);
    let ours = || {
        run(|| {
            let (time, segment) = timed(|| pool.create(&create));
            gone(pool, segment?)?;
            Ok(time)
        })
    };
    let peers = vec![
        passed("bare pass", bare, Want::Pass, bytes)?,
        passed("bare build and pass", bare, Want::Build, bytes)?,
    ];
    let name = format!("grant cold {name}, not in stock");
    hold(&Case::time(name, "us"), rounds, ours, peers)
}

fn from_reserve(pool: &Pool, bare: &Bare, rounds: usize) -> Outcome {
    let reserve = pool.reserve(TIER, EXTENT, RESERVE)?;
    let reserve = &reserve;
    let ours = || {
        until("the reserve is not filled", || reserve.ready() == RESERVE)?;
        let misses = reserve.misses();
        let mut held = Vec::with_capacity(RESERVE);
        let mut times = Vec::with_capacity(RESERVE);
        for _ in 0..RESERVE {
            let (time, segment) = timed(|| reserve.take());
            times.push(time / 1e3);
            held.push(segment?);
        }
        anyhow::ensure!(reserve.misses() == misses, "the reserve was found empty");
        Ok(median(&times))
    };
    let peers = vec![passed("bare pass", bare, Want::Pass, EXTENT)?];
    hold(
        &Case::time("grant from the reserve", "us"),
        rounds,
        ours,
        peers,
    )
}

fn open(pool: &Pool, bare: &Bare, rounds: usize) -> Outcome {
    const NAME: &str = "opened";
    drop(pool.create(&Create::new(TIER, EXTENT).name(NAME).persistent())?);
    let ours = || {
        run(|| {
            let (time, segment) = timed(|| pool.open(NAME, Access::ReadWrite));
            gone(pool, segment?)?;
            Ok(time)
        })
    };
    let peers = vec![passed("bare pass", bare, Want::Pass, EXTENT)?];
    let results = hold(&Case::time("open by name", "us"), rounds, ours, peers)?;
    pool.open(NAME, Access::ReadWrite)?.free(Force::No)?;
    Ok(results)
}

fn give_back(pool: &Pool, bare: &Bare, rounds: usize) -> Outcome {
    let create = Create::new(TIER, EXTENT);
    let ours = || {
        run(|| {
            let segment = pool.create(&create)?;
            rest(PAUSE);
            let (time, freed) = timed(|| segment.free(Force::No));
            freed?;
            Ok(time)
        })
    };
    hold(
        &Case::time("free 2 MiB", "us"),
        rounds,
        ours,
        vec![echoed(bare)?],
    )
}

/// From the call to the moment when the memory can be granted again: after the proof that nobody
/// has it, and after its pages went back to the kernel.
fn until_free(pool: &Pool, rounds: usize) -> Outcome {
    let mut results = Vec::new();
    for (name, bytes) in [("2 MiB", EXTENT), ("64 MiB", LARGE)] {
        let create = Create::new(TIER, bytes);
        let ours = || {
            run(|| {
                let segment = pool.create(&create)?;
                rest(PAUSE);
                let all = free(pool)?.checked_add(bytes).unwrap_or(Bytes::ZERO);
                let (time, freed) = timed(|| {
                    segment.free(Force::No)?;
                    await_free(pool, all)
                });
                freed?;
                Ok(time)
            })
        };
        let case = Case::time(format!("free {name} until it is grantable"), "us");
        results.extend(hold(&case, rounds, ours, Vec::new())?);
    }
    Ok(results)
}
