//! The system calls of the device back ends and the descriptor stores, each as one safe function.
//!
//! Before each call of a kind that [`pool_core::fault`] knows, its plan is asked, so that a test
//! can fail the n-th one. A call that a signal interrupts is made again. What fails is told as
//! [`Failed`], with the name of the call.
//!
//! # Invariants
//! 1. A descriptor that is borrowed stays open for the length of the call: its type says so.
//! 2. A pointer that is passed points at memory of this function's own frame, of the type that the
//!    call reads or fills.

#![expect(unsafe_code, reason = "the calls that nix does not have")]

use std::ffi::OsString;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::MFdFlags;
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use pool_core::fault::{self, Call};
use pool_core::room::RoomError;

use crate::engine::command::{FileIdentity, WorldError};

mod mapping;
mod session;
pub mod socket;

pub use mapping::Mapping;
pub use session::{accept, open_process, pass_descriptors, random_token, unread_by_peer};

/// The operation that libc does not name.
const F_SETSIG: libc::c_int = 10;

/// Files of the pool: the daemon's uid reads and writes, nobody else opens them.
pub const PRIVATE_FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// The directory of such files.
pub const PRIVATE_DIRECTORY: Mode = PRIVATE_FILE.union(Mode::S_IXUSR);

/// A system call failed and changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Which.
    pub call: &'static str,
    /// What the kernel answered.
    pub errno: Errno,
}

impl From<Failed> for WorldError {
    fn from(Failed { call, errno }: Failed) -> Self {
        let errno = errno as i32;
        Self::Os { call, errno }
    }
}

impl From<RoomError> for WorldError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Short {
                available_bytes,
                asked_bytes,
            } => Self::MachineShort {
                available_bytes,
                asked_bytes,
            },
            RoomError::Os { call, errno } => Failed { call, errno }.into(),
        }
    }
}

/// What `statx` tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStatus {
    /// Which file it is.
    pub identity: FileIdentity,
    /// Its type and its permissions, as in `st_mode`.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its length.
    pub bytes: u64,
    /// How much of it is really there.
    pub allocated_bytes: u64,
    /// Its contents are mapped from the medium itself, without a page cache.
    pub dax: bool,
    /// The numbers of the device that it stands for, where it is a device of characters.
    pub stands_for: Option<(u32, u32)>,
}

/// The failure of a call that std made.
#[must_use]
pub fn failed(call: &'static str, error: &std::io::Error) -> Failed {
    // What std says without the kernel is that it has no memory, or does not take what it read.
    let own = match error.kind() {
        ErrorKind::OutOfMemory => Errno::ENOMEM,
        _ => Errno::EILSEQ,
    };
    let errno = error.raw_os_error().map_or(own, Errno::from_raw);
    Failed { call, errno }
}

/// Makes a call, again while a signal interrupts it.
fn made<T>(call: &'static str, mut make: impl FnMut() -> nix::Result<T>) -> Result<T, Failed> {
    loop {
        match make() {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failed { call, errno }),
            Ok(value) => return Ok(value),
        }
    }
}

/// Makes a call of a kind that a test can fail.
fn planned<T>(
    kind: Call,
    call: &'static str,
    mut make: impl FnMut() -> nix::Result<T>,
) -> Result<T, Failed> {
    made(call, || {
        fault::syscall(kind)?;
        make()
    })
}

fn offset(call: &'static str, bytes: u64) -> Result<libc::off_t, Failed> {
    let errno = Errno::EOVERFLOW;
    libc::off_t::try_from(bytes).map_err(|_| Failed { call, errno })
}

/// Makes an anonymous file that is closed on exec and takes seals.
///
/// # Errors
/// Where the kernel has not the memory, or knows not the flags.
pub fn memfd(name: &str, flags: MFdFlags) -> Result<OwnedFd, Failed> {
    let flags = flags | MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    planned(Call::MemfdCreate, "memfd_create", || {
        nix::sys::memfd::memfd_create(name, flags)
    })
}

/// Opens the file of a descriptor anew: a file description of its own.
///
/// `O_NONBLOCK` because a lease that somebody set on the file would otherwise hold the caller up
/// for as long as the kernel lets it; reading, writing and mapping such a file do not mind it.
///
/// # Errors
/// `EACCES` where this process may not open the file, `EWOULDBLOCK` where it is leased.
pub fn reopen(file: BorrowedFd<'_>, access: OFlag) -> Result<OwnedFd, Failed> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    planned(Call::Open, "open", || {
        nix::fcntl::open(path.as_str(), flags, Mode::empty())
    })
}

/// Opens a directory, not following a link in its last part.
///
/// # Errors
/// Where it is not there, or not a directory.
pub fn open_directory(path: &Path) -> Result<OwnedFd, Failed> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    planned(Call::Open, "open", || {
        nix::fcntl::open(path, flags, Mode::empty())
    })
}

/// Makes a directory that only its owner may enter.
///
/// # Errors
/// `EEXIST` where something has that name.
pub fn make_directory(path: &Path) -> Result<(), Failed> {
    made("mkdir", || nix::unistd::mkdir(path, PRIVATE_DIRECTORY))
}

/// Locks a directory against everybody else who locks it, for as long as it is open.
///
/// # Errors
/// `EWOULDBLOCK` where somebody else has it.
pub fn lock(directory: BorrowedFd<'_>) -> Result<(), Failed> {
    planned(Call::Fcntl, "flock", || {
        // SAFETY: invariant 1; it takes numbers and touches no memory of ours.
        let answer = unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        Errno::result(answer).map(drop)
    })
}

/// Opens or makes a file in a directory, not following a link.
///
/// # Errors
/// Where the file is not there, or with `O_EXCL` where it is.
pub fn open_at(directory: BorrowedFd<'_>, name: &str, flags: OFlag) -> Result<OwnedFd, Failed> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    planned(Call::Open, "openat", || {
        nix::fcntl::openat(directory, name, flags, PRIVATE_FILE)
    })
}

/// Takes a name out of a directory.
///
/// # Errors
/// `ENOENT` where nothing has that name.
pub fn unlink_at(directory: BorrowedFd<'_>, name: &str) -> Result<(), Failed> {
    made("unlinkat", || {
        nix::unistd::unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)
    })
}

/// Gives a file of a directory another name in it; what had that name is gone.
///
/// # Errors
/// `ENOENT` where nothing has the name `from`.
pub fn rename_at(directory: BorrowedFd<'_>, from: &str, to: &str) -> Result<(), Failed> {
    made("renameat", || {
        nix::fcntl::renameat(directory, from, directory, to)
    })
}

/// The names in a directory.
///
/// # Errors
/// Where it cannot be read.
pub fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, Failed> {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    planned(Call::Open, "open", || {
        let names = std::fs::read_dir(&path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        names.map_err(|error| failed("open", &error).errno)
    })
}

/// What the kernel tells of a process: the bytes of its `stat`, in which its name may be any.
///
/// # Errors
/// `ENOENT` or `ESRCH` where there is no such process, or no longer.
pub fn stat_of(pid: u32) -> Result<Vec<u8>, Failed> {
    planned(Call::Stat, "read of a process's stat", || {
        let stat = std::fs::read(format!("/proc/{pid}/stat"));
        stat.map_err(|error| failed("stat", &error).errno)
    })
}

/// Gives a file its length.
///
/// # Errors
/// Where the file or the file system does not take it.
pub fn set_length(file: BorrowedFd<'_>, bytes: u64) -> Result<(), Failed> {
    let length = offset("ftruncate", bytes)?;
    planned(Call::Ftruncate, "ftruncate", || {
        nix::unistd::ftruncate(file, length)
    })
}

/// Takes everything from everybody but the owner.
///
/// # Errors
/// Where this process does not own the file.
pub fn make_private(file: BorrowedFd<'_>) -> Result<(), Failed> {
    made("fchmod", || nix::sys::stat::fchmod(file, PRIVATE_FILE))
}

/// Makes a range of a file really be there.
///
/// # Errors
/// `ENOSPC` or `ENOMEM` where there is not enough.
pub fn allocate(file: BorrowedFd<'_>, at: u64, bytes: u64) -> Result<(), Failed> {
    fallocate(file, FallocateFlags::empty(), at, bytes)
}

/// Frees a range of a file: it reads as zeros from now on.
///
/// # Errors
/// Where the file system cannot.
pub fn punch(file: BorrowedFd<'_>, at: u64, bytes: u64) -> Result<(), Failed> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, at, bytes)
}

fn fallocate(
    file: BorrowedFd<'_>,
    flags: FallocateFlags,
    at: u64,
    bytes: u64,
) -> Result<(), Failed> {
    let at = offset("fallocate", at)?;
    let length = offset("fallocate", bytes)?;
    planned(Call::Fallocate, "fallocate", || {
        nix::fcntl::fallocate(file, flags, at, length)
    })
}

/// Adds seals.
///
/// # Errors
/// `EPERM` where the file is sealed against that.
pub fn add_seals(file: BorrowedFd<'_>, seals: SealFlag) -> Result<(), Failed> {
    planned(Call::Fcntl, "F_ADD_SEALS", || {
        nix::fcntl::fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map(drop)
    })
}

/// The seals of a file, with those that nix does not know.
///
/// # Errors
/// `EINVAL` where the file takes none.
pub fn seals(file: BorrowedFd<'_>) -> Result<SealFlag, Failed> {
    planned(Call::Fcntl, "F_GET_SEALS", || {
        nix::fcntl::fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain)
    })
}

/// Whether anybody but the holders of this very file description has the file open or mapped: see
/// [`crate::device::proof`].
///
/// # Errors
/// `EINVAL` where the file system or the machine knows no leases.
pub fn is_open_elsewhere(file: BorrowedFd<'_>) -> Result<bool, Failed> {
    // Whoever opens a leased file has the kernel send its holder a signal, by default SIGIO, which
    // would end the daemon. SIGURG is ignored unless somebody asks for it. The kernel forgets the
    // choice with each lease.
    lease_call(file, "F_SETSIG", F_SETSIG, libc::SIGURG)?;
    match lease_call(file, "F_SETLEASE", libc::F_SETLEASE, libc::F_WRLCK) {
        Ok(()) => {}
        Err(failed) if failed.errno == Errno::EAGAIN => return Ok(true),
        Err(failed) => return Err(failed),
    }
    lease_call(file, "F_SETLEASE", libc::F_SETLEASE, libc::F_UNLCK)?;
    Ok(false)
}

/// Notes on a file description that somebody has it, for as long as it is open or mapped by
/// anybody: see [`crate::device::proof`].
///
/// # Errors
/// `EWOULDBLOCK` where another description is locked against that.
pub fn note_holder(file: BorrowedFd<'_>) -> Result<(), Failed> {
    lock_call(file, libc::LOCK_SH | libc::LOCK_NB)
}

/// Whether another description of the file has that note.
///
/// # Errors
/// Where the kernel has no memory for locks.
pub fn has_holder(file: BorrowedFd<'_>) -> Result<bool, Failed> {
    match lock_call(file, libc::LOCK_EX | libc::LOCK_NB) {
        Ok(()) => {}
        Err(failed) if failed.errno == Errno::EWOULDBLOCK => return Ok(true),
        Err(failed) => return Err(failed),
    }
    lock_call(file, libc::LOCK_UN)?;
    Ok(false)
}

fn lock_call(file: BorrowedFd<'_>, operation: libc::c_int) -> Result<(), Failed> {
    made("flock", || {
        // SAFETY: invariant 1; the call takes a number and touches no memory of ours.
        let answer = unsafe { libc::flock(file.as_raw_fd(), operation) };
        Errno::result(answer).map(drop)
    })
}

fn lease_call(
    file: BorrowedFd<'_>,
    name: &'static str,
    operation: libc::c_int,
    argument: libc::c_int,
) -> Result<(), Failed> {
    planned(Call::Fcntl, name, || {
        // SAFETY: invariant 1; these operations take a number and touch no memory of ours.
        let answer = unsafe { libc::fcntl(file.as_raw_fd(), operation, argument) };
        Errno::result(answer).map(drop)
    })
}

/// What kind of file a descriptor is of, told from what this kernel knows already: a file system
/// in user space that a client controls is not asked, since it might never answer.
///
/// # Errors
/// Where the kernel does not say.
pub fn status(file: BorrowedFd<'_>) -> Result<FileStatus, Failed> {
    let mut filled = MaybeUninit::<libc::statx>::zeroed();
    made("statx", || {
        // SAFETY: invariants 1 and 2; the path is a constant that ends with a zero byte, and the
        // kernel writes at most one `statx` to the last pointer.
        let answer = unsafe {
            libc::statx(
                file.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
                libc::STATX_BASIC_STATS,
                filled.as_mut_ptr(),
            )
        };
        Errno::result(answer).map(drop)
    })?;
    // SAFETY: every field is a number, for which zeros are a value already.
    let status = unsafe { filled.assume_init() };
    Ok(FileStatus {
        identity: FileIdentity {
            device: libc::makedev(status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
        },
        mode: u32::from(status.stx_mode),
        uid: status.stx_uid,
        bytes: status.stx_size,
        // The unit of the field is 512 bytes, whatever the block size of the file system.
        allocated_bytes: status.stx_blocks.saturating_mul(512),
        dax: status.stx_attributes & u64::from(libc::STATX_ATTR_DAX.cast_unsigned()) != 0,
        stands_for: (u32::from(status.stx_mode) & libc::S_IFMT == libc::S_IFCHR)
            .then_some((status.stx_rdev_major, status.stx_rdev_minor)),
    })
}

/// The bytes that this process may still allocate on the file system of `file`.
///
/// # Errors
/// Where the file system does not say.
pub fn free_space(file: BorrowedFd<'_>) -> Result<u64, Failed> {
    let space = made("fstatvfs", || nix::sys::statvfs::fstatvfs(file))?;
    Ok(space
        .blocks_available()
        .saturating_mul(space.fragment_size()))
}

/// Makes the contents, the length and the name (of a directory: the names in it) durable.
///
/// # Errors
/// `EIO` where the medium failed.
pub fn sync(file: BorrowedFd<'_>) -> Result<(), Failed> {
    planned(Call::Sync, "fsync", || nix::unistd::fsync(file))
}

/// Another descriptor of the same file description.
///
/// # Errors
/// `EMFILE` where this process may have no more.
pub fn duplicate(file: BorrowedFd<'_>) -> Result<OwnedFd, Failed> {
    planned(Call::Fcntl, "F_DUPFD_CLOEXEC", || {
        file.try_clone_to_owned()
            .map_err(|error| failed("F_DUPFD_CLOEXEC", &error).errno)
    })
}

/// An event that one thread raises and another polls for.
///
/// # Errors
/// `EMFILE` where this process may have no further descriptor.
pub fn event() -> Result<EventFd, Failed> {
    made("eventfd", || {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
    })
}

/// Makes the event readable.
pub fn raise_event(event: &EventFd) {
    // The kernel refuses one thing: a count past the end of its numbers. The event is raised then.
    let _full = event.write(1);
}

/// Makes the event not readable, until it is raised again.
pub fn take_event(event: &EventFd) {
    // The kernel refuses one thing: to take an event that is not raised.
    let _none = event.read();
}

/// A pipe that is closed on exec: the end to read from, and the end to write to.
///
/// # Errors
/// `EMFILE` where this process may have no further descriptor.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Failed> {
    made("pipe2", || nix::unistd::pipe2(OFlag::O_CLOEXEC))
}
