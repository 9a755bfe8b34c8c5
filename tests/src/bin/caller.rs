//! A program that uses the client library, and each of its calls once, whatever comes of it.
//!
//! `caller SOCKET MILLIS`, where no call waits for longer, prints how the calls went, by class of
//! error: a `tierpool_tests::asker::Tally`. Where a system call of this process fails for good,
//! each call is done or says so by an error, and the program comes to its end.

#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::time::Duration;

use client_sdk::{
    Access, AttachOptions, Bytes, Create, Domain, DomainOptions, Force, HeapOptions, Pool, Segment,
};
use tierpool_tests::EXTENT;
use tierpool_tests::asker::Tally;

const WORDS: usize = 512;

#[derive(Debug)]
struct Calls {
    patience: Duration,
    tally: Tally,
}

impl Calls {
    /// Takes an outcome down; an error must tell its reader something.
    fn take<T, E: Debug + std::fmt::Display>(
        &mut self,
        class: impl Fn(&E) -> String,
        outcome: Result<T, E>,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.tally.done += 1;
                Some(value)
            }
            Err(error) => {
                assert!(!error.to_string().is_empty(), "{error:?}");
                *self.tally.refused.entry(class(&error)).or_default() += 1;
                None
            }
        }
    }

    fn pool<T>(&mut self, outcome: Result<T, client_sdk::Error>) -> Option<T> {
        let class = |error: &client_sdk::Error| match error.reason() {
            Some(reason) => reason.as_str_name().to_owned(),
            None => format!("{:?}", error.class()),
        };
        self.take(class, outcome)
    }

    fn access<T>(&mut self, outcome: Result<T, client_sdk::AccessError>) -> Option<T> {
        self.take(|error| format!("{:?}", error.class()), outcome)
    }

    fn lease<T>(&mut self, outcome: Result<T, client_sdk::LeaseError>) -> Option<T> {
        self.take(|error| format!("{:?}", error.class()), outcome)
    }

    fn heap<T>(&mut self, outcome: Result<T, client_sdk::HeapError>) -> Option<T> {
        self.pool(outcome.map_err(Into::into))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, millis] = &arguments[..] else {
        panic!("caller SOCKET MILLIS");
    };
    let options = AttachOptions::new().socket(socket).tenant("a");
    let mut calls = Calls {
        patience: Duration::from_millis(millis.parse().expect("a number")),
        tally: Tally::default(),
    };
    if let Some(pool) = calls.pool(Pool::attach(&options.timeout(calls.patience))) {
        call_all(&mut calls, &pool);
    }
    println!(
        "{}",
        serde_json::to_string(&calls.tally).expect("it is JSON")
    );
}

fn call_all(calls: &mut Calls, pool: &Pool) {
    calls.pool(pool.tiers());
    let create = Create::new("ddr", Bytes::new(2 * EXTENT)).piece(Bytes::new(EXTENT));
    let create = create.capacity(Bytes::new(3 * EXTENT)).name("one");
    if let Some(segment) = calls.pool(pool.create(&create)) {
        use_segment(calls, pool, segment);
    }
    let create = Create::new("ddr", Bytes::new(EXTENT)).name("leased");
    if let Some(domain) = calls.pool(pool.create_domain(&create, &DomainOptions::new())) {
        use_domain(calls, pool, domain);
    }
    use_objects(calls, pool);
    use_heap(calls, pool);
    if let Some(reserve) = calls.pool(pool.reserve("ddr", Bytes::new(EXTENT), 1))
        && let Some(segment) = calls.pool(reserve.take())
    {
        write(calls, &segment, 4);
    }
    let Some(listed) = calls.pool(pool.segments()) else {
        return;
    };
    for segment in listed.segments {
        // What could not be freed above is freed by name, if it still can be.
        if let Some(found) = calls.pool(pool.open(&segment.name, Access::ReadWrite)) {
            calls.pool(found.free(Force::Yes));
        }
    }
}

/// What is written is there when it is read.
fn write(calls: &mut Calls, segment: &Segment, seed: u64) {
    let Some(view) = calls.access(segment.view_mut::<u64>(Bytes::ZERO, WORDS)) else {
        return;
    };
    if calls.access(view.write_from(0, &[seed; WORDS])).is_some() {
        holds(calls, segment, seed);
    }
}

fn holds(calls: &mut Calls, segment: &Segment, seed: u64) {
    let Some(view) = calls.access(segment.view::<u64>(Bytes::ZERO, WORDS)) else {
        return;
    };
    let mut words = [0; WORDS];
    if calls.access(view.read_into(0, &mut words)).is_some() {
        assert_eq!(words, [seed; WORDS], "what was written is there");
    }
}

fn use_segment(calls: &mut Calls, pool: &Pool, mut segment: Segment) {
    write(calls, &segment, 1);
    for extents in [3, 1] {
        calls.pool(segment.resize(Bytes::new(extents * EXTENT)));
        holds(calls, &segment, 1);
    }
    calls.pool(segment.relocate("pooled"));
    holds(calls, &segment, 1);
    write(calls, &segment, 2);
    calls.pool(segment.refresh());
    holds(calls, &segment, 2);
    drop(segment);
    let kept = Create::new("ddr", Bytes::new(EXTENT))
        .name("kept")
        .persistent();
    if let Some(segment) = calls.pool(pool.create(&kept)) {
        write(calls, &segment, 3);
        segment.close();
    }
    if let Some(segment) = calls.pool(pool.open("kept", Access::ReadWrite)) {
        calls.pool(segment.free(Force::Yes));
    }
}

fn use_domain(calls: &mut Calls, pool: &Pool, domain: Domain) {
    if let Some(unit) = calls.lease(domain.unit(0))
        && let Some(mut guard) = calls.lease(unit.write(calls.patience))
    {
        if let Some(mut view) = calls.lease(guard.view_mut::<u64>(Bytes::ZERO, 1)) {
            calls.lease(view.set(0, 5));
        }
        calls.lease(guard.release());
    }
    if let Some(again) = calls.pool(pool.open_domain("leased", Access::ReadWrite))
        && let Some(unit) = calls.lease(again.unit(0))
        && let Some(guard) = calls.lease(unit.read(calls.patience))
    {
        calls.lease(guard.view::<u64>(Bytes::ZERO, 1));
        calls.lease(guard.release());
    }
    calls.pool(domain.free(Force::Yes));
}

fn use_objects(calls: &mut Calls, pool: &Pool) {
    let create = Create::new("ddr", Bytes::new(EXTENT)).name("objects");
    let made = pool.create_objects(&create, Bytes::new(64 << 10));
    let Some(objects) = calls.pool(made) else {
        return;
    };
    let class = |error: &client_sdk::ObjectError| format!("{:?}", error.class());
    if let Some(draft) = calls.take(class, objects.draft::<u64>(8)) {
        let published = draft.publish_within("first", calls.patience);
        let published = calls.take(class, published.map_err(|unpublished| unpublished.error));
        // An object is there for as long as somebody has it.
        if let Some(shared) = published {
            calls.lease(shared.view());
            drop(calls.take(class, objects.get_within::<u64>("first", calls.patience)));
        }
    }
}

fn use_heap(calls: &mut Calls, pool: &Pool) {
    if let Some(heap) = calls.pool(pool.create_heap(&HeapOptions::new("heap"))) {
        if let Some(mut mine) = calls.heap(heap.thread()) {
            for bytes in [48, 4 << 10, 1 << 20] {
                if let Some(block) = calls.heap(mine.allocate(bytes)) {
                    calls.heap(mine.publish(block));
                }
            }
        }
        calls.heap(heap.recover());
        if let Some(audit) = calls.heap(heap.audit()) {
            assert_eq!(audit.findings, []);
        }
    }
    calls.pool(pool.remove_heap("heap"));
}
