//! Errors of a memory device: what there is to tell of them, in a log for each severity.
//!
//! A record goes to each logical device that has the line, under the address that the line has
//! there; of memory that nobody has, to the manager, under its physical address.

use crate::cci::events::EventLog;
use crate::log::Log;
use crate::timing::Picos;

/// Records that each log takes. Chosen.
pub const ERROR_LOG: usize = 128;
/// Corrected errors of a logical device from which on its health is a warning. Chosen: there is no
/// command to set it (4202h).
pub const CORRECTED_MOST: u32 = 1_000;

/// What found a line that is bad, or made it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nobody knows: it was so all at once.
    Unknown,
    /// A host read it.
    Read,
    /// A host injected it.
    Injected,
    /// The device looked at it.
    Scrubbed,
}

/// What a record of an error tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A line cannot be read.
    Line {
        /// Its address, as whoever is told has it.
        address: u64,
        /// By what it was found.
        found: Found,
    },
    /// Errors were corrected: how many in all.
    Corrected {
        /// The first address at which the logical device has memory.
        address: u64,
        /// The count.
        count: u32,
    },
    /// The count of corrected errors has come to where it is a warning.
    Worn {
        /// The count.
        count: u32,
    },
}

/// A record, and when it came.
pub type DatedError = (Picos, Error);

/// The logs of one logical device, or of the manager.
#[derive(Debug, Clone)]
pub struct Errors([Log<DatedError>; 4]);

impl Errors {
    /// Empty ones.
    #[must_use]
    pub const fn new() -> Self {
        const NONE: Log<DatedError> = Log::new(ERROR_LOG);
        Self([NONE; 4])
    }

    /// The log of a severity; none for the log of dynamic capacity.
    pub fn log_mut(&mut self, log: EventLog) -> Option<&mut Log<DatedError>> {
        self.0.get_mut(usize::from(log.number()))
    }

    /// Tells of an error.
    pub fn push(&mut self, now: Picos, log: EventLog, error: Error) {
        if let Some(log) = self.log_mut(log) {
            log.push(now, (now, error));
        }
    }
}

impl Default for Errors {
    fn default() -> Self {
        Self::new()
    }
}
