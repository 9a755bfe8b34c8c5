//! A process dies between any two instructions of what it does, and all is as after a death at a
//! named point.
//!
//! The kin goes on instruction by instruction. After some of them the test takes a copy of all
//! shared memory, says that the kin is dead, and sees as another member what becomes of it, as
//! [`super::scene`] says; then it puts the copy back, and the kin takes its next step. What another
//! member can see of a process that was killed there is the same: all that it had stored.
//!
//! As many moments of each act are looked at as a test may take, all in the first instructions:
//! what comes later goes through frames that nobody has. With `TIERPOOL_EVERY_STEP=1` all are.

use tierpool_tests::blocks;
use tierpool_tests::stepped::Stepped;

use super::cases::{ALLOCATIONS, Case, ENDS, LINKS, RECOVERIES};
use super::scene::{Scene, WHOLE, judge_as, works};

/// How many moments of each act are looked at.
const LOOKS: u64 = 30;
/// And how many instructions of it are counted.
const COUNTED: u64 = 12_000;
/// Who looks. The test is member 1, and dead as well.
const OBSERVER: usize = 9;

/// The scene, and the kin before its act.
fn begun(case: &Case) -> (Scene, tierpool_tests::kin::Told, Stepped) {
    let (scene, mut kin) = Scene::ready(case, None);
    let stepped = Stepped::attach(kin.child().id());
    scene.tell(&mut kin, "stops 0");
    assert!(stepped.run());
    (scene, kin, stepped)
}

/// How many instructions an act has, or as many as are looked at.
fn count(case: &Case, most: u64) -> u64 {
    let (scene, kin, stepped) = begun(case);
    let count = (0..most).find(|_| !stepped.step()).unwrap_or(most);
    kin.kill(&scene.family);
    count
}

/// Looks at each `stride`th moment among the first `count` of an act.
fn look(case: &Case, count: u64, stride: u64) -> Result<u64, String> {
    let (mut scene, kin, stepped) = begun(case);
    scene.mine.rest().expect(WHOLE);
    let mut looks = 0;
    for step in 0..=count {
        if step.is_multiple_of(stride) {
            looks += 1;
            let memory = scene.family.remember();
            (1..OBSERVER).for_each(|member| scene.family.bury(member));
            let seen = judge_as(&scene, OBSERVER);
            scene.family.restore(&memory);
            seen.map_err(|why| format!("{}, after {step} steps: {why}", case.act))?;
        }
        if step == count || !stepped.step() {
            break;
        }
    }
    kin.kill(&scene.family);
    let end = scene.judge();
    end.map_err(|why| format!("{}, at its end: {why}", case.act))?;
    Ok(looks)
}

/// Stops a kin after some instructions of an act, which it goes on with once the test has done what
/// others may: they do not wait for it, and nothing that they do is undone by it.
fn stopped_after(case: &Case, steps: u64) -> Result<(), String> {
    let (mut scene, kin, stepped) = begun(case);
    let has_run = (0..steps).all(|_| stepped.step());
    let value = scene.heap.load(scene.cell).expect(WHOLE);
    let block = usize::try_from(value).expect(WHOLE);
    if scene.oracle.tied.contains(&block) && case.act.starts_with("link") {
        blocks::retire(&mut scene.mine, scene.cell, block, 0).map_err(|why| why.to_string())?;
        scene.oracle.values = vec![0];
    }
    works(&scene.heap, &mut scene.mine, &mut scene.oracle)?;
    if has_run {
        assert!(stepped.run());
    }
    kin.kill(&scene.family);
    scene.oracle.is_done = true;
    scene.judge()
}

fn stopped_at_many_steps(cases: &[Case], moments: u64) {
    let mut failed = Vec::new();
    // Nobody frees a block while another one resizes it.
    for case in cases.iter().filter(|case| !case.act.starts_with("resize")) {
        let count = count(case, COUNTED);
        for moment in 0..moments {
            let steps = count * moment / moments;
            if let Err(why) = stopped_after(case, steps) {
                failed.push(format!("{}, after {steps} steps: {why}", case.act));
            }
        }
    }
    println!("{} acts, {moments} moments of each", cases.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn at_many_steps(cases: &[Case]) {
    let every = std::env::var("TIERPOOL_EVERY_STEP").is_ok();
    let (mut steps, mut looks, mut failed) = (0, 0, Vec::new());
    for case in cases {
        let count = count(case, if every { u64::MAX } else { COUNTED });
        // Odd, so that no loop of the code hides a place of it.
        let stride = if every { 1 } else { (count / LOOKS) | 1 };
        steps += count;
        match look(case, count, stride) {
            Ok(looked) => looks += looked,
            Err(why) => failed.push(why),
        }
    }
    let acts = cases.len();
    println!("{acts} acts, {steps} instructions, {looks} moments");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn who_dies_between_any_instructions_of_an_allocation_or_a_free_loses_nothing() {
    at_many_steps(ALLOCATIONS);
}

#[test]
fn who_dies_between_any_instructions_of_a_link_has_linked_or_has_not() {
    at_many_steps(LINKS);
}

#[test]
fn who_dies_between_any_instructions_of_its_end_leaves_it_to_others() {
    at_many_steps(ENDS);
}

#[test]
fn who_dies_between_any_instructions_of_a_recovery_is_recovered_with_the_other() {
    at_many_steps(RECOVERIES);
}

#[test]
fn nobody_waits_for_who_is_stopped_while_it_links_and_what_is_linked_may_be_retired() {
    stopped_at_many_steps(&LINKS[..3], 30);
}

#[test]
fn nobody_waits_for_who_is_stopped_while_it_allocates_or_frees() {
    stopped_at_many_steps(ALLOCATIONS, 3);
    stopped_at_many_steps(ENDS, 3);
}
