//! The service manager's descriptor store, with a manager played by the test.
//!
//! The service is this program once more: what it is told by its environment cannot be had
//! otherwise.

#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use pool_core::clock::Deadline;
use pool_core::{BackingId, Nanos, packet};
use pool_daemon::store::systemd::ServiceManager;
use pool_daemon::store::{DescriptorStore, StoreError};
use tempfile::TempDir;

const ROLE: &str = "TIERPOOL_TEST_ROLE";
/// As the descriptor of a socket or a config file, passed for somebody else.
const FOREIGN: &str = "listener";

fn backing(number: u64) -> BackingId {
    BackingId::new(number).unwrap()
}

fn file() -> OwnedFd {
    memfd_create("kept", MFdFlags::MFD_CLOEXEC).unwrap()
}

fn inode(file: &OwnedFd) -> u64 {
    File::from(file.try_clone().unwrap())
        .metadata()
        .unwrap()
        .ino()
}

/// What the manager does with messages, in their order.
struct Manager {
    _directory: TempDir,
    path: String,
    socket: UnixDatagram,
    kept: BTreeMap<String, Vec<OwnedFd>>,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        Self {
            path: path.to_str().unwrap().to_owned(),
            socket: UnixDatagram::bind(path).unwrap(),
            kept: BTreeMap::new(),
            _directory: directory,
        }
    }

    /// Starts a service with this role, one descriptor passed under `name`.
    fn start(&self, role: &str, passed: &OwnedFd, name: &str) -> Child {
        // The shell has the pid that the service will have.
        let script = "exec 3<&0; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
        Command::new("/bin/sh")
            .args(["-c", script])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "plays_its_role", "--nocapture"])
            .env(ROLE, role)
            .env("NOTIFY_SOCKET", &self.path)
            .env("FDSTORE", "2")
            .env("TIERPOOL_FDSTORE", "9")
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", name)
            .stdin(Stdio::from(passed.try_clone().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Handles one message, and tells its text.
    fn handle_one(&mut self) -> String {
        let mut buffer = [0; 4096];
        let deadline = Deadline::after(Nanos::from_millis(30_000));
        let got = packet::receive_by(self.socket.as_fd(), &mut buffer, deadline).unwrap();
        let text = String::from_utf8(buffer[..got.len].to_vec()).unwrap();
        let says = |line: &str| text.lines().any(|one| one == line);
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        if says("FDSTORE=1") {
            let kept = self.kept.entry(name.unwrap().to_owned()).or_default();
            kept.extend(got.descriptors);
        } else if says("FDSTOREREMOVE=1") {
            self.kept.remove(name.unwrap());
        } else {
            // The barrier's pipe is closed here.
            assert_eq!((text.as_str(), got.descriptors.len()), ("BARRIER=1\n", 1));
        }
        text
    }
}

#[test]
fn a_descriptor_is_kept_before_the_put_returns_and_let_go_before_the_remove_does() {
    let mut manager = Manager::new();
    let passed = file();
    let mut service = manager.start("puts", &passed, FOREIGN);
    // Put, barrier, put, barrier, remove, barrier: each waits for the one before.
    for (name, count) in [("back-1", 1), ("back-2", 2)] {
        let text = manager.handle_one();
        assert!(text.contains(&format!("FDNAME={name}\n")), "{text}");
        assert_eq!(manager.kept.len(), count);
        assert_eq!(manager.kept[name].len(), 1);
        manager.handle_one();
    }
    manager.handle_one();
    assert_eq!(manager.kept.keys().collect::<Vec<_>>(), ["back-2"]);
    manager.handle_one();
    assert!(service.wait().unwrap().success());
}

#[test]
fn a_manager_that_closes_the_barrier_late_holds_the_put_up() {
    let mut manager = Manager::new();
    let passed = file();
    let mut service = manager.start("puts", &passed, FOREIGN);
    manager.handle_one();
    // The next message is the barrier: nothing was put beyond it.
    let mut buffer = [0; 64];
    let deadline = Deadline::after(Nanos::from_millis(30_000));
    let barrier = packet::receive_by(manager.socket.as_fd(), &mut buffer, deadline).unwrap();
    let next = packet::receive(manager.socket.as_fd(), &mut [0; 64]);
    assert_eq!(next.unwrap_err(), packet::PacketError::WouldBlock);
    drop(barrier);
    for _ in 0..4 {
        manager.handle_one();
    }
    assert!(service.wait().unwrap().success());
}

#[test]
fn what_was_kept_comes_back_under_its_name_as_the_same_description() {
    let manager = Manager::new();
    let kept = file();
    nix::unistd::write(&kept, b"contents").unwrap();
    let mut service = manager.start("recovers", &kept, "back-7");
    assert!(service.wait().unwrap().success());
    // The service moved the offset, which belongs to the description.
    let mut rest = [0; 8];
    assert_eq!(nix::unistd::read(&kept, &mut rest), Ok(6));
}

#[test]
fn a_refill_leaves_exactly_what_is_wanted() {
    let mut manager = Manager::new();
    let passed = file();
    let mut service = manager.start("refills", &passed, FOREIGN);
    // A put, a removal and two puts, with a barrier each.
    for _ in 0..8 {
        manager.handle_one();
    }
    assert!(service.wait().unwrap().success());
    assert!(manager.kept.keys().eq(["back-1", "back-2"]));
}

#[test]
fn without_a_manager_or_its_store_there_is_no_store() {
    let manager = Manager::new();
    let mut service = manager.start("has no store", &file(), FOREIGN);
    assert!(service.wait().unwrap().success());
}

/// Does nothing in the program that runs the tests: the services run it.
#[test]
fn plays_its_role() {
    match env::var(ROLE).as_deref() {
        Ok("puts") => puts(),
        Ok("recovers") => recovers(),
        Ok("refills") => refills(),
        Ok("has no store") => has_no_store(),
        _ => {}
    }
}

fn puts() {
    let mut store = ServiceManager::from_environment().unwrap();
    assert_eq!(store.kind(), "systemd");
    assert!(store.recover().unwrap().is_empty());
    store.put(backing(1), file().as_fd()).unwrap();
    store.put(backing(2), file().as_fd()).unwrap();
    let full = store.put(backing(3), file().as_fd());
    assert_eq!(full, Err(StoreError::Full { limit: 2 }));
    store.remove(backing(1)).unwrap();
}

fn recovers() {
    let mut store = ServiceManager::from_environment().unwrap();
    let mut recovered = store.recover().unwrap();
    assert_eq!(recovered.len(), 1);
    let (number, file) = recovered.remove(0);
    assert_eq!((number, inode(&file)), (backing(7), inode_of_stdin()));
    nix::unistd::lseek(&file, 2, nix::unistd::Whence::SeekSet).unwrap();
    assert_eq!(store.recover().unwrap_err(), StoreError::OutOfOrder);
}

fn refills() {
    let mut store = ServiceManager::from_environment().unwrap();
    let files = [1, 2, 4].map(|number| (backing(number), file()));
    store.put(backing(3), file().as_fd()).unwrap();
    let wanted = files.iter().map(|(backing, file)| (*backing, file.as_fd()));
    let wanted: Vec<_> = wanted.collect();
    for _ in 0..2 {
        // What there is no place for is told, and what there is already is not sent again.
        assert_eq!(store.refill(&wanted), Ok(vec![backing(4)]));
    }
}

fn inode_of_stdin() -> u64 {
    inode(&std::io::stdin().as_fd().try_clone_to_owned().unwrap())
}

fn has_no_store() {
    // An environment is changed for one process only: the next.
    if env::var_os("FDSTORE").is_some() {
        let mut without = Command::new(env::current_exe().unwrap());
        without
            .args(["--exact", "plays_its_role"])
            .env_remove("FDSTORE");
        assert!(without.status().unwrap().success());
        return;
    }
    // As of an older manager: the unit says how many there may be.
    for missing in ["NOTIFY_SOCKET", "TIERPOOL_FDSTORE"] {
        if env::var_os(missing).is_some() {
            let mut without = Command::new(env::current_exe().unwrap());
            without
                .args(["--exact", "plays_its_role"])
                .env_remove(missing);
            assert!(without.status().unwrap().success());
        } else {
            assert!(ServiceManager::from_environment().is_none());
        }
    }
}
