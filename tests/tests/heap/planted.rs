//! Bugs that a heap is likely to have, and that the deaths of [`super::points`] bring to light.

use super::cases::{ALLOCATIONS, Case, DOOMED, ENDS, LINKS, RECOVERIES, SPARES};
use tierpool_tests::stepped::Stepped;

use super::points::run;
use super::scene::{Scene, works};

/// Whether a death in an act shows that the kin has `bug`. Without it nothing is shown.
fn is_caught(bug: &str, cases: &[Case], act: &str, death: Option<(&str, u64)>) -> bool {
    let cases = cases.iter().filter(|case| case.act == act);
    let mut caught = false;
    for case in cases {
        run(case, death, None).expect("the heap has no bug of its own");
        caught |= run(case, death, Some(bug)).is_err();
    }
    caught
}

/// Catches: pool.unmarks_before_it_frees
#[test]
fn a_block_that_is_published_before_it_is_free_is_caught() {
    let death = Some(("heap.freed_pending", 1));
    let bug = "pool.unmarks_before_it_frees";
    assert!(is_caught(bug, ALLOCATIONS, "free 64 100 pending", death));
}

/// Catches: pool.holds_before_it_marks
#[test]
fn a_word_that_is_held_before_it_is_marked_is_caught() {
    let death = Some(("heap.word_marked", 1));
    let bug = "pool.holds_before_it_marks";
    assert!(is_caught(bug, ALLOCATIONS, "allocate 64 62", death));
}

/// Catches: pool.drains_in_the_wrong_order
#[test]
fn what_others_freed_and_is_forgotten_before_it_is_free_is_caught() {
    let death = Some(("heap.drained", 1));
    let bug = "pool.drains_in_the_wrong_order";
    assert!(is_caught(bug, &ENDS[1..], "rest", death));
}

/// Catches: recover.sweeps_before_it_rolls, recover.unmarks_before_it_frees
#[test]
fn a_recovery_in_the_wrong_order_is_caught() {
    let bug = "recover.sweeps_before_it_rolls";
    assert!(is_caught(bug, RECOVERIES, "recover", None));
    let bug = "recover.unmarks_before_it_frees";
    let death = Some(("heap.swept_word", 1));
    assert!(is_caught(bug, RECOVERIES, "recover", death));
}

/// Catches: cell.helps_without_a_note
#[test]
fn help_that_the_recovery_of_the_dead_does_not_find_is_caught() {
    let bug = "cell.helps_without_a_note";
    assert!(is_caught(bug, LINKS, "exchange", None));
}

/// Catches: cell.spares_nothing
#[test]
fn a_block_that_is_given_out_while_its_retirement_is_not_done_is_caught() {
    let bug = "cell.spares_nothing";
    assert!(is_caught(bug, SPARES, "hear-and-publish 64", None));
}

/// Catches: frames.frees_the_head_first
#[test]
fn frames_whose_head_is_free_before_the_rest_are_caught() {
    let bug = "frames.frees_the_head_first";
    let death = Some(("heap.frame_released", 1));
    assert!(is_caught(bug, ALLOCATIONS, "free 700000 1 pending", death));
}

/// Catches: cell.clears_the_intent_first
#[test]
fn an_intent_that_is_cleared_before_the_cell_is_changed_is_caught() {
    let bug = "cell.clears_the_intent_first";
    let death = Some(("heap.intent_ended", 1));
    assert!(is_caught(bug, LINKS, "link 64", death));
}

/// Has a kin be stopped between when it finds doomed memory and when it gives that back, while the
/// test adds a chunk as well.
fn adds_at_once(bug: Option<&str>) -> Result<(), String> {
    let (mut scene, mut kin) = Scene::ready(&DOOMED, bug);
    let stepped = Stepped::attach(kin.child().id());
    scene.tell(&mut kin, "stops-at:heap.doomed_found 0");
    assert!(stepped.run());
    works(&scene.heap, &mut scene.mine, &mut scene.oracle)?;
    let block = scene.published(9_000_000);
    scene.oracle.keep.insert(block);
    let has_done = stepped.run();
    kin.kill(&scene.family);
    if !has_done {
        return Err("it failed".to_owned());
    }
    scene.judge()
}

/// Catches: chunks.claims_no_number
#[test]
fn two_that_give_the_same_memory_back_are_caught() {
    adds_at_once(None).expect("the heap has no bug of its own");
    assert!(adds_at_once(Some("chunks.claims_no_number")).is_err());
}
