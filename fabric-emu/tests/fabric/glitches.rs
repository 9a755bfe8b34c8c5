//! What goes wrong between an interface and who sends it commands, and with what it keeps.

use fabric_emu::capacity::Selection;
use fabric_emu::cci::dcd::GetDcExtentListRequest;
use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
use fabric_emu::cci::events::{EventLog, GetEventRecordsRequest, GetEventRecordsResponse};
use fabric_emu::cci::generic::{Empty, Timestamp};
use fabric_emu::cci::{Message, Request, Response, ReturnCode, Tag};
use fabric_emu::fabric::{Asked, Cci, Direction, Effect, Event, Fabric, Fault, Glitch};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId};
use fabric_emu::timing::Picos;
use pool_core::units::MIB;

use super::rig::{DEVICE, apart, fabric};

const HERE: Cci = Cci::Mailbox {
    host: HostId(0),
    memdev: DEVICE,
    ld: LdId(0),
};
const MANAGER: Cci = Cci::Memdev(DEVICE);

fn hit(fabric: &mut Fabric, now: Picos, fault: Fault) {
    assert_eq!(
        fabric.step(now, &Event::Fault(fault)),
        [Effect::Done],
        "{fault:?}"
    );
}

fn errs(glitch: Glitch, times: u16) -> Fault {
    Fault::InterfaceErrs {
        cci: HERE,
        glitch,
        times,
    }
}

fn set(timestamp_ns: u64) -> Request {
    Request::SetTimestamp(Timestamp { timestamp_ns })
}

/// What it was told that time it is; none where it was told nothing.
fn told(fabric: &mut Fabric) -> u64 {
    match fabric.ask(apart(1), HERE, &Request::GetTimestamp(Empty)) {
        Ok(Response::GetTimestamp(told)) => told.timestamp_ns,
        other => panic!("{other:?}"),
    }
}

fn send(fabric: &mut Fabric, request: &Request) -> Vec<Effect> {
    let message = Message::request(0, request).unwrap().encode();
    fabric.step(apart(1), &Event::Command { cci: HERE, message })
}

#[test]
fn a_command_that_is_not_heard_or_refused_is_not_done_and_one_whose_answer_is_lost_is() {
    let mut fabric = fabric(1, |_| {});
    for (number, (glitch, answer, is_done)) in (1..).zip([
        (Glitch::NotHeard, Err(Asked::Dropped), false),
        (Glitch::AnswerLost, Err(Asked::Dropped), true),
        (Glitch::Busy, Err(Asked::Refused(ReturnCode::Busy)), false),
        (
            Glitch::RetryRequired,
            Err(Asked::Refused(ReturnCode::RetryRequired)),
            false,
        ),
        (Glitch::AnswerCut(5), Err(Asked::Garbled), true),
        (Glitch::AnswerCut(0), Err(Asked::Garbled), true),
        (Glitch::AnsweredTwice, Ok(()), true),
    ]) {
        let before = told(&mut fabric);
        hit(&mut fabric, apart(1), errs(glitch, 2));
        for _ in 0..2 {
            let asked = fabric.ask(apart(1), HERE, &set(number));
            assert_eq!(asked.map(|_| ()), answer, "{glitch:?}");
        }
        // With the last of them it is over.
        let after = if is_done { number } else { before };
        assert_eq!(told(&mut fabric), after, "{glitch:?}");
        // And it ends before, where somebody mends it.
        hit(&mut fabric, apart(1), errs(glitch, 100));
        hit(&mut fabric, apart(1), Fault::InterfaceHeals(HERE));
        assert_eq!(told(&mut fabric), after, "{glitch:?}");
    }
}

#[test]
fn an_answer_comes_twice_or_late_and_the_command_is_done_once() {
    let mut fabric = fabric(1, |_| {});
    let identify = Request::Identify(Empty);
    let good = send(&mut fabric, &identify);
    hit(&mut fabric, apart(1), errs(Glitch::AnsweredTwice, 1));
    let twice = send(&mut fabric, &identify);
    assert_eq!(twice, [good.clone(), good.clone()].concat());
    let later = apart(3);
    hit(&mut fabric, apart(1), errs(Glitch::AnsweredLate(later), 1));
    let [Effect::Deferred { due, number }] = send(&mut fabric, &set(9))[..] else {
        panic!("it is late");
    };
    assert_eq!(due, apart(4));
    assert!(fabric.is_to_come(due, number));
    assert_eq!(told(&mut fabric), 9, "it is done at once");
    assert_eq!(fabric.next_due(), Some(apart(4)));
    assert_eq!(fabric.advance(Picos::new(apart(4).get() - 1)), []);
    let effects = fabric.advance(apart(4));
    let [
        Effect::Late {
            cci: HERE,
            number: late,
            answer,
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(*late, number);
    assert!(!fabric.is_to_come(due, number));
    let answer = Message::decode(answer).unwrap();
    assert_eq!(answer.return_code, ReturnCode::Success);
}

#[test]
fn a_payload_that_is_cut_is_no_message() {
    let mut fabric = fabric(1, |_| {});
    hit(&mut fabric, apart(1), errs(Glitch::AnswerCut(20), 1));
    let asked = fabric.ask(apart(1), HERE, &Request::Identify(Empty));
    assert_eq!(asked, Err(Asked::Garbled));
    // One that is longer than the answer cuts nothing.
    hit(&mut fabric, apart(1), errs(Glitch::AnswerCut(2_000), 1));
    assert!(
        fabric
            .ask(apart(1), HERE, &Request::Identify(Empty))
            .is_ok()
    );
}

#[test]
fn what_hangs_in_the_background_ends_when_it_heals() {
    let mut fabric = fabric(1, |_| {});
    let status = |fabric: &mut Fabric, now| {
        let asked = Request::BackgroundOperationStatus(Empty);
        match fabric.ask(now, HERE, &asked) {
            Ok(Response::BackgroundOperationStatus(status)) => status.status,
            other => panic!("{other:?}"),
        }
    };
    let sanitize = Request::Sanitize(Empty);
    let day = Picos::from_nanos(86_400_000_000_000);
    // Whether it hangs while it goes on, or from its beginning.
    for (number, is_before) in [(1, true), (2, false)] {
        let now = day.times(number * 10);
        if is_before {
            hit(&mut fabric, now, Fault::BackgroundHangs(HERE));
        }
        assert_eq!(fabric.ask(now, HERE, &sanitize), Err(Asked::Begun));
        if !is_before {
            hit(&mut fabric, now, Fault::BackgroundHangs(HERE));
        }
        assert_eq!(fabric.next_due(), None);
        let later = now.saturating_add(day);
        assert_eq!(status(&mut fabric, later), 99 << 1 | 1);
        let busy = Err(Asked::Refused(ReturnCode::Busy));
        assert_eq!(fabric.ask(later, HERE, &sanitize), busy);
        hit(&mut fabric, later, Fault::InterfaceHeals(HERE));
        let end = later.saturating_add(Picos::new(1));
        assert_eq!(status(&mut fabric, end), 100 << 1);
    }
}

/// 256 MiB of the first region of logical device 0.
fn add(tag: u8) -> Request {
    Request::InitiateAdd(InitiateAddRequest {
        host_id: LdId(0),
        selection_policy: SelectionPolicy::Contiguous,
        region_number: 0,
        length: 256 * MIB,
        tag: Tag([tag; 16]),
        extents: None,
    })
}

#[test]
fn a_list_that_changes_while_it_is_read_has_another_generation() {
    let mut fabric = fabric(4, |_| {});
    let device = fabric.memdev_mut(DEVICE).unwrap();
    let what = Selection::Contiguous(256 * MIB);
    let offered = device
        .add(Picos::ZERO, (LdId(0), 0), &what, Tag([1; 16]))
        .unwrap();
    let spans: Vec<_> = offered.iter().map(|extent| extent.span).collect();
    device.answer(Picos::ZERO, LdId(0), &spans).unwrap();
    let list = |fabric: &mut Fabric| {
        let asked = Request::GetDcExtentList(GetDcExtentListRequest {
            extent_count: 9,
            starting_extent_index: 0,
        });
        match fabric.ask(apart(1), HERE, &asked) {
            Ok(Response::GetDcExtentList(list)) => (list.extent_list_generation, list.extents),
            other => panic!("{other:?}"),
        }
    };
    let before = list(&mut fabric);
    let (memdev, ld) = (DEVICE, LdId(0));
    hit(&mut fabric, apart(1), Fault::ListChanges { memdev, ld });
    let after = list(&mut fabric);
    assert_eq!(after.0, before.0 + 1);
    assert_eq!(after.1, before.1);
    assert_eq!(list(&mut fabric), after, "it changes once");
}

#[test]
fn a_log_that_takes_nothing_has_managers_try_again_and_tells_that_it_overflowed() {
    let mut fabric = fabric(4, |_| {});
    let (memdev, ld, now) = (DEVICE, LdId(0), apart(1));
    assert!(fabric.ask(now, MANAGER, &add(1)).is_ok());
    hit(&mut fabric, now, Fault::LogFills { memdev, ld });
    let again = Err(Asked::Refused(ReturnCode::RetryRequired));
    assert_eq!(fabric.ask(now, MANAGER, &add(2)), again);
    hit(&mut fabric, now, Fault::MemdevHeals(MemdevId(0)));
    assert!(fabric.ask(now, MANAGER, &add(2)).is_ok());
    // What is taken by force is gone, whether the host can be told or not.
    hit(&mut fabric, now, Fault::LogFills { memdev, ld });
    let device = fabric.memdev_mut(memdev).unwrap();
    let all = fabric_emu::capacity::Removal::Tagged {
        tag: Tag([1; 16]),
        bytes: 256 * MIB,
    };
    device.remove(now, ld, &all, (true, false)).unwrap();
    let events = Request::GetEventRecords(GetEventRecordsRequest {
        event_log: EventLog::DynamicCapacity,
    });
    match fabric.ask(now, HERE, &events) {
        Ok(Response::GetEventRecords(told)) => {
            assert_ne!(told.flags & GetEventRecordsResponse::OVERFLOW, 0);
            assert_eq!(told.overflow_error_count, 1);
            assert_eq!(told.records.len(), 2);
        }
        other => panic!("{other:?}"),
    }
}

/// A tag that is taken is refused, as everything that a manager may do wrong.
#[test]
fn a_manager_that_takes_a_tag_again_or_has_no_addresses_left_is_refused() {
    let mut fabric = fabric(4, |topology| {
        topology.memdevs[0].regions[0].length = pool_core::Bytes::new(512 * MIB);
    });
    let now = apart(1);
    assert!(fabric.ask(now, MANAGER, &add(1)).is_ok());
    let collides = Err(Asked::Refused(ReturnCode::InvalidInput));
    assert_eq!(fabric.ask(now, MANAGER, &add(1)), collides);
    assert!(fabric.ask(now, MANAGER, &add(2)).is_ok());
    let full = Err(Asked::Refused(ReturnCode::ResourcesExhausted));
    assert_eq!(fabric.ask(now, MANAGER, &add(3)), full);
}

#[test]
fn a_late_answer_never_comes_to_who_is_dead_or_out_of_reach_by_then_and_so_many_are_kept() {
    let port = Port {
        node: Node::Host(HostId(0)),
        port: PortId(0),
    };
    let stall = Fault::LinkStalls {
        port,
        direction: Direction::Up,
        longer: None,
    };
    for fault in [
        Fault::HostDies(HostId(0)),
        Fault::MemdevVanishes(DEVICE),
        Fault::LinkFails(port),
        stall,
    ] {
        let mut fabric = fabric(1, |_| {});
        hit(
            &mut fabric,
            apart(1),
            errs(Glitch::AnsweredLate(apart(3)), 1),
        );
        send(&mut fabric, &set(9));
        fabric.step(apart(2), &Event::Fault(fault));
        let effects = fabric.advance(apart(9));
        let is_late = |it: &Effect| matches!(it, Effect::Late { .. });
        assert!(!effects.iter().any(is_late), "{fault:?}: {effects:?}");
    }
    let mut fabric = fabric(1, |_| {});
    let glitch = Glitch::AnsweredLate(apart(3));
    hit(&mut fabric, apart(1), errs(glitch, 100));
    let sent: Vec<_> = (0..100).flat_map(|_| send(&mut fabric, &set(9))).collect();
    let deferred = |it: &&Effect| matches!(it, Effect::Deferred { .. });
    assert_eq!(sent.iter().filter(deferred).count(), 64);
    assert_eq!(sent.iter().filter(|it| **it == Effect::Dropped).count(), 36);
    assert_eq!(fabric.advance(apart(9)).len(), 64);
}
