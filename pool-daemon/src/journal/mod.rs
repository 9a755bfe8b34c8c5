//! What the daemon remembers: rows that are durable before anything is answered.
//!
//! A journal is a set of tables of rows, each under its id. One [`Journal::commit`] is all or
//! nothing, and is durable when it returns. Two implementations pass one conformance suite:
//! [`database`], an embedded database in one file, and [`memory`], for tests and simulation.
//!
//! # Invariants
//! 1. The rows of a journal are those of a whole number of commits, in their order. Every commit
//!    that was acknowledged is among them; of one that failed or was cut short, all or nothing.
//! 2. After a failed commit nothing is taken until [`Journal::load`] has said what is durable: the
//!    caller's picture and the journal's may differ by exactly that commit.
//! 3. A row lies under the id in it; [`Table::Pool`] has one row, under [`POOL_KEY`].
//! 4. The row of the pool is read first, so that a journal of another format is refused as such and
//!    none of its other rows is misread.

use pool_proto::journal::v1 as row;

mod codec;
pub mod database;
pub mod export;
mod medium;
pub mod memory;
mod storage;

#[cfg(test)]
mod crash_tests;

/// The format of the journals that this version reads and writes, see `PoolRow.format`.
pub const FORMAT: u32 = 1;
/// The key of the one row of [`Table::Pool`].
pub const POOL_KEY: u64 = 1;

/// A table, and the kind of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row of the pool itself, key 1.
    Pool,
    /// Devices by device id.
    Devices,
    /// Tenants by tenant id.
    Tenants,
    /// Clients by client id.
    Clients,
    /// Segments by segment id.
    Segments,
    /// Backings by backing id.
    Backings,
}

impl Table {
    /// Every table, in the order in which they are read.
    pub const ALL: [Self; 6] = [
        Self::Pool,
        Self::Devices,
        Self::Tenants,
        Self::Clients,
        Self::Segments,
        Self::Backings,
    ];

    /// The name of the table on disk and in an export.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Devices => "devices",
            Self::Tenants => "tenants",
            Self::Clients => "clients",
            Self::Segments => "segments",
            Self::Backings => "backings",
        }
    }
}

/// One change of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The pool's row is now this.
    Pool(row::PoolRow),
    /// This device's row is now this.
    Device(row::DeviceRow),
    /// This tenant's row is now this.
    Tenant(row::TenantRow),
    /// This client's row is now this.
    Client(row::ClientRow),
    /// This segment's row is now this.
    Segment(row::SegmentRow),
    /// This backing's row is now this.
    Backing(row::BackingRow),
    /// This row is no more.
    Delete(Table, u64),
}

/// All rows of a journal, each table in the order of its keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// `None` in a new journal.
    pub pool: Option<row::PoolRow>,
    /// Devices.
    pub devices: Vec<row::DeviceRow>,
    /// Tenants.
    pub tenants: Vec<row::TenantRow>,
    /// Clients.
    pub clients: Vec<row::ClientRow>,
    /// Segments.
    pub segments: Vec<row::SegmentRow>,
    /// Backings.
    pub backings: Vec<row::BackingRow>,
}

/// Where rows are kept.
pub trait Journal: Send + std::fmt::Debug {
    /// Reads everything, opening the store anew where an earlier failure closed it.
    ///
    /// # Errors
    /// Where the store cannot be read, or holds what this version does not understand.
    /// [`JournalError::Store`] may be tried again.
    fn load(&mut self) -> Result<Rows, JournalError>;

    /// Makes all of `records` durable, in their order, or none of them.
    ///
    /// # Errors
    /// Where that failed. What is durable then is what was before, or, where the last step alone
    /// failed, all of `records`; [`Self::load`] says which, and until then every commit fails.
    fn commit(&mut self, records: &[Record]) -> Result<(), JournalError>;

    /// What a commit survives: `process` (the death of the daemon) or `power` (also of the
    /// machine).
    fn durability(&self) -> &'static str;
}

/// Why the journal failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk, or what lies between, failed. Make room or mend it, and load again.
    #[error("the journal at {path} failed: {reason}")]
    Store {
        /// Where it lies.
        path: String,
        /// What the store says.
        reason: String,
    },
    /// A row cannot be understood. Keep the file and ask for help; nothing was changed.
    #[error("row {key} of table {table:?} in the journal is damaged: {reason}")]
    Damaged {
        /// Which table.
        table: Table,
        /// Which row.
        key: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is damaged, or is none of ours. Keep it and ask for help; nothing was changed.
    #[error("the journal at {path} is damaged: {reason}")]
    Corrupt {
        /// Where it lies.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another daemon has it open. Stop that one, or give this one a state directory of its own.
    #[error("the journal at {path} is in use by another process")]
    InUse {
        /// Where it lies.
        path: String,
    },
    /// The journal was written by another version. Start that version, or move the file away.
    #[error("the journal has format {found}, this daemon reads format {supported}")]
    Format {
        /// In the file.
        found: u32,
        /// Ours.
        supported: u32,
    },
}
