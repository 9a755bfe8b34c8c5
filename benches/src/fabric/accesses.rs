//! Loads, stores and write-backs: events a second, beside a bare map of lines.
//!
//! Hosts take turns, one access each. A line that hits is one of [`HOT`] that every host has had
//! since the beginning; one that misses is the next of so many that it has left the caches by the
//! time it comes again. The map has the lines that all hosts have in their caches, as hosts of no
//! fabric would: it has no caches, no time, and nothing that it could find lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::{Context as _, ensure};
use fabric_emu::fabric::{Effect, Event};
use fabric_emu::id::HostId;
use fabric_emu::span::Span;
use pool_core::units::LINE_BYTES;

use super::racks::racks;
use super::scene::{BASE, BLOCK, Scene};
use super::{hold_alone, name};
use crate::contest::{Better, Case, Contender, hold, number, timed};
use crate::report::Report;

/// Events of a run.
const EVENTS: u64 = 65_536;
/// Lines that a host has in its caches, of the 4,096 that fit.
const HOT: u64 = 1_024;
/// Lines that go through the caches before one of them comes again, at the end of the block.
const COLD: u64 = 1 << 18;
const COLD_BASE: u64 = BASE + BLOCK - COLD * LINE_BYTES;

/// The peers.
pub(super) const MAP_GET: &str = "BTreeMap of lines, get";
pub(super) const MAP_INSERT: &str = "BTreeMap of lines, insert";
const STANDARD: &str = "std";

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hit,
    Miss,
    Store,
    WriteBack,
}

/// All cases of this part.
pub(super) fn measure(hosts: u16, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let bench = RefCell::new(Bench::new(hosts)?);
    let map = RefCell::new(Map::new(hosts));
    for (what, kind, peer) in [
        ("load that hits", Kind::Hit, Some(MAP_GET)),
        ("load that misses", Kind::Miss, Some(MAP_GET)),
        ("store that hits", Kind::Store, Some(MAP_INSERT)),
        ("write-back of one line", Kind::WriteBack, None),
    ] {
        let case = Case::rate(name(what, hosts));
        let ours = || bench.borrow_mut().run(kind);
        let results = match peer {
            Some(peer) => {
                let run = || Ok(map.borrow_mut().run(kind));
                let peer = Contender::new(peer, run).of(STANDARD);
                hold(&case, rounds, ours, vec![peer])?
            }
            None => hold_alone(&case, rounds, ours)?,
        };
        report.add(results)?;
    }
    let took = bench.borrow_mut().took()?;
    let case = Case::figure(
        name("time of a load that misses", hosts),
        "ns",
        Better::Lower,
    );
    report.add([crate::contest::Result::alone(case.emulated(), vec![took])])
}

/// Which line of a host comes at a turn.
fn address(kind: Kind, turn: u64) -> u64 {
    match kind {
        Kind::Hit | Kind::Store | Kind::WriteBack => BASE + turn % HOT * LINE_BYTES,
        Kind::Miss => COLD_BASE + turn % COLD * LINE_BYTES,
    }
}

/// A fabric, and how many turns its hosts have had.
#[derive(Debug)]
pub(super) struct Bench {
    scene: Scene,
    turn: u64,
}

impl Bench {
    fn new(hosts: u16) -> anyhow::Result<Self> {
        let mut scene = Scene::new(&racks(hosts)?)?;
        scene.furnish()?;
        Self::warmed(scene)
    }

    /// Over a scene in which every host has memory.
    pub(super) fn warmed(scene: Scene) -> anyhow::Result<Self> {
        let mut bench = Self { scene, turn: 0 };
        bench.warm()?;
        Ok(bench)
    }

    /// Has every host load its hot lines.
    fn warm(&mut self) -> anyhow::Result<()> {
        for turn in 0..HOT {
            for host in 0..self.scene.hosts {
                let now = self.scene.tick();
                let event = event(Kind::Hit, host, turn)?;
                let effects = self.scene.fabric.step(now, &event);
                let is_loaded = matches!(effects[..], [Effect::Loaded { .. }]);
                ensure!(is_loaded, "a line was not loaded: {effects:?}");
            }
        }
        Ok(())
    }

    /// Events a second.
    fn run(&mut self, kind: Kind) -> anyhow::Result<f64> {
        if kind != Kind::Miss {
            // What misses makes room for itself.
            self.warm()?;
        }
        let hosts = u64::from(self.scene.hosts);
        let mut spent = 0.0;
        let mut wrong = 0_u32;
        let mut done = 0;
        while done < EVENTS {
            let batch = self.batch(kind, hosts.max(64))?;
            done += u64::try_from(batch.len())?;
            if kind == Kind::WriteBack {
                self.write(&batch);
            }
            let (time, failed) = timed(|| self.step(&batch, kind));
            spent += time;
            wrong += failed;
        }
        ensure!(
            wrong == 0,
            "{wrong} events of {done} had other effects: {kind:?}"
        );
        Ok(number(done) / spent * 1e9)
    }

    /// The next events, made before they are timed.
    fn batch(&mut self, kind: Kind, events: u64) -> anyhow::Result<Vec<Event>> {
        let hosts = u64::from(self.scene.hosts);
        let first = self.turn;
        self.turn += events / hosts;
        let events = (first..self.turn)
            .flat_map(|turn| (0..self.scene.hosts).map(move |host| event(kind, host, turn)));
        events.collect()
    }

    fn step(&mut self, batch: &[Event], kind: Kind) -> u32 {
        let mut failed = 0;
        for event in batch {
            let now = self.scene.tick();
            let effects = black_box(self.scene.fabric.step(now, event));
            let is_right = match effects[..] {
                [Effect::Loaded { is_hit, .. }] => is_hit == (kind == Kind::Hit),
                [Effect::Written { .. }] => matches!(kind, Kind::Store | Kind::WriteBack),
                _ => false,
            };
            failed += u32::from(!is_right);
        }
        failed
    }

    /// Has what is about to be written back be written.
    fn write(&mut self, batch: &[Event]) {
        for event in batch {
            if let Event::WriteBack { host, span } = *event {
                let (address, content) = (span.start, [1; 64]);
                let store = Event::Store {
                    host,
                    address,
                    content,
                };
                let now = self.scene.tick();
                black_box(self.scene.fabric.step(now, &store));
            }
        }
    }

    /// The mean time of loads that miss, in emulated nanoseconds.
    fn took(&mut self) -> anyhow::Result<f64> {
        let batch = self.batch(Kind::Miss, EVENTS)?;
        let (mut sum, mut count) = (0, 0_u64);
        for event in &batch {
            let now = self.scene.tick();
            let effects = self.scene.fabric.step(now, event);
            let [Effect::Loaded { took, is_hit, .. }] = effects[..] else {
                anyhow::bail!("a load had other effects: {effects:?}");
            };
            if !is_hit {
                sum += took.get();
                count += 1;
            }
        }
        ensure!(count > 0, "every load hit");
        Ok(number(sum) / number(count) / 1e3)
    }
}

fn event(kind: Kind, host: u16, turn: u64) -> anyhow::Result<Event> {
    let (host, address) = (HostId(host), address(kind, turn));
    Ok(match kind {
        Kind::Hit | Kind::Miss => Event::Load { host, address },
        Kind::Store => Event::Store {
            host,
            address,
            content: [1; 64],
        },
        Kind::WriteBack => Event::WriteBack {
            host,
            span: Span::new(address, LINE_BYTES).context("an empty range")?,
        },
    })
}

/// The lines of all hosts, by host and address.
#[derive(Debug)]
struct Map {
    lines: BTreeMap<(u16, u64), [u8; 64]>,
    hosts: u16,
    turn: u64,
}

impl Map {
    fn new(hosts: u16) -> Self {
        let line = |host| (0..HOT).map(move |turn| ((host, address(Kind::Hit, turn)), [0; 64]));
        Self {
            lines: (0..hosts).flat_map(line).collect(),
            hosts,
            turn: 0,
        }
    }

    /// Accesses a second.
    fn run(&mut self, kind: Kind) -> f64 {
        let turns = EVENTS / u64::from(self.hosts);
        let first = self.turn;
        self.turn += turns;
        let (time, ()) = timed(|| {
            for turn in first..first + turns {
                for host in 0..self.hosts {
                    let at = (host, address(kind, turn));
                    if kind == Kind::Store {
                        black_box(self.lines.insert(at, [1; 64]));
                    } else {
                        black_box(self.lines.get(&at));
                    }
                }
            }
        });
        number(turns * u64::from(self.hosts)) / time * 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_hit_hits_and_what_is_to_miss_misses() {
        let mut bench = Bench::new(4).unwrap();
        for kind in [Kind::Hit, Kind::Miss, Kind::Store, Kind::WriteBack] {
            assert!(bench.run(kind).unwrap() > 0.0, "{kind:?}");
        }
        // Through a switch, and alone most of the time.
        let took = bench.took().unwrap();
        assert!((500.0..700.0).contains(&took), "{took}");
        assert!(Map::new(4).run(Kind::Store) > 0.0);
    }
}
