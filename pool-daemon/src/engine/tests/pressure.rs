//! Requests, limits and burst: who waits, who is told, who is revoked, and what waits are worth.

use std::collections::BTreeMap;

use pool_core::{Nanos, SegmentId};
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::{self as session, event, reply};
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, BETA, GAMMA, extents, plan, quota};
use super::process::Pid;
use super::world::World;
use crate::engine::command::Operation;

fn waiting(count: u32, wait_ms: u64) -> Body {
    Body::Create(session::Create {
        wait_ms,
        ..ask::create(count)
    })
}

/// The tier is full: beta has a segment of the 4 extents it is guaranteed, and burst ones of 8, 8
/// and 4.
fn full() -> (World, Pid, Vec<SegmentId>) {
    let mut world = World::new(plan());
    let beta = world.attach(BETA);
    let mut held = Vec::new();
    for count in [4, 8, 8, 4] {
        let segment = world.granted(beta, Body::Create(ask::create(count)));
        held.push(SegmentId::new(segment.segment_id).unwrap());
    }
    (world, beta, held)
}

fn answer(world: &World, pid: Pid, id: u64) -> Option<&reply::Body> {
    world.processes[&pid].answers.get(&id)
}

fn is_granted(world: &World, pid: Pid, id: u64) -> bool {
    matches!(answer(world, pid, id), Some(reply::Body::Granted(_)))
}

fn revoked(world: &World, pid: Pid) -> Vec<u64> {
    let events = world.processes[&pid].events.iter();
    let revoked = events.filter_map(|event| match event {
        event::Body::Revoked(revoked) => Some(revoked.segment_id),
        _ => None,
    });
    revoked.collect()
}

#[test]
fn a_guaranteed_request_waits_and_burst_is_asked_back() {
    let (mut world, beta, _) = full();
    let alpha = world.attach(ALPHA);
    let id = world.send(alpha, waiting(6, 10_000));
    assert_eq!(answer(&world, alpha, id), None);
    let asked = event::Body::Pressure(session::Pressure {
        tier: "ddr".into(),
        bytes: extents(6),
        deadline_ms: 1_000,
    });
    assert_eq!(world.processes[&beta].events, [asked]);
    assert_eq!(
        world.engine.next_deadline(),
        Some(Nanos::from_millis(1_000))
    );
    world.done(beta, ask::close(2));
    assert_eq!(answer(&world, alpha, id), None, "granted before proof");
    world.prove();
    assert!(is_granted(&world, alpha, id));
}

#[test]
fn a_request_that_may_not_wait_is_refused_at_once() {
    let (mut world, beta, _) = full();
    let (alpha, user) = (world.attach(ALPHA), world.attach(2000));
    let reason = |world: &mut World, pid, body| world.reason(pid, body);
    assert_eq!(
        reason(&mut world, alpha, waiting(6, 0)),
        ErrorReason::TierFull
    );
    // More than the tenant is guaranteed, and a tenant that is guaranteed nothing.
    assert_eq!(
        reason(&mut world, alpha, waiting(9, 9_999)),
        ErrorReason::TierFull
    );
    assert_eq!(
        reason(&mut world, user, waiting(1, 9_999)),
        ErrorReason::TierFull
    );
    assert!(world.processes[&beta].events.is_empty());
}

#[test]
fn the_newest_burst_is_revoked_first_and_no_more_than_is_wanted() {
    let (mut world, beta, held) = full();
    let alpha = world.attach(ALPHA);
    let id = world.send(alpha, waiting(6, 10_000));
    world.pass(999);
    assert!(revoked(&world, beta).is_empty(), "before the deadline");
    world.pass(1);
    let newest = [held[3].number(), held[2].number()];
    assert_eq!(revoked(&world, beta), newest);
    assert_eq!(answer(&world, alpha, id), None, "granted before proof");
    world.prove();
    assert!(is_granted(&world, alpha, id));
    assert_eq!(revoked(&world, beta), newest);
}

#[test]
fn what_a_tenant_is_guaranteed_is_never_revoked() {
    let (mut world, beta, held) = full();
    world.processes.get_mut(&beta).unwrap().tidy = false;
    let (alpha, gamma) = (world.attach(ALPHA), world.attach(GAMMA));
    world.send(alpha, waiting(8, 60_000));
    world.send(gamma, waiting(2, 60_000));
    for _ in 0..20 {
        world.pass(1_000);
    }
    let left: Vec<_> = world.processes[&beta].held.keys().copied().collect();
    assert_eq!(left, [held[0]]);
    world.done(beta, ask::close(held[0].number()));
    let alpha_holds = world.processes[&alpha].held.len();
    assert_eq!(alpha_holds, 0, "everything is mapped by beta still");
}

#[test]
fn a_request_that_waited_in_vain_is_refused_when_it_said() {
    let (mut world, beta, _) = full();
    world.processes.get_mut(&beta).unwrap().tidy = false;
    let alpha = world.attach(ALPHA);
    let id = world.send(alpha, waiting(4, 2_500));
    world.pass(2_499);
    assert_eq!(answer(&world, alpha, id), None);
    assert_eq!(
        world.engine.next_deadline(),
        Some(Nanos::from_millis(2_500))
    );
    world.pass(1);
    let Some(reply::Body::Error(error)) = answer(&world, alpha, id) else {
        panic!("still waiting");
    };
    assert_eq!(error.reason(), ErrorReason::TierFull);
    assert_eq!(world.engine.next_deadline(), None);
}

#[test]
fn two_who_wait_are_both_served() {
    let (mut world, _, _) = full();
    let (alpha, gamma) = (world.attach(ALPHA), world.attach(GAMMA));
    let first = world.send(alpha, waiting(4, 60_000));
    let second = world.send(gamma, waiting(2, 60_000));
    for _ in 0..3 {
        world.pass(1_000);
        world.prove();
    }
    for (pid, id) in [(alpha, first), (gamma, second)] {
        assert!(is_granted(&world, pid, id));
    }
}

#[test]
fn burst_does_not_take_what_comes_back_for_others() {
    let (mut world, beta, _) = full();
    let alpha = world.attach(ALPHA);
    let id = world.send(alpha, waiting(8, 60_000));
    world.done(beta, ask::close(4));
    world.prove();
    // Four extents are free, and eight are waited for.
    let greedy = world.reason(beta, Body::Create(ask::create(1)));
    assert_eq!(greedy, ErrorReason::TierFull);
    let grow = world.reason(beta, ask::resize(3, 9));
    assert_eq!(grow, ErrorReason::TierFull);
    world.done(beta, ask::close(3));
    world.prove();
    assert!(is_granted(&world, alpha, id));
}

#[test]
fn old_quarantine_holds_a_guarantee_up_no_longer_than_a_deadline() {
    let (mut world, beta, held) = full();
    world.processes.get_mut(&beta).unwrap().tidy = false;
    world.done(beta, ask::close(held[3].number()));
    world.processes.get_mut(&beta).unwrap().tidy = true;
    let alpha = world.attach(ALPHA);
    let id = world.send(alpha, waiting(4, 60_000));
    world.pass(1_000);
    assert!(
        revoked(&world, beta).is_empty(),
        "four extents may be on their way"
    );
    world.pass(1_000);
    assert_eq!(revoked(&world, beta), [held[2].number()]);
    world.prove();
    assert!(is_granted(&world, alpha, id));
}

#[test]
fn many_who_wait_do_not_flood_those_who_hold() {
    let (mut world, beta, _) = full();
    let alphas = [ALPHA; 8].map(|uid| world.attach(uid));
    for &alpha in &alphas {
        world.send(alpha, waiting(1, 1));
        world.pass(1);
    }
    assert_eq!(world.processes[&beta].events.len(), 1);
    let alpha = alphas[0];
    world.send(alpha, waiting(1, 5_000));
    assert_eq!(world.processes[&beta].events.len(), 1);
    world.pass(1_000);
    assert_eq!(
        world.processes[&beta].events.len(),
        2,
        "told before it is revoked"
    );
    assert!(revoked(&world, beta).is_empty());
    world.pass(1_000);
    assert_eq!(revoked(&world, beta).len(), 1);
}

#[test]
fn a_client_that_waits_and_dies_waits_no_more() {
    let (mut world, beta, _) = full();
    let alpha = world.attach(ALPHA);
    world.send(alpha, waiting(4, 60_000));
    world.kill(alpha);
    assert_eq!(world.engine.next_deadline(), None);
    world.pass(5_000);
    assert!(revoked(&world, beta).is_empty());
}

#[test]
fn a_waiting_request_is_forgotten_by_a_restart_and_done_when_repeated() {
    let (mut world, beta, _) = full();
    let alpha = world.attach(ALPHA);
    let id = world.send(alpha, waiting(4, 60_000));
    world.restart(|_| true);
    assert!(world.engine.waiting.is_empty());
    world.reattach(beta);
    world.reattach(alpha);
    assert_eq!(world.engine.waiting.len(), 1);
    world.pass(1_000);
    world.prove();
    assert!(is_granted(&world, alpha, id));
}

#[test]
fn within_its_request_a_tenant_is_never_burst() {
    let mut world = World::new(plan());
    let beta = world.attach(BETA);
    let roomy = session::Create {
        capacity_bytes: extents(5),
        ..ask::create_named("a", 4)
    };
    let first = world.granted(beta, Body::Create(roomy));
    let second = world.granted(beta, Body::Create(ask::create(1)));
    assert_eq!((first.burst, second.burst), (false, true));
    let grown = world.granted(beta, ask::resize(first.segment_id, 5));
    assert!(
        grown.burst,
        "what grows beyond the request is burst as a whole"
    );
    let open = world.granted(beta, ask::open("a", Access::ReadOnly));
    assert!(open.burst);
}

#[test]
fn what_was_moved_beyond_a_guarantee_is_asked_back_like_what_was_granted_there() {
    let mut plan = plan();
    let quotas = |ddr, pooled| BTreeMap::from([("ddr".into(), ddr), ("pooled".into(), pooled)]);
    plan.tenancy.tenants[0].quotas = quotas(quota(0, 0), quota(8, 8));
    plan.tenancy.tenants[1].quotas = quotas(quota(12, 12), quota(0, 12));
    let mut world = World::new(plan);
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let segment = world.granted(beta, Body::Create(ask::create(12)));
    let moved = world.granted(beta, ask::relocate(segment.segment_id, "pooled"));
    assert_eq!((segment.burst, moved.burst), (false, true));
    let id = world.send(
        alpha,
        Body::Create(session::Create {
            tier: "pooled".into(),
            wait_ms: 60_000,
            ..ask::create(8)
        }),
    );
    world.pass(1_000);
    world.prove();
    assert!(is_granted(&world, alpha, id));
}

#[test]
fn a_segment_larger_than_the_guarantee_is_spared_while_others_are_enough() {
    for (wanted, expected) in [(4, vec![2]), (8, vec![2, 1])] {
        let mut world = World::new(plan());
        let beta = world.attach(BETA);
        for count in [20, 4] {
            world.granted(beta, Body::Create(ask::create(count)));
        }
        let alpha = world.attach(ALPHA);
        world.send(alpha, waiting(wanted, 60_000));
        world.pass(1_000);
        assert_eq!(revoked(&world, beta), expected);
    }
}

#[test]
fn what_lies_on_a_draining_device_is_not_revoked_in_vain() {
    let (mut world, beta, held) = full();
    let alpha = world.attach(ALPHA);
    world.send(alpha, waiting(8, 60_000));
    world.operate(Operation::Drain("d0".into())).unwrap();
    world.pass(1_000);
    assert_eq!(revoked(&world, beta), [held[2].number()], "the one on d1");
}

#[test]
fn who_was_away_when_memory_was_asked_back_is_told_when_it_is_back() {
    let (mut world, beta, _) = full();
    let alpha = world.attach(ALPHA);
    world.disconnect(beta);
    world.send(alpha, waiting(6, 10_000));
    assert!(world.processes[&beta].events.is_empty());
    world.pass(400);
    world.reattach(beta);
    let asked = event::Body::Pressure(session::Pressure {
        tier: "ddr".into(),
        bytes: extents(6),
        deadline_ms: 600,
    });
    assert_eq!(world.processes[&beta].events, [asked]);
}

#[test]
fn what_is_being_moved_or_built_does_not_make_the_rest_of_a_tenants_memory_burst() {
    let mut world = World::new(plan());
    let (alpha, beta, gamma) = (world.attach(ALPHA), world.attach(BETA), world.attach(GAMMA));
    // Beta is guaranteed 4 extents, and has them.
    let moved = world.granted(beta, Body::Create(ask::create(2)));
    world.granted(beta, Body::Create(ask::create(2)));
    world.granted(gamma, Body::Create(ask::create(12)));
    world.granted(alpha, Body::Create(ask::create(5)));
    world.prompt = false;
    world.send(beta, ask::relocate(moved.segment_id, "ddr"));
    world.send(alpha, waiting(3, 60_000));
    world.pass(1_000);
    assert!(revoked(&world, beta).is_empty());
    assert_eq!(revoked(&world, gamma).len(), 1, "the one that is over");
}

#[test]
fn a_guarantee_is_not_taken_for_what_a_draining_device_would_not_give_back() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let on_d0 = world.granted(beta, Body::Create(ask::create(12)));
    world.granted(beta, Body::Create(ask::create(4)));
    world.done(beta, ask::close(on_d0.segment_id));
    world.prove();
    // Beta has what it is guaranteed on one device, and more on the one that is drained.
    world.granted(beta, Body::Create(ask::create(8)));
    let holds = world.processes[&beta].held.len();
    world.operate(Operation::Drain("d0".into())).unwrap();
    world.send(alpha, waiting(1, 60_000));
    for _ in 0..3 {
        world.pass(1_000);
    }
    assert_eq!(world.processes[&beta].held.len(), holds);
}
