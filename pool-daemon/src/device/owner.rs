//! Whose the slices of a region are: slices carry no name, and outlive the daemon that cut them.
//!
//! A file below `/run` says which pool has a region. It lasts as long as slices do: both end when
//! the machine starts again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cxl::hardware_name;
use crate::sys::{self, Failed};

/// Where these files lie, a folder for each region.
const FOLDER: &str = "/run/tierpool-cxl";
/// The file in it.
const FILE: &str = "pool-id";
const FILE_NEW: &str = "pool-id.new";

/// The folder of a region, which its devices name.
#[derive(Debug)]
pub(super) struct Owner {
    folder: PathBuf,
}

impl Owner {
    pub(super) fn of(serials: &[u64]) -> Self {
        Self::at(&Path::new(FOLDER).join(hardware_name(serials)))
    }

    /// What is said in this folder.
    pub(super) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Where it is written.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// The pool that has the region; `None` where nobody says so.
    pub(super) fn read(&self) -> Result<Option<String>, Failed> {
        match fs::read_to_string(self.path()) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(sys::failed("read", &error)),
        }
    }

    /// Says that it is this pool's from now on.
    pub(super) fn write(&self, pool: &str) -> Result<(), Failed> {
        if self.read()?.as_deref() == Some(pool) {
            return Ok(());
        }
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(self.folder.join(FILE_NEW), format!("{pool}\n")))
            .and_then(|()| fs::rename(self.folder.join(FILE_NEW), self.path()));
        written.map_err(|error| sys::failed("write", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_who_said_so_last() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::at(&folder.path().join("a0-a1"));
        assert_eq!(owner.read().unwrap(), None);
        for pool in ["one", "one", "two"] {
            owner.write(pool).unwrap();
            assert_eq!(owner.read().unwrap().as_deref(), Some(pool));
        }
    }
}
