//! A member of a domain in a process of its own, as its test holds it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool_core::fault::CRASH_STATUS;

use crate::daemon::Daemon;

/// A process that does what its role says, tells numbers, and goes on when it is told to.
#[derive(Debug)]
pub struct Lessee {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Lessee {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_lessee")`, with what follows the socket in
    /// its arguments. `crash` is the crash point that it is to end at, and at which passing.
    #[must_use]
    pub fn start(program: &str, daemon: &Daemon, arguments: &[&str], crash: Option<&str>) -> Self {
        let mut command = Command::new(program);
        command.arg(daemon.session_socket()).args(arguments);
        if let Some(crash) = crash {
            command.env("TIERPOOL_CRASH", crash);
        }
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("a lessee starts");
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("its output")),
            child,
        }
    }

    /// The next number it tells, or nothing where it has ended.
    pub fn says(&mut self) -> Option<u64> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its output");
        line.trim_end().parse().ok()
    }

    /// The next number it tells.
    pub fn tells(&mut self) -> u64 {
        self.says().expect("it tells a number")
    }

    /// Lets it go on.
    pub fn goes_on(&mut self) {
        let input = self.input.as_mut().expect("its input");
        input.write_all(b"\n").expect("it listens");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("kill");
    }

    /// Waits for its end, which must be a good one.
    pub fn ends_well(mut self) {
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
    }

    /// Waits until it has ended at its crash point.
    pub fn ends_at_its_point(mut self) {
        let status = self.child.wait().expect("wait");
        assert_eq!(status.code(), Some(CRASH_STATUS), "{status}");
    }

    /// Kills it. It must not have ended otherwise.
    pub fn is_killed(mut self) {
        self.must_live();
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Fails the test where it has ended by itself.
    pub fn must_live(&mut self) {
        let ended = self.child.try_wait().expect("wait");
        assert_eq!(
            ended, None,
            "it ended by itself; its standard error says why"
        );
    }
}

impl Drop for Lessee {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
