//! Moving the contents of a segment to other files at the same address: a new incarnation.
//!
//! The contents are copied while nobody may write them: a move is refused while any client may that
//! is neither the one who asks (its call blocks, and its library lends out no view meanwhile) nor
//! of the tenant that loses its share (whose late writes end in the old incarnation). The new files
//! become the segment in one commit; before it the old ones are, after it the new ones.
//!
//! A domain does not move but away from members that are evicted (`evict.rs`): its members change
//! its words and its contents at any time, and each word says in which memory the contents of its
//! unit are.

use pool_core::{BackingId, ClientId, Extents, Incarnation, SegmentId, TenantId, planted};
use pool_proto::common::v1::Access;
use pool_proto::session::v1::{self as session, event};

use super::carve::Spread;
use super::command::WorldError;
use super::job::{Job, Purpose};
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
        self.not_a_domain(id)?;
        self.not_a_group(id)?;
        self.not_of_hosts(id)?;
        self.takes_contents(tier)?;
        self.is_reached(id)?;
        self.not_damaged(id)?;
        self.only_writer(id, asker.map(|(client, _)| client), dropped)?;
        let segment = self.segment(id)?;
        self.all_present(id)?;
        let (extents, piece_max) = (segment.extents, segment.piece_max);
        let named = !segment.name.is_empty();
        let payer = self.payer_of_move(id, dropped, tier)?;
        let layout = self.layout(&Spread {
            tenant: payer,
            tier,
            extents,
            piece_max,
            pieces_before: 0,
            apart: Extents::ZERO,
        })?;
        let fresh = self.carve(id, payer, layout)?;
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

    /// # Errors
    /// [`Refusal::Busy`] where a piece lies on a device that is not reached: it cannot be read, and
    /// what is bad of it may not be known yet.
    fn is_reached(&self, id: SegmentId) -> Result<(), Refusal> {
        let backings = self.segment(id)?.backings.iter();
        let mut devices = backings
            .filter_map(|file| self.backings.get(file))
            .filter_map(|file| self.devices.get(&file.device));
        match devices.find(|device| !device.reached) {
            Some(device) => Err(Refusal::Busy(format!(
                "device {} is out of reach: retry when it is back",
                device.plan.name
            ))),
            None => Ok(()),
        }
    }

    /// Who pays for the new files while they are filled, and then for the old ones until they are
    /// proven gone. The owner must have room for both, or whoever moves a segment over and over and
    /// keeps the mappings would have as much as it likes. Two moves may pass the quota: one off a
    /// draining device, and the first by which an owner takes a share back. That one is charged to
    /// the tenant that loses its share, where it has room.
    fn payer_of_move(
        &self,
        id: SegmentId,
        dropped: Option<TenantId>,
        tier: usize,
    ) -> Result<TenantId, Refusal> {
        let segment = self.segment(id)?;
        let (owner, extents) = (segment.tenant, segment.extents);
        let more = match dropped {
            Some(_) => Extents::ZERO,
            None if tier == segment.tier && self.is_leaving_a_device(segment) => return Ok(owner),
            None => extents,
        };
        self.within_quota(owner, tier, more)?;
        let has_room = |tenant: &TenantId| self.within_quota(*tenant, tier, extents).is_ok();
        Ok(dropped.filter(has_room).unwrap_or(owner))
    }

    /// A piece of it lies on a draining device.
    pub(super) fn is_leaving_a_device(&self, segment: &super::Segment) -> bool {
        self.draining_under(segment).next().is_some()
    }

    fn only_writer(
        &self,
        id: SegmentId,
        asker: Option<ClientId>,
        dropped: Option<TenantId>,
    ) -> Result<(), Refusal> {
        match self.other_writers(id, asker, dropped)? {
            0 => Ok(()),
            others => Err(Refusal::Held(format!(
                "{others} other clients may write {id}: the contents can only be moved while \
                 they do not hold it"
            ))),
        }
    }

    /// How many clients may write the segment, `asker` and those of tenant `dropped` apart.
    pub(super) fn other_writers(
        &self,
        id: SegmentId,
        asker: Option<ClientId>,
        dropped: Option<TenantId>,
    ) -> Result<usize, Refusal> {
        let of_dropped = |client: &ClientId| {
            self.clients.get(client).map(|c| c.tenant) == dropped && dropped.is_some()
        };
        let holders = self.segment(id)?.holders.iter();
        let writes = |(client, access): &(&ClientId, &Access)| {
            **access == Access::ReadWrite && Some(**client) != asker && !of_dropped(client)
        };
        Ok(holders.filter(writes).count())
    }

    /// The contents are in the new files, or could not be brought there.
    pub(super) fn copied(&mut self, id: SegmentId, result: Result<(), WorldError>) {
        if let Err(failure) = result {
            return self.fail_job(id, &Refusal::World(failure));
        }
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let purpose = job.purpose;
        if let Some(failure) = job.failure.clone() {
            return self.fail_job(id, &Refusal::World(failure));
        }
        if purpose == Purpose::Evict {
            return self.moved_for_eviction(id);
        }
        let Purpose::Move { dropped, tier } = purpose else {
            return;
        };
        let Some(job) = self.jobs.remove(&id) else {
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
        let incarnation = if planted!("engine.keeps_the_incarnation") {
            segment.incarnation
        } else {
            incarnation
        };
        let held = std::mem::replace(&mut segment.incarnation, incarnation);
        segment.tier = tier;
        let owner = segment.tenant;
        let payer = self.settle_charges(owner, &job.fresh);
        if let Some(dropped) = dropped {
            self.drop_share(id, dropped, held);
        }
        self.commit_move(id, &old, &job.fresh, payer);
        self.publish_segment("segment-moved", id, self.tier_name(tier).to_owned());
        self.tell_changed(id, job.asker.map(|(client, _)| client));
        if let Some((client, request_id)) = job.asker {
            self.remember(client, request_id, Some(id));
            self.answer_grant(client, request_id, id);
        }
        self.tell_if_leaving(id);
    }

    /// One commit makes the new files those of the segment, and quarantines the `old` ones, which
    /// `payer` pays for.
    pub(super) fn commit_move(
        &mut self,
        id: SegmentId,
        old: &[BackingId],
        fresh: &[BackingId],
        payer: TenantId,
    ) {
        self.enter(fresh);
        if !planted!("engine.journals_no_move") {
            self.touch_segment(id);
        }
        self.touch_pool();
        self.quarantine(old, payer);
        self.pays_no_more(payer, id); // It may have let go before it was told to.
        let place = self.segments.get(&id).map(|s| (s.tenant, s.tier));
        let burst = place.is_some_and(|(owner, tier)| self.is_over(owner, tier));
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.burst = burst;
        }
    }

    /// The new files are the owner's from now on. Returns who paid for them until now.
    pub(super) fn settle_charges(&mut self, owner: TenantId, fresh: &[BackingId]) -> TenantId {
        let mut payer = owner;
        for id in fresh {
            let Some(backing) = self.backings.get_mut(id) else {
                continue;
            };
            payer = std::mem::replace(&mut backing.charged, owner);
            let extents = backing.extents();
            if let Some(device) = self.devices.get(&backing.device) {
                self.left_by.insert(payer);
                self.tenants.discharge(payer, device.tier, extents);
                self.tenants.charge(owner, device.tier, extents);
            }
        }
        payer
    }

    fn drop_share(&mut self, id: SegmentId, tenant: TenantId, held: Incarnation) {
        self.unshare(id, tenant);
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let holders = segment.holders.keys().copied();
        let theirs =
            holders.filter(|client| self.clients.get(client).is_some_and(|c| c.tenant == tenant));
        for client in theirs.collect::<Vec<_>>() {
            self.evict(
                client,
                id,
                event::Body::Revoked(session::Revoked {
                    segment_id: id.number(),
                    incarnation: held.number(),
                }),
            );
        }
        self.publish_segment("segment-revoked", id, String::new());
    }

    /// Moves what nobody holds off draining devices, one segment at a time. What cannot be moved
    /// stays until it is held and let go, or the operator drains again.
    pub(super) fn move_off_draining(&mut self) {
        let none_asked = |job: &Job| job.asker.is_none() && job.purpose != Purpose::Evict;
        while !(self.to_move.is_empty() || self.jobs.values().any(none_asked)) {
            let free = |id: &&SegmentId| !self.jobs.contains_key(id);
            let Some(id) = self.to_move.iter().find(free).copied() else {
                return; // Looked at again when their jobs are done.
            };
            self.to_move.remove(&id);
            let segment = self.segments.get(&id);
            let leaves = |s: &&super::Segment| s.is_idle() && self.is_leaving_a_device(s);
            let Some(tier) = segment.filter(leaves).map(|segment| segment.tier) else {
                continue;
            };
            let dropped = None;
            if let Err(refusal) = self.start_move(id, None, Purpose::Move { dropped, tier }) {
                self.publish_segment("segment-stays", id, refusal.to_string());
            }
        }
    }
}
