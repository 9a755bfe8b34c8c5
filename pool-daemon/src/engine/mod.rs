//! The engine: who has which memory. A pure state machine.
//!
//! [`Engine::step`] takes the time and one [`Command`] and returns [`Effects`]: records to be made
//! durable, then actions to be performed. It reads no clock, does no I/O and knows no runtime, so
//! that tests and simulation run the very code that the daemon runs.
//!
//! # Protocol
//! A grant takes two steps. The first carves extents and addresses and asks for files to be built;
//! nothing of it is journaled, and a crash forgets it. The second, when all files are there, makes
//! the grant: it is journaled, and only then answered. Taking back takes two steps as well: the
//! segment ends (journaled), its files are in quarantine; when the world proves that no mapping and
//! no descriptor of a file is left, its extents are free again (journaled).
//!
//! # Invariants
//! 1. Each extent in service is free, or belongs to exactly one backing, abandoned ones included.
//! 2. Each backing belongs to one segment, unless it is abandoned, and is charged to one tenant,
//!    from carving to proof.
//! 3. No two segments share an address; addresses are free again only after proof.
//! 4. Ids and incarnations are never used twice.
//! 5. A request that is refused has changed nothing.
//! 6. A request that changed something is remembered in the same commit, and its repetition is
//!    answered from the present state without being done again.
//!
//! [`Engine::check`] proves 1 to 3 on the present state.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{
    BackingId, Bytes, ClientId, DeviceId, EXTENT_BYTES, Extents, GroupTag, Incarnation, Nanos,
    PoolAddr, SegmentId, TenantId,
};
use pool_proto::admin::v1::PoolEvent;

use crate::journal::Table;

mod capacity;
mod carve;
mod check;
mod client;
pub mod command;
mod device;
mod domain;
pub mod effect;
mod evict;
mod grant;
mod group;
mod holding;
mod job;
mod mend;
mod operate;
mod place;
pub mod plan;
mod pressure;
mod recall;
mod recover;
mod refusal;
mod relocate;
mod reply;
mod rows;
mod runs;
mod seal;
mod segment;
mod share;
mod take_back;
mod tenancy;
mod view;
mod waited_for;
pub mod waits;
mod whole;

#[cfg(test)]
mod tests;

pub use capacity::Demand;
pub use check::Account;
pub use domain::{DomainView, Payload};
pub use recover::{Found, RecoverError};
pub use refusal::Refusal;
pub use runs::{Misfit, Run, RunSet};
pub use view::{Expected, Visible};

use command::Command;
use device::Device;
use effect::{Action, Effects};
use job::Job;
use plan::Plan;
use pressure::Waiting;
use segment::{Backing, Client, Segment};
use tenancy::Tenants;

/// The protocol of the session socket that this daemon speaks.
pub const PROTOCOL: u32 = 1;

/// The state of a pool.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    boot_id: String,
    pool_id: String,
    epoch: u64,
    now: Nanos,
    started: Nanos,
    devices: BTreeMap<DeviceId, Device>,
    tenants: Tenants,
    clients: BTreeMap<ClientId, Client>,
    segments: BTreeMap<SegmentId, Segment>,
    backings: BTreeMap<BackingId, Backing>,
    /// Backings whose files are being built for nobody any more: see [`job`].
    abandoned: BTreeMap<BackingId, Backing>,
    names: BTreeMap<(TenantId, String), SegmentId>,
    /// Free addresses, in extents from the base of the window: those of this host's own segments.
    window: RunSet,
    /// And those of groups that hosts share, of all hosts; none where no device has groups.
    group_window: RunSet,
    /// Where the last group that was made here ends.
    group_begin: u32,
    /// The groups that this host has, by their devices, as it was said last.
    groups: BTreeMap<DeviceId, BTreeMap<GroupTag, Vec<Run>>>,
    /// Something was given back, or said, since they were looked at.
    groups_may_end: bool,
    next: NextIds,
    /// What waits for the world: at most one job a segment.
    jobs: BTreeMap<SegmentId, Job>,
    /// Requests that wait for burst memory of others, oldest first.
    waiting: Vec<Waiting>,
    /// Until when the holders of burst memory of a tier are not told again.
    quiet_until: BTreeMap<usize, Nanos>,
    /// Segments that may have to be moved off a draining device.
    to_move: BTreeSet<SegmentId>,
    /// The segments that are domains: those that live, and those that are being made.
    domains: BTreeSet<SegmentId>,
    /// Domains that may have slots to be recovered.
    to_recover: BTreeSet<SegmentId>,
    /// Domains in which something may be due: a look, a step of an eviction, another try.
    tended: BTreeSet<SegmentId>,
    /// Until when descriptors of before a restart are awaited.
    grace_until: Option<Nanos>,
    counters: Counters,
    /// Tenants that something has ceased to name in this step.
    left_by: BTreeSet<TenantId>,
    dirty: BTreeSet<(Table, u64)>,
    actions: Vec<Action>,
}

/// The ids to be handed out next.
#[derive(Debug, Clone, Copy)]
struct NextIds {
    segment: SegmentId,
    backing: BackingId,
    client: ClientId,
    device: DeviceId,
    incarnation: Incarnation,
}

/// Together. No pool is larger than its window, which has at most 2^26 extents; a journal that says
/// otherwise must not end the daemon.
fn sum(parts: impl Iterator<Item = Extents>) -> Extents {
    Extents::new(parts.fold(0, |sum, part| sum.saturating_add(part.get())))
}

/// Totals since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Requests of clients.
    pub requests: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Operators' events published.
    pub events: u64,
}

/// What operators are told of that the engine has no part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The kind of the event.
    pub kind: &'static str,
    /// How much it is about.
    pub bytes: Bytes,
    /// What happened to what, and who wanted it.
    pub detail: String,
}

/// Hands out `$field` and moves it on; ids end after 2^64, which is refused rather than wrapped.
macro_rules! take_id {
    ($engine:expr, $field:ident) => {{
        let id = $engine.next.$field;
        $engine.next.$field = id
            .checked_next()
            .ok_or(Refusal::Broken("the ids are used up"))?;
        id
    }};
}
use take_id;

impl Engine {
    /// Does one thing. The time must not go back; where it does, it stands still.
    pub fn step(&mut self, now: Nanos, command: Command) -> Effects {
        self.now = self.now.max(now);
        match command {
            Command::Attach {
                connection,
                request_id,
                peer,
                request,
                token,
            } => {
                self.attach(connection, request_id, peer, &request, token);
            }
            Command::Reattach {
                connection,
                request_id,
                peer,
                request,
            } => {
                self.reattach(connection, request_id, &peer, &request);
            }
            Command::Request { client, request } => self.request(client, request),
            Command::Supplied {
                client,
                request_id,
                backing,
            } => self.supplied(client, request_id, backing),
            Command::Disconnected { client } => self.disconnected(client),
            Command::ClientGone { client } => self.client_gone(client),
            Command::Built { backing, result } => self.built(backing, result),
            Command::Copied { segment, result } => self.copied(segment, result),
            Command::Released { backing } => self.released(backing),
            Command::Formatted { segment, result } => self.formatted(segment, result),
            Command::Ended { segment, slot } => self.ended(segment, slot),
            Command::Recovered { segment, result } => self.recovered(segment, result),
            Command::Looked {
                segment,
                unit,
                seen,
            } => self.looked(segment, unit, seen),
            Command::Held {
                segment,
                written,
                missed,
            } => self.passed(segment, (&written, missed)),
            Command::Leased {
                client,
                request_id,
                unit,
                outcome,
            } => self.leased(client, request_id, unit, outcome),
            Command::Capacity { device, change } => self.capacity(device, change),
            Command::Operate { ticket, operation } => self.operate(ticket, operation),
            Command::Tick => {}
        }
        self.settle();
        self.effects()
    }

    /// Tells operators of what the engine has no part in: nothing of the pool changes.
    pub fn tell_operators(&mut self, now: Nanos, news: News) -> Effects {
        self.now = self.now.max(now);
        self.publish(news.kind, |event| {
            (event.bytes, event.detail) = (news.bytes.get(), news.detail);
        });
        self.effects()
    }

    /// What time and returned memory make possible.
    fn settle(&mut self) {
        self.end_grace();
        self.relieve_pressure();
        self.move_off_draining();
        self.tend_domains();
        self.recover_slots();
        self.leave_groups();
        self.forget_unnamed();
    }

    /// Forgets tenants that nothing names any more.
    fn forget_unnamed(&mut self) {
        for tenant in std::mem::take(&mut self.left_by) {
            if self.tenants.forget_if_unnamed(tenant) {
                self.touch_tenant(tenant);
            }
        }
    }

    fn effects(&mut self) -> Effects {
        let dirty = std::mem::take(&mut self.dirty);
        let records = dirty
            .into_iter()
            .map(|(table, key)| self.record(table, key))
            .collect();
        Effects {
            records,
            actions: std::mem::take(&mut self.actions),
        }
    }

    /// Totals since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Rises with each start on one journal.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn tier_name(&self, tier: usize) -> &str {
        self.plan
            .tiers
            .get(tier)
            .map_or("?", |tier| tier.name.as_str())
    }

    fn tier_named(&self, name: &str) -> Result<usize, Refusal> {
        let found = self.plan.tiers.iter().position(|tier| tier.name == name);
        found.ok_or_else(|| Refusal::not_found("tier", name))
    }

    fn devices_of(&self, tier: usize) -> impl Iterator<Item = &Device> {
        self.devices
            .values()
            .filter(move |device| device.tier == tier && !device.removed)
    }

    fn tier_total(&self, tier: usize) -> Extents {
        sum(self.devices_of(tier).map(Device::total))
    }

    /// The most that the tier may become: limits are parts of that.
    fn tier_most(&self, tier: usize) -> Extents {
        sum(self.devices_of(tier).map(Device::most))
    }

    fn tier_grantable(&self, tier: usize) -> Extents {
        sum(self.devices_of(tier).map(Device::grantable))
    }

    fn addr_of(&self, extents_from_base: u32) -> PoolAddr {
        let offset = u64::from(extents_from_base) * EXTENT_BYTES;
        PoolAddr::new(self.plan.window.base().get().saturating_add(offset))
    }

    fn segment(&self, id: SegmentId) -> Result<&Segment, Refusal> {
        self.segments
            .get(&id)
            .ok_or_else(|| Refusal::not_found("segment", id.number()))
    }

    /// A segment that is granted, and not freed.
    fn live_segment(&self, id: SegmentId) -> Option<&Segment> {
        let segment = self.segments.get(&id);
        segment.filter(|segment| segment.stage == segment::Stage::Live)
    }

    fn touch_pool(&mut self) {
        self.dirty.insert((Table::Pool, 1));
    }

    fn touch_client(&mut self, id: ClientId) {
        self.dirty.insert((Table::Clients, id.number()));
    }

    fn touch_segment(&mut self, id: SegmentId) {
        self.dirty.insert((Table::Segments, id.number()));
    }

    fn touch_backing(&mut self, id: BackingId) {
        self.dirty.insert((Table::Backings, id.number()));
    }

    fn touch_device(&mut self, id: DeviceId) {
        self.dirty.insert((Table::Devices, u64::from(id.number())));
    }

    fn touch_tenant(&mut self, id: TenantId) {
        self.dirty.insert((Table::Tenants, u64::from(id.number())));
        self.touch_pool();
    }

    /// Tells operators. `fill` adds what the event is about.
    fn publish(&mut self, kind: &str, fill: impl FnOnce(&mut PoolEvent)) {
        self.counters.events += 1;
        let at_ms = self.now.saturating_since(self.started).get() / 1_000_000;
        let (sequence, kind) = (self.counters.events, kind.to_owned());
        let mut event = PoolEvent {
            sequence,
            at_ms,
            kind,
            ..PoolEvent::default()
        };
        fill(&mut event);
        self.actions.push(Action::Publish(event));
    }

    fn publish_segment(&mut self, kind: &str, id: SegmentId, detail: String) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let (tenant, bytes) = (
            self.tenants.name(segment.tenant).to_owned(),
            segment.extents.bytes().get(),
        );
        self.publish(kind, |event| {
            (event.tenant, event.segment_id, event.bytes, event.detail) =
                (tenant, id.number(), bytes, detail);
        });
    }
}
