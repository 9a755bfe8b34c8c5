//! What the daemon does, an access at a time: recovery as `recover.rs` of the crate has it, with a
//! judge, and moves. It may die between any two steps, and starts again knowing only the members
//! and which frame holds what.
//!
//! A dead writer's contents are judged where they are, once its host is gone. Where the writer may
//! still live the contents go to another frame first, and the copy is judged: so it is for a holder
//! that is cut off, and for whatever is found fenced at the start, since the word does not say who
//! held it.

use coherence::{Own, Slot, State as Held};

use crate::scope::Bug;
use crate::state::{
    Aim, Backing, Base, Broken, Daemon, Doing, LINES, Label, Line, State, Unit, Use, Who, epoch_of,
    slot_of, small,
};
use crate::world::World;

impl World<'_> {
    /// Every step that the daemon can take, and its death.
    pub(crate) fn daemon(&mut self) {
        let daemon = self.state.daemon;
        let unit = self.state.units[usize::from(daemon.unit)];
        match daemon.doing {
            Doing::Nothing => (0..self.scope.units).for_each(|unit| self.looks_at(unit)),
            Doing::Clear | Doing::Fence => self.takes_away(&daemon, &unit),
            Doing::FirstLoad
            | Doing::SecondLoad
            | Doing::NoteForHolder
            | Doing::Raise
            | Doing::NoteForFence => {
                self.notes(&daemon, &unit);
            }
            Doing::Judge | Doing::Write0 | Doing::Write1 | Doing::Look => {
                self.judges(&daemon, &unit);
            }
            Doing::SetBacking | Doing::NoteVerdict | Doing::Settle => {
                self.settles(&daemon, &unit);
            }
            _ => self.moves(&daemon, &unit),
        }
        if daemon.doing != Doing::Nothing && self.state.left.restarts > 0 {
            self.daemon_does("dies, and starts again", |s, d| {
                s.left.restarts -= 1;
                s.forget_target();
                *d = Daemon::IDLE;
            });
        }
    }

    fn daemon_does(&mut self, what: &'static str, change: impl FnOnce(&mut State, &mut Daemon)) {
        let unit = usize::from(self.state.daemon.unit);
        self.step(Who::Daemon, unit, what, |s| {
            let mut daemon = s.daemon;
            change(s, &mut daemon);
            s.daemon = daemon;
        });
    }

    fn begins(&mut self, unit: usize, what: &'static str, daemon: Daemon) {
        self.step(Who::Daemon, unit, what, |s| {
            s.daemon = Daemon {
                unit: small(unit),
                ..daemon
            };
        });
    }

    /// What there is to do for a unit.
    fn looks_at(&mut self, unit: usize) {
        let own = self.state.units[unit].own;
        let of = |slot: usize, doing, lives| Daemon {
            doing,
            slot: small(slot),
            lives,
            ..Daemon::IDLE
        };
        if own.state() == Held::Fenced && !self.has(Bug::RedoForgets) {
            let lives = !self.has(Bug::RedoInPlace);
            let begin = of(0, Doing::FirstLoad, lives);
            self.begins(unit, "finds a unit fenced", begin);
        }
        if own.is_held_by(Slot::DAEMON) {
            self.begins(
                unit,
                "finds a unit held by itself",
                of(0, Doing::Clear, false),
            );
        }
        for index in 0..self.scope.members {
            let member = self.state.members[index];
            if !own.is_held_by(slot_of(index)) {
                continue;
            }
            let writes = own.state() == Held::Exclusive;
            let gone = member.all_lines().all(|line| line == Line::None);
            if member.is_dead() && (gone || self.has(Bug::JudgedTooEarly)) {
                let doing = if writes { Doing::Fence } else { Doing::Clear };
                self.begins(unit, "finds a dead holder", of(index + 1, doing, false));
            } else if !member.is_dead() && writes && self.state.left.evictions > 0 {
                let begin = of(index + 1, Doing::Fence, !self.has(Bug::EvictedInPlace));
                self.begins(unit, "finds a holder stuck", begin);
            }
        }
        let quiet = matches!(own.state(), Held::Free | Held::Shared);
        if self.state.left.moves > 0 && quiet {
            let doing = if self.has(Bug::MovedUnheld) {
                Doing::MoveFrame
            } else {
                Doing::MoveHold
            };
            self.begins(unit, "wants to move it", of(0, doing, false));
        }
    }

    /// The compare-exchanges by which a holder holds it no more.
    fn takes_away(&mut self, daemon: &Daemon, unit: &Unit) {
        let slot = Slot::new(daemon.slot).unwrap_or(Slot::DAEMON);
        let wanted = if daemon.doing == Doing::Clear {
            Held::Shared
        } else {
            Held::Exclusive
        };
        let held = unit.own.is_held_by(slot) && unit.own.state() == wanted;
        if !held {
            return self.daemon_does("finds nothing to take away", |_, d| *d = Daemon::IDLE);
        }
        let epoch = unit.own.epoch();
        let living = usize::from(daemon.slot).checked_sub(1).filter(|index| {
            let member = &self.state.members[*index];
            !member.is_dead() && daemon.lives | self.has(Bug::EvictedInPlace)
        });
        let (what, changed) = if daemon.doing == Doing::Clear {
            ("clears a bit", unit.own.release_shared(slot, epoch))
        } else if self.has(Bug::FreedWithoutFence) {
            (
                "frees without a fence",
                unit.own.release_exclusive(slot, epoch),
            )
        } else {
            ("fences", unit.own.fence())
        };
        let Ok(changed) = changed else { return };
        self.daemon_does(what, |s, d| {
            s.units[usize::from(d.unit)].own = changed;
            if let Some(index) = living {
                s.members[index].cut = true;
                s.left.evictions = s.left.evictions.saturating_sub(1);
            }
            if changed.state() == Held::Fenced {
                d.doing = Doing::FirstLoad;
            } else {
                *d = Daemon::IDLE;
            }
        });
    }

    /// Learns which version was the last that was published, and raises the one there is.
    fn notes(&mut self, daemon: &Daemon, unit: &Unit) {
        let base_first = self.has(Bug::NoteReadFirst);
        let fence_first = self.has(Bug::FenceBeforeRaise);
        let skips_fence = self.has(Bug::FenceNoteSkipped);
        let fence = epoch_of(unit.own);
        let note = |epoch| Base {
            epoch,
            version: daemon.noted.version,
        };
        match daemon.doing {
            Doing::FirstLoad => {
                let what = ["loads version", "loads base"][usize::from(base_first)];
                self.daemon_does(what, |_, d| {
                    d.load(unit, base_first);
                    d.doing = Doing::SecondLoad;
                });
            }
            Doing::SecondLoad => {
                let mut knowing = *daemon;
                knowing.load(unit, !base_first);
                self.learns(&mut knowing, fence);
                let what = ["loads base", "loads version"][usize::from(base_first)];
                self.daemon_does(what, |_, d| *d = knowing);
            }
            Doing::NoteForHolder => {
                let doing = self.after_holders_note(daemon);
                self.daemon_does("notes the version for the holder", |s, d| {
                    s.units[usize::from(d.unit)].base = note(fence - 1);
                    d.doing = doing;
                });
            }
            Doing::Raise => self.daemon_does("raises the version", |s, d| {
                s.units[usize::from(d.unit)].version += 1;
                d.now = 0;
                d.doing = if fence_first || skips_fence {
                    Doing::Judge
                } else {
                    Doing::NoteForFence
                };
            }),
            _ => self.daemon_does("notes it for the fence", |s, d| {
                s.units[usize::from(d.unit)].base = note(fence);
                if fence_first {
                    d.doing = Doing::Raise;
                } else {
                    (d.doing, d.now) = (Doing::Judge, 0);
                }
            }),
        }
    }

    /// What follows from version and `base` for a unit that is fenced since `fence`.
    fn learns(&self, daemon: &mut Daemon, fence: u8) {
        let by = daemon.noted.epoch;
        let is_raised = by == fence && !self.has(Bug::RedoNotesAnew)
            || by == fence + 1 && !self.has(Bug::RedoForgetsVerdict);
        daemon.noted.epoch = 0;
        if is_raised {
            (daemon.doing, daemon.now) = (Doing::Judge, 0);
        } else if by == fence - 1 && !self.has(Bug::HoldersNoteIgnored) {
            daemon.doing = self.after_holders_note(daemon);
        } else {
            daemon.noted.version = daemon.now;
            daemon.doing = if self.has(Bug::FenceNotesNothing) {
                Doing::Raise
            } else {
                Doing::NoteForHolder
            };
        }
    }

    fn after_holders_note(&self, daemon: &Daemon) -> Doing {
        let seems_raised = self.has(Bug::RaisedFromGood) && daemon.now != daemon.noted.version;
        if seems_raised || self.has(Bug::FenceRaisesNoVersion) || self.has(Bug::FenceBeforeRaise) {
            Doing::NoteForFence
        } else {
            Doing::Raise
        }
    }

    /// Finds out what the contents are, or makes them what they were.
    fn judges(&mut self, daemon: &Daemon, unit: &Unit) {
        let (copied, whole) = (daemon.from_copy, unit.contents);
        let fills = if daemon.lives {
            usize::from(daemon.target)
        } else {
            unit.backing.frame()
        };
        let source = move |s: &State, line: usize| {
            if copied {
                whole[line]
            } else {
                s.memory[unit.backing.frame()][line]
            }
        };
        match daemon.doing {
            Doing::Judge => self.begins_to_judge(daemon, unit),
            Doing::Write0 => self.daemon_does("writes line 0", |s, d| {
                s.memory[fills][0] = source(s, 0);
                d.doing = Doing::Write1;
            }),
            Doing::Write1 => self.daemon_does("writes line 1", |s, d| {
                s.memory[fills][1] = source(s, 1);
                d.doing = Doing::Look;
            }),
            _ => {
                let fits = self.is_good(daemon, unit, fills);
                let judged = daemon.good && self.has(Bug::JudgedBeforeCopied);
                let good = fits || judged || self.has(Bug::GoodUnseen);
                self.daemon_does(
                    if good { "judges: good" } else { "judges: lost" },
                    |_, d| {
                        d.good = good;
                        d.doing = d.after_judging();
                    },
                );
            }
        }
    }

    /// Whether the checksum, which is one of the last version that was published, is that of what
    /// is in `frame`.
    fn is_good(&self, daemon: &Daemon, unit: &Unit, frame: usize) -> bool {
        daemon.noted.version == unit.published && self.state.memory[frame] == unit.contents
    }

    fn begins_to_judge(&mut self, daemon: &Daemon, unit: &Unit) {
        let copy_fits = self.scope.copies && daemon.noted.version == unit.published;
        if !daemon.lives {
            self.daemon_does("looks at the contents", |_, d| d.doing = Doing::Look);
            if copy_fits {
                self.daemon_does("restores the contents", |_, d| {
                    (d.doing, d.from_copy) = (Doing::Write0, true);
                });
            }
            return;
        }
        let Some(frame) = self.frame_to_use() else {
            return;
        };
        let early = self.has(Bug::JudgedBeforeCopied);
        let good = early && self.is_good(daemon, unit, unit.backing.frame());
        for copied in [false, true] {
            if copied && !copy_fits {
                continue;
            }
            self.daemon_does("takes another frame", |s, d| {
                s.aim_at(d, frame);
                (d.doing, d.from_copy, d.good) = (Doing::Write0, copied, good);
            });
        }
    }

    fn settles(&mut self, daemon: &Daemon, unit: &Unit) {
        match daemon.doing {
            Doing::SetBacking => self.daemon_does("sets backing", |s, d| {
                s.set_backing(d);
                d.doing = Doing::NoteVerdict;
            }),
            Doing::NoteVerdict => {
                let for_next = if daemon.good {
                    self.has(Bug::GoodNotedForNext)
                } else {
                    !self.has(Bug::LostNotNoted)
                };
                let leaves = daemon.good && self.has(Bug::GoodLeavesNote);
                self.daemon_does("notes it with the verdict", |s, d| {
                    if !leaves {
                        s.units[usize::from(d.unit)].base = Base {
                            epoch: epoch_of(unit.own) + u8::from(for_next),
                            version: d.noted.version,
                        };
                    }
                    d.doing = Doing::Settle;
                });
            }
            _ => self.tells(daemon, unit),
        }
    }

    fn tells(&mut self, daemon: &Daemon, unit: &Unit) {
        let (good, told) = (daemon.good, daemon.noted.version);
        let settled = if good {
            unit.own.repaired()
        } else {
            unit.own.lost()
        };
        let Ok(settled) = settled else { return };
        self.daemon_does(if good { "frees" } else { "tells it lost" }, |s, d| {
            let unit = &mut s.units[usize::from(d.unit)];
            unit.own = settled;
            if told != unit.published {
                s.broken = s.broken.or(Some(Broken::LastGood));
            }
            if good {
                unit.published = unit.version;
            }
            *d = Daemon::IDLE;
        });
    }

    fn moves(&mut self, daemon: &Daemon, unit: &Unit) {
        let target = usize::from(daemon.target);
        let from = unit.backing.frame();
        match daemon.doing {
            Doing::MoveHold => match unit.own.grant_shared(Slot::DAEMON) {
                Ok(held) => self.daemon_does("holds it, to move it", |s, d| {
                    s.units[usize::from(d.unit)].own = held;
                    d.doing = Doing::MoveFrame;
                }),
                Err(_) => self.daemon_does("does not move it", |_, d| *d = Daemon::IDLE),
            },
            Doing::MoveFrame => {
                let Some(frame) = self.frame_to_use() else {
                    return self.ends_move(unit);
                };
                self.daemon_does("takes another frame", |s, d| {
                    s.left.moves -= 1;
                    s.aim_at(d, frame);
                    d.doing = Doing::MoveCopy0;
                });
            }
            Doing::MoveCopy0 => self.daemon_does("copies line 0", |s, d| {
                s.memory[target][0] = s.memory[from][0];
                d.doing = Doing::MoveCopy1;
            }),
            Doing::MoveCopy1 => self.daemon_does("copies line 1", |s, d| {
                s.memory[target][LINES - 1] = s.memory[from][LINES - 1];
                d.doing = Doing::MoveSet;
            }),
            Doing::MoveSet => self.daemon_does("sets backing", |s, d| {
                s.set_backing(d);
                d.doing = Doing::MoveRelease;
            }),
            _ => {
                self.ends_move(unit);
                self.cuts_readers(unit);
            }
        }
    }

    fn ends_move(&mut self, unit: &Unit) {
        let held = unit.own.release_shared(Slot::DAEMON, unit.own.epoch());
        self.daemon_does("lets go of what it moved", |s, d| {
            if let Ok(released) = held {
                s.units[usize::from(d.unit)].own = released;
            }
            *d = Daemon::IDLE;
        });
    }

    /// Readers that do not let go of what has been moved are cut off: the old frame is theirs.
    fn cuts_readers(&mut self, unit: &Unit) {
        if self.state.left.evictions == 0 || self.scope.temporal {
            return;
        }
        for index in 0..self.scope.members {
            let Some(cleared) = cleared(unit.own, slot_of(index)) else {
                continue;
            };
            if self.state.members[index].is_dead() {
                continue;
            }
            self.daemon_does("cuts a reader off", |s, d| {
                s.units[usize::from(d.unit)].own = cleared;
                s.members[index].cut = true;
                s.left.evictions -= 1;
            });
        }
    }

    /// Whether there is a unit that needs the daemon, which does nothing and never will.
    pub(crate) fn leaves_undone(scope: &crate::scope::Scope, state: &State) -> bool {
        if state.daemon.doing != Doing::Nothing {
            return false;
        }
        (0..scope.units).any(|unit| {
            let own = state.units[unit].own;
            let dead = |index: usize| {
                let member = &state.members[index];
                let gone = member.all_lines().all(|line| line == Line::None);
                member.is_dead() && gone && own.is_held_by(slot_of(index))
            };
            let needed = own.state() == Held::Fenced
                || own.is_held_by(Slot::DAEMON)
                || (0..scope.members).any(dead);
            needed && {
                let mut out: Vec<(Label, State)> = Vec::new();
                let mut world = World {
                    scope,
                    state,
                    out: &mut out,
                };
                world.looks_at(unit);
                out.is_empty()
            }
        })
    }
}

impl Daemon {
    /// Loads `base`, or else the version.
    fn load(&mut self, unit: &Unit, base: bool) {
        if base {
            self.noted = unit.base;
        } else {
            self.now = unit.version;
        }
    }

    fn after_judging(&self) -> Doing {
        if self.lives {
            Doing::SetBacking
        } else {
            Doing::NoteVerdict
        }
    }

    /// The backing that the unit is to have.
    fn next_backing(&self, unit: &Unit) -> Backing {
        Backing {
            incarnation: unit.backing.incarnation + 1,
            frame: self.target,
        }
    }
}

impl State {
    fn aim_at(&mut self, daemon: &mut Daemon, frame: u8) {
        daemon.target = frame;
        let next = daemon.next_backing(&self.units[usize::from(daemon.unit)]);
        self.uses[next.frame()] = Use::Of(daemon.unit, next.incarnation);
    }

    fn set_backing(&mut self, daemon: &mut Daemon) {
        let unit = &mut self.units[usize::from(daemon.unit)];
        unit.backing = daemon.next_backing(unit);
        daemon.target = Daemon::NO_TARGET;
    }

    /// A frame that was being filled is nobody's.
    fn forget_target(&mut self) {
        if self.daemon.target != Daemon::NO_TARGET {
            self.uses[usize::from(self.daemon.target)] = Use::Unused;
        }
    }
}

fn cleared(own: Own, slot: Slot) -> Option<Own> {
    own.release_shared(slot, own.epoch()).ok()
}

/// Whether a member reads, for the rules of who may be beside whom.
pub(crate) fn reads(aim: Aim) -> bool {
    matches!(aim, Aim::Read | Aim::Upgrade)
}
