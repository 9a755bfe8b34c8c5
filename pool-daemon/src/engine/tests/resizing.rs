//! Growing and shrinking in place, and moving.

use pool_core::SegmentId;
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::{self as session, event};
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, extents, plan};
use super::world::World;
use crate::engine::carve::Spread;
use crate::engine::command::WorldError;

fn in_pieces(count: u32, piece: u32) -> session::Create {
    session::Create {
        piece_bytes: extents(piece),
        ..ask::create_named("a", count)
    }
}

#[test]
fn a_segment_shrinks_at_a_pieces_end_only() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(in_pieces(7, 3)));
    let refusal = world.refused(alpha, ask::resize(segment.segment_id, 5));
    assert_eq!(refusal.reason(), ErrorReason::NotAtBoundary);
    assert!(
        refusal.message.contains("6 MiB or 12 MiB"),
        "{}",
        refusal.message
    );
    let after = world.granted(alpha, ask::resize(segment.segment_id, 3));
    assert_eq!(after.bytes, extents(3));
    assert_eq!(
        (after.addr, after.incarnation),
        (segment.addr, segment.incarnation)
    );
    world.prove();
    assert_eq!(world.engine.account().free, 40 - 3);
    let refusal = world.refused(alpha, ask::resize(segment.segment_id, 2));
    assert_eq!(refusal.reason(), ErrorReason::NotAtBoundary);
    assert!(
        refusal.message.contains("0 B or 6 MiB"),
        "{}",
        refusal.message
    );
}

#[test]
fn a_segment_grows_in_place_and_its_other_holders_are_told() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let segment = world.granted(one, Body::Create(ask::create_named("a", 2)));
    let (number, id) = (
        segment.segment_id,
        SegmentId::new(segment.segment_id).unwrap(),
    );
    world.granted(two, ask::open("a", Access::ReadOnly));
    world.write(one, id, 9);
    let after = world.granted(one, ask::resize(number, 4));
    assert_eq!((after.addr, after.bytes), (segment.addr, extents(4)));
    assert_eq!(world.read(one, id), [9, 9, 0, 0]);
    let changed = event::Body::Changed(session::Changed {
        segment_id: number,
        incarnation: segment.incarnation,
    });
    assert_eq!(world.processes[&two].events, [changed]);
    assert_eq!(world.granted(two, ask::refresh(number)).bytes, extents(4));
}

#[test]
fn a_segment_grows_into_its_capacity_whatever_lies_behind() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let roomy = session::Create {
        capacity_bytes: extents(4),
        ..ask::create_named("a", 2)
    };
    let segment = world.granted(alpha, Body::Create(roomy));
    world.granted(alpha, Body::Create(ask::create(1)));
    world.granted(alpha, ask::resize(segment.segment_id, 4));
    let refusal = world.refused(alpha, ask::resize(segment.segment_id, 5));
    assert_eq!(refusal.reason(), ErrorReason::WindowFull);
    assert!(refusal.message.contains("8 MiB"), "{}", refusal.message);
}

#[test]
fn a_segment_that_fails_to_grow_is_as_before() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    world.prompt = false;
    let id = world.send(alpha, ask::resize(segment.segment_id, 4));
    let failed = WorldError::Os {
        call: "ftruncate",
        errno: 28,
    };
    world.finish_build(0, Err(failed));
    assert!(world.processes[&alpha].answers.contains_key(&id));
    let after = world.granted(alpha, ask::refresh(segment.segment_id));
    assert_eq!(after.bytes, extents(2));
    assert_eq!(world.engine.account().free, 40 - 2);
}

#[test]
fn a_segment_that_is_being_changed_is_not_changed_otherwise() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let segment = world.granted(one, Body::Create(ask::create_kept("a", 2)));
    world.granted(two, ask::open("a", Access::ReadOnly));
    world.prompt = false;
    world.send(one, ask::resize(segment.segment_id, 4));
    for body in [
        ask::open("a", Access::ReadOnly),
        ask::free(segment.segment_id, true),
        ask::share(segment.segment_id, "beta", Access::ReadOnly),
    ] {
        assert_eq!(world.reason(two, body), ErrorReason::Busy);
    }
    // Letting go is always possible.
    world.done(two, ask::close(segment.segment_id));
    world.work();
    assert_eq!(world.engine.account().granted, 4);
}

#[test]
fn a_segment_that_ends_while_it_grows_takes_the_growth_along() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create(2)));
    world.prompt = false;
    world.send(alpha, ask::resize(segment.segment_id, 4));
    world.kill(alpha);
    world.work();
    world.prove();
    assert_eq!(world.engine.account().free, 40);
}

#[test]
fn pieces_are_bounded_by_what_one_message_carries() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    // 24 pieces are no problem, and 64 are the most: asked of the layout, which no quota cuts.
    world.granted(alpha, Body::Create(in_pieces(12, 1)));
    let tenant = pool_core::TenantId::FIRST;
    let layout = |before| {
        world.engine.layout(&Spread {
            tenant,
            tier: 0,
            extents: pool_core::Extents::new(10),
            piece_max: 1,
            pieces_before: before,
            apart: pool_core::Extents::ZERO,
        })
    };
    assert_eq!(layout(54).unwrap().len(), 10);
    let refusal = layout(55).unwrap_err().to_string();
    assert!(refusal.contains("64 pieces"), "{refusal}");
}

#[test]
fn a_segment_spans_devices_where_none_has_the_room() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.granted(alpha, Body::Create(ask::create(6)));
    let segment = world.granted(alpha, Body::Create(ask::create(10)));
    assert_eq!(segment.pieces.len(), 1, "on one device while one has room");
    world.kill(alpha);
    let beta = world.attach(super::plans::BETA);
    world.prove();
    let segment = world.granted(beta, Body::Create(ask::create(20)));
    let devices: Vec<_> = segment
        .pieces
        .iter()
        .map(|p| (&*p.device, p.bytes))
        .collect();
    assert_eq!(devices, [("d0", extents(16)), ("d1", extents(4))]);
    assert_eq!(segment.pieces[1].offset, extents(16));
}

#[test]
fn a_move_brings_the_contents_to_another_tier_at_the_same_address() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let segment = world.granted(one, Body::Create(ask::create_named("a", 3)));
    let (number, id) = (
        segment.segment_id,
        SegmentId::new(segment.segment_id).unwrap(),
    );
    world.granted(two, ask::open("a", Access::ReadOnly));
    world.write(one, id, 4);
    let after = world.granted(one, ask::relocate(number, "pooled"));
    assert_eq!((after.addr, &*after.tier), (segment.addr, "pooled"));
    assert_eq!(world.read(one, id), [4, 4, 4]);
    let fresh = world.granted(two, ask::refresh(number));
    assert_eq!(fresh.incarnation, after.incarnation);
    world.prove();
    let tiers = world.engine.tiers();
    assert_eq!(tiers[0].free_bytes, tiers[0].total_bytes);
}

#[test]
fn a_move_is_refused_while_another_may_write() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let segment = world.granted(one, Body::Create(ask::create_named("a", 1)));
    world.granted(two, ask::open("a", Access::ReadWrite));
    let relocate = || ask::relocate(segment.segment_id, "pooled");
    assert_eq!(world.reason(one, relocate()), ErrorReason::InUse);
    world.disconnect(two);
    assert_eq!(
        world.reason(one, relocate()),
        ErrorReason::InUse,
        "it writes on"
    );
    world.kill(two);
    world.granted(one, relocate());
}
