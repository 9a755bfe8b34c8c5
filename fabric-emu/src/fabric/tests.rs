//! Hosts that read and write memory of the fabric, through their caches.

use pool_core::Bytes;
use pool_core::units::{GIB, MIB};

use super::*;
use crate::capacity::Selection;
use crate::cci::Tag;
use crate::id::{Port, VcsId, VppbId};
use crate::media::{LINE, Line};
use crate::switch::Bound;
use crate::topology::{Host as HostOf, Link, Memdev as MemdevOf, MemdevKind, Region};

const HOSTS: u16 = 2;
const POOL: MemdevId = MemdevId(0);
/// Where the hosts map the first region of their logical devices.
const BASE: u64 = GIB;
/// The first region is software's to keep coherent, the second the hardware's.
const SOFTWARE: usize = 0;
const HARDWARE: usize = 1;
const REGION: u64 = 256 * MIB;
/// When all that was begun is over.
const LATER: Picos = Picos::new(1 << 50);

fn port(node: Node, port: u8) -> Port {
    Port {
        node,
        port: PortId(port),
    }
}

/// Two hosts, a switch, and a device of two logical devices.
pub(super) fn topology(writes_back_no_clean_lines: bool) -> Topology {
    let host = |number| HostOf {
        name: format!("h{number}"),
        root_ports: 1,
        window: Bytes::new(GIB),
        writes_back_no_clean_lines,
        takes_back_invalidates: true,
        cache_lines: 8,
        memories: Vec::new(),
    };
    let region = |is_hardware_coherent| Region {
        length: Bytes::new(REGION),
        block: Bytes::new(2 * MIB),
        is_sharable: true,
        is_read_only: false,
        sanitizes: true,
        is_hardware_coherent,
    };
    let pool = MemdevOf {
        name: "pool".to_owned(),
        serial: 1,
        kind: MemdevKind::Mld(2),
        class: "cxl-x8".to_owned(),
        ld_limit: None,
        fixed: Bytes::ZERO,
        dynamic: Bytes::new(64 * MIB),
        regions: vec![region(false), region(true)],
    };
    let switch = Node::Switch(SwitchId(0));
    let link = |up, down| Link {
        up,
        down,
        lanes: 8,
        gigatransfers: 32,
    };
    let mut links: Vec<Link> = (0..HOSTS)
        .zip(0..)
        .map(|(host, end)| link(port(Node::Host(HostId(host)), 0), port(switch, end)))
        .collect();
    links.push(link(port(switch, 2), port(Node::Memdev(POOL), 0)));
    Topology {
        name: "two".to_owned(),
        hosts: (0..HOSTS).map(host).collect(),
        switches: vec![crate::topology::Switch {
            name: "s".to_owned(),
            ports: 3,
            vppbs: 1,
        }],
        memdevs: vec![pool],
        links,
    }
}

fn tag(number: u8) -> Tag {
    Tag([number; 16])
}

/// Both hosts have the same memory, 2 MiB in each region, and map both regions.
fn shared(writes_back_no_clean_lines: bool, seed: u64) -> Fabric {
    shared_of(&topology(writes_back_no_clean_lines), seed)
}

fn shared_of(topology: &Topology, seed: u64) -> Fabric {
    let mut fabric = Fabric::new(topology, seed).unwrap();
    for host in 0..HOSTS {
        let switch = fabric.switch_mut(SwitchId(0)).unwrap();
        let bound = Bound {
            port: PortId(2),
            ld: Some(LdId(host)),
        };
        let vcs = VcsId(u8::try_from(host).unwrap());
        switch.bind((vcs, VppbId(0)), bound).unwrap();
        for (region, number) in [(SOFTWARE, 1), (HARDWARE, 2)] {
            let device = fabric.memdev_mut(POOL).unwrap();
            let what = match host {
                0 => Selection::Free(2 * MIB),
                _ => Selection::Shared,
            };
            let offered = device
                .add(Picos::ZERO, (LdId(host), region), &what, tag(number))
                .unwrap();
            let spans: Vec<_> = offered.iter().map(|extent| extent.span).collect();
            device.answer(Picos::ZERO, LdId(host), &spans).unwrap();
        }
        let map = Event::Map {
            host: HostId(host),
            span: Span::new(BASE, 2 * REGION).unwrap(),
            memdev: POOL,
            ld: LdId(host),
            address: 0,
        };
        assert_eq!(fabric.step(Picos::ZERO, &map), [Effect::Done]);
    }
    fabric
}

fn at(region: usize, line: u64) -> u64 {
    BASE + if region == HARDWARE { REGION } else { 0 } + line * 64
}

fn load(fabric: &mut Fabric, host: u16, address: u64) -> Result<u8, AccessError> {
    let host = HostId(host);
    let effects = fabric.step(Picos::ZERO, &Event::Load { host, address });
    match effects.last() {
        Some(Effect::Loaded { content, .. }) => Ok(content[0]),
        Some(Effect::Failed(error)) => Err(*error),
        other => panic!("{other:?}"),
    }
}

fn store(fabric: &mut Fabric, host: u16, address: u64, byte: u8) -> Vec<Effect> {
    let (host, content): (_, Line) = (HostId(host), [byte; LINE]);
    fabric.step(
        Picos::ZERO,
        &Event::Store {
            host,
            address,
            content,
        },
    )
}

fn write_back(fabric: &mut Fabric, host: u16, address: u64, lets_go: bool) {
    let (host, span) = (HostId(host), Span::new(address, 64).unwrap());
    fabric.step(
        Picos::ZERO,
        &if lets_go {
            Event::Flush { host, span }
        } else {
            Event::WriteBack { host, span }
        },
    );
}

#[test]
fn software_sees_to_it_what_another_host_reads() {
    let mut fabric = shared(true, 1);
    let line = at(SOFTWARE, 3);
    assert_eq!(load(&mut fabric, 1, line), Ok(0));
    store(&mut fabric, 0, line, 7);
    assert_eq!(load(&mut fabric, 0, line), Ok(7));
    assert_eq!(
        load(&mut fabric, 1, line),
        Ok(0),
        "it is in the caches of the one alone"
    );
    write_back(&mut fabric, 0, line, false);
    assert_eq!(
        load(&mut fabric, 1, line),
        Ok(0),
        "the other has what it read before"
    );
    write_back(&mut fabric, 1, line, true);
    assert_eq!(load(&mut fabric, 1, line), Ok(7));
}

#[test]
fn hardware_has_hosts_read_what_was_written_last() {
    let mut fabric = shared(true, 2);
    let mut rng = Rng::new(3);
    let mut last = [0; 32];
    for round in 0..4_000 {
        let (host, line) = (u16::try_from(rng.below(2)).unwrap(), rng.below(32));
        let number = usize::try_from(line).unwrap();
        if rng.once_in(2) {
            let byte = u8::try_from(round % 251).unwrap();
            let effects = store(&mut fabric, host, at(HARDWARE, line), byte);
            assert!(matches!(effects.last(), Some(Effect::Written { .. })));
            last[number] = byte;
        } else {
            assert_eq!(
                load(&mut fabric, host, at(HARDWARE, line)),
                Ok(last[number])
            );
        }
    }
    for (line, holders) in &fabric.directory {
        assert!(!holders.is_empty(), "{line:?}");
        let dirty = holders.iter().filter(|(host, address)| {
            let line = fabric.hosts[host.index()].cache.get(**address);
            line.expect("the directory says that it is there").is_dirty
        });
        assert!(dirty.count() == 0 || holders.len() == 1);
    }
}

#[test]
fn a_host_that_takes_no_back_invalidates_has_no_part_in_coherence() {
    let mut topology = topology(true);
    topology.hosts[1].takes_back_invalidates = false;
    let mut fabric = shared_of(&topology, 2);
    store(&mut fabric, 0, at(HARDWARE, 0), 1);
    assert_eq!(
        load(&mut fabric, 1, at(HARDWARE, 0)),
        Err(AccessError::Incoherent)
    );
    assert_eq!(load(&mut fabric, 1, at(SOFTWARE, 0)), Ok(0));
}

#[test]
fn a_host_that_writes_back_clean_lines_undoes_what_another_wrote() {
    let undone = |writes_back_no_clean_lines| {
        (0..40).any(|seed| {
            let mut fabric = shared(writes_back_no_clean_lines, seed);
            load(&mut fabric, 1, at(SOFTWARE, 0)).unwrap();
            store(&mut fabric, 0, at(SOFTWARE, 0), 9);
            write_back(&mut fabric, 0, at(SOFTWARE, 0), true);
            for line in 1..40 {
                load(&mut fabric, 1, at(SOFTWARE, line)).unwrap();
            }
            load(&mut fabric, 0, at(SOFTWARE, 0)) == Ok(0)
        })
    };
    assert!(undone(false));
    assert!(!undone(true));
}

#[test]
fn a_host_that_dies_takes_along_some_of_what_it_wrote() {
    let mut fabric = shared(true, 4);
    for line in 0..8 {
        store(&mut fabric, 0, at(SOFTWARE, line), 5);
    }
    let effects = fabric.step(Picos::ZERO, &Event::Fault(Fault::HostDies(HostId(0))));
    let Some(Effect::LostLines { lines, .. }) = effects.last() else {
        panic!("{effects:?}");
    };
    let there = (0..8)
        .filter(|&line| load(&mut fabric, 1, at(SOFTWARE, line)) == Ok(5))
        .count();
    assert_eq!(there + lines, 8);
    assert!(there > 0 && *lines > 0, "{there} of 8");
    assert_eq!(
        load(&mut fabric, 0, at(SOFTWARE, 0)),
        Err(AccessError::Dead)
    );
    fabric.step(Picos::ZERO, &Event::Fault(Fault::HostStarts(HostId(0))));
    assert_eq!(
        load(&mut fabric, 0, at(SOFTWARE, 0)),
        Err(AccessError::Unmapped)
    );
}

#[test]
fn what_is_not_reached_is_an_error_and_what_was_written_meanwhile_is_told_to_be_lost() {
    let mut fabric = shared(true, 5);
    let (line, other) = (at(SOFTWARE, 0), at(SOFTWARE, 1));
    store(&mut fabric, 0, line, 1);
    let cable = port(Node::Host(HostId(0)), 0);
    fabric.step(Picos::ZERO, &Event::Fault(Fault::LinkFails(cable)));
    assert_eq!(load(&mut fabric, 0, other), Err(AccessError::Unreachable));
    assert_eq!(load(&mut fabric, 0, line), Ok(1), "it is in the caches");
    assert_eq!(load(&mut fabric, 1, other), Ok(0));
    let (host, span) = (HostId(0), Span::new(line, 64).unwrap());
    let effects = fabric.step(Picos::ZERO, &Event::Flush { host, span });
    let lost = Effect::Lost {
        host,
        address: line,
        why: AccessError::Unreachable,
    };
    let took = fabric.times.hit;
    assert_eq!(effects, [lost, Effect::Written { took }]);
    fabric.step(Picos::ZERO, &Event::Fault(Fault::LinkHeals(cable)));
    assert_eq!(load(&mut fabric, 0, line), Ok(0));
    fabric.step(
        Picos::ZERO,
        &Event::Fault(Fault::SwitchRestarts(SwitchId(0))),
    );
    assert_eq!(load(&mut fabric, 0, other), Err(AccessError::Unreachable));
}

#[test]
fn capacity_that_was_taken_by_force_is_out_of_reach_at_once() {
    let mut fabric = shared(true, 6);
    let line = at(SOFTWARE, 0);
    store(&mut fabric, 0, line, 1);
    let device = fabric.memdev_mut(POOL).unwrap();
    let extents = device.capacity().extents(LdId(0)).unwrap();
    let removal = crate::capacity::Removal::Prescriptive(vec![extents[0].span]);
    device
        .remove(Picos::new(9), LdId(0), &removal, (true, false))
        .unwrap();
    assert_eq!(
        load(&mut fabric, 0, at(SOFTWARE, 1)),
        Err(AccessError::NoMemory)
    );
    let (host, span) = (HostId(0), Span::new(line, 64).unwrap());
    let effects = fabric.step(Picos::ZERO, &Event::Flush { host, span });
    assert!(matches!(effects[0], Effect::Lost { .. }), "{effects:?}");
    assert_eq!(
        load(&mut fabric, 1, line),
        Ok(0),
        "the other host has it still"
    );
}

#[test]
fn poison_is_read_as_an_error_until_the_line_is_written() {
    let mut fabric = shared(true, 7);
    let line = at(SOFTWARE, 0);
    let device = fabric.memdev(POOL).unwrap();
    let (physical, _) = device.place(LdId(0), 0).unwrap();
    fabric.step(
        Picos::ZERO,
        &Event::Fault(Fault::Poison {
            memdev: POOL,
            physical,
        }),
    );
    assert_eq!(load(&mut fabric, 0, line), Err(AccessError::Poisoned));
    store(&mut fabric, 1, line, 3);
    assert_eq!(load(&mut fabric, 0, line), Err(AccessError::Poisoned));
    write_back(&mut fabric, 1, line, true);
    assert_eq!(load(&mut fabric, 0, line), Ok(3));
}

#[test]
fn a_device_that_was_gone_has_lost_what_it_held() {
    let mut fabric = shared(true, 8);
    store(&mut fabric, 0, at(SOFTWARE, 0), 3);
    write_back(&mut fabric, 0, at(SOFTWARE, 0), true);
    fabric.step(Picos::ZERO, &Event::Fault(Fault::MemdevVanishes(POOL)));
    assert_eq!(
        load(&mut fabric, 0, at(SOFTWARE, 0)),
        Err(AccessError::Unreachable)
    );
    fabric.step(Picos::ZERO, &Event::Fault(Fault::MemdevReturns(POOL)));
    assert_eq!(load(&mut fabric, 0, at(SOFTWARE, 0)), Ok(0));
}

/// Host 0 writes a line that host 1 has read, after `what` happened to the memory.
fn stale_after(what: impl Fn(&mut Fabric)) {
    let mut fabric = shared(true, 9);
    let line = at(HARDWARE, 2);
    store(&mut fabric, 0, line, 5);
    assert_eq!(load(&mut fabric, 1, line), Ok(5));
    store(&mut fabric, 1, at(HARDWARE, 3), 6);
    what(&mut fabric);
    for (host, other, byte) in [(0, 1, 7), (1, 0, 8)] {
        store(&mut fabric, host, line, byte);
        assert_eq!(load(&mut fabric, other, line), Ok(byte), "{byte}");
        assert_eq!(load(&mut fabric, host, line), Ok(byte), "{byte}");
    }
}

#[test]
fn coherent_memory_is_coherent_after_it_was_sanitized_or_was_gone() {
    stale_after(|fabric| {
        let here = Cci::Mailbox {
            host: HostId(0),
            memdev: POOL,
            ld: LdId(0),
        };
        let sanitize = Request::Sanitize(crate::cci::generic::Empty);
        assert_eq!(fabric.ask(Picos::ZERO, here, &sanitize), Err(Asked::Begun));
        assert_eq!(load(fabric, 1, at(HARDWARE, 2)), Ok(0));
    });
    stale_after(|fabric| {
        let gone = fabric.step(Picos::ZERO, &Event::Fault(Fault::MemdevVanishes(POOL)));
        assert!(
            gone.iter()
                .any(|effect| matches!(effect, Effect::Lost { .. })),
            "{gone:?}"
        );
        fabric.step(Picos::ZERO, &Event::Fault(Fault::MemdevReturns(POOL)));
        assert_eq!(load(fabric, 1, at(HARDWARE, 2)), Ok(0));
    });
}

#[test]
fn a_host_that_starts_anew_gives_back_what_it_was_offered() {
    let mut fabric = shared(true, 3);
    let before = fabric.memdev(POOL).unwrap().capacity().free_bytes();
    let device = fabric.memdev_mut(POOL).unwrap();
    let what = Selection::Free(2 * MIB);
    device
        .add(Picos::ZERO, (LdId(0), SOFTWARE), &what, tag(9))
        .unwrap();
    fabric.step(Picos::ZERO, &Event::Fault(Fault::HostDies(HostId(0))));
    fabric.step(Picos::ZERO, &Event::Fault(Fault::HostStarts(HostId(0))));
    fabric.advance(LATER);
    assert_eq!(fabric.memdev(POOL).unwrap().capacity().free_bytes(), before);
}

#[test]
fn read_only_memory_is_written_by_nobody() {
    let mut topology = topology(false);
    topology.memdevs[0].regions[0].is_read_only = true;
    let mut fabric = shared_of(&topology, 3);
    let line = at(SOFTWARE, 0);
    let refused = [Effect::Failed(AccessError::ReadOnly)];
    assert_eq!(store(&mut fabric, 0, line, 1), refused);
    assert_eq!(load(&mut fabric, 0, line), Ok(0));
    assert_eq!(
        store(&mut fabric, 0, line, 1),
        refused,
        "it is in the caches now"
    );
    let (physical, _) = fabric.memdev(POOL).unwrap().place(LdId(0), 0).unwrap();
    fabric.step(
        Picos::ZERO,
        &Event::Fault(Fault::Poison {
            memdev: POOL,
            physical,
        }),
    );
    for other in 1..60 {
        load(&mut fabric, 0, at(SOFTWARE, other)).unwrap();
    }
    assert_eq!(load(&mut fabric, 1, line), Err(AccessError::Poisoned));
}

#[test]
fn a_range_is_mapped_once_and_is_one_of_so_many() {
    let mut fabric = shared(true, 3);
    let mut map = |start, bytes, address| {
        let event = Event::Map {
            host: HostId(0),
            span: Span { start, bytes },
            memdev: POOL,
            ld: LdId(0),
            address,
        };
        fabric.step(Picos::ZERO, &event)
    };
    let bad = [Effect::Failed(AccessError::BadRange)];
    let past = 2 * REGION;
    assert_eq!(map(BASE, 0, past), bad);
    assert_eq!(map(u64::MAX - 63, 64, past), bad);
    assert_eq!(map(BASE, 64, past), bad, "the addresses lead somewhere");
    assert_eq!(map(0, 64, 0), bad, "the memory is mapped elsewhere");
    assert_eq!(map(32, 64, past), bad);
    for number in 0..31 {
        assert_eq!(map(number * 64, 64, past + number * 64), [Effect::Done]);
    }
    assert_eq!(map(31 * 64, 64, past + 31 * 64), bad);
}

#[test]
fn a_host_maps_no_more_than_it_has_set_addresses_aside_for() {
    let mut topology = topology(true);
    topology.hosts[0].window = Bytes::new(2 * REGION);
    let mut fabric = shared_of(&topology, 3);
    let map = |address| Event::Map {
        host: HostId(0),
        span: Span::new(0, 64).unwrap(),
        memdev: POOL,
        ld: LdId(0),
        address,
    };
    let full = [Effect::Failed(AccessError::NoAddresses)];
    assert_eq!(fabric.step(Picos::ZERO, &map(2 * REGION)), full);
    let (host, start) = (HostId(0), BASE);
    fabric.step(Picos::ZERO, &Event::Unmap { host, start });
    assert_eq!(fabric.step(Picos::ZERO, &map(0)), [Effect::Done]);
}

#[test]
fn a_coherent_line_that_cannot_be_had_back_is_told_to_be_lost() {
    for is_read in [true, false] {
        let mut fabric = shared(true, 3);
        let (line, clean) = (at(HARDWARE, 2), at(HARDWARE, 3));
        load(&mut fabric, 0, clean).unwrap();
        store(&mut fabric, 0, line, 5);
        let cable = port(Node::Host(HostId(0)), 0);
        fabric.step(Picos::ZERO, &Event::Fault(Fault::LinkFails(cable)));
        let (host, address) = (HostId(1), line);
        let content = [7; LINE];
        let effects = fabric.step(
            Picos::ZERO,
            &if is_read {
                Event::Load { host, address }
            } else {
                Event::Store {
                    host,
                    address,
                    content,
                }
            },
        );
        let lost = Effect::Lost {
            host: HostId(0),
            address: line,
            why: AccessError::Unreachable,
        };
        assert_eq!(effects[0], lost);
        store(&mut fabric, 1, clean, 8);
        fabric.step(Picos::ZERO, &Event::Fault(Fault::LinkHeals(cable)));
        // What host 0 has is what there is, and not what it once had.
        assert_eq!(load(&mut fabric, 0, line), Ok(if is_read { 0 } else { 7 }));
        assert_eq!(load(&mut fabric, 0, clean), Ok(8));
    }
}

#[test]
fn lines_of_what_is_not_mapped_any_more_are_nobodys() {
    let mut fabric = shared(true, 3);
    load(&mut fabric, 0, at(HARDWARE, 0)).unwrap();
    let start = BASE;
    fabric.step(
        Picos::ZERO,
        &Event::Unmap {
            host: HostId(0),
            start,
        },
    );
    let map = Event::Map {
        host: HostId(0),
        span: Span::new(BASE + REGION, REGION).unwrap(),
        memdev: POOL,
        ld: LdId(0),
        address: 0,
    };
    assert_eq!(fabric.step(Picos::ZERO, &map), [Effect::Done]);
    store(&mut fabric, 0, at(HARDWARE, 0), 1);
    let holders = fabric
        .directory
        .values()
        .filter(|it| it.contains_key(&HostId(0)));
    assert_eq!(
        holders.count(),
        0,
        "the address leads to software's memory now"
    );
}

#[test]
fn a_switch_that_restarts_binds_nothing_that_was_under_way() {
    let mut fabric = Fabric::new(&topology(true), 3).unwrap();
    let bind = crate::cci::virtual_switch::BindVppbRequest {
        vcs_id: VcsId(0),
        vppb_id: VppbId(0),
        port_id: PortId(2),
        ld_id: LdId(0),
    };
    let switch = Cci::Switch(SwitchId(0));
    assert_eq!(
        fabric.ask(Picos::ZERO, switch, &Request::BindVppb(bind)),
        Err(Asked::Begun)
    );
    fabric.step(
        Picos::new(1),
        &Event::Fault(Fault::SwitchRestarts(SwitchId(0))),
    );
    fabric.advance(LATER);
    assert!(fabric.reach(HostId(0)).is_empty());
}

#[test]
fn the_same_events_have_the_same_effects() {
    let run = || {
        let mut fabric = shared(false, 11);
        let mut rng = Rng::new(5);
        let step = |_| {
            let (host, address) = (HostId(u16::try_from(rng.below(2)).unwrap()), rng.below(64));
            let address = at(usize::try_from(rng.below(2)).unwrap(), address);
            let event = match rng.below(4) {
                0 => Event::Load { host, address },
                1 => Event::Store {
                    host,
                    address,
                    content: [1; LINE],
                },
                2 => Event::Flush {
                    host,
                    span: Span::new(address, 640).unwrap(),
                },
                _ => Event::WriteBack {
                    host,
                    span: Span::new(address, 64).unwrap(),
                },
            };
            fabric.step(Picos::ZERO, &event)
        };
        (0..2_000).map(step).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
