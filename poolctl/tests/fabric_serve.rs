//! `poolctl fabric serve`: a fabric as a process, what is asked of it, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::dcd_management::{
    InitiateAddRequest, InitiateReleaseRequest, RemovalPolicy, SelectionPolicy,
};
use fabric_emu::cci::{Request, Tag};
use fabric_emu::id::{LdId, MemdevId};
use fabric_emu::serve::{Carver, Remote};
use fabric_emu::span::Span;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Answer, ask, program};

/// A process that serves a fabric; it is killed where a test fails.
struct Serving {
    child: Child,
    directory: PathBuf,
    /// What it said first.
    said: String,
}

impl Serving {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_of("four-hosts", directory, arguments)
    }

    fn start_of(topology: &str, directory: &Path, arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(["fabric", "serve", topology, "--directory"]);
        command.arg(directory).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        Self {
            child,
            directory: directory.to_owned(),
            said,
        }
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }

    fn fabric(&self, what: &str, rest: &[&str]) -> Answer {
        let directory = self.directory.to_str().unwrap();
        fabric(&[&[what, directory], rest].concat())
    }

    fn send(&self, socket: &str, rest: &[&str]) -> Answer {
        let socket = self.directory.join(socket);
        fabric(&[&["send", socket.to_str().unwrap()], rest].concat())
    }

    /// Files of memory that the process has open.
    fn files(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let is_memory = |path: PathBuf| path.to_string_lossy().contains("memfd:fabric-emu");
        open.filter_map(|it| std::fs::read_link(it.unwrap().path()).ok())
            .filter(|path| is_memory(path.clone()))
            .count()
    }

    fn ask(&self, socket: &str, request: &Request) {
        let mut remote = Remote::connect(&self.directory.join(socket)).unwrap();
        remote.ask(request).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// With a socket that nobody listens on.
fn fabric(arguments: &[&str]) -> Answer {
    let arguments = [&["fabric"], arguments].concat();
    ask(Path::new("/nonexistent/admin.sock"), &arguments)
}

fn names_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_fabric_is_served_asked_and_broken_and_ends_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("fabric");
    let serving = Serving::start(&directory, &["--seed", "7"]);
    let expected = format!(
        "four-hosts, emulated, mode virtual, seed 7: 23 sockets in {}\n",
        directory.display()
    );
    assert_eq!(serving.said, expected);
    // Bind virtual switch 1, bridge 0 to logical device 2 on port 4.
    let begun = serving.send("switch0.cci", &["5201", "010004000200"]);
    assert_eq!(
        (begun.code, begun.out.as_str()),
        (0, "0001h BackgroundCommandStarted\n")
    );
    let over = serving.send("switch0.cci", &["0002"]);
    assert_eq!(
        (over.code, over.out.as_str()),
        (0, "0000h Success\nc800015200000000\n")
    );
    let identity = serving.send("host1-memdev0-ld2.cci", &["0x0001", "--json"]);
    let identity: Value = serde_json::from_str(&identity.out).unwrap();
    assert_eq!(identity["name"], "Success");
    assert_eq!(identity["payload"].as_str().unwrap().len(), 36);
    let refused = serving.send("switch0.cci", &["4802h"]);
    assert_eq!(
        (refused.code, refused.out.as_str()),
        (1, "0003h Unsupported\n")
    );
    serving
        .send("host1-memdev0-ld0.cci", &["0001"])
        .assert_refused(3, "nobody answers");
    let status = serving.fabric("status", &[]);
    assert!(
        status
            .out
            .contains("four-hosts, emulated, mode virtual, seed 7, 10000 us"),
        "{status:?}"
    );
    assert!(status.out.contains("memdev0-ld2"), "{status:?}");
    let died = serving.fabric("fault", &["host-dies", "1"]);
    assert_eq!((died.code, died.out.as_str()), (0, "done\n"));
    serving
        .fabric("fault", &["host-dies", "1"])
        .assert_refused(1, "the host is dead");
    serving
        .fabric("fault", &["link-fails", "switch0:9"])
        .assert_refused(1, "not reached");
    let gone = serving.fabric("fault", &["memdev-vanishes", "0", "--json"]);
    assert_eq!(gone.out, "{\"lost_lines\":0}\n");
    let status = serving.fabric("status", &["--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["hosts"][1]["is_alive"], false);
    assert_eq!(status["memdevs"][0]["is_there"], false);
    assert_eq!(
        (&status["emulated"], &status["mode"]),
        (&true.into(), &"virtual".into())
    );
    assert_eq!(serving.end(Signal::SIGTERM), Some(0));
    assert_eq!(names_in(&directory), 0);
}

#[test]
fn a_directory_has_one_fabric_also_after_one_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("fabric");
    let first = Serving::start(&directory, &["--mode", "paced", "--json"]);
    let said: Value = serde_json::from_str(&first.said).unwrap();
    assert_eq!(
        (&said["mode"], &said["emulated"]),
        (&"paced".into(), &true.into())
    );
    assert_eq!(said["sockets"].as_array().unwrap().len(), 23);
    let path = directory.to_str().unwrap();
    let second = fabric(&["serve", "expander", "--directory", path]);
    second.assert_refused(2, "another server serves in");
    assert_eq!(first.end(Signal::SIGKILL), None);
    assert_eq!(names_in(&directory), 23);
    fabric(&["status", path]).assert_refused(3, "is `poolctl fabric serve` running?");
    let again = Serving::start(&directory, &[]);
    assert_eq!(again.fabric("status", &[]).code, 0);
    assert_eq!(again.end(Signal::SIGINT), Some(0));
}

#[test]
fn the_file_of_memory_that_left_is_closed_by_the_process_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start_of("two-heads", &folder.path().join("fabric"), &[]);
    let (ld, length, tag) = (LdId(0), 4 << 20, Tag([1; 16]));
    let add = InitiateAddRequest {
        host_id: ld,
        selection_policy: SelectionPolicy::Contiguous,
        region_number: 0,
        length,
        tag,
        extents: None,
    };
    serving.ask("memdev0.cci", &Request::InitiateAdd(add));
    let taken = UpdatedExtent {
        start_dpa: 0,
        length,
    };
    let taken = UpdatedExtentList {
        flags: 0,
        extents: vec![taken].try_into().unwrap(),
    };
    serving.ask("host0-memdev0-ld0.cci", &Request::AddDcResponse(taken));
    let mut carver = Carver::connect(&serving.directory.join("host0.memory")).unwrap();
    assert_eq!(serving.files(), 0);
    let cut = carver
        .carve(MemdevId(0), ld, &[Span::new(0, length).unwrap()])
        .unwrap();
    // By the next answer the descriptor that was sent is closed.
    assert_eq!(carver.list().unwrap().len(), 1);
    assert_eq!((cut.bytes, serving.files()), (length, 1));
    let take = InitiateReleaseRequest {
        host_id: ld,
        removal_policy: RemovalPolicy::TagBased,
        forced_removal: true,
        sanitize_on_release: false,
        length,
        tag,
        extents: None,
    };
    serving.ask("memdev0.cci", &Request::InitiateRelease(take));
    assert_eq!(serving.files(), 0);
    assert_eq!(serving.end(Signal::SIGTERM), Some(0));
}

#[test]
fn what_is_written_wrongly_is_a_wrong_command_line() {
    for wrong in [
        &["send", "x.cci", "identify"][..],
        &["send", "x.cci", "0001", "0"],
        &["fault", "d", "link-fails", "s0:1"],
        &["fault", "d", "poison", "0", "1000h"],
        &["fault", "d"],
        &["serve", "expander"],
    ] {
        let answer = fabric(wrong);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{answer:?}");
    }
    fabric(&["serve", "nothing", "--directory", "/nonexistent/a"]).assert_refused(2, "by name");
    fabric(&["serve", "expander", "--directory", "/nonexistent/a"]).assert_refused(2, "mkdir");
    fabric(&["status", "/nonexistent/a"]).assert_refused(3, "nobody serves");
}

#[test]
fn a_demonstration_without_a_daemon_says_how_to_get_one() {
    let missing = fabric(&["demo", "--daemon", "/nonexistent/pool-daemon"]);
    missing.assert_refused(2, "no pool-daemon at /nonexistent/pool-daemon: build one");
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("poolctl");
    // By another process: a program that this one has open for writing cannot be run, and another
    // test that starts a process meanwhile would hand the descriptor on to it.
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg(env!("CARGO_BIN_EXE_poolctl")).arg(&alone).status();
    assert!(copied.unwrap().success());
    let mut command = std::process::Command::new(&alone);
    let elsewhere = folder.path().join("bin");
    command.args(["fabric", "demo"]).env("PATH", &elsewhere);
    let answer = Answer::of(command.output().unwrap());
    let tried = format!(
        "{} or {}: build one (cargo build --package pool-daemon)",
        folder.path().join("pool-daemon").display(),
        elsewhere.join("pool-daemon").display()
    );
    answer.assert_refused(2, &tried);
}

#[test]
fn a_demonstration_runs_in_a_folder_that_has_nothing_in_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "").unwrap();
    let keep = folder.path().to_str().unwrap();
    let refused = fabric(&["demo", "--daemon", "/bin/true", "--keep", keep]);
    refused.assert_refused(2, "name a new or empty folder");
    assert_eq!(names_in(folder.path()), 1);
}

/// All that a served fabric says before it is asked anything.
fn all_said(directory: &Path, arguments: &[&str]) -> String {
    let mut command = program();
    command.args(["fabric", "serve", "four-hosts", "--directory"]);
    command.arg(directory).args(arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    // It serves once it has answered.
    fabric(&["status", directory.to_str().unwrap()]);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    out.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn a_served_fabric_has_the_faults_of_a_schedule_and_prints_the_file_that_repeats_them() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("fabric");
    let file = folder.path().join("run.toml");
    let mix = "every=100,lasts=10,until=500,kinds=HostDeath+Poison";
    let drawn = all_said(&directory, &["--seed", "7", "--faults", mix]);
    assert!(drawn.contains("[[fault]]"), "{drawn}");
    assert_eq!(
        drawn,
        all_said(&directory, &["--seed", "7", "--faults", mix])
    );
    assert_ne!(
        drawn,
        all_said(&directory, &["--seed", "8", "--faults", mix])
    );
    std::fs::write(&file, &drawn).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        drawn,
        all_said(&directory, &["--seed", "7", "--schedule", file])
    );

    std::fs::write(file, "[[fault]]\nat = 5\nwhat = { host_dies = 1 }\n").unwrap();
    let serving = Serving::start(&directory, &["--mode", "paced", "--schedule", file]);
    let refused = pool_core::clock::eventually(
        pool_core::clock::Deadline::after(pool_core::Nanos::from_millis(60_000)),
        || {
            let died = serving.fabric("fault", &["host-starts", "1"]);
            (died.code == 0).then_some(())
        },
    );
    assert_eq!(refused, Ok(()), "it had died");
    serving
        .fabric("advance", &["5"])
        .assert_refused(1, "time passes by itself");
    assert_eq!(serving.end(Signal::SIGTERM), Some(0));

    let serving = Serving::start(&directory, &["--schedule", file]);
    serving
        .fabric("fault", &["host-starts", "1"])
        .assert_refused(1, "the host is alive");
    let advanced = serving.fabric("advance", &["1"]);
    assert_eq!((advanced.code, advanced.out.as_str()), (0, "done\n"));
    let started = serving.fabric("fault", &["host-starts", "1"]);
    assert_eq!(started.code, 0, "it had died");
    assert_eq!(serving.end(Signal::SIGTERM), Some(0));
}

#[test]
fn a_wrong_schedule_is_refused_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("fabric");
    let file = folder.path().join("wrong.toml");
    let [at, path] = [&directory, &file].map(|it| it.to_str().unwrap());
    let serve =
        |rest: &[&str]| fabric(&[&["serve", "four-hosts", "--directory", at], rest].concat());
    serve(&["--schedule", path]).assert_refused(2, "cannot use");
    for (text, why) in [
        (
            "[[fault]]\nat = 1\nwhat = { host_sings = 1 }\n",
            "wrong.toml:3",
        ),
        (
            "[[fault]]\nat = 1\nwhat = { host_dies = 9 }\n",
            "a part that the topology",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        serve(&["--schedule", path]).assert_refused(2, why);
    }
    let usage = |rest: &[&str], why: &str| {
        let answer = serve(rest);
        assert_eq!(answer.code, 2, "{answer:?}");
        assert!(answer.err.contains(why), "{answer:?}");
    };
    for (mix, why) in [
        ("often", "faults are written as"),
        ("every=100,lasts=10", "faults are written as"),
        ("every=0,lasts=10,until=9", "a number of milliseconds"),
        ("every=1,lasts=1,until=9,kinds=Rain", "there are HostDeath"),
    ] {
        usage(&["--faults", mix], why);
    }
    let most = ["--faults", "every=1,lasts=1,until=10000000"];
    serve(&most).assert_refused(2, "plan fewer");
    let mix = "every=1,lasts=1,until=9";
    usage(
        &["--faults", mix, "--schedule", path],
        "cannot be used with",
    );
    assert!(!directory.exists());
}
