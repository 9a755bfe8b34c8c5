//! Memory the daemon owns, and how files of it come to be and are proven gone.
//!
//! A [`Device`] builds files; a file backs one piece of one segment and belongs to one tenant for
//! all its life. It is never handed to another one: it is destroyed, and its pages go back to the
//! kernel, which zeroes them.
//!
//! # Invariants
//! 1. The daemon keeps one descriptor of each file, the *master*. Nobody else is ever given its
//!    file description: a receiver gets one of its own, by [`open_for`]. Only stores that hold the
//!    master for the daemon have duplicates of it. [`proof`] rests on this.
//! 2. Before anybody is given a file, each of its pages exists, and its length and its mode stay
//!    as they are: it is sealed, where it can be, against all but writing.
//! 3. What a build leaves behind where it fails is nothing.
//!
//! Who does what: [`memfd`], [`file`](mod@file), [`fabric`], [`dax`] and [`kmem`] are the devices,
//! [`cxl`] has the regions of the last two, `media` what is reported of them, and `owner` whose
//! they are; [`regions`] shows all regions to operators and changes them, as `topology` tells them;
//! [`builder`] runs the devices on threads of its own and keeps a [`stock`];
//! [`copy`](copy::copy) moves contents; [`identity`] judges a descriptor that comes back; `claim`
//! keeps a host of a fabric one daemon's.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel_cxl::{ChangeError, SysfsError};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use pool_core::sync::Arc;
use pool_core::{BackingId, Bytes};
use pool_proto::common::v1::{Access, Pages};

use crate::engine::Run;
use crate::engine::command::{FileIdentity, WorldError};
use crate::sys::{self, Failed};

pub mod builder;
#[cfg(feature = "server")]
pub(crate) mod claim;
pub mod copy;
pub mod cxl;
pub mod dax;
pub mod fabric;
pub mod file;
pub mod identity;
pub mod kmem;
mod media;
pub mod memfd;
mod owner;
pub mod proof;
pub mod regions;
pub mod stock;
mod topology;

/// A file just built: `bytes` zeroed bytes, every page of which exists.
#[derive(Debug)]
pub struct NewFile {
    /// The daemon's own descriptor, read-write, of a file description nobody else shares.
    pub file: OwnedFd,
    /// The pages it got; where they differ, the smallest.
    pub pages: Pages,
    /// What tells it from any other file.
    pub identity: FileIdentity,
}

/// Where a file is to lie, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Whole extents.
    pub bytes: Bytes,
    /// Which extents of the device, in the order of their offsets; none where any will do. Devices
    /// whose extents are just counted take no notice.
    pub runs: &'a [Run],
}

impl Place<'_> {
    /// So many bytes of any extents.
    #[must_use]
    pub const fn anywhere(bytes: Bytes) -> Self {
        Self { bytes, runs: &[] }
    }
}

/// Memory of one kind.
pub trait Device: Send + Sync + std::fmt::Debug {
    /// Checks, where the device keeps files under names, that they are those of the pool `pool`,
    /// whose journal names some of them if `in_use`. Changes nothing.
    ///
    /// # Errors
    /// [`SetupError::OtherPool`] and [`SetupError::UnknownPool`] where they are not.
    fn check_owner(&self, pool: &str, in_use: bool) -> Result<(), SetupError> {
        let _nothing_lasts = (pool, in_use);
        Ok(())
    }

    /// Says for all time to come that what lies here is the pool's. It has been checked.
    ///
    /// # Errors
    /// Where a system call failed.
    fn claim(&self, pool: &str) -> Result<(), SetupError> {
        let _nothing_lasts = pool;
        Ok(())
    }

    /// Whether files are built and destroyed by somebody who is asked, and may not answer. What is
    /// built ahead is not.
    fn asks_others(&self) -> bool {
        false
    }

    /// Builds a file at a place: zeroed, all of it really there, mode 0600, sealed
    /// against growing, shrinking and further seals where the device can.
    ///
    /// With `shareable`, no writer can make a page of it missing for others.
    ///
    /// # Errors
    /// Where the machine has not enough, or a system call failed. Nothing is left behind.
    fn build(
        &self,
        backing: BackingId,
        place: Place<'_>,
        shareable: bool,
    ) -> Result<NewFile, WorldError>;

    /// Builds such a file before it is known what it will back. `None` where the device keeps
    /// files under names, or they lie at places that nobody knows yet.
    fn build_ahead(&self, bytes: Bytes, shareable: bool) -> Option<Result<NewFile, WorldError>> {
        let _nothing_is_built = (bytes, shareable);
        None
    }

    /// Opens the file `expected` that was built before the daemon restarted, where the device keeps
    /// files under names; `None` where it does not, or the file is gone.
    ///
    /// # Errors
    /// Where a system call failed.
    fn find(
        &self,
        backing: BackingId,
        expected: FileIdentity,
    ) -> Result<Option<OwnedFd>, WorldError> {
        let _nothing_lasts = (backing, expected);
        Ok(None)
    }

    /// Removes the files of ours that no id in `known` names, and that are none of `files`: a
    /// daemon died between building and remembering them. Tells how many; none where the device
    /// keeps no files that outlive the daemon.
    ///
    /// # Errors
    /// Where a system call failed.
    fn remove_leftovers(
        &self,
        known: &BTreeSet<BackingId>,
        files: &BTreeSet<FileIdentity>,
    ) -> Result<usize, WorldError> {
        // Files without names end with their last descriptor: a daemon that dies leaves none.
        let _nothing_lasts = (known, files);
        Ok(0)
    }

    /// Removes all files, since the pool ends; those that somebody has stay theirs. Tells how many.
    ///
    /// # Errors
    /// Where a system call failed.
    fn release(&self) -> Result<usize, WorldError> {
        self.remove_leftovers(&BTreeSet::new(), &BTreeSet::new())
    }

    /// Frees the pages of a file that nobody else has open or mapped, and forgets it.
    ///
    /// # Errors
    /// Where a system call failed. Nothing but the contents may be lost by then: try again.
    fn destroy(&self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError>;
}

/// A device cannot be set up. Mend what it names and start again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Others than the daemon can enter the directory of a file device. Give it to the daemon's
    /// user and take it from everybody else: `chmod 0700`.
    #[error("{path} belongs to uid {uid} with mode {mode:04o}, not to the daemon alone")]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Another daemon has the directory. Stop it, or give this one a directory of its own.
    #[error("another daemon uses {path}: stop it, or choose another directory")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is another pool's. Start with that pool's `state_dir`, or give this pool a
    /// directory of its own.
    #[error(
        "{path} belongs to the pool {found}, and this is the pool {pool}: start with the state_dir \
         of that pool, or choose another directory"
    )]
    OtherPool {
        /// The directory.
        path: PathBuf,
        /// What it says.
        found: String,
        /// This pool.
        pool: String,
    },
    /// The directory does not say whose it is, and it should. Mount what belongs there, or choose
    /// the right directory; or say that it is this pool's, by its id in the file `pool-id` there:
    /// files that the journal does not name are then removed, and segments without files are lost.
    #[error(
        "{path} {reason}: mount or choose the right directory{}",
        way_on(path, pool)
    )]
    UnknownPool {
        /// The directory.
        path: PathBuf,
        /// What is there that should not be, or the other way round.
        reason: &'static str,
        /// This pool; empty where it is a new one, which takes empty directories only.
        pool: String,
    },
    /// The kernel does not tell here who has a file open, so no memory could ever be proven free.
    /// Take another file system (an overlay cannot tell), or set `fs.leases-enable` to 1.
    #[error("{files} do not tell whether they are still in use")]
    NoProof {
        /// What was tried.
        files: &'static str,
    },
    /// A system call failed.
    #[error("{call} failed with error number {errno}")]
    Os {
        /// Which.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
    /// The region of CXL memory is of another size. Name that, or destroy the region.
    #[error(
        "{region} lies on these devices and is {found}, not {wanted}: name that size, or destroy it"
    )]
    RegionSize {
        /// Which.
        region: String,
        /// How large it is.
        found: Bytes,
        /// What is configured.
        wanted: Bytes,
    },
    /// The region on these devices is none of volatile memory that is in use: whoever made it died
    /// amid that, or wants it otherwise. Destroy it.
    #[error(
        "{region} lies on these devices and is not volatile, committed and enabled: destroy it"
    )]
    RegionUnusable {
        /// Which.
        region: String,
    },
    /// There is no room for the region, and another one is there that was not made to its end: it
    /// may have taken what is missing. Destroy that by `poolctl regions destroy`, with a daemon
    /// that is started without this device.
    #[error(
        "{why}; {region} was not made to its end and may have it: start without this device, and \
         say `poolctl regions destroy {region}`"
    )]
    RegionHalfMade {
        /// The other one.
        region: String,
        /// What is missing.
        why: Arc<ChangeError>,
    },
    /// Somebody else has made something of the region: the file of a dax device, or memory of a
    /// node. Take it from there first.
    #[error("{device} of {region} is in use by {driver}: take it from there first")]
    RegionInUse {
        /// The region.
        region: String,
        /// The dax device.
        device: String,
        /// Its driver.
        driver: String,
    },
    /// A region of memory that other hosts have is not made while the driver `kmem` is there: it
    /// would take the region and write to it at once. Unload it, `modprobe -r kmem`.
    #[error(
        "the driver kmem would write to a new region, whose memory other hosts have: unload it \
         first, or make the region without it"
    )]
    KmemIsThere,
    /// The driver `kmem` has a dax device of a region of memory that other hosts have, and may have
    /// written to it. Take its memory offline and unload the driver, `modprobe -r kmem`; what the
    /// hosts had there may be damaged.
    #[error(
        "the driver kmem has {device} of {region}, whose memory other hosts have, and may have \
         written to it: see what the hosts have lost, take its memory offline, and unload kmem"
    )]
    KmemHasIt {
        /// The region.
        region: String,
        /// The dax device.
        device: String,
    },
    /// Another daemon has the region. Stop it, or name other devices.
    #[error("another daemon has {region}: stop it, or name other devices")]
    RegionTaken {
        /// Which.
        region: String,
    },
    /// The region is cut into slices that are not this pool's: its clients may be using them.
    /// Start with the `state_dir` of that pool; or, to end what lies there, write this pool's id
    /// into the file.
    #[error(
        "{region} has memory of {}, and this is the pool {pool}: start with the state_dir of that \
         pool, or, to end what lies there, write {pool} into {}",
        whose(found.as_deref()),
        path.display()
    )]
    SlicesOfAnother {
        /// Which.
        region: String,
        /// Whose it is, where somebody said so.
        found: Option<String>,
        /// This pool.
        pool: String,
        /// Where it is written.
        path: PathBuf,
    },
    /// What lies on a device that was just taken may be damaged, and cannot be asked for: nothing
    /// of it is granted before. Mount `tracefs` at `/sys/kernel/tracing`, or see what the device
    /// has.
    #[error("which of its lines are lost is not known yet: {0}")]
    DamageUnknown(Arc<ChangeError>),
    /// The kernel does not make of CXL memory what was asked for.
    #[error(transparent)]
    Cxl(#[from] Arc<ChangeError>),
}

impl PartialEq for SetupError {
    /// Whether both say the same.
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for SetupError {}

impl From<ChangeError> for SetupError {
    fn from(error: ChangeError) -> Self {
        Self::Cxl(Arc::new(error))
    }
}

impl From<SysfsError> for SetupError {
    fn from(error: SysfsError) -> Self {
        ChangeError::from(error).into()
    }
}

impl From<Failed> for SetupError {
    fn from(Failed { call, errno }: Failed) -> Self {
        let errno = errno as i32;
        Self::Os { call, errno }
    }
}

/// A descriptor of the same file to be given away: a file description of its own.
///
/// One that may only read cannot be turned into one that writes by anybody but the owner of the
/// file, which has mode 0600, and root.
///
/// # Errors
/// Where a system call failed, or `access` says nothing.
pub fn open_for(file: BorrowedFd<'_>, access: Access) -> Result<OwnedFd, WorldError> {
    let flags = match access {
        Access::ReadOnly => OFlag::O_RDONLY,
        Access::ReadWrite => OFlag::O_RDWR,
        Access::Unspecified => {
            let (call, errno) = ("open", Errno::EINVAL as i32);
            return Err(WorldError::Os { call, errno });
        }
    };
    let given = sys::reopen(file, flags)?;
    if sys::status(given.as_fd())?.stands_for.is_some() {
        sys::note_holder(given.as_fd())?;
    }
    Ok(given)
}

fn whose(pool: Option<&str>) -> String {
    pool.map_or_else(
        || "nobody knows whom".to_owned(),
        |pool| format!("the pool {pool}"),
    )
}

/// What else can be done about a directory of nobody.
fn way_on(path: &Path, pool: &str) -> String {
    if pool.is_empty() {
        return "; or empty it".to_owned();
    }
    format!(
        "; or, to go on with what lies there and lose the rest, write {pool} into {}/pool-id",
        path.display()
    )
}
