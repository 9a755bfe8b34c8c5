//! The folder in which the demonstration runs, and what becomes of it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::error::DemoError;
use crate::error::CtlError;

/// This user's alone.
const MODE: u32 = 0o700;

/// The folder; one that was not asked for is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    temporary: Option<TempDir>,
}

impl Place {
    /// The folder that is to be kept, which is made where it is missing, or a temporary one.
    pub(super) fn make(keep: Option<&Path>) -> Result<Self, DemoError> {
        match keep {
            Some(folder) => Self::at(folder).map_err(|source| DemoError::Folder {
                folder: folder.to_owned(),
                source,
            }),
            None => Self::temporary().map_err(|source| DemoError::Folder {
                folder: std::env::temp_dir(),
                source,
            }),
        }
    }

    fn at(folder: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(MODE).create(folder)?;
        if fs::read_dir(folder)?.next().is_some() {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        Ok(Self {
            folder: folder.canonicalize()?,
            temporary: None,
        })
    }

    fn temporary() -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tierpool-demo-")
            .permissions(fs::Permissions::from_mode(MODE))
            .tempdir()?;
        Ok(Self {
            folder: folder.path().canonicalize()?,
            temporary: Some(folder),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The demonstration is over: what is left here is kept where it failed, for who looks why.
    pub(super) fn leave(self, shown: Result<(), CtlError>) -> Result<(), CtlError> {
        let Self { folder, temporary } = self;
        match shown {
            Ok(()) => match temporary.map(TempDir::close) {
                Some(Err(source)) => Err(CtlError::File {
                    path: folder,
                    source,
                }),
                _ => Ok(()),
            },
            // Nothing is wrong with what was shown.
            Err(error) if error.is_broken_pipe() => Err(error),
            Err(CtlError::Demo(DemoError::Interrupted)) => Err(DemoError::Interrupted.into()),
            Err(error) => {
                let kept = temporary.map(TempDir::keep);
                let cause = Box::new(error);
                Err(CtlError::DemoFailed {
                    cause,
                    folder: kept.unwrap_or(folder),
                })
            }
        }
    }
}
