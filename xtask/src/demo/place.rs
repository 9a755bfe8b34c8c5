//! Where the demonstration lives: a temporary folder, and the users its tenants run as.
//!
//! Everything it starts carries the folder's path in its arguments, the processes that the daemon
//! starts by itself included. So nothing needs to be remembered to clean up: [`sweep`] ends, by
//! their ids, exactly the processes of our programs that name the folder.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use anyhow::Context as _;
use nix::sys::signal::{self, SigSet, Signal};
use nix::unistd::{Pid, Uid};
use pool_core::sync::Arc;
use pool_core::sync::atomic::{AtomicBool, Ordering};

/// A user id for each tenant, where the demonstration may switch: of no account, so that it owns
/// nothing else.
const UIDS: [u32; 2] = [64_101, 64_102];
/// How a shell reports a command that was interrupted.
const INTERRUPTED: i32 = 130;

/// Whether the tenants are apart for the kernel too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Users {
    /// Each tenant is a user of its own: first the data's, then the training's.
    Apart([u32; 2]),
    /// All of it is one user.
    Shared(u32),
}

/// A tenant, as the daemon knows it that was told of none: a user as a whole, or where both are one
/// user, a label of his.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) uid: u32,
    /// What its processes attach as.
    pub(super) label: &'static str,
    /// What others call it.
    pub(super) name: String,
}

impl Users {
    /// The tenant whose data is learned from.
    pub(super) fn data(self) -> Tenant {
        match self {
            Self::Apart([uid, _]) => Tenant::user(uid),
            Self::Shared(uid) => Tenant::labelled(uid, "data"),
        }
    }

    /// The tenant that trains.
    pub(super) fn training(self) -> Tenant {
        match self {
            Self::Apart([_, uid]) => Tenant::user(uid),
            Self::Shared(uid) => Tenant::labelled(uid, "train"),
        }
    }
}

impl Tenant {
    fn user(uid: u32) -> Self {
        Self {
            uid,
            label: "",
            name: format!("uid-{uid}"),
        }
    }

    fn labelled(uid: u32, label: &'static str) -> Self {
        Self {
            uid,
            label,
            name: format!("uid-{uid}/{label}"),
        }
    }
}

/// The folder, removed with everything that still runs in it when dropped.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    /// Where the programs lie that were built for the demonstration.
    programs: PathBuf,
    users: Users,
    /// Set once a signal has told the demonstration to end.
    interrupted: Arc<AtomicBool>,
}

impl Place {
    /// Makes the folder, and has it cleaned up when the demonstration is interrupted.
    ///
    /// Other users are switched to where they can run the programs.
    pub(super) fn make(programs: &Path) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tierpool-demo-{}", process::id()));
        // Others may reach the sockets in it, whose names they are told; they may not look.
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let users = users(&programs.join("digits"), &folder);
        let interrupted = Arc::new(AtomicBool::new(false));
        let place = Self {
            folder,
            programs: programs.to_path_buf(),
            users,
            interrupted,
        };
        place.clean_up_when_interrupted()?;
        Ok(place)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn users(&self) -> Users {
        self.users
    }

    /// Waits for a signal on a thread of its own; the other threads no longer get it.
    fn clean_up_when_interrupted(&self) -> anyhow::Result<()> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        let signals: SigSet = signals.into_iter().collect();
        signals.thread_block().context("cannot block signals")?;
        let (folder, programs) = (self.folder.clone(), self.programs.clone());
        let interrupted = Arc::clone(&self.interrupted);
        let wait = move || {
            let Ok(signal) = signals.wait() else { return };
            interrupted.store(true, Ordering::Relaxed);
            eprintln!("\n{signal}: ending what was started");
            clean_up(&folder, &programs);
            process::exit(INTERRUPTED);
        };
        std::thread::Builder::new()
            .name("interrupt".into())
            .spawn(wait)?;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Then the thread that got the signal cleans up and ends the process, and what seems to
        // have failed here was ended by it.
        while self.interrupted.load(Ordering::Relaxed) {
            std::thread::park();
        }
        clean_up(&self.folder, &self.programs);
    }
}

/// Apart, where this process may switch users and those can run `program` in `folder`.
fn users(program: &Path, folder: &Path) -> Users {
    let uid = Uid::effective();
    let runs = |other: &u32| {
        let mut command = Command::new(program);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.uid(*other).gid(*other).current_dir(folder);
        command.status().is_ok_and(|status| status.success())
    };
    if uid.is_root() && UIDS.iter().all(runs) {
        return Users::Apart(UIDS);
    }
    Users::Shared(uid.as_raw())
}

fn clean_up(folder: &Path, programs: &Path) {
    // Neither can be reported to anybody who could do something about it but the user.
    if let Err(error) = sweep(folder, programs) {
        eprintln!("cannot look for processes that are left: {error}");
    }
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("cannot remove {}: {error}", folder.display());
    }
}

/// Ends every process that runs one of `programs` and names `folder` in its arguments; returns how
/// many there were.
pub(super) fn sweep(folder: &Path, programs: &Path) -> io::Result<usize> {
    let named = folder.as_os_str().as_bytes();
    let mut ended = 0;
    for entry in fs::read_dir("/proc")? {
        let name: OsString = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that ended meanwhile has no arguments any more.
        let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        let ours = fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|program| program.starts_with(programs));
        if !ours || !arguments.windows(named.len()).any(|window| window == named) {
            continue;
        }
        match signal::kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) => ended += 1,
            Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::process::Child;

    use super::*;

    /// A shell under `programs` that waits for its input to end, with `argument` on its command
    /// line.
    fn waiting(programs: &Path, argument: &Path) -> Child {
        let mut command = Command::new(programs.join("sh"));
        command
            .args(["-c", "read line"])
            .arg(argument)
            .stdin(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn a_sweep_ends_our_programs_in_the_folder_and_nothing_else() {
        let scratch = std::env::temp_dir().join(format!("tierpool-sweep-{}", process::id()));
        let (programs, others) = (scratch.join("ours"), scratch.join("others"));
        for folder in [&programs, &others] {
            fs::create_dir_all(folder).unwrap();
            // By another process: a program that this one has open for writing cannot be run, and
            // another test that starts a process meanwhile would hand the descriptor on to it.
            let copied = Command::new("cp")
                .arg("/bin/sh")
                .arg(folder.join("sh"))
                .status();
            assert!(copied.unwrap().success());
        }
        let (here, elsewhere) = (scratch.join("here"), scratch.join("elsewhere"));
        let mut ours = waiting(&programs, &here.join("run"));
        let mut in_other_folder = waiting(&programs, &elsewhere);
        let mut other_program = waiting(&others, &here);

        assert_eq!(sweep(&here, &programs).unwrap(), 1);
        assert!(!ours.wait().unwrap().success(), "killed");
        for spared in [&mut in_other_folder, &mut other_program] {
            drop(spared.stdin.take());
            // A shell whose input ends ends by itself, with 1 and not by a signal.
            assert_eq!(spared.wait().unwrap().code(), Some(1));
        }
        fs::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn tenants_are_named_as_the_daemon_names_them() {
        let apart = Users::Apart([7, 8]);
        assert_eq!(apart.data().name, "uid-7");
        assert_eq!(apart.training().name, "uid-8");
        let shared = Users::Shared(5).training();
        assert_eq!((shared.uid, &shared.name[..]), (5, "uid-5/train"));
    }
}
