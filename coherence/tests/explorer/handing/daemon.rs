//! What the daemon does: recovery as `recover.rs` of the crate has it, of the dead, of the living
//! that are cut off, and of what was handed to nobody.

use coherence::State as Held;

use super::{
    At, Broken, Bug, Daemon, Doing, EVICTIONS, IDLE, MEMBERS, Member, RESTARTS, State, Steps,
};
use crate::state::{epoch_of, slot_of, small};

impl Steps<'_> {
    pub(super) fn daemon(&mut self) {
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

impl State {
    pub(super) fn is_held_by(&self, index: u8) -> bool {
        self.own.is_held_by(slot_of(usize::from(index)))
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

    pub(super) fn is_stranded(&self) -> bool {
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
