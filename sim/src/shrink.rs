//! The least that still breaks the same rule.

use crate::mix::Mix;
use crate::op::Op;
use crate::run::{Outcome, run};

/// Runs that are tried at most.
const TRIES_MAX: usize = 20_000;

/// What was left, and how it went.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The ops that are left, in their order.
    pub ops: Vec<Op>,
    /// What came of them: the same rule is broken.
    pub outcome: Outcome,
    /// How many runs it took.
    pub tries: usize,
}

/// Leaves out of `ops` what it can while the rule that they break is broken still: parts from half
/// of them down to one. `None` where they break none.
#[must_use]
pub fn shrink(mix: &Mix, ops: &[Op]) -> Option<Shrunk> {
    let outcome = run(mix, ops);
    let failure = outcome.failure.as_ref()?;
    let rule = failure.broken.rule;
    // What came after it did not matter, unless it was found at rest.
    let mut left = ops[..failure.at.saturating_add(1).min(ops.len())].to_vec();
    let mut best = outcome;
    let (mut tries, mut part) = (1, left.len().div_ceil(2).max(1));
    loop {
        let (mut from, mut is_less) = (0, false);
        while from < left.len() && tries < TRIES_MAX {
            let end = (from + part).min(left.len());
            let fewer: Vec<Op> = left[..from].iter().chain(&left[end..]).copied().collect();
            let outcome = run(mix, &fewer);
            tries += 1;
            match &outcome.failure {
                Some(failure) if failure.broken.rule == rule => {
                    let most = failure.at.saturating_add(1).min(fewer.len());
                    left = fewer;
                    left.truncate(most);
                    (best, is_less) = (outcome, true);
                }
                _ => from = end,
            }
        }
        if tries >= TRIES_MAX || (part == 1 && !is_less) {
            break;
        }
        part = if part == 1 { 1 } else { part.div_ceil(2) };
    }
    // The ops that are kept are those that were played.
    let outcome = run(mix, &left);
    let same = |it: &Outcome| it.failure.as_ref().is_some_and(|it| it.broken.rule == rule);
    let outcome = if same(&outcome) { outcome } else { best };
    Some(Shrunk {
        ops: left,
        outcome,
        tries,
    })
}
