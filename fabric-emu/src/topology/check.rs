//! The rules for the parts of a topology, each by itself and all together. Those for how they are
//! connected stand in `wiring`.

use std::collections::BTreeMap;

use pool_core::Bytes;

use super::error::{Part, Problem};
use super::limits::{self, GRANULE};
use super::{Host, Memdev, Region, Switch, Topology, TopologyError, wiring};

type Checked = Result<(), TopologyError>;

impl Topology {
    /// Whether this fabric can be.
    ///
    /// # Errors
    /// [`TopologyError`] with the first thing that is wrong, and no file or line.
    pub fn check(&self) -> Checked {
        parts(self)?;
        wiring::check(self)
    }
}

/// Everything but the links.
pub(super) fn parts(topology: &Topology) -> Checked {
    let counts = [
        ("host", topology.hosts.len(), 1, limits::HOSTS_MAX),
        ("switch", topology.switches.len(), 0, limits::SWITCHES_MAX),
        ("memdev", topology.memdevs.len(), 0, limits::MEMDEVS_MAX),
        ("link", topology.links.len(), 0, limits::LINKS_MAX),
    ];
    for (key, count, least, most) in counts {
        count_within(Part::Whole, key, count as u64, least, most as u64)?;
    }
    name(Part::Whole, "name", &topology.name)?;
    for (index, one) in (0..).zip(&topology.hosts) {
        host(index, one)?;
    }
    for (index, one) in (0..).zip(&topology.switches) {
        switch(Part::Switch(index), one)?;
    }
    for (index, one) in (0..).zip(&topology.memdevs) {
        memdev(index, one)?;
    }
    sums(topology)?;
    names_differ(topology)?;
    serials_differ(topology)
}

fn host(index: u32, host: &Host) -> Checked {
    let part = Part::Host(index);
    name(part, "name", &host.name)?;
    size(part, "window", host.window, Bytes::ZERO, limits::WINDOW_MAX)?;
    multiple(part, "window", host.window, GRANULE)?;
    let (least, most) = limits::CACHE_LINES.into_inner();
    number(part, "cache_lines", host.cache_lines, least, most)?;
    let (count, most) = (host.memories.len(), limits::MEMORIES_OF_HOST_MAX);
    count_within(part, "memory", count as u64, 0, most as u64)?;
    for (which, memory) in (0..).zip(&host.memories) {
        let part = Part::Memory(index, which);
        name(part, "class", &memory.class)?;
        let (least, most) = (Bytes::new(1), limits::CAPACITY_MAX);
        size(part, "capacity", memory.capacity, least, most)?;
    }
    Ok(())
}

fn switch(part: Part, switch: &Switch) -> Checked {
    name(part, "name", &switch.name)?;
    let (least, most) = limits::SWITCH_PORTS.into_inner();
    number(part, "ports", switch.ports, least, most)?;
    let (least, most) = limits::VPPBS.into_inner();
    number(part, "vppbs", switch.vppbs, least, most)
}

fn memdev(index: u32, memdev: &Memdev) -> Checked {
    let part = Part::Memdev(index);
    name(part, "name", &memdev.name)?;
    name(part, "class", &memdev.class)?;
    let (least, most) = limits::LOGICAL_DEVICES.into_inner();
    let count = memdev.kind.logical_devices();
    number(part, "kind", count, least, most)?;
    if let Some(limit) = memdev.ld_limit {
        let (least, most) = limits::LD_LIMIT.into_inner();
        number(part, "ld_limit", limit.get(), least, most)?;
    }
    for (key, amount) in [("fixed", memdev.fixed), ("dynamic", memdev.dynamic)] {
        size(part, key, amount, Bytes::ZERO, limits::CAPACITY_MAX)?;
        let of = Bytes::new(GRANULE.get() * u64::from(count));
        if !amount.get().is_multiple_of(of.get()) {
            let (size, parts) = (amount, count);
            return refused(part, key, Problem::Division { size, parts, of });
        }
    }
    let (regions, most) = (memdev.regions.len(), limits::REGIONS_OF_MEMDEV_MAX);
    count_within(part, "region", regions as u64, 0, most as u64)?;
    if memdev.fixed == Bytes::ZERO && memdev.dynamic == Bytes::ZERO && regions == 0 {
        return Err(TopologyError::at(part, None, Problem::NoMemory));
    }
    match (memdev.dynamic == Bytes::ZERO, regions == 0) {
        (false, true) => return refused(part, "dynamic", Problem::NoRegion),
        (true, false) => {
            let first = Part::Region(index, 0);
            return Err(TopologyError::at(first, None, Problem::NoDynamic));
        }
        _ => {}
    }
    for (which, one) in (0..).zip(&memdev.regions) {
        region(Part::Region(index, which), one)?;
    }
    Ok(())
}

fn region(part: Part, region: &Region) -> Checked {
    let block = region.block;
    if !block.get().is_power_of_two() || block < limits::BLOCK_MIN {
        return refused(part, "block", Problem::Block { size: block });
    }
    size(part, "length", region.length, GRANULE, limits::CAPACITY_MAX)?;
    // Both are powers of two, so a multiple of the larger one is one of each.
    multiple(part, "length", region.length, GRANULE.max(block))
}

/// What is bounded for all of them together.
fn sums(topology: &Topology) -> Checked {
    let regions = topology.memdevs.iter().map(|memdev| memdev.regions.len());
    let (regions, most) = (regions.sum::<usize>(), limits::REGIONS_MAX);
    count_within(Part::Whole, "region", regions as u64, 0, most as u64)?;
    let lines = topology
        .hosts
        .iter()
        .map(|host| u64::from(host.cache_lines));
    let (lines, most) = (lines.sum(), limits::CACHE_LINES_MAX);
    count_within(Part::Whole, "cache_lines", lines, 0, most)
}

fn names_differ(topology: &Topology) -> Checked {
    let hosts = (0..).zip(&topology.hosts);
    let switches = (0..).zip(&topology.switches);
    let memdevs = (0..).zip(&topology.memdevs);
    let names = hosts
        .map(|(index, host)| (Part::Host(index), &host.name))
        .chain(switches.map(|(index, switch)| (Part::Switch(index), &switch.name)))
        .chain(memdevs.map(|(index, memdev)| (Part::Memdev(index), &memdev.name)));
    let mut seen = BTreeMap::new();
    for (part, name) in names {
        if let Some(first) = seen.insert(name, part) {
            let name = name.clone();
            return refused(part, "name", Problem::DoubleName { name, first });
        }
    }
    Ok(())
}

fn serials_differ(topology: &Topology) -> Checked {
    let mut seen = BTreeMap::new();
    for (index, memdev) in (0..).zip(&topology.memdevs) {
        let (part, serial) = (Part::Memdev(index), memdev.serial);
        if let Some(first) = seen.insert(serial, part) {
            return refused(part, "serial", Problem::DoubleSerial { serial, first });
        }
    }
    Ok(())
}

fn name(part: Part, key: &'static str, name: &str) -> Checked {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name
        .bytes()
        .take(1)
        .any(|byte| byte.is_ascii_alphanumeric());
    if begins && name.len() <= limits::NAME_CHARS_MAX && name.bytes().all(allowed) {
        return Ok(());
    }
    // What is shown of it is bounded too.
    let name = name.chars().take(2 * limits::NAME_CHARS_MAX).collect();
    refused(part, key, Problem::Name { name })
}

fn number<T: Into<u64>>(part: Part, key: &'static str, value: T, least: T, most: T) -> Checked {
    let (value, least, most) = (value.into(), least.into(), most.into());
    if (least..=most).contains(&value) {
        return Ok(());
    }
    refused(part, key, Problem::Number { value, least, most })
}

fn count_within(part: Part, key: &'static str, count: u64, least: u64, most: u64) -> Checked {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    refused(part, key, Problem::Count { count, least, most })
}

fn size(part: Part, key: &'static str, size: Bytes, least: Bytes, most: Bytes) -> Checked {
    if (least..=most).contains(&size) {
        return Ok(());
    }
    refused(part, key, Problem::Size { size, least, most })
}

fn multiple(part: Part, key: &'static str, size: Bytes, of: Bytes) -> Checked {
    if size.get().is_multiple_of(of.get()) {
        return Ok(());
    }
    refused(part, key, Problem::Multiple { size, of })
}

fn refused(part: Part, key: &'static str, problem: Problem) -> Checked {
    Err(TopologyError::at(part, Some(key), problem))
}
