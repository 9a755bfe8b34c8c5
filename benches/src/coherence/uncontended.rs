//! What a lease costs that nobody else wants: by one thread, in a loop.

use std::cell::Cell;
use std::sync::Barrier;

use anyhow::anyhow;
use parking_lot::{Mutex, RwLock};
use pool_core::sync::thread;

use super::domain::Tool;
use super::locks::{
    BareLease, CompareExchange, Exclusive, Lock, PeerUpgrade, Read, Shared, Unit, Upgrade, Write,
};
use super::partner::{Side, patience};
use super::pthread;
use crate::contest::{Case, Contender, hold, median, timed};
use crate::lock_file::version_of;
use crate::report::Report;

/// How often in one measurement, and how many of those make a run, of which the median counts:
/// whoever else runs on the machine disturbs a few of them.
const OPERATIONS: u32 = 10_000;
const CHUNKS: usize = 41;

/// What one compare-exchange is called as a peer.
pub(super) const ONE_WORD: &str = "one compare-exchange";
const BARE: &str = "two compare-exchanges, three loads";
pub(super) const ROBUST: &str = "robust pthread mutex";

/// All cases of this part.
pub(super) fn measure(side: &Side<'_>, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    report.add(exclusive(side, false, rounds)?)?;
    report.add(exclusive(side, true, rounds)?)?;
    report.add(shared(side, rounds)?)?;
    report.add(crowded(side, rounds)?)?;
    report.add(upgrade(side, rounds)?)
}

type Outcome = anyhow::Result<Vec<crate::contest::Result>>;

/// Nanoseconds of taking and letting go once.
fn cost<L: Lock>(lock: &L) -> anyhow::Result<f64> {
    cost_of(|| {
        let held = lock.acquire()?;
        lock.release(held)
    })
}

/// Nanoseconds of doing something once.
pub(super) fn cost_of<E>(mut once: impl FnMut() -> Result<(), E>) -> anyhow::Result<f64>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut chunks = Vec::with_capacity(CHUNKS);
    for _ in 0..CHUNKS {
        let (time, done) = timed(|| (0..OPERATIONS).try_for_each(|_| once()));
        done?;
        chunks.push(time / f64::from(OPERATIONS));
    }
    Ok(median(&chunks))
}

fn unit<'a>(side: &'a Side<'_>, number: u32) -> anyhow::Result<Unit<'a>> {
    Ok(Unit {
        member: &side.member,
        number,
        line: side.domain.line(number)?,
        until: patience(),
    })
}

pub(super) fn one_word<'a>(side: &'a Side<'_>) -> Contender<'a> {
    Contender::new(ONE_WORD, || {
        cost(&CompareExchange::new(side.domain.word(Tool::Word(0))?))
    })
}

/// What no lease that is changed by one word, and granted with two others, can cost less than.
fn bare<'a>(side: &'a Side<'_>) -> Contender<'a> {
    Contender::new(BARE, || cost(&BareLease(side.domain.line_of_words()?)))
}

pub(super) fn robust<'a>(side: &'a Side<'_>) -> Contender<'a> {
    Contender::new(ROBUST, || cost(&side.domain.mutex(0)?)).of(pthread::version())
}

fn parking<'a, L: Lock + 'a>(name: &'static str, lock: L) -> Contender<'a> {
    Contender::new(name, move || cost(&lock)).of(version_of("parking_lot"))
}

fn exclusive(side: &Side<'_>, publishes: bool, rounds: usize) -> Outcome {
    let unit = unit(side, 0)?;
    let ours = || cost(&Exclusive { unit, publishes });
    let what = if publishes {
        "a change published"
    } else {
        "nothing changed"
    };
    let peers = vec![
        one_word(side),
        bare(side),
        robust(side),
        parking("parking_lot Mutex", Mutex::new(())),
        parking("parking_lot RwLock, write", Write::default()),
    ];
    let case = Case::time(format!("lease exclusive, {what}"), "ns");
    hold(&case, rounds, ours, peers)
}

fn shared(side: &Side<'_>, rounds: usize) -> Outcome {
    let unit = unit(side, 0)?;
    let peers = vec![
        one_word(side),
        bare(side),
        robust(side),
        parking("parking_lot RwLock, read", Read::default()),
    ];
    let case = Case::time("lease shared", "ns");
    hold(&case, rounds, || cost(&Shared(unit)), peers)
}

/// While another thread of this process holds it for reading.
fn crowded(side: &Side<'_>, rounds: usize) -> Outcome {
    let unit = unit(side, 1)?;
    let lock = Shared(unit);
    let ours = || cost_beside_a_thread(&lock);
    let peer = Read::default();
    let peers = vec![
        Contender::new("parking_lot RwLock, read", || cost_beside_a_thread(&peer))
            .of(version_of("parking_lot")),
    ];
    let case = Case::time("lease shared, held by another thread of the process", "ns");
    hold(&case, rounds, ours, peers)
}

fn cost_beside_a_thread<L: Lock + Sync>(lock: &L) -> anyhow::Result<f64> {
    let meeting = Barrier::new(2);
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let held = lock.acquire();
            meeting.wait();
            meeting.wait();
            lock.release(held?)
        });
        meeting.wait();
        let cost = cost(lock);
        meeting.wait();
        holder
            .join()
            .map_err(|_| anyhow!("the holder panicked"))??;
        cost
    })
}

fn upgrade(side: &Side<'_>, rounds: usize) -> Outcome {
    let unit = unit(side, 2)?;
    let ours = || {
        let reads = Shared(unit).acquire()?;
        let lock = Upgrade {
            unit,
            reads: Cell::new(reads),
        };
        let cost = cost(&lock)?;
        Shared(unit).release(lock.reads.get())?;
        Ok(cost)
    };
    let lock = RwLock::new(());
    let peer = Contender::new("parking_lot RwLock, upgrade", || {
        cost(&PeerUpgrade::of(&lock))
    })
    .of(version_of("parking_lot"));
    let case = Case::time("upgrade and downgrade", "ns");
    hold(&case, rounds, ours, vec![one_word(side), peer])
}
