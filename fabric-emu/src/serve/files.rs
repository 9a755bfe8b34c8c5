//! The files that hold what is carved: anonymous, of mode 0600, sealed against another length, and
//! filled before anybody has one.
//!
//! A file is filled part by part, so that a long one keeps nobody else waiting. What the descriptor
//! of the emulator is of is not what it hands out: each holder has a description of its own, read
//! only where its memory is.
//!
//! Where a file is not needed any more it is closed here. Whoever has it mapped keeps its pages for
//! as long as that is so, and nobody is given them again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::ftruncate;
use pool_core::Bytes;
use pool_core::room::{Promise, Room, RoomError};
use pool_core::units::MIB;

use super::carvings::Backing;
use super::wire::{MemoryAnswer, Outcome};

/// As much as is filled before others have their turn.
const PART_BYTES: u64 = 32 * MIB;
/// Never executable. Kernels before 6.3 do not know it.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

/// A file was not made or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileError {
    /// The machine has so many bytes to spare.
    Short(u64),
    /// A system call failed.
    Os(Errno),
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl From<RoomError> for FileError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Short {
                available_bytes, ..
            } => Self::Short(available_bytes),
            RoomError::Os { errno, .. } => Self::Os(errno),
        }
    }
}

impl FileError {
    /// What the host is told.
    pub(super) fn answer(self) -> MemoryAnswer {
        match self {
            Self::Short(bytes) => MemoryAnswer {
                bytes,
                ..MemoryAnswer::bare(Outcome::MachineShort)
            },
            Self::Os(Errno::ENOSPC | Errno::ENOMEM) => MemoryAnswer::bare(Outcome::MachineShort),
            Self::Os(Errno::EMFILE | Errno::ENFILE) => MemoryAnswer::bare(Outcome::TooMany),
            Self::Os(_) => MemoryAnswer::bare(Outcome::Failed),
        }
    }
}

#[derive(Debug)]
struct Memory {
    file: OwnedFd,
    bytes: u64,
    /// How much of it is there.
    filled: u64,
    /// The rest of it, where some is missing.
    promise: Option<Promise>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    room: Room,
    /// What is left to the rest of the machine.
    floor: Bytes,
    /// Files that there may be.
    most: usize,
    all: BTreeMap<Backing, Memory>,
}

impl Files {
    pub(super) fn new(floor: Bytes, most: usize) -> Self {
        Self {
            room: Room::here(),
            floor,
            most,
            all: BTreeMap::new(),
        }
    }

    /// Begins to make the file of a backing; one that there is stays as it is.
    pub(super) fn begin(&mut self, backing: Backing, bytes: u64) -> Result<(), FileError> {
        if self.all.contains_key(&backing) {
            return Ok(());
        }
        if self.all.len() >= self.most {
            return Err(Errno::EMFILE.into());
        }
        let promise = self.room.promise(None, self.floor, Bytes::new(bytes))?;
        let memory = Memory {
            file: create(bytes)?,
            bytes,
            filled: 0,
            promise: Some(promise),
        };
        self.all.insert(backing, memory);
        Ok(())
    }

    /// Whether some file is not filled.
    pub(super) fn has_work(&self) -> bool {
        self.all.values().any(|memory| memory.promise.is_some())
    }

    /// Fills a part of the oldest file that is not filled. Which one, where that is all of it, or
    /// where it failed: then there is no such file.
    pub(super) fn fill(&mut self) -> Option<(Backing, Result<(), FileError>)> {
        let mut open = self.all.iter_mut();
        let (&backing, memory) = open.find(|(_, memory)| memory.promise.is_some())?;
        match memory.fill() {
            Ok(false) => None,
            Ok(true) => Some((backing, Ok(()))),
            Err(error) => {
                self.all.remove(&backing);
                Some((backing, Err(error)))
            }
        }
    }

    /// Whether the file of a backing is filled.
    pub(super) fn is_ready(&self, backing: Backing) -> bool {
        let memory = self.all.get(&backing);
        memory.is_some_and(|memory| memory.promise.is_none())
    }

    /// A descriptor to be handed out.
    pub(super) fn open(&self, backing: Backing, is_read_only: bool) -> Result<OwnedFd, FileError> {
        let memory = self.all.get(&backing).ok_or(Errno::ENOENT)?;
        let access = if is_read_only {
            OFlag::O_RDONLY
        } else {
            OFlag::O_RDWR
        };
        let path = format!("/proc/self/fd/{}", memory.file.as_raw_fd());
        Ok(open(
            path.as_str(),
            access | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?)
    }

    /// Closes what is not needed.
    pub(super) fn keep_only(&mut self, needed: &BTreeSet<Backing>) {
        self.all.retain(|backing, _| needed.contains(backing));
    }
}

impl Memory {
    /// Whether all of it is there now.
    fn fill(&mut self) -> Result<bool, FileError> {
        let part = PART_BYTES.min(self.bytes - self.filled);
        let (at, length) = (offset(self.filled)?, offset(part)?);
        fallocate(self.file.as_fd(), FallocateFlags::empty(), at, length)?;
        self.filled += part;
        if let Some(promise) = &mut self.promise {
            promise.take(part);
        }
        if self.filled < self.bytes {
            return Ok(false);
        }
        fcntl(self.file.as_fd(), FcntlArg::F_ADD_SEALS(SEALS))?;
        // In units of 512 bytes, whatever the blocks of the file system.
        let there = fstat(self.file.as_fd())?.st_blocks.cast_unsigned() * 512;
        if there < self.bytes {
            return Err(Errno::EIO.into());
        }
        self.promise = None;
        Ok(true)
    }
}

/// A file with its length and none of its pages.
fn create(bytes: u64) -> Result<OwnedFd, FileError> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = match memfd_create("fabric-emu", flags | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create("fabric-emu", flags)?,
        made => made?,
    };
    fchmod(file.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    ftruncate(file.as_fd(), offset(bytes)?)?;
    Ok(file)
}

fn offset(bytes: u64) -> Result<i64, FileError> {
    i64::try_from(bytes).map_err(|_| FileError::Os(Errno::EOVERFLOW))
}
