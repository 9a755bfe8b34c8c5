//! What the logs of a fabric tell of errors, byte by byte: 0100h of a mailbox, as the tables of
//! General Media and Memory Module Event Records have it. Types and transactions are those that
//! Linux names, after the tables of 3.1; the flag of a threshold was compared with it as well.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use fabric_emu::capacity::Selection;
use fabric_emu::cci::event_records::EventBody;
use fabric_emu::cci::events::{
    ClearEventRecordsRequest, EventLog, GetEventRecordsRequest, GetEventRecordsResponse,
};
use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::poison::{InjectPoisonRequest, Line};
use fabric_emu::cci::{Message, Request, Response, ReturnCode, Tag};
use fabric_emu::fabric::{Asked, Cci, Effect, Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::switch::Bound;
use fabric_emu::timing::Picos;
use fabric_emu::topology::{Region, Topology};

use super::{hex, list};

const POOL: MemdevId = MemdevId(0);
const HERE: Cci = Cci::Mailbox {
    host: HostId(0),
    memdev: POOL,
    ld: LdId(0),
};
/// 7,000 nanoseconds, 1b58h.
const NOW: Picos = Picos::from_nanos(7_000);

/// Nothing was lost; one record.
const ONE: &str = "
    00 00
    0000
    0000000000000000
    0000000000000000
    0100
    00000000000000000000";
const MEDIA: &str = "fbcd0a77c260417f85a9088b1621eba6";
const MODULE: &str = "fe927475dd594339a58679bab113bc74";
/// After the flags of a record that is the first of its log.
const FIRST: &str = "
    0100 0000
    581b000000000000
    00 00 0000 00 0000000000000000000000";
/// After the transaction type, where nothing is known and nothing counted.
const NOWHERE: &str = "
    0000
    00 00
    000000
    00000000000000000000000000000000
    00
    000000
    00
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000";

fn fabric() -> Fabric {
    let mut topology = Topology::named("expander").unwrap();
    topology.memdevs[0].fixed = pool_core::Bytes::new(1 << 30);
    Fabric::new(&topology, 1).unwrap()
}

fn hit(fabric: &mut Fabric, fault: Fault) {
    let effects = fabric.step(NOW, &Event::Fault(fault));
    assert_eq!(effects, [Effect::Done], "{fault:?}");
}

fn payload(fabric: &mut Fabric, event_log: EventLog) -> Vec<u8> {
    let asked = Request::GetEventRecords(GetEventRecordsRequest { event_log });
    let message = Message::request(1, &asked).unwrap().encode();
    match &fabric.step(NOW, &Event::Command { cci: HERE, message })[..] {
        [Effect::Answer(answer)] => Message::decode(answer).unwrap().payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn records(fabric: &mut Fabric, event_log: EventLog) -> GetEventRecordsResponse {
    let asked = Request::GetEventRecords(GetEventRecordsRequest { event_log });
    match fabric.ask(NOW, HERE, &asked) {
        Ok(Response::GetEventRecords(told)) => told,
        other => panic!("{other:?}"),
    }
}

fn clear(
    fabric: &mut Fabric,
    event_log: EventLog,
    clear_event_flags: u8,
    handles: &[u16],
) -> Result<Response, Asked> {
    let clear = ClearEventRecordsRequest {
        event_log,
        clear_event_flags,
        handles: list(handles.to_vec()),
    };
    fabric.ask(NOW, HERE, &Request::ClearEventRecords(clear))
}

fn scrubs(lines: u16) -> Fault {
    Fault::MemdevScrubs {
        memdev: POOL,
        physical: 0x1000,
        lines,
    }
}

fn corrects(errors: u32) -> Fault {
    Fault::MemdevCorrects {
        memdev: POOL,
        ld: LdId(0),
        errors,
    }
}

#[test]
fn a_line_that_a_scrub_finds_is_in_the_failure_log() {
    let mut fabric = fabric();
    hit(&mut fabric, scrubs(1));
    let expected = [
        ONE,
        MEDIA,
        "80 820000",
        FIRST,
        "0110000000000000
         01 04 05",
        NOWHERE,
    ];
    assert_eq!(
        payload(&mut fabric, EventLog::Failure),
        hex(&expected.concat())
    );
}

#[test]
fn a_line_that_is_poisoned_by_a_command_or_a_fault_is_in_the_informational_log() {
    for (transaction, is_command) in [("04", true), ("00", false)] {
        let mut fabric = fabric();
        if is_command {
            let physical_address = Line::at(0x1000).unwrap();
            let inject = Request::InjectPoison(InjectPoisonRequest { physical_address });
            fabric.ask(NOW, HERE, &inject).unwrap();
        } else {
            hit(
                &mut fabric,
                Fault::Poison {
                    memdev: POOL,
                    physical: 0x1001,
                },
            );
        }
        let expected = [
            ONE,
            MEDIA,
            "80 800000",
            FIRST,
            "0110000000000000
             01 00",
            transaction,
            NOWHERE,
        ];
        assert_eq!(
            payload(&mut fabric, EventLog::Informational),
            hex(&expected.concat())
        );
    }
}

#[test]
fn corrected_errors_are_told_with_their_count_and_are_a_warning_from_the_threshold_on() {
    let mut fabric = fabric();
    hit(&mut fabric, corrects(3));
    let media = |descriptor: &str, flags: &str, count: &str| {
        let rest = "00".repeat(41);
        format!(
            "0100000000000000
             {descriptor} 00 00
             0000 00 00 000000 00000000000000000000000000000000
             {flags} {count} 00 {rest}"
        )
    };
    let few = media("00", "00", "030000");
    let expected = [ONE, MEDIA, "80 800000", FIRST, &few].concat();
    assert_eq!(
        payload(&mut fabric, EventLog::Informational),
        hex(&expected)
    );

    hit(&mut fabric, corrects(997));
    let head = ONE.replace("0100\n", "0200\n");
    let much = media("02", "02", "e80300");
    let second = FIRST.replace("0100 0000", "0200 0000");
    let module = format!(
        "00
         00 00 10 00 1900 00000000 e8030000 00000000
         0000
         00000000000000000000000000000000
         00 {}",
        "00".repeat(42)
    );
    let expected = [
        &head,
        MEDIA,
        "80 810000",
        FIRST,
        &much,
        MODULE,
        "80 810000",
        &second,
        &module,
    ];
    assert_eq!(
        payload(&mut fabric, EventLog::Warning),
        hex(&expected.concat())
    );
    // That the threshold was reached is told once.
    hit(&mut fabric, corrects(u32::MAX));
    assert_eq!(records(&mut fabric, EventLog::Warning).records.len(), 3);
    assert_eq!(
        records(&mut fabric, EventLog::Informational).records.len(),
        1
    );
}

#[test]
fn corrected_errors_are_told_at_the_first_address_with_memory_or_not_at_all() {
    let mut topology = Topology::named("expander").unwrap();
    let device = &mut topology.memdevs[0];
    device.fixed = pool_core::Bytes::new(0);
    device.dynamic = pool_core::Bytes::new(1 << 30);
    device.regions = vec![Region {
        length: pool_core::Bytes::new(1 << 30),
        block: pool_core::Bytes::new(1 << 28),
        is_sharable: false,
        is_read_only: false,
        sanitizes: false,
        is_hardware_coherent: false,
    }];
    let mut fabric = Fabric::new(&topology, 1).unwrap();
    let log = EventLog::Informational;
    hit(&mut fabric, corrects(3));
    assert_eq!(records(&mut fabric, log).records.len(), 0);
    let counted = |fabric: &mut Fabric| match fabric.ask(NOW, HERE, &Request::GetHealthInfo(Empty))
    {
        Ok(Response::GetHealthInfo(told)) => told.corrected_volatile_error_count,
        other => panic!("{other:?}"),
    };
    assert_eq!(counted(&mut fabric), 3, "they are counted all the same");
    // The second block, then the first one is released.
    let device = fabric.memdev_mut(POOL).unwrap();
    let spans = [0, 1].map(|number| {
        let what = Selection::Contiguous(1 << 28);
        let offered = device.add(NOW, (LdId(0), 0), &what, Tag([0; 16])).unwrap();
        assert_eq!(offered[0].span.start, number << 28);
        device.answer(NOW, LdId(0), &[offered[0].span]).unwrap();
        offered[0].span
    });
    hit(&mut fabric, corrects(1));
    let device = fabric.memdev_mut(POOL).unwrap();
    device.release(NOW, LdId(0), &spans[..1]).unwrap();
    hit(&mut fabric, corrects(1));
    let told = records(&mut fabric, log);
    let addresses: Vec<u64> = told
        .records
        .iter()
        .map(|record| match &record.body {
            EventBody::GeneralMedia(media) => media.physical_address & !63,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(addresses, [0, 1 << 28]);
}

#[test]
fn a_record_says_that_it_tells_a_logical_device_where_it_does_and_the_managers_does_not() {
    let mut topology = Topology::named("four-hosts").unwrap();
    topology.memdevs[0].fixed = pool_core::Bytes::new(1 << 30);
    let mut fabric = Fabric::new(&topology, 1).unwrap();
    let bound = Bound {
        port: PortId(4),
        ld: Some(LdId(1)),
    };
    let switch = fabric.switch_mut(SwitchId(0)).unwrap();
    switch.bind((VcsId(1), VppbId(0)), bound).unwrap();
    // A quarter is of each, and what is behind all that is nobody's.
    for physical in [1 << 28, 1 << 30] {
        let (memdev, lines) = (POOL, 1);
        let fault = Fault::MemdevScrubs {
            memdev,
            physical,
            lines,
        };
        hit(&mut fabric, fault);
    }
    let second = Cci::Mailbox {
        host: HostId(1),
        memdev: POOL,
        ld: LdId(1),
    };
    for (cci, flags, ld) in [(second, 0x82, 1), (Cci::Memdev(POOL), 0x02, 0)] {
        let event_log = EventLog::Failure;
        let asked = Request::GetEventRecords(GetEventRecordsRequest { event_log });
        let Ok(Response::GetEventRecords(told)) = fabric.ask(NOW, cci, &asked) else {
            panic!("it is told");
        };
        let header = &told.records[0].header;
        assert_eq!((header.flags.get(), header.ld_id), (flags, LdId(ld)));
    }
}

#[test]
fn a_log_of_errors_overflows_and_is_cleared_by_itself() {
    let mut fabric = fabric();
    hit(&mut fabric, corrects(3));
    hit(&mut fabric, scrubs(130));
    let told = records(&mut fabric, EventLog::Failure);
    assert_eq!(told.flags, GetEventRecordsResponse::OVERFLOW);
    assert_eq!(told.overflow_error_count, 2);
    assert_eq!(told.first_overflow_timestamp_ns, 7_000);
    assert_eq!(told.last_overflow_timestamp_ns, 7_000);
    assert_eq!(told.records.len(), 128);
    let refused = |code| Err(Asked::Refused(code));
    for handles in [&[2][..], &[0], &[1, 3], &[129]] {
        let cleared = clear(&mut fabric, EventLog::Failure, 0, handles);
        assert_eq!(cleared, refused(ReturnCode::InvalidHandle), "{handles:?}");
    }
    let all = ClearEventRecordsRequest::CLEAR_ALL;
    for log in [EventLog::Informational, EventLog::Warning, EventLog::Fatal] {
        let cleared = clear(&mut fabric, log, all, &[]);
        assert_eq!(cleared, refused(ReturnCode::InvalidInput), "{log:?}");
    }
    let none = clear(&mut fabric, EventLog::Failure, 0, &[]);
    assert_eq!(none, refused(ReturnCode::InvalidInput));
    assert_eq!(records(&mut fabric, EventLog::Failure), told);
    assert!(clear(&mut fabric, EventLog::Failure, all, &[]).is_ok());
    let told = records(&mut fabric, EventLog::Failure);
    assert_eq!((told.flags, told.records.len()), (0, 0));
    assert!(clear(&mut fabric, EventLog::Informational, 0, &[1]).is_ok());
    assert_eq!(
        records(&mut fabric, EventLog::Informational).records.len(),
        0
    );
}
