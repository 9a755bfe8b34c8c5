//! What all heads and logical devices of a memory device share, for its manager; and the way on to
//! a logical device.

use super::super::Fabric;
use super::{Answer, Cci, list, part};
use crate::cci::logical_devices::{
    GetLdAllocationsRequest, GetLdAllocationsResponse, GetLdInfoResponse, LdAllocation,
    MemoryGranularity,
};
use crate::cci::multi_headed::{
    GetHeadInfoRequest, GetHeadInfoResponse, GetMultiHeadedInfoRequest, GetMultiHeadedInfoResponse,
    HeadInformation,
};
use crate::cci::switch::Ltssm;
use crate::cci::tunnel::{TunnelRequest, TunnelResponse, TunnelTarget};
use crate::cci::{Category, Message, Request, Response, ReturnCode};
use crate::id::{HostId, LdId, MemdevId, Node, PortId};
use crate::memdev::GRANULE;
use crate::topology::MemdevKind;

/// Tunnels in tunnels; more are not followed. As the specification has it: three layers.
const MOST_LAYERS: u8 = 3;
/// How long what comes back through a tunnel may be, but for its header and those of tunnels.
const TUNNEL_ROOM: usize = 0xffff - 64;
/// Nobody: the manager itself speaks for a logical device.
pub(super) const MANAGER: HostId = HostId(u16::MAX);

impl Fabric {
    pub(super) fn memdev_command(
        &mut self,
        (cci, memdev): (Cci, MemdevId),
        request: Request,
        room: usize,
    ) -> Answer {
        if request.opcode().number() >> 8 == 0x56 {
            return self.managed_capacity(memdev, request, room);
        }
        if request.opcode().number() >> 8 == 0x01 {
            return Ok(self.manager_events(memdev, &request, room)?.into());
        }
        let device = self.memdev(memdev).ok_or(ReturnCode::InternalError)?;
        let response = match request {
            Request::GetLdInfo(_) => Response::GetLdInfo(GetLdInfoResponse {
                memory_size: device
                    .fixed_bytes()
                    .saturating_add(device.capacity().bytes()),
                ld_count: device.kind().logical_devices().into(),
                qos_telemetry_capability: 0,
            }),
            Request::GetLdAllocations(asked) => self.allocations(memdev, &asked)?,
            Request::GetMultiHeadedInfo(asked) => heads_of_lds(device.kind(), &asked)?,
            Request::GetHeadInfo(asked) => self.head_info(memdev, &asked)?,
            Request::TunnelManagementCommand(tunnel) => self.tunnel_to_ld(cci, memdev, &tunnel)?,
            _ => return Err(ReturnCode::Unsupported),
        };
        Ok(response.into())
    }

    fn allocations(
        &self,
        memdev: MemdevId,
        asked: &GetLdAllocationsRequest,
    ) -> Result<Response, ReturnCode> {
        let device = self.memdev(memdev).ok_or(ReturnCode::InternalError)?;
        let count = device.kind().logical_devices();
        if asked.start_ld_id >= count {
            return Err(ReturnCode::InvalidInput);
        }
        let all = (0..count).map(|ld| {
            let fixed = device.ld(LdId(ld.into())).map_or(0, |(fixed, _)| fixed);
            LdAllocation {
                range_1_multiplier: fixed / GRANULE,
                range_2_multiplier: 0,
            }
        });
        let all: Vec<_> = all.collect();
        let (first, most) = (
            asked.start_ld_id.into(),
            asked.ld_allocation_list_limit.into(),
        );
        Ok(Response::GetLdAllocations(GetLdAllocationsResponse {
            ld_count: count,
            memory_granularity: MemoryGranularity::Mib256,
            start_ld_id: asked.start_ld_id,
            allocations: list(part(&all, first, most))?,
        }))
    }

    fn head_info(
        &self,
        memdev: MemdevId,
        asked: &GetHeadInfoRequest,
    ) -> Result<Response, ReturnCode> {
        let device = self.memdev(memdev).ok_or(ReturnCode::InternalError)?;
        let MemdevKind::MultiHeaded(heads) = device.kind() else {
            return Err(ReturnCode::Unsupported);
        };
        let end = asked.start_head.checked_add(asked.head_count);
        let end = end
            .filter(|&end| end <= heads)
            .ok_or(ReturnCode::InvalidInput)?;
        let heads = (asked.start_head..end).map(|head| {
            let link = self.link_at(Node::Memdev(memdev), PortId(head));
            let is_up = link.is_some_and(|(_, link)| link.is_up());
            let (lanes, speed) = link.map_or((0, 0), |(_, link)| link.most());
            let (width_now, speed_now) = link.map_or((0, 0), |(_, link)| link.current());
            HeadInformation {
                port_number: head,
                maximum_link_width: lanes,
                negotiated_link_width: width_now,
                supported_link_speeds: (1 << speed) - 1,
                maximum_link_speed: speed,
                current_link_speed: speed_now,
                ltssm_state: if is_up { Ltssm::L0 } else { Ltssm::Detect },
                first_negotiated_lane: 0,
                link_state_flags: 0,
            }
        });
        Ok(Response::GetHeadInfo(GetHeadInfoResponse {
            heads: list(heads.collect())?,
        }))
    }

    /// A command of the manager to a logical device.
    fn tunnel_to_ld(
        &mut self,
        cci: Cci,
        memdev: MemdevId,
        tunnel: &TunnelRequest,
    ) -> Result<Response, ReturnCode> {
        let device = self.memdev(memdev).ok_or(ReturnCode::InternalError)?;
        let to = match tunnel.target_type {
            TunnelTarget::LdPool => cci,
            TunnelTarget::PortOrLd => {
                let ld = LdId(tunnel.port_or_ld_id.into());
                if ld.0 >= device.kind().logical_devices().into() {
                    return Err(ReturnCode::InvalidInput);
                }
                Cci::Mailbox {
                    host: MANAGER,
                    memdev,
                    ld,
                }
            }
        };
        self.pass_on(to, tunnel)
    }

    /// Passes a command on to another interface, and its answer back.
    pub(super) fn pass_on(
        &mut self,
        to: Cci,
        tunnel: &TunnelRequest,
    ) -> Result<Response, ReturnCode> {
        let message = Message::decode(&tunnel.command).map_err(|_| ReturnCode::InvalidInput)?;
        if message.category != Category::Request || self.layers >= MOST_LAYERS {
            return Err(ReturnCode::Unsupported);
        }
        self.layers += 1;
        let answer = self.answer(to, &message, TUNNEL_ROOM).encode();
        self.layers -= 1;
        let response = list(answer)?;
        Ok(Response::TunnelManagementCommand(TunnelResponse {
            response,
        }))
    }
}

fn heads_of_lds(
    kind: MemdevKind,
    asked: &GetMultiHeadedInfoRequest,
) -> Result<Response, ReturnCode> {
    let MemdevKind::MultiHeaded(heads) = kind else {
        return Err(ReturnCode::Unsupported);
    };
    if asked.start_ld_id >= heads {
        return Err(ReturnCode::InvalidInput);
    }
    // Logical device n is at head n.
    let map: Vec<u8> = (0..heads).collect();
    let (first, most) = (asked.start_ld_id.into(), asked.ld_map_list_limit.into());
    Ok(Response::GetMultiHeadedInfo(GetMultiHeadedInfoResponse {
        ld_count: heads,
        head_count: heads,
        start_ld_id: asked.start_ld_id,
        ld_map: list(part(&map, first, most))?,
    }))
}
