//! The tables of the engine from the rows of the journal, each checked against those before it.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{
    BackingId, Bytes, ClientId, DeviceId, Extents, Incarnation, PoolAddr, SegmentId, TenantId,
    WindowRange, planted,
};
use pool_proto::common::v1::{Access, Lifetime, Pages};
use pool_proto::journal::v1 as row;

use super::{Found, RecoverError, damaged};
use crate::engine::Engine;
use crate::engine::command::{Built, FileIdentity, PeerIdentity};
use crate::engine::device::Device;
use crate::engine::domain::Domain;
use crate::engine::group;
use crate::engine::rows::runs_in;
use crate::engine::runs::Run;
use crate::engine::segment::{Backing, Client, Last, Segment, Share, Stage};
use crate::journal::{Rows, Table};

impl Engine {
    pub(super) fn restore_window(
        &self,
        pool: &row::PoolRow,
        rows: &Rows,
    ) -> Result<(), RecoverError> {
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

    pub(super) fn restore_devices(&mut self, rows: &Rows) -> Result<(), RecoverError> {
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
            device.ending = group::ending_of(&row.ending_tags)
                .map_err(|_| damaged(Table::Devices, key, "a tag of it is none"))?;
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

    pub(super) fn restore_clients(&mut self, rows: &[row::ClientRow]) -> Result<(), RecoverError> {
        let forgotten = usize::from(planted!("recover.forgets_a_session"));
        for row in rows.iter().skip(forgotten) {
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

    pub(super) fn restore_segment(&mut self, row: &row::SegmentRow) -> Result<(), RecoverError> {
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
        self.take_range(range)
            .map_err(|_| bad("its addresses are another's too"))?;
        let stage = if row.freed { Stage::Freed } else { Stage::Live };
        let backings = row
            .backings
            .iter()
            .map(|&id| BackingId::new(id))
            .collect::<Option<_>>();
        let tag = group::tag_of(&row.tag).map_err(|_| bad("its tag is none"))?;
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
            is_group: tag.is_some(),
            tag,
            is_joined: row.joined,
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

    pub(super) fn restore_backing(
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
    pub(super) fn complete_segments(&self) -> Result<(), RecoverError> {
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

    /// Adopts the sizes of the configuration where it changed since the journal was written.
    ///
    /// # Errors
    /// [`RecoverError::DeviceInUse`] where a device would be smaller than what is in use of it.
    pub(super) fn adopt_configured_sizes(&mut self, rows: &Rows) -> Result<(), RecoverError> {
        for row in &rows.devices {
            let device = DeviceId::new(row.device_id).and_then(|id| self.devices.get_mut(&id));
            let Some(device) =
                device.filter(|device| device.plan.extents.get() != row.configured_extents)
            else {
                continue;
            };
            let (wanted, name) = (device.plan.extents, device.plan.name.clone());
            let sized = if device.plan.dynamic {
                device.span(wanted)
            } else {
                device.resize(wanted)
            };
            sized.map_err(|in_use| RecoverError::DeviceInUse {
                name,
                used: in_use.used.bytes(),
                configured: wanted.bytes(),
            })?;
            let id = device.id;
            self.touch_device(id);
        }
        Ok(())
    }
}

/// So many bytes in extents, if they are whole ones.
fn whole(bytes: u64) -> Option<Extents> {
    Extents::holding(Bytes::new(bytes)).filter(|extents| extents.bytes().get() == bytes)
}
