//! What a station does where it is not the one that its host has, or its memory is not what it was.

use core::cell::RefCell;

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

/// A board is made over another one, for as many extents or more, and hosts begin on it.
fn made_anew() {
    for (extents, begin) in [(2, false), (2, true), (3, false), (3, true)] {
        let words = memory();
        let (mut home, mut other) = both(&words);
        let shape = Shape::new(2, extents).unwrap();
        let anew = Board::create(&words[..], Hardware, shape).unwrap();
        anew.appoint(0).unwrap();
        // They count from 1 again, so the lives have the numbers of those before.
        let begun = [0, 1].map(|slot| begin.then(|| station(&words, slot)));
        for (station, slot) in begun.iter().flatten().zip(0..) {
            assert_eq!((station.slot, station.life()), (slot, 1));
        }
        let before: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
        let gone = StationError::Board(BoardError::MadeAnew);
        for station in [&mut home, &mut other] {
            assert_eq!(station.turn(NOW), Err(gone));
            assert_eq!(station.release(NOW, USER, Change::Published), Err(gone));
            assert_eq!(station.rejoin(NOW), Err(gone));
        }
        assert_eq!(home.withdraw(NOW, 1), Err(gone));
        let after: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
        assert_eq!(before, after);
        // Those that began on it go on.
        let [Some(mut home), Some(mut other)] = begun else {
            continue;
        };
        turns(&mut [&mut home, &mut other]);
        acquire(&mut other);
        assert!(is_granted(&turns(&mut [&mut home, &mut other])));
    }
}

#[test]
fn a_board_that_is_made_anew_stops_the_stations_of_before() {
    made_anew();
}

/// Memory whose host does something else just before it stores for the first time.
struct Late<'w> {
    words: &'w [AtomicU64],
    first: RefCell<Option<Box<dyn FnOnce() + 'w>>>,
}

impl Backing for Late<'_> {
    fn words(&self) -> u64 {
        self.words.words()
    }

    fn load_word(&self, index: u64) -> u64 {
        self.words.load_word(index)
    }

    fn store_word(&self, index: u64, value: u64) {
        let first = self.first.borrow_mut().take();
        if let Some(first) = first {
            first();
        }
        self.words.store_word(index, value);
    }
}

/// Two processes begin with one slot: both read which life was there, and then both write theirs.
fn begun_at_once() {
    let words = memory();
    let mut home = station(&words, 0);
    turns(&mut [&mut home]);
    let early = RefCell::new(None);
    let begin = || *early.borrow_mut() = Some(station(&words, 1));
    let memory = Late {
        words: &words,
        first: RefCell::new(Some(Box::new(begin))),
    };
    let board = Board::open(memory, Hardware).unwrap();
    let (limits, peer) = (HomeLimits::default(), PeerLimits::default());
    let mut late = Station::open(NOW, board, 1, limits, peer).unwrap();
    let mut early = early.take().unwrap();
    assert_eq!((early.life(), late.life()), (1, 1));
    let before: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
    let replaced = StationError::Replaced {
        slot: 1,
        life: 1,
        now: 1,
    };
    assert_eq!(early.turn(NOW), Err(replaced));
    assert_eq!(early.give_back(NOW, 0), Err(replaced));
    let after: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
    assert_eq!(before, after);
    for _ in 0..3 {
        late.turn(NOW).unwrap();
        home.turn(NOW).unwrap();
    }
    assert!(late.peer().member().is_some());
    // The first one begins again above both.
    early.rejoin(NOW).unwrap();
    assert_eq!(early.life(), 2);
}

#[test]
fn of_two_processes_that_begin_with_one_slot_at_once_one_stands_and_the_other_is_told() {
    begun_at_once();
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
/// Catches: board.one_made_anew_is_the_same, board.a_life_is_its_number
#[cfg(feature = "fault")]
#[test]
fn what_outlives_its_life_is_found() {
    let bugs: [(&str, fn()); 4] = [
        ("board.grants_outlive_their_life", fenced_and_back),
        ("board.home_outlives_its_life", home_and_back),
        ("board.one_made_anew_is_the_same", made_anew),
        ("board.a_life_is_its_number", begun_at_once),
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
