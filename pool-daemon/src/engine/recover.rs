//! Starting from a journal: the state of before, in a new life.
//!
//! # Protocol
//! The world has collected the descriptors that survived and says which backings are present. Every
//! client of before is awaited until it reattaches or its process ends. Descriptors that are
//! missing are awaited from their holders for the grace period; a segment that then still misses
//! one, and whose holders are all back or gone, is lost: its holders are told, and what is left of
//! it goes into quarantine. After a new boot of the machine everything that lived in its memory is
//! gone, with all clients; what lies whole on persistent devices stays.
//!
//! Recovering is idempotent: a second recovery of the same rows yields the same state but for the
//! epoch.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{
    BackingId, Bytes, ClientId, DeviceId, Extents, Incarnation, Nanos, PoolAddr, SegmentId,
    TenantId, WindowRange,
};
use pool_proto::common::v1::{Access, Lifetime, Pages};
use pool_proto::journal::v1 as row;
use pool_proto::session::v1::{self as session, event};

use super::command::{Built, FileIdentity, PeerIdentity};
use super::device::Device;
use super::domain::Domain;
use super::effect::Effects;
use super::plan::Plan;
use super::rows::runs_in;
use super::runs::{Run, RunSet};
use super::segment::{Backing, Client, Last, Segment, Share, Stage};
use super::tenancy::Tenants;
use super::{Action, Counters, Engine, NextIds};
use crate::journal::{FORMAT, Rows, Table};

/// What the world found when the engine starts.
#[derive(Debug, Default, Clone)]
pub struct Found {
    /// The present boot of the machine.
    pub boot_id: String,
    /// The pool's id: that of its rows, or a new one where they have none.
    pub pool_id: String,
    /// Backings whose files the daemon has, checked against their rows.
    pub present: BTreeSet<BackingId>,
}

/// Why an engine cannot start from these rows and this plan. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Written by another version. Start that one, or move the journal away.
    #[error("the journal has format {found}, this daemon reads format {FORMAT}")]
    Format {
        /// In the journal.
        found: u32,
    },
    /// A row contradicts itself or another. Keep the file and ask for help.
    #[error("row {key} of table {table:?} in the journal is damaged: {reason}")]
    Damaged {
        /// Which table.
        table: Table,
        /// Which row.
        key: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The configured window differs from the one segments live in. Configure the old one until
    /// they are freed.
    #[error(
        "the journal holds segments in a window of {len} at {base}: configure that window until \
         they are freed"
    )]
    WindowChanged {
        /// The base of before.
        base: PoolAddr,
        /// The size of before.
        len: Bytes,
    },
    /// The configuration has lost a device that holds memory. Put it back, then drain and remove
    /// it.
    #[error(
        "device {name} holds memory, and the configuration no longer names it: put it back, \
         drain it, remove it"
    )]
    DeviceMissing {
        /// Its name.
        name: String,
    },
    /// The configuration makes a device smaller than what is in use of it.
    #[error(
        "device {name} has {used} in use, and the configuration gives it {configured}: raise its \
         size"
    )]
    DeviceInUse {
        /// Its name.
        name: String,
        /// What is in use.
        used: Bytes,
        /// What the configuration says.
        configured: Bytes,
    },
    /// The configuration has lost a tier that holds segments. Put it back.
    #[error("tier {name} holds segments, and the configuration no longer names it: put it back")]
    TierMissing {
        /// Its name.
        name: String,
    },
}

fn damaged(table: Table, key: u64, reason: &'static str) -> RecoverError {
    RecoverError::Damaged { table, key, reason }
}

impl Engine {
    /// An engine in the state of `rows`; a new pool where there are none.
    ///
    /// # Errors
    /// [`RecoverError`] where rows, plan and each other do not fit.
    pub fn recover(
        plan: Plan,
        rows: Rows,
        found: &Found,
        now: Nanos,
    ) -> Result<(Self, Effects), RecoverError> {
        let pool = rows.pool.clone().unwrap_or_default();
        let new_boot = pool.format != 0 && pool.boot_id != found.boot_id;
        let mut engine = Self::empty(plan, &pool, found, now)?;
        engine.restore_window(&pool, &rows)?;
        engine.restore_devices(&rows)?;
        for tenant in &rows.tenants {
            let id = TenantId::new(tenant.tenant_id);
            let id = id.ok_or_else(|| damaged(Table::Tenants, 0, "it has no id"))?;
            engine.tenants.restore(id, tenant.name.clone());
        }
        engine.restore_clients(&rows.clients)?;
        for row in &rows.segments {
            engine.restore_segment(row)?;
        }
        for row in &rows.backings {
            engine.restore_backing(row, found)?;
        }
        engine.complete_segments()?;
        if new_boot {
            engine.forget_last_boot();
        }
        engine.adopt_configured_sizes(&rows)?;
        engine.begin_life();
        engine.forget_unnamed();
        let effects = engine.effects();
        Ok((engine, effects))
    }

    fn empty(
        plan: Plan,
        pool: &row::PoolRow,
        found: &Found,
        now: Nanos,
    ) -> Result<Self, RecoverError> {
        if pool.format != 0 && pool.format != FORMAT {
            return Err(RecoverError::Format { found: pool.format });
        }
        let window = plan.window.len().get() / pool_core::EXTENT_BYTES;
        // A window ends below 2^47: at most 2^26 extents.
        let window = RunSet::of(Run {
            first: 0,
            count: u32::try_from(window).unwrap_or(u32::MAX),
        });
        let mut tenants = Tenants::new(plan.tenancy.clone(), plan.tiers.len());
        tenants.restore_next(TenantId::new(pool.next_tenant_id).unwrap_or(TenantId::FIRST));
        let next = NextIds {
            segment: SegmentId::new(pool.next_segment_id).unwrap_or(SegmentId::FIRST),
            backing: BackingId::new(pool.next_backing_id).unwrap_or(BackingId::FIRST),
            client: ClientId::new(pool.next_client_id).unwrap_or(ClientId::FIRST),
            device: DeviceId::new(pool.next_device_id).unwrap_or(DeviceId::FIRST),
            incarnation: Incarnation::new(pool.next_incarnation).unwrap_or(Incarnation::FIRST),
        };
        Ok(Self {
            plan,
            boot_id: found.boot_id.clone(),
            pool_id: found.pool_id.clone(),
            epoch: pool.daemon_epoch.saturating_add(1),
            now,
            started: now,
            devices: BTreeMap::new(),
            tenants,
            clients: BTreeMap::new(),
            segments: BTreeMap::new(),
            backings: BTreeMap::new(),
            names: BTreeMap::new(),
            window,
            next,
            jobs: BTreeMap::new(),
            waiting: Vec::new(),
            quiet_until: BTreeMap::new(),
            to_move: BTreeSet::new(),
            domains: BTreeSet::new(),
            to_recover: BTreeSet::new(),
            tended: BTreeSet::new(),
            grace_until: None,
            counters: Counters::default(),
            left_by: BTreeSet::new(),
            dirty: BTreeSet::new(),
            actions: Vec::new(),
        })
    }

    /// Hands out no id that `other` has handed out: what it began in the world may still come back.
    pub fn never_reuse_ids_of(&mut self, other: &Self) {
        let (next, theirs) = (&mut self.next, &other.next);
        next.segment = next.segment.max(theirs.segment);
        next.backing = next.backing.max(theirs.backing);
        next.client = next.client.max(theirs.client);
        next.device = next.device.max(theirs.device);
        next.incarnation = next.incarnation.max(theirs.incarnation);
        self.tenants.restore_next(other.tenants.next_id());
    }

    fn restore_window(&self, pool: &row::PoolRow, rows: &Rows) -> Result<(), RecoverError> {
        let (base, len) = (
            PoolAddr::new(pool.window_base),
            Bytes::new(pool.window_bytes),
        );
        let same = WindowRange::new(base, len) == Ok(self.plan.window);
        if pool.format == 0 || same || rows.segments.is_empty() {
            return Ok(());
        }
        Err(RecoverError::WindowChanged { base, len })
    }

    fn restore_devices(&mut self, rows: &Rows) -> Result<(), RecoverError> {
        let in_use: BTreeSet<u32> = rows
            .backings
            .iter()
            .map(|backing| backing.device_id)
            .collect();
        for row in &rows.devices {
            let key = u64::from(row.device_id);
            let id = DeviceId::new(row.device_id)
                .ok_or_else(|| damaged(Table::Devices, key, "it has no id"))?;
            let Some(plan) = self
                .plan
                .devices
                .iter()
                .find(|plan| plan.name == row.name)
                .cloned()
            else {
                if in_use.contains(&row.device_id) {
                    return Err(RecoverError::DeviceMissing {
                        name: row.name.clone(),
                    });
                }
                self.touch_device(id); // Not in the tables: its row is deleted.
                continue;
            };
            let tier = self.tier_position(&plan.tier)?;
            let mut device = Device::restored(id, plan, tier, row.extents, &runs_in(&row.retired))
                .map_err(|_| damaged(Table::Devices, key, "its retired extents overlap"))?;
            (device.draining, device.removed) = (row.draining, row.removed);
            self.devices.insert(id, device);
        }
        for plan in self.plan.devices.clone() {
            if self
                .devices
                .values()
                .any(|device| device.plan.name == plan.name)
            {
                continue;
            }
            let (id, tier) = (self.next.device, self.tier_position(&plan.tier)?);
            self.next.device = id
                .checked_next()
                .ok_or_else(|| damaged(Table::Pool, 1, "device ids are used up"))?;
            self.devices.insert(id, Device::new(id, plan, tier));
            self.touch_device(id);
        }
        Ok(())
    }

    fn tier_position(&self, name: &str) -> Result<usize, RecoverError> {
        let found = self.plan.tiers.iter().position(|tier| tier.name == name);
        found.ok_or_else(|| RecoverError::TierMissing {
            name: name.to_owned(),
        })
    }

    fn restore_clients(&mut self, rows: &[row::ClientRow]) -> Result<(), RecoverError> {
        for row in rows {
            let bad = |reason| damaged(Table::Clients, row.client_id, reason);
            let id = ClientId::new(row.client_id).ok_or_else(|| bad("it has no id"))?;
            let tenant =
                TenantId::new(row.tenant_id).filter(|tenant| self.tenants.get(*tenant).is_some());
            let token = row
                .token
                .as_slice()
                .try_into()
                .map_err(|_| bad("its token is not 16 bytes"))?;
            let last = Last {
                request_id: row.last_request_id,
                granted: SegmentId::new(row.last_granted_segment_id),
            };
            self.add_client(Client {
                id,
                tenant: tenant.ok_or_else(|| bad("its tenant is unknown"))?,
                peer: PeerIdentity {
                    pid: row.pid,
                    started_ticks: row.started_ticks,
                    uid: row.uid,
                    gid: u32::MAX,
                },
                name: row.name.clone(),
                token,
                attached: false,
                held: BTreeSet::new(),
                leaving: BTreeSet::new(),
                last,
                requests: 0,
            });
        }
        Ok(())
    }

    fn restore_segment(&mut self, row: &row::SegmentRow) -> Result<(), RecoverError> {
        let bad = |reason| damaged(Table::Segments, row.segment_id, reason);
        let id = SegmentId::new(row.segment_id).ok_or_else(|| bad("it has no id"))?;
        let tenant =
            TenantId::new(row.tenant_id).filter(|tenant| self.tenants.get(*tenant).is_some());
        let tenant = tenant.ok_or_else(|| bad("its tenant is unknown"))?;
        let (extents, capacity) = (whole(row.bytes), whole(row.capacity_bytes));
        let (extents, capacity) = extents
            .zip(capacity)
            .ok_or_else(|| bad("it is not a whole number of extents"))?;
        if extents == Extents::ZERO || extents > capacity {
            return Err(bad("it is empty, or larger than its addresses"));
        }
        let offset = PoolAddr::new(row.addr).checked_offset_from(self.plan.window.base());
        let first = offset
            .and_then(|offset| whole(offset.get()))
            .ok_or_else(|| bad("its address is no extent's"))?;
        let range = Run {
            first: first.get(),
            count: capacity.get(),
        };
        self.window
            .remove(range)
            .map_err(|_| bad("its addresses are another's too"))?;
        let stage = if row.freed { Stage::Freed } else { Stage::Live };
        let backings = row
            .backings
            .iter()
            .map(|&id| BackingId::new(id))
            .collect::<Option<_>>();
        let mut segment = Segment {
            id,
            tenant,
            name: row.name.clone(),
            tier: self.tier_position(&row.tier)?,
            range,
            extents,
            incarnation: Incarnation::new(row.incarnation)
                .ok_or_else(|| bad("it has no incarnation"))?,
            lifetime: Lifetime::try_from(row.lifetime)
                .map_err(|_| bad("its lifetime is unknown"))?,
            burst: row.burst,
            piece_max: whole(row.piece_bytes)
                .ok_or_else(|| bad("its pieces are not whole extents"))?
                .get(),
            stage,
            backings: backings.ok_or_else(|| bad("a backing has no id"))?,
            files: BTreeSet::new(),
            shares: BTreeMap::new(),
            holders: BTreeMap::new(),
            leaving: BTreeSet::new(),
            sealed: row.sealed,
            writers: row.writers,
            domain: Domain::restored(row).map_err(bad)?,
        };
        self.restore_shares(&mut segment, row)?;
        self.restore_holders(&mut segment, row)?;
        segment.check_seal().map_err(bad)?;
        self.enter_segment(segment).map_err(bad)
    }

    /// Enters a segment of before under its names.
    fn enter_segment(&mut self, segment: Segment) -> Result<(), &'static str> {
        let (id, tenant) = (segment.id, segment.tenant);
        let named = (tenant, segment.name.clone());
        if !segment.name.is_empty() && self.names.insert(named, id).is_some() {
            return Err("its name is another's too");
        }
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.segments.insert(id);
        }
        self.segments.insert(id, segment);
        Ok(())
    }

    fn restore_shares(
        &mut self,
        segment: &mut Segment,
        row: &row::SegmentRow,
    ) -> Result<(), RecoverError> {
        let bad = |reason| damaged(Table::Segments, row.segment_id, reason);
        for share in &row.shares {
            let tenant = TenantId::new(share.tenant_id)
                .filter(|tenant| self.tenants.get(*tenant).is_some())
                .ok_or_else(|| bad("a share's tenant is unknown"))?;
            let access =
                Access::try_from(share.access).map_err(|_| bad("a share's access is unknown"))?;
            if let Some(tenant) = self.tenants.get_mut(tenant) {
                tenant.shared.insert(segment.id);
            }
            segment.shares.insert(
                tenant,
                Share {
                    access,
                    opened: share.opened,
                },
            );
        }
        Ok(())
    }

    fn restore_holders(
        &mut self,
        segment: &mut Segment,
        row: &row::SegmentRow,
    ) -> Result<(), RecoverError> {
        let (id, bad) = (segment.id, |reason| {
            damaged(Table::Segments, row.segment_id, reason)
        });
        for holder in &row.holders {
            let client =
                ClientId::new(holder.client_id).ok_or_else(|| bad("a holder has no id"))?;
            let Some(state) = self.clients.get_mut(&client) else {
                return Err(bad("a holder is unknown"));
            };
            match Access::try_from(holder.access)
                .map_err(|_| bad("a holder's access is unknown"))?
            {
                Access::Unspecified => {
                    segment.leaving.insert(client);
                    state.leaving.insert(id);
                }
                access => {
                    segment.holders.insert(client, access);
                    state.held.insert(id);
                }
            }
        }
        Ok(())
    }

    fn restore_backing(
        &mut self,
        row: &row::BackingRow,
        found: &Found,
    ) -> Result<(), RecoverError> {
        let bad = |reason| damaged(Table::Backings, row.backing_id, reason);
        let id = BackingId::new(row.backing_id).ok_or_else(|| bad("it has no id"))?;
        let segment = SegmentId::new(row.segment_id).and_then(|id| self.segments.get_mut(&id));
        let segment = segment.ok_or_else(|| bad("its segment is unknown"))?;
        let device = DeviceId::new(row.device_id).and_then(|id| self.devices.get_mut(&id));
        let device = device.ok_or_else(|| bad("its device is unknown"))?;
        let runs = runs_in(&row.runs);
        for &run in &runs {
            device
                .claim(run)
                .map_err(|_| bad("an extent of it is another's too"))?;
        }
        segment.files.insert(id);
        device.tie(segment.id);
        let (quarantined, charged) = match TenantId::new(row.charged_tenant_id) {
            Some(payer) => (true, payer),
            None => (false, segment.tenant),
        };
        if self.tenants.get(charged).is_none() {
            return Err(bad("the tenant it is charged to is unknown"));
        }
        let pages = Pages::try_from(row.pages).map_err(|_| bad("its pages are unknown"))?;
        let identity = FileIdentity {
            device: row.file_device,
            inode: row.file_inode,
        };
        let (segment, present) = (segment.id, found.present.contains(&id));
        let built = Some(Built { pages, identity });
        let backing = Backing {
            id,
            segment,
            device: device.id,
            runs,
            built,
            charged,
            quarantined,
            present,
        };
        let extents = backing.extents();
        if extents.bytes().get() != row.bytes {
            return Err(bad("its extents do not sum up to its size"));
        }
        self.tenants.charge(charged, device.tier, extents);
        if quarantined {
            device.quarantined = device
                .quarantined
                .checked_add(extents)
                .unwrap_or(device.quarantined);
            self.tenants.quarantine(charged, device.tier, extents);
        }
        self.backings.insert(id, backing);
        Ok(())
    }

    /// Each live segment has its backings, once each, and they sum up to it; a freed one has none;
    /// and there are no others in use.
    fn complete_segments(&self) -> Result<(), RecoverError> {
        let mut pieces = 0;
        for segment in self.segments.values() {
            let bad = |reason| damaged(Table::Segments, segment.id.number(), reason);
            let (mut sum, mut seen) = (0_u64, BTreeSet::new());
            for id in &segment.backings {
                let backing = self
                    .backings
                    .get(id)
                    .filter(|b| b.segment == segment.id && !b.quarantined && seen.insert(*id));
                let backing = backing.ok_or_else(|| bad("a piece is missing, or there twice"))?;
                sum += u64::from(backing.extents().get());
            }
            pieces += seen.len();
            let freed = segment.stage == Stage::Freed;
            let directory = segment
                .backings
                .first()
                .and_then(|id| self.backings.get(id));
            let directory = directory.map(|file| file.extents().bytes());
            let due = segment.domain.as_ref().map(|d| d.layout.directory());
            if due.is_some() && due != directory {
                return Err(bad("its first file is not its directory"));
            }
            let bare = segment.backings.is_empty()
                && segment.holders.is_empty()
                && segment.name.is_empty();
            if freed && !bare {
                return Err(bad("it is freed, and has a piece, a holder or a name"));
            }
            if !freed && sum != u64::from(segment.extents.get()) {
                return Err(bad("its pieces do not sum up to its size"));
            }
        }
        let in_use = self.backings.values().filter(|b| !b.quarantined);
        if in_use.clone().count() == pieces {
            return Ok(());
        }
        let stray = in_use
            .map(|backing| (backing.id, self.segments.get(&backing.segment)))
            .find(|(id, segment)| !segment.is_some_and(|s| s.backings.contains(id)));
        let stray = stray.map_or(0, |(id, _)| id.number());
        Err(damaged(
            Table::Backings,
            stray,
            "it is in use, and no piece of its segment",
        ))
    }

    /// The machine was started anew: no client lives, and volatile memory is empty.
    fn forget_last_boot(&mut self) {
        let clients: Vec<_> = self.clients.keys().copied().collect();
        for client in clients {
            self.client_gone(client);
        }
        let volatile = |backing: &Backing| {
            self.devices
                .get(&backing.device)
                .is_some_and(|d| !d.plan.persistent)
        };
        let gone: Vec<_> = self
            .backings
            .values()
            .filter(|b| volatile(b))
            .map(|b| (b.id, b.segment, b.quarantined))
            .collect();
        // What was in quarantine already was no piece of its segment any more.
        for &(_, segment, _) in gone.iter().filter(|(_, _, quarantined)| !quarantined) {
            self.lose(segment);
        }
        for &(backing, ..) in &gone {
            self.released(backing);
        }
    }

    /// What every life begins with.
    fn begin_life(&mut self) {
        self.touch_pool();
        self.left_by = self.tenants.iter().map(|tenant| tenant.id).collect();
        let unheld = |s: &&Segment| {
            s.stage == Stage::Live && s.lifetime == Lifetime::Held && s.holders.is_empty()
        };
        let unheld: Vec<_> = self
            .segments
            .values()
            .filter(unheld)
            .map(|segment| segment.id)
            .collect();
        for segment in unheld {
            self.end_segment(segment);
        }
        self.begin_domains();
        let to_move = self.segments.values();
        let to_move = to_move.filter(|s| s.is_idle() && self.is_leaving_a_device(s));
        self.to_move = to_move.map(|segment| segment.id).collect();
        // Ending a segment has asked for its watch already; asking twice is harmless.
        let watched = self
            .backings
            .values()
            .filter(|backing| backing.quarantined && backing.present);
        self.actions.extend(watched.map(|backing| Action::Watch {
            backing: backing.id,
        }));
        if self.backings.values().any(|backing| !backing.present) {
            self.grace_until = Some(self.now.saturating_add(self.plan.reattach_grace));
        }
        let detail = format!(
            "{} segments, {} clients awaited",
            self.segments.len(),
            self.clients.len()
        );
        self.publish("daemon-recovered", |event| event.detail = detail);
    }

    /// Adopts the sizes of the configuration where it changed since the journal was written.
    ///
    /// # Errors
    /// [`RecoverError::DeviceInUse`] where a device would be smaller than what is in use of it.
    fn adopt_configured_sizes(&mut self, rows: &Rows) -> Result<(), RecoverError> {
        for row in &rows.devices {
            let device = DeviceId::new(row.device_id).and_then(|id| self.devices.get_mut(&id));
            let Some(device) =
                device.filter(|device| device.plan.extents.get() != row.configured_extents)
            else {
                continue;
            };
            let (wanted, name) = (device.plan.extents, device.plan.name.clone());
            device
                .resize(wanted)
                .map_err(|in_use| RecoverError::DeviceInUse {
                    name,
                    used: in_use.used.bytes(),
                    configured: wanted.bytes(),
                })?;
            let id = device.id;
            self.touch_device(id);
        }
        Ok(())
    }

    /// When descriptors have been awaited long enough, segments that still miss one are lost,
    /// unless a holder that may bring it is still to come.
    pub(super) fn end_grace(&mut self) {
        if self.grace_until.is_none_or(|until| self.now < until) {
            return;
        }
        self.grace_until = None;
        let missing: BTreeSet<_> = self
            .backings
            .values()
            .filter(|b| !b.present && b.built.is_some())
            .map(|b| b.segment)
            .collect();
        for segment in missing {
            self.lose_if_nobody_comes(segment);
            self.release_unprovable(segment);
        }
    }

    /// Loses a segment that misses a descriptor which no awaited client can bring any more.
    pub(super) fn lose_if_nobody_comes(&mut self, id: SegmentId) {
        let Some(segment) = self
            .segments
            .get(&id)
            .filter(|segment| segment.stage == Stage::Live)
        else {
            return;
        };
        let awaited = |client: &ClientId| {
            self.clients
                .get(client)
                .is_some_and(|client| !client.attached)
        };
        if self.grace_until.is_none()
            && !segment.backings.iter().all(|id| self.is_present(*id))
            && !segment.holders.keys().any(awaited)
        {
            self.lose(id);
        }
    }

    fn lose(&mut self, id: SegmentId) {
        let Some(segment) = self
            .segments
            .get(&id)
            .filter(|segment| segment.stage == Stage::Live)
        else {
            return;
        };
        let holders: Vec<_> = segment.holders.keys().copied().collect();
        self.publish_segment("segment-lost", id, String::new());
        for holder in holders {
            self.evict(
                holder,
                id,
                event::Body::Lost(session::Lost {
                    segment_id: id.number(),
                }),
            );
        }
        self.end_segment(id);
    }
}

/// So many bytes in extents, if they are whole ones.
fn whole(bytes: u64) -> Option<Extents> {
    Extents::holding(Bytes::new(bytes)).filter(|extents| extents.bytes().get() == bytes)
}
