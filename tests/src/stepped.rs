//! A child that goes on instruction by instruction.
//!
//! All calls are made by one thread: the kernel knows a tracer by its thread.

#![expect(unsafe_code, reason = "the kernel is asked by numbers")]

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// See the module.
#[derive(Debug)]
pub struct Stepped {
    pid: Pid,
}

impl Stepped {
    /// Takes a child over, which is stopped then.
    #[must_use]
    pub fn attach(pid: u32) -> Self {
        let stepped = Self {
            pid: Pid::from_raw(pid.cast_signed()),
        };
        stepped.ask(libc::PTRACE_ATTACH);
        assert_eq!(stepped.stop(), Some(Signal::SIGSTOP));
        stepped
    }

    /// Lets it run until it stops itself; false where it came to something else.
    #[must_use]
    pub fn run(&self) -> bool {
        self.ask(libc::PTRACE_CONT);
        self.stop() == Some(Signal::SIGSTOP)
    }

    /// Lets it do one instruction; false where it stopped itself instead.
    #[must_use]
    pub fn step(&self) -> bool {
        self.ask(libc::PTRACE_SINGLESTEP);
        match self.stop() {
            Some(Signal::SIGTRAP) => true,
            Some(Signal::SIGSTOP) => false,
            stop => panic!("the child came to {stop:?}"),
        }
    }

    fn ask(&self, what: libc::c_uint) {
        // SAFETY: the child is stopped, or is asked to stop; neither address is used.
        let answer = unsafe { libc::ptrace(what, self.pid.as_raw(), 0, 0) };
        Errno::result(answer).expect("a child is traced by its parent");
    }

    /// The signal that it stopped by; none where it ended.
    fn stop(&self) -> Option<Signal> {
        match waitpid(self.pid, None).expect("it is a child") {
            WaitStatus::Stopped(_, signal) => Some(signal),
            _ => None,
        }
    }
}
