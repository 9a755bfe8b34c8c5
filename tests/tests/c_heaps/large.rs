//! Large blocks of malloc that are of a heap of the pool, as variables say: `tests/c/large.c`.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use client_sdk::{AttachOptions, Pool};
use nix::sys::signal::Signal;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::{skipped, until};

use crate::build::{NoCompiler, case_program};
use crate::library::Library;
use crate::scene::{Ended, case, daemon, ended};

/// The program of the cases; where there is no compiler that is told.
fn program() -> Option<std::path::PathBuf> {
    match case_program("large") {
        Ok(path) => Some(path),
        Err(NoCompiler(why)) => {
            skipped("c_heaps::large", &why);
            None
        }
    }
}

macro_rules! cases {
    ($($case:ident $mib:literal $(($variable:literal $value:literal))*;)*) => {
        $(
            #[test]
            fn $case() {
                case("large", stringify!($case), $mib, &[$(($variable, $value)),*]);
            }
        )*
    };
}

cases! {
    large_blocks_are_of_the_heap 320 ("TIERPOOL_HEAP" "jobs");
    a_block_moves_between_the_heaps 320 ("TIERPOOL_HEAP" "jobs@ddr");
    all_of_the_family_gives_them 320 ("TIERPOOL_HEAP" "jobs!");
    a_smaller_bound_is_kept 320 ("TIERPOOL_HEAP" "jobs") ("TIERPOOL_HEAP_MIN" "65536");
    threads_free_each_other_s 640 ("TIERPOOL_HEAP" "jobs@ddr!");
    the_smallest_stack_is_enough_for_large_blocks 320 ("TIERPOOL_HEAP" "jobs");
    a_child_has_none_of_them 320 ("TIERPOOL_HEAP" "jobs");
    children_are_forked_while_threads_allocate 320 ("TIERPOOL_HEAP" "jobs");
    a_program_that_is_executed_has_a_heap 640 ("TIERPOOL_HEAP" "jobs");
}

/// What is said once, and no more often.
fn is_said_once(said: &str, what: &str) {
    assert_eq!(said.matches(what).count(), 1, "{said}");
}

#[test]
fn a_full_pool_is_told_and_goes_on() {
    let variables = [("TIERPOOL_HEAP", "jobs")];
    let said = case("large", "a_full_pool_is_told_and_goes_on", 160, &variables);
    if let Some(said) = said {
        is_said_once(
            &said,
            "tierpool: 31457280 bytes are private memory, and not of the heap jobs: ",
        );
        is_said_once(&said, "TIERPOOL_EXHAUSTED");
    }
}

#[test]
fn a_full_pool_refuses_where_that_is_said() {
    let variables = [("TIERPOOL_HEAP", "jobs@ddr!")];
    let name = "a_full_pool_refuses_where_that_is_said";
    if let Some(said) = case("large", name, 160, &variables) {
        is_said_once(
            &said,
            "tierpool: 31457280 bytes are refused, and not of the heap jobs: ",
        );
    }
}

/// Runs a case without a daemon, or with variables that are wrong.
fn alone(name: &str, variables: &[(&str, &str)]) -> Option<Ended> {
    let mut command = Command::new(program()?);
    command.arg(name).envs(variables.iter().copied());
    Library::under_test().load_into(&mut command);
    let output = command.output().expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    Some(Ended {
        status: output.status,
        said: String::from_utf8(said).expect("it says text"),
    })
}

#[test]
fn without_a_daemon_a_program_has_private_blocks_or_none_as_it_is_said() {
    let nowhere = ("TIERPOOL_SOCKET", "/nowhere/at/all.sock");
    for (name, heap) in [
        ("without_a_daemon_all_is_private", "jobs"),
        (
            "without_a_daemon_all_is_refused_where_that_is_said",
            "jobs!",
        ),
    ] {
        let Some(ended) = alone(name, &[nowhere, ("TIERPOOL_HEAP", heap)]) else {
            return;
        };
        assert!(ended.status.success(), "{ended:?}");
        is_said_once(&ended.said, "not of the heap jobs: there is no daemon at");
        is_said_once(&ended.said, "TIERPOOL_UNREACHABLE");
    }
}

#[test]
fn a_tier_that_is_not_there_is_told() {
    let variables = [("TIERPOOL_HEAP", "jobs@nowhere"), ("CHECK_OURS", "1")];
    let Some(program) = program() else { return };
    let daemon = daemon(320);
    let mut command = Command::new(program);
    command
        .arg("without_a_daemon_all_is_private")
        .envs(variables);
    let ended = ended(&daemon, &mut command);
    assert!(ended.status.success(), "{ended:?}");
    is_said_once(&ended.said, "TIERPOOL_NO_TIER");
    is_said_once(&ended.said, "\"nowhere\"");
}

#[test]
fn a_wrong_variable_ends_the_program_before_it_begins() {
    let least = |value| [("TIERPOOL_HEAP", "jobs"), ("TIERPOOL_HEAP_MIN", value)];
    let heap = |value| [("TIERPOOL_HEAP", value), ("CHECK_OURS", "1")];
    for (variables, name) in [
        (heap(""), "TIERPOOL_HEAP "),
        (heap("!"), "TIERPOOL_HEAP "),
        (heap("@ddr"), "TIERPOOL_HEAP "),
        (heap("jobs@"), "TIERPOOL_HEAP "),
        (heap("jobs@ddr,"), "TIERPOOL_HEAP "),
        (heap("jobs@1,2,3,4,5,6,7,8,9"), "TIERPOOL_HEAP "),
        (least(""), "TIERPOOL_HEAP_MIN "),
        (least("1000"), "TIERPOOL_HEAP_MIN "),
        (least("33554433"), "TIERPOOL_HEAP_MIN "),
        (least("1M"), "TIERPOOL_HEAP_MIN "),
    ] {
        let Some(ended) = alone("a_double_free_ends_it", &variables) else {
            return;
        };
        assert_eq!(ended.status.code(), Some(2), "{variables:?}: {ended:?}");
        is_said_once(&ended.said, &format!("tierpool: {name}is to be "));
    }
}

#[test]
fn misuse_ends_the_program_with_a_message() {
    let Some(program) = program() else { return };
    let daemon = daemon(320);
    for (name, said) in [
        ("a_double_free_ends_it", "free of 0x"),
        ("a_pointer_into_a_block_ends_it", "invalid free, no block"),
    ] {
        let mut command = Command::new(&program);
        command.arg(name).env("TIERPOOL_HEAP", "jobs");
        Library::under_test().load_into(&mut command);
        let ended = ended(&daemon, &mut command);
        let signal = ended.status.signal();
        assert_eq!(signal, Some(Signal::SIGABRT as i32), "{ended:?}");
        assert!(ended.said.contains("tierpool: "), "{ended:?}");
        let is_told = ended.said.contains(said) || ended.said.contains("invalid free");
        assert!(is_told, "{ended:?}");
    }
    daemon.await_all_free();
}

/// The case `name`, in a process that has said that it is ready, and waits for the end of its
/// input.
fn held(daemon: &Daemon, program: &Path, name: &str) -> Child {
    let mut command = Command::new(program);
    command
        .arg(name)
        .env("TIERPOOL_HEAP", "jobs")
        .env("TIERPOOL_SOCKET", daemon.session_socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Library::under_test().load_into(&mut command);
    let mut child = command.spawn().expect("the program starts");
    let mut line = [0; 6];
    let stdout = child.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut line).expect("it says something");
    assert_eq!(&line, b"ready\n");
    child
}

#[test]
fn a_dead_daemon_is_done_without() {
    let Some(program) = program() else { return };
    let mut daemon = daemon(320);
    let child = held(&daemon, &program, "a_dead_daemon_is_done_without");
    daemon.kill();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{}: {said}", output.status);
    is_said_once(&said, "are private memory, and not of the heap jobs: ");
    is_said_once(&said, "TIERPOOL_UNREACHABLE");
}

#[test]
fn the_daemon_knows_the_heap_of_a_program_until_it_is_killed() {
    let Some(program) = program() else { return };
    let daemon = daemon(320);
    let mut child = held(&daemon, &program, "a_block_is_held");
    let options = AttachOptions::new().socket(daemon.session_socket());
    let pool = Pool::attach(&options).unwrap();
    let names = || -> Vec<String> {
        let segments = pool.segments().unwrap().segments;
        segments.into_iter().map(|segment| segment.name).collect()
    };
    let heap = format!("jobs-{}", child.id());
    assert!(names().contains(&heap), "{:?}", names());
    assert!(names().contains(&format!("{heap}/0")), "{:?}", names());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the heap has ended", || names().is_empty().then_some(()));
    drop(pool);
    daemon.await_all_free();
}

/// What `command` of the shell prints, which it prints without the heap as well.
fn runs(heap: &str, needs: &str, command: &str) {
    let shell = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        shell
    };
    let is_there = shell(&format!("command -v {needs}"))
        .output()
        .expect("a shell");
    if !is_there.status.success() {
        return skipped("c_heaps::large::runs", &format!("no {needs} is installed"));
    }
    let daemon = daemon(640);
    let mut plain = shell(command);
    let plain = ended(&daemon, &mut plain);
    assert!(plain.status.success(), "{plain:?}");
    let mut loaded = shell(command);
    loaded.env("TIERPOOL_HEAP", heap);
    let library = Library::under_test().path.as_ref();
    loaded.env("LD_PRELOAD", library.expect("the library of Tierpool"));
    let loaded = ended(&daemon, &mut loaded);
    assert!(loaded.status.success(), "{loaded:?}");
    assert_eq!(loaded.said, plain.said);
    let events = daemon.log().matches("client-attached").count();
    assert!(events > 0, "nobody attached: {}", daemon.log());
    daemon.await_all_free();
}

#[test]
fn python_and_what_it_starts_run_over_the_heap() {
    runs(
        "python!",
        "python3",
        "python3 -c '
import subprocess, sys, threading
blocks = [bytearray(2 << 20) for _ in range(20)]
for number, block in enumerate(blocks):
    block[-1] = number
    block.extend(bytes(1 << 20))
grown = b\"x\" * (3 << 20) + b\"y\" * (1 << 20)
child = [sys.executable, \"-c\", \"print(sum(bytearray(b\\\"\\\\x01\\\" * (4 << 20))))\"]
print(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
workers = [threading.Thread(target=lambda: bytearray(5 << 20)) for _ in range(8)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(len(grown), sum(block[(2 << 20) - 1] for block in blocks))
' && echo after",
    );
}

#[test]
fn a_shell_and_its_programs_run_over_the_heap() {
    runs(
        "shell",
        "sort",
        "seq 200000 | sort -r --buffer-size=16M | tail -n 1 && (seq 100000 | sort -n | tail -n 1)",
    );
}
