//! A fabric to which things happen at random, as a seed says: what hosts and managers do, sense or
//! nonsense, and what goes wrong meanwhile, planned and not.

use std::error::Error;

use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
use fabric_emu::cci::events::{EventLog, GetEventRecordsRequest};
use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::poison::{InjectPoisonRequest, Line};
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{Request, Tag};
use fabric_emu::fabric::{Cci, Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::schedule::{Mix, Schedule};
use fabric_emu::span::Span;
use fabric_emu::timing::Picos;
use fabric_emu::topology::Topology;
use pool_core::rng::Rng;
use pool_core::units::{GIB, LINE_BYTES, MIB};

const BASE: u64 = 1 << 40;
/// What hosts map and use: 4 blocks.
const MAPPED: u64 = 4 * BLOCK;
const BLOCK: u64 = 256 * MIB;

/// A fabric while things happen to it.
#[derive(Debug)]
pub(crate) struct Scene {
    /// All of it.
    pub(crate) fabric: Fabric,
    rng: Rng,
    now: Picos,
    hosts: u16,
    memdevs: u16,
    ports: Vec<Port>,
}

impl Scene {
    /// The fabric of a topology; what has logical devices for its hosts has them bound. Caches are
    /// small, so that lines make room.
    ///
    /// # Errors
    /// Whatever its fabric says.
    pub(crate) fn new(topology: &Topology, seed: u64) -> Result<Self, Box<dyn Error>> {
        let mut topology = topology.clone();
        for host in &mut topology.hosts {
            host.cache_lines = 32;
        }
        let mut scene = Self {
            fabric: Fabric::new(&topology, seed)?,
            rng: Rng::new(seed ^ 0x7472_6163),
            now: Picos::ZERO,
            hosts: u16::try_from(topology.hosts.len())?,
            memdevs: u16::try_from(topology.memdevs.len())?,
            ports: topology.links.iter().map(|link| link.up).collect(),
        };
        let to_pool = topology.links.iter().find(|link| {
            matches!(link.up.node, Node::Switch(_)) && matches!(link.down.node, Node::Memdev(_))
        });
        if let Some(link) = to_pool {
            for host in 0..scene.hosts {
                let bind = BindVppbRequest {
                    vcs_id: VcsId(u8::try_from(host)?),
                    vppb_id: VppbId(0),
                    port_id: link.up.port,
                    ld_id: LdId(host),
                };
                // One at a time goes on in the background.
                scene.ask(Cci::Switch(SwitchId(0)), &Request::BindVppb(bind));
                scene.now = scene.fabric.next_due().unwrap_or(scene.now);
            }
        }
        scene.fabric.advance(scene.now);
        let us = |count: u64| Picos::from_nanos(1_000 * count);
        let mix = Mix::all(us(500), us(10), us(100));
        let mut schedule = Schedule::new();
        for planned in Schedule::draw(&topology, seed, &mix)?.faults() {
            schedule.add(scene.now.saturating_add(planned.at), planned.fault)?;
        }
        scene.fabric.plan(&schedule);
        Ok(scene)
    }

    /// Has so many things happen, a little while after each other.
    pub(crate) fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            let later = Picos::new(self.rng.below(200_000));
            self.now = self.now.saturating_add(later);
            match self.rng.below(40) {
                0 => {
                    let fault = self.fault();
                    self.fabric.step(self.now, &Event::Fault(fault));
                }
                1..11 => self.command(),
                11..14 => self.map(),
                _ => self.access(),
            }
            if self.rng.once_in(500) {
                self.now = self.fabric.next_due().unwrap_or(self.now).max(self.now);
                self.fabric.advance(self.now);
            }
        }
    }

    fn ask(&mut self, cci: Cci, request: &Request) {
        // What is refused is refused: it is in the trace.
        let _answer = self.fabric.ask(self.now, cci, request);
    }

    fn host(&mut self) -> HostId {
        HostId(small(&mut self.rng, self.hosts.into()))
    }

    /// A logical device that a host reaches; one that may not be there where it reaches none.
    fn logical(&mut self, host: HostId) -> (MemdevId, LdId) {
        let reach = self.fabric.reach(host);
        let drawn = self.rng.below(reach.len() as u64);
        let found = usize::try_from(drawn).ok().and_then(|at| reach.get(at));
        found.map_or((MemdevId(0), LdId(host.0)), |it| (it.memdev, it.ld))
    }

    fn access(&mut self) {
        let host = self.host();
        let block = BLOCK * self.rng.below(4);
        let address = BASE + block + LINE_BYTES * self.rng.below(64);
        let span = Span {
            start: address,
            bytes: LINE_BYTES * (1 + self.rng.below(8)),
        };
        let event = match self.rng.below(8) {
            0 => Event::WriteBack { host, span },
            1 => Event::Flush { host, span },
            2..5 => Event::Store {
                host,
                address,
                content: [u8::try_from(self.rng.below(256)).unwrap_or(0); 64],
            },
            _ => Event::Load { host, address },
        };
        self.fabric.step(self.now, &event);
    }

    fn map(&mut self) {
        let host = self.host();
        let (memdev, ld) = self.logical(host);
        let address = if self.rng.once_in(8) { GIB } else { 0 };
        let event = if self.rng.once_in(16) {
            Event::Unmap { host, start: BASE }
        } else {
            Event::Map {
                host,
                span: Span {
                    start: BASE,
                    bytes: MAPPED,
                },
                memdev,
                ld,
                address,
            }
        };
        self.fabric.step(self.now, &event);
    }

    fn command(&mut self) {
        let host = self.host();
        let (memdev, ld) = self.logical(host);
        let mailbox = Cci::Mailbox { host, memdev, ld };
        let block = UpdatedExtent {
            start_dpa: BLOCK * self.rng.below(3),
            length: BLOCK,
        };
        let some = if self.rng.once_in(6) {
            vec![]
        } else {
            vec![block]
        };
        let list = UpdatedExtentList {
            flags: 0,
            extents: some.try_into().unwrap_or_default(),
        };
        let request = match self.rng.below(8) {
            0 | 1 => {
                let tag = u8::try_from(1 + self.rng.below(200)).unwrap_or(1);
                let add = InitiateAddRequest {
                    host_id: ld,
                    selection_policy: SelectionPolicy::Contiguous,
                    region_number: 0,
                    length: BLOCK,
                    tag: Tag([tag; 16]),
                    extents: None,
                };
                return self.ask(Cci::Memdev(memdev), &Request::InitiateAdd(add));
            }
            2 | 3 => Request::AddDcResponse(list),
            4 => Request::ReleaseDc(list),
            5 => Request::GetEventRecords(GetEventRecordsRequest {
                event_log: EventLog::DynamicCapacity,
            }),
            6 if self.rng.once_in(8) => Request::Sanitize(Empty),
            6 => {
                let dpa = LINE_BYTES * self.rng.below(1_000);
                match Line::at(dpa) {
                    Some(physical_address) => {
                        Request::InjectPoison(InjectPoisonRequest { physical_address })
                    }
                    None => Request::Identify(Empty),
                }
            }
            _ => return self.nonsense(mailbox),
        };
        self.ask(mailbox, &request);
    }

    fn nonsense(&mut self, cci: Cci) {
        let length = self.rng.below(40);
        let byte = |_| u8::try_from(self.rng.below(256)).unwrap_or(0);
        let message = (0..length).map(byte).collect();
        self.fabric.step(self.now, &Event::Command { cci, message });
    }

    fn fault(&mut self) -> Fault {
        let host = self.host();
        let memdev = MemdevId(small(&mut self.rng, self.memdevs.into()));
        let drawn = self.rng.below(self.ports.len() as u64);
        let found = usize::try_from(drawn)
            .ok()
            .and_then(|at| self.ports.get(at));
        let port = found.copied().unwrap_or(Port {
            node: Node::Host(host),
            port: PortId(0),
        });
        match self.rng.below(16) {
            0 => Fault::HostDies(host),
            1..4 => Fault::HostStarts(host),
            4 => Fault::LinkFails(port),
            5..9 => Fault::LinkHeals(port),
            9 => Fault::MemdevVanishes(memdev),
            10..13 => Fault::MemdevReturns(memdev),
            13 if self.rng.once_in(20) => Fault::SwitchRestarts(SwitchId(0)),
            _ => Fault::Poison {
                memdev,
                physical: LINE_BYTES * self.rng.below(64),
            },
        }
    }
}

fn small(rng: &mut Rng, below: u64) -> u16 {
    u16::try_from(rng.below(below)).unwrap_or(0)
}
