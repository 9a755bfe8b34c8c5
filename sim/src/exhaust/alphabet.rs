//! What happens in a scope, and what dies in it.
//!
//! *Extents*: two hosts, one of them with the home, share one extent of four lines; on each a
//! process acquires it to write and another to read it, and whoever uses it writes the next line or
//! reads one, and lets go. A host dies, the home dies, a process that uses it dies, a host is cut
//! off while it lives.
//!
//! *Segments*: the daemon of one host, two of whose clients create a segment of two extents in
//! pooled memory, open, write, move, resize and free it. The daemon dies, the host does, a client
//! does. *Held*: the same where the segment is there, and both have it, before the first command.
//!
//! # Points
//! The home dies in each of its steps after each number of outputs; the daemon in each of its
//! steps before the commit, after it, and after each number of actions, and at each of these points
//! its host with it. A host of the extents dies right after the command and after each arrival of
//! its slot; that of the segments right after the command as well. A process dies right after the
//! command.

use crate::op::{Kind, Op};
use crate::world::{Noted, NotedStep};

/// The place of the command to do nothing among those of a scope.
pub(super) const NOTHING: usize = 0;
/// The most lines of which each set may have left the caches of a host.
const LINES_MOST: u32 = 4;

/// A scope: see the module `alphabet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Two hosts share an extent.
    Extents,
    /// A daemon and a segment that is yet to be made.
    Segments,
    /// A daemon and a segment that two clients have.
    Held,
}

/// One way to die.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub(super) op: Op,
    /// Of how many lines it chooses a set, where a host dies.
    pub(super) lines: Option<u32>,
    /// The others of its point are other sets.
    pub(super) is_first_of_point: bool,
}

impl Death {
    const fn at(op: Op) -> Self {
        Self {
            op,
            lines: None,
            is_first_of_point: true,
        }
    }
}

/// The home dies in each of its steps after each number of outputs.
fn deaths_of_home(steps: &[u16]) -> Vec<Death> {
    let steps = (0..).zip(steps);
    let points = steps.flat_map(|(step, &outputs)| (0..=outputs).map(move |point| (step, point)));
    points
        .map(|(step, point)| Death::at(op(Kind::HomeDies, [0, step, point, 0])))
        .collect()
}

/// The daemon dies in each of its steps at each point, alone and with its host.
fn deaths_of_daemon(steps: &[NotedStep]) -> Vec<Death> {
    let mut deaths = Vec::new();
    for (step, noted) in (0..).zip(steps) {
        for point in 0..=noted.actions.saturating_add(1) {
            deaths.push(Death::at(op(Kind::DaemonDies, [0, step, point, 0])));
            let dies = |set| op(Kind::HostDiesInStep, [0, step, point, set]);
            deaths.extend(with_each_set(noted.unwritten, dies));
        }
    }
    deaths
}

/// A host that has not written back so many lines dies with each set of them.
fn with_each_set(lines: u32, dies: impl Fn(u16) -> Op) -> impl Iterator<Item = Death> {
    let lines = lines.min(LINES_MOST);
    (0..1 << lines).map(move |set| Death {
        op: dies(set),
        lines: Some(lines),
        is_first_of_point: set == 0,
    })
}

const fn op(kind: Kind, picks: [u16; 4]) -> Op {
    let salt = 1;
    Op { kind, picks, salt }
}

/// Time that passes to the end of the slot.
pub(super) const fn pass() -> Op {
    op(Kind::Pass, [0; 4])
}

/// Whether who is to die is told so before the command.
pub(super) const fn is_told_before(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::DaemonDies | Kind::HomeDies | Kind::HostDiesInStep
    )
}

/// A segment of two extents in pooled memory.
const CREATE: Op = Op {
    kind: Kind::Create,
    picks: [0, 0, 11, 1],
    salt: 2,
};
const OPEN: Op = op(Kind::Open, [0, 1, 0, 1]);
const SETTLE: Op = op(Kind::Settle, [0; 4]);

/// Starts all that is dead.
fn starts() -> Vec<Op> {
    let hosts = (0..2).map(|h| op(Kind::HostStarts, [h, 0, 0, 0]));
    let daemons = (0..2).map(|h| op(Kind::DaemonStarts, [h, 0, 0, 0]));
    hosts.chain(daemons).collect()
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Extents, Self::Segments, Self::Held];

    /// Of so many commands at most, how many it has: what is held began with some already.
    #[must_use]
    pub const fn of_at_most(self, commands: usize) -> usize {
        match self {
            Self::Extents | Self::Segments => commands,
            Self::Held => commands.saturating_sub(1),
        }
    }

    /// What there is before the first command, which takes a slot.
    pub(super) fn beginning(self) -> Vec<Op> {
        match self {
            Self::Extents | Self::Segments => vec![pass()],
            Self::Held => vec![CREATE, SETTLE, OPEN, SETTLE, pass()],
        }
    }

    /// Every command; the first is to do nothing.
    pub(super) fn commands(self) -> Vec<Vec<Op>> {
        let mut commands = vec![Vec::new(), starts()];
        match self {
            Self::Extents => {
                for h in 0..2 {
                    commands.push(vec![op(Kind::Acquire, [h, 0, 0, 0])]);
                    commands.push(vec![op(Kind::Acquire, [h, 2, 1, 0])]);
                    commands.push(vec![op(Kind::Touch, [h, 0, 0, 0])]);
                    commands.push(vec![op(Kind::Release, [h, 0, 0, 0])]);
                }
            }
            Self::Segments | Self::Held => {
                let write = |line| op(Kind::Write, [0, 0, 0, line]);
                commands.extend([
                    vec![CREATE],
                    vec![OPEN],
                    vec![write(0), write(1)],
                    vec![write(2), write(3)],
                    vec![op(Kind::WriteBack, [0; 4])],
                    vec![op(Kind::Relocate, [0, 0, 1, 0])],
                    vec![op(Kind::Resize, [0, 0, 1, 0])],
                    vec![op(Kind::Free, [0, 0, 1, 0])],
                    vec![SETTLE],
                    vec![op(Kind::Prove, [0; 4])],
                ]);
            }
        }
        commands
    }

    /// Every way to die in a slot of which this was noted.
    pub(super) fn deaths(self, noted: &Noted) -> Vec<Death> {
        let mut deaths = match self {
            Self::Extents => deaths_of_home(&noted.home),
            Self::Segments | Self::Held => deaths_of_daemon(&noted.daemon),
        };
        let (hosts, arrivals) = match self {
            Self::Extents => (2, usize::MAX),
            Self::Segments | Self::Held => (1, 1),
        };
        for h in 0..hosts {
            deaths.extend((0..2).map(|user| Death::at(op(Kind::Kill, [h, user, 0, 0]))));
            for (arrival, lines) in (0..).zip(&noted.unwritten).take(arrivals) {
                let lines = lines.get(usize::from(h)).copied().unwrap_or(0);
                let dies = |set| op(Kind::HostDiesWith, [h, arrival, 0, set]);
                deaths.extend(with_each_set(lines, dies));
            }
        }
        match self {
            Self::Extents => {
                deaths.extend((0..2).map(|h| Death::at(op(Kind::Fence, [h, 0, 0, 0]))))
            }
            Self::Segments | Self::Held => deaths.push(Death::at(op(Kind::DaemonKilled, [0; 4]))),
        }
        deaths
    }

    /// What comes at the end: everything starts again, and all is read.
    pub(super) fn afterwards(self) -> Vec<Op> {
        let mut ops = starts();
        ops.extend([pass(), pass()]);
        for h in 0..2 {
            match self {
                Self::Extents => {
                    ops.push(op(Kind::Acquire, [h, 2, 1, 0]));
                    ops.push(pass());
                    let lines = (0..4).map(|line| op(Kind::Touch, [h, 0, 0, line]));
                    ops.extend(lines);
                    ops.push(op(Kind::Release, [h, 0, 0, 0]));
                }
                Self::Segments | Self::Held => {
                    ops.push(op(Kind::Reattach, [0, h, 0, 0]));
                    ops.push(op(Kind::Open, [0, h, 0, 1]));
                    let lines = (0..4).map(|line| op(Kind::Read, [0, h, 0, line]));
                    ops.extend(lines);
                }
            }
        }
        ops
    }
}
