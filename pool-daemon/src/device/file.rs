//! Storage that is mapped like memory: files `back-N` in a directory of the daemon's own, on an
//! ordinary file system or on one that maps the medium itself (DAX).
//!
//! Files of a file system take no seals: who may write one may also resize it, and whoever maps it
//! then gets SIGBUS. The engine shares none of them with another tenant.
//!
//! The directory is locked by the daemon that uses it, and says in a file `pool-id` whose it is.
//! One with files that says another pool's id, or none, is neither used nor cleaned.
//!
//! A file is durable under its name before it is returned, and its name is durably gone before it
//! is called destroyed. A daemon that dies between leaves a file that nothing knows:
//! [`Device::remove_leftovers`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_proto::common::v1::Pages;

use super::{Device, NewFile, Place, SetupError, proof};
use crate::engine::command::{FileIdentity, WorldError};
use crate::sys::{self, Failed};

/// The file on which the proof of release is tried.
const PROBE: &str = "probe";
/// The file that says whose the directory is, and what it has been written as.
const OWNER: &str = "pool-id";
const OWNER_NEW: &str = "pool-id.new";
/// As much of it as is read: far more than an id has.
const OWNER_BYTES_MAX: u64 = 256;
/// What the name of each file begins with; the id follows.
const PREFIX: &str = "back-";

/// A device of named files.
#[derive(Debug)]
pub struct FileDevice {
    path: PathBuf,
    directory: OwnedFd,
    dax: bool,
}

impl FileDevice {
    /// The device in `directory`, which is made where it is missing. Its parent must be there.
    ///
    /// # Errors
    /// [`SetupError`] where the directory is not this daemon's alone, or its file system cannot be
    /// used.
    pub fn open(directory: &Path) -> Result<Self, SetupError> {
        match sys::make_directory(directory) {
            Err(failed) if failed.errno != Errno::EEXIST => return Err(failed.into()),
            Ok(()) | Err(_) => {}
        }
        let opened = sys::open_directory(directory)?;
        let status = sys::status(opened.as_fd())?;
        let (uid, mode) = (status.uid, status.mode & 0o7777);
        let path = directory.to_owned();
        if uid != geteuid().as_raw() || mode & 0o077 != 0 {
            return Err(SetupError::NotPrivate { path, uid, mode });
        }
        match sys::lock(opened.as_fd()) {
            Err(failed) if failed.errno == Errno::EWOULDBLOCK => {
                return Err(SetupError::InUse { path });
            }
            locked => locked?,
        }
        let dax = try_probe(opened.as_fd())?;
        Ok(Self {
            path,
            directory: opened,
            dax,
        })
    }

    /// Whether mappings reach the medium itself, without a page cache.
    #[must_use]
    pub fn is_dax(&self) -> bool {
        self.dax
    }

    /// The pool that the directory says it belongs to.
    fn owner(&self) -> Result<Option<String>, SetupError> {
        let file = match sys::open_at(self.directory.as_fd(), OWNER, OFlag::O_RDONLY) {
            Err(failed) if failed.errno == Errno::ENOENT => return Ok(None),
            opened => File::from(opened?),
        };
        let mut said = String::new();
        file.take(OWNER_BYTES_MAX)
            .read_to_string(&mut said)
            .map_err(|error| sys::failed("read", &error))?;
        Ok(Some(said.trim().to_owned()))
    }

    /// The backings of which there are files, whosever they are.
    fn backings(&self) -> Result<BTreeSet<BackingId>, Failed> {
        let names = sys::names_in(self.directory.as_fd())?;
        let names = names.iter().filter_map(|name| name.to_str());
        Ok(names.filter_map(backing_of).collect())
    }

    /// Fills a file that was just made, and makes it durable under its name.
    fn fill(&self, file: OwnedFd, bytes: Bytes) -> Result<NewFile, WorldError> {
        // The process's mask may have taken permissions from the owner.
        sys::make_private(file.as_fd())?;
        match sys::allocate(file.as_fd(), 0, bytes.get()) {
            Err(failed) if failed.errno == Errno::ENOSPC => {
                let available_bytes = sys::free_space(self.directory.as_fd())?;
                let asked_bytes = bytes.get();
                return Err(WorldError::MachineShort {
                    available_bytes,
                    asked_bytes,
                });
            }
            allocated => allocated?,
        }
        sys::sync(file.as_fd())?;
        sys::sync(self.directory.as_fd())?;
        let identity = sys::status(file.as_fd())?.identity;
        let pages = Pages::File;
        Ok(NewFile {
            file,
            pages,
            identity,
        })
    }
}

impl Device for FileDevice {
    fn check_owner(&self, pool: &str, in_use: bool) -> Result<(), SetupError> {
        let (path, pool) = (self.path.clone(), pool.to_owned());
        let reason = match self.owner()? {
            Some(found) if found == pool => return Ok(()),
            // Nothing lies here, nor should it.
            _ if !in_use && self.backings()?.is_empty() => return Ok(()),
            Some(found) => return Err(SetupError::OtherPool { path, found, pool }),
            None if in_use => "does not say that it is this pool's, which has memory there",
            None => "has memory of a pool and does not say of which",
        };
        Err(SetupError::UnknownPool { path, reason, pool })
    }

    fn claim(&self, pool: &str) -> Result<(), SetupError> {
        if self.owner()?.as_deref() == Some(pool) {
            return Ok(());
        }
        let directory = self.directory.as_fd();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        let mut file = File::from(sys::open_at(directory, OWNER_NEW, flags)?);
        writeln!(file, "{pool}").map_err(|error| sys::failed("write", &error))?;
        sys::sync(file.as_fd())?;
        sys::rename_at(directory, OWNER_NEW, OWNER)?;
        Ok(sys::sync(directory)?)
    }

    fn build(
        &self,
        backing: BackingId,
        place: Place<'_>,
        _shareable: bool,
    ) -> Result<NewFile, WorldError> {
        let name = name_of(backing);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = sys::open_at(self.directory.as_fd(), &name, flags)?;
        self.fill(file, place.bytes).inspect_err(|_| {
            // What went wrong is told already. A name that stays is a leftover of the next start.
            let _gone = sys::unlink_at(self.directory.as_fd(), &name);
        })
    }

    fn find(
        &self,
        backing: BackingId,
        _expected: FileIdentity,
    ) -> Result<Option<OwnedFd>, WorldError> {
        let directory = self.directory.as_fd();
        let found = match sys::open_at(directory, &name_of(backing), OFlag::O_RDWR) {
            Err(failed) if failed.errno == Errno::ENOENT => return Ok(None),
            found => found?,
        };
        let device_of = |file| sys::status(file).map(|status| status.identity.device);
        if device_of(found.as_fd())? != device_of(directory)? {
            // Something is mounted over the name.
            let (call, errno) = ("openat", Errno::EXDEV as i32);
            return Err(WorldError::Os { call, errno });
        }
        Ok(Some(found))
    }

    fn remove_leftovers(
        &self,
        known: &BTreeSet<BackingId>,
        _files: &BTreeSet<FileIdentity>,
    ) -> Result<usize, WorldError> {
        let found = self.backings()?;
        let leftovers: Vec<_> = found.difference(known).collect();
        for &&backing in &leftovers {
            sys::unlink_at(self.directory.as_fd(), &name_of(backing))?;
        }
        sys::sync(self.directory.as_fd())?;
        Ok(leftovers.len())
    }

    /// Empties the file first, so that a descriptor that does not count in the proof keeps no
    /// blocks. A file whose name is gone already is destroyed: a daemon that died half way comes
    /// here again.
    fn destroy(&self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        sys::set_length(file, 0)?;
        match sys::unlink_at(self.directory.as_fd(), &name_of(backing)) {
            Err(failed) if failed.errno != Errno::ENOENT => return Err(failed.into()),
            Ok(()) | Err(_) => {}
        }
        Ok(sys::sync(self.directory.as_fd())?)
    }
}

/// Tries the proof of release on a file of this file system, and tells whether it is a DAX one.
fn try_probe(directory: BorrowedFd<'_>) -> Result<bool, SetupError> {
    let file = sys::open_at(directory, PROBE, OFlag::O_RDWR | OFlag::O_CREAT)?;
    sys::unlink_at(directory, PROBE)?;
    sys::set_length(file.as_fd(), EXTENT_BYTES)?;
    proof::try_on(file.as_fd(), "files of this file system")?;
    Ok(sys::status(file.as_fd())?.dax)
}

fn name_of(backing: BackingId) -> String {
    format!("{PREFIX}{}", backing.number())
}

/// The backing that a file of this name is of, where it is one of ours.
fn backing_of(name: &str) -> Option<BackingId> {
    let backing = BackingId::new(name.strip_prefix(PREFIX)?.parse().ok()?)?;
    // `parse` takes a sign and leading zeros, our names have none.
    (name_of(backing) == name).then_some(backing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_read_as_ours() {
        for backing in [1, 7, u64::MAX].map(|number| BackingId::new(number).unwrap()) {
            assert_eq!(backing_of(&name_of(backing)), Some(backing));
        }
        for name in [
            "",
            "back-",
            "back-0",
            "back-07",
            "back-+7",
            "back-7.bak",
            "probe",
            "Back-7",
        ] {
            assert_eq!(backing_of(name), None, "{name}");
        }
    }
}
