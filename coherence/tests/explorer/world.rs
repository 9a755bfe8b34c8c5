//! One state, its scope, and the steps out of it: memory, caches, and what the world does by
//! itself.
//!
//! Caches act on their own: a line of a frame that is mapped may be loaded at any time, a clean one
//! dropped, a dirty one written back. A process dies before its host does: its dirty lines are
//! written back late, or are lost when the host is gone.

use crate::scope::{Bug, Caches, Scope};
use crate::state::{
    At, Backing, Broken, FRAMES, LINES, Label, Line, Member, State, Tag, Unit, Use, Who, epoch,
    epoch_of, slot_of,
};

/// Where the steps out of a state are collected.
pub(crate) struct World<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) state: &'a State,
    pub(crate) out: &'a mut Vec<(Label, State)>,
}

impl World<'_> {
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.scope.bug == bug
    }

    /// One step, by which the state changes as `change` says.
    pub(crate) fn step(
        &mut self,
        who: Who,
        unit: usize,
        what: &'static str,
        change: impl FnOnce(&mut State),
    ) {
        let mut reached = *self.state;
        change(&mut reached);
        for (before, after) in self.state.units.iter().zip(&reached.units) {
            let rose = epoch_of(after.own) >= epoch_of(before.own)
                && after.version >= before.version
                && after.backing.incarnation >= before.backing.incarnation;
            if !rose {
                reached.broken = reached.broken.or(Some(Broken::Fell));
            }
        }
        if self.scope.forgets() {
            reached.forget(self.scope);
        }
        self.out.push((Label { who, unit, what }, reached));
    }

    fn is_cached(&self) -> bool {
        self.scope.caches != Caches::Coherent
    }

    /// What the cache of member `index` may do, and death.
    pub(crate) fn nature(&mut self, index: usize) {
        let member = &self.state.members[index];
        let who = Who::Member(index);
        if self.is_cached() {
            self.evictions(index);
            if !member.is_dead() {
                self.prefetches(index);
            }
        }
        if !member.is_dead() && self.state.left.deaths > 0 && member.at != At::Idle {
            let keeps_clean = self.scope.caches == Caches::Any;
            self.step(who, member.unit(), "dies", |s| s.die(index, keeps_clean));
        }
        if !member.is_dead() {
            return;
        }
        if member.all_lines().any(|line| line != Line::None) {
            self.step(who, 0, "its host goes down, with its cache", |s| {
                s.members[index].lines = Member::NEW.lines;
            });
        } else if self.may_be_reused(index) {
            self.step(who, 0, "another member comes to the slot", |s| {
                s.members[index] = Member::NEW;
            });
        }
    }

    fn evictions(&mut self, index: usize) {
        for frame in 0..self.scope.frames {
            for line in 0..LINES {
                let who = Who::Member(index);
                match self.state.members[index].lines[frame][line] {
                    Line::None => {}
                    Line::Dirty(tag) => {
                        self.step(who, tag.unit(), "a dirty line is evicted", |s| {
                            s.write_back(index, frame, line);
                            s.members[index].lines[frame][line] = Line::None;
                        });
                    }
                    Line::Clean(tag) => {
                        self.step(who, tag.unit(), "a clean line is evicted", |s| {
                            s.members[index].lines[frame][line] = Line::None;
                        });
                        if self.scope.caches == Caches::Any {
                            self.step(who, tag.unit(), "a clean line is written back", |s| {
                                s.memory[frame][line] = tag;
                                s.members[index].lines[frame][line] = Line::None;
                            });
                        }
                    }
                }
            }
        }
    }

    fn prefetches(&mut self, index: usize) {
        for unit in 0..self.scope.units {
            let mapped = self.state.members[index].mapped[unit];
            if mapped == Backing::NONE {
                continue;
            }
            for line in 0..LINES {
                if self.state.members[index].lines[mapped.frame()][line] == Line::None {
                    self.step(Who::Member(index), unit, "a line is prefetched", |s| {
                        let _ = s.load(true, index, mapped.frame(), line);
                    });
                }
            }
        }
    }

    /// Whether all that the dead member held has been recovered.
    fn may_be_reused(&self, index: usize) -> bool {
        let mut units = self.state.units.iter().take(self.scope.units);
        self.has(Bug::SlotReusedEarly)
            || units.all(|unit| {
                !unit.own.is_held_by(slot_of(index)) && unit.own.state() != coherence::State::Fenced
            })
    }

    /// The first frame that may be used for something else: nobody uses it, nobody that was granted
    /// what it held has not let go, and no cache has anything to write to it.
    pub(crate) fn frame_to_use(&self) -> Option<u8> {
        (0..self.scope.frames)
            .find(|frame| self.may_be_used(*frame))
            .map(crate::state::small)
    }

    pub(crate) fn may_be_used(&self, frame: usize) -> bool {
        let state = self.state;
        let mut units = state.units.iter().take(self.scope.units);
        let in_use = units.any(|unit| unit.backing.frame() == frame)
            || usize::from(state.daemon.target) == frame;
        let any_cache = self.scope.caches == Caches::Any;
        let held = state.members.iter().any(|member| {
            let knows_it = member.holds() && !matches!(member.at, At::Version | At::Backing);
            let mapped = member.mapped.iter().any(|backing| backing.frame() == frame);
            let lines = member.lines[frame];
            let dirty = lines.iter().any(|line| line.dirty().is_some());
            dirty && (member.at != At::Idle || !self.has(Bug::DirtyLinesKept))
                || any_cache && (mapped || lines != [Line::None; LINES])
                || knows_it && member.backing.frame() == frame
        });
        !in_use && (!held || self.has(Bug::FrameFreedEarly))
    }
}

impl State {
    /// What member `index` finds in a line.
    pub(crate) fn load(&mut self, cached: bool, index: usize, frame: usize, line: usize) -> Tag {
        let stored = self.memory[frame][line];
        if !cached {
            return stored;
        }
        let slot = &mut self.members[index].lines[frame][line];
        match *slot {
            Line::None => {
                *slot = Line::Clean(stored);
                stored
            }
            Line::Clean(tag) | Line::Dirty(tag) => tag,
        }
    }

    pub(crate) fn store(
        &mut self,
        cached: bool,
        index: usize,
        (frame, line): (usize, usize),
        tag: Tag,
    ) {
        self.members[index].lines[frame][line] = Line::Dirty(tag);
        if !cached {
            self.write_back(index, frame, line);
            self.members[index].lines[frame][line] = Line::None;
        }
    }

    /// A line reaches memory, if it is dirty, and stays in the cache.
    pub(crate) fn write_back(&mut self, index: usize, frame: usize, line: usize) {
        let Line::Dirty(tag) = self.members[index].lines[frame][line] else {
            return;
        };
        self.memory[frame][line] = tag;
        self.members[index].lines[frame][line] = Line::Clean(tag);
        let unit = &self.units[tag.unit()];
        let holds = unit.own.is_exclusive_of(slot_of(index), epoch(tag.epoch()))
            && unit.backing.frame() == frame;
        // What is fenced nobody uses yet: it is judged when the writer can store no more, or moves.
        let live = |unit: &Unit| {
            unit.backing.frame() == frame && unit.own.state() != coherence::State::Fenced
        };
        let in_use = usize::from(self.daemon.target) == frame || self.units.iter().any(live);
        if !holds && in_use {
            self.broken = self.broken.or(Some(Broken::LateStore));
        }
    }

    /// Member `index` has no line of `frame` any more.
    pub(crate) fn drop_lines(&mut self, index: usize, frame: usize) {
        for line in 0..LINES {
            self.write_back(index, frame, line);
            self.members[index].lines[frame][line] = Line::None;
        }
    }

    fn die(&mut self, index: usize, keeps_clean: bool) {
        self.left.deaths -= 1;
        let mut lines = self.members[index].lines;
        if !keeps_clean {
            for line in lines.iter_mut().flatten() {
                if matches!(line, Line::Clean(_)) {
                    *line = Line::None;
                }
            }
        }
        self.members[index] = Member {
            at: At::Dead,
            lines,
            ..Member::NEW
        };
    }

    /// What each frame is used for at first: a frame for each unit.
    pub(crate) fn first_uses(units: usize) -> [Use; FRAMES] {
        std::array::from_fn(|frame| {
            if frame < units {
                Use::Of(crate::state::small(frame), 0)
            } else {
                Use::Unused
            }
        })
    }
}
