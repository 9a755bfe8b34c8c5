//! What an oracle found wrong.

use std::fmt;

/// An invariant that does not hold: which, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {found}")]
pub struct Broken {
    /// The rule, by the name it has in the oracle that states it. The same in every run.
    pub rule: &'static str,
    /// What was found, with its numbers.
    pub found: String,
}

/// Nothing, or what is wrong.
pub(crate) type Checked<T = ()> = Result<T, Broken>;

/// `Ok` where it holds.
pub(crate) fn holds(it: bool, rule: &'static str, found: impl FnOnce() -> String) -> Checked {
    if it {
        return Ok(());
    }
    Err(Broken {
        rule,
        found: found(),
    })
}

/// An invariant does not hold.
pub(crate) fn broken<T>(rule: &'static str, found: impl fmt::Display) -> Checked<T> {
    Err(Broken {
        rule,
        found: found.to_string(),
    })
}
