//! Heaps of the real daemon: found by name, shared by processes, and whole when those die.

#![expect(unsafe_code, reason = "blocks of a heap are freed by whoever has them")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::ptr::NonNull;

use client_sdk::{
    AttachOptions, Create, Error, ErrorClass, HeapError, HeapOptions, Mode, Pool, PoolHeap, Reason,
};
use pool_core::Bytes;
use pool_core::units::TIB;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, until};

fn start(mib: u64, window: u64) -> (Daemon, Pool) {
    let setup = Setup {
        window_base: Some(window * TIB + EXTENT),
        window_bytes: Some(TIB),
        ..Setup::small(mib)
    };
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let pool = attach(&daemon);
    (daemon, pool)
}

fn attach(daemon: &Daemon) -> Pool {
    let options = AttachOptions::new().socket(daemon.session_socket());
    Pool::attach(&options.tenant("a")).expect("it attaches")
}

fn heir(daemon: &Daemon, command: &str) -> Command {
    let mut heir = Command::new(env!("CARGO_BIN_EXE_heir"));
    heir.arg(daemon.session_socket());
    heir.args(["a", "jobs", command, "list"]);
    heir
}

fn run(daemon: &Daemon, command: &str) -> String {
    let output = heir(daemon, command).output().expect("an heir starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it says text")
}

fn blocks(heap: &PoolHeap) -> (usize, usize) {
    let blocks = heap.blocks().expect("the heap is there");
    let pending = blocks.iter().filter(|block| block.is_pending).count();
    (blocks.len() - pending, pending)
}

#[test]
fn processes_reach_and_free_each_others_blocks_at_the_same_addresses() {
    let (daemon, pool) = start(512, 18);
    let heap = pool.create_heap(&HeapOptions::new("jobs")).unwrap();
    run(&daemon, "link");
    assert_eq!(run(&daemon, "sum"), "499500\n");
    assert_eq!(blocks(&heap), (1000, 0));
    run(&daemon, "end");
    heap.recover().unwrap();
    assert_eq!(blocks(&heap), (0, 0));
    assert_eq!(heap.audit().unwrap().findings, []);
    assert_eq!(heap.trim().unwrap(), 1);
    drop(heap);
    pool.remove_heap("jobs").unwrap();
    daemon.balanced();
}

#[test]
fn processes_that_need_a_chunk_at_the_same_time_do_not_wait_for_each_other() {
    let (daemon, pool) = start(512, 20);
    let heap = pool.create_heap(&HeapOptions::new("jobs")).unwrap();
    let start = |_| {
        let mut heir = heir(&daemon, "count");
        heir.stdout(Stdio::piped()).spawn().unwrap()
    };
    let heirs: Vec<_> = (0..4).map(start).collect();
    for heir in heirs {
        let output = heir.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(blocks(&heap), (4_000, 0));
    let audit = heap.audit().unwrap();
    assert!((1..=4).contains(&audit.chunks), "{audit:?}");
    assert_eq!(audit.findings, []);
}

#[test]
fn a_heap_in_software_mode_writes_blocks_back_and_drops_the_lines_of_others() {
    let (daemon, pool) = start(512, 40);
    let refused = pool.create_heap(&HeapOptions::new("jobs").mode(Mode::Simulated));
    assert_eq!(refused.unwrap_err(), HeapError::Simulated.into());
    let heap = pool
        .create_heap(&HeapOptions::new("jobs").mode(Mode::Software))
        .unwrap();
    run(&daemon, "link");
    let first = heap.load(heap.root("list").unwrap()).unwrap();
    let first = std::ptr::with_exposed_provenance_mut(usize::try_from(first).unwrap());
    let before = pool_core::fault::lines_dropped();
    heap.acquire(NonNull::new(first).unwrap()).unwrap();
    // One block of 16 bytes lies in one line.
    assert_eq!(pool_core::fault::lines_dropped() - before, 1);
    assert_eq!(run(&daemon, "sum"), "499500\n");
    run(&daemon, "end");
    assert_eq!(heap.audit().unwrap().findings, []);
}

#[test]
fn a_killed_process_leaves_what_it_published_and_nothing_else() {
    let (daemon, pool) = start(512, 22);
    let heap = pool.create_heap(&HeapOptions::new("jobs")).unwrap();
    let mut hang = heir(&daemon, "hang");
    let mut hang = hang
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(hang.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let (published, pending) = blocks(&heap);
    assert!(
        published == 1000 && pending > 1000,
        "{published}, {pending}"
    );
    hang.kill().unwrap();
    hang.wait().unwrap();
    until("the dead is noticed", || {
        (heap.recover().unwrap() == 1).then_some(())
    });
    assert_eq!(blocks(&heap), (1000, 0));
    assert_eq!(heap.audit().unwrap().findings, []);
    assert_eq!(run(&daemon, "sum"), "499500\n");
    run(&daemon, "end");
    heap.recover().unwrap();
    assert_eq!(blocks(&heap), (0, 0));
}

#[test]
fn a_heap_is_there_again_after_all_that_had_it_and_the_daemon_ended() {
    let (mut daemon, pool) = start(512, 24);
    let heap = pool.create_heap(&HeapOptions::new("jobs")).unwrap();
    run(&daemon, "link");
    drop((heap, pool));
    daemon.kill();
    daemon.restart();
    assert_eq!(run(&daemon, "sum"), "499500\n");
    let pool = attach(&daemon);
    let heap = pool.open_heap("jobs").unwrap();
    assert_eq!(heap.audit().unwrap().findings, []);
    assert_eq!(heap.roots().unwrap()[0].name, "list");
}

#[test]
fn a_quota_is_an_error_of_the_call_and_a_leased_heap_is_its_process_s_and_ends_with_it() {
    let (daemon, pool) = start(160, 26);
    let options = HeapOptions::new("scratch").leased();
    let heap = pool.create_heap(&options).unwrap();
    let mut mine = heap.thread().unwrap();
    let mut held: Vec<NonNull<u8>> = Vec::new();
    let error = loop {
        match mine.allocate(32 << 20) {
            Ok(block) => held.push(block),
            Err(error) => break error,
        }
        assert!(held.len() < 8);
    };
    assert!(matches!(error, HeapError::Exhausted(_)), "{error}");
    let error = Error::from(error);
    assert_eq!(error.class(), ErrorClass::Exhausted, "{error}");
    // SAFETY: nobody uses it.
    unsafe { mine.free(held[0]) }.unwrap();
    mine.allocate(32 << 20).unwrap();
    drop((mine, heap));
    until("its memory is back", || {
        let all = Create::new("ddr", Bytes::new(150 << 20));
        pool.create(&all).ok()
    });
    assert_eq!(
        pool.open_heap("scratch").unwrap_err().reason(),
        Some(Reason::NotFound)
    );
    daemon.balanced();
}

#[test]
fn tiers_are_used_by_preference_and_share_and_a_missing_one_is_an_error() {
    let (_daemon, pool) = start(512, 28);
    let twice = pool.create_heap(&HeapOptions::new("h").tier("ddr").tier("ddr"));
    assert_eq!(twice.unwrap_err(), HeapError::Tiers(2).into());
    let chunk = pool.create_heap(&HeapOptions::new("h/7"));
    assert_eq!(chunk.unwrap_err(), HeapError::Name("h/7".into()).into());
    let missing = pool.create_heap(&HeapOptions::new("h").tier("ddr").tier("hbm9"));
    assert_eq!(
        missing.unwrap_err(),
        HeapError::NoTier("hbm9".into()).into()
    );
    let heap = pool
        .create_heap(&HeapOptions::new("h").tier("ddr"))
        .unwrap();
    assert_eq!(
        heap.thread_in("pooled").unwrap_err(),
        HeapError::NoTier("pooled".into())
    );
    let mut mine = heap.thread_in("ddr").unwrap();
    mine.allocate(100).unwrap();
    let placement = heap.placement().unwrap();
    assert_eq!(
        (placement[0].tier.as_str(), placement[0].chunks),
        ("ddr", 1)
    );
}

#[test]
fn the_operator_is_told_what_a_heap_has_and_may_trim_recover_and_remove_it() {
    let (daemon, pool) = start(512, 30);
    let operator = |arguments: &[&str]| {
        let mut operator = Command::new(env!("CARGO_BIN_EXE_operator"));
        operator.args(["heap", "jobs", "--tenant", "a", "--clients"]);
        operator.arg(daemon.session_socket()).args(arguments);
        let output = operator.output().expect("it starts");
        let text = String::from_utf8([output.stdout, output.stderr].concat());
        (output.status.code(), text.expect("it says text"))
    };
    let (code, said) = operator(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("poolctl: heap jobs: "), "{said}");
    let heap = pool.create_heap(&HeapOptions::new("jobs")).unwrap();
    run(&daemon, "link");
    let (code, said) = operator(&[]);
    assert_eq!(code, Some(0), "{said}");
    for part in ["1 chunk in 998 frames", "ddr", "list", "\n   16 "] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let (_, said) = operator(&["--json"]);
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["classes"][0]["published"], 1000);
    assert_eq!(told["roots"][0]["name"], "list");
    let (_, said) = operator(&["dump"]);
    assert_eq!(
        said.lines()
            .filter(|line| line.ends_with(" 16 published"))
            .count(),
        1000
    );
    run(&daemon, "end");
    assert_eq!(
        operator(&["recover"]),
        (Some(0), "0 threads recovered\n".into())
    );
    assert_eq!(
        operator(&["trim"]),
        (Some(0), "1 chunk given back\n".into())
    );
    let mut mine = heap.thread().unwrap();
    assert_eq!(operator(&["remove"]), (Some(0), "jobs is removed\n".into()));
    assert_eq!(mine.allocate(16), Err(HeapError::Ended));
    assert_eq!(heap.roots(), Err(HeapError::Ended));
    drop((mine, heap));
    assert_eq!(
        pool.open_heap("jobs").unwrap_err().reason(),
        Some(Reason::NotFound)
    );
    daemon.balanced();
}
