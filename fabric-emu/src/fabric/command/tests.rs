//! Commands as bytes, from both ends: what a manager and hosts send, and what they are answered.

use pool_core::units::MIB;

use super::super::tests::topology;
use super::super::{Event, Fabric, Fault};
use super::*;
use crate::cci::dcd::{
    GetDcConfigRequest, GetDcExtentListRequest, UpdatedExtent, UpdatedExtentList,
};
use crate::cci::dcd_management::{
    InitiateAddRequest, InitiateReleaseRequest, ListTagsRequest, ReferenceRequest, RemovalPolicy,
    SelectionPolicy, SetDcRegionConfigRequest,
};
use crate::cci::event_records::{DynamicCapacityEventType, EventBody};
use crate::cci::events::{ClearEventRecordsRequest, EventLog, GetEventRecordsRequest};
use crate::cci::generic::{Empty, ResponseMessageLimit, Timestamp};
use crate::cci::poison::{GetPoisonListRequest, InjectPoisonRequest, Line};
use crate::cci::tunnel::{TunnelRequest, TunnelTarget};
use crate::cci::virtual_switch::{
    BindVppbRequest, BindingStatus, GetVcsInfoRequest, UnbindOption, UnbindVppbRequest,
};
use crate::cci::{DpaExtent, Tag};
use crate::id::{PortId, VcsId, VppbId};

const DEVICE: Cci = Cci::Memdev(MemdevId(0));
const SWITCH: Cci = Cci::Switch(SwitchId(0));
/// Regions of the topology: the second is kept coherent by hardware. Both are sharable.
const SOFTWARE: u8 = 0;
const LATER: Picos = Picos::new(1 << 50);

const fn mailbox(host: u16) -> Cci {
    Cci::Mailbox {
        host: HostId(host),
        memdev: MemdevId(0),
        ld: LdId(host),
    }
}

struct Rig {
    fabric: Fabric,
    now: Picos,
}

impl Rig {
    /// Nothing is bound.
    fn unbound() -> Self {
        Self {
            fabric: Fabric::new(&topology(true), 1).unwrap(),
            now: Picos::ZERO,
        }
    }

    /// Each host has its logical device.
    fn new() -> Self {
        let mut rig = Self::unbound();
        for host in 0..2 {
            assert_eq!(rig.bind(host), Err(ReturnCode::BackgroundCommandStarted));
            rig.wait();
        }
        rig
    }

    fn bind(&mut self, host: u8) -> Result<Response, ReturnCode> {
        self.ask(
            SWITCH,
            &Request::BindVppb(BindVppbRequest {
                vcs_id: VcsId(host),
                vppb_id: VppbId(0),
                port_id: PortId(2),
                ld_id: LdId(host.into()),
            }),
        )
    }

    /// Has all that is under way come to its end.
    fn wait(&mut self) {
        self.now = self.now.saturating_add(LATER);
    }

    fn send(&mut self, cci: Cci, opcode: u16, payload: &[u8]) -> Option<Message> {
        let message = message(opcode, payload);
        let message = message.encode();
        let effects = self.fabric.step(self.now, &Event::Command { cci, message });
        match &effects[..] {
            [Effect::Answer(bytes)] => Some(Message::decode(bytes).unwrap()),
            [Effect::Dropped] => None,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, cci: Cci, request: &Request) -> Result<Response, ReturnCode> {
        let (opcode, payload) = request.encode();
        let answer = self.send(cci, opcode, &payload).expect("somebody is there");
        assert_eq!((answer.tag, answer.opcode), (7, opcode));
        if answer.return_code != ReturnCode::Success {
            assert!(answer.payload.is_empty());
            return Err(answer.return_code);
        }
        Ok(Response::decode_for(request, &answer.payload).unwrap())
    }

    fn add(
        &mut self,
        host: u16,
        policy: SelectionPolicy,
        tag: Tag,
    ) -> Result<Response, ReturnCode> {
        self.ask(
            DEVICE,
            &Request::InitiateAdd(InitiateAddRequest {
                host_id: LdId(host),
                selection_policy: policy,
                region_number: SOFTWARE,
                length: 4 * MIB,
                tag,
                extents: None,
            }),
        )
    }

    /// The extents that a host is told of in its log, with what it is told; the log is cleared.
    fn events(&mut self, cci: Cci) -> Vec<(DynamicCapacityEventType, DpaExtent)> {
        let asked = GetEventRecordsRequest {
            event_log: EventLog::DynamicCapacity,
        };
        let answer = self.ask(cci, &Request::GetEventRecords(asked)).unwrap();
        let Response::GetEventRecords(answer) = answer else {
            panic!("{answer:?}");
        };
        let handles: Vec<u16> = answer.records.iter().map(|it| it.header.handle).collect();
        if !handles.is_empty() {
            let clear = ClearEventRecordsRequest {
                event_log: EventLog::DynamicCapacity,
                clear_event_flags: 0,
                handles: handles.try_into().unwrap(),
            };
            self.ask(cci, &Request::ClearEventRecords(clear)).unwrap();
        }
        let told = answer.records.iter().map(|record| match &record.body {
            EventBody::DynamicCapacity(event) => (event.event_type, event.extent.clone()),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn extents(&mut self, host: u16) -> Vec<DpaExtent> {
        let asked = GetDcExtentListRequest {
            extent_count: 100,
            starting_extent_index: 0,
        };
        match self.ask(mailbox(host), &Request::GetDcExtentList(asked)) {
            Ok(Response::GetDcExtentList(list)) => list.extents.into_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, host: u16, extents: &[DpaExtent]) -> Result<Response, ReturnCode> {
        self.ask(mailbox(host), &Request::AddDcResponse(updated(extents)))
    }

    fn check(&self) {
        self.fabric
            .memdev(MemdevId(0))
            .unwrap()
            .capacity()
            .check()
            .unwrap();
    }
}

fn message(opcode: u16, payload: &[u8]) -> Message {
    Message {
        category: Category::Request,
        tag: 7,
        opcode,
        background: false,
        return_code: ReturnCode::Success,
        vendor_status: 0,
        payload: payload.to_vec().try_into().unwrap(),
    }
}

fn updated(extents: &[DpaExtent]) -> UpdatedExtentList {
    let one = |extent: &DpaExtent| UpdatedExtent {
        start_dpa: extent.start_dpa,
        length: extent.length,
    };
    UpdatedExtentList {
        flags: 0,
        extents: extents
            .iter()
            .map(one)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
    }
}

const TAG: Tag = Tag([9; 16]);

#[test]
fn capacity_is_offered_taken_asked_for_and_given_back() {
    let mut rig = Rig::new();
    rig.add(0, SelectionPolicy::Free, TAG).unwrap();
    let offered = rig.events(mailbox(0));
    assert_eq!(offered.len(), 1);
    let (told, extent) = offered[0].clone();
    assert_eq!(told, DynamicCapacityEventType::AddCapacity);
    assert_eq!(
        (extent.length, extent.tag, extent.shared_extent_sequence),
        (4 * MIB, TAG, 1)
    );
    assert!(rig.extents(0).is_empty());
    rig.take(0, std::slice::from_ref(&extent)).unwrap();
    assert_eq!(rig.extents(0), std::slice::from_ref(&extent));
    let answered = rig.events(DEVICE);
    assert_eq!(
        answered,
        [(
            DynamicCapacityEventType::AddCapacityResponse,
            extent.clone()
        )]
    );
    let release = InitiateReleaseRequest {
        host_id: LdId(0),
        removal_policy: RemovalPolicy::TagBased,
        forced_removal: false,
        sanitize_on_release: false,
        length: 4 * MIB,
        tag: TAG,
        extents: None,
    };
    rig.ask(DEVICE, &Request::InitiateRelease(release.clone()))
        .unwrap();
    let asked = rig.events(mailbox(0));
    assert_eq!(
        asked,
        [(DynamicCapacityEventType::ReleaseCapacity, extent.clone())]
    );
    assert_eq!(rig.extents(0).len(), 1, "it is only asked");
    let give = Request::ReleaseDc(updated(std::slice::from_ref(&extent)));
    rig.ask(mailbox(0), &give).unwrap();
    assert_eq!(
        rig.ask(mailbox(0), &give),
        Err(ReturnCode::InvalidPhysicalAddress)
    );
    let given = rig.events(DEVICE);
    assert_eq!(
        given,
        [(DynamicCapacityEventType::CapacityReleased, extent)]
    );
    assert_eq!(
        rig.ask(DEVICE, &Request::InitiateRelease(release)),
        Err(ReturnCode::InvalidInput)
    );
    rig.check();
}

#[test]
fn capacity_is_shared_kept_and_taken_by_force() {
    let mut rig = Rig::new();
    rig.add(0, SelectionPolicy::Contiguous, TAG).unwrap();
    let first = rig.events(mailbox(0))[0].1.clone();
    rig.take(0, &[first]).unwrap();
    rig.add(1, SelectionPolicy::EnableSharedAccess, TAG)
        .unwrap();
    assert_eq!(
        rig.add(1, SelectionPolicy::EnableSharedAccess, TAG),
        Err(ReturnCode::InvalidInput)
    );
    let tags = |rig: &mut Rig| {
        let asked = ListTagsRequest {
            starting_index: 0,
            max_tags: 9,
        };
        match rig.ask(DEVICE, &Request::ListTags(asked)) {
            Ok(Response::ListTags(list)) => {
                let tag = &list.tags[0];
                (tag.references[0], tag.pending_references[0], tag.flags)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(tags(&mut rig), (0b01, 0b10, 0));
    let second = rig.events(mailbox(1))[0].1.clone();
    rig.take(1, std::slice::from_ref(&second)).unwrap();
    rig.ask(
        DEVICE,
        &Request::AddReference(ReferenceRequest { tag: TAG }),
    )
    .unwrap();
    assert_eq!(tags(&mut rig), (0b11, 0, 1));
    for host in 0..2 {
        let release = InitiateReleaseRequest {
            host_id: LdId(host),
            removal_policy: RemovalPolicy::Prescriptive,
            forced_removal: true,
            sanitize_on_release: true,
            length: 0,
            tag: Tag([0; 16]),
            extents: Some(vec![second.clone()].try_into().unwrap()),
        };
        rig.ask(DEVICE, &Request::InitiateRelease(release)).unwrap();
        let gone = rig.events(mailbox(host));
        assert_eq!(gone[0].0, DynamicCapacityEventType::ForcedCapacityRelease);
        assert!(rig.extents(host).is_empty());
    }
    assert_eq!(tags(&mut rig), (0, 0, 1));
    rig.ask(
        DEVICE,
        &Request::RemoveReference(ReferenceRequest { tag: TAG }),
    )
    .unwrap();
    let free = |rig: &Rig| {
        rig.fabric
            .memdev(MemdevId(0))
            .unwrap()
            .capacity()
            .free_bytes()
    };
    assert_eq!(free(&rig), 60 * MIB, "what is zeroed is not free");
    rig.wait();
    rig.events(DEVICE);
    assert_eq!(free(&rig), 64 * MIB);
    rig.check();
}

#[test]
fn a_bridge_is_bound_in_the_background_and_leads_somewhere_then() {
    let mut rig = Rig::unbound();
    let here = Request::Identify(Empty);
    let (opcode, payload) = here.encode();
    assert_eq!(
        rig.send(mailbox(0), opcode, &payload),
        None,
        "the host reaches nothing"
    );
    assert_eq!(rig.bind(0), Err(ReturnCode::BackgroundCommandStarted));
    assert_eq!(rig.bind(1), Err(ReturnCode::Busy));
    let status = |rig: &mut Rig| match rig.ask(SWITCH, &Request::BackgroundOperationStatus(Empty)) {
        Ok(Response::BackgroundOperationStatus(status)) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(&mut rig).status & 1, 1);
    rig.wait();
    let ended = status(&mut rig);
    assert_eq!((ended.status, ended.opcode), (100 << 1, 0x5201));
    assert_eq!(ended.return_code, ReturnCode::Success);
    assert!(rig.ask(mailbox(0), &here).is_ok());
    let info = GetVcsInfoRequest {
        start_vppb: VppbId(0),
        vppb_list_limit: 4,
        vcss: vec![VcsId(0), VcsId(1), VcsId(9)].try_into().unwrap(),
    };
    let Ok(Response::GetVcsInfo(info)) = rig.ask(SWITCH, &Request::GetVcsInfo(info)) else {
        panic!();
    };
    assert_eq!(info.vcss[0].vppbs[0].binding_status, BindingStatus::BoundLd);
    assert_eq!(info.vcss[1].vppbs[0].binding_status, BindingStatus::Unbound);
    assert!(info.vcss[2].vppbs.is_empty());
    let unbind = UnbindVppbRequest {
        vcs_id: VcsId(0),
        vppb_id: VppbId(0),
        option: UnbindOption::SurpriseHotRemove,
    };
    let unbind = Request::UnbindVppb(unbind);
    assert_eq!(
        rig.ask(SWITCH, &unbind),
        Err(ReturnCode::BackgroundCommandStarted)
    );
    let abort = Request::RequestAbortBackgroundOperation(Empty);
    rig.ask(SWITCH, &abort).unwrap();
    assert_eq!(rig.fabric.next_due(), None, "nothing is to come of it");
    assert_eq!(rig.ask(SWITCH, &abort), Err(ReturnCode::InvalidInput));
    rig.wait();
    assert!(rig.ask(mailbox(0), &here).is_ok(), "it was given up");
    assert_eq!(
        rig.ask(SWITCH, &unbind),
        Err(ReturnCode::BackgroundCommandStarted)
    );
    rig.wait();
    assert_eq!(rig.send(mailbox(0), opcode, &payload), None);
    assert_eq!(rig.ask(SWITCH, &unbind), Err(ReturnCode::InvalidInput));
}

/// A command to what is behind, and how its answer ended.
fn tunnelled(rig: &mut Rig, cci: Cci, layers: &[(u8, TunnelTarget)]) -> Result<u8, ReturnCode> {
    let (opcode, payload) = Request::Identify(Empty).encode();
    let mut inner = message(opcode, &payload);
    for &(port_or_ld_id, target_type) in layers.iter().rev() {
        let tunnel = Request::TunnelManagementCommand(TunnelRequest {
            port_or_ld_id,
            target_type,
            command: inner.encode().try_into().unwrap(),
        });
        let (opcode, payload) = tunnel.encode();
        inner = message(opcode, &payload);
    }
    let mut answer = rig.send(cci, inner.opcode, &inner.payload).unwrap();
    loop {
        if answer.return_code != ReturnCode::Success {
            return Err(answer.return_code);
        }
        match Response::decode(answer.opcode, &answer.payload).unwrap() {
            Response::TunnelManagementCommand(tunnel) => {
                answer = Message::decode(&tunnel.response).unwrap();
            }
            Response::Identify(identity) => return Ok(identity.component_type),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_tunnel_leads_through_a_switch_to_a_memory_device_and_a_logical_one() {
    let mut rig = Rig::unbound();
    let (port, ld) = (TunnelTarget::PortOrLd, TunnelTarget::PortOrLd);
    assert_eq!(tunnelled(&mut rig, SWITCH, &[]), Ok(0));
    assert_eq!(tunnelled(&mut rig, SWITCH, &[(2, port)]), Ok(3));
    assert_eq!(tunnelled(&mut rig, SWITCH, &[(2, port), (1, ld)]), Ok(3));
    assert_eq!(tunnelled(&mut rig, DEVICE, &[(1, ld)]), Ok(3));
    assert_eq!(
        tunnelled(&mut rig, DEVICE, &[(2, ld)]),
        Err(ReturnCode::InvalidInput)
    );
    assert_eq!(
        tunnelled(&mut rig, SWITCH, &[(0, port)]),
        Err(ReturnCode::InvalidInput)
    );
    let pool = (0, TunnelTarget::LdPool);
    assert_eq!(tunnelled(&mut rig, DEVICE, &[pool, pool, pool]), Ok(3));
    let deep = tunnelled(&mut rig, DEVICE, &[pool, pool, pool, pool]);
    assert_eq!(deep, Err(ReturnCode::Unsupported));
    rig.fabric.step(
        Picos::ZERO,
        &Event::Fault(Fault::MemdevVanishes(MemdevId(0))),
    );
    assert_eq!(
        tunnelled(&mut rig, SWITCH, &[(2, port)]),
        Err(ReturnCode::InvalidInput)
    );
}

#[test]
fn an_interface_does_what_its_log_of_commands_says_and_nothing_else() {
    for cci in [DEVICE, SWITCH, mailbox(0)] {
        let mut rig = Rig::new();
        let told: Vec<u16> = rig.fabric.supported(cci).map(Opcode::number).collect();
        assert!(told.len() > 10);
        for opcode in 0..=0x5fff {
            let answer = rig.send(cci, opcode, &[0; 5]).unwrap().return_code;
            let is_done = answer != ReturnCode::Unsupported;
            assert_eq!(is_done, told.contains(&opcode), "{cci:?} {opcode:#x}");
        }
    }
}

#[test]
fn answers_are_as_long_as_was_said_and_lists_are_read_in_parts() {
    let mut rig = Rig::new();
    for number in 1..=8 {
        rig.add(0, SelectionPolicy::Free, Tag([number; 16]))
            .unwrap();
        let offered = rig.events(mailbox(0));
        rig.take(0, std::slice::from_ref(&offered[0].1)).unwrap();
    }
    let limit = Request::SetResponseMessageLimit(ResponseMessageLimit { limit: 8 });
    rig.ask(mailbox(0), &limit).unwrap();
    let mut all = Vec::new();
    while all.len() < 8 {
        let asked = GetDcExtentListRequest {
            extent_count: 100,
            starting_extent_index: u32::try_from(all.len()).unwrap(),
        };
        let Ok(Response::GetDcExtentList(list)) =
            rig.ask(mailbox(0), &Request::GetDcExtentList(asked))
        else {
            panic!();
        };
        assert_eq!(list.total_extent_count, 8);
        assert!((1..8).contains(&list.extents.len()));
        all.extend(list.extents.into_vec());
    }
    rig.ask(
        mailbox(0),
        &Request::SetResponseMessageLimit(ResponseMessageLimit { limit: 20 }),
    )
    .unwrap();
    assert_eq!(rig.extents(0), all);
    let past = GetDcExtentListRequest {
        extent_count: 1,
        starting_extent_index: 9,
    };
    assert_eq!(
        rig.ask(mailbox(0), &Request::GetDcExtentList(past)),
        Err(ReturnCode::InvalidInput)
    );
}

#[test]
fn poison_is_listed_where_the_host_sees_it_and_gone_after_it_is_sanitized() {
    let mut rig = Rig::new();
    rig.add(1, SelectionPolicy::Free, TAG).unwrap();
    let extent = rig.events(mailbox(1))[0].1.clone();
    rig.take(1, std::slice::from_ref(&extent)).unwrap();
    let line = |dpa| InjectPoisonRequest {
        physical_address: Line::at(dpa).unwrap(),
    };
    let dpa = extent.start_dpa + 128;
    rig.ask(mailbox(1), &Request::InjectPoison(line(dpa)))
        .unwrap();
    let nowhere = Request::InjectPoison(line(extent.start_dpa + extent.length));
    assert_eq!(
        rig.ask(mailbox(1), &nowhere),
        Err(ReturnCode::InvalidPhysicalAddress)
    );
    let listed = |rig: &mut Rig| {
        let asked = GetPoisonListRequest {
            physical_address: 0,
            physical_address_length: u64::MAX >> 6,
        };
        match rig.ask(mailbox(1), &Request::GetPoisonList(asked)) {
            Ok(Response::GetPoisonList(list)) => list
                .records
                .iter()
                .map(|it| it.media_error_address & !63)
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(listed(&mut rig), [dpa]);
    let sanitize = Request::Sanitize(Empty);
    assert_eq!(
        rig.ask(mailbox(1), &sanitize),
        Err(ReturnCode::BackgroundCommandStarted)
    );
    assert_eq!(rig.ask(mailbox(1), &sanitize), Err(ReturnCode::Busy));
    rig.wait();
    assert!(listed(&mut rig).is_empty());
}

#[test]
fn a_long_list_of_poison_is_read_to_its_end() {
    let mut rig = Rig::new();
    rig.add(1, SelectionPolicy::Free, TAG).unwrap();
    let extent = rig.events(mailbox(1))[0].1.clone();
    rig.take(1, std::slice::from_ref(&extent)).unwrap();
    for number in 0..40 {
        let line = Line::at(extent.start_dpa + number * 64).unwrap();
        let inject = InjectPoisonRequest {
            physical_address: line,
        };
        rig.ask(mailbox(1), &Request::InjectPoison(inject)).unwrap();
    }
    let limit = Request::SetResponseMessageLimit(ResponseMessageLimit { limit: 8 });
    rig.ask(mailbox(1), &limit).unwrap();
    let mut read = |restarts: u64| {
        let asked = GetPoisonListRequest {
            physical_address: restarts,
            physical_address_length: u64::MAX >> 6,
        };
        match rig.ask(mailbox(1), &Request::GetPoisonList(asked)) {
            Ok(Response::GetPoisonList(list)) => {
                let records = list.records.iter().map(|it| it.media_error_address & !63);
                (records.collect::<Vec<_>>(), list.poison_list_flags & 1 != 0)
            }
            other => panic!("{other:?}"),
        }
    };
    let (mut all, mut has_more) = read(0);
    let first = all.clone();
    while has_more {
        let (some, more) = read(0);
        all.extend(some);
        has_more = more;
        assert!(all.len() <= 40);
    }
    let expected: Vec<u64> = (0..40)
        .map(|number| extent.start_dpa + number * 64)
        .collect();
    assert_eq!(all, expected);
    read(0);
    assert_eq!(read(GetPoisonListRequest::RESTART).0, first);
}

#[test]
fn a_component_has_the_time_that_it_was_told_and_goes_on_from_there() {
    let mut rig = Rig::new();
    let timestamp_ns = 1_000_000;
    rig.ask(DEVICE, &Request::SetTimestamp(Timestamp { timestamp_ns }))
        .unwrap();
    rig.now = rig.now.saturating_add(Picos::from_nanos(5));
    let told = rig.ask(DEVICE, &Request::GetTimestamp(Empty));
    let expected = Timestamp {
        timestamp_ns: 1_000_005,
    };
    assert_eq!(told, Ok(Response::GetTimestamp(expected)));
}

#[test]
fn a_region_is_set_up_anew_while_nothing_of_it_is_in_use() {
    let mut rig = Rig::new();
    let block = |rig: &mut Rig| {
        let asked = GetDcConfigRequest {
            region_count: 1,
            starting_region_index: 0,
        };
        match rig.ask(mailbox(0), &Request::GetDcConfig(asked)) {
            Ok(Response::GetDcConfig(config)) => config.regions[0].region_block_size,
            other => panic!("{other:?}"),
        }
    };
    let set = |region_block_size| {
        Request::SetDcRegionConfig(SetDcRegionConfigRequest {
            region_id: SOFTWARE,
            region_block_size,
            sanitize_on_release: 1,
        })
    };
    rig.ask(DEVICE, &set(4 * MIB)).unwrap();
    assert_eq!(block(&mut rig), 4 * MIB);
    for wrong in [0, 3 * MIB, 32, 512 * MIB] {
        assert_eq!(
            rig.ask(DEVICE, &set(wrong)),
            Err(ReturnCode::InvalidInput),
            "{wrong}"
        );
    }
    rig.add(0, SelectionPolicy::Free, TAG).unwrap();
    assert_eq!(
        rig.ask(DEVICE, &set(2 * MIB)),
        Err(ReturnCode::InvalidInput)
    );
    assert_eq!(block(&mut rig), 4 * MIB);
}

#[test]
fn what_is_no_command_is_dropped() {
    let mut rig = Rig::new();
    let good = message(1, &[]).encode();
    let drop = |rig: &mut Rig, message: Vec<u8>| {
        let effects = rig.fabric.step(
            Picos::ZERO,
            &Event::Command {
                cci: DEVICE,
                message,
            },
        );
        assert_eq!(effects, [Effect::Dropped]);
    };
    for length in 0..good.len() {
        drop(&mut rig, good[..length].to_vec());
    }
    let answer = Message {
        category: Category::Response,
        ..message(1, &[])
    };
    drop(&mut rig, answer.encode());
    drop(&mut rig, [&good[..], &[0]].concat());
}
