//! Blocks that are linked and retired through a root.

use pool_core::sync::atomic::Ordering::Relaxed;

use super::{Client, is_there, leaves_none};
use crate::layout::FRAME_BYTES;
use crate::model::{Found, of_eight, touch, with_frames};
use crate::pool::control::Control;
use crate::pool::error::HeapError;

/// Where the one root is.
fn root() -> usize {
    core::ptr::from_ref(&Control::of_model().roots[0].cell).addr()
}

/// Whether something was done; the only reason why not is that the cell has something else.
fn is_done(outcome: Result<(), HeapError>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(HeapError::Changed { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

impl Client {
    fn link(&mut self, block: usize) -> bool {
        is_done(self.local.link(&self.process, (root(), 0), block))
    }

    fn retire(&mut self, block: usize) -> bool {
        is_done(self.local.retire(&self.process, (root(), 0), block))
    }

    /// What the root holds.
    fn load(&self) -> Option<usize> {
        let value = self.process.load(root()).expect("what a root may hold");
        Some(usize::try_from(value).unwrap()).filter(|&value| value != 0)
    }

    /// Changes what the root holds, and whether it did.
    fn exchange(&self, old: usize, new: usize) -> bool {
        is_done(self.process.exchange(root(), old as u64, new as u64))
    }

    /// Takes what the root holds out of it.
    fn unlinked_run(&self) -> Option<usize> {
        let run = self.load()?;
        self.exchange(run, 0).then_some(run)
    }

    /// The same, of a block.
    fn unlink(&self) -> Option<usize> {
        let block = self.unlinked_run()?;
        touch(block, of_eight());
        Some(block)
    }
}

/// All blocks of the frame, given out to `owner` and published, but one which is pending, or in the
/// root where `is_linked`.
fn with_one(owner: &mut Client, is_linked: bool) -> (Vec<usize>, usize) {
    let class = of_eight();
    let block = owner.take_pending(class).expect("eight blocks");
    let blocks = owner.take_all(class);
    if is_linked {
        assert!(owner.link(block));
    }
    (blocks, block)
}

#[test]
fn who_finds_a_block_that_is_being_linked_has_it_with_what_is_in_it() {
    with_frames(1).model(|start| {
        let (mut owner, other) = (Client::new(1), Client::new(2));
        let (blocks, block) = with_one(&mut owner, false);
        let finder = start.spawn(move || {
            let had = other.unlink();
            (other, had)
        });
        touch(block, of_eight());
        assert!(owner.link(block));
        let (mut other, early) = finder.join().unwrap();
        let had = early.or_else(|| other.unlink());
        assert_eq!(had, Some(block));
        is_there(&owner, block);
        other.free(block);
        owner.hear();
        Found::default()
            .and(blocks)
            .and(owner.take_all(of_eight()))
            .are_all(1, of_eight());
    });
}

#[test]
fn of_two_that_link_into_one_cell_one_does() {
    with_frames(2).model(|start| {
        let (mut mine, mut theirs) = (Client::new(1), Client::new(2));
        let blocks = [&mut mine, &mut theirs].map(|client| client.take_pending(of_eight()));
        let [my_block, their_block] = blocks.map(|block| block.expect("a frame each"));
        let other = start.spawn(move || {
            let is_done = theirs.link(their_block);
            (theirs, is_done)
        });
        let is_mine = mine.link(my_block);
        let (mut theirs, is_theirs) = other.join().unwrap();
        assert_ne!(is_mine, is_theirs);
        let linked = if is_mine { my_block } else { their_block };
        assert_eq!(mine.load(), Some(linked));
        is_there(&mine, linked);
        // The other one is pending yet, and may be linked elsewhere.
        assert!(mine.exchange(linked, 0));
        let is_done = if is_mine {
            theirs.link(their_block)
        } else {
            mine.link(my_block)
        };
        assert!(is_done);
    });
}

/// Catches: cell.spares_nothing
#[test]
fn a_block_that_is_being_retired_is_not_given_out() {
    with_frames(1).model(|start| {
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let (blocks, block) = with_one(&mut owner, true);
        let slot = other.local.slot;
        let retirer = start.spawn(move || {
            touch(block, of_eight());
            assert!(other.retire(block));
            other
        });
        owner.hear();
        let early = owner.take(of_eight());
        let intent = &owner.process.control.slots[slot].intent;
        let is_at_it = intent.word.load(Relaxed) & 3 != 0;
        assert!(
            early.is_none() || !is_at_it,
            "given out before the intent ended"
        );
        let _other = retirer.join().unwrap();
        assert_eq!(owner.load(), None);
        owner.hear();
        assert!(early.is_some() || owner.local.pop(of_eight()).is_none());
        if early.is_none() {
            leaves_none(&owner, block);
        }
        Found::default()
            .and(blocks)
            .and(early)
            .and(owner.take_all(of_eight()))
            .are_all(1, of_eight());
    });
}

#[test]
fn of_two_that_retire_one_block_one_does() {
    with_frames(1).model(|start| {
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let (blocks, block) = with_one(&mut owner, true);
        let retirer = start.spawn(move || {
            let is_done = other.retire(block);
            (other, is_done)
        });
        let is_mine = owner.retire(block);
        let (_other, is_theirs) = retirer.join().unwrap();
        assert_ne!(is_mine, is_theirs);
        assert_eq!(owner.load(), None);
        owner.hear();
        leaves_none(&owner, block);
        Found::default()
            .and(blocks)
            .and(owner.take_all(of_eight()))
            .are_all(1, of_eight());
    });
}

/// Catches: cell.believes_at_once, cell.ends_before_it_changes
#[test]
fn who_reads_while_one_retires_and_one_helps_finds_what_was_there() {
    with_frames(1).model(|start| {
        let (mut owner, mut other, third) = (Client::new(1), Client::new(2), Client::new(3));
        let (blocks, block) = with_one(&mut owner, true);
        let next = blocks[0];
        let retirer = start.spawn(move || {
            assert!(other.retire(block));
            other
        });
        let helper = start.spawn(move || {
            let is_done = third.exchange(0, next);
            (third, is_done)
        });
        let seen = owner.load();
        assert!([None, Some(block), Some(next)].contains(&seen), "{seen:?}");
        let _other = retirer.join().unwrap();
        let (_third, is_done) = helper.join().unwrap();
        assert_eq!(owner.load(), is_done.then_some(next));
    });
}

/// Catches: cell.notes_after_it_changes
#[test]
fn a_link_that_a_helper_who_died_has_finished_is_one() {
    with_frames(1).model(|start| {
        let (mut owner, other, mut third) = (Client::new(1), Client::new(2), Client::new(3));
        let (blocks, block) = with_one(&mut owner, false);
        let linker =
            start.spawn(move || owner.dies_at("heap.cell_marked", |owner| _ = owner.link(block)));
        let helper = start.spawn(move || {
            other.dies_at("heap.help_noted", |other| _ = other.exchange(block, block))
        });
        third.process.recover_dead();
        let _dead = (linker.join().unwrap(), helper.join().unwrap());
        third.process.recover_dead();
        let linked = third.load();
        if let Some(block) = linked {
            is_there(&third, block);
        }
        Found::default()
            .and(blocks)
            .and(linked)
            .and(third.take_all(of_eight()))
            .are_all(1, of_eight());
    });
}

/// Catches: cell.helps_without_a_note, cell.publishes_before_it_links
/// Catches: recover.sweeps_before_it_rolls
#[test]
fn a_block_that_the_dead_was_about_to_link_is_linked_or_free() {
    for point in [
        "heap.intent_begun",
        "heap.cell_marked",
        "heap.linked",
        "heap.cell_changed",
    ] {
        with_frames(1).model(move |start| {
            let (mut owner, mut other) = (Client::new(1), Client::new(2));
            let (blocks, block) = with_one(&mut owner, false);
            let linker = start.spawn(move || owner.dies_at(point, |owner| _ = owner.link(block)));
            let early = other.unlink();
            other.process.recover_dead();
            let _dead = linker.join().unwrap();
            other.process.recover_dead();
            let had = early.or_else(|| other.unlink());
            if let Some(block) = had {
                is_there(&other, block);
            }
            Found::default()
                .and(blocks)
                .and(had)
                .and(other.take_all(of_eight()))
                .are_all(1, of_eight());
        });
    }
}

/// Catches: cell.spares_nothing
#[test]
fn a_block_that_the_dead_was_about_to_retire_is_linked_or_free_once() {
    for point in [
        "heap.intent_begun",
        "heap.cell_marked",
        "heap.told",
        "heap.retired",
        "heap.cell_changed",
    ] {
        with_frames(1).model(move |start| {
            let (mut owner, other) = (Client::new(1), Client::new(2));
            let (blocks, block) = with_one(&mut owner, true);
            let retirer =
                start.spawn(move || other.dies_at(point, |other| _ = other.retire(block)));
            owner.hear();
            let early = owner.take(of_eight());
            let _dead = retirer.join().unwrap();
            owner.process.recover_dead();
            owner.hear();
            let linked = owner.load();
            for block in early.into_iter().chain(linked) {
                is_there(&owner, block);
            }
            Found::default()
                .and(blocks)
                .and(early)
                .and(linked)
                .and(owner.take_all(of_eight()))
                .are_all(1, of_eight());
        });
    }
}

#[test]
fn a_block_of_nobodys_slab_that_the_dead_was_about_to_retire_is_free_once() {
    for point in ["heap.told", "heap.slab_adopted", "heap.retired"] {
        with_frames(1).model(move |start| {
            let (mut owner, other, mut third) = (Client::new(1), Client::new(2), Client::new(3));
            let (blocks, block) = with_one(&mut owner, true);
            let _process = owner.end();
            let retirer =
                start.spawn(move || other.dies_at(point, |other| _ = other.retire(block)));
            let early = third.take(of_eight());
            let _dead = retirer.join().unwrap();
            third.process.recover_dead();
            third.hear();
            assert_eq!(third.load(), None);
            if let Some(block) = early {
                is_there(&third, block);
            }
            Found::default()
                .and(blocks)
                .and(early)
                .and(third.take_all(of_eight()))
                .are_all(1, of_eight());
        });
    }
}

/// A run of both frames there are.
fn run_of_two(owner: &mut Client) -> usize {
    let run = owner.local.allocate_run(&owner.process, 2 * FRAME_BYTES, 1);
    run.expect("both frames").address
}

/// Catches: recover.leaves_what_is_between
#[test]
fn a_run_that_the_dead_was_about_to_retire_is_linked_or_free() {
    for point in [
        "heap.cell_marked",
        "heap.retired",
        "heap.cell_changed",
        "heap.intent_ended",
        "heap.tail_released",
    ] {
        with_frames(2).model(move |start| {
            let (mut owner, other) = (Client::new(1), Client::new(2));
            let run = run_of_two(&mut owner);
            assert!(owner.link(run));
            let retirer = start.spawn(move || other.dies_at(point, |other| _ = other.retire(run)));
            owner.process.recover_dead();
            let seen = owner.load();
            assert!(seen.is_none() || seen == Some(run), "{seen:?}");
            let _dead = retirer.join().unwrap();
            owner.process.recover_dead();
            assert_eq!(owner.load(), None);
            run_of_two(&mut owner);
        });
    }
}

#[test]
fn a_run_that_the_dead_was_about_to_link_is_linked_or_free() {
    for point in ["heap.intent_begun", "heap.cell_marked", "heap.linked"] {
        with_frames(2).model(move |start| {
            let (mut mine, mut theirs) = (Client::new(1), Client::new(2));
            let run = run_of_two(&mut theirs);
            let linker = start.spawn(move || theirs.dies_at(point, |theirs| _ = theirs.link(run)));
            let early = mine.unlinked_run();
            let _dead = linker.join().unwrap();
            mine.process.recover_dead();
            let had = early.or_else(|| mine.unlinked_run());
            assert!(had.is_none() || had == Some(run));
            if let Some(run) = had {
                mine.local.free(&mine.process, run).expect("it is there");
            }
            run_of_two(&mut mine);
        });
    }
}
