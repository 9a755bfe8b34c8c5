//! Sleeping and waking, with deaths: nobody sleeps while it could have what it waits for (I9).
//!
//! Members take turns at one unit as `wait_shared`, `wait_exclusive`, `sleep` and `after_release`
//! of the crate do it, a shared access a step. A sleeper is stuck where nobody is on the way to
//! wake it: everybody else is asleep, dead and recovered, or has gone. Two things rescue it, and
//! each is explored without the other: the cap, after which it looks again by itself, and the
//! daemon, which rouses all who sleep when a member has died.

use coherence::{Own, Refused, State as Held};

use crate::search::Model;
use crate::state::{FREE, epoch, epoch_of, slot_of};

const MEMBERS: usize = 3;

/// A mistake that a program of this protocol could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A sleeper does not look once more after it has read the event.
    NoSecondLook,
    /// It reads the event after it has looked.
    EventReadLate,
    /// A waker does not move the event.
    EventNotMoved,
    /// Who has asked and gives up leaves its recall.
    RecallLeft,
    /// A release leaves the mark of those who sleep, and wakes nobody.
    NobodyWoken,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) members: usize,
    /// How often each may want the unit.
    pub(crate) turns: u8,
    pub(crate) deaths: u8,
    /// Sleepers look again by themselves.
    pub(crate) capped: bool,
    /// The daemon rouses all when it has recovered what a dead member held.
    pub(crate) roused: bool,
    pub(crate) bug: Bug,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Away,
    /// Looks at the word, and takes the unit where it can.
    Look,
    Announce,
    LoadEvent,
    SecondLook,
    Wait,
    Asleep,
    /// It may give up: says so, where it asked for the unit.
    EndRecall,
    Holds,
    MoveEvent,
    WakeAll,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    at: At,
    writes: bool,
    turns: u8,
    epoch: u8,
    /// The word it saw, and then the one it announced.
    own: Own,
    /// It slept for a cap while the word was that.
    capped: bool,
    /// It has slept in vain: its grace may be over.
    slept: bool,
    /// It announces that it sleeps by asking for the unit.
    asks: bool,
    /// It has asked for the unit.
    asked: bool,
    seen: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Daemon {
    Nothing,
    Fenced,
    Rouse,
    /// Wakes; whether it is to rouse afterwards.
    MoveEvent(bool),
    WakeAll(bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    own: Own,
    event: u8,
    deaths: u8,
    daemon: Daemon,
    members: [Member; MEMBERS],
    /// Members whose death the daemon has not dealt with, a bit each.
    unmourned: u8,
}

/// A sleeper that nobody will wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AsleepForEver;

struct Steps<'a> {
    model: &'a Waiting,
    state: &'a State,
    out: &'a mut Vec<(Label, State)>,
}

/// Who does what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label(usize, &'static str);

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => write!(f, "daemon   {}", self.1),
            member => write!(f, "member {member} {}", self.1),
        }
    }
}

impl Steps<'_> {
    fn has(&self, bug: Bug) -> bool {
        self.model.bug == bug
    }

    fn does(&mut self, index: usize, what: &'static str, change: impl FnOnce(&mut Member)) {
        self.changes(index, what, |_, member| change(member));
    }

    fn changes(
        &mut self,
        index: usize,
        what: &'static str,
        change: impl FnOnce(&mut State, &mut Member),
    ) {
        let mut reached = *self.state;
        let mut member = reached.members[index];
        change(&mut reached, &mut member);
        reached.members[index] = member;
        self.out.push((Label(index + 1, what), reached));
    }

    fn daemon_does(&mut self, what: &'static str, change: impl FnOnce(&mut State)) {
        let mut reached = *self.state;
        change(&mut reached);
        self.out.push((Label(0, what), reached));
    }

    fn member(&mut self, index: usize) {
        let member = self.state.members[index];
        let own = self.state.own;
        match member.at {
            At::Dead => return,
            At::Away => {
                if member.turns > 0 {
                    for (writes, what) in [(false, "wants to read"), (true, "wants to write")] {
                        self.does(index, what, |m| {
                            (m.writes, m.at, m.turns) = (writes, At::Look, m.turns - 1);
                        });
                    }
                }
                return;
            }
            At::Look => self.looks(index, &member),
            At::Announce => self.announces(index, &member),
            At::LoadEvent => {
                let event = self.state.event;
                let late = self.has(Bug::EventReadLate);
                let looks = !self.has(Bug::NoSecondLook) && !late;
                self.does(index, "loads the event", |m| {
                    m.seen = event;
                    m.at = if looks { At::SecondLook } else { At::Wait };
                });
            }
            At::SecondLook => {
                let late = self.has(Bug::EventReadLate);
                self.does(index, "looks once more", |m| {
                    if own != m.own {
                        m.look_again(false);
                    } else {
                        m.at = if late { At::LoadEvent } else { At::Wait };
                    }
                });
            }
            At::Wait if self.state.event == member.seen => {
                self.does(index, "falls asleep", |m| m.at = At::Asleep);
            }
            At::Wait => self.does(index, "need not sleep", |m| m.look_again(false)),
            At::Asleep => {
                if self.model.capped {
                    self.does(index, "wakes by itself", |m| m.look_again(own == m.own));
                }
                self.gives_up(index, &member);
            }
            At::EndRecall => self.ends_recall(index),
            At::Holds => self.releases(index, &member),
            At::MoveEvent => {
                let moves = !self.has(Bug::EventNotMoved);
                self.changes(index, "moves the event", |s, m| {
                    s.event += u8::from(moves);
                    m.at = At::WakeAll;
                });
            }
            At::WakeAll => self.changes(index, "wakes all", |s, m| {
                s.wake_all();
                m.go();
            }),
        }
        if self.state.deaths > 0 {
            self.changes(index, "dies", |s, m| {
                s.deaths -= 1;
                s.unmourned |= 1 << index;
                let turns = m.turns;
                m.go();
                (m.at, m.turns) = (At::Dead, turns);
            });
        }
    }

    fn looks(&mut self, index: usize, member: &Member) {
        let (own, slot) = (self.state.own, slot_of(index));
        let in_turn = member.asked || member.capped && own == member.own;
        let granted = match (member.writes, in_turn) {
            (true, true) => own.grant_exclusive_in_turn(slot),
            (true, false) => own.grant_exclusive(slot),
            (false, true) => own.grant_shared_in_turn(slot),
            (false, false) => own.grant_shared(slot),
        };
        match granted {
            Ok(granted) => self.changes(index, "is granted", |s, m| {
                s.own = granted;
                m.go();
                (m.at, m.writes, m.epoch) = (At::Holds, member.writes, epoch_of(granted));
            }),
            Err(refused) if !refused.passes() => self.does(index, "is refused", Member::go),
            Err(refused) => {
                let may_ask = match (refused, own.state()) {
                    (Refused::Recalled, _) => [None, Some(false)],
                    (_, Held::Shared) => [Some(true), None],
                    // Whether the grace is over is the clock's.
                    _ => [member.slept.then_some(true), Some(false)],
                };
                for asks in may_ask.into_iter().flatten() {
                    self.does(index, "is to wait", |m| {
                        (m.own, m.at, m.asks) = (own, At::Announce, asks);
                    });
                }
                self.gives_up(index, member);
            }
        }
    }

    /// Its deadline has come.
    fn gives_up(&mut self, index: usize, member: &Member) {
        let leaves = !member.asked || self.has(Bug::RecallLeft);
        self.does(index, "gives up", |m| {
            m.go();
            m.at = if leaves { At::Away } else { At::EndRecall };
        });
    }

    fn announces(&mut self, index: usize, member: &Member) {
        let asking = if member.asks {
            member.own.recalled()
        } else {
            member.own.awaited()
        };
        let late = self.has(Bug::EventReadLate);
        if asking == member.own || self.state.own == member.own {
            self.changes(index, "says that it sleeps", |s, m| {
                // A word that says so already is not exchanged.
                if asking != m.own {
                    s.own = asking;
                }
                (m.own, m.slept, m.asked) = (asking, true, m.asked || m.asks);
                m.at = if late { At::SecondLook } else { At::LoadEvent };
            });
        } else {
            self.does(index, "says so in vain", |m| m.look_again(false));
        }
    }

    fn ends_recall(&mut self, index: usize) {
        let own = self.state.own;
        if !own.is_recalled() {
            return self.does(index, "finds no recall", Member::go);
        }
        self.changes(index, "ends the recall", |s, m| {
            s.own = own.recall_ended();
            m.go();
            m.wakes_after(own, s.own);
        });
    }

    fn releases(&mut self, index: usize, member: &Member) {
        let own = self.state.own;
        let (slot, granted) = (slot_of(index), epoch(member.epoch));
        let released = if member.writes {
            own.release_exclusive(slot, granted)
        } else {
            own.release_shared(slot, granted)
        };
        let silent = self.has(Bug::NobodyWoken);
        let Ok(released) = released else { return };
        self.changes(index, "releases", |s, m| {
            s.own = if silent && own.has_waiters() {
                released.awaited()
            } else {
                released
            };
            m.go();
            m.wakes_after(own, s.own);
        });
    }

    /// What the daemon does about deaths: `recover`, for each unit of the dead, and `rouse`.
    fn daemon(&mut self) {
        let own = self.state.own;
        match self.state.daemon {
            Daemon::Nothing => {
                for index in 0..self.model.members {
                    if self.state.unmourned & 1 << index != 0 {
                        self.recovers(index);
                    }
                }
            }
            Daemon::Fenced => self.daemon_does("repairs", |s| {
                s.own = own.repaired().unwrap_or(own);
                s.daemon = after_change(own, s.own);
            }),
            Daemon::Rouse if !self.model.roused => {
                self.daemon_does("is done", |s| s.daemon = Daemon::Nothing);
            }
            Daemon::Rouse => self.daemon_does("ends recalls, to rouse all", |s| {
                s.own = own.recall_ended();
                s.daemon = Daemon::MoveEvent(false);
            }),
            Daemon::MoveEvent(rouses) => self.daemon_does("moves the event", |s| {
                s.event += 1;
                s.daemon = Daemon::WakeAll(rouses);
            }),
            Daemon::WakeAll(rouses) => self.daemon_does("wakes all", |s| {
                s.wake_all();
                s.daemon = if rouses {
                    Daemon::Rouse
                } else {
                    Daemon::Nothing
                };
            }),
        }
    }

    fn recovers(&mut self, index: usize) {
        let (own, slot) = (self.state.own, slot_of(index));
        self.daemon_does("recovers what the dead held", |s| {
            s.unmourned &= !(1 << index);
            let held = own.is_held_by(slot);
            s.daemon = match own.state() {
                Held::Shared if held => {
                    s.own = own.release_shared(slot, own.epoch()).unwrap_or(own);
                    after_change(own, s.own)
                }
                Held::Exclusive if held => {
                    s.own = own.fence().unwrap_or(own);
                    Daemon::Fenced
                }
                _ => Daemon::Rouse,
            };
        });
    }
}

fn after_change(before: Own, after: Own) -> Daemon {
    if before.has_waiters() && !after.has_waiters() {
        Daemon::MoveEvent(true)
    } else {
        Daemon::Rouse
    }
}

impl Member {
    fn go(&mut self) {
        *self = Self {
            turns: self.turns,
            ..Self::NEW
        };
    }

    const NEW: Self = Self {
        at: At::Away,
        writes: false,
        turns: 0,
        epoch: 0,
        own: FREE,
        capped: false,
        slept: false,
        asks: false,
        asked: false,
        seen: 0,
    };

    fn look_again(&mut self, capped: bool) {
        (self.at, self.capped, self.seen, self.asks) = (At::Look, capped, 0, false);
        if !capped {
            self.own = FREE;
        }
    }

    fn wakes_after(&mut self, before: Own, after: Own) {
        if before.has_waiters() && !after.has_waiters() {
            self.at = At::MoveEvent;
        }
    }
}

impl State {
    fn wake_all(&mut self) {
        for member in &mut self.members {
            if member.at == At::Asleep {
                member.look_again(false);
            }
        }
    }
}

impl Model for Waiting {
    type State = State;
    type Label = Label;
    type Violation = AsleepForEver;

    fn initial(&self) -> State {
        let mut members = [Member::NEW; MEMBERS];
        for member in members.iter_mut().take(self.members) {
            member.turns = self.turns;
        }
        State {
            own: FREE,
            event: 0,
            deaths: self.deaths,
            daemon: Daemon::Nothing,
            members,
            unmourned: 0,
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

    fn violated(&self, state: &State) -> Option<AsleepForEver> {
        let still = |m: &Member| matches!(m.at, At::Away | At::Asleep | At::Dead);
        let quiet = state.members.iter().all(still)
            && state.daemon == Daemon::Nothing
            && state.unmourned == 0;
        if !quiet {
            return None;
        }
        let stuck = |index: usize| {
            state.members[index].at == At::Asleep && !self.gets_it_alone(state, index)
        };
        (0..self.members).any(stuck).then_some(AsleepForEver)
    }
}

impl Waiting {
    /// Three members that want the unit once each, and nothing that goes wrong or rescues.
    pub(crate) const QUIET: Self = Self {
        members: 3,
        turns: 1,
        deaths: 0,
        capped: false,
        roused: false,
        bug: Bug::None,
    };

    /// Whether the member at `index` gets the unit where nobody else does anything.
    fn gets_it_alone(&self, state: &State, index: usize) -> bool {
        if !self.capped {
            return false;
        }
        let mut state = *state;
        state.deaths = 0;
        for _ in 0..20 {
            let mut out = Vec::new();
            let mut steps = Steps {
                model: self,
                state: &state,
                out: &mut out,
            };
            steps.member(index);
            // The first thing that it can do is not to give up.
            let Some((_, reached)) = out.first() else {
                return false;
            };
            state = *reached;
            if state.members[index].at == At::Holds {
                return true;
            }
        }
        false
    }
}
