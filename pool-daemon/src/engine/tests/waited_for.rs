//! Operators are told which processes quarantined memory waits for.

use pool_core::SegmentId;
use pool_proto::admin::v1::{ListSegmentsRequest, SegmentDetail, WaitedFor};
use pool_proto::common::v1::Access;
use pool_proto::session::v1 as session;
use session::{event, request::Body};

use super::ask;
use super::plans::{ALPHA, BETA, extents, plan};
use super::process::Pid;
use super::world::World;
use crate::engine::Visible;
use crate::engine::command::Command;

fn detail(world: &World, id: u64) -> Option<SegmentDetail> {
    let ask = ListSegmentsRequest::default();
    let listed = world.engine.segments(Visible::All, &ask).segments;
    let is = |detail: &SegmentDetail| detail.segment.as_ref().unwrap().segment_id == id;
    listed.into_iter().find(is)
}

fn waits_for(world: &World, pid: Pid, tenant: &str, why: &str) -> WaitedFor {
    WaitedFor {
        client_id: world.client(pid).number(),
        pid,
        tenant: tenant.into(),
        why: why.into(),
    }
}

/// A process that attaches and keeps whatever it has mapped.
fn untidy(world: &mut World, uid: u32) -> Pid {
    let pid = world.attach(uid);
    world.processes.get_mut(&pid).unwrap().tidy = false;
    pid
}

#[test]
fn who_was_told_to_let_go_and_has_not_is_named_until_it_ends() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), untidy(&mut world, BETA));
    let id = world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    let id = id.segment_id;
    world.done(alpha, ask::share(id, "beta", Access::ReadWrite));
    world.granted(beta, ask::open("alpha:a", Access::ReadWrite));
    let live = detail(&world, id).unwrap();
    assert_eq!((live.quarantined_bytes, live.waited_for.len()), (0, 0));
    world.done(alpha, ask::free(id, true));
    world.prove();
    let freed = detail(&world, id).unwrap();
    assert_eq!(freed.quarantined_bytes, extents(2));
    assert_eq!(freed.waited_for, [waits_for(&world, beta, "beta", "told")]);
    assert_eq!(freed.waited_for_more, 0);
    world.kill(beta);
    world.prove();
    assert_eq!(detail(&world, id), None);
}

#[test]
fn holders_of_a_moved_segment_are_named_after_those_who_were_told_to_let_go() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), untidy(&mut world, BETA));
    let id = world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    let id = id.segment_id;
    world.done(alpha, ask::share(id, "beta", Access::ReadOnly));
    world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    world.granted(alpha, ask::revoke(id, "beta"));
    let told = waits_for(&world, beta, "beta", "told");
    let holds = waits_for(&world, alpha, "alpha", "holds");
    let moved = detail(&world, id).unwrap();
    assert_eq!(moved.quarantined_bytes, extents(2));
    assert_eq!(moved.waited_for, [told, holds]);
}

#[test]
fn who_closed_and_kept_its_mapping_leaves_memory_in_quarantine_and_nobody_named() {
    let mut world = World::new(plan());
    let alpha = untidy(&mut world, ALPHA);
    let id = world
        .granted(alpha, Body::Create(ask::create(1)))
        .segment_id;
    world.done(alpha, ask::close(id));
    world.prove();
    let freed = detail(&world, id).unwrap();
    assert_eq!(freed.quarantined_bytes, extents(1));
    assert_eq!((freed.waited_for.len(), freed.waited_for_more), (0, 0));
}

#[test]
fn what_is_told_of_one_segment_is_bounded_and_the_rest_is_counted() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let id = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let id = id.segment_id;
    for _ in 0..20 {
        let other = world.attach(ALPHA);
        world.granted(other, ask::open("a", Access::ReadOnly));
    }
    world.done(alpha, ask::free(id, true));
    let freed = detail(&world, id).unwrap();
    assert_eq!((freed.waited_for.len(), freed.waited_for_more), (16, 4));
}

/// A domain with two members, of which the second is the one that matters.
fn domain() -> (World, Pid, Pid, SegmentId) {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let create = Body::Create(ask::create_domain("d", 1));
    let id = SegmentId::new(world.granted(alpha, create).segment_id).unwrap();
    let member = world.attach(ALPHA);
    world.granted(member, ask::open("d", Access::ReadWrite));
    (world, alpha, member, id)
}

fn named(world: &World, id: SegmentId) -> Vec<WaitedFor> {
    world.engine.waited_for(&world.engine.segments[&id]).0
}

#[test]
fn a_process_whose_session_was_given_up_is_named_with_its_tenant_over_a_restart_too() {
    let (mut world, alpha, member, id) = domain();
    let client = world.client(member);
    world.disconnect(member);
    world.step(Command::ClientGone { client });
    let departed = WaitedFor {
        client_id: 0,
        ..waits_for(&world, member, "alpha", "departed")
    };
    let holds = waits_for(&world, alpha, "alpha", "holds");
    assert_eq!(named(&world, id), [departed.clone(), holds.clone()]);
    world.restart(|_| true);
    assert_eq!(named(&world, id), [departed, holds.clone()]);
    world.kill(member);
    assert_eq!(named(&world, id), [holds]);
}

#[test]
fn who_is_evicted_and_has_not_answered_is_named_once() {
    let (mut world, alpha, member, id) = domain();
    let revoked = event::Body::Revoked(session::Revoked::default());
    world.engine.evict(world.client(member), id, revoked);
    let told = waits_for(&world, member, "alpha", "told");
    let holds = waits_for(&world, alpha, "alpha", "holds");
    assert_eq!(named(&world, id), [told, holds]);
}
