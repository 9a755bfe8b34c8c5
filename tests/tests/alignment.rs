//! Segments that begin at a multiple of what was asked for, on the real daemon.
//!
//! All windows here begin at an odd extent: a multiple of anything larger is none in the window's
//! own count. They lie apart, for each test reserves one in this process.

use client_sdk::{
    Access, AttachOptions, Bytes, Create, Error, ErrorClass, Pool, ProtocolError, Reason, Segment,
};
use pool_core::units::{MIB, TIB};
use tierpool_tests::EXTENT;
use tierpool_tests::client::ask;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;

const CHUNK: u64 = 64 * MIB;

fn start(setup: Setup, window_base: u64) -> (Daemon, Pool) {
    let setup = Setup {
        window_base: Some(window_base),
        ..setup
    };
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let options = AttachOptions::new().socket(daemon.session_socket());
    let pool = Pool::attach(&options.tenant("a")).expect("it attaches");
    (daemon, pool)
}

fn chunk(align: u64) -> Create {
    Create::new("ddr", Bytes::new(CHUNK)).align(Bytes::new(align))
}

/// The chunk that a byte is in, as its address alone tells.
fn chunk_of(segment: &Segment, offset: u64) -> u64 {
    (segment.addr().get() + offset) & !(CHUNK - 1)
}

#[test]
fn a_chunk_begins_at_a_multiple_of_its_size_and_stays_there_when_the_daemon_dies() {
    let (mut daemon, pool) = start(Setup::small(256), 16 * TIB + EXTENT);
    let _before = pool
        .create(&Create::new("ddr", Bytes::new(EXTENT)))
        .unwrap();
    let kept = chunk(CHUNK).name("chunk").persistent();
    let first = pool.create(&kept).unwrap();
    let addr = first.addr();
    let ends = [0, CHUNK - 1].map(|offset| chunk_of(&first, offset));
    assert_eq!(ends, [addr.get(); 2]);
    let last = Bytes::new(CHUNK - 8);
    let word = first.view_mut::<u64>(last, 1).unwrap();
    word.set(0, 7).unwrap();

    daemon.kill();
    daemon.restart();
    let listed = pool.segments().unwrap().segments;
    let listed = listed.iter().find(|info| info.name == "chunk").unwrap();
    assert_eq!(listed.addr, addr);
    // Who has never seen it is granted it there, and the next one elsewhere.
    let read_only = pool_proto::common::v1::Access::ReadOnly;
    let opened = daemon.attach("a").granted(ask::open("chunk", read_only));
    assert_eq!(opened.segment.addr, addr.get());
    drop(first);
    let first = pool.open("chunk", Access::ReadWrite).unwrap();
    let word = first.view::<u64>(last, 1).unwrap();
    assert_eq!((first.addr(), word.get(0)), (addr, Ok(7)));
    let second = pool.create(&chunk(CHUNK)).unwrap();
    assert!(second.addr().get().is_multiple_of(CHUNK));
    assert_ne!(chunk_of(&second, CHUNK - 1), addr.get());
    daemon.balanced();
}

#[test]
fn an_alignment_that_cannot_be_had_is_refused_and_where_there_is_no_place_that_is_said() {
    let (daemon, pool) = start(Setup::small(64), 32 * TIB + EXTENT);
    for align in [4096, MIB, 3 * EXTENT, 32 * TIB] {
        let error = pool.create(&chunk(align)).unwrap_err();
        let kind = (error.class(), error.reason());
        assert_eq!(kind, (ErrorClass::Caller, Some(Reason::OutOfRange)));
        let said = error.to_string();
        assert!(said.contains("power of two from 2 MiB to 16 TiB"), "{said}");
    }
    // The last extent of the window is the only one at a multiple of so much.
    let only = Create::new("ddr", Bytes::new(EXTENT)).align(Bytes::new(16 * TIB));
    let segment = pool.create(&only).unwrap();
    assert_eq!(segment.addr().get(), 48 * TIB);
    let error = pool.create(&only).unwrap_err();
    let kind = (error.class(), error.reason());
    assert_eq!(kind, (ErrorClass::Exhausted, Some(Reason::WindowFull)));
    let said = error.to_string();
    assert!(said.contains("begins at a multiple of 16 TiB"), "{said}");
    drop(segment);
    daemon.await_all_free();
    pool.create(&only).unwrap();
}

/// Catches: place.aligns_the_offset
#[test]
fn a_daemon_that_places_carelessly_is_found_out_and_has_its_memory_back() {
    let wrong = Setup::small(256).with("TIERPOOL_BUG", "place.aligns_the_offset");
    let (daemon, pool) = start(wrong, 48 * TIB + 3 * EXTENT);
    let error = pool.create(&chunk(CHUNK)).unwrap_err();
    let Error::Protocol(ProtocolError::Misaligned { addr, align }) = error else {
        panic!("{error}");
    };
    assert_eq!(align.get(), CHUNK);
    assert!(!addr.get().is_multiple_of(CHUNK));
    daemon.await_all_free();
}
