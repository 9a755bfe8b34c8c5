//! Segments that hosts use by turns. One test: it counts the lines that its whole process drops.

use client_sdk::{Access, AttachOptions, Bytes, Create, Error, Pool, Segment};
use nix::errno::Errno;
use pool_core::fault::{Call, arm_failure, disarm, lines_dropped, plant};
use pool_core::units::LINE_BYTES;
use tierpool_tests::client::ask;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, until};

const PIECES: u64 = 3;
const BYTES: Bytes = Bytes::new(PIECES * EXTENT);
const WORDS: usize = (PIECES * EXTENT / 8) as usize;

fn fill(segment: &Segment, first: u64) {
    let numbers: Vec<u64> = (first..).take(WORDS).collect();
    let place = segment.view_mut(Bytes::ZERO, WORDS).expect("it succeeds");
    place.write_from(0, &numbers).expect("it succeeds");
}

fn holds(segment: &Segment, first: u64) -> bool {
    let mut found = vec![0; WORDS];
    let view = segment
        .view::<u64>(Bytes::ZERO, WORDS)
        .expect("it succeeds");
    view.read_into(0, &mut found).expect("it succeeds");
    found.into_iter().eq((first..).take(WORDS))
}

/// Whether the turn ends with every line of the segment dropped, and the segment let go.
fn ends_whole(daemon: &Daemon, segment: Segment) -> bool {
    let before = lines_dropped();
    segment.flush_and_close().expect("it succeeds");
    let held = daemon
        .admin()
        .segments()
        .expect("it succeeds")
        .remove(0)
        .holders
        .len();
    assert_eq!(held, 0, "the daemon has heard of it");
    lines_dropped() - before == BYTES.get() / LINE_BYTES
}

/// A machine that has no address space left while the lines are dropped.
fn fails_to_end(daemon: &Daemon, segment: Segment) {
    let id = segment.id();
    // The first one is that which unmaps the segment.
    arm_failure(Call::Mmap, 2, Errno::ENOMEM, false);
    let error = segment.flush_and_close().expect_err("it is told");
    disarm();
    let told = matches!(&error, Error::NotFlushed { segment, .. } if *segment == id);
    assert!(told, "{error}");
    let held = |daemon: &Daemon| daemon.admin().segments().ok().map(|s| s[0].holders.len());
    until("it is closed all the same", || {
        (held(daemon) == Some(0)).then_some(())
    });
}

/// Catches: turn.forgets_the_last_piece, turn.spares_what_was_only_read
#[test]
fn a_turn_leaves_exactly_what_was_written_and_no_line_of_it() {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &Setup::small(64));
    let options = AttachOptions::new().socket(daemon.session_socket());
    let pool = Pool::attach(&options.tenant("a")).unwrap();
    let create = Create::new("ddr", BYTES).piece(Bytes::new(EXTENT));
    let segment = pool.create(&create.name("a").persistent()).unwrap();
    fill(&segment, 1);
    assert!(ends_whole(&daemon, segment));
    // The next one finds it, whether it writes or reads, and leaves no line either.
    let open = |access| pool.open("a", access).unwrap();
    let writer = open(Access::ReadWrite);
    assert!(holds(&writer, 1));
    fill(&writer, 7);
    assert!(ends_whole(&daemon, writer));
    let reader = open(Access::ReadOnly);
    assert!(holds(&reader, 7));
    assert_eq!(reader.other_holders(), Ok(0));
    assert!(ends_whole(&daemon, reader));

    fails_to_end(&daemon, open(Access::ReadWrite));
    assert!(ends_whole(&daemon, open(Access::ReadOnly)));

    plant(Some("turn.forgets_the_last_piece"));
    assert!(!ends_whole(&daemon, open(Access::ReadWrite)));
    plant(Some("turn.spares_what_was_only_read"));
    assert!(ends_whole(&daemon, open(Access::ReadWrite)));
    assert!(!ends_whole(&daemon, open(Access::ReadOnly)));
    plant(None);

    // Where the lines cannot be dropped nothing is sealed, and it is written as before.
    let mut segment = open(Access::ReadWrite);
    arm_failure(Call::Mmap, 2, Errno::ENOMEM, false);
    let error = segment.seal().unwrap_err();
    disarm();
    assert!(matches!(error, Error::NotFlushed { .. }), "{error}");
    assert!(holds(&segment, 7) && !segment.is_sealed());
    fill(&segment, 7);
    drop(segment);

    // Another process of the host is seen, and what is sealed was dropped before.
    let mut segment = open(Access::ReadWrite);
    let mut other = daemon.attach("a");
    let held = other.granted(ask::open("a", pool_proto::common::v1::Access::ReadOnly));
    assert_eq!(segment.other_holders(), Ok(1));
    assert_eq!(pool.segments().unwrap().segments[0].holders, 2);
    let before = lines_dropped();
    segment.seal().unwrap();
    assert_eq!(lines_dropped() - before, BYTES.get() / LINE_BYTES);
    assert!(holds(&segment, 7) && held.segment.holders == 2);
}
