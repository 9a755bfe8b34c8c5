//! The number that a run comes to: the same for the same, another for anything else.

use fabric_emu::fabric::{Event, Fabric};
use fabric_emu::id::HostId;
use fabric_emu::timing::Picos;
use fabric_emu::topology::{READY_NAMES, Topology};

use super::scene::Scene;

fn run(topology: &Topology, seed: u64, steps: u64) -> u64 {
    let mut scene = Scene::new(topology, seed).unwrap();
    scene.run(steps);
    scene.fabric.trace()
}

/// Each change of what happens changes these; `cargo run -p fabric-emu --example trace` prints
/// them.
#[test]
fn what_happens_is_the_same_on_every_machine() {
    let expected = [
        ("expander", 0xd476_1e37_c98f_6719_u64),
        ("four-hosts", 0x6b8f_2a07_911c_8746),
        ("two-heads", 0xfa79_9288_cb6f_7eb4),
        ("gpu-box", 0x845d_449e_d370_cfe6),
    ];
    assert_eq!(expected.map(|(name, _)| name), READY_NAMES);
    let found = expected.map(|(name, _)| {
        let topology = Topology::named(name).unwrap();
        (name, run(&topology, 1, 5_000))
    });
    assert_eq!(found, expected, "{found:#018x?}");
}

#[test]
fn a_seed_says_all_that_happens_and_another_one_says_another() {
    for name in READY_NAMES {
        let topology = Topology::named(name).unwrap();
        let first = run(&topology, 3, 1_000);
        assert_eq!(run(&topology, 3, 1_000), first, "{name}");
        assert_ne!(run(&topology, 4, 1_000), first, "{name}");
        assert_ne!(run(&topology, 3, 999), first, "{name}");
    }
}

#[test]
fn one_other_event_or_time_or_order_is_another_trace() {
    let topology = Topology::named("four-hosts").unwrap();
    let load = |host, address| Event::Load {
        host: HostId(host),
        address,
    };
    // All of them fail alike: what differs is what was asked, and when.
    let runs: [&[(u64, Event)]; 7] = [
        &[],
        &[(1, load(0, 0))],
        &[(2, load(0, 0))],
        &[(1, load(1, 0))],
        &[(1, load(0, 64))],
        &[(1, load(0, 0)), (1, load(1, 0))],
        &[(1, load(1, 0)), (1, load(0, 0))],
    ];
    let traces: std::collections::BTreeSet<_> = runs
        .iter()
        .map(|run| {
            let mut fabric = Fabric::new(&topology, 1).unwrap();
            for (now, event) in *run {
                fabric.step(Picos::new(*now), event);
            }
            fabric.trace()
        })
        .collect();
    assert_eq!(traces.len(), runs.len());
}
