//! What a member does, an access at a time: as `member.rs`, `publish.rs` and `hand.rs` of the crate
//! have it.

use coherence::Own;

use super::{At, Broken, Bug, DEATHS, GRANTS, HANDS, Member, State, Steps};
use crate::state::{epoch, epoch_of, slot_of, small};

impl Steps<'_> {
    pub(super) fn member(&mut self, index: usize) {
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

    pub(super) const fn new() -> Self {
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
}
