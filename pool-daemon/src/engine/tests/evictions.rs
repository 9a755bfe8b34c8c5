//! Evictions: who asks, who is told, who is evicted, and what becomes of files and slots.

use coherence::Epoch;
use pool_core::SegmentId;
use pool_core::limits::DOMAIN_RECALLS_MAX;
use pool_proto::common::v1::{Access, Coherence, ErrorReason};
use pool_proto::journal::v1 as row;
use pool_proto::session::v1 as session;
use session::{event, reply, request::Body};

use super::ask;
use super::plans::{ALPHA, GAMMA, extents, plan};
use super::process::Pid;
use super::world::World;
use crate::engine::command::{Seen, WorldError};
use crate::journal::{Record, Table};

pub(super) const UNIT: u32 = 3;
pub(super) const RECALL_MS: u64 = 1_000;
/// Of a recall time: what passes at once.
const TENTHS: u64 = 10;
/// Tenths of a recall time for which members that hand a unit to each other may hold an eviction
/// up. The promise, and not what the daemon has in its place.
const HELD_UP: u64 = 3 * TENTHS;
/// Tenths after which they are cut off: a recall time for who is evicted, those, and half of one
/// for the pauses between passes.
const CUT_OFF_BY: u64 = TENTHS + HELD_UP + TENTHS / 2;

/// A domain of alpha with two members, of which the second is at slot 2.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) first: Pid,
    pub(super) second: Pid,
    pub(super) id: u64,
}

pub(super) fn scene() -> Scene {
    scene_of(ALPHA, 3)
}

/// The second member is of this user.
fn scene_of(uid: u32, count: u32) -> Scene {
    let mut world = World::new(plan());
    let first = world.attach(ALPHA);
    let body = Body::Create(ask::create_domain("d", count));
    let id = world.granted(first, body).segment_id;
    if uid == GAMMA {
        world.done(first, ask::share(id, "gamma", Access::ReadWrite));
    }
    let second = world.attach(uid);
    let name = if uid == GAMMA { "alpha:d" } else { "d" };
    world.granted(second, ask::open(name, Access::ReadWrite));
    Scene {
        world,
        first,
        second,
        id,
    }
}

pub(super) fn seen(slots: &[u32], epoch: u32, writes: bool) -> Seen {
    Seen {
        holders: slots.iter().fold(0, |bits, slot| bits | 1 << slot),
        epoch: Epoch::new(epoch),
        writes,
        is_recalled: true,
        is_awaited: true,
    }
}

impl Scene {
    /// One more member.
    pub(super) fn joins(&mut self) -> Pid {
        let member = self.world.attach(ALPHA);
        let open = ask::open("d", Access::ReadWrite);
        self.world.granted(member, open);
        member
    }

    pub(super) fn holds(&mut self, unit: u32, seen: Seen) {
        self.world.domains.seen.insert(unit, seen);
    }

    pub(super) fn recall(&mut self, unit: u32) {
        self.world.done(self.first, ask::recall(self.id, unit));
    }

    /// So many recall times pass, in small steps.
    pub(super) fn pass(&mut self, times: u64) {
        (0..10 * times).for_each(|_| self.world.pass(RECALL_MS / 10));
    }

    pub(super) fn row(&self) -> row::SegmentRow {
        match &self.world.durable[&(Table::Segments, self.id)] {
            Record::Segment(row) => row.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.row().incarnation
    }

    fn was_told(&self, pid: Pid, what: impl Fn(&event::Body) -> bool) -> usize {
        let events = self.world.processes[&pid].events.iter();
        events.filter(|event| what(event)).count()
    }

    pub(super) fn is_evicted(&self, pid: Pid) -> bool {
        self.was_told(pid, |event| matches!(event, event::Body::Revoked(_))) > 0
    }

    fn recalls_told(&self, pid: Pid) -> usize {
        self.was_told(pid, |event| matches!(event, event::Body::Recalled(_)))
    }

    fn published(&self, kind: &str) -> usize {
        let kinds = self.world.published.iter();
        kinds.filter(|published| *published == kind).count()
    }
}

#[test]
fn who_lets_go_when_it_is_told_to_loses_nothing() {
    let mut scene = scene();
    let before = scene.incarnation();
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    assert_eq!(scene.recalls_told(scene.second), 1);
    assert_eq!(scene.recalls_told(scene.first), 0);
    scene.world.pass(RECALL_MS / 2);
    scene.world.domains.seen.clear();
    scene.pass(3);
    // Whoever holds it next is another one.
    scene.holds(UNIT, seen(&[2], 3, true));
    assert!(!scene.is_evicted(scene.second));
    assert_eq!(scene.incarnation(), before);
    assert_eq!(scene.world.engine.next_deadline(), None);
    assert!(scene.world.domains.passes.is_empty());
}

#[test]
fn a_writer_that_does_not_let_go_is_evicted_and_the_others_go_on() {
    let mut scene = scene();
    let before = scene.row();
    scene
        .world
        .write(scene.first, SegmentId::new(scene.id).unwrap(), 7);
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.pass(2);
    assert!(scene.is_evicted(scene.second) && !scene.is_evicted(scene.first));
    let after = scene.row();
    assert!(after.incarnation > before.incarnation);
    assert_eq!(after.backings[0], before.backings[0], "the directory stays");
    assert_ne!(after.backings[1], before.backings[1]);
    assert_eq!((after.eviction, after.departed.len()), (None, 1));
    let fenced: Vec<_> = scene
        .world
        .domains
        .passes
        .iter()
        .map(|p| (p.evicted, p.fences))
        .collect();
    assert_eq!(fenced, [(0b100, false), (0b100, true)]);
    let recovery = scene.world.domains.recovered.last().unwrap();
    assert_eq!(recovery.slots, 0b101);
    assert_eq!(
        recovery.contents_in.map(|i| i.number()),
        Some(after.incarnation)
    );
    assert!(recovery.settles);
    let changed = |event: &event::Body| matches!(event, event::Body::Changed(_));
    assert_eq!(scene.was_told(scene.first, changed), 1);
    let again = scene.world.granted(scene.first, ask::refresh(scene.id));
    assert_eq!(again.incarnation, after.incarnation);
    let contents = scene
        .world
        .read(scene.first, SegmentId::new(scene.id).unwrap());
    assert_eq!(contents, [7; 4]);
    // It comes back in another slot, for it could let go of what the next one in this one holds.
    let body = ask::open("d", Access::ReadWrite);
    let reply::Body::Granted(granted) = scene.world.ask(scene.second, body) else {
        panic!("not granted");
    };
    assert_eq!(granted.slot, 3);
    scene.world.kill(scene.second);
    let third = scene.world.attach(ALPHA);
    let body = ask::open("d", Access::ReadWrite);
    let reply::Body::Granted(granted) = scene.world.ask(third, body) else {
        panic!("not granted");
    };
    assert_eq!(granted.slot, 2);
    scene.world.prove();
    assert_eq!(
        scene.published("released"),
        1,
        "the old file is proven gone"
    );
}

#[test]
fn readers_are_evicted_who_do_not_let_go_of_what_is_recalled() {
    let mut scene = scene();
    let third = scene.joins();
    scene.holds(UNIT, seen(&[1, 2, 3], 1, false));
    scene.recall(UNIT);
    scene.world.pass(RECALL_MS / 2);
    scene.holds(UNIT, seen(&[2], 1, false));
    scene.world.pass(RECALL_MS / 4);
    // Who comes again was not there all the time.
    scene.holds(UNIT, seen(&[2, 3], 1, false));
    scene.pass(1);
    assert!(scene.is_evicted(scene.second));
    assert!(!scene.is_evicted(third) && !scene.is_evicted(scene.first));
}

#[test]
fn a_recall_that_nobody_follows_is_ended_and_one_that_somebody_follows_is_not() {
    let mut scene = scene();
    let left = |epoch| seen(&[], epoch, false);
    scene.holds(UNIT, left(1));
    scene.recall(UNIT);
    // Somebody had it in between.
    scene.holds(UNIT, left(2));
    scene.pass(1);
    assert!(scene.world.domains.rid_of_recalls.is_empty());
    scene.recall(UNIT);
    scene.world.pass(50);
    assert!(scene.world.domains.rid_of_recalls.is_empty());
    scene.pass(1);
    assert_eq!(scene.world.domains.rid_of_recalls, [UNIT]);
    assert_eq!(scene.recalls_told(scene.second), 0);
    assert!(!scene.is_evicted(scene.second));
}

#[test]
fn nobody_is_evicted_by_a_claim() {
    let mut scene = scene();
    let before = scene.incarnation();
    // Nobody holds it.
    scene.recall(UNIT);
    assert_eq!(scene.world.engine.next_deadline(), None);
    // Readers whom nobody waits for.
    let unasked = Seen {
        is_recalled: false,
        ..seen(&[2], 1, false)
    };
    scene.holds(UNIT, unasked);
    scene.recall(UNIT);
    scene.pass(3);
    // A writer that lets go and writes again: the epoch is another.
    for epoch in 1..40 {
        scene.holds(UNIT, seen(&[2], epoch, true));
        scene.recall(UNIT);
        scene.world.pass(RECALL_MS / 10);
    }
    // A process that waits for itself.
    scene.holds(UNIT, seen(&[1], 45, true));
    scene.recall(UNIT);
    scene.pass(3);
    assert!(!scene.is_evicted(scene.first));
    // One that may only read is kept out by no reader.
    let reader = scene.world.attach(ALPHA);
    scene
        .world
        .granted(reader, ask::open("d", Access::ReadOnly));
    scene.holds(UNIT, seen(&[2], 50, false));
    scene.world.done(reader, ask::recall(scene.id, UNIT));
    scene.pass(3);
    assert_eq!(scene.incarnation(), before);
    assert!(!scene.is_evicted(scene.second));
    // But by a writer it is.
    scene.holds(UNIT, seen(&[2], 51, true));
    scene.world.done(reader, ask::recall(scene.id, UNIT));
    scene.pass(2);
    assert!(scene.is_evicted(scene.second));
}

#[test]
fn who_waits_for_itself_and_keeps_others_waiting_is_evicted_for_these() {
    let mut scene = scene();
    scene.holds(UNIT, seen(&[1], 45, true));
    scene.recall(UNIT);
    let (second, id) = (scene.second, scene.id);
    scene.world.done(second, ask::recall(id, UNIT));
    scene.recall(UNIT);
    scene.pass(2);
    assert!(scene.is_evicted(scene.first) && !scene.is_evicted(second));
}

#[test]
fn recalls_are_bounded_and_doubled_ones_are_one() {
    let mut scene = scene();
    let most = u32::try_from(DOMAIN_RECALLS_MAX).unwrap();
    scene.world.prompt = false;
    for unit in 0..most {
        scene.holds(unit, seen(&[2], 1, true));
        for _ in 0..3 {
            scene.recall(unit);
        }
    }
    let one_more = ask::recall(scene.id, most);
    let refused = scene.world.refused(scene.first, one_more);
    assert_eq!(
        (refused.reason(), refused.limit),
        (ErrorReason::Limit, u64::from(most))
    );
    scene.world.work();
    assert_eq!(scene.recalls_told(scene.second), DOMAIN_RECALLS_MAX);
    for (segment_id, unit) in [(scene.id, u32::MAX), (77, 0)] {
        let reason = scene
            .world
            .reason(scene.first, ask::recall(segment_id, unit));
        assert_eq!(reason, ErrorReason::NotFound);
    }
    // All of them are one eviction.
    scene.world.prompt = true;
    scene.pass(2);
    assert_eq!(scene.published("member-evicted"), 1);
    assert!(scene.is_evicted(scene.second));
}

#[test]
fn who_writes_and_does_not_let_go_of_what_is_to_be_copied_is_evicted_as_well() {
    let mut scene = scene();
    let third = scene.joins();
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.holds(9, seen(&[3], 4, true));
    scene.holds(10, seen(&[1], 4, true));
    scene.recall(UNIT);
    scene.pass(1);
    assert!(!scene.is_evicted(scene.second), "others write");
    assert_eq!(scene.recalls_told(third), 1);
    // One answers, the other does not.
    scene.world.domains.seen.remove(&10);
    scene.pass(2);
    assert!(scene.is_evicted(scene.second) && scene.is_evicted(third));
    assert!(!scene.is_evicted(scene.first));
    assert_eq!(scene.row().departed.len(), 2);
}

#[test]
fn members_that_hand_a_unit_to_each_other_hold_up_an_eviction_for_three_recall_times() {
    let mut scene = scene();
    let third = scene.joins();
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    // The first and the third, by turns, each in an epoch of its own.
    let mut turns = 0;
    while !scene.is_evicted(scene.second) {
        turns += 1;
        assert!(turns <= CUT_OFF_BY, "not cut off after {turns} tenths");
        let slot = if turns % 2 == 0 { 1 } else { 3 };
        scene.holds(9, seen(&[slot], u32::try_from(turns).unwrap(), true));
        scene.world.pass(RECALL_MS / 10);
    }
    assert!(turns > HELD_UP, "they are cut off after {turns} tenths");
    let cut_off = [scene.first, third].map(|pid| scene.is_evicted(pid));
    assert!(cut_off.contains(&true) && scene.row().eviction.is_none());
}

#[test]
fn what_a_pass_has_missed_is_not_copied() {
    let mut scene = scene();
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.pass(1);
    let passes = scene.world.domains.passes.len();
    let mut scene = self::scene();
    scene.world.domains.misses = true;
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.pass(2);
    assert_eq!(scene.world.domains.passes.len(), passes + 1);
    assert!(scene.is_evicted(scene.second));
}

#[test]
fn nothing_is_recovered_beside_the_copy() {
    let mut scene = scene();
    scene.joins();
    let mut scene = half_evicted_of(scene, |scene| !scene.world.copying.is_empty());
    let (first, id) = (scene.first, scene.id);
    scene.world.done(first, ask::close(id));
    let before = scene.world.domains.recovered.len();
    while scene.world.finish_domain_work(true) {}
    scene.world.pass(RECALL_MS / 10);
    assert_eq!(scene.world.domains.recovered.len(), before);
    scene.world.prompt = true;
    scene.world.work();
    let after = &scene.world.domains.recovered[before..];
    assert!(after.iter().any(|recovery| recovery.slots & 0b10 != 0));
}

#[test]
fn an_eviction_without_room_changes_nothing_and_is_tried_again_after_a_pause() {
    // Alpha may have 16 extents.
    let mut scene = scene_of(ALPHA, 8);
    let before = scene.row();
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.pass(2);
    assert_eq!(scene.published("eviction-failed"), 1);
    assert_eq!(scene.row(), before);
    assert!(
        scene.world.domains.passes.is_empty(),
        "nobody was disturbed"
    );
    // Who still waits asks again.
    for _ in 0..30 {
        scene.recall(UNIT);
        scene.world.pass(RECALL_MS / 10);
    }
    let failed = scene.published("eviction-failed");
    assert!((2..=3).contains(&failed), "{failed}");
    assert!(!scene.is_evicted(scene.second));
}

#[test]
fn a_foreign_tenant_that_is_evicted_pays_for_what_it_keeps() {
    let mut scene = scene_of(GAMMA, 3);
    let used = |scene: &Scene, name: &str| {
        let tenants = scene.world.engine.tenants(crate::engine::Visible::All);
        let tenant = tenants.into_iter().find(|tenant| tenant.name == name);
        tenant.unwrap().tiers[0].used_bytes
    };
    scene.world.processes.get_mut(&scene.second).unwrap().tidy = false;
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.pass(2);
    assert!(scene.is_evicted(scene.second));
    assert_eq!(
        (used(&scene, "alpha"), used(&scene, "gamma")),
        (extents(4), extents(3))
    );
    scene.world.kill(scene.second);
    scene.world.prove();
    assert_eq!(used(&scene, "gamma"), 0);
}

/// How far an eviction has come.
type Stage = fn(&Scene) -> bool;

/// Brings an eviction to where `done` says, without any work of the world after it.
fn half_evicted(done: impl Fn(&Scene) -> bool) -> Scene {
    half_evicted_of(scene(), done)
}

fn half_evicted_of(mut scene: Scene, done: impl Fn(&Scene) -> bool) -> Scene {
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.world.prompt = false;
    for _ in 0..100 {
        if done(&scene) {
            return scene;
        }
        scene.world.pass(RECALL_MS / 10);
        if done(&scene) {
            return scene;
        }
        if !scene.world.building.is_empty() {
            scene.world.finish_build(0, Ok(()));
        } else if scene.world.copying.is_empty() {
            scene.world.finish_domain_work(true);
        } else {
            scene.world.finish_copy(Ok(()));
        }
    }
    panic!("it never came so far");
}

#[test]
fn a_restart_takes_an_eviction_up_where_the_journal_has_it() {
    let journaled = |scene: &Scene| scene.row().eviction;
    let stages: [(Stage, Option<bool>); 4] = [
        (|scene| !scene.world.building.is_empty(), None),
        (|scene| scene.row().eviction.is_some(), Some(false)),
        (|scene| !scene.world.copying.is_empty(), Some(false)),
        (
            |scene| scene.row().eviction.is_some_and(|e| e.ended),
            Some(true),
        ),
    ];
    for (stage, ended) in stages {
        let mut scene = half_evicted(stage);
        assert_eq!(journaled(&scene).map(|eviction| eviction.ended), ended);
        let (first, second) = (scene.first, scene.second);
        scene.world.domains.recovered.clear();
        scene.world.restart(|_| true);
        scene.world.reattach(first);
        scene.world.work();
        let found = scene.world.domains.recovered[0];
        assert_eq!(found.settles, ended != Some(false), "a writer may live");
        assert_eq!(found.slots & 0b100 != 0, ended == Some(true));
        assert_eq!(found.contents_in.is_some(), ended == Some(true));
        scene.world.prompt = true;
        scene.pass(1);
        let is_member = scene
            .world
            .engine
            .segments
            .values()
            .next()
            .unwrap()
            .holders
            .len()
            == 2;
        assert_eq!(
            is_member,
            ended.is_none(),
            "it is forgotten or brought to its end"
        );
        assert_eq!(journaled(&scene), None);
        scene.world.kill(second);
        scene.world.prove();
        assert_eq!(scene.world.engine.next_deadline(), None);
    }
}

#[test]
fn what_was_fenced_is_judged_only_after_a_copy_however_often_that_fails() {
    let mut scene = half_evicted(|scene| !scene.world.copying.is_empty());
    scene.world.domains.recovered.clear();
    let failure = WorldError::Os {
        call: "pread",
        errno: 5,
    };
    scene.world.finish_copy(Err(failure));
    scene.world.prompt = true;
    scene.world.work();
    assert_eq!(scene.published("eviction-failed"), 1);
    let let_go = scene.world.domains.recovered.pop().unwrap();
    assert_eq!((let_go.slots, let_go.settles), (0b001, false));
    assert!(scene.row().eviction.is_some_and(|eviction| !eviction.ended));
    scene.pass(3);
    assert!(scene.is_evicted(scene.second));
    assert_eq!(scene.row().eviction, None);
}

#[test]
fn an_eviction_ends_where_the_last_that_is_to_be_evicted_has_ended() {
    let mut scene = half_evicted(|scene| !scene.world.domains.passes.is_empty());
    let before = scene.incarnation();
    scene.world.prompt = true;
    scene.holds(9, seen(&[1], 4, true));
    scene.world.work();
    scene.world.kill(scene.second);
    scene.world.domains.seen.clear();
    scene.pass(2);
    assert_eq!(
        scene.incarnation(),
        before,
        "there was nobody to be cut off"
    );
    assert_eq!(
        (scene.row().eviction, scene.row().departed.len()),
        (None, 0)
    );
    assert_eq!(scene.world.engine.next_deadline(), None);
    assert!(scene.world.engine.jobs.is_empty());
}

#[test]
fn a_recall_time_is_bounded_told_and_journaled() {
    let mut scene = scene();
    let asked = |recall_ms| {
        let ask = ask::create_domain("", 1);
        let coherence = ask.coherence.map(|terms| Coherence { recall_ms, ..terms });
        Body::Create(session::Create { coherence, ..ask })
    };
    for recall_ms in [1, 49, 3_600_001, u32::MAX] {
        let refused = scene.world.refused(scene.first, asked(recall_ms));
        assert_eq!(
            refused.reason(),
            ErrorReason::OutOfRange,
            "{}",
            refused.message
        );
    }
    for (recall_ms, told) in [(0, 1_000), (50, 50), (3_600_000, 3_600_000)] {
        let granted = scene.world.granted(scene.first, asked(recall_ms));
        assert_eq!(granted.coherence.unwrap().recall_ms, told);
        let row = &scene.world.durable[&(Table::Segments, granted.segment_id)];
        assert!(matches!(row, Record::Segment(row) if row.coherence == granted.coherence));
        scene
            .world
            .done(scene.first, ask::close(granted.segment_id));
    }
}

#[test]
fn a_recovery_that_others_are_in_the_way_of_is_tried_again_and_nothing_is_called_corrupt() {
    let mut scene = scene();
    scene.world.domains.is_contended = true;
    scene.world.done(scene.second, ask::close(scene.id));
    scene.pass(1);
    assert_eq!(scene.published("domain-corrupt"), 0);
    assert!(scene.world.domains.recovered.len() > 2, "it is tried again");
    scene.world.domains.is_contended = false;
    scene.pass(1);
    assert_eq!(scene.world.engine.next_deadline(), None);
    let third = scene.world.attach(ALPHA);
    let body = ask::open("d", Access::ReadWrite);
    let reply::Body::Granted(granted) = scene.world.ask(third, body) else {
        panic!("not granted");
    };
    assert_eq!(granted.slot, 2);
}
