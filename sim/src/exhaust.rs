//! Everything that can happen within a small scope: each short sequence of commands, each point at
//! which something dies, each set of lines that had left the caches of a host by then.
//!
//! Two scopes. *Extents*: two hosts, one of them with the home, share one extent; a writer and a
//! reader on each acquire, use and release it. *Segments*: one daemon, whose clients create, open,
//! write, move, resize and free a segment in pooled memory. A sequence whose last command does
//! nothing is that without it, and is not gone on with. After what dies has started again
//! everything is read, and everything has to come back.

use std::ops::Range;

use crate::mix::Mix;
use crate::op::{Kind, Op};
use crate::run::{Failure, Outcome, run};

/// Sets of lines of which a host that dies had written back some: of up to three lines.
const SETS: Range<u16> = 0..8;
/// Actions after which a daemon or a home dies, from 0.
const POINTS: Range<u16> = 0..4;

/// A scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// See the module.
    Extents,
    /// See the module.
    Segments,
}

/// What was tried, and the first case that broke something.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// Sequences that were gone through.
    pub sequences: u64,
    /// Cases: sequences with one death each, or none.
    pub cases: u64,
    /// The ops of the first case that failed, and how.
    pub failure: Option<(Vec<Op>, Failure)>,
}

fn op(kind: Kind, picks: [u16; 4], salt: u32) -> Op {
    Op { kind, picks, salt }
}

/// Time that passes until all that is under way has come.
const fn pass() -> Op {
    Op {
        kind: Kind::Pass,
        picks: [0, 0, 1, 0],
        salt: 3,
    }
}

impl Scope {
    /// Its world.
    #[must_use]
    pub fn mix(self) -> Mix {
        Mix::scope()
    }

    fn commands(self) -> Vec<Op> {
        match self {
            Self::Extents => (0..2)
                .flat_map(|h| {
                    [
                        op(Kind::Acquire, [h, 0, 0, 0], 1),
                        op(Kind::Acquire, [h, 2, 1, 0], 1),
                        op(Kind::Touch, [h, 0, 0, 0], 1),
                        op(Kind::Release, [h, 0, 0, 0], 1),
                    ]
                })
                .collect(),
            Self::Segments => vec![
                op(Kind::Create, [0, 0, 10, 1], 2),
                op(Kind::Open, [0, 1, 0, 1], 1),
                op(Kind::Write, [0, 0, 0, 0], 1),
                op(Kind::WriteBack, [0, 0, 0, 0], 1),
                op(Kind::Relocate, [0, 0, 1, 0], 1),
                op(Kind::Resize, [0, 0, 1, 1], 1),
                op(Kind::Free, [0, 0, 1, 0], 1),
                op(Kind::Settle, [0, 0, 0, 0], 1),
                op(Kind::Prove, [0, 0, 0, 0], 1),
            ],
        }
    }

    /// What may die after a command.
    fn deaths(self) -> Vec<Op> {
        let with = |h: u16| SETS.map(move |set| op(Kind::HostDiesWith, [h, 0, 0, set], 1));
        match self {
            Self::Extents => {
                let home = POINTS.map(|point| op(Kind::HomeDies, [0, 0, point, 0], 1));
                let fence = op(Kind::Fence, [1, 0, 0, 0], 1);
                with(0).chain(with(1)).chain(home).chain([fence]).collect()
            }
            Self::Segments => {
                // Before the commit, after it, and after each of the first actions.
                let first = [0, 1].map(|how| op(Kind::DaemonDies, [0, 0, how, 0], 1));
                let later = (1..4).map(|point| op(Kind::DaemonDies, [0, 0, 2, point], 1));
                let killed = op(Kind::DaemonKilled, [0, 0, 0, 0], 1);
                let all = first.into_iter().chain(later).chain([killed]);
                all.chain(with(0)).collect()
            }
        }
    }

    /// What comes after it: everything starts again, and all is read.
    fn afterwards(self) -> Vec<Op> {
        let mut ops = vec![
            pass(),
            op(Kind::HostStarts, [0, 0, 0, 0], 1),
            op(Kind::DaemonStarts, [0, 0, 0, 0], 1),
            pass(),
            pass(),
        ];
        for h in 0..2 {
            match self {
                Self::Extents => {
                    ops.push(op(Kind::Acquire, [h, 2, 1, 0], 1));
                    ops.push(pass());
                    ops.extend((0..3).map(|line| op(Kind::Touch, [h, 0, 0, line], 1)));
                    ops.push(op(Kind::Release, [h, 0, 0, 0], 1));
                }
                Self::Segments => {
                    ops.push(op(Kind::Reattach, [0, h, 0, 0], 1));
                    ops.push(op(Kind::Open, [0, h, 0, 1], 1));
                    ops.extend((0..2).map(|line| op(Kind::Read, [0, h, 0, line], 1)));
                }
            }
        }
        ops
    }

    /// Tries every sequence of at most so many commands whose first command is of this `part` of
    /// `parts`: so that several threads share the work.
    #[must_use]
    pub fn try_all(self, most: usize, (part, parts): (usize, usize)) -> Tried {
        let mut tried = Tried::default();
        for (number, first) in self.commands().into_iter().enumerate() {
            if number % parts.max(1) == part {
                self.go_on(&mut vec![first], most, &mut tried);
            }
        }
        tried
    }

    fn go_on(self, sequence: &mut Vec<Op>, most: usize, tried: &mut Tried) {
        if tried.failure.is_some() || !self.does_something(sequence) {
            return;
        }
        tried.sequences += 1;
        self.try_case(sequence, None, tried);
        for death in self.deaths() {
            for at in 0..sequence.len() {
                self.try_case(sequence, Some((at, death)), tried);
            }
        }
        if sequence.len() < most {
            for command in self.commands() {
                sequence.push(command);
                self.go_on(sequence, most, tried);
                sequence.pop();
            }
        }
    }

    /// Whether the last command of a sequence does anything.
    fn does_something(self, sequence: &[Op]) -> bool {
        let of = |sequence: &[Op]| -> Outcome { run(&self.mix(), &self.ops(sequence, None)) };
        let mut with = of(sequence).counts;
        let mut without = of(&sequence[..sequence.len().saturating_sub(1)]).counts;
        with.remove("op");
        without.remove("op");
        with != without
    }

    /// The ops of a case: a death comes right after the command at its place; what was under way
    /// then has not come.
    fn ops(self, sequence: &[Op], death: Option<(usize, Op)>) -> Vec<Op> {
        let mut ops = vec![pass()];
        for (place, command) in sequence.iter().enumerate() {
            // What dies at its next step is told so before that.
            let armed = |death: &Op| matches!(death.kind, Kind::DaemonDies | Kind::HomeDies);
            let here = death.filter(|(at, _)| *at == place).map(|(_, death)| death);
            ops.extend(here.filter(armed));
            ops.push(*command);
            ops.extend(here.filter(|death| !armed(death)));
            ops.push(pass());
        }
        if death.is_some() {
            ops.extend(self.afterwards());
        }
        ops
    }

    fn try_case(self, sequence: &[Op], death: Option<(usize, Op)>, tried: &mut Tried) {
        let ops = self.ops(sequence, death);
        tried.cases += 1;
        if tried.failure.is_none()
            && let Some(failure) = run(&self.mix(), &ops).failure
        {
            tried.failure = Some((ops, failure));
        }
    }
}
