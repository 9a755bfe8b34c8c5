//! A lease that nobody else wants makes no system call: the kernel itself says so.
//!
//! A forked child puts itself under the strictest filter there is, which lets it read, write and
//! exit, and ends it at any other call. Then it takes and lets go of units a million times. That
//! the filter works is shown by a child that asks for the time of its parent.

#![cfg(not(loom))]
#![expect(unsafe_code, reason = "fork, and a filter of system calls")]

use std::io::Write as _;

use coherence::{FutexWait, LeaseError, Member, Slot};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;

const LEASES: u32 = 1_000_000;

/// How the child says that this kernel has no such filter.
const NO_FILTER: i32 = 77;
/// How it says that its work went wrong.
const WRONG: i32 = 1;

#[derive(Debug, PartialEq, Eq)]
enum End {
    Exit(i32),
    Killed(i32),
}

/// Does the work in a child that may read, write and exit, and nothing else.
fn under_the_filter(work: impl Fn() -> bool) -> End {
    // SAFETY: the child uses memory that is there already, and the calls below.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child > 0 {
        let mut status = 0;
        // SAFETY: `status` is a place for the status, and the child is ours.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        return if libc::WIFSIGNALED(status) {
            End::Killed(libc::WTERMSIG(status))
        } else {
            End::Exit(libc::WEXITSTATUS(status))
        };
    }
    // SAFETY: takes numbers only.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    let code = match filtered {
        0 if work() => 0,
        0 => WRONG,
        _ => NO_FILTER,
    };
    loop {
        // Not the library's exit, which ends all threads by a call that the filter refuses.
        // SAFETY: ends this thread, the only one of the child.
        unsafe { libc::syscall(libc::SYS_exit, code) };
    }
}

/// Each way of taking a unit that is free, and of letting go of it.
fn leases(member: &Member<FutexWait>, line: &Descriptor) -> Result<(), LeaseError> {
    let until = Deadline::NEVER;
    let grant = member.exclusive(line, until)?;
    member.check_exclusive(line, &grant)?;
    member.release_exclusive(line, &grant, false)?;
    let grant = member.exclusive(line, until)?;
    member.release_exclusive(line, &grant, true)?;
    let grant = member.shared(0, line, until)?;
    member.check_shared(line, &grant)?;
    let grant = member.try_upgrade(line, &grant)?;
    let grant = member.downgrade(line, &grant, true)?;
    member.release_shared(0, line, &grant)
}

#[test]
fn an_uncontended_lease_makes_no_system_call() {
    let (line, slot) = (Descriptor::default(), Slot::new(1).unwrap());
    let member = Member::new(slot, FutexWait);
    // What is made once, by whatever call, is made here.
    leases(&member, &line).unwrap();
    let parent = || {
        // SAFETY: takes nothing.
        let parent = unsafe { libc::getppid() };
        parent > 0
    };
    match under_the_filter(parent) {
        End::Exit(NO_FILTER) => {
            let told = "skipped: an_uncontended_lease_makes_no_system_call: no seccomp here";
            writeln!(std::io::stdout(), "{told}").unwrap();
            return;
        }
        end => assert_eq!(
            end,
            End::Killed(libc::SIGKILL),
            "the filter lets calls through"
        ),
    }
    let work = || (0..LEASES).all(|_| leases(&member, &line).is_ok());
    assert_eq!(under_the_filter(work), End::Exit(0));
}
