//! Dynamic capacity, from the host's side and from the fabric manager's.

use fabric_emu::cci::dcd::{
    DcRegion, GetDcConfigRequest, GetDcConfigResponse, GetDcExtentListRequest,
    GetDcExtentListResponse, TrackingLimits, UpdatedExtent, UpdatedExtentList,
};
use fabric_emu::cci::dcd_management::{
    GetDcRegionExtentListsRequest, GetDcRegionExtentListsResponse, GetDcdInfoResponse,
    GetHostDcRegionConfigRequest, GetHostDcRegionConfigResponse, HostDcRegion, InitiateAddRequest,
    InitiateReleaseRequest, ListTagsRequest, ListTagsResponse, ReferenceRequest, RemovalPolicy,
    SelectionPolicy, SetDcRegionConfigRequest, TagInformation,
};
use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::{DpaExtent, Request, Response, Tag, Wire};
use fabric_emu::id::LdId;

use crate::{counting, hex, list, request, request_cut, response};

const TAG: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf";

fn tag() -> Tag {
    Tag(counting(0xa0))
}

const EXTENT: &str = "
    0000001000000000
    0000002000000000
    a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
    0201
    000000000000";

fn extent() -> DpaExtent {
    DpaExtent {
        start_dpa: 0x1000_0000,
        length: 0x2000_0000,
        tag: tag(),
        shared_extent_sequence: 0x0102,
    }
}

#[test]
fn an_extent_takes_40_bytes() {
    assert_eq!(hex(EXTENT).len(), 40);
    assert_eq!(DpaExtent::decode(&hex(EXTENT)), Ok(extent()));
    assert_eq!(extent().encode(), hex(EXTENT));
}

const LIMITS: &str = "04030201 03030201 02030201 01030201";

fn limits() -> TrackingLimits {
    TrackingLimits {
        supported_extents: 0x0102_0304,
        available_extents: 0x0102_0303,
        supported_tags: 0x0102_0302,
        available_tags: 0x0102_0301,
    }
}

#[test]
fn get_dc_config() {
    request(
        0x4800,
        "08 01",
        &Request::GetDcConfig(GetDcConfigRequest {
            region_count: 8,
            starting_region_index: 1,
        }),
    );
    let text = "
        02
        01
        000000000000
        0000001000000000
        0400000000000000
        0000002000000000
        0000200000000000
        0d0c0b0a
        01
        000000";
    response(
        0x4800,
        &[text, LIMITS].concat(),
        &Response::GetDcConfig(GetDcConfigResponse {
            available_regions: 2,
            regions: list(vec![DcRegion {
                region_base: 0x1000_0000,
                region_decode_length: 4,
                region_length: 0x2000_0000,
                region_block_size: 0x20_0000,
                dsmad_handle: 0x0a0b_0c0d,
                flags: 1,
            }]),
            limits: limits(),
        }),
    );
}

#[test]
fn get_dc_extent_list() {
    request(
        0x4801,
        "04030201
         08070605",
        &Request::GetDcExtentList(GetDcExtentListRequest {
            extent_count: 0x0102_0304,
            starting_extent_index: 0x0506_0708,
        }),
    );
    let text = "
        01000000
        05000000
        07000000
        00000000";
    response(
        0x4801,
        &[text, EXTENT].concat(),
        &Response::GetDcExtentList(GetDcExtentListResponse {
            total_extent_count: 5,
            extent_list_generation: 7,
            extents: list(vec![extent()]),
        }),
    );
}

#[test]
fn a_host_takes_and_gives_back() {
    let text = "
        01000000
        01
        000000
        0000001000000000 0000002000000000 0000000000000000";
    let taken = UpdatedExtentList {
        flags: UpdatedExtentList::MORE,
        extents: list(vec![UpdatedExtent {
            start_dpa: 0x1000_0000,
            length: 0x2000_0000,
        }]),
    };
    request(0x4802, text, &Request::AddDcResponse(taken.clone()));
    response(0x4802, "", &Response::AddDcResponse(Empty));
    request(0x4803, text, &Request::ReleaseDc(taken));
    response(0x4803, "", &Response::ReleaseDc(Empty));
    let nothing = UpdatedExtentList {
        flags: 0,
        extents: list(vec![]),
    };
    request(
        0x4802,
        "00000000 00 000000",
        &Request::AddDcResponse(nothing),
    );
}

#[test]
fn get_dcd_info() {
    request(0x5600, "", &Request::GetDcdInfo(Empty));
    response(
        0x5600,
        "04
         08
         0000
         0700
         0000
         0300
         ff
         00
         0010000000000000
         0000200000000000
         0000400000000000
         0000800000000000
         0000000100000000
         0000000200000000
         0000000400000000
         0000000800000000
         0000001000000000",
        &Response::GetDcdInfo(GetDcdInfoResponse {
            host_count: 4,
            supported_regions: 8,
            add_selection_policies: 0x0007,
            release_removal_policies: 0x0003,
            sanitize_configurable: 0xff,
            total_dynamic_capacity: 0x1000,
            region_0_block_sizes: 1 << 21,
            region_1_block_sizes: 1 << 22,
            region_2_block_sizes: 1 << 23,
            region_3_block_sizes: 1 << 24,
            region_4_block_sizes: 1 << 25,
            region_5_block_sizes: 1 << 26,
            region_6_block_sizes: 1 << 27,
            region_7_block_sizes: 1 << 28,
        }),
    );
}

#[test]
fn host_region_config() {
    request(
        0x5601,
        "0201
         08
         01",
        &Request::GetHostDcRegionConfig(GetHostDcRegionConfigRequest {
            host_id: LdId(0x0102),
            region_count: 8,
            starting_region_index: 1,
        }),
    );
    let text = "
        0201
        02
        01
        0000001000000000
        0400000000000000
        0000002000000000
        0000200000000000
        58
        000000
        01
        000000";
    response(
        0x5601,
        &[text, LIMITS].concat(),
        &Response::GetHostDcRegionConfig(GetHostDcRegionConfigResponse {
            host_id: LdId(0x0102),
            available_regions: 2,
            regions: list(vec![HostDcRegion {
                region_base: 0x1000_0000,
                region_decode_length: 4,
                region_length: 0x2000_0000,
                region_block_size: 0x20_0000,
                flags: HostDcRegion::SHARABLE
                    | HostDcRegion::HARDWARE_COHERENT
                    | HostDcRegion::READ_ONLY,
                sanitize_on_release: 1,
            }]),
            limits: limits(),
        }),
    );
    request(
        0x5602,
        "07
         000000
         0000200000000000
         01
         000000",
        &Request::SetDcRegionConfig(SetDcRegionConfigRequest {
            region_id: 7,
            region_block_size: 0x20_0000,
            sanitize_on_release: 1,
        }),
    );
    response(0x5602, "", &Response::SetDcRegionConfig(Empty));
}

#[test]
fn region_extent_lists() {
    request(
        0x5603,
        "0201
         0000
         04030201
         08070605",
        &Request::GetDcRegionExtentLists(GetDcRegionExtentListsRequest {
            host_id: LdId(0x0102),
            extent_count: 0x0102_0304,
            starting_extent_index: 0x0506_0708,
        }),
    );
    let text = "
        0201
        0000
        03000000
        01000000
        05000000
        07000000
        00000000";
    response(
        0x5603,
        &[text, EXTENT].concat(),
        &Response::GetDcRegionExtentLists(GetDcRegionExtentListsResponse {
            host_id: LdId(0x0102),
            starting_extent_index: 3,
            total_extent_count: 5,
            extent_list_generation: 7,
            extents: list(vec![extent()]),
        }),
    );
}

fn add(selection_policy: SelectionPolicy) -> InitiateAddRequest {
    InitiateAddRequest {
        host_id: LdId(0x0102),
        selection_policy,
        region_number: 3,
        length: 0x2000_0000,
        tag: tag(),
        extents: None,
    }
}

#[test]
fn each_selection_policy() {
    let rest = "0000002000000000";
    for (number, policy) in [
        ("00", SelectionPolicy::Free),
        ("01", SelectionPolicy::Contiguous),
    ] {
        let text = ["0201", number, "03", rest, TAG].concat();
        request(0x5604, &text, &Request::InitiateAdd(add(policy)));
    }
    let shared = InitiateAddRequest {
        length: 0,
        ..add(SelectionPolicy::EnableSharedAccess)
    };
    let text = ["0201 03 03 0000000000000000", TAG].concat();
    request(0x5604, &text, &Request::InitiateAdd(shared));

    let text = [
        "0201 02 00 0000000000000000 00000000000000000000000000000000 01000000",
        EXTENT,
    ];
    let prescribed = InitiateAddRequest {
        region_number: 0,
        length: 0,
        tag: Tag::default(),
        extents: Some(list(vec![extent()])),
        ..add(SelectionPolicy::Prescriptive)
    };
    request(0x5604, &text.concat(), &Request::InitiateAdd(prescribed));
    response(0x5604, "", &Response::InitiateAdd(Empty));
}

#[test]
fn a_count_of_no_extents_may_end_an_add_that_prescribes_none() {
    let text = ["0201 00 03 0000002000000000", TAG, "00000000"].concat();
    let counted = InitiateAddRequest {
        extents: Some(list(vec![])),
        ..add(SelectionPolicy::Free)
    };
    request_cut(0x5604, &text, &Request::InitiateAdd(counted), &[0x1c]);
}

#[test]
fn each_removal_policy() {
    let tagged = InitiateReleaseRequest {
        host_id: LdId(0x0102),
        removal_policy: RemovalPolicy::TagBased,
        forced_removal: true,
        sanitize_on_release: false,
        length: 0x2000_0000,
        tag: tag(),
        extents: None,
    };
    let text = ["0201 10 00 0000002000000000", TAG].concat();
    request(0x5605, &text, &Request::InitiateRelease(tagged.clone()));
    let counted = InitiateReleaseRequest {
        extents: Some(list(vec![])),
        ..tagged.clone()
    };
    let text = ["0201 10 00 0000002000000000", TAG, "00000000"].concat();
    request_cut(0x5605, &text, &Request::InitiateRelease(counted), &[0x1c]);

    let prescribed = InitiateReleaseRequest {
        removal_policy: RemovalPolicy::Prescriptive,
        forced_removal: false,
        sanitize_on_release: true,
        length: 0,
        tag: Tag::default(),
        extents: Some(list(vec![extent(), extent()])),
        ..tagged
    };
    let text = "0201 21 00 0000000000000000 00000000000000000000000000000000 02000000";
    let text = [text, EXTENT, EXTENT].concat();
    request(0x5605, &text, &Request::InitiateRelease(prescribed));
    response(0x5605, "", &Response::InitiateRelease(Empty));
}

#[test]
fn references() {
    let reference = ReferenceRequest { tag: tag() };
    request(0x5606, TAG, &Request::AddReference(reference.clone()));
    response(0x5606, "", &Response::AddReference(Empty));
    request(0x5607, TAG, &Request::RemoveReference(reference));
    response(0x5607, "", &Response::RemoveReference(Empty));
}

#[test]
fn list_tags() {
    request(
        0x5608,
        "04030201
         08070605",
        &Request::ListTags(ListTagsRequest {
            starting_index: 0x0102_0304,
            max_tags: 0x0506_0708,
        }),
    );
    let mut references = [0; 32];
    references[0] = 0x05;
    let mut pending_references = [0; 32];
    pending_references[31] = 0x80;
    response(
        0x5608,
        "07000000
         05000000
         01000000
         03
         000000
         a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
         01
         000000
         05000000000000000000000000000000 00000000000000000000000000000000
         00000000000000000000000000000000 00000000000000000000000000000080",
        &Response::ListTags(ListTagsResponse {
            generation_number: 7,
            total_tags: 5,
            validity: 3,
            tags: list(vec![TagInformation {
                tag: tag(),
                flags: TagInformation::FM_HOLDS_REFERENCE,
                references,
                pending_references,
            }]),
        }),
    );
}
