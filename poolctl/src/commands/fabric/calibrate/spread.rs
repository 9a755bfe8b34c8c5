//! Runs of one measurement: the middle of them, and how far they are apart.

use core::fmt;

/// The least, the middle and the most of some runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread {
    sorted: Vec<u64>,
}

impl Spread {
    /// Of these runs; none where there are none.
    pub(super) fn of(mut runs: Vec<u64>) -> Option<Self> {
        runs.sort_unstable();
        (!runs.is_empty()).then_some(Self { sorted: runs })
    }

    pub(super) fn least(&self) -> u64 {
        self.sorted.first().copied().unwrap_or(0)
    }

    /// Of an even number, the lower of the two in the middle.
    pub(super) fn median(&self) -> u64 {
        let middle = self.sorted.len().saturating_sub(1) / 2;
        self.sorted.get(middle).copied().unwrap_or(0)
    }

    pub(super) fn most(&self) -> u64 {
        self.sorted.last().copied().unwrap_or(0)
    }

    /// As the source of a parameter tells it, in this unit.
    pub(super) fn told(&self, unit: &'static str) -> ToldSpread<'_> {
        ToldSpread { spread: self, unit }
    }
}

/// See [`Spread::told`].
#[derive(Debug)]
pub(super) struct ToldSpread<'a> {
    spread: &'a Spread,
    unit: &'static str,
}

impl fmt::Display for ToldSpread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spread, unit } = self;
        let runs = spread.sorted.len();
        let (least, median, most) = (spread.least(), spread.median(), spread.most());
        write!(
            f,
            "{runs} runs of {least} to {most} {unit}, median {median}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_its_ends_and_its_middle() {
        assert_eq!(Spread::of(Vec::new()), None);
        let spread = Spread::of(vec![5, 1, 9]).unwrap();
        assert_eq!(
            spread.told("ps").to_string(),
            "3 runs of 1 to 9 ps, median 5"
        );
        assert_eq!(Spread::of(vec![4, 2]).unwrap().median(), 2);
    }
}
