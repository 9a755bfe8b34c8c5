//! What the members do. One that is never chosen again is a stopped one; one that was evicted goes
//! on with what it has, and may take words late.

use coherence::State as Held;

use super::real::{Answer, Call, Lease, Outcome};
use super::{At, Broken, Hold, Member, State, Steps, TORN, Terms, UNITS, Unit, slot_of};

impl Steps<'_> {
    /// Every step that a member can take, its death, and the coming of another one.
    pub(super) fn member(&mut self, index: usize) {
        let member = self.state.members[index];
        let slot = slot_of(index).bit();
        if !member.lives {
            if self.state.daemon.may_come(slot) {
                self.step((index + 1, None), "comes to the slot", |s| {
                    s.members[index] = Member::NEW;
                    s.daemon.members |= slot;
                });
            }
            return;
        }
        if self.state.left.deaths > 0 {
            self.step((index + 1, None), "dies", |s| s.dies(index));
        }
        for unit in 0..UNITS {
            let hold = member.holds[unit];
            match hold.at {
                At::Idle => self.wants(index, unit),
                At::Reads => self.ends_reading(index, unit, &hold),
                At::Granted | At::Half | At::Whole => self.writes(index, unit, &hold),
            }
        }
    }

    /// Makes a call, and has `answered` what comes of it; dies in its midst.
    fn calls(
        &mut self,
        (index, unit): (usize, usize),
        what: &'static str,
        call: Call,
        answered: impl Fn(&mut State, Answer),
    ) {
        let before = self.state.units[unit].words;
        let outcomes = self.model.calls.outcomes(&before, call, self.model.terms);
        for Outcome { words, answer } in outcomes.iter().copied() {
            let who = (index + 1, Some(unit));
            match answer {
                Some(answer) => self.step(who, what, |s| {
                    s.units[unit].words = words;
                    answered(s, answer);
                }),
                None if self.state.left.deaths > 0 => self.step(who, "dies in a call", |s| {
                    s.units[unit].words = words;
                    if matches!(call, Call::Write(_) | Call::Restore(_)) {
                        s.units[unit].useless = !s.members[index].has(words.backing);
                    }
                    if let Call::Publish(_, lease) = call
                        && lease.is_held_by(before)
                        && !lease.is_held_by(words)
                    {
                        s.is_published(unit, lease);
                    }
                    s.dies(index);
                }),
                None => {}
            }
        }
    }

    fn wants(&mut self, index: usize, unit: usize) {
        let (left, slot) = (self.state.left, slot_of(index));
        if self.state.members[index].evicted && left.late == 0 {
            return;
        }
        let is_lost = self.state.units[unit].words.own().state() == Held::Lost;
        let granted = |at, restores| {
            move |s: &mut State, answer| {
                if let Answer::Granted(lease) = answer {
                    let hold = Hold {
                        at,
                        lease,
                        restores,
                    };
                    s.is_granted(index, unit, hold);
                }
            }
        };
        if left.reads > 0 && !is_lost {
            let reads = granted(At::Reads, false);
            self.calls((index, unit), "reads", Call::Read(slot), reads);
        }
        if left.writes > 0 {
            let (what, call) = match is_lost {
                true => ("restores", Call::Restore(slot)),
                false => ("writes", Call::Write(slot)),
            };
            self.calls((index, unit), what, call, granted(At::Granted, is_lost));
        }
    }

    fn ends_reading(&mut self, index: usize, unit: usize, hold: &Hold) {
        let call = Call::EndRead(slot_of(index), hold.lease);
        let place = usize::from(hold.lease.backing != 0);
        let has_it = self.state.members[index].has(hold.lease.backing);
        self.calls((index, unit), "has read", call, |s, answer| {
            let of = &s.units[unit];
            if answer == Answer::Done && has_it && of.memory[place] != of.published {
                s.breaks(Broken::LostUpdate);
            }
            s.members[index].holds[unit] = Hold::NONE;
        });
    }

    fn writes(&mut self, index: usize, unit: usize, hold: &Hold) {
        let (slot, lease) = (slot_of(index), hold.lease);
        let place = usize::from(lease.backing != 0);
        let stores = |what, torn, at| {
            move |steps: &mut Self| {
                steps.step((index + 1, Some(unit)), what, |s| {
                    s.units[unit].memory[place] = lease.contents() | torn;
                    s.members[index].holds[unit].at = at;
                });
            }
        };
        match hold.at {
            At::Half => stores("stores the rest", 0, At::Whole)(self),
            At::Whole => {
                let call = Call::Publish(slot, lease);
                self.calls((index, unit), "publishes", call, |s, answer| {
                    if answer == Answer::Done {
                        s.is_published(unit, lease);
                    }
                    s.members[index].holds[unit] = Hold::NONE;
                });
            }
            _ => {
                if self.state.members[index].has(lease.backing) {
                    stores("stores half", TORN, At::Half)(self);
                }
                if !hold.restores {
                    let call = Call::EndUnchanged(slot, lease);
                    self.calls((index, unit), "lets go", call, |s, _| {
                        s.members[index].holds[unit] = Hold::NONE;
                    });
                }
            }
        }
    }
}

impl Member {
    /// Whether it has the memory that it was granted mapped, or can map it.
    fn has(&self, backing: u64) -> bool {
        !self.evicted || backing == 0
    }
}

impl State {
    fn dies(&mut self, index: usize) {
        self.left.deaths -= 1;
        let member = &mut self.members[index];
        (member.lives, member.holds) = (false, [Hold::NONE; UNITS]);
    }

    fn is_granted(&mut self, index: usize, unit: usize, hold: Hold) {
        let member = &mut self.members[index];
        let has_it = member.has(hold.lease.backing);
        member.holds[unit] = hold;
        self.left.late -= u8::from(member.evicted);
        match hold.at {
            At::Reads => self.left.reads -= 1,
            _ => self.left.writes -= 1,
        }
        let it = &mut self.units[unit];
        it.useless = hold.at == At::Granted && !has_it;
        if !has_it || hold.restores {
            return;
        }
        let found = it.memory[usize::from(hold.lease.backing != 0)];
        let (version, contents) = std::mem::replace(&mut it.seen, (hold.lease.version, found));
        if version == hold.lease.version && contents != found {
            self.breaks(Broken::Stale);
        }
    }

    fn is_published(&mut self, unit: usize, lease: Lease) {
        let it = &mut self.units[unit];
        let fell = it.words.version <= it.version;
        (it.version, it.published, it.gone) = (it.words.version, lease.contents(), false);
        if fell {
            self.breaks(Broken::VersionFell);
        }
    }
}

impl Unit {
    /// The daemon has changed the words from what they were `before`.
    pub(super) fn after_the_daemon(&mut self, before: &Self, terms: Terms) -> Option<Broken> {
        let (was, is) = (before.words.own().state(), self.words.own().state());
        if !matches!(was, Held::Exclusive | Held::Fenced) {
            return (is == Held::Lost && was != Held::Lost).then_some(Broken::LostInVain);
        }
        match is {
            Held::Free => {
                self.version = self.words.version;
                if terms != Terms::Lose {
                    self.published = self.contents();
                }
                let torn = terms == Terms::Checks && self.published & TORN != 0;
                torn.then_some(Broken::Torn)
            }
            Held::Lost => {
                let untouched = terms == Terms::Checks && self.contents() == self.published;
                let in_vain = !self.gone && (self.useless || untouched);
                self.gone = true;
                in_vain.then_some(Broken::LostInVain)
            }
            _ => None,
        }
    }
}
