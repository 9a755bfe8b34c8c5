//! What a member does, an access at a time, as `member.rs` of the crate and the rules for cached
//! lines have it.
//!
//! A change of the word is one step: the code tries until its compare-exchange succeeds. What a
//! writer does before it raises the version is done once or not at all, so there each access is a
//! step of its own.

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
            At::EarlyBacking | At::Take => self.before_grant(index, &member),
            At::Version | At::Backing | At::SecondLook | At::ThirdLook | At::Fit => {
                self.after_grant(index, &member);
            }
            At::Load0 | At::Load1 | At::Check | At::Read => self.reading(index, &member),
            At::Store0 | At::Store1 | At::WriteBack0 | At::WriteBack1 => {
                self.writing(index, &member);
            }
            At::BaseLoad | At::OwnLook | At::Note => self.notes_version(index, &member),
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
        let writing = if own.state() == coherence::State::Lost {
            Aim::Restore
        } else {
            Aim::Write
        };
        let aims = [
            (Aim::Read, "wants to read", "is granted shared"),
            (writing, "wants to write", "is granted exclusive"),
        ];
        for (aim, wants, granted) in aims {
            let mut wanting = self.state.members[index];
            (wanting.aim, wanting.unit) = (aim, small(unit));
            if self.has(Bug::BackingBeforeGrant) {
                wanting.at = At::EarlyBacking;
                self.step(Who::Member(index), unit, wants, |s| {
                    s.members[index] = wanting;
                });
            } else {
                self.takes(index, granted, &wanting);
            }
        }
    }

    /// Takes the unit as `wanting`, where it may.
    fn takes(&mut self, index: usize, what: &'static str, wanting: &Member) {
        let unit = wanting.unit();
        let writes = wanting.aim != Aim::Read;
        if writes && self.state.left.writes == 0 {
            return;
        }
        let Ok(changed) = wanting.change(self.state.units[unit].own, index) else {
            return;
        };
        let mut holding = *wanting;
        holding.granted(changed);
        self.step(Who::Member(index), unit, what, |s| {
            s.units[unit].own = changed;
            s.left.writes -= u8::from(writes);
            s.members[index] = holding;
        });
    }

    /// It reads where the contents are, and then takes the unit: the wrong way round.
    fn before_grant(&mut self, index: usize, member: &Member) {
        if member.at == At::EarlyBacking {
            let backing = self.state.units[member.unit()].backing;
            return self.does(index, "loads backing", |_, m| {
                (m.backing, m.at) = (backing, At::Take);
            });
        }
        self.takes(index, "is granted", member);
        self.does(index, "gives up", |_, m| m.go_idle());
    }

    fn after_grant(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        // A reader that is late stores nothing, and looks after it has read.
        let after_backing = if self.has(Bug::NoSecondLook) || member.aim == Aim::Read {
            At::Fit
        } else {
            At::SecondLook
        };
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
            // Epochs do not come round here.
            At::SecondLook if unit.base.epoch < member.epoch => {
                self.does(index, "looks at base: it is of before", |_, m| {
                    m.at = At::Fit
                });
            }
            At::SecondLook => self.does(index, "looks at base", |_, m| m.at = At::ThirdLook),
            At::ThirdLook if member.is_granted(unit.own, index) => {
                self.does(index, "looks: it holds it", |_, m| m.at = At::Fit);
            }
            // It has touched nothing yet, and asks anew.
            At::ThirdLook => self.does(index, "looks: it does not hold it", |_, m| m.go_idle()),
            _ => self.fit(index),
        }
    }

    /// Maps what it was granted, and drops what it has cached of other contents.
    fn fit(&mut self, index: usize) {
        let (coherent, believes) = (self.is_coherent(), self.has(Bug::NeverInvalidate));
        let keeps = self.has(Bug::RemapKeepsVersion);
        self.does(index, "maps, and drops stale lines", |s, m| {
            let unit = m.unit();
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
                if self.scope.changes_of_mode {
                    let aim = Aim::Upgrade;
                    let wanting = Member { aim, ..*member };
                    self.takes(index, "is granted exclusive as well", &wanting);
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
        let raise = self.before_release(self.publishing());
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
            At::Drop => {
                let publishing = self.publishing();
                self.does(index, "drops its lines and unmaps", |s, m| {
                    s.drop_lines(index, m.backing.frame());
                    m.mapped[m.unit()] = Backing::NONE;
                    m.cached[m.unit()] = UNCACHED;
                    m.at = match (m.aim, m.changed) {
                        (Aim::Read | Aim::Upgrade, _) => At::ReleaseShared,
                        (_, false) => At::ReleaseExclusive,
                        (_, true) => publishing,
                    };
                });
            }
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

    /// The first access of a publication.
    fn publishing(&self) -> At {
        match self.scope.bug {
            Bug::NotNoted | Bug::NotedLate | Bug::VersionNotRaised => At::Raise,
            Bug::LookedBeforeRead => At::OwnLook,
            _ => At::BaseLoad,
        }
    }

    /// Notes, before the version is raised, which one is the last that was published.
    fn notes_version(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        let late = self.has(Bug::NotedLate);
        let looked_first = self.has(Bug::LookedBeforeRead);
        let raise = if late {
            At::ReleaseExclusive
        } else {
            At::Raise
        };
        match member.at {
            // So it is for who restores a lost unit: it was noted by whoever found it lost.
            At::BaseLoad if unit.base.epoch == member.epoch => {
                self.does(index, "loads base: it is noted", |_, m| m.at = raise);
            }
            At::BaseLoad => {
                let is_latest = unit.base.epoch + 1 == member.epoch;
                let looks = !is_latest && !looked_first && !self.has(Bug::NotedUnheld);
                self.does(index, "loads base", |_, m| {
                    m.noted = unit.base;
                    m.at = if looks { At::OwnLook } else { At::Note };
                });
            }
            At::OwnLook if member.is_granted(unit.own, index) => {
                self.does(index, "looks: it holds it still", |_, m| {
                    m.at = if looked_first { At::BaseLoad } else { At::Note };
                });
            }
            At::OwnLook => self.does(index, "looks: it was cut off", |_, m| m.lose()),
            _ if unit.base == member.noted || self.has(Bug::NoteStored) => {
                self.does(index, "notes the version", |s, m| {
                    s.units[m.unit()].base = Base {
                        epoch: m.epoch,
                        version: m.version - u8::from(late),
                    };
                    (m.at, m.noted) = (raise, Base::NONE);
                });
            }
            _ if self.has(Bug::FailedNoteIgnored) => {
                self.does(index, "notes in vain", |_, m| {
                    (m.at, m.noted) = (raise, Base::NONE);
                });
            }
            _ => self.does(index, "notes in vain: it was cut off", |_, m| m.lose()),
        }
    }

    fn raise(&mut self, index: usize, member: &Member) {
        let unit = self.state.units[member.unit()];
        let raised = if self.has(Bug::NotedLate) {
            At::BaseLoad
        } else {
            At::ReleaseExclusive
        };
        if self.has(Bug::VersionNotRaised) {
            self.does(index, "leaves the version", |_, m| {
                m.at = At::ReleaseExclusive
            });
        } else if unit.version == member.version || self.has(Bug::VersionStored) {
            self.does(index, "raises the version", |s, m| {
                s.units[m.unit()].version = m.version + 1;
                m.version += 1;
                m.at = raised;
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

    /// It holds the unit by the word `own`, and knows no more yet: unless by mistake.
    fn granted(&mut self, own: Own) {
        if self.aim == Aim::Upgrade {
            self.aim = Aim::Write;
        }
        *self = Self {
            at: At::Version,
            changed: false,
            epoch: epoch_of(own),
            own: if self.aim == Aim::Read { FREE } else { own },
            backing: if self.at == At::Take {
                self.backing
            } else {
                Backing::NONE
            },
            ..*self
        };
    }

    /// Whether the word says that it holds what it was granted.
    pub(crate) fn is_granted(&self, own: Own, index: usize) -> bool {
        let (slot, granted) = (slot_of(index), epoch(self.epoch));
        match self.aim {
            Aim::Read | Aim::Upgrade => own.is_shared_by(slot, granted),
            Aim::Write | Aim::Restore => own.is_exclusive_of(slot, granted),
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
