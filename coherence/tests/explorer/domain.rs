//! A whole domain: the daemon goes through all its units, to take back what the dead hold and to
//! evict who lives and does not let go, and dies as it does, while other members take, write and
//! publish the units it is not at.
//!
//! What is done to a unit is done by the crate itself, on a descriptor, a call a step ([`real`]).
//! Who calls what, and what the daemon knows of a domain and keeps in its journal, is modelled as
//! the engine of `pool-daemon` has it. A change of one unit in the midst of a call on the same unit
//! is explored in [`crate::world`] and by the models of loom.
//!
//! The contents of a unit are a number in each of two memories: the one that everybody has at first
//! and the one that an eviction copies to. A writer stores in two steps, and what is between them
//! is **torn**. Not modelled: handing over, see [`crate::handing`], and sleepers.

use std::fmt;

use coherence::{Own, Slot, State as Held, last_good};

use crate::search::Model;

mod daemon;
mod engine;
mod members;
mod real;
mod runs;

use daemon::Daemon;
use real::{Calls, Lease, Words, digest};
pub(crate) use runs::turn;

const UNITS: usize = 2;
const MEMBERS: usize = 2;
/// The daemon's slot, and those of the members: a bit each.
const ALL: u32 = 0b111;
/// Half of a change is in the contents.
const TORN: u8 = 1 << 7;

/// What becomes of what a writer leaves that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Terms {
    Lose,
    Keep,
    /// It is judged by its checksum.
    Checks,
}

/// A mistake that the daemon could make around the calls. Others are planted in the crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// One that starts again begins its first pass after the unit that it died at.
    GoesOnWhereItWas,
    /// What is to be taken back of somebody is remembered when its slot is free.
    TakesFromTheNext,
}

/// What is explored: each number bounds how often something happens.
struct Domain {
    terms: Terms,
    /// The last unit is lost at first.
    lost: bool,
    reads: u8,
    writes: u8,
    deaths: u8,
    evictions: u8,
    restarts: u8,
    /// Evictions that cannot be done, and are begun anew.
    failures: u8,
    /// Grants to one that was evicted.
    late: u8,
    mistake: Mistake,
    calls: Calls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Left {
    reads: u8,
    writes: u8,
    deaths: u8,
    evictions: u8,
    restarts: u8,
    failures: u8,
    late: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Unit {
    words: Words,
    /// Its contents, in each incarnation of the memory.
    memory: [u8; 2],
    /// Ghosts. What was published last, and as which version; it is lost since; the grant of its
    /// writer is of no use to that one; what the last grant was of.
    published: u8,
    version: u64,
    gone: bool,
    useless: bool,
    seen: (u64, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Idle,
    Reads,
    /// It has stored nothing, half, or all of a change.
    Granted,
    Half,
    Whole,
}

/// What a member has of a unit, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Hold {
    at: At,
    lease: Lease,
    restores: bool,
}

impl Hold {
    const NONE: Self = Self {
        at: At::Idle,
        lease: Lease::NONE,
        restores: false,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Member {
    lives: bool,
    /// It is no member any more, and never gets the second memory.
    evicted: bool,
    holds: [Hold; UNITS],
}

impl Member {
    const NEW: Self = Self {
        lives: true,
        evicted: false,
        holds: [Hold::NONE; UNITS],
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    units: [Unit; UNITS],
    members: [Member; MEMBERS],
    daemon: Daemon,
    left: Left,
    broken: Option<Broken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Broken {
    /// The word is none.
    Word,
    /// What can be had is not what was published last.
    LostUpdate,
    /// Half of a change passes for good.
    Torn,
    /// Contents that were lost can be had, and nobody has restored them.
    LostServed,
    /// Two contents had the same version, so that the caches of a member would be believed.
    Stale,
    /// A version was published that was not above the last one.
    VersionFell,
    /// The version that is told of a lost unit is not the last that was published.
    LastGood,
    /// What nobody has written to since it was published is lost.
    LostInVain,
    /// A pass has left something with one that it was to take it from.
    HeldByTheGone,
    /// It has left a unit fenced.
    LeftFenced,
    /// It has left a unit set aside that nothing is to be found out about.
    LeftAside,
    /// It changes something when it is made once more.
    SecondPass,
    /// A unit could not be gone through.
    Stuck,
}

#[derive(Debug, Clone, Copy)]
struct Label {
    /// The daemon is number 0.
    who: usize,
    unit: Option<usize>,
    what: &'static str,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            0 => write!(f, "daemon: {}", self.what)?,
            who => write!(f, "member {who}: {}", self.what)?,
        }
        self.unit.map_or(Ok(()), |unit| write!(f, ", unit {unit}"))
    }
}

struct Steps<'a> {
    model: &'a Domain,
    state: &'a State,
    out: &'a mut Vec<(Label, State)>,
}

impl Steps<'_> {
    fn step(
        &mut self,
        (who, unit): (usize, Option<usize>),
        what: &'static str,
        change: impl FnOnce(&mut State),
    ) {
        let mut reached = *self.state;
        change(&mut reached);
        self.out.push((Label { who, unit, what }, reached));
    }
}

fn slot_of(index: usize) -> Slot {
    crate::state::slot_of(index)
}

impl State {
    fn breaks(&mut self, law: Broken) {
        self.broken = self.broken.or(Some(law));
    }
}

impl Unit {
    fn first(terms: Terms) -> Self {
        let sum = match terms {
            Terms::Checks => digest(0).word(0),
            _ => 0,
        };
        Self {
            words: Words {
                own: 0,
                version: 0,
                base: 0,
                backing: 0,
                sum,
                handed: 0,
            },
            memory: [0; 2],
            published: 0,
            version: 0,
            gone: false,
            useless: false,
            seen: (0, 0),
        }
    }

    /// One that its only writer has given up.
    fn lost(terms: Terms) -> Self {
        let mut unit = Self::first(terms);
        unit.words = unit.words.given_up();
        (unit.gone, unit.memory[0]) = (true, TORN);
        unit
    }

    /// The contents where members look for them.
    fn contents(&self) -> u8 {
        self.memory[usize::from(self.words.backing != 0)]
    }

    fn broken(&self) -> Option<Broken> {
        let Ok(own) = Own::judge(self.words.own) else {
            return Some(Broken::Word);
        };
        match own.state() {
            Held::Free | Held::Shared if self.gone => Some(Broken::LostServed),
            Held::Free | Held::Shared if self.contents() != self.published => {
                Some(Broken::LostUpdate)
            }
            Held::Lost if last_good(self.words.base, self.words.version) != self.version => {
                Some(Broken::LastGood)
            }
            _ => None,
        }
    }
}

impl Model for Domain {
    type State = State;
    type Label = Label;
    type Violation = Broken;

    fn initial(&self) -> State {
        let mut units = [Unit::first(self.terms); UNITS];
        if self.lost {
            units[UNITS - 1] = Unit::lost(self.terms);
        }
        State {
            units,
            members: [Member::NEW; MEMBERS],
            daemon: Daemon::FIRST,
            left: Left {
                reads: self.reads,
                writes: self.writes,
                deaths: self.deaths,
                evictions: self.evictions,
                restarts: self.restarts,
                failures: self.failures,
                late: self.late,
            },
            broken: None,
        }
    }

    fn steps(&self, state: &State, out: &mut Vec<(Label, State)>) {
        let mut steps = Steps {
            model: self,
            state,
            out,
        };
        (0..MEMBERS).for_each(|index| steps.member(index));
        steps.engine();
    }

    fn violated(&self, state: &State) -> Option<Broken> {
        let broken = state.broken;
        broken.or_else(|| state.units.iter().find_map(Unit::broken))
    }
}
