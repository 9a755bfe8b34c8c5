//! What a file is like when it was built, and what is left of it when it was destroyed.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::unistd::{ftruncate, geteuid};
use pool_core::{Bytes, EXTENT_BYTES};
use pool_daemon::device::identity::verify;
use pool_daemon::device::open_for;
use pool_daemon::engine::command::FileIdentity;
use pool_daemon::sys::{self, Mapping};
use pool_proto::common::v1::{Access, Pages};

use crate::child;
use crate::contents::is_all_zeros;
use crate::skipped::skipped;
use crate::subject::{EXTENTS, Subject, backing};

const BYTES: u64 = EXTENTS * EXTENT_BYTES;

pub(crate) fn a_fresh_file_is_private_zeroed_and_all_there(subject: &Subject) {
    let new = subject.build(1);
    assert!(subject.pages.contains(&new.pages), "{:?}", new.pages);
    let file = File::from(new.file);
    let found = file.metadata().unwrap();
    if subject.measured {
        assert_eq!(found.len(), BYTES);
        assert!(found.blocks() * 512 >= BYTES, "{} blocks", found.blocks());
    }
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(found.uid(), geteuid().as_raw());
    let identity = (new.identity.device, new.identity.inode);
    assert_eq!(identity, (found.dev(), found.ino()));
    assert!(is_all_zeros(&file, BYTES));
    let bytes = Bytes::new(BYTES);
    assert_eq!(
        verify(file.as_fd(), new.identity, bytes, subject.sealed),
        Ok(())
    );
}

pub(crate) fn a_file_that_may_be_shared_never_consists_of_hugetlb_pages(subject: &Subject) {
    let new = subject.build_for(1, EXTENTS, true);
    assert_ne!(new.pages, Pages::Hugetlb);
    let found = File::from(new.file).metadata().unwrap();
    assert!(!subject.measured || found.blocks() * 512 >= BYTES);
}

pub(crate) fn nobody_resizes_or_seals_a_sealed_file(subject: &Subject) {
    if !subject.sealed {
        return; // Files of a file system take no seals, and are shared with nobody.
    }
    let new = subject.build(1);
    let given = open_for(new.file.as_fd(), Access::ReadWrite).unwrap();
    // A device has no length to be changed, and knows no seals.
    let refused = if subject.measured {
        Errno::EPERM
    } else {
        Errno::EINVAL
    };
    for length in [0, EXTENT_BYTES, 2 * BYTES] {
        let length = i64::try_from(length).unwrap();
        assert_eq!(ftruncate(&given, length), Err(refused), "{length}");
    }
    for seal in [
        SealFlag::F_SEAL_WRITE,
        SealFlag::F_SEAL_FUTURE_WRITE,
        SealFlag::F_SEAL_SEAL,
    ] {
        let sealed = fcntl(&given, FcntlArg::F_ADD_SEALS(seal));
        assert_eq!(sealed, Err(refused), "{seal:?}");
    }
    let bytes = Bytes::new(BYTES);
    assert_eq!(verify(given.as_fd(), new.identity, bytes, true), Ok(()));
}

pub(crate) fn a_reader_maps_and_writes_nothing(subject: &Subject) {
    let new = subject.build(1);
    let given = open_for(new.file.as_fd(), Access::ReadOnly).unwrap();
    let mapped = Mapping::of(given.as_fd(), Bytes::new(BYTES));
    assert_eq!(mapped.unwrap_err().errno, Errno::EACCES);
    let written = File::from(given).write_at(b"x", 0);
    assert_eq!(
        written.unwrap_err().raw_os_error(),
        Some(Errno::EBADF as i32)
    );
}

pub(crate) fn another_user_gets_no_more_than_was_given(subject: &Subject) {
    let new = subject.build(1);
    let given = open_for(new.file.as_fd(), Access::ReadOnly).unwrap();
    match child::another_user_is_refused(given) {
        Some(refused) => assert!(refused),
        None => skipped(
            "another_user_gets_no_more_than_was_given",
            "only root can become another user",
        ),
    }
}

pub(crate) fn a_file_is_found_by_its_name_or_has_none(subject: &Subject) {
    let new = subject.build(7);
    let found = subject.device.find(backing(7), new.identity).unwrap();
    assert_eq!(found.is_some(), subject.named);
    if let Some(found) = found {
        let bytes = Bytes::new(BYTES);
        assert_eq!(
            verify(found.as_fd(), new.identity, bytes, subject.sealed),
            Ok(())
        );
    }
    let other = FileIdentity {
        device: new.identity.device,
        inode: new.identity.inode + 1_000_000,
    };
    assert!(subject.device.find(backing(8), other).unwrap().is_none());
}

pub(crate) fn a_destroyed_file_leaves_no_pages(subject: &Subject) {
    let new = subject.build(1);
    // It is not seen by the proof of release.
    let named = File::from(sys::reopen(new.file.as_fd(), OFlag::O_PATH).unwrap());
    let file = File::from(new.file);
    // Destroyed again as by a daemon that died before it wrote down that it had.
    for _ in 0..2 {
        subject.device.destroy(backing(1), file.as_fd()).unwrap();
        let found = subject.device.find(backing(1), new.identity).unwrap();
        assert!(found.is_none());
    }
    drop(file);
    let found = named.metadata().unwrap();
    assert_eq!((found.nlink(), found.blocks()), (0, 0));
    let again: OwnedFd = subject.build(1).file;
    drop(again);
}
