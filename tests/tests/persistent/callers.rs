//! Programs with the client library whose own system calls fail for good.

use std::process::{Command, Stdio};

use pool_core::fault::{Call, FAILURE_TOLD};
use tierpool_tests::asker::Tally;
use tierpool_tests::at_rest::await_rest;
use tierpool_tests::campaign;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::{DeviceSetup, Setup};

use super::{CALLS_MAX, firsts};

fn setup() -> Setup {
    let device = |name, tier, mib| DeviceSetup { name, tier, mib };
    Setup {
        devices: vec![device("ddr0", "ddr", 256), device("pooled0", "pooled", 16)],
        ..Setup::default()
    }
}

/// Runs a program that comes to its end; what it says of its calls, whether the planned failure
/// came about, and its process id.
fn run(daemon: &Daemon, plan: Option<&str>) -> (Tally, bool, u32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caller"));
    command.arg(daemon.session_socket());
    // Who must be answered waits.
    command.arg(if plan.is_some() { "300" } else { "60000" });
    if let Some(plan) = plan {
        command.env("TIERPOOL_FAIL", plan);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("a caller starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !errors.contains("panicked"),
        "{plan:?}: {}\n{errors}",
        output.status
    );
    let tally = serde_json::from_slice(&output.stdout).expect("a tally");
    (tally, errors.contains(FAILURE_TOLD), pid)
}

/// The names that a program which could not end them leaves behind.
fn tidy(daemon: &Daemon) {
    let mut admin = daemon.admin();
    for found in admin.segments().expect("they are listed") {
        let segment_id = found.segment.expect("it is one").segment_id;
        let force = true;
        let free = pool_proto::admin::v1::FreeSegmentRequest { segment_id, force };
        // It may have ended with its holder meanwhile.
        if let Err(status) = admin.free_segment(free) {
            assert_eq!(status.code(), tonic::Code::NotFound, "{status:?}");
        }
    }
}

#[test]
fn a_program_whose_calls_fail_for_good_is_told_so_and_leaves_nothing() {
    let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup());
    let (plain, is_told, pid) = run(&daemon, None);
    assert!(plain.refused() == 0 && !is_told, "{plain:?}");
    tidy(&daemon);
    let descriptors = await_rest(&mut daemon, pid, usize::MAX);
    let kinds = [
        (Call::Mmap, "ENOMEM"),
        (Call::Madvise, "ENOMEM"),
        (Call::Send, "ENOBUFS"),
        (Call::Receive, "ENOMEM"),
        (Call::Poll, "ENOMEM"),
    ];
    for (call, errno) in kinds {
        let (mut runs, mut all) = (0, Tally::default());
        let last = firsts().find(|nth| {
            let plan = format!("{}:{nth}:{errno}:persistent", call.name());
            let (tally, is_told, pid) = run(&daemon, Some(&plan));
            tidy(&daemon);
            await_rest(&mut daemon, pid, descriptors);
            runs += u32::from(is_told);
            all += tally;
            !is_told
        });
        assert!(last.is_some() && runs > 0, "{}: {CALLS_MAX}", call.name());
        let refused: Vec<_> = all
            .refused
            .iter()
            .map(|(class, n)| format!("{n} {class}"))
            .collect();
        let figures = format!(
            "{errno}: {runs} runs of a program; {} done, {} refused ({})",
            all.done,
            all.refused(),
            refused.join(" + ")
        );
        campaign(
            5,
            &format!("{} of a client for good", call.name()),
            &figures,
        );
    }
    assert!(daemon.stop().success());
    assert!(!daemon.log().contains("panicked"));
}
