//! What a member does, an access at a time, as `member.rs` of the crate and the rules for cached
//! lines have it.
//!
//! A change of the word is one step where the code tries until its compare-exchange succeeds,
//! except for an exclusive grant: there the note that precedes it may be made for a word that is
//! gone by then, so loads, note and grant are steps of their own.

use coherence::{Own, Refused};

use crate::scope::{Bug, Caches};
use crate::state::{
    Aim, At, Backing, Base, Broken, FREE, LINES, Member, State, Tag, UNCACHED, Who, epoch,
    epoch_of, slot_of, small,
};
use crate::world::World;

impl World<'_> {
    fn is_coherent(&self) -> bool {
        self.scope.caches == Caches::Coherent
    }

    /// Every step that member `index` can take.
    pub(crate) fn member(&mut self, index: usize) {
        let member = self.state.members[index];
        match member.at {
            At::Dead => {}
            At::Idle => (0..self.scope.units).for_each(|unit| self.idle(index, unit)),
            At::BaseLoad | At::OwnLoad | At::VersionLoadForNote | At::Note | At::Take => {
                self.before_exclusive(index, &member);
            }
            At::Version | At::Backing | At::LateNote | At::SecondLook | At::Fit => {
                self.after_grant(index, &member);
            }
            At::Load0 | At::Load1 | At::Check | At::Read => self.reading(index, &member),
            At::Store0 | At::Store1 | At::WriteBack0 | At::WriteBack1 => {
                self.writing(index, &member);
            }
            At::Drop | At::Raise | At::ReleaseShared | At::ReleaseExclusive | At::Revoked => {
                self.letting_go(index, &member);
            }
        }
    }

    /// A step of member `index` in its unit.
    fn does(
        &mut self,
        index: usize,
        what: &'static str,
        change: impl FnOnce(&mut State, &mut Member),
    ) {
        let unit = self.state.members[index].unit();
        self.step(Who::Member(index), unit, what, |s| {
            let mut member = s.members[index];
            // What `change` does to caches it does to the state; to the rest of the member here.
            change(s, &mut member);
            member.lines = s.members[index].lines;
            s.members[index] = member;
        });
    }

    fn idle(&mut self, index: usize, unit: usize) {
        let own = self.state.units[unit].own;
        let who = Who::Member(index);
        let begin = |aim, at| {
            move |s: &mut State| {
                let member = &mut s.members[index];
                (member.aim, member.at, member.unit) = (aim, at, small(unit));
            }
        };
        if self.has(Bug::BackingBeforeGrant) {
            self.step(who, unit, "wants to read", begin(Aim::Read, At::BaseLoad));
        } else if let Ok(granted) = shared(own, index) {
            self.step(who, unit, "is granted shared", |s| {
                begin(Aim::Read, At::Version)(s);
                s.units[unit].own = granted;
                s.members[index].epoch = epoch_of(granted);
            });
        }
        if self.state.left.writes > 0 {
            let aim = if own.state() == coherence::State::Lost {
                Aim::Restore
            } else {
                Aim::Write
            };
            self.wants(index, "wants to write", begin(aim, At::BaseLoad));
        }
    }

    /// A step to what comes before an exclusive grant, or through all of it.
    fn wants(&mut self, index: usize, what: &'static str, change: impl FnOnce(&mut State)) {
        let mut wanting = *self.state;
        change(&mut wanting);
        let unit = wanting.members[index].unit();
        let who = Who::Member(index);
        if self.is_fine() {
            return self.step(who, unit, what, |s| *s = wanting);
        }
        let member = wanting.members[index];
        let before = wanting.units[unit];
        let Ok(changed) = member.change(before.own, index) else {
            return;
        };
        let epoch = epoch_of(changed);
        let mut noting = member;
        noting.noted = before.base;
        let note = noting.note(epoch, before.version);
        self.step(who, unit, "notes, and is granted exclusive", |s| {
            *s = wanting;
            if before.base.epoch != epoch {
                s.units[unit].base = note;
            }
            s.units[unit].own = changed;
            s.left.writes -= 1;
            s.members[index].granted(changed);
        });
    }

    /// Whether what comes before an exclusive grant is more than one step.
    fn is_fine(&self) -> bool {
        let bugs = [
            Bug::NotNoted,
            Bug::NotedLate,
            Bug::FailedNoteIgnored,
            Bug::BackingBeforeGrant,
        ];
        self.scope.fine_notes || bugs.contains(&self.scope.bug)
    }

    fn before_exclusive(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        let late = self.has(Bug::NotedLate) || self.has(Bug::NotNoted);
        let early = self.has(Bug::BackingBeforeGrant);
        if self.state.left.writes == 0 && member.aim != Aim::Read {
            return self.does(index, "gives up", |_, m| m.give_up());
        }
        match member.at {
            At::BaseLoad => self.does(index, "loads base", |_, m| {
                m.noted = unit.base;
                if early {
                    m.backing = unit.backing;
                }
                m.at = if late || m.aim == Aim::Read {
                    At::Take
                } else {
                    At::OwnLoad
                };
            }),
            At::OwnLoad => self.does(index, "loads own", |_, m| match m.change(unit.own, index) {
                Ok(changed) => {
                    m.own = unit.own;
                    m.at = if m.noted.epoch == epoch_of(changed) {
                        At::Take
                    } else {
                        At::VersionLoadForNote
                    };
                }
                Err(Refused::NotHeld) => m.lose(),
                Err(_) => m.give_up(),
            }),
            At::VersionLoadForNote => self.does(index, "loads version, to note it", |_, m| {
                m.noting = unit.version;
                m.at = At::Note;
            }),
            At::Note => self.note(index, member),
            _ => self.take(index, member, late || member.aim == Aim::Read),
        }
    }

    fn note(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        let ignores = self.has(Bug::FailedNoteIgnored);
        let Ok(changed) = member.change(member.own, index) else {
            return;
        };
        if unit.base == member.noted {
            self.does(index, "notes version and epoch to be", |s, m| {
                s.units[m.unit()].base = m.note(epoch_of(changed), m.noting);
                m.at = At::Take;
            });
        } else {
            let at = if ignores { At::Take } else { At::BaseLoad };
            self.does(index, "notes in vain", |_, m| m.at = at);
        }
    }

    /// Takes the unit: from the word that was loaded, or from whatever it is where nothing depends
    /// on that.
    fn take(&mut self, index: usize, member: &Member, from_any: bool) {
        let own = self.state.units[member.unit()].own;
        if !from_any && own != member.own {
            return self.does(index, "takes it in vain", |_, m| {
                m.own = FREE;
                m.at = At::BaseLoad;
            });
        }
        let Ok(changed) = member.change(own, index) else {
            return self.does(index, "gives up", |_, m| m.give_up());
        };
        let early = self.has(Bug::BackingBeforeGrant).then_some(member.backing);
        self.does(index, "is granted", |s, m| {
            s.units[m.unit()].own = changed;
            if m.aim != Aim::Read {
                s.left.writes -= 1;
            }
            m.granted(changed);
            m.backing = early.unwrap_or(m.backing);
        });
    }

    fn after_grant(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        let looks = if self.has(Bug::NoSecondLook) {
            At::Fit
        } else {
            At::SecondLook
        };
        let notes = self.has(Bug::NotedLate) && member.aim != Aim::Read;
        let after_backing = if notes { At::LateNote } else { looks };
        match member.at {
            At::Version => {
                let early = self.has(Bug::BackingBeforeGrant);
                self.does(index, "loads version", |_, m| {
                    m.version = unit.version;
                    m.at = if early { after_backing } else { At::Backing };
                });
            }
            At::Backing => self.does(index, "loads backing", |_, m| {
                m.backing = unit.backing;
                m.at = after_backing;
            }),
            At::LateNote => self.does(index, "notes version and epoch", |s, m| {
                s.units[m.unit()].base = m.note(m.epoch, m.version);
                m.at = looks;
            }),
            At::SecondLook if member.is_granted(unit.own, index) => {
                self.does(index, "looks: it holds it", |_, m| m.at = At::Fit);
            }
            At::SecondLook => self.does(index, "looks: it was cut off", |_, m| m.lose()),
            _ => self.fit(index),
        }
    }

    /// Maps what it was granted, and drops what it has cached of other contents.
    fn fit(&mut self, index: usize) {
        let (coherent, believes) = (self.is_coherent(), self.has(Bug::NeverInvalidate));
        let keeps = self.has(Bug::RemapKeepsVersion);
        self.does(index, "maps, and drops stale lines", |s, m| {
            let unit = m.unit();
            m.noted = Base::default();
            if m.mapped[unit] != m.backing {
                m.mapped[unit] = m.backing;
                if !keeps {
                    m.cached[unit] = UNCACHED;
                }
            }
            if m.cached[unit] != m.version && !coherent {
                if !believes {
                    s.drop_lines(index, m.backing.frame());
                }
                m.cached[unit] = m.version;
            }
            if m.aim == Aim::Read {
                m.version = 0;
            }
            m.at = if m.aim == Aim::Restore {
                At::Store0
            } else {
                At::Load0
            };
        });
    }

    fn reading(&mut self, index: usize, member: &Member) {
        let cached = !self.is_coherent();
        let unit = self.state.units[member.unit()];
        let frame = member.backing.frame();
        match member.at {
            At::Load0 => self.does(index, "loads line 0", |s, m| {
                m.seen[0] = s.load(cached, index, frame, 0);
                m.at = At::Load1;
            }),
            At::Load1 => self.does(index, "loads line 1", |s, m| {
                m.seen[1] = s.load(cached, index, frame, 1);
                m.at = At::Check;
            }),
            At::Check if !member.is_granted(unit.own, index) => {
                self.does(index, "checks: it was cut off", |_, m| m.lose());
            }
            At::Check => {
                self.does(index, "checks: what it read counts", |s, m| {
                    if m.seen != unit.contents {
                        let newest = m.seen.iter().map(|tag| tag.epoch()).max();
                        let unpublished = newest > unit.contents.iter().map(|t| t.epoch()).max();
                        s.broken = s.broken.or(Some(if unpublished {
                            Broken::UnpublishedSeen
                        } else {
                            Broken::StaleRead
                        }));
                    }
                    m.seen = Member::NEW.seen;
                    m.at = if m.aim == Aim::Read {
                        At::Read
                    } else {
                        At::Store0
                    };
                });
                if member.aim != Aim::Read {
                    let at = self.before_release(At::ReleaseExclusive);
                    self.does(index, "checks, and writes nothing", |_, m| {
                        m.seen = Member::NEW.seen;
                        m.at = at;
                    });
                }
            }
            _ => {
                let at = self.before_release(At::ReleaseShared);
                self.does(index, "has read", |_, m| m.at = at);
                if self.scope.changes_of_mode && self.state.left.writes > 0 {
                    self.wants(index, "wants to write as well", |s| {
                        let member = &mut s.members[index];
                        (member.aim, member.at) = (Aim::Upgrade, At::BaseLoad);
                    });
                }
            }
        }
    }

    fn before_release(&self, at: At) -> At {
        if self.scope.temporal { At::Drop } else { at }
    }

    fn writing(&mut self, index: usize, member: &Member) {
        let cached = !self.is_coherent();
        let frame = member.backing.frame();
        let tag = Tag::new(member.unit(), member.epoch);
        let early = self.has(Bug::PublishBeforeFlush);
        let unflushed = !cached || early || self.has(Bug::SkipFlush);
        let raise = self.before_release(At::Raise);
        match member.at {
            At::Store0 => self.does(index, "stores line 0", |s, m| {
                s.store(cached, index, (frame, 0), tag);
                m.changed = true;
                m.at = At::Store1;
            }),
            At::Store1 => {
                self.does(index, "stores line 1", |s, m| {
                    s.store(cached, index, (frame, 1), tag);
                    m.at = if unflushed { raise } else { At::WriteBack0 };
                });
                if !member.is_granted(self.state.units[member.unit()].own, index) {
                    self.does(index, "checks: it was cut off", |_, m| m.lose());
                }
            }
            At::WriteBack0 => self.does(index, "writes line 0 back", |s, m| {
                s.write_back(index, frame, 0);
                m.at = At::WriteBack1;
            }),
            _ => self.does(index, "writes line 1 back", |s, m| {
                s.write_back(index, frame, 1);
                if early {
                    m.go_idle();
                } else {
                    m.at = raise;
                }
            }),
        }
    }

    fn letting_go(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        match member.at {
            At::Drop => self.does(index, "drops its lines and unmaps", |s, m| {
                s.drop_lines(index, m.backing.frame());
                m.mapped[m.unit()] = Backing::NONE;
                m.cached[m.unit()] = UNCACHED;
                m.at = match (m.aim, m.changed) {
                    (Aim::Read | Aim::Upgrade, _) => At::ReleaseShared,
                    (_, false) => At::ReleaseExclusive,
                    (_, true) => At::Raise,
                };
            }),
            At::Raise => self.raise(index, member),
            At::ReleaseShared => {
                match unit.own.release_shared(slot_of(index), epoch(member.epoch)) {
                    Ok(released) => self.does(index, "releases", |s, m| {
                        s.units[m.unit()].own = released;
                        m.go_idle();
                    }),
                    Err(_) => self.does(index, "releases: it was cut off", |_, m| m.lose()),
                }
            }
            At::ReleaseExclusive => self.release_exclusive(index, member),
            // Dirty lines of what it held go first, to the memory that it had.
            _ if member.has_dirty_lines() && !self.has(Bug::DirtyLinesKept) => {}
            _ => {
                let temporal = self.scope.temporal;
                self.does(index, "has nothing left of it", |s, m| {
                    if temporal && m.mapped[m.unit()] != Backing::NONE {
                        s.drop_lines(index, m.mapped[m.unit()].frame());
                        m.mapped[m.unit()] = Backing::NONE;
                    }
                    m.go_idle();
                });
            }
        }
    }

    fn raise(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        if self.has(Bug::VersionNotRaised) {
            self.does(index, "leaves the version", |_, m| {
                m.at = At::ReleaseExclusive
            });
        } else if unit.version == member.version || self.has(Bug::VersionStored) {
            self.does(index, "raises the version", |s, m| {
                s.units[m.unit()].version = m.version + 1;
                m.version += 1;
                m.at = At::ReleaseExclusive;
            });
        } else {
            self.does(index, "raises in vain: it was cut off", |_, m| m.lose());
        }
    }

    fn release_exclusive(&mut self, index: usize, member: &Member) {
        let own = self.state.units[member.unit()].own;
        let (slot, granted) = (slot_of(index), epoch(member.epoch));
        let released = if self.has(Bug::ReleaseStored) {
            member.own.release_exclusive(slot, granted)
        } else {
            own.release_exclusive(slot, granted)
        };
        let early = self.has(Bug::PublishBeforeFlush) && member.changed;
        let coherent = self.is_coherent();
        let Ok(released) = released else {
            return self.does(index, "releases: it was cut off", |_, m| m.lose());
        };
        self.does(index, "releases", |s, m| {
            s.units[m.unit()].own = released;
            if m.changed {
                s.publish(m.unit(), m.epoch);
            }
            if m.mapped[m.unit()] != Backing::NONE && !coherent {
                m.cached[m.unit()] = m.version;
            }
            if early {
                m.at = At::WriteBack0;
            } else {
                m.go_idle();
            }
        });
        if let (true, Ok(downgraded)) = (self.scope.changes_of_mode, own.downgrade(slot, granted)) {
            self.does(index, "goes on reading", |s, m| {
                s.units[m.unit()].own = downgraded;
                if m.changed {
                    s.publish(m.unit(), m.epoch);
                }
                m.cached[m.unit()] = m.version;
                (m.aim, m.at, m.version, m.changed) = (Aim::Read, At::Load0, 0, false);
            });
        }
    }
}

impl State {
    /// Ghost: what was written under `written` is the contents, by the version that there is.
    fn publish(&mut self, unit: usize, written: u8) {
        let it = &mut self.units[unit];
        if it.version <= it.published {
            self.broken = self.broken.or(Some(Broken::VersionTwice));
        }
        it.published = it.version;
        it.contents = [Tag::new(unit, written); LINES];
    }
}

impl Member {
    /// What it makes of the word, to hold the unit.
    fn change(&self, own: Own, index: usize) -> Result<Own, Refused> {
        let slot = slot_of(index);
        match self.aim {
            Aim::Read => shared(own, index),
            Aim::Write => own.grant_exclusive(slot),
            Aim::Restore => own.restore(slot),
            Aim::Upgrade => own.upgrade(slot, epoch(self.epoch)),
        }
    }

    /// It holds the unit by the word `own`, and knows no more yet.
    fn granted(&mut self, own: Own) {
        if self.aim == Aim::Upgrade {
            self.aim = Aim::Write;
        }
        *self = Self {
            at: At::Version,
            changed: false,
            epoch: epoch_of(own),
            own: if self.aim == Aim::Read { FREE } else { own },
            noting: 0,
            backing: Backing::NONE,
            ..*self
        };
    }

    /// What it notes for a grant under `epoch` of a unit of this version.
    fn note(&self, epoch: u8, version: u8) -> Base {
        let restores = self.aim == Aim::Restore;
        let good = if restores { self.noted.good } else { version };
        Base {
            epoch,
            version,
            good,
        }
    }

    /// Whether the word says that it holds what it was granted.
    pub(crate) fn is_granted(&self, own: Own, index: usize) -> bool {
        let (slot, granted) = (slot_of(index), epoch(self.epoch));
        match self.aim {
            Aim::Read | Aim::Upgrade => own.is_shared_by(slot, granted),
            Aim::Write | Aim::Restore => own.is_exclusive_of(slot, granted),
        }
    }

    /// It does not get what it asked for; what it had before, it has.
    fn give_up(&mut self) {
        if self.aim == Aim::Upgrade {
            *self = Self {
                aim: Aim::Read,
                at: At::Read,
                own: FREE,
                noted: Base::default(),
                noting: 0,
                ..*self
            };
        } else {
            self.go_idle();
        }
    }

    /// It has learnt that it was cut off, and believes nothing of what it has of the unit.
    fn lose(&mut self) {
        let (unit, cut) = (self.unit, self.cut);
        self.cached[self.unit()] = UNCACHED;
        self.go_idle();
        (self.at, self.unit, self.cut) = (At::Revoked, unit, cut);
    }
}

/// The word after `index` reads it as well; it joins whoever reads it in its slot.
fn shared(own: Own, index: usize) -> Result<Own, Refused> {
    match own.grant_shared(slot_of(index)) {
        Err(Refused::HeldHere) => own.join(slot_of(index)),
        answer => answer,
    }
}
