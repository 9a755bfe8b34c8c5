//! Devices that join, leave and vanish while the daemon runs, and memory that goes bad: what it
//! costs is what was promised, and nothing more.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client_sdk::{
    Access, AttachOptions, Create, DomainOptions, Event, Events, Force, Pool, Segment,
};
use kernel_cxl::{Sysfs, Topology};
use nix::mount::umount;
use nix::sys::signal::Signal;
use pool_core::clock::{Deadline, eventually};
use pool_core::units::MIB;
use pool_core::{Bytes, EXTENT_BYTES};
use serde_json::Value;

use super::daemon::{Daemon, PATIENCE};
use super::regions::RULE;
use crate::boot::{self, TRACE};
use crate::say;

const DEVICES: &str = r#"
[[tier]]
name = "pooled"

[[device]]
name = "near"
tier = "pooled"
kind = "devdax"
serials = [0xa0]
size = "512 MiB"

[[device]]
name = "late"
tier = "pooled"
kind = "devdax"
serials = [0xa1]
size = "512 MiB"
"#;

/// One device.
const ALL: u64 = 512 * MIB;
/// What is created, in bytes.
const BYTES: Bytes = Bytes::new(16 * MIB);
const WORDS: usize = 2 << 20;
/// The domain that is pulled, and the file that says that somebody looks at it.
const DOMAIN: &str = "pulled";
const LOOKS: &str = "/run/looks";
/// How long an event is waited for.
const SOON: Duration = Duration::from_secs(60);

pub(super) fn run() -> anyhow::Result<()> {
    fs::write(RULE, "online_movable")?;
    let daemon = unheard()?;
    let pool = Pool::attach(&AttachOptions::new().socket(Daemon::socket()))?;
    let late = device(&daemon, "late")?;
    ensure!(late["unreached"] == true, "{late}");
    ensure!(late["note"].to_string().contains("0xa1"), "{late}");
    await_total(&daemon, ALL)?;
    plug(&daemon)?;
    say::told("a device joins its tier when it is plugged in");
    let kept = filled(&pool, 1)?;
    leaves(&daemon, &pool)?;
    holds(&kept, 1)?;
    vanishes(&daemon, &pool)?;
    holds(&kept, 1)?;
    goes_bad(&daemon, &pool, kept)?;
    drop(pool);
    daemon.is_at_rest()?;
    say::told("all that is left is free, and the accounting balances");
    Ok(())
}

/// A daemon starts that cannot hear what is lost of its devices, and then can.
fn unheard() -> anyhow::Result<Daemon> {
    umount(TRACE)?;
    let daemon = Daemon::start(DEVICES)?;
    let is = |what: &str, is_it: &dyn Fn(&Value) -> bool| {
        let near = || device(&daemon, "near").ok().filter(is_it).map(drop);
        let came = eventually(Deadline::after(PATIENCE), near);
        ensure!(
            came.is_ok(),
            "it is not {what}: {}",
            device(&daemon, "near")?
        );
        anyhow::Ok(())
    };
    is("held back", &|near| {
        near["unreached"] == true && near["note"].to_string().contains(TRACE)
    })?;
    boot::show("tracefs", TRACE)?;
    is("reached", &|near| {
        near["unreached"] == false && near["note"] == ""
    })?;
    say::told("nothing is granted before it is known what is lost of it");
    Ok(daemon)
}

/// The second device is plugged in, and taken into the pool.
fn plug(daemon: &Daemon) -> anyhow::Result<()> {
    say::asks("plug a1");
    await_total(daemon, 2 * ALL)?;
    let late = device(daemon, "late")?;
    ensure!(late["unreached"] == false && late["note"] == "", "{late}");
    Ok(())
}

/// A device is drained, taken out of the pool, and pulled: nobody loses anything.
fn leaves(daemon: &Daemon, pool: &Pool) -> anyhow::Result<()> {
    let mut held = on_late(daemon, pool, 2)?;
    let idle = on_late(daemon, pool, 3)?;
    let (name, mut events) = (idle.name(), pool.events());
    idle.close();
    daemon.tell(&["drain", "late"])?;
    await_event(&mut events, "that its device is leaving", |event| {
        let Event::DeviceLeaving { segments, .. } = event else {
            return false;
        };
        segments.contains(&held.id())
    })?;
    let early = daemon.tell(&["devices", "remove", "late"]);
    ensure!(early.is_err(), "a device in use is removed");
    held.relocate("ddr")?;
    let used = || {
        let late = device(daemon, "late").ok()?;
        (late["free_bytes"] == late["total_bytes"]).then_some(())
    };
    let moved = eventually(Deadline::after(PATIENCE), used);
    ensure!(moved.is_ok(), "{}", device(daemon, "late")?);
    daemon.tell(&["devices", "remove", "late"])?;
    let regions = eventually(Deadline::after(PATIENCE), || {
        (region_count().ok()? == 1).then_some(())
    });
    ensure!(regions.is_ok(), "its region is there still");
    say::asks("pull a1");
    let pulled = eventually(Deadline::after(PATIENCE), || {
        let topology = Topology::read(&Sysfs::here()).ok()?;
        topology.memdev_of(0xa1).is_none().then_some(())
    });
    ensure!(pulled.is_ok(), "the device is there still");
    holds(&held, 2)?;
    let idle = pool.open(&name, Access::ReadOnly)?;
    holds(&idle, 3)?;
    say::told("a device that was drained and removed is pulled, and nobody loses anything");
    idle.close();
    for name in [held.name(), name] {
        pool.open(&name, Access::ReadWrite)?.free(Force::Yes)?;
    }
    daemon.tell(&["devices", "activate", "late"])?;
    plug(daemon)?;
    say::told("it is plugged in and activated again, and joins");
    Ok(())
}

/// A device is pulled that is in use: what lay on it is lost, and told, and all else is as it was.
fn vanishes(daemon: &Daemon, pool: &Pool) -> anyhow::Result<()> {
    let lost = on_late(daemon, pool, 4)?;
    daemon.tell(&["drain", "near"])?;
    let domain = Create::new("pooled", Bytes::new(4 * MIB)).name(DOMAIN);
    let domain = pool.create_domain(&domain.persistent(), &DomainOptions::default())?;
    daemon.tell(&["devices", "activate", "near"])?;
    let mut looker = Command::new("/init").arg("looker").spawn()?;
    let looks = eventually(Deadline::after(PATIENCE), || {
        fs::exists(LOOKS).ok()?.then_some(())
    });
    ensure!(looks.is_ok(), "nobody looks at the domain");
    let mut events = pool.events();
    let id = lost.id();
    say::asks("pull a1");
    await_event(
        &mut events,
        "that it is lost",
        |event| matches!(event, Event::Lost { segment } if *segment == id),
    )?;
    // Whoever is in the midst of it may be ended by the kernel.
    let looked = looker.wait()?;
    let is_ended = looked.signal() == Some(Signal::SIGBUS as i32);
    ensure!(
        looked.success() || is_ended,
        "who looked ended with {looked}"
    );
    say::told(&format!(
        "who looked at what was pulled ended with {looked}"
    ));
    drop(domain);
    let view = lost.view::<u64>(Bytes::ZERO, 1);
    ensure!(view.is_err(), "what is lost is served");
    await_total(daemon, ALL)?;
    let late = device(daemon, "late")?;
    ensure!(late["unreached"] == true, "{late}");
    // At first it is told that it was pulled, and then that it is not there.
    let is_missed = || {
        let late = device(daemon, "late").ok()?;
        late["note"].to_string().contains("0xa1").then_some(())
    };
    let missed = eventually(Deadline::after(PATIENCE), is_missed);
    ensure!(missed.is_ok(), "{}", device(daemon, "late")?);
    drop(lost);
    ensure!(
        daemon.ask("check")?["balanced"] == true,
        "it does not balance"
    );
    say::told("a device that is pulled in use costs what lay on it, which is told");
    plug(daemon)?;
    let again = on_late(daemon, pool, 5)?;
    holds(&again, 5)?;
    again.free(Force::Yes)?;
    say::told("another device in its place joins, empty");
    Ok(())
}

/// Another process, which has the daemon take leases of the domain for it until that is gone.
pub(super) fn looker() -> anyhow::Result<()> {
    let pool = Pool::attach(&AttachOptions::new().socket(Daemon::socket()))?;
    let domain = pool.open_domain(DOMAIN, Access::ReadOnly)?;
    let unit = domain.unit(0)?;
    drop(unit.read(SOON)?);
    fs::write(LOOKS, "")?;
    let looks = eventually(Deadline::after(PATIENCE), || unit.read(SOON).err());
    let Ok(why) = looks else {
        bail!("what was pulled is served");
    };
    println!("a lease of what was pulled: {why}");
    Ok(())
}

/// Lines of the first device go bad: those of a segment, and one that is free.
fn goes_bad(daemon: &Daemon, pool: &Pool, segment: Segment) -> anyhow::Result<()> {
    let mut events = pool.events();
    let id = segment.id();
    for (asked, told) in [("poison a0 200040", 1), ("report a0 400080", 2)] {
        say::asks(asked);
        await_event(&mut events, "which part of it is lost", |event| {
            let part = (Bytes::new(told * EXTENT_BYTES), Bytes::new(EXTENT_BYTES));
            let Event::Damaged {
                segment,
                offset,
                len,
            } = event
            else {
                return false;
            };
            *segment == id && (*offset, *len) == part
        })?;
    }
    say::told("holders are told which extents of theirs have lost a line, by list and by report");
    say::asks("poison a0 1fe00000");
    await_total(daemon, 2 * ALL - EXTENT_BYTES)?;
    segment.free(Force::Yes)?;
    await_total(daemon, 2 * ALL - 3 * EXTENT_BYTES)?;
    let near = device(daemon, "near")?;
    ensure!(near["free_bytes"] == near["total_bytes"], "{near}");
    let most = ALL - 3 * EXTENT_BYTES;
    ensure!(near["total_bytes"] == most, "{near}");
    say::told("what is bad is granted to nobody");
    Ok(())
}

/// A segment that lies on the second device, filled.
fn on_late(daemon: &Daemon, pool: &Pool, seed: u64) -> anyhow::Result<Segment> {
    daemon.tell(&["drain", "near"])?;
    let segment = filled(pool, seed)?;
    daemon.tell(&["devices", "activate", "near"])?;
    let late = device(daemon, "late")?;
    ensure!(late["granted_bytes"] != 0, "it lies elsewhere: {late}");
    Ok(segment)
}

fn filled(pool: &Pool, seed: u64) -> anyhow::Result<Segment> {
    let create = Create::new("pooled", BYTES).name(&format!("of-{seed}"));
    let segment = pool.create(&create.persistent())?;
    let words: Vec<u64> = (0..WORDS as u64).map(|at| at ^ seed << 40).collect();
    segment
        .view_mut::<u64>(Bytes::ZERO, WORDS)?
        .write_from(0, &words)?;
    Ok(segment)
}

fn holds(segment: &Segment, seed: u64) -> anyhow::Result<()> {
    let mut words = vec![0; WORDS];
    segment
        .view::<u64>(Bytes::ZERO, WORDS)?
        .read_into(0, &mut words)?;
    let mut all = (0_u64..).zip(&words);
    let wrong = all.find(|(at, word)| **word != at ^ seed << 40);
    ensure!(wrong.is_none(), "{} holds {wrong:x?}", segment.name());
    Ok(())
}

fn await_event(
    events: &mut Events,
    what: &str,
    is_it: impl Fn(&Event) -> bool,
) -> anyhow::Result<()> {
    let mut others = Vec::new();
    while let Some(event) = events.next(SOON)? {
        if is_it(&event) {
            return Ok(());
        }
        others.push(event);
    }
    bail!("nobody tells a holder {what}, but {others:?}");
}

/// Waits until the tier has so many bytes.
fn await_total(daemon: &Daemon, bytes: u64) -> anyhow::Result<()> {
    let has = || {
        let answer = daemon.ask("tiers").ok()?;
        let mut tiers = answer["tiers"].as_array()?.iter();
        let pooled = tiers.find(|tier| tier["name"] == "pooled")?;
        (pooled["total_bytes"] == bytes).then_some(())
    };
    let came = eventually(Deadline::after(PATIENCE), has);
    ensure!(
        came.is_ok(),
        "the tier is not {bytes} bytes: {}",
        daemon.ask("devices")?
    );
    Ok(())
}

fn device(daemon: &Daemon, name: &str) -> anyhow::Result<Value> {
    let answer = daemon.ask("devices")?;
    let all = answer["devices"].as_array().context("a list of devices")?;
    let found = all.iter().find(|it| it["name"] == name);
    found
        .cloned()
        .with_context(|| format!("no device {name} in {answer}"))
}

fn region_count() -> anyhow::Result<usize> {
    Ok(Topology::read(&Sysfs::here())?.regions.len())
}
