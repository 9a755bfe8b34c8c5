//! Laws that hold for every topology.

use fabric_emu::timing::Rate;
use fabric_emu::topology::limits::{GIGATRANSFERS, GRANULE, LANES};
use fabric_emu::topology::{Link, MemdevKind, Region, Topology, draw, shapes};
use pool_core::Bytes;
use pool_core::units::MIB;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Of any shape.
fn shape() -> impl Strategy<Value = Topology> {
    prop_oneof![
        Just(shapes::expander()),
        Just(shapes::two_heads()),
        Just(shapes::gpu_box()),
        (1_u8..20, 1_u8..=16).prop_map(|(hosts, parts)| shapes::switched(hosts, parts)),
        (1_u16..100, 0_u16..100).prop_map(|(hosts, devices)| shapes::tree(hosts, devices)),
    ]
}

fn region() -> impl Strategy<Value = Region> {
    (0_u32..10, 1_u64..64, any::<[bool; 4]>()).prop_map(|(block, times, flags)| {
        let block = Bytes::new((2 * MIB) << block);
        Region {
            length: Bytes::new(times * block.max(GRANULE).get()),
            block,
            is_sharable: flags[0],
            is_read_only: flags[1],
            sanitizes: flags[2],
            is_hardware_coherent: flags[3],
        }
    })
}

/// How one part of a topology is made another, that is valid too.
#[derive(Debug, Clone)]
enum Change {
    Host(u8, u64, u32, [bool; 2], String),
    Switch(u8),
    Memdev(u64, u64, u64, Vec<Region>, String),
    Kind(u8),
    Link(u8, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let name = "[a-zA-Z0-9][-_.a-zA-Z0-9]{0,20}";
    prop_oneof![
        (
            1_u8..,
            0_u64..5_000,
            1_u32..100_000,
            any::<[bool; 2]>(),
            name
        )
            .prop_map(|(ports, window, lines, flags, name)| {
                Change::Host(ports, window, lines, flags, name)
            }),
        (1_u8..).prop_map(Change::Switch),
        (
            any::<u64>(),
            0_u64..500,
            1_u64..500,
            vec(region(), 1..=8),
            name
        )
            .prop_map(|(serial, fixed, dynamic, regions, name)| {
                Change::Memdev(serial, fixed, dynamic, regions, name)
            }),
        (1_u8..=16).prop_map(Change::Kind),
        (select(&LANES[..]), select(&GIGATRANSFERS[..]))
            .prop_map(|(lanes, speed)| Change::Link(lanes, speed)),
    ]
}

/// Names are made to differ by their places.
fn apply(topology: &mut Topology, at: Index, change: Change) {
    let granules = |count: u64, parts: u8| Bytes::new(GRANULE.get() * count * u64::from(parts));
    match change {
        Change::Host(ports, window, lines, flags, name) => {
            let at = at.index(topology.hosts.len());
            let host = &mut topology.hosts[at];
            (host.root_ports, host.cache_lines) = (ports, lines);
            host.window = granules(window, 1);
            [host.writes_back_no_clean_lines, host.takes_back_invalidates] = flags;
            host.name = format!("{name}.h.{at}");
        }
        Change::Switch(vppbs) if !topology.switches.is_empty() => {
            let at = at.index(topology.switches.len());
            topology.switches[at].vppbs = vppbs;
        }
        Change::Memdev(serial, fixed, dynamic, regions, name) if !topology.memdevs.is_empty() => {
            let at = at.index(topology.memdevs.len());
            let memdev = &mut topology.memdevs[at];
            let parts = memdev.kind.logical_devices();
            (memdev.serial, memdev.regions) = (serial, regions);
            memdev.ld_limit = (serial % 2 == 0).then(|| Rate::new(1_000_000 + serial / (1 << 20)));
            memdev.fixed = granules(fixed, parts);
            memdev.dynamic = granules(dynamic, parts);
            memdev.name = format!("{name}.m.{at}");
        }
        Change::Kind(parts) if !topology.memdevs.is_empty() => {
            let at = at.index(topology.memdevs.len());
            let memdev = &mut topology.memdevs[at];
            if memdev.kind.heads() == 1 {
                memdev.kind = MemdevKind::Mld(parts);
                memdev.fixed = granules(3, parts);
                memdev.dynamic = Bytes::ZERO;
                memdev.regions.clear();
            }
        }
        Change::Link(lanes, gigatransfers) if !topology.links.is_empty() => {
            let at = at.index(topology.links.len());
            topology.links[at] = Link {
                lanes,
                gigatransfers,
                ..topology.links[at]
            };
        }
        _ => {}
    }
}

fn topology() -> impl Strategy<Value = Topology> {
    let changes = vec((any::<Index>(), change()), 0..12);
    (shape(), changes).prop_map(|(mut topology, changes)| {
        for (at, change) in changes {
            apply(&mut topology, at, change);
        }
        topology
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_topology_is_read_as_it_was_written(topology in topology()) {
        prop_assert_eq!(topology.check(), Ok(()));
        let text = topology.to_toml();
        prop_assert_eq!(Topology::parse("written.toml", &text), Ok(topology));
    }

    #[test]
    fn no_text_is_more_than_refused(text in "\\PC{0,200}", at in any::<Index>()) {
        let good = shapes::two_heads().to_toml();
        let at = at.index(good.len());
        let broken = format!("{}{text}{}", &good[..at], &good[at..]);
        if let Err(error) = Topology::parse("t.toml", &broken) {
            prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
        }
    }

    #[test]
    fn what_no_rule_allows_is_drawn_all_the_same(
        mut topology in topology(),
        swaps in vec((any::<Index>(), any::<Index>()), 1..6),
    ) {
        for (from, to) in swaps {
            if !topology.links.is_empty() {
                let (from, to) = (from.index(topology.links.len()), to.index(topology.links.len()));
                let (lower, upper) = (topology.links[to].down, topology.links[from].up);
                topology.links[from].up = lower;
                topology.links[to].down = upper;
            }
        }
        topology.switches.truncate(1);
        prop_assert!(!draw::text(&topology).is_empty());
        prop_assert!(draw::svg(&topology).ends_with("</svg>\n"));
    }
}
