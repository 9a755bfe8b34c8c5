//! What a station does where it is not the one that its host has, or its memory is not what it was.

use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::cache::Hardware;
use crate::host::board::Shape;
use crate::host::message::ToPeer;
use crate::host::row::State;

type Words = Box<[AtomicU64]>;
type Here<'w> = Station<&'w [AtomicU64], Hardware>;

const NOW: Nanos = Nanos::from_millis(1);
const USER: (u64, u32) = (1, 0);

fn shape() -> Shape {
    Shape::new(2, 2).unwrap()
}

/// Memory of a board whose home is on host 0, and room behind it.
fn memory() -> Words {
    let words = shape().bytes().get() / 8 + 4096;
    let words: Words = (0..words).map(|_| AtomicU64::new(0)).collect();
    let board = Board::create(&words[..], Hardware, shape()).unwrap();
    board.appoint(0).unwrap();
    words
}

fn manager(words: &Words) -> Board<&[AtomicU64], Hardware> {
    Board::open(&words[..], Hardware).unwrap()
}

fn station(words: &Words, slot: u8) -> Here<'_> {
    let (home, peer) = (HomeLimits::default(), PeerLimits::default());
    Station::open(NOW, manager(words), slot, home, peer).unwrap()
}

/// All that both are told in some turns.
fn turns(stations: &mut [&mut Here<'_>]) -> Vec<Told> {
    let mut told = Vec::new();
    for _ in 0..6 {
        for station in &mut *stations {
            told.extend(station.turn(NOW).unwrap());
        }
    }
    told
}

fn acquire(station: &mut Here<'_>) {
    let deadline = NOW.saturating_add(Nanos::from_millis(1_000));
    station
        .acquire(NOW, USER, Right::Exclusive, deadline)
        .unwrap();
}

fn is_granted(told: &[Told]) -> bool {
    let is_grant = |it: &Told| matches!(it, Told::Peer(PeerOutput::Granted { .. }));
    told.iter().any(is_grant)
}

/// Both hosts as members, of which host 1 has an extent.
fn both(words: &Words) -> (Here<'_>, Here<'_>) {
    let (mut home, mut other) = (station(words, 0), station(words, 1));
    turns(&mut [&mut home, &mut other]);
    acquire(&mut other);
    assert!(is_granted(&turns(&mut [&mut home, &mut other])));
    (home, other)
}

#[test]
fn of_two_processes_with_one_slot_the_first_one_is_told_and_writes_nothing_more() {
    let words = memory();
    let (mut home, mut first) = both(&words);
    let _second = station(&words, 1);
    let before: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
    let replaced = StationError::Replaced {
        slot: 1,
        life: 1,
        now: 2,
    };
    assert_eq!(first.turn(NOW), Err(replaced));
    assert_eq!(first.release(NOW, USER, Change::Published), Err(replaced));
    assert_eq!(first.give_back(NOW, 0), Err(replaced));
    let after: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
    assert_eq!(before, after);
    // What the first one has is nobody's before its life is fenced.
    let told = home.turn(NOW).unwrap();
    let suspect = Told::Suspect { slot: 1, life: 1 };
    assert!(told.contains(&suspect), "{told:?}");
}

#[test]
fn a_board_that_is_made_anew_stops_the_stations_of_before() {
    for extents in [2, 3] {
        let words = memory();
        let (mut home, mut other) = both(&words);
        let shape = Shape::new(2, extents).unwrap();
        Board::create(&words[..], Hardware, shape).unwrap();
        let expected = |slot| match extents {
            2 => StationError::Replaced {
                slot,
                life: 1,
                now: 0,
            },
            _ => StationError::Board(BoardError::MadeAnew),
        };
        assert_eq!(home.turn(NOW), Err(expected(0)));
        assert_eq!(other.turn(NOW), Err(expected(1)));
        let withdrawn = home.withdraw(NOW, 1);
        assert_eq!(withdrawn, Err(expected(0)));
    }
}

/// A host is fenced without knowing it, and joins anew when it is told.
fn fenced_and_back() {
    let words = memory();
    let (mut home, mut other) = both(&words);
    let manager = manager(&words);
    manager.fence(1, 1).unwrap();
    let told = turns(&mut [&mut home]);
    assert!(told.contains(&Told::Fenced { slot: 1, life: 1 }));
    let fenced = StationError::Fenced { slot: 1, life: 1 };
    assert_eq!(
        other.release(NOW, USER, Change::Published).err(),
        Some(fenced)
    );
    assert_eq!(other.turn(NOW).err(), Some(fenced));
    other.rejoin(NOW).unwrap();
    assert_eq!((other.life(), other.peer().holds(0)), (2, None));
    turns(&mut [&mut other, &mut home]);
    acquire(&mut other);
    let told = turns(&mut [&mut home, &mut other]);
    let lost = |it: &Told| matches!(it, Told::Peer(PeerOutput::Denied { .. }));
    assert!(!is_granted(&told) && told.iter().any(lost), "{told:?}");
}

/// The home goes to the other host and comes back, while the first one sleeps.
fn home_and_back() {
    let words = memory();
    let (mut home, mut other) = both(&words);
    let manager = manager(&words);
    manager.fence(0, 1).unwrap();
    manager.appoint(1).unwrap();
    let told = turns(&mut [&mut other]);
    assert!(told.contains(&Told::HomeBegins { term: 2 }), "{told:?}");
    other.release(NOW, USER, Change::Published).unwrap();
    other.give_back(NOW, 0).unwrap();
    turns(&mut [&mut other]);
    manager.fence(1, 1).unwrap();
    manager.appoint(0).unwrap();
    home.rejoin(NOW).unwrap();
    let told = turns(&mut [&mut home]);
    assert!(told.contains(&Told::HomeBegins { term: 3 }), "{told:?}");
    let row = home.home().and_then(|home| home.extent(0)).unwrap();
    assert_eq!((row.state, row.version), (State::Free, 1));
}

#[test]
fn a_host_that_was_fenced_joins_anew_and_has_nothing_of_before() {
    fenced_and_back();
}

#[test]
fn a_home_that_was_elsewhere_meanwhile_begins_from_what_that_one_wrote() {
    home_and_back();
}

/// Catches: board.grants_outlive_their_life, board.home_outlives_its_life
#[cfg(feature = "fault")]
#[test]
fn what_outlives_its_life_is_found() {
    let bugs: [(&str, fn()); 2] = [
        ("board.grants_outlive_their_life", fenced_and_back),
        ("board.home_outlives_its_life", home_and_back),
    ];
    for (bug, law) in bugs {
        let planted = pool_core::fault::plant_here(bug);
        let broken = std::panic::catch_unwind(law).is_err();
        drop(planted);
        assert!(broken, "{bug} is not found");
    }
}

#[test]
fn a_life_that_no_host_can_be_in_joins_nothing() {
    let words = memory();
    let mut home = station(&words, 0);
    turns(&mut [&mut home]);
    let board = manager(&words);
    let mut way = Outgoing::new(&board, shape().way(1, 0), 1);
    for boot in [LIFE_MAX + 1, u64::MAX] {
        let (from, era, ask) = (1, 0, Ask::Join { boot });
        way.send(&board, Message::ToHome(ToHome { from, era, ask }));
    }
    // Nor does another one's message.
    let tell = crate::host::message::Tell::Dead;
    way.send(
        &board,
        Message::ToPeer(ToPeer {
            to: 1,
            era: 0,
            tell,
        }),
    );
    turns(&mut [&mut home]);
    assert_eq!(home.garbled(), 3);
    assert_eq!(home.home().and_then(|home| home.member(1)), None);
}
