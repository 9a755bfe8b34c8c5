//! Sealing a segment: who keeps it from being sealed, and what is refused from then on.

use pool_core::SegmentId;
use pool_proto::common::v1::{Access, ErrorClass, ErrorReason, Segment as SegmentMessage};
use pool_proto::session::v1 as session;
use session::{event, reply, request::Body};

use super::ask;
use super::plans::{ALPHA, BETA, plan};
use super::process::Pid;
use super::world::World;

const READ: Access = Access::ReadOnly;
const WRITE: Access = Access::ReadWrite;

/// A process that holds segment `a`, of two extents, and its number.
fn one() -> (World, Pid, u64) {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let created = world.granted(alpha, Body::Create(ask::create_kept("a", 2)));
    (world, alpha, created.segment_id)
}

/// What the next grant says of those who were given the segment to write.
fn writers(world: &mut World, pid: Pid, id: u64) -> u64 {
    match world.ask(pid, ask::refresh(id)) {
        reply::Body::Granted(granted) => granted.writers,
        other => panic!("not granted: {other:?}"),
    }
}

fn seal(world: &mut World, pid: Pid, id: u64) -> SegmentMessage {
    let writers = writers(world, pid, id);
    world.granted(pid, ask::seal(id, writers))
}

fn is_kept_from_it(world: &mut World, pid: Pid, id: u64) {
    let writers = writers(world, pid, id);
    let refused = world.refused(pid, ask::seal(id, writers));
    let said = (refused.class(), refused.reason());
    assert_eq!(
        said,
        (ErrorClass::Caller, ErrorReason::InUse),
        "{refused:?}"
    );
}

fn may_write_no_more(world: &mut World, pid: Pid, id: u64) {
    let asks = [
        ask::open("a", WRITE),
        ask::share(id, "beta", WRITE),
        ask::resize(id, 1),
        ask::resize(id, 4),
        ask::seal(id, 0),
    ];
    for ask in asks {
        assert_eq!(world.reason(pid, ask), ErrorReason::Sealed);
    }
}

#[test]
fn what_is_sealed_is_read_by_all_who_may_and_written_by_nobody() {
    let (mut world, alpha, id) = one();
    let number = SegmentId::new(id).unwrap();
    world.write(alpha, number, 7);
    let before = writers(&mut world, alpha, id);
    let reply::Body::Granted(granted) = world.ask(alpha, ask::seal(id, before)) else {
        panic!("not sealed");
    };
    assert_eq!(granted.access(), READ);
    assert!(granted.segment.unwrap().sealed);
    may_write_no_more(&mut world, alpha, id);
    world.write(alpha, number, 8);
    let (other, beta) = (world.attach(ALPHA), world.attach(BETA));
    assert!(world.granted(other, ask::open("a", READ)).sealed);
    world.done(alpha, ask::share(id, "beta", READ));
    let open = world.granted(beta, ask::open("alpha:a", READ));
    assert_eq!((open.holders, open.sealed), (3, true));
    assert_eq!(world.read(beta, number), [7, 7]);
    assert!(world.published.contains(&"segment-sealed".to_owned()));
    world.done(alpha, ask::free(id, true));
}

#[test]
fn another_writer_keeps_a_segment_from_being_sealed_and_a_reader_does_not() {
    let (mut world, alpha, id) = one();
    let other = world.attach(ALPHA);
    world.granted(other, ask::open("a", WRITE));
    is_kept_from_it(&mut world, alpha, id);
    // It is away, and may come back.
    world.disconnect(other);
    is_kept_from_it(&mut world, alpha, id);
    world.reattach(other);
    world.done(other, ask::close(id));
    world.granted(other, ask::open("a", READ));
    assert_eq!(
        world.reason(other, ask::seal(id, 0)),
        ErrorReason::NotPermitted
    );
    seal(&mut world, alpha, id);
    let told = |e: &event::Body| matches!(e, event::Body::Changed(it) if it.segment_id == id);
    assert!(world.processes[&other].events.iter().any(told));
}

#[test]
fn who_wrote_after_the_lines_were_dropped_keeps_a_segment_from_being_sealed() {
    let (mut world, alpha, id) = one();
    let before = writers(&mut world, alpha, id);
    let other = world.attach(ALPHA);
    world.granted(other, ask::open("a", WRITE));
    world.done(other, ask::close(id));
    let late = world.reason(alpha, ask::seal(id, before));
    assert_eq!(late, ErrorReason::InUse);
    // Nor does a restart make it forgotten.
    world.restart(|_| true);
    world.reattach(alpha);
    let late = world.reason(alpha, ask::seal(id, before));
    assert_eq!(late, ErrorReason::InUse);
    let due = writers(&mut world, alpha, id);
    world.restart(|_| true);
    world.reattach(alpha);
    world.granted(alpha, ask::seal(id, due));
}

#[test]
fn a_tenant_that_may_write_keeps_a_segment_from_being_sealed_until_its_share_is_revoked() {
    let (mut world, alpha, id) = one();
    let beta = world.attach(BETA);
    world.processes.get_mut(&beta).unwrap().tidy = false;
    world.done(alpha, ask::share(id, "beta", WRITE));
    is_kept_from_it(&mut world, alpha, id);
    world.granted(beta, ask::open("alpha:a", WRITE));
    world.done(beta, ask::close(id));
    is_kept_from_it(&mut world, alpha, id);
    world.granted(alpha, ask::revoke(id, "beta"));
    seal(&mut world, alpha, id);
}

#[test]
fn a_seal_outlives_the_daemon_and_is_made_once() {
    let (mut world, alpha, id) = one();
    let number = SegmentId::new(id).unwrap();
    world.write(alpha, number, 3);
    seal(&mut world, alpha, id);
    world.repeat(alpha);
    world.restart(|_| true);
    world.reattach(alpha);
    // The answer is repeated from the present state.
    world.repeat(alpha);
    let last = world.processes[&alpha].last_id;
    let reply::Body::Granted(again) = &world.processes[&alpha].answers[&last] else {
        panic!("not answered again");
    };
    assert_eq!(again.access(), READ);
    may_write_no_more(&mut world, alpha, id);
    world.done(alpha, ask::close(id));
    world.restart(|_| true);
    let alpha = world.attach(ALPHA);
    assert_eq!(
        world.reason(alpha, ask::open("a", WRITE)),
        ErrorReason::Sealed
    );
    world.granted(alpha, ask::open("a", READ));
    assert_eq!(world.read(alpha, number), [3, 3]);
}

#[test]
fn what_is_sealed_can_still_be_moved_and_taken_from_a_reader() {
    let (mut world, alpha, id) = one();
    let beta = world.attach(BETA);
    world.done(alpha, ask::share(id, "beta", READ));
    world.granted(beta, ask::open("alpha:a", READ));
    seal(&mut world, alpha, id);
    let moved = world.granted(alpha, ask::relocate(id, "pooled"));
    assert!(moved.sealed);
    let after = world.granted(alpha, ask::revoke(id, "beta"));
    assert!(after.incarnation > moved.incarnation && after.sealed);
    let open = ask::open("alpha:a", READ);
    assert_eq!(world.reason(beta, open), ErrorReason::NotFound);
}

#[test]
fn a_domain_is_not_sealed() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let domain = world.granted(alpha, Body::Create(ask::create_domain("d", 2)));
    let id = domain.segment_id;
    let due = writers(&mut world, alpha, id);
    assert_eq!(
        world.reason(alpha, ask::seal(id, due)),
        ErrorReason::NotPermitted
    );
}
