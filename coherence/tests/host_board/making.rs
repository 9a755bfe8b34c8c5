//! A board that is made over another one, by a manager that dies at each store.

use coherence::host::board::{Board, BoardError, Shape};

use crate::memory::{Kind, Memory, Words, zeroes};

/// What there is of a board: its shape, who has the home, and how far each host is fenced.
fn found(words: &Words, kind: Kind, salt: u64) -> Option<(Shape, Option<u8>, [u64; 2])> {
    let memory = Memory::new(words, kind, salt, u64::MAX);
    match Board::open(memory.clone(), memory) {
        Ok(board) => {
            let fenced = [0, 1].map(|slot| board.fenced(slot).unwrap());
            Some((board.shape(), board.home().unwrap(), fenced))
        }
        Err(BoardError::None) => None,
        Err(why) => panic!("{why}"),
    }
}

/// The manager dies at each store while it makes a board over another one.
fn made_over_another(kind: Kind) {
    let (old, new) = (Shape::new(2, 3).unwrap(), Shape::new(2, 2).unwrap());
    let whole = (Some((old, Some(1), [3, 5])), Some((new, None, [0, 0])));
    let mut seen = [0; 3];
    for left in 1.. {
        let words = zeroes(old.bytes().get() / 8);
        let maker = Memory::new(&words, kind, 1, u64::MAX);
        let board = Board::create(maker.clone(), maker, old).unwrap();
        board.fence(0, 3).unwrap();
        board.fence(1, 5).unwrap();
        board.appoint(1).unwrap();
        let maker = Memory::new(&words, kind, 1 + left, left);
        Board::create(maker.clone(), maker.clone(), new).unwrap();
        let found = found(&words, kind, 0);
        let which = match found {
            it if it == whole.0 => 0,
            None => 1,
            it if it == whole.1 => 2,
            it => panic!("after {left} stores: {it:?}"),
        };
        seen[which] += 1;
        if !maker.is_dead() {
            assert_eq!(which, 2);
            break;
        }
    }
    println!("{kind:?}: the old one, none, the new one: {seen:?}");
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

#[test]
fn a_board_that_is_made_over_another_is_that_one_or_none_until_it_is_whole() {
    made_over_another(Kind::Coherent);
    for seed in 1..5 {
        made_over_another(Kind::Cached(seed));
    }
}
