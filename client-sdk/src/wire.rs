//! The messages of the session socket, and the checks of what the daemon says.
//!
//! The daemon is trusted, but an answer that breaks the protocol means that one of the two is
//! broken: nothing of it is used. Numbers become types of `pool_core` here and nowhere else.

use std::os::fd::OwnedFd;

use coherence::{Layout, Slot};
use pool_core::limits::{MESSAGE_BYTES_MAX, RECALL_MS_DEFAULT};
use pool_core::mem::Access;
use pool_core::{
    BackingId, Bytes, ClientId, EXTENT_BYTES, GroupTag, Incarnation, Nanos, PoolAddr, SegmentId,
    WindowRange,
};
use pool_proto::common::v1 as common;
use pool_proto::session::v1::{self as session, reply, request};
use prost::Message as _;

use crate::error::{Error, ProtocolError};
use crate::info::{DomainInfo, Lifetime, Mode, OnDeath, Pages, SegmentInfo, SegmentList, TierInfo};

/// The protocol this library speaks.
pub(crate) const PROTOCOL: u32 = 1;
/// Bytes of a session's secret.
const TOKEN_BYTES: usize = 16;

/// An answer, as far as it is known to belong to its request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: reply::Body,
    pub(crate) descriptors: Vec<OwnedFd>,
}

pub(crate) fn encode(request_id: u64, body: request::Body) -> Vec<u8> {
    session::Request {
        request_id,
        body: Some(body),
    }
    .encode_to_vec()
}

/// Decodes a reply: its request id and its body.
pub(crate) fn decode(bytes: &[u8]) -> Result<(u64, reply::Body), ProtocolError> {
    let reply = session::Reply::decode(bytes).map_err(|_| ProtocolError::Undecodable)?;
    Ok((
        reply.request_id,
        reply.body.ok_or(ProtocolError::Undecodable)?,
    ))
}

pub(crate) fn decode_event(bytes: &[u8]) -> Result<session::event::Body, ProtocolError> {
    let event = session::Event::decode(bytes).map_err(|_| ProtocolError::Undecodable)?;
    event.body.ok_or(ProtocolError::Undecodable)
}

/// A buffer that holds any message.
pub(crate) fn buffer() -> Vec<u8> {
    vec![0; MESSAGE_BYTES_MAX]
}

impl Answer {
    /// # Errors
    /// The daemon's refusal, where it is one.
    pub(crate) fn accepted(self) -> Result<Self, Error> {
        match self.body {
            reply::Body::Error(error) => Err(error.into()),
            body => Ok(Self { body, ..self }),
        }
    }

    pub(crate) fn done(self) -> Result<(), Error> {
        let answer = self.accepted()?;
        descriptors(&answer.descriptors, 0)?;
        match answer.body {
            reply::Body::Done(_) => Ok(()),
            _ => Err(ProtocolError::Kind.into()),
        }
    }

    pub(crate) fn granted(self, window: WindowRange) -> Result<Grant, Error> {
        let answer = self.accepted()?;
        match answer.body {
            reply::Body::Granted(granted) => Ok(grant(granted, answer.descriptors, window)?),
            _ => Err(ProtocolError::Kind.into()),
        }
    }

    pub(crate) fn acquired(self) -> Result<session::Acquired, Error> {
        match self.accepted()?.body {
            reply::Body::Acquired(acquired) => Ok(acquired),
            _ => Err(ProtocolError::Kind.into()),
        }
    }

    pub(crate) fn listed(self) -> Result<SegmentList, Error> {
        match self.accepted()?.body {
            reply::Body::Listed(listed) => {
                let segments = listed
                    .segments
                    .iter()
                    .map(segment_info)
                    .collect::<Result<_, _>>()?;
                Ok(SegmentList {
                    segments,
                    truncated: listed.truncated,
                })
            }
            _ => Err(ProtocolError::Kind.into()),
        }
    }

    pub(crate) fn tiers(self) -> Result<Vec<TierInfo>, Error> {
        match self.accepted()?.body {
            reply::Body::Tiers(list) => Ok(list.tiers.into_iter().map(tier_info).collect()),
            _ => Err(ProtocolError::Kind.into()),
        }
    }
}

/// The daemon's word on a new session.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) client: ClientId,
    pub(crate) token: Vec<u8>,
    pub(crate) tenant: String,
    pub(crate) window: WindowRange,
    pub(crate) epoch: u64,
    pub(crate) advisory_isolation: bool,
    pub(crate) welcome: Welcome,
}

/// What rides along with a session that is opened or taken up.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) events: OwnedFd,
    pub(crate) liveness: OwnedFd,
}

pub(crate) fn attached(answer: Answer) -> Result<Attached, Error> {
    let Answer { body, descriptors } = answer.accepted()?;
    let reply::Body::Attached(attached) = body else {
        return Err(ProtocolError::Kind.into());
    };
    if attached.token.len() != TOKEN_BYTES {
        return Err(ProtocolError::Field("token").into());
    }
    let base = PoolAddr::new(attached.window_base);
    let window = WindowRange::new(base, Bytes::new(attached.window_bytes));
    Ok(Attached {
        client: ClientId::new(attached.client_id).ok_or(ProtocolError::Field("client_id"))?,
        token: attached.token,
        tenant: attached.tenant,
        window: window.map_err(|_| ProtocolError::Field("window_base"))?,
        epoch: attached.daemon_epoch,
        advisory_isolation: attached.advisory_isolation,
        welcome: welcome(descriptors)?,
    })
}

/// The daemon's word on a session that was taken up again.
#[derive(Debug)]
pub(crate) struct Reattached {
    pub(crate) message: session::Reattached,
    pub(crate) welcome: Welcome,
}

pub(crate) fn reattached(answer: Answer) -> Result<Reattached, Error> {
    let Answer { body, descriptors } = answer.accepted()?;
    match body {
        reply::Body::Reattached(message) => Ok(Reattached {
            message,
            welcome: welcome(descriptors)?,
        }),
        _ => Err(ProtocolError::Kind.into()),
    }
}

fn welcome(descriptors: Vec<OwnedFd>) -> Result<Welcome, ProtocolError> {
    match <[OwnedFd; 2]>::try_from(descriptors) {
        Ok([events, liveness]) => Ok(Welcome { events, liveness }),
        Err(other) => Err(ProtocolError::Descriptors {
            expected: 2,
            got: other.len(),
        }),
    }
}

/// A segment as the daemon granted it, with the files of its pieces.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) info: SegmentInfo,
    pub(crate) access: Access,
    /// The place in the domain, where it is one.
    pub(crate) slot: Slot,
    /// How often a client was given it to write.
    pub(crate) writers: u64,
    pub(crate) pieces: Vec<Piece>,
}

/// One part of a segment, in one file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) offset: Bytes,
    pub(crate) bytes: Bytes,
    pub(crate) backing: BackingId,
    pub(crate) device: String,
    pub(crate) emulated: bool,
    pub(crate) pages: Pages,
    pub(crate) file: OwnedFd,
}

fn grant(
    granted: session::Granted,
    files: Vec<OwnedFd>,
    window: WindowRange,
) -> Result<Grant, ProtocolError> {
    let access = match granted.access() {
        common::Access::ReadOnly => Access::ReadOnly,
        common::Access::ReadWrite => Access::ReadWrite,
        common::Access::Unspecified => return Err(ProtocolError::Field("access")),
    };
    let writers = granted.writers;
    let segment = granted.segment.ok_or(ProtocolError::Field("segment"))?;
    let info = segment_info(&segment)?;
    if info.sealed && (access == Access::ReadWrite || info.domain.is_some()) {
        return Err(ProtocolError::Field("sealed"));
    }
    let slot = u8::try_from(granted.slot).ok().and_then(Slot::new);
    let slot = slot.ok_or(ProtocolError::Field("slot"))?;
    if info.domain.is_some() == (slot == Slot::DAEMON) {
        return Err(ProtocolError::Field("slot"));
    }
    if !window.contains(info.addr, info.capacity) {
        return Err(ProtocolError::Place);
    }
    descriptors(&files, segment.pieces.len())?;
    let mut end = Bytes::ZERO;
    let mut pieces = Vec::with_capacity(files.len());
    for ((piece, file), number) in segment.pieces.into_iter().zip(files).zip(0..) {
        let bytes = extents(piece.bytes).ok_or(ProtocolError::Pieces)?;
        if (piece.offset, piece.descriptor) != (end.get(), number) {
            return Err(ProtocolError::Pieces);
        }
        let offset = end;
        end = end.checked_add(bytes).ok_or(ProtocolError::Pieces)?;
        let pages = pages(piece.pages());
        let backing = BackingId::new(piece.backing_id).ok_or(ProtocolError::Field("backing_id"))?;
        let (device, emulated) = (piece.device, piece.emulated);
        pieces.push(Piece {
            offset,
            bytes,
            backing,
            device,
            emulated,
            pages,
            file,
        });
    }
    if end != info.bytes {
        return Err(ProtocolError::Pieces);
    }
    Ok(Grant {
        info,
        access,
        slot,
        writers,
        pieces,
    })
}

fn domain_info(coherence: &common::Coherence, bytes: Bytes) -> Result<DomainInfo, ProtocolError> {
    use common::CoherenceMode as Wire;
    let broken = ProtocolError::Field("coherence");
    let mode = match coherence.mode() {
        Wire::Hardware => Mode::Hardware,
        Wire::Software => Mode::Software,
        Wire::Simulated => Mode::Simulated,
        Wire::Unspecified => return Err(broken),
    };
    let on_death = match coherence.on_death() {
        common::OnDeath::Keep => OnDeath::Keep,
        common::OnDeath::Lose => OnDeath::Lose,
        common::OnDeath::Unspecified => return Err(broken),
    };
    let directory = Bytes::new(coherence.directory_bytes);
    let payload = bytes.checked_sub(directory).ok_or(broken)?;
    let layout = Layout::new(payload, Bytes::new(coherence.unit_bytes)).map_err(|_| broken)?;
    if layout.directory() != directory {
        return Err(broken);
    }
    // A daemon that says nothing recalls nobody: to ask it does no harm.
    let recall_ms = match coherence.recall_ms {
        0 => RECALL_MS_DEFAULT,
        millis => millis,
    };
    Ok(DomainInfo {
        mode,
        on_death,
        layout,
        recall: Nanos::from_millis(u64::from(recall_ms)),
        checksums: coherence.checksums,
    })
}

fn segment_info(segment: &common::Segment) -> Result<SegmentInfo, ProtocolError> {
    let bytes = extents(segment.bytes).ok_or(ProtocolError::Field("bytes"))?;
    let capacity = extents(segment.capacity_bytes).ok_or(ProtocolError::Field("capacity_bytes"))?;
    let addr = PoolAddr::new(segment.addr);
    if !addr.is_extent_aligned() || capacity < bytes {
        return Err(ProtocolError::Place);
    }
    let incarnation = Incarnation::new(segment.incarnation);
    let share = |share: &common::Share| match share.access() {
        common::Access::ReadWrite => (share.tenant.clone(), Access::ReadWrite),
        _ => (share.tenant.clone(), Access::ReadOnly),
    };
    Ok(SegmentInfo {
        id: SegmentId::new(segment.segment_id).ok_or(ProtocolError::Field("segment_id"))?,
        incarnation: incarnation.ok_or(ProtocolError::Field("incarnation"))?,
        addr,
        bytes,
        capacity,
        name: segment.name.clone(),
        tenant: segment.tenant.clone(),
        tier: segment.tier.clone(),
        lifetime: match segment.lifetime() {
            common::Lifetime::Persistent => Lifetime::Persistent,
            _ => Lifetime::Held,
        },
        burst: segment.burst,
        domain: segment
            .coherence
            .as_ref()
            .map(|coherence| domain_info(coherence, bytes))
            .transpose()?,
        shares: segment.shares.iter().map(share).collect(),
        holders: segment.holders,
        sealed: segment.sealed,
        tag: tag(&segment.tag)?,
    })
}

fn tag(digits: &str) -> Result<Option<GroupTag>, ProtocolError> {
    if digits.is_empty() {
        return Ok(None);
    }
    let tag = digits.parse().map_err(|_| ProtocolError::Field("tag"))?;
    Ok(Some(tag))
}

fn tier_info(tier: common::TierInfo) -> TierInfo {
    TierInfo {
        name: tier.name,
        emulated: tier.emulated,
        total: Bytes::new(tier.total_bytes),
        free: Bytes::new(tier.free_bytes),
        granted: Bytes::new(tier.granted_bytes),
        quarantined: Bytes::new(tier.quarantined_bytes),
    }
}

fn pages(pages: common::Pages) -> Pages {
    match pages {
        common::Pages::Unspecified | common::Pages::Base => Pages::Base,
        common::Pages::Collapsed => Pages::Collapsed,
        common::Pages::Hugetlb => Pages::Hugetlb,
        common::Pages::File => Pages::File,
        common::Pages::Dax => Pages::Dax,
    }
}

/// A whole number of extents, at least one.
fn extents(bytes: u64) -> Option<Bytes> {
    (bytes > 0 && bytes.is_multiple_of(EXTENT_BYTES)).then_some(Bytes::new(bytes))
}

fn descriptors(got: &[OwnedFd], expected: usize) -> Result<(), ProtocolError> {
    let got = got.len();
    if got == expected {
        Ok(())
    } else {
        Err(ProtocolError::Descriptors { expected, got })
    }
}

pub(crate) fn mode(mode: Mode) -> i32 {
    match mode {
        Mode::Hardware => common::CoherenceMode::Hardware.into(),
        Mode::Software => common::CoherenceMode::Software.into(),
        Mode::Simulated => common::CoherenceMode::Simulated.into(),
    }
}

pub(crate) fn access(access: Access) -> i32 {
    match access {
        Access::ReadOnly => common::Access::ReadOnly.into(),
        Access::ReadWrite => common::Access::ReadWrite.into(),
    }
}
