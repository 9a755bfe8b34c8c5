//! Handing a unit over, and giving its contents up, with deaths, living holders that are cut off,
//! and a daemon that starts again.
//!
//! One unit, one memory that all see the same, writers only: what concerns caches, readers and the
//! order of single accesses of a publication is explored in [`crate::world`] and is one step here.
//! The changes of the word are those of the crate; `handed`, `base` and whether a member lives are
//! written and read one access a step, as `hand.rs`, `abandon` and `recover.rs` do it.
//!
//! What a member that was cut off stores reaches nobody: the contents have other memory by then.

use std::fmt;

use coherence::{Own, State as Held};

use crate::search::Model;
use crate::state::FREE;

const MEMBERS: usize = 3;

/// A mistake that a program of this protocol could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// The giver does not look whether the receiver lives once it has given.
    NoSecondLook,
    /// It gives first, and leaves the note afterwards.
    GivesBeforeNote,
    /// It takes the note of a dead receiver away before it has the unit.
    NoteTakenFirst,
    /// The receiver leaves the note where it is.
    NoteLeft,
    /// It does not look at the word again once it has the note.
    NoLookAgain,
    /// The daemon does not look whether there is a note.
    NoteIgnored,
    /// The daemon leaves what a giver that died had handed to somebody who was gone.
    StrandedLeft,
    /// Who gives contents up notes nothing for whoever restores them.
    AbandonNotNoted,
    /// The daemon that keeps contents keeps those of a restorer as well.
    RestorerKept,
}

/// What is explored: each number bounds how often something happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handing {
    pub(crate) members: usize,
    pub(crate) grants: u8,
    pub(crate) hands: u8,
    pub(crate) deaths: u8,
    pub(crate) evictions: u8,
    pub(crate) restarts: u8,
    /// The contents of a writer that died are kept.
    pub(crate) keeps: bool,
    pub(crate) bug: Bug,
}

/// Who is to have the unit: the epoch, the member, its era.
type Note = Option<(u8, u8, u8)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Idle,
    Dead,
    /// It saw the word name it.
    Sees,
    /// It took the note.
    Taken,
    Holds,
    Release,
    LoadNote,
    LeaveNote,
    Give,
    LateNote,
    SecondLook,
    TakeBack,
    TakeOwn,
    Abandon,
    Disown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Member {
    at: At,
    /// What the directory says of its slot.
    lives: bool,
    era: u8,
    /// Ghost: the daemon has yet to go through what was held here.
    left: bool,
    epoch: u8,
    version: u8,
    changed: bool,
    /// Ghost: what it holds was taken away, and moved.
    cut: bool,
    to: (u8, u8),
    before: Note,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Doing {
    Nothing,
    Fence,
    Notes,
    Judge,
    Verdict,
    Settle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Daemon {
    doing: Doing,
    /// Whose slot it goes through.
    slot: Option<u8>,
    last_good: u8,
    was_lost: bool,
    good: bool,
}

const IDLE: Daemon = Daemon {
    doing: Doing::Nothing,
    slot: None,
    last_good: 0,
    was_lost: false,
    good: false,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    own: Own,
    handed: Note,
    /// Epoch, version, and whether the contents are lost.
    base: (u8, u8, bool),
    version: u8,
    members: [Member; MEMBERS],
    daemon: Daemon,
    left: [u8; 5],
    /// Ghosts: what was published last; there is half of a change; there are no contents; whoever
    /// the word names has taken the unit.
    published: u8,
    torn: bool,
    gone: bool,
    taken: bool,
    broken: Option<Broken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// Somebody writes who does not hold the unit.
    TwoWriters,
    /// Somebody is granted half of a change.
    UnpublishedSeen,
    /// Somebody is granted contents that were lost, and did not ask to restore them.
    LostServed,
    /// The version that is told for a lost unit is not the last that was published.
    LastGood,
    /// What was handed and never taken is lost.
    LostInVain,
    /// The word names a living member that has no guard and no note.
    Stranded,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Label(usize, &'static str);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MEMBERS => write!(f, "daemon: {}", self.1),
            index => write!(f, "member {}: {}", index + 1, self.1),
        }
    }
}

const GRANTS: usize = 0;
const HANDS: usize = 1;
const DEATHS: usize = 2;
const EVICTIONS: usize = 3;
const RESTARTS: usize = 4;

struct Steps<'a> {
    model: &'a Handing,
    state: &'a State,
    out: &'a mut Vec<(Label, State)>,
}

impl Steps<'_> {
    fn has(&self, bug: Bug) -> bool {
        self.model.bug == bug
    }

    fn step(&mut self, who: usize, what: &'static str, change: impl FnOnce(&mut State)) {
        let mut reached = *self.state;
        change(&mut reached);
        self.out.push((Label(who, what), reached));
    }

    /// A step of member `index`, which is handed over as a copy and put back.
    fn does(
        &mut self,
        index: usize,
        what: &'static str,
        change: impl FnOnce(&mut State, &mut Member),
    ) {
        self.step(index, what, |s| {
            let mut member = s.members[index];
            change(s, &mut member);
            s.members[index] = member;
        });
    }
}

impl Model for Handing {
    type State = State;
    type Label = Label;
    type Violation = Broken;

    fn initial(&self) -> State {
        State {
            own: FREE,
            handed: None,
            base: (0, 0, false),
            version: 0,
            members: [Member::new(); MEMBERS],
            daemon: IDLE,
            left: [
                self.grants,
                self.hands,
                self.deaths,
                self.evictions,
                self.restarts,
            ],
            published: 0,
            torn: false,
            gone: false,
            taken: false,
            broken: None,
        }
    }

    fn steps(&self, state: &State, out: &mut Vec<(Label, State)>) {
        let mut steps = Steps {
            model: self,
            state,
            out,
        };
        (0..self.members).for_each(|index| steps.member(index));
        steps.daemon();
    }

    fn violated(&self, state: &State) -> Option<Broken> {
        let lost = state.own.state() == Held::Lost && state.base.1 != state.published;
        let told = lost.then_some(Broken::LastGood);
        let stranded = state.is_stranded().then_some(Broken::Stranded);
        state.broken.or(told).or(stranded)
    }
}

mod daemon;
mod member;
mod runs;
