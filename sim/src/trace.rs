//! What happened: a hash of all of it, the last of it, and which rare things were among it.
//!
//! Each event is a name and four numbers. They are folded, in a byte form of this file's own, into
//! 64 bits that are the same on every machine for as long as the same things happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// How many events are kept to be shown, where nothing else is said.
pub const KEPT: usize = 50;

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// At which op, counted from 0.
    pub op: usize,
    /// What.
    pub name: &'static str,
    /// Its numbers; what they mean depends on the name, and the first is mostly the host.
    pub numbers: [u64; 4],
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.numbers;
        write!(f, "op {:>6}  {} {a} {b} {c} {d}", self.op, self.name)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    kept: usize,
    hash: u64,
    op: usize,
    last: VecDeque<Event>,
    marks: BTreeSet<&'static str>,
    faults: BTreeMap<&'static str, u64>,
    counts: BTreeMap<&'static str, u64>,
    points: BTreeMap<&'static str, Point>,
}

/// A crash point of the heap.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// How often it was passed.
    pub passed: u64,
    /// How often a process died there.
    pub died: u64,
}

/// Folds a number into a hash: the finisher of splitmix64 over their sum.
pub(crate) const fn fold(hash: u64, number: u64) -> u64 {
    let mut mixed = hash.rotate_left(5) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Trace {
    /// One that keeps the last `kept` events.
    pub(crate) fn new(kept: usize) -> Self {
        Self {
            kept,
            ..Self::default()
        }
    }

    /// What follows belongs to this op.
    pub(crate) fn begin(&mut self, op: usize) {
        self.op = op;
    }

    /// This happened.
    pub(crate) fn note(&mut self, name: &'static str, numbers: [u64; 4]) {
        for chunk in name.as_bytes().chunks(8) {
            let word = chunk
                .iter()
                .fold(0, |word, &byte| word << 8 | u64::from(byte));
            self.hash = fold(self.hash, word);
        }
        for number in numbers {
            self.hash = fold(self.hash, number);
        }
        *self.counts.entry(name).or_default() += 1;
        if self.last.len() >= self.kept.max(1) {
            self.last.pop_front();
        }
        let op = self.op;
        self.last.push_back(Event { op, name, numbers });
    }

    /// This fault was done.
    pub(crate) fn fault(&mut self, name: &'static str, numbers: [u64; 4]) {
        *self.faults.entry(name).or_default() += 1;
        self.note(name, numbers);
    }

    /// This rare thing was reached.
    pub(crate) fn reached(&mut self, mark: &'static str) {
        debug_assert!(MARKS.contains(&mark), "{mark} is not in the list");
        self.marks.insert(mark);
    }

    /// These crash points of the heap were passed, and how often.
    pub(crate) fn passed(&mut self, points: &BTreeMap<&'static str, u64>) {
        for (point, passed) in points {
            self.points.entry(point).or_default().passed += passed;
        }
    }

    /// A process died at one.
    pub(crate) fn died(&mut self, point: &'static str) {
        self.points.entry(point).or_default().died += 1;
    }

    pub(crate) const fn points(&self) -> &BTreeMap<&'static str, Point> {
        &self.points
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self) -> Vec<Event> {
        self.last.iter().copied().collect()
    }

    pub(crate) fn marks(&self) -> &BTreeSet<&'static str> {
        &self.marks
    }

    /// How often each event happened.
    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    pub(crate) fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }
}

/// Everything rare that a long run has to reach: what never happened was not tested.
pub const MARKS: [&str; 80] = [
    "a request is repeated after a restart",
    "a stale request is refused",
    "a session that is over is refused",
    "a grant is refused for quota",
    "a grant is refused for room",
    "a grant is refused for the machine's memory",
    "a grant waits for burst memory",
    "burst memory is revoked",
    "a segment moves",
    "a segment grows",
    "a segment shrinks",
    "a segment is sealed",
    "a share is taken back",
    "a copy fails",
    "a build fails",
    "memory is lost with its descriptors",
    "a persistent segment outlives its host",
    "a line is lost with its host",
    "a line is read after its host died",
    "a stale mapping is stored through",
    "memory is proven gone",
    "the daemon dies before the commit",
    "the daemon dies after the commit",
    "the daemon dies between two actions",
    "the daemon dies in its recovery",
    "a unit is written",
    "a unit is lost with its writer",
    "a lost unit is restored",
    "a unit that is being written is refused",
    "a member is evicted",
    "a fenced writer is refused",
    "an extent is read that another host wrote",
    "an extent is lost with its host",
    "an extent is repaired",
    "an extent is accepted as it is",
    "a zombie writes back into nothing",
    "a zombie hears that its era is over",
    "a late message is refused",
    "the home dies between its outputs",
    "a line is poisoned and told",
    "a poisoned line is written anew",
    "a device returns empty",
    "a link is down under an access",
    "two faults at once",
    "more memory is asked for",
    "memory is asked back",
    "memory is given back to the fabric",
    "holders are told of damage",
    "a device is not reached for a while",
    "a clock jumps over a deadline",
    "a boot begins earlier than the last one ended",
    "a heap outlives its daemon",
    "a heap gives a chunk back",
    "a heap is removed",
    "a chunk is gone under its heap",
    "a heap in ruins is used",
    "the number of a chunk is used anew",
    "a member dies between naming and adding a chunk",
    "the recovery of a heap dies",
    "a member dies while it gives a chunk back",
    "a group is joined",
    "a group is asked for that is not there",
    "a group is not found",
    "a group is read on another host",
    "a group is read whose maker is dead",
    "a group is read that its maker has no more",
    "a line of a group is poisoned and told",
    "a group is taken by force",
    "a group ends",
    "a group is read that was reset",
    "a group is offered that nobody asked for",
    "the daemon dies as it leaves a group",
    "what the manager did is not heard of",
    "a device is reset while a group is joined",
    "all hosts read a group when all is well",
    "a member dies while it makes a heap",
    "a heap that is half made is not opened",
    "a heap in ruins is not opened",
    "a heap is emptied at rest",
    "what was left of a heap goes",
];
