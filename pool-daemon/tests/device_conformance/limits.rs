//! What is particular to one kind of device, and what each refuses.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::ftruncate;
use pool_core::{Bytes, EXTENT_BYTES};
use pool_daemon::device::copy::{Part, copy};
use pool_daemon::device::file::FileDevice;
use pool_daemon::device::identity::{WrongFile, verify};
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device, NewFile, Place, SetupError, open_for};
use pool_daemon::engine::command::WorldError;
use pool_daemon::sys;
use pool_proto::common::v1::Access;

use crate::skipped::skipped;
use crate::subject::{Subject, backing};

const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);

fn short(result: Result<impl Sized, WorldError>) -> bool {
    matches!(
        result,
        Err(WorldError::MachineShort {
            asked_bytes: EXTENT_BYTES,
            ..
        })
    )
}

#[test]
fn a_machine_that_has_not_enough_says_what_it_has() {
    let floor = Bytes::new(u64::MAX);
    for policy in [PagePolicy::Base, PagePolicy::Collapsed] {
        let device = MemfdDevice::new(policy, None, floor).unwrap();
        assert!(
            short(device.build(backing(1), Place::anywhere(EXTENT), false)),
            "{policy:?}"
        );
    }
}

#[test]
fn a_pool_of_huge_pages_that_has_too_few_is_an_error_where_they_are_insisted_on() {
    match MemfdDevice::new(PagePolicy::Hugetlb, None, Bytes::ZERO) {
        Ok(device) => {
            let bytes = Bytes::new(1 << 50);
            let built = device.build(backing(1), Place::anywhere(bytes), false);
            assert!(matches!(built, Err(WorldError::MachineShort { .. })));
        }
        Err(refused) => skipped(
            "a_pool_of_huge_pages_that_has_too_few_is_an_error_where_they_are_insisted_on",
            &format!("this kernel has no huge pages: {refused}"),
        ),
    }
}

#[test]
fn a_node_that_is_not_there_is_an_error() {
    let device = MemfdDevice::new(PagePolicy::Base, Some(1023), Bytes::ZERO).unwrap();
    let refused = device.build(backing(1), Place::anywhere(EXTENT), false);
    assert!(matches!(refused, Err(WorldError::Os { .. })), "{refused:?}");
}

#[test]
fn a_directory_that_others_may_enter_is_no_device() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    FileDevice::open(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o710)).unwrap();
    let refused = FileDevice::open(&path).unwrap_err();
    assert!(
        matches!(refused, SetupError::NotPrivate { mode: 0o710, .. }),
        "{refused}"
    );
}

#[test]
fn a_link_in_the_place_of_the_directory_is_no_device() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    FileDevice::open(&path).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let errno = Errno::ENOTDIR as i32;
    let refused = FileDevice::open(&link).unwrap_err();
    assert_eq!(
        refused,
        SetupError::Os {
            call: "open",
            errno
        }
    );
}

#[test]
fn files_that_nothing_knows_are_removed_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let device = FileDevice::open(&path).unwrap();
    for number in 1..=3 {
        device
            .build(backing(number), Place::anywhere(EXTENT), false)
            .unwrap();
    }
    fs::write(path.join("notes"), "of the operator").unwrap();
    let known = BTreeSet::from([backing(2)]);
    assert_eq!(device.remove_leftovers(&known, &BTreeSet::new()), Ok(2));
    assert_eq!(device.remove_leftovers(&known, &BTreeSet::new()), Ok(0));
    let mut left: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["back-2", "notes"]);
}

#[test]
fn a_name_that_is_taken_is_not_built_over() {
    let subject = Subject::file().unwrap();
    let NewFile { file, identity, .. } = subject.build(1);
    let errno = Errno::EEXIST as i32;
    let refused = subject
        .device
        .build(backing(1), Place::anywhere(EXTENT), false)
        .unwrap_err();
    assert_eq!(
        refused,
        WorldError::Os {
            call: "openat",
            errno
        }
    );
    assert!(subject.device.find(backing(1), identity).unwrap().is_some());
    drop(file);
}

#[test]
fn a_file_cut_short_by_a_writer_is_an_error_of_the_copy_and_no_signal() {
    let subject = Subject::file().unwrap();
    let (old, new) = (subject.build(1), subject.build(2));
    let writer = open_for(old.file.as_fd(), Access::ReadWrite).unwrap();
    ftruncate(&writer, i64::try_from(EXTENT_BYTES + 4096).unwrap()).unwrap();
    let part = |file: &OwnedFd| sys::duplicate(file.as_fd()).unwrap();
    let (from, to) = (part(&old.file), part(&new.file));
    let bytes = Bytes::new(2 * EXTENT_BYTES);
    let whole = |file| Part { file, bytes };
    let copied = copy(&[whole(from.as_fd())], &[whole(to.as_fd())]);
    let errno = Errno::ENODATA as i32;
    assert_eq!(
        copied,
        Err(WorldError::Os {
            call: "pread",
            errno
        })
    );
    let found = verify(old.file.as_fd(), old.identity, bytes, false);
    assert!(matches!(found, Err(WrongFile::Length { .. })), "{found:?}");
}

#[test]
fn a_file_that_others_may_open_or_that_lacks_seals_is_not_ours() {
    let file = memfd_create("other", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&file, i64::try_from(EXTENT_BYTES).unwrap()).unwrap();
    let identity = sys::status(file.as_fd()).unwrap().identity;
    let judged = || verify(file.as_fd(), identity, EXTENT, true);
    assert!(
        matches!(judged(), Err(WrongFile::Permissions { .. })),
        "{:?}",
        judged()
    );
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    assert_eq!(judged(), Err(WrongFile::Seals { found: 0 }));
}

#[test]
fn a_descriptor_that_only_names_a_file_is_told_like_any_other() {
    let subject = Subject::base().unwrap();
    let new = subject.build(1);
    let named = sys::reopen(new.file.as_fd(), OFlag::O_PATH).unwrap();
    let found = sys::status(named.as_fd()).unwrap();
    assert_eq!(found.identity, new.identity);
}
