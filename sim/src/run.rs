//! One seed, from its first op to its rest.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::broken::{Broken, Checked, broken};
use crate::mix::Mix;
use crate::op::Op;
use crate::trace::{Event, KEPT, Point};
use crate::world::World;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Of all that happened, the same whenever the same happens.
    pub hash: u64,
    /// How many ops were played.
    pub ops: usize,
    /// Each fault that was done, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// Each event, and how often it happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Which crash points of the heap were passed, and how often somebody died there.
    pub points: BTreeMap<&'static str, Point>,
    /// Which rare things were reached.
    pub marks: BTreeSet<&'static str>,
    /// The last events.
    pub last: Vec<Event>,
    /// What did not hold, and the last events before it.
    pub failure: Option<Failure>,
}

/// An invariant did not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which, and what was found.
    pub broken: Broken,
    /// At which op; the number of ops where it was after the last one.
    pub at: usize,
    /// The last events.
    pub last: Vec<Event>,
}

/// Plays `ops` in the world of `mix`, and lets it come to rest.
#[must_use]
pub fn run(mix: &Mix, ops: &[Op]) -> Outcome {
    run_keeping(mix, ops, KEPT)
}

/// The same, and so many events are kept to be shown.
#[must_use]
pub fn run_keeping(mix: &Mix, ops: &[Op], kept: usize) -> Outcome {
    let mut world = match World::new(mix.clone(), kept) {
        Ok(world) => world,
        Err(broken) => {
            return Outcome {
                hash: 0,
                ops: 0,
                faults: BTreeMap::new(),
                counts: BTreeMap::new(),
                points: BTreeMap::new(),
                marks: BTreeSet::new(),
                last: Vec::new(),
                failure: Some(Failure {
                    broken,
                    at: 0,
                    last: Vec::new(),
                }),
            };
        }
    };
    let mut played = 0;
    let done = guarded(|| {
        for (number, op) in ops.iter().enumerate() {
            played = number;
            world.play(number, op)?;
        }
        played = ops.len();
        world.heal()
    });
    let broken = done.err();
    let trace = &world.trace;
    Outcome {
        hash: trace.hash(),
        ops: played,
        faults: trace.faults().clone(),
        counts: trace.counts().clone(),
        points: trace.points().clone(),
        marks: trace.marks().clone(),
        last: trace.last(),
        failure: broken.map(|broken| Failure {
            broken,
            at: played,
            last: trace.last(),
        }),
    }
}

/// What is done, where a panic breaks a rule as well.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Checked<T>) -> Checked<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(panic) => broken("nothing panics", said(panic.as_ref())),
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it said nothing").to_owned()
}
