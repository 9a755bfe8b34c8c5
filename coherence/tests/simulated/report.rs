//! What is told of a world: what was done, how often, the steps before the end, and how to see it
//! again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::mix::Mix;

/// How many steps are remembered.
const LAST: usize = 50;

/// A law was broken.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    /// Which one, in words.
    pub(crate) law: &'static str,
    /// How.
    pub(crate) how: String,
}

/// Tells that `law` was broken.
pub(crate) fn broken<T>(law: &'static str, how: impl Into<String>) -> Result<T, Violation> {
    Err(Violation {
        law,
        how: how.into(),
    })
}

/// One step of one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) now: u64,
    /// 0 is the daemon's.
    pub(crate) thread: usize,
    pub(crate) point: &'static str,
    pub(crate) unit: u32,
    /// Ownership word and version of the unit, before what begins at the point.
    pub(crate) own: u64,
    pub(crate) version: u64,
}

/// What a world has done: one number for all of it, and the last steps.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    last: VecDeque<Step>,
}

impl Trace {
    pub(crate) fn add(&mut self, step: Step) {
        for word in [step.now, step.thread as u64, step.own, step.version] {
            self.mix(word);
        }
        self.mix_bytes(step.point.as_bytes());
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(step);
    }

    pub(crate) fn mix_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }
}

/// Counts of a world, or of several.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Lease calls, loads, stores, write-backs, drops and fences.
    pub(crate) operations: u64,
    pub(crate) by_name: BTreeMap<&'static str, u64>,
    pub(crate) switches: u64,
    /// Members that died, and times the daemon did.
    pub(crate) members_killed: u64,
    pub(crate) daemon_killed: u64,
    pub(crate) cut_off: u64,
    /// Deaths at each point.
    pub(crate) kills: BTreeMap<&'static str, u64>,
    pub(crate) recovered: BTreeMap<&'static str, u64>,
    pub(crate) grants: u64,
    pub(crate) verified: u64,
    pub(crate) lines_lost: u64,
    /// Words stored to memory that nobody had asked to be.
    pub(crate) words_spurious: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.switches += other.switches;
        self.members_killed += other.members_killed;
        self.daemon_killed += other.daemon_killed;
        self.cut_off += other.cut_off;
        self.grants += other.grants;
        self.verified += other.verified;
        self.lines_lost += other.lines_lost;
        self.words_spurious += other.words_spurious;
        for (mine, theirs) in [
            (&mut self.by_name, &other.by_name),
            (&mut self.kills, &other.kills),
            (&mut self.recovered, &other.recovered),
        ] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "operations          {}", self.operations)?;
        for (name, count) in &self.by_name {
            writeln!(f, "    {name:<28}{count}")?;
        }
        writeln!(f, "hand-overs          {}", self.switches)?;
        writeln!(f, "grants              {}", self.grants)?;
        writeln!(f, "units read, judged  {}", self.verified)?;
        writeln!(f, "lines lost          {}", self.lines_lost)?;
        writeln!(f, "spurious words      {}", self.words_spurious)?;
        writeln!(f, "members cut off     {}", self.cut_off)?;
        writeln!(f, "recoveries")?;
        for (name, count) in &self.recovered {
            writeln!(f, "    {name:<28}{count}")?;
        }
        let (members, daemon) = (self.members_killed, self.daemon_killed);
        writeln!(
            f,
            "members killed      {members}\ndaemon killed       {daemon}"
        )?;
        for (name, count) in &self.kills {
            writeln!(f, "    {name:<28}{count}")?;
        }
        Ok(())
    }
}

/// How a world ended.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) mix: Mix,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    pub(crate) violation: Option<Violation>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Violation { law, how }) = &self.violation else {
            return writeln!(
                f,
                "seed {}: {} operations, trace {:016x}",
                self.mix.seed, self.tally.operations, self.trace.hash
            );
        };
        writeln!(f, "the last steps (thread 0 is the daemon's):")?;
        for step in &self.trace.last {
            writeln!(
                f,
                "{:>8}  thread {:<2}  unit {}  {:016x} v{:<5} {}",
                step.now, step.thread, step.unit, step.own, step.version, step.point
            )?;
        }
        writeln!(f, "{:#?}", self.mix)?;
        writeln!(f, "broken: {law}\n        {how}")?;
        writeln!(
            f,
            "TIERPOOL_SEED={} cargo test -p coherence --features fault --test simulated \
             -- --nocapture replay",
            self.mix.seed
        )
    }
}
