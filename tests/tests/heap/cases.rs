//! What a kin may be about when it dies.

use tierpool_tests::kin::Told;

use super::scene::{Oracle, Scene, WHOLE, published};

/// An act, and what there is before it.
pub(crate) struct Case {
    /// What the kin is told: see the kin.
    pub(crate) act: &'static str,
    /// What the test does before the kin comes.
    pub(crate) before: fn(&mut Scene),
    /// And when it is ready.
    pub(crate) between: fn(&mut Scene),
}

const fn case(act: &'static str) -> Case {
    Case {
        act,
        before: nothing,
        between: nothing,
    }
}

const fn after(before: fn(&mut Scene), act: &'static str) -> Case {
    Case {
        act,
        before,
        between: nothing,
    }
}

const fn amid(between: fn(&mut Scene), act: &'static str) -> Case {
    Case {
        act,
        before: nothing,
        between,
    }
}

/// Of blocks that nobody reaches.
pub(crate) const ALLOCATIONS: &[Case] = &[
    case("allocate 64 1"),
    case("allocate 64 62"),
    case("reuse 64 128"),
    case("allocate 64 1022"),
    case("allocate 16 0"),
    case("allocate 16 4096"),
    case("allocate 5000 3"),
    case("allocate 20000 8"),
    case("allocate 100000 0"),
    case("allocate 700000 0"),
    amid(Scene::fill, "allocate 700000 0"),
    amid(Scene::fill, "allocate 100000 0"),
    amid(free_what_it_published, "allocate 64 62"),
    amid(free_what_it_published, "allocate 20000 8"),
    after(|scene| leave(scene, 64), "allocate 64 0"),
    after(|scene| leave(scene, 1_000), "allocate 1000 0"),
    after(|scene| leave(scene, 40_000), "allocate 40000 0"),
    case("publish 64"),
    case("publish 40000"),
    case("publish 700000"),
    case("free 64 3 pending"),
    case("free 64 100 pending"),
    case("free 64 3 published"),
    case("free 64 100 published"),
    case("free 5000 39 pending"),
    case("free 5000 39 published"),
    case("free 40000 20 pending"),
    case("free 40000 20 published"),
    case("free 700000 1 pending"),
    case("free 700000 1 published"),
    after(|scene| give(scene, 16, 70), "free-given"),
    after(|scene| give(scene, 5_000, 3), "free-given"),
    after(|scene| give(scene, 40_000, 8), "free-given"),
    after(|scene| give(scene, 700_000, 1), "free-given"),
    after(|scene| give_left(scene, 64), "free-given"),
    after(|scene| give_left(scene, 5_000), "free-given"),
    after(|scene| give_left(scene, 40_000), "free-given"),
];

/// Of blocks that are reached through a root.
pub(crate) const LINKS: &[Case] = &[
    case("link 64"),
    case("link 40000"),
    case("link 700000"),
    case("retire 64"),
    case("retire 40000"),
    case("retire 700000"),
    after(|scene| linked(scene, 64), "retire-given"),
    after(|scene| linked(scene, 40_000), "retire-given"),
    after(|scene| linked(scene, 700_000), "retire-given"),
    after(|scene| linked_and_left(scene, 64), "retire-given"),
    after(|scene| linked_and_left(scene, 40_000), "retire-given"),
    amid(|scene| half_linked(scene, "link 64"), "exchange"),
    amid(|scene| half_linked(scene, "link 700000"), "exchange"),
    amid(|scene| to_retire(scene, "link 64"), "retire-given"),
    amid(|scene| to_retire(scene, "link 40000"), "retire-given"),
    amid(|scene| to_retire(scene, "link 700000"), "retire-given"),
    amid(|scene| to_link_over(scene, "link 64"), "link-over 64"),
    amid(|scene| to_link_over(scene, "link 700000"), "link-over 64"),
    amid(|scene| half_retired(scene, "retire 64"), "link 300"),
    amid(|scene| half_retired(scene, "retire 700000"), "link 300"),
];

/// Of blocks that are told to be free by somebody who died in between.
pub(crate) const SPARES: &[Case] = &[
    amid(told_by_the_dead, "hear-and-publish 64"),
    amid(told_by_the_dead, "hear-and-publish 40000"),
];

/// Of what a thread or a process has.
pub(crate) const ENDS: &[Case] = &[
    case("rest"),
    amid(free_what_it_published, "rest"),
    case("end pending"),
    case("end nothing-pending"),
    case("end run"),
    case("end twice"),
    case("close"),
    case("thread"),
    case("root"),
    case("resize 700000 900000"),
    case("resize 700000 300000"),
    case("trim"),
    after(an_empty_chunk, "trim"),
];

/// A chunk is needed, and somebody died who was about to give one back.
pub(crate) const DOOMED: Case = amid(doomed, "allocate 9000000 0");

/// Of what others left when they died.
pub(crate) const RECOVERIES: &[Case] = &[
    amid(
        |scene| dead(scene, "allocate 64 62", "heap.word_held"),
        "recover",
    ),
    amid(
        |scene| dead(scene, "allocate 64 1022", "heap.slab_claimed"),
        "recover",
    ),
    amid(
        |scene| dead(scene, "allocate 700000 0", "heap.frame_taken"),
        "recover",
    ),
    amid(
        |scene| dead(scene, "free 40000 20 pending", "heap.tail_released"),
        "recover",
    ),
    amid(
        |scene| dead(scene, "allocate 700000 0", "heap.frames_marked"),
        "recover",
    ),
    amid(
        |scene| dead(scene, "link 64", "heap.intent_begun"),
        "recover",
    ),
    amid(|scene| linked_but_for_the_rest(scene, "link 64"), "recover"),
    amid(
        |scene| linked_but_for_the_rest(scene, "link 700000"),
        "recover",
    ),
    amid(|scene| half_retired(scene, "retire 64"), "recover"),
    amid(|scene| half_retired(scene, "retire 40000"), "recover"),
    amid(|scene| half_retired(scene, "retire 700000"), "recover"),
    amid(
        |scene| retired_but_for_the_cell(scene, "retire 64"),
        "recover",
    ),
    amid(
        |scene| retired_but_for_the_cell(scene, "retire 700000"),
        "recover",
    ),
    amid(|scene| helped(scene, "link 64"), "recover"),
    amid(|scene| helped(scene, "link 700000"), "recover"),
    amid(|scene| helped_to_retire(scene, "retire 64"), "recover"),
    amid(|scene| helped_to_retire(scene, "retire 700000"), "recover"),
    amid(half_trimmed, "recover"),
    amid(half_trimmed, "allocate 100000 9"),
    amid(half_trimmed, "trim"),
    DOOMED,
    amid(two_dead, "recover"),
    amid(told_and_left, "trim"),
];

fn nothing(_: &mut Scene) {}

/// What the kin published others free, so that it hears of it.
fn free_what_it_published(scene: &mut Scene) {
    let mut oracle = std::mem::take(&mut scene.oracle);
    for block in oracle
        .keep
        .iter()
        .copied()
        .skip(1)
        .step_by(2)
        .collect::<Vec<_>>()
    {
        tierpool_tests::blocks::free(&mut scene.mine, block).expect(WHOLE);
        oracle.keep.remove(&block);
    }
    scene.mine.rest().expect(WHOLE);
    scene.oracle = oracle;
}

/// Blocks of slabs that nobody owns.
fn left(scene: &Scene, bytes: usize) -> Vec<usize> {
    let mut thread = scene.heap.thread().expect(WHOLE);
    (0..10)
        .map(|_| published(&mut thread, bytes).expect(WHOLE))
        .collect()
}

fn leave(scene: &mut Scene, bytes: usize) {
    let left = left(scene, bytes);
    scene.oracle.keep.extend(left);
}

fn give(scene: &mut Scene, bytes: usize, count: usize) {
    scene.given = (0..count).map(|_| scene.published(bytes)).collect();
    scene.oracle.loses.extend(&scene.given);
}

fn give_left(scene: &mut Scene, bytes: usize) {
    scene.given = left(scene, bytes);
    scene.oracle.loses.extend(&scene.given);
}

/// A block that the root has.
fn linked(scene: &mut Scene, bytes: usize) {
    let block = scene.published(bytes);
    scene
        .heap
        .exchange(scene.cell, 0, block as u64)
        .expect(WHOLE);
    scene.given = vec![block];
    scene.oracle.tied.insert(block);
    scene.oracle.values = vec![0, block as u64];
}

fn linked_and_left(scene: &mut Scene, bytes: usize) {
    let left = left(scene, bytes);
    let block = left[3];
    scene.oracle.keep.extend(left);
    scene.oracle.keep.remove(&block);
    scene
        .heap
        .exchange(scene.cell, 0, block as u64)
        .expect(WHOLE);
    scene.given = vec![block];
    scene.oracle.tied.insert(block);
    scene.oracle.values = vec![0, block as u64];
}

/// Another dies, of whom nothing is to be seen at the root.
fn dead(scene: &mut Scene, act: &str, point: &str) {
    let known = std::mem::take(&mut scene.oracle);
    scene.another_dies(3, act, point);
    let told = std::mem::replace(&mut scene.oracle, known);
    assert_eq!((told.gains.len(), told.loses.len()), (0, 0), "{act}");
    scene.oracle.keep.extend(told.keep);
    // What it was about to link is not, and is nobody's.
}

/// Another dies that has marked the root; the block that it is about.
fn marked(scene: &mut Scene, act: &str, point: &str) -> usize {
    let known = std::mem::take(&mut scene.oracle);
    scene.another_dies(3, act, point);
    let told = std::mem::replace(&mut scene.oracle, known);
    let Oracle { keep, tied, .. } = told;
    scene.oracle.keep.extend(keep);
    tied.into_iter().next().expect("the block of the act")
}

/// The root has a mark for a block that is linked by it. An exchange is to take it out.
fn half_linked(scene: &mut Scene, act: &str) {
    let block = marked(scene, act, "heap.cell_marked");
    scene.oracle.keep.insert(block);
    scene.given = vec![block, 0];
    scene.oracle.values = vec![0, block as u64];
}

/// The same, and nobody takes it out.
fn linked_but_for_the_rest(scene: &mut Scene, act: &str) {
    half_linked(scene, act);
    scene.oracle.values = vec![scene.given[0] as u64];
}

fn to_retire(scene: &mut Scene, act: &str) {
    let block = marked(scene, act, "heap.cell_marked");
    scene.given = vec![block];
    scene.oracle.tied.insert(block);
    scene.oracle.values = vec![0, block as u64];
}

/// The root has a mark for a block, which stays published when it is put out of the root.
fn to_link_over(scene: &mut Scene, act: &str) {
    let new = scene.oracle.values[0];
    let block = marked(scene, act, "heap.cell_marked");
    scene.oracle.keep.insert(block);
    scene.given = vec![block];
    scene.oracle.values = vec![new, block as u64];
}

/// The root has a mark for a block that is retired by it.
fn half_retired(scene: &mut Scene, act: &str) {
    marked(scene, act, "heap.cell_marked");
    if scene.oracle.values.is_empty() {
        scene.oracle.values = vec![0];
    }
}

/// Another dies that has told the kin of a block of its, and not ended its retirement.
fn told_by_the_dead(scene: &mut Scene) {
    let block = *scene
        .oracle
        .tied
        .iter()
        .next()
        .expect("the kin has told of it");
    scene.given = vec![block];
    let known = std::mem::take(&mut scene.oracle);
    scene.another_dies(3, "retire-given", "heap.retired");
    let told = std::mem::replace(&mut scene.oracle, known);
    scene.oracle.keep.extend(told.keep);
    scene.oracle.tied.clear();
    scene.oracle.values = vec![0];
}

fn retired_but_for_the_cell(scene: &mut Scene, act: &str) {
    marked(scene, act, "heap.retired");
    scene.oracle.values = vec![0];
}

/// The last step of a link was done by the test.
fn helped(scene: &mut Scene, act: &str) {
    linked_but_for_the_rest(scene, act);
    let refused = scene.heap.exchange(scene.cell, 2, 4);
    assert!(refused.is_err());
}

fn helped_to_retire(scene: &mut Scene, act: &str) {
    half_retired(scene, act);
    let refused = scene.heap.exchange(scene.cell, 2, 4);
    assert!(refused.is_err());
    scene.oracle.values = vec![0];
}

/// A chunk without blocks, besides others.
fn an_empty_chunk(scene: &mut Scene) {
    let runs: Vec<_> = (0..3).map(|_| scene.published(31 << 20)).collect();
    for run in runs {
        tierpool_tests::blocks::free(&mut scene.mine, run).expect(WHOLE);
    }
}

fn half_trimmed(scene: &mut Scene) {
    an_empty_chunk(scene);
    dead(scene, "trim", "heap.chunk_left");
}

/// One that was about to retire a block of another one that died as well.
fn two_dead(scene: &mut Scene) {
    one_dies_amid(scene, |scene, last| scene.dies(last, "heap.cell_marked"));
}

/// One dies and leaves a block that `last` is about to retire.
fn one_dies_amid(scene: &mut Scene, end: impl FnOnce(&Scene, Told)) {
    let known = std::mem::take(&mut scene.oracle);
    // It comes before the first one dies, and so does not recover it.
    let last = scene.start(4, "retire-given", None);
    scene.another_dies(3, "link 40000", "heap.intent_ended");
    let told = std::mem::replace(&mut scene.oracle, known);
    scene.oracle.keep.extend(told.keep);
    scene.given = told.tied.into_iter().collect();
    end(scene, last);
    scene.oracle.values = vec![0];
}

/// A slab that nobody owns, and of which all is told to be free.
fn told_and_left(scene: &mut Scene) {
    one_dies_amid(scene, |scene, mut last| {
        scene.tell(&mut last, "heap.cell_marked 1");
        last.child().wait().expect(WHOLE);
        // Nobody knows yet that it is dead, so that its block is spared.
        assert_eq!(scene.heap.recover().expect(WHOLE), 1);
        last.wait(&scene.family);
    });
    assert_eq!(scene.heap.recover().expect(WHOLE), 1);
    let audit = scene.heap.audit().expect(WHOLE);
    assert!(
        audit
            .classes
            .iter()
            .any(|class| class.abandoned > 0 && class.told > 0)
    );
}

/// All chunks are full but one, which is about to be given back by somebody dead.
fn doomed(scene: &mut Scene) {
    let known = std::mem::take(&mut scene.oracle);
    let last = scene.start(3, "trim", None);
    let told = std::mem::replace(&mut scene.oracle, known);
    scene.oracle.keep.extend(told.keep);
    scene.fill();
    let run = scene.published(31 << 20);
    tierpool_tests::blocks::free(&mut scene.mine, run).expect(WHOLE);
    scene.dies(last, "heap.chunk_left");
}
