//! The daemon dies or is stopped, and is started again: who held memory holds it still, byte for
//! byte, and nobody else gets it.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use pool_proto::admin::v1 as admin;
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::event;
use tierpool_tests::client::{Held, Session, Unanswered, ask, granted};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, until};

fn start(setup: &Setup) -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), setup)
}

/// A pool whose descriptors only the clients keep.
fn kept_by_clients(grace_ms: u64) -> Setup {
    Setup {
        store: "clients",
        grace_ms,
        ..Setup::small(64)
    }
}

fn reason(refused: Result<impl std::fmt::Debug, Unanswered>) -> ErrorReason {
    match refused {
        Err(Unanswered::Refused(error)) => error.reason(),
        other => panic!("a refusal was hoped for, and there came {other:?}"),
    }
}

/// What tells one grant from all others.
fn identity(held: &Held) -> (u64, u64, u64, Vec<u64>) {
    let backings = held.segment.pieces.iter().map(|piece| piece.backing_id);
    let segment = &held.segment;
    (
        segment.segment_id,
        segment.addr,
        segment.incarnation,
        backings.collect(),
    )
}

#[test]
fn who_held_memory_when_the_daemon_was_killed_holds_it_still() {
    let mut daemon = start(&Setup::default());
    let mut client = daemon.attach("a");
    let held: Vec<_> = [("hbm", 1), ("ddr", 3), ("pooled", 2)]
        .map(|(tier, extents)| client.granted(ask::create(tier, extents * EXTENT)))
        .into();
    held.iter().for_each(|held| held.write(held.id()));

    daemon.kill();
    for held in &held {
        assert!(held.holds(held.id()), "a mapping needs no daemon");
        held.write(held.id() + 100);
    }
    daemon.restart();
    let epoch = client.attached().daemon_epoch;
    let back = client.reattach().unwrap();
    assert_eq!(back.daemon_epoch, epoch + 1);
    assert_eq!((back.missing_backings.len(), back.missing_more), (0, false));
    let listed: BTreeSet<_> = back
        .held
        .iter()
        .map(|h| (h.segment_id, h.incarnation, h.bytes))
        .collect();
    let expected = held
        .iter()
        .map(|h| (h.id(), h.segment.incarnation, h.segment.bytes))
        .collect();
    assert_eq!(listed, expected);
    for held in &held {
        // What the keeper brought back is the same file.
        let again = client.granted(ask::refresh(held.id()));
        assert_eq!(identity(&again), identity(held));
        assert!(again.holds(held.id() + 100) && held.holds(held.id() + 100));
        again.write(7);
        assert!(held.holds(7), "both see the same memory");
    }
    daemon.balanced();
}

#[test]
fn a_request_repeated_after_a_restart_is_answered_as_before_and_done_once() {
    let mut daemon = start(&Setup::small(64));
    let mut client = daemon.attach("a");
    let ask = ask::create_named("ddr", 2 * EXTENT, "once");
    let first = client.granted(ask.clone());
    first.write(1);
    let id = client.last_id();
    for _ in 0..3 {
        daemon.kill();
        daemon.restart();
        client.reattach().unwrap();
        let again = granted(client.ask_as(id, ask.clone()).unwrap());
        assert_eq!(identity(&again), identity(&first));
        assert!(again.holds(1));
        assert_eq!(client.list().len(), 1);
    }
    // The same of a request whose answer says nothing but that it is done.
    let free = ask::free(first.id(), false);
    client.ask(free.clone());
    let id = client.last_id();
    daemon.kill();
    daemon.restart();
    client.reattach().unwrap();
    client.ask_as(id, free).unwrap();
    assert!(client.list().is_empty());
    drop(first);
    daemon.await_all_free();
}

#[test]
fn nothing_is_granted_twice_over_many_restarts() {
    let mut daemon = start(&Setup::small(128));
    let mut client = daemon.attach("a");
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for round in 0..6_u64 {
        for extents in 1..=3 {
            let held = client.granted(ask::create("ddr", extents * EXTENT));
            held.write(held.id());
            let (id, _, incarnation, backings) = identity(&held);
            let names = [
                format!("segment {id}"),
                format!("incarnation {incarnation}"),
            ];
            let backings = backings
                .into_iter()
                .map(|backing| format!("backing {backing}"));
            for name in names.into_iter().chain(backings) {
                assert!(seen.insert(name.clone()), "{name} was granted before");
            }
            all.push(held);
        }
        // What is freed may be granted again, but never under the same numbers.
        let freed = all.swap_remove(usize::try_from(round).unwrap());
        client.ask(ask::free(freed.id(), false));
        drop(freed);
        daemon.kill();
        daemon.restart();
        client.reattach().unwrap();
        let mut ranges: Vec<_> = all
            .iter()
            .map(|h| (h.segment.addr, h.segment.bytes))
            .collect();
        ranges.sort_unstable();
        assert!(
            ranges
                .windows(2)
                .all(|pair| pair[0].0 + pair[0].1 <= pair[1].0),
            "{ranges:?}"
        );
        assert!(
            all.iter().all(|held| held.holds(held.id())),
            "round {round}"
        );
        daemon.balanced();
    }
}

#[test]
fn descriptors_that_only_clients_kept_are_brought_back_by_them() {
    let mut daemon = start(&kept_by_clients(60_000));
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create("ddr", 2 * EXTENT));
    let other = client.granted(ask::create("ddr", EXTENT));
    held.write(1);
    daemon.kill();
    daemon.restart();
    let back = client.reattach().unwrap();
    let missing: BTreeSet<_> = back.missing_backings.iter().copied().collect();
    let backing = |held: &Held| held.segment.pieces[0].backing_id;
    assert_eq!(missing, BTreeSet::from([backing(&held), backing(&other)]));
    assert_eq!(
        reason(client.try_ask(ask::refresh(held.id()))),
        ErrorReason::Busy
    );
    // The wrong one of one's own files is not taken for the right one.
    let wrong = client.supply(backing(&held), other.files[0].as_fd());
    assert!(matches!(wrong, Err(Unanswered::Refused(_))), "{wrong:?}");
    for held in [&held, &other] {
        client.supply(backing(held), held.files[0].as_fd()).unwrap();
        let again = client.granted(ask::refresh(held.id()));
        assert_eq!(identity(&again), identity(held));
    }
    assert!(held.holds(1));
    daemon.balanced();
    client.ask(ask::free(held.id(), false));
    client.ask(ask::free(other.id(), false));
    drop((held, other));
    daemon.await_all_free();
}

#[test]
fn memory_whose_descriptors_nobody_brings_back_is_lost_and_said_to_be() {
    let mut daemon = start(&kept_by_clients(300));
    let mut client = daemon.attach("a");
    let persistent = client.granted(ask::create_persistent("ddr", EXTENT, "left"));
    client.ask(ask::close(persistent.id()));
    drop(persistent);
    let held = client.granted(ask::create("ddr", 2 * EXTENT));
    daemon.kill();
    daemon.restart();
    // It is back, and brings nothing.
    client.reattach().unwrap();
    assert_eq!(client.event(), event::Body::Lost(lost(held.id())));
    assert_eq!(
        reason(client.try_ask(ask::refresh(held.id()))),
        ErrorReason::NotFound
    );
    let left = client.try_ask(ask::open("left", Access::ReadOnly));
    assert_eq!(reason(left), ErrorReason::NotFound);
    let bytes = held.segment.bytes;
    let check = daemon.balanced();
    assert_eq!(
        u64::from(check.devices[0].quarantined_extents) * EXTENT,
        bytes,
        "what a client may still have mapped is granted to nobody"
    );
    client.ask(ask::close(held.id()));
    daemon.await_all_free();
}

fn lost(segment_id: u64) -> pool_proto::session::v1::Lost {
    pool_proto::session::v1::Lost { segment_id }
}

#[test]
fn a_keeper_that_dies_with_the_daemon_is_made_up_for_by_the_clients() {
    let mut daemon = start(&Setup::small(64));
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create("ddr", EXTENT));
    held.write(1);
    daemon.kill();
    daemon.kill_keeper();
    daemon.restart();
    let backing = held.segment.pieces[0].backing_id;
    assert_eq!(client.reattach().unwrap().missing_backings, [backing]);
    client.supply(backing, held.files[0].as_fd()).unwrap();
    daemon.balanced();
    // The new keeper has it from now on.
    daemon.kill();
    daemon.restart();
    assert!(client.reattach().unwrap().missing_backings.is_empty());
    assert!(client.granted(ask::refresh(held.id())).holds(1));
}

#[test]
fn a_keeper_that_dies_alone_is_replaced_and_filled_anew() {
    let mut daemon = start(&Setup::small(64));
    let mut client = daemon.attach("a");
    let before = client.granted(ask::create("ddr", EXTENT));
    before.write(1);
    let old = daemon.keepers();
    assert_eq!(old.len(), 1);
    daemon.kill_keeper();
    // Nobody asks the daemon for anything: it notices by itself.
    let new = until("another keeper is there", || {
        let now = daemon.keepers();
        (now.len() == 1 && now != old).then_some(now)
    });
    let after = client.granted(ask::create("ddr", EXTENT));
    after.write(2);
    daemon.kill();
    daemon.restart();
    assert_eq!(daemon.keepers(), new);
    assert!(client.reattach().unwrap().missing_backings.is_empty());
    assert!(client.granted(ask::refresh(before.id())).holds(1));
    assert!(client.granted(ask::refresh(after.id())).holds(2));
    daemon.balanced();
}

#[test]
fn a_clean_stop_keeps_what_is_granted() {
    let mut daemon = start(&Setup::small(64));
    let mut client = daemon.attach("a");
    let persistent = client.granted(ask::create_persistent("ddr", EXTENT, "kept"));
    persistent.write(1);
    client.ask(ask::close(persistent.id()));
    drop(persistent);
    let held = client.granted(ask::create("ddr", EXTENT));
    held.write(2);
    assert!(daemon.stop().success());
    assert!(
        !daemon.session_socket().exists(),
        "a clean stop leaves no socket"
    );
    daemon.restart();
    assert!(client.reattach().unwrap().missing_backings.is_empty());
    assert!(client.granted(ask::refresh(held.id())).holds(2));
    assert!(client.granted(ask::open("kept", Access::ReadOnly)).holds(1));
    daemon.balanced();
}

#[test]
fn a_stop_that_releases_leaves_nothing_for_the_next_daemon() {
    let setup = Setup {
        on_stop: "release",
        ..Setup::small(64)
    };
    let mut daemon = start(&setup);
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create_persistent("ddr", EXTENT, "gone"));
    held.write(1);
    assert!(daemon.stop().success());
    assert!(held.holds(1), "a client keeps what it has mapped");
    daemon.restart();
    assert_eq!(reason(client.reattach()), ErrorReason::UnknownClient);
    let mut anew = daemon.attach("a");
    assert!(anew.list().is_empty());
    daemon.await_all_free();
}

#[test]
fn a_socket_that_a_dead_daemon_left_is_replaced_and_anything_else_is_not() {
    let mut daemon = start(&Setup::small(64));
    daemon.kill();
    assert!(daemon.session_socket().exists());
    daemon.restart();
    daemon.kill();
    std::fs::remove_file(daemon.session_socket()).unwrap();
    std::fs::write(daemon.session_socket(), "precious").unwrap();
    daemon.launch();
    assert_ne!(daemon.await_end().code(), Some(0));
    assert!(
        daemon.log().contains("something else lies there"),
        "{}",
        daemon.log()
    );
    assert_eq!(std::fs::read(daemon.session_socket()).unwrap(), b"precious");
}

#[test]
fn a_second_daemon_on_the_same_pool_is_refused_and_harms_nothing() {
    let mut daemon = start(&Setup::small(64));
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create("ddr", EXTENT));
    held.write(1);
    for runtime in ["run", "other-run"] {
        let (status, said) = daemon.rival(runtime);
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("pool-daemon: "), "{said}");
    }
    assert!(daemon.is_running());
    assert!(client.granted(ask::refresh(held.id())).holds(1));
    let mut second = Session::attach(&daemon.session_socket(), "b", "test").unwrap();
    second.granted(ask::create("ddr", EXTENT));
    daemon.balanced();
    daemon.kill();
    daemon.restart();
    assert!(client.reattach().unwrap().missing_backings.is_empty());
}

#[test]
fn a_pool_that_nobody_configured_is_as_large_after_a_restart_however_much_is_granted() {
    let setup = Setup {
        devices: Vec::new(),
        ..Setup::default()
    };
    let mut daemon = start(&setup);
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create("ddr", 64 * EXTENT));
    held.write(1);
    let total = daemon.admin().status().unwrap().total_bytes;
    daemon.kill();
    daemon.restart();
    assert_eq!(daemon.admin().status().unwrap().total_bytes, total);
    client.reattach().unwrap();
    assert!(client.granted(ask::refresh(held.id())).holds(1));
}

#[test]
fn a_device_that_gives_nothing_has_no_files_ready() {
    let mut daemon = start(&Setup::small(64));
    let becomes = |daemon: &Daemon, count| {
        until("the stock is as it should be", || {
            (daemon.files_of_memory() == count).then_some(())
        });
    };
    becomes(&daemon, 8);
    let device = || "dev0".to_owned();
    let drain = admin::DrainDeviceRequest { device: device() };
    daemon.admin().drain_device(drain).unwrap();
    becomes(&daemon, 0);
    daemon.kill();
    daemon.restart();
    becomes(&daemon, 0);
    let activate = admin::ActivateDeviceRequest { device: device() };
    daemon.admin().activate_device(activate).unwrap();
    becomes(&daemon, 8);
}
