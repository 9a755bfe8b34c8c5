//! The engine's state as rows of the journal.
//!
//! A step marks what it touched; at its end each touched thing becomes one record: its row as it
//! now is, or its deletion where it is no more (or was never granted).

use pool_core::{BackingId, ClientId, DeviceId, Extents, SegmentId, TenantId};
use pool_proto::common::v1::{Access, ExtentRun};
use pool_proto::journal::v1 as row;

use super::Engine;
use super::domain::Domain;
use super::runs::Run;
use super::segment::{Backing, Segment, Stage};
use crate::journal::{FORMAT, Record, Table};

impl Engine {
    pub(super) fn record(&self, table: Table, key: u64) -> Record {
        let row = match table {
            Table::Pool => Some(Record::Pool(self.pool_row())),
            Table::Devices => self.device_row(key),
            Table::Tenants => self.tenant_row(key),
            Table::Clients => self.client_row(key),
            Table::Segments => self.segment_row(key),
            Table::Backings => self.backing_row(key),
        };
        row.unwrap_or(Record::Delete(table, key))
    }

    fn pool_row(&self) -> row::PoolRow {
        row::PoolRow {
            format: FORMAT,
            boot_id: self.boot_id.clone(),
            daemon_epoch: self.epoch,
            window_base: self.plan.window.base().get(),
            window_bytes: self.plan.window.len().get(),
            next_segment_id: self.next.segment.number(),
            next_backing_id: self.next.backing.number(),
            next_client_id: self.next.client.number(),
            next_tenant_id: self.tenants.next_id().number(),
            next_device_id: self.next.device.number(),
            next_incarnation: self.next.incarnation.number(),
            pool_id: self.pool_id.clone(),
        }
    }

    fn device_row(&self, key: u64) -> Option<Record> {
        let device = self
            .devices
            .get(&DeviceId::new(u32::try_from(key).ok()?)?)?;
        Some(Record::Device(row::DeviceRow {
            device_id: device.id.number(),
            name: device.plan.name.clone(),
            tier: device.plan.tier.clone(),
            extents: device.index_space(),
            retired: runs_out(device.retired_runs()),
            draining: device.draining,
            configured_extents: device.plan.extents.get(),
            removed: device.removed,
            ending_tags: device.ending_rows(),
        }))
    }

    fn tenant_row(&self, key: u64) -> Option<Record> {
        let tenant = self.tenants.get(TenantId::new(u32::try_from(key).ok()?)?)?;
        Some(Record::Tenant(row::TenantRow {
            tenant_id: tenant.id.number(),
            name: tenant.name.clone(),
        }))
    }

    fn client_row(&self, key: u64) -> Option<Record> {
        let client = self.clients.get(&ClientId::new(key)?)?;
        Some(Record::Client(row::ClientRow {
            client_id: client.id.number(),
            tenant_id: client.tenant.number(),
            pid: client.peer.pid,
            started_ticks: client.peer.started_ticks,
            uid: client.peer.uid,
            name: client.name.clone(),
            token: client.token.to_vec(),
            last_request_id: client.last.request_id,
            last_granted_segment_id: client.last.granted.map_or(0, SegmentId::number),
        }))
    }

    fn segment_row(&self, key: u64) -> Option<Record> {
        let segment = self.segments.get(&SegmentId::new(key)?)?;
        (segment.stage != Stage::Building).then(|| Record::Segment(self.row_of_segment(segment)))
    }

    fn row_of_segment(&self, segment: &Segment) -> row::SegmentRow {
        let holder = |client: ClientId, access: Access| row::HolderRow {
            client_id: client.number(),
            access: access.into(),
            slot: self.slot_of(client, segment.id),
        };
        let domain = segment.domain.as_ref();
        let departed = domain.into_iter().flat_map(|domain| &domain.departed);
        let departed = departed.map(|(slot, departed)| row::DepartedRow {
            slot: u32::from(slot.index()),
            pid: departed.process.pid,
            started_ticks: departed.process.started_ticks,
            evicted: domain.is_some_and(|domain| domain.cut_off & slot.bit() != 0),
            tenant_id: departed.tenant.map_or(0, TenantId::number),
        });
        let holders = segment
            .holders
            .iter()
            .map(|(&client, &access)| holder(client, access));
        // Whoever was told to let go has no access any more.
        let leaving = segment
            .leaving
            .iter()
            .map(|&client| holder(client, Access::Unspecified));
        let shares = segment.shares.iter().map(|(tenant, share)| row::ShareRow {
            tenant_id: tenant.number(),
            access: share.access.into(),
            opened: share.opened,
        });
        row::SegmentRow {
            segment_id: segment.id.number(),
            tenant_id: segment.tenant.number(),
            name: segment.name.clone(),
            tier: self.tier_name(segment.tier).to_owned(),
            addr: self.addr_of(segment.range.first).get(),
            bytes: segment.extents.bytes().get(),
            capacity_bytes: Extents::new(segment.range.count).bytes().get(),
            incarnation: segment.incarnation.number(),
            lifetime: segment.lifetime.into(),
            burst: segment.burst,
            piece_bytes: Extents::new(segment.piece_max).bytes().get(),
            backings: segment
                .backings
                .iter()
                .map(|backing| backing.number())
                .collect(),
            shares: shares.collect(),
            holders: holders.chain(leaving).collect(),
            coherence: domain.map(|domain| domain.terms),
            freed: segment.stage == Stage::Freed,
            departed: departed.collect(),
            sealed: segment.sealed,
            writers: segment.writers,
            eviction: domain.and_then(Domain::eviction_row),
            tag: segment
                .tag
                .map_or_else(Vec::new, |tag| tag.bytes().to_vec()),
            joined: segment.is_joined,
        }
    }

    fn backing_row(&self, key: u64) -> Option<Record> {
        let backing = self.backings.get(&BackingId::new(key)?)?;
        let built = backing.built?;
        Some(Record::Backing(row::BackingRow {
            backing_id: backing.id.number(),
            device_id: backing.device.number(),
            runs: runs_out(backing.runs.iter().copied()),
            bytes: backing.extents().bytes().get(),
            pages: built.pages.into(),
            file_device: built.identity.device,
            file_inode: built.identity.inode,
            segment_id: backing.segment.number(),
            charged_tenant_id: charged(backing),
        }))
    }
}

fn charged(backing: &Backing) -> u32 {
    if backing.quarantined {
        backing.charged.number()
    } else {
        0
    }
}

fn runs_out(runs: impl Iterator<Item = Run>) -> Vec<ExtentRun> {
    runs.map(|run| ExtentRun {
        first: run.first,
        count: run.count,
    })
    .collect()
}

/// Runs of a row.
pub(super) fn runs_in(runs: &[ExtentRun]) -> Vec<Run> {
    runs.iter()
        .map(|run| Run {
            first: run.first,
            count: run.count,
        })
        .collect()
}
