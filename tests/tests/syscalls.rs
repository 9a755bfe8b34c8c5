//! Each system call of the daemon fails, one after the other: whoever asks is answered with success
//! or with an error that says whose fault it is, the next call works, nothing is leaked and nobody
//! dies.
//!
//! For each kind of call the daemon is started with the first of them failing, then with the
//! second, and so on, until it goes through everything that clients and operators do without
//! reaching the planned failure. A daemon whose start fails says why and ends in order, and the
//! next one starts.

#[path = "syscalls/calls.rs"]
mod calls;
#[path = "syscalls/scenario.rs"]
mod scenario;

use pool_core::fault::{Call, FAILURE_TOLD};
use tierpool_tests::at_rest::await_rest;
use tierpool_tests::client::Session;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::{Setup, has_nodes};
use tierpool_tests::{campaign, skipped, until};

/// No kind of call is made more often than this while the pool is gone through once.
const CALLS_MAX: u64 = 2_000;

/// How a daemon ends that cannot start, or cannot go on: see the list of exit codes in its manual.
const ENDS_IN_ORDER: [i32; 2] = [1, 2];

fn setup() -> Setup {
    Setup {
        // Longer than a client needs to come back; a session that was made and never told of ends
        // with it.
        grace_ms: 3_000,
        ..Setup::of_two_tiers()
    }
}

/// Goes through everything, and waits until the daemon is at rest as it was before. Returns the
/// number of its descriptors there.
fn play(daemon: &mut Daemon, descriptors_max: usize) -> usize {
    scenario::play(daemon);
    await_rest(daemon, std::process::id(), descriptors_max)
}

/// Plays with the `nth` call of a kind failing, and tells whether that call was reached.
fn play_with(call: Call, nth: u64, errno: &str, descriptors_max: usize) -> bool {
    let plan = format!("{}:{nth}:{errno}", call.name());
    let armed = setup().with("TIERPOOL_FAIL", &*plan);
    let mut daemon = Daemon::prepare(env!("CARGO_BIN_EXE_daemon"), &armed);
    daemon.launch();
    if let Err(status) = daemon.await_start() {
        let log = daemon.log();
        let code = status.code();
        assert!(
            code.is_some_and(|code| ENDS_IN_ORDER.contains(&code)) && log.contains("pool-daemon: "),
            "{plan}: {status}\n{log}"
        );
        daemon.restart_as(&setup());
    }
    play(&mut daemon, descriptors_max);
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{plan}\n{log}");
    assert!(daemon.stop().success(), "{plan}\n{}", daemon.log());
    log.contains(FAILURE_TOLD)
}

/// Fails every call of a kind in turn. Tells how many there were.
fn each_fails(call: Call, errno: &str) -> u64 {
    let mut plain = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup());
    let descriptors = play(&mut plain, usize::MAX);
    drop(plain);
    let last = (1..=CALLS_MAX).find(|&nth| !play_with(call, nth, errno, descriptors));
    let last = last.unwrap_or_else(|| panic!("more than {CALLS_MAX} calls of {}", call.name()));
    let figures = format!("{} calls failed once each with {errno}", last - 1);
    campaign(5, call.name(), &figures);
    last - 1
}

macro_rules! each {
    ($($law:ident: $call:ident $errno:ident;)*) => {
        $(
            #[test]
            fn $law() {
                assert!(each_fails(Call::$call, stringify!($errno)) > 0);
            }
        )*
    };
}

each! {
    a_failed_mmap_costs_one_answer: Mmap ENOMEM;
    a_failed_memfd_create_costs_one_answer: MemfdCreate EMFILE;
    a_failed_ftruncate_costs_one_answer: Ftruncate EIO;
    a_failed_fallocate_costs_one_answer: Fallocate ENOSPC;
    a_failed_fcntl_costs_one_answer: Fcntl EMFILE;
    a_failed_open_costs_one_answer: Open EMFILE;
    a_failed_write_costs_one_answer: Write ENOSPC;
    a_failed_sync_costs_one_answer: Sync EIO;
    a_failed_send_costs_one_answer: Send ENOBUFS;
    a_failed_receive_costs_one_answer: Receive ENOMEM;
    a_failed_poll_costs_one_answer: Poll EINTR;
    a_failed_accept_costs_one_answer: Accept EMFILE;
    a_failed_madvise_costs_one_answer: Madvise ENOMEM;
    a_failed_setsockopt_costs_one_answer: Setsockopt ENOPROTOOPT;
    a_process_that_cannot_be_looked_at_costs_one_answer: Stat EMFILE;
}

#[test]
fn a_failed_mbind_costs_one_answer() {
    if has_nodes() {
        assert!(each_fails(Call::Mbind, "ENOMEM") > 0);
    } else {
        skipped(
            "a_failed_mbind_costs_one_answer",
            "a kernel with NUMA nodes",
        );
    }
}

#[test]
fn an_attach_that_is_refused_or_not_answered_leaves_no_session() {
    for plan in ["madvise:1:ENOMEM:persistent", "send:1:ENOBUFS:persistent"] {
        let setup = Setup {
            store: "clients",
            grace_ms: 120_000,
            ..Setup::small(16)
        };
        let setup = setup.with("TIERPOOL_FAIL", plan);
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
        for _ in 0..8 {
            let attached = Session::attach(&daemon.session_socket(), "a", "test");
            assert!(attached.is_err(), "{plan}");
        }
        until("nobody is attached", || {
            (daemon.admin().status().ok()?.clients == 0).then_some(())
        });
        assert_eq!(daemon.pidfds_of(std::process::id()), 0, "{plan}");
    }
}
