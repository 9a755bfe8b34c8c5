//! What operators do to devices: drain, activate, remove, resize.

use pool_core::SegmentId;
use pool_proto::common::v1::{DeviceState, ErrorReason};
use pool_proto::session::v1::{self as session, event};
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, BETA, extents, plan};
use super::world::World;
use crate::engine::command::Operation;

fn drain(name: &str) -> Operation {
    Operation::Drain(name.into())
}

fn activate(name: &str) -> Operation {
    Operation::Activate(name.into())
}

fn remove(name: &str) -> Operation {
    Operation::Remove(name.into())
}

fn resize(name: &str, count: u32) -> Operation {
    Operation::Resize(name.into(), extents(count))
}

fn refused(world: &mut World, operation: Operation) -> ErrorReason {
    world.operate(operation).unwrap_err().reason()
}

#[test]
fn a_draining_device_grants_nothing_and_is_taken_back() {
    let mut world = World::new(plan());
    let beta = world.attach(BETA);
    let device = world.operate(drain("d0")).unwrap().unwrap();
    assert_eq!(device.state(), DeviceState::Draining);
    let create = || Body::Create(ask::create(9));
    let refusal = world.refused(beta, create());
    assert_eq!(refusal.reason(), ErrorReason::TierFull);
    assert_eq!(refusal.limit - refusal.used, extents(8));
    assert!(refusal.message.contains("drained"), "{}", refusal.message);
    let device = world.operate(activate("d0")).unwrap().unwrap();
    assert_eq!(device.state(), DeviceState::Online);
    world.granted(beta, create());
}

#[test]
fn holders_on_a_leaving_device_are_told_and_nobody_is_evicted() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let segment = world.granted(alpha, Body::Create(ask::create(2)));
    world.operate(drain("d0")).unwrap();
    let told = event::Body::DeviceLeaving(session::DeviceLeaving {
        device: "d0".into(),
        segment_ids: vec![segment.segment_id],
    });
    assert_eq!(world.processes[&alpha].events, [told]);
    assert!(world.processes[&beta].events.is_empty());
    world.granted(alpha, ask::refresh(segment.segment_id));
    world.operate(activate("d0")).unwrap();
    let back = event::Body::DeviceBack(session::DeviceBack {
        device: "d0".into(),
    });
    assert_eq!(world.processes[&alpha].events.last(), Some(&back));
}

#[test]
fn what_nobody_holds_moves_off_a_draining_device_with_its_contents() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let mut ids = Vec::new();
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        let segment = world.granted(alpha, Body::Create(ask::create_kept(name, 2)));
        let id = SegmentId::new(segment.segment_id).unwrap();
        world.write(alpha, id, number);
        ids.push(id);
    }
    world.done(alpha, ask::close(ids[0].number()));
    world.done(alpha, ask::close(ids[1].number()));
    world.operate(drain("d0")).unwrap();
    world.prove();
    let device = world
        .engine
        .devices()
        .into_iter()
        .find(|d| d.name == "d0")
        .unwrap();
    assert_eq!((device.granted_bytes, device.segments), (extents(2), 1));
    // The last one follows when it is let go.
    world.done(alpha, ask::close(ids[2].number()));
    world.prove();
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        let open = ask::open(name, pool_proto::common::v1::Access::ReadOnly);
        let segment = world.granted(alpha, open);
        assert_eq!(segment.pieces[0].device, "d1");
        let id = SegmentId::new(segment.segment_id).unwrap();
        assert_eq!(world.read(alpha, id), [number, number]);
    }
    assert_eq!(
        world.operate(remove("d0")).unwrap_err().reason(),
        ErrorReason::InUse
    );
}

#[test]
fn what_finds_no_place_stays_and_is_moved_when_the_operator_drains_again() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let kept = world.granted(alpha, Body::Create(ask::create_kept("a", 2)));
    let hog = world.granted(beta, Body::Create(ask::create(8)));
    let hog_too = world.granted(beta, Body::Create(ask::create(8)));
    assert_eq!(hog_too.pieces[0].device, "d1");
    world.done(alpha, ask::close(kept.segment_id));
    world.operate(drain("d0")).unwrap();
    assert!(world.published.contains(&"segment-stays".to_owned()));
    for segment in [hog, hog_too] {
        world.done(beta, ask::close(segment.segment_id));
    }
    world.prove();
    let on_d0 = |world: &World| world.engine.devices()[0].granted_bytes;
    assert_eq!(on_d0(&world), extents(2));
    world.operate(drain("d0")).unwrap();
    world.prove();
    assert_eq!(on_d0(&world), 0);
}

#[test]
fn draining_goes_on_after_a_restart() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let kept = world.granted(alpha, Body::Create(ask::create_kept("a", 2)));
    world.done(alpha, ask::close(kept.segment_id));
    world.prompt = false;
    world.operate(drain("d0")).unwrap();
    assert_eq!(world.building.len(), 1);
    world.restart(|_| true);
    world.prompt = true;
    world.pass(1);
    world.prove();
    assert_eq!(world.engine.devices()[0].granted_bytes, 0);
}

#[test]
fn a_device_is_removed_when_it_is_drained_and_empty() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create(1)));
    assert_eq!(refused(&mut world, remove("p0")), ErrorReason::InUse);
    world.operate(drain("d0")).unwrap();
    assert_eq!(refused(&mut world, remove("d0")), ErrorReason::InUse);
    world.done(alpha, ask::close(segment.segment_id));
    world.prove();
    // Of the 14 extents that are guaranteed, eight would be left.
    assert_eq!(refused(&mut world, remove("d0")), ErrorReason::InUse);
    world.operate(activate("d0")).unwrap();
    world.operate(drain("d1")).unwrap();
    assert_eq!(world.operate(remove("d1")), Ok(None));
    assert_eq!(world.engine.account().total, 32);
    for gone in [
        drain("d1"),
        remove("d1"),
        resize("d1", 9),
        drain("none"),
        activate("none"),
    ] {
        assert_eq!(refused(&mut world, gone), ErrorReason::NotFound);
    }
    world.restart(|_| true);
    assert_eq!(
        world.engine.account().total,
        32,
        "whatever the configuration says"
    );
    world.operate(activate("d1")).unwrap();
    assert_eq!(world.engine.account().total, 40);
}

#[test]
fn a_device_shrinks_by_what_is_free_and_within_the_guarantees() {
    let mut world = World::new(plan());
    let beta = world.attach(BETA);
    world.granted(beta, Body::Create(ask::create(10)));
    let refusal = world.operate(resize("d0", 9)).unwrap_err();
    assert_eq!(
        (refusal.reason(), refusal.used),
        (ErrorReason::InUse, extents(10))
    );
    world.operate(resize("d0", 10)).unwrap();
    assert_eq!(world.engine.tiers()[0].total_bytes, extents(18));
    // 8 + 4 + 10 % of what is left are guaranteed.
    let refusal = world.operate(resize("d1", 1)).unwrap_err();
    assert_eq!(refusal.reason(), ErrorReason::InUse);
    assert!(refusal.message.contains("26 MiB"), "{}", refusal.message);
    world.operate(resize("d1", 3)).unwrap();
    world.operate(resize("d1", 3)).unwrap();
    world.operate(resize("d1", 30)).unwrap();
    world.restart(|_| true);
    assert_eq!(world.engine.tiers()[0].total_bytes, extents(40));
}

#[test]
fn a_tier_that_guarantees_too_much_may_still_grow() {
    let mut plan = plan();
    let mut world = World::new(plan.clone());
    world.operate(resize("d0", 7)).unwrap();
    plan.tenancy.tenants[1]
        .quotas
        .insert("ddr".into(), super::plans::quota(20, 24));
    world.plan = plan;
    world.restart(|_| true);
    world.operate(resize("d0", 8)).unwrap();
    assert_eq!(refused(&mut world, resize("d0", 7)), ErrorReason::InUse);
}

#[test]
fn a_pool_is_never_larger_than_its_window() {
    let mut world = World::new(plan());
    for (bytes, reason) in [
        (0, ErrorReason::OutOfRange),
        (extents(1) - 1, ErrorReason::OutOfRange),
        (extents(73), ErrorReason::OutOfRange),
        (u64::MAX, ErrorReason::OutOfRange),
    ] {
        assert_eq!(
            refused(&mut world, Operation::Resize("d0".into(), bytes)),
            reason
        );
    }
    world.operate(resize("d0", 72)).unwrap();
    assert_eq!(world.engine.account().total, 96);
}

#[test]
fn who_comes_to_lie_on_a_draining_device_or_comes_back_to_one_is_told() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let segment = world.granted(beta, Body::Create(ask::create(1)));
    world.prompt = false;
    world.send(alpha, Body::Create(ask::create(2)));
    world.disconnect(beta);
    world.operate(drain("d0")).unwrap();
    assert!(world.processes[&alpha].events.is_empty());
    world.work();
    world.reattach(beta);
    let told = |segment_id| {
        event::Body::DeviceLeaving(session::DeviceLeaving {
            device: "d0".into(),
            segment_ids: vec![segment_id],
        })
    };
    let id = *world.processes[&alpha].held.keys().next().unwrap();
    assert_eq!(world.processes[&alpha].events, [told(id.number())]);
    assert_eq!(world.processes[&beta].events, [told(segment.segment_id)]);
}
