//! Planned failures strike when planned, and planned deaths are deaths.
//!
//! Every test of this file shares the process's plans, so each has points and calls of its own. A
//! death is planned for a child: this very program, asked for one test.

use std::io;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use pool_core::crash_point;
use pool_core::fault::{self, CRASH_STATUS, Call};

fn run_again(test: &str, variable: &str, plan: &str) -> io::Result<ExitStatus> {
    Command::new(std::env::current_exe()?)
        .args(["--exact", test])
        .env(variable, plan)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
}

#[test]
fn each_passing_of_a_point_is_counted() {
    for _ in 0..3 {
        crash_point!("counted");
    }
    let reached = fault::reached();
    assert!(reached.contains(&("counted", 3)), "{reached:?}");
}

#[test]
fn a_process_ends_at_the_planned_passing_and_at_no_other() {
    let end_at =
        |plan| run_again("each_passing_of_a_point_is_counted", "TIERPOOL_CRASH", plan).unwrap();
    assert_eq!(end_at("counted:3").code(), Some(CRASH_STATUS));
    assert!(end_at("counted:4").success());
    assert!(end_at("other:1").success());
}

#[test]
fn a_plan_that_does_not_parse_ends_the_process() {
    for (variable, plan) in [("TIERPOOL_CRASH", "counted"), ("TIERPOOL_FAIL", "mmap:1")] {
        let status = run_again("each_passing_of_a_point_is_counted", variable, plan).unwrap();
        assert_eq!(status.code(), Some(2), "{variable}={plan}");
    }
}

#[test]
fn a_failure_strikes_once_or_from_then_on() {
    let ask = || fault::syscall(Call::Mbind);
    ask().unwrap();
    fault::arm_failure(Call::Mbind, 2, Errno::ENOMEM, false);
    assert_eq!([ask(), ask(), ask()], [Ok(()), Err(Errno::ENOMEM), Ok(())]);
    fault::arm_failure(Call::Mbind, 2, Errno::EIO, true);
    assert_eq!(
        [ask(), ask(), ask()],
        [Ok(()), Err(Errno::EIO), Err(Errno::EIO)]
    );
    fault::disarm();
    assert_eq!(ask(), Ok(()));
    assert_eq!(fault::passed(Call::Mbind), 8);
}

#[test]
fn a_planned_failure_comes_from_the_environment() {
    let run = |plan| run_again("the_first_open_succeeds", "TIERPOOL_FAIL", plan).unwrap();
    assert!(!run("open:1:EMFILE").success());
    assert!(run("open:2:EMFILE").success());
}

#[test]
fn the_first_open_succeeds() {
    assert_eq!(fault::syscall(Call::Open), Ok(()));
}
