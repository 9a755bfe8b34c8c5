//! What must hold after each step, whatever happened.
//!
//! # Laws
//! 1. The engine's accounting balances, and of each device total = free + granted + quarantined.
//! 2. The journal is the engine's state: whoever reads it now knows everything that was granted.
//! 3. An extent belongs to one backing, from the commit that grants it to the one that frees it.
//! 4. An extent is free only after nobody maps its file, as far as the daemon can know.
//! 5. No address is mapped for two segments, by whomever.
//! 6. What a connected client was told it holds, it holds, with the rights and the pieces it was
//!    told.
//! 7. A file of a live segment was given to nobody but the owner's clients and those of tenants it
//!    is shared with.
//! 8. No grant takes a tenant past its limit.
//! 9. Ids and incarnations name one thing for ever. A new incarnation has the contents of the one
//!    before.
//! 10. A refusal changes nothing.
//! 11. A restart loses nothing that was granted, and another restart changes nothing but the epoch.
//! 12. What is sealed stays sealed, with the contents that were sealed.
//! 13. A segment begins at a multiple of what its creator asked for, whatever becomes of it.
//! 14. Of a dynamic device that is reached nothing is free, and no segment has a piece on, what is
//!     not there; and nothing is free that is bad.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{BackingId, EXTENT_BYTES, Extents, SegmentId, TenantId};
use pool_proto::common::v1::Access;
use pool_proto::journal::v1 as row;
use pool_proto::session::v1 as session;
use session::{reply, request};

use super::process::Pid;
use super::world::{World, commit, rows};
use crate::engine::effect::{Action, Effects};
use crate::engine::job::Purpose;
use crate::engine::plan::Quota;
use crate::engine::segment::Backing;
use crate::engine::{Engine, RecoverError, RunSet};
use crate::journal::{Record, Rows, Table};

type Durable = BTreeMap<(Table, u64), Record>;

/// What the laws remember from one step to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Device and extent to backing: the oracle of law 3.
    owners: BTreeMap<(u32, u32), u64>,
    /// Every row that was ever deleted.
    dead: BTreeSet<(Table, u64)>,
    /// Incarnation to its segment and first backing.
    incarnations: BTreeMap<u64, (u64, Option<u64>)>,
    /// Segment to what was in it when it was sealed.
    sealed: BTreeMap<u64, Vec<u64>>,
    /// Every alignment that a segment was granted with.
    pub(super) aligned: BTreeSet<u64>,
    spawned: usize,
}

impl Memory {
    /// A number no process has had.
    pub(super) fn spawned(&mut self) -> usize {
        self.spawned += 1;
        self.spawned
    }
}

/// Every row that the engine would write of its present state, but the pool's.
pub(super) fn dump(engine: &Engine) -> Durable {
    let building: BTreeSet<_> = engine.jobs.values().flat_map(|job| &job.fresh).collect();
    let backings = engine.backings.keys().filter(|id| !building.contains(id));
    let devices = engine
        .devices
        .keys()
        .map(|id| (Table::Devices, u64::from(id.number())));
    let tenants = engine
        .tenants
        .iter()
        .map(|t| (Table::Tenants, u64::from(t.id.number())));
    let keys = devices
        .chain(tenants)
        .chain(
            engine
                .clients
                .keys()
                .map(|id| (Table::Clients, id.number())),
        )
        .chain(
            engine
                .segments
                .keys()
                .map(|id| (Table::Segments, id.number())),
        )
        .chain(backings.map(|id| (Table::Backings, id.number())));
    let mut durable = Durable::new();
    for (table, key) in keys {
        commit(&mut durable, &[engine.record(table, key)]);
    }
    durable
}

fn without_pool(durable: &Durable) -> Durable {
    let mut durable = durable.clone();
    durable.remove(&(Table::Pool, 1));
    durable
}

/// Laws 8 and 10, of what a step wants done.
pub(super) fn of_effects(world: &World, effects: &Effects) {
    let refusals = effects.actions.iter().filter(|action| {
        let reply = match action {
            Action::Reply { reply, .. } | Action::Welcome { reply, .. } => reply,
            _ => return false,
        };
        matches!(reply.body, Some(reply::Body::Error(_)))
    });
    if !effects.actions.is_empty() && refusals.count() == effects.actions.len() {
        let mut after = world.durable.clone();
        commit(&mut after, &effects.records);
        assert_eq!(after, world.durable, "law 10: a refusal was journaled");
    }
    for action in &effects.actions {
        if let Action::Build { backing, .. } = action {
            within_limit(world, *backing);
        }
    }
}

/// Law 8. Two moves may pass a limit: one off a draining device, which is the operator's wish, and
/// one by which a tenant that is within its limit takes a share back.
fn within_limit(world: &World, backing: BackingId) {
    let engine = &world.engine;
    let Some(fresh) = engine.backings.get(&backing) else {
        return; // Given up in the same step.
    };
    let job = &engine.jobs[&fresh.segment];
    let leaving = |id: &BackingId| engine.devices[&engine.backings[id].device].draining;
    let before = match job.purpose {
        Purpose::Move {
            dropped: Some(_), ..
        } => true,
        Purpose::Move { dropped: None, .. } => {
            if engine.segments[&fresh.segment].backings.iter().any(leaving) {
                return;
            }
            false
        }
        _ => false,
    };
    let tier = engine.devices[&fresh.device].tier;
    let counts = |b: &&Backing| {
        b.charged == fresh.charged
            && engine.devices[&b.device].tier == tier
            && !(before && job.fresh.contains(&b.id))
    };
    let charged = engine.backings.values().filter(counts);
    let used: u64 = charged.map(|b| u64::from(b.extents().get())).sum();
    let (name, limit) = limit_of(world, fresh.charged, tier);
    assert!(
        used <= u64::from(limit),
        "law 8: {name} was granted up to {used} of its {limit} extents"
    );
}

/// The most extents of a tier that a tenant may have, as the plan says.
fn limit_of(world: &World, tenant: TenantId, tier: usize) -> (&str, u32) {
    let engine = &world.engine;
    let devices = engine
        .devices
        .values()
        .filter(|d| d.tier == tier && !d.removed);
    let total: u32 = devices.map(|d| d.most().get()).sum();
    let (name, tier) = (engine.tenants.name(tenant), &engine.plan.tiers[tier].name);
    let tenancy = &world.plan.tenancy;
    let tenant = tenancy.tenants.iter().find(|t| t.name == name);
    let quotas = tenant.map_or(&tenancy.default_quotas, |tenant| &tenant.quotas);
    let limit = |quota: &Quota| quota.limit.of(Extents::new(total)).get();
    (name, quotas.get(tier).map_or(0, limit))
}

/// Laws 3, 4 and 9, of what is about to become durable.
pub(super) fn of_commit(world: &mut World, records: &[Record]) {
    let mut after = world.durable.clone();
    commit(&mut after, records);
    for record in records {
        let place = record.place();
        match (world.durable.get(&place), after.get(&place)) {
            (Some(before), None) => {
                world.laws.dead.insert(place);
                if let Record::Backing(backing) = before.clone() {
                    freed(world, &backing);
                }
            }
            (None, Some(record)) => {
                assert!(!world.laws.dead.contains(&place), "law 9: {place:?} again");
                match record {
                    Record::Backing(backing) => granted(world, backing),
                    Record::Segment(segment) => incarnate(world, segment),
                    _ => {}
                }
            }
            (Some(Record::Segment(before)), Some(Record::Segment(now))) => {
                let before = before.clone();
                changed(world, &before, now);
            }
            _ => {}
        }
    }
    ids_are_ahead(&after);
}

fn extents_of(backing: &row::BackingRow) -> impl Iterator<Item = (u32, u32)> {
    let device = backing.device_id;
    let numbers = |run: &pool_proto::common::v1::ExtentRun| run.first..run.first + run.count;
    backing
        .runs
        .iter()
        .flat_map(numbers)
        .map(move |extent| (device, extent))
}

fn granted(world: &mut World, backing: &row::BackingRow) {
    for extent in extents_of(backing) {
        let before = world.laws.owners.insert(extent, backing.backing_id);
        assert_eq!(before, None, "law 3: {extent:?} is granted twice");
    }
}

fn freed(world: &mut World, backing: &row::BackingRow) {
    for extent in extents_of(backing) {
        let owner = world.laws.owners.remove(&extent);
        assert_eq!(owner, Some(backing.backing_id), "law 3");
    }
    let id = BackingId::new(backing.backing_id).unwrap();
    let known = world.files.get(&id).is_some_and(|file| file.kept);
    assert!(
        !(known && world.is_mapped(id)),
        "law 4: {id} is mapped, and its extents are free"
    );
    // A file whose descriptor is lost may end in the commit that finds it lost.
    assert!(
        !known || backing.charged_tenant_id != 0,
        "law 4: {id} was not in quarantine"
    );
}

fn incarnate(world: &mut World, segment: &row::SegmentRow) {
    let what = (segment.segment_id, segment.backings.first().copied());
    let before = world.laws.incarnations.insert(segment.incarnation, what);
    assert!(
        before.is_none(),
        "law 9: incarnation {} again",
        segment.incarnation
    );
}

fn changed(world: &mut World, before: &row::SegmentRow, now: &row::SegmentRow) {
    assert_eq!(before.addr, now.addr, "a segment stays where it is");
    if now.freed {
        world.laws.sealed.remove(&now.segment_id);
        return;
    }
    assert!(now.sealed || !before.sealed, "law 12: the seal is broken");
    if now.sealed && !before.sealed {
        let contents = contents_of(world, now);
        world.laws.sealed.insert(now.segment_id, contents);
    }
    if before.incarnation == now.incarnation {
        let both = before.backings.iter().zip(&now.backings);
        for (before, now) in both {
            assert_eq!(before, now, "law 9: other files in the same incarnation");
        }
        return;
    }
    incarnate(world, now);
    let (before, now) = (contents_of(world, before), contents_of(world, now));
    assert_eq!(before, now, "law 9: other contents");
}

fn contents_of(world: &World, row: &row::SegmentRow) -> Vec<u64> {
    let ids = row.backings.iter().map(|&id| BackingId::new(id).unwrap());
    ids.flat_map(|id| world.files[&id].contents.clone())
        .collect()
}

/// Law 12.
fn sealed_contents_are_as_they_were(world: &World) {
    for (&id, sealed) in &world.laws.sealed {
        let Some(Record::Segment(row)) = world.durable.get(&(Table::Segments, id)) else {
            continue;
        };
        let all_there = |&id: &u64| world.files.contains_key(&BackingId::new(id).unwrap());
        if !row.freed && row.backings.iter().all(all_there) {
            assert_eq!(*sealed, contents_of(world, row), "law 12: segment {id}");
        }
    }
}

/// Law 9: no id that is in use is handed out again after a restart.
fn ids_are_ahead(durable: &Durable) {
    let Some(Record::Pool(pool)) = durable.get(&(Table::Pool, 1)) else {
        panic!("law 9: the pool has no row");
    };
    for ((table, key), record) in durable {
        let next = match table {
            Table::Pool => continue,
            Table::Devices => pool.next_device_id.into(),
            Table::Tenants => pool.next_tenant_id.into(),
            Table::Clients => pool.next_client_id,
            Table::Segments => pool.next_segment_id,
            Table::Backings => pool.next_backing_id,
        };
        assert!(
            *key < next,
            "law 9: {table:?} {key} would be handed out again"
        );
        if let Record::Segment(segment) = record {
            assert!(segment.incarnation < pool.next_incarnation, "law 9");
        }
    }
}

/// Law 14.
fn what_is_granted_is_there(world: &World) {
    let engine = &world.engine;
    for device in engine
        .devices
        .values()
        .filter(|device| device.plan.dynamic && device.reached)
    {
        let free: RunSet = device.free_runs().collect();
        assert_eq!(
            free.minus(&world.there).count(),
            0,
            "law 14: free, and not there"
        );
        assert_eq!(free.common(&world.bad).count(), 0, "law 14: free, and bad");
        let live = engine.segments.values().flat_map(|s| &s.backings);
        let live = live.filter_map(|id| engine.backings.get(id));
        for backing in live.filter(|backing| backing.device == device.id) {
            let extents: RunSet = backing.runs.iter().copied().collect();
            assert_eq!(
                extents.minus(&world.there).count(),
                0,
                "law 14: {}",
                backing.id
            );
        }
    }
}

/// Laws 1, 2, 5, 6, 7 and 14.
pub(super) fn of_state(world: &World) {
    let engine = &world.engine;
    what_is_granted_is_there(world);
    let report = engine.check();
    assert!(report.balanced, "law 1: {:?}", report.findings);
    for device in &report.devices {
        let parts = device.free_extents + device.granted_extents + device.quarantined_extents;
        assert_eq!(device.total_extents, parts, "law 1: {device:?}");
    }
    assert_eq!(dump(engine), without_pool(&world.durable), "law 2");
    addresses_are_nobody_elses(world);
    for (pid, process) in &world.processes {
        for backing in process.mapped.keys() {
            let journaled = world
                .durable
                .contains_key(&(Table::Backings, backing.number()));
            let known = world.files.get(backing).is_some_and(|file| file.kept);
            assert!(
                journaled || !known,
                "law 4: {pid} maps {backing}, which is free"
            );
        }
        if process.connected && process.session.is_some() {
            holds_what_it_was_told(world, *pid);
        }
    }
    files_are_with_those_who_may(world);
    sealed_contents_are_as_they_were(world);
}

fn addresses_are_nobody_elses(world: &World) {
    let mut whose = BTreeMap::<u64, SegmentId>::new();
    for process in world.processes.values() {
        for (backing, mapping) in &process.mapped {
            if !world.files.get(backing).is_some_and(|file| file.kept) {
                continue; // The daemon cannot know of it any more.
            }
            for addr in (0..mapping.bytes / EXTENT_BYTES)
                .map(|extent| mapping.addr.get() + extent * EXTENT_BYTES)
            {
                let other = whose.insert(addr, mapping.segment);
                assert!(
                    other.is_none_or(|other| other == mapping.segment),
                    "law 5: {addr:#x} is mapped for {other:?} and {}",
                    mapping.segment
                );
            }
        }
    }
}

fn holds_what_it_was_told(world: &World, pid: Pid) {
    let process = &world.processes[&pid];
    let client = world.client(pid);
    let asked = process.sent.get(&process.last_id);
    for (id, held) in &process.held {
        let segment = &world.engine.segments[id];
        let seals = |ask: &session::Seal| ask.segment_id == id.number();
        if process.waits() && matches!(asked, Some(request::Body::Seal(ask)) if seals(ask)) {
            continue; // It accesses nothing until it is answered.
        }
        // It may hold more than it was told: the answer may have been lost.
        let access = segment.holders.get(&client);
        assert!(
            access.is_some_and(|access| [held.access, Access::ReadWrite].contains(access)),
            "law 6: {client} was told {held:?} of {id}, and holds {access:?}"
        );
        if segment.incarnation.number() == held.incarnation {
            let both = segment.backings.iter().zip(&held.pieces);
            let same = both.clone().all(|(a, b)| a == b);
            assert!(same || held.is_outdated, "law 6: other pieces");
        } else if held.access == Access::ReadWrite {
            // Whoever asked for the move learns of it from its answer, or, where the daemon died
            // with the only descriptors of the new files, that the segment is lost. Members of a
            // domain from which others are evicted are told.
            let awaited = segment
                .backings
                .iter()
                .any(|id| !world.engine.backings[id].present);
            assert!(
                process.waits() || awaited || held.is_outdated,
                "law 6: {id} was moved under a writer"
            );
        }
    }
}

fn files_are_with_those_who_may(world: &World) {
    let engine = &world.engine;
    for segment in engine.segments.values() {
        for process in world.processes.values() {
            let Some(client) = process
                .session
                .as_ref()
                .and_then(|s| engine.clients.get(&s.0))
            else {
                continue;
            };
            if client.tenant == segment.tenant || segment.shares.contains_key(&client.tenant) {
                continue;
            }
            for backing in &segment.backings {
                assert!(
                    !process.received.contains(backing),
                    "law 7: {} has {backing} of {}",
                    client.id,
                    segment.id
                );
            }
        }
    }
}

/// Laws 6 and 7, of one answer.
pub(super) fn of_grant(
    world: &World,
    pid: Pid,
    granted: &session::Granted,
    files: &[(BackingId, Access)],
) {
    let segment = granted.segment.as_ref().unwrap();
    let id = SegmentId::new(segment.segment_id).unwrap();
    let mut end = 0;
    assert_eq!(segment.pieces.len(), files.len());
    for (piece, (backing, access)) in segment.pieces.iter().zip(files) {
        assert_eq!((piece.offset, piece.backing_id), (end, backing.number()));
        assert_eq!(*access, granted.access(), "law 6");
        let file = &world.files[backing];
        assert!(
            file.kept,
            "the descriptor of {backing} is sent, and is not there"
        );
        assert_eq!(piece.bytes, file.contents.len() as u64 * EXTENT_BYTES);
        end += piece.bytes;
    }
    assert_eq!(end, segment.bytes);
    assert!(segment.bytes <= segment.capacity_bytes);
    let engine = &world.engine;
    let client = &engine.clients[&world.client(pid)];
    let state = &engine.segments[&id];
    if client.tenant != state.tenant {
        let share = state.shares[&client.tenant];
        assert!(
            granted.access() == share.access || share.access == Access::ReadWrite,
            "law 7: {pid} may not write {id}"
        );
        for (backing, _) in files {
            assert!(
                world.files[backing].shareable,
                "law 7: pages of {backing} can vanish"
            );
        }
    }
}

/// Law 13, of the answer to whoever created a segment. [`changed`] says that it stays there.
pub(super) fn of_create(world: &mut World, ask: &session::Create, granted: &session::Granted) {
    let segment = granted.segment.as_ref().unwrap();
    if ask.align > 0 {
        let beyond = segment.addr % ask.align;
        assert_eq!(beyond, 0, "law 13: {:#x} for {}", segment.addr, ask.align);
        world.laws.aligned.insert(ask.align);
    }
}

/// Law 11.
pub(super) fn of_recovery(
    world: &World,
    engine: &Engine,
    effects: &Effects,
    recover: impl Fn(Rows) -> Result<(Engine, Effects), RecoverError>,
) {
    let report = engine.check();
    assert!(
        report.balanced,
        "law 1 after a restart: {:?}",
        report.findings
    );
    let mut durable = world.durable.clone();
    commit(&mut durable, &effects.records);
    let (again, effects) = recover(rows(&durable)).unwrap();
    assert_eq!(
        dump(&again),
        dump(engine),
        "law 11: a second restart differs"
    );
    assert_eq!(again.epoch(), engine.epoch() + 1);
    let mut twice = durable.clone();
    commit(&mut twice, &effects.records);
    assert_eq!(
        without_pool(&twice),
        without_pool(&durable),
        "law 11: and writes"
    );
    let pool = |durable: &Durable| match durable.get(&(Table::Pool, 1)) {
        Some(Record::Pool(pool)) => row::PoolRow {
            daemon_epoch: 0,
            ..pool.clone()
        },
        _ => panic!("the pool has no row"),
    };
    assert_eq!(pool(&twice), pool(&durable), "law 11: the pool's row");
    match world.durable.get(&(Table::Pool, 1)) {
        Some(Record::Pool(pool)) if pool.boot_id == engine.boot_id => {}
        _ => return,
    }
    let after = dump(engine);
    for (place, record) in &world.durable {
        let granted = match record {
            Record::Client(_) => true,
            Record::Segment(segment) => !segment.freed && !segment.holders.is_empty(),
            Record::Backing(backing) => backing.charged_tenant_id == 0,
            _ => false,
        };
        if granted {
            assert_eq!(after.get(place), Some(record), "law 11: {place:?} is lost");
        }
    }
}
