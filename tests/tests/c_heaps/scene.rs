//! A daemon, and programs that use it.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Command, ExitStatus, Stdio};

use pool_core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use pool_core::units::TIB;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, skipped};

use crate::build::{NoCompiler, case_program};
use crate::library::Library;

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

/// A daemon with one tier of so many MiB, in a window that no other test of this process has.
pub(crate) fn daemon(mib: u64) -> Daemon {
    static WINDOWS: AtomicU64 = AtomicU64::new(1);
    let setup = Setup {
        window_base: Some(WINDOWS.fetch_add(1, Relaxed) % 30 * 2 * TIB + 8 * TIB + EXTENT),
        ..Setup::small(mib)
    };
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup)
}

/// What `command` does at `daemon`. Its output goes to a file, which no forgotten child keeps open.
pub(crate) fn ended(daemon: &Daemon, command: &mut Command) -> Ended {
    let mut file = tempfile::tempfile().expect("a file for the output");
    let output = |file: &File| Stdio::from(file.try_clone().expect("a second descriptor"));
    command
        .env("TIERPOOL_SOCKET", daemon.session_socket())
        .stdin(Stdio::null())
        .stdout(output(&file))
        .stderr(output(&file));
    let status = command.status().expect("the program starts");
    let mut said = Vec::new();
    file.rewind().expect("the output is a file");
    file.read_to_end(&mut said).expect("the output is read");
    let said = String::from_utf8_lossy(&said).into_owned();
    Ended { status, said }
}

/// The case `name` of `program`, with these variables, at a daemon that is balanced afterwards:
/// what it said, or nothing where there is no compiler.
pub(crate) fn case(
    program: &str,
    name: &str,
    mib: u64,
    variables: &[(&str, &str)],
) -> Option<String> {
    let path = match case_program(program) {
        Ok(path) => path,
        Err(NoCompiler(why)) => {
            skipped(&format!("c_heaps::{program}::{name}"), &why);
            return None;
        }
    };
    let daemon = daemon(mib);
    let mut command = Command::new(path);
    command.arg(name).envs(variables.iter().copied());
    Library::under_test().load_into(&mut command);
    let Ended { status, said } = ended(&daemon, &mut command);
    assert!(status.success(), "{status}\n{said}");
    daemon.await_all_free();
    Some(said)
}
