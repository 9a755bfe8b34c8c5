//! A child process that holds a descriptor: this program once more, with one test of it.
//!
//! The descriptor is the child's standard input, so that no other process inherits it.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use pool_core::{Bytes, EXTENT_BYTES};
use pool_daemon::sys::Mapping;

const ROLE: &str = "TIERPOOL_TEST_ROLE";
/// What the child prints when it has come to where its role begins.
const READY: &str = "child is ready";
const NOBODY: u32 = 65_534;

/// A child that holds `file`, until it is killed.
pub(crate) fn holding(file: OwnedFd) -> Child {
    let mut child = start("hold", file);
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains(READY)));
    child
}

/// Whether another user can do nothing with `file` but read it. `None` where this process may not
/// become one.
pub(crate) fn another_user_is_refused(file: OwnedFd) -> Option<bool> {
    if !geteuid().is_root() {
        return None;
    }
    let ended = start("intrude", file).wait_with_output().unwrap();
    // A child that found no test of its name would be content as well.
    let came_so_far = String::from_utf8_lossy(&ended.stdout).contains(READY);
    Some(came_so_far && ended.status.success())
}

fn start(role: &str, file: OwnedFd) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child::plays_its_role", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::from(file))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does nothing in the program that runs the tests: the children run it.
#[test]
fn plays_its_role() {
    match env::var(ROLE).as_deref() {
        Ok("hold") => {
            println!("{READY}");
            nix::unistd::pause();
        }
        Ok("intrude") => {
            become_nobody();
            try_everything();
            println!("{READY}");
        }
        _ => {}
    }
}

fn become_nobody() {
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(NOBODY)).unwrap();
    setuid(Uid::from_raw(NOBODY)).unwrap();
}

fn try_everything() {
    let file = std::io::stdin();
    let file = file.as_fd();
    for access in [OFlag::O_RDWR, OFlag::O_WRONLY, OFlag::O_RDONLY] {
        let again = open("/proc/self/fd/0", access, Mode::empty());
        assert_eq!(again.unwrap_err(), Errno::EACCES, "{access:?}");
    }
    let mapped = Mapping::of(file, Bytes::new(EXTENT_BYTES));
    assert_eq!(mapped.unwrap_err().errno, Errno::EACCES);
    assert_eq!(fchmod(file, Mode::all()), Err(Errno::EPERM));
    assert_eq!(nix::unistd::write(file, b"x"), Err(Errno::EBADF));
    assert_eq!(nix::unistd::ftruncate(file, 0), Err(Errno::EINVAL));
}
