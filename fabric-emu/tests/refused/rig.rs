//! The fabric that rows are sent to, and the situations that it is in.
//!
//! ```text
//! host 0 --0 switch 2-- memory device 0: three logical devices, six regions
//! host 1 --1        3-- memory device 1: one logical device, one region
//! host 2 --6        4-- memory device 2, head 0: two heads
//!                   5   nothing       head 1 -- host 1
//! ```
//! Host 0 has logical device 0 and memory device 1, host 1 has logical device 1; host 2 is dead.

use fabric_emu::capacity::{Removal, Selection};
use fabric_emu::cci::{Message, Request, Response, ReturnCode, Tag};
use fabric_emu::fabric::{Cci, Effect, Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::span::Span;
use fabric_emu::switch::Bound;
use fabric_emu::timing::Picos;
use fabric_emu::topology::{Host, Link, Memdev, MemdevKind, Region, Switch, Topology};
use pool_core::Bytes;
use pool_core::units::{GIB, KIB, MIB};

use super::row::{Answer, Row};
use super::state;

pub(crate) const SWITCH: Cci = Cci::Switch(SwitchId(0));
pub(crate) const POOL: Cci = Cci::Memdev(MemdevId(0));
pub(crate) const SINGLE: Cci = Cci::Memdev(MemdevId(1));
pub(crate) const HEADS: Cci = Cci::Memdev(MemdevId(2));
pub(crate) const H0: Cci = mailbox(0, 0, 0);
pub(crate) const H1: Cci = mailbox(1, 0, 1);
pub(crate) const H0_SINGLE: Cci = mailbox(0, 1, 0);

pub(crate) const fn mailbox(host: u16, memdev: u16, ld: u16) -> Cci {
    Cci::Mailbox {
        host: HostId(host),
        memdev: MemdevId(memdev),
        ld: LdId(ld),
    }
}

/// Where the regions of a logical device of memory device 0 begin; there are 128 MiB of fixed
/// memory before, and nothing between. All have 256 MiB.
pub(crate) const SHARED: u64 = 256 * MIB;
pub(crate) const COHERENT: u64 = 512 * MIB;
pub(crate) const PRIVATE: u64 = 768 * MIB;
pub(crate) const READ_ONLY: u64 = 1_024 * MIB;
pub(crate) const FINE: u64 = 1_280 * MIB;
pub(crate) const COARSE: u64 = 1_536 * MIB;
pub(crate) const END: u64 = 1_792 * MIB;
/// The block of most regions, and that of the fine one.
pub(crate) const BLOCK: u64 = 2 * MIB;
pub(crate) const FINE_BLOCK: u64 = 64 * KIB;

/// Tags, by who has what is under them. See [`Rig::fill`].
pub(crate) const ADDED: Tag = tag(1);
pub(crate) const BOTH: Tag = tag(2);
pub(crate) const LEAVING: Tag = tag(3);
pub(crate) const HALF: Tag = tag(4);
pub(crate) const DEAD: Tag = tag(5);
pub(crate) const OFFERED: Tag = tag(6);
pub(crate) const KEPT: Tag = tag(7);
pub(crate) const PIECES: Tag = tag(8);
pub(crate) const FOREIGN: Tag = tag(9);
pub(crate) const GONE: Tag = tag(10);
pub(crate) const ELSEWHERE: Tag = tag(11);
pub(crate) const UNKNOWN: Tag = tag(99);
pub(crate) const NO_TAG: Tag = tag(0);

pub(crate) const fn tag(number: u8) -> Tag {
    Tag([number; 16])
}

/// In which state the fabric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Situation {
    /// As [`Rig::fill`] has it.
    Rich,
    /// And the switch binds, and the device zeroes for host 0.
    Busy,
    /// And the log of logical device 0 is full, and has lost a record.
    Overflow,
    /// And the link of port 2 is down, and memory device 1 is gone.
    Broken,
    /// And answers are 256 bytes long at most.
    Short,
    /// And no more lines may be poisoned.
    Poisoned,
    /// Each log of errors of logical device 0 has three records, but the fatal one, and the
    /// manager's log of failures.
    Erred,
    /// Hosts are bound, and the device keeps track of as many extents and tags as it can.
    Tracked,
}

impl Situation {
    pub(crate) const ALL: [Self; 8] = [
        Self::Rich,
        Self::Busy,
        Self::Overflow,
        Self::Broken,
        Self::Short,
        Self::Poisoned,
        Self::Erred,
        Self::Tracked,
    ];
}

#[derive(Debug, Clone)]
pub(crate) struct Rig {
    pub(crate) fabric: Fabric,
    now: Picos,
}

impl Rig {
    pub(crate) fn in_situation(situation: Situation) -> Self {
        let mut rig = Self {
            fabric: Fabric::new(&topology(), 1).unwrap(),
            now: Picos::ZERO,
        };
        rig.bind();
        if situation != Situation::Tracked {
            rig.fill();
        }
        state::put(&mut rig, situation);
        // Who reaches what is looked at before a command.
        rig.ask(SWITCH, &Request::Identify(fabric_emu::cci::generic::Empty));
        rig
    }

    pub(crate) fn step(&mut self, event: &Event) {
        let effects = self.fabric.step(self.now, event);
        assert!(
            !matches!(effects[..], [Effect::Failed(_)]),
            "{event:?}: {effects:?}"
        );
    }

    /// A command that is accepted.
    pub(crate) fn ask(&mut self, cci: Cci, request: &Request) -> Option<Response> {
        let (opcode, payload) = request.encode();
        let message = super::row::message(opcode, &payload);
        let effects = self.fabric.step(self.now, &Event::Command { cci, message });
        // What was lost by it may be told as well.
        let Some(Effect::Answer(bytes)) = effects.first() else {
            panic!("{request:?}: {effects:?}")
        };
        let answer = Message::decode(bytes).unwrap();
        match answer.return_code {
            ReturnCode::Success => Some(Response::decode_for(request, &answer.payload).unwrap()),
            ReturnCode::BackgroundCommandStarted => None,
            code => panic!("{request:?}: {code:?}"),
        }
    }

    /// How the command of a row is answered, out of its tunnels.
    pub(crate) fn send(&mut self, row: &Row) -> Answer {
        let event = Event::Command {
            cci: row.cci,
            message: row.message.clone(),
        };
        let effects = self.fabric.step(self.now, &event);
        let Some(Effect::Answer(bytes)) = effects.first() else {
            assert_eq!(effects, [Effect::Dropped]);
            return Answer::Dropped;
        };
        let mut answer = Message::decode(bytes).unwrap();
        for _ in 0..row.layers {
            if answer.return_code != ReturnCode::Success {
                break;
            }
            match Response::decode(answer.opcode, &answer.payload) {
                Ok(Response::TunnelManagementCommand(tunnel)) => {
                    answer = Message::decode(&tunnel.response).unwrap();
                }
                other => panic!("{row}: {other:?}"),
            }
        }
        assert!(
            answer.payload.is_empty() || answer.return_code == ReturnCode::Success,
            "{row}"
        );
        Answer::Code(answer.return_code)
    }

    /// Invariants that do not hold.
    pub(crate) fn broken(&self) -> Vec<String> {
        let check = |memdev| {
            self.fabric
                .memdev(MemdevId(memdev))?
                .capacity()
                .check()
                .err()
        };
        (0..3)
            .filter_map(check)
            .map(|broken| broken.to_string())
            .collect()
    }

    fn bind(&mut self) {
        let switch = self.fabric.switch_mut(SwitchId(0)).unwrap();
        for (vcs, vppb, port, ld) in [(0, 0, 2, Some(0)), (1, 0, 2, Some(1)), (0, 1, 3, None)] {
            let bound = Bound {
                port: PortId(port),
                ld: ld.map(LdId),
            };
            switch.bind((VcsId(vcs), VppbId(vppb)), bound).unwrap();
        }
        self.step(&Event::Fault(Fault::HostDies(HostId(2))));
    }

    pub(crate) fn offer(&mut self, memdev: u16, ld: u16, tag: Tag, spans: &[(u64, u64)]) {
        let spans: Vec<Span> = spans.iter().map(|&(at, len)| span(at, len)).collect();
        let device = self.fabric.memdev_mut(MemdevId(memdev)).unwrap();
        let (_, regions) = device.ld(LdId(ld)).unwrap();
        let region = regions
            .iter()
            .position(|it| it.span.contains(spans[0]))
            .unwrap();
        let what = Selection::Prescriptive(spans);
        device
            .add(self.now, (LdId(ld), region), &what, tag)
            .unwrap();
    }

    fn add(&mut self, memdev: u16, ld: u16, tag: Tag, spans: &[(u64, u64)]) {
        self.offer(memdev, ld, tag, spans);
        let spans: Vec<Span> = spans.iter().map(|&(at, len)| span(at, len)).collect();
        let device = self.fabric.memdev_mut(MemdevId(memdev)).unwrap();
        device.answer(self.now, LdId(ld), &spans).unwrap();
    }

    fn share(&mut self, region: usize, tag: Tag, takes: bool) {
        let device = self.fabric.memdev_mut(MemdevId(0)).unwrap();
        let offered = device
            .add(self.now, (LdId(1), region), &Selection::Shared, tag)
            .unwrap();
        let spans: Vec<Span> = offered.iter().map(|it| it.span).collect();
        if takes {
            device.answer(self.now, LdId(1), &spans).unwrap();
        }
    }

    /// Wants something back.
    pub(crate) fn remove(&mut self, at: u64, bytes: u64, is_forced: bool) {
        let device = self.fabric.memdev_mut(MemdevId(0)).unwrap();
        let what = Removal::Prescriptive(vec![span(at, bytes)]);
        device
            .remove(self.now, LdId(0), &what, (is_forced, false))
            .unwrap();
    }

    /// Host 0 has what is added, half of it shared with host 1; something of everything else
    /// there is. Caches have lines, lines have poison, memory is being zeroed.
    fn fill(&mut self) {
        self.add(0, 0, ADDED, &[(SHARED, 2 * BLOCK)]);
        self.add(0, 0, BOTH, &[(SHARED + 2 * BLOCK, 2 * BLOCK)]);
        self.share(0, BOTH, true);
        self.add(0, 0, KEPT, &[(SHARED + 4 * BLOCK, 2 * BLOCK)]);
        self.add(
            0,
            0,
            PIECES,
            &[(SHARED + 6 * BLOCK, BLOCK), (SHARED + 8 * BLOCK, BLOCK)],
        );
        self.add(0, 0, GONE, &[(SHARED + 10 * BLOCK, BLOCK)]);
        self.add(0, 0, HALF, &[(COHERENT, 2 * BLOCK)]);
        self.add(0, 0, LEAVING, &[(PRIVATE, 4 * BLOCK)]);
        self.add(0, 0, NO_TAG, &[(PRIVATE + 4 * BLOCK, 2 * BLOCK)]);
        self.add(0, 1, FOREIGN, &[(PRIVATE, 2 * BLOCK)]);
        self.share(1, HALF, false);
        self.add(1, 0, ELSEWHERE, &[(SHARED, BLOCK)]);
        self.offer(0, 0, DEAD, &[(PRIVATE + 6 * BLOCK, 2 * BLOCK)]);
        let offered = [
            (PRIVATE + 8 * BLOCK, 2 * BLOCK),
            (PRIVATE + 12 * BLOCK, 2 * BLOCK),
        ];
        self.offer(0, 0, OFFERED, &offered);
        self.remove(PRIVATE + 6 * BLOCK, 2 * BLOCK, true);
        self.remove(PRIVATE + 2 * BLOCK, 2 * BLOCK, false);
        let device = self.fabric.memdev_mut(MemdevId(0)).unwrap();
        device.add_reference(BOTH).unwrap();
        device.add_reference(KEPT).unwrap();
        state::use_memory(self);
    }
}

pub(crate) fn span(start: u64, bytes: u64) -> Span {
    Span::new(start, bytes).unwrap()
}

fn host(number: u16, root_ports: u8) -> Host {
    Host {
        name: format!("h{number}"),
        root_ports,
        window: Bytes::new(4 * GIB),
        writes_back_no_clean_lines: true,
        takes_back_invalidates: true,
        cache_lines: 8,
        memories: Vec::new(),
    }
}

fn region(block: u64, is_sharable: bool, is_read_only: bool, is_hardware_coherent: bool) -> Region {
    Region {
        length: Bytes::new(256 * MIB),
        block: Bytes::new(block),
        is_sharable,
        is_read_only,
        sanitizes: is_sharable,
        is_hardware_coherent,
    }
}

fn memdev(serial: u64, kind: MemdevKind, fixed: u64, regions: Vec<Region>) -> Memdev {
    Memdev {
        name: format!("m{serial}"),
        serial,
        kind,
        class: "cxl-x8".to_owned(),
        ld_limit: None,
        fixed: Bytes::new(fixed),
        dynamic: Bytes::new(192 * MIB),
        regions,
    }
}

fn topology() -> Topology {
    let regions = vec![
        region(BLOCK, true, false, false),
        region(BLOCK, true, false, true),
        region(BLOCK, false, false, false),
        region(BLOCK, true, true, false),
        region(FINE_BLOCK, false, false, false),
        region(4 * BLOCK, true, false, false),
    ];
    let one = vec![region(BLOCK, false, false, false)];
    let port = |node, port| Port {
        node,
        port: PortId(port),
    };
    let link = |up, down| Link {
        up,
        down,
        lanes: 8,
        gigatransfers: 32,
    };
    let (switch, host_of) = (
        |at| port(Node::Switch(SwitchId(0)), at),
        |at| Node::Host(HostId(at)),
    );
    let device = |at, head| port(Node::Memdev(MemdevId(at)), head);
    Topology {
        name: "rich".to_owned(),
        hosts: vec![host(0, 1), host(1, 2), host(2, 1)],
        switches: vec![Switch {
            name: "s".to_owned(),
            ports: 7,
            vppbs: 3,
        }],
        memdevs: vec![
            memdev(1, MemdevKind::Mld(3), 384 * MIB, regions),
            memdev(2, MemdevKind::Sld, 256 * MIB, one.clone()),
            memdev(3, MemdevKind::MultiHeaded(2), 512 * MIB, one),
        ],
        links: vec![
            link(port(host_of(0), 0), switch(0)),
            link(port(host_of(1), 0), switch(1)),
            link(port(host_of(2), 0), switch(6)),
            link(switch(2), device(0, 0)),
            link(switch(3), device(1, 0)),
            link(switch(4), device(2, 0)),
            link(port(host_of(1), 1), device(2, 1)),
        ],
    }
}
