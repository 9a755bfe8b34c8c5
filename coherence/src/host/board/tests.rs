use pool_core::sync::atomic::AtomicU64;

use super::encoding::{Message, decode, decode_row, encode, encode_row};
use super::journal::Journal;
use super::way::{Incoming, Outgoing};
use super::*;
use crate::cache::Hardware;
use crate::host::message::{Ask, Denial, Outcome, Right, Tell, ToHome, ToPeer};
use crate::host::row::{Record, Row, Standing, State};

type Words = Box<[AtomicU64]>;
type Here<'w> = Board<&'w [AtomicU64], Hardware>;

fn memory(shape: Shape) -> Words {
    let words = shape.bytes().get() / 8;
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn small() -> Shape {
    Shape::new(3, 2).unwrap()
}

fn made(words: &Words) -> Here<'_> {
    Board::create(&words[..], Hardware, small()).unwrap()
}

/// The number of the life that a host begins.
fn begin(board: &Here<'_>, slot: u8, above: u64) -> Result<u64, BoardError> {
    board.begin_life(slot, above).map(|life| life.number)
}

fn asks() -> Vec<Ask> {
    let mut asks = vec![Ask::Join { boot: 7 }, Ask::Announced { term: 3 }];
    for right in [Right::Nothing, Right::Shared, Right::Exclusive] {
        asks.push(Ask::Request {
            extent: u32::MAX,
            ticket: 1 << 62,
            right,
            floor: 5,
        });
        asks.push(Ask::Announce {
            extent: 9,
            ticket: 8,
            right,
            epoch: 1,
        });
        let outcomes = [
            Outcome::Unused,
            Outcome::Wrote { version: 1 << 62 },
            Outcome::Torn { version: 2 },
        ];
        asks.extend(outcomes.map(|outcome| Ask::Release {
            extent: 3,
            ticket: 4,
            epoch: 5,
            keep: right,
            outcome,
            floor: 6,
        }));
    }
    asks
}

fn tells() -> Vec<Tell> {
    let (extent, ticket) = (77, 1 << 61);
    let mut tells = vec![
        Tell::Welcome { boot: 1 },
        Tell::NotFenced { boot: 2 },
        Tell::Behind { boot: 2, latest: 9 },
        Tell::Void { extent, ticket },
        Tell::Hello { term: 4 },
        Tell::Dead,
    ];
    for right in [Right::Nothing, Right::Shared, Right::Exclusive] {
        tells.push(Tell::Grant {
            extent,
            ticket,
            right,
            epoch: 1 << 62,
            version: 3,
        });
        let (to, keep) = (right, right);
        tells.push(Tell::Recall { extent, ticket, to });
        tells.push(Tell::Released {
            extent,
            ticket,
            keep,
        });
    }
    let denials = [
        Denial::Unavailable { holder: 31 },
        Denial::Lost { last_good: 12 },
        Denial::Withdrawn,
        Denial::Busy,
        Denial::UnknownExtent,
        Denial::NotMember,
    ];
    tells.extend(denials.map(|why| Tell::Refuse {
        extent,
        ticket,
        why,
    }));
    tells
}

fn messages() -> Vec<Message> {
    let (from, to, era) = (1, 2, 1 << 62);
    let to_home = asks().into_iter();
    let to_home = to_home.map(|ask| Message::ToHome(ToHome { from, era, ask }));
    let to_peer = tells().into_iter();
    let to_peer = to_peer.map(|tell| Message::ToPeer(ToPeer { to, era, tell }));
    to_home.chain(to_peer).collect()
}

fn row(state: State) -> Row {
    Row {
        epoch: 4,
        version: 1 << 62,
        state,
    }
}

fn rows() -> Vec<Row> {
    let states = [
        State::Free,
        State::Shared([(0, 5), (2, 1 << 62)].into()),
        State::Owned { slot: 1, ticket: 8 },
        State::Lost { last_good: 6 },
        State::Withdrawn,
    ];
    states.map(row).to_vec()
}

fn announced(term: u64) -> Message {
    let (from, era) = (1, 1);
    let ask = Ask::Announced { term };
    Message::ToHome(ToHome { from, era, ask })
}

#[test]
fn every_message_comes_back_from_its_words_and_no_other_words_are_one() {
    for message in messages() {
        let words = encode(message);
        assert_eq!(decode(words), Some(message));
        for word in 0..words.len() {
            for bit in 0..64 {
                let mut other = words;
                other[word] ^= 1 << bit;
                // Another message it may be, but never this one, nor one of other words.
                let found = decode(other);
                assert_ne!(found, Some(message));
                assert!(found.is_none_or(|found| encode(found) == other));
            }
        }
    }
    assert_eq!(decode([0; 6]), None);
}

#[test]
fn every_row_of_an_extent_comes_back_from_its_words_and_no_holder_is_beyond_the_board() {
    for row in rows() {
        let words = encode_row(&row);
        assert_eq!(decode_row(&words, 3), Some(row.clone()));
        let holds = matches!(row.state, State::Shared(_));
        assert_eq!(decode_row(&words, 2).is_none(), holds, "{row:?}");
        let mut other = words;
        other[1] = 9;
        assert_eq!(decode_row(&other, 3), None);
    }
}

#[test]
fn a_journal_is_read_as_it_was_written_last() {
    let words = memory(small());
    let board = made(&words);
    let (mut journal, found) = Journal::read(&board).unwrap();
    assert_eq!(found, []);
    let mut last = Vec::new();
    for (turn, row) in (1..).zip(rows()) {
        last = vec![
            Record::Term { term: turn },
            Record::Host {
                slot: 2,
                era: turn,
                boot: turn + 1,
                standing: Standing::Condemned,
            },
            Record::Extent { extent: 1, row },
        ];
        for record in &last {
            journal.write(&board, record).unwrap();
        }
        let (read, found) = Journal::read(&board).unwrap();
        assert_eq!((&read, &found), (&journal, &last));
    }
    let stranger = Record::Host {
        slot: 3,
        era: 1,
        boot: 1,
        standing: Standing::Member,
    };
    let refused = journal.write(&board, &stranger);
    assert_eq!(refused, Err(BoardError::NoSuchHost { slot: 3, life: 0 }));
    assert_eq!(Journal::read(&board).unwrap().1, last);
}

/// Each block of each row is spoilt, word by word, once the row was written so many times.
#[test]
fn a_row_that_is_torn_is_the_one_before_and_one_that_is_damaged_is_an_error() {
    let words = memory(small());
    for writes in 1..5 {
        let board = made(&words);
        let at = small().extent(1);
        for value in 1..=writes {
            board.set(at, value).unwrap();
        }
        assert_eq!(board.get(at), Ok(writes));
        let block = |number: u64| {
            let first = usize::try_from(8 * (at.line + number % 2)).unwrap();
            first..first + 8
        };
        for word in block(writes) {
            let kept = words[word].load(Acquire);
            words[word].store(kept ^ 0x55, Release);
            assert_eq!(board.get(at), Ok(writes - 1), "torn at {word}");
            // The one before is gone as well: nothing is known of it.
            let other = block(writes + 1).start;
            let before = words[other].load(Acquire);
            words[other].store(before ^ 0x55, Release);
            assert_eq!(board.get(at), Err(BoardError::Damaged { line: at.line }));
            words[other].store(before, Release);
            words[word].store(kept, Release);
        }
        assert_eq!(board.get(at), Ok(writes));
    }
}

#[test]
fn a_row_that_is_far_older_than_its_fellow_is_damage() {
    let words = memory(small());
    let board = made(&words);
    let at = small().seat();
    board.set(at, 1).unwrap();
    let first = usize::try_from(8 * (at.line + 1)).unwrap();
    let old: Vec<u64> = words[first..first + 8]
        .iter()
        .map(|word| word.load(Acquire))
        .collect();
    for value in 2..6 {
        board.set(at, value).unwrap();
    }
    for (word, old) in words[first..].iter().zip(old) {
        word.store(old, Release);
    }
    assert_eq!(board.get(at), Err(BoardError::Damaged { line: at.line }));
}

#[test]
fn messages_come_in_order_and_once_and_a_full_way_loses_the_oldest() {
    let words = memory(small());
    let board = made(&words);
    let first = small().way(1, 2);
    let mut sender = Outgoing::new(&board, first, 1);
    let mut reader = Incoming::new(&board, first);
    for count in [0, 1, 5, PLACES, PLACES + 1, 10 * PLACES + 3] {
        for term in 0..count {
            sender.send(&board, announced(term));
        }
        let expected = (count.saturating_sub(PLACES)..count).map(announced);
        let (found, garbled) = reader.take(&board);
        assert_eq!(found, expected.collect::<Vec<_>>(), "{count}");
        assert_eq!(garbled, 0);
        assert_eq!(reader.take(&board), (Vec::new(), 0));
    }
}

#[test]
fn a_host_that_lives_again_is_heard_at_once_also_where_nothing_of_before_is_left() {
    let words = memory(small());
    let board = made(&words);
    let first = small().way(1, 2);
    let mut reader = Incoming::new(&board, first);
    for life in 1..4 {
        let mut sender = Outgoing::new(&board, first, life);
        for term in 0..3 {
            sender.send(&board, announced(term));
        }
        assert_eq!(reader.take(&board).0, [0, 1, 2].map(announced));
        if life == 2 {
            let start = usize::try_from(8 * first).unwrap();
            let end = start + usize::try_from(8 * PLACES).unwrap();
            for word in &words[start..end] {
                word.store(0, Release);
            }
        }
    }
    // Who reads anew is told nothing of before.
    assert_eq!(Incoming::new(&board, first).take(&board).0, []);
}

#[test]
fn a_message_that_is_torn_is_none_and_holds_up_no_other() {
    let words = memory(small());
    let board = made(&words);
    let first = small().way(1, 2);
    for word in 0..8 {
        let mut sender = Outgoing::new(&board, first, 1);
        let mut reader = Incoming::new(&board, first);
        let line = first + sender.next() % PLACES;
        sender.send(&board, announced(1));
        let torn = &words[usize::try_from(8 * line).unwrap() + word];
        torn.store(torn.load(Acquire) ^ 0x55, Release);
        assert_eq!(reader.take(&board), (Vec::new(), 0));
        sender.send(&board, announced(2));
        assert_eq!(reader.take(&board), (vec![announced(2)], 0));
    }
}

/// Bytes of a generator in place of a board, or of parts of one.
#[test]
fn garbage_is_no_board_no_row_and_no_message() {
    let mut rng = pool_core::rng::Rng::new(7);
    for round in 0..200 {
        let words = memory(small());
        let board = made(&words);
        board.appoint(1).unwrap();
        let from = if round % 2 == 0 { 0 } else { 8 };
        for word in &words[from..] {
            if rng.once_in(2) {
                word.store(rng.number(), Release);
            }
        }
        if from == 0 {
            let opened = Board::open(&words[..], Hardware);
            assert_eq!(opened.err(), Some(BoardError::None));
            continue;
        }
        let board = Board::open(&words[..], Hardware).unwrap();
        assert!(matches!(board.home(), Err(BoardError::Damaged { .. })));
        assert!(matches!(
            Journal::read(&board),
            Err(BoardError::Damaged { .. })
        ));
        let mut reader = Incoming::new(&board, small().way(0, 1));
        assert_eq!(reader.take(&board), (Vec::new(), 0));
    }
}

#[test]
fn whole_blocks_with_values_that_nobody_writes_are_errors_or_counted() {
    let words = memory(small());
    let board = made(&words);
    board.set(small().seat(), 9).unwrap();
    assert_eq!(board.home(), Err(BoardError::Damaged { line: 1 }));
    let at = small().life(2);
    board.set(at, LIFE_MAX + 1).unwrap();
    assert_eq!(board.life(2), Err(BoardError::Damaged { line: at.line }));
    let at = small().extent(0);
    board.set(at, 17).unwrap();
    let damaged = BoardError::Damaged { line: at.line };
    assert_eq!(Journal::read(&board).err(), Some(damaged));
    let first = small().way(0, 1);
    let mut reader = Incoming::new(&board, first);
    board.write(first + 3, 1 << 33 | 3, &mut [1; 8]);
    assert_eq!(reader.take(&board), (Vec::new(), 1));
    // A number above all that there are is never followed.
    board.write(first + 4, u64::MAX, &mut [1; 8]);
    assert_eq!(reader.take(&board), (Vec::new(), 0));
    // Nor is a row under the last number that there is: the next one has none.
    let at = small().fence(2);
    for number in [u64::MAX, u64::MAX - 1] {
        board.write(at.block(number), number, &mut [1; 8]);
    }
    let damaged = Err(BoardError::Damaged { line: at.line });
    assert_eq!(board.fenced(2), damaged);
    assert_eq!(board.fence(2, 1).map(|()| 0), damaged);
    // Nor a life in the journal that no host can be in.
    let at = small().host(1);
    let mut host = [0; BLOCK_WORDS];
    host[1..4].copy_from_slice(&[1, LIFE_MAX + 1, 1]);
    let other = memory(small());
    let fresh = made(&other);
    fresh.renew(at, 0, &mut host);
    let damaged = BoardError::Damaged { line: at.line };
    assert_eq!(Journal::read(&fresh).err(), Some(damaged));
}

#[test]
fn a_board_is_opened_as_it_was_made_and_refused_where_its_memory_is_too_small() {
    let shape = Shape::new(5, 9).unwrap();
    let words = memory(shape);
    Board::create(&words[..], Hardware, shape).unwrap();
    let board = Board::open(&words[..], Hardware).unwrap();
    assert_eq!(board.shape(), shape);
    assert_eq!(
        (board.home(), board.fenced(4), board.life(4)),
        (Ok(None), Ok(0), Ok(0))
    );
    let mut header = [0, MAGIC, LAYOUT + 1, 5, 9, 0, 0, 0];
    board.write(0, 1, &mut header);
    let refused = Board::open(&words[..], Hardware).err();
    let found = LAYOUT + 1;
    assert_eq!(refused, Some(BoardError::Layout { found }));
    Board::create(&words[..], Hardware, shape).unwrap();
    let short = &words[..words.len() - 1];
    let refused = Board::open(short, Hardware).err();
    assert!(matches!(refused, Some(BoardError::TooSmall { .. })));
    let refused = Board::create(&words[..], Hardware, Shape::new(6, 9).unwrap()).err();
    assert!(matches!(refused, Some(BoardError::TooSmall { .. })));
}

#[test]
fn the_home_goes_to_another_host_only_once_each_life_of_the_one_before_is_fenced() {
    let words = memory(small());
    let board = made(&words);
    board.appoint(0).unwrap();
    // Nobody lives there, or it is there already.
    board.appoint(1).unwrap();
    assert_eq!(begin(&board, 1, 0), Ok(1));
    board.appoint(1).unwrap();
    let lives = |life| Err(BoardError::HomeLives { slot: 1, life });
    assert_eq!(board.appoint(2), lives(1));
    board.fence(1, 1).unwrap();
    // It was let in before its time.
    assert_eq!(begin(&board, 1, 0), Ok(2));
    assert_eq!(board.appoint(2), lives(2));
    assert_eq!(board.home(), Ok(Some(1)));
    board.fence(1, 2).unwrap();
    board.appoint(2).unwrap();
    assert_eq!(board.home(), Ok(Some(2)));
}

#[test]
fn fences_never_fall_and_a_life_begins_above_every_one_that_was_or_is_fenced() {
    let words = memory(small());
    let board = made(&words);
    assert_eq!(begin(&board, 1, 0), Ok(1));
    board.fence(1, 5).unwrap();
    board.fence(1, 2).unwrap();
    assert_eq!(board.fenced(1), Ok(5));
    assert_eq!(begin(&board, 1, 0), Ok(6));
    assert_eq!(begin(&board, 1, 9), Ok(10));
    assert_eq!(board.life(1), Ok(10));
    let slot = 3;
    assert_eq!(
        board.appoint(slot),
        Err(BoardError::NoSuchHost { slot, life: 0 })
    );
    let (slot, life) = (1, LIFE_MAX + 1);
    assert_eq!(
        board.fence(slot, life),
        Err(BoardError::NoSuchHost { slot, life })
    );
    board.fence(slot, LIFE_MAX).unwrap();
    let spent = BoardError::NoSuchHost { slot, life };
    assert_eq!(begin(&board, 1, 0), Err(spent));
}
