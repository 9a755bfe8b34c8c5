//! What the daemon remembers: rows that are durable before anything is answered.
//!
//! A journal is a set of tables of rows, each under its id. One [`Journal::commit`] is all or nothing, and is
//! durable when it returns. Two implementations pass one conformance suite: an embedded
//! database, and memory for tests and simulation.

use pool_proto::journal::v1 as row;

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
    fn load(&mut self) -> Result<Rows, JournalError>;

    /// Makes all of `records` durable, in their order, or none of them.
    ///
    /// # Errors
    /// Where that failed. What is durable then is what was before; `load` says so.
    fn commit(&mut self, records: &[Record]) -> Result<(), JournalError>;

    /// What a commit survives: `process` (the death of the daemon) or `power` (also of the machine).
    fn durability(&self) -> &'static str;
}

/// Why the journal failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk, or what lies between, failed. Make room or mend it; the daemon tries again with the next request.
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
    /// The journal was written by another version. Start that version, or move the file away.
    #[error("the journal has format {found}, this daemon reads format {supported}")]
    Format {
        /// In the file.
        found: u32,
        /// Ours.
        supported: u32,
    },
}
