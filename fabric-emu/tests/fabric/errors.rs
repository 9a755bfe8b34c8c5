//! Who is told of errors of a memory device.

use fabric_emu::cci::event_records::EventBody;
use fabric_emu::cci::events::{EventLog, GetEventRecordsRequest};
use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::poison::{GetPoisonListRequest, InjectPoisonRequest, Line};
use fabric_emu::cci::{Request, Response};
use fabric_emu::fabric::{AccessError, Cci, Effect, Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId};
use fabric_emu::memdev::{CORRECTED_MOST, ERROR_LOG};
use pool_core::units::GIB;

use super::rig::{DEVICE, apart, at, fabric};

const MANAGER: Cci = Cci::Memdev(DEVICE);

fn mailbox(host: u16) -> Cci {
    Cci::Mailbox {
        host: HostId(host),
        memdev: DEVICE,
        ld: LdId(host),
    }
}

fn hit(fabric: &mut Fabric, fault: Fault) {
    let effects = fabric.step(apart(1), &Event::Fault(fault));
    assert_eq!(effects, [Effect::Done], "{fault:?}");
}

/// The addresses and transactions of the media records of a log.
fn told(fabric: &mut Fabric, cci: Cci, event_log: EventLog) -> Vec<(u64, u8)> {
    let asked = Request::GetEventRecords(GetEventRecordsRequest { event_log });
    let Ok(Response::GetEventRecords(told)) = fabric.ask(apart(1), cci, &asked) else {
        panic!("it is told");
    };
    let media = told.records.iter().filter_map(|it| match &it.body {
        EventBody::GeneralMedia(media) => {
            Some((media.physical_address & !63, media.transaction_type))
        }
        _ => None,
    });
    media.collect()
}

#[test]
fn who_has_a_bad_line_is_told_of_it_by_its_address_there_and_of_nobodys_the_manager() {
    let mut fabric = fabric(2, |_| {});
    let scrubs = |physical, lines| Fault::MemdevScrubs {
        memdev: DEVICE,
        physical,
        lines,
    };
    // Each of the two has a half of what is fixed, and the dynamic memory behind it is nobody's.
    hit(&mut fabric, scrubs(64, 2));
    let fixed = fabric.memdev(DEVICE).unwrap().fixed_bytes();
    let lds = u64::from(fabric.memdev(DEVICE).unwrap().kind().logical_devices());
    let each = fixed / lds;
    hit(&mut fabric, scrubs(each, 1));
    hit(&mut fabric, scrubs(fixed, 1));
    assert_eq!(
        told(&mut fabric, mailbox(0), EventLog::Failure),
        [(64, 5), (128, 5)]
    );
    assert_eq!(told(&mut fabric, mailbox(1), EventLog::Failure), [(0, 5)]);
    assert_eq!(told(&mut fabric, MANAGER, EventLog::Failure), [(fixed, 5)]);
    // They are listed as poisoned as well, and read as errors.
    let asked = GetPoisonListRequest {
        physical_address: 0,
        physical_address_length: each / 64,
    };
    let listed = fabric.ask(apart(1), mailbox(0), &Request::GetPoisonList(asked));
    let Ok(Response::GetPoisonList(listed)) = listed else {
        panic!("it is listed");
    };
    assert_eq!(listed.records.len(), 2);
    for _ in 0..2 {
        let (host, address) = (HostId(0), at(1));
        let read = fabric.step(apart(1), &Event::Load { host, address });
        assert_eq!(read, [Effect::Failed(AccessError::Poisoned)]);
    }
    let failures = told(&mut fabric, mailbox(0), EventLog::Failure);
    assert_eq!(failures, [(64, 5), (128, 5), (64, 1), (64, 1)]);
}

#[test]
fn a_poisoned_line_is_listed_with_what_had_it_be_so() {
    let mut fabric = fabric(1, |_| {});
    let memdev = DEVICE;
    hit(
        &mut fabric,
        Fault::MemdevScrubs {
            memdev,
            physical: 0,
            lines: 2,
        },
    );
    let inject = |fabric: &mut Fabric, address| {
        let physical_address = Line::at(address).unwrap();
        let inject = Request::InjectPoison(InjectPoisonRequest { physical_address });
        fabric.ask(apart(1), mailbox(0), &inject).unwrap();
    };
    // A line that is poisoned already stays as it was found.
    for address in [64, 128] {
        inject(&mut fabric, address);
    }
    for physical in [192, 256] {
        hit(&mut fabric, Fault::Poison { memdev, physical });
        hit(&mut fabric, Fault::PoisonStays { memdev, physical });
    }
    let list = |fabric: &mut Fabric| -> Vec<u64> {
        let asked = GetPoisonListRequest {
            physical_address: 0,
            physical_address_length: 8,
        };
        match fabric.ask(apart(1), mailbox(0), &Request::GetPoisonList(asked)) {
            Ok(Response::GetPoisonList(list)) => list
                .records
                .iter()
                .map(|it| it.media_error_address)
                .collect(),
            other => panic!("{other:?}"),
        }
    };
    // Within the device, injected, unknown.
    assert_eq!(list(&mut fabric), [2, 64 | 2, 128 | 3, 192, 256]);
    // Once it is good it is poisoned anew.
    for physical in [64, 256] {
        hit(&mut fabric, Fault::PoisonHeals { memdev, physical });
        inject(&mut fabric, physical);
    }
    assert_eq!(list(&mut fabric), [2, 64 | 3, 128 | 3, 192, 256 | 3]);
}

#[test]
fn a_scrub_of_what_is_not_there_fails_and_poisons_nothing() {
    let mut fabric = fabric(1, |_| {});
    let bytes = fabric.memdev(DEVICE).unwrap().bytes();
    for (physical, lines) in [
        (bytes, 1),
        (bytes - 64, 2),
        (u64::MAX, 1),
        (u64::MAX - 63, 9),
    ] {
        let fault = Fault::MemdevScrubs {
            memdev: DEVICE,
            physical,
            lines,
        };
        let effects = fabric.step(apart(1), &Event::Fault(fault));
        assert_eq!(effects, [Effect::Failed(AccessError::Unreachable)]);
    }
    let media = fabric.memdev(DEVICE).unwrap().media();
    let all = fabric_emu::span::Span::new(0, 256 * GIB).unwrap();
    assert_eq!(media.poisoned(all).count(), 0);
}

#[test]
fn a_scrub_that_finds_more_than_the_device_lists_fails_and_nothing_is_lost_or_told() {
    let mut fabric = fabric(1, |_| {});
    let scrub = |fabric: &mut Fabric, physical, lines| {
        let memdev = DEVICE;
        let fault = Fault::MemdevScrubs {
            memdev,
            physical,
            lines,
        };
        fabric.step(apart(1), &Event::Fault(fault))
    };
    let listed = |fabric: &Fabric| {
        let media = fabric.memdev(DEVICE).unwrap().media();
        let all = fabric_emu::span::Span::new(0, 256 * GIB).unwrap();
        media.poisoned(all).count()
    };
    let no_room = [Effect::Failed(AccessError::NoRoom)];
    for lines in [1_025, u16::MAX] {
        assert_eq!(scrub(&mut fabric, 0, lines), no_room);
        assert_eq!(listed(&fabric), 0);
    }
    assert_eq!(scrub(&mut fabric, 0, 1_000), [Effect::Done]);
    assert_eq!(scrub(&mut fabric, 1 << 20, 25), no_room);
    assert_eq!(listed(&fabric), 1_000);
    let count = |fabric: &mut Fabric| {
        let event_log = EventLog::Failure;
        let asked = Request::GetEventRecords(GetEventRecordsRequest { event_log });
        match fabric.ask(apart(1), mailbox(0), &asked) {
            Ok(Response::GetEventRecords(told)) => told.overflow_error_count,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count(&mut fabric), 1_000 - 128);
    // What is listed already needs no room, and the rest fits.
    assert_eq!(scrub(&mut fabric, 64 * 976, 48), [Effect::Done]);
    assert_eq!(listed(&fabric), 1_024);
    let (memdev, physical) = (DEVICE, 1 << 30);
    for fault in [
        Fault::Poison { memdev, physical },
        Fault::PoisonStays { memdev, physical },
    ] {
        let failed = fabric.step(apart(1), &Event::Fault(fault));
        assert_eq!(failed, no_room);
    }
    assert_eq!(listed(&fabric), 1_024);
    assert_eq!(count(&mut fabric), 1_000 - 128 + 48);
}

#[test]
fn the_health_and_the_sizes_of_logs_are_those_that_records_have() {
    let mut fabric = fabric(1, |_| {});
    let what = fabric.ask(apart(1), mailbox(0), &Request::IdentifyMemoryDevice(Empty));
    let Ok(Response::IdentifyMemoryDevice(what)) = what else {
        panic!("it tells");
    };
    for size in [
        what.informational_event_log_size,
        what.warning_event_log_size,
        what.failure_event_log_size,
        what.fatal_event_log_size,
    ] {
        assert_eq!(usize::from(size), ERROR_LOG);
    }
    let mut status = |errors| {
        hit(
            &mut fabric,
            Fault::MemdevCorrects {
                memdev: DEVICE,
                ld: LdId(0),
                errors,
            },
        );
        let how = fabric.ask(apart(1), mailbox(0), &Request::GetHealthInfo(Empty));
        let Ok(Response::GetHealthInfo(how)) = how else {
            panic!("it tells");
        };
        how.additional_status
    };
    assert_eq!(status(CORRECTED_MOST - 1), 0);
    assert_eq!(status(0), 0);
    assert_eq!(status(1), 0x10);
    hit(&mut fabric, Fault::MemdevHeals(DEVICE));
    let how = fabric.ask(apart(1), mailbox(0), &Request::GetHealthInfo(Empty));
    assert!(matches!(how, Ok(Response::GetHealthInfo(how)) if how.additional_status == 0));
}
