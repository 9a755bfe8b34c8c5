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
    BackingId, Bytes, ClientId, DeviceId, Incarnation, Nanos, PoolAddr, SegmentId, TenantId,
    planted,
};
use pool_proto::common::v1::Lifetime;
use pool_proto::journal::v1 as row;

use super::effect::Effects;
use super::plan::Plan;
use super::segment::{Segment, Stage};
use super::tenancy::Tenants;
use super::{Action, Counters, Engine, NextIds, place};
use crate::journal::{FORMAT, Rows, Table};

mod loss;
mod restore;

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
        let (window, group_window) = place::parted(&plan);
        let mut tenants = Tenants::new(plan.tenancy.clone(), plan.tiers.len());
        tenants.restore_next(TenantId::new(pool.next_tenant_id).unwrap_or(TenantId::FIRST));
        let next = NextIds {
            segment: SegmentId::new(pool.next_segment_id).unwrap_or(SegmentId::FIRST),
            backing: BackingId::new(pool.next_backing_id).unwrap_or(BackingId::FIRST),
            client: ClientId::new(pool.next_client_id).unwrap_or(ClientId::FIRST),
            device: DeviceId::new(pool.next_device_id).unwrap_or(DeviceId::FIRST),
            incarnation: Incarnation::new(pool.next_incarnation)
                .filter(|_| !planted!("recover.counts_incarnations_anew"))
                .unwrap_or(Incarnation::FIRST),
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
            abandoned: BTreeMap::new(),
            names: BTreeMap::new(),
            window,
            group_window,
            group_begin: 0,
            groups: BTreeMap::new(),
            groups_may_end: false,
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

    /// What every life begins with.
    fn begin_life(&mut self) {
        if planted!("recover.takes_an_id_each_time")
            && let Some(next) = self.next.client.checked_next()
        {
            self.next.client = next;
        }
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
        self.begin_groups();
        let to_move = self.segments.values();
        let to_move = to_move.filter(|s| s.is_idle() && self.is_leaving_a_device(s));
        self.to_move = to_move.map(|segment| segment.id).collect();
        // Ending a segment has asked for its watch already; asking twice is harmless.
        let watched = self
            .backings
            .values()
            .filter(|backing| backing.quarantined && backing.present)
            .filter(|it| self.segments.get(&it.segment).is_none_or(|s| !s.is_group));
        self.actions.extend(watched.map(|backing| Action::Watch {
            backing: backing.id,
        }));
        if self.backings.values().any(|backing| !backing.present) {
            let span = match self.plan.reattach_grace.get() {
                span if planted!("recover.waits_half_of_the_grace") => span / 2,
                span => span,
            };
            self.grace_until = Some(self.now.saturating_add(Nanos::new(span)));
        }
        for group in self.freed_groups() {
            self.release_unprovable(group);
        }
        let detail = format!(
            "{} segments, {} clients awaited",
            self.segments.len(),
            self.clients.len()
        );
        self.publish("daemon-recovered", |event| event.detail = detail);
    }
}
