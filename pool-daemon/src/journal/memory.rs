//! A journal in memory, for tests and simulation.
//!
//! A clone is another handle on the same rows, as a restarted daemon has it: drop one handle, load
//! through another. The commits are kept one by one, so that a simulation can go back to what was
//! durable after any of them, and the n-th can be made to fail.

use std::collections::BTreeMap;

use pool_core::sync::{Arc, Mutex, lock};

use super::{Journal, JournalError, Record, Rows, Table};

/// What stands for the path in the errors of this journal.
const PATH: &str = "memory";

/// Rows in the memory of this process.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    medium: Arc<Mutex<Medium>>,
    /// A commit through this handle failed, and nothing was loaded since.
    stale: bool,
}

#[derive(Debug, Clone, Default)]
struct Medium {
    /// What each commit took, from the first.
    commits: Vec<Vec<Record>>,
    /// How many more commits are taken before one fails; `None`: all are.
    until_failure: Option<u64>,
}

impl MemoryJournal {
    /// Fails the `nth` commit from now, counted from 1, through whichever handle. It takes nothing;
    /// those after it are taken again, once the handle has loaded.
    pub fn fail_commit(&self, nth: u64) {
        lock(&self.medium).until_failure = nth.checked_sub(1);
    }

    /// How many commits were taken.
    #[must_use]
    pub fn commits(&self) -> usize {
        lock(&self.medium).commits.len()
    }

    /// A journal of its own that holds what was durable after the first `commits` commits.
    #[must_use]
    pub fn after(&self, commits: usize) -> Self {
        let commits = lock(&self.medium)
            .commits
            .iter()
            .take(commits)
            .cloned()
            .collect();
        let medium = Medium {
            commits,
            until_failure: None,
        };
        Self {
            medium: Arc::new(Mutex::new(medium)),
            stale: false,
        }
    }
}

impl Journal for MemoryJournal {
    fn load(&mut self) -> Result<Rows, JournalError> {
        let mut values: BTreeMap<(Table, u64), Vec<u8>> = BTreeMap::new();
        for record in lock(&self.medium).commits.iter().flatten() {
            match record.value() {
                Some(value) => values.insert(record.place(), value),
                None => values.remove(&record.place()),
            };
        }
        let mut rows = Rows::default();
        for ((table, key), value) in values {
            rows.take(table, key, &value)?;
        }
        self.stale = false;
        Ok(rows)
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let failed = |reason: &str| JournalError::Store {
            path: PATH.into(),
            reason: reason.into(),
        };
        if self.stale {
            return Err(failed(
                "an earlier commit failed and nothing was loaded since",
            ));
        }
        let mut medium = lock(&self.medium);
        if medium.until_failure == Some(0) {
            medium.until_failure = None;
            self.stale = true;
            return Err(failed("this commit was planned to fail"));
        }
        medium.until_failure = medium.until_failure.map(|left| left - 1);
        medium.commits.push(records.to_vec());
        Ok(())
    }

    fn durability(&self) -> &'static str {
        "process"
    }
}
