//! The fabric: what is bound and mapped for whom, and how lines are read and written.
//!
//! Each host has pooled memory of its own, which is dynamic capacity that it was added and took,
//! and a part that all hosts share under one tag, which software keeps coherent. Everything is done
//! by commands, as a fabric manager and hosts send them. In a small world the daemon's steward asks
//! for the host's own memory and gives it back; what is shared, and all of the shipped topology, is
//! had once and for all, and the host reads its event log and takes what it is offered.
//!
//! ```text
//! address of a host   1 << 40  its own pooled memory, extent after extent, from the first of its
//!                              region on where a steward speaks for it
//!                     2 << 40  what is shared, extent after extent
//!                     3 << 40  groups, as the region of groups of its logical device has them
//! ```

use fabric_emu::cci::dcd::{DpaExtent, UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::dcd_management::{
    InitiateAddRequest, InitiateReleaseRequest, ReferenceRequest, RemovalPolicy, SelectionPolicy,
};
use fabric_emu::cci::event_records::{DynamicCapacityEventType, EventBody};
use fabric_emu::cci::events::{ClearEventRecordsRequest, EventLog, GetEventRecordsRequest};
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{Request, Response, Tag};
use fabric_emu::fabric::{AccessError, Asked, Cci, Effect, Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::memdev::Memdev;
use fabric_emu::span::Span;
use fabric_emu::timing::Picos;
use fabric_emu::topology::{Link, Topology, shapes};
use pool_core::units::{GIB, LINE_BYTES, MIB};
use pool_core::{Bytes, EXTENT_BYTES, planted};
use pool_daemon::steward::Unanswered;

use crate::broken::{Checked, broken};
use crate::mix::Mix;

/// Where a host has its own pooled memory.
pub(crate) const PRIVATE: u64 = 1 << 40;
/// Where it has what is shared.
pub(crate) const SHARED: u64 = 2 << 40;

/// Where it has groups.
pub(crate) const GROUPS: u64 = 3 << 40;

mod groups;

const SHARED_TAG: Tag = Tag([0x5a; 16]);
/// The region of groups, of the device of what is a host's own.
pub(crate) const GROUP_REGION: u8 = 1;
const SWITCH: SwitchId = SwitchId(0);
/// Commands that a host is answered at most while it reads its log.
const READS_MAX: usize = 16;

/// What a host or the manager could not do, mostly because of a fault. It is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotNow;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    fabric: Fabric,
    private: MemdevId,
    shared: MemdevId,
    private_bytes: u64,
    shared_bytes: u64,
    /// The region of each host's own memory, where a steward speaks for it.
    region: Option<u64>,
    /// Where the region of groups begins behind it, in worlds that have any.
    groups: Option<u64>,
    now: Picos,
    lost: Vec<(usize, u64)>,
}

fn host(h: usize) -> HostId {
    HostId(u16::try_from(h).unwrap_or(u16::MAX))
}

const fn tag_of(host: HostId) -> Tag {
    let [low, high] = host.0.to_le_bytes();
    let mut tag = [0x11; 16];
    (tag[0], tag[1]) = (low, high);
    Tag(tag)
}

/// A few hosts, a switch, a device for what is their own and one for what is shared; both in small
/// blocks.
fn small(hosts: u8, has_groups: bool) -> Topology {
    let mut topology = shapes::switched(hosts, hosts);
    let mut shared = topology.memdevs[0].clone();
    for (number, region) in topology.memdevs[0].regions.iter_mut().enumerate() {
        region.is_sharable = has_groups && number == usize::from(GROUP_REGION);
    }
    for memdev in [&mut topology.memdevs[0], &mut shared] {
        memdev.dynamic = Bytes::new(u64::from(hosts) * GIB);
        for region in &mut memdev.regions {
            (region.block, region.length) = (Bytes::new(EXTENT_BYTES), memdev.dynamic);
        }
    }
    shared.name = "shared".to_owned();
    shared.serial += 1;
    topology.memdevs.push(shared);
    let switch = &mut topology.switches[0];
    switch.ports += 1;
    switch.vppbs = 2;
    let port = |node, port| Port {
        node,
        port: PortId(port),
    };
    topology.links.push(Link {
        up: port(Node::Switch(SWITCH), hosts + 1),
        down: port(Node::Memdev(MemdevId(1)), 0),
        ..topology.links[0]
    });
    topology
}

impl Lines {
    /// The fabric of a mix, with everything bound, added, taken and mapped.
    pub(crate) fn new(mix: &Mix) -> Checked<Self> {
        let (topology, memdevs) = if mix.shipped {
            match Topology::named("four-hosts") {
                Ok(topology) => (topology, 1_u8),
                Err(error) => return broken("the shipped topology is one", error),
            }
        } else {
            (small(mix.hosts, mix.group_extents > 0), 2)
        };
        let mut topology = topology;
        for host in &mut topology.hosts {
            host.cache_lines = mix.cache_lines;
        }
        let all = u8::try_from(topology.hosts.len()).unwrap_or(u8::MAX);
        let block = topology.memdevs[0].regions[0].block.get();
        let whole = |extents: u32| (u64::from(extents) * EXTENT_BYTES).next_multiple_of(block);
        let region = &topology.memdevs[0].regions[0];
        let region = (!mix.shipped).then_some(region.length.get());
        let fabric = match Fabric::new(&topology, mix.seed) {
            Ok(fabric) => fabric,
            Err(error) => return broken("a topology is a fabric", error),
        };
        let mut lines = Self {
            fabric,
            region,
            groups: region.filter(|_| mix.group_extents > 0),
            private: MemdevId(0),
            shared: MemdevId(u16::from(memdevs) - 1),
            private_bytes: whole(mix.pooled_extents),
            shared_bytes: whole(mix.shared_extents),
            now: Picos::ZERO,
            lost: Vec::new(),
        };
        for number in 0..mix.hosts {
            for memdev in 0..memdevs {
                lines.bind(number, memdev, all + memdev);
            }
        }
        for h in 0..usize::from(mix.hosts) {
            if lines.set_up(h).is_err() {
                return broken("a host has its memory at first", format_args!("host {h}"));
            }
        }
        let reference = Request::AddReference(ReferenceRequest { tag: SHARED_TAG });
        match lines.ask(Cci::Memdev(lines.shared), &reference) {
            Ok(_) => Ok(lines),
            Err(error) => broken("what is shared is kept", format_args!("{error:?}")),
        }
    }

    fn bind(&mut self, number: u8, bridge: u8, port: u8) {
        let bind = Request::BindVppb(BindVppbRequest {
            vcs_id: VcsId(number),
            vppb_id: VppbId(bridge),
            port_id: PortId(port),
            ld_id: LdId(number.into()),
        });
        // It goes on in the background; that it is done shows when memory is mapped.
        let _begun = self.ask(Cci::Switch(SWITCH), &bind);
        while let Some(due) = self.fabric.next_due() {
            self.now = self.now.max(due);
            let effects = self.fabric.advance(due);
            self.keep_lost(&effects);
        }
    }

    fn set_up(&mut self, h: usize) -> Result<(), NotNow> {
        let region = |host: HostId, policy, length, tag| InitiateAddRequest {
            host_id: LdId(host.0),
            selection_policy: policy,
            region_number: 0,
            length,
            tag,
            extents: None,
        };
        if self.region.is_none() {
            let (bytes, tag) = (self.private_bytes, tag_of(host(h)));
            let own = region(host(h), SelectionPolicy::Contiguous, bytes, tag);
            self.manage(self.private, &Request::InitiateAdd(own))?;
        }
        if h == 0 {
            let bytes = self.shared_bytes;
            let first = region(host(h), SelectionPolicy::Contiguous, bytes, SHARED_TAG);
            self.manage(self.shared, &Request::InitiateAdd(first))?;
        }
        self.map_private(h)?;
        self.join_shared(h)
    }

    /// Passes so many nanoseconds.
    pub(crate) fn pass(&mut self, nanos: u64) {
        let now = self.now.checked_add(Picos::from_nanos(nanos));
        self.now = now.unwrap_or(Picos::MAX);
        let effects = self.fabric.advance(self.now);
        self.keep_lost(&effects);
    }

    fn ask(&mut self, cci: Cci, request: &Request) -> Result<Response, Asked> {
        self.fabric.ask(self.now, cci, request)
    }

    fn manage(&mut self, memdev: MemdevId, request: &Request) -> Result<Response, NotNow> {
        self.ask(Cci::Memdev(memdev), request).map_err(|_| NotNow)
    }

    fn step(&mut self, event: &Event) -> Vec<Effect> {
        let effects = self.fabric.step(self.now, event);
        self.keep_lost(&effects);
        effects
    }

    fn keep_lost(&mut self, effects: &[Effect]) {
        let lost = effects.iter().filter_map(|effect| match effect {
            Effect::Lost { host, address, .. } => Some((host.index(), *address)),
            _ => None,
        });
        self.lost.extend(lost);
    }

    /// Lines that a host wrote and that did not reach memory: the host and its address.
    pub(crate) fn take_lost(&mut self) -> Vec<(usize, u64)> {
        std::mem::take(&mut self.lost)
    }

    /// The host reads its event log and takes what it is offered.
    fn take_offers(&mut self, h: usize, memdev: MemdevId) -> Result<(), NotNow> {
        let mailbox = self.mailbox(h, memdev);
        for _ in 0..READS_MAX {
            let event_log = EventLog::DynamicCapacity;
            let asked = Request::GetEventRecords(GetEventRecordsRequest { event_log });
            let Ok(Response::GetEventRecords(told)) = self.ask(mailbox, &asked) else {
                return Err(NotNow);
            };
            let handles: Vec<u16> = told.records.iter().map(|it| it.header.handle).collect();
            if handles.is_empty() {
                return Ok(());
            }
            for record in told.records.iter() {
                let EventBody::DynamicCapacity(event) = &record.body else {
                    continue;
                };
                if event.event_type != DynamicCapacityEventType::AddCapacity {
                    continue;
                }
                let (start_dpa, length) = (event.extent.start_dpa, event.extent.length);
                let extents = vec![UpdatedExtent { start_dpa, length }];
                let extents = extents.try_into().map_err(|_| NotNow)?;
                let taken = UpdatedExtentList { flags: 0, extents };
                // What was withdrawn meanwhile is not there to be taken.
                let _taken = self.ask(mailbox, &Request::AddDcResponse(taken));
            }
            let clear = ClearEventRecordsRequest {
                event_log,
                clear_event_flags: 0,
                handles: handles.try_into().map_err(|_| NotNow)?,
            };
            self.ask(mailbox, &Request::ClearEventRecords(clear))
                .map_err(|_| NotNow)?;
        }
        Ok(())
    }

    fn mailbox(&self, h: usize, memdev: MemdevId) -> Cci {
        Cci::Mailbox {
            host: host(h),
            memdev,
            ld: LdId(host(h).0),
        }
    }

    /// Where a host has what was added under a tag, among the addresses of its logical device.
    fn place(&self, h: usize, memdev: MemdevId, tag: Tag) -> Option<Span> {
        let capacity = self.fabric.memdev(memdev)?.capacity();
        let extents = capacity.extents(LdId(host(h).0)).ok()?;
        let found = extents.iter().find(|extent| extent.tag == tag)?;
        Some(found.span)
    }

    fn map(&mut self, h: usize, memdev: MemdevId, start: u64, tag: Tag) -> Result<(), NotNow> {
        let behind = match self.region {
            // Addresses for all that may ever be there.
            Some(bytes) if start == PRIVATE => Span { start: 0, bytes },
            _ => {
                self.take_offers(h, memdev)?;
                self.place(h, memdev, tag).ok_or(NotNow)?
            }
        };
        self.map_span(h, memdev, start, behind)
    }

    fn map_span(
        &mut self,
        h: usize,
        memdev: MemdevId,
        start: u64,
        behind: Span,
    ) -> Result<(), NotNow> {
        let span = Span::new(start, behind.bytes).ok_or(NotNow)?;
        let effects = self.step(&Event::Map {
            host: host(h),
            span,
            memdev,
            ld: LdId(host(h).0),
            address: behind.start,
        });
        match effects.first() {
            Some(Effect::Done) => Ok(()),
            _ => Err(NotNow),
        }
    }

    /// The host maps its own pooled memory.
    pub(crate) fn map_private(&mut self, h: usize) -> Result<(), NotNow> {
        self.map(h, self.private, PRIVATE, tag_of(host(h)))?;
        self.map_groups(h)
    }

    /// The host is given what is shared, where it does not have it, and maps it.
    pub(crate) fn join_shared(&mut self, h: usize) -> Result<(), NotNow> {
        self.take_offers(h, self.shared)?;
        if self.place(h, self.shared, SHARED_TAG).is_none() {
            let add = InitiateAddRequest {
                host_id: LdId(host(h).0),
                selection_policy: SelectionPolicy::EnableSharedAccess,
                region_number: 0,
                length: 0,
                tag: SHARED_TAG,
                extents: None,
            };
            self.manage(self.shared, &Request::InitiateAdd(add))?;
        }
        self.leave_shared(h);
        self.map(h, self.shared, SHARED, SHARED_TAG)
    }

    /// The host drops what it has cached of what is shared, and maps it no more.
    pub(crate) fn leave_shared(&mut self, h: usize) {
        self.flush_shared(h);
        let _mapped = self.step(&Event::Unmap {
            host: host(h),
            start: SHARED,
        });
    }

    fn flush_shared(&mut self, h: usize) {
        if let Some(span) = Span::new(SHARED, self.shared_bytes) {
            self.write_back(h, span, true);
        }
    }

    /// The manager takes what is shared away from a host by force: it writes there no more.
    pub(crate) fn fence(&mut self, h: usize) -> Result<(), NotNow> {
        if planted!("sim.fences_nobody") || self.place(h, self.shared, SHARED_TAG).is_none() {
            return Ok(());
        }
        let release = InitiateReleaseRequest {
            host_id: LdId(host(h).0),
            removal_policy: RemovalPolicy::TagBased,
            forced_removal: true,
            sanitize_on_release: false,
            length: self.shared_bytes,
            tag: SHARED_TAG,
            extents: None,
        };
        self.manage(self.shared, &Request::InitiateRelease(release))
            .map(drop)
    }

    /// A steward asks the device, by the mailbox of its host.
    pub(crate) fn ask_device(
        &mut self,
        h: usize,
        request: &Request,
    ) -> Result<Response, Unanswered> {
        let mailbox = self.mailbox(h, self.private);
        self.ask(mailbox, request).map_err(unanswered)
    }

    /// A steward asks the manager.
    pub(crate) fn ask_manager(&mut self, request: &Request) -> Result<Response, Unanswered> {
        self.ask(Cci::Memdev(self.private), request)
            .map_err(unanswered)
    }

    /// The manager wants an extent of a host's own memory back, by force or not. False where the
    /// host has none, or it cannot be asked for.
    pub(crate) fn want_back(&mut self, h: usize, pick: u16, forced_removal: bool) -> bool {
        let capacity = self.fabric.memdev(self.private).map(Memdev::capacity);
        let extents = capacity.and_then(|it| it.extents(LdId(host(h).0)).ok());
        let region = self.region.unwrap_or(0);
        let mut extents = extents.unwrap_or_default();
        extents.retain(|extent| extent.span.start < region);
        let place = usize::from(pick).checked_rem(extents.len());
        let Some(extent) = place.and_then(|place| extents.get(place)) else {
            return false;
        };
        let blocks = extent.span.bytes / EXTENT_BYTES;
        let first = u64::from(pick / 16).checked_rem(blocks).unwrap_or(0);
        let wanted = DpaExtent {
            start_dpa: extent.span.start + first * EXTENT_BYTES,
            length: EXTENT_BYTES,
            tag: extent.tag,
            shared_extent_sequence: extent.sequence,
        };
        let Ok(extents) = vec![wanted].try_into() else {
            return false;
        };
        let release = Request::InitiateRelease(InitiateReleaseRequest {
            host_id: LdId(host(h).0),
            removal_policy: RemovalPolicy::Prescriptive,
            forced_removal,
            sanitize_on_release: true,
            length: 0,
            tag: Tag::default(),
            extents: Some(extents),
        });
        self.manage(self.private, &release).is_ok()
    }

    /// Extents of a host's own memory that are there and have a line that is lost.
    pub(crate) fn bad_extents(&self, h: usize) -> Vec<u32> {
        let Some((device, bytes)) = self.fabric.memdev(self.private).zip(self.region) else {
            return Vec::new();
        };
        let lines = device.poisoned(LdId(host(h).0), Span { start: 0, bytes });
        let extents = lines.into_iter().map(|at| at / EXTENT_BYTES);
        extents.filter_map(|it| u32::try_from(it).ok()).collect()
    }

    /// Something goes wrong, or is well again.
    pub(crate) fn fail(&mut self, fault: Fault) -> Vec<Effect> {
        self.step(&Event::Fault(fault))
    }

    /// The fault that a host dies.
    pub(crate) fn host_dies(&mut self, h: usize) -> usize {
        let effects = self.fail(Fault::HostDies(host(h)));
        let lines = effects.iter().map(|effect| match effect {
            Effect::LostLines { lines, .. } => *lines,
            _ => 0,
        });
        lines.sum()
    }

    /// The host is there again.
    pub(crate) fn host_starts(&mut self, h: usize) {
        self.fail(Fault::HostStarts(host(h)));
    }

    /// The link of a host goes down, or is up.
    pub(crate) fn link(&mut self, h: usize, is_up: bool) {
        let port = Port {
            node: Node::Host(host(h)),
            port: PortId(0),
        };
        self.fail(if is_up {
            Fault::LinkHeals(port)
        } else {
            Fault::LinkFails(port)
        });
    }

    /// The device of private pooled memory vanishes, or returns empty. False where what is shared
    /// lies there as well.
    pub(crate) fn device(&mut self, is_there: bool) -> bool {
        if self.private == self.shared {
            return false;
        }
        self.fail(if is_there {
            Fault::MemdevReturns(self.private)
        } else {
            Fault::MemdevVanishes(self.private)
        });
        true
    }

    /// The power of that device goes and comes at once.
    pub(crate) fn device_cycles(&mut self) {
        self.fail(Fault::MemdevCycles(self.private));
    }

    /// Loses the line behind an address of a host. False where there is none.
    pub(crate) fn poison(&mut self, h: usize, address: u64) -> bool {
        let (memdev, tag, base) = if address >= GROUPS {
            (self.private, tag_of(host(h)), GROUPS)
        } else if address >= SHARED {
            (self.shared, SHARED_TAG, SHARED)
        } else {
            (self.private, tag_of(host(h)), PRIVATE)
        };
        let first = match self.region {
            Some(_) if base == PRIVATE => Some(0),
            Some(_) if base == GROUPS => self.groups,
            _ => self.place(h, memdev, tag).map(|span| span.start),
        };
        let Some(dpa) = first.map(|first| first + (address - base)) else {
            return false;
        };
        let device = self.fabric.memdev(memdev);
        let Some((physical, _)) = device.and_then(|it| it.place(LdId(host(h).0), dpa)) else {
            return false;
        };
        let effects = self.fail(Fault::Poison { memdev, physical });
        matches!(effects.first(), Some(Effect::Done))
    }

    /// Reads a line.
    pub(crate) fn load(&mut self, h: usize, address: u64) -> Result<[u8; 64], AccessError> {
        let host = host(h);
        let effects = self.step(&Event::Load { host, address });
        for effect in effects {
            match effect {
                Effect::Loaded { content, .. } => return Ok(content),
                Effect::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Err(AccessError::Unreachable)
    }

    /// Writes a line, into the caches of the host.
    pub(crate) fn store(
        &mut self,
        h: usize,
        address: u64,
        content: [u8; 64],
    ) -> Result<(), AccessError> {
        let store = Event::Store {
            host: host(h),
            address,
            content,
        };
        let effects = self.step(&store);
        let failed = effects.iter().find_map(|effect| match effect {
            Effect::Failed(error) => Some(*error),
            _ => None,
        });
        failed.map_or(Ok(()), Err)
    }

    /// Writes back what was written of a range; where it `lets_go` the caches have none of it then.
    pub(crate) fn write_back(&mut self, h: usize, span: Span, lets_go: bool) {
        let host = host(h);
        self.step(&if lets_go {
            Event::Flush { host, span }
        } else {
            Event::WriteBack { host, span }
        });
    }

    /// Each byte of every device is free, of one group, or being zeroed.
    pub(crate) fn check(&self) -> Checked {
        for memdev in [self.private, self.shared] {
            let capacity = self.fabric.memdev(memdev).map(|it| it.capacity().check());
            if let Some(Err(finding)) = capacity {
                return broken(
                    "the fabric's capacity is accounted for",
                    format_args!("{finding:?}"),
                );
            }
        }
        Ok(())
    }
}

/// Why a steward has no answer.
fn unanswered(asked: Asked) -> Unanswered {
    match asked {
        Asked::Refused(code) => Unanswered::Refused(code),
        _ => Unanswered::Unreached,
    }
}

/// The address of a line of an extent.
pub(crate) fn address(base: u64, extent: u32, line: u32) -> u64 {
    // Lines that lie apart: the first, the next, and the last ones of an extent.
    let line = u64::from(line);
    let offset = if line % 2 == 0 {
        line / 2 * LINE_BYTES
    } else {
        EXTENT_BYTES - (line / 2 + 1) * LINE_BYTES
    };
    base + u64::from(extent) * EXTENT_BYTES + offset
}

/// The extent and the line of it that lies at an address behind `base`.
pub(crate) fn line_at(base: u64, address: u64) -> Option<(u32, u32)> {
    let into = address.checked_sub(base)?;
    let (extent, offset) = (into / EXTENT_BYTES, into % EXTENT_BYTES);
    let line = if offset < MIB {
        2 * (offset / LINE_BYTES)
    } else {
        2 * ((EXTENT_BYTES - offset) / LINE_BYTES - 1) + 1
    };
    Some((u32::try_from(extent).ok()?, u32::try_from(line).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_its_line() {
        for extent in 0..3 {
            for line in 0..6 {
                let at = address(PRIVATE, extent, line);
                assert_eq!(line_at(PRIVATE, at), Some((extent, line)));
            }
        }
    }

    #[test]
    fn every_mix_has_a_fabric_in_which_all_hosts_reach_their_memory() {
        for seed in 0..12 {
            let mix = Mix::draw(seed);
            let mut lines = Lines::new(&mix).unwrap();
            for h in 0..usize::from(mix.hosts) {
                for base in [PRIVATE, SHARED]
                    .into_iter()
                    .skip(usize::from(!mix.shipped))
                {
                    lines.store(h, address(base, 0, 1), [7; 64]).unwrap();
                    assert_eq!(lines.load(h, address(base, 0, 1)), Ok([7; 64]));
                }
            }
            lines.check().unwrap();
        }
    }
}
