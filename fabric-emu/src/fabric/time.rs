//! How long accesses take: by what they pass, and behind whom they wait.
//!
//! # An access
//! It is made at the time of its event, and all of it is settled then: it takes the time of its way
//! where nobody else is, and waits behind what was under way by then at whatever it passes. Each
//! direction of a link, each channel of a switch and of a device serves one line at a time, for as
//! long as its rate says; lines go to channels in turns. A read asks downwards and its data comes
//! up, a write has its data go down and is confirmed upwards: only what carries data is served,
//! the rest just travels. A logical device with a limit has a bucket before its device.
//!
//! How many accesses are under way at once is for who makes them to say: two events at one time are
//! two accesses that are made at once, in the order of the steps. Only a range that is written back
//! is more than one access: as many of its lines are under way at once as a core has.
//!
//! # What hosts wait for
//! What is in the caches takes the time of the caches. A line that is not, and a line of coherent
//! memory that a host is about to write for the first time, takes the time of a read, and before
//! the device answers it has other hosts give back what they have. A line that only makes room is
//! written at the same time, in the way of others, and nobody waits for it.
//!
//! # Beside the steady state
//! [`solve`](crate::timing::solve) says what accesses take that go on for ever; here is one after
//! the other. Both have the same elements, so:
//! 1. One that is alone takes exactly [`Elements::unloaded`].
//! 2. Reads that come at random times and go to lines at random wait, in the mean, as long in a
//!    channel as `solve` says (an M/D/1 queue), short of what a run of some length happens to be.
//! 3. Reads at equal distances, or to lines in turns, wait less or not at all below saturation;
//!    and behind one queue the next one sees fewer that come at once, where `solve` takes each
//!    queue as if it were the first: its waits are the upper bound.
//! 4. Beyond saturation waits grow for as long as it goes on, where `solve` slows the streams down.
//!
//! Waits that a class has as measured curves are for `solve` alone: here its rates count.
//!
//! What now and then takes longer, at a device or because a link sends a flit again, delays nobody
//! else: the channel or link goes on meanwhile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Reach;
use crate::id::{LdId, MemdevId, SwitchId};
use crate::timing::{
    Bucket, Device, Element, ElementId, Elements, Link, Path, Picos, Rate, Server, Table,
    TableError, Tail, TailParameters,
};
use crate::topology::Topology;
use crate::topology::limits::{GIGATRANSFERS, LANES};
use pool_core::units::LINE_BYTES;

/// Lines that a logical device with a limit may move at once after it was idle. Chosen.
const BURST: u64 = 64;

/// Why a topology cannot be timed. Correct what it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FabricError {
    /// Write a class that the timing table has, or a table that has the class.
    #[error("{element}: {why}")]
    Class {
        /// Whose class it is, as `memdev "pool"`.
        element: String,
        /// Which class, and which there are.
        why: Box<TableError>,
    },
    /// Correct the table.
    #[error("timing table: {0}")]
    Table(Box<TableError>),
}

impl From<TableError> for FabricError {
    fn from(error: TableError) -> Self {
        Self::Table(Box::new(error))
    }
}

/// Which way on a link, as the model counts its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards hosts: answers, and the data of reads.
    Up,
    /// Towards devices: requests, and the data of writes.
    Down,
}

/// What an access is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// One access.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) kind: Kind,
    pub(super) ld: (MemdevId, LdId),
    /// Where in the memory of the device.
    pub(super) physical: u64,
    /// When it is made.
    pub(super) at: Picos,
    /// Before that time the device does not begin.
    pub(super) ready: Picos,
}

type Kinds = BTreeMap<(u8, u8), (Link, u32)>;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Times {
    /// Links, switches and devices, one after the other.
    elements: Elements,
    first_switch: usize,
    first_device: usize,
    /// By element.
    servers: Vec<Vec<Server>>,
    /// Of links and then, from `first_device` on, of devices; of switches none.
    tails: BTreeMap<usize, Tail>,
    /// By lanes and gigatransfers: what links can be, and how often they send again.
    kinds: Kinds,
    /// How much longer what goes one way on a link takes; none is for ever.
    stalls: BTreeMap<(usize, Direction), Option<Picos>>,
    /// By device: what an access spends in the host.
    hosts: Vec<Picos>,
    buckets: BTreeMap<(MemdevId, LdId), (Bucket, Picos)>,
    /// Of each resource of elements that copies use: how many do, and what they take.
    taken: BTreeMap<usize, (u64, Rate)>,
    /// What a hit in the caches of a host takes.
    pub(super) hit: Picos,
    /// Accesses that a core has under way.
    pub(super) core_accesses: usize,
}

impl Times {
    /// Nothing is under way.
    pub(super) fn new(topology: &Topology, table: &Table, seed: u64) -> Result<Self, FabricError> {
        check_hosts(topology, table)?;
        let mut elements = table.elements()?;
        let mut tails = BTreeMap::new();
        for ((place, number), link) in (0..).zip(0..).zip(&topology.links) {
            let of = |why| class(format!("link {number}"), why);
            let timed = table.link(link.gigatransfers, link.lanes).map_err(of)?;
            let once_in = table.retry_once_in(link.gigatransfers).map_err(of)?;
            elements.add(Element::Link(timed));
            let again = again(&timed);
            tails.insert(place, Tail::of_link(once_in, again, seed, number));
        }
        let first_switch = elements.list.len();
        for _ in &topology.switches {
            elements.add(Element::Switch(table.switch()?));
        }
        let first_device = elements.list.len();
        let mut hosts = Vec::new();
        let mut buckets = BTreeMap::new();
        for ((id, number), memdev) in (0..).map(MemdevId).zip(0..).zip(&topology.memdevs) {
            let of = |why| class(format!("memdev {:?}", memdev.name), why);
            hosts.push(table.host(&memdev.class).map_err(of)?);
            let device = table.device(&memdev.class).map_err(of)?;
            let tail = table.tail(&memdev.class).map_err(of)?;
            let place = elements.add(Element::Device(device));
            tails.insert(place.0, Tail::of_device(tail, seed, number));
            for ld in (0..memdev.kind.logical_devices()).map(|ld| LdId(ld.into())) {
                if let Some(limit) = memdev.ld_limit {
                    let bucket = Bucket::new(limit, BURST * LINE_BYTES);
                    buckets.insert((id, ld), (bucket, Picos::ZERO));
                }
            }
        }
        let servers = elements.list.iter().map(servers).collect();
        Ok(Self {
            elements,
            first_switch,
            first_device,
            servers,
            kinds: kinds(table)?,
            stalls: BTreeMap::new(),
            tails,
            taken: BTreeMap::new(),
            hosts,
            buckets,
            hit: table.cache_hit()?,
            core_accesses: usize::try_from(table.core_accesses()?).unwrap_or(usize::MAX),
        })
    }

    /// What is timed: links, switches and devices, in this order and each in that of the topology.
    pub(super) const fn elements(&self) -> &Elements {
        &self.elements
    }

    /// What copies take from now on.
    pub(super) fn copies_take(&mut self, taken: BTreeMap<usize, (u64, Rate)>) {
        self.taken = taken;
    }

    /// How long a line is served where copies take some of a resource: at the rate that they leave,
    /// and at no less than if it were one more of them.
    fn beside_copies(&self, (resource, all): (usize, Rate), service: Picos) -> Picos {
        let Some(&(copies, taken)) = self.taken.get(&resource) else {
            return service;
        };
        let one_more = all.get() / copies.saturating_add(1);
        let left = all.get().saturating_sub(taken.get()).max(one_more).max(1);
        let longer = u128::from(service.get()) * u128::from(all.get());
        let longer = longer.div_ceil(u128::from(left));
        Picos::new(u64::try_from(longer).unwrap_or(u64::MAX))
    }

    /// Where a device is among the elements.
    pub(super) const fn place_of(&self, memdev: MemdevId) -> usize {
        self.first_device.saturating_add(memdev.index())
    }

    /// Where a switch is among them.
    pub(super) const fn place_of_switch(&self, switch: SwitchId) -> usize {
        self.first_switch.saturating_add(switch.index())
    }

    /// The way of a host as the model has it.
    pub(super) fn path(&self, reach: &Reach) -> Path {
        let links = reach.links.iter().map(|&link| ElementId(link));
        let mut switches = reach.switches.iter();
        let switch = |id: &SwitchId| ElementId(self.place_of_switch(*id));
        let hops = links.flat_map(|link| [Some(link), switches.next().map(switch)]);
        Path {
            host: self
                .hosts
                .get(reach.memdev.index())
                .copied()
                .unwrap_or_default(),
            hops: hops.flatten().collect(),
            device: ElementId(self.place_of(reach.memdev)),
        }
    }

    /// Makes an access, and says when it is over.
    pub(super) fn access(&mut self, now: Picos, path: &Path, access: Access) -> Picos {
        let is_write = access.kind == Kind::Write;
        let line = access.physical / LINE_BYTES;
        let mut at = access.at.saturating_add(there(path.host));
        for &hop in &path.hops {
            at = self.pass(now, at, (hop, Direction::Down), is_write.then_some(line));
        }
        at = self.device(now, at.max(access.ready), path, access);
        for &hop in path.hops.iter().rev() {
            at = self.pass(now, at, (hop, Direction::Up), (!is_write).then_some(line));
        }
        at.saturating_add(path.host.saturating_sub(there(path.host)))
    }

    /// A device has a line back that a host on `path` has, for an access that comes to the device
    /// at `at`: when it has it. Where the host wrote the line, its data goes down and is written.
    pub(super) fn give_back(
        &mut self,
        now: Picos,
        path: &Path,
        access: Access,
        is_dirty: bool,
    ) -> Picos {
        let line = access.physical / LINE_BYTES;
        let mut at = access.at;
        for &hop in path.hops.iter().rev() {
            at = self.pass(now, at, (hop, Direction::Up), None);
        }
        at = at.saturating_add(path.host);
        for &hop in &path.hops {
            at = self.pass(now, at, (hop, Direction::Down), is_dirty.then_some(line));
        }
        if is_dirty {
            at = self.device(now, at, path, access);
        }
        at
    }

    /// When a request that is made at `at` comes to the device.
    pub(super) fn arrival(&mut self, at: Picos, path: &Path) -> Picos {
        let start = at.saturating_add(there(path.host));
        let pass = |at, &hop| self.pass(at, at, (hop, Direction::Down), None);
        path.hops.iter().fold(start, pass)
    }

    /// Passes a link or a switch; with a line it carries data, and is served.
    fn pass(
        &mut self,
        now: Picos,
        at: Picos,
        (hop, direction): (ElementId, Direction),
        line: Option<u64>,
    ) -> Picos {
        let Some(element) = self.elements.list.get(hop.0) else {
            return at;
        };
        // Of resources, each element has two.
        let resource = hop.0.saturating_mul(2);
        let (service, takes, line, shared) = match (element, direction) {
            (Element::Link(link), Direction::Up) => (
                link.up.time_of(LINE_BYTES),
                link.propagation,
                line.map(|_| 0),
                (resource, link.up),
            ),
            (Element::Link(link), Direction::Down) => (
                link.down.time_of(LINE_BYTES),
                link.propagation,
                line.map(|_| 1),
                (resource + 1, link.down),
            ),
            (Element::Switch(switch), _) => {
                let bytes = LINE_BYTES.saturating_mul(switch.channels);
                let service = switch.capacity.time_of(bytes);
                let shared = (resource, switch.capacity);
                (service, switch.cut_through, line, shared)
            }
            (Element::Device(_), _) => return at,
        };
        let mut at = at;
        if let Some(line) = line {
            let service = self.beside_copies(shared, service);
            at = self.serve(now, at, (hop, line), service);
            let again = self.tails.get_mut(&hop.0).map(Tail::draw);
            at = at.saturating_add(again.unwrap_or_default());
        }
        let stall = self.stalls.get(&(hop.0, direction)).copied().flatten();
        at.saturating_add(takes)
            .saturating_add(stall.unwrap_or_default())
    }

    /// A link is of another width or speed from now on; how often it sends again stays.
    pub(super) fn train(&mut self, link: usize, lanes: u8, gigatransfers: u8) {
        let kind = self.kinds.get(&(lanes, gigatransfers));
        if let (Some(Element::Link(old)), Some((new, _))) = (self.elements.list.get_mut(link), kind)
        {
            *old = *new;
        }
    }

    /// It sends one line in so many again.
    pub(super) fn set_retries(&mut self, link: usize, once_in: u32) {
        if let Some(Element::Link(now)) = self.elements.list.get(link)
            && let Some(tail) = self.tails.get_mut(&link)
        {
            let longer = again(now);
            tail.set(TailParameters {
                once_in,
                min: longer,
                max: longer,
            });
        }
    }

    /// What goes one way takes longer.
    pub(super) fn stall(&mut self, link: usize, direction: Direction, longer: Option<Picos>) {
        self.stalls.insert((link, direction), longer);
    }

    /// It is as it was made.
    pub(super) fn heal_link(&mut self, link: usize, lanes: u8, gigatransfers: u8) {
        self.stalls.remove(&(link, Direction::Up));
        self.stalls.remove(&(link, Direction::Down));
        self.train(link, lanes, gigatransfers);
        let kind = self.kinds.get(&(lanes, gigatransfers));
        if let Some(&(_, once_in)) = kind {
            self.set_retries(link, once_in);
        }
    }

    /// Whether nothing gets through one way.
    pub(super) fn is_blocked(&self, path: &Path, direction: Direction) -> bool {
        let stall = |hop: &ElementId| self.stalls.get(&(hop.0, direction));
        path.hops.iter().any(|hop| stall(hop) == Some(&None))
    }

    /// In the device: when the line is read or written.
    fn device(&mut self, now: Picos, at: Picos, path: &Path, access: Access) -> Picos {
        let Some(Element::Device(device)) = self.elements.list.get(path.device.0) else {
            return at;
        };
        let (service, takes) = of_device(device, access.kind);
        let shared = (path.device.0.saturating_mul(2), device.bulk_read);
        let service = self.beside_copies(shared, service);
        let line = access.physical / LINE_BYTES;
        let at = self.limited(at, access.ld);
        let start = self.serve(now, at, (path.device, line), service);
        let longer = self.tails.get_mut(&path.device.0).map(Tail::draw);
        start
            .saturating_add(takes)
            .saturating_add(longer.unwrap_or_default())
    }

    fn serve(
        &mut self,
        now: Picos,
        at: Picos,
        (element, line): (ElementId, u64),
        service: Picos,
    ) -> Picos {
        let Some(servers) = self.servers.get_mut(element.0) else {
            return at;
        };
        let turn = line.checked_rem(servers.len() as u64).unwrap_or(0);
        let server = servers.get_mut(usize::try_from(turn).unwrap_or(0));
        server.map_or(at, |server| server.serve(now, at, service))
    }

    /// When the bucket of a logical device lets a line through that comes at `at`.
    fn limited(&mut self, at: Picos, ld: (MemdevId, LdId)) -> Picos {
        let Some((bucket, last)) = self.buckets.get_mut(&ld) else {
            return at;
        };
        let mut from = at.max(*last);
        if let Err(wait) = bucket.take(from, LINE_BYTES) {
            from = from.saturating_add(wait.0);
            // It has as much by then; where that is never, the access takes for ever.
            let _never = bucket.take(from, LINE_BYTES);
        }
        *last = from;
        from
    }
}

/// Half of what an access spends in the host is before it leaves.
fn there(host: Picos) -> Picos {
    Picos::new(host.get() / 2)
}

/// How much longer a line takes whose flit is sent again.
fn again(link: &Link) -> Picos {
    let once_more = link.up.min(link.down).time_of(LINE_BYTES);
    link.propagation.times(2).saturating_add(once_more)
}

fn of_device(device: &Device, kind: Kind) -> (Picos, Picos) {
    let (rate, media): (Rate, Picos) = match kind {
        Kind::Read => (device.read, device.media_read),
        Kind::Write => (device.write, device.media_write),
    };
    let bytes = device.access.saturating_mul(device.channels);
    (rate.time_of(bytes), device.controller.saturating_add(media))
}

/// All links that the table has.
fn kinds(table: &Table) -> Result<Kinds, FabricError> {
    let mut kinds = BTreeMap::new();
    for gigatransfers in GIGATRANSFERS {
        let once_in = table.retry_once_in(gigatransfers)?;
        for lanes in LANES {
            let link = table.link(gigatransfers, lanes)?;
            kinds.insert((lanes, gigatransfers), (link, once_in));
        }
    }
    Ok(kinds)
}

fn servers(element: &Element) -> Vec<Server> {
    let count = match element {
        Element::Link(_) => 2,
        Element::Switch(switch) => switch.channels,
        Element::Device(device) => device.channels,
    };
    (0..count).map(|_| Server::default()).collect()
}

fn class(element: String, why: TableError) -> FabricError {
    FabricError::Class {
        element,
        why: Box::new(why),
    }
}

/// The classes of what hosts have of their own.
fn check_hosts(topology: &Topology, table: &Table) -> Result<(), FabricError> {
    for host in &topology.hosts {
        for memory in &host.memories {
            let of = |why| class(format!("host {:?}", host.name), why);
            table.device(&memory.class).map_err(of)?;
        }
    }
    Ok(())
}
