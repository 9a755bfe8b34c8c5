//! A thousand extents move between DRAM and CXL memory, in both modes, while other processes read
//! them and their owners write.
//!
//! Each segment has an owner, a thread that writes and moves it in turn: who may write waits while
//! contents are copied. Readers in other processes go on all the time. What they read is whole if
//! its stamp, which an owner makes odd while it writes, was even and the same before and after.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{bail, ensure};
use client_sdk::{Access, AttachOptions, Create, Force, Pool, Segment};
use pool_core::clock::{Deadline, eventually};
use pool_core::units::MIB;
use pool_core::{Bytes, EXTENT_BYTES, Nanos};

use super::daemon::Daemon;
use super::pool::DEVICES;
use super::regions::RULE;
use crate::boot;
use crate::say;

/// Owners, each with a segment of its own.
const OWNERS: u64 = 5;
/// What each segment has.
const BYTES: Bytes = Bytes::new(8 * MIB);
const WORDS: usize = 1 << 20;
/// How often each is moved.
const MOVES: u64 = 50;
/// Where to, in turn.
const TIERS: [&str; 3] = ["pooled", "node", "ddr"];
/// Processes that read all of them.
const READERS: usize = 2;
/// When this file is there, readers end.
const END: &str = "/run/moved";
/// How long a reader rests after it has read them all.
const PAUSE: Nanos = Nanos::from_millis(300);
/// Readings that a reader must have found whole.
const READ_LEAST: u64 = 20;

pub(super) fn run() -> anyhow::Result<()> {
    fs::write(RULE, "online_movable")?;
    boot::load("kmem")?;
    let daemon = Daemon::start(DEVICES)?;
    let pool = attach()?;
    let owned: Vec<Segment> = (0..OWNERS)
        .map(|owner| {
            let create = Create::new("ddr", BYTES).name(&name(owner)).persistent();
            let segment = pool.create(&create)?;
            write(&segment, owner, 0)?;
            Ok(segment)
        })
        .collect::<anyhow::Result<_>>()?;
    let start = |_| Command::new("/init").arg("moves-reader").spawn();
    let readers: Vec<_> = (0..READERS).map(start).collect::<Result<_, _>>()?;
    let moved = thread::scope(|scope| {
        let owners = (0..).zip(owned).map(|(owner, segment)| {
            let turns = move || move_and_write(segment, owner);
            scope.spawn(turns)
        });
        let owners: Vec<_> = owners.collect();
        let ended = owners
            .into_iter()
            .map(|it| it.join().expect("an owner ends"));
        ended.sum::<anyhow::Result<u64>>()
    });
    fs::write(END, "")?;
    let moved = moved?;
    for mut reader in readers {
        let ended = reader.wait()?;
        ensure!(ended.success(), "a reader ended with {ended}");
    }
    ensure!(moved >= 1_000, "{moved} extents moved");
    say::told(&format!(
        "{moved} extents moved between DRAM and CXL memory, under {READERS} readers and {OWNERS} \
         writers"
    ));
    drop(pool);
    daemon.is_at_rest()
}

/// Writes and moves a segment in turn; tells how many extents were moved.
fn move_and_write(mut segment: Segment, owner: u64) -> anyhow::Result<u64> {
    let tiers = TIERS.iter().cycle().take(usize::try_from(MOVES)?);
    for (turn, tier) in (1..).zip(tiers) {
        segment.relocate(tier)?;
        ensure!(segment.tier() == *tier, "it is in {}", segment.tier());
        let found = whole(&segment, owner)?;
        ensure!(
            found == Some(turn - 1),
            "{owner} moved to {tier}: {found:?}"
        );
        write(&segment, owner, turn)?;
    }
    segment.free(Force::Yes)?;
    Ok(MOVES * BYTES.get() / EXTENT_BYTES)
}

/// The other process: reads all segments again and again.
pub(super) fn reader() -> anyhow::Result<()> {
    let pool = attach()?;
    let open = |owner| pool.open(&name(owner), Access::ReadOnly);
    let segments: Vec<Segment> = (0..OWNERS).map(open).collect::<Result<_, _>>()?;
    let (mut last, mut found) = (vec![0; segments.len()], 0);
    let ends = || fs::exists(END).ok()?.then_some(());
    // The pause leaves the machine, which is slow, to those who move.
    while eventually(Deadline::after(PAUSE), ends).is_err() {
        for (owner, segment) in (0..).zip(&segments) {
            // It is freed at the end.
            let turn = whole(segment, owner).or_else(|why| ended(segment, why))?;
            let Some(turn) = turn else { continue };
            let before = &mut last[usize::try_from(owner)?];
            ensure!(turn >= *before, "{owner} is {turn} after {before}");
            (*before, found) = (turn, found + 1);
        }
    }
    ensure!(found >= READ_LEAST, "only {found} readings were whole");
    Ok(())
}

/// Nothing, of a segment that is freed.
fn ended(segment: &Segment, why: anyhow::Error) -> anyhow::Result<Option<u64>> {
    if segment.view::<u64>(Bytes::ZERO, 1).is_err() {
        return Ok(None);
    }
    Err(why)
}

fn name(owner: u64) -> String {
    format!("moves-{owner}")
}

fn attach() -> anyhow::Result<Pool> {
    let options = AttachOptions::new().socket(Daemon::socket());
    Ok(Pool::attach(&options)?)
}

/// What an owner writes behind its stamp in a turn.
fn contents(owner: u64, turn: u64) -> Vec<u64> {
    let base = owner << 56 | turn << 32;
    (1..WORDS as u64).map(|at| base | at).collect()
}

/// Fills a segment behind its stamp, which is odd meanwhile.
fn write(segment: &Segment, owner: u64, turn: u64) -> anyhow::Result<()> {
    use pool_core::sync::atomic::Ordering::SeqCst;
    let stamp = segment.atomic_u64(Bytes::ZERO)?;
    stamp.store(2 * turn + 1, SeqCst)?;
    segment
        .view_mut::<u64>(Bytes::ZERO, WORDS)?
        .write_from(1, &contents(owner, turn))?;
    segment
        .atomic_u64(Bytes::ZERO)?
        .store(2 * turn + 2, SeqCst)?;
    Ok(())
}

/// The turn whose contents a segment has; nothing where its owner writes just now.
fn whole(segment: &Segment, owner: u64) -> anyhow::Result<Option<u64>> {
    use pool_core::sync::atomic::{Ordering::SeqCst, fence};
    // A reader has no word to load from, so what it reads is kept in order by fences.
    let stamp = || {
        fence(SeqCst);
        let stamp = segment.view::<u64>(Bytes::ZERO, 1)?.get(0)?;
        fence(SeqCst);
        anyhow::Ok(stamp)
    };
    let before = stamp()?;
    let mut words = vec![0; WORDS];
    segment
        .view::<u64>(Bytes::ZERO, WORDS)?
        .read_into(0, &mut words)?;
    if !before.is_multiple_of(2) || before == 0 || stamp()? != before {
        return Ok(None);
    }
    let turn = before / 2 - 1;
    // As a whole first: the machine compares words one by one slowly.
    let wanted = contents(owner, turn);
    if words[1..] != wanted {
        let mut all = words[1..].iter().zip(&wanted);
        let at = all.position(|(found, wanted)| found != wanted);
        bail!("{} differs at {at:?} in turn {turn}", segment.name());
    }
    Ok(Some(turn))
}
