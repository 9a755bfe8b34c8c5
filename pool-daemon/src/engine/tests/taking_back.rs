//! What is held in the slots of evicted members that live, and of nobody, and how it is taken back.

use pool_core::SegmentId;
use pool_proto::common::v1::Access;
use pool_proto::session::v1::reply;

use super::ask;
use super::evictions::{RECALL_MS, Scene, UNIT, scene, seen};
use super::plans::ALPHA;
use super::process::Pid;
use crate::engine::command::{Command, Seen};

#[test]
fn what_an_evicted_member_takes_later_is_taken_back_in_place_and_is_as_it_was() {
    let mut scene = scene();
    scene.joins();
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.pass(2);
    assert!(scene.is_evicted(scene.second));
    assert!(scene.row().departed[0].evicted);
    let (incarnation, passes) = (scene.incarnation(), scene.world.domains.passes.len());
    scene.world.restart(|_| true);
    scene.world.reattach(scene.first);
    scene.world.work();
    scene.holds(UNIT, seen(&[2], 7, true));
    scene.recall(UNIT);
    scene.world.domains.recovered.clear();
    scene.pass(2);
    let taken_back = scene.world.domains.recovered[0];
    assert_eq!((taken_back.slots, taken_back.cut_off), (0b100, 0b100));
    assert_eq!(scene.incarnation(), incarnation, "nothing was copied");
    assert_eq!(scene.world.domains.passes.len(), passes);
    // Nobody gets its slot while its process lives.
    assert_eq!(scene.row().departed.len(), 1);
}

/// The second member is evicted, and takes the unit late.
fn held_late() -> Scene {
    let mut scene = scene();
    scene.holds(UNIT, seen(&[2], 1, true));
    scene.recall(UNIT);
    scene.pass(2);
    assert!(scene.is_evicted(scene.second));
    scene.holds(UNIT, seen(&[2], 7, true));
    scene
}

#[test]
fn what_was_to_be_taken_back_of_one_whose_slot_is_recovered_is_not_taken_from_the_next() {
    let mut scene = held_late();
    scene.world.prompt = false;
    scene.recall(UNIT);
    look(&mut scene, seen(&[2], 7, true));
    scene.world.pass(RECALL_MS);
    scene.world.domains.recovered.clear();
    // The last look, while the slot is recovered of one whose process has ended.
    scene.world.kill(scene.second);
    look(&mut scene, seen(&[2], 7, true));
    scene.world.prompt = true;
    scene.world.work();
    scene.pass(2);
    let recovered = scene.world.domains.recovered.iter();
    let slots: Vec<_> = recovered.map(|recovery| recovery.slots).collect();
    assert_eq!(slots, [0b100]);
}

#[test]
fn a_restart_knows_who_was_evicted_until_its_slot_is_recovered() {
    let mut scene = held_late();
    scene.world.prompt = false;
    scene.world.kill(scene.second);
    assert_eq!(scene.row().departed.len(), 1);
    scene.world.restart(|_| true);
    scene.world.prompt = true;
    scene.world.domains.recovered.clear();
    scene.world.reattach(scene.first);
    scene.world.work();
    let recovered = scene.world.domains.recovered.iter();
    let of_slot: Vec<_> = recovered.filter(|r| r.slots & 0b100 != 0).collect();
    assert_eq!(of_slot.len(), 1);
    assert_eq!(of_slot[0].cut_off, 0b100);
    assert!(scene.row().departed.is_empty());
}

/// The world has looked at the unit.
fn look(scene: &mut Scene, seen: Seen) {
    scene.world.step(Command::Looked {
        segment: SegmentId::new(scene.id).unwrap(),
        unit: UNIT,
        seen: Some(seen),
    });
}

/// One more member, and its slot.
fn joins(scene: &mut Scene) -> (Pid, u32) {
    let pid = scene.world.attach(ALPHA);
    match scene.world.ask(pid, ask::open("d", Access::ReadWrite)) {
        reply::Body::Granted(granted) => (pid, granted.slot),
        other => panic!("not granted: {other:?}"),
    }
}

fn cut_off(scene: &Scene) -> u32 {
    let id = SegmentId::new(scene.id).unwrap();
    scene.world.engine.domain(id).unwrap().cut_off
}

#[test]
fn nobody_is_cut_off_for_what_one_of_before_held_in_its_slot() {
    let mut scene = scene();
    let (third, slot) = joins(&mut scene);
    let both = seen(&[2, slot], 1, false);
    scene.holds(UNIT, both);
    scene.recall(UNIT);
    scene.world.prompt = false;
    scene.world.pass(RECALL_MS);
    // The last look, before the recovery of one whose process has ended comes to the unit.
    scene.world.kill(third);
    scene.world.end_awaited(third);
    look(&mut scene, both);
    scene.world.prompt = true;
    scene.world.work();
    scene.pass(2);
    assert!(scene.is_evicted(scene.second));
    assert_eq!(cut_off(&scene), 0b100);
    let (next, again) = joins(&mut scene);
    assert_eq!(again, slot);
    // It is a member as any other: it is not taken from it beside its back.
    scene.holds(UNIT, seen(&[slot], 9, true));
    scene.world.domains.recovered.clear();
    scene.recall(UNIT);
    scene.pass(2);
    assert!(scene.is_evicted(next));
    let recovered = scene.world.domains.recovered.iter();
    assert!(
        recovered
            .into_iter()
            .all(|pass| pass.slots & pass.members == 0)
    );
}

#[test]
fn a_slot_that_nobody_has_is_evicted_along_and_not_cut_off() {
    for slot in [0, 9] {
        let mut scene = scene();
        scene.holds(UNIT, seen(&[2], 1, true));
        scene.holds(9, seen(&[slot], 4, true));
        scene.recall(UNIT);
        scene.pass(5);
        assert!(scene.is_evicted(scene.second));
        assert_eq!(cut_off(&scene), 0b100);
    }
}

#[test]
fn what_is_held_in_a_slot_that_nobody_has_is_taken_back_and_nobody_gets_the_slot_meanwhile() {
    for slot in [0, 3] {
        let mut scene = scene();
        let before = scene.row();
        scene.world.domains.recovered.clear();
        let held = seen(&[slot], 1, true);
        scene.holds(UNIT, held);
        scene.recall(UNIT);
        scene.world.prompt = false;
        scene.world.pass(RECALL_MS);
        look(&mut scene, held);
        let opened = scene.world.attach(ALPHA);
        scene.world.send(opened, ask::open("d", Access::ReadWrite));
        scene.world.prompt = true;
        scene.world.work();
        let client = scene.world.client(opened);
        let id = SegmentId::new(scene.id).unwrap();
        let free = if slot == 3 { 4 } else { 3 };
        assert_eq!(scene.world.engine.slot_of(client, id), free);
        scene.pass(2);
        let passes = &scene.world.domains.recovered;
        let slots: Vec<_> = passes.iter().map(|pass| pass.slots).collect();
        assert_eq!(slots, [1 << slot]);
        assert!(!passes[0].in_order, "who forges words wakes nobody");
        assert!(scene.world.domains.seen.is_empty());
        let (_, next) = joins(&mut scene);
        assert_eq!(next, if slot == 3 { 3 } else { 4 });
        assert_eq!(scene.incarnation(), before.incarnation);
        assert!(scene.world.domains.passes.is_empty() && !scene.is_evicted(scene.second));
    }
}

#[test]
fn who_forges_words_again_and_again_has_one_pass_made_a_recall_time() {
    let mut scene = scene();
    scene.world.domains.recovered.clear();
    let tenth = |scene: &mut Scene, forges: &dyn Fn(u32) -> bool| {
        for unit in 0..40 {
            if forges(unit) {
                scene.holds(unit, seen(&[3 + unit % 29], 1, true));
            }
            if scene.world.domains.seen.contains_key(&unit) {
                scene.recall(unit);
            }
        }
        scene.world.pass(RECALL_MS / 10);
    };
    let times = 10;
    for now in 0..10 * times {
        tenth(&mut scene, &|unit| unit % 10 == now % 10);
    }
    let passes = scene.world.domains.recovered.len();
    assert!((2..=11).contains(&passes), "{passes}");
    for _ in 0..30 {
        tenth(&mut scene, &|_| false);
    }
    assert!(scene.world.domains.seen.is_empty(), "all is taken back");
    scene.pass(1);
    assert_eq!(scene.world.engine.next_deadline(), None);
}

#[test]
fn sleepers_are_woken_where_something_is_taken_back_from_one_that_lives() {
    let mut scene = held_late();
    scene.world.domains.recovered.clear();
    scene.recall(UNIT);
    scene.pass(2);
    let passes = scene.world.domains.recovered.iter();
    let passes: Vec<_> = passes.map(|pass| (pass.slots, pass.in_order)).collect();
    assert_eq!(passes, [(0b100, false)]);
}

#[test]
fn nobody_is_evicted_for_what_one_of_before_read_in_its_slot() {
    let mut scene = scene();
    let held = seen(&[2], 1, false);
    scene.holds(UNIT, held);
    scene.recall(UNIT);
    scene.world.done(scene.second, ask::close(scene.id));
    let (next, slot) = joins(&mut scene);
    assert_eq!(slot, 2);
    // It comes to read what is read in the same epoch, before the next look.
    scene.holds(UNIT, held);
    scene.pass(2);
    assert!(!scene.is_evicted(next));
}
