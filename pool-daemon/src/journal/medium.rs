//! The bytes under the database: a file of this daemon alone.
//!
//! # Invariants
//! 1. One process has the file at a time: whoever has it holds an exclusive `flock` on the very
//!    inode that the path names. A lock on an inode that the path no longer names is given back,
//!    and the path opened anew.
//! 2. A file under its own name is a whole journal. It is made under the name `<path>.new`, written
//!    and synced, and only then renamed. What a death leaves under that name is made anew.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pool_core::fault::{self, Call};

/// Mode of the file: it holds the secrets of sessions.
const MODE: u32 = 0o600;
/// How often the path may turn out to name another file than the one just locked. Each time stands
/// for another daemon that came and went in between.
const RACES_MAX: usize = 16;

/// Storage of one journal: bytes that can be read, written, cut and synced.
pub(super) trait Medium: Send + Sync + std::fmt::Debug {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `out` from `offset`; an end before that is an error.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes it `len` bytes long; what is added reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Waits until everything written survives the machine.
    fn sync(&self) -> io::Result<()>;
}

/// Why a file could not be had.
#[derive(Debug)]
pub(super) enum FileError {
    /// Another process has it.
    InUse,
    /// It is there and is not a file that this daemon may use.
    Foreign(&'static str),
    /// A system call failed.
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A locked file.
#[derive(Debug)]
pub(super) struct JournalFile(File);

impl JournalFile {
    /// Opens and locks the file at `path`; `None` where there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, FileError> {
        Self::lock(path, false)
    }

    /// Makes a file that is to be published at `path`: empty, and locked.
    pub(super) fn create(path: &Path) -> Result<Self, FileError> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let file = Self::lock(&unpublished(path), true)?.ok_or_else(missing)?;
        Medium::set_len(&file, 0)?;
        Ok(file)
    }

    /// Gives a file made by [`Self::create`] the name `path`, in place of whatever had it.
    pub(super) fn publish(&self, path: &Path) -> io::Result<()> {
        self.sync()?;
        fs::rename(unpublished(path), path)?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        fault::syscall(Call::Open)?;
        let directory = File::open(directory.unwrap_or(Path::new(".")))?;
        fault::syscall(Call::Sync)?;
        directory.sync_all()
    }

    fn lock(path: &Path, create: bool) -> Result<Option<Self>, FileError> {
        for _ in 0..RACES_MAX {
            let Some(file) = open_own(path, create)? else {
                return Ok(None);
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(FileError::InUse),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            if names(path, &file)? {
                return Ok(Some(Self(file)));
            }
        }
        Err(FileError::InUse)
    }
}

impl Medium for JournalFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        fault::syscall(Call::Write)?;
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fault::syscall(Call::Ftruncate)?;
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        fault::syscall(Call::Sync)?;
        self.0.sync_data()
    }
}

fn unpublished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Opens a regular file of our own user at `path`; `None` where there is none.
fn open_own(path: &Path, create: bool) -> Result<Option<File>, FileError> {
    fault::syscall(Call::Open).map_err(io::Error::from)?;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(create)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(FileError::Foreign("it is a symbolic link"));
        }
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(FileError::Foreign("it is not a regular file"));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(FileError::Foreign("it belongs to another user"));
    }
    if found.mode() & 0o7777 != MODE {
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
    }
    Ok(Some(file))
}

/// Whether `path` names `file`, and not one that has taken its place.
fn names(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
