//! Segments that are sealed, on the real daemon: who keeps one from being sealed, and what nobody
//! does with it from then on.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use client_sdk::{
    Access as Wants, AccessError, AttachOptions, Bytes, Create, Pool, Reason, Segment,
};
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::{reply, request};
use tierpool_tests::EXTENT;
use tierpool_tests::client::{Session, Unanswered, ask, granted};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;

const SEED: u64 = 11;

fn start(setup: &Setup) -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), setup)
}

fn attach(daemon: &Daemon) -> Pool {
    Pool::attach(
        &AttachOptions::new()
            .socket(daemon.session_socket())
            .tenant("a"),
    )
    .expect("it succeeds")
}

/// Three pieces, with a number in each.
fn written(pool: &Pool) -> Segment {
    let create = Create::new("ddr", Bytes::new(3 * EXTENT)).piece(Bytes::new(EXTENT));
    let segment = pool
        .create(&create.name("a").persistent())
        .expect("it succeeds");
    for piece in 0..3 {
        let place = segment
            .view_mut(Bytes::new(piece * EXTENT), 1)
            .expect("it succeeds");
        place.set(0, SEED + piece).expect("it succeeds");
    }
    segment
}

fn holds_what_was_written(segment: &Segment) {
    for piece in 0..3 {
        let view = segment
            .view::<u64>(Bytes::new(piece * EXTENT), 1)
            .expect("it succeeds");
        assert_eq!(view.get(0), Ok(SEED + piece));
    }
}

/// The segment `a` of a client that holds it read-write, and the number of its writers.
fn opened(client: &mut Session, body: request::Body) -> (u64, u64) {
    match client.ask(body).body {
        reply::Body::Granted(granted) => (
            granted.segment.expect("a grant has a segment").segment_id,
            granted.writers,
        ),
        other => panic!("a grant was hoped for, and there came {other:?}"),
    }
}

fn refused(client: &mut Session, body: request::Body) -> Option<ErrorReason> {
    match client.try_ask(body) {
        Err(Unanswered::Refused(error)) => Some(error.reason()),
        _ => None,
    }
}

/// Whether a client that has the segment to write keeps another one from sealing it.
fn another_writer_keeps_it_from_being_sealed(daemon: &Daemon) -> bool {
    let (mut client, mut other) = (daemon.attach("a"), daemon.attach("a"));
    client.ask(ask::create_persistent("ddr", EXTENT, "a"));
    other.ask(ask::open("a", Access::ReadWrite));
    let (id, writers) = opened(&mut client, ask::open("a", Access::ReadWrite));
    refused(&mut client, ask::seal(id, writers)) == Some(ErrorReason::InUse)
}

/// Whether one that had it in between does.
fn who_wrote_in_between_keeps_it_from_being_sealed(daemon: &Daemon) -> bool {
    let (mut client, mut other) = (daemon.attach("a"), daemon.attach("a"));
    let (id, writers) = opened(&mut client, ask::create_persistent("ddr", EXTENT, "a"));
    other.ask(ask::open("a", Access::ReadWrite));
    other.ask(ask::close(id));
    refused(&mut client, ask::seal(id, writers)) == Some(ErrorReason::InUse)
}

/// Whether nobody opens it to write after the daemon was killed.
fn a_seal_outlives_the_daemon(daemon: &mut Daemon) -> bool {
    let mut client = daemon.attach("a");
    let (id, writers) = opened(&mut client, ask::create_persistent("ddr", EXTENT, "a"));
    client.ask(ask::seal(id, writers));
    daemon.kill();
    daemon.restart();
    let mut other = daemon.attach("a");
    let refused = refused(&mut other, ask::open("a", Access::ReadWrite));
    refused == Some(ErrorReason::Sealed)
}

#[test]
fn a_segment_is_sealed_where_nobody_else_writes_it_and_for_as_long_as_it_lives() {
    let setup = Setup::small(64);
    assert!(another_writer_keeps_it_from_being_sealed(&start(&setup)));
    assert!(who_wrote_in_between_keeps_it_from_being_sealed(&start(
        &setup
    )));
    assert!(a_seal_outlives_the_daemon(&mut start(&setup)));
}

/// Catches: seal.admits_another_writer, seal.forgets_who_wrote, seal.is_not_journaled
#[test]
fn a_daemon_that_seals_carelessly_is_caught() {
    let wrong = |bug: &str| start(&Setup::small(64).with("TIERPOOL_BUG", bug));
    let daemon = wrong("seal.admits_another_writer");
    assert!(!another_writer_keeps_it_from_being_sealed(&daemon));
    let daemon = wrong("seal.forgets_who_wrote");
    assert!(!who_wrote_in_between_keeps_it_from_being_sealed(&daemon));
    assert!(!a_seal_outlives_the_daemon(&mut wrong(
        "seal.is_not_journaled"
    )));
}

#[test]
fn what_is_sealed_is_read_by_all_and_written_by_nobody_before_and_after_a_restart() {
    let mut daemon = start(&Setup::small(64));
    let pool = attach(&daemon);
    let mut segment = written(&pool);
    let mut other = daemon.attach("a");
    let held = other.granted(ask::open("a", Access::ReadWrite));
    let kept = segment.seal().unwrap_err();
    assert_eq!(kept.reason(), Some(Reason::InUse), "{kept}");
    let place = segment.view_mut::<u64>(Bytes::ZERO, 1).unwrap();
    place.set(0, SEED).unwrap();
    assert_eq!(segment.other_holders(), Ok(1));
    other.ask(ask::close(held.id()));
    drop(held);
    segment.seal().unwrap();
    let id = segment.id();
    for restarted in [false, true] {
        if restarted {
            daemon.kill();
            daemon.restart();
            other.reattach().unwrap();
        }
        let asks = [
            ask::open("a", Access::ReadWrite),
            ask::share(id.number(), "b", Access::ReadWrite),
        ];
        for ask in asks {
            assert_eq!(refused(&mut other, ask), Some(ErrorReason::Sealed));
        }
        let grown = segment.resize(Bytes::new(EXTENT)).unwrap_err();
        assert_eq!(grown.reason(), Some(Reason::Sealed));
        let wider = pool.open("a", Wants::ReadWrite).unwrap_err();
        assert_eq!(wider.reason(), Some(Reason::Sealed));
        let sealed = AccessError::Sealed { segment: id };
        assert_eq!(
            segment.view_mut::<u64>(Bytes::ZERO, 1).map(drop),
            Err(sealed)
        );
        holds_what_was_written(&segment);
        let read = granted(other.ask(ask::open("a", Access::ReadOnly)));
        assert!(read.segment.sealed && read.access == Access::ReadOnly);
        other.ask(ask::close(read.id()));
        let shown = daemon.admin().segments().unwrap();
        assert!(shown[0].segment.as_ref().unwrap().sealed);
    }
    daemon.balanced();
    segment.free(client_sdk::Force::No).unwrap();
    daemon.await_all_free();
}

#[test]
fn a_late_store_of_who_sealed_it_never_reaches_it() {
    let daemon = start(&Setup::small(64));
    let pool = attach(&daemon);
    let mut segment = written(&pool);
    let late = segment.as_ptr().addr() as u64;
    let memory = File::options()
        .read(true)
        .write(true)
        .open("/proc/self/mem")
        .unwrap();
    memory.write_at(&SEED.to_le_bytes(), late).unwrap();
    segment.seal().unwrap();
    assert_eq!(segment.as_ptr().addr() as u64, late, "it is where it was");
    // What a bare pointer could store: the kernel does it in its stead, and is refused.
    memory.write_at(&[0xff; 8], late).unwrap_err();
    holds_what_was_written(&segment);
    let start = format!("{late:x}-");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().find(|line| line.starts_with(&start)).unwrap();
    assert!(mapped.contains(" r--s "), "{mapped}");
}
