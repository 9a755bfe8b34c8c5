//! Worlds in which everything is tried: an op happens on the host, to the process and at the time
//! that it says, or nothing happens, and each point is counted at which something can die.
//!
//! # Time
//! Time passes with [`Kind::Pass`](crate::op::Kind::Pass) alone, and then to the end of the slot:
//! so two lists of ops that fill as many slots end at the same time, to the nanosecond.
//!
//! # Points
//! [`Noted`] has, of all that happened since it was emptied: of each step of a daemon and of the
//! home, how many things it wanted done, and of each thing that was under way and came, how many
//! lines each host had not written back right after it. What is to die is told before: at which
//! step and after how many things, or after how many arrivals. Whoever was told and did not come
//! to that point in its slot lives on.
//!
//! # States
//! [`World::state`] is a number of 128 bits over all of a world that anything can come of: of two
//! worlds with the same one the same comes, for nothing else is read. It is made of the text that
//! `Debug` has of every field (derived, in the crates of the fabric, the engine and the directory:
//! what they have is in it), but for these:
//! - the trace of the world and of its fabric: what happened, and nothing reads it; that of the
//!   fabric has to stand there once, and a world of which it does not is no state;
//! - the generator of numbers, which each op and the healing seed anew;
//! - what was noted, and the number of the last thing under way, which orders what is due at the
//!   same time: the order itself is in it.

use std::fmt::Write as _;

use pool_core::Nanos;
use pool_core::rng::Rng;

use super::World;
use super::lines::Lines;
use super::machine::{Loss, Machine};
use crate::broken::{Checked, broken, holds};
use crate::mix::Mix;
use crate::trace::fold;

/// How long a slot is, in nanoseconds: a request, a recall, a release and a grant come within it,
/// and not all that comes of a host's death does.
const SLOT: u64 = 40_000_000;
/// Times within a slot at which something is due at most: more of them would never end.
const STEPS_MAX: usize = 4_096;
/// How the trace of a fabric begins in its text, before its number and what ends it.
const TRACE: &str = "trace: Trace(";
const TRACE_END: char = ')';

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noted {
    /// Otherwise nothing is noted.
    is_wanted: bool,
    /// Of each step of the daemon of host 0, what it was.
    pub(crate) daemon: Vec<NotedStep>,
    /// Of each step of the home, its outputs.
    pub(crate) home: Vec<u16>,
    /// After each arrival, how many lines each host has not written back.
    pub(crate) unwritten: Vec<Vec<u32>>,
}

/// A step of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotedStep {
    pub(crate) actions: u16,
    /// Lines that its host had not written back, before it or after it: the most of both.
    pub(crate) unwritten: u32,
}

impl Noted {
    pub(super) fn home(&mut self, outputs: usize) {
        if self.is_wanted {
            self.home.push(u16::try_from(outputs).unwrap_or(u16::MAX));
        }
    }
}

/// A host dies after so many arrivals, and a set of its lines had left its caches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doomed {
    arrivals: u16,
    host: usize,
    set: u16,
}

/// Where worlds of one mix begin: a fabric in which everything is bound, added, taken and mapped.
#[derive(Debug)]
pub(crate) struct Start {
    mix: Mix,
    lines: Lines,
}

impl Start {
    pub(crate) fn new(mix: &Mix) -> Checked<Self> {
        let (mix, lines) = (mix.clone(), Lines::new(mix)?);
        Ok(Self { mix, lines })
    }

    /// A world that begins.
    pub(crate) fn world(&self) -> Checked<World> {
        World::over(self.lines.clone(), self.mix.clone(), 1)
    }
}

impl Machine {
    /// How the step that is now ends.
    pub(super) fn loss_of_step(&mut self) -> Option<Loss> {
        if self.armed.is_some() && self.spared > 0 {
            self.spared -= 1;
            return None;
        }
        self.armed.take()
    }

    /// All of it but for its plan, which does not change, and its clock, which says the time of
    /// the world here.
    fn write_state(&self, text: &mut String) -> std::fmt::Result {
        let Self {
            plan: _,
            clock: _,
            told_time: _,
            engine,
            steward,
            alive,
            paused,
            mapped,
            boot,
            durable,
            files,
            processes,
            building,
            copying,
            work,
            given,
            awaited,
            words,
            watched,
            leaving_files,
            waits: _, // What is judged by it follows from when each step was, as the trace does.
            armed,
            takes_host,
            dies_leaving,
            spared,
            failing_builds,
            failing_copies,
            books,
            contents,
            eras,
            heap,
            is_refused,
        } = self;
        write!(text, "{engine:?}{steward:?}{alive}{paused}{mapped}{boot}")?;
        write!(text, "{durable:?}{files:?}{processes:?}{building:?}")?;
        write!(text, "{copying:?}{work:?}{given:?}{awaited:?}{words:?}")?;
        write!(
            text,
            "{watched:?}{leaving_files:?}{armed:?}{takes_host:?}{dies_leaving} {spared}"
        )?;
        write!(
            text,
            " {failing_builds} {failing_copies}{books:?}{contents:?}{eras:?}{heap:?}{is_refused}"
        )
    }
}

impl World {
    /// The daemon dies at the step after so many others: before its commit, after it, or after so
    /// many actions and one.
    pub(super) fn doom_daemon(&mut self, h: usize, (spared, point): (u16, u16)) {
        let machine = &mut self.machines[h];
        machine.spared = spared;
        machine.armed = Some(match point {
            0 => Loss::BeforeCommit,
            1 => Loss::AfterCommit,
            _ => Loss::After(usize::from(point - 1)),
        });
    }

    pub(super) fn doom_host(&mut self, (arrivals, host, set): (u16, usize, u16)) {
        self.doomed = Some(Doomed {
            arrivals,
            host,
            set,
        });
    }

    /// What was under way has come.
    pub(super) fn came(&mut self) -> Checked {
        if self.noted.is_wanted {
            self.note_unwritten();
        }
        let Some(doomed) = &mut self.doomed else {
            return Ok(());
        };
        doomed.arrivals = doomed.arrivals.saturating_sub(1);
        let Doomed {
            arrivals,
            host,
            set,
        } = *doomed;
        if arrivals > 0 {
            return Ok(());
        }
        self.doomed = None;
        self.host_dies_with(host, set)
    }

    /// Notes a step of the daemon of host 0, where that is wanted. Its place among them.
    pub(super) fn note_step(&mut self, h: usize, actions: usize) -> Option<usize> {
        if !self.noted.is_wanted || h != 0 {
            return None;
        }
        self.noted.daemon.push(NotedStep {
            actions: u16::try_from(actions).unwrap_or(u16::MAX),
            unwritten: self.unwritten_of(h),
        });
        Some(self.noted.daemon.len() - 1)
    }

    /// The same step is done.
    pub(super) fn note_unwritten_in(&mut self, h: usize, step: Option<usize>) {
        let unwritten = step.map_or(0, |_| self.unwritten_of(h));
        let step = step.and_then(|step| self.noted.daemon.get_mut(step));
        step.into_iter()
            .for_each(|step| step.unwritten = step.unwritten.max(unwritten));
    }

    fn unwritten_of(&self, h: usize) -> u32 {
        u32::try_from(self.unwritten(h).len()).unwrap_or(u32::MAX)
    }

    /// Notes how many lines each host has not written back now.
    pub(crate) fn note_unwritten(&mut self) {
        let hosts = 0..self.machines.len();
        let counts = hosts.map(|h| self.unwritten_of(h));
        let counts = counts.collect();
        self.noted.unwritten.push(counts);
    }

    /// Notes what comes from here on.
    pub(crate) fn note_from_here(&mut self) {
        self.noted = Noted {
            is_wanted: true,
            ..Noted::default()
        };
    }

    /// No step was gone through, and nothing came.
    pub(crate) fn has_noted_nothing(&self) -> bool {
        let Noted {
            daemon,
            home,
            unwritten,
            ..
        } = &self.noted;
        daemon.is_empty() && home.is_empty() && unwritten.is_empty()
    }

    /// Time passes to the end of the slot; who was to die in it and did not lives on.
    pub(super) fn end_slot(&mut self) -> Checked {
        let end = (self.now.get() / SLOT + 1) * SLOT;
        // From one thing that is due to the next: what comes of each is there for the next one.
        for _ in 0..STEPS_MAX {
            match self
                .shared
                .next_due(&self.machines)
                .filter(|&due| due < end)
            {
                Some(due) => self.pass(due.saturating_sub(self.now.get()))?,
                None => break,
            }
        }
        self.pass(end.saturating_sub(self.now.get()))?;
        for machine in &mut self.machines {
            (machine.armed, machine.takes_host, machine.spared) = (None, None, 0);
        }
        self.shared.doom(0, None);
        self.doomed = None;
        holds(self.now == Nanos::new(end), "a slot ends on time", || {
            format!("{:?}", self.now)
        })
    }

    /// What comes of a world does not depend on what was drawn in its last op.
    pub(super) fn begins_to_heal(&mut self) {
        if self.mix.is_exact {
            self.rng = Rng::new(self.mix.seed);
            (self.noted, self.doomed) = (Noted::default(), None);
            self.shared.doom(0, None);
        }
    }

    /// See the module. `text` is only there to be used again.
    pub(crate) fn state(&self, text: &mut String) -> Checked<u128> {
        text.clear();
        let unwritten = |error| broken("a world can be written down", error);
        write!(text, "{:?}", self.lines).or_else(unwritten)?;
        without_trace(text)?;
        self.write_state(text).or_else(unwritten)?;
        Ok(number(text.as_bytes()))
    }

    /// All of it but for its lines.
    fn write_state(&self, text: &mut String) -> std::fmt::Result {
        // Its mix is the same for all worlds that are compared, and has no groups.
        let Self {
            mix: _,
            trace: _,
            rng: _,
            now,
            lines: _,
            machines,
            shared,
            groups: _,
            told_tags: _,
            damaged_tag: _,
            marks,
            pids,
            is_device_gone,
            resets_in: _,
            heals,
            noted: _,
            doomed,
        } = self;
        write!(text, "{now:?}")?;
        for machine in machines {
            machine.write_state(text)?;
        }
        shared.write_state(text)?;
        write!(text, "{marks} {pids} {is_device_gone} {heals} {doomed:?}")
    }
}

/// Takes the trace out of the text of a fabric: it stands there once, or the text is not known.
fn without_trace(text: &mut String) -> Checked {
    let found = text.matches(TRACE).count();
    let start = text.find(TRACE).filter(|_| found == 1);
    let end = start.and_then(|start| Some(start + text[start..].find(TRACE_END)?));
    let (Some(start), Some(end)) = (start, end) else {
        let found = format_args!("`{TRACE}` {found} times");
        return broken("the text of a fabric has its trace once", found);
    };
    text.replace_range(start..=end, "");
    Ok(())
}

/// A number over some bytes: two of 64 bits that begin apart.
fn number(bytes: &[u8]) -> u128 {
    let (mut first, mut second) = (0, 0x6a09_e667_f3bc_c908);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        (first, second) = (fold(first, word), fold(second, word.rotate_left(17)));
    }
    let length = bytes.len() as u64;
    u128::from(fold(first, length)) << 64 | u128::from(fold(second, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Kind, Op};

    #[test]
    fn the_state_of_a_world_has_all_of_its_fabric_but_for_the_trace() {
        let start = Start::new(&Mix::scope()).unwrap();
        let whole = format!("{:?}", start.lines);
        let mut text = String::new();
        start.world().unwrap().state(&mut text).unwrap();
        let (before, behind) = whole.split_once(TRACE).unwrap();
        let (trace, behind) = behind.split_once(TRACE_END).unwrap();
        assert!(trace.parse::<u64>().is_ok(), "{trace}");
        let left = text.strip_prefix(before).unwrap();
        assert!(left.starts_with(behind) && !text.contains("Trace"));
    }

    #[test]
    fn a_host_dies_at_each_point_of_a_step_of_its_daemon() {
        let start = Start::new(&Mix::scope()).unwrap();
        let op = |kind, picks| Op {
            kind,
            picks,
            salt: 1,
        };
        let made = [op(Kind::Create, [0, 0, 11, 1]), op(Kind::Settle, [0; 4])];
        let make = |world: &mut World| made.iter().try_for_each(|op| world.play(0, op));
        let mut world = start.world().unwrap();
        world.note_from_here();
        make(&mut world).unwrap();
        let steps = world.noted.daemon.clone();
        let before = start.world().unwrap().machines[0].durable.clone();
        let mut is_durable = Vec::new();
        for (number, step) in (0..).zip(steps) {
            for point in 0..=step.actions + 1 {
                let mut world = start.world().unwrap();
                let dies = op(Kind::HostDiesInStep, [0, number, point, 0]);
                world.play(0, &dies).unwrap();
                make(&mut world).unwrap();
                let machine = &world.machines[0];
                assert!(!machine.alive && machine.engine.is_none() && machine.processes.is_empty());
                is_durable.push((machine.durable != before, point));
                world.heal().unwrap();
            }
        }
        // From the commit of one of the steps on, which is before its first action.
        let first = is_durable.iter().position(|(is, _)| *is).unwrap();
        assert_eq!(is_durable[first].1, 1);
        assert!(is_durable[first..].iter().all(|(is, _)| *is));
    }

    #[test]
    fn a_text_without_a_trace_or_with_two_of_them_is_no_state() {
        let without = |text: &str| {
            let mut text = text.to_owned();
            without_trace(&mut text).map(|()| text)
        };
        let known = without("Fabric { trace: Trace(12), now: 3 }");
        assert_eq!(known.as_deref(), Ok("Fabric { , now: 3 }"));
        for unknown in [
            "Fabric { now: 3 }",
            "Fabric { trace: Trace { number: 12 } }",
            "Fabric { trace: Trace(12",
            "trace: Trace(1) trace: Trace(2)",
        ] {
            assert!(without(unknown).is_err(), "{unknown}");
        }
    }
}
