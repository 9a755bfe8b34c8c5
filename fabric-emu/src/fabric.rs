//! All of a fabric, and what happens to it.
//!
//! [`Fabric::step`] takes one event and says what came of it. What [`Fabric::memdev_mut`] and
//! [`Fabric::switch_mut`] lead to is for who sets a scene. An access is done as a host's processor
//! does it, with its caches, through the address ranges that its decoders were set to, over links
//! that are up and bridges that are bound, to what the device has there.
//!
//! # Coherence
//! Where a region is *hardware-coherent*, the device knows which hosts have a line, and has it
//! back before another host writes it, or written back before another host reads it. Elsewhere
//! caches of several hosts go their own ways, and software has to see to it: that is what is to be
//! tested.
//!
//! # Invariants
//! 1. What happens follows from the topology, the seed and the events.
//! 2. Who has a line of hardware-coherent memory is in the device's directory, and a host that
//!    wrote it and did not write it back is the only one.
//! 3. An access that fails changes nothing in memory.
//!
//! # Files
//! `event`: what may happen, and what comes of it. `route`: which host reaches what.
//! `access`: loads, stores and write-backs. `copy`: bulk transfers. `time`: what they take.
//! `command`: who answers which commands. `cdat`: who tells what of its speed. `fault`: what goes
//! wrong. `link`: links. `look`: what is there now.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use pool_core::planted;
use pool_core::rng::Rng;

use crate::cache::Cache;
use crate::cci::{Message, Request, Response, ReturnCode};
use crate::id::{HostId, LdId, MemdevId, Node, PortId, SwitchId, VcsId};
use crate::memdev::Memdev;
use crate::schedule::Schedule;
use crate::span::Span;
use crate::switch::{Role, Switch};
use crate::timing::{Elements, Path, Picos, Table};
use crate::topology::{self, MemdevKind, Topology};
use crate::trace::Trace;
use command::{Component, Timer};
use copy::Copies;
use link::Link;
use time::Times;

mod access;
mod cdat;
mod command;
mod copy;
mod event;
mod fault;
mod link;
mod look;
mod route;
#[cfg(test)]
mod tests;
mod time;

pub use cdat::Told;
pub use command::Cci;
pub use event::{AccessError, Asked, Effect, Event};
pub use fault::{Fault, Glitch};
pub use route::Reach;
pub use time::{Direction, FabricError};

/// A range of addresses of a host, and what its decoders lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    bytes: u64,
    memdev: MemdevId,
    ld: LdId,
    /// Where the range begins among the addresses of the logical device.
    address: u64,
}

/// A host, while the fabric runs.
#[derive(Debug, Clone)]
struct Host {
    is_alive: bool,
    takes_back_invalidates: bool,
    cache: Cache,
    /// How many addresses it has set aside.
    addresses: u64,
    /// By their first addresses.
    windows: BTreeMap<u64, Window>,
    /// Of the lines in its caches that a device keeps a directory of, where they came from.
    origins: BTreeMap<u64, Physical>,
}

/// A line of a memory device.
type Physical = (MemdevId, u64);

/// See the module.
#[derive(Debug, Clone)]
pub struct Fabric {
    hosts: Vec<Host>,
    switches: Vec<Switch>,
    memdevs: Vec<Memdev>,
    /// Memory devices that are not there any more.
    gone: Vec<bool>,
    /// Of each port that is connected, the port at the other end, and which link that is.
    ends: Ends,
    links: Vec<Link>,
    /// By host: the logical devices that it reaches, unless that has to be looked at anew.
    reached: Vec<BTreeMap<(MemdevId, LdId), Path>>,
    has_new_routes: bool,
    /// Hosts that may reach other things than when it was last looked.
    new_ways: BTreeSet<HostId>,
    /// What interfaces keep, of those that were told something.
    components: BTreeMap<Cci, Component>,
    /// What happens later, by when, and then in the order in which it was begun.
    timers: BTreeMap<(Picos, u64), Timer>,
    next_timer: u64,
    /// How many of them are faults that were planned.
    planned: usize,
    /// Through how many tunnels the command came that is being done.
    layers: u8,
    /// Since the beginning.
    now: Picos,
    /// What takes how long, and who waits behind whom.
    times: Times,
    copies: Copies,
    /// How often a link was trained.
    trained: BTreeMap<usize, u32>,
    trace: Trace,
    /// What came of what was due, and is to be told.
    told: Vec<Effect>,
    /// What was lost by an event, and is to be told after what came of it.
    lost: Vec<Effect>,
    /// Who has which line of hardware-coherent memory, and at which of its addresses.
    directory: BTreeMap<Physical, BTreeMap<HostId, u64>>,
}

impl Fabric {
    /// The fabric of a topology, in which nothing has happened, in the time of the table that
    /// comes with the crate. The same seed has the same things happen.
    ///
    /// # Errors
    /// [`FabricError::Class`] where the topology names a class that the table does not have.
    pub fn new(topology: &Topology, seed: u64) -> Result<Self, FabricError> {
        Self::with_table(topology, seed, &Table::embedded()?)
    }

    /// The same, in the time of a table.
    ///
    /// # Errors
    /// As [`Fabric::new`].
    pub fn with_table(topology: &Topology, seed: u64, table: &Table) -> Result<Self, FabricError> {
        let mut ends = BTreeMap::new();
        for (index, link) in topology.links.iter().enumerate() {
            let (up, down) = (link.up, link.down);
            ends.insert((up.node, up.port), ((down.node, down.port), index));
            ends.insert((down.node, down.port), ((up.node, up.port), index));
        }
        let hosts = (1_u64..).zip(&topology.hosts).map(|(number, host)| {
            let rng = stream(seed, number, topology.hosts.len() as u64);
            Host {
                is_alive: true,
                takes_back_invalidates: host.takes_back_invalidates,
                cache: Cache::new(host.cache_lines, !host.writes_back_no_clean_lines, rng),
                addresses: host.window.get(),
                windows: BTreeMap::new(),
                origins: BTreeMap::new(),
            }
        });
        let times = Times::new(topology, table, seed)?;
        Ok(Self {
            copies: Copies::new(topology, times.elements()),
            hosts: hosts.collect(),
            switches: switches(topology, &ends),
            memdevs: topology.memdevs.iter().map(Memdev::new).collect(),
            gone: vec![false; topology.memdevs.len()],
            ends,
            links: topology.links.iter().map(Link::new).collect(),
            reached: Vec::new(),
            components: BTreeMap::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            planned: 0,
            layers: 0,
            now: Picos::ZERO,
            times,
            trained: BTreeMap::new(),
            trace: Trace::default(),
            told: Vec::new(),
            lost: Vec::new(),
            has_new_routes: true,
            new_ways: BTreeSet::new(),
            directory: BTreeMap::new(),
        })
    }

    /// Has one thing happen at a time since the beginning, and says what came of it. What was due
    /// by then happens first, and what came of that is said first; a time that is past already is
    /// now.
    pub fn step(&mut self, now: Picos, event: &Event) -> Vec<Effect> {
        self.run_timers(now);
        self.look_at_routes();
        let mut effects = std::mem::take(&mut self.told);
        self.happen(event, &mut effects);
        effects.append(&mut self.lost);
        self.trace.fold(self.now, Some(event), &effects);
        effects
    }

    fn happen(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        match *event {
            Event::Command { cci, ref message } => self.command(cci, message, effects),
            Event::Map {
                host,
                span,
                memdev,
                ld,
                address,
            } => effects.push(self.map(host, span, (memdev, ld, address))),
            Event::Unmap { host, start } => effects.push(self.unmap(host, start)),
            Event::Load { host, address } => self.load(host, address, effects),
            Event::Store {
                host,
                address,
                content,
            } => self.store(host, address, content, effects),
            Event::WriteBack { host, span } => self.write_back(host, span, false, effects),
            Event::Flush { host, span } => self.write_back(host, span, true, effects),
            Event::Copy {
                host,
                from,
                to,
                bytes,
            } => self.copy(host, (from, to), bytes, effects),
            Event::ReadCdat { host, of } => effects.push(self.read_cdat(host, of)),
            Event::Fault(fault) => self.fail(fault, effects),
        }
        effects.append(&mut self.look_at_copies());
    }

    /// Has the faults of a schedule happen at their times, those that are past now. What comes of
    /// them is told with what comes next, each after an [`Effect::Struck`].
    pub fn plan(&mut self, schedule: &Schedule) {
        for planned in schedule.faults() {
            self.at(planned.at.max(self.now), Timer::Fault(planned.fault));
            self.planned += 1;
        }
    }

    /// Has what is due by a time happen, and nothing else. What came of it.
    pub fn advance(&mut self, now: Picos) -> Vec<Effect> {
        self.run_timers(now);
        self.look_at_routes();
        let mut effects = std::mem::take(&mut self.told);
        effects.append(&mut self.lost);
        self.trace.fold(self.now, None, &effects);
        effects
    }

    /// All that happened until now, as one number: see [`trace`](crate::trace).
    #[must_use]
    pub const fn trace(&self) -> u64 {
        self.trace.number()
    }

    /// Sends a command at a time, and reads its answer.
    ///
    /// # Errors
    /// [`Asked`].
    pub fn ask(&mut self, now: Picos, cci: Cci, request: &Request) -> Result<Response, Asked> {
        let message = Message::request(0, request).map_err(|_| Asked::TooLong)?;
        let message = message.encode();
        let effects = self.step(now, &Event::Command { cci, message });
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::Answer(bytes) => Some(Message::decode(bytes)),
            _ => None,
        });
        let answer = answer.ok_or(Asked::Dropped)?;
        let answer = answer.map_err(|_| Asked::Garbled)?;
        match answer.return_code {
            ReturnCode::Success => {
                Response::decode_for(request, &answer.payload).map_err(Asked::Unreadable)
            }
            ReturnCode::BackgroundCommandStarted => Err(Asked::Begun),
            code => Err(Asked::Refused(code)),
        }
    }

    /// When something happens by itself next.
    #[must_use]
    pub fn next_due(&self) -> Option<Picos> {
        self.timers.keys().next().map(|&(due, _)| due)
    }

    /// When something is over next that somebody began: no fault that was planned.
    #[must_use]
    pub fn next_end(&self) -> Option<Picos> {
        if self.planned == self.timers.len() {
            return None;
        }
        let is_begun = |timer: &Timer| !matches!(timer, Timer::Fault(_));
        let mut begun = self.timers.iter().filter(|(_, timer)| is_begun(timer));
        begun.next().map(|(&(due, _), _)| due)
    }

    /// What is timed: links, switches and devices, in this order and each in that of the topology.
    #[must_use]
    pub const fn elements(&self) -> &Elements {
        self.times.elements()
    }

    /// The way that accesses of a host take to a logical device, over [`Fabric::elements`]; none
    /// where it does not reach it.
    #[must_use]
    pub fn way(&self, host: HostId, memdev: MemdevId, ld: LdId) -> Option<Path> {
        let reach = self.reach(host);
        let reach = reach.iter().find(|it| (it.memdev, it.ld) == (memdev, ld));
        reach.map(|reach| self.times.path(reach))
    }

    /// A memory device.
    #[must_use]
    pub fn memdev(&self, memdev: MemdevId) -> Option<&Memdev> {
        self.memdevs.get(memdev.index())
    }

    /// A memory device, as it is to be when something begins to happen. It goes past the fabric:
    /// what is freed here stays in caches, and what is to be zeroed is not.
    pub fn memdev_mut(&mut self, memdev: MemdevId) -> Option<&mut Memdev> {
        self.memdevs.get_mut(memdev.index())
    }

    /// A switch.
    #[must_use]
    pub fn switch(&self, switch: SwitchId) -> Option<&Switch> {
        self.switches.get(switch.index())
    }

    /// A switch, as it is to be when something begins to happen.
    pub fn switch_mut(&mut self, switch: SwitchId) -> Option<&mut Switch> {
        self.leads_elsewhere(switch);
        self.switches.get_mut(switch.index())
    }

    /// Takes lines of a device's memory back from all hosts, because it is freed or has another
    /// content: what they wrote of them is lost, and told with what came of the event.
    fn forget(&mut self, memdev: MemdevId, span: Span) {
        let range = (memdev, span.start)..(memdev, span.end());
        let lines: Vec<Physical> = self.directory.range(range).map(|(&at, _)| at).collect();
        for line in lines {
            for (host, address) in self.directory.remove(&line).unwrap_or_default() {
                let Some(it) = self.hosts.get_mut(host.index()) else {
                    continue;
                };
                it.origins.remove(&address);
                if it
                    .cache
                    .drop_line(address)
                    .is_some_and(|line| line.is_dirty)
                {
                    let why = AccessError::NoMemory;
                    self.lost.push(Effect::Lost { host, address, why });
                }
            }
        }
    }
}

/// A stream of numbers for each host, which does not depend on how many there are.
fn stream(seed: u64, number: u64, of: u64) -> Rng {
    let mut own = Rng::new(number).number();
    if planted!("fabric.draws_by_how_many_there_are") {
        own ^= of;
    }
    if planted!("fabric.draws_from_the_machine") {
        own ^= RandomState::new().hash_one(number);
    }
    Rng::new(seed ^ own)
}

type Ends = BTreeMap<(Node, PortId), ((Node, PortId), usize)>;

fn switches(topology: &Topology, ends: &Ends) -> Vec<Switch> {
    let switch = |(number, of): (u16, &topology::Switch)| {
        let mut upstream = (0..=u8::MAX).map(VcsId);
        let role = |port| {
            let at = (Node::Switch(SwitchId(number)), PortId(port));
            let Some(&((other, _), link)) = ends.get(&at) else {
                return Role::Unused;
            };
            let down = topology.links.get(link).map(|link| link.down);
            if down.is_some_and(|down| (down.node, down.port) == at) {
                // A switch has no more ports than that.
                return upstream.next().map_or(Role::Unused, Role::Upstream);
            }
            Role::Downstream {
                lds: logical_devices(topology, other),
            }
        };
        Switch::new((0..of.ports).map(role).collect(), of.vppbs)
    };
    (0..).zip(&topology.switches).map(switch).collect()
}

/// How many logical devices there are to choose from behind a port.
fn logical_devices(topology: &Topology, node: Node) -> Option<u16> {
    let Node::Memdev(memdev) = node else {
        return None;
    };
    match topology.memdevs.get(memdev.index())?.kind {
        MemdevKind::Mld(count) => Some(u16::from(count)),
        MemdevKind::Sld | MemdevKind::MultiHeaded(_) => None,
    }
}
