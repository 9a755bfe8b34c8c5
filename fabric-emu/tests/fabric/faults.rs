//! What each fault of a host, a link, a switch or a device does, and that it ends.

use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::switch::{GetPhysicalPortStateRequest, Ltssm, PortInformation};
use fabric_emu::cci::virtual_switch::{BindVppbRequest, UnbindOption, UnbindVppbRequest};
use fabric_emu::cci::{Request, Response, ReturnCode};
use fabric_emu::fabric::{AccessError, Asked, Cci, Direction, Effect, Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::span::Span;
use fabric_emu::timing::Picos;

use super::rig::{DEVICE, apart, at, fabric, load, store, unloaded};

/// The link of host 0.
const CABLE: Port = Port {
    node: Node::Host(HostId(0)),
    port: PortId(0),
};
const SWITCH: SwitchId = SwitchId(0);
const HERE: Cci = Cci::Mailbox {
    host: HostId(0),
    memdev: DEVICE,
    ld: LdId(0),
};

/// Hosts that keep what they write.
fn hosts(count: u16) -> Fabric {
    fabric(count, |topology| {
        for host in &mut topology.hosts {
            host.cache_lines = 64;
        }
    })
}

fn hit(fabric: &mut Fabric, now: Picos, fault: Fault) {
    assert_eq!(
        fabric.step(now, &Event::Fault(fault)),
        [Effect::Done],
        "{fault:?}"
    );
}

/// Why a load fails.
fn fails(fabric: &mut Fabric, now: Picos, line: u64) -> AccessError {
    let load = Event::Load {
        host: HostId(0),
        address: at(line),
    };
    match fabric.step(now, &load)[..] {
        [Effect::Failed(why)] => why,
        ref other => panic!("{other:?}"),
    }
}

fn content(fabric: &mut Fabric, now: Picos, host: u16, line: u64) -> u8 {
    let load = Event::Load {
        host: HostId(host),
        address: at(line),
    };
    match fabric.step(now, &load)[..] {
        [Effect::Loaded { content, .. }] => content[0],
        ref other => panic!("{other:?}"),
    }
}

fn flush(fabric: &mut Fabric, now: Picos, line: u64) -> Vec<Effect> {
    let flush = Event::Flush {
        host: HostId(0),
        span: Span::new(at(line), 64).unwrap(),
    };
    fabric.step(now, &flush)
}

fn lost(line: u64, why: AccessError) -> Effect {
    Effect::Lost {
        host: HostId(0),
        address: at(line),
        why,
    }
}

fn port(fabric: &mut Fabric, now: Picos) -> PortInformation {
    let asked = GetPhysicalPortStateRequest {
        ports: vec![PortId(0)].try_into().unwrap(),
    };
    let asked = Request::GetPhysicalPortState(asked);
    match fabric.ask(now, Cci::Switch(SWITCH), &asked) {
        Ok(Response::GetPhysicalPortState(told)) => told.ports[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_that_was_trained_down_carries_less_and_says_so() {
    let mut fabric = hosts(4);
    let rate = |fabric: &mut Fabric, now| {
        let loads = (0..1_000).map(|line| load(fabric, now, 0, line + 5_000));
        loads.last().unwrap()
    };
    let good = rate(&mut fabric, apart(1));
    let slow = Fault::LinkRetrains {
        port: CABLE,
        lanes: 1,
        gigatransfers: 8,
    };
    hit(&mut fabric, apart(100), slow);
    let told = port(&mut fabric, apart(100));
    assert_eq!(
        (told.maximum_link_width, told.negotiated_link_width),
        (8, 1)
    );
    assert_eq!((told.maximum_link_speed, told.current_link_speed), (5, 3));
    let one = load(&mut fabric, apart(200), 0, 1);
    assert_eq!(one, unloaded(&fabric, 0, fabric_emu::timing::Share::ONE));
    let bad = rate(&mut fabric, apart(300));
    // 0.9 GB/s of payload, where the device had 20.8.
    assert!(bad > good.times(20), "{bad} {good}");
    for (lanes, gigatransfers) in [(16, 32), (8, 64), (3, 32), (0, 8), (8, 7)] {
        let more = Fault::LinkRetrains {
            port: CABLE,
            lanes,
            gigatransfers,
        };
        let refused = [Effect::Failed(AccessError::NotSo)];
        assert_eq!(fabric.step(apart(400), &Event::Fault(more)), refused);
    }
    hit(&mut fabric, apart(500), Fault::LinkHeals(CABLE));
    assert_eq!(rate(&mut fabric, apart(600)), good);
    assert_eq!(port(&mut fabric, apart(600)).negotiated_link_width, 8);
}

#[test]
fn a_link_that_retries_much_is_slow_until_it_is_well() {
    let mut fabric = hosts(1);
    let good = load(&mut fabric, apart(1), 0, 1);
    let storm = Fault::LinkRetries {
        port: CABLE,
        once_in: 1,
    };
    hit(&mut fabric, apart(2), storm);
    let again = load(&mut fabric, apart(3), 0, 2).saturating_sub(good);
    // There and back once more, and the line.
    assert!((20_000..30_000).contains(&again.get()), "{again}");
    hit(&mut fabric, apart(4), Fault::LinkHeals(CABLE));
    assert_eq!(load(&mut fabric, apart(5), 0, 3), good);
}

#[test]
fn what_goes_one_way_is_late_or_never_there() {
    let mut fabric = hosts(1);
    let good = load(&mut fabric, apart(1), 0, 1);
    let stall = |direction, longer| Fault::LinkStalls {
        port: CABLE,
        direction,
        longer,
    };
    let longer = Picos::from_nanos(700);
    for direction in [Direction::Up, Direction::Down] {
        hit(&mut fabric, apart(2), stall(direction, Some(longer)));
        let late = load(&mut fabric, apart(3), 0, 2);
        flush(&mut fabric, apart(3), 2);
        assert_eq!(late, good.saturating_add(longer));
        hit(&mut fabric, apart(4), Fault::LinkHeals(CABLE));
    }
    store(&mut fabric, apart(5), 0, 3);
    store(&mut fabric, apart(5), 0, 4);
    let identify = Request::Identify(Empty);
    let done = |effects: &[Effect]| matches!(effects, [.., Effect::Written { .. }]);
    for (line, direction) in [(3, Direction::Down), (4, Direction::Up)] {
        hit(&mut fabric, apart(6), stall(direction, None));
        assert_eq!(fails(&mut fabric, apart(7), 9), AccessError::TimedOut);
        let effects = flush(&mut fabric, apart(7), line);
        assert_eq!(effects[0], lost(line, AccessError::TimedOut));
        assert!(done(&effects));
        assert_eq!(fabric.ask(apart(7), HERE, &identify), Err(Asked::Dropped));
        hit(&mut fabric, apart(8), Fault::LinkHeals(CABLE));
        assert!(fabric.ask(apart(8), HERE, &identify).is_ok());
    }
    assert_eq!(
        content(&mut fabric, apart(9), 0, 3),
        0,
        "it never got there"
    );
    assert_eq!(
        content(&mut fabric, apart(9), 0, 4),
        1,
        "it did, and no answer came back"
    );
}

#[test]
fn a_port_in_reset_is_no_cable_that_was_pulled() {
    let mut fabric = hosts(4);
    hit(&mut fabric, apart(1), Fault::PortResets(CABLE));
    assert_eq!(fails(&mut fabric, apart(2), 0), AccessError::Unreachable);
    assert_eq!(port(&mut fabric, apart(2)).ltssm_state, Ltssm::HotReset);
    hit(&mut fabric, apart(3), Fault::LinkFails(CABLE));
    hit(&mut fabric, apart(4), Fault::PortRuns(CABLE));
    assert_eq!(port(&mut fabric, apart(4)).ltssm_state, Ltssm::Detect);
    assert_eq!(fails(&mut fabric, apart(5), 0), AccessError::Unreachable);
    hit(&mut fabric, apart(6), Fault::LinkHeals(CABLE));
    assert_eq!(port(&mut fabric, apart(6)).ltssm_state, Ltssm::L0);
    load(&mut fabric, apart(7), 0, 0);
}

#[test]
fn a_bridge_that_was_unbound_by_surprise_leads_nowhere_until_it_is_bound() {
    let mut fabric = hosts(4);
    store(&mut fabric, apart(1), 0, 0);
    let (vcs, vppb) = (VcsId(0), VppbId(0));
    let unbinds = Fault::BridgeUnbinds {
        switch: SWITCH,
        vcs,
        vppb,
    };
    hit(&mut fabric, apart(2), unbinds);
    assert_eq!(fails(&mut fabric, apart(3), 1), AccessError::Unreachable);
    assert_eq!(
        flush(&mut fabric, apart(3), 0)[0],
        lost(0, AccessError::Unreachable)
    );
    let gone = [Effect::Failed(AccessError::Unreachable)];
    assert_eq!(fabric.step(apart(4), &Event::Fault(unbinds)), gone);
    let bind = Request::BindVppb(BindVppbRequest {
        vcs_id: vcs,
        vppb_id: vppb,
        port_id: PortId(4),
        ld_id: LdId(0),
    });
    let manager = Cci::Switch(SWITCH);
    hit(&mut fabric, apart(5), Fault::SwitchRefuses(SWITCH));
    let refused = Err(Asked::Refused(ReturnCode::InternalError));
    assert_eq!(fabric.ask(apart(5), manager, &bind), refused);
    hit(&mut fabric, apart(6), Fault::SwitchObeys(SWITCH));
    assert_eq!(fabric.ask(apart(6), manager, &bind), Err(Asked::Begun));
    let later = fabric.next_due().unwrap();
    load(&mut fabric, later, 0, 1);
}

#[test]
fn a_viral_device_takes_and_gives_nothing_and_keeps_what_it_has() {
    let mut fabric = hosts(1);
    store(&mut fabric, apart(1), 0, 0);
    flush(&mut fabric, apart(1), 0);
    store(&mut fabric, apart(1), 0, 1);
    hit(&mut fabric, apart(2), Fault::MemdevTurnsViral(DEVICE));
    assert_eq!(fails(&mut fabric, apart(3), 0), AccessError::Viral);
    assert_eq!(
        flush(&mut fabric, apart(3), 1)[0],
        lost(1, AccessError::Viral)
    );
    assert!(
        fabric
            .ask(apart(3), HERE, &Request::Identify(Empty))
            .is_ok()
    );
    hit(&mut fabric, apart(4), Fault::MemdevHeals(DEVICE));
    assert_eq!(content(&mut fabric, apart(5), 0, 0), 1);
    assert_eq!(content(&mut fabric, apart(5), 0, 1), 0);
}

#[test]
fn power_that_goes_and_comes_leaves_zeros_and_a_device_that_is_well() {
    let mut fabric = hosts(1);
    store(&mut fabric, apart(1), 0, 0);
    flush(&mut fabric, apart(1), 0);
    hit(&mut fabric, apart(2), Fault::MemdevTurnsViral(DEVICE));
    hit(&mut fabric, apart(3), Fault::MemdevCycles(DEVICE));
    assert_eq!(content(&mut fabric, apart(4), 0, 0), 0);
}

#[test]
fn poison_lasts_for_one_read_or_until_a_write_or_until_it_heals() {
    let mut fabric = hosts(1);
    let (memdev, now) = (DEVICE, apart(1));
    for line in 0..3 {
        store(&mut fabric, now, 0, line);
        flush(&mut fabric, now, line);
    }
    let physical = |line: u64| line * 64;
    for fault in [
        Fault::PoisonOnce {
            memdev,
            physical: physical(0),
        },
        Fault::Poison {
            memdev,
            physical: physical(1),
        },
        Fault::PoisonStays {
            memdev,
            physical: physical(2),
        },
    ] {
        hit(&mut fabric, now, fault);
    }
    for line in 0..3 {
        assert_eq!(fails(&mut fabric, now, line), AccessError::Poisoned);
    }
    assert_eq!(content(&mut fabric, now, 0, 0), 1, "it is as it was");
    for line in 1..3 {
        assert_eq!(fails(&mut fabric, now, line), AccessError::Poisoned);
        store(&mut fabric, now, 0, line);
        flush(&mut fabric, now, line);
    }
    assert_eq!(content(&mut fabric, now, 0, 1), 1);
    assert_eq!(fails(&mut fabric, now, 2), AccessError::Poisoned);
    let heals = Fault::PoisonHeals {
        memdev,
        physical: physical(2),
    };
    hit(&mut fabric, now, heals);
    assert_eq!(content(&mut fabric, now, 0, 2), 1);
    let past = Fault::PoisonOnce {
        memdev,
        physical: 1 << 60,
    };
    let gone = [Effect::Failed(AccessError::Unreachable)];
    assert_eq!(fabric.step(now, &Event::Fault(past)), gone);
}

#[test]
fn a_device_that_lies_is_slow_or_corrects_much_tells_the_truth_once_it_is_well() {
    let mut fabric = hosts(1);
    let told = |fabric: &mut Fabric| {
        let now = apart(1);
        let what = fabric.ask(now, HERE, &Request::IdentifyMemoryDevice(Empty));
        let who = fabric.ask(now, HERE, &Request::Identify(Empty));
        let how = fabric.ask(now, HERE, &Request::GetHealthInfo(Empty));
        match (what, who, how) {
            (
                Ok(Response::IdentifyMemoryDevice(what)),
                Ok(Response::Identify(who)),
                Ok(Response::GetHealthInfo(how)),
            ) => (
                what.total_capacity,
                who.serial_number,
                how.corrected_volatile_error_count,
            ),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(&mut fabric), (512, 0x1001, 0));
    let lies = Fault::MemdevLies {
        memdev: DEVICE,
        serial: Some(7),
        granules: Some(9),
    };
    hit(&mut fabric, apart(1), lies);
    for errors in [5, u32::MAX] {
        let corrects = Fault::MemdevCorrects {
            memdev: DEVICE,
            ld: LdId(0),
            errors,
        };
        hit(&mut fabric, apart(1), corrects);
    }
    assert_eq!(told(&mut fabric), (9, 7, u32::MAX));
    let sanitize = |fabric: &mut Fabric, now: Picos| {
        let begun = fabric.ask(now, HERE, &Request::Sanitize(Empty));
        assert_eq!(begun, Err(Asked::Begun));
        fabric.next_due().unwrap().saturating_sub(now)
    };
    let second = Picos::new(1_000_000_000_000);
    let good = sanitize(&mut fabric, second);
    let slows = Fault::MemdevSlows {
        memdev: DEVICE,
        times: 3,
    };
    hit(&mut fabric, second.times(100), slows);
    assert_eq!(sanitize(&mut fabric, second.times(200)), good.times(3));
    hit(&mut fabric, second.times(500), Fault::MemdevHeals(DEVICE));
    assert_eq!(sanitize(&mut fabric, second.times(600)), good);
    assert_eq!(told(&mut fabric), (512, 0x1001, 0));
}

#[test]
fn a_host_reads_ahead_of_use_and_keeps_what_is_old_by_then() {
    let mut fabric = hosts(1);
    let host = HostId(0);
    let prefetch = |line| Fault::HostPrefetches {
        host,
        address: at(line),
    };
    hit(&mut fabric, apart(1), prefetch(0));
    // What another one writes since is seen once the caches let go.
    let device = fabric.memdev_mut(DEVICE).unwrap();
    device.media_mut().write(0, &[5; 64]);
    assert_eq!(content(&mut fabric, apart(2), 0, 0), 0);
    flush(&mut fabric, apart(3), 0);
    assert_eq!(content(&mut fabric, apart(4), 0, 0), 5);
    let nowhere = Fault::HostPrefetches { host, address: 0 };
    let failed = [Effect::Failed(AccessError::Unmapped)];
    assert_eq!(fabric.step(apart(5), &Event::Fault(nowhere)), failed);
}

#[test]
fn a_host_that_breaks_its_promise_writes_what_it_read_over_what_another_wrote() {
    let undone = |breaks| {
        let mut fabric = fabric(1, |topology| topology.hosts[0].cache_lines = 4);
        let host = HostId(0);
        if breaks {
            hit(&mut fabric, apart(1), Fault::HostWritesCleanLines(host));
        }
        for line in 0..100 {
            load(&mut fabric, apart(2), 0, line);
        }
        if breaks {
            hit(&mut fabric, apart(3), Fault::HostKeepsCleanLines(host));
        }
        let count = |fabric: &mut Fabric, lines: std::ops::Range<u64>| {
            for line in lines.clone() {
                let device = fabric.memdev_mut(DEVICE).unwrap();
                device.media_mut().write(line * 64, &[5; 64]);
            }
            for line in 1_000..1_100 {
                load(fabric, apart(4), 0, line);
            }
            let media = fabric.memdev(DEVICE).unwrap().media();
            let is_old = |line: &u64| media.read(line * 64) == Ok([0; 64]);
            lines.filter(is_old).count()
        };
        // What is in the caches still, and was read before another one wrote it.
        let mut all = 0;
        for round in 0..40 {
            let lines = round * 4..round * 4 + 4;
            if breaks {
                hit(&mut fabric, apart(3), Fault::HostWritesCleanLines(host));
            }
            for line in lines.clone() {
                load(&mut fabric, apart(3), 0, line);
            }
            all += count(&mut fabric, lines);
        }
        hit(&mut fabric, apart(5), Fault::HostKeepsCleanLines(host));
        for line in 0..4 {
            load(&mut fabric, apart(5), 0, line);
        }
        assert_eq!(count(&mut fabric, 0..4), 0, "it keeps its promise again");
        all
    };
    assert_eq!(undone(false), 0);
    assert!(undone(true) > 0);
}

#[test]
fn a_fault_of_what_is_not_there_fails_and_changes_nothing_else() {
    let mut fabric = hosts(1);
    let nowhere = Port {
        node: Node::Host(HostId(0)),
        port: PortId(9),
    };
    let (memdev, ld) = (MemdevId(9), LdId(0));
    let gone = AccessError::Unreachable;
    for (fault, why) in [
        (Fault::LinkHeals(nowhere), gone),
        (Fault::PortResets(nowhere), gone),
        (Fault::SwitchRefuses(SWITCH), gone),
        (Fault::MemdevTurnsViral(memdev), gone),
        (Fault::MemdevCycles(memdev), gone),
        (Fault::LogFills { memdev, ld }, gone),
        (
            Fault::ListChanges {
                memdev: DEVICE,
                ld: LdId(4),
            },
            gone,
        ),
        (Fault::BackgroundHangs(Cci::Switch(SWITCH)), gone),
        (Fault::HostWritesCleanLines(HostId(3)), AccessError::Dead),
    ] {
        let effects = fabric.step(apart(1), &Event::Fault(fault));
        assert_eq!(effects, [Effect::Failed(why)], "{fault:?}");
    }
    load(&mut fabric, apart(2), 0, 0);
}

fn unbind(option: UnbindOption) -> Request {
    Request::UnbindVppb(UnbindVppbRequest {
        vcs_id: VcsId(0),
        vppb_id: VppbId(0),
        option,
    })
}

#[test]
fn a_bridge_is_unbound_as_its_manager_says() {
    let manager = Cci::Switch(SWITCH);
    // As if it was torn out: what was not written back is lost.
    let mut torn = hosts(4);
    store(&mut torn, apart(1), 0, 3);
    let surprise = unbind(UnbindOption::SurpriseHotRemove);
    assert_eq!(torn.ask(apart(2), manager, &surprise), Err(Asked::Begun));
    let later = torn.next_due().unwrap();
    torn.advance(later);
    assert_eq!(
        flush(&mut torn, later, 3)[0],
        lost(3, AccessError::Unreachable)
    );
    // The host is asked: it has written all back.
    let mut managed = hosts(4);
    store(&mut managed, apart(1), 0, 3);
    let asks = unbind(UnbindOption::ManagedHotRemove);
    assert_eq!(managed.ask(apart(2), manager, &asks), Err(Asked::Begun));
    let later = managed.next_due().unwrap();
    assert_eq!(managed.advance(later), []);
    assert_eq!(fails(&mut managed, later, 3), AccessError::Unmapped);
    let media = managed.memdev(DEVICE).unwrap().media();
    assert_eq!(media.read(3 * 64), Ok([1; 64]));
}

#[test]
fn a_bridge_that_waits_for_its_link_is_unbound_once_that_is_down() {
    let manager = Cci::Switch(SWITCH);
    let pool = Port {
        node: Node::Switch(SWITCH),
        port: PortId(4),
    };
    let mut fabric = hosts(4);
    let waits = unbind(UnbindOption::WaitForLinkDown);
    assert_eq!(fabric.ask(apart(1), manager, &waits), Err(Asked::Begun));
    assert_eq!(fabric.next_due(), None, "it waits for the link");
    load(&mut fabric, apart(2), 0, 1);
    let busy = Err(Asked::Refused(ReturnCode::Busy));
    assert_eq!(fabric.ask(apart(2), manager, &waits), busy);
    hit(&mut fabric, apart(3), Fault::LinkFails(pool));
    let later = fabric.next_due().unwrap();
    fabric.advance(later);
    hit(&mut fabric, later, Fault::LinkHeals(pool));
    assert_eq!(fails(&mut fabric, later, 2), AccessError::Unreachable);
    let refused = Err(Asked::Refused(ReturnCode::InvalidInput));
    assert_eq!(fabric.ask(later, manager, &waits), refused, "it is unbound");
    // Others are still bound.
    load(&mut fabric, later, 1, 1);
}
