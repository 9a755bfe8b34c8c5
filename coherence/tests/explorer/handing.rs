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
use crate::state::{FREE, epoch, epoch_of, slot_of, small};

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

    fn member(&mut self, index: usize) {
        let (state, member) = (*self.state, self.state.members[index]);
        if member.at != At::Dead && state.left[DEATHS] > 0 {
            self.does(index, "dies", |s, m| {
                s.left[DEATHS] -= 1;
                m.go(At::Dead);
            });
        }
        match member.at {
            At::Idle => self.wants(index, &member),
            At::Dead if !member.lives && !member.left => {
                self.does(index, "another comes to the slot", |_, m| {
                    m.go(At::Idle);
                    (m.lives, m.era) = (true, m.era + 1);
                });
            }
            At::Dead => {}
            At::Sees | At::Taken => self.receives(index, &member),
            At::Holds => self.holds(index, &member),
            At::Release => self.does(index, "releases", |s, m| {
                if let Ok(own) = s.own.release_exclusive(slot_of(index), epoch(m.epoch)) {
                    s.own = own;
                    s.publish(m.changed);
                }
                m.go(At::Idle);
            }),
            At::Abandon | At::Disown => self.gives_up(index, &member),
            _ => self.hands(index, &member),
        }
    }

    fn wants(&mut self, index: usize, member: &Member) {
        let (state, slot) = (*self.state, slot_of(index));
        if state.left[GRANTS] > 0 {
            if let Ok(own) = state.own.grant_exclusive(slot) {
                self.does(index, "is granted", |s, m| {
                    s.left[GRANTS] -= 1;
                    s.enter(m, own, false);
                });
            }
            if let Ok(own) = state.own.restore(slot) {
                self.does(index, "restores", |s, m| {
                    s.left[GRANTS] -= 1;
                    s.enter(m, own, true);
                });
            }
        }
        let named = state.own.is_exclusive_of(slot, state.own.epoch());
        let note = Some((epoch_of(state.own), small(index), member.era));
        if named && state.handed == note {
            self.does(index, "sees the word name it", |s, m| {
                (m.at, m.epoch) = (At::Sees, epoch_of(s.own));
            });
        }
    }

    fn receives(&mut self, index: usize, member: &Member) {
        let leaves = self.has(Bug::NoteLeft);
        let trusts = self.has(Bug::NoLookAgain);
        if member.at == At::Sees {
            return self.does(index, "takes the note", |s, m| {
                if s.handed != Some((m.epoch, small(index), m.era)) {
                    return m.go(At::Idle);
                }
                if !leaves {
                    s.handed = None;
                }
                // Of one that took it, if only after the fence, the daemon knows no more.
                s.taken |= [m.epoch, m.epoch + 1].contains(&epoch_of(s.own));
                m.at = At::Taken;
            });
        }
        self.does(index, "looks at the word again", |s, m| {
            let own = s.own;
            if own.is_exclusive_of(slot_of(index), epoch(m.epoch)) {
                s.enter(m, own, false);
            } else if trusts {
                (m.at, m.version, m.changed) = (At::Holds, s.version, false);
            } else {
                m.go(At::Idle);
            }
        });
    }

    fn holds(&mut self, index: usize, member: &Member) {
        let slot = slot_of(index);
        if !member.changed {
            self.does(index, "writes half of a change", |s, m| {
                m.changed = true;
                if m.cut {
                    return;
                }
                s.torn = true;
                if !s.own.is_exclusive_of(slot, epoch(m.epoch)) {
                    s.broken = s.broken.or(Some(Broken::TwoWriters));
                }
            });
        }
        self.does(index, "publishes, to let go", |s, m| {
            s.note_and_raise(index, m, At::Release);
        });
        self.does(index, "publishes, to give the contents up", |s, m| {
            m.changed = true;
            s.note_and_raise(index, m, At::Abandon);
        });
        if self.state.left[HANDS] == 0 {
            return;
        }
        for to in (0..self.model.members).filter(|to| *to != index) {
            let receiver = self.state.members[to];
            if receiver.lives {
                self.does(index, "publishes, to hand over", |s, m| {
                    s.left[HANDS] -= 1;
                    m.to = (small(to), receiver.era);
                    s.note_and_raise(index, m, At::LoadNote);
                });
            }
        }
    }

    fn gives_up(&mut self, index: usize, member: &Member) {
        let notes = !self.has(Bug::AbandonNotNoted);
        if member.at == At::Abandon {
            return self.does(index, "notes it for whoever restores", |s, m| {
                if s.base.0 != m.epoch {
                    return m.go(At::Idle);
                }
                if notes {
                    s.base = (m.epoch + 1, s.base.1, true);
                }
                m.at = At::Disown;
            });
        }
        self.does(index, "says that it is lost", |s, m| {
            if let Ok(own) = s.own.abandon(slot_of(index), epoch(m.epoch)) {
                s.own = own;
                (s.gone, s.torn) = (true, false);
            }
            m.go(At::Idle);
        });
    }

    fn hands(&mut self, index: usize, member: &Member) {
        let note = Some((member.epoch + 1, member.to.0, member.to.1));
        let (late, blind) = (self.has(Bug::GivesBeforeNote), self.has(Bug::NoSecondLook));
        let mine = Some((member.epoch + 1, small(index), member.to.1));
        let first = self.has(Bug::NoteTakenFirst);
        let receiver = self.state.members[usize::from(member.to.0)];
        let lives = receiver.lives && receiver.era == member.to.1;
        let (slot, to) = (slot_of(index), slot_of(usize::from(member.to.0)));
        match member.at {
            At::LoadNote => self.does(index, "loads the note, and holds the unit", |s, m| {
                m.before = s.handed;
                if !s.own.is_exclusive_of(slot, epoch(m.epoch)) {
                    m.go(At::Idle);
                } else if late {
                    m.at = At::Give;
                } else {
                    m.at = At::LeaveNote;
                }
            }),
            At::LeaveNote => self.does(index, "leaves the note", |s, m| {
                if s.handed == m.before {
                    (s.handed, m.at) = (note, At::Give);
                } else {
                    m.at = At::LoadNote;
                }
            }),
            At::Give => self.does(index, "gives", |s, m| {
                let Ok(own) = s.own.hand_over(slot, epoch(m.epoch), to) else {
                    if s.handed == note {
                        s.handed = None;
                    }
                    return m.go(At::Idle);
                };
                s.own = own;
                s.publish(m.changed);
                s.taken = false;
                m.at = if late { At::LateNote } else { At::SecondLook };
            }),
            At::LateNote => self.does(index, "leaves the note, late", |s, m| {
                (s.handed, m.at) = (note, At::SecondLook);
            }),
            At::SecondLook => self.does(index, "looks whether the receiver lives", |_, m| {
                if lives || blind {
                    m.go(At::Idle);
                } else {
                    m.at = At::TakeBack;
                }
            }),
            At::TakeBack => self.does(index, "takes the note back", |s, m| {
                if s.handed == note {
                    (s.handed, m.at) = (mine.filter(|_| !first), At::TakeOwn);
                } else {
                    m.go(At::Idle);
                }
            }),
            _ => self.does(index, "takes the unit back", |s, m| {
                match s.own.hand_over(to, epoch(m.epoch + 1), slot) {
                    Ok(own) => {
                        if s.handed == mine {
                            s.handed = None;
                        }
                        s.enter(m, own, false);
                    }
                    Err(_) => m.go(At::Idle),
                }
            }),
        }
    }
}

impl Steps<'_> {
    fn daemon(&mut self) {
        let (state, daemon) = (*self.state, self.state.daemon);
        let (who, keeps) = (MEMBERS, self.model.keeps);
        let ignores = self.has(Bug::NoteIgnored);
        let leaves = self.has(Bug::StrandedLeft);
        let keeps_all = self.has(Bug::RestorerKept);
        match daemon.doing {
            Doing::Nothing => self.looks(),
            Doing::Fence => self.step(who, "fences, where it is held", |s| {
                let held = s.daemon.slot.is_some_and(|index| s.is_held_by(index));
                match s.own.fence() {
                    Ok(own) if held || s.is_handed_to_nobody() && !leaves => {
                        s.own = own;
                        s.daemon.doing = Doing::Notes;
                    }
                    _ => s.end_recovery(),
                }
            }),
            Doing::Notes => self.step(who, "notes and raises the version", State::notes),
            Doing::Judge => self.step(who, "judges", |s| {
                let holder = epoch_of(s.own) - 1;
                let untaken = s.handed.is_some_and(|note| note.0 == holder) && !ignores;
                s.daemon.good = untaken || keeps && (!s.daemon.was_lost || keeps_all);
                s.daemon.doing = Doing::Verdict;
            }),
            Doing::Verdict => self.step(who, "notes the verdict", |s| {
                let (good, fence) = (s.daemon.good, epoch_of(s.own));
                s.base = (fence + u8::from(!good), s.daemon.last_good, !good);
                s.daemon.doing = Doing::Settle;
            }),
            Doing::Settle => self.step(who, "settles", |s| s.settle(keeps)),
        }
        if daemon.doing != Doing::Nothing && state.left[RESTARTS] > 0 {
            self.step(who, "dies, and starts again", |s| {
                s.left[RESTARTS] -= 1;
                s.daemon = IDLE;
            });
        }
    }

    fn looks(&mut self) {
        let state = *self.state;
        for (index, member) in state.members.iter().enumerate().take(self.model.members) {
            let slot = Some(small(index));
            if member.at == At::Dead && member.lives {
                self.step(MEMBERS, "says that one is dead", |s| {
                    (s.members[index].lives, s.members[index].left) = (false, true);
                });
            }
            if member.left {
                self.step(MEMBERS, "goes through what one held", |s| {
                    let doing = match s.own.state() {
                        Held::Fenced => Doing::Notes,
                        _ => Doing::Fence,
                    };
                    s.daemon = Daemon {
                        doing,
                        slot,
                        ..IDLE
                    };
                });
            }
            let held = state.own.state() == Held::Exclusive && state.is_held_by(small(index));
            if held && member.at != At::Dead && state.left[EVICTIONS] > 0 {
                self.step(MEMBERS, "cuts a living one off", |s| s.cut_off());
            }
        }
        if state.own.state() == Held::Fenced {
            self.step(MEMBERS, "finds it fenced", |s| {
                s.daemon = Daemon {
                    doing: Doing::Notes,
                    ..IDLE
                };
            });
        }
    }
}

impl Member {
    fn go(&mut self, at: At) {
        *self = Self {
            at,
            lives: self.lives,
            era: self.era,
            left: self.left,
            ..Self::new()
        };
    }

    const fn new() -> Self {
        Self {
            at: At::Idle,
            lives: true,
            era: 0,
            left: false,
            epoch: 0,
            version: 0,
            changed: false,
            cut: false,
            to: (0, 0),
            before: None,
        }
    }
}

impl State {
    fn is_held_by(&self, index: u8) -> bool {
        self.own.is_held_by(slot_of(usize::from(index)))
    }

    /// A member has the unit by `own`.
    fn enter(&mut self, member: &mut Member, own: Own, restores: bool) {
        (self.own, self.taken) = (own, true);
        member.go(At::Holds);
        (member.epoch, member.version) = (epoch_of(own), self.version);
        member.changed = restores;
        if self.torn && !restores {
            self.broken = self.broken.or(Some(Broken::UnpublishedSeen));
        }
        if self.gone && !restores {
            self.broken = self.broken.or(Some(Broken::LostServed));
        }
    }

    /// `publish.rs`: where something was written the note is made and the version raised.
    fn note_and_raise(&mut self, index: usize, member: &mut Member, goal: At) {
        if !member.changed {
            member.at = goal;
            return;
        }
        if self.base.0 != member.epoch {
            if !self
                .own
                .is_exclusive_of(slot_of(index), epoch(member.epoch))
            {
                return member.go(At::Idle);
            }
            self.base = (member.epoch, member.version, false);
        }
        if self.version != member.version {
            return member.go(At::Idle);
        }
        self.version += 1;
        member.version += 1;
        member.at = goal;
    }

    fn publish(&mut self, changed: bool) {
        if changed {
            (self.published, self.torn, self.gone) = (self.version, false, false);
        }
    }

    fn cut_off(&mut self) {
        let held = epoch_of(self.own);
        let Ok(own) = self.own.fence() else { return };
        self.own = own;
        self.left[EVICTIONS] -= 1;
        for member in &mut self.members {
            // Who has yet to look again finds the new place.
            let inside = !matches!(member.at, At::Idle | At::Dead | At::Sees | At::Taken);
            member.cut |= inside && member.epoch == held;
        }
        self.daemon = Daemon {
            doing: Doing::Notes,
            ..IDLE
        };
    }

    /// Steps 2 and 3 of `recover.rs`.
    fn notes(&mut self) {
        let fence = epoch_of(self.own);
        let (by, noted, lost) = self.base;
        let daemon = &mut self.daemon;
        (daemon.last_good, daemon.was_lost) = (noted, lost);
        if by != fence && by != fence + 1 {
            if by != fence - 1 {
                (daemon.last_good, daemon.was_lost) = (self.version, false);
            }
            self.version += 1;
            self.base = (fence, daemon.last_good, daemon.was_lost);
        }
        daemon.doing = Doing::Judge;
    }

    fn settle(&mut self, keeps: bool) {
        let good = self.daemon.good;
        let settled = if good {
            self.own.repaired()
        } else {
            self.own.lost()
        };
        let Ok(own) = settled else { return };
        self.own = own;
        if good {
            self.published = self.version;
            self.torn &= !keeps;
        } else {
            if !self.taken && !self.gone {
                self.broken = self.broken.or(Some(Broken::LostInVain));
            }
            (self.gone, self.torn) = (true, false);
        }
        self.end_recovery();
    }

    /// There is a note of this grant, and it is of nobody who lives and is named by the word.
    fn is_handed_to_nobody(&self) -> bool {
        let of_now = self.handed.filter(|note| note.0 == epoch_of(self.own));
        of_now.is_some_and(|(_, index, era)| {
            let member = &self.members[usize::from(index)];
            !(self.is_held_by(index) && member.lives && member.era == era)
        })
    }

    fn end_recovery(&mut self) {
        if let Some(index) = self.daemon.slot {
            self.members[usize::from(index)].left = false;
        }
        self.daemon = IDLE;
    }

    fn is_stranded(&self) -> bool {
        let Some(index) = (0..MEMBERS).find(|index| self.is_held_by(small(*index))) else {
            return false;
        };
        let member = self.members[index];
        let note = Some((epoch_of(self.own), small(index), member.era));
        let giving = |m: &Member| {
            let gives = matches!(
                m.at,
                At::LateNote | At::SecondLook | At::TakeBack | At::TakeOwn
            );
            gives && usize::from(m.to.0) == index
        };
        self.own.state() == Held::Exclusive
            && member.at == At::Idle
            && self.handed != note
            && self.daemon.doing == Doing::Nothing
            && !self.members.iter().any(|m| m.left || giving(m))
            && !self.members.iter().any(|m| m.at == At::Dead && m.lives)
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

#[path = "handing_runs.rs"]
mod runs;
