//! What no step can look at any more is forgotten, so that states that differ in nothing else are
//! one.
//!
//! Before a member loads a line it maps what it was granted, and drops the frame's lines unless it
//! has that very backing mapped and has cached that very version. Neither comes back once it has
//! changed. So of a unit that it is not in, whose backing or version is another one by now, it will
//! drop each line before it looks at it; and so it does with frames that are nobody's. And whoever
//! takes a frame into use writes all of it first.
//!
//! That is no more so where clean lines may be written back, or where the protocol has a bug: then
//! nothing is forgotten.

use crate::scope::{Bug, Caches, Scope};
use crate::state::{Backing, LINES, Line, State, Tag, UNCACHED, Use};
use crate::world::World;

impl Scope {
    pub(crate) fn forgets(&self) -> bool {
        (self.bug == Bug::None || self.forgets_with_bug)
            && self.caches != Caches::Any
            && !self.remembers
    }
}

impl State {
    pub(crate) fn forget(&mut self, scope: &Scope) {
        for index in 0..scope.members {
            self.forget_lines(scope, index);
        }
        for frame in 0..scope.frames {
            let within = self.members.iter().any(|member| {
                member.holds() && member.backing != Backing::NONE && member.backing.frame() == frame
            });
            let mut out = Vec::new();
            let world = World {
                scope,
                state: self,
                out: &mut out,
            };
            if world.may_be_used(frame) && !within {
                self.memory[frame] = [Tag::STRANGE; LINES];
                self.uses[frame] = Use::Unused;
            }
        }
    }

    fn forget_lines(&mut self, scope: &Scope, index: usize) {
        let member = &mut self.members[index];
        let mut of_use = [false; crate::state::FRAMES];
        if member.holds() && member.backing != Backing::NONE {
            of_use[member.backing.frame()] = true;
        }
        for unit in 0..scope.units {
            if member.holds() && member.unit() == unit {
                if member.mapped[unit] != Backing::NONE {
                    of_use[member.mapped[unit].frame()] = true;
                }
                continue;
            }
            let it = &self.units[unit];
            if member.mapped[unit] != it.backing {
                member.mapped[unit] = Backing::NONE;
            }
            if member.mapped[unit] == Backing::NONE || member.cached[unit] != it.version {
                member.cached[unit] = UNCACHED;
            } else {
                of_use[it.backing.frame()] = true;
            }
        }
        for (lines, of_use) in member.lines.iter_mut().zip(of_use) {
            for line in lines {
                if !of_use && matches!(line, Line::Clean(_)) {
                    *line = Line::None;
                }
            }
        }
    }
}
