//! A row of the board under every schedule, and what a host stored before it wrote one. Plain
//! `cargo test` runs each body once.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use coherence::cache::Hardware;
use coherence::host::board::{Board, Shape};
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, model, thread};

type Words = Vec<AtomicU64>;

struct Shared {
    words: Words,
    /// What the manager did before it said so.
    done: AtomicU64,
}

fn board(shared: &Shared) -> Board<&[AtomicU64], Hardware> {
    Board::open(&shared.words[..], Hardware).unwrap()
}

/// A board that a thread of its own has made, so that no old value of a word is seen.
fn made() -> Arc<Shared> {
    let make = || {
        let shape = Shape::new(2, 1).unwrap();
        let words = shape.bytes().get() / 8;
        let shared = Shared {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            done: AtomicU64::new(0),
        };
        Board::create(&shared.words[..], Hardware, shape).unwrap();
        Arc::new(shared)
    };
    thread::spawn(make).join().unwrap()
}

/// Catches: board.reads_without_order, board.writes_without_order
#[test]
fn who_reads_a_row_sees_what_was_stored_before_it_and_never_a_part_of_it() {
    model(|| {
        let shared = made();
        let other = Arc::clone(&shared);
        let manager = thread::spawn(move || {
            let board = board(&other);
            other.done.store(1, Relaxed);
            board.fence(1, 7).unwrap();
        });
        thread::yield_now();
        let fenced = board(&shared).fenced(1).unwrap();
        let done = shared.done.load(Relaxed);
        assert!(fenced == 0 || fenced == 7 && done == 1, "{fenced} {done}");
        manager.join().unwrap();
        assert_eq!(board(&shared).fenced(1), Ok(7));
    });
}
