//! The daemon dies and starts again; the machine does; the configuration changes in between.

use pool_core::{Nanos, SegmentId};
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::{self as session, event, reply};
use session::request::Body;

use super::plans::{ALPHA, BETA, extents, plan};
use super::process::Pid;
use super::world::{Loss, World};
use super::{ask, laws};
use crate::engine::command::Command;

fn lost(world: &World, pid: Pid) -> usize {
    let events = world.processes[&pid].events.iter();
    events
        .filter(|event| matches!(event, event::Body::Lost(_)))
        .count()
}

#[test]
fn clients_keep_what_they_hold_over_a_restart() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    let id = SegmentId::new(segment.segment_id).unwrap();
    world.write(alpha, id, 3);
    for epoch in 2..5 {
        world.restart(|_| true);
        assert_eq!(world.engine.epoch(), epoch);
        world.write(alpha, id, epoch);
        world.reattach(alpha);
        let again = world.granted(alpha, ask::refresh(segment.segment_id));
        assert_eq!(
            (again.addr, again.incarnation),
            (segment.addr, segment.incarnation)
        );
        assert_eq!(world.read(alpha, id), [epoch, epoch]);
    }
    let fresh = world.granted(alpha, Body::Create(ask::create(2)));
    assert!(fresh.segment_id > segment.segment_id && fresh.incarnation > segment.incarnation);
}

#[test]
fn a_grant_that_was_not_journaled_never_was() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.prompt = false;
    world.send(alpha, Body::Create(ask::create_named("a", 2)));
    world.restart(|_| true);
    assert_eq!(world.engine.account().free, 40);
    world.prompt = true;
    world.reattach(alpha);
    assert_eq!(world.engine.account().granted, 2, "repeated, and done");
}

#[test]
fn the_answer_that_was_lost_with_the_daemon_comes_when_it_is_asked_again() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    for (loss, shared) in [(Loss::BeforeCommit, false), (Loss::AfterCommit, true)] {
        let client = world.client(alpha);
        let body = ask::share(segment.segment_id, "beta", Access::ReadOnly);
        let request_id = world.write_down(alpha, &body);
        let request = session::Request {
            request_id,
            body: Some(body),
        };
        world.lose_step(Command::Request { client, request }, loss, |_| true);
        let id = SegmentId::new(segment.segment_id).unwrap();
        assert_eq!(world.engine.segments[&id].shares.len() == 1, shared);
        world.reattach(alpha);
        let answer = &world.processes[&alpha].answers[&request_id];
        assert!(matches!(answer, reply::Body::Done(_)));
        if !shared {
            world.granted(alpha, ask::revoke(segment.segment_id, "beta"));
        }
    }
}

#[test]
fn descriptors_come_back_from_those_who_map_them() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    let id = SegmentId::new(segment.segment_id).unwrap();
    world.write(alpha, id, 8);
    world.restart(|_| false);
    let late = world.attach(ALPHA);
    let open = || ask::open("a", Access::ReadOnly);
    assert_eq!(world.reason(late, open()), ErrorReason::Busy, "awaited");
    assert_eq!(
        world.engine.next_deadline(),
        Some(Nanos::from_millis(5_000))
    );
    world.reattach(alpha);
    world.granted(late, open());
    world.pass(5_000);
    assert_eq!(world.read(late, id), [8, 8]);
    assert_eq!(
        (lost(&world, alpha), world.engine.next_deadline()),
        (0, None)
    );
}

#[test]
fn what_nobody_brings_back_is_lost_after_the_grace_and_said_so() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    world.granted(one, Body::Create(ask::create_named("a", 2)));
    world.granted(two, Body::Create(ask::create_kept("k", 2)));
    world.done(two, ask::close(2));
    world.restart(|_| false);
    world.processes.get_mut(&one).unwrap().tidy = false;
    world.reattach(one);
    world.reattach(two);
    world.pass(4_999);
    assert_eq!((lost(&world, one), world.engine.segments.len()), (0, 2));
    world.pass(1);
    assert_eq!(lost(&world, one), 1);
    let left: Vec<_> = world.engine.segments.keys().map(|id| id.number()).collect();
    assert_eq!(left, [1], "nobody held the other, so nobody maps it");
    assert_eq!(
        world.reason(two, ask::open("k", Access::ReadOnly)),
        ErrorReason::NotFound
    );
    // The first may be mapped until its holder says otherwise or dies.
    assert_eq!(world.engine.account().quarantined, 2);
    world.kill(one);
    assert_eq!(world.engine.account().free, 40);
}

#[test]
fn whoever_may_still_bring_a_descriptor_is_awaited() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    world.granted(one, Body::Create(ask::create_named("a", 2)));
    world.granted(two, ask::open("a", Access::ReadOnly));
    world.restart(|_| false);
    world.processes.get_mut(&two).unwrap().tidy = false;
    world.reattach(two);
    world.pass(60_000);
    assert_eq!(lost(&world, two), 0, "the other lives, and may come");
    world.reattach(one);
    world.granted(two, ask::refresh(1));
    world.restart(|_| false);
    world.reattach(two);
    world.pass(60_000);
    world.kill(one);
    assert_eq!(lost(&world, two), 1, "it died, and nobody is left to come");
}

#[test]
fn a_late_comer_has_as_long_as_the_others_had() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    world.restart(|_| false);
    world.pass(60_000);
    world.processes.get_mut(&alpha).unwrap().tidy = false;
    world.reattach(alpha);
    world.pass(4_999);
    assert_eq!(lost(&world, alpha), 0);
    world.pass(1);
    assert_eq!(lost(&world, alpha), 1);
}

#[test]
fn a_file_that_left_its_segment_is_watched_when_it_is_brought_back() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(ALPHA));
    let create = session::Create {
        piece_bytes: extents(1),
        ..ask::create_named("a", 2)
    };
    world.granted(one, Body::Create(create));
    world.granted(two, ask::open("a", Access::ReadOnly));
    world.granted(one, ask::resize(1, 1));
    world.restart(|_| false);
    // The second has not heard of the shrinking, and brings back everything it has.
    world.reattach(two);
    assert_eq!(world.watched.len(), 1);
    world.reattach(one);
    world.granted(two, ask::refresh(1));
    world.prove();
    assert_eq!(
        (
            world.engine.account().granted,
            world.engine.account().quarantined
        ),
        (1, 0)
    );
}

#[test]
fn what_is_freed_while_its_descriptors_are_lost_comes_back_all_the_same() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let create = session::Create {
        piece_bytes: extents(1),
        ..ask::create_named("a", 4)
    };
    world.granted(alpha, Body::Create(create));
    world.granted(alpha, ask::resize(1, 1));
    world.restart(|_| false);
    world.reattach(alpha);
    world.pass(5_000);
    world.done(alpha, ask::free(1, false));
    world.prove();
    assert_eq!(world.engine.account().free, 40);
}

#[test]
fn nothing_is_changed_while_descriptors_are_awaited() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let create = session::Create {
        piece_bytes: extents(1),
        ..ask::create_named("a", 3)
    };
    world.granted(alpha, Body::Create(create));
    world.done(alpha, ask::share(1, "beta", Access::ReadOnly));
    world.restart(|_| false);
    world.processes.get_mut(&alpha).unwrap().tidy = false;
    world.reattach(alpha);
    let before = laws::dump(&world.engine);
    for body in [
        ask::resize(1, 2),
        ask::resize(1, 4),
        ask::revoke(1, "beta"),
        ask::relocate(1, "pooled"),
        ask::open("a", Access::ReadOnly),
        ask::refresh(1),
    ] {
        assert_eq!(world.reason(alpha, body), ErrorReason::Busy);
        assert_eq!(laws::dump(&world.engine), before);
    }
}

#[test]
fn a_dead_client_is_told_from_one_that_is_not_back_yet() {
    let mut world = World::new(plan());
    let (one, two) = (world.attach(ALPHA), world.attach(BETA));
    world.granted(one, Body::Create(ask::create(2)));
    world.granted(two, Body::Create(ask::create(2)));
    world.restart(|_| true);
    world.pass(600_000);
    assert_eq!(world.engine.account().granted, 4, "awaited for ever");
    world.kill(one);
    world.prove();
    assert_eq!(world.engine.account().granted, 2);
}

#[test]
fn after_a_new_boot_only_what_lies_whole_on_persistent_devices_is_left() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let pooled = |create| session::Create {
        tier: "pooled".into(),
        ..create
    };
    world.granted(alpha, Body::Create(ask::create_kept("volatile", 2)));
    world.granted(alpha, Body::Create(pooled(ask::create_named("held", 2))));
    world.granted(alpha, Body::Create(pooled(ask::create_kept("kept", 2))));
    let kept = SegmentId::new(3).unwrap();
    world.write(alpha, kept, 6);
    // Moved just before: its old files are in quarantine, and go with the boot.
    world.granted(alpha, Body::Create(ask::create_kept("moved", 2)));
    let moved = SegmentId::new(4).unwrap();
    world.write(alpha, moved, 7);
    world.granted(alpha, ask::relocate(4, "pooled"));
    world.reboot();
    world.prove();
    let left: Vec<_> = world.engine.segments.keys().copied().collect();
    assert_eq!(left, [kept, moved]);
    assert!(world.engine.clients.is_empty());
    assert_eq!(world.engine.account().free, 36);
    let alpha = world.attach(ALPHA);
    for (name, id, number) in [("kept", kept, 6), ("moved", moved, 7)] {
        world.granted(alpha, ask::open(name, Access::ReadWrite));
        assert_eq!(world.read(alpha, id), [number, number]);
    }
}

#[test]
fn a_persistent_file_that_is_missing_after_a_boot_is_said_lost() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let create = session::Create {
        tier: "pooled".into(),
        ..ask::create_kept("kept", 2)
    };
    world.granted(alpha, Body::Create(create));
    world.files.clear();
    world.reboot();
    world.pass(5_000);
    assert!(world.published.contains(&"segment-lost".to_owned()));
    assert_eq!(world.engine.account().free, 40);
}
