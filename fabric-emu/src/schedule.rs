//! Faults that are planned: what goes wrong when, in a file or drawn from a seed.
//!
//! # The file
//! TOML, 16 MiB at most. Each fault has a time, in picoseconds since the beginning, and what
//! happens then, as [`Fault`] names it; those of one time happen in their order in the file.
//! ```toml
//! [[fault]]
//! at = 1_500_000
//! what = { link_fails = { node = { host = 0 }, port = 0 } }
//!
//! [[fault]]
//! at = 9_000_000
//! what = { poison = { memdev = 0, physical = 4096 } }
//! ```
//! A schedule that was drawn prints itself as such a file, so that what it led to can be repeated.
//!
//! # Invariants
//! 1. Faults are in the order of their times, and of those of one time in that in which they came.
//! 2. Printed and read again, a schedule is the same: what a file cannot hold is refused before.
//!
//! # Who takes it
//! [`Fabric::plan`](crate::fabric::Fabric::plan): its faults are due then, as all else is that
//! happens by itself, and what came of them is told by the next step. A fault whose part is not
//! there fails then, and says so; [`Schedule::check`] tells before.

use pool_core::planted;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::fabric::Fault;
use crate::timing::Picos;

mod check;
mod draw;

pub use draw::{Kind, Mix};

/// Bytes of a file.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Faults of a schedule.
pub const FAULTS_MAX: usize = 1 << 16;
/// The last time that a file can name: 106 days.
pub const LAST: Picos = Picos::new(i64::MAX.unsigned_abs());

/// One fault, and when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub at: Picos,
    /// What.
    pub fault: Fault,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule(Vec<Planned>);

/// Why something is no schedule. Do what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Correct the file at that line.
    #[error("{file}{}: {message}", line.map_or(String::new(), |line| format!(":{line}")))]
    Form {
        /// The file.
        file: String,
        /// Where it is wrong, where that is known.
        line: Option<usize>,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// Plan less in one file.
    #[error("{file}: {bytes} bytes; at most {FILE_BYTES_MAX} are read")]
    TooLong {
        /// The file.
        file: String,
        /// How long it is.
        bytes: usize,
    },
    /// Plan fewer faults.
    #[error("more than {FAULTS_MAX} faults: plan fewer, or over a shorter time")]
    TooMany,
    /// Plan it earlier.
    #[error("{at} is too late: faults happen until {LAST}")]
    TooLate {
        /// When it was to happen.
        at: Picos,
    },
    /// Name a part that the topology has.
    #[error("at {at}: {fault:?} is of a part that the topology {topology:?} has not")]
    NotThere {
        /// When it was to happen.
        at: Picos,
        /// What.
        fault: Box<Fault>,
        /// The topology.
        topology: String,
    },
    /// Name a smaller number: a file holds none above 2^63 - 1.
    #[error("{fault:?} has a number that no file can hold: name one below 2^63")]
    TooLarge {
        /// The fault.
        fault: Box<Fault>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    fault: Vec<Spanned<Entry>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at: u64,
    what: Fault,
}

impl Schedule {
    /// One without faults.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The faults, in their order.
    #[must_use]
    pub fn faults(&self) -> &[Planned] {
        &self.0
    }

    /// Plans one more, after all that were planned for its time.
    ///
    /// # Errors
    /// [`ScheduleError`] where no file could hold it; nothing is planned then.
    pub fn add(&mut self, at: Picos, fault: Fault) -> Result<(), ScheduleError> {
        if at > LAST {
            return Err(ScheduleError::TooLate { at });
        }
        if self.0.len() >= FAULTS_MAX {
            return Err(ScheduleError::TooMany);
        }
        what(&fault)?;
        let place = self.0.partition_point(|planned| {
            planned.at < at || (planned.at == at && !planted!("schedule.puts_the_last_first"))
        });
        self.0.insert(place, Planned { at, fault });
        Ok(())
    }

    /// The schedule that a file says; `file` is how errors call it.
    ///
    /// # Errors
    /// [`ScheduleError`], which says where the file is wrong, and what is allowed there.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScheduleError> {
        let bytes = text.len();
        let name = || file.to_owned();
        if bytes > FILE_BYTES_MAX {
            return Err(ScheduleError::TooLong {
                file: name(),
                bytes,
            });
        }
        let read: File = toml::from_str(text).map_err(|error| ScheduleError::Form {
            file: name(),
            line: error.span().map(|span| line_of(text, span.start)),
            message: error.message().replace('\n', "; "),
        })?;
        let mut schedule = Self::new();
        for entry in read.fault {
            let start = entry.span().start;
            let Entry { at, what } = entry.into_inner();
            let added = schedule.add(Picos::new(at), what);
            added.map_err(|error| match error {
                ScheduleError::TooMany => error,
                other => ScheduleError::Form {
                    file: name(),
                    line: Some(line_of(text, start)),
                    message: other.to_string(),
                },
            })?;
        }
        Ok(schedule)
    }

    /// The schedule as a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let entry = |planned: &Planned| {
            // What could not be written was refused.
            let what = what(&planned.fault).map_or_else(|_| String::new(), |it| it.to_string());
            format!("[[fault]]\nat = {}\nwhat = {what}\n", planned.at.get())
        };
        let entries: Vec<_> = self.0.iter().map(entry).collect();
        entries.join("\n")
    }
}

fn what(fault: &Fault) -> Result<toml::Value, ScheduleError> {
    toml::Value::try_from(fault).map_err(|_| ScheduleError::TooLarge {
        fault: Box::new(*fault),
    })
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
