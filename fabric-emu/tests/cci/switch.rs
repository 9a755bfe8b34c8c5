//! What switches answer.

use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::switch::{
    ConnectedMode, ConnectedType, GetPhysicalPortStateRequest, GetPhysicalPortStateResponse,
    IdentifySwitchDeviceResponse, Ltssm, PhysicalPortControlRequest, PortInformation,
    PortOperation, PortState,
};
use fabric_emu::cci::tunnel::{TunnelRequest, TunnelResponse, TunnelTarget};
use fabric_emu::cci::virtual_switch::{
    BindVppbRequest, BindingStatus, GenerateAerEventRequest, GetVcsInfoRequest, GetVcsInfoResponse,
    UnbindOption, UnbindVppbRequest, VcsHead, VcsInformation, VcsState, VppbInformation,
};
use fabric_emu::cci::{Malformed, Message, Request, Response};
use fabric_emu::id::{LdId, PortId, VcsId, VppbId};

use crate::{counting, hex, list, request, response};

#[test]
fn identify_switch_device() {
    let mut active_ports = [0; 32];
    active_ports[0] = 0x0f;
    active_ports[31] = 0x80;
    let mut active_virtual_switches = [0; 32];
    active_virtual_switches[0] = 0x03;
    request(0x5100, "", &Request::IdentifySwitchDevice(Empty));
    response(
        0x5100,
        "02
         00
         05
         03
         0f000000000000000000000000000000 00000000000000000000000000000080
         03000000000000000000000000000000 00000000000000000000000000000000
         0201
         0403
         08",
        &Response::IdentifySwitchDevice(IdentifySwitchDeviceResponse {
            ingress_port_id: 2,
            physical_ports: 5,
            virtual_switches: 3,
            active_ports,
            active_virtual_switches,
            total_vppbs: 0x0102,
            bound_vppbs: 0x0304,
            hdm_decoders: 8,
        }),
    );
}

#[test]
fn get_physical_port_state() {
    request(
        0x5101,
        "02 01 04",
        &Request::GetPhysicalPortState(GetPhysicalPortStateRequest {
            ports: list(vec![PortId(1), PortId(4)]),
        }),
    );
    response(
        0x5101,
        "01
         000000
         04 03 03 00 05 06 10 08 3f 06 05 04 02 0500 0f",
        &Response::GetPhysicalPortState(GetPhysicalPortStateResponse {
            ports: list(vec![PortInformation {
                port_id: PortId(4),
                configuration_state: PortState::Downstream,
                connected_device_mode: ConnectedMode::Flit256,
                connected_device_type: ConnectedType::Type3Multi,
                supported_cxl_modes: 0x06,
                maximum_link_width: 16,
                negotiated_link_width: 8,
                supported_link_speeds: 0x3f,
                maximum_link_speed: 6,
                current_link_speed: 5,
                ltssm_state: Ltssm::L0,
                first_negotiated_lane: 2,
                link_state_flags: 5,
                supported_ld_count: 15,
            }]),
        }),
    );
}

#[test]
fn physical_port_control() {
    request(
        0x5102,
        "04 02",
        &Request::PhysicalPortControl(PhysicalPortControlRequest {
            port_id: PortId(4),
            operation: PortOperation::ResetBridge,
        }),
    );
    response(0x5102, "", &Response::PhysicalPortControl(Empty));
}

fn bridge(binding_status: BindingStatus, port: u8, bound_ld_id: u8) -> VppbInformation {
    VppbInformation {
        binding_status,
        bound_port_id: PortId(port),
        bound_ld_id,
    }
}

fn two_switches() -> Response {
    let head = |vcs_id, state, vppb_count| VcsHead {
        vcs_id: VcsId(vcs_id),
        state,
        upstream_port_id: PortId(vcs_id),
        vppb_count,
    };
    Response::GetVcsInfo(GetVcsInfoResponse {
        vcss: list(vec![
            VcsInformation {
                head: head(0, VcsState::Enabled, 2),
                vppbs: list(vec![
                    bridge(BindingStatus::BoundLd, 4, 3),
                    bridge(BindingStatus::BoundPort, 5, 0xff),
                ]),
            },
            VcsInformation {
                head: head(1, VcsState::Disabled, 1),
                vppbs: list(vec![bridge(BindingStatus::Unbound, 0, 0xff)]),
            },
        ]),
    })
}

const TWO_SWITCHES: &str = "
    02
    000000
    00 01 00 02
    03 04 03 00
    02 05 ff 00
    01 00 01 01
    00 00 ff 00";

#[test]
fn get_vcs_info() {
    request(
        0x5200,
        "00
         ff
         02
         00 01",
        &Request::GetVcsInfo(GetVcsInfoRequest {
            start_vppb: VppbId(0),
            vppb_list_limit: 255,
            vcss: list(vec![VcsId(0), VcsId(1)]),
        }),
    );
    response(0x5200, TWO_SWITCHES, &two_switches());
}

#[test]
fn get_vcs_info_lists_as_many_bridges_as_were_asked_for() {
    let asked = Request::GetVcsInfo(GetVcsInfoRequest {
        start_vppb: VppbId(1),
        vppb_list_limit: 1,
        vcss: list(vec![VcsId(0), VcsId(1)]),
    });
    let bytes = hex("02 000000  00 01 00 02  02 05 ff 00  01 00 01 01");
    let answer = Response::decode_for(&asked, &bytes).expect("an answer to this request");
    assert_eq!(answer.encode(), (0x5200, bytes.clone()));
    let Response::GetVcsInfo(info) = answer else {
        panic!("another answer")
    };
    assert_eq!(
        info.vcss[0].vppbs[..],
        [bridge(BindingStatus::BoundPort, 5, 0xff)]
    );
    assert!(info.vcss[1].vppbs.is_empty());
    assert_eq!(Response::decode(0x5200, &bytes), Err(Malformed::Length));
    assert_eq!(
        Response::decode_for(&asked, &hex(TWO_SWITCHES)),
        Err(Malformed::Value)
    );
}

#[test]
fn bind_and_unbind_vppb() {
    request(
        0x5201,
        "01
         02
         03
         00
         0500",
        &Request::BindVppb(BindVppbRequest {
            vcs_id: VcsId(1),
            vppb_id: VppbId(2),
            port_id: PortId(3),
            ld_id: LdId(5),
        }),
    );
    request(
        0x5201,
        "01 02 03 00 ffff",
        &Request::BindVppb(BindVppbRequest {
            vcs_id: VcsId(1),
            vppb_id: VppbId(2),
            port_id: PortId(3),
            ld_id: BindVppbRequest::NO_LD,
        }),
    );
    response(0x5201, "", &Response::BindVppb(Empty));
    request(
        0x5202,
        "01
         02
         02",
        &Request::UnbindVppb(UnbindVppbRequest {
            vcs_id: VcsId(1),
            vppb_id: VppbId(2),
            option: UnbindOption::SurpriseHotRemove,
        }),
    );
    response(0x5202, "", &Response::UnbindVppb(Empty));
}

#[test]
fn generate_aer_event() {
    request(
        0x5203,
        "01
         02
         0000
         05000080
         000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f",
        &Request::GenerateAerEvent(GenerateAerEventRequest {
            vcs_id: VcsId(1),
            vppb_instance: VppbId(2),
            aer_error: 0x8000_0005,
            aer_header: counting(0),
        }),
    );
    response(0x5203, "", &Response::GenerateAerEvent(Empty));
}

/// Identify, to logical device 2 of the device on port 4.
const NESTED: &str = "
    04
    00
    1c00
    00 07 00 0053 100000 0000 0000
        02
        00
        0c00
        00 08 00 0100 000000 0000 0000";

#[test]
fn tunnels_are_nested() {
    let bytes = hex(NESTED);
    let outer = TunnelRequest {
        port_or_ld_id: 4,
        target_type: TunnelTarget::PortOrLd,
        command: list(bytes[4..].to_vec()),
    };
    request(
        0x5300,
        NESTED,
        &Request::TunnelManagementCommand(outer.clone()),
    );

    let message = Message::decode(&outer.command).expect("a message");
    let inner = Request::decode(message.opcode, &message.payload).expect("a tunnel");
    let Request::TunnelManagementCommand(inner) = inner else {
        panic!("no tunnel")
    };
    assert_eq!(
        (inner.port_or_ld_id, inner.target_type),
        (2, TunnelTarget::PortOrLd)
    );
    let message = Message::decode(&inner.command).expect("a message");
    let innermost = Request::decode(message.opcode, &message.payload);
    assert_eq!((message.tag, innermost), (8, Ok(Request::Identify(Empty))));
}

#[test]
fn what_comes_out_of_a_tunnel() {
    let text = "
        0d00
        0000
        01 08 00 0300 010000 0000 0000 0c";
    response(
        0x5300,
        text,
        &Response::TunnelManagementCommand(TunnelResponse {
            response: list(hex("01 08 00 0300 010000 0000 0000 0c")),
        }),
    );
}
