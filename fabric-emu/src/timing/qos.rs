//! What a logical device may take of its device, and how it tells hosts that it is loaded.
//!
//! # The bucket
//! Bytes flow in at a rate, up to a depth, and out as accesses are made. What is in it is kept in
//! units of 10^-12 bytes, in which a whole number flows in each picosecond: nothing is lost to
//! rounding, however often it is asked.

use super::table::{Table, TableError};
use super::units::{PICOS_PER_SECOND, Picos, Rate, Share, narrow};

/// What a logical device may move: the smaller of its limit and its allocation of the device.
#[must_use]
pub fn ld_rate(limit: Rate, allocation: Share, device: Rate) -> Rate {
    limit.min(device.part(allocation.at_most_one()))
}

/// A token bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    /// In 10^-12 bytes, as is `filled`.
    depth: u128,
    filled: u128,
    at: Picos,
}

/// Ask again after so much time; [`Picos::MAX`] is never: more was asked for than the bucket holds,
/// or nothing flows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not before {0}")]
pub struct NotYet(pub Picos);

impl Bucket {
    /// A bucket that is full at time 0, with `depth` bytes.
    #[must_use]
    pub fn new(rate: Rate, depth: u64) -> Self {
        let depth = scaled(depth);
        Self {
            rate,
            depth,
            filled: depth,
            at: Picos::ZERO,
        }
    }

    /// Takes `bytes` at `now`. A time before one that it was given already counts as that one.
    ///
    /// # Errors
    /// [`NotYet`] where there is less; nothing is taken.
    pub fn take(&mut self, now: Picos, bytes: u64) -> Result<(), NotYet> {
        let passed = now.saturating_sub(self.at).get();
        self.at = self.at.max(now);
        let rate = u128::from(self.rate.get());
        let inflow = u128::from(passed).saturating_mul(rate);
        self.filled = self.filled.saturating_add(inflow).min(self.depth);
        let wanted = scaled(bytes);
        if let Some(rest) = self.filled.checked_sub(wanted) {
            self.filled = rest;
            return Ok(());
        }
        if wanted > self.depth || rate == 0 {
            return Err(NotYet(Picos::MAX));
        }
        Err(NotYet(Picos::new(narrow(
            (wanted - self.filled).div_ceil(rate),
        ))))
    }
}

fn scaled(bytes: u64) -> u128 {
    u128::from(bytes) * u128::from(PICOS_PER_SECOND)
}

/// What a device tells with each answer (`DevLoad` of the specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoadLevel {
    /// It could do more.
    Light,
    /// As it should be.
    Optimal,
    /// Hosts should send less.
    Moderate,
    /// Hosts should send far less; they may halve their rate.
    Severe,
}

/// From which utilisation on a device tells which level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// The least that is [`LoadLevel::Optimal`].
    pub optimal: Share,
    /// The least that is [`LoadLevel::Moderate`].
    pub moderate: Share,
    /// The least that is [`LoadLevel::Severe`].
    pub severe: Share,
}

impl Thresholds {
    /// The level at a utilisation. Where thresholds are out of order, the highest that is reached.
    #[must_use]
    pub fn level(&self, utilisation: Share) -> LoadLevel {
        if utilisation >= self.severe {
            LoadLevel::Severe
        } else if utilisation >= self.moderate {
            LoadLevel::Moderate
        } else if utilisation >= self.optimal {
            LoadLevel::Optimal
        } else {
            LoadLevel::Light
        }
    }
}

impl Table {
    /// The thresholds of the load levels.
    ///
    /// # Errors
    /// None that a table can have.
    pub fn thresholds(&self) -> Result<Thresholds, TableError> {
        let share = |key| self.number("model", key).map(Share::from_permille);
        Ok(Thresholds {
            optimal: share("load_optimal")?,
            moderate: share("load_moderate")?,
            severe: share("load_severe")?,
        })
    }
}
