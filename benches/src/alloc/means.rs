//! One number for all workloads: the geometric mean, of times and of memory apart.
//!
//! The mean of a contender is taken over the cases that both it and the subject did, round by
//! round, so that a ratio is of one round here as everywhere.

use std::collections::BTreeMap;

use crate::contest::{Better, CONTROL, Case, Named, Result, Side, compare};
use crate::results::is_control;

/// The runs of the subject and of one other, case by case.
#[derive(Debug)]
struct Pairs {
    peer: Named,
    is_control: bool,
    ours: Vec<Side>,
    theirs: Vec<Side>,
}

/// Cases, as they come: by figure, and then by contender.
#[derive(Debug)]
pub(super) struct Means {
    name: &'static str,
    figures: BTreeMap<(&'static str, &'static str), Vec<Pairs>>,
}

impl Means {
    /// Those that are told under `name`.
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            figures: BTreeMap::new(),
        }
    }

    /// What came of one figure of one case.
    pub(super) fn add(&mut self, figure: &'static str, unit: &'static str, results: &[Result]) {
        let all = self.figures.entry((figure, unit)).or_default();
        for result in results {
            let Some(peer) = &result.peer else { continue };
            let named = (peer.name, peer.version);
            let index = all.iter().position(|pairs| pairs.peer == named);
            let index = index.unwrap_or_else(|| {
                all.push(Pairs {
                    peer: named,
                    is_control: is_control(result),
                    ours: Vec::new(),
                    theirs: Vec::new(),
                });
                all.len() - 1
            });
            all[index].ours.push(result.ours.clone());
            all[index].theirs.push(peer.clone());
        }
    }

    /// The means.
    pub(super) fn results(&self) -> anyhow::Result<Vec<Result>> {
        let mut results = Vec::new();
        for ((figure, unit), all) in &self.figures {
            for pairs in all {
                let Some(ours) = pairs.ours.first() else {
                    continue;
                };
                let suffix = if pairs.is_control { CONTROL } else { "" };
                let name = format!("{}: {figure}{suffix}", self.name);
                let case = Case::figure(name, unit, Better::Lower);
                let ours = ((ours.name, ours.version), of_rounds(&pairs.ours));
                let theirs = (pairs.peer, of_rounds(&pairs.theirs));
                // The subject stands in for its own second run, which is a pair of its own here.
                let compared = compare(&case, vec![ours.clone(), ours, theirs])?;
                results.extend(compared.into_iter().take(1));
            }
        }
        Ok(results)
    }
}

/// The mean over all cases, for each round.
fn of_rounds(sides: &[Side]) -> Vec<f64> {
    let rounds = sides.iter().map(|side| side.runs.len()).min().unwrap_or(0);
    (0..rounds)
        .map(|round| geometric(sides.iter().map(|side| side.runs[round])))
        .collect()
}

/// Not a number where there is none.
fn geometric(values: impl Iterator<Item = f64>) -> f64 {
    let (mut logarithms, mut count) = (0.0, 0.0);
    for value in values {
        logarithms += value.ln();
        count += 1.0;
    }
    (logarithms / count).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_geometric_mean_weighs_ratios_alike() {
        assert!((geometric([2.0, 8.0].into_iter()) - 4.0).abs() < 1e-9);
        assert!((geometric([0.5, 2.0].into_iter()) - 1.0).abs() < 1e-9);
        assert!(geometric(std::iter::empty()).is_nan());
    }

    #[test]
    fn a_mean_is_of_the_cases_that_both_did() {
        let case = Case::time("a: CPU", "ns");
        let side = |name, runs: [f64; 2]| ((name, "1"), runs.to_vec());
        let ours = || side("ours", [2.0, 2.0]);
        let both = [ours(), ours(), side("x", [1.0, 4.0]), side("y", [2.0, 2.0])];
        let one = [ours(), ours(), side("x", [4.0, 1.0])];
        let mut means = Means::new("mean");
        means.add("CPU", "ns", &compare(&case, both.into()).unwrap());
        means.add("CPU", "ns", &compare(&case, one.into()).unwrap());
        let results = means.results().unwrap();
        let told: Vec<_> = results
            .iter()
            .map(|result| {
                let peer = result.peer.as_ref().unwrap();
                (result.case.name.as_str(), peer.name, peer.runs.clone())
            })
            .collect();
        assert_eq!(told[0], ("mean: CPU", "x", vec![2.0, 2.0]));
        assert_eq!(told[1].1, "y");
        assert_eq!((told[2].0, told[2].1), ("mean: CPU (A/A)", "ours"));
        assert!((results[0].ratio().unwrap() - 1.0).abs() < 1e-9);
    }
}
