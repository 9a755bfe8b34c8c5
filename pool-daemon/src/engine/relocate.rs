//! Moving the contents of a segment to other files at the same address: a new incarnation.
//!
//! The contents are copied while nobody may write them: a move is refused while any client may that
//! is neither the one who asks (its call blocks, and its library lends out no view meanwhile) nor
//! of the tenant that loses its share (whose late writes end in the old incarnation). The new files
//! become the segment in one commit; before it the old ones are, after it the new ones.

use pool_core::{ClientId, SegmentId, TenantId};
use pool_proto::common::v1::Access;
use pool_proto::session::v1::{self as session, event};

use super::command::WorldError;
use super::job::{Job, Purpose};
use super::segment::Stage;
use super::{Engine, Refusal};

impl Engine {
    pub(super) fn relocate(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: &session::Relocate,
    ) -> Result<(), Refusal> {
        let id = self.owned_and_held(client, ask.segment_id)?;
        self.not_busy(id)?;
        let tier = self.tier_named(&ask.tier)?;
        self.start_move(
            id,
            Some((client, request_id)),
            Purpose::Move {
                dropped: None,
                tier,
            },
        )
    }

    pub(super) fn start_move(
        &mut self,
        id: SegmentId,
        asker: Option<(ClientId, u64)>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let Purpose::Move { dropped, tier } = purpose else {
            return Err(Refusal::Broken("a move was started that is none"));
        };
        self.only_writer(id, asker.map(|(client, _)| client), dropped)?;
        let segment = self.segment(id)?;
        if !segment.backings.iter().all(|id| self.is_present(*id)) {
            return Err(super::reply::awaited(id));
        }
        let (tenant, extents, piece_max, from_tier) = (
            segment.tenant,
            segment.extents,
            segment.piece_max,
            segment.tier,
        );
        let named = !segment.name.is_empty();
        if from_tier != tier {
            self.within_quota(tenant, tier, extents)?;
        }
        let layout = self.layout(tier, extents, piece_max, 0)?;
        let fresh = self.carve(id, tenant, layout)?;
        let unbuilt = fresh.len();
        self.start_job(
            id,
            Job {
                asker,
                purpose,
                fresh,
                unbuilt,
                failure: None,
            },
            named,
        );
        Ok(())
    }

    fn only_writer(
        &self,
        id: SegmentId,
        asker: Option<ClientId>,
        dropped: Option<TenantId>,
    ) -> Result<(), Refusal> {
        let of_dropped = |client: &ClientId| {
            self.clients.get(client).map(|c| c.tenant) == dropped && dropped.is_some()
        };
        let holders = self.segment(id)?.holders.iter();
        let writes = |(client, access): &(&ClientId, &Access)| {
            **access == Access::ReadWrite && Some(**client) != asker && !of_dropped(client)
        };
        match holders.filter(writes).count() {
            0 => Ok(()),
            others => Err(Refusal::Busy(format!(
                "{others} other clients may write {id}: the contents can only be moved while \
                 they do not hold it"
            ))),
        }
    }

    /// The contents are in the new files, or could not be brought there.
    pub(super) fn copied(&mut self, id: SegmentId, result: Result<(), WorldError>) {
        if let Err(failure) = result {
            return self.fail_job(id, &Refusal::World(failure));
        }
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let Purpose::Move { dropped, tier } = job.purpose else {
            return;
        };
        let incarnation = match self.next_incarnation() {
            Ok(incarnation) => incarnation,
            Err(refusal) => {
                self.jobs.insert(id, job);
                return self.fail_job(id, &refusal);
            }
        };
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut segment.backings, job.fresh.clone());
        (segment.incarnation, segment.tier) = (incarnation, tier);
        let payer = dropped.unwrap_or(segment.tenant);
        if let Some(dropped) = dropped {
            self.drop_share(id, dropped);
        }
        self.enter(&job.fresh);
        self.touch_segment(id);
        self.touch_pool();
        self.quarantine(&old, payer);
        self.publish_segment("segment-moved", id, self.tier_name(tier).to_owned());
        self.tell_changed(id, job.asker.map(|(client, _)| client));
        if let Some((client, request_id)) = job.asker {
            self.remember(client, request_id, Some(id));
            self.answer_grant(client, request_id, id);
        }
    }

    fn drop_share(&mut self, id: SegmentId, tenant: TenantId) {
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        segment.shares.remove(&tenant);
        let holders = segment.holders.keys().copied();
        let theirs =
            holders.filter(|client| self.clients.get(client).is_some_and(|c| c.tenant == tenant));
        for client in theirs.collect::<Vec<_>>() {
            self.evict(
                client,
                id,
                event::Body::Revoked(session::Revoked {
                    segment_id: id.number(),
                }),
            );
        }
        self.publish_segment("segment-revoked", id, String::new());
    }

    /// Moves what nobody holds off draining devices, one segment at a time.
    pub(super) fn move_off_draining(&mut self) {
        let draining = |id: &pool_core::BackingId| {
            let device = self
                .backings
                .get(id)
                .and_then(|backing| self.devices.get(&backing.device));
            device.is_some_and(|device| device.draining)
        };
        if !self
            .devices
            .values()
            .any(|device| device.draining && !device.is_empty())
            || self.jobs.values().any(|job| job.asker.is_none())
        {
            return;
        }
        let idle = |s: &&super::Segment| {
            s.stage == Stage::Live
                && s.holders.is_empty()
                && !self.stuck.contains(&s.id)
                && !self.jobs.contains_key(&s.id)
                && s.backings.iter().any(draining)
        };
        let Some((id, tier)) = self
            .segments
            .values()
            .find(idle)
            .map(|segment| (segment.id, segment.tier))
        else {
            return;
        };
        if self
            .start_move(
                id,
                None,
                Purpose::Move {
                    dropped: None,
                    tier,
                },
            )
            .is_err()
        {
            self.stuck.insert(id); // Looked at again when the operator drains again.
        }
    }
}
