//! Who waits for emulated time, and the stall that a program owes. Nothing in here waits.

use core::fmt;

use super::units::{Picos, narrow};

/// How emulated time is applied to real accesses. It is named beside each figure, and figures of
/// two modes are never put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nobody waits. What things take is added to an emulated clock and to nothing else; the
    /// figures are those of that clock.
    Virtual,
    /// Whoever asked for a transfer, a spill or a command of a manager waits until as much real
    /// time has passed as it takes. Single loads and stores run as fast as the machine.
    Paced,
    /// As paced, and besides a program owes the stalls that its accesses would have had, as they
    /// were sampled, and waits for them where it acquires or releases. An approximation: the
    /// stall comes later than in truth, and all at once.
    Debt,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtual => "virtual",
            Self::Paced => "paced",
            Self::Debt => "debt",
        })
    }
}

/// Accesses of which one in `every` was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// How many were counted.
    pub accesses: u64,
    /// Each stands for so many; 0 counts as 1.
    pub every: u32,
    /// How many of them were under way at once; 0 counts as 1.
    pub mlp: u32,
}

/// Stall that a program owes: `accesses * (tier - local) / mlp`, summed.
///
/// Kept in 2^-32 picoseconds, so that many small charges lose nothing that could be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Debt(u128);

impl Debt {
    /// Adds what `sampled` would have stalled at memory of latency `tier` longer than at `local`
    /// memory, where they really went. Memory that is no slower adds nothing.
    pub fn charge(&mut self, sampled: Sampled, tier: Picos, local: Picos) {
        let longer = u128::from(tier.saturating_sub(local).get());
        let accesses = u128::from(sampled.accesses) * u128::from(sampled.every.max(1));
        let stall = accesses.saturating_mul(longer).saturating_mul(1 << 32);
        self.0 = self
            .0
            .saturating_add(stall / u128::from(sampled.mlp.max(1)));
    }

    /// What is owed, in whole picoseconds.
    #[must_use]
    pub fn owed(self) -> Picos {
        Picos::new(narrow(self.0 >> 32))
    }

    /// Takes off what was waited; to wait longer than is owed earns nothing.
    pub fn pay(&mut self, waited: Picos) {
        self.0 = self.0.saturating_sub(u128::from(waited.get()) << 32);
    }
}
