//! The keeper as a process of its own: what it is for is to outlive the daemon.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

#[cfg(feature = "fault")]
mod faults;
mod process;
#[path = "../support/skipped.rs"]
mod skipped;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getsid;
use pool_core::clock::{Deadline, eventually};
use pool_core::{BackingId, Nanos, packet};
use pool_daemon::device::proof;
use pool_daemon::store::{DescriptorStore, StoreError};
use pool_daemon::sys;

use process::{Home, backing, file, inode};
use skipped::skipped;

fn put_each(store: &mut dyn DescriptorStore, files: &[(BackingId, OwnedFd)]) {
    for (backing, file) in files {
        store.put(*backing, file.as_fd()).unwrap();
    }
}

fn borrowed(files: &[(BackingId, OwnedFd)]) -> Vec<(BackingId, BorrowedFd<'_>)> {
    files
        .iter()
        .map(|(backing, file)| (*backing, file.as_fd()))
        .collect()
}

fn inodes(files: &[(BackingId, OwnedFd)]) -> Vec<(BackingId, u64)> {
    files
        .iter()
        .map(|(backing, file)| (*backing, inode(file)))
        .collect()
}

fn files(numbers: impl IntoIterator<Item = u64>) -> Vec<(BackingId, OwnedFd)> {
    numbers
        .into_iter()
        .map(|number| (backing(number), file()))
        .collect()
}

#[test]
fn what_was_put_is_there_for_the_next_daemon() {
    let home = Home::new();
    // More than two batches of a list.
    let put = files(1..=150);
    let mut first = home.keeper();
    assert_eq!(first.recover().unwrap().len(), 0);
    put_each(&mut first, &put);
    drop(first);
    let mut second = home.keeper();
    let found = second.recover().unwrap();
    assert_eq!(inodes(&found), inodes(&put));
    // And for the one after that, all the same.
    assert_eq!(second.recover().unwrap().len(), put.len());
    second.end().unwrap();
}

#[test]
fn what_comes_back_is_a_master_and_what_is_kept_does_not_count() {
    let home = Home::new();
    let mut keeper = home.keeper();
    let master = process::sealed_file();
    keeper.put(backing(1), master.as_fd()).unwrap();
    let came_back = keeper.recover().unwrap().remove(0).1;
    for file in [&master, &came_back] {
        assert!(!proof::is_held_elsewhere(file.as_fd()).unwrap());
    }
    drop(master);
    assert!(!proof::is_held_elsewhere(came_back.as_fd()).unwrap());
    keeper.end().unwrap();
}

#[test]
fn a_daemon_killed_right_after_it_put_has_lost_nothing() {
    for round in 1..=20 {
        let home = Home::new();
        home.keeper();
        process::daemon_that_puts_and_is_killed(&home, round);
        let mut keeper = home.keeper();
        let found = keeper.recover().unwrap();
        let numbers = found.iter().map(|(backing, _)| backing.number());
        assert!(numbers.eq(1..=round), "{round}");
        keeper.end().unwrap();
    }
}

#[test]
fn what_was_removed_is_closed() {
    let home = Home::new();
    let mut keeper = home.keeper();
    let (reader, writer) = sys::pipe().unwrap();
    keeper.put(backing(1), writer.as_fd()).unwrap();
    drop(writer);
    keeper.remove(backing(1)).unwrap();
    // The end of the pipe has come: nobody has the other end open.
    let mut byte = [0];
    assert_eq!(nix::unistd::read(&reader, &mut byte), Ok(0));
    keeper.remove(backing(1)).unwrap();
    assert_eq!(keeper.count(), Ok(0));
    keeper.end().unwrap();
}

#[test]
fn a_keeper_has_nothing_to_do_with_the_session_of_its_daemon() {
    let home = Home::new();
    let keeper = home.keeper();
    let pid = process::pid_of(&keeper);
    assert_ne!(getsid(Some(pid)), getsid(None));
    let links =
        ["fd/0", "fd/1", "fd/2"].map(|fd| Path::new("/proc").join(pid.to_string()).join(fd));
    for link in links {
        assert_eq!(fs::read_link(link).unwrap(), Path::new("/dev/null"));
    }
    keeper.end().unwrap();
}

#[test]
fn a_keeper_that_died_is_replaced_and_told_everything_again() {
    let home = Home::new();
    let mut keeper = home.keeper();
    let put = files(1..=100);
    put_each(&mut keeper, &put);
    let pid = process::pid_of(&keeper);
    kill(pid, Signal::SIGKILL).unwrap();
    packet::wait_readable(keeper.connection().unwrap(), soon()).unwrap();
    let gone = eventually(soon(), || keeper.count().err());
    assert_eq!(gone, Ok(StoreError::Gone));
    assert_eq!(
        keeper.put(put[0].0, put[0].1.as_fd()),
        Err(StoreError::Gone)
    );
    assert!(keeper.connection().is_none());
    keeper.refill(&borrowed(&put)).unwrap();
    assert_ne!(process::pid_of(&keeper), pid);
    assert_eq!(inodes(&keeper.recover().unwrap()), inodes(&put));
    keeper.end().unwrap();
}

#[test]
fn a_keeper_that_is_found_again_holds_exactly_what_it_should() {
    let home = Home::new();
    let mut keeper = home.keeper();
    put_each(&mut keeper, &files(1..=100));
    let pid = process::pid_of(&keeper);
    let wanted = files(50..=130);
    keeper.refill(&borrowed(&wanted)).unwrap();
    assert_eq!(process::pid_of(&keeper), pid);
    assert_eq!(inodes(&keeper.recover().unwrap()), inodes(&wanted));
    keeper.end().unwrap();
}

#[test]
fn a_keeper_that_is_told_to_end_is_gone() {
    let home = Home::new();
    let keeper = home.keeper();
    let pid = process::pid_of(&keeper);
    keeper.end().unwrap();
    assert!(!home.socket().exists());
    assert!(kill(pid, None).is_err());
}

#[test]
fn a_socket_that_nobody_listens_to_is_replaced() {
    let home = Home::new();
    drop(UnixListener::bind(home.socket()).unwrap());
    assert!(
        fs::symlink_metadata(home.socket())
            .unwrap()
            .file_type()
            .is_socket()
    );
    let mut keeper = home.keeper();
    assert_eq!(keeper.count(), Ok(0));
    keeper.end().unwrap();
}

#[test]
fn the_socket_is_for_this_user_alone() {
    let home = Home::new();
    let mut keeper = home.keeper();
    let found = fs::metadata(home.socket()).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600);
    match process::another_user_is_refused(&home) {
        Some(refused) => assert!(refused),
        None => skipped(
            "the_socket_is_for_this_user_alone",
            "only root can become another user",
        ),
    }
    // Also where the permissions do not keep it out.
    fs::set_permissions(home.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    match process::another_user_is_refused(&home) {
        Some(refused) => assert!(refused),
        None => skipped(
            "the_socket_is_for_this_user_alone",
            "only root can become another user",
        ),
    }
    // The other user came in the place of this one, and was sent away.
    keeper.refill(&[]).unwrap();
    keeper.end().unwrap();
}

#[test]
fn a_program_that_is_no_keeper_is_an_error() {
    let home = Home::new();
    for program in ["/bin/true", "/bin/false", "/nonexistent"] {
        let refused =
            pool_daemon::store::keeper::Keeper::connect_or_spawn(home.path(), Path::new(program));
        assert!(refused.is_err(), "{program}");
    }
}

#[test]
#[cfg(feature = "fault")]
fn the_failure_of_any_call_is_told_and_mended_by_connecting_anew() {
    process::daemon_whose_calls_fail(&Home::new());
}

fn soon() -> Deadline {
    Deadline::after(Nanos::from_millis(30_000))
}
