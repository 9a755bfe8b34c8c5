//! What operators and users see of the pool.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use pool_core::{BackingId, Bytes, ClientId, DeviceId, Nanos, SegmentId, TenantId};
use pool_proto::admin::v1 as admin;

use super::Engine;
use super::command::{FileIdentity, PeerIdentity};
use super::job::Purpose;
use super::segment::{Client, Segment, Stage};
use super::tenancy::Tenant;

/// Segments in one answer.
const SEGMENTS_MAX: usize = 1_000;

/// What the file of a backing must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Which file.
    pub identity: FileIdentity,
    /// How long it is.
    pub bytes: Bytes,
    /// Where it lies.
    pub device: DeviceId,
    /// Nobody can resize it.
    pub sealed: bool,
}

/// Whose things a caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visible {
    /// Everybody's: an operator.
    All,
    /// Those of the tenants this user belongs to.
    OfUser {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

impl Engine {
    fn sees(&self, visible: Visible, tenant: TenantId) -> bool {
        match visible {
            Visible::All => true,
            Visible::OfUser { uid, gid } => self.tenants.is_of(tenant, uid, gid),
        }
    }

    /// What the file of a backing must be; nothing while it is being built.
    #[must_use]
    pub fn expected(&self, backing: BackingId) -> Option<Expected> {
        let backing = self.backings.get(&backing)?;
        let device = self.devices.get(&backing.device)?;
        let (identity, bytes) = (backing.built?.identity, backing.extents().bytes());
        Some(Expected {
            identity,
            bytes,
            device: device.id,
            sealed: device.plan.sealed,
        })
    }

    /// Whether descriptors are awaited from clients, after a restart.
    #[must_use]
    pub fn awaits_descriptors(&self) -> bool {
        self.grace_until.is_some()
    }

    /// What the descriptor must be that `client` may bring back for a backing of what it holds.
    #[must_use]
    pub fn awaited_from(&self, client: ClientId, backing: BackingId) -> Option<Expected> {
        let held = &self.clients.get(&client)?.held;
        let state = self.backings.get(&backing)?;
        (!state.present && held.contains(&state.segment)).then(|| self.expected(backing))?
    }

    /// The device a backing lies on, or is being built on.
    #[must_use]
    pub fn device_of(&self, backing: BackingId) -> Option<DeviceId> {
        let backing = self.backings.get(&backing).or(self.abandoned.get(&backing));
        backing.map(|backing| backing.device)
    }

    /// Whether a file is built for a segment that has contents already: without the file, they are
    /// not whole.
    #[must_use]
    pub fn builds_for_contents(&self, backing: BackingId) -> bool {
        let segment = self.backings.get(&backing).map(|backing| backing.segment);
        let job = segment.and_then(|segment| self.jobs.get(&segment));
        job.is_some_and(|job| job.purpose != Purpose::Create)
    }

    /// The devices by name, removed ones included.
    pub fn device_ids(&self) -> impl Iterator<Item = (DeviceId, &str)> {
        self.devices
            .values()
            .map(|device| (device.id, device.plan.name.as_str()))
    }

    /// The clients that are known, and the processes they are.
    pub fn processes(&self) -> impl Iterator<Item = (ClientId, PeerIdentity)> {
        self.clients.values().map(|client| (client.id, client.peer))
    }

    /// Whether the client is known.
    #[must_use]
    pub fn has_client(&self, client: ClientId) -> bool {
        self.clients.contains_key(&client)
    }

    /// The backings that are known.
    pub fn backing_ids(&self) -> impl Iterator<Item = BackingId> {
        self.backings.keys().copied()
    }

    /// The pool in one message, at the time `now`. What the engine does not know is left empty.
    #[must_use]
    pub fn status(&self, now: Nanos) -> admin::Status {
        let account = self.account();
        let bytes = |extents: u32| pool_core::Extents::new(extents).bytes().get();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        admin::Status {
            daemon_epoch: self.epoch,
            uptime_ms: now.saturating_since(self.started).get() / 1_000_000,
            total_bytes: bytes(account.total),
            free_bytes: bytes(account.free),
            granted_bytes: bytes(account.granted),
            quarantined_bytes: bytes(account.quarantined),
            clients: count(self.clients.len()),
            segments: count(self.segments.len()),
            tenants: count(self.tenants.len()),
            window_base: self.plan.window.base().get(),
            window_bytes: self.plan.window.len().get(),
            requests_total: self.counters.requests,
            errors_total: self.counters.refused,
            emulated: self.plan.devices.iter().any(|device| device.emulated),
            devices_unreached: u32::try_from(self.unreached()).unwrap_or(u32::MAX),
            devices_noted: count(self.in_service().filter(|it| !it.note.is_empty()).count()),
            ..admin::Status::default()
        }
    }

    /// The devices in service.
    #[must_use]
    pub fn devices(&self) -> Vec<admin::Device> {
        self.in_service()
            .map(|device| self.device_message(device.id))
            .collect()
    }

    fn in_service(&self) -> impl Iterator<Item = &super::Device> {
        self.devices.values().filter(|device| !device.removed)
    }

    /// How many devices are out of reach.
    #[must_use]
    pub fn unreached(&self) -> u64 {
        self.in_service().filter(|it| !it.reached).count() as u64
    }

    /// Segments from the lowest id, a page of them. It costs what is shown, not what others have.
    #[must_use]
    pub fn segments(
        &self,
        visible: Visible,
        ask: &admin::ListSegmentsRequest,
    ) -> admin::ListSegmentsReply {
        let after = SegmentId::new(ask.after_segment_id).map_or(Unbounded, Excluded);
        let page = (after, Unbounded);
        let granted = |id: &SegmentId| {
            let segment = self.segments.get(id);
            segment.filter(|segment| segment.stage != Stage::Building)
        };
        let found: BTreeSet<SegmentId> = if visible == Visible::All && ask.tenant.is_empty() {
            let all = self.segments.range(page).map(|(id, _)| *id);
            all.filter(|id| granted(id).is_some())
                .take(SEGMENTS_MAX + 1)
                .collect()
        } else {
            let shown = |tenant: &&Tenant| {
                (ask.tenant.is_empty() || tenant.name == ask.tenant)
                    && self.sees(visible, tenant.id)
            };
            let pages = self.tenants.iter().filter(shown).flat_map(|tenant| {
                let own = tenant.segments.range(page).copied();
                own.filter(|id| granted(id).is_some())
                    .take(SEGMENTS_MAX + 1)
            });
            pages.collect()
        };
        let page = found.iter().take(SEGMENTS_MAX).filter_map(granted);
        admin::ListSegmentsReply {
            segments: page.map(|segment| self.segment_detail(segment)).collect(),
            more: found.len() > SEGMENTS_MAX,
        }
    }

    fn segment_detail(&self, segment: &Segment) -> admin::SegmentDetail {
        let state = match segment.stage {
            Stage::Freed => "quarantined",
            _ if !segment.backings.iter().all(|id| self.is_present(*id)) => "awaiting",
            _ => "live",
        };
        let holders = segment
            .holders
            .iter()
            .map(|(client, access)| admin::Holder {
                client_id: client.number(),
                pid: self.clients.get(client).map_or(0, |client| client.peer.pid),
                access: (*access).into(),
            });
        let quarantined = self.quarantined_of(segment);
        let (waited_for, more) = if quarantined == Bytes::ZERO {
            (Vec::new(), 0)
        } else {
            self.waited_for(segment)
        };
        admin::SegmentDetail {
            segment: Some(self.describe(segment)),
            holders: holders.collect(),
            state: state.to_owned(),
            quarantined_bytes: quarantined.get(),
            waited_for,
            waited_for_more: more,
        }
    }

    /// Tenants with their quotas and use.
    #[must_use]
    pub fn tenants(&self, visible: Visible) -> Vec<admin::Tenant> {
        let shown = self
            .tenants
            .iter()
            .filter(|tenant| self.sees(visible, tenant.id));
        shown.map(|tenant| self.tenant_message(tenant)).collect()
    }

    fn tenant_message(&self, tenant: &Tenant) -> admin::Tenant {
        let uses = tenant.used.iter().zip(&tenant.quarantined).enumerate().map(
            |(tier, (used, quarantined))| {
                let (name, total) = (self.tier_name(tier), self.tier_total(tier));
                let (request, _) = self.tenants.quota(tenant.id, name, total);
                // Limits are parts of what the tier may become.
                let (_, limit) = self.tenants.quota(tenant.id, name, self.tier_most(tier));
                admin::TierUse {
                    tier: name.to_owned(),
                    request_bytes: request.bytes().get(),
                    limit_bytes: limit.bytes().get(),
                    used_bytes: used.bytes().get(),
                    burst_bytes: used.saturating_sub(request).bytes().get(),
                    quarantined_bytes: quarantined.bytes().get(),
                }
            },
        );
        let owned = tenant
            .segments
            .iter()
            .filter_map(|id| self.segments.get(id));
        let owned = owned.filter(|s| s.stage == Stage::Live).count();
        admin::Tenant {
            tenant_id: tenant.id.number(),
            name: tenant.name.clone(),
            clients: u32::try_from(tenant.clients).unwrap_or(u32::MAX),
            segments: u32::try_from(owned).unwrap_or(u32::MAX),
            tiers: uses.collect(),
        }
    }

    /// The sessions.
    #[must_use]
    pub fn clients(&self, visible: Visible) -> Vec<admin::Client> {
        let shown = self
            .clients
            .values()
            .filter(|client| self.sees(visible, client.tenant));
        shown.map(|client| self.client_message(client)).collect()
    }

    fn client_message(&self, client: &Client) -> admin::Client {
        let bytes = |id: &SegmentId| {
            self.segments
                .get(id)
                .map_or(0, |segment| segment.extents.bytes().get())
        };
        admin::Client {
            client_id: client.id.number(),
            name: client.name.clone(),
            pid: client.peer.pid,
            uid: client.peer.uid,
            tenant: self.tenants.name(client.tenant).to_owned(),
            state: if client.attached {
                "attached"
            } else {
                "awaited"
            }
            .to_owned(),
            segments: u32::try_from(client.held.len()).unwrap_or(u32::MAX),
            held_bytes: client.held.iter().map(bytes).sum(),
            requests_total: client.requests,
        }
    }

    /// What each tenant uses, in all tiers together.
    pub fn uses(&self) -> impl Iterator<Item = (&str, Bytes)> {
        let bytes = |used: &pool_core::Extents| used.bytes().get();
        self.tenants.iter().map(move |tenant| {
            (
                tenant.name.as_str(),
                Bytes::new(tenant.used.iter().map(bytes).sum()),
            )
        })
    }

    /// How many clients and segments there are.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.clients.len() as u64, self.segments.len() as u64)
    }
}
