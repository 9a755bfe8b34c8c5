//! Processes of the test: a keeper, a daemon that is killed, another user. Each is this program
//! once more, with one test of it, as the environment says.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, dup2_stdout, geteuid, setgid, setgroups, setuid};
use pool_core::clock::Deadline;
use pool_core::{BackingId, Bytes, EXTENT_BYTES, Nanos, packet};
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device, Place};
use pool_daemon::store::DescriptorStore;
use pool_daemon::store::keeper::{Keeper, serve};
use pool_daemon::sys::socket;
use tempfile::TempDir;

const ROLE: &str = "TIERPOOL_TEST_ROLE";
const HOME: &str = "TIERPOOL_TEST_HOME";
const COUNT: &str = "TIERPOOL_TEST_COUNT";
const NOBODY: u32 = 65_534;
/// What a child prints when it did all it was to do.
const DONE: &str = "child is done";

/// A runtime directory, and the program that becomes a keeper in it.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let test = env::current_exe().unwrap();
        // `PROGRAM keeper --socket PATH`. The third descriptor is where the keeper says that it is
        // ready, past what the test's own frame prints.
        let script = format!(
            "#!/bin/sh\n\
             exec 3>&1 >/dev/null\n\
             {ROLE}=keeper {HOME}=\"$3\" exec '{}' \
             --exact process::plays_its_role --nocapture\n",
            test.display()
        );
        let program = home.path().join("program");
        // Written and closed by another process: a child that some other test forks meanwhile
        // would hold the file open for writing, and the kernel executes no such file.
        let mut writer = Command::new("/bin/sh")
            .args(["-c", "cat >\"$0\" && chmod 700 \"$0\""])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writer
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(writer.wait().unwrap().success());
        Self(home)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("keeper.sock")
    }

    /// The keeper that runs here, or a new one.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::connect_or_spawn(self.path(), &self.path().join("program")).unwrap()
    }

    fn child(&self, role: &str) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "process::plays_its_role", "--nocapture"])
            .env(ROLE, role)
            .env(HOME, self.path());
        command
    }
}

pub(crate) fn backing(number: u64) -> BackingId {
    BackingId::new(number).unwrap()
}

/// A file that is no other file.
pub(crate) fn file() -> OwnedFd {
    memfd_create("kept", MFdFlags::MFD_CLOEXEC).unwrap()
}

pub(crate) fn sealed_file() -> OwnedFd {
    let device = MemfdDevice::new(PagePolicy::Base, None, Bytes::ZERO).unwrap();
    let built = device.build(backing(1), Place::anywhere(Bytes::new(EXTENT_BYTES)), false);
    built.unwrap().file
}

pub(crate) fn inode(file: &OwnedFd) -> u64 {
    File::from(file.try_clone().unwrap())
        .metadata()
        .unwrap()
        .ino()
}

pub(crate) fn pid_of(keeper: &Keeper) -> Pid {
    Pid::from_raw(packet::peer(keeper.connection().unwrap()).unwrap().pid)
}

/// A daemon that puts files 1 to `count` and is killed before it looks at any answer.
pub(crate) fn daemon_that_puts_and_is_killed(home: &Home, count: u64) {
    let mut child = home.child("daemon");
    let ended = child.env(COUNT, count.to_string()).output().unwrap();
    assert_eq!(ended.status.signal(), Some(Signal::SIGKILL as i32));
}

/// Whether another user gets nothing from the keeper. `None` where this process cannot become one.
pub(crate) fn another_user_is_refused(home: &Home) -> Option<bool> {
    if !geteuid().is_root() {
        return None;
    }
    Some(is_done(&mut home.child("stranger")))
}

/// Runs the sweep in a process where nobody else makes calls.
#[cfg(feature = "fault")]
pub(crate) fn daemon_whose_calls_fail(home: &Home) {
    assert!(is_done(&mut home.child("faults")));
}

fn is_done(child: &mut Command) -> bool {
    let ended = child.stderr(Stdio::inherit()).output().unwrap();
    // A child that found no test of its name would be content as well.
    ended.status.success() && String::from_utf8_lossy(&ended.stdout).contains(DONE)
}

/// Does nothing in the program that runs the tests: the children run it.
#[test]
fn plays_its_role() {
    let home = env::var_os(HOME).map(PathBuf::from).unwrap_or_default();
    match env::var(ROLE).as_deref() {
        Ok("keeper") => {
            let output = fs::OpenOptions::new().write(true).open("/proc/self/fd/3");
            std::io::stdout().flush().unwrap();
            dup2_stdout(output.unwrap()).unwrap();
            serve(&home).unwrap();
        }
        Ok("daemon") => {
            let count: u64 = env::var(COUNT).unwrap().parse().unwrap();
            // The keeper is there: nothing is started.
            let mut keeper = Keeper::connect_or_spawn(&home, Path::new("/nonexistent")).unwrap();
            for number in 1..=count {
                keeper.put(backing(number), file().as_fd()).unwrap();
            }
            nix::sys::signal::kill(Pid::this(), Signal::SIGKILL).unwrap();
        }
        Ok("stranger") => {
            setgroups(&[]).unwrap();
            setgid(Gid::from_raw(NOBODY)).unwrap();
            setuid(Uid::from_raw(NOBODY)).unwrap();
            is_sent_away(&home.join("keeper.sock"));
            println!("{DONE}");
        }
        #[cfg(feature = "fault")]
        Ok("faults") => {
            crate::faults::sweep(&Home::new());
            println!("{DONE}");
        }
        _ => {}
    }
}

fn is_sent_away(path: &Path) {
    match socket::connect_to(path) {
        Err(failed) => assert_eq!(failed.errno, Errno::EACCES),
        Ok(connection) => {
            let open = fs::metadata(path).unwrap().permissions().mode() & 0o666;
            assert_eq!(open, 0o666);
            // A request for the count, as a daemon would write it.
            let count = [1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let sent = packet::send(connection.as_fd(), &count, &[]);
            assert!(matches!(sent, Ok(()) | Err(packet::PacketError::Closed)));
            let deadline = Deadline::after(Nanos::from_millis(30_000));
            let answer = packet::receive_by(connection.as_fd(), &mut [0; 64], deadline);
            assert_eq!(answer.unwrap_err(), packet::PacketError::Closed);
        }
    }
}
