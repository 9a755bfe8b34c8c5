//! Storage that is mapped like memory: files `back-N` in a directory of the daemon's own, on an
//! ordinary file system or on one that maps the medium itself (DAX).
//!
//! Files of a file system take no seals: who may write one may also resize it, and whoever maps it
//! then gets SIGBUS. The engine shares none of them with another tenant.
//!
//! A file is durable under its name before it is returned, and its name is durably gone before it
//! is called destroyed. A daemon that dies between leaves a file that nothing knows:
//! [`Device::remove_leftovers`].

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_proto::common::v1::Pages;

use super::{Device, NewFile, SetupError, proof};
use crate::engine::command::WorldError;
use crate::sys;

/// The file on which the proof of release is tried.
const PROBE: &str = "probe";
/// What the name of each file begins with; the id follows.
const PREFIX: &str = "back-";

/// A device of named files.
#[derive(Debug)]
pub struct FileDevice {
    directory: OwnedFd,
    dax: bool,
}

impl FileDevice {
    /// The device in `directory`, which is made where it is missing. Its parent must be there.
    ///
    /// # Errors
    /// [`SetupError`] where the directory is not the daemon's alone, or its file system cannot be
    /// used.
    pub fn open(directory: &Path) -> Result<Self, SetupError> {
        match sys::make_directory(directory) {
            Err(failed) if failed.errno != Errno::EEXIST => return Err(failed.into()),
            Ok(()) | Err(_) => {}
        }
        let opened = sys::open_directory(directory)?;
        let status = sys::status(opened.as_fd())?;
        let (uid, mode) = (status.uid, status.mode & 0o7777);
        if uid != geteuid().as_raw() || mode & 0o077 != 0 {
            let path = directory.to_owned();
            return Err(SetupError::NotPrivate { path, uid, mode });
        }
        let dax = try_probe(opened.as_fd())?;
        let directory = opened;
        Ok(Self { directory, dax })
    }

    /// Whether mappings reach the medium itself, without a page cache.
    #[must_use]
    pub fn is_dax(&self) -> bool {
        self.dax
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
    fn build(
        &self,
        backing: BackingId,
        bytes: Bytes,
        _shareable: bool,
    ) -> Result<NewFile, WorldError> {
        let name = name_of(backing);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = sys::open_at(self.directory.as_fd(), &name, flags)?;
        self.fill(file, bytes).inspect_err(|_| {
            // What went wrong is told already. A name that stays is a leftover of the next start.
            let _gone = sys::unlink_at(self.directory.as_fd(), &name);
        })
    }

    fn build_ahead(&self, _bytes: Bytes, _shareable: bool) -> Option<Result<NewFile, WorldError>> {
        None
    }

    fn find(&self, backing: BackingId) -> Result<Option<OwnedFd>, WorldError> {
        match sys::open_at(self.directory.as_fd(), &name_of(backing), OFlag::O_RDWR) {
            Err(failed) if failed.errno == Errno::ENOENT => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    /// A file whose name is gone already is destroyed: a daemon that died half way comes here
    /// again.
    fn remove_leftovers(&self, known: &BTreeSet<BackingId>) -> Result<usize, WorldError> {
        let mut removed = 0;
        for name in sys::names_in(self.directory.as_fd())? {
            let Some(backing) = name.to_str().and_then(backing_of) else {
                continue;
            };
            if !known.contains(&backing) {
                sys::unlink_at(self.directory.as_fd(), &name_of(backing))?;
                removed += 1;
            }
        }
        sys::sync(self.directory.as_fd())?;
        Ok(removed)
    }

    fn destroy(&self, backing: BackingId, _file: BorrowedFd<'_>) -> Result<(), WorldError> {
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
