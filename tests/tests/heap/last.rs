//! The quick ways by which a thread publishes and frees: the block that it was given last, and
//! blocks that it freed and keeps in front.
//!
//! Blocks of 64 bytes are 64 to a word and 1,024 to a slab; 32 of them may be in front.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use allocator::pool::{HeapError, PoolHeap, ThreadHeap};
use tierpool_tests::blocks::{allocate, free, link, publish, retire};
use tierpool_tests::family::Family;

use super::scene::WHOLE;

/// What the status of a test is that fails.
const FAILED: i32 = 101;
/// Two words of blocks of 64 bytes, and two of a third one.
const WORDS: usize = 130;

fn take(mine: &mut ThreadHeap, count: usize, bytes: usize) -> Vec<usize> {
    let blocks = std::iter::repeat_with(|| allocate(mine, bytes).expect(WHOLE));
    blocks.take(count).collect()
}

/// So many published blocks.
fn take_published(mine: &mut ThreadHeap, count: usize, bytes: usize) -> Vec<usize> {
    let blocks = take(mine, count, bytes);
    for &block in &blocks {
        publish(mine, block).expect(WHOLE);
    }
    blocks
}

/// Takes so many more, of which each is given out once, and none that is in `live`.
fn take_apart(mine: &mut ThreadHeap, count: usize, bytes: usize, live: &[usize]) -> Vec<usize> {
    let more = take(mine, count, bytes);
    let all: BTreeSet<usize> = more.iter().chain(live).copied().collect();
    assert_eq!(all.len(), more.len() + live.len(), "one is given out twice");
    more
}

fn is_double(freed: Result<(), HeapError>) -> bool {
    matches!(freed, Err(HeapError::DoubleFree { .. }))
}

fn is_not_pending(published: Result<(), HeapError>) -> bool {
    matches!(published, Err(HeapError::NotPending { .. }))
}

/// Frees what is left. Nothing is odd then, and everything is free.
fn ends(heap: &PoolHeap, mut mine: ThreadHeap, live: &[usize]) {
    for &block in live {
        free(&mut mine, block).expect(WHOLE);
    }
    mine.rest().expect(WHOLE);
    let audit = heap.audit().expect(WHOLE);
    assert_eq!(audit.findings, [], "{audit:?}");
    assert_eq!(audit.freed_twice, 0, "{audit:?}");
    assert_eq!(audit.free_frames, audit.frames, "{audit:?}");
}

#[test]
fn the_last_block_of_a_word_that_is_not_held_goes_past_the_held_one() {
    let family = Family::new();
    let heap = family.heap(1);
    let mut mine = heap.thread().unwrap();
    let mut live = take_published(&mut mine, WORDS, 64);
    let old = live[0];
    free(&mut mine, old).unwrap();
    assert_eq!(allocate(&mut mine, 64).unwrap(), old);
    free(&mut mine, old).unwrap();
    live.remove(0);
    let more = take_apart(&mut mine, 1_024 - live.len(), 64, &live);
    assert!(more.contains(&old), "it is lost");
    live.extend(more);
    ends(&heap, mine, &live);
}

#[test]
fn a_block_in_front_is_neither_freed_nor_published_again() {
    let family = Family::new();
    let heap = family.heap(1);
    let mut mine = heap.thread().unwrap();
    let mut live = take_published(&mut mine, WORDS, 64);
    let fronts: Vec<usize> = live.drain(..3).collect();
    for &block in &fronts {
        free(&mut mine, block).unwrap();
        for &freed in fronts.iter().take_while(|&&it| it != block) {
            assert!(is_double(free(&mut mine, freed)));
        }
        assert!(is_double(free(&mut mine, block)));
        assert!(is_not_pending(publish(&mut mine, block)));
    }
    let again = take_apart(&mut mine, 3, 64, &live);
    assert!(fronts.iter().all(|it| again.contains(it)));
    live.extend(again);
    live.extend(take_apart(&mut mine, 200, 64, &live));
    ends(&heap, mine, &live);
}

/// Has a block be told by `theirs` while it is the last one of `mine`.
fn last_is_told(mine: &mut ThreadHeap, theirs: &mut ThreadHeap, bytes: usize) {
    let told = take_published(mine, 1, bytes)[0];
    free(theirs, told).expect(WHOLE);
    for _ in 0..2 {
        assert!(is_double(free(mine, told)), "{bytes}");
        assert!(is_not_pending(publish(mine, told)), "{bytes}");
    }
    // It is neither given out before the owner hears of it, nor twice afterwards.
    let kept = take(mine, 1, bytes);
    assert_ne!(kept[0], told, "{bytes}");
    mine.rest().expect(WHOLE);
    let more = take_apart(mine, 70, bytes, &kept);
    assert!(more.contains(&told), "{bytes}");
    for block in more.into_iter().chain(kept) {
        free(mine, block).expect(WHOLE);
    }
}

#[test]
fn the_last_block_that_another_freed_is_not_freed_by_its_owner() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let mut mine = first.thread().unwrap();
    for bytes in [64, 16, 5_000] {
        last_is_told(&mut mine, &mut second.thread().unwrap(), bytes);
        last_is_told(&mut mine, &mut first.thread().unwrap(), bytes);
    }
    ends(&first, mine, &[]);
}

#[test]
fn the_last_block_whose_owner_heard_that_it_is_free_is_not_freed_again() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let (mut mine, mut theirs) = (first.thread().unwrap(), second.thread().unwrap());
    let root = first.root("root").unwrap();
    let linked = allocate(&mut mine, 64).unwrap();
    link(&mut mine, root, 0, linked).unwrap();
    let heard = take_published(&mut mine, 1, 64)[0];
    free(&mut theirs, heard).unwrap();
    drop(theirs);
    // Whoever retires a block of its own looks at once at what others freed beside it.
    retire(&mut mine, root, linked, 0).unwrap();
    assert!(is_double(free(&mut mine, heard)));
    assert!(is_not_pending(publish(&mut mine, heard)));
    let live = take_apart(&mut mine, 1_024, 64, &[]);
    assert!(live.contains(&heard) && live.contains(&linked));
    ends(&first, mine, &live);
}

#[test]
fn the_last_block_is_forgotten_once_it_is_freed_past_the_quick_way() {
    let family = Family::new();
    let heap = family.heap(1);
    let mut mine = heap.thread().unwrap();
    let mut live = take_published(&mut mine, WORDS, 64);
    let old = live.remove(0);
    free(&mut mine, old).unwrap();
    for is_published in [true, false] {
        assert_eq!(allocate(&mut mine, 64).unwrap(), old);
        if is_published {
            publish(&mut mine, old).unwrap();
        }
        free(&mut mine, old).unwrap();
        assert!(is_not_pending(publish(&mut mine, old)));
        assert!(is_double(free(&mut mine, old)));
    }
    live.extend(take_apart(&mut mine, 1_024 - live.len(), 64, &live));
    assert!(live.contains(&old));
    ends(&heap, mine, &live);
}

/// Frees the last block, once.
fn last_is_freed_once(mine: &mut ThreadHeap, last: usize, (bytes, live): (usize, &[usize])) {
    free(mine, last).expect(WHOLE);
    assert!(is_double(free(mine, last)), "{bytes}");
    assert!(is_not_pending(publish(mine, last)), "{bytes}");
    assert_eq!(take_apart(mine, 1, bytes, live)[0], last);
}

#[test]
fn the_last_block_is_freed_once_after_a_class_was_asked_for_in_vain() {
    let family = Family::new();
    let heap = family.heap(1);
    family.limit(1);
    let mut mine = heap.thread().unwrap();
    let mut live = take(&mut mine, 1, 64);
    let refused = loop {
        match allocate(&mut mine, 8_000) {
            Ok(block) => live.push(block),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, HeapError::Exhausted(_)), "{refused:?}");
    // Its own class, and another one.
    let last = live.pop().unwrap();
    last_is_freed_once(&mut mine, last, (8_000, &live));
    live.push(last);
    let last = allocate(&mut mine, 64).unwrap();
    assert!(allocate(&mut mine, 7_000).is_err());
    last_is_freed_once(&mut mine, last, (64, &live));
    live.push(last);
    ends(&heap, mine, &live);
}

#[test]
fn a_full_slab_of_which_blocks_are_freed_quickly_is_found_again() {
    let family = Family::new();
    let heap = family.heap(1);
    let mut mine = heap.thread().unwrap();
    let mut live = take_published(&mut mine, 3 * 1_024, 64);
    let used = || {
        let audit = heap.audit().unwrap();
        audit.frames - audit.free_frames
    };
    let before = used();
    // Half of each word, so that no word is free as a whole, and then all. 32 go to the front.
    for step in [2, 1] {
        live.sort_unstable();
        let freed: Vec<usize> = live.iter().copied().step_by(step).collect();
        for &block in &freed {
            free(&mut mine, block).unwrap();
        }
        live.retain(|block| freed.binary_search(block).is_err());
        let more = take_apart(&mut mine, freed.len(), 64, &live);
        for &block in &more {
            publish(&mut mine, block).unwrap();
        }
        live.extend(more);
        assert_eq!(used(), before, "{step}");
    }
    ends(&heap, mine, &live);
}

#[test]
fn no_block_begins_where_a_slab_has_no_room_for_it() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let (mut mine, mut theirs) = (first.thread().unwrap(), second.thread().unwrap());
    let block = allocate(&mut mine, 48).unwrap();
    let tail = block - block % (64 << 10) + 1_365 * 48;
    assert_eq!(tail / (64 << 10), block / (64 << 10));
    let is_none = |done| matches!(done, Err(HeapError::NoBlock { .. }));
    for heap in [&mut mine, &mut theirs] {
        assert!(is_none(free(heap, tail)));
        assert!(is_none(publish(heap, tail)));
    }
    drop(theirs);
    ends(&first, mine, &[block]);
}

/// Whether the law of this name fails in a process that has `bug`.
fn is_caught(bug: &str, law: &str) -> bool {
    let mut test = Command::new(std::env::current_exe().expect(WHOLE));
    test.args(["--exact", &format!("heap::last::{law}")]);
    test.stdout(Stdio::null()).stderr(Stdio::null());
    let status = test.env("TIERPOOL_BUG", bug).status().expect(WHOLE);
    status.code() == Some(FAILED)
}

/// Catches: pool.frees_the_last_into_another_word
#[test]
fn a_block_that_is_freed_into_another_word_is_caught() {
    let bug = "pool.frees_the_last_into_another_word";
    let law = "the_last_block_of_a_word_that_is_not_held_goes_past_the_held_one";
    assert!(is_caught(bug, law));
}

/// Catches: pool.frees_the_last_that_is_told
#[test]
fn a_last_block_that_is_freed_although_another_did_is_caught() {
    let bug = "pool.frees_the_last_that_is_told";
    let law = "the_last_block_that_another_freed_is_not_freed_by_its_owner";
    assert!(is_caught(bug, law));
}

/// Catches: pool.keeps_the_last_that_is_drained
#[test]
fn a_last_block_that_is_remembered_although_it_is_free_is_caught() {
    let bug = "pool.keeps_the_last_that_is_drained";
    let law = "the_last_block_whose_owner_heard_that_it_is_free_is_not_freed_again";
    assert!(is_caught(bug, law));
}
