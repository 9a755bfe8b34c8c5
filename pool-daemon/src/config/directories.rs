//! The directories the daemon needs, made where they are missing and not trusted where they are not
//! the daemon's own.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Daemon;
use crate::sys;

/// Others may reach the sockets in it.
const SHARED: u32 = 0o755;
/// Nobody else may look into it.
const PRIVATE: u32 = 0o700;
/// What nobody but the owner may do: whoever writes here replaces a socket or the journal.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory cannot be used. Mend it, or configure another one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A system call failed.
    #[error("cannot use the directory {path}: {source}")]
    Failed {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is there, and is no directory of this daemon's user alone.
    #[error(
        "{path} must be a directory that user {uid} owns and nobody else may write to; it has \
         owner {owner} and mode {mode:o}"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// The daemon's user.
        uid: u32,
        /// Who owns it.
        owner: u32,
        /// Its type and permissions.
        mode: u32,
    },
    /// Another daemon has it. Stop that one, or choose another directory.
    #[error("another daemon uses the directory {path}: stop it, or choose another runtime_dir")]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

impl Daemon {
    /// Makes the runtime and the state directory where they are missing, and checks that they are
    /// ours.
    ///
    /// The state directory is private. The runtime directory is as well, unless the session socket
    /// is for other users: they must reach it.
    ///
    /// # Errors
    /// [`DirectoryError`] for the first one that cannot be used.
    pub fn make_directories(&self) -> Result<(), DirectoryError> {
        let for_others = self.session_mode & 0o066 != 0;
        make(&self.runtime_dir, if for_others { SHARED } else { PRIVATE })?;
        make(&self.state_dir, PRIVATE)
    }

    /// Takes the runtime directory, and so its sockets and its keeper, for as long as what is
    /// returned stays open.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`] where another daemon has it.
    pub fn lock_runtime_dir(&self) -> Result<OwnedFd, DirectoryError> {
        let path = self.runtime_dir.clone();
        let locked = sys::open_directory(&path).and_then(|directory| {
            sys::lock(directory.as_fd())?;
            Ok(directory)
        });
        locked.map_err(|failed| match failed.errno {
            Errno::EWOULDBLOCK => DirectoryError::InUse { path },
            errno => DirectoryError::Failed {
                path,
                source: errno.into(),
            },
        })
    }
}

fn make(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Failed {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(SHARED)
            .create(parent)
            .map_err(failed)?;
    }
    match DirBuilder::new().mode(PRIVATE).create(path) {
        // Not by the mode it is made with: the process's mask would take from that.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let uid = nix::unistd::geteuid().as_raw();
    if found.is_dir() && found.uid() == uid && found.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    let (owner, mode) = (found.uid(), found.mode());
    Err(DirectoryError::Foreign {
        path: path.to_owned(),
        uid,
        owner,
        mode,
    })
}
