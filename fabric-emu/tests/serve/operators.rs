//! What an operator sees, and has go wrong.

use fabric_emu::cci::Request;
use fabric_emu::cci::generic::Empty;
use fabric_emu::fabric::Fault;
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId};
use fabric_emu::schedule::Schedule;
use fabric_emu::serve::control::{Order, Told};
use fabric_emu::serve::{Config, Mode, OperatorError};
use fabric_emu::timing::Picos;
use pool_core::clock::eventually;
use pool_core::units::MIB;

use crate::rig::{H0, OWN, POOL, Rig, soon, tag};

#[test]
fn an_operator_sees_what_each_host_has_and_what_is_free() {
    let rig = Rig::start();
    rig.bind_all();
    rig.give(0, OWN, 6, tag(1));
    let mut carver = rig.carver(0);
    let first = fabric_emu::span::Span::new(0, 4 * MIB).unwrap();
    let cut = carver.carve(POOL, LdId(0), &[first]).unwrap();
    let state = rig.operator().state().unwrap();
    assert_eq!((state.topology.as_str(), state.seed), ("rig", 1));
    let had: Vec<u64> = state.hosts.iter().map(|host| host.had_bytes()).collect();
    assert_eq!(had, [6 * MIB, 0]);
    assert_eq!(state.hosts[0].carvings[0].carving, cut.carving);
    assert_eq!(state.hosts[0].carvings[0].bytes, 4 * MIB);
    assert_eq!(
        state.memdevs[0].dynamic_bytes - state.memdevs[0].free_bytes,
        6 * MIB
    );
    rig.fault(Fault::HostDies(H0));
    rig.fault(Fault::MemdevVanishes(POOL));
    let state = rig.operator().state().unwrap();
    assert!(!state.hosts[0].is_alive && state.hosts[1].is_alive);
    assert!(!state.memdevs[0].is_there);
    assert!(state.hosts.iter().all(|host| host.reaches.is_empty()));
}

#[test]
fn a_fault_that_cannot_happen_is_refused() {
    let rig = Rig::start();
    let mut operator = rig.operator();
    let nowhere = Port {
        node: Node::Switch(SwitchId(9)),
        port: PortId(0),
    };
    for fault in [
        Fault::HostStarts(H0),
        Fault::HostDies(HostId(9)),
        Fault::LinkFails(nowhere),
        Fault::SwitchRestarts(SwitchId(9)),
        Fault::MemdevVanishes(MemdevId(9)),
        Fault::Poison {
            memdev: POOL,
            physical: u64::MAX,
        },
    ] {
        let refused = operator.fault(fault);
        assert!(
            matches!(refused, Err(OperatorError::Refused(_))),
            "{fault:?}"
        );
    }
    let poison = Fault::Poison {
        memdev: POOL,
        physical: 64,
    };
    assert_eq!(operator.fault(poison), Ok(0));
}

#[test]
fn orders_are_written_as_the_page_says() {
    let port = Port {
        node: Node::Switch(SwitchId(0)),
        port: PortId(4),
    };
    for (line, order) in [
        ("\"state\"", Order::State),
        (
            "{\"fault\":{\"host_dies\":0}}",
            Order::Fault(Fault::HostDies(H0)),
        ),
        (
            "{\"fault\":{\"link_fails\":{\"node\":{\"switch\":0},\"port\":4}}}",
            Order::Fault(Fault::LinkFails(port)),
        ),
        (
            "{\"fault\":{\"poison\":{\"memdev\":0,\"physical\":4096}}}",
            Order::Fault(Fault::Poison {
                memdev: POOL,
                physical: 4_096,
            }),
        ),
    ] {
        assert_eq!(serde_json::from_str::<Order>(line).unwrap(), order);
        assert_eq!(serde_json::to_string(&order).unwrap(), line);
    }
    let told = Told::Done { lost_lines: 3 };
    assert_eq!(
        serde_json::to_string(&told).unwrap(),
        "{\"done\":{\"lost_lines\":3}}"
    );
}

#[test]
fn time_that_stands_still_goes_on_to_a_planned_fault_only_where_it_is_told_to() {
    let mut schedule = Schedule::new();
    // Binding takes 10 ms: the first happens on the way to its end, the second later.
    for millis in [5, 1_000] {
        let host = HostId(u16::from(millis > 10));
        let at = Picos::from_nanos(millis * 1_000_000);
        schedule.add(at, Fault::HostDies(host)).unwrap();
    }
    let rig = Rig::planned(Config::new(Mode::Virtual, 1), &schedule);
    let living = || {
        let state = rig.operator().state().unwrap();
        [0, 1].map(|host: usize| state.hosts[host].is_alive)
    };
    for _ in 0..50 {
        assert_eq!(living(), [true, true]);
    }
    rig.bind(1, 0, 1);
    assert_eq!(living(), [false, true]);
    let mut switch = rig.remote("switch0.cci");
    let progress = Request::BackgroundOperationStatus(Empty);
    switch.ask(&progress).unwrap();
    assert_eq!(living(), [false, true]);
    let mut operator = rig.operator();
    operator.advance(Picos::from_nanos(989_999_999)).unwrap();
    assert_eq!(living(), [false, true]);
    operator.advance(Picos::from_nanos(1)).unwrap();
    assert_eq!(living(), [false, false]);
}

#[test]
fn planned_faults_happen_in_the_time_of_the_machine_where_that_passes() {
    let mut schedule = Schedule::new();
    schedule
        .add(Picos::from_nanos(20_000_000), Fault::HostDies(H0))
        .unwrap();
    let rig = Rig::planned(Config::new(Mode::Paced, 1), &schedule);
    let died = eventually(soon(), || {
        let state = rig.operator().state().unwrap();
        (!state.hosts[0].is_alive).then_some(())
    });
    assert_eq!(died, Ok(()));
    let refused = rig.operator().advance(Picos::new(1));
    assert!(
        matches!(refused, Err(OperatorError::Refused(_))),
        "{refused:?}"
    );
}
