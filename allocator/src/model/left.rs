//! The stacks in which slabs are found that threads left.

use super::{Found, free, heap, of_eight, take, take_all, with_frames};
use crate::frame::Frame;
use crate::left;

/// What `count` frames are found as, each of them once.
fn assert_each_once(mut found: Vec<Frame>, count: usize) {
    found.sort_unstable_by_key(|frame| frame.index());
    let all: Vec<_> = (0..count).map(Frame::of_model).collect();
    assert_eq!(found, all);
}

/// Catches: left.counts_nothing
#[test]
fn a_slab_that_is_popped_and_pushed_again_brings_back_no_other() {
    with_frames(3).model(|start| {
        let class = of_eight();
        for number in 0..3 {
            left::push(Frame::of_model(number), class);
        }
        let other = start.spawn(move || {
            let (first, second) = (left::pop(class), left::pop(class));
            if let Some(first) = first {
                left::push(first, class);
            }
            second
        });
        let mine = left::pop(class);
        let theirs = other.join().unwrap();
        let rest = core::iter::from_fn(|| left::pop(class));
        let found = mine.into_iter().chain(theirs).chain(rest).collect();
        assert_each_once(found, 3);
    });
}

#[test]
fn of_two_that_push_and_two_that_pop_each_slab_is_had_once() {
    with_frames(3).model(|start| {
        let class = of_eight();
        left::push(Frame::of_model(0), class);
        let others = [1, 2].map(|number| {
            start.spawn(move || {
                left::push(Frame::of_model(number), class);
                left::pop(class)
            })
        });
        let mine = left::pop(class);
        let theirs = others.map(|other| other.join().unwrap());
        let rest = core::iter::from_fn(|| left::pop(class));
        let theirs = theirs.into_iter().flatten();
        assert_each_once(mine.into_iter().chain(theirs).chain(rest).collect(), 3);
    });
}

/// Who frees a block adopts the slab past its stack, and leaves it again, while somebody finds it
/// there.
///
/// Catches: left.clears_after_the_look, leave.stacks_before_it_abandons
#[test]
fn a_slab_that_is_left_once_more_is_not_forgotten() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other, mut third) = (heap(), heap(), heap());
        let mut blocks = take_all(&mut owner, class);
        let block = blocks.swap_remove(3);
        owner.end();
        let freer = start.spawn(move || {
            free(&mut other, block);
            other.end();
        });
        let early = take(&mut third, class);
        freer.join().unwrap();
        Found::default()
            .and(blocks)
            .and(early)
            .and_of(&mut third, class)
            .are_all(1, class);
    });
}
