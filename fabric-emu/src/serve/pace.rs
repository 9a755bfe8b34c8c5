//! How the time of the fabric passes.

use core::fmt;

use pool_core::Nanos;
use pool_core::clock;
use serde::{Deserialize, Serialize};

use crate::fabric::Fabric;
use crate::timing::Picos;

/// How the time of a served fabric passes. It is named wherever figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As that of the machine: what goes on in the background takes its time.
    Paced,
    /// It stands still, and jumps to the next end of what was begun where somebody asks how far the
    /// background is, or where there is nothing else to do. A fault that is planned is no reason
    /// to: it happens on the way, or when an operator has time go on.
    Virtual,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paced => "paced",
            Self::Virtual => "virtual",
        })
    }
}

/// The time of one fabric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    mode: Mode,
    began: Nanos,
}

/// In one nanosecond.
const PICOS: u64 = 1_000;

impl Pace {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            began: clock::now(),
        }
    }

    pub(super) const fn mode(self) -> Mode {
        self.mode
    }

    /// What time it is for the fabric.
    pub(super) fn now(self, fabric: &Fabric) -> Picos {
        match self.mode {
            Mode::Virtual => fabric.now(),
            Mode::Paced => {
                let past = clock::now().saturating_since(self.began);
                Picos::from_nanos(past.get())
            }
        }
    }

    /// What time it is where somebody waits for the fabric: in the mode `virtual` the time of the
    /// next end.
    pub(super) fn next(self, fabric: &Fabric) -> Picos {
        self.idle(fabric).unwrap_or_else(|| self.now(fabric))
    }

    /// What time it is where there is nothing else to do; none where nothing is to end.
    pub(super) fn idle(self, fabric: &Fabric) -> Option<Picos> {
        match self.mode {
            Mode::Virtual => fabric.next_end(),
            Mode::Paced => None,
        }
    }

    /// When the fabric does something by itself, by the machine's clock; none where it does not,
    /// or does it as soon as there is nothing else to do.
    pub(super) fn due(self, fabric: &Fabric) -> Option<Nanos> {
        match self.mode {
            Mode::Virtual => None,
            Mode::Paced => {
                let due = fabric.next_due()?.get().div_ceil(PICOS);
                Some(self.began.saturating_add(Nanos::new(due)))
            }
        }
    }
}
