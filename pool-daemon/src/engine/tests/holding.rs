//! Names, opening, closing, freeing, and the ends of clients.

use pool_core::SegmentId;
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::{self as session, event};
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, BETA, extents, plan};
use super::world::World;
use crate::engine::command::Operation;

#[test]
fn a_name_is_taken_once_by_a_tenant_and_free_when_its_segment_ends() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let create = || Body::Create(ask::create_named("a", 1));
    let first = world.granted(alpha, create());
    assert_eq!(world.reason(alpha, create()), ErrorReason::NameTaken);
    world.granted(beta, create());
    world.done(alpha, ask::close(first.segment_id));
    let second = world.granted(alpha, create());
    assert_ne!(first.segment_id, second.segment_id);
    assert_ne!(
        first.addr, second.addr,
        "the old addresses await their proof"
    );
}

#[test]
fn a_name_is_taken_while_its_segment_is_built() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    world.prompt = false;
    world.send(one, Body::Create(ask::create_named("a", 1)));
    let create = Body::Create(ask::create_named("a", 1));
    assert_eq!(world.reason(two, create), ErrorReason::NameTaken);
    let open = ask::open("a", Access::ReadOnly);
    assert_eq!(world.reason(two, open), ErrorReason::NotFound);
}

#[test]
fn a_client_that_dies_while_its_memory_is_built_leaves_nothing() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.prompt = false;
    world.send(alpha, Body::Create(ask::create_named("a", 3)));
    world.kill(alpha);
    world.work();
    assert!(world.files.is_empty() && world.engine.segments.is_empty());
    assert_eq!(world.engine.account().free, 40);
}

#[test]
fn a_dead_client_frees_what_only_it_held() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let own = world.granted(one, Body::Create(ask::create(2)));
    let both = world.granted(one, Body::Create(ask::create_named("both", 2)));
    let kept = world.granted(one, Body::Create(ask::create_kept("kept", 2)));
    world.granted(two, ask::open("both", Access::ReadOnly));
    world.kill(one);
    world.prove();
    let ids: Vec<_> = world.engine.segments.keys().map(|id| id.number()).collect();
    assert_eq!(
        ids,
        [both.segment_id, kept.segment_id],
        "{} is gone",
        own.segment_id
    );
    world.granted(two, ask::open("kept", Access::ReadWrite));
}

#[test]
fn a_kept_segment_ends_when_it_is_freed_and_not_before() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create_kept("a", 2)));
    let id = SegmentId::new(segment.segment_id).unwrap();
    world.write(alpha, id, 7);
    world.done(alpha, ask::close(segment.segment_id));
    world.granted(alpha, ask::open("a", Access::ReadWrite));
    assert_eq!(world.read(alpha, id), [7, 7]);
    world.done(alpha, ask::free(segment.segment_id, false));
    world.prove();
    assert_eq!(world.engine.account().free, 40);
}

#[test]
fn what_is_held_by_others_is_freed_by_force_only() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let segment = world.granted(one, Body::Create(ask::create_named("a", 2)));
    let id = segment.segment_id;
    world.granted(two, ask::open("a", Access::ReadOnly));
    let refusal = world.refused(one, ask::free(id, false));
    assert_eq!(refusal.reason(), ErrorReason::InUse);
    assert!(refusal.message.contains("1 other"), "{}", refusal.message);
    world.done(one, ask::free(id, true));
    let (segment_id, incarnation) = (id, 1);
    let told = event::Body::Revoked(session::Revoked {
        segment_id,
        incarnation,
    });
    assert_eq!(world.processes[&two].events, [told]);
    assert_eq!(world.reason(two, ask::refresh(id)), ErrorReason::NotFound);
    world.done(two, ask::close(id));
    world.prove();
    assert_eq!(world.engine.account().free, 40);
}

#[test]
fn an_operator_frees_what_is_held_by_force_only() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world
        .granted(alpha, Body::Create(ask::create(2)))
        .segment_id;
    let free = |force| Operation::Free { segment, force };
    let refusal = world.operate(free(false)).unwrap_err();
    assert_eq!(refusal.reason(), ErrorReason::InUse);
    assert_eq!(world.operate(free(true)), Ok(None));
    let again = world.operate(free(true)).unwrap_err();
    assert_eq!(again.reason(), ErrorReason::NotFound);
    assert!(world.processes[&alpha].held.is_empty());
}

#[test]
fn memory_is_granted_again_only_after_proof() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(BETA));
    world.processes.get_mut(&one).unwrap().tidy = false;
    let first = world.granted(one, Body::Create(ask::create(16)));
    world.granted(two, Body::Create(ask::create(8)));
    world.done(one, ask::close(first.segment_id));
    world.prove();
    let create = || Body::Create(ask::create(1));
    assert_eq!(world.reason(two, create()), ErrorReason::TierFull);
    world.kill(one);
    world.prove();
    let again = world.granted(two, create());
    assert_eq!(again.addr, first.addr, "and so are addresses");
}

#[test]
fn a_writer_may_read_and_write_and_a_reader_only_read() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let segment = world.granted(one, Body::Create(ask::create_named("a", 1)));
    let id = SegmentId::new(segment.segment_id).unwrap();
    let access = |world: &World| world.processes[&two].held[&id].access;
    world.granted(two, ask::open("a", Access::ReadOnly));
    assert_eq!(access(&world), Access::ReadOnly);
    let resize = ask::resize(segment.segment_id, 2);
    assert_eq!(world.reason(two, resize), ErrorReason::NotPermitted);
    world.granted(two, ask::open("a", Access::ReadWrite));
    assert_eq!(access(&world), Access::ReadWrite);
    world.granted(two, ask::open("a", Access::ReadOnly));
    assert_eq!(access(&world), Access::ReadWrite, "what it had stays");
}

#[test]
fn what_is_not_held_cannot_be_closed_or_refreshed() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let segment = world.granted(one, Body::Create(ask::create_named("a", 1)));
    for id in [segment.segment_id, 0, 99, u64::MAX] {
        assert_eq!(world.reason(two, ask::close(id)), ErrorReason::NotFound);
        assert_eq!(world.reason(two, ask::refresh(id)), ErrorReason::NotFound);
    }
}

#[test]
fn every_field_of_a_request_is_bounded() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let window = world.plan.window.len().get();
    let base = ask::create(1);
    let with = |change: &dyn Fn(&mut session::Create)| {
        let mut create = base.clone();
        change(&mut create);
        Body::Create(create)
    };
    use ErrorReason as R;
    let cases: Vec<(Body, R)> = vec![
        (with(&|c| c.bytes = 0), R::OutOfRange),
        (with(&|c| c.bytes = window + 1), R::OutOfRange),
        (with(&|c| c.bytes = u64::MAX), R::OutOfRange),
        (with(&|c| c.bytes = window), R::OverQuota),
        (with(&|c| c.capacity_bytes = 1), R::OutOfRange),
        (with(&|c| c.capacity_bytes = u64::MAX), R::OutOfRange),
        (with(&|c| c.piece_bytes = u64::MAX), R::OutOfRange),
        (with(&|c| c.align = 1), R::OutOfRange),
        (with(&|c| c.align = u64::MAX), R::OutOfRange),
        (with(&|c| c.lifetime = 3), R::Malformed),
        (with(&|c| c.lifetime = -1), R::Malformed),
        (with(&|c| c.lifetime = 2), R::Malformed),
        (with(&|c| c.tier = "none".into()), R::NotFound),
        (with(&|c| c.tier = String::new()), R::NotFound),
        (with(&|c| c.name = "a:b".into()), R::BadName),
        (with(&|c| c.name = "x".repeat(129)), R::BadName),
        (ask::open("a", Access::Unspecified), R::Malformed),
        (Body::Attach(session::Attach::default()), R::OutOfOrder),
        (Body::Supply(session::Supply::default()), R::Malformed),
    ];
    for (body, reason) in cases {
        let shown = format!("{body:?}");
        assert_eq!(world.reason(alpha, body), reason, "{shown}");
    }
    let mut create = base;
    create.capacity_bytes = window;
    let segment = world.granted(alpha, Body::Create(create.clone()));
    assert_eq!(segment.capacity_bytes, window);
    assert_eq!(
        world.reason(alpha, Body::Create(create)),
        ErrorReason::WindowFull
    );
    assert_eq!(segment.bytes, extents(1));
}

#[test]
fn an_answer_stays_short_whatever_was_asked() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    for name in [
        "x".repeat(60_000),
        "\u{1}".repeat(60_000),
        "\u{10ffff}".repeat(15_000),
    ] {
        for body in [
            ask::open(&name, Access::ReadOnly),
            Body::Create(ask::create_named(&name, 1)),
            Body::Create(session::Create {
                tier: name.clone(),
                ..ask::create(1)
            }),
        ] {
            let refusal = world.refused(alpha, body);
            assert!(refusal.message.len() < 1_024, "{}", refusal.message.len());
        }
    }
}

#[test]
fn a_client_holds_a_bounded_number_of_segments() {
    let mut plan = plan();
    plan.devices[0].extents = pool_core::Extents::new(2_000);
    plan.tenancy.tenants[0]
        .quotas
        .insert("ddr".into(), super::plans::quota(8, 2_000));
    let (base, len) = (plan.window.base(), pool_core::Bytes::new(extents(4_000)));
    plan.window = pool_core::WindowRange::new(base, len).unwrap();
    let mut world = World::new(plan);
    let alpha = world.attach(ALPHA);
    let client = world.client(alpha);
    for index in 0..pool_core::limits::CLIENT_SEGMENTS_MAX as u64 {
        let id = SegmentId::new(1_000_000 + index).unwrap();
        world
            .engine
            .clients
            .get_mut(&client)
            .unwrap()
            .held
            .insert(id);
    }
    let state = &world.engine.clients[&client];
    assert_eq!(state.held.len(), pool_core::limits::CLIENT_SEGMENTS_MAX);
    let refusal = world.engine.may_hold_more(client).unwrap_err();
    assert!(refusal.to_string().contains("1024"), "{refusal}");
}
