//! A switch and its manager: ports, virtual switches, and what their bridges are bound to.

use super::super::Fabric;
use super::super::link::Link;
use super::{Answer, Cci, cut, list};
use crate::cci::generic::Empty;
use crate::cci::switch::{
    ConnectedMode, ConnectedType, GetPhysicalPortStateRequest, GetPhysicalPortStateResponse,
    IdentifySwitchDeviceResponse, Ltssm, PhysicalPortControlRequest, PortInformation,
    PortOperation, PortState,
};
use crate::cci::tunnel::{TunnelRequest, TunnelTarget};
use crate::cci::virtual_switch::{
    BindVppbRequest, BindingStatus, GetVcsInfoRequest, GetVcsInfoResponse, UnbindVppbRequest,
    VcsHead, VcsInformation, VcsState, VppbInformation,
};
use crate::cci::{Request, Response, ReturnCode};
use crate::id::{Node, PortId, SwitchId, VcsId};
use crate::switch::{Bound, Role, Switch};
use crate::topology::MemdevKind;

/// No logical device.
const NO_LD: u8 = 0xff;
/// The flit mode of links at 64 GT/s, and that of slower ones, as a bit of those supported.
const FLIT_256: u8 = 1 << 2;

impl Fabric {
    pub(super) fn switch_command(
        &mut self,
        (cci, id): (Cci, SwitchId),
        request: Request,
    ) -> Answer {
        let switch = self
            .switches
            .get(id.index())
            .ok_or(ReturnCode::InternalError)?;
        let response = match request {
            Request::IdentifySwitchDevice(_) => Response::IdentifySwitchDevice(identity(switch)),
            Request::GetPhysicalPortState(asked) => self.ports(id, &asked)?,
            Request::PhysicalPortControl(asked) => {
                self.control(id, &asked)?;
                Response::PhysicalPortControl(Empty)
            }
            Request::GetVcsInfo(asked) => vcs_info(switch, &asked)?,
            Request::BindVppb(asked) => return self.bind_bridge((cci, id), &asked),
            Request::UnbindVppb(asked) => {
                return self.unbind_bridge((cci, id), &asked);
            }
            Request::GenerateAerEvent(asked) => {
                let vcs = switch.virtual_switches().get(asked.vcs_id.index());
                let bridges = vcs.ok_or(ReturnCode::InvalidInput)?.bridges.len();
                if asked.vppb_instance.index() > bridges {
                    return Err(ReturnCode::InvalidInput);
                }
                Response::GenerateAerEvent(Empty)
            }
            Request::TunnelManagementCommand(tunnel) => self.tunnel_to_port(id, &tunnel)?,
            _ => return Err(ReturnCode::Unsupported),
        };
        Ok(response.into())
    }

    fn bind_bridge(&mut self, (cci, id): (Cci, SwitchId), asked: &BindVppbRequest) -> Answer {
        let switch = self
            .switches
            .get(id.index())
            .ok_or(ReturnCode::InternalError)?;
        let bridge = (asked.vcs_id, asked.vppb_id);
        let to = Bound {
            port: asked.port_id,
            ld: Some(asked.ld_id).filter(|&ld| ld != BindVppbRequest::NO_LD),
        };
        switch.may_bind(bridge, to)?;
        if switch.refuses() {
            return Err(ReturnCode::InternalError);
        }
        self.begin_to_bind((cci, id), bridge, to)
    }

    fn unbind_bridge(&mut self, (cci, id): (Cci, SwitchId), asked: &UnbindVppbRequest) -> Answer {
        let (vcs, vppb) = (asked.vcs_id, asked.vppb_id);
        let switch = self
            .switches
            .get(id.index())
            .ok_or(ReturnCode::InternalError)?;
        let bridges = switch
            .virtual_switches()
            .get(vcs.index())
            .map(|it| &it.bridges);
        let bound = bridges.and_then(|bridges| bridges.get(vppb.index()));
        let Some(&Some(bound)) = bound else {
            return Err(ReturnCode::InvalidInput);
        };
        if switch.refuses() {
            return Err(ReturnCode::InternalError);
        }
        self.begin_to_unbind((cci, id), (vcs, vppb), (asked.option, bound.port))
    }

    fn ports(
        &self,
        id: SwitchId,
        asked: &GetPhysicalPortStateRequest,
    ) -> Result<Response, ReturnCode> {
        let switch = self
            .switches
            .get(id.index())
            .ok_or(ReturnCode::InternalError)?;
        let port = |&port_id: &PortId| {
            let found = switch.ports().get(port_id.index());
            found.map_or(invalid(port_id), |&role| self.port((id, port_id), role))
        };
        Ok(Response::GetPhysicalPortState(
            GetPhysicalPortStateResponse {
                ports: list(asked.ports.iter().map(port).collect())?,
            },
        ))
    }

    fn port(&self, (id, port_id): (SwitchId, PortId), role: Role) -> PortInformation {
        let end = self.ends.get(&(Node::Switch(id), port_id));
        let link = self
            .link_at(Node::Switch(id), port_id)
            .map(|(_, link)| link);
        let is_up = link.is_some_and(Link::is_up);
        let (lanes, speed) = link.map_or((0, 0), Link::most);
        let (width_now, speed_now) = link.map_or((0, 0), Link::current);
        let is_in_reset = link.is_some_and(|link| link.is_in_reset);
        let node = end.filter(|_| is_up).map(|((node, _), _)| *node);
        let (kind, lds) = self.connected(node);
        PortInformation {
            port_id,
            configuration_state: match role {
                Role::Unused => PortState::Disabled,
                Role::Upstream(_) => PortState::Upstream,
                Role::Downstream { .. } => PortState::Downstream,
            },
            connected_device_mode: match node {
                Some(_) => ConnectedMode::Flit256,
                None => ConnectedMode::NotCxl,
            },
            connected_device_type: kind,
            supported_cxl_modes: FLIT_256,
            maximum_link_width: lanes,
            negotiated_link_width: width_now,
            supported_link_speeds: (1 << speed) - 1,
            maximum_link_speed: speed,
            current_link_speed: speed_now,
            ltssm_state: match (is_up, is_in_reset) {
                (true, _) => Ltssm::L0,
                (false, true) => Ltssm::HotReset,
                (false, false) => Ltssm::Detect,
            },
            first_negotiated_lane: 0,
            link_state_flags: if node.is_some() { 1 << 2 } else { 0 },
            supported_ld_count: lds,
        }
    }

    /// What is on a port, and how many logical devices more than one it has.
    fn connected(&self, node: Option<Node>) -> (ConnectedType, u8) {
        match node {
            None | Some(Node::Host(_)) => (ConnectedType::None, 0),
            Some(Node::Switch(_)) => (ConnectedType::Type2OrSwitch, 0),
            Some(Node::Memdev(memdev)) => match self.memdev(memdev).map(|it| it.kind()) {
                Some(MemdevKind::Mld(lds)) => (ConnectedType::Type3Multi, lds.saturating_sub(1)),
                _ => (ConnectedType::Type3Single, 0),
            },
        }
    }

    /// Resets are over at once; while one is asserted the link is down.
    fn control(
        &mut self,
        id: SwitchId,
        asked: &PhysicalPortControlRequest,
    ) -> Result<(), ReturnCode> {
        let end = self.ends.get(&(Node::Switch(id), asked.port_id));
        let link = end.map(|(_, link)| *link).ok_or(ReturnCode::InvalidInput)?;
        let link = self.links.get_mut(link).ok_or(ReturnCode::InternalError)?;
        match asked.operation {
            PortOperation::AssertReset => link.is_in_reset = true,
            PortOperation::DeassertReset => link.is_in_reset = false,
            PortOperation::ResetBridge => {}
        }
        self.has_new_routes = true;
        self.look_at_routes();
        self.links_changed();
        Ok(())
    }

    /// A command of the manager to what is on a port.
    fn tunnel_to_port(
        &mut self,
        id: SwitchId,
        tunnel: &TunnelRequest,
    ) -> Result<Response, ReturnCode> {
        let port = (Node::Switch(id), PortId(tunnel.port_or_ld_id));
        let end = self.ends.get(&port).filter(|(_, link)| self.is_up(*link));
        match (tunnel.target_type, end) {
            (TunnelTarget::PortOrLd, Some(((Node::Memdev(memdev), _), _)))
                if self.gone.get(memdev.index()) == Some(&false) =>
            {
                self.pass_on(Cci::Memdev(*memdev), tunnel)
            }
            _ => Err(ReturnCode::InvalidInput),
        }
    }
}

fn invalid(port_id: PortId) -> PortInformation {
    PortInformation {
        port_id,
        configuration_state: PortState::InvalidPort,
        connected_device_mode: ConnectedMode::NotCxl,
        connected_device_type: ConnectedType::None,
        supported_cxl_modes: 0,
        maximum_link_width: 0,
        negotiated_link_width: 0,
        supported_link_speeds: 0,
        maximum_link_speed: 0,
        current_link_speed: 0,
        ltssm_state: Ltssm::Detect,
        first_negotiated_lane: 0,
        link_state_flags: 0,
        supported_ld_count: 0,
    }
}

/// A bit for each of so many that are there.
fn bits(is_there: impl Iterator<Item = bool>) -> [u8; 32] {
    let mut bits = [0; 32];
    for (number, is_there) in is_there.enumerate() {
        if let (true, Some(byte)) = (is_there, bits.get_mut(number / 8)) {
            *byte |= 1 << (number % 8);
        }
    }
    bits
}

fn identity(switch: &Switch) -> IdentifySwitchDeviceResponse {
    let (ports, all) = (switch.ports(), switch.virtual_switches());
    let bridges = || all.iter().flat_map(|it| &it.bridges);
    IdentifySwitchDeviceResponse {
        ingress_port_id: 0,
        physical_ports: cut(ports.len(), u8::MAX),
        virtual_switches: cut(all.len(), u8::MAX),
        active_ports: bits(ports.iter().map(|&role| role != Role::Unused)),
        active_virtual_switches: bits(all.iter().map(|_| true)),
        total_vppbs: cut(bridges().count(), u16::MAX),
        bound_vppbs: cut(bridges().flatten().count(), u16::MAX),
        hdm_decoders: 0,
    }
}

fn vcs_info(switch: &Switch, asked: &GetVcsInfoRequest) -> Result<Response, ReturnCode> {
    let one = |&vcs_id: &VcsId| {
        let Some(vcs) = switch.virtual_switches().get(vcs_id.index()) else {
            let head = VcsHead {
                vcs_id,
                state: VcsState::InvalidVcs,
                upstream_port_id: PortId(0),
                vppb_count: 0,
            };
            let vppbs = list(Vec::new())?;
            return Ok(VcsInformation { head, vppbs });
        };
        let head = VcsHead {
            vcs_id,
            state: VcsState::Enabled,
            upstream_port_id: vcs.upstream,
            vppb_count: cut(vcs.bridges.len(), u8::MAX),
        };
        let some = super::part(
            &vcs.bridges,
            asked.start_vppb.index(),
            asked.vppb_list_limit.into(),
        );
        let vppbs = list(some.into_iter().map(bridge).collect())?;
        Ok(VcsInformation { head, vppbs })
    };
    let vcss: Result<Vec<_>, ReturnCode> = asked.vcss.iter().map(one).collect();
    Ok(Response::GetVcsInfo(GetVcsInfoResponse {
        vcss: list(vcss?)?,
    }))
}

fn bridge(bound: Option<Bound>) -> VppbInformation {
    match bound {
        None => VppbInformation {
            binding_status: BindingStatus::Unbound,
            bound_port_id: PortId(0),
            bound_ld_id: NO_LD,
        },
        Some(Bound { port, ld }) => VppbInformation {
            binding_status: match ld {
                Some(_) => BindingStatus::BoundLd,
                None => BindingStatus::BoundPort,
            },
            bound_port_id: port,
            bound_ld_id: ld.map_or(NO_LD, |ld| cut(ld.index(), NO_LD)),
        },
    }
}
