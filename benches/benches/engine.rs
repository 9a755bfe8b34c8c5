//! Micro-benchmarks of what the daemon computes: steps of the engine, free runs, recovery. Nothing
//! here waits for the world; `cargo xtask bench pool` measures what a client waits for.

#[path = "../src/drive.rs"]
mod drive;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use drive::{BOOT_ID, Drive, plan};
use pool_core::{ClientId, SegmentId, clock};
use pool_daemon::engine::{Engine, Found, Run, RunSet};
use pool_daemon::journal::Journal as _;
use pool_daemon::journal::memory::MemoryJournal;
use pool_proto::session::v1::{Free, reply, request};

const SEGMENTS: u32 = 10_000;
const PER_CLIENT: u32 = 1_000;

/// An engine with so many segments of one extent.
fn filled(segments: u32) -> Drive {
    let mut drive = Drive::new(plan(2 * SEGMENTS)).expect("a new pool");
    for number in 0..segments.div_ceil(PER_CLIENT) {
        let client = drive.attach().expect("a client");
        for _ in 0..PER_CLIENT.min(segments - number * PER_CLIENT) {
            drive.create(client, 1).expect("a segment");
        }
    }
    drive
}

fn free(drive: &mut Drive, client: ClientId, segment: SegmentId) {
    let segment_id = segment.number();
    let ask = Free {
        segment_id,
        force: false,
    };
    let answer = drive.ask(client, request::Body::Free(ask));
    assert!(matches!(answer, Ok(reply::Body::Done(_))), "{answer:?}");
}

fn steps(criterion: &mut Criterion) {
    for segments in [0, SEGMENTS] {
        let mut drive = filled(segments);
        let client = drive.attach().expect("a client");
        let name = format!("engine: create and free, up to the proof, {segments} segments");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let segment = drive.create(client, 1).expect("a segment");
                free(&mut drive, client, segment);
                drive.records.clear();
            });
        });
    }
}

fn runs(criterion: &mut Criterion) {
    // Every other number is free: as many runs as there can be.
    let mut set = RunSet::default();
    for number in 0..SEGMENTS {
        let run = Run {
            first: 2 * number,
            count: 1,
        };
        set.insert(run).expect("it is not there yet");
    }
    criterion.bench_function("run set: take and insert one of 10,000 runs", |bencher| {
        bencher.iter(|| {
            let run = set.take_run(black_box(1)).expect("there is one");
            set.insert(run).expect("it was taken");
        });
    });
}

fn recovery(criterion: &mut Criterion) {
    let drive = filled(SEGMENTS);
    let mut journal = MemoryJournal::default();
    journal.load().expect("an empty journal");
    journal.commit(&drive.records).expect("it is remembered");
    let rows = journal.load().expect("what was remembered");
    let present = drive.engine.backing_ids().collect();
    let found = Found {
        boot_id: BOOT_ID.to_owned(),
        present,
        ..Found::default()
    };
    criterion.bench_function("engine: recover 10,000 segments", |bencher| {
        bencher.iter_batched(
            || (plan(2 * SEGMENTS), rows.clone()),
            |(plan, rows)| Engine::recover(plan, rows, &found, clock::now()).expect("it recovers"),
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, steps, runs, recovery);
criterion_main!(benches);
