//! CXL memory whose files are dax devices: each is cut from a region for one piece of one segment.
//!
//! # How a file is built
//! A slice of the very extents that the engine has chosen is made, and given to the driver that
//! makes a file of it, which belongs to the daemon alone (mode 0600). It is zeroed through a
//! mapping, by the kernel, so that a device that vanishes meanwhile is an answer and not a signal.
//!
//! # How it ends
//! The driver is taken away: the kernel ends each mapping. What a stale holder has of the file
//! leads nowhere from then on, also once its extents are in another slice: the kernel numbers a
//! device anew while an old file of it is open. For pages that somebody has pinned for I/O the
//! kernel does not wait, and faults where they are used later; nothing of ours can see them:
//! `docs/cxl.md`. Since the kernel may take its time, a worker of its own does it
//! ([`Device::asks_others`]). While honest holders have a slice, [`super::proof`] says so, and it
//! does not come to that.
//!
//! # When the hardware is pulled
//! The kernel ends each mapping, and the slices with their region: files of it lead nowhere, and
//! there is nothing left to be taken away.
//!
//! # Memory that other hosts have
//! (The option `shared`.) What is built is one file of the whole region, so that an offset in it is
//! an offset of the device, for every host. It is not zeroed: others may use it now, and what they
//! left is what the next one goes on with. So nobody gets a part of it, and whoever gets it finds
//! what was there. It ends as any other file does, with its contents as they are.
//!
//! # After a death of the daemon
//! Slices stay. One is known by the inode of its file, which the journal has; one that no row names
//! is taken away at the next start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use kernel_cxl::{ChangeError, DaxDevice as Slice, DaxDriver};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use pool_core::sync::{Arc, Mutex, lock};
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_proto::common::v1::Pages;

use super::cxl::{CxlRegion, Taken, slices, told};
use super::owner::Owner;
use super::{Device, NewFile, Place, SetupError};
use crate::engine::Run;
use crate::engine::command::{FileIdentity, WorldError};
use crate::plug::Hardware as _;
use crate::sys::{self, Failed, Mapping};

/// See the module.
#[derive(Debug)]
pub struct DaxDevice {
    region: Arc<CxlRegion>,
    owner: Owner,
    /// Whose device this is, once that is known.
    pool: OnceLock<String>,
    /// Two at once would take each other's name for theirs.
    cutting: Mutex<()>,
    /// How large it is, where other hosts have the same memory.
    of_hosts: Option<Bytes>,
}

/// A region, and what it is cut into.
struct Cut {
    taken: Arc<Taken>,
    slices: Vec<Slice>,
}

impl DaxDevice {
    /// A device that cuts files from a region, or has all of it for one, where other hosts have
    /// the same memory: so much.
    #[must_use]
    pub(super) fn of(region: Arc<CxlRegion>, of_hosts: Option<Bytes>) -> Self {
        Self {
            owner: Owner::of(region.serials()),
            pool: OnceLock::new(),
            region,
            cutting: Mutex::new(()),
            of_hosts,
        }
    }

    /// # Errors
    /// Where other hosts have the memory, and it is not all of it that is asked for.
    fn is_allowed(&self, place: Place<'_>) -> Result<(), WorldError> {
        let Some(whole) = self.of_hosts else {
            return Ok(());
        };
        let is_all = matches!(&addresses(0, place.runs)[..], [all] if *all == (0..whole.get()));
        if is_all && place.bytes == whole {
            return Ok(());
        }
        let (call, errno) = ("build a part of a shared device", Errno::EINVAL as i32);
        Err(WorldError::Os { call, errno })
    }

    fn cut(&self, taken: &Taken, runs: &[Run]) -> Result<String, ChangeError> {
        let sysfs = self.region.sysfs();
        let _one_at_a_time = lock(&self.cutting);
        let name = sysfs.slice(&taken.name, &addresses(taken.first, runs))?;
        match sysfs.drive(&name, Some(DaxDriver::DeviceDax)) {
            Ok(()) => Ok(name),
            Err(why) => {
                self.take_away(taken, &name)?;
                Err(why)
            }
        }
    }

    /// Ends a slice, whoever maps it.
    fn take_away(&self, taken: &Taken, name: &str) -> Result<(), ChangeError> {
        self.region.sysfs().drive(name, None)?;
        self.region.sysfs().unslice(&taken.name, name)
    }

    /// Takes away all slices but those whose files are to stay; tells how many.
    fn remove(
        &self,
        is_to_stay: impl Fn(Option<BorrowedFd<'_>>) -> Result<bool, WorldError>,
    ) -> Result<usize, WorldError> {
        let mut removed = 0;
        let Some(Cut { taken, slices }) = self.slices()? else {
            return Ok(removed);
        };
        for slice in slices.iter().filter(|it| is_cut(it)) {
            let file = is_file(slice).then(|| open_slice(&slice.name));
            let file = file.transpose()?;
            if is_to_stay(file.as_ref().map(OwnedFd::as_fd))? {
                continue;
            }
            let gone = self.take_away(&taken, &slice.name);
            gone.map_err(|error| self.told(&error))?;
            removed += 1;
        }
        Ok(removed)
    }

    /// What the kernel refused: that the hardware is gone, where it is.
    fn told(&self, error: &ChangeError) -> WorldError {
        if self.region.is_there() {
            return told(error);
        }
        WorldError::Withdrawn
    }

    /// The file of a slice, zeroed unless other hosts have that memory.
    fn file_of(&self, name: &str, bytes: Bytes) -> Result<NewFile, WorldError> {
        let file = open_slice(name)?;
        if self.of_hosts.is_none() {
            Mapping::of(file.as_fd(), bytes)?.zero()?;
        }
        let identity = sys::status(file.as_fd())?.identity;
        Ok(NewFile {
            file,
            pages: Pages::Dax,
            identity,
        })
    }

    /// The region while it is there, and its slices: none where it is not, since they ended with
    /// it.
    fn slices(&self) -> Result<Option<Cut>, WorldError> {
        let Some(taken) = self.region.taken() else {
            return Ok(None);
        };
        match slices(self.region.sysfs(), &taken.name) {
            Ok(slices) => Ok(Some(Cut { taken, slices })),
            Err(_) if !self.region.is_there() => Ok(None),
            Err(error) => Err(told(&error)),
        }
    }
}

/// The physical addresses of extents of a region that begins at `first`, neighbours together.
fn addresses(first: u64, runs: &[Run]) -> Vec<Range<u64>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    for run in runs {
        let at = |index: u32| first + u64::from(index) * EXTENT_BYTES;
        let part = at(run.first)..at(run.end());
        match parts.last_mut().filter(|last| last.end == part.start) {
            Some(last) => last.end = part.end,
            None => parts.push(part),
        }
    }
    parts
}

impl Device for DaxDevice {
    fn asks_others(&self) -> bool {
        true
    }

    fn check_owner(&self, pool: &str, _in_use: bool) -> Result<(), SetupError> {
        let Some(taken) = self.region.taken() else {
            return Ok(());
        };
        let slices = slices(self.region.sysfs(), &taken.name)?;
        if !slices.iter().any(is_cut) {
            // Nothing lies here: what this pool had has ended with the machine.
            return Ok(());
        }
        let found = self.owner.read()?;
        if found.as_deref() == Some(pool) {
            return Ok(());
        }
        Err(SetupError::SlicesOfAnother {
            region: taken.name.clone(),
            found,
            pool: pool.to_owned(),
            path: self.owner.path(),
        })
    }

    /// It is written where the region is this daemon's, now or when it is cut: of two pools that
    /// are given one device, the one without it says nothing.
    fn claim(&self, pool: &str) -> Result<(), SetupError> {
        let pool = self.pool.get_or_init(|| pool.to_owned());
        // Nobody else claims the region while it is had here.
        if let Some(_taken) = self.region.taken() {
            self.owner.write(pool)?;
        }
        Ok(())
    }

    fn build(
        &self,
        _backing: BackingId,
        place: Place<'_>,
        _shareable: bool,
    ) -> Result<NewFile, WorldError> {
        self.is_allowed(place)?;
        let taken = self.region.taken().ok_or(WorldError::Withdrawn)?;
        if let Some(pool) = self.pool.get() {
            self.owner.write(pool)?;
        }
        let name = self.cut(&taken, place.runs);
        let name = name.map_err(|error| self.told(&error))?;
        let made = self.file_of(&name, place.bytes);
        if made.is_err() {
            let gone = self.take_away(&taken, &name);
            gone.map_err(|error| self.told(&error))?;
        }
        made
    }

    fn find(
        &self,
        _backing: BackingId,
        expected: FileIdentity,
    ) -> Result<Option<OwnedFd>, WorldError> {
        let slices = self.slices()?.into_iter().flat_map(|cut| cut.slices);
        for slice in slices.filter(is_file) {
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
        self.remove(|file| match file {
            Some(file) => Ok(files.contains(&sys::status(file)?.identity)),
            None => Ok(false),
        })
    }

    /// A slice is not unlinked, as a file is: to remove it would take it from who has it mapped.
    fn release(&self) -> Result<usize, WorldError> {
        self.remove(|file| match file {
            Some(file) => Ok(sys::has_holder(file)?),
            None => Ok(false),
        })
    }

    fn destroy(&self, _backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        let numbers = sys::status(file)?.stands_for;
        let Some(Cut { taken, slices }) = self.slices()? else {
            return Ok(());
        };
        // Its numbers are nobody else's while this file of it is open: where there is none, it is
        // gone already. One that lost its driver in a try that failed is still there.
        let mut slices = slices.iter();
        let slice = slices.find(|it| numbers.is_some() && it.file == numbers);
        match slice {
            Some(slice) => {
                let gone = self.take_away(&taken, &slice.name);
                gone.map_err(|error| self.told(&error))
            }
            None => Ok(()),
        }
    }
}

/// Whether it is a slice, with memory or still without.
fn is_cut(slice: &Slice) -> bool {
    !slice.is_first()
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

/// How long the dax device of these numbers is.
///
/// # Errors
/// Where there is none, or the kernel does not say it just now.
pub(super) fn length((major, minor): (u32, u32)) -> Result<u64, Failed> {
    length_in(&Path::new("/sys/dev/char").join(format!("{major}:{minor}")))
}

/// That of the device whose files lie in this folder.
fn length_in(folder: &Path) -> Result<u64, Failed> {
    let text = fs::read_to_string(folder.join("size"));
    let length = text.and_then(|text| text.trim().parse().map_err(io::Error::other));
    length.map_err(|error| sys::failed("read", &error))
}

#[cfg(test)]
mod tests;
