//! A fabric in which every host has memory: bound, added, taken and mapped, by commands.

use anyhow::Context as _;
use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
use fabric_emu::cci::event_records::EventBody;
use fabric_emu::cci::events::{ClearEventRecordsRequest, EventLog, GetEventRecordsRequest};
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{DpaExtent, Request, Response, Tag};
use fabric_emu::fabric::{Asked, Cci, Effect, Event, Fabric};
use fabric_emu::id::{HostId, LdId, MemdevId, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::span::Span;
use fabric_emu::timing::Picos;
use fabric_emu::topology::Topology;
use pool_core::units::MIB;

use super::racks::RACK;

/// Where a host has its memory among its addresses.
pub(super) const BASE: u64 = 1 << 40;
/// What a host is given at a time: one block.
pub(super) const BLOCK: u64 = 256 * MIB;
const SEED: u64 = 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) fabric: Fabric,
    pub(super) hosts: u16,
    pub(super) now: Picos,
}

impl Scene {
    /// The fabric as it is before anything happens.
    pub(super) fn new(topology: &Topology) -> anyhow::Result<Self> {
        Ok(Self {
            fabric: Fabric::new(topology, SEED)?,
            hosts: u16::try_from(topology.hosts.len())?,
            now: Picos::ZERO,
        })
    }

    /// Gives each host its memory.
    pub(super) fn furnish(&mut self) -> anyhow::Result<()> {
        for host in 0..self.hosts {
            self.bind(host)?;
            let extent = self.add(host)?;
            let event = Event::Map {
                host: HostId(host),
                span: Span::new(BASE, BLOCK).context("an empty range")?,
                memdev: memdev(host),
                ld: ld(host),
                address: extent.start_dpa,
            };
            let effects = self.fabric.step(self.now, &event);
            anyhow::ensure!(effects == [Effect::Done], "not mapped: {effects:?}");
        }
        Ok(())
    }

    /// Binds the bridge of a host to its logical device.
    fn bind(&mut self, host: u16) -> anyhow::Result<()> {
        let bind = BindVppbRequest {
            vcs_id: VcsId(slot(host)),
            vppb_id: VppbId(0),
            // The device is behind the port after those of the hosts.
            port_id: PortId(u8::try_from(self.hosts.min(RACK))?),
            ld_id: ld(host),
        };
        let switch = Cci::Switch(SwitchId(host / RACK));
        let begun = self.fabric.ask(self.now, switch, &Request::BindVppb(bind));
        anyhow::ensure!(begun == Err(Asked::Begun), "not bound: {begun:?}");
        self.now = self.fabric.next_due().context("nothing is under way")?;
        self.fabric.advance(self.now);
        Ok(())
    }

    /// A manager adds a block, and the host sees the offer and takes it.
    pub(super) fn add(&mut self, host: u16) -> anyhow::Result<DpaExtent> {
        let add = InitiateAddRequest {
            host_id: ld(host),
            selection_policy: SelectionPolicy::Contiguous,
            region_number: 0,
            length: BLOCK,
            tag: Tag::default(),
            extents: None,
        };
        let manager = Cci::Memdev(memdev(host));
        self.fabric
            .ask(self.now, manager, &Request::InitiateAdd(add))?;
        let offered = self.offered(host)?;
        self.tell(host, Request::AddDcResponse(list(&offered)?))?;
        Ok(offered)
    }

    /// The host gives it back.
    pub(super) fn release(&mut self, host: u16, extent: &DpaExtent) -> anyhow::Result<()> {
        self.tell(host, Request::ReleaseDc(list(extent)?)).map(drop)
    }

    /// What the log of the host says that it is offered; the log is empty then.
    fn offered(&mut self, host: u16) -> anyhow::Result<DpaExtent> {
        let event_log = EventLog::DynamicCapacity;
        let asked = Request::GetEventRecords(GetEventRecordsRequest { event_log });
        let Response::GetEventRecords(told) = self.tell(host, asked)? else {
            anyhow::bail!("another answer than was asked for");
        };
        let handles: Vec<_> = told.records.iter().map(|it| it.header.handle).collect();
        let clear = ClearEventRecordsRequest {
            event_log,
            clear_event_flags: 0,
            handles: handles.try_into()?,
        };
        self.tell(host, Request::ClearEventRecords(clear))?;
        let mut offers = told.records.iter().filter_map(|record| match &record.body {
            EventBody::DynamicCapacity(event) => Some(event.extent.clone()),
            _ => None,
        });
        offers.next_back().context("no offer is in the log")
    }

    /// A command of a host at its mailbox.
    pub(super) fn tell(&mut self, host: u16, request: Request) -> anyhow::Result<Response> {
        Ok(self.fabric.ask(self.now, mailbox(host), &request)?)
    }

    /// The next access comes so much later: each host makes one a microsecond.
    pub(super) fn tick(&mut self) -> Picos {
        let gap = Picos::new(1_000_000 / u64::from(self.hosts));
        self.now = self.now.saturating_add(gap);
        self.now
    }
}

fn list(extent: &DpaExtent) -> anyhow::Result<UpdatedExtentList> {
    let extent = UpdatedExtent {
        start_dpa: extent.start_dpa,
        length: extent.length,
    };
    Ok(UpdatedExtentList {
        flags: 0,
        extents: vec![extent].try_into()?,
    })
}

/// The device of a host's rack.
pub(super) const fn memdev(host: u16) -> MemdevId {
    MemdevId(host / RACK)
}

/// The logical device that is a host's.
pub(super) const fn ld(host: u16) -> LdId {
    LdId(host % RACK)
}

pub(super) const fn mailbox(host: u16) -> Cci {
    Cci::Mailbox {
        host: HostId(host),
        memdev: memdev(host),
        ld: ld(host),
    }
}

const fn slot(host: u16) -> u8 {
    (host % RACK) as u8
}
