//! `poolctl fabric demo`: it is shown to its end, and where something is not as promised it fails,
//! and leaves nothing running either way.
//!
//! All memory of the fabric is emulated: files of ordinary memory.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const DAEMON: &str = env!("CARGO_BIN_EXE_daemon");

/// The demonstration with such a daemon, whose temporary folders are in `scratch`.
fn demo(scratch: &TempDir, daemon: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    command.args(["fabric", "demo", "--daemon"]).arg(daemon);
    command.args(arguments).env("TMPDIR", scratch.path());
    command
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Processes that name the folder on their command lines.
fn running_in(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap().as_bytes().to_owned();
    let names = |path: PathBuf| {
        // One that has ended meanwhile has no command line any more.
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.windows(folder.len()).any(|it| it == folder)
    };
    let all = fs::read_dir("/proc").unwrap();
    all.filter(|it| names(it.as_ref().unwrap().path())).count()
}

fn names_in(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// A program that is the daemon, but for what is done to its configuration before, `$3`.
fn crooked(scratch: &TempDir, change: &str) -> PathBuf {
    let program = scratch.path().join("crooked");
    let text = format!("#!/bin/sh\n{change}\nexec {DAEMON} \"$@\"\n");
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    program
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn capacity_moves_between_four_hosts_as_it_is_promised_and_nothing_is_left() {
    let scratch = scratch();
    let output = demo(&scratch, Path::new(DAEMON), &["--json"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let steps: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let numbers: Vec<_> = steps
        .iter()
        .map(|it| it["step"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    for step in &steps {
        assert_eq!(
            (&step["as_promised"], &step["emulated"]),
            (&true.into(), &true.into())
        );
        let promises = step["promises"].as_array().unwrap();
        assert!(
            promises.len() > 2 && promises.iter().all(|it| it["seen"] == true),
            "{step}"
        );
        // The books, added up by somebody else.
        let had = step["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["has_bytes"].as_u64());
        let had: u64 = had.map(Option::unwrap).sum();
        let device = &step["device"];
        assert_eq!(
            device["bytes"],
            had + device["free_bytes"].as_u64().unwrap()
        );
    }
    // Each host had more than a quarter when it was its turn.
    for host in 0..4 {
        let moment = &steps[1]["moments"][host];
        let has = moment["has_bytes"][host].as_u64().unwrap();
        assert!(has > 256 << 20, "{moment}");
    }
    assert_eq!(
        (names_in(scratch.path()), running_in(scratch.path())),
        (0, 0)
    );
}

#[test]
fn a_step_that_is_not_as_promised_ends_it_and_says_where_to_look() {
    let scratch = scratch();
    let daemon = crooked(
        &scratch,
        "sed -i 's/step = \"16 MiB\"/step = \"24 MiB\"/' \"$3\"",
    );
    let keep = scratch.path().join("kept");
    let arguments = ["--timeout", "4s", "--keep", keep.to_str().unwrap()];
    let output = demo(&scratch, &daemon, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let page = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(page.contains("NOT SEEN: each host has 16 MiB"), "{page}");
    let why = told(&output);
    assert!(why.contains("step 1 is not as promised"), "{why}");
    assert!(why.contains(keep.to_str().unwrap()), "{why}");
    assert!(keep.join("host3/daemon.log").is_file());
    assert_eq!(running_in(&keep), 0);
}

#[test]
fn a_daemon_that_does_not_come_up_ends_it_with_what_it_said() {
    let scratch = scratch();
    let daemon = crooked(&scratch, "echo no such luck >&2; exit 3");
    let output = demo(&scratch, &daemon, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let why = told(&output);
    assert!(
        why.contains("the daemon of host0 has ended by itself"),
        "{why}"
    );
    assert!(why.contains("no such luck"), "{why}");
    let kept = fs::read_dir(scratch.path())
        .unwrap()
        .map(|it| it.unwrap().path());
    let kept: Vec<_> = kept.filter(|it| it.is_dir()).collect();
    assert!(
        kept.len() == 1 && why.contains(kept[0].to_str().unwrap()),
        "{why} {kept:?}"
    );
}

#[test]
fn an_interrupt_ends_all_that_was_started() {
    let scratch = scratch();
    let mut command = demo(&scratch, Path::new(DAEMON), &[]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let second = lines.find(|line| line.as_ref().unwrap().starts_with("2. "));
    assert!(second.is_some(), "all daemons are up");
    // Four daemons and a client of each.
    assert_eq!(running_in(scratch.path()), 8);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let last = lines.map(Result::unwrap).last();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{last:?}");
    assert!(told(&output).contains("interrupted"), "{}", told(&output));
    assert_eq!(
        (names_in(scratch.path()), running_in(scratch.path())),
        (0, 0)
    );
}
