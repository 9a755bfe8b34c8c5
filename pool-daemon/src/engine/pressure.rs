//! Burst memory comes back first: requests that a tenant is guaranteed, and that wait for it.
//!
//! A tenant whose request would stay within what it is guaranteed, in a full tier, may wait.
//! Tenants that use more than they are guaranteed are told how much to give back by when. At the
//! deadline their burst segments are revoked, newest first, until enough is on its way; each of it
//! is announced and journaled. What is revoked is granted anew only after proof, like everything
//! else.
//!
//! # Invariants
//! 1. What comes back is not granted as burst again while somebody waits for it.
//! 2. The holders of burst memory are told at most once in a deadline, however many wait.
//! 3. A deadline revokes for all whose time has come. The first one of a request counts what is in
//!    quarantine as on its way; the later ones do not, so that whoever keeps a mapping for ever
//!    keeps a guarantee from being met no longer than a deadline.

use std::collections::BTreeSet;

use pool_core::{ClientId, Extents, Nanos, SegmentId, TenantId};
use pool_proto::session::v1::{self as session, event};

use super::grant::Wanted;
use super::segment::Stage;
use super::{Engine, Refusal, sum};

/// A request that waits for burst memory.
#[derive(Debug)]
pub(super) struct Waiting {
    client: ClientId,
    request_id: u64,
    wanted: Wanted,
    /// When the client gives up.
    until: Nanos,
    /// When burst segments are revoked for it; `None` until their holders are told.
    revoke_at: Option<Nanos>,
    /// They were revoked for it once.
    overdue: bool,
}

impl Waiting {
    /// Who waits, and with which request.
    pub(super) fn asker(&self) -> (ClientId, u64) {
        (self.client, self.request_id)
    }

    fn is_due(&self, tier: usize, now: Nanos) -> bool {
        self.wanted.tier == tier && self.revoke_at.is_some_and(|at| at <= now)
    }
}

impl Engine {
    /// Lets a request wait that its tenant is guaranteed; any other one is refused with `full`.
    pub(super) fn wait_for_burst(
        &mut self,
        client: ClientId,
        request_id: u64,
        wanted: Wanted,
        wait_ms: u64,
        full: Refusal,
    ) -> Result<(), Refusal> {
        if wait_ms == 0 || !self.is_guaranteed(wanted.tenant, wanted.tier, wanted.extents) {
            return Err(full);
        }
        let until = self.now.saturating_add(Nanos::from_millis(wait_ms));
        self.waiting.push(Waiting {
            client,
            request_id,
            wanted,
            until,
            revoke_at: None,
            overdue: false,
        });
        Ok(())
    }

    /// When a waiting request wants something done.
    pub(super) fn pressure_deadlines(&self) -> impl Iterator<Item = Nanos> {
        self.waiting.iter().map(|waiting| {
            let told = || self.quiet_until.get(&waiting.wanted.tier).copied();
            let next = waiting.revoke_at.or_else(told);
            next.map_or(waiting.until, |at| at.min(waiting.until))
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

    /// What a tier has for so much more of a tenant: burst does not take what others wait for.
    pub(super) fn room_for(&self, tenant: TenantId, tier: usize, more: Extents) -> Extents {
        let free = self.tier_grantable(tier);
        if self.waiting.is_empty() || self.is_guaranteed(tenant, tier, more) {
            return free;
        }
        let here = self.waiting.iter().filter(|w| w.wanted.tier == tier);
        free.saturating_sub(sum(here.map(|w| w.wanted.extents)))
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
        let untold = |w: &Waiting| w.wanted.tier == tier && w.revoke_at.is_none();
        let quiet = self
            .quiet_until
            .get(&tier)
            .is_some_and(|until| self.now < *until);
        if quiet || !self.waiting.iter().any(untold) {
            return;
        }
        let deadline = self.plan.pressure_deadline;
        let revoke_at = self.now.saturating_add(deadline);
        self.quiet_until.insert(tier, revoke_at);
        for waiting in self.waiting.iter_mut().filter(|waiting| untold(waiting)) {
            waiting.revoke_at = Some(revoke_at);
        }
        let here = self.waiting.iter().filter(|w| w.wanted.tier == tier);
        let wanted = sum(here.map(|w| w.wanted.extents));
        let bytes = wanted
            .saturating_sub(self.tier_grantable(tier))
            .bytes()
            .get();
        let deadline_ms = deadline.get() / 1_000_000;
        let name = self.tier_name(tier).to_owned();
        let segments = self.burst_segments(tier);
        let segments = segments.iter().filter_map(|id| self.segments.get(id));
        let holders: BTreeSet<ClientId> =
            segments.flat_map(|s| s.holders.keys().copied()).collect();
        for client in holders {
            let tier = name.clone();
            self.tell(
                client,
                event::Body::Pressure(session::Pressure {
                    tier,
                    bytes,
                    deadline_ms,
                }),
            );
        }
        self.publish("pressure", |event| {
            (event.detail, event.bytes) = (name, bytes);
        });
    }

    /// The tenant uses more of the tier than it is guaranteed, not counting what it gave back.
    fn is_over(&self, tenant: TenantId, tier: usize) -> bool {
        let quarantined = self
            .tenants
            .get(tenant)
            .and_then(|tenant| tenant.quarantined.get(tier).copied());
        let used = self.used(tenant, tier);
        used.saturating_sub(quarantined.unwrap_or_default()) > self.guaranteed_to(tenant, tier)
    }

    /// Burst segments of tenants that use more than they are guaranteed, newest first.
    fn burst_segments(&self, tier: usize) -> Vec<SegmentId> {
        let burst = |s: &&super::Segment| {
            s.tier == tier && s.burst && s.stage == Stage::Live && self.is_over(s.tenant, tier)
        };
        let newest_first = self.segments.values().rev();
        newest_first
            .filter(burst)
            .map(|segment| segment.id)
            .collect()
    }

    /// Revokes burst segments until what is free and what is on its way are enough for all whose
    /// time has come (invariant 3).
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
            coming += u64::from(sum(self.devices_of(tier).map(|d| d.quarantined)).get());
        }
        for victim in self.burst_segments(tier) {
            if coming >= missing {
                return;
            }
            let Some(segment) = self.segments.get(&victim) else {
                continue;
            };
            // Those before it may have brought its tenant down to what it is guaranteed.
            if self.jobs.contains_key(&victim) || !self.is_over(segment.tenant, tier) {
                continue;
            }
            coming += u64::from(segment.extents.get());
            self.publish_segment("segment-revoked", victim, "burst".to_owned());
            self.end_segment(victim);
        }
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
