//! Commands that are accepted while the fabric is [`Situation::Rich`](super::rig::Situation::Rich).

use fabric_emu::cci::dcd::{
    GetDcConfigRequest, GetDcExtentListRequest, UpdatedExtent, UpdatedExtentList,
};
use fabric_emu::cci::dcd_management::{
    GetDcRegionExtentListsRequest, GetHostDcRegionConfigRequest, InitiateAddRequest,
    InitiateReleaseRequest, ListTagsRequest, ReferenceRequest, RemovalPolicy, SelectionPolicy,
    SetDcRegionConfigRequest,
};
use fabric_emu::cci::events::{
    ClearEventRecordsRequest, EventInterruptPolicy, EventLog, GetEventRecordsRequest, Severities,
};
use fabric_emu::cci::generic::{Empty, ResponseMessageLimit, Timestamp};
use fabric_emu::cci::logical_devices::{
    GetLdAllocationsRequest, LdAllocation, SetLdAllocationsRequest,
};
use fabric_emu::cci::logs::{GetLogRequest, Uuid};
use fabric_emu::cci::multi_headed::{GetHeadInfoRequest, GetMultiHeadedInfoRequest};
use fabric_emu::cci::poison::{
    ClearPoisonRequest, GetPoisonListRequest, InjectPoisonRequest, Line,
};
use fabric_emu::cci::switch::{
    GetPhysicalPortStateRequest, PhysicalPortControlRequest, PortOperation,
};
use fabric_emu::cci::tunnel::{TunnelRequest, TunnelTarget};
use fabric_emu::cci::virtual_switch::{
    BindVppbRequest, GenerateAerEventRequest, GetVcsInfoRequest, UnbindOption, UnbindVppbRequest,
};
use fabric_emu::cci::{DpaExtent, List, Request, ReturnCode, Tag};
use fabric_emu::id::{LdId, PortId, VcsId, VppbId};
use pool_core::units::KIB;

use super::rig::{
    ADDED, BLOCK, BOTH, COHERENT, H0, H1, HEADS, LEAVING, NO_TAG, POOL, PRIVATE, SHARED, SWITCH,
    UNKNOWN,
};
use super::row::{Answer, Base, Row, message};

fn list<T, const MAX: usize>(all: Vec<T>) -> List<T, MAX> {
    all.try_into()
        .map_err(|error| panic!("{error}"))
        .unwrap_or_default()
}

/// One of each command, where it is done.
pub(crate) fn one_of_each() -> Vec<Base> {
    [
        generic(),
        of_hosts(),
        of_switches(),
        of_pools(),
        vec![free(), release()],
    ]
    .concat()
}

/// Other forms of some of them.
fn others() -> Vec<Base> {
    vec![
        shared(),
        prescribed(&[(PRIVATE + 20 * BLOCK, 2 * BLOCK, UNKNOWN)]),
        prescribed_release(&[(SHARED, 2 * BLOCK)]),
        take(&[(PRIVATE + 6 * BLOCK, 2 * BLOCK)]).at(H0),
        events().at(POOL),
        tunnel(1, TunnelTarget::PortOrLd).at(POOL),
        tunnel(0, TunnelTarget::LdPool).at(POOL),
    ]
}

pub(crate) fn accepted() -> Vec<Row> {
    let all = one_of_each().into_iter().chain(others());
    all.map(|base| base.whole(Answer::Code(ReturnCode::Success), "rows begin with it"))
        .collect()
}

fn generic() -> Vec<Base> {
    let empty = [
        Request::Identify(Empty),
        Request::BackgroundOperationStatus(Empty),
        Request::GetResponseMessageLimit(Empty),
        Request::GetTimestamp(Empty),
        Request::GetSupportedLogs(Empty),
    ];
    let mut all: Vec<Base> = empty.iter().map(|request| Base::new(H0, request)).collect();
    let timestamp = Request::SetTimestamp(Timestamp { timestamp_ns: 9 });
    all.extend([limit(), Base::new(H0, &timestamp), log()]);
    all
}

/// The one that is refused in a fabric where nothing goes on.
pub(crate) fn abort() -> Base {
    Base::new(H0, &Request::RequestAbortBackgroundOperation(Empty))
}

pub(crate) fn limit() -> Base {
    Base::new(
        H0,
        &Request::SetResponseMessageLimit(ResponseMessageLimit { limit: 12 }),
    )
}

pub(crate) fn log() -> Base {
    let log_identifier = Uuid::COMMAND_EFFECTS_LOG;
    Base::new(
        H0,
        &Request::GetLog(GetLogRequest {
            log_identifier,
            offset: 0,
            length: 4,
        }),
    )
}

fn of_hosts() -> Vec<Base> {
    let config = GetDcConfigRequest {
        region_count: 6,
        starting_region_index: 0,
    };
    vec![
        events(),
        clear(&[1, 2]),
        Base::new(H0, &Request::GetEventInterruptPolicy(Empty)),
        interrupts(),
        Base::new(H0, &Request::IdentifyMemoryDevice(Empty)),
        Base::new(H0, &Request::GetHealthInfo(Empty)),
        poison_list(),
        inject(0x1000),
        clear_poison(0x1000),
        sanitize(),
        Base::new(H0, &Request::GetDcConfig(config)),
        extents(0),
        take(&[(COHERENT, 2 * BLOCK)]),
        give(&[
            (PRIVATE + 2 * BLOCK, 2 * BLOCK),
            (PRIVATE + 4 * BLOCK, 2 * BLOCK),
        ]),
    ]
}

pub(crate) fn events() -> Base {
    let event_log = EventLog::DynamicCapacity;
    Base::new(
        H0,
        &Request::GetEventRecords(GetEventRecordsRequest { event_log }),
    )
}

/// Records of the dynamic capacity log.
pub(crate) fn clear(handles: &[u16]) -> Base {
    let clear = ClearEventRecordsRequest {
        event_log: EventLog::DynamicCapacity,
        clear_event_flags: 0,
        handles: list(handles.to_vec()),
    };
    Base::new(H0, &Request::ClearEventRecords(clear))
}

pub(crate) fn interrupts() -> Base {
    let policy = EventInterruptPolicy {
        severities: Severities {
            informational: 1,
            warning: 1,
            failure: 1,
            fatal: 1,
        },
        dynamic_capacity: Some(0x21),
    };
    Base::new(H0, &Request::SetEventInterruptPolicy(policy))
}

pub(crate) fn poison_list() -> Base {
    let asked = GetPoisonListRequest {
        physical_address: 0,
        physical_address_length: 64,
    };
    Base::new(H0, &Request::GetPoisonList(asked))
}

pub(crate) fn inject(at: u64) -> Base {
    let physical_address = Line::at(at).expect("a line");
    Base::new(
        H0,
        &Request::InjectPoison(InjectPoisonRequest { physical_address }),
    )
}

pub(crate) fn clear_poison(at: u64) -> Base {
    let physical_address = Line::at(at).expect("a line");
    let clear = ClearPoisonRequest {
        physical_address,
        write_data: [3; 64],
    };
    Base::new(H0, &Request::ClearPoison(clear))
}

pub(crate) fn sanitize() -> Base {
    Base::new(H0, &Request::Sanitize(Empty))
}

pub(crate) fn extents(starting_extent_index: u32) -> Base {
    let asked = GetDcExtentListRequest {
        extent_count: 3,
        starting_extent_index,
    };
    Base::new(H0, &Request::GetDcExtentList(asked))
}

fn updated(spans: &[(u64, u64)]) -> UpdatedExtentList {
    let extent = |&(start_dpa, length): &(u64, u64)| UpdatedExtent { start_dpa, length };
    UpdatedExtentList {
        flags: 0,
        extents: list(spans.iter().map(extent).collect()),
    }
}

/// The answer of host 1 to its oldest offer.
pub(crate) fn take(spans: &[(u64, u64)]) -> Base {
    Base::new(H1, &Request::AddDcResponse(updated(spans)))
}

/// What host 0 gives back.
pub(crate) fn give(spans: &[(u64, u64)]) -> Base {
    Base::new(H0, &Request::ReleaseDc(updated(spans)))
}

fn of_switches() -> Vec<Base> {
    vec![
        Base::new(SWITCH, &Request::IdentifySwitchDevice(Empty)),
        ports(&[2, 3]),
        control(),
        virtual_switches(&[0, 1]),
        bind(),
        unbind(),
        aer(),
        tunnel(2, TunnelTarget::PortOrLd),
    ]
}

pub(crate) fn ports(ports: &[u8]) -> Base {
    let ports = list(ports.iter().map(|&port| PortId(port)).collect());
    let asked = GetPhysicalPortStateRequest { ports };
    Base::new(SWITCH, &Request::GetPhysicalPortState(asked))
}

pub(crate) fn control() -> Base {
    let operation = PortOperation::ResetBridge;
    let control = PhysicalPortControlRequest {
        port_id: PortId(4),
        operation,
    };
    Base::new(SWITCH, &Request::PhysicalPortControl(control))
}

pub(crate) fn virtual_switches(all: &[u8]) -> Base {
    let vcss = list(all.iter().map(|&vcs| VcsId(vcs)).collect());
    let asked = GetVcsInfoRequest {
        start_vppb: VppbId(0),
        vppb_list_limit: 3,
        vcss,
    };
    Base::new(SWITCH, &Request::GetVcsInfo(asked))
}

/// A free bridge, to the device with several heads.
pub(crate) fn bind() -> Base {
    let bind = BindVppbRequest {
        vcs_id: VcsId(1),
        vppb_id: VppbId(1),
        port_id: PortId(4),
        ld_id: BindVppbRequest::NO_LD,
    };
    Base::new(SWITCH, &Request::BindVppb(bind))
}

pub(crate) fn unbind() -> Base {
    let option = UnbindOption::WaitForLinkDown;
    let unbind = UnbindVppbRequest {
        vcs_id: VcsId(0),
        vppb_id: VppbId(1),
        option,
    };
    Base::new(SWITCH, &Request::UnbindVppb(unbind))
}

pub(crate) fn aer() -> Base {
    let aer = GenerateAerEventRequest {
        vcs_id: VcsId(0),
        vppb_instance: VppbId(1),
        aer_error: 3,
        aer_header: [1; 32],
    };
    Base::new(SWITCH, &Request::GenerateAerEvent(aer))
}

/// Identify, of what is behind.
pub(crate) fn tunnel(port_or_ld_id: u8, target_type: TunnelTarget) -> Base {
    let command = list(message(0x0001, &[]));
    let tunnel = TunnelRequest {
        port_or_ld_id,
        target_type,
        command,
    };
    Base::new(SWITCH, &Request::TunnelManagementCommand(tunnel))
}

fn of_pools() -> Vec<Base> {
    let config = GetHostDcRegionConfigRequest {
        host_id: LdId(0),
        region_count: 6,
        starting_region_index: 0,
    };
    vec![
        Base::new(POOL, &Request::GetLdInfo(Empty)),
        allocations(),
        head_map(),
        heads(),
        Base::new(POOL, &Request::GetDcdInfo(Empty)),
        Base::new(POOL, &Request::GetHostDcRegionConfig(config)),
        configure(),
        host_extents(0),
        add_reference(ADDED),
        remove_reference(BOTH),
        tags(0),
    ]
}

pub(crate) fn allocations() -> Base {
    let asked = GetLdAllocationsRequest {
        start_ld_id: 0,
        ld_allocation_list_limit: 3,
    };
    Base::new(POOL, &Request::GetLdAllocations(asked))
}

/// What no device here does.
pub(crate) fn set_allocations() -> Base {
    let one = LdAllocation {
        range_1_multiplier: 1,
        range_2_multiplier: 0,
    };
    let set = SetLdAllocationsRequest {
        start_ld_id: 0,
        allocations: list(vec![one]),
    };
    Base::new(POOL, &Request::SetLdAllocations(set))
}

pub(crate) fn head_map() -> Base {
    let asked = GetMultiHeadedInfoRequest {
        start_ld_id: 0,
        ld_map_list_limit: 2,
    };
    Base::new(HEADS, &Request::GetMultiHeadedInfo(asked))
}

pub(crate) fn heads() -> Base {
    let asked = GetHeadInfoRequest {
        start_head: 0,
        head_count: 2,
    };
    Base::new(HEADS, &Request::GetHeadInfo(asked))
}

/// Region 4, of which nothing is in use.
pub(crate) fn configure() -> Base {
    let config = SetDcRegionConfigRequest {
        region_id: 4,
        region_block_size: 128 * KIB,
        sanitize_on_release: 1,
    };
    Base::new(POOL, &Request::SetDcRegionConfig(config))
}

pub(crate) fn host_extents(starting_extent_index: u32) -> Base {
    let asked = GetDcRegionExtentListsRequest {
        host_id: LdId(0),
        extent_count: 3,
        starting_extent_index,
    };
    Base::new(POOL, &Request::GetDcRegionExtentLists(asked))
}

/// Two blocks of the private region for host 0.
pub(crate) fn free() -> Base {
    let add = InitiateAddRequest {
        host_id: LdId(0),
        selection_policy: SelectionPolicy::Free,
        region_number: 2,
        length: 2 * BLOCK,
        tag: UNKNOWN,
        extents: None,
    };
    Base::new(POOL, &Request::InitiateAdd(add))
}

/// What host 0 has, for host 1 too.
pub(crate) fn shared() -> Base {
    let add = InitiateAddRequest {
        host_id: LdId(1),
        selection_policy: SelectionPolicy::EnableSharedAccess,
        region_number: 0,
        length: 0,
        tag: ADDED,
        extents: None,
    };
    Base::new(POOL, &Request::InitiateAdd(add))
}

fn extent(&(start_dpa, length, tag): &(u64, u64, Tag)) -> DpaExtent {
    DpaExtent {
        start_dpa,
        length,
        tag,
        shared_extent_sequence: 0,
    }
}

/// These extents for host 0.
pub(crate) fn prescribed(extents: &[(u64, u64, Tag)]) -> Base {
    let add = InitiateAddRequest {
        host_id: LdId(0),
        selection_policy: SelectionPolicy::Prescriptive,
        region_number: 0,
        length: 0,
        tag: NO_TAG,
        extents: Some(list(extents.iter().map(extent).collect())),
    };
    Base::new(POOL, &Request::InitiateAdd(add))
}

/// All that host 0 has under a tag that cannot be shared.
pub(crate) fn release() -> Base {
    let release = InitiateReleaseRequest {
        host_id: LdId(0),
        removal_policy: RemovalPolicy::TagBased,
        forced_removal: false,
        sanitize_on_release: false,
        length: 4 * BLOCK,
        tag: LEAVING,
        extents: None,
    };
    Base::new(POOL, &Request::InitiateRelease(release))
}

/// These extents of host 0.
pub(crate) fn prescribed_release(spans: &[(u64, u64)]) -> Base {
    let untagged = |&(start, length): &(u64, u64)| extent(&(start, length, NO_TAG));
    let release = InitiateReleaseRequest {
        host_id: LdId(0),
        removal_policy: RemovalPolicy::Prescriptive,
        forced_removal: false,
        sanitize_on_release: false,
        length: 0,
        tag: NO_TAG,
        extents: Some(list(spans.iter().map(untagged).collect())),
    };
    Base::new(POOL, &Request::InitiateRelease(release))
}

pub(crate) fn add_reference(tag: Tag) -> Base {
    Base::new(POOL, &Request::AddReference(ReferenceRequest { tag }))
}

pub(crate) fn remove_reference(tag: Tag) -> Base {
    Base::new(POOL, &Request::RemoveReference(ReferenceRequest { tag }))
}

pub(crate) fn tags(starting_index: u32) -> Base {
    Base::new(
        POOL,
        &Request::ListTags(ListTagsRequest {
            starting_index,
            max_tags: 9,
        }),
    )
}
