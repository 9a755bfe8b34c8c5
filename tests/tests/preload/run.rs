//! Runs one case of a program in a process of its own, and reads how it ended.

use std::io::{Read as _, Seek as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tierpool_tests::skipped;

use crate::build::{NoCompiler, Product};
use crate::library::Library;

/// How a case ends that the loaded library has not promised: see `check.h`.
const NOT_PROMISED: i32 = 77;

/// How a case ended, and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Outcome {
    /// Whether the library has not promised it.
    pub(crate) fn is_not_promised(&self) -> bool {
        self.status.code() == Some(NOT_PROMISED)
    }

    fn told(&self) -> String {
        let hung = if self.status.signal() == Some(Signal::SIGALRM as i32) {
            " (it hung)"
        } else {
            ""
        };
        format!("{}{hung}\n{}", self.status, self.said)
    }
}

/// The case `name` of `program`, under the library that is tested.
pub(crate) fn case(program: &'static str, name: &str) {
    let checked: &[_] = if name.ends_with("where_all_are_checked") {
        &[("TIERPOOL_CHECK", "1")]
    } else {
        &[]
    };
    let outcome = match outcome(Library::under_test(), program, name, checked) {
        Ok(outcome) => outcome,
        Err(NoCompiler(why)) => return skipped(&format!("preload::{program}::{name}"), &why),
    };
    if outcome.is_not_promised() {
        let why = outcome.said.trim();
        return skipped(&format!("preload::{program}::{name}"), why);
    }
    assert!(outcome.status.success(), "{}", outcome.told());
}

/// The cases that `program` has must be `known`, so that none is left out.
pub(crate) fn has_the_cases(program: &'static str, known: &[&str]) {
    let path = match Product::Program(program).path() {
        Ok(path) => path,
        Err(NoCompiler(why)) => return skipped(&format!("preload::{program}"), &why),
    };
    let mut command = Command::new(path);
    let listed = ended(command.arg("--list").env("LD_LIBRARY_PATH", "")).said;
    assert_eq!(listed.lines().collect::<Vec<_>>(), known, "of {program}");
}

/// Runs a case with `library` loaded, and with more variables in its environment.
pub(crate) fn outcome(
    library: &Library,
    program: &'static str,
    name: &str,
    variables: &[(&str, &str)],
) -> Result<Outcome, NoCompiler> {
    let mut command = Command::new(Product::Program(program).path()?);
    command
        .arg(name)
        .env("CHECK_MODULE", Product::Module("module").path()?);
    command.envs(variables.iter().copied());
    library.load_into(&mut command);
    Ok(ended(&mut command))
}

/// Runs it to its end. Its output goes to a file: a pipe would stay open for as long as a process
/// that it forgot lives.
fn ended(command: &mut Command) -> Outcome {
    let mut file = tempfile::tempfile().expect("a file for the output");
    let output = || Stdio::from(file.try_clone().expect("a second descriptor"));
    command
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .process_group(0);
    let mut child = command.spawn().expect("the program starts");
    let status = child.wait().expect("the program is waited for");
    // Whoever of it is left; that there is nobody is the usual thing.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    let mut said = Vec::new();
    file.rewind().expect("the output is a file");
    file.read_to_end(&mut said).expect("the output is read");
    Outcome {
        status,
        said: String::from_utf8_lossy(&said).into_owned(),
    }
}
