//! What churners have in common with the test that kills them: who they are, and what their slots
//! are called.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use pool_core::packet::wait_readable;

use crate::daemon::Daemon;
use crate::patience;

/// What a churner says when it has made a step.
pub const STEP: u8 = b'.';
/// What it says when it fails.
pub const FAILURE: u8 = b'!';

/// How many there are.
pub const CHURNERS: u64 = 4;

/// The label of the tenant that a churner belongs to: they are of two.
#[must_use]
pub fn tenant_of(number: u64) -> &'static str {
    if number.is_multiple_of(2) {
        "even"
    } else {
        "odd"
    }
}

/// The name of the tenant that a label makes.
#[must_use]
pub fn tenant_name(label: &str) -> String {
    format!("uid-{}/{label}", geteuid())
}

/// The name of a churner's slot.
#[must_use]
pub fn slot_name(number: u64) -> String {
    format!("slot-{number}")
}

/// A churner, as its test holds it.
#[derive(Debug)]
pub struct Churner {
    child: Child,
    steps: ChildStdout,
}

impl Churner {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_churner")`.
    #[must_use]
    pub fn start(program: &str, daemon: &Daemon, number: u64, seed: u64) -> Self {
        let mut command = Command::new(program);
        command
            .arg(daemon.session_socket())
            .arg(tenant_of(number))
            .args([number.to_string(), seed.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("a churner starts");
        let steps = child.stdout.take().expect("its output");
        fcntl(&steps, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("F_SETFL");
        Self { child, steps }
    }

    /// Waits until it has made so many more steps.
    pub fn await_steps(&mut self, count: usize) {
        self.discard_told();
        let mut made = 0;
        while made < count {
            wait_readable(self.steps.as_fd(), patience()).expect("a churner makes a step");
            made += self.discard_told();
        }
    }

    /// Takes what it told of its steps so far, and counts it.
    fn discard_told(&mut self) -> usize {
        let mut told = [0; 4096];
        let mut count = 0;
        loop {
            match self.steps.read(&mut told) {
                Ok(0) => panic!("a churner has ended by itself; its standard error tells why"),
                Ok(read) => {
                    has_not_failed(&told[..read]);
                    count += read;
                }
                Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Kills it. It must not have ended otherwise.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        let status = self.child.wait().expect("wait");
        let mut told = Vec::new();
        self.steps.read_to_end(&mut told).expect("what it told");
        has_not_failed(&told);
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}");
    }

    /// Fails the test where it has ended by itself.
    pub fn must_live(&mut self) {
        let ended = self.child.try_wait().expect("wait");
        assert_eq!(
            ended, None,
            "a churner has ended by itself; its standard error tells why"
        );
    }
}

fn has_not_failed(told: &[u8]) {
    let failed = told.contains(&FAILURE);
    assert!(
        !failed,
        "a churner has failed; its standard error tells why"
    );
}

impl Drop for Churner {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
