//! From figures to places along an axis, and where its ticks are.

/// How figures lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Equal differences are equally far apart; the axis begins at zero.
    Linear,
    /// Equal ratios are; what is not above zero is at the beginning.
    Logarithmic,
}

/// An axis over some figures.
#[derive(Debug)]
pub(crate) struct Scale {
    spacing: Spacing,
    /// As they are spaced.
    low: f64,
    span: f64,
}

/// Ticks of an axis, about.
const TICKS: f64 = 5.0;

impl Scale {
    /// An axis on which all of them are; those that are no numbers are left out of account.
    pub(crate) fn over(spacing: Spacing, figures: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for figure in figures.filter(|figure| figure.is_finite()) {
            (low, high) = (low.min(figure), high.max(figure));
        }
        let (low, high) = match spacing {
            Spacing::Linear => (0.0, high.max(f64::MIN_POSITIVE)),
            Spacing::Logarithmic => {
                let low = low.min(high).max(f64::MIN_POSITIVE).log10().floor();
                let high = high.max(f64::MIN_POSITIVE).log10().ceil();
                (low, high.max(low + 1.0))
            }
        };
        Self {
            spacing,
            low,
            span: high - low,
        }
    }

    /// Where a figure is, from 0 to 1.
    pub(crate) fn at(&self, figure: f64) -> f64 {
        let spaced = match self.spacing {
            Spacing::Linear => figure,
            Spacing::Logarithmic => figure.max(f64::MIN_POSITIVE).log10(),
        };
        let place = (spaced - self.low) / self.span;
        if place.is_nan() {
            return 0.0;
        }
        place.clamp(0.0, 1.0)
    }

    /// The figures that are written beside the axis: round ones, and a bounded number of them.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        match self.spacing {
            Spacing::Linear => {
                let step = round_step(self.span / TICKS);
                let ticks = (0_u32..=20).map(|number| f64::from(number) * step);
                ticks.take_while(|tick| *tick <= self.span).collect()
            }
            Spacing::Logarithmic => {
                let ticks = (0_u32..=40).map(|number| self.low + f64::from(number));
                let within = ticks.take_while(|tick| *tick <= self.low + self.span);
                within.map(|power| 10.0_f64.powf(power)).collect()
            }
        }
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.log10().floor());
    let round = [1.0, 2.0, 5.0].map(|times| times * power);
    let found = round.into_iter().find(|step| *step >= least);
    found.unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_place_on_the_axis() {
        let figures = [0.0, -1.0, f64::NAN, f64::INFINITY, 1.0, 1e300];
        for spacing in [Spacing::Linear, Spacing::Logarithmic] {
            for of in [&figures[..], &[], &[0.0], &[f64::NAN]] {
                let scale = Scale::over(spacing, of.iter().copied());
                for figure in figures {
                    assert!((0.0..=1.0).contains(&scale.at(figure)), "{figure} {of:?}");
                }
                assert!(scale.ticks().len() <= 41, "{of:?}");
            }
        }
    }

    #[test]
    fn ticks_are_round_and_on_the_axis() {
        let linear = Scale::over(Spacing::Linear, [3.0, 23.0].into_iter());
        assert_eq!(linear.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let decades = Scale::over(Spacing::Logarithmic, [2.0, 90.0].into_iter());
        assert_eq!(decades.ticks(), [1.0, 10.0, 100.0]);
        assert!(decades.at(1.0) < decades.at(10.0) && decades.at(10.0) < decades.at(100.0));
    }
}
