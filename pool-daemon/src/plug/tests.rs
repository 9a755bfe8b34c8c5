//! What is said of hardware that comes and goes, and when it is let go of.

use std::cell::{Cell, RefCell};

use kernel_cxl::ChangeError;
use pool_core::sync::Arc;

use super::*;

const EXTENTS: Extents = Extents::new(8);
const ALL: Run = Run { first: 0, count: 8 };

/// Hardware as a test has it, and what was done with it.
#[derive(Debug, Default)]
struct Board {
    is_plugged: Cell<bool>,
    is_taken: Cell<bool>,
    is_in_use: Cell<bool>,
    damaged: RefCell<Vec<Run>>,
    /// Why nobody knows what is damaged.
    silence: Cell<Option<&'static str>>,
    tries: Cell<u32>,
}

impl Hardware for Board {
    fn take(&self) -> Result<(), SetupError> {
        self.tries.set(self.tries.get() + 1);
        if !self.is_plugged.get() {
            return Err(SetupError::Cxl(Arc::new(ChangeError::NoMemdev(0xa0))));
        }
        if self.is_in_use.get() {
            let region = "region0".to_owned();
            return Err(SetupError::RegionTaken { region });
        }
        self.is_taken.set(true);
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.is_taken.get() && self.is_plugged.get()
    }

    fn forget(&self) {
        assert!(!self.is_plugged.get(), "what is there is not forgotten");
        self.is_taken.set(false);
    }

    fn give_back(&self) -> Result<(), SetupError> {
        if self.is_in_use.get() {
            let region = "region0".to_owned();
            return Err(SetupError::RegionTaken { region });
        }
        self.is_taken.set(false);
        Ok(())
    }

    fn damaged(&self) -> Result<Vec<Run>, SetupError> {
        if let Some(why) = self.silence.get() {
            let why = Arc::new(ChangeError::DidNotCome(why.to_owned()));
            return Err(SetupError::DamageUnknown(why));
        }
        Ok(self.damaged.borrow().clone())
    }
}

const fn demand(total: u32, removed: bool) -> Demand {
    Demand {
        total: Extents::new(total),
        free: Extents::new(total),
        most: EXTENTS,
        wanted: Extents::ZERO,
        draining: removed,
        removed,
    }
}

/// A board, its plug, and the time.
struct Bench {
    board: Board,
    plug: Plug,
    now: Nanos,
}

impl Bench {
    fn new() -> Self {
        Self {
            board: Board::default(),
            plug: Plug::new(EXTENTS),
            now: Nanos::ZERO,
        }
    }

    fn with_hardware() -> Self {
        let bench = Self::new();
        bench.board.is_plugged.set(true);
        bench
    }

    /// All that is said until there is a rest, which passes.
    fn round(&mut self, demand: Demand) -> Vec<Capacity> {
        let mut said = Vec::new();
        for _ in 0..16 {
            match self.plug.next(self.now, &demand, &self.board) {
                Do::Say(word) => said.push(word),
                Do::Rest(until) => {
                    assert!(until > self.now, "a rest lasts");
                    self.now = until;
                    return said;
                }
            }
        }
        panic!("there is no rest after {said:?}");
    }

    /// Rounds until something is said.
    fn next_words(&mut self, demand: Demand) -> Vec<Capacity> {
        let mut rounds = (0..64).map(|_| self.round(demand));
        let said = rounds.find(|said| !said.is_empty());
        said.expect("something is said")
    }
}

fn come() -> Vec<Capacity> {
    vec![
        Capacity::Present(vec![ALL]),
        Capacity::Reached(true),
        Capacity::Noted(String::new()),
    ]
}

fn gone(said: &[Capacity]) -> &str {
    match said {
        [
            Capacity::Present(none),
            Capacity::Reached(false),
            Capacity::Noted(why),
        ] if none.is_empty() => why,
        _ => panic!("{said:?}"),
    }
}

fn withdraw() -> Capacity {
    let (unit, most, within) = (1, u32::MAX, vec![ALL]);
    Capacity::Withdraw { unit, most, within }
}

#[test]
fn hardware_that_is_not_there_is_told_once_and_joins_when_it_comes() {
    let mut bench = Bench::new();
    assert!(gone(&bench.round(demand(0, false))).contains("0xa0"));
    assert_eq!(bench.round(demand(0, false)), []);
    bench.board.is_plugged.set(true);
    assert_eq!(bench.next_words(demand(0, false)), come());
    assert_eq!(bench.round(demand(8, false)), []);
}

#[test]
fn hardware_that_is_pulled_is_gone_before_it_is_had_again() {
    let mut bench = Bench::with_hardware();
    bench.round(demand(0, false));
    bench.board.is_plugged.set(false);
    assert!(gone(&bench.round(demand(8, false))).contains("pulled"));
    bench.board.is_plugged.set(true);
    assert_eq!(bench.next_words(demand(0, false)), come());
}

#[test]
fn what_another_one_has_is_tried_again_after_a_while() {
    let mut bench = Bench::with_hardware();
    bench.board.is_in_use.set(true);
    assert!(gone(&bench.round(demand(0, false))).contains("another daemon"));
    for _ in 0..4 {
        assert_eq!(bench.round(demand(0, false)), []);
    }
    assert_eq!(bench.board.tries.get(), 1, "the kernel is left in peace");
    bench.board.is_in_use.set(false);
    assert_eq!(bench.next_words(demand(0, false)), come());
}

#[test]
fn what_is_not_there_is_looked_for_less_and_less_often_and_joins_soon() {
    let mut bench = Bench::new();
    while bench.now < Nanos::from_millis(60_000) {
        bench.round(demand(0, false));
    }
    let tries = bench.board.tries.get();
    assert!((30..=65).contains(&tries), "{tries} tries in a minute");
    let before = bench.now;
    bench.board.is_plugged.set(true);
    assert_eq!(bench.next_words(demand(0, false)), come());
    let late = bench.now.saturating_since(before);
    assert!(late <= Nanos::from_millis(1_500), "it joins after {late:?}");
    bench.board.is_plugged.set(false);
    bench.round(demand(8, false));
    let (before, tries) = (bench.now, bench.board.tries.get());
    while bench.board.tries.get() < tries + 2 {
        bench.round(demand(0, false));
    }
    let soon = bench.now.saturating_since(before);
    assert!(
        soon <= Nanos::from_millis(1_000),
        "at first it is looked for often"
    );
}

#[test]
fn what_is_damaged_is_told_before_any_of_it_is_granted_and_later_as_it_comes() {
    let mut bench = Bench::with_hardware();
    let (first, later) = (Run { first: 2, count: 1 }, Run { first: 5, count: 2 });
    bench.board.damaged.replace(vec![first]);
    let said = bench.round(demand(0, false));
    assert_eq!(
        said[..2],
        [
            Capacity::Present(vec![ALL]),
            Capacity::Poisoned(vec![first])
        ]
    );
    assert_eq!(said[2], Capacity::Reached(true));
    assert_eq!(bench.round(demand(7, false)), [], "it is told once");
    bench.board.damaged.replace(vec![first, later]);
    let said = bench.round(demand(7, false));
    assert_eq!(said, [Capacity::Poisoned(vec![first, later])]);
}

#[test]
fn nothing_is_granted_before_it_is_known_what_is_damaged() {
    let mut bench = Bench::with_hardware();
    bench.board.silence.set(Some("a list"));
    let said = bench.round(demand(0, false));
    let [
        Capacity::Present(all),
        Capacity::Reached(false),
        Capacity::Noted(why),
    ] = &said[..]
    else {
        panic!("{said:?}");
    };
    assert!(*all == [ALL] && why.contains("a list"), "{why}");
    assert_eq!(bench.round(demand(8, false)), [], "it is told once");
    bench.board.silence.set(Some("a trace"));
    let said = bench.round(demand(8, false));
    let [Capacity::Reached(false), Capacity::Noted(why)] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(why.contains("a trace"), "{why}");
    let bad = vec![Run { first: 3, count: 1 }];
    bench.board.damaged.replace(bad.clone());
    bench.board.silence.set(None);
    let last = [Capacity::Reached(true), Capacity::Noted(String::new())];
    let said = bench.round(demand(8, false));
    assert_eq!(said[0], Capacity::Poisoned(bad));
    assert_eq!(said[1..], last);
    bench.board.silence.set(Some("a list"));
    assert_eq!(bench.round(demand(7, false)), [], "what was known is known");
}

#[test]
fn it_is_given_back_once_it_was_removed_and_the_engine_has_let_go_of_all() {
    let mut bench = Bench::with_hardware();
    bench.round(demand(0, false));
    assert_eq!(bench.round(demand(8, true)), [withdraw()]);
    assert!(bench.board.is_taken.get(), "the engine has not let go yet");
    bench.plug.withdrawn(vec![ALL]);
    assert!(gone(&bench.round(demand(0, true))).contains("may be pulled"));
    assert!(!bench.board.is_taken.get());
    bench.board.is_plugged.set(false);
    assert_eq!(bench.round(demand(0, true)), [], "it was to be pulled");
    bench.board.is_plugged.set(true);
    assert_eq!(
        bench.next_words(demand(0, false)),
        come(),
        "it is activated"
    );
}

#[test]
fn what_is_in_use_again_is_not_given_back() {
    let mut bench = Bench::with_hardware();
    bench.round(demand(0, false));
    bench.round(demand(8, true));
    bench.plug.withdrawn(vec![Run { first: 0, count: 7 }]);
    let said = bench.round(demand(1, true));
    assert!(bench.board.is_taken.get(), "one extent is in use: {said:?}");
    assert_eq!(said[0], Capacity::Present(vec![ALL]));
}

#[test]
fn what_the_kernel_keeps_stays_in_the_pool_and_is_tried_again() {
    let mut bench = Bench::with_hardware();
    bench.round(demand(0, false));
    bench.round(demand(8, true));
    bench.board.is_in_use.set(true);
    bench.plug.withdrawn(vec![ALL]);
    let said = bench.round(demand(0, true));
    assert_eq!(said[0], Capacity::Present(vec![ALL]));
    let Some(Capacity::Noted(why)) = said.last() else {
        panic!("{said:?}");
    };
    assert!(why.contains("another daemon"), "{why}");
    bench.board.is_in_use.set(false);
    assert_eq!(bench.next_words(demand(8, true)), [withdraw()]);
}

#[test]
fn what_is_activated_before_it_left_is_there_again() {
    let mut bench = Bench::with_hardware();
    bench.round(demand(0, false));
    bench.round(demand(8, true));
    assert_eq!(bench.next_words(demand(0, false)), come());
}

#[test]
fn hardware_of_a_device_that_is_out_of_the_pool_is_left_alone() {
    let mut bench = Bench::with_hardware();
    assert!(gone(&bench.round(demand(0, true))).contains("out of the pool"));
    assert_eq!(bench.round(demand(0, true)), []);
    assert_eq!(bench.board.tries.get(), 0);
}

/// Catches: plug.keeps_what_was_pulled, plug.gives_back_what_is_in_use
/// Catches: plug.keeps_damage_to_itself, plug.grants_what_may_be_damaged
#[cfg(feature = "fault")]
#[test]
fn a_bug_of_the_plug_breaks_its_law() {
    let laws: [(&str, fn()); 4] = [
        (
            "plug.grants_what_may_be_damaged",
            nothing_is_granted_before_it_is_known_what_is_damaged,
        ),
        (
            "plug.keeps_damage_to_itself",
            what_is_damaged_is_told_before_any_of_it_is_granted_and_later_as_it_comes,
        ),
        (
            "plug.keeps_what_was_pulled",
            hardware_that_is_pulled_is_gone_before_it_is_had_again,
        ),
        (
            "plug.gives_back_what_is_in_use",
            what_is_in_use_again_is_not_given_back,
        ),
    ];
    for (bug, law) in laws {
        let planted = pool_core::fault::plant_here(bug);
        let held = std::panic::catch_unwind(law);
        drop(planted);
        assert!(held.is_err(), "{bug} breaks no law");
    }
}
