//! The journal on disk: an embedded database in one locked file.
//!
//! # How durable
//! With [`Durability::Power`] a commit waits for the disk, twice: once for its contents and once
//! for the header that makes them valid. With [`Durability::Process`] it waits for nothing: what
//! was written survives the death of the daemon, since it is in the kernel's hands, and ends with
//! the machine, as does the memory that it describes.
//!
//! # Invariants
//! 1. Every commit is in two phases: its contents are all written before the one byte that makes
//!    them valid. A kill leaves the commit before it, or this one; no checksum has to find out.
//! 2. Every open verifies the checksums of all pages in use (128 bits each, every byte of a row
//!    included) and rebuilds what is free. Together with the first sector, see
//!    `storage`, any changed byte is found or was of no use.
//! 3. After a failure the database is closed: it trusts nothing that it had in memory, and neither
//!    do we.

use std::io;
use std::path::{Path, PathBuf};

use pool_core::sync::Arc;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::medium::{FileError, JournalFile, Medium};
use super::storage::{Mismatch, Stamp, Storage};
use super::{Journal, JournalError, Record, Rows, Table};

/// Bytes of the database's own page cache. All rows are read once, at load; a commit needs few.
const CACHE_BYTES: usize = 8 << 20;
/// A file no longer than this is never compacted: an empty database has some 2 MiB.
const COMPACT_FROM_BYTES: u64 = 8 << 20;
/// A file this many times longer than what is in use in it is compacted at load.
const COMPACT_RATIO: u64 = 4;

/// What an acknowledged commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of the daemon at any instant. The journal ends with the boot of the machine.
    Process,
    /// The machine's power as well.
    Power,
}

/// A journal in a file.
#[derive(Debug)]
pub struct DatabaseJournal {
    path: PathBuf,
    medium: Arc<dyn Medium>,
    stamp: Stamp,
    /// `None` before the first load and after a failure.
    database: Option<Database>,
}

impl DatabaseJournal {
    /// Takes the file at `path`, and makes it where it is missing or ended with an earlier boot.
    /// Its directory must exist. `boot_id` is this boot, as `/proc/sys/kernel/random/boot_id` names
    /// it. No row is read before [`Journal::load`].
    ///
    /// # Errors
    /// [`JournalError::InUse`] while another process has the file, [`JournalError::Corrupt`] where
    /// its beginning is damaged or it is not ours, [`JournalError::Store`] where a system call
    /// failed.
    pub fn open(path: &Path, durability: Durability, boot_id: &str) -> Result<Self, JournalError> {
        let this_boot = Stamp::of_boot(boot_id)
            .ok_or_else(|| store(path, format!("{boot_id:?} is not the id of a boot")))?;
        let stamp = match durability {
            Durability::Process => this_boot,
            Durability::Power => Stamp::LASTING,
        };
        let Some(file) = JournalFile::open(path).map_err(|error| unusable(path, error))? else {
            return Self::create(path, stamp);
        };
        let found = Storage::stamp_of(&file).map_err(|error| store(path, error))?;
        let found = found.map_err(|Mismatch(reason)| corrupt(path, reason))?;
        if found != this_boot && found != Stamp::LASTING {
            tracing::info!(path = %path.display(), "the journal of an earlier boot is thrown away");
            return Self::create(path, stamp);
        }
        let journal = Self::over(Arc::new(file), path, stamp);
        if found != stamp {
            journal
                .storage()
                .restamp()
                .map_err(|error| store(path, error))?;
        }
        Ok(journal)
    }

    fn create(path: &Path, stamp: Stamp) -> Result<Self, JournalError> {
        let file = Arc::new(JournalFile::create(path).map_err(|error| unusable(path, error))?);
        let mut journal = Self::over(Arc::clone(&file) as _, path, stamp);
        journal.load()?;
        file.publish(path).map_err(|error| store(path, error))?;
        Ok(journal)
    }

    /// A journal over any medium, which is empty or has `stamp`.
    pub(super) fn over(medium: Arc<dyn Medium>, path: &Path, stamp: Stamp) -> Self {
        Self {
            path: path.to_owned(),
            medium,
            stamp,
            database: None,
        }
    }

    fn storage(&self) -> Storage {
        Storage::new(Arc::clone(&self.medium), self.stamp)
    }

    fn opened(&self) -> Result<Database, JournalError> {
        let mut builder = Database::builder();
        builder
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true);
        let mut database = builder
            .create_with_backend(self.storage())
            .map_err(|error| self.failed(error))?;
        if self
            .is_sparse(&database)
            .map_err(|error| self.failed(error))?
        {
            database.compact().map_err(|error| self.failed(error))?;
        }
        Ok(database)
    }

    fn is_sparse(&self, database: &Database) -> Result<bool, redb::Error> {
        let bytes = self.medium.len()?;
        if bytes < COMPACT_FROM_BYTES {
            return Ok(false);
        }
        let look = database.begin_write()?;
        let stats = look.stats()?;
        look.abort()?;
        let used = stats
            .allocated_pages()
            .saturating_mul(stats.page_size() as u64);
        Ok(used < bytes / COMPACT_RATIO)
    }

    fn failed(&self, error: impl Into<redb::Error>) -> JournalError {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error.into() {
            redb::Error::Corrupted(reason) => corrupt(&self.path, reason),
            // The database says InvalidData of a file that is none; the medium says UnexpectedEof
            // where a page lies past the end.
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                corrupt(&self.path, error)
            }
            error @ (redb::Error::UpgradeRequired(_) | redb::Error::TableTypeMismatch { .. }) => {
                corrupt(&self.path, error)
            }
            error => store(&self.path, error),
        }
    }
}

impl Journal for DatabaseJournal {
    fn load(&mut self) -> Result<Rows, JournalError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.opened()?,
        };
        let mut rows = Rows::default();
        for table in Table::ALL {
            let values = values(&database, table).map_err(|error| self.failed(error))?;
            for (key, value) in values {
                rows.take(table, key, &value)?;
            }
        }
        self.database = Some(database);
        Ok(rows)
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let stale = "an earlier failure closed it and nothing was loaded since";
        let database = self
            .database
            .take()
            .ok_or_else(|| store(&self.path, stale))?;
        // On failure it is dropped, and with it what it had in memory.
        write(&database, records).map_err(|error| self.failed(error))?;
        self.database = Some(database);
        Ok(())
    }

    fn durability(&self) -> &'static str {
        if self.stamp == Stamp::LASTING {
            "power"
        } else {
            "process"
        }
    }
}

const fn definition(table: Table) -> TableDefinition<'static, u64, &'static [u8]> {
    TableDefinition::new(table.name())
}

/// The rows of one table as they lie there.
fn values(database: &Database, table: Table) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let rows = match database.begin_read()?.open_table(definition(table)) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    rows.iter()?
        .map(|row| {
            row.map(|(key, value)| (key.value(), value.value().to_vec()))
                .map_err(Into::into)
        })
        .collect()
}

fn write(database: &Database, records: &[Record]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    for table in Table::ALL {
        let mut changes = records
            .iter()
            .filter(|record| record.place().0 == table)
            .peekable();
        if changes.peek().is_none() {
            continue;
        }
        let mut rows = transaction.open_table(definition(table))?;
        for record in changes {
            let (_, key) = record.place();
            match record.value() {
                Some(value) => rows.insert(key, value.as_slice())?,
                None => rows.remove(key)?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}

fn store(path: &Path, reason: impl ToString) -> JournalError {
    JournalError::Store {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

fn corrupt(path: &Path, reason: impl ToString) -> JournalError {
    JournalError::Corrupt {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

fn unusable(path: &Path, error: FileError) -> JournalError {
    match error {
        FileError::InUse => JournalError::InUse {
            path: path.display().to_string(),
        },
        FileError::Foreign(reason) => corrupt(path, reason),
        FileError::Io(error) => store(path, error),
    }
}
