//! Schedules: in files, from seeds, and in a fabric.

use fabric_emu::fabric::{AccessError, Cci};
use fabric_emu::fabric::{Direction, Effect, Event, Fabric, Fault, Glitch};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::schedule::{FAULTS_MAX, Kind, LAST, Mix, Schedule, ScheduleError};
use fabric_emu::timing::Picos;
use fabric_emu::topology::{READY_NAMES, Topology};
use proptest::prelude::*;

use super::rig;
use super::scene::Scene;

fn port() -> impl Strategy<Value = Port> {
    let node = prop_oneof![
        any::<u16>().prop_map(|id| Node::Host(HostId(id))),
        any::<u16>().prop_map(|id| Node::Switch(SwitchId(id))),
        any::<u16>().prop_map(|id| Node::Memdev(MemdevId(id))),
    ];
    (node, any::<u8>()).prop_map(|(node, port)| Port {
        node,
        port: PortId(port),
    })
}

fn cci() -> impl Strategy<Value = Cci> {
    prop_oneof![
        any::<u16>().prop_map(|id| Cci::Switch(SwitchId(id))),
        any::<u16>().prop_map(|id| Cci::Memdev(MemdevId(id))),
        any::<[u16; 3]>().prop_map(|[host, memdev, ld]| Cci::Mailbox {
            host: HostId(host),
            memdev: MemdevId(memdev),
            ld: LdId(ld),
        }),
    ]
}

/// Numbers that a file can hold.
fn number() -> impl Strategy<Value = u64> {
    0..=LAST.get()
}

fn glitch() -> impl Strategy<Value = Glitch> {
    prop_oneof![
        Just(Glitch::NotHeard),
        Just(Glitch::AnswerLost),
        Just(Glitch::Busy),
        Just(Glitch::RetryRequired),
        Just(Glitch::AnsweredTwice),
        number().prop_map(|later| Glitch::AnsweredLate(Picos::new(later))),
        any::<u16>().prop_map(Glitch::AnswerCut),
    ]
}

fn of_links() -> impl Strategy<Value = Fault> {
    let way = prop_oneof![Just(Direction::Up), Just(Direction::Down)];
    prop_oneof![
        port().prop_map(Fault::LinkFails),
        port().prop_map(Fault::LinkHeals),
        port().prop_map(Fault::PortResets),
        port().prop_map(Fault::PortRuns),
        (port(), any::<u8>(), any::<u8>()).prop_map(|(port, lanes, gigatransfers)| {
            Fault::LinkRetrains {
                port,
                lanes,
                gigatransfers,
            }
        }),
        (port(), any::<u32>()).prop_map(|(port, once_in)| Fault::LinkRetries { port, once_in }),
        (port(), way, proptest::option::of(number())).prop_map(|(port, direction, longer)| {
            Fault::LinkStalls {
                port,
                direction,
                longer: longer.map(Picos::new),
            }
        }),
        (cci(), glitch(), any::<u16>()).prop_map(|(cci, glitch, times)| Fault::InterfaceErrs {
            cci,
            glitch,
            times,
        }),
        cci().prop_map(Fault::InterfaceHeals),
        cci().prop_map(Fault::BackgroundHangs),
    ]
}

fn of_parts() -> impl Strategy<Value = Fault> {
    let host = || any::<u16>().prop_map(HostId);
    let memdev = || any::<u16>().prop_map(MemdevId);
    let switch = || any::<u16>().prop_map(SwitchId);
    let maybe = || proptest::option::of(number());
    prop_oneof![
        host().prop_map(Fault::HostDies),
        host().prop_map(Fault::HostStarts),
        host().prop_map(Fault::HostWritesCleanLines),
        host().prop_map(Fault::HostKeepsCleanLines),
        (host(), number()).prop_map(|(host, address)| Fault::HostPrefetches { host, address }),
        switch().prop_map(Fault::SwitchRestarts),
        switch().prop_map(Fault::SwitchRefuses),
        switch().prop_map(Fault::SwitchObeys),
        (switch(), any::<[u8; 2]>()).prop_map(|(switch, [vcs, vppb])| Fault::BridgeUnbinds {
            switch,
            vcs: VcsId(vcs),
            vppb: VppbId(vppb),
        }),
        memdev().prop_map(Fault::MemdevVanishes),
        memdev().prop_map(Fault::MemdevReturns),
        memdev().prop_map(Fault::MemdevCycles),
        memdev().prop_map(Fault::CdatGoesStale),
        memdev().prop_map(Fault::MemdevTurnsViral),
        memdev().prop_map(Fault::MemdevHeals),
        (memdev(), any::<u32>()).prop_map(|(memdev, times)| Fault::MemdevSlows { memdev, times }),
        (memdev(), maybe(), maybe()).prop_map(|(memdev, serial, granules)| Fault::MemdevLies {
            memdev,
            serial,
            granules,
        }),
    ]
}

fn of_memory() -> impl Strategy<Value = Fault> {
    let memdev = || any::<u16>().prop_map(MemdevId);
    let ld = || (memdev(), any::<u16>().prop_map(LdId));
    let line = || (memdev(), number());
    prop_oneof![
        (ld(), any::<u32>()).prop_map(|((memdev, ld), errors)| Fault::MemdevCorrects {
            memdev,
            ld,
            errors,
        }),
        (line(), any::<u16>()).prop_map(|((memdev, physical), lines)| Fault::MemdevScrubs {
            memdev,
            physical,
            lines,
        }),
        ld().prop_map(|(memdev, ld)| Fault::LogFills { memdev, ld }),
        ld().prop_map(|(memdev, ld)| Fault::ListChanges { memdev, ld }),
        line().prop_map(|(memdev, physical)| Fault::Poison { memdev, physical }),
        line().prop_map(|(memdev, physical)| Fault::PoisonOnce { memdev, physical }),
        line().prop_map(|(memdev, physical)| Fault::PoisonStays { memdev, physical }),
        line().prop_map(|(memdev, physical)| Fault::PoisonHeals { memdev, physical }),
    ]
}

proptest! {
    #[test]
    fn a_schedule_is_read_as_it_was_written(
        faults in proptest::collection::vec(
            (0..40_u64, prop_oneof![of_links(), of_parts(), of_memory()]),
            0..40,
        ),
    ) {
        let mut schedule = Schedule::new();
        for (at, fault) in &faults {
            // Some at one time, some at the last that there is.
            let at = if *at == 39 { LAST } else { Picos::new(*at) };
            prop_assert_eq!(schedule.add(at, *fault), Ok(()));
        }
        let text = schedule.to_toml();
        let read = Schedule::parse("s.toml", &text);
        prop_assert_eq!(read.as_ref(), Ok(&schedule), "{}", text);
        prop_assert!(schedule.faults().is_sorted_by_key(|planned| planned.at));
        prop_assert_eq!(schedule.faults().len(), faults.len());
    }
}

#[test]
fn faults_of_one_time_keep_the_order_in_which_they_were_planned() {
    let mut schedule = Schedule::new();
    for (at, host) in [(5, 1), (3, 2), (5, 3), (3, 4)] {
        let fault = Fault::HostDies(HostId(host));
        schedule.add(Picos::new(at), fault).unwrap();
    }
    let hosts = |schedule: &Schedule| {
        let host = |planned: &fabric_emu::schedule::Planned| match planned.fault {
            Fault::HostDies(host) => host.0,
            other => panic!("{other:?}"),
        };
        schedule.faults().iter().map(host).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&schedule), [2, 4, 1, 3]);
    let read = Schedule::parse("s.toml", &schedule.to_toml()).unwrap();
    assert_eq!(hosts(&read), [2, 4, 1, 3]);
}

#[test]
fn a_wrong_file_is_refused_at_its_line_with_what_is_allowed() {
    let good = "[[fault]]\nat = 1\nwhat = { host_dies = 0 }\n\n";
    for (more, line, word) in [
        (
            "[[fault]]\nat = 1\nwhat = { host_sleeps = 0 }\n",
            7,
            "host_dies",
        ),
        (
            "[[fault]]\nat = 1\nwhat = { host_dies = \"h0\" }\n",
            7,
            "u16",
        ),
        (
            "[[fault]]\nat = 1\nwhat = { host_dies = 70000 }\n",
            7,
            "u16",
        ),
        ("[[fault]]\nat = 1\n", 5, "what"),
        ("[[fault]]\nwhat = { host_dies = 0 }\n", 5, "at"),
        (
            "[[fault]]\nat = 1\nwhen = 2\nwhat = { host_dies = 0 }\n",
            7,
            "what",
        ),
        ("[[fault]]\nat = -1\nwhat = { host_dies = 0 }\n", 6, "u64"),
        (
            "[[fault]]\nat = 1\nwhat = { poison = { memdev = 0 } }\n",
            7,
            "physical",
        ),
        (
            "[[fault]]\nat = 1\nwhat = { poison = { memdev = 0, line = 1 } }\n",
            7,
            "physical",
        ),
        ("[[fualt]]\nat = 1\nwhat = { host_dies = 0 }\n", 5, "fault"),
        ("[[fault]\n", 5, "]"),
    ] {
        let text = format!("{good}{more}");
        let error = Schedule::parse("s.toml", &text).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("s.toml:{line}: ")),
            "{text}{said}"
        );
        assert!(said.contains(word) && !said.contains('\n'), "{text}{said}");
    }
    let long = "#".repeat(fabric_emu::schedule::FILE_BYTES_MAX + 1);
    let error = Schedule::parse("s.toml", &long).unwrap_err();
    assert!(matches!(error, ScheduleError::TooLong { .. }), "{error}");
}

#[test]
fn what_no_file_can_hold_is_refused_when_it_is_planned() {
    let mut schedule = Schedule::new();
    let dies = Fault::HostDies(HostId(0));
    let late = LAST.saturating_add(Picos::new(1));
    assert_eq!(
        schedule.add(late, dies),
        Err(ScheduleError::TooLate { at: late })
    );
    let poison = Fault::Poison {
        memdev: MemdevId(0),
        physical: 1 << 63,
    };
    let refused = schedule.add(Picos::ZERO, poison);
    assert!(
        matches!(refused, Err(ScheduleError::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(schedule, Schedule::new());
}

fn mix() -> Mix {
    let ms = |count: u64| Picos::from_nanos(1_000_000 * count);
    Mix::all(ms(10), ms(1), ms(1))
}

#[test]
fn a_seed_draws_a_schedule_and_no_kind_shifts_another() {
    let topology = Topology::named("four-hosts").unwrap();
    let all = Schedule::draw(&topology, 1, &mix()).unwrap();
    assert_eq!(Schedule::draw(&topology, 1, &mix()), Ok(all.clone()));
    assert_ne!(Schedule::draw(&topology, 2, &mix()), Ok(all.clone()));
    assert_eq!(Schedule::parse("s.toml", &all.to_toml()), Ok(all.clone()));
    for kind in Kind::ALL {
        let mut alone = mix();
        alone.kinds.retain(|(one, _)| one == kind);
        let alone = Schedule::draw(&topology, 1, &alone).unwrap();
        assert!(!alone.faults().is_empty(), "{kind:?}");
        let is_there = |planned| all.faults().contains(planned);
        assert!(alone.faults().iter().all(is_there), "{kind:?}");
    }
    // Nothing that a topology lacks fails.
    let expander = Topology::named("expander").unwrap();
    let drawn = Schedule::draw(&expander, 1, &mix()).unwrap();
    let of_switch = |fault: &Fault| matches!(fault, Fault::SwitchRestarts(_));
    assert!(
        !drawn
            .faults()
            .iter()
            .any(|planned| of_switch(&planned.fault))
    );
    let mut endless = mix();
    endless.kinds = vec![(Kind::SwitchRestart, Picos::ZERO)];
    assert_eq!(
        Schedule::draw(&expander, 1, &endless),
        Err(ScheduleError::TooMany)
    );
    endless.kinds = vec![(Kind::PowerCycle, Picos::ZERO)];
    assert_eq!(
        Schedule::draw(&expander, 1, &endless),
        Err(ScheduleError::TooMany)
    );
    assert!(all.faults().len() < FAULTS_MAX);
}

#[test]
fn a_fabric_has_its_faults_in_their_order_among_all_that_is_due() {
    let mut fabric = rig::fabric(1, |_| {});
    let host = HostId(0);
    let mut schedule = Schedule::new();
    for (at, fault) in [
        (3_000, Fault::HostStarts(host)),
        (1_000, Fault::HostDies(host)),
        (1_000, Fault::HostDies(host)),
        (9_000, Fault::MemdevVanishes(MemdevId(7))),
    ] {
        schedule.add(Picos::from_nanos(at), fault).unwrap();
    }
    fabric.plan(&schedule);
    let ns = Picos::from_nanos;
    assert_eq!(fabric.next_due(), Some(ns(1_000)));
    rig::store(&mut fabric, ns(10), 0, 1);
    let nothing = fabric.advance(ns(999));
    assert_eq!(nothing, []);
    let load = Event::Load {
        host,
        address: rig::at(1),
    };
    let struck = |at, fault| Effect::Struck { at: ns(at), fault };
    let effects = fabric.step(ns(2_000), &load);
    let [first, Effect::LostLines { .. }, second, again, last] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(first, &struck(1_000, Fault::HostDies(host)));
    assert_eq!(second, &struck(1_000, Fault::HostDies(host)));
    let dead = Effect::Failed(AccessError::Dead);
    assert_eq!((again, last), (&dead, &dead));
    assert_eq!(fabric.next_due(), Some(ns(3_000)));
    let rest = fabric.advance(ns(10_000));
    let gone = Effect::Failed(AccessError::Unreachable);
    assert_eq!(
        rest,
        [
            struck(3_000, Fault::HostStarts(host)),
            Effect::Done,
            struck(9_000, Fault::MemdevVanishes(MemdevId(7))),
            gone,
        ]
    );
    assert_eq!(fabric.next_due(), None);
}

/// Its faults are what a driver would have injected at the same times.
#[test]
fn a_run_under_a_schedule_is_repeated_from_what_the_schedule_prints() {
    for name in READY_NAMES {
        let topology = Topology::named(name).unwrap();
        let run = |schedule: &Schedule| {
            let mut scene = Scene::new(&topology, 5).unwrap();
            scene.fabric.plan(schedule);
            scene.run(2_000);
            scene.fabric.trace()
        };
        let us = |count: u64| Picos::from_nanos(1_000 * count);
        let mix = Mix::all(us(200), us(10), us(20));
        let schedule = Schedule::draw(&topology, 9, &mix).unwrap();
        assert!(schedule.faults().len() > 100, "{name}");
        let first = run(&schedule);
        let printed = Schedule::parse("s.toml", &schedule.to_toml()).unwrap();
        assert_eq!(run(&printed), first, "{name}");
        assert_ne!(run(&Schedule::new()), first, "{name}");
    }
}

/// However much goes wrong, nothing panics, and what ends has ended.
#[test]
fn after_the_last_end_of_a_schedule_memory_is_reached_and_keeps_what_is_written() {
    for seed in 0..20 {
        let mut fabric: Fabric = rig::fabric(1, |_| {});
        let topology = Topology::named("expander").unwrap();
        let us = |count: u64| Picos::from_nanos(1_000 * count);
        let mix = Mix::all(us(500), us(10), us(20));
        fabric.plan(&Schedule::draw(&topology, seed, &mix).unwrap());
        let mut now = Picos::ZERO;
        for line in 0..4_000 {
            now = now.saturating_add(Picos::from_nanos(200));
            let host = HostId(0);
            let address = rig::at(line % 64);
            fabric.step(now, &Event::Load { host, address });
            let content = [1; 64];
            fabric.step(
                now,
                &Event::Store {
                    host,
                    address,
                    content,
                },
            );
        }
        fabric.advance(us(1_000_000));
        assert_eq!(fabric.next_due(), None);
        let heal = Fault::HostStarts(HostId(0));
        fabric.step(us(1_000_000), &Event::Fault(heal));
        rig::remap(&mut fabric, us(1_000_001), 0);
        rig::store(&mut fabric, us(1_000_002), 0, 9_999);
        rig::load(&mut fabric, us(1_000_003), 0, 9_999);
    }
}

#[test]
fn the_schedule_that_the_documents_show_is_one() {
    let text = include_str!("../../../docs/fabric.md");
    let (_, rest) = text.split_once("```toml\n[[fault]]").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let schedule = Schedule::parse("fabric.md", &format!("[[fault]]{shown}")).unwrap();
    assert_eq!(schedule.faults().len(), 2);
}

#[test]
fn a_schedule_of_parts_that_are_not_there_is_refused_and_one_that_was_drawn_is_not() {
    for name in READY_NAMES {
        let topology = Topology::named(name).unwrap();
        let us = |count: u64| Picos::from_nanos(1_000 * count);
        let mix = Mix::all(us(2_000), us(10), us(20));
        let drawn = Schedule::draw(&topology, 3, &mix).unwrap();
        assert_eq!(drawn.check(&topology), Ok(()), "{name}");
    }
    let topology = Topology::named("four-hosts").unwrap();
    let (memdev, ld) = (MemdevId(0), LdId(99));
    let nowhere = Port {
        node: Node::Switch(SwitchId(0)),
        port: PortId(99),
    };
    let host = HostId(4);
    // It has four virtual switches, one for each host.
    let vppbs = topology.switches[0].vppbs;
    let bridge = |vcs, vppb| Fault::BridgeUnbinds {
        switch: SwitchId(0),
        vcs: VcsId(vcs),
        vppb: VppbId(vppb),
    };
    let mut there = Schedule::new();
    there.add(Picos::ZERO, bridge(3, vppbs - 1)).unwrap();
    assert_eq!(there.check(&topology), Ok(()));
    for fault in [
        Fault::HostDies(host),
        Fault::LinkFails(nowhere),
        Fault::SwitchRestarts(SwitchId(1)),
        bridge(4, 0),
        bridge(0, vppbs),
        Fault::MemdevVanishes(MemdevId(1)),
        Fault::LogFills { memdev, ld },
        Fault::Poison {
            memdev,
            physical: LAST.get(),
        },
        Fault::BackgroundHangs(Cci::Mailbox { host, memdev, ld }),
    ] {
        let mut schedule = Schedule::new();
        schedule
            .add(Picos::ZERO, Fault::HostDies(HostId(0)))
            .unwrap();
        schedule.add(Picos::new(7), fault).unwrap();
        let expected = ScheduleError::NotThere {
            at: Picos::new(7),
            fault: Box::new(fault),
            topology: "four-hosts".to_owned(),
        };
        assert_eq!(schedule.check(&topology), Err(expected));
        // It fails as well when it happens.
        let mut fabric = Fabric::new(&topology, 1).unwrap();
        fabric.plan(&schedule);
        let effects = fabric.advance(Picos::new(7));
        assert!(
            matches!(effects.last(), Some(Effect::Failed(_))),
            "{fault:?}"
        );
    }
}
