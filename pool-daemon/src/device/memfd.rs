//! DRAM and memory on a NUMA node, in anonymous files.
//!
//! # How a file is built
//! Made, given its length, taken from everybody but its owner, opened anew (the descriptor that
//! `memfd_create` returns is not counted, see [`super::proof`]), bound to its node, filled,
//! sealed. Where a step fails the descriptor is closed, and with it everything is gone.
//!
//! # Pages
//! - *hugetlb*: from the pool that the operator set aside. A writer may punch a hole, and where
//!   the pool is used up by then the next touch by anybody ends in SIGBUS. So such a file is never
//!   shared with another tenant, and one that may be is built of other pages whatever the policy.
//! - *collapsed*: the first page of each extent is allocated and the kernel asked to put the
//!   extent together. Where it cannot, that extent gets ordinary pages, and the file says so.
//! - *base*: 4 KiB.
//!
//! The memory policy binds what is allocated after it was set, whoever allocates it. A huge page
//! is put together on the node of its first page, or not at all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::MFdFlags;
use pool_core::room::Room;
use pool_core::units::{MIB, PAGE_BYTES};
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_proto::common::v1::Pages;

use super::identity::SEALS;
use super::{Device, NewFile, Place, SetupError, proof};
use crate::engine::command::WorldError;
use crate::sys::{self, Failed, Mapping};

/// The name by which `/proc/PID/maps` shows memory of the pool.
const NAME: &str = "tierpool";
/// `MFD_NOEXEC_SEAL`: never executable. Kernels before 6.3 do not know it.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);
/// As much as is allocated in one call, which a signal may make the kernel begin again.
const ALLOCATE_BYTES_MAX: u64 = 64 * MIB;

/// Which pages a device gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePolicy {
    /// The largest there are: hugetlb, else collapsed, else base.
    Auto,
    /// From the hugetlb pool; where that has too few, the build fails.
    Hugetlb,
    /// Put together by the kernel, extent by extent, where it can.
    Collapsed,
    /// 4 KiB.
    Base,
}

/// A device of anonymous files.
#[derive(Debug)]
pub struct MemfdDevice {
    policy: PagePolicy,
    numa_node: Option<u32>,
    floor: Bytes,
    room: Room,
    /// Whether files of hugetlb pages may be built.
    hugetlb: bool,
}

impl MemfdDevice {
    /// A device that takes its memory from `numa_node`, or anywhere, and leaves `floor` bytes of
    /// it to the rest of the machine.
    ///
    /// # Errors
    /// Where the kernel cannot say when such files are free, or makes none of the pages that
    /// `policy` insists on.
    pub fn new(
        policy: PagePolicy,
        numa_node: Option<u32>,
        floor: Bytes,
    ) -> Result<Self, SetupError> {
        try_proof(MFdFlags::empty())?;
        let hugetlb = match policy {
            PagePolicy::Base | PagePolicy::Collapsed => false,
            PagePolicy::Hugetlb => try_proof(huge_flags()).map(|()| true)?,
            // A machine without a hugetlb pool, or that cannot prove its files free, has other
            // pages.
            PagePolicy::Auto => try_proof(huge_flags()).is_ok(),
        };
        Ok(Self {
            policy,
            numa_node,
            floor,
            room: Room::here(),
            hugetlb,
        })
    }

    fn build_huge(&self, bytes: Bytes) -> Result<NewFile, WorldError> {
        self.room.check_huge(self.numa_node, bytes)?;
        let file = create(huge_flags(), bytes)?;
        self.bind(file.as_fd(), bytes)?;
        match allocate(file.as_fd(), bytes, |_| {}) {
            // Others took pages since they were counted.
            Err(failed) if matches!(failed.errno, Errno::ENOSPC | Errno::ENOMEM) => {
                self.room.check_huge(self.numa_node, bytes)?;
                Err(failed.into())
            }
            Err(failed) => Err(failed.into()),
            Ok(()) => finish(file, bytes, Pages::Hugetlb),
        }
    }

    fn build_ordinary(&self, bytes: Bytes) -> Result<NewFile, WorldError> {
        let mut promise = self.room.promise(self.numa_node, self.floor, bytes)?;
        let file = create(MFdFlags::empty(), bytes)?;
        let mapping = self.bind(file.as_fd(), bytes)?;
        let pages = if self.policy == PagePolicy::Base {
            allocate(file.as_fd(), bytes, |part| promise.take(part))?;
            Pages::Base
        } else {
            let mapping = mapping.map_or_else(|| Mapping::of(file.as_fd(), bytes), Ok)?;
            collapse(file.as_fd(), &mapping, bytes, |part| promise.take(part))?
        };
        finish(file, bytes, pages)
    }

    /// Binds the file to the device's node, where it has one, through a mapping that is returned.
    fn bind(&self, file: BorrowedFd<'_>, bytes: Bytes) -> Result<Option<Mapping>, Failed> {
        let Some(node) = self.numa_node else {
            return Ok(None);
        };
        let mapping = Mapping::of(file, bytes)?;
        mapping.bind(node)?;
        Ok(Some(mapping))
    }

    fn build_any(&self, bytes: Bytes, shareable: bool) -> Result<NewFile, WorldError> {
        if self.hugetlb && !shareable {
            let built = self.build_huge(bytes);
            let short = matches!(built, Err(WorldError::MachineShort { .. }));
            if !short || self.policy == PagePolicy::Hugetlb {
                return built;
            }
        }
        self.build_ordinary(bytes)
    }
}

impl Device for MemfdDevice {
    fn build(
        &self,
        _backing: BackingId,
        place: Place<'_>,
        shareable: bool,
    ) -> Result<NewFile, WorldError> {
        self.build_any(place.bytes, shareable)
    }

    fn build_ahead(&self, bytes: Bytes, shareable: bool) -> Option<Result<NewFile, WorldError>> {
        Some(self.build_any(bytes, shareable))
    }

    /// Empties the file before anybody closes it, so that a descriptor that does not count in the
    /// proof keeps no pages.
    fn destroy(&self, _backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        empty(file)
    }
}

/// Gives all pages of a file back to the kernel.
pub(super) fn empty(file: BorrowedFd<'_>) -> Result<(), WorldError> {
    let bytes = sys::status(file)?.bytes;
    sys::punch(file, 0, bytes)?;
    match sys::status(file)?.allocated_bytes {
        0 => Ok(()),
        _ => Err(contradiction("fallocate")),
    }
}

fn huge_flags() -> MFdFlags {
    MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB
}

fn try_proof(flags: MFdFlags) -> Result<(), SetupError> {
    let file = create(flags, Bytes::new(EXTENT_BYTES))?;
    proof::try_on(file.as_fd(), "anonymous files")
}

/// A file with its length and its mode, none of its pages, and a description that counts.
fn create(flags: MFdFlags, bytes: Bytes) -> Result<OwnedFd, Failed> {
    let made = match sys::memfd(NAME, flags | NOEXEC_SEAL) {
        // An older kernel: what keeps others from executing the file is its mode alone.
        Err(failed) if failed.errno == Errno::EINVAL => sys::memfd(NAME, flags)?,
        made => made?,
    };
    sys::make_private(made.as_fd())?;
    sys::set_length(made.as_fd(), bytes.get())?;
    sys::reopen(made.as_fd(), OFlag::O_RDWR)
}

/// Fills the file; `taken` hears of each part.
fn allocate(file: BorrowedFd<'_>, bytes: Bytes, mut taken: impl FnMut(u64)) -> Result<(), Failed> {
    let mut at = 0;
    while at < bytes.get() {
        let part = ALLOCATE_BYTES_MAX.min(bytes.get() - at);
        sys::allocate(file, at, part)?;
        taken(part);
        at += part;
    }
    Ok(())
}

/// Fills the file extent by extent, of each of which `taken` hears, and tells the smallest pages
/// that were given.
fn collapse(
    file: BorrowedFd<'_>,
    mapping: &Mapping,
    bytes: Bytes,
    mut taken: impl FnMut(u64),
) -> Result<Pages, Failed> {
    let mut pages = Pages::Collapsed;
    for index in 0..bytes.get() / EXTENT_BYTES {
        let at = index * EXTENT_BYTES;
        // The kernel makes no huge page of an extent that is not there at all.
        sys::allocate(file, at, PAGE_BYTES)?;
        if mapping.collapse(at).is_err() {
            sys::allocate(file, at, EXTENT_BYTES)?;
            pages = Pages::Base;
        }
        taken(EXTENT_BYTES);
    }
    Ok(pages)
}

/// Seals a filled file, and makes sure that it is full.
fn finish(file: OwnedFd, bytes: Bytes, pages: Pages) -> Result<NewFile, WorldError> {
    sys::add_seals(file.as_fd(), SEALS)?;
    let status = sys::status(file.as_fd())?;
    if status.allocated_bytes < bytes.get() {
        return Err(contradiction("fallocate"));
    }
    Ok(NewFile {
        file,
        pages,
        identity: status.identity,
    })
}

/// A call succeeded and did not do what it is for.
fn contradiction(call: &'static str) -> WorldError {
    let errno = Errno::EIO as i32;
    WorldError::Os { call, errno }
}
