//! What memory devices answer, but for dynamic capacity.

use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::logical_devices::{
    GetLdAllocationsRequest, GetLdAllocationsResponse, GetLdInfoResponse, LdAllocation,
    MemoryGranularity, SetLdAllocationsRequest, SetLdAllocationsResponse,
};
use fabric_emu::cci::memdev::{HealthInfo, IdentifyMemoryDeviceResponse};
use fabric_emu::cci::multi_headed::{
    GetHeadInfoRequest, GetHeadInfoResponse, GetMultiHeadedInfoRequest, GetMultiHeadedInfoResponse,
    HeadInformation,
};
use fabric_emu::cci::poison::{
    ClearPoisonRequest, GetPoisonListRequest, GetPoisonListResponse, InjectPoisonRequest, Line,
    MediaErrorRecord,
};
use fabric_emu::cci::switch::Ltssm;
use fabric_emu::cci::{Request, Response, U24};

use crate::{counting, list, request, response};

#[test]
fn identify_memory_device() {
    request(0x4000, "", &Request::IdentifyMemoryDevice(Empty));
    response(
        0x4000,
        "45 4d 55 20 31 2e 30 00 00 00 00 00 00 00 00 00
         0801000000000000
         0802000000000000
         0803000000000000
         0804000000000000
         0102
         0304
         0506
         0708
         0c0b0a09
         030201
         1110
         01
         03
         1312",
        &Response::IdentifyMemoryDevice(IdentifyMemoryDeviceResponse {
            fw_revision: *b"EMU 1.0\0\0\0\0\0\0\0\0\0",
            total_capacity: 0x0108,
            volatile_only_capacity: 0x0208,
            persistent_only_capacity: 0x0308,
            partition_alignment: 0x0408,
            informational_event_log_size: 0x0201,
            warning_event_log_size: 0x0403,
            failure_event_log_size: 0x0605,
            fatal_event_log_size: 0x0807,
            lsa_size: 0x090a_0b0c,
            poison_list_maximum: U24::new(0x0001_0203).expect("three bytes"),
            inject_poison_limit: 0x1011,
            poison_handling_capabilities: 0x01,
            qos_telemetry_capabilities: 0x03,
            dynamic_capacity_event_log_size: 0x1213,
        }),
    );
}

#[test]
fn get_health_info() {
    request(0x4200, "", &Request::GetHealthInfo(Empty));
    response(
        0x4200,
        "01
         02
         03
         2a
         f6ff
         04030201
         08070605
         0c0b0a09",
        &Response::GetHealthInfo(HealthInfo {
            health_status: 1,
            media_status: 2,
            additional_status: 3,
            life_used: 42,
            device_temperature: 0xfff6,
            dirty_shutdown_count: 0x0102_0304,
            corrected_volatile_error_count: 0x0506_0708,
            corrected_persistent_error_count: 0x090a_0b0c,
        }),
    );
}

#[test]
fn get_poison_list() {
    request(
        0x4300,
        "4100001000000000
         0001000000000000",
        &Request::GetPoisonList(GetPoisonListRequest {
            physical_address: 0x1000_0040 | GetPoisonListRequest::RESTART,
            physical_address_length: 0x100,
        }),
    );
    response(
        0x4300,
        "03
         00
         0807060504030201
         0200
         0000000000000000000000000000000000000000
         4300001000000000 02000000 00000000
         8100001000000000 01000000 00000000",
        &Response::GetPoisonList(GetPoisonListResponse {
            poison_list_flags: GetPoisonListResponse::MORE | GetPoisonListResponse::OVERFLOW,
            overflow_timestamp_ns: 0x0102_0304_0506_0708,
            records: list(vec![
                MediaErrorRecord {
                    media_error_address: 0x1000_0043,
                    media_error_length: 2,
                },
                MediaErrorRecord {
                    media_error_address: 0x1000_0081,
                    media_error_length: 1,
                },
            ]),
        }),
    );
}

#[test]
fn inject_and_clear_poison() {
    let physical_address = Line::at(0x0102_0304_0506_0740).expect("a multiple of 64");
    assert_eq!(Line::at(0x0102_0304_0506_0720), None);
    request(
        0x4301,
        "4007060504030201",
        &Request::InjectPoison(InjectPoisonRequest { physical_address }),
    );
    response(0x4301, "", &Response::InjectPoison(Empty));
    request(
        0x4302,
        "4007060504030201
         000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f
         202122232425262728292a2b2c2d2e2f 303132333435363738393a3b3c3d3e3f",
        &Request::ClearPoison(ClearPoisonRequest {
            physical_address,
            write_data: counting(0),
        }),
    );
    response(0x4302, "", &Response::ClearPoison(Empty));
}

#[test]
fn sanitize() {
    request(0x4400, "", &Request::Sanitize(Empty));
    response(0x4400, "", &Response::Sanitize(Empty));
}

#[test]
fn get_ld_info() {
    request(0x5400, "", &Request::GetLdInfo(Empty));
    response(
        0x5400,
        "0000004000000000
         1000
         03",
        &Response::GetLdInfo(GetLdInfoResponse {
            memory_size: 0x4000_0000,
            ld_count: 16,
            qos_telemetry_capability: 3,
        }),
    );
}

fn allocations() -> Vec<LdAllocation> {
    vec![
        LdAllocation {
            range_1_multiplier: 0x0102,
            range_2_multiplier: 0x0304,
        },
        LdAllocation {
            range_1_multiplier: 0x0506,
            range_2_multiplier: 0,
        },
    ]
}

#[test]
fn ld_allocations() {
    request(
        0x5401,
        "02 05",
        &Request::GetLdAllocations(GetLdAllocationsRequest {
            start_ld_id: 2,
            ld_allocation_list_limit: 5,
        }),
    );
    response(
        0x5401,
        "10
         02
         03
         02
         0201000000000000 0403000000000000
         0605000000000000 0000000000000000",
        &Response::GetLdAllocations(GetLdAllocationsResponse {
            ld_count: 16,
            memory_granularity: MemoryGranularity::Gib1,
            start_ld_id: 3,
            allocations: list(allocations()),
        }),
    );
    let text = "
        02
        03
        0000
        0201000000000000 0403000000000000
        0605000000000000 0000000000000000";
    request(
        0x5402,
        text,
        &Request::SetLdAllocations(SetLdAllocationsRequest {
            start_ld_id: 3,
            allocations: list(allocations()),
        }),
    );
    response(
        0x5402,
        text,
        &Response::SetLdAllocations(SetLdAllocationsResponse {
            start_ld_id: 3,
            allocations: list(allocations()),
        }),
    );
}

#[test]
fn multi_headed_info() {
    request(
        0x5500,
        "01 ff",
        &Request::GetMultiHeadedInfo(GetMultiHeadedInfoRequest {
            start_ld_id: 1,
            ld_map_list_limit: 255,
        }),
    );
    response(
        0x5500,
        "04
         02
         0000
         01
         03
         0000
         00 01 ff",
        &Response::GetMultiHeadedInfo(GetMultiHeadedInfoResponse {
            ld_count: 4,
            head_count: 2,
            start_ld_id: 1,
            ld_map: list(vec![0, 1, GetMultiHeadedInfoResponse::NO_HEAD]),
        }),
    );
}

#[test]
fn head_info() {
    request(
        0x5501,
        "01 02",
        &Request::GetHeadInfo(GetHeadInfoRequest {
            start_head: 1,
            head_count: 2,
        }),
    );
    response(
        0x5501,
        "01
         000000
         07 10 08 3f 06 05 04 02 03",
        &Response::GetHeadInfo(GetHeadInfoResponse {
            heads: list(vec![HeadInformation {
                port_number: 7,
                maximum_link_width: 16,
                negotiated_link_width: 8,
                supported_link_speeds: 0x3f,
                maximum_link_speed: 6,
                current_link_speed: 5,
                ltssm_state: Ltssm::L0,
                first_negotiated_lane: 2,
                link_state_flags: 3,
            }]),
        }),
    );
}
