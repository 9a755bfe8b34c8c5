//! What every component answers.

use fabric_emu::cci::event_records::{
    DramEvent, DynamicCapacityEvent, DynamicCapacityEventType, EventBody, EventHeader, EventRecord,
    GeneralMediaEvent, MemoryModuleEvent,
};
use fabric_emu::cci::events::{
    ClearEventRecordsRequest, EventInterruptPolicy, EventLog, GetEventRecordsRequest,
    GetEventRecordsResponse, Severities,
};
use fabric_emu::cci::generic::{
    BackgroundOperationStatus, Empty, IdentifyResponse, ResponseMessageLimit, Timestamp,
};
use fabric_emu::cci::logs::{
    CommandEffect, GetLogRequest, GetLogResponse, GetSupportedLogsResponse, SupportedLog, Uuid,
};
use fabric_emu::cci::memdev::HealthInfo;
use fabric_emu::cci::{DpaExtent, Request, Response, ReturnCode, Tag, U24, Wire};
use fabric_emu::id::LdId;

use crate::{counting, hex, list, request, request_cut, response, response_cut};

#[test]
fn identify() {
    request(0x0001, "", &Request::Identify(Empty));
    response(
        0x0001,
        "8680
         930d
         0201
         0403
         8877665544332211
         09
         03",
        &Response::Identify(IdentifyResponse {
            vendor_id: 0x8086,
            device_id: 0x0d93,
            subsystem_vendor_id: 0x0102,
            subsystem_id: 0x0304,
            serial_number: 0x1122_3344_5566_7788,
            maximum_message_size: 9,
            component_type: IdentifyResponse::TYPE_3,
        }),
    );
}

#[test]
fn background_operation_status() {
    request(0x0002, "", &Request::BackgroundOperationStatus(Empty));
    response(
        0x0002,
        "65
         00
         0044
         0100
         cdab",
        &Response::BackgroundOperationStatus(BackgroundOperationStatus {
            status: 50 << 1 | 1,
            opcode: 0x4400,
            return_code: ReturnCode::BackgroundCommandStarted,
            vendor_status: 0xabcd,
        }),
    );
}

#[test]
fn response_message_limits() {
    let limit = ResponseMessageLimit { limit: 0x0c };
    request(0x0003, "", &Request::GetResponseMessageLimit(Empty));
    response(
        0x0003,
        "0c",
        &Response::GetResponseMessageLimit(limit.clone()),
    );
    request(
        0x0004,
        "0c",
        &Request::SetResponseMessageLimit(limit.clone()),
    );
    response(0x0004, "0c", &Response::SetResponseMessageLimit(limit));
}

#[test]
fn request_abort_background_operation() {
    request(0x0005, "", &Request::RequestAbortBackgroundOperation(Empty));
    response(
        0x0005,
        "",
        &Response::RequestAbortBackgroundOperation(Empty),
    );
}

fn header(length: u8) -> EventHeader {
    EventHeader {
        length,
        flags: U24::new(0x0000_01c6).expect("three bytes"),
        handle: 0x0102,
        related_handle: 0x0304,
        timestamp_ns: 0x1112_1314_1516_1718,
        maintenance_operation_class: 0x21,
        maintenance_operation_subclass: 0x22,
        ld_id: LdId(0x0005),
        head_id: 0x06,
    }
}

/// After the UUID: length, flags, handle, related handle, timestamp, class, subclass, LD, head, and
/// 11 reserved bytes.
const HEADER: &str = "
    80 c60100 0201 0403
    1817161514131211
    21 22 0500 06 0000000000000000000000";

const DYNAMIC_CAPACITY: &str = "
    00
    01
    0500
    07
    01
    0000
    0000001000000000 0000002000000000 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 0100 000000000000
    000000000000000000000000000000000000000000000000
    40302010
    44332211";

fn dynamic_capacity() -> EventRecord {
    EventRecord {
        header: header(0x80),
        body: EventBody::DynamicCapacity(DynamicCapacityEvent {
            event_type: DynamicCapacityEventType::AddCapacity,
            validity_flags: 0x01,
            host_id: LdId(0x0005),
            updated_region_index: 0x07,
            flags: DynamicCapacityEvent::MORE,
            extent: DpaExtent {
                start_dpa: 0x1000_0000,
                length: 0x2000_0000,
                tag: Tag(counting(0xa0)),
                shared_extent_sequence: 1,
            },
            available_extents: 0x1020_3040,
            available_tags: 0x1122_3344,
        }),
    }
}

#[track_caller]
fn record(uuid: &str, body: &str, value: &EventRecord) {
    let bytes = hex(&[uuid, HEADER, body].concat());
    assert_eq!(bytes.len(), EventRecord::BYTES);
    assert_eq!(EventRecord::decode(&bytes).as_ref(), Ok(value));
    assert_eq!(value.encode(), bytes);
    for length in 0..bytes.len() {
        assert!(
            EventRecord::decode(&bytes[..length]).is_err(),
            "cut to {length}"
        );
    }
}

#[test]
fn dynamic_capacity_record() {
    record(
        "ca95afa7f18340188c2f95268e101a2a",
        DYNAMIC_CAPACITY,
        &dynamic_capacity(),
    );
}

#[test]
fn general_media_record() {
    record(
        "fbcd0a77c260417f85a9088b1621eba6",
        "4000001000000000
         05 01 04
         0f00
         02 03
         060504
         101112131415161718191a1b1c1d1e1f
         01
         332211
         09
         00000000000000000000000000000000000000000000000000000000000000000000000000000000
         00",
        &EventRecord {
            header: header(0x80),
            body: EventBody::GeneralMedia(GeneralMediaEvent {
                physical_address: 0x1000_0040,
                memory_event_descriptor: 0x05,
                memory_event_type: 0x01,
                transaction_type: 0x04,
                validity_flags: 0x000f,
                channel: 0x02,
                rank: 0x03,
                device: U24::new(0x0004_0506).expect("three bytes"),
                component_identifier: counting(0x10),
                threshold_event_flags: 0x01,
                corrected_error_count: U24::new(0x0011_2233).expect("three bytes"),
                memory_event_subtype: 0x09,
            }),
        },
    );
}

#[test]
fn dram_record() {
    record(
        "601dcbb39c064eabb8af4e9bfb5c9624",
        "4000001000000000
         01 02 03
         ff01
         04 05
         080706
         09 0a
         0d0c0b
         0f0e
         202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f
         101112131415161718191a1b1c1d1e1f
         11
         12
         151413
         16
         00",
        &EventRecord {
            header: header(0x80),
            body: EventBody::Dram(DramEvent {
                physical_address: 0x1000_0040,
                memory_event_descriptor: 0x01,
                memory_event_type: 0x02,
                transaction_type: 0x03,
                validity_flags: 0x01ff,
                channel: 0x04,
                rank: 0x05,
                nibble_mask: U24::new(0x0006_0708).expect("three bytes"),
                bank_group: 0x09,
                bank: 0x0a,
                row: U24::new(0x000b_0c0d).expect("three bytes"),
                column: 0x0e0f,
                correction_mask: counting(0x20),
                component_identifier: counting(0x10),
                sub_channel: 0x11,
                threshold_event_flags: 0x12,
                corrected_volatile_error_count: U24::new(0x0013_1415).expect("three bytes"),
                memory_event_subtype: 0x16,
            }),
        },
    );
}

#[test]
fn memory_module_record() {
    record(
        "fe927475dd594339a58679bab113bc74",
        "02
         01 00 04 2a 1e00 04030201 08070605 0c0b0a09
         0300
         101112131415161718191a1b1c1d1e1f
         05
         00000000000000000000000000000000000000000000000000000000000000000000000000000000
         0000",
        &EventRecord {
            header: header(0x80),
            body: EventBody::MemoryModule(MemoryModuleEvent {
                device_event_type: 0x02,
                device_health: HealthInfo {
                    health_status: 0x01,
                    media_status: 0x00,
                    additional_status: 0x04,
                    life_used: 42,
                    device_temperature: 30,
                    dirty_shutdown_count: 0x0102_0304,
                    corrected_volatile_error_count: 0x0506_0708,
                    corrected_persistent_error_count: 0x090a_0b0c,
                },
                validity_flags: 0x0003,
                component_identifier: counting(0x10),
                device_event_subtype: 0x05,
            }),
        },
    );
}

#[test]
fn a_record_of_another_kind_keeps_its_bytes() {
    let data: [u8; 0x50] = counting(0);
    let text: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    record(
        "77cf92719c02470b9fe4bc7b75f2da97",
        &text,
        &EventRecord {
            header: header(0x80),
            body: EventBody::Other {
                uuid: Uuid(hex("77cf92719c02470b9fe4bc7b75f2da97").try_into().unwrap()),
                data,
            },
        },
    );
}

#[test]
fn event_records() {
    request(
        0x0100,
        "04",
        &Request::GetEventRecords(GetEventRecordsRequest {
            event_log: EventLog::DynamicCapacity,
        }),
    );
    let head = "
        03 00
        0700
        0807060504030201
        1817161514131211
        0100
        00000000000000000000";
    response(
        0x0100,
        &[
            head,
            "ca95afa7f18340188c2f95268e101a2a",
            HEADER,
            DYNAMIC_CAPACITY,
        ]
        .concat(),
        &Response::GetEventRecords(GetEventRecordsResponse {
            flags: GetEventRecordsResponse::OVERFLOW | GetEventRecordsResponse::MORE,
            overflow_error_count: 7,
            first_overflow_timestamp_ns: 0x0102_0304_0506_0708,
            last_overflow_timestamp_ns: 0x1112_1314_1516_1718,
            records: list(vec![dynamic_capacity()]),
        }),
    );
}

#[test]
fn clear_event_records() {
    request(
        0x0101,
        "02
         00
         02
         000000
         0201 0403",
        &Request::ClearEventRecords(ClearEventRecordsRequest {
            event_log: EventLog::Failure,
            clear_event_flags: 0,
            handles: list(vec![0x0102, 0x0304]),
        }),
    );
    request(
        0x0101,
        "00 01 00 000000",
        &Request::ClearEventRecords(ClearEventRecordsRequest {
            event_log: EventLog::Informational,
            clear_event_flags: ClearEventRecordsRequest::CLEAR_ALL,
            handles: list(vec![]),
        }),
    );
    response(0x0101, "", &Response::ClearEventRecords(Empty));
}

#[test]
fn event_interrupt_policies() {
    let severities = Severities {
        informational: 0x11,
        warning: 0x21,
        failure: 0x31,
        fatal: 0x02,
    };
    let old = EventInterruptPolicy {
        severities: severities.clone(),
        dynamic_capacity: None,
    };
    let new = EventInterruptPolicy {
        severities,
        dynamic_capacity: Some(0x01),
    };
    request(0x0102, "", &Request::GetEventInterruptPolicy(Empty));
    let answer = Response::GetEventInterruptPolicy(old.clone());
    response_cut(0x0102, "11 21 31 02", &answer, &[5]);
    let answer = Response::GetEventInterruptPolicy(new.clone());
    response_cut(0x0102, "11 21 31 02 01", &answer, &[4]);
    let bytes = hex("11 21 31 02");
    let set = Request::SetEventInterruptPolicy(old);
    assert_eq!(Request::decode(0x0103, &bytes).as_ref(), Ok(&set));
    assert_eq!(set.encode(), (0x0103, bytes));
    request_cut(
        0x0103,
        "11 21 31 02 01",
        &Request::SetEventInterruptPolicy(new),
        &[4],
    );
    response(0x0103, "", &Response::SetEventInterruptPolicy(Empty));
}

#[test]
fn timestamps() {
    let time = Timestamp {
        timestamp_ns: 0x0102_0304_0506_0708,
    };
    request(0x0300, "", &Request::GetTimestamp(Empty));
    response(
        0x0300,
        "0807060504030201",
        &Response::GetTimestamp(time.clone()),
    );
    request(0x0301, "0807060504030201", &Request::SetTimestamp(time));
    response(0x0301, "", &Response::SetTimestamp(Empty));
}

#[test]
fn logs() {
    request(0x0400, "", &Request::GetSupportedLogs(Empty));
    response(
        0x0400,
        "0100
         000000000000
         0da9c0b5bf414b788f7996b1623b3f17 b4000000",
        &Response::GetSupportedLogs(GetSupportedLogsResponse {
            entries: list(vec![SupportedLog {
                log_identifier: Uuid::COMMAND_EFFECTS_LOG,
                log_size: 45 * 4,
            }]),
        }),
    );
    request(
        0x0401,
        "0da9c0b5bf414b788f7996b1623b3f17
         04000000
         08000000",
        &Request::GetLog(GetLogRequest {
            log_identifier: Uuid::COMMAND_EFFECTS_LOG,
            offset: 4,
            length: 8,
        }),
    );
    response_cut(
        0x0401,
        "0100 0000 0044 4400",
        &Response::GetLog(GetLogResponse {
            data: list(hex("0100 0000 0044 4400")),
        }),
        &[0, 1, 2, 3, 4, 5, 6, 7, 9],
    );
}

#[test]
fn command_effects() {
    let sanitize = CommandEffect {
        opcode: 0x4400,
        effect: 0x0044,
    };
    assert_eq!(
        CommandEffect::decode(&hex("0044 4400")).as_ref(),
        Ok(&sanitize)
    );
    assert_eq!(sanitize.encode(), hex("0044 4400"));
}
