//! Several daemons, one for each host, that share one pooled device of an emulated fabric: their
//! demand moves, and the pool follows; memory fails, is taken and leaves, and everybody is told.
//!
//! All memory of the fabric is emulated: files of ordinary memory.

use fabric_emu::fabric::Fault;
use fabric_emu::id::HostId;
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::{event, request};
use tierpool_tests::client::{Held, Session, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::fabric::{POOL, Served};
use tierpool_tests::{EXTENT, until};

const FAR: &str = "far";
const EXTENTS: u64 = 256;
const WAIT_MS: u64 = 20_000;

fn daemon(served: &Served, host: u8) -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), &served.setup(host))
}

/// A request that waits for memory to come.
fn wait_for(extents: u64) -> request::Body {
    let request::Body::Create(mut create) = ask::create(FAR, extents * EXTENT) else {
        unreachable!("it creates");
    };
    create.wait_ms = WAIT_MS;
    request::Body::Create(create)
}

fn total(daemon: &Daemon) -> u64 {
    daemon.admin().device("far0").total_bytes / EXTENT
}

/// Until the daemon and the fabric agree on what the host has, and that is `extents`.
fn until_it_has(
    served: &Served,
    daemon: &Daemon,
    host: u8,
    extents: std::ops::RangeInclusive<u64>,
) {
    until("the daemon and the fabric agree", || {
        let (had, _) = served.extents();
        let had = had[usize::from(host)];
        (extents.contains(&had) && total(daemon) == had).then_some(())
    });
}

/// What a client is told of a segment: lost, and nothing else before.
fn is_told_of_its_loss(client: &Session, held: &Held) {
    let event::Body::Lost(lost) = client.event() else {
        panic!("the holder is told");
    };
    assert_eq!(lost.segment_id, held.id());
}

/// Nothing of the fabric is lost or had twice.
fn balances(served: &Served, daemons: &[&Daemon]) {
    let (had, free) = served.extents();
    assert_eq!(had.iter().sum::<u64>() + free, EXTENTS);
    for daemon in daemons {
        daemon.balanced();
    }
}

#[test]
fn demand_moves_between_four_hosts_and_the_pool_follows() {
    const OF_FOUR: u64 = 2 * EXTENTS;
    let served = Served::start(4, OF_FOUR);
    let daemons: Vec<Daemon> = (0..4).map(|host| daemon(&served, host)).collect();
    for (host, daemon) in (0..).zip(&daemons) {
        until_it_has(&served, daemon, host, 8..=8);
    }
    // More than a quarter, host after host: each has what the one before gave back.
    for (host, daemon) in (0..).zip(&daemons) {
        let mut client = daemon.attach("a");
        let held = client.granted(wait_for(300));
        assert!(held.is_zero(), "what another host had is not seen");
        held.write(u64::from(host));
        assert!(held.holds(u64::from(host)));
        let (had, free) = served.extents();
        assert!(
            had[usize::from(host)] >= 300 && free < 212,
            "{had:?} {free}"
        );
        drop(held);
        client.ask(ask::detach());
        until_it_has(&served, daemon, host, 16..=16);
    }
    let (had, free) = served.extents();
    assert_eq!(had.iter().sum::<u64>() + free, OF_FOUR);
    for daemon in &daemons {
        daemon.balanced();
    }
}

#[test]
fn a_host_waits_for_what_another_one_gives_back() {
    let served = Served::start(2, EXTENTS);
    let (first, second) = (daemon(&served, 0), daemon(&served, 1));
    let (mut a, mut b) = (first.attach("a"), second.attach("b"));
    let held = a.granted(wait_for(200));
    let id = b.next_id();
    b.connection().request(id, wait_for(150)).unwrap();
    let asked = || second.admin().device("far0").total_bytes / EXTENT;
    until("it has asked for more", || (asked() >= 16).then_some(()));
    drop(held);
    a.ask(ask::detach());
    let answer = b.connection().receive().unwrap();
    let held = tierpool_tests::client::granted(answer);
    assert_eq!(held.segment.bytes, 150 * EXTENT);
    balances(&served, &[&first, &second]);
}

#[test]
fn memory_that_is_taken_by_force_is_lost_told_and_no_longer_shared_with_its_new_owner() {
    let served = Served::start(2, EXTENTS);
    let (stuck, other) = (daemon(&served, 0), daemon(&served, 1));
    let (mut a, mut b) = (stuck.attach("a"), other.attach("b"));
    let held = a.granted(wait_for(100));
    held.write(7);
    let had = served.had(0);
    served.take(0, &had, true);
    let theirs = b.granted(wait_for(200));
    assert!(theirs.is_zero(), "what was there is not seen");
    theirs.write(9);
    // A late store of the stuck holder lands in memory that is nobody's.
    held.write(8);
    assert!(theirs.holds(9) && held.holds(8));
    is_told_of_its_loss(&a, &held);
    let refused = a.refused(ask::refresh(held.id()));
    assert_eq!(refused.reason(), ErrorReason::NotFound);
    drop(held);
    a.ask(ask::close(1));
    until("nothing is in quarantine", || {
        (stuck.admin().device("far0").quarantined_bytes == 0).then_some(())
    });
    balances(&served, &[&stuck, &other]);
}

#[test]
fn what_is_asked_back_goes_when_it_is_free_and_what_is_offered_is_taken() {
    let served = Served::start(2, EXTENTS);
    let daemon = daemon(&served, 0);
    let mut a = daemon.attach("a");
    let held = a.granted(wait_for(12));
    held.write(3);
    served.offer(0, 10);
    until_it_has(&served, &daemon, 0, 20..=40);
    served.take(0, &served.had(0), false);
    // The steward may ask for its low mark again.
    until_it_has(&served, &daemon, 0, 12..=20);
    assert!(held.holds(3), "what is held stays");
    balances(&served, &[&daemon]);
}

#[test]
fn an_unplugged_device_is_out_of_reach_and_then_lost_and_one_that_is_back_begins_empty() {
    let served = Served::start(2, EXTENTS);
    let daemon = daemon(&served, 0);
    let mut client = daemon.attach("a");
    let held = client.granted(wait_for(6));
    held.write(5);
    let mut operator = daemon.admin().events().unwrap();
    served.fault(Fault::LinkFails(served.down()));
    operator.next_of("device-unreached");
    served.fault(Fault::LinkHeals(served.down()));
    operator.next_of("device-reached");
    assert!(
        held.holds(5),
        "a cable that was out for a moment lost nothing"
    );
    client.granted(ask::refresh(held.id()));
    served.fault(Fault::MemdevVanishes(POOL));
    operator.next_of("device-unreached");
    is_told_of_its_loss(&client, &held);
    let refused = client.refused(ask::create(FAR, EXTENT));
    assert_eq!(refused.reason(), ErrorReason::TierFull);
    drop(held);
    client.ask(ask::close(1));
    served.fault(Fault::MemdevReturns(POOL));
    operator.next_of("device-reached");
    let again = client.granted(wait_for(6));
    assert!(again.is_zero());
    balances(&served, &[&daemon]);
}

#[test]
fn a_device_that_was_reset_between_two_looks_holds_nothing_of_before() {
    let served = Served::start(1, EXTENTS);
    let daemon = daemon(&served, 0);
    let mut client = daemon.attach("a");
    let held = client.granted(wait_for(6));
    served.fault(Fault::MemdevVanishes(POOL));
    served.fault(Fault::MemdevReturns(POOL));
    is_told_of_its_loss(&client, &held);
    assert!(client.granted(wait_for(6)).is_zero());
}

#[test]
fn a_daemon_that_is_killed_takes_up_what_its_host_has_and_its_clients_keep_theirs() {
    let served = Served::start(2, EXTENTS);
    let mut daemon = daemon(&served, 0);
    let mut client = daemon.attach("a");
    let held = client.granted(wait_for(40));
    held.write(4);
    daemon.kill();
    daemon.launch();
    daemon.await_service();
    client.reattach().unwrap();
    client.granted(ask::refresh(held.id()));
    assert!(held.holds(4));
    until_it_has(&served, &daemon, 0, 40..=60);
    drop(held);
    client.ask(ask::detach());
    until_it_has(&served, &daemon, 0, 16..=16);
    // Whatever was taken of it is granted and mapped again.
    let mut client = daemon.attach("a");
    assert!(client.granted(wait_for(100)).is_zero());
    balances(&served, &[&daemon]);
}

#[test]
fn a_host_is_one_daemons_and_a_second_one_is_told_whose_it_is_and_harms_nothing() {
    let served = Served::start(2, EXTENTS);
    let mut first = daemon(&served, 0);
    let mut client = first.attach("a");
    let held = client.granted(wait_for(40));
    held.write(2);
    let mut second = Daemon::prepare(env!("CARGO_BIN_EXE_daemon"), &served.setup(0));
    second.launch();
    assert_eq!(second.await_end().code(), Some(2));
    let (log, holder) = (second.log(), format!("process {}", first.pid()));
    let says = |it: &str| assert!(log.contains(it), "{log}");
    says("host 0 of the fabric in ");
    says(&holder);
    says("give this one a host of its own");
    assert!(held.holds(2), "what the first one has carved is its still");
    client.granted(ask::refresh(held.id()));
    balances(&served, &[&first]);
    // The claim is gone with the process, however it ends.
    first.kill();
    second.restart();
    first.launch();
    assert_eq!(first.await_end().code(), Some(2));
    second.set_up(&served.setup(1));
    assert!(second.stop().success());
    first.restart();
    second.restart();
    until_it_has(&served, &second, 1, 8..=8);
}

#[test]
fn poison_costs_an_extent_and_its_holder_is_told_which() {
    let served = Served::start(1, EXTENTS);
    let daemon = daemon(&served, 0);
    let mut client = daemon.attach("a");
    let held = client.granted(wait_for(8));
    let line = served.had(0)[0].start + EXTENT + 4_096;
    served.fault(Fault::Poison {
        memdev: POOL,
        physical: line,
    });
    let event::Body::Damaged(damaged) = client.event() else {
        panic!("the holder is told");
    };
    assert_eq!((damaged.segment_id, damaged.bytes), (held.id(), EXTENT));
    assert!(damaged.offset.is_multiple_of(EXTENT) && damaged.offset < 8 * EXTENT);
    drop(held);
    client.ask(ask::detach());
    until("the extent is out of service", || {
        let (had, _) = served.extents();
        (total(&daemon) + 1 == had[0]).then_some(())
    });
    balances(&served, &[&daemon]);
}

#[test]
fn a_host_that_dies_keeps_what_it_had_until_it_is_taken_and_others_go_on() {
    let served = Served::start(2, EXTENTS);
    let (mut first, second) = (daemon(&served, 0), daemon(&served, 1));
    let mut a = first.attach("a");
    let held = a.granted(wait_for(150));
    held.write(1);
    served.fault(Fault::HostDies(HostId(0)));
    first.kill();
    let mut b = second.attach("b");
    let refused = b.refused(ask::create(FAR, 150 * EXTENT));
    assert_eq!(
        refused.reason(),
        ErrorReason::TierFull,
        "nobody took it away"
    );
    served.take(0, &served.had(0), true);
    let theirs = b.granted(wait_for(150));
    assert!(theirs.is_zero());
    balances(&served, &[&second]);
}

#[test]
fn a_fabric_that_comes_after_the_daemon_is_found_and_one_that_ends_is_missed() {
    let mut served = Served::start(1, EXTENTS);
    let setup = served.setup(0);
    served.stop();
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let mut client = daemon.attach("a");
    let refused = client.refused(ask::create(FAR, EXTENT));
    assert_eq!(refused.reason(), ErrorReason::TierFull);
    served.serve();
    let held = client.granted(wait_for(6));
    served.stop();
    is_told_of_its_loss(&client, &held);
    drop(held);
    client.ask(ask::close(1));
    served.serve();
    assert!(
        client.granted(wait_for(6)).is_zero(),
        "another fabric, as it seems"
    );
}

#[test]
fn a_pool_that_ends_with_its_daemon_gives_back_what_its_host_has() {
    let served = Served::start(2, EXTENTS);
    let setup = tierpool_tests::setup::Setup {
        on_stop: "release",
        ..served.setup(0)
    };
    let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let mut client = daemon.attach("a");
    let held = client.granted(wait_for(40));
    held.write(3);
    until_it_has(&served, &daemon, 0, 40..=60);
    assert!(daemon.stop().success());
    assert_eq!(served.extents(), (vec![0, 0], EXTENTS));
    assert!(held.holds(3), "a client keeps what it has mapped");
    daemon.restart();
    until_it_has(&served, &daemon, 0, 8..=8);
    balances(&served, &[&daemon]);
}

#[test]
fn why_a_device_gets_nothing_is_shown_to_operators_and_told_once() {
    let served = Served::start(2, EXTENTS);
    let mut setup = served.setup(0);
    if let Some(fabric) = &mut setup.fabric {
        fabric.region = 3;
    }
    let noted = |daemon: &Daemon, note: &str| {
        until("the note is there", || {
            let device = daemon.admin().device("far0");
            (device.unreached && device.note.contains(note)).then_some(device)
        })
    };
    let mut lost = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let device = noted(&lost, "region 3 is none");
    assert_eq!(
        (device.total_bytes, device.most_bytes),
        (0, EXTENTS * EXTENT)
    );
    let status = lost.admin().status().unwrap();
    assert_eq!((status.devices_unreached, status.devices_noted), (1, 1));
    lost.stop();
    let (rich, poor) = (daemon(&served, 0), daemon(&served, 1));
    let mut operator = poor.admin().events().unwrap();
    let (mut a, mut b) = (rich.attach("a"), poor.attach("b"));
    let held = a.granted(wait_for(EXTENTS - 8));
    let id = b.next_id();
    b.connection().request(id, wait_for(20)).unwrap();
    let event = operator.next_of("device-refused");
    assert_eq!(event.device, "far0");
    assert!(event.detail.contains("no more to give"), "{}", event.detail);
    drop(held);
    a.ask(ask::detach());
    tierpool_tests::client::granted(b.connection().receive().unwrap());
    until("nothing is in the way", || {
        poor.admin().device("far0").note.is_empty().then_some(())
    });
    balances(&served, &[&rich, &poor]);
}

#[test]
fn a_drained_device_gives_everything_back() {
    let served = Served::start(1, EXTENTS);
    let daemon = daemon(&served, 0);
    let mut client = daemon.attach("a");
    let held = client.granted(wait_for(20));
    let device = "far0".to_owned();
    let request = pool_proto::admin::v1::DrainDeviceRequest { device };
    daemon.admin().drain_device(request).unwrap();
    until_it_has(&served, &daemon, 0, 20..=20);
    drop(held);
    client.ask(ask::detach());
    until_it_has(&served, &daemon, 0, 0..=0);
}

#[test]
fn another_tenant_reads_shared_memory_of_a_fabric_and_cannot_write_it() {
    let served = Served::start(1, EXTENTS);
    let daemon = daemon(&served, 0);
    let (mut a, mut b) = (daemon.attach("a"), daemon.attach("b"));
    let request::Body::Create(mut create) = ask::create_named(FAR, 4 * EXTENT, "s") else {
        unreachable!("it creates");
    };
    create.wait_ms = WAIT_MS;
    let held = a.granted(request::Body::Create(create));
    held.write(6);
    a.ask(ask::share(held.id(), b.tenant(), Access::ReadOnly));
    let name = format!("{}:s", a.tenant());
    let theirs = b.granted(ask::open(&name, Access::ReadOnly));
    assert!(theirs.holds(6));
}
