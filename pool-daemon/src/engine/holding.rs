//! Holding and letting go: opening, closing, freeing, and the way of a file through quarantine.

use pool_core::{BackingId, ClientId, SegmentId, TenantId, planted};
use pool_proto::common::v1::{Access, Lifetime};
use pool_proto::session::v1::{self as session, event};

use super::domain::Leave;
use super::effect::Action;
use super::reply::covers;
use super::segment::Stage;
use super::{Engine, Refusal};

impl Engine {
    pub(super) fn open(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: &session::Open,
    ) -> Result<(), Refusal> {
        let asked = Access::try_from(ask.access).unwrap_or_default();
        if asked == Access::Unspecified {
            return Err(Refusal::Malformed("access is none of the known ones"));
        }
        let own = self
            .clients
            .get(&client)
            .map(|client| client.tenant)
            .ok_or(Refusal::UnknownClient)?;
        let id = self.find(own, &ask.name, asked)?;
        self.open_as(client, request_id, id, asked)
    }

    /// Opens a segment that the client may open so.
    pub(super) fn open_as(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: SegmentId,
        asked: Access,
    ) -> Result<(), Refusal> {
        if asked == Access::ReadWrite {
            self.not_sealed(id)?;
        }
        self.not_changing(id)?;
        self.all_present(id)?;
        let before = self.segment(id)?.holders.get(&client).copied();
        match before {
            None => {
                self.may_hold_more(client)?;
                self.may_join(id)?;
            }
            Some(_) => self.is_ready(id)?,
        }
        let access = before
            .filter(|&before| covers(before, asked))
            .unwrap_or(asked);
        self.hold(client, id, access);
        let own = self.clients.get(&client).map(|client| client.tenant);
        let segment = self.segments.get_mut(&id);
        if let Some(share) = segment.and_then(|segment| segment.shares.get_mut(&own?)) {
            share.opened = true;
        }
        self.remember(client, request_id, Some(id));
        self.answer_grant(client, request_id, id);
        Ok(())
    }

    /// The segment of this name that a tenant may open with this access: `name` or `tenant:name`.
    /// What it may not know of is not found.
    fn find(&self, own: TenantId, name: &str, asked: Access) -> Result<SegmentId, Refusal> {
        let not_found = || Refusal::not_found("segment", name);
        let (owner, name) = match name.split_once(':') {
            Some((tenant, name)) => (self.tenants.find(tenant).ok_or_else(not_found)?, name),
            None => (own, name),
        };
        let id = self
            .names
            .get(&(owner, name.to_owned()))
            .copied()
            .ok_or_else(not_found)?;
        let segment = self.live_segment(id).ok_or_else(not_found)?;
        if owner == own {
            return Ok(id);
        }
        if planted!("engine.opens_to_everybody") {
            return Ok(id);
        }
        let share = segment.shares.get(&own).ok_or_else(not_found)?;
        if covers(share.access, asked) {
            return Ok(id);
        }
        Err(Refusal::NotPermitted(
            "the segment is shared with your tenant read-only: open it read-only",
        ))
    }

    pub(super) fn refresh(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: u64,
    ) -> Result<(), Refusal> {
        let id = self.held(client, id)?;
        self.grant(client, request_id, id)
    }

    /// A segment the client holds.
    pub(super) fn held(&self, client: ClientId, id: u64) -> Result<SegmentId, Refusal> {
        let held = SegmentId::new(id).filter(|id| {
            self.clients
                .get(&client)
                .is_some_and(|c| c.held.contains(id))
        });
        held.ok_or_else(|| Refusal::not_found("segment", id))
    }

    /// A live segment of the client's tenant.
    pub(super) fn owned(&self, client: ClientId, id: u64) -> Result<SegmentId, Refusal> {
        let tenant = self.clients.get(&client).map(|client| client.tenant);
        let segment = SegmentId::new(id).and_then(|id| self.segments.get(&id));
        let segment = segment
            .filter(|segment| segment.stage == Stage::Live && Some(segment.tenant) == tenant);
        segment
            .map(|segment| segment.id)
            .ok_or_else(|| Refusal::not_found("segment", id))
    }

    /// A segment of the client's tenant that the client holds read-write, or as all hold it where
    /// it is sealed.
    pub(super) fn owned_and_held(&self, client: ClientId, id: u64) -> Result<SegmentId, Refusal> {
        let id = self.owned(client, id)?;
        let segment = self.segment(id)?;
        match segment.holders.get(&client) {
            Some(Access::ReadWrite) => Ok(id),
            Some(_) if segment.sealed => Ok(id),
            _ => Err(Refusal::NotPermitted("open the segment read-write first")),
        }
    }

    pub(super) fn close(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: u64,
    ) -> Result<(), Refusal> {
        let leaving = SegmentId::new(id).filter(|id| {
            self.clients
                .get(&client)
                .is_some_and(|client| client.leaving.contains(id))
        });
        match leaving {
            Some(id) => self.has_left(client, id),
            None => {
                let id = self.held(client, id)?;
                self.let_go(client, id, Leave::InOrder);
            }
        }
        self.remember(client, request_id, None);
        self.done(client, request_id);
        Ok(())
    }

    pub(super) fn free(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: u64,
        force: bool,
    ) -> Result<(), Refusal> {
        let id = self.owned(client, id)?;
        self.not_changing(id)?;
        let others = self
            .segment(id)?
            .holders
            .keys()
            .filter(|holder| **holder != client)
            .count();
        if others > 0 && !force {
            return Err(Refusal::Held(format!(
                "{others} other clients hold {id}: ask them to close it, or force"
            )));
        }
        self.drop_holder(client, id, Leave::InOrder);
        self.end_segment(id);
        self.remember(client, request_id, None);
        self.done(client, request_id);
        Ok(())
    }

    fn drop_holder(&mut self, client: ClientId, id: SegmentId, leave: Leave) {
        self.vacate(client, id, leave);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.holders.remove(&client);
        }
        if let Some(client) = self.clients.get_mut(&client) {
            client.held.remove(&id);
        }
        self.touch_segment(id);
    }

    /// The client holds the segment no more; a segment nobody holds ends, unless it is persistent.
    pub(super) fn let_go(&mut self, client: ClientId, id: SegmentId, leave: Leave) {
        self.drop_holder(client, id, leave);
        let ends = |s: &super::Segment| {
            s.stage == Stage::Live && s.holders.is_empty() && s.lifetime == Lifetime::Held
        };
        if self.segments.get(&id).is_some_and(ends) {
            self.end_segment(id);
        } else if self
            .segments
            .get(&id)
            .is_some_and(|s| s.is_idle() && self.is_leaving_a_device(s))
        {
            self.to_move.insert(id);
        }
        // It may have been the one who would have brought a descriptor back.
        self.lose_if_nobody_comes(id);
        self.release_unprovable(id);
    }

    /// A holder is told to let go: it holds no more, and is remembered until it answers or dies.
    pub(super) fn evict(&mut self, client: ClientId, id: SegmentId, news: event::Body) {
        self.drop_holder(client, id, Leave::Gone);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.leaving.insert(client);
        }
        if let Some(client) = self.clients.get_mut(&client) {
            client.leaving.insert(id);
        }
        self.tell(client, news);
    }

    /// Ends a segment: its name is free at once, its memory and addresses after proof. Holders are
    /// told.
    pub(super) fn end_segment(&mut self, id: SegmentId) {
        if let Some(domain) = self.domain_mut(id) {
            domain.eviction = None; // Nobody has to be evicted from what ends.
        }
        self.fail_job(id, &Refusal::Revoked(id.number()));
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let holders: Vec<_> = segment.holders.keys().copied().collect();
        let (payer, incarnation) = (self.payer(segment, &holders), segment.incarnation.number());
        self.publish_segment("segment-freed", id, String::new());
        for holder in holders {
            self.evict(
                holder,
                id,
                event::Body::Revoked(session::Revoked {
                    segment_id: id.number(),
                    incarnation,
                }),
            );
        }
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        segment.stage = Stage::Freed;
        segment.domain = None;
        self.domains.remove(&id);
        let shares: Vec<_> = segment.shares.keys().copied().collect();
        let (name, backings) = (
            std::mem::take(&mut segment.name),
            std::mem::take(&mut segment.backings),
        );
        self.names.remove(&(segment.tenant, name));
        for tenant in shares {
            self.unshare(id, tenant);
        }
        self.touch_segment(id);
        self.quarantine(&backings, payer);
        self.bury(id);
        self.release_unprovable(id);
    }

    /// Who pays for a segment in quarantine: a tenant that is made to let go, until it has
    /// ([`Self::pays_no_more`]); the owner where all let go by themselves. Nobody is made to pay
    /// past its limit: otherwise two tenants that share with each other could charge each other for
    /// more than both may have.
    fn payer(&self, segment: &super::Segment, holders: &[ClientId]) -> TenantId {
        let tenants = holders.iter().filter_map(|id| self.clients.get(id));
        let foreign = tenants
            .map(|client| client.tenant)
            .filter(|&tenant| tenant != segment.tenant);
        let has_room = |tenant: &TenantId| {
            self.within_quota(*tenant, segment.tier, segment.extents)
                .is_ok()
        };
        foreign.filter(has_room).min().unwrap_or(segment.tenant)
    }

    /// Charges the owner of a segment for what is in quarantine of it, where no client of the
    /// tenant that pays is left that was told to let go.
    pub(super) fn pays_no_more(&mut self, payer: TenantId, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let (owner, tenant_of) = (segment.tenant, |client: &ClientId| {
            self.clients.get(client).map(|client| client.tenant)
        });
        if payer == owner || segment.leaving.iter().any(|c| tenant_of(c) == Some(payer)) {
            return;
        }
        for file in segment.files.clone() {
            let Some(backing) = self.backings.get_mut(&file) else {
                continue;
            };
            if !backing.quarantined || backing.charged != payer {
                continue;
            }
            backing.charged = owner;
            let extents = backing.extents();
            if let Some(device) = self.devices.get(&backing.device) {
                self.left_by.insert(payer);
                self.tenants.release(payer, device.tier, extents);
                self.tenants.charge(owner, device.tier, extents);
                self.tenants.quarantine(owner, device.tier, extents);
            }
            self.touch_backing(file);
        }
    }

    /// Takes files out of use. The world watches them, and says when nothing of them is left.
    pub(super) fn quarantine(&mut self, backings: &[BackingId], payer: TenantId) {
        for &id in backings {
            let Some(backing) = self.backings.get_mut(&id) else {
                continue;
            };
            let Some(device) = self.devices.get_mut(&backing.device) else {
                continue;
            };
            let (extents, owner) = (backing.extents(), backing.charged);
            (backing.quarantined, backing.charged) = (true, payer);
            device.quarantined = device
                .quarantined
                .checked_add(extents)
                .unwrap_or(device.quarantined);
            self.tenants.discharge(owner, device.tier, extents);
            self.tenants.charge(payer, device.tier, extents);
            self.tenants.quarantine(payer, device.tier, extents);
            let segment = self.segments.get(&backing.segment);
            // Other hosts have the file of a group, so that no proof is had by watching it.
            if backing.present && !segment.is_some_and(|segment| segment.is_group) {
                self.actions.push(Action::Watch { backing: id });
            }
            self.touch_backing(id);
            if planted!("engine.frees_before_proof") {
                self.released(id);
            }
        }
    }

    /// A quarantined file is proven gone: its extents are free.
    pub(super) fn released(&mut self, id: BackingId) {
        let Some(backing) = self.backings.get(&id).filter(|backing| backing.quarantined) else {
            return;
        };
        let (segment, extents, charged) = (backing.segment, backing.extents(), backing.charged);
        let on = backing.device;
        if let Some(device) = self.devices.get_mut(&on) {
            // The runs were the backing's alone (engine invariant 1).
            let back = if planted!("engine.loses_what_is_freed") {
                Ok(false)
            } else {
                device.give_back(&backing.runs)
            };
            debug_assert!(back.is_ok(), "engine invariant 1");
            self.groups_may_end = true;
            device.untie(segment);
            device.quarantined = device.quarantined.saturating_sub(extents);
            self.tenants.release(charged, device.tier, extents);
            self.left_by.insert(charged);
            if back == Ok(true) {
                self.touch_device(on);
            }
        }
        self.backings.remove(&id);
        self.untie(segment, id);
        self.touch_backing(id);
        let payer = self.tenants.name(charged).to_owned();
        self.publish("released", |event| {
            event.tenant = payer;
            (event.segment_id, event.bytes) = (segment.number(), extents.bytes().get());
        });
        self.bury(segment);
    }

    /// A client that was told to let go has.
    pub(super) fn has_left(&mut self, client: ClientId, id: SegmentId) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.leaving.remove(&client);
        }
        let tenant = self.clients.get_mut(&client).map(|client| {
            client.leaving.remove(&id);
            client.tenant
        });
        self.touch_segment(id);
        tenant
            .into_iter()
            .for_each(|tenant| self.pays_no_more(tenant, id));
        self.release_unprovable(id);
    }

    /// Files whose descriptors are lost cannot be watched, and those of groups have other hosts.
    /// They are gone when nobody who could have mapped them is left: no holder, none that was told
    /// to let go, none awaited after a restart.
    pub(super) fn release_unprovable(&mut self, id: SegmentId) {
        let forgets = planted!("group.goes_while_somebody_has_it");
        let unheld = |s: &super::Segment| {
            s.holders.is_empty() && (s.leaving.is_empty() || forgets && s.is_group)
        };
        if self.grace_until.is_some() || !self.segments.get(&id).is_some_and(unheld) {
            return;
        }
        let lost = |id: &BackingId| {
            self.backings
                .get(id)
                .is_some_and(|b| b.quarantined && !b.present)
        };
        let files = self
            .segments
            .get(&id)
            .map(|segment| segment.files.clone())
            .unwrap_or_default();
        let is_group = self.segments.get(&id).is_some_and(|it| it.is_group);
        let (lost, kept): (Vec<_>, Vec<_>) = files.into_iter().partition(lost);
        for backing in lost {
            self.released(backing);
        }
        for backing in kept.into_iter().filter(|_| is_group) {
            if self.backings.get(&backing).is_some_and(|it| it.quarantined) {
                self.actions.push(Action::Destroy { backing });
            }
        }
    }

    /// Forgets a freed segment when nothing of it is left, and gives its addresses back.
    pub(super) fn bury(&mut self, id: SegmentId) {
        let freed = self
            .segments
            .get(&id)
            .is_some_and(|segment| segment.stage == Stage::Freed);
        if freed
            && self
                .segments
                .get(&id)
                .is_some_and(|segment| segment.files.is_empty())
        {
            self.forget_segment(id);
        }
    }

    /// A backing that named the segment is no more.
    pub(super) fn untie(&mut self, segment: SegmentId, backing: BackingId) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.files.remove(&backing);
        }
    }

    pub(super) fn forget_segment(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.remove(&id) else {
            return;
        };
        self.domains.remove(&id);
        self.end_of_group(&segment);
        for client in &segment.leaving {
            if let Some(client) = self.clients.get_mut(client) {
                client.leaving.remove(&id);
            }
        }
        if !segment.name.is_empty() {
            self.names.remove(&(segment.tenant, segment.name));
        }
        if let Some(tenant) = self.tenants.get_mut(segment.tenant) {
            tenant.segments.remove(&id);
        }
        self.left_by.insert(segment.tenant);
        // The range was the segment's alone (engine invariant 3).
        let back = self.give_range(segment.range);
        debug_assert!(back.is_ok(), "engine invariant 3");
        self.touch_segment(id);
    }
}
