//! Whose a host of a fabric is: one daemon's at a time.
//!
//! Two daemons that speak for one host answer each other's offers, take each other's memory for
//! lost and give back each other's files. So a daemon locks `hostN.lock` in the directory that the
//! fabric is served in, which is made where it is missing: the fabric may come later. The kernel
//! lets go of the lock when the process has ended, however it ends; so its successor has it at
//! once. What stands in the file is for people: who has it.
//!
//! # Invariants
//! 1. A lock file is never removed, for whoever has it open would lock another one than who comes.
//! 2. What is written in it counts for nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::config::FabricSource;
use crate::sys::{self, Failed};

/// As much of what stands in a lock file as is told.
const TOLD_BYTES_MAX: u64 = 512;

/// A host cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Another daemon speaks for it. Stop that one, or name another host.
    #[error(
        "host {host} of the fabric in {} is another daemon's ({holder}): stop that one, or give \
         this one a host of its own",
        directory.display()
    )]
    Taken {
        /// Which.
        host: u16,
        /// Where the fabric is served.
        directory: PathBuf,
        /// What that daemon says of itself.
        holder: String,
    },
    /// A system call failed. Name the directory that the fabric is served in, which has to be this
    /// user's.
    #[error(
        "host {host} of the fabric in {} cannot be claimed: {call}: {errno}: name the directory \
         that it is served in, as the user who serves it",
        directory.display()
    )]
    Os {
        /// Which.
        host: u16,
        /// Where the fabric is to be served.
        directory: PathBuf,
        /// The system call.
        call: &'static str,
        /// What it answered.
        errno: Errno,
    },
}

/// The hosts that are this daemon's, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Claims {
    _locked: Vec<fs::File>,
}

impl Claims {
    /// Claims the host of each source; `who` says to others whose it is then.
    ///
    /// # Errors
    /// [`ClaimError`] for the first one that cannot be had; none is claimed.
    pub(crate) fn take<'a>(
        sources: impl Iterator<Item = &'a FabricSource>,
        who: &str,
    ) -> Result<Self, ClaimError> {
        // Several devices may be of one host.
        let mut hosts = BTreeMap::new();
        for source in sources {
            let directory = made(&source.directory).map_err(|failed| os(source, failed))?;
            hosts.insert((directory, source.host), source);
        }
        let locked = hosts.iter();
        let locked = locked.map(|((directory, _), source)| lock(source, directory, who));
        let _locked = locked.collect::<Result<_, _>>()?;
        Ok(Self { _locked })
    }
}

/// The directory, by the one name that has no link in it.
fn made(path: &Path) -> Result<PathBuf, Failed> {
    match sys::make_directory(path) {
        Err(failed) if failed.errno != Errno::EEXIST => return Err(failed),
        Ok(()) | Err(_) => {}
    }
    fs::canonicalize(path).map_err(|error| sys::failed("realpath", &error))
}

fn lock(source: &FabricSource, directory: &Path, who: &str) -> Result<fs::File, ClaimError> {
    let failed = |failed| os(source, failed);
    let name = format!("host{}.lock", source.host);
    let opened = sys::open_directory(directory).map_err(failed)?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT;
    let file = sys::open_at(opened.as_fd(), &name, flags).map_err(failed)?;
    let locked = sys::lock(file.as_fd());
    let mut file = fs::File::from(file);
    match locked {
        Ok(()) => {}
        Err(Failed { errno, .. }) if errno == Errno::EWOULDBLOCK => {
            return Err(ClaimError::Taken {
                host: source.host,
                directory: source.directory.clone(),
                holder: told(&file),
            });
        }
        Err(other) => return Err(failed(other)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(who.as_bytes()));
    if let Err(error) = written {
        // It is this daemon's all the same.
        tracing::warn!(%error, name, "nobody can be told whose the host is");
    }
    Ok(file)
}

/// What stands in a lock file, fit to be shown.
fn told(file: &fs::File) -> String {
    let mut text = Vec::new();
    let is_read = file.take(TOLD_BYTES_MAX).read_to_end(&mut text).is_ok();
    let text = String::from_utf8_lossy(&text);
    let shown: String = text.chars().filter(|it| !it.is_control()).collect();
    if is_read && !shown.is_empty() {
        shown
    } else {
        "which has not said who it is".to_owned()
    }
}

fn os(source: &FabricSource, Failed { call, errno }: Failed) -> ClaimError {
    ClaimError::Os {
        host: source.host,
        directory: source.directory.clone(),
        call,
        errno,
    }
}

/// What this process says of itself where it claims a host.
pub(crate) fn this_daemon(runtime_dir: &Path) -> String {
    format!(
        "process {}, runtime_dir {}",
        std::process::id(),
        runtime_dir.display()
    )
}

#[cfg(test)]
mod tests {
    use pool_core::{Bytes, Nanos};

    use super::*;

    fn source(directory: &Path, host: u16) -> FabricSource {
        FabricSource {
            directory: directory.to_owned(),
            host,
            memdev: 0,
            ld: 0,
            region: 0,
            shared: false,
            step: Bytes::ZERO,
            low: Bytes::ZERO,
            high: Bytes::ZERO,
            idle: Nanos::ZERO,
            patience: Nanos::ZERO,
        }
    }

    #[test]
    fn a_host_is_claimed_once_under_whatever_name_and_told_whose_it_is_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("fabric");
        let take = |sources: &[FabricSource], who| Claims::take(sources.iter(), who);
        // Two devices of one host, before there is a fabric.
        let ours = [source(&directory, 0), source(&directory, 0)];
        let claims = take(&ours, "the first\n").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        let theirs = [source(&link, 1), source(&link, 0)];
        let Err(ClaimError::Taken { host, holder, .. }) = take(&theirs, "x") else {
            panic!("it is taken");
        };
        assert_eq!((host, holder.as_str()), (0, "the first"));
        let other = take(&theirs[..1], "what was claimed besides was let go of").unwrap();
        drop((claims, other));
        take(&theirs, "the second").unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("a/b");
        let refused = Claims::take([source(&missing, 3)].iter(), "x").unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("mkdir") && said.contains("host 3"), "{said}");
    }
}
