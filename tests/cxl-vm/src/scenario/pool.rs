//! A pool whose `pooled` tier is CXL memory that the kernel drives, as dax devices and as a node:
//! two processes have it at the same address, what it holds moves between the tiers, and a daemon
//! that is killed costs nothing.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client_sdk::{Access, AttachOptions, Create, Domain, DomainOptions, Force, Pool, Segment};
use kernel_cxl::{Sysfs, Topology};
use pool_core::Bytes;
use pool_core::clock::{Deadline, eventually};
use pool_core::units::MIB;

use super::daemon::{Daemon, PATIENCE};
use super::regions::RULE;
use crate::boot;
use crate::say;

pub(super) const DEVICES: &str = r#"
[[tier]]
name = "pooled"
[[tier]]
name = "node"

[[device]]
name = "expander"
tier = "pooled"
kind = "devdax"
serials = [0xa0]
size = "512 MiB"

[[device]]
name = "far"
tier = "node"
kind = "kmem"
serials = [0xa1]
size = "512 MiB"
"#;

/// What is created, in bytes.
const BYTES: Bytes = Bytes::new(32 * MIB);
const WORDS: usize = 4 << 20;
/// How often each of two processes takes a unit, and how long it waits for it at most.
const TURNS: u64 = 500;
const TURN: Duration = Duration::from_secs(30);

pub(super) fn run() -> anyhow::Result<()> {
    fs::write(RULE, "online_movable")?;
    boot::load("kmem")?;
    let daemon = Daemon::start(DEVICES)?;
    let pool = attach()?;
    let mut segments = Vec::new();
    for (seed, tier) in (1..).zip(["ddr", "pooled", "node"]) {
        let create = Create::new(tier, BYTES).name(tier).persistent();
        let segment = pool.create(&create)?;
        write(&segment, seed)?;
        ensure!(segment.tier() == tier && !segment.is_emulated());
        another_reads(tier, seed, &segment)?;
        segments.push((segment, seed));
    }
    let slices = slices()?;
    ensure!(slices == BYTES, "{slices} are cut into dax devices");
    on_its_node(&daemon)?;
    say::told("another process finds each at the same address, in each tier");
    for (segment, seed) in &mut segments {
        for tier in ["pooled", "node", "ddr", "pooled"] {
            segment.relocate(tier)?;
            holds(segment, *seed).with_context(|| format!("moved to {tier}"))?;
        }
    }
    say::told("what they hold moved through all tiers");
    for tier in ["pooled", "node"] {
        taken_in_turn(&pool, tier)?;
    }
    daemon.kill()?;
    for (segment, seed) in &segments {
        holds(segment, *seed).context("without a daemon")?;
    }
    let other = Daemon::refusal_of_another(DEVICES)?;
    ensure!(other.contains("has memory of the pool"), "{other}");
    say::told("a daemon of another pool does not start on what lies there");
    let daemon = Daemon::start(DEVICES)?;
    for (segment, seed) in &segments {
        holds(segment, *seed).context("with the next daemon")?;
        another_reads(&segment.name(), *seed, segment)?;
    }
    say::told("the next daemon has all that was granted");
    for (segment, _) in segments {
        segment.free(Force::Yes)?;
    }
    daemon.is_at_rest()?;
    let daemon = whole_device(&pool, daemon)?;
    drop(pool);
    daemon.is_at_rest()?;
    let left = eventually(Deadline::after(PATIENCE), || {
        (slices_or_none()? == Bytes::ZERO).then_some(())
    });
    ensure!(left.is_ok(), "a dax device is left");
    say::told("all memory is free again, and the accounting balances");
    Ok(())
}

/// One segment that is all of the device, which the next daemon knows for one.
fn whole_device(pool: &Pool, daemon: Daemon) -> anyhow::Result<Daemon> {
    let create = Create::new("pooled", Bytes::new(512 * MIB)).name("all");
    let segment = pool.create(&create.persistent())?;
    write(&segment, 9)?;
    daemon.kill()?;
    let daemon = Daemon::start(DEVICES)?;
    holds(&segment, 9)?;
    another_reads("all", 9, &segment)?;
    segment.free(Force::Yes)?;
    say::told("a segment of the whole device outlives a daemon");
    Ok(daemon)
}

/// The other process: opens a segment by name, and has to find what was written at the address
/// that it is told.
pub(super) fn reader(words: &[String]) -> anyhow::Result<()> {
    let [name, seed, address] = words else {
        anyhow::bail!("a reader is told a name, a seed and an address");
    };
    let segment = attach()?.open(name, Access::ReadOnly)?;
    ensure!(
        segment.addr().to_string() == *address,
        "it is at {}",
        segment.addr()
    );
    holds(&segment, seed.parse()?)
}

/// Two processes count on one unit of a domain, each under leases of its own, and wait for each
/// other by a word in that memory.
fn taken_in_turn(pool: &Pool, tier: &str) -> anyhow::Result<()> {
    let name = format!("{tier}-domain");
    let create = Create::new(tier, Bytes::new(2 * MIB)).name(&name);
    let domain = pool.create_domain(&create, &DomainOptions::default())?;
    let mut other = Command::new("/init").args(["counter", &name]).spawn()?;
    count(&domain)?;
    let ended = other.wait()?;
    ensure!(ended.success(), "the other one ended with {ended}");
    let guard = domain.unit(0)?.read(TURN)?;
    let counted = guard.view::<u64>(Bytes::ZERO, 1)?.get(0)?;
    ensure!(counted == 2 * TURNS, "{counted} turns were counted");
    drop(guard);
    domain.free(Force::Yes)?;
    say::told(&format!(
        "{counted} turns of two processes at a unit in {tier}"
    ));
    Ok(())
}

/// The other process of a domain.
pub(super) fn counter(words: &[String]) -> anyhow::Result<()> {
    let name = words.first().context("a counter is told a name")?;
    count(&attach()?.open_domain(name, Access::ReadWrite)?)
}

fn count(domain: &Domain) -> anyhow::Result<()> {
    for _ in 0..TURNS {
        let mut guard = domain.unit(0)?.write(TURN)?;
        let mut word = guard.view_mut::<u64>(Bytes::ZERO, 1)?;
        word.set(0, word.get(0)? + 1)?;
    }
    Ok(())
}

fn attach() -> anyhow::Result<Pool> {
    let options = AttachOptions::new().socket(Daemon::socket());
    Ok(Pool::attach(&options)?)
}

fn another_reads(name: &str, seed: u64, segment: &Segment) -> anyhow::Result<()> {
    let mut reader = Command::new("/init");
    let (seed, address) = (seed.to_string(), segment.addr().to_string());
    let ended = reader.args(["reader", name, &seed, &address]).status()?;
    ensure!(
        ended.success(),
        "another process does not find {name}: {ended}"
    );
    Ok(())
}

fn write(segment: &Segment, seed: u64) -> anyhow::Result<()> {
    let words: Vec<u64> = (0..WORDS as u64).map(|at| at ^ seed << 40).collect();
    let view = segment.view_mut::<u64>(Bytes::ZERO, WORDS)?;
    Ok(view.write_from(0, &words)?)
}

fn holds(segment: &Segment, seed: u64) -> anyhow::Result<()> {
    let mut words = vec![0; WORDS];
    let view = segment.view::<u64>(Bytes::ZERO, WORDS)?;
    view.read_into(0, &mut words)?;
    let wrong = (0_u64..)
        .zip(&words)
        .find(|(at, word)| **word != at ^ seed << 40);
    ensure!(wrong.is_none(), "{} holds {wrong:x?}", segment.name());
    Ok(())
}

/// How much is cut into dax devices of the first device's region.
fn slices() -> anyhow::Result<Bytes> {
    let topology = Topology::read(&Sysfs::here())?;
    let files = topology.dax_devices();
    let files = files.filter(|it| it.index() != Some(0));
    Ok(Bytes::new(files.map(|it| it.bytes.get()).sum()))
}

fn slices_or_none() -> Option<Bytes> {
    slices().ok()
}

/// What lies in the node's tier is that node's memory.
fn on_its_node(daemon: &Daemon) -> anyhow::Result<()> {
    let topology = Topology::read(&Sysfs::here())?;
    let node = topology
        .dax_devices()
        .find(|it| it.driver.as_deref() == Some("kmem"));
    let node = node
        .and_then(|it| it.target_node)
        .context("there is a node")?;
    let found = topology.nodes.iter().find(|it| it.id == node);
    let found = found.context("the node has memory")?;
    let used = found.total.get() - found.free.get();
    ensure!(used >= BYTES.get(), "{found:?}: {}", daemon.ask("devices")?);
    Ok(())
}
