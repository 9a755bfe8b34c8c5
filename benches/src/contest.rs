//! Contenders that take turns, and what is made of their runs.
//!
//! A *run* is one call of a contender and yields one number, which is itself the median of many
//! operations or a rate over many of them. A *round* is one run of each contender. The order
//! rotates from round to round, so that none always follows the same one; the first round warms up
//! and is thrown away. A ratio is the median of the ratios of each round: what disturbs the machine
//! for longer than a round disturbs both sides.

use std::fmt;

use pool_core::clock;
use serde::Serialize;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// By a clock, of the real thing.
    Measured,
    /// In the time of the emulated fabric: the same on every machine.
    Emulated,
    /// Of the real code without the world that it would run in.
    Modelled,
}

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) mode: Mode,
}

impl Case {
    /// A time; less is better.
    pub(crate) fn time(name: impl Into<String>, unit: &'static str) -> Self {
        let (better, mode) = (Better::Lower, Mode::Measured);
        Self {
            name: name.into(),
            unit,
            better,
            mode,
        }
    }

    /// A rate; more is better.
    pub(crate) fn rate(name: impl Into<String>) -> Self {
        let (better, mode) = (Better::Higher, Mode::Measured);
        Self {
            name: name.into(),
            unit: "1/s",
            better,
            mode,
        }
    }

    /// Something else that is counted or weighed.
    pub(crate) fn figure(name: impl Into<String>, unit: &'static str, better: Better) -> Self {
        Self {
            unit,
            better,
            ..Self::rate(name)
        }
    }

    pub(crate) fn emulated(self) -> Self {
        Self {
            mode: Mode::Emulated,
            ..self
        }
    }

    pub(crate) fn modelled(self) -> Self {
        Self {
            mode: Mode::Modelled,
            ..self
        }
    }
}

/// One side of a contest. What a run yields is a number, or several of them.
pub(crate) struct Contender<'a, T = f64> {
    name: &'static str,
    version: &'static str,
    run: Box<dyn FnMut() -> anyhow::Result<T> + 'a>,
}

impl<T> fmt::Debug for Contender<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<'a, T> Contender<'a, T> {
    pub(crate) fn new(name: &'static str, run: impl FnMut() -> anyhow::Result<T> + 'a) -> Self {
        Self {
            name,
            version: env!("CARGO_PKG_VERSION"),
            run: Box::new(run),
        }
    }

    /// One that is not built from this tree.
    pub(crate) fn of(self, version: &'static str) -> Self {
        Self { version, ..self }
    }
}

/// The name of a contender, and its version.
pub(crate) type Named = (&'static str, &'static str);

/// The runs of one contender.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    pub(crate) runs: Vec<f64>,
}

impl Side {
    fn of((name, version): Named, runs: Vec<f64>) -> Self {
        let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
        let most = runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let median = median(&runs);
        Self {
            name,
            version,
            min: least,
            median,
            max: most,
            runs,
        }
    }
}

/// What came of one case against one peer; without a peer the figure stands for itself.
#[derive(Debug, Clone)]
pub(crate) struct Result {
    pub(crate) case: Case,
    pub(crate) ours: Side,
    pub(crate) peer: Option<Side>,
}

impl Result {
    /// The median of the ratios of the rounds.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?;
        let pairs = self.ours.runs.iter().zip(&peer.runs);
        Some(median(
            &pairs.map(|(ours, peer)| ours / peer).collect::<Vec<_>>(),
        ))
    }

    /// A figure that has no peer.
    pub(crate) fn alone(case: Case, runs: Vec<f64>) -> Self {
        Self {
            case,
            ours: Side::of((OURS, env!("CARGO_PKG_VERSION")), runs),
            peer: None,
        }
    }
}

/// The subject of every case.
pub(crate) const OURS: &str = "tierpool";
pub(crate) const OURS_AGAIN: &str = "tierpool again";
/// What the name of the control of a case ends with.
pub(crate) const CONTROL: &str = " (A/A)";

/// Lets `ours` (made twice, for the control) and the peers take turns. There is one result for
/// each peer, and then the subject against itself.
pub(crate) fn hold<'a>(
    case: &Case,
    rounds: usize,
    ours: impl FnMut() -> anyhow::Result<f64> + Clone + 'a,
    peers: Vec<Contender<'a>>,
) -> anyhow::Result<Vec<Result>> {
    let again = ours.clone();
    let mut all = vec![
        Contender::new(OURS, ours),
        Contender::new(OURS_AGAIN, again),
    ];
    all.extend(peers);
    compare(case, take_turns(&mut all, rounds)?)
}

/// Compares the first, the subject, with the others: the second is the subject again.
pub(crate) fn compare(case: &Case, sides: Vec<(Named, Vec<f64>)>) -> anyhow::Result<Vec<Result>> {
    let mut sides = sides.into_iter().map(|(name, runs)| Side::of(name, runs));
    let (Some(ours), Some(again)) = (sides.next(), sides.next()) else {
        anyhow::bail!("a contest has its subject twice");
    };
    let against = |peer: Side, name: String| Result {
        case: Case {
            name,
            ..case.clone()
        },
        ours: ours.clone(),
        peer: Some(peer),
    };
    let mut results: Vec<_> = sides.map(|peer| against(peer, case.name.clone())).collect();
    results.push(against(again, format!("{}{CONTROL}", case.name)));
    Ok(results)
}

/// Lets contenders take turns, and throws the first round away.
pub(crate) fn take_turns<T>(
    contenders: &mut [Contender<'_, T>],
    rounds: usize,
) -> anyhow::Result<Vec<(Named, Vec<T>)>> {
    let mut runs: Vec<_> = contenders
        .iter()
        .map(|_| Vec::with_capacity(rounds))
        .collect();
    let count = contenders.len();
    for round in 0..=rounds {
        for turn in 0..count {
            let who = (turn + round) % count;
            let (Some(contender), Some(runs)) = (contenders.get_mut(who), runs.get_mut(who)) else {
                continue;
            };
            let value = (contender.run)()?;
            if round > 0 {
                runs.push(value);
            }
        }
    }
    Ok(contenders
        .iter()
        .map(|contender| (contender.name, contender.version))
        .zip(runs)
        .collect())
}

/// The middle one, or the mean of the two in the middle; not a number where there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (
        sorted.get(middle),
        middle.checked_sub(1).and_then(|below| sorted.get(below)),
    ) {
        (Some(upper), Some(lower)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*lower, *upper)
        }
        (Some(middle), _) => *middle,
        _ => f64::NAN,
    }
}

/// How long `work` takes, in nanoseconds, and what it yields.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = clock::now();
    let done = work();
    (nanos(clock::now().saturating_since(start)), done)
}

/// A span as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "a span of weeks is exact to a microsecond"
)]
pub(crate) const fn nanos(span: pool_core::Nanos) -> f64 {
    span.get() as f64
}

/// A count or an amount as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is counted here is far below 2^53"
)]
pub(crate) const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn contenders_take_turns_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let mut all: Vec<_> = ["a", "b"]
            .map(|name| {
                let order = &order;
                Contender::new(name, move || {
                    order.borrow_mut().push_str(name);
                    Ok(number(order.borrow().len() as u64))
                })
            })
            .into();
        let runs = take_turns(&mut all, 2).unwrap();
        assert_eq!(order.borrow().as_str(), "abbaab");
        let version = env!("CARGO_PKG_VERSION");
        let expected = [
            (("a", version), vec![4.0, 5.0]),
            (("b", version), vec![3.0, 6.0]),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn a_ratio_is_of_the_runs_of_one_round() {
        let side = |runs: &[f64]| Side::of(("x", "1"), runs.to_vec());
        let result = Result {
            case: Case::time("c", "us"),
            ours: side(&[1.0, 20.0, 3.0]),
            peer: Some(side(&[1.0, 10.0, 1.0])),
        };
        assert!((result.ratio().unwrap() - 2.0).abs() < f64::EPSILON);
    }
}
