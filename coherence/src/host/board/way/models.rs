//! A way while it is written and read, under every schedule. Plain `cargo test` runs a body once.
//!
//! The model checker moves loads before stores in every case, but no store before loads: so the
//! reader lets the writer go first, and what it finds is of any moment of that.

use core::ops::Range;

use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, model, thread};

use super::*;
use crate::cache::Hardware;
use crate::host::board::Shape;
use crate::host::message::{Ask, ToHome};

type Words = Vec<AtomicU64>;

/// A board of which nothing but one way, at its beginning, is there: the less words, the more
/// schedules.
fn board(words: &Words) -> Board<&[AtomicU64], Hardware> {
    Board {
        memory: &words[..],
        caches: Hardware,
        shape: Shape::new(2, 1).expect("a board has two hosts"),
        mark: 0,
    }
}

fn message(term: u64) -> Message {
    let (from, era) = (1, 1);
    let ask = Ask::Announced { term };
    Message::ToHome(ToHome { from, era, ask })
}

/// What two hosts have: one way, and what one of them did before it wrote there.
struct Shared {
    words: Words,
    done: AtomicU64,
}

/// A way on which so many messages lie, made by a thread of its own, so that the values of before
/// are seen as well.
fn way_with(count: u64) -> Arc<Shared> {
    let make = move || {
        let shared = Shared {
            words: (0..8 * PLACES).map(|_| AtomicU64::new(0)).collect(),
            done: AtomicU64::new(count),
        };
        send(&shared, 0..count);
        Arc::new(shared)
    };
    thread::spawn(make).join().expect("the maker ends")
}

fn send(shared: &Shared, terms: Range<u64>) {
    let board = board(&shared.words);
    let mut way = Outgoing::new(&board, 0, 1);
    for term in terms {
        shared.done.store(term + 1, Relaxed);
        way.send(&board, message(term));
    }
}

/// All that comes of messages of which so many lie there, while one more is sent: taken once
/// meanwhile, and once when it was.
fn taken_while_sent(before: u64) -> Vec<Message> {
    let shared = way_with(before);
    let other = Arc::clone(&shared);
    let sender = thread::spawn(move || send(&other, before..before + 1));
    thread::yield_now();
    let board = board(&shared.words);
    let mut way = Incoming { first: 0, last: 0 };
    let (mut found, garbled) = way.take(&board);
    if found.contains(&message(before)) {
        assert_eq!(shared.done.load(Relaxed), before + 1);
    }
    sender.join().expect("the sender ends");
    let (rest, more_garbled) = way.take(&board);
    assert_eq!(garbled + more_garbled, 0);
    found.extend(rest);
    assert_eq!(way.take(&board), (Vec::new(), 0));
    found
}

/// So no message is passed over either: what was stored before one that is seen is the one before.
///
/// Catches: board.torn_message_is_passed_over, board.seal_is_not_looked_at
/// Catches: board.writes_without_order, board.reads_without_order
#[test]
fn who_takes_a_message_takes_it_whole_and_once_and_sees_what_was_stored_before_it() {
    model(|| assert_eq!(taken_while_sent(0), [message(0)]));
}

/// Catches: board.takes_whatever_lies_there
#[test]
fn what_is_written_over_while_it_is_read_is_taken_as_it_was_or_not_at_all() {
    model(|| {
        let found = taken_while_sent(PLACES);
        let sent: Vec<Message> = (0..=PLACES).map(message).collect();
        assert!(found == sent || found == sent[1..], "{found:?}");
    });
}
