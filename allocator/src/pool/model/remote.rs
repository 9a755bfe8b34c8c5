//! Blocks that others free, while their owner lives.

use pool_core::sync::atomic::Ordering::Relaxed;

use super::{Client, leaves_none};
use crate::model::{Found, of_eight, of_two_words, with_frames};

/// Catches: pool.hints_before_it_tells
#[test]
fn a_block_that_another_process_frees_is_given_out_again_once() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let mut blocks = owner.take_all(class);
        let block = blocks.swap_remove(3);
        let freer = start.spawn(move || {
            other.free(block);
            other
        });
        owner.hear();
        let early = owner.local.pop(class);
        assert_eq!(early, None);
        let _other = freer.join().unwrap();
        owner.hear();
        leaves_none(&owner, block);
        Found::default()
            .and(blocks)
            .and(owner.take_all(class))
            .are_all(1, class);
    });
}

/// Catches: pool.tells_relaxed
#[test]
fn what_was_in_a_block_is_there_for_whoever_is_given_it() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let mut blocks = owner.take_all(class);
        let block = blocks.swap_remove(3);
        let freer = start.spawn(move || {
            other.free(block);
            other
        });
        let early = owner.take(class);
        let _other = freer.join().unwrap();
        Found::default()
            .and(blocks)
            .and(early)
            .and(owner.take_all(class))
            .are_all(1, class);
    });
}

/// Catches: pool.forgets_what_came_meanwhile
#[test]
fn no_bit_of_two_processes_is_overlooked() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let mut owner = Client::new(1);
        let mut blocks = owner.take_all(class);
        let freed = [3, 4].map(|place| blocks.swap_remove(place));
        let freers = [0, 1].map(|place| {
            let (block, mut other) = (freed[place], Client::new(2 + place));
            start.spawn(move || {
                other.free(block);
                other
            })
        });
        owner.hear();
        let _others = freers.map(|freer| freer.join().unwrap());
        owner.hear();
        for block in freed {
            leaves_none(&owner, block);
        }
        Found::default()
            .and(blocks)
            .and(owner.take_all(class))
            .are_all(1, class);
    });
}

#[test]
fn the_last_block_that_two_free_is_counted_and_given_out_once() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let block = owner.take(class).expect("there is a frame");
        let freer = start.spawn(move || {
            let is_freed = other.local.free(&other.process, block).is_ok();
            (other, is_freed)
        });
        let is_freed = owner.local.free(&owner.process, block).is_ok();
        let (_other, is_told) = freer.join().unwrap();
        owner.hear();
        let twice = owner.process.control.freed_twice.load(Relaxed);
        assert_eq!(u64::from(is_freed) + u64::from(is_told), 1 + twice);
        Found::default()
            .and(owner.take_all(class))
            .are_all(1, class);
    });
}

/// Catches: pool.hints_before_it_tells
#[test]
fn no_word_that_another_process_tells_of_is_overlooked() {
    with_frames(1).model(|start| {
        let class = of_two_words();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let mut blocks = owner.take_all(class);
        // Of both words, each of which is told of by itself.
        let (second, first) = (blocks.swap_remove(100), blocks.swap_remove(5));
        let freer = start.spawn(move || {
            other.free(first);
            other.free(second);
            other.end()
        });
        owner.hear();
        let _other = freer.join().unwrap();
        owner.hear();
        leaves_none(&owner, first);
        leaves_none(&owner, second);
        Found::default()
            .and(blocks)
            .and(owner.take_all(class))
            .are_all(1, class);
    });
}
