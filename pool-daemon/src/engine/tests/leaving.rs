//! Memory that comes and goes while something is done with it, and those who wait for it.

use std::collections::BTreeMap;

use pool_core::{Extents, SegmentId};
use pool_proto::common::v1::ErrorReason;
use pool_proto::session::v1::event;
use session::request::Body;

use pool_proto::session::v1 as session;

use super::ask;
use super::capacity::{dynamic_plan, run};
use super::plans::{ALPHA, BETA, device, extents, quota};
use super::world::World;
use crate::engine::command::{Capacity, Operation};
use crate::engine::plan::{DevicePlan, Plan};

fn far(count: u32, wait_ms: u64) -> Body {
    let mut create = ask::create(count);
    create.tier = "far".into();
    create.wait_ms = wait_ms;
    Body::Create(create)
}

fn comes(world: &mut World, first: u32, count: u32) {
    world.says(Capacity::Present(vec![run(first, count)]));
    world.says(Capacity::Reached(true));
}

/// Alpha is guaranteed 8 of the tier, and beta nothing.
fn guaranteed() -> Plan {
    let mut plan = dynamic_plan();
    let quotas = &mut plan.tenancy.tenants[0].quotas;
    quotas.insert("far".into(), quota(8, 16));
    plan
}

#[test]
fn what_is_damaged_while_it_moves_stays_where_it_was_and_is_not_taken_for_whole() {
    let mut world = World::new(dynamic_plan());
    let alpha = world.attach(ALPHA);
    comes(&mut world, 0, 8);
    let segment = world.granted(alpha, far(2, 0));
    world.prompt = false;
    world.send(alpha, ask::relocate(segment.segment_id, "ddr"));
    while !world.building.is_empty() {
        world.finish_build(0, Ok(()));
    }
    world.says(Capacity::Poisoned(vec![run(0, 8)]));
    world.finish_copy(Ok(()));
    world.prompt = true;
    let now = world.granted(alpha, ask::refresh(segment.segment_id));
    assert_eq!(now.incarnation, segment.incarnation);
    let again = world.refused(alpha, ask::relocate(segment.segment_id, "ddr"));
    assert_eq!(again.reason(), ErrorReason::Lost);
}

#[test]
fn what_is_out_of_reach_is_not_moved_before_it_is_known_to_be_whole() {
    let mut world = World::new(dynamic_plan());
    let alpha = world.attach(ALPHA);
    comes(&mut world, 0, 8);
    let segment = world.granted(alpha, far(2, 0));
    world.says(Capacity::Reached(false));
    let refused = world.refused(alpha, ask::relocate(segment.segment_id, "ddr"));
    assert_eq!(refused.reason(), ErrorReason::Busy);
    world.says(Capacity::Reached(true));
    world.granted(alpha, ask::relocate(segment.segment_id, "ddr"));
}

#[test]
fn burst_on_memory_that_is_out_of_reach_is_not_ended_for_anybody() {
    let mut world = World::new(guaranteed());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    comes(&mut world, 0, 16);
    for count in [2, 3, 3] {
        world.granted(beta, far(count, 0));
    }
    world.says(Capacity::Reached(false));
    world.send(alpha, far(4, 60_000));
    for _ in 0..4 {
        world.pass(1_001);
    }
    let ended = |it: &event::Body| matches!(it, event::Body::Revoked(_));
    assert!(!world.processes[&beta].events.iter().any(ended));
    world.says(Capacity::Reached(true));
    assert!(!world.processes[&alpha].waits(), "8 were free all the time");
}

#[test]
fn who_waits_for_memory_to_come_keeps_nobody_from_what_is_there() {
    let mut world = World::new(dynamic_plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    comes(&mut world, 0, 4);
    world.send(alpha, far(16, u64::MAX));
    assert!(world.processes[&alpha].waits());
    world.granted(beta, far(2, 0));
}

#[test]
fn a_device_that_is_drained_lets_all_go_that_is_free_whoever_waits_or_is_guaranteed_it() {
    let mut plan = guaranteed();
    plan.devices.push(DevicePlan {
        dynamic: true,
        shared: None,
        kind: "fabric",
        ..device("x1", "far", 16)
    });
    let mut world = World::new(plan);
    let alpha = world.attach(ALPHA);
    comes(&mut world, 0, 8);
    world.operate(Operation::Drain("x0".into())).unwrap();
    world.send(alpha, far(6, 60_000));
    assert!(world.processes[&alpha].waits());
    let demand = world.engine.demand(world.dynamic_device()).unwrap();
    assert_eq!(demand.wanted, Extents::ZERO, "it grants nothing");
    world.says(Capacity::Withdraw {
        unit: 1,
        most: 99,
        within: vec![run(0, 16)],
    });
    assert_eq!(world.withdrawn.take().unwrap().len(), 8);
}

#[test]
fn what_is_bad_and_nobodys_leaves_and_is_good_where_it_comes_anew() {
    let mut world = World::new(dynamic_plan());
    comes(&mut world, 0, 8);
    world.says(Capacity::Poisoned(vec![run(3, 1)]));
    let all = |within| Capacity::Withdraw {
        unit: 1,
        most: 99,
        within,
    };
    world.says(all(vec![run(3, 1)]));
    assert_eq!(world.withdrawn.take(), Some(vec![run(3, 1)]));
    world.says(Capacity::Present(vec![run(0, 3), run(4, 4)]));
    world.says(all(vec![run(3, 1)]));
    assert_eq!(world.withdrawn.take(), Some(vec![]), "it is gone");
    comes(&mut world, 0, 8);
    let devices = world.engine.devices();
    let there = devices.iter().find(|it| it.name == "x0").unwrap();
    assert_eq!(there.free_bytes, extents(8));
}

#[test]
fn the_limit_that_is_shown_is_the_one_that_holds() {
    let mut plan = dynamic_plan();
    let percent = |percent| crate::engine::plan::Amount::Percent(percent);
    let half = crate::engine::plan::Quota {
        request: percent(0),
        limit: percent(50),
    };
    plan.tenancy.tenants[0].quotas = BTreeMap::from([("far".to_owned(), half)]);
    let mut world = World::new(plan);
    let alpha = world.attach(ALPHA);
    comes(&mut world, 0, 8);
    world.granted(alpha, far(8, 0));
    let tenants = world.engine.tenants(crate::engine::Visible::All);
    let shown = tenants.iter().find(|it| it.name == "alpha").unwrap();
    let shown = shown.tiers.iter().find(|it| it.tier == "far").unwrap();
    assert_eq!(shown.limit_bytes, extents(8));
}

#[test]
fn neighbours_that_are_bad_are_told_as_one() {
    let mut world = World::new(dynamic_plan());
    let alpha = world.attach(ALPHA);
    comes(&mut world, 0, 16);
    let segment = world.granted(alpha, far(12, 0));
    world.says(Capacity::Poisoned(vec![run(1, 3), run(6, 2)]));
    let damaged = |offset, bytes| {
        event::Body::Damaged(session::Damaged {
            segment_id: segment.segment_id,
            offset: extents(offset),
            bytes: extents(bytes),
        })
    };
    assert_eq!(
        world.processes[&alpha].events,
        [damaged(1, 3), damaged(6, 2)]
    );
    assert!(SegmentId::new(segment.segment_id).is_some());
}
