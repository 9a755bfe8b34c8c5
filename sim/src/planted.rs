//! Bugs that are planted one at a time, and that the simulation must find: who tests the tests.
//!
//! Each is behind `planted!` in the code that would have it, and there only with the feature
//! `fault`. Those of this crate are mistakes of whoever drives the real code: the duties that a
//! daemon, a host or a fabric manager has.

use pool_core::fault::plant;

use crate::mix::Mix;
use crate::run::run;

/// A bug and how soon it must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// How many seeds, of [`OPS`] ops each, it may take.
    pub seeds: u64,
}

/// Ops of each seed.
pub const OPS: usize = 5_000;

const fn bug(name: &'static str, seeds: u64) -> Bug {
    Bug { name, seeds }
}

/// Every bug that must be found.
pub const BUGS: [Bug; 1] = [
    bug("sim.skips_write_back", 4),
];

/// How a bug was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which rule it broke.
    pub rule: &'static str,
    /// After how many seeds.
    pub seeds: u64,
    /// After how many ops in all.
    pub ops: usize,
}

/// Plants a bug and looks for it. `None` where it is not found within its budget.
///
/// A planted bug is there for the whole process: call it from one thread.
#[must_use]
pub fn find(bug: &Bug, first: u64) -> Option<Found> {
    plant(Some(bug.name));
    let mut ops = 0;
    let mut found = None;
    for seeds in 1..=bug.seeds {
        let mix = Mix::draw(first.saturating_add(seeds - 1));
        let outcome = run(&mix, &mix.ops(OPS));
        ops += outcome.ops;
        if let Some(failure) = outcome.failure {
            let rule = failure.broken.rule;
            found = Some(Found { rule, seeds, ops });
            break;
        }
    }
    plant(None);
    found
}
