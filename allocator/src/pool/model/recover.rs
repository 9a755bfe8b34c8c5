//! What becomes of the dead, whoever looks after them at once, and whoever dies of those.

use pool_core::sync::atomic::Ordering::Relaxed;

use super::{Client, is_there, place_of, process};
use crate::model::{Found, of_eight, with_frames};
use crate::pool::control::Control;

/// The slot of member 1.
const SLOT: usize = 1;

/// How many slots were recovered.
fn recovered() -> u64 {
    Control::of_model().recovered.load(Relaxed)
}

/// A thread that died with some blocks of the one frame published, which are answered, and some
/// pending.
fn dead(member: usize) -> (Client, Vec<usize>) {
    let mut client = Client::new(member);
    let class = of_eight();
    let blocks = (0..4).filter_map(|_| client.take(class)).collect();
    client.take_pending(class).expect("eight blocks");
    (client.dies_at("", |_| ()), blocks)
}

/// Catches: recover.claims_by_a_store, recover.lets_go_of_the_claim_early
#[test]
fn two_that_recover_one_slot_do_it_once() {
    with_frames(1).model(|start| {
        let (_dead, kept) = dead(1);
        let mut mine = Client::new(2);
        let theirs = process(3, 1);
        let other = start.spawn(move || {
            let count = theirs.recover_dead();
            (theirs, count)
        });
        let count = mine.process.recover_dead();
        let (theirs, other_count) = other.join().unwrap();
        assert_eq!((count + other_count, recovered()), (1, 1));
        drop(theirs);
        for &block in &kept {
            is_there(&mine, block);
        }
        Found::default()
            .and(kept)
            .and(mine.take_all(of_eight()))
            .are_all(1, of_eight());
    });
}

#[test]
fn a_block_that_is_freed_while_two_recover_its_owner_is_free_once() {
    with_frames(1).model(|start| {
        let (_dead, mut kept) = dead(1);
        let (mut mine, mut third) = (Client::new(2), Client::new(3));
        let block = kept.swap_remove(1);
        // Who had the heap before has it again, and finds what it left.
        let later = process(1, 2);
        let recoverer = start.spawn(move || {
            later.recover(SLOT);
            later
        });
        // As whoever frees a block tells of it, once it has looked at it.
        let (slab, word, bit) = place_of(&third, block);
        let freer = start.spawn(move || {
            let place = (of_eight(), word);
            third.local.tell(&third.process, slab, place, bit);
            third
        });
        mine.process.recover(SLOT);
        let later = recoverer.join().unwrap();
        let mut third = freer.join().unwrap();
        assert_eq!(recovered(), 1);
        drop(later);
        for &block in &kept {
            is_there(&mine, block);
        }
        Found::default()
            .and(kept)
            .and(third.take_all(of_eight()))
            .and(mine.take_all(of_eight()))
            .are_all(1, of_eight());
    });
}

/// Catches: recover.unmarks_a_slot_of_others
#[test]
fn a_slot_that_is_had_again_while_it_is_recovered_is_found_when_its_thread_dies() {
    with_frames(1).model(|start| {
        let (_dead, kept) = dead(1);
        let mut mine = Client::new(2);
        let later = process(1, 2);
        let other = start.spawn(move || match later.take_slot() {
            Ok((slot, owner)) => Ok(Client::of(later, slot, owner).dies_at("", |later| {
                later.take_pending(of_eight());
            })),
            Err(_) => Err(later),
        });
        mine.process.recover_dead();
        let _dead = other.join().unwrap();
        mine.process.recover_dead();
        Found::default()
            .and(kept)
            .and(mine.take_all(of_eight()))
            .are_all(1, of_eight());
    });
}

/// Catches: recover.unmarks_before_it_frees
#[test]
fn a_recovery_whose_recoverer_dies_is_gone_on_with() {
    for point in [
        "heap.recovery_claimed",
        "heap.swept_word",
        "heap.drained",
        "heap.slab_left",
        "heap.slot_freed",
    ] {
        with_frames(1).model(move |start| {
            let (_dead, mut kept) = dead(1);
            let (mut mine, mut theirs) = (Client::new(2), Client::new(3));
            theirs.free(kept.swap_remove(1));
            let other = start.spawn(move || {
                theirs.dies_at(point, |theirs| {
                    theirs.process.recover_dead();
                })
            });
            mine.process.recover_dead();
            let _other = other.join().unwrap();
            mine.process.recover_dead();
            for &block in &kept {
                is_there(&mine, block);
            }
            Found::default()
                .and(kept)
                .and(mine.take_all(of_eight()))
                .are_all(1, of_eight());
        });
    }
}

#[test]
fn a_slab_that_the_dead_was_about_to_make_is_free() {
    for point in ["heap.slab_claimed", "heap.word_marked", "heap.word_held"] {
        with_frames(1).model(move |start| {
            let (mut mine, theirs) = (Client::new(1), Client::new(2));
            let other = start
                .spawn(move || theirs.dies_at(point, |theirs| _ = theirs.take_pending(of_eight())));
            mine.process.recover_dead();
            let _dead = other.join().unwrap();
            mine.process.recover_dead();
            Found::default()
                .and(mine.take_all(of_eight()))
                .are_all(1, of_eight());
        });
    }
}

/// Catches: pool.holds_before_it_marks
#[test]
fn a_block_that_the_dead_was_about_to_have_again_is_free() {
    for point in ["heap.word_marked", "heap.word_held"] {
        with_frames(1).model(move |start| {
            let class = of_eight();
            let (mut owner, mut other) = (Client::new(1), Client::new(2));
            let mut kept = owner.take_all(class);
            other.free(kept.swap_remove(3));
            let taker =
                start.spawn(move || owner.dies_at(point, |owner| _ = owner.take_pending(class)));
            other.process.recover_dead();
            let _dead = taker.join().unwrap();
            other.process.recover_dead();
            Found::default()
                .and(kept)
                .and(other.take_all(class))
                .are_all(1, class);
        });
    }
}

/// Catches: pool.drains_in_the_wrong_order
#[test]
fn a_block_that_the_dead_was_about_to_hear_of_is_free() {
    for point in ["heap.drained", "heap.drained_pending"] {
        with_frames(1).model(move |start| {
            let class = of_eight();
            let (mut owner, mut other) = (Client::new(1), Client::new(2));
            let mut kept = owner.take_all(class);
            let block = kept.swap_remove(3);
            let hearer = start.spawn(move || owner.dies_at(point, Client::hear));
            other.free(block);
            other.process.recover_dead();
            let _dead = hearer.join().unwrap();
            other.process.recover_dead();
            Found::default()
                .and(kept)
                .and(other.take_all(class))
                .are_all(1, class);
        });
    }
}

/// Catches: pool.unmarks_before_it_frees
#[test]
fn a_pending_block_that_the_dead_was_about_to_free_is_free() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let first = owner.take_pending(class).expect("eight blocks");
        let kept = owner.take_all(class);
        let freer =
            start.spawn(move || owner.dies_at("heap.freed_pending", |owner| owner.free(first)));
        other.process.recover_dead();
        let _dead = freer.join().unwrap();
        other.process.recover_dead();
        Found::default()
            .and(kept)
            .and(other.take_all(class))
            .are_all(1, class);
    });
}
