//! Virtual switches: what is bound to their bridges, and how that changes.
//!
//! 5200h to 5203h. Compared with the tables as published and with libcxlmi; 5203h with the fmapi
//! library of Jackrabbit Labs. The table counts the entries of a block as the lesser of the limit
//! and all bridges; opencis-core and fmapi count from the first bridge that was asked for, which is
//! what its footnote numbers, and what is done here.

use super::bytes::{Fixed, List, Malformed, Reader, Wire, Writer};
use super::layout::{codes, layout, listed};
use crate::id::{LdId, PortId, VcsId, VppbId};

listed! {
    /// Which virtual switches are asked for, and which of their bridges (5200h).
    GetVcsInfoRequest = 0x03 {
        /// The first bridge of each.
        0x00 start_vppb: VppbId,
        /// How many bridges of each at most.
        0x01 vppb_list_limit: u8; from 1 to 255,
    } then {
        /// Each virtual switch.
        vcss: [VcsId; 0xff], u8 at 0x02
    } check names_one
}

/// The count of virtual switches is at least 1.
fn names_one(request: &GetVcsInfoRequest) -> Result<(), Malformed> {
    if request.vcss.is_empty() {
        Err(Malformed::Value)
    } else {
        Ok(())
    }
}

codes! {
    /// Whether there is a virtual switch.
    VcsState: u8 {
        /// There is, but it is off.
        0x00 Disabled,
        /// There is.
        0x01 Enabled,
        /// There is none, and nothing else that is said of it means anything.
        0xff InvalidVcs,
    }
}

codes! {
    /// What a bridge leads to.
    BindingStatus: u8 {
        /// Nothing.
        0 Unbound,
        /// That is about to change.
        1 InProgress,
        /// A port.
        2 BoundPort,
        /// A logical device behind a port.
        3 BoundLd,
        /// A bridge of another switch.
        4 BoundPid,
    }
}

layout! {
    /// What a bridge leads to.
    VppbInformation = 0x04 {
        /// What kind of thing.
        0x00 binding_status: BindingStatus,
        /// Which port.
        0x01 bound_port_id: PortId,
        /// Which logical device; FFh where it is none.
        0x02 bound_ld_id: u8,
    }
}

/// A virtual switch, and those of its bridges that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcsInformation {
    /// Its head.
    pub head: VcsHead,
    /// The bridges, from the first that was asked for.
    pub vppbs: List<VppbInformation, 0xff>,
}

layout! {
    /// A virtual switch.
    VcsHead = 0x04 {
        /// Which one.
        0x00 vcs_id: VcsId,
        /// Whether it is.
        0x01 state: VcsState,
        /// The port that its host is on.
        0x02 upstream_port_id: PortId,
        /// How many bridges it has, asked for or not.
        0x03 vppb_count: u8,
    }
}

/// Virtual switches (5200h).
///
/// How many bridges a block lists is not in it, but follows from the request. [`Wire::decode`]
/// reads the answer to a request for all bridges, [`GetVcsInfoResponse::decode_for`] that to any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetVcsInfoResponse {
    /// Each of them, as asked.
    pub vcss: List<VcsInformation, 0xff>,
}

impl GetVcsInfoResponse {
    /// Reads the answer to a request for so many bridges from that one on.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode_for(bytes: &[u8], start: VppbId, limit: u8) -> Result<Self, Malformed> {
        let reader = Reader::new(bytes);
        let count: u8 = reader.at(0x00)?;
        let mut at = 0x04;
        let mut vcss = Vec::new();
        for _ in 0..count {
            let head: VcsHead = reader.at(at)?;
            let listed = usize::from(head.vppb_count.saturating_sub(start.0).min(limit));
            let vppbs = reader.list(at + VcsHead::BYTES, listed)?;
            at += VcsHead::BYTES + listed * VppbInformation::BYTES;
            vcss.push(VcsInformation { head, vppbs });
        }
        reader.ends_at(at)?;
        Ok(Self {
            vcss: vcss.try_into().map_err(|_| Malformed::Length)?,
        })
    }
}

impl Wire for GetVcsInfoResponse {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::decode_for(bytes, VppbId(0), u8::MAX)
    }

    fn encode(&self) -> Vec<u8> {
        use super::bytes::Count;

        let mut writer = Writer::default();
        writer.at(0x00, &u8::of(self.vcss.len()));
        let mut at = 0x04;
        writer.grow(at);
        for vcs in self.vcss.iter() {
            writer.at(at, &vcs.head);
            writer.list(at + VcsHead::BYTES, &vcs.vppbs);
            at += VcsHead::BYTES + vcs.vppbs.len() * VppbInformation::BYTES;
        }
        writer.into_bytes()
    }
}

#[cfg(test)]
impl super::sample::Sample for GetVcsInfoResponse {
    fn sample(source: &mut super::sample::Source) -> Self {
        Self {
            vcss: source.sample(),
        }
    }
}

#[cfg(test)]
impl super::sample::Sample for VcsInformation {
    fn sample(source: &mut super::sample::Source) -> Self {
        let vppbs: List<VppbInformation, 0xff> = source.sample();
        let head = VcsHead {
            vppb_count: u8::try_from(vppbs.len()).unwrap(),
            ..source.sample()
        };
        Self { head, vppbs }
    }
}

layout! {
    /// What is bound to what (5201h).
    BindVppbRequest = 0x06 {
        /// The virtual switch.
        0x00 vcs_id: VcsId,
        /// Its bridge.
        0x01 vppb_id: VppbId,
        /// The port that the bridge is to lead to.
        0x02 port_id: PortId,
        /// The logical device behind it, or [`BindVppbRequest::NO_LD`].
        0x04 ld_id: LdId,
    }
}

impl BindVppbRequest {
    /// What is on the port has no logical devices to choose from.
    pub const NO_LD: LdId = LdId(0xffff);
}

codes! {
    /// How a bridge is unbound.
    UnbindOption: u8 {
        /// Once the link of the port is down.
        0 WaitForLinkDown,
        /// As if the device was to be taken out: the host is asked.
        1 ManagedHotRemove,
        /// As if the device was torn out.
        2 SurpriseHotRemove,
    }
}

layout! {
    /// Which bridge is unbound (5202h).
    UnbindVppbRequest = 0x03 {
        /// The virtual switch.
        0x00 vcs_id: VcsId,
        /// Its bridge.
        0x01 vppb_id: VppbId,
        /// How.
        0x02 option: UnbindOption,
    }
}

layout! {
    /// An error that a host is to be told of (5203h).
    GenerateAerEventRequest = 0x28 {
        /// The virtual switch.
        0x00 vcs_id: VcsId,
        /// 0 the upstream port, above that the bridges in the order of their numbers.
        0x01 vppb_instance: VppbId,
        /// Bits 4:0: its bit in the status register. Bit 31: it was not corrected.
        0x04 aer_error: u32; bits 0x8000_001f,
        /// The head of the packet that it was about.
        0x08 aer_header: [u8; 32],
    }
}
