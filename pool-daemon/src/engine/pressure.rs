//! Burst memory comes back first: requests that a tenant is guaranteed, and that wait for it.
//!
//! A tenant whose request would stay within what it is guaranteed, in a full tier, may wait.
//! Tenants that use more than they are guaranteed are told how much to give back by when. At the
//! deadline their burst segments are revoked, newest first, until enough is on its way; each of it
//! is announced and journaled. What is revoked is granted anew only after proof, like everything
//! else.

use pool_core::{ClientId, Nanos, SegmentId, TenantId};
use pool_proto::session::v1::{self as session, event};

use super::grant::Wanted;
use super::segment::Stage;
use super::{Engine, Refusal};

/// A request that waits for burst memory.
#[derive(Debug)]
pub(super) struct Waiting {
    client: ClientId,
    request_id: u64,
    wanted: Wanted,
    /// When the client gives up.
    until: Nanos,
    /// When burst segments are revoked; `None` once they are.
    revoke_at: Option<Nanos>,
}

impl Waiting {
    pub(super) fn next_deadline(&self) -> Nanos {
        self.revoke_at.map_or(self.until, |at| at.min(self.until))
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
        let (tenant, tier) = (wanted.tenant, wanted.tier);
        let (request, _) = self
            .tenants
            .quota(tenant, self.tier_name(tier), self.tier_total(tier));
        let guaranteed = self
            .used(tenant, tier)
            .checked_add(wanted.extents)
            .is_some_and(|sum| sum <= request);
        if wait_ms == 0 || !guaranteed {
            return Err(full);
        }
        let until = self.now.saturating_add(Nanos::from_millis(wait_ms));
        let revoke_at = self.now.saturating_add(self.plan.pressure_deadline);
        let asked = wanted.extents;
        self.waiting.push(Waiting {
            client,
            request_id,
            wanted,
            until,
            revoke_at: Some(revoke_at),
        });
        self.ask_back(tier, asked.bytes().get());
        Ok(())
    }

    /// Tells every client that holds burst memory of the tier.
    fn ask_back(&mut self, tier: usize, bytes: u64) {
        let deadline_ms = self.plan.pressure_deadline.get() / 1_000_000;
        let name = self.tier_name(tier).to_owned();
        let holders: std::collections::BTreeSet<ClientId> = self
            .burst_segments(tier)
            .filter_map(|id| self.segments.get(&id))
            .flat_map(|s| s.holders.keys().copied())
            .collect();
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
            (event.detail, event.bytes) = (name, bytes)
        });
    }

    /// Burst segments of tenants that use more than they are guaranteed, newest first.
    fn burst_segments(&self, tier: usize) -> impl Iterator<Item = SegmentId> {
        let over = move |tenant: TenantId| {
            let (request, _) =
                self.tenants
                    .quota(tenant, self.tier_name(tier), self.tier_total(tier));
            self.used(tenant, tier) > request
        };
        let burst = move |s: &&super::Segment| {
            s.tier == tier && s.burst && s.stage == Stage::Live && over(s.tenant)
        };
        self.segments
            .values()
            .rev()
            .filter(burst)
            .map(|segment| segment.id)
    }

    /// Grants what now fits, revokes where the deadline has passed, refuses where the client has
    /// given up.
    pub(super) fn relieve_pressure(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            let asker = (waiting.client, waiting.request_id);
            match self.start_create(Some(asker), &waiting.wanted) {
                Ok(()) => {}
                Err(Refusal::TierFull { .. }) if self.now < waiting.until => {
                    if waiting.revoke_at.is_some_and(|at| at <= self.now) {
                        waiting.revoke_at = None;
                        self.revoke_burst(&waiting.wanted);
                    }
                    self.waiting.push(waiting);
                }
                Err(refusal) => self.refuse(waiting.client, waiting.request_id, &refusal),
            }
        }
    }

    /// Revokes burst segments until what is free and what is on its way are enough.
    fn revoke_burst(&mut self, wanted: &Wanted) {
        let tier = wanted.tier;
        loop {
            let quarantined: u32 = self
                .devices_of(tier)
                .map(|device| device.quarantined.get())
                .sum();
            let coming = u64::from(self.tier_grantable(tier).get()) + u64::from(quarantined);
            if coming >= u64::from(wanted.extents.get()) {
                return;
            }
            let busy = |id: &SegmentId| self.jobs.contains_key(id);
            let Some(victim) = self.burst_segments(tier).find(|id| !busy(id)) else {
                return;
            };
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
