//! What the daemon does, a call on a unit at a time, and its death before, in and after each.

use coherence::check::{Violation, check};
use coherence::evict::Held as Found;
use coherence::recover::is_decided;

use super::daemon::{Eviction, OWN, Work};
use super::real::{Answer, Call, Outcome, Words};
use super::{Broken, Mistake, State, Steps, UNITS, slot_of};

impl Steps<'_> {
    /// Every step that the daemon can take.
    pub(super) fn engine(&mut self) {
        self.hears();
        self.recalls();
        let resumes = self.model.mistake == Mistake::GoesOnWhereItWas;
        let daemon = self.state.daemon;
        match daemon.work {
            Work::Nothing => self.begins(),
            Work::Copies => self.copies(),
            Work::Takes | Work::Recovers { .. } => self.goes_on(),
        }
        let idle = daemon.work == Work::Nothing && daemon.eviction.is_none() && daemon.moved == 0;
        if !idle && self.state.left.restarts > 0 {
            self.daemon("dies, and starts again", |s| s.restarts(resumes));
        }
    }

    fn daemon(&mut self, what: &'static str, change: impl FnOnce(&mut State)) {
        self.step((0, None), what, change);
    }

    /// Processes end.
    fn hears(&mut self) {
        for (index, member) in self.state.members.into_iter().enumerate() {
            let slot = slot_of(index).bit();
            let daemon = self.state.daemon;
            if !member.lives && daemon.members & slot != 0 {
                self.daemon("hears that one is gone", |s| s.daemon.is_gone(slot));
            }
            if !member.lives && daemon.awaited & slot != 0 {
                self.daemon("hears that a process has ended", |s| {
                    s.daemon.has_ended(slot);
                });
            }
        }
    }

    /// Somebody has waited for a unit, and its holder does not let go.
    fn recalls(&mut self) {
        let daemon = self.state.daemon;
        if daemon.eviction.is_some() || !daemon.ready {
            return;
        }
        let words = self.state.units.iter().map(|unit| unit.words.own());
        let held = words.fold(0, |held, own| held | own.holders()) & !OWN;
        for index in 0..self.state.members.len() {
            let slot = slot_of(index).bit();
            if held & slot & daemon.cut_off & !daemon.to_take_back != 0 {
                self.daemon("is to take back what one has that was evicted", |s| {
                    s.daemon.to_take_back |= slot;
                });
            }
            let may = self.state.left.evictions > 0 && daemon.incarnation == 0;
            if may && held & slot & daemon.members != 0 {
                self.daemon("is to evict one", |s| {
                    s.left.evictions -= 1;
                    s.daemon.eviction = Some(Eviction {
                        slots: slot,
                        fences: false,
                    });
                });
            }
        }
    }

    fn begins(&mut self) {
        let daemon = self.state.daemon;
        if let Some(due) = daemon.due() {
            self.daemon("begins to recover", |s| {
                let first = s.daemon.unit;
                s.daemon.begins(due);
                s.daemon.unit = first;
            });
        }
        let Some(eviction) = daemon.evicts() else {
            return;
        };
        if eviction.slots & (daemon.members | daemon.awaited) == 0 {
            return self.daemon("has nobody to evict", |s| s.daemon.gives_up(true));
        }
        self.daemon("begins to take units", |s| s.daemon.begins(Work::Takes));
        self.fails();
    }

    fn fails(&mut self) {
        if self.state.left.failures > 0 {
            self.daemon("cannot do the eviction", |s| {
                s.left.failures -= 1;
                s.daemon.gives_up(false);
            });
        }
    }

    fn copies(&mut self) {
        let unit = usize::from(self.state.daemon.unit);
        if unit < UNITS {
            return self.step((0, Some(unit)), "copies", |s| {
                s.units[unit].memory[1] = s.units[unit].memory[0];
                s.daemon.unit += 1;
            });
        }
        self.fails();
        self.daemon("commits the move", |s| {
            let slots = s.daemon.eviction.map_or(0, |eviction| eviction.slots);
            let mut living = 0;
            for (index, member) in s.members.iter_mut().enumerate() {
                let slot = slot_of(index).bit();
                member.evicted |= slots & slot != 0;
                living |= if member.lives { slot } else { 0 };
            }
            s.daemon.has_moved(living);
        });
    }

    /// Goes on with the next unit, or is done with all.
    fn goes_on(&mut self) {
        let unit = usize::from(self.state.daemon.unit);
        if unit == UNITS {
            return self.ends();
        }
        let resumes = self.model.mistake == Mistake::GoesOnWhereItWas;
        let call = self.state.call_at(unit);
        let words = self.state.units[unit].words;
        let (calls, terms) = (&self.model.calls, self.model.terms);
        for Outcome { words, answer } in calls.outcomes(&words, call, terms).iter().copied() {
            let after = |s: &mut State| {
                let it = &mut s.units[unit];
                let before = *it;
                it.words = words;
                let broken = it.after_the_daemon(&before, terms);
                s.broken = s.broken.or(broken);
            };
            let Some(answer) = answer else {
                if self.state.left.restarts > 0 {
                    self.step((0, Some(unit)), "dies in a call, and starts again", |s| {
                        after(s);
                        s.restarts(resumes);
                    });
                }
                continue;
            };
            let again = self.again(&words, call);
            let what = match call {
                Call::Hold { .. } => "takes, to copy it",
                _ => "takes back what is held",
            };
            self.step((0, Some(unit)), what, |s| {
                after(s);
                s.has_gone_on(answer);
                if let Call::Pass { slots, .. } = call {
                    if again != words {
                        s.breaks(Broken::SecondPass);
                    }
                    if words.own().holders() & slots != 0 {
                        s.breaks(Broken::HeldByTheGone);
                    }
                }
            });
        }
    }

    /// The words where the same is done once more.
    fn again(&self, words: &Words, call: Call) -> Words {
        let outcomes = self.model.calls.outcomes(words, call, self.model.terms);
        outcomes.last().map_or(*words, |outcome| outcome.words)
    }

    /// All units were gone through.
    fn ends(&mut self) {
        let daemon = self.state.daemon;
        let Work::Recovers {
            slots,
            moved,
            taken_back,
            settles,
            ..
        } = daemon.work
        else {
            for more in [0, daemon.writers] {
                let first = more == 0;
                if first || self.state.left.evictions > 0 {
                    self.daemon("has gone through all units, to take them", |s| {
                        s.left.evictions -= u8::from(!first);
                        s.daemon.has_taken(more);
                    });
                }
            }
            return;
        };
        // Who was evicted may have taken a word meanwhile.
        let taken = (slots | moved | taken_back) & !daemon.cut_off;
        let again = (0..UNITS).any(|unit| {
            let (words, call) = (self.state.units[unit].words, self.state.call_at(unit));
            words.own().holders() & daemon.cut_off == 0 && self.again(&words, call) != words
        });
        let broken = left_behind(self.state, taken, settles);
        let broken = broken.or(again.then_some(Broken::SecondPass));
        let forgets = self.model.mistake != Mistake::TakesFromTheNext;
        let ended = taken_back | if forgets { slots } else { 0 };
        self.daemon("has gone through all units, to recover", |s| {
            s.broken = s.broken.or(broken);
            s.daemon.has_recovered(slots, moved, ended);
        });
    }
}

/// What a pass should have seen to that has taken back all that was held at the slots `taken`.
fn left_behind(state: &State, taken: u32, settles: bool) -> Option<Broken> {
    let lines = state.units.map(|unit| unit.words.line());
    let mut broken = None;
    check(&lines, !taken, |violation| {
        let law = match violation {
            Violation::LeftFenced { .. } if !settles => return,
            Violation::LeftFenced { .. } => Broken::LeftFenced,
            Violation::Stranger { .. } => Broken::HeldByTheGone,
            _ => Broken::Word,
        };
        broken = broken.or(Some(law));
    });
    let aside = lines.iter().any(|line| is_decided(line) == Ok(true));
    broken.or(aside.then_some(Broken::LeftAside))
}

impl State {
    fn restarts(&mut self, resumes: bool) {
        self.left.restarts -= 1;
        let after = self.daemon.unit + 1;
        self.daemon = self.daemon.restarted();
        if resumes && usize::from(after) < UNITS {
            self.daemon.unit = after;
        }
    }

    /// What is done to the unit by what is under way.
    fn call_at(&self, unit: usize) -> Call {
        let daemon = &self.daemon;
        let Work::Recovers {
            slots,
            moved,
            taken_back,
            settles,
            in_order,
        } = daemon.work
        else {
            let eviction = daemon.eviction;
            return Call::Hold {
                evicted: eviction.map_or(0, |eviction| eviction.slots),
                fences: eviction.is_some_and(|eviction| eviction.fences),
            };
        };
        Call::Pass {
            slots: slots | moved | taken_back,
            moved: (moved != 0).then_some(u64::from(daemon.incarnation)),
            settles,
            in_order,
            cut_off: daemon.cut_off,
            contents: self.units[unit].memory[usize::from(daemon.incarnation)],
        }
    }

    fn has_gone_on(&mut self, answer: Answer) {
        self.daemon.unit += 1;
        match answer {
            Answer::Held(Found::Written { slot, .. }) => self.daemon.writers |= slot.bit(),
            Answer::Refused => self.breaks(Broken::Stuck),
            _ => {}
        }
    }
}
