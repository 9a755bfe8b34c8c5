//! Burst memory comes back first: requests that a tenant is guaranteed, and that wait for it. So
//! does anybody's request, where the tier can become larger: for nothing is taken from others.
//!
//! A tenant whose request would stay within what it is guaranteed, in a full tier, may wait.
//! Tenants that use more than they are guaranteed are told how much to give back by when. At the
//! deadline their segments are revoked, newest first, until enough is on its way; each of it is
//! announced and journaled. What is revoked is granted anew only after proof, like everything else.
//! A segment without which its tenant would have less than it is guaranteed is spared while others
//! are enough: one that is larger than the guarantee ends as a whole.
//!
//! # Invariants
//! 1. What comes back is not granted as burst again while somebody waits for it.
//! 2. The holders of burst memory are told at most once in a deadline, however many wait.
//! 3. A deadline revokes for all whose time has come. The first one of a request counts what is in
//!    quarantine as on its way; the later ones do not, so that whoever keeps a mapping for ever
//!    keeps a guarantee from being met no longer than a deadline.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{ClientId, Extents, Nanos, SegmentId, TenantId, planted};
use pool_proto::session::v1::{self as session, event};

use super::grant::Wanted;
use super::segment::{Backing, Segment, Stage};
use super::waits::{Due, Wait};
use super::{Engine, Refusal, sum};

/// A request that waits for burst memory.
#[derive(Debug)]
pub(super) struct Waiting {
    client: ClientId,
    request_id: u64,
    wanted: Wanted,
    /// When the client gives up.
    until: Nanos,
    /// It is guaranteed: others give burst memory back for it.
    is_guaranteed: bool,
    /// When burst segments are revoked for it; `None` until their holders are told.
    revoke_at: Option<Nanos>,
    /// They were revoked for it once.
    overdue: bool,
}

/// A segment that pressure may end.
#[derive(Debug)]
struct Revocable {
    id: SegmentId,
    tenant: TenantId,
    extents: Extents,
    /// What its tier gets back of it.
    back: Extents,
}

impl Waiting {
    fn is_due(&self, tier: usize, now: Nanos) -> bool {
        self.wanted.tier == tier && self.revoke_at.is_some_and(|at| at <= now)
    }
}

impl Engine {
    /// Lets a request wait that its tenant is guaranteed, or that may fit when more memory has
    /// come; any other one is refused with `full`.
    pub(super) fn wait_for_burst(
        &mut self,
        client: ClientId,
        request_id: u64,
        wanted: Wanted,
        wait_ms: u64,
        full: Refusal,
    ) -> Result<(), Refusal> {
        let (tier, extents) = (wanted.tier, wanted.extents);
        let is_guaranteed = self.is_guaranteed(wanted.tenant, tier, extents);
        let to_come = self.tier_to_come(tier);
        let may_fit = sum([to_come, self.tier_grantable(tier)].into_iter()) >= extents;
        let waits = is_guaranteed || (to_come > Extents::ZERO && may_fit);
        if wait_ms == 0 || !waits {
            return Err(full);
        }
        let wait_ms = match wait_ms {
            millis if planted!("pressure.gives_up_early") => millis / 2,
            millis => millis,
        };
        let until = self.now.saturating_add(Nanos::from_millis(wait_ms));
        self.waiting.push(Waiting {
            client,
            request_id,
            wanted,
            until,
            is_guaranteed,
            revoke_at: None,
            overdue: false,
        });
        Ok(())
    }

    /// What requests wait for of a tier, in all.
    pub(super) fn wanted_of(&self, tier: usize) -> Extents {
        let here = self.waiting.iter().filter(|w| w.wanted.tier == tier);
        sum(here.map(|w| w.wanted.extents))
    }

    /// When a waiting request wants something done.
    pub(super) fn pressure_waits(&self) -> impl Iterator<Item = Due> {
        self.waiting.iter().flat_map(|waiting| {
            let told = || {
                let quiet = self.quiet_until.get(&waiting.wanted.tier).copied();
                quiet.filter(|_| waiting.is_guaranteed)
            };
            let burst = waiting.revoke_at.or_else(told).map(|at| Due {
                wait: Wait::Burst,
                at,
                most: Some(self.plan.pressure_deadline),
            });
            let gives_up = Due {
                wait: Wait::Memory,
                at: waiting.until,
                most: None,
            };
            burst.into_iter().chain([gives_up])
        })
    }

    /// The tenant is guaranteed so much more.
    fn is_guaranteed(&self, tenant: TenantId, tier: usize, more: Extents) -> bool {
        let sum = self.used(tenant, tier).checked_add(more);
        sum.is_some_and(|sum| sum <= self.guaranteed_to(tenant, tier))
    }

    fn guaranteed_to(&self, tenant: TenantId, tier: usize) -> Extents {
        let total = self.tier_total(tier);
        self.tenants.quota(tenant, self.tier_name(tier), total).0
    }

    /// What a tier has for so much more of a tenant: burst does not take what others are guaranteed
    /// and wait for. Who waits for memory to come keeps nobody from what is there.
    pub(super) fn room_for(&self, tenant: TenantId, tier: usize, more: Extents) -> Extents {
        let free = self.tier_grantable(tier);
        if self.waiting.is_empty() || self.is_guaranteed(tenant, tier, more) {
            return free;
        }
        let guaranteed = self.waiting.iter();
        let guaranteed = guaranteed.filter(|w| w.wanted.tier == tier && w.is_guaranteed);
        free.saturating_sub(sum(guaranteed.map(|w| w.wanted.extents)))
    }

    /// Grants what now fits, refuses where the client has given up, and has burst memory given back
    /// for the others.
    pub(super) fn relieve_pressure(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            let asker = (waiting.client, waiting.request_id);
            match self.start_create(Some(asker), &waiting.wanted) {
                Ok(()) => {}
                Err(Refusal::TierFull { .. }) if self.now < waiting.until => {
                    self.waiting.push(waiting);
                }
                Err(refusal) => self.refuse(waiting.client, waiting.request_id, &refusal),
            }
        }
        let tiers: BTreeSet<_> = self.waiting.iter().map(|w| w.wanted.tier).collect();
        for tier in tiers {
            self.ask_back(tier);
            self.revoke_overdue(tier);
        }
    }

    /// Tells every client that holds burst memory of the tier how much is wanted, where somebody
    /// waits of whom they were not told (invariant 2).
    fn ask_back(&mut self, tier: usize) {
        let untold =
            |w: &Waiting| w.wanted.tier == tier && w.is_guaranteed && w.revoke_at.is_none();
        let quiet = self
            .quiet_until
            .get(&tier)
            .is_some_and(|until| self.now < *until);
        if quiet || !self.waiting.iter().any(untold) {
            return;
        }
        let deadline = self.plan.pressure_deadline;
        let span = match deadline.get() {
            span if planted!("pressure.waits_half_of_what_it_says") => span / 2,
            span if planted!("pressure.waits_twice_what_it_says") => span * 2,
            span => span,
        };
        let revoke_at = self.now.saturating_add(Nanos::new(span));
        self.quiet_until.insert(tier, revoke_at);
        for waiting in self.waiting.iter_mut().filter(|waiting| untold(waiting)) {
            waiting.revoke_at = Some(revoke_at);
        }
        let pressure = self.pressure_on(tier, deadline);
        let holders = self.over(tier).flat_map(|segment| segment.holders.keys());
        for client in holders.copied().collect::<BTreeSet<ClientId>>() {
            self.tell(client, event::Body::Pressure(pressure.clone()));
        }
        self.publish("pressure", |event| {
            (event.detail, event.bytes) = (pressure.tier, pressure.bytes);
        });
    }

    /// What is asked back of a tier, within so long.
    fn pressure_on(&self, tier: usize, deadline: Nanos) -> session::Pressure {
        let here = self.waiting.iter();
        let here = here.filter(|w| w.wanted.tier == tier && w.is_guaranteed);
        let wanted = sum(here.map(|w| w.wanted.extents));
        let missing = wanted.saturating_sub(self.tier_grantable(tier));
        session::Pressure {
            tier: self.tier_name(tier).to_owned(),
            bytes: missing.bytes().get(),
            deadline_ms: deadline.get() / 1_000_000,
        }
    }

    /// Tells a client that is back what was asked back while it was away.
    pub(super) fn tell_of_pressure(&mut self, client: ClientId) {
        let asked_back: Vec<_> = self
            .quiet_until
            .iter()
            .filter(|(tier, until)| {
                self.now < **until
                    && self
                        .waiting
                        .iter()
                        .any(|w| w.wanted.tier == **tier && w.is_guaranteed)
                    && self.over(**tier).any(|s| s.holders.contains_key(&client))
            })
            .map(|(&tier, until)| self.pressure_on(tier, until.saturating_since(self.now)))
            .collect();
        for pressure in asked_back {
            self.tell(client, event::Body::Pressure(pressure));
        }
    }

    /// What the tenant uses of the tier, not counting what it gave back.
    fn in_use(&self, tenant: TenantId, tier: usize) -> Extents {
        let quarantined = self
            .tenants
            .get(tenant)
            .and_then(|tenant| tenant.quarantined.get(tier).copied());
        self.used(tenant, tier)
            .saturating_sub(quarantined.unwrap_or_default())
    }

    /// The tenant uses more of the tier than it is guaranteed.
    pub(super) fn is_over(&self, tenant: TenantId, tier: usize) -> bool {
        self.in_use(tenant, tier) > self.guaranteed_to(tenant, tier)
    }

    /// Segments of tenants that use more of the tier than they are guaranteed, newest first.
    fn over(&self, tier: usize) -> impl Iterator<Item = &Segment> {
        let live = move |s: &&Segment| s.tier == tier && s.stage == Stage::Live;
        let newest_first = self.segments.values().rev().filter(live);
        newest_first.filter(move |segment| self.is_over(segment.tenant, tier))
    }

    /// How much a tier gets back of a segment that ends: what lies on draining devices is nobody's
    /// any more, and what is out of reach can be granted to nobody.
    fn yield_of(&self, segment: &Segment) -> Extents {
        let backings = segment
            .backings
            .iter()
            .filter_map(|id| self.backings.get(id));
        let grantable = backings.filter(|backing| {
            let device = self.devices.get(&backing.device);
            device.is_some_and(|device| !device.draining && device.reached)
        });
        sum(grantable.map(Backing::extents))
    }

    /// Revokes segments until what is free and what is on its way are enough for all whose time has
    /// come (invariant 3).
    fn revoke_overdue(&mut self, tier: usize) {
        let now = self.now;
        let again_at = now.saturating_add(self.plan.pressure_deadline);
        let (mut missing, mut patient) = (0_u64, true);
        for waiting in self.waiting.iter_mut().filter(|w| w.is_due(tier, now)) {
            missing += u64::from(waiting.wanted.extents.get());
            patient &= !waiting.overdue;
            (waiting.revoke_at, waiting.overdue) = (Some(again_at), true);
        }
        if missing == 0 {
            return;
        }
        let mut coming = u64::from(self.tier_grantable(tier).get());
        if patient {
            let in_service = self.devices_of(tier).filter(|device| !device.draining);
            coming += u64::from(sum(in_service.map(|device| device.quarantined)).get());
        }
        self.revoke_burst(tier, missing.saturating_sub(coming));
    }

    /// Revokes until so many extents come back, or nothing is left that may be revoked.
    fn revoke_burst(&mut self, tier: usize, missing: u64) {
        let (mut coming, revocable) = (0, self.revocable(tier));
        let mut has = BTreeMap::<_, Extents>::new();
        for segment in &revocable {
            let total = has.entry(segment.tenant).or_default();
            *total = sum([*total, segment.extents].into_iter());
        }
        for spares_guarantees in [true, false] {
            for segment in &revocable {
                if coming >= missing {
                    return;
                }
                let Some(has) = has.get_mut(&segment.tenant) else {
                    continue;
                };
                let guaranteed = self.guaranteed_to(segment.tenant, tier);
                let rest = has.saturating_sub(segment.extents);
                let is_over = *has > guaranteed && !(spares_guarantees && rest < guaranteed);
                if is_over && self.end_live(segment.id) {
                    *has = rest;
                    coming += u64::from(segment.back.get());
                }
            }
        }
    }

    /// What may be revoked of a tier, newest first: segments that nothing else is being done with,
    /// and that give something back.
    fn revocable(&self, tier: usize) -> Vec<Revocable> {
        let live = |s: &&Segment| s.tier == tier && s.stage == Stage::Live;
        let idle = |s: &&Segment| !self.jobs.contains_key(&s.id);
        let newest_first = self.segments.values().rev().filter(live).filter(idle);
        let all = newest_first.map(|segment| Revocable {
            id: segment.id,
            tenant: segment.tenant,
            extents: segment.extents,
            back: self.yield_of(segment),
        });
        all.filter(|segment| segment.back > Extents::ZERO).collect()
    }

    /// Ends a segment, unless it has ended already.
    fn end_live(&mut self, id: SegmentId) -> bool {
        let live = |segment: &Segment| segment.stage == Stage::Live;
        if !self.segments.get(&id).is_some_and(live) {
            return false;
        }
        self.publish_segment("segment-revoked", id, "burst".to_owned());
        self.end_segment(id);
        true
    }

    /// The id of the request that the client waits with.
    pub(super) fn wait_of(&self, client: ClientId) -> Option<u64> {
        self.waiting
            .iter()
            .find(|waiting| waiting.client == client)
            .map(|waiting| waiting.request_id)
    }

    pub(super) fn stop_waiting(&mut self, client: ClientId) {
        self.waiting.retain(|waiting| waiting.client != client);
    }
}
