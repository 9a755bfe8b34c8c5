//! What somebody may try with a descriptor he was given, or against a process that is not his.
//!
//! Each attempt but one succeeds on a file or a process of one's own, which the tests at the end
//! show: so it is the isolation that stops it elsewhere, and no slip in the attempt.

#![expect(unsafe_code, reason = "the calls that an attacker makes")]

use std::fs::{self, File};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open};
use nix::sys::mman::{ProtFlags, mprotect};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::ftruncate;
use pool_core::Bytes;
use pool_core::mem::{Access, FileMap, MapError};
use serde::{Deserialize, Serialize};

/// One thing to try with a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempt {
    /// Map the file to be written.
    MapWritable,
    /// Map it to be read, and change the protection.
    ProtectWritable,
    /// Map it to be read, and write through `/proc/self/mem`.
    WriteByProcMem,
    /// Open it once more, to be written.
    ReopenWritable,
    /// Write by `pwrite`.
    Write,
    /// Punch a hole.
    Punch,
    /// Make it longer.
    Grow,
    /// Allocate behind its end.
    AllocateBehind,
    /// Make it shorter.
    Shrink,
    /// Seal it against writing.
    SealWrite,
    /// Seal it against new writers.
    SealFutureWrite,
    /// Let everybody open it.
    ChangeMode,
    /// Take a lease on it, by which the daemon tells that a file is free.
    Lease,
}

impl Attempt {
    /// All that a reader must not succeed with.
    pub const OF_A_READER: [Self; 13] = [
        Self::MapWritable,
        Self::ProtectWritable,
        Self::WriteByProcMem,
        Self::ReopenWritable,
        Self::Write,
        Self::Punch,
        Self::Grow,
        Self::AllocateBehind,
        Self::Shrink,
        Self::SealWrite,
        Self::SealFutureWrite,
        Self::ChangeMode,
        Self::Lease,
    ];

    /// All that a writer must not succeed with either.
    pub const OF_A_WRITER: [Self; 8] = [
        Self::ReopenWritable,
        Self::Grow,
        Self::AllocateBehind,
        Self::Shrink,
        Self::SealWrite,
        Self::SealFutureWrite,
        Self::ChangeMode,
        Self::Lease,
    ];

    /// Tries it on a file of `bytes` bytes.
    ///
    /// # Errors
    /// As the kernel refuses it.
    pub fn on(self, file: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
        let length = bytes.cast_signed();
        match self {
            Self::MapWritable => map(file, bytes, Access::ReadWrite).map(drop),
            Self::ProtectWritable => protect_writable(file, bytes),
            Self::WriteByProcMem => write_by_proc_mem(file, bytes),
            Self::ReopenWritable => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                open(
                    path.as_str(),
                    OFlag::O_RDWR | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
                .map(drop)
            }
            Self::Write => nix::sys::uio::pwrite(file, b"mine", 0).map(drop),
            Self::Punch => {
                let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE;
                fallocate(file, punch | FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length)
            }
            Self::Grow => ftruncate(file, length + 4096),
            Self::AllocateBehind => fallocate(file, FallocateFlags::empty(), length, 4096),
            Self::Shrink => ftruncate(file, 0),
            Self::SealWrite => seal(file, SealFlag::F_SEAL_WRITE),
            Self::SealFutureWrite => seal(file, SealFlag::F_SEAL_FUTURE_WRITE),
            Self::ChangeMode => fchmod(file, Mode::from_bits_truncate(0o666)),
            Self::Lease => lease(file),
        }
    }
}

fn map(file: BorrowedFd<'_>, bytes: u64, access: Access) -> Result<FileMap, Errno> {
    FileMap::new(file, Bytes::ZERO, Bytes::new(bytes), access).map_err(|error| match error {
        MapError::Os { errno, .. } => errno,
        other => panic!("{other}"),
    })
}

fn protect_writable(file: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
    let map = map(file, bytes, Access::ReadOnly)?;
    let start = map.mapped().as_ptr().cast_mut().cast();
    let start = NonNull::new(start).expect("nothing is mapped at zero");
    // SAFETY: the bytes are mapped, as long as `map` lives, and everybody reads them by atomic
    // loads, so that a store by somebody else is nothing new.
    unsafe {
        mprotect(
            start,
            usize::try_from(bytes).expect("it is mapped"),
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        )
    }
}

fn write_by_proc_mem(file: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
    let map = map(file, bytes, Access::ReadOnly)?;
    let memory = File::options()
        .read(true)
        .write(true)
        .open("/proc/self/mem");
    let written = memory
        .expect("one's own memory")
        .write_at(b"mine", map.mapped().addr().get());
    written.map(drop).map_err(errno_of)
}

fn seal(file: BorrowedFd<'_>, seal: SealFlag) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_ADD_SEALS(seal)).map(drop)
}

fn lease(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    Errno::result(taken).map(drop)
}

/// One way to look into another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spying {
    /// List and open its descriptors.
    OpenDescriptors,
    /// Duplicate one of its descriptors by a pidfd.
    DuplicateDescriptor,
    /// Open its memory.
    OpenMemory,
    /// Open the files it has mapped.
    OpenMappedFiles,
}

impl Spying {
    /// Every way.
    pub const ALL: [Self; 4] = [
        Self::OpenDescriptors,
        Self::DuplicateDescriptor,
        Self::OpenMemory,
        Self::OpenMappedFiles,
    ];

    /// Tries it on a process.
    ///
    /// # Errors
    /// As the kernel refuses it.
    pub fn on(self, pid: u32) -> Result<(), Errno> {
        let outcome = match self {
            Self::OpenDescriptors => open_one_of(&format!("/proc/{pid}/fd")),
            Self::DuplicateDescriptor => return duplicate(pid),
            Self::OpenMemory => File::options()
                .read(true)
                .open(format!("/proc/{pid}/mem"))
                .map(drop),
            // To list them is allowed to its user; to open one takes more rights than root's here.
            Self::OpenMappedFiles => fs::read_dir(format!("/proc/{pid}/map_files")).map(drop),
        };
        outcome.map_err(errno_of)
    }
}

/// Opens any file of a folder of `/proc`.
fn open_one_of(folder: &str) -> std::io::Result<()> {
    let mut last = std::io::Error::from_raw_os_error(libc::ENOENT);
    for entry in fs::read_dir(folder)? {
        match File::open(entry?.path()) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn duplicate(pid: u32) -> Result<(), Errno> {
    let pid = pid.cast_signed();
    // SAFETY: takes numbers only.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let pidfd = own(Errno::result(pidfd)?);
    // The standard error is open in every process of these tests.
    // SAFETY: takes numbers only.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), 2, 0) };
    drop(own(Errno::result(copy)?));
    Ok(())
}

fn own(descriptor: libc::c_long) -> OwnedFd {
    let descriptor = i32::try_from(descriptor).expect("a descriptor");
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().expect("an error of the kernel's"))
}

/// Fills a file of `bytes` bytes, or a page, with what nobody expects there.
///
/// # Errors
/// Where it cannot be mapped writable.
pub fn scribble(file: BorrowedFd<'_>, bytes: u64, seed: u64) -> Result<(), Errno> {
    let map = map(file, bytes, Access::ReadWrite)?;
    crate::pattern::write(&map.mapped(), 0, seed);
    Ok(())
}

/// A file of one's own.
#[must_use]
pub fn own_file(bytes: u64) -> OwnedFd {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let made = memfd_create("mine", flags).expect("memfd_create");
    ftruncate(&made, bytes.cast_signed()).expect("ftruncate");
    made
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn on_a_file_of_ones_own_every_attempt_succeeds() {
        for attempt in Attempt::OF_A_READER {
            let made = own_file(4096);
            let path = format!("/proc/self/fd/{}", made.as_raw_fd());
            // The description that memfd_create returns is of no file's count of openers, which a
            // lease looks at.
            let flags = match attempt {
                Attempt::Lease => OFlag::O_RDONLY,
                _ => OFlag::O_RDWR,
            };
            let file = open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            drop(made);
            // The kernel lets nobody by that way past a shared mapping that is read-only.
            let expected = match attempt {
                Attempt::WriteByProcMem => Err(Errno::EIO),
                _ => Ok(()),
            };
            assert_eq!(attempt.on(file.as_fd(), 4096), expected, "{attempt:?}");
        }
    }

    #[test]
    fn on_a_process_of_ones_own_every_way_of_spying_succeeds() {
        for spying in Spying::ALL {
            assert_eq!(spying.on(std::process::id()), Ok(()), "{spying:?}");
        }
    }
}
