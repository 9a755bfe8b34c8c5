//! What evicted members that live hold late, and how it is taken back.

use pool_core::SegmentId;

use super::evictions::{RECALL_MS, Scene, UNIT, scene, seen};
use crate::engine::command::Command;

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
    let segment = SegmentId::new(scene.id).unwrap();
    let look = |scene: &mut Scene| {
        let seen = Some(seen(&[2], 7, true));
        let unit = UNIT;
        scene.world.step(Command::Looked {
            segment,
            unit,
            seen,
        });
    };
    look(&mut scene);
    scene.world.pass(RECALL_MS);
    scene.world.domains.recovered.clear();
    // The last look, while the slot is recovered of one whose process has ended.
    scene.world.kill(scene.second);
    look(&mut scene);
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
