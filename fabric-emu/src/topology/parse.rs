//! Reads the file of a topology.
//!
//! First its form, then the values of each part, then the rules of the parts, then the ends of the
//! links, whose names are known to differ by then, then the rules of the links. Each value is
//! remembered by where it stands, so that a rule needs to know of no file.

use core::ops::RangeInclusive;
use std::collections::BTreeMap;

use pool_core::Bytes;
use toml::Spanned;

use super::error::{Part, Problem};
use super::file::{
    CoherenceEntry, File, HostEntry, KindEntry, LinkEntry, MemdevEntry, MemoryEntry, RegionEntry,
    SwitchEntry,
};
use super::limits::{self, FILE_BYTES_MAX, GIGATRANSFERS, LANES};
use super::{Host, Link, Memdev, MemdevKind, Memory, Region, Switch, Topology, TopologyError};
use super::{check, wiring};
use crate::id::{HostId, MemdevId, Node, Port, PortId, SwitchId};
use crate::timing::Rate;

type Read<T> = Result<T, TopologyError>;

impl Topology {
    /// Reads the TOML of a topology, whose form [`file`](super::file) describes. The name of the
    /// file is only for errors.
    ///
    /// # Errors
    /// [`TopologyError`] with the first thing that is wrong, and where.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, TopologyError> {
        let mut reader = Reader::default();
        reader.read(text).map_err(|mut error| {
            error.place.file = Some(file_name.to_owned());
            error.place.line = reader.line(text, error.place.part, error.place.key);
            error
        })
    }
}

/// Where each part and each of its values stands, in bytes from the beginning of the text.
#[derive(Debug, Default)]
struct Reader {
    stands: BTreeMap<(Part, Option<&'static str>), usize>,
}

impl Reader {
    /// The line, from 1, of this value, or of the part where it has no value there.
    fn line(&self, text: &str, part: Part, key: Option<&'static str>) -> Option<u32> {
        let stands = |key| self.stands.get(&(part, key));
        let before = text.get(..*stands(key).or_else(|| stands(None))?)?;
        u32::try_from(before.matches('\n').count() + 1).ok()
    }

    fn read(&mut self, text: &str) -> Read<Topology> {
        let whole = |problem| TopologyError::at(Part::Whole, None, problem);
        if text.len() > FILE_BYTES_MAX {
            let (bytes, most) = (text.len(), FILE_BYTES_MAX);
            return Err(whole(Problem::TooLong { bytes, most }));
        }
        let file: File = toml::from_str(text).map_err(|error| {
            if let Some(span) = error.span() {
                self.stands.insert((Part::Whole, None), span.start);
            }
            let lines: Vec<_> = error.message().lines().collect();
            let message = lines.join(", ");
            whole(Problem::Form { message })
        })?;
        let mut topology = Topology {
            name: self.take(Part::Whole, "name", file.name),
            hosts: Vec::with_capacity(file.host.len()),
            switches: Vec::with_capacity(file.switch.len()),
            memdevs: Vec::with_capacity(file.memdev.len()),
            links: Vec::new(),
        };
        for (index, entry) in (0..).zip(file.host) {
            topology.hosts.push(self.host(index, entry)?);
        }
        for (index, entry) in (0..).zip(file.switch) {
            let part = Part::Switch(index);
            topology.switches.push(self.switch(part, entry)?);
        }
        for (index, entry) in (0..).zip(file.memdev) {
            topology.memdevs.push(self.memdev(index, entry)?);
        }
        check::parts(&topology)?;
        topology.links = self.links(&topology, file.link)?;
        // Once more, now that there are links to count.
        check::parts(&topology)?;
        wiring::check(&topology)?;
        Ok(topology)
    }

    fn host(&mut self, index: u32, entry: Spanned<HostEntry>) -> Read<Host> {
        let part = Part::Host(index);
        let entry = self.part(part, entry);
        let window = self.size(part, "window", entry.window, limits::WINDOW_DEFAULT)?;
        let mut host = Host {
            name: self.take(part, "name", entry.name),
            root_ports: self.number(part, "root_ports", entry.root_ports, 1, limits::ROOT_PORTS)?,
            window,
            writes_back_no_clean_lines: entry.writes_back_no_clean_lines,
            takes_back_invalidates: entry.takes_back_invalidates,
            cache_lines: self.number(
                part,
                "cache_lines",
                entry.cache_lines,
                limits::CACHE_LINES_DEFAULT,
                limits::CACHE_LINES,
            )?,
            memories: Vec::with_capacity(entry.memory.len()),
        };
        for (which, memory) in (0..).zip(entry.memory) {
            let part = Part::Memory(index, which);
            let MemoryEntry { class, capacity } = self.part(part, memory);
            let class = self.take(part, "class", class);
            let capacity = self.size(part, "capacity", Some(capacity), Bytes::ZERO)?;
            host.memories.push(Memory { class, capacity });
        }
        Ok(host)
    }

    fn switch(&mut self, part: Part, entry: Spanned<SwitchEntry>) -> Read<Switch> {
        let entry = self.part(part, entry);
        let name = self.take(part, "name", entry.name);
        let ports = self.number(part, "ports", Some(entry.ports), 0, limits::SWITCH_PORTS)?;
        let others = ports.saturating_sub(1);
        let vppbs = self.number(part, "vppbs", entry.vppbs, others, limits::VPPBS)?;
        Ok(Switch { name, ports, vppbs })
    }

    fn memdev(&mut self, index: u32, entry: Spanned<MemdevEntry>) -> Read<Memdev> {
        let part = Part::Memdev(index);
        let entry = self.part(part, entry);
        let serial = limits::SERIAL_DEFAULT + u64::from(index);
        let class = limits::CLASS_DEFAULT.to_owned();
        let dynamic = self.size(part, "dynamic", entry.dynamic, Bytes::ZERO)?;
        let mut memdev = Memdev {
            name: self.take(part, "name", entry.name),
            serial: entry
                .serial
                .map_or(serial, |serial| self.take(part, "serial", serial)),
            kind: self.kind(part, entry.kind)?,
            class: entry
                .class
                .map_or(class, |class| self.take(part, "class", class)),
            ld_limit: self.ld_limit(part, entry.ld_limit)?,
            fixed: self.size(part, "fixed", entry.fixed, Bytes::ZERO)?,
            dynamic,
            regions: Vec::with_capacity(entry.region.len()),
        };
        for (which, region) in (0..).zip(entry.region) {
            let part = Part::Region(index, which);
            memdev.regions.push(self.region(part, region, dynamic)?);
        }
        Ok(memdev)
    }

    fn ld_limit(&mut self, part: Part, entry: Option<Spanned<u64>>) -> Read<Option<Rate>> {
        let allowed = limits::LD_LIMIT;
        let limit = entry.map(|entry| {
            let value = self.take(part, "ld_limit", entry);
            within(part, "ld_limit", value, allowed)
        });
        Ok(limit.transpose()?.map(Rate::new))
    }

    fn kind(&mut self, part: Part, entry: Option<Spanned<KindEntry>>) -> Read<MemdevKind> {
        let entry = entry.map(|entry| self.take(part, "kind", entry));
        Ok(match entry.unwrap_or(KindEntry::Sld) {
            KindEntry::Sld => MemdevKind::Sld,
            KindEntry::Mld(count) => {
                MemdevKind::Mld(within(part, "kind", count, limits::LOGICAL_DEVICES)?)
            }
            KindEntry::Heads(count) => {
                MemdevKind::MultiHeaded(within(part, "kind", count, limits::HEADS)?)
            }
        })
    }

    fn region(&mut self, part: Part, entry: Spanned<RegionEntry>, dynamic: Bytes) -> Read<Region> {
        let entry = self.part(part, entry);
        Ok(Region {
            length: self.size(part, "length", entry.length, dynamic)?,
            block: self.size(part, "block", entry.block, limits::BLOCK_DEFAULT)?,
            is_sharable: entry.sharable,
            is_read_only: entry.read_only,
            sanitizes: entry.sanitize.unwrap_or(true),
            is_hardware_coherent: entry.coherence == CoherenceEntry::Hardware,
        })
    }

    fn links(&mut self, topology: &Topology, entries: Vec<Spanned<LinkEntry>>) -> Read<Vec<Link>> {
        let hosts = (0..).map(|id| Node::Host(HostId(id)));
        let switches = (0..).map(|id| Node::Switch(SwitchId(id)));
        let memdevs = (0..).map(|id| Node::Memdev(MemdevId(id)));
        let hosts = topology.hosts.iter().map(|host| &*host.name).zip(hosts);
        let switches = topology
            .switches
            .iter()
            .map(|switch| &*switch.name)
            .zip(switches);
        let memdevs = topology
            .memdevs
            .iter()
            .map(|memdev| &*memdev.name)
            .zip(memdevs);
        let nodes: BTreeMap<_, _> = hosts.chain(switches).chain(memdevs).collect();
        let mut links = Vec::with_capacity(entries.len());
        for (index, entry) in (0..).zip(entries) {
            let part = Part::Link(index);
            let entry = self.part(part, entry);
            let up = self.take(part, "up", entry.up);
            let down = self.take(part, "down", entry.down);
            let lanes = self.one_of(part, "lanes", entry.lanes, limits::LANES_DEFAULT, &LANES)?;
            links.push(Link {
                up: port(&nodes, part, "up", &up)?,
                down: port(&nodes, part, "down", &down)?,
                lanes,
                gigatransfers: self.one_of(
                    part,
                    "gigatransfers",
                    entry.gigatransfers,
                    limits::GIGATRANSFERS_DEFAULT,
                    &GIGATRANSFERS,
                )?,
            });
        }
        Ok(links)
    }

    fn part<T>(&mut self, part: Part, entry: Spanned<T>) -> T {
        self.stands.insert((part, None), entry.span().start);
        entry.into_inner()
    }

    fn take<T>(&mut self, part: Part, key: &'static str, value: Spanned<T>) -> T {
        self.stands.insert((part, Some(key)), value.span().start);
        value.into_inner()
    }

    fn size(
        &mut self,
        part: Part,
        key: &'static str,
        value: Option<Spanned<String>>,
        otherwise: Bytes,
    ) -> Read<Bytes> {
        let Some(value) = value else {
            return Ok(otherwise);
        };
        let text = self.take(part, key, value);
        Bytes::parse(&text).map_err(|error| {
            let problem = Problem::NoSize { text, error };
            TopologyError::at(part, Some(key), problem)
        })
    }

    fn number<T: TryFrom<u64> + Into<u64> + Copy>(
        &mut self,
        part: Part,
        key: &'static str,
        value: Option<Spanned<u64>>,
        otherwise: T,
        allowed: RangeInclusive<T>,
    ) -> Read<T> {
        match value {
            Some(value) => within(part, key, self.take(part, key, value), allowed),
            None => Ok(otherwise),
        }
    }

    fn one_of(
        &mut self,
        part: Part,
        key: &'static str,
        value: Option<Spanned<u64>>,
        otherwise: u8,
        allowed: &'static [u8],
    ) -> Read<u8> {
        let Some(value) = value else {
            return Ok(otherwise);
        };
        let value = self.take(part, key, value);
        let found = allowed.iter().find(|one| u64::from(**one) == value);
        let problem = || Problem::NoneOf { value, allowed };
        found
            .copied()
            .ok_or_else(|| TopologyError::at(part, Some(key), problem()))
    }
}

fn within<T: TryFrom<u64> + Into<u64> + Copy>(
    part: Part,
    key: &'static str,
    value: u64,
    allowed: RangeInclusive<T>,
) -> Read<T> {
    let (least, most) = ((*allowed.start()).into(), (*allowed.end()).into());
    let bounded = (least..=most).contains(&value);
    let fitting = T::try_from(value).ok().filter(|_| bounded);
    let problem = || Problem::Number { value, least, most };
    fitting.ok_or_else(|| TopologyError::at(part, Some(key), problem()))
}

/// The port that `end` names.
fn port(nodes: &BTreeMap<&str, Node>, part: Part, key: &'static str, end: &str) -> Read<Port> {
    let refused = |problem| TopologyError::at(part, Some(key), problem);
    let parsed = end.rsplit_once(':').and_then(|(name, port)| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number)?;
        Some((name, PortId(port)))
    });
    let end = end.chars().take(2 * limits::NAME_CHARS_MAX);
    let Some((name, port)) = parsed else {
        let end = end.collect();
        return Err(refused(Problem::NoEnd { end }));
    };
    let Some(node) = nodes.get(name) else {
        let name = name.chars().take(2 * limits::NAME_CHARS_MAX).collect();
        return Err(refused(Problem::NoSuchNode { name }));
    };
    Ok(Port { node: *node, port })
}
