//! How `poolctl` fails: one clear line, and an exit code that says whose fault it was.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "../../pool-daemon/tests/support/fake.rs"]
#[expect(dead_code, reason = "the daemon's own tests use the rest of it")]
mod fake;
#[path = "../../pool-daemon/tests/support/skipped.rs"]
mod skipped;
mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fake::Fake;
use pool_daemon::server::handle::Query;
use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};
use skipped::skipped;
use support::{Answer, ask, program};

#[test]
fn the_daemons_refusal_is_told_in_its_own_words() {
    let fake = Fake::start();
    let refused = ask(&fake.config.admin_socket, &["drain", "none"]);
    refused.assert_refused(1, "there is no device none; list what there is");
    let refused = ask(&fake.config.admin_socket, &["segments", "free", "404"]);
    refused.assert_refused(1, "there is no segment 404");
    let refused = ask(&fake.config.admin_socket, &["regions", "destroy", "none"]);
    refused.assert_refused(1, "there is no region none");
    let create = ["regions", "create", "--serial", "404"];
    let refused = ask(&fake.config.admin_socket, &create);
    refused.assert_refused(1, "there is no memory device 0x194");
}

#[test]
fn the_exit_code_is_that_of_the_errors_class() {
    let coded = [
        (ErrorClass::Caller, 1),
        (ErrorClass::Exhausted, 1),
        (ErrorClass::Lost, 1),
        (ErrorClass::Revoked, 1),
        (ErrorClass::Unreachable, 3),
        (ErrorClass::Corrupt, 4),
    ];
    for (class, code) in coded {
        let error = move || Error {
            class: class.into(),
            reason: ErrorReason::Unspecified.into(),
            message: "so it is".to_owned(),
            ..Error::default()
        };
        let fake = Fake::with(Box::new(move |_, _| Err(error())), |_| {});
        ask(&fake.config.admin_socket, &["status"]).assert_refused(code, "so it is");
    }
}

#[test]
fn a_terminal_obeys_nothing_that_a_refusal_repeats() {
    let fake = Fake::with(
        Box::new(|_, _| {
            Err(Error {
                class: ErrorClass::Caller.into(),
                reason: ErrorReason::NotFound.into(),
                message: "there is no region a\u{1b}[2Jb\n".to_owned(),
                ..Error::default()
            })
        }),
        |_| {},
    );
    let refused = ask(&fake.config.admin_socket, &["regions", "destroy", "it"]);
    refused.assert_refused(1, "refused: there is no region a\\u{1b}[2Jb\\n");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_before_anything_is_asked() {
    let nowhere = Path::new("/nonexistent/admin.sock");
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["devices", "resize", "ddr0", "1.5 GB"],
        &["top", "--interval", "0s"],
        &["events", "--follow", "--count", "3"],
        &["events", "--count", "0"],
        &["segments", "free", "seven"],
        &["regions", "create"],
        &["regions", "create", "--serial", "mem0"],
        &["regions", "create", "--serial", "0xa0", "--size", "1.5 GB"],
        &["regions", "create", "--serial", "0xa0", "--size", "0"],
        &["regions", "create", "--serial", "0xa0", "--size", "0 MiB"],
        &[
            "regions",
            "create",
            "--serial",
            "0xa0",
            "--granularity",
            "0",
        ],
        &["regions", "create", "--serial", "0xa0,"],
        &["regions", "destroy"],
        &["devices", "--tree", "activate", "ddr0"],
        &["status", "--address", "http://localhost:1"],
        &["status", "--address", "https://localhost:1"],
        &["status", "--ca", "x"],
        &[
            "metrics",
            "--address",
            "https://h:1",
            "--ca",
            "/dev/null",
            "--cert",
            "/dev/null",
            "--key",
            "/dev/null",
        ],
        &[
            "status",
            "--address",
            "https://h:1",
            "--ca",
            "/nonexistent",
            "--cert",
            "x",
            "--key",
            "y",
        ],
    ] {
        let refused = ask(nowhere, arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
        assert_eq!(refused.out, "");
        assert!(!refused.err.is_empty());
    }
}

#[test]
fn a_daemon_that_is_not_there_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    for command in ["status", "metrics", "check", "events"] {
        ask(&path, &[command]).assert_refused(3, "is pool-daemon running?");
    }
    // A socket that nobody listens on any more.
    drop(UnixListener::bind(&path).unwrap());
    ask(&path, &["status"]).assert_refused(3, "Connection refused");
}

#[test]
fn a_daemon_that_says_nothing_is_unreachable_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let silent = UnixListener::bind(&path).unwrap();
    let answer = ask(&path, &["status", "--timeout", "200ms"]);
    answer.assert_refused(
        3,
        "did not answer within 200 ms: look before you repeat a change",
    );
    drop(silent);
}

#[test]
fn a_daemon_that_talks_nonsense_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let babbler = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // It may hang up in the middle.
        std::io::Write::write_all(&mut stream, &[b'?'; 4096]).unwrap_or_default();
    });
    let answer = ask(&path, &["status"]);
    assert!(matches!(answer.code, 3 | 4), "{answer:?}");
    assert_eq!(answer.err.lines().count(), 1, "{answer:?}");
    babbler.join().unwrap();
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let fake = Fake::start();
    let mut command = program();
    command.arg("--socket").arg(&fake.config.admin_socket);
    command.args(["top", "--interval", "1ms", "--json"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = Answer::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let fake = Fake::start();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = program();
    command
        .arg("--socket")
        .arg(&fake.config.admin_socket)
        .arg("status")
        .stdout(full);
    let ended = Answer::of(command.output().unwrap());
    ended.assert_refused(2, "cannot write the answer");
}

#[test]
fn help_fits_a_screen_and_is_no_failure() {
    let help = ask(Path::new("/nonexistent"), &["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.lines().count() <= 24, "{}", help.out);
    for part in ["status", "drain", "--json", "Exit codes: 0 done"] {
        assert!(help.out.contains(part), "{}", help.out);
    }
}

#[test]
fn pages_and_completions_are_generated_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let generate = |what| {
        let mut command = program();
        command.args(["generate", what]).arg(folder.path());
        let answer = Answer::of(command.output().unwrap());
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out
    };
    let pages = generate("man");
    for page in ["poolctl.1", "poolctl-status.1", "poolctl-devices-resize.1"] {
        assert!(pages.contains(page), "{pages}");
    }
    assert!(!pages.contains("generate"), "{pages}");
    let first = std::fs::read_to_string(folder.path().join("poolctl.1")).unwrap();
    assert!(
        first.contains("Exit codes") && first.contains("TIERPOOL_ADMIN_SOCKET"),
        "{first}"
    );
    assert_eq!(generate("completions").lines().count(), 3);
}

/// A user that is neither root nor the daemon: `nobody` of most systems.
const NOBODY: u32 = 65_534;

/// Puts the program where another user can start it. Another process writes the copy: a file that
/// is open for writing cannot be started, and the children of other tests would inherit ours.
fn copy_for_others(folder: &Path) -> PathBuf {
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, open).unwrap();
    let copy = folder.join("poolctl");
    let mut install = Command::new("install");
    install
        .args(["-m", "755", env!("CARGO_BIN_EXE_poolctl")])
        .arg(&copy);
    assert!(install.status().unwrap().success());
    copy
}

/// Runs the copy as a user who is nobody.
fn ask_as_nobody(copy: &Path, fake: &Fake, arguments: &[&str]) -> Answer {
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
        .env("TIERPOOL_ADMIN_SOCKET", &fake.config.admin_socket)
        .args(arguments);
    Answer::of(command.output().unwrap())
}

#[test]
fn another_user_sees_its_own_tenant_and_changes_nothing() {
    if !nix::unistd::geteuid().is_root() {
        skipped(
            "another_user_sees_its_own_tenant_and_changes_nothing",
            "only root can become another user",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_for_others(folder.path());
    let fake = Fake::start();
    let run = |arguments: &[&str]| ask_as_nobody(&copy, &fake, arguments);
    let tenants = run(&["tenants"]);
    assert_eq!(tenants.code, 0, "{tenants:?}");
    assert!(
        tenants.out.contains("uid-65534") && !tenants.out.contains("trainer"),
        "{tenants:?}"
    );
    for arguments in [
        &["drain", "ddr0"][..],
        &["devices", "remove", "ddr0"],
        &["segments", "free", "7", "--force"],
        &["devices", "--tree"],
        &["regions"],
        &["regions", "create", "--serial", "0xa0"],
        &["regions", "destroy", "region0"],
        &["check"],
    ] {
        run(arguments).assert_refused(1, "user 65534 is no operator");
    }
    run(&["metrics"]).assert_refused(1, "only operators may read them");
    let asked = fake.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let (caller, query) = asked.first().unwrap();
    assert_eq!(
        (caller.uid, caller.operator, query),
        (NOBODY, false, &Query::Tenants)
    );
}

#[test]
fn a_configured_operator_may_do_everything() {
    if !nix::unistd::geteuid().is_root() {
        skipped(
            "a_configured_operator_may_do_everything",
            "only root can become another user",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_for_others(folder.path());
    let fake = Fake::with(Box::new(fake::small_pool), |config| {
        config.operators.push(NOBODY)
    });
    for arguments in [&["drain", "ddr0"][..], &["check"], &["metrics"]] {
        let answer = ask_as_nobody(&copy, &fake, arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
    }
}
