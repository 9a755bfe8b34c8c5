//! How long an access waits for those before it: by a formula, or as it was measured.

use super::units::{Picos, Share, mul_div, narrow};

/// The mean wait in an M/D/1 queue: arrivals at random, each served in `service`, and the server
/// busy for `utilisation` of the time, of which all above `cap` counts as `cap`.
///
/// `W = rho s / (2 (1 - rho))`. Without a cap the wait has no end as the utilisation nears the
/// whole; a cap of the whole or more gives [`Picos::MAX`] there.
#[must_use]
pub fn md1(utilisation: Share, service: Picos, cap: Share) -> Picos {
    let rho = utilisation.min(cap);
    let idle = rho.rest().parts();
    Picos::new(mul_div(service.get(), rho.parts(), idle.saturating_mul(2)))
}

/// A wait as it was measured: for some shares of reads, points of (utilisation, added time).
///
/// # Invariants
/// 1. There is a share at least, and shares rise. 2. Each has a point at least; its utilisations
///    rise, and its times never fall. Hence more utilisation is never less wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curves(Vec<(Share, Vec<(Share, Picos)>)>);

/// Give the points in rising order, and times that do not fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a curve needs points of rising utilisation whose times never fall, and rising read shares"
)]
pub struct CurveError;

impl Curves {
    /// Curves by share of reads.
    ///
    /// # Errors
    /// [`CurveError`] where an invariant does not hold.
    pub fn new(curves: Vec<(Share, Vec<(Share, Picos)>)>) -> Result<Self, CurveError> {
        let shares_rise = curves.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let are_points_right = curves.iter().all(|(_, points)| {
            let in_order =
                |pair: &[(Share, Picos)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
            !points.is_empty() && points.windows(2).all(in_order)
        });
        if curves.is_empty() || !shares_rise || !are_points_right {
            return Err(CurveError);
        }
        Ok(Self(curves))
    }

    /// The added time at a utilisation and a share of reads. Between points and between shares it
    /// is a straight line, before the first and after the last it stays.
    #[must_use]
    pub fn wait(&self, utilisation: Share, reads: Share) -> Picos {
        let at = |(_, points): &(Share, Vec<(Share, Picos)>)| along(points, utilisation);
        let above = self.0.partition_point(|(share, _)| *share < reads);
        match (
            above.checked_sub(1).and_then(|below| self.0.get(below)),
            self.0.get(above),
        ) {
            (None, None) => Picos::ZERO,
            (Some(only), None) | (None, Some(only)) => at(only),
            (Some(low), Some(high)) => {
                let width = high.0.parts() - low.0.parts();
                between(at(low), at(high), reads.parts() - low.0.parts(), width)
            }
        }
    }
}

/// The time at `utilisation` on one line of points.
fn along(points: &[(Share, Picos)], utilisation: Share) -> Picos {
    let above = points.partition_point(|(at, _)| *at < utilisation);
    match (
        above.checked_sub(1).and_then(|below| points.get(below)),
        points.get(above),
    ) {
        (None, None) => Picos::ZERO,
        (Some(only), None) | (None, Some(only)) => only.1,
        (Some(low), Some(high)) => {
            let width = high.0.parts() - low.0.parts();
            between(low.1, high.1, utilisation.parts() - low.0.parts(), width)
        }
    }
}

/// The mean of two times, weighted so that it never falls where one of them or, on a line that
/// rises, the place rises.
fn between(low: Picos, high: Picos, place: u64, width: u64) -> Picos {
    let left = u128::from(low.get()) * u128::from(width.saturating_sub(place));
    let right = u128::from(high.get()) * u128::from(place);
    // Both products together are at most `width` times a 64-bit number.
    Picos::new(narrow(
        left.saturating_add(right)
            .checked_div(u128::from(width))
            .unwrap_or(u128::from(high.get())),
    ))
}
