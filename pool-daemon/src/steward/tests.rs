//! A steward with an emulated fabric and an engine that is counted by hand.

use fabric_emu::cci::dcd_management::{
    InitiateAddRequest, InitiateReleaseRequest, RemovalPolicy, SelectionPolicy,
};
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{DpaExtent, Tag};
use fabric_emu::fabric::{Asked, Cci, Event, Fabric, Fault};
use fabric_emu::id::{HostId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::span::Span;
use fabric_emu::timing::Picos;
use fabric_emu::topology::Topology;
use pool_core::EXTENT_BYTES;

use super::*;

mod faults;
mod groups;

/// Two hosts, each bound to a logical device of a pool that has 256 extents for both.
const TOPOLOGY: &str = r#"
name = "two"
[[host]]
name = "h0"
window = "1 GiB"
[[host]]
name = "h1"
window = "1 GiB"
[[switch]]
name = "s0"
ports = 3
vppbs = 2
[[memdev]]
name = "pool"
serial = 1
kind = { mld = 2 }
class = "cxl-x8"
dynamic = "512 MiB"
[[memdev.region]]
length = "512 MiB"
block = "4 MiB"
[[link]]
up = "h0:0"
down = "s0:0"
[[link]]
up = "h1:0"
down = "s0:1"
[[link]]
up = "s0:2"
down = "pool:0"
"#;

const HOST: HostId = HostId(0);
const POOL: MemdevId = MemdevId(0);

fn terms(ld: LdId) -> Terms {
    Terms {
        ld,
        region: Some(0),
        groups: None,
        step: Extents::new(8),
        low: Extents::new(4),
        high: Extents::new(16),
        idle: Nanos::from_millis(1_000),
        poll: Nanos::from_millis(10),
        retry: Nanos::from_millis(100),
        patience: Nanos::from_millis(500),
    }
}

/// The engine's part of it, by hand.
struct Pool {
    there: RunSet,
    used: RunSet,
    bad: RunSet,
    wanted: u32,
    most: u32,
    is_draining: bool,
    is_reached: bool,
    /// Everything that was said.
    said: Vec<Capacity>,
}

impl Pool {
    fn demand(&self) -> Demand {
        Demand {
            total: Extents::new(self.there.count()),
            free: Extents::new(self.there.minus(&self.used).minus(&self.bad).count()),
            most: Extents::new(self.most),
            wanted: Extents::new(self.wanted),
            draining: self.is_draining,
            removed: false,
        }
    }
}

struct Rig {
    fabric: Fabric,
    steward: Steward,
    pool: Pool,
    now: Nanos,
    asked: u32,
}

impl Rig {
    fn new() -> Self {
        let topology = Topology::parse("two", TOPOLOGY).unwrap();
        let mut fabric = Fabric::new(&topology, 1).unwrap();
        for ld in [0, 1] {
            let bind = BindVppbRequest {
                vcs_id: VcsId(u8::try_from(ld).unwrap()),
                vppb_id: VppbId(0),
                port_id: PortId(2),
                ld_id: LdId(ld),
            };
            let at = fabric.next_due().unwrap_or(Picos::ZERO);
            let asked = fabric.ask(at, Cci::Switch(SwitchId(0)), &Request::BindVppb(bind));
            assert_eq!(asked, Err(Asked::Begun));
            let due = fabric.next_due().unwrap();
            fabric.advance(due);
        }
        Self {
            fabric,
            steward: Steward::new(terms(LdId(0))),
            pool: Pool {
                there: RunSet::default(),
                used: RunSet::default(),
                bad: RunSet::default(),
                wanted: 0,
                most: 64,
                is_draining: false,
                is_reached: false,
                said: Vec::new(),
            },
            now: Nanos::from_millis(1_000),
            asked: 0,
        }
    }

    fn at(&self) -> Picos {
        Picos::from_nanos(self.now.get())
    }

    fn ask(&mut self, cci: Cci, request: &Request) {
        let answer = self.fabric.ask(self.at(), cci, request);
        let answer = match &answer {
            Ok(response) => Ok(response),
            Err(Asked::Refused(code)) => Err(Unanswered::Refused(*code)),
            Err(_) => Err(Unanswered::Unreached),
        };
        self.steward.answered(self.now, answer);
    }

    fn hear(&mut self, word: Capacity) {
        match &word {
            Capacity::Present(runs) => {
                self.pool.there = runs.iter().copied().collect();
                self.pool.used = self.pool.used.common(&self.pool.there);
            }
            Capacity::Reached(reached) => self.pool.is_reached = *reached,
            Capacity::Groups(_)
            | Capacity::NoGroup { .. }
            | Capacity::Unpublished(_)
            | Capacity::Noted(_) => {}
            Capacity::Poisoned(runs) => self.pool.bad = runs.iter().copied().collect(),
            &Capacity::Withdraw {
                unit,
                most,
                ref within,
            } => {
                let free = self.pool.there.minus(&self.pool.used);
                let free = free.common(&within.iter().copied().collect());
                let units = (0..256 / unit).rev().map(|number| Run {
                    first: number * unit,
                    count: unit,
                });
                let whole = |run: &Run| RunSet::of(*run).minus(&free).count() == 0;
                let runs: Vec<Run> = units.filter(whole).take(most as usize).collect();
                self.pool.there = self.pool.there.minus(&runs.iter().copied().collect());
                self.steward.withdrawn(self.now, runs);
            }
        }
        self.pool.said.push(word);
    }

    /// Until the steward rests.
    fn round(&mut self) {
        for _ in 0..200 {
            match self.steward.next(self.now, &self.pool.demand()) {
                Do::Mailbox(request) => {
                    let (host, memdev, ld) = (HOST, POOL, LdId(0));
                    self.ask(Cci::Mailbox { host, memdev, ld }, &request);
                }
                Do::Manager(request) => {
                    self.asked += 1;
                    self.ask(Cci::Memdev(POOL), &request);
                }
                Do::Say(_, word) => self.hear(word),
                Do::Rest(until) => {
                    assert!(until > self.now, "a rest ends later");
                    return;
                }
            }
        }
        panic!("a round does not end");
    }

    /// Rounds until so much time is past.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now = self.now.saturating_add(Nanos::from_millis(10));
            self.round();
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.fabric.step(self.at(), &Event::Fault(fault));
    }

    /// The extents that the fabric says the host has.
    fn really(&self) -> u32 {
        let device = self.fabric.memdev(POOL).unwrap();
        let spans = device.reached(LdId(0));
        let bytes: u64 = spans.iter().map(|span: &Span| span.bytes).sum();
        u32::try_from(bytes / EXTENT_BYTES).unwrap()
    }

    fn uses(&mut self, count: u32) {
        let mut free = self.pool.there.minus(&self.pool.used);
        for run in free.take(count).unwrap() {
            self.pool.used.insert(run).unwrap();
        }
    }

    fn manager(&mut self, ld: u16, release: Option<(bool, Span)>, more: u32) {
        let request = match release {
            None => Request::InitiateAdd(InitiateAddRequest {
                host_id: LdId(ld),
                selection_policy: SelectionPolicy::Free,
                region_number: 0,
                length: u64::from(more) * EXTENT_BYTES,
                tag: Tag::default(),
                extents: None,
            }),
            Some((forced_removal, span)) => Request::InitiateRelease(InitiateReleaseRequest {
                host_id: LdId(ld),
                removal_policy: RemovalPolicy::Prescriptive,
                forced_removal,
                sanitize_on_release: false,
                length: 0,
                tag: Tag::default(),
                extents: Some(
                    vec![DpaExtent {
                        start_dpa: span.start,
                        length: span.bytes,
                        tag: Tag::default(),
                        shared_extent_sequence: 0,
                    }]
                    .try_into()
                    .unwrap(),
                ),
            }),
        };
        let at = self.at();
        self.fabric.ask(at, Cci::Memdev(POOL), &request).unwrap();
    }

    fn span(&self, first: u32, count: u32) -> Span {
        let base = self.steward.region.unwrap().base;
        let bytes = |extents: u32| u64::from(extents) * EXTENT_BYTES;
        Span::new(base + bytes(first), bytes(count)).unwrap()
    }
}

#[test]
fn a_pool_that_runs_low_is_given_more_and_what_lies_idle_goes_back() {
    let mut rig = Rig::new();
    rig.round();
    assert!(rig.pool.is_reached);
    assert_eq!((rig.pool.there.count(), rig.really()), (8, 8), "a step");
    rig.uses(6);
    rig.pass(20);
    assert_eq!((rig.pool.there.count(), rig.really()), (16, 16));
    rig.pool.wanted = 20;
    rig.round();
    assert_eq!(rig.pool.there.count(), 36, "as much as is wanted, at once");
    rig.pool.wanted = 0;
    rig.pass(900);
    assert_eq!(rig.really(), 36, "it has not lain idle long enough");
    rig.pass(300);
    assert_eq!(
        (rig.pool.there.count(), rig.really()),
        (22, 22),
        "6 used, 16 free"
    );
}

#[test]
fn a_manager_that_has_less_is_asked_for_less_and_one_that_has_none_not_all_the_time() {
    let mut rig = Rig::new();
    rig.manager(1, None, 236);
    rig.pool.wanted = 60;
    rig.round();
    assert_eq!(rig.pool.there.count(), 16, "of the 20 that are left");
    rig.pass(100);
    assert_eq!((rig.pool.there.count(), rig.really()), (20, 20));
    let before = rig.asked;
    rig.pass(1_000);
    assert!(
        rig.asked - before <= 10,
        "{} times in a second",
        rig.asked - before
    );
}

#[test]
fn an_offer_is_taken_as_far_as_there_is_room_and_declined_where_nothing_is_wanted() {
    let mut rig = Rig::new();
    rig.round();
    rig.pool.most = 12;
    rig.manager(0, None, 16);
    rig.pass(10);
    assert_eq!((rig.pool.there.count(), rig.really()), (12, 12), "4 of 16");
    rig.pool.is_draining = true;
    rig.manager(0, None, 8);
    rig.pass(20);
    assert_eq!((rig.pool.there.count(), rig.really()), (0, 0));
}

#[test]
fn what_is_asked_back_goes_as_soon_as_it_is_free() {
    let mut rig = Rig::new();
    rig.round();
    rig.uses(3);
    let all = rig.span(0, 8);
    rig.manager(0, Some((false, all)), 0);
    rig.pool.most = 8;
    rig.pass(20);
    assert_eq!((rig.pool.there.count(), rig.really()), (4, 4));
    rig.pool.used = RunSet::default();
    rig.pool.most = 0;
    rig.pass(20);
    assert_eq!((rig.pool.there.count(), rig.really()), (0, 0));
}

#[test]
fn what_is_taken_by_force_is_told_even_where_it_is_given_again_at_once() {
    let mut rig = Rig::new();
    rig.round();
    rig.uses(8);
    let (taken, before) = (rig.span(0, 4), rig.pool.said.len());
    rig.manager(0, Some((true, taken)), 0);
    rig.manager(0, None, 4);
    rig.pass(10);
    let there = |first, count| Capacity::Present(vec![Run { first, count }]);
    assert_eq!(rig.pool.said[before], there(4, 4), "it was gone first");
    assert!(rig.pool.said[before + 1..].contains(&there(0, 8)) || rig.really() > 8);
    assert_eq!(rig.pool.used.count(), 4);
}

#[test]
fn a_device_that_is_not_reached_grants_nothing_and_is_lost_after_a_while() {
    let mut rig = Rig::new();
    rig.round();
    rig.uses(2);
    let port = Port {
        node: Node::Switch(SwitchId(0)),
        port: PortId(2),
    };
    rig.fault(Fault::LinkFails(port));
    rig.pass(100);
    assert!(!rig.pool.is_reached && rig.pool.there.count() == 8);
    rig.fault(Fault::LinkHeals(port));
    rig.pass(20);
    assert!(
        rig.pool.is_reached && rig.pool.used.count() == 2,
        "nothing was lost"
    );
    rig.fault(Fault::LinkFails(port));
    rig.pass(600);
    assert!(!rig.pool.is_reached && rig.pool.there.count() == 0);
    let told = rig.pool.said.len();
    rig.pass(600);
    assert_eq!(rig.pool.said.len(), told, "it is told once");
    rig.fault(Fault::LinkHeals(port));
    rig.pass(20);
    assert!(rig.pool.is_reached && rig.pool.there.count() == rig.really());
}

#[test]
fn a_device_that_was_away_and_is_back_holds_nothing_of_before() {
    let mut rig = Rig::new();
    rig.round();
    rig.uses(2);
    rig.fault(Fault::MemdevVanishes(POOL));
    rig.fault(Fault::MemdevReturns(POOL));
    let before = rig.pool.said.len();
    rig.pass(10);
    assert_eq!(rig.pool.said[before], Capacity::Present(Vec::new()));
    assert_eq!(
        (rig.pool.used.count(), rig.pool.there.count()),
        (0, rig.really())
    );
}

#[test]
fn poison_is_told_once() {
    let mut rig = Rig::new();
    rig.round();
    let (line, memdev) = (rig.span(3, 1).start, POOL);
    let device = rig.fabric.memdev(POOL).unwrap();
    let (physical, _) = device.place(LdId(0), line).unwrap();
    rig.fault(Fault::Poison { memdev, physical });
    rig.pass(50);
    let run = Run { first: 3, count: 1 };
    let told = rig
        .pool
        .said
        .iter()
        .filter(|word| matches!(word, Capacity::Poisoned(_)));
    assert_eq!(told.collect::<Vec<_>>(), [&Capacity::Poisoned(vec![run])]);
}

#[test]
fn a_steward_that_begins_anew_takes_up_what_is_there() {
    let mut rig = Rig::new();
    rig.round();
    rig.uses(5);
    rig.steward = Steward::new(terms(LdId(0)));
    rig.pool.said.clear();
    rig.round();
    let there = Capacity::Present(vec![Run { first: 0, count: 8 }]);
    assert_eq!(rig.pool.said[0], there, "and nothing was lost");
    rig.fault(Fault::MemdevVanishes(POOL));
    rig.fault(Fault::MemdevReturns(POOL));
    rig.steward = Steward::new(terms(LdId(0)));
    rig.pool.said.clear();
    rig.round();
    assert_eq!(rig.pool.said[0], Capacity::Present(Vec::new()));
}

#[test]
fn what_the_engine_let_go_of_and_nobody_heard_is_there_again() {
    let mut rig = Rig::new();
    rig.round();
    rig.pool.is_draining = true;
    rig.pool.said.clear();
    rig.now = rig.now.saturating_add(Nanos::from_millis(10));
    loop {
        match rig.steward.next(rig.now, &rig.pool.demand()) {
            Do::Say(_, Capacity::Withdraw { .. }) => break,
            Do::Say(_, word) => rig.hear(word),
            Do::Mailbox(request) => {
                let (host, memdev, ld) = (HOST, POOL, LdId(0));
                rig.ask(Cci::Mailbox { host, memdev, ld }, &request);
            }
            other => panic!("{other:?}"),
        }
    }
    rig.pool.is_draining = false;
    rig.pass(200);
    let there = Capacity::Present(vec![Run { first: 0, count: 8 }]);
    assert!(rig.pool.said.contains(&there));
}

#[cfg(feature = "server")]
#[test]
fn all_that_a_host_has_of_a_region_goes_back_and_what_is_offered_is_declined() {
    let mut rig = Rig::new();
    rig.pool.wanted = 20;
    rig.pass(200);
    assert!(rig.pool.there.count() >= 20);
    // Two more are offered, and nobody takes them.
    for _ in 0..2 {
        let request = Request::InitiateAdd(rig.steward.add_request(Extents::new(8)));
        rig.fabric
            .ask(rig.at(), Cci::Memdev(POOL), &request)
            .unwrap();
    }
    let at = rig.at();
    let mailbox = Cci::Mailbox {
        host: HOST,
        memdev: POOL,
        ld: LdId(0),
    };
    let fabric = &mut rig.fabric;
    let mut ask = |request: &Request| match fabric.ask(at, mailbox, request) {
        Ok(response) => Ok(response),
        Err(Asked::Refused(code)) => Err(Unanswered::Refused(code)),
        Err(_) => Err(Unanswered::Unreached),
    };
    let given = give_all_back(0, &mut ask).unwrap();
    assert_eq!(given, Extents::new(rig.pool.there.count()).bytes());
    assert_eq!(give_all_back(0, &mut ask), Ok(pool_core::Bytes::ZERO));
    assert_eq!(
        give_all_back(7, ask),
        Ok(pool_core::Bytes::ZERO),
        "no such region"
    );
}
