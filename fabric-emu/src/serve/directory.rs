//! The directory that a fabric is served in: this user's alone, and one server's at a time.
//!
//! Sockets are bound and connected by way of the open directory, so that the length of its path
//! does not count: the kernel takes 107 bytes for the whole name of a socket.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::names::{self, Door};

/// Connections that wait to be taken.
const BACKLOG: i32 = 64;

/// A directory cannot be served in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Others may enter it. Take their permissions away, or name another one.
    #[error(
        "{} is of user {owner} and mode {mode:03o}: it has to be this user's and of mode 700",
        path.display()
    )]
    NotPrivate {
        /// Where it is.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Another server serves in it. Stop that one, or name another directory.
    #[error("another server serves in {}: stop it, or name another directory", path.display())]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// A system call failed. Mend what it says.
    #[error("cannot serve in {}: {call}: {errno}", path.display())]
    Os {
        /// Where it is.
        path: PathBuf,
        /// The system call.
        call: &'static str,
        /// What it answered.
        errno: Errno,
    },
}

/// A directory that this process serves in. Its sockets are removed when it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    locked: Flock<OwnedFd>,
}

impl Directory {
    /// Makes the directory where it is missing, locks it, and removes what a server left that was
    /// killed.
    pub(super) fn take(path: &Path) -> Result<Self, DirectoryError> {
        let refused = |call| os(path, call);
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(refused("mkdir")(errno_of(&error)));
            }
            Ok(()) | Err(_) => {}
        }
        let opened = open_directory(path).map_err(refused("open"))?;
        let status = nix::sys::stat::fstat(opened.as_fd()).map_err(refused("fstat"))?;
        let (owner, mode) = (status.st_uid, status.st_mode & 0o7777);
        let path = path.to_owned();
        if owner != geteuid().as_raw() || mode & 0o077 != 0 {
            return Err(DirectoryError::NotPrivate { path, owner, mode });
        }
        let locked = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((_, Errno::EWOULDBLOCK)) => return Err(DirectoryError::InUse { path }),
            Err((_, errno)) => return Err(os(&path, "flock")(errno)),
        };
        let taken = Self { path, locked };
        taken.clear()?;
        Ok(taken)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Listens at a door.
    pub(super) fn listen(&self, door: Door) -> Result<UnixListener, DirectoryError> {
        let refused = |call| os(&self.path, call);
        let listener = socket_of(kind_of(door)).map_err(refused("socket"))?;
        // The directory keeps others out, whatever the mask of this process.
        let name = within(self.locked.as_fd(), &door.to_string());
        let address = UnixAddr::new(&name).map_err(refused("bind"))?;
        bind(listener.as_raw_fd(), &address).map_err(refused("bind"))?;
        let backlog = Backlog::new(BACKLOG).map_err(refused("listen"))?;
        listen(&listener, backlog).map_err(refused("listen"))?;
        Ok(listener.into())
    }

    /// Removes all sockets that have names of ours.
    fn clear(&self) -> Result<(), DirectoryError> {
        let refused = |error: std::io::Error| os(&self.path, "unlink")(errno_of(&error));
        let all = fs::read_dir(within(self.locked.as_fd(), ".")).map_err(refused)?;
        for entry in all {
            let entry = entry.map_err(refused)?;
            let is_socket = entry.file_type().map_err(refused)?.is_socket();
            let name = entry.file_name();
            if is_socket && name.to_str().is_some_and(names::is_of_a_door) {
                fs::remove_file(entry.path()).map_err(refused)?;
            }
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays is removed by the next server here.
        let _removed = self.clear();
    }
}

/// Connects to a socket of a served fabric, without waiting. `EAGAIN`: as many wait as may.
pub(super) fn connect_to(path: &Path, kind: SockType) -> Result<OwnedFd, Errno> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or(Errno::EINVAL)?;
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = open_directory(parent.unwrap_or(Path::new(".")))?;
    let address = UnixAddr::new(&within(directory.as_fd(), name))?;
    let made = socket_of(kind)?;
    connect(made.as_raw_fd(), &address)?;
    Ok(made)
}

const fn kind_of(door: Door) -> SockType {
    match door {
        Door::Memory(_) => SockType::SeqPacket,
        Door::Cci(_) | Door::Control => SockType::Stream,
    }
}

fn socket_of(kind: SockType) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, kind, flags, None)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
}

fn within(directory: BorrowedFd<'_>, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

fn os(path: &Path, call: &'static str) -> impl Fn(Errno) -> DirectoryError {
    let path = path.to_owned();
    move |errno| DirectoryError::Os {
        path: path.clone(),
        call,
        errno,
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
