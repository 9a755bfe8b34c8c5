//! CXL memory whose files are dax devices: each is cut from a region for one piece of one segment.
//!
//! # How a file is built
//! A slice of the very extents that the engine has chosen is made, and given to the driver that
//! makes a file of it, which belongs to the daemon alone (mode 0600). It is zeroed through a
//! mapping, by the kernel, so that a device that vanishes meanwhile is an answer and not a signal.
//!
//! # How it ends
//! The driver is taken away: the kernel ends each mapping. Whether it waits for pages that somebody
//! has pinned for I/O depends on the kernel, and is not shown: see `docs/cxl.md`. What a stale
//! holder has of the file leads nowhere from then on, also once its extents are in another slice:
//! the kernel numbers a device anew while an old file of it is open. Since it may wait, a worker
//! of its own does it ([`Device::asks_others`]). While honest holders have it, [`super::proof`]
//! says so, and it does not come to that.
//!
//! # After a death of the daemon
//! Slices stay. One is known by the inode of its file, which the journal has; one that no row names
//! is taken away at the next start.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel_cxl::{ChangeError, DaxDevice as Slice, DaxDriver, Sysfs};
use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag, open};
use nix::sys::stat::Mode;
use pool_core::sync::{Mutex, lock};
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_proto::common::v1::Pages;

use super::cxl::{in_use, region, slices, told};
use super::{Device, NewFile, Place, SetupError};
use crate::engine::Run;
use crate::engine::command::{FileIdentity, WorldError};
use crate::sys::{self, Mapping};

/// See the module.
#[derive(Debug)]
pub struct DaxDevice {
    sysfs: Sysfs,
    region: String,
    /// Where it begins, physically.
    first: u64,
    /// Two at once would take each other's name for theirs.
    cutting: Mutex<()>,
    _claim: Flock<OwnedFd>,
}

impl DaxDevice {
    /// A device that cuts files from a region; what the kernel made of one that is new is undone.
    ///
    /// # Errors
    /// Where the region is another daemon's, or a part of it is in use that no daemon cut.
    pub fn open(
        sysfs: Sysfs,
        name: &str,
        is_new: bool,
        claim: Flock<OwnedFd>,
    ) -> Result<Self, SetupError> {
        let found = region(&sysfs, name)?;
        for slice in found.dax.iter().flat_map(|cut| &cut.devices) {
            let is_kmem = slice.driver.as_deref() == Some(DaxDriver::Kmem.name());
            if is_first(slice) {
                if slice.bytes == Bytes::ZERO {
                    continue;
                }
                if slice.driver.is_some() && !is_new {
                    return Err(in_use(name, slice));
                }
                if is_kmem {
                    sysfs.take_offline(&slice.name)?;
                }
                sysfs.drive(&slice.name, None)?;
                sysfs.empty(&slice.name)?;
            } else if is_kmem {
                return Err(in_use(name, slice));
            }
        }
        Ok(Self {
            sysfs,
            region: name.to_owned(),
            first: found.addresses.start,
            cutting: Mutex::new(()),
            _claim: claim,
        })
    }

    /// The physical addresses of extents, neighbours together.
    fn addresses(&self, runs: &[Run]) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        for run in runs {
            let at = |index: u32| self.first + u64::from(index) * EXTENT_BYTES;
            let part = at(run.first)..at(run.end());
            match parts.last_mut().filter(|last| last.end == part.start) {
                Some(last) => last.end = part.end,
                None => parts.push(part),
            }
        }
        parts
    }

    fn cut(&self, runs: &[Run]) -> Result<String, ChangeError> {
        let _one_at_a_time = lock(&self.cutting);
        let name = self.sysfs.slice(&self.region, &self.addresses(runs))?;
        match self.sysfs.drive(&name, Some(DaxDriver::DeviceDax)) {
            Ok(()) => Ok(name),
            Err(why) => {
                self.take_away(&name)?;
                Err(why)
            }
        }
    }

    /// Ends a slice, whoever maps it.
    fn take_away(&self, name: &str) -> Result<(), ChangeError> {
        self.sysfs.drive(name, None)?;
        self.sysfs.unslice(&self.region, name)
    }

    /// The file of a slice, zeroed.
    fn file_of(&self, name: &str, bytes: Bytes) -> Result<NewFile, WorldError> {
        let file = open_slice(name)?;
        Mapping::of(file.as_fd(), bytes)?.zero()?;
        let identity = sys::status(file.as_fd())?.identity;
        Ok(NewFile {
            file,
            pages: Pages::Dax,
            identity,
        })
    }

    fn slices(&self) -> Result<Vec<Slice>, WorldError> {
        slices(&self.sysfs, &self.region).map_err(|error| told(&error))
    }
}

impl Device for DaxDevice {
    fn asks_others(&self) -> bool {
        true
    }

    fn build(
        &self,
        _backing: BackingId,
        place: Place<'_>,
        _shareable: bool,
    ) -> Result<NewFile, WorldError> {
        let name = self.cut(place.runs).map_err(|error| told(&error))?;
        let made = self.file_of(&name, place.bytes);
        if made.is_err() {
            self.take_away(&name).map_err(|error| told(&error))?;
        }
        made
    }

    fn build_ahead(&self, _bytes: Bytes, _shareable: bool) -> Option<Result<NewFile, WorldError>> {
        // Nobody knows of which extents.
        None
    }

    fn find(
        &self,
        _backing: BackingId,
        expected: FileIdentity,
    ) -> Result<Option<OwnedFd>, WorldError> {
        for slice in self.slices()?.iter().filter(|it| is_file(it)) {
            let file = open_slice(&slice.name)?;
            if sys::status(file.as_fd())?.identity == expected {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn remove_leftovers(
        &self,
        _known: &BTreeSet<BackingId>,
        files: &BTreeSet<FileIdentity>,
    ) -> Result<usize, WorldError> {
        let mut removed = 0;
        for slice in self.slices()? {
            if is_first(&slice) {
                continue;
            }
            let is_known = is_file(&slice)
                && files.contains(&sys::status(open_slice(&slice.name)?.as_fd())?.identity);
            if !is_known {
                self.take_away(&slice.name).map_err(|error| told(&error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn destroy(&self, _backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        let numbers = sys::status(file)?.stands_for;
        let slices = self.slices()?;
        // Its numbers are nobody else's while this file of it is open: where there is none, it is
        // gone already. One that lost its driver in a try that failed is still there.
        let mut slices = slices.iter();
        let slice = slices.find(|it| numbers.is_some() && it.file == numbers);
        match slice {
            Some(slice) => self.take_away(&slice.name).map_err(|error| told(&error)),
            None => Ok(()),
        }
    }
}

/// Whether it is the one that a region always has, which is no slice.
fn is_first(slice: &Slice) -> bool {
    slice.index() == Some(0)
}

fn is_file(slice: &Slice) -> bool {
    slice.driver.as_deref() == Some(DaxDriver::DeviceDax.name())
}

fn open_slice(name: &str) -> Result<OwnedFd, WorldError> {
    let path = Path::new("/dev").join(name);
    let opened = open(&path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    opened.map_err(|errno: Errno| WorldError::Os {
        call: "open",
        errno: errno as i32,
    })
}

/// How long the dax device of these numbers is; 0 where there is none.
pub(super) fn length((major, minor): (u32, u32)) -> u64 {
    let path = format!("/sys/dev/char/{major}:{minor}/size");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
