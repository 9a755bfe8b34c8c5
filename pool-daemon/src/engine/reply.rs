//! What clients are told, put together from the present state.

use pool_core::{BackingId, ClientId, SegmentId, limits};
use pool_proto::common::v1::{
    Access, Piece, Segment as SegmentMessage, Share as ShareMessage, TierInfo,
};
use pool_proto::session::v1::{self as session, Event, event, reply};

use super::effect::Action;
use super::segment::{Segment, Stage};
use super::{Engine, Refusal};

impl Engine {
    pub(super) fn reply(&mut self, client: ClientId, request_id: u64, body: reply::Body) {
        let (reply, files) = (
            session::Reply {
                request_id,
                body: Some(body),
            },
            Vec::new(),
        );
        self.actions.push(Action::Reply {
            client,
            reply,
            files,
        });
    }

    pub(super) fn done(&mut self, client: ClientId, request_id: u64) {
        self.reply(client, request_id, reply::Body::Done(session::Done {}));
    }

    /// The daemon has the descriptor of the backing.
    pub(super) fn is_present(&self, id: BackingId) -> bool {
        self.backings
            .get(&id)
            .is_some_and(|backing| backing.present)
    }

    /// # Errors
    /// [`Refusal::Busy`] while a descriptor of the segment is awaited after a restart.
    pub(super) fn all_present(&self, id: SegmentId) -> Result<(), Refusal> {
        if self
            .segment(id)?
            .backings
            .iter()
            .all(|id| self.is_present(*id))
        {
            return Ok(());
        }
        Err(Refusal::Busy(format!(
            "{id} waits for its descriptors after a restart: retry in a moment"
        )))
    }

    pub(super) fn tell(&mut self, client: ClientId, body: event::Body) {
        if self
            .clients
            .get(&client)
            .is_some_and(|client| client.attached)
        {
            self.actions.push(Action::Event {
                client,
                event: Event { body: Some(body) },
            });
        }
    }

    /// Answers with a segment the client holds, its pieces and their descriptors.
    ///
    /// # Errors
    /// Where the client does not hold it, or a descriptor is still awaited after a restart.
    pub(super) fn grant(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: SegmentId,
    ) -> Result<(), Refusal> {
        let segment = self
            .segment(id)
            .map_err(|_| Refusal::Revoked(id.number()))?;
        let access = *segment
            .holders
            .get(&client)
            .ok_or(Refusal::Revoked(id.number()))?;
        self.all_present(id)?;
        self.is_ready(id)?;
        let files = segment
            .backings
            .iter()
            .map(|&backing| (backing, access))
            .collect();
        let mut described = self.describe(segment);
        if self.clients.get(&client).map(|client| client.tenant) != Some(segment.tenant) {
            described.tag.clear(); // A share can be taken back, and a tag cannot.
        }
        let granted = session::Granted {
            segment: Some(described),
            access: access.into(),
            slot: self.slot_of(client, id),
            writers: segment.writers,
        };
        let reply = session::Reply {
            request_id,
            body: Some(reply::Body::Granted(granted)),
        };
        self.actions.push(Action::Reply {
            client,
            reply,
            files,
        });
        Ok(())
    }

    /// A segment as clients and operators see it; piece `i` rides as descriptor `i`.
    pub(super) fn describe(&self, segment: &Segment) -> SegmentMessage {
        let mut message = self.outline(segment);
        let mut offset = 0;
        for (descriptor, id) in (0..).zip(&segment.backings) {
            let Some(backing) = self.backings.get(id) else {
                continue;
            };
            let device = self.devices.get(&backing.device).map(|device| &device.plan);
            let bytes = backing.extents().bytes().get();
            message.pieces.push(Piece {
                offset,
                bytes,
                backing_id: id.number(),
                descriptor,
                device: device.map_or_else(String::new, |device| device.name.clone()),
                emulated: device.is_some_and(|device| device.emulated),
                pages: backing.built.map_or(0, |built| built.pages.into()),
            });
            offset += bytes;
        }
        message
    }

    /// A segment without its pieces.
    fn outline(&self, segment: &Segment) -> SegmentMessage {
        let share = |(&tenant, share): (&_, &super::segment::Share)| ShareMessage {
            tenant: self.tenants.name(tenant).to_owned(),
            access: share.access.into(),
        };
        SegmentMessage {
            segment_id: segment.id.number(),
            incarnation: segment.incarnation.number(),
            addr: self.addr_of(segment.range.first).get(),
            bytes: segment.extents.bytes().get(),
            capacity_bytes: pool_core::Extents::new(segment.range.count).bytes().get(),
            name: segment.name.clone(),
            tenant: self.tenants.name(segment.tenant).to_owned(),
            tier: self.tier_name(segment.tier).to_owned(),
            lifetime: segment.lifetime.into(),
            burst: segment.burst,
            pieces: Vec::new(),
            shares: segment.shares.iter().map(share).collect(),
            coherence: segment.domain.as_ref().map(|domain| domain.terms),
            holders: u32::try_from(segment.holders.len()).unwrap_or(u32::MAX),
            sealed: segment.sealed,
            tag: segment.tag.map_or_else(String::new, |tag| tag.to_string()),
        }
    }

    /// The tiers as everybody may see them.
    #[must_use]
    pub fn tiers(&self) -> Vec<TierInfo> {
        (0..self.plan.tiers.len())
            .map(|tier| self.tier_info(tier))
            .collect()
    }

    fn tier_info(&self, tier: usize) -> TierInfo {
        let sum = |of: fn(&super::Device) -> pool_core::Extents| {
            self.devices_of(tier)
                .map(|device| of(device).bytes().get())
                .sum::<u64>()
        };
        TierInfo {
            tier_id: u32::try_from(tier + 1).unwrap_or(u32::MAX),
            name: self.tier_name(tier).to_owned(),
            emulated: self.devices_of(tier).any(|device| device.plan.emulated)
                && self.devices_of(tier).all(|device| device.plan.emulated),
            total_bytes: sum(super::Device::total),
            free_bytes: sum(super::Device::free),
            granted_bytes: sum(super::Device::granted),
            quarantined_bytes: sum(|device| device.quarantined),
        }
    }

    pub(super) fn answer_tiers(&mut self, client: ClientId, request_id: u64) {
        let tiers = session::TierList {
            tiers: self.tiers(),
        };
        self.reply(client, request_id, reply::Body::Tiers(tiers));
    }

    /// Lists what the client's tenant owns or may open.
    pub(super) fn answer_list(&mut self, client: ClientId, request_id: u64) {
        use prost::Message as _;
        let Some(tenant) = self.clients.get(&client).map(|client| client.tenant) else {
            return;
        };
        let Some(state) = self.tenants.get(tenant) else {
            return;
        };
        let visible = state.segments.iter().chain(&state.shared);
        let visible = visible.filter_map(|id| self.segments.get(id));
        let visible = visible.filter(|segment| segment.stage == Stage::Live);
        // Half of a message is left for what surrounds the list.
        let (mut room, mut truncated, mut segments) =
            (limits::MESSAGE_BYTES_MAX / 2, false, Vec::new());
        for segment in visible {
            let mut message = self.outline(segment);
            if segment.tenant != tenant {
                message.tag.clear();
                message
                    .shares
                    .retain(|share| share.tenant == self.tenants.name(tenant));
            }
            let Some(rest) = room.checked_sub(message.encoded_len() + 8) else {
                truncated = true;
                break;
            };
            room = rest;
            segments.push(message);
        }
        self.reply(
            client,
            request_id,
            reply::Body::Listed(session::Listed {
                segments,
                truncated,
            }),
        );
    }

    pub(super) fn attached_body(&self, id: ClientId) -> reply::Body {
        let client = self.clients.get(&id);
        reply::Body::Attached(session::Attached {
            client_id: id.number(),
            token: client.map_or_else(Vec::new, |client| client.token.to_vec()),
            tenant: client
                .map_or("?", |client| self.tenants.name(client.tenant))
                .to_owned(),
            window_base: self.plan.window.base().get(),
            window_bytes: self.plan.window.len().get(),
            tiers: self.tiers(),
            daemon_epoch: self.epoch,
            advisory_isolation: client
                .is_some_and(|client| client.peer.uid == self.plan.daemon_uid),
        })
    }

    pub(super) fn reattached_body(&self, id: ClientId) -> reply::Body {
        let client = self.clients.get(&id);
        let held = client.map(|client| client.held.clone()).unwrap_or_default();
        // Who loses a segment whose files are lost is told so; every other one was revoked.
        let is_there = |id: &BackingId| {
            let built = self.backings.get(id).filter(|file| file.built.is_some());
            built.is_none_or(|file| file.present)
        };
        let leaving = client.into_iter().flat_map(|client| &client.leaving);
        let revoked = leaving.filter(|id| {
            let segment = self.segments.get(id);
            segment.is_some_and(|segment| segment.files.iter().all(is_there))
        });
        let revoked = revoked.map(|id| id.number()).collect();
        let segments = || held.iter().filter_map(|id| self.segments.get(id));
        let missing = |id: &&BackingId| !self.is_present(**id);
        let holding = |segment: &Segment| session::Holding {
            segment_id: segment.id.number(),
            incarnation: segment.incarnation.number(),
            bytes: segment.extents.bytes().get(),
        };
        let all_missing = || {
            segments()
                .flat_map(|s| s.backings.iter().filter(missing))
                .map(|id| id.number())
        };
        reply::Body::Reattached(session::Reattached {
            daemon_epoch: self.epoch,
            missing_backings: all_missing().take(limits::MISSING_BACKINGS_MAX).collect(),
            missing_more: all_missing().nth(limits::MISSING_BACKINGS_MAX).is_some(),
            held: segments().map(holding).collect(),
            revoked,
        })
    }
}

/// The rights of `access` include those of `asked`.
pub(super) fn covers(access: Access, asked: Access) -> bool {
    access == Access::ReadWrite || access == asked
}
