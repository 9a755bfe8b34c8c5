//! A journal meets a configuration that changed, or is damaged: what fits is adopted, what does not
//! is refused by name, and nothing is changed.

use pool_core::Extents;
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::journal::v1::{BackingRow, SegmentRow};
use pool_proto::session::v1 as session;
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, extents, plan, quota};
use super::world::World;
use crate::engine::RecoverError;
use crate::journal::{Record, Table};

fn start_with(world: &mut World, change: impl Fn(&mut crate::engine::plan::Plan)) -> RecoverError {
    let (before, durable) = (world.plan.clone(), world.durable.clone());
    change(&mut world.plan);
    let error = world.start().unwrap_err();
    world.plan = before;
    assert_eq!(world.durable, durable, "nothing was changed");
    world.start().unwrap();
    error
}

#[test]
fn a_configuration_that_does_not_fit_what_is_held_is_refused_by_name() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.granted(alpha, Body::Create(ask::create_named("a", 4)));
    let name = |name: &str| name.to_owned();
    let missing = start_with(&mut world, |plan| drop(plan.devices.remove(0)));
    assert_eq!(missing, RecoverError::DeviceMissing { name: name("d0") });
    let smaller = start_with(&mut world, |plan| plan.devices[0].extents = Extents::new(3));
    let in_use = RecoverError::DeviceInUse {
        name: name("d0"),
        used: Extents::new(4).bytes(),
        configured: Extents::new(3).bytes(),
    };
    assert_eq!(smaller, in_use);
    let renamed = start_with(&mut world, |plan| {
        plan.tiers[0].name = name("dram");
        plan.devices[0].tier = name("dram");
        plan.devices[1].tier = name("dram");
    });
    assert_eq!(renamed, RecoverError::TierMissing { name: name("ddr") });
    let (base, len) = (world.plan.window.base(), world.plan.window.len());
    let moved = start_with(&mut world, |plan| {
        let base = pool_core::PoolAddr::new(base.get() + extents(1));
        plan.window = pool_core::WindowRange::new(base, len).unwrap();
    });
    assert_eq!(moved, RecoverError::WindowChanged { base, len });
}

#[test]
fn a_configuration_that_fits_is_adopted() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.granted(alpha, Body::Create(ask::create_named("a", 4)));
    world.plan.devices.remove(1);
    world.plan.devices[0].extents = Extents::new(4);
    world
        .plan
        .devices
        .push(super::plans::device("new", "ddr", 5));
    world.plan.tenancy.tenants[0]
        .quotas
        .insert("ddr".into(), quota(1, 2));
    world.restart(|_| true);
    assert_eq!(world.engine.tiers()[0].total_bytes, extents(9));
    world.reattach(alpha);
    let create = Body::Create(ask::create(1));
    assert_eq!(
        world.reason(alpha, create),
        ErrorReason::OverQuota,
        "the new quota"
    );
    world.done(alpha, ask::close(1));
    world.prove();
    // A pool without segments may move.
    let (base, len) = (world.plan.window.base(), world.plan.window.len());
    let base = pool_core::PoolAddr::new(base.get() + extents(64));
    world.plan.window = pool_core::WindowRange::new(base, len).unwrap();
    world.restart(|_| true);
    world.reattach(alpha);
    let segment = world.granted(alpha, Body::Create(ask::create(1)));
    assert_eq!(segment.addr, base.get());
}

#[test]
fn a_size_an_operator_set_outlives_a_restart_until_the_configuration_changes() {
    let mut world = World::new(plan());
    let resize = |count| crate::engine::command::Operation::Resize("d1".into(), extents(count));
    world.operate(resize(3)).unwrap();
    world.restart(|_| true);
    assert_eq!(world.engine.account().total, 35);
    world.plan.devices[1].extents = Extents::new(9);
    world.restart(|_| true);
    assert_eq!(world.engine.account().total, 41);
    world.restart(|_| true);
    assert_eq!(world.engine.account().total, 41);
}

/// Two segments of two extents, the first in two pieces and shared with beta.
fn two_segments() -> World {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let create = session::Create {
        piece_bytes: extents(1),
        ..ask::create_named("a", 2)
    };
    world.granted(alpha, Body::Create(create));
    world.granted(alpha, Body::Create(ask::create_named("b", 2)));
    world.done(alpha, ask::share(1, "beta", Access::ReadOnly));
    world
}

/// Starts from rows of which one is damaged.
fn start_damaged(world: &mut World, place: (Table, u64), damage: impl FnOnce(&mut Record)) {
    let sound = world.durable.clone();
    damage(world.durable.get_mut(&place).unwrap());
    let damaged = std::mem::replace(&mut world.durable, sound.clone());
    assert_ne!(damaged, sound, "that is no damage");
    world.durable = damaged;
    let error = world.start().expect_err("a damaged row was taken");
    assert!(matches!(error, RecoverError::Damaged { .. }), "{error}");
    world.durable = sound;
}

#[test]
fn a_damaged_segment_is_refused() {
    let mut world = two_segments();
    let damages: [fn(&mut SegmentRow); 14] = [
        |s| s.bytes += 1,
        |s| s.bytes = 0,
        |s| s.bytes = u64::MAX,
        |s| s.capacity_bytes = extents(1),
        |s| s.capacity_bytes = extents(3),
        |s| s.addr += extents(2),
        |s| s.addr += 4_096,
        |s| s.addr = 0,
        |s| s.backings[1] = s.backings[0],
        |s| _ = s.backings.pop(),
        |s| s.freed = true,
        |s| s.name = "b".into(),
        |s| s.holders[0].client_id = 99,
        |s| s.shares[0].tenant_id = 99,
    ];
    for damage in damages {
        start_damaged(&mut world, (Table::Segments, 1), |record| {
            if let Record::Segment(segment) = record {
                damage(segment);
            }
        });
    }
    world.start().unwrap();
}

#[test]
fn a_damaged_backing_is_refused() {
    let mut world = two_segments();
    let damages: [fn(&mut BackingRow); 8] = [
        |b| b.runs[0].count += 1,
        |b| b.runs[0].first += 1,
        |b| b.runs[0].first = u32::MAX,
        |b| b.runs.clear(),
        |b| b.segment_id = 99,
        |b| b.segment_id = 2,
        |b| b.device_id = 99,
        |b| b.charged_tenant_id = 99,
    ];
    for damage in damages {
        start_damaged(&mut world, (Table::Backings, 1), |record| {
            if let Record::Backing(backing) = record {
                damage(backing);
            }
        });
    }
    world.start().unwrap();
}

#[test]
fn a_journal_of_another_format_is_refused_as_such() {
    let mut world = World::new(plan());
    let Some(Record::Pool(pool)) = world.durable.get_mut(&(Table::Pool, 1)) else {
        panic!("the pool has no row");
    };
    pool.format = 2;
    assert_eq!(world.start(), Err(RecoverError::Format { found: 2 }));
}
