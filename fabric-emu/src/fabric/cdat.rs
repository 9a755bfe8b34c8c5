//! What devices and switches tell of how fast they are.
//!
//! A device tells what is in itself, of each range of a logical device: its fixed memory has handle
//! 0, its regions the numbers from 1 on; and no more bandwidth than the link at its port carries as
//! it is trained. Whoever wants the whole way adds links and switches.

use std::collections::BTreeMap;

use super::Fabric;
use super::event::{AccessError, Effect};
use super::time::Direction;
use crate::capacity::Region;
use crate::cdat::{Cdat, Entry, Figure, Scaled};
use crate::id::{HostId, LdId, MemdevId, Node, PortId, SwitchId};
use crate::timing::{Device, Element, Link, Rate};
use crate::topology::MemdevKind;

/// What has such a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// A logical device.
    Memdev(MemdevId, LdId),
    /// A switch.
    Switch(SwitchId),
}

/// Bytes a second of a unit of bandwidth.
const MEGA: u64 = 1_000_000;

impl Fabric {
    /// A host reads the table of what it reaches.
    pub(super) fn read_cdat(&self, host: HostId, of: Told) -> Effect {
        self.cdat_for(host, of)
            .map_or_else(Effect::Failed, Effect::Cdat)
    }

    fn cdat_for(&self, host: HostId, of: Told) -> Result<Vec<u8>, AccessError> {
        if !self.is_alive(host) {
            return Err(AccessError::Dead);
        }
        match of {
            Told::Memdev(memdev, ld) => {
                let way = self.reached.get(host.index());
                let way = way.and_then(|it| it.get(&(memdev, ld)));
                let way = way.ok_or(AccessError::Unreachable)?;
                let is_blocked = |direction| self.times.is_blocked(way, direction);
                if is_blocked(Direction::Down) || is_blocked(Direction::Up) {
                    return Err(AccessError::TimedOut);
                }
                let device = self.memdev(memdev).ok_or(AccessError::Unreachable)?;
                match device.condition().cdat.get(&ld) {
                    Some(stale) => Ok(stale.clone()),
                    None => self.cdat(memdev, ld).ok_or(AccessError::Unreachable),
                }
            }
            Told::Switch(switch) => {
                if !self.is_below(switch, host) {
                    return Err(AccessError::Unreachable);
                }
                self.switch_cdat(switch).ok_or(AccessError::Unreachable)
            }
        }
    }

    /// Whether a switch is at a port of a host, or on the way to what it reaches.
    fn is_below(&self, switch: SwitchId, host: HostId) -> bool {
        let ports = (Node::Host(host), PortId(0))..=(Node::Host(host), PortId(u8::MAX));
        let mut ends = self.ends.range(ports).map(|(_, end)| end);
        let is_here =
            ends.any(|&((node, _), link)| node == Node::Switch(switch) && self.is_up(link));
        let mut ways = self.reach(host).into_iter();
        is_here || ways.any(|way| way.switches.contains(&switch))
    }

    fn cdat(&self, memdev: MemdevId, ld: LdId) -> Option<Vec<u8>> {
        let device = self.memdev(memdev)?;
        let (fixed, regions) = device.ld(ld).ok()?;
        let head = match device.kind() {
            MemdevKind::MultiHeaded(_) => PortId(u8::try_from(ld.0).ok()?),
            MemdevKind::Sld | MemdevKind::Mld(_) => PortId(0),
        };
        let (place, _) = self.link_at(Node::Memdev(memdev), head)?;
        let elements = &self.times.elements().list;
        let Some(Element::Link(link)) = elements.get(place) else {
            return None;
        };
        let Some(Element::Device(timed)) = elements.get(self.times.place_of(memdev)) else {
            return None;
        };
        let mut entries = Vec::new();
        if fixed > 0 {
            range(&mut entries, (0, 0), (0, fixed), (timed, link));
        }
        for (handle, region) in (1..).zip(regions) {
            let span = (region.span.start, region.span.bytes);
            range(&mut entries, (handle, flags(region)), span, (timed, link));
        }
        let sequence = self.trained.get(&place).copied().unwrap_or(0);
        Some(Cdat { sequence, entries }.encode())
    }

    fn switch_cdat(&self, switch: SwitchId) -> Option<Vec<u8>> {
        let place = self.times.place_of_switch(switch);
        let Some(Element::Switch(timed)) = self.times.elements().list.get(place) else {
            return None;
        };
        let entries = vec![
            Entry::Switch {
                figure: Figure::AccessLatency,
                value: Scaled::of(timed.cut_through.get()),
            },
            Entry::Switch {
                figure: Figure::AccessBandwidth,
                value: Scaled::of(timed.capacity.get() / MEGA),
            },
        ];
        let sequence = 0;
        Some(Cdat { sequence, entries }.encode())
    }

    /// Has a device tell from now on what it tells now.
    pub(super) fn keep_cdat(&mut self, memdev: MemdevId) -> Effect {
        let lds = self.memdev(memdev).map(|it| it.kind().logical_devices());
        let lds = (0..lds.unwrap_or(0)).map(|ld| LdId(ld.into()));
        let told: BTreeMap<_, _> = lds
            .filter_map(|ld| Some((ld, self.cdat(memdev, ld)?)))
            .collect();
        let Some(device) = self.memdevs.get_mut(memdev.index()) else {
            return Effect::Failed(AccessError::Unreachable);
        };
        device.condition_mut().cdat = told;
        Effect::Done
    }

    /// A link was trained: the table of what is at its end is another one.
    pub(super) fn link_trained(&mut self, link: usize) {
        let changes = self.trained.entry(link).or_default();
        *changes = changes.wrapping_add(1);
    }
}

fn flags(region: &Region) -> u8 {
    let flag = |is_so: bool, flag: u8| if is_so { flag } else { 0 };
    Entry::DYNAMIC
        | flag(region.is_sharable, Entry::SHARABLE)
        | flag(region.is_hardware_coherent, Entry::HARDWARE_COHERENT)
        | flag(region.is_read_only, Entry::READ_ONLY)
}

/// All that is told of a range.
fn range(
    entries: &mut Vec<Entry>,
    (handle, flags): (u8, u8),
    (start, bytes): (u64, u64),
    (device, link): (&Device, &Link),
) {
    let read = device.controller.saturating_add(device.media_read);
    let write = device.controller.saturating_add(device.media_write);
    let rate = |of: Rate, way: Rate| of.min(way).get() / MEGA;
    let figures = [
        (Figure::ReadLatency, read.get()),
        (Figure::WriteLatency, write.get()),
        (Figure::ReadBandwidth, rate(device.read, link.up)),
        (Figure::WriteBandwidth, rate(device.write, link.down)),
    ];
    entries.push(Entry::Range {
        handle,
        flags,
        start,
        bytes,
    });
    entries.extend(figures.map(|(figure, number)| Entry::Speed {
        handle,
        figure,
        value: Scaled::of(number),
    }));
    entries.push(Entry::Use {
        handle,
        memory: Entry::SPECIAL_PURPOSE,
        offset: 0,
        bytes,
    });
}
