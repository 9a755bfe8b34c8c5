//! Planned failures strike when planned, and planned deaths are deaths.
//!
//! The plans are the process's, so the tests that plan failures take turns. A death is planned for
//! a child: this very program, asked for one test.

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use pool_core::crash_point;
use pool_core::fault::{self, CRASH_STATUS, Call};
use pool_core::mem::{Access, FileMap, MapError, Region, Window};
use pool_core::packet::{self, PacketError};
use pool_core::sync::{Mutex, MutexGuard, lock, thread};
use pool_core::{Bytes, EXTENT_BYTES, Nanos, PoolAddr, WindowRange, clock};

/// Held by a test while it plans failures.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    lock(&TURN)
}

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
fn an_observer_sees_each_passing_and_may_unwind_it() {
    static SEEN: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    fault::observe(Some(|name| {
        if name.starts_with("observed.") {
            lock(&SEEN).push(name);
        }
        if name == "observed.last" {
            std::panic::resume_unwind(Box::new(name));
        }
    }));
    let passes = || {
        crash_point!("observed.first");
        crash_point!("observed.last");
        crash_point!("observed.never");
    };
    assert!(std::panic::catch_unwind(passes).is_err());
    fault::observe(None);
    crash_point!("observed.unseen");
    assert_eq!(*lock(&SEEN), ["observed.first", "observed.last"]);
    assert!(fault::reached().contains(&("observed.last", 1)));
}

#[test]
fn a_time_that_is_set_is_that_threads_time() {
    let before = clock::now();
    fault::set_time(Some(Nanos::new(7)));
    assert_eq!(clock::now(), Nanos::new(7));
    assert!(clock::Deadline::at(Nanos::new(7)).expired());
    assert!(!clock::Deadline::at(Nanos::new(8)).expired());
    assert!(thread::spawn(clock::now).join().unwrap() >= before);
    fault::set_time(None);
    assert!(clock::now() >= before);
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
    let _turn = turn();
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

const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);

/// Has the `nth` call from now fail while `ask` runs, and gives back what it answered.
fn failing<T>(call: Call, nth: u64, ask: impl FnOnce() -> T) -> T {
    fault::arm_failure(call, nth, Errno::ENOMEM, false);
    let answer = ask();
    fault::arm_failure(call, u64::MAX, Errno::ENOMEM, false);
    answer
}

fn first_byte(region: &Region) -> Option<u8> {
    region.mapped().view::<u8>(Bytes::ZERO, 1).ok()?.get(0)
}

#[test]
fn a_region_outlives_the_failure_of_every_call_it_makes() {
    let _turn = turn();
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let file = nix::sys::memfd::memfd_create("fault", flags).unwrap();
    nix::unistd::ftruncate(&file, i64::try_from(EXTENT_BYTES).unwrap()).unwrap();
    let filling = FileMap::new(file.as_fd(), Bytes::ZERO, EXTENT, Access::ReadWrite).unwrap();
    filling
        .mapped()
        .write_view::<u8>(Bytes::ZERO, 1)
        .unwrap()
        .set(0, 7)
        .unwrap();

    let range = WindowRange::new(PoolAddr::new(0x3000_0000_0000), EXTENT).unwrap();
    for call in [Call::Mmap, Call::Madvise] {
        let refused = failing(call, 1, || Window::reserve(range));
        assert!(
            matches!(
                refused,
                Err(MapError::Os {
                    errno: Errno::ENOMEM,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), EXTENT).unwrap();
    let map = || {
        region.map(
            Bytes::ZERO,
            EXTENT,
            file.as_fd(),
            Bytes::ZERO,
            Access::ReadOnly,
        )
    };
    map().unwrap();

    // No failure puts zeros in the place of bytes that readers may still access.
    failing(Call::Mmap, 1, map).unwrap_err();
    assert_eq!(first_byte(&region), Some(7));
    for nth in 1..=3 {
        failing(Call::Madvise, nth, map).unwrap_err();
        assert_eq!(first_byte(&region), Some(7), "call {nth}");
    }
    // But a hole is filled: the kernel refuses advice where the old mapping is gone.
    fault::arm_failure(Call::Madvise, 1, Errno::ENOMEM, false);
    failing(Call::Mmap, 1, map).unwrap_err();
    fault::arm_failure(Call::Madvise, u64::MAX, Errno::ENOMEM, false);
    assert_eq!(first_byte(&region), Some(0));
    map().unwrap();
    assert_eq!(first_byte(&region), Some(7));

    // A region that cannot be taken away keeps its addresses.
    fault::arm_failure(Call::Mmap, 1, Errno::ENOMEM, true);
    region.release().unwrap_err();
    fault::disarm();
    let claimed = window.claim(range.base(), EXTENT).unwrap_err();
    assert_eq!(
        claimed,
        MapError::Claimed {
            at: range.base(),
            len: EXTENT
        }
    );
}

#[test]
fn a_message_whose_call_fails_is_neither_sent_nor_received() {
    let _turn = turn();
    let (here, there) = packet::pair().unwrap();
    let refused = failing(Call::Send, 1, || packet::send(here.as_fd(), b"x", &[])).unwrap_err();
    assert_eq!(
        refused,
        PacketError::Os {
            call: "sendmsg",
            errno: Errno::ENOMEM
        }
    );
    packet::send(here.as_fd(), b"y", &[]).unwrap();
    let mut buffer = [0; 8];
    failing(Call::Receive, 1, || {
        packet::receive(there.as_fd(), &mut buffer)
    })
    .unwrap_err();
    packet::receive(there.as_fd(), &mut buffer).unwrap();
    assert_eq!(buffer[0], b'y');
    let wait = || packet::wait_writable(here.as_fd(), pool_core::clock::Deadline::NEVER);
    failing(Call::Poll, 1, wait).unwrap_err();
    wait().unwrap();
}
