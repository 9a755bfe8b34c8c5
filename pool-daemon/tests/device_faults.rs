//! The n-th failure of every system call of a device: the error is told, nothing is left behind,
//! and the next call works.

#![cfg(feature = "fault")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

#[path = "support/skipped.rs"]
mod skipped;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use pool_core::fault::{self, Call};
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_daemon::device::copy::{Part, copy};
use pool_daemon::device::file::FileDevice;
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::proof::is_held_elsewhere;
use pool_daemon::device::{Device, NewFile, Place, open_for};
use pool_daemon::engine::command::WorldError;
use pool_daemon::sys;
use pool_proto::common::v1::{Access, Pages};
use skipped::skipped;

const BYTES: Bytes = Bytes::new(2 * EXTENT_BYTES);
/// More calls of one kind than any round makes.
const CALLS_MAX: u64 = 1_000;

/// Plans and descriptors belong to the process, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn backing(number: u64) -> BackingId {
    BackingId::new(number).unwrap()
}

/// What came of one round, and how often `call` was asked for while its failure was planned.
struct Round {
    lived: Result<[Pages; 2], WorldError>,
    calls: u64,
}

/// Everything that is done with files in their life. What was built is destroyed in any case.
fn round(device: &dyn Device, call: Call) -> Round {
    let before = fault::passed(call);
    let disarmed = || {
        let calls = fault::passed(call) - before;
        fault::disarm();
        calls
    };
    let built = [1, 2].map(|number| device.build(backing(number), Place::anywhere(BYTES), false));
    let lived = match &built {
        [Ok(old), Ok(new)] => live(device, old, new).map(|()| [old.pages, new.pages]),
        [Err(error), _] | [_, Err(error)] => Err(error.clone()),
    };
    let calls = disarmed();
    for (number, file) in (1..).zip(&built) {
        if let Ok(new) = file {
            let destroyed = device.destroy(backing(number), new.file.as_fd());
            destroyed.unwrap();
        }
    }
    Round { lived, calls }
}

fn live(device: &dyn Device, old: &NewFile, new: &NewFile) -> Result<(), WorldError> {
    let whole = |new: &NewFile| sys::duplicate(new.file.as_fd());
    let (from, to) = (whole(old)?, whole(new)?);
    let part = |file| Part { file, bytes: BYTES };
    copy(&[part(from.as_fd())], &[part(to.as_fd())])?;
    let given = open_for(new.file.as_fd(), Access::ReadOnly)?;
    assert!(is_held_elsewhere(new.file.as_fd())?);
    drop(given);
    device.find(backing(2), new.identity)?;
    device.destroy(backing(2), new.file.as_fd())
}

/// Fails each call of each kind once, and tells how many failures were met.
fn sweep(device: &dyn Device, nothing_left: impl Fn() -> bool) -> u64 {
    let before = descriptors();
    let mut met = 0;
    for call in Call::ALL {
        for nth in 1..CALLS_MAX {
            fault::arm_failure(call, nth, Errno::EIO, false);
            let Round { lived, calls } = round(device, call);
            assert_eq!(descriptors(), before, "{call:?} {nth}");
            assert!(nothing_left(), "{call:?} {nth}");
            let undisturbed = round(device, call).lived;
            assert!(undisturbed.is_ok(), "{call:?} {nth}: {undisturbed:?}");
            match lived {
                Ok(_) if calls < nth => break,
                // A huge page that cannot be put together is no failure, and is not hidden.
                Ok(pages) => assert!(call == Call::Madvise && pages.contains(&Pages::Base)),
                Err(WorldError::Os { errno, .. }) => assert_eq!(errno, Errno::EIO as i32),
                Err(other) => panic!("{call:?} {nth}: {other}"),
            }
            met += 1;
        }
    }
    met
}

fn sweep_memfd(policy: PagePolicy, node: Option<u32>) {
    let _alone = alone();
    let device = MemfdDevice::new(policy, node, Bytes::ZERO).unwrap();
    let pages = || {
        let text = fs::read_to_string("/proc/self/maps").unwrap();
        !text.contains("memfd:tierpool")
    };
    assert!(sweep(&device, pages) > 20);
}

#[test]
fn anonymous_files_of_base_pages_survive_every_failed_call() {
    sweep_memfd(PagePolicy::Base, None);
}

#[test]
fn anonymous_files_of_huge_pages_survive_every_failed_call() {
    sweep_memfd(PagePolicy::Collapsed, None);
}

#[test]
fn anonymous_files_bound_to_a_node_survive_every_failed_call() {
    if Path::new("/sys/devices/system/node/node0").exists() {
        sweep_memfd(PagePolicy::Collapsed, Some(0));
    } else {
        skipped(
            "anonymous_files_bound_to_a_node_survive_every_failed_call",
            "this kernel knows no nodes",
        );
    }
}

#[test]
fn named_files_survive_every_failed_call() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let device = FileDevice::open(&path).unwrap();
    let names = || fs::read_dir(&path).unwrap().count() == 0;
    assert!(sweep(&device, names) > 15);
}

#[test]
fn a_full_file_system_says_what_it_has() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let device = FileDevice::open(&directory.path().join("device")).unwrap();
    fault::arm_failure(Call::Fallocate, 1, Errno::ENOSPC, false);
    let built = device.build(backing(1), Place::anywhere(BYTES), false);
    fault::disarm();
    match built {
        Err(WorldError::MachineShort { asked_bytes, .. }) => assert_eq!(asked_bytes, BYTES.get()),
        other => panic!("{other:?}"),
    }
    device
        .build(backing(1), Place::anywhere(BYTES), false)
        .unwrap();
}

#[test]
fn a_device_that_cannot_be_set_up_leaves_nothing() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    FileDevice::open(&path).unwrap();
    let before = descriptors();
    for call in Call::ALL {
        for nth in 1..CALLS_MAX {
            let passed = fault::passed(call);
            fault::arm_failure(call, nth, Errno::EIO, false);
            let opened = FileDevice::open(&path).is_ok();
            let made = MemfdDevice::new(PagePolicy::Collapsed, None, Bytes::ZERO).is_ok();
            fault::disarm();
            assert_eq!(descriptors(), before, "{call:?} {nth}");
            if fault::passed(call) - passed < nth {
                assert!(opened && made);
                break;
            }
            assert!(opened != made, "{call:?} {nth}");
        }
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}
