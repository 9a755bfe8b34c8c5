//! Groups: what one host writes and seals, and others read at the same address, through daemons
//! that share one device of an emulated fabric.
//!
//! All memory of the fabric is emulated: files of ordinary memory.

use fabric_emu::fabric::Fault;
use fabric_emu::id::HostId;
use pool_core::GroupTag;
use pool_proto::common::v1::{Access, ErrorReason, Lifetime};
use pool_proto::session::v1::event;
use tierpool_tests::client::{Held, Session, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::fabric::{POOL, Served};
use tierpool_tests::{EXTENT, until};

/// What a device of four logical devices can be parted into.
const GROUPS: u64 = 256;
const EXTENTS: u64 = 256;

fn daemon(served: &Served, host: u8) -> Daemon {
    let mut setup = served.setup(host);
    if let Some(fabric) = &mut setup.fabric {
        fabric.extents = 0;
    }
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup)
}

/// As many daemons, of which each reaches the device.
fn daemons(served: &Served, hosts: u8) -> Vec<Daemon> {
    let all: Vec<_> = (0..hosts).map(|host| daemon(served, host)).collect();
    all.iter().for_each(reaches);
    all
}

fn reaches(daemon: &Daemon) {
    let mut client = daemon.attach("probe");
    until("the device of groups is reached", || {
        let one = client.try_ask(ask::create("common", EXTENT));
        one.is_ok().then_some(())
    });
    client.ask(ask::detach());
}

/// A group of so many extents, written with a pattern and sealed.
fn sealed(client: &mut Session, extents: u64, seed: u64) -> Held {
    let held = client.granted(ask::create_persistent(
        "common",
        extents * EXTENT,
        "weights",
    ));
    assert!(held.is_zero());
    held.write(seed);
    let id = held.id();
    drop(held);
    let held = client.granted(ask::seal(id, 1));
    assert!(held.segment.sealed && held.segment.tag.len() == 32);
    held
}

/// Joins as soon as the seal is known to the fabric.
fn joined(client: &mut Session, tag: &str, name: &str) -> Held {
    until("the seal is known", || {
        let joined = client.try_ask(ask::join(tag, name, Lifetime::Persistent));
        joined.ok().map(tierpool_tests::client::granted)
    })
}

/// Nobody has anything of the device, and all of it is free.
fn all_is_free(served: &Served) {
    until("all memory is the fabric's again", || {
        let (had, free) = served.extents();
        (had.iter().sum::<u64>() == 0 && free == GROUPS + EXTENTS).then_some(())
    });
}

fn balance(daemons: &[Daemon]) {
    for daemon in daemons {
        daemon.balanced();
    }
}

#[test]
fn what_one_host_seals_others_read_at_the_same_address_until_the_last_lets_go() {
    let served = Served::start_with_groups(4, EXTENTS, GROUPS);
    let all = daemons(&served, 3);
    let mut clients: Vec<_> = all.iter().map(|daemon| daemon.attach("a")).collect();
    let made = sealed(&mut clients[0], 12, 7);
    let tag = made.segment.tag.clone();
    let there = joined(&mut clients[1], &tag, "theirs");
    assert_eq!(there.segment.addr, made.segment.addr, "pointers hold");
    assert_eq!(there.segment.bytes, made.segment.bytes);
    assert!(there.holds(7) && there.access == Access::ReadOnly);
    let again = clients[1].granted(ask::join(&tag, "", Lifetime::Held));
    assert_eq!(again.id(), there.id(), "a host has a group once");
    // Its maker frees it: nobody else may join, and who has it keeps it.
    drop(made);
    let id = clients[0].list()["weights"].segment_id;
    clients[0].ask(ask::free(id, false));
    until("its maker has left", || {
        let (had, _) = served.extents();
        (had == [0, 12, 0, 0]).then_some(())
    });
    let refused = clients[2].refused(ask::join(&tag, "", Lifetime::Held));
    assert_eq!(
        refused.reason(),
        ErrorReason::NotFound,
        "{}",
        refused.message
    );
    assert!(there.holds(7));
    let id = there.id();
    drop((there, again));
    clients[1].ask(ask::free(id, false));
    all_is_free(&served);
    balance(&all);
}

#[test]
fn a_group_that_is_not_sealed_is_nobody_elses() {
    let served = Served::start_with_groups(2, EXTENTS, GROUPS);
    let all = daemons(&served, 2);
    let (mut a, mut b) = (all[0].attach("a"), all[1].attach("b"));
    let made = a.granted(ask::create("common", 4 * EXTENT));
    made.write(1);
    let refused = b.refused(ask::join(&made.segment.tag, "", Lifetime::Held));
    assert_eq!(
        refused.reason(),
        ErrorReason::NotFound,
        "{}",
        refused.message
    );
    let own = a.refused(ask::join(&made.segment.tag, "", Lifetime::Held));
    assert_eq!(own.reason(), ErrorReason::InUse, "{}", own.message);
    let guessed = "9".repeat(32);
    let refused = b.refused(ask::join(&guessed, "", Lifetime::Held));
    assert_eq!(
        refused.reason(),
        ErrorReason::NotPermitted,
        "{}",
        refused.message
    );
    drop(made);
    a.ask(ask::detach());
    all_is_free(&served);
    balance(&all);
}

#[test]
fn a_group_keeps_its_size_its_tier_and_its_files_and_comes_as_it_is_asked() {
    let served = Served::start_with_groups(1, EXTENTS, GROUPS);
    let all = daemons(&served, 1);
    let mut a = all[0].attach("a");
    let held = a.granted(ask::create("common", 4 * EXTENT));
    let reason = |body, a: &mut Session| a.refused(body).reason();
    let id = held.id();
    assert_eq!(
        reason(ask::resize(id, EXTENT), &mut a),
        ErrorReason::NotPermitted
    );
    let tier = all[0].setup().devices[0].tier.to_owned();
    assert_eq!(
        reason(ask::relocate(id, &tier), &mut a),
        ErrorReason::NotPermitted
    );
    let full = reason(ask::create("common", (GROUPS + 1) * EXTENT), &mut a);
    assert_eq!(full, ErrorReason::OverQuota);
    let full = reason(ask::create("common", GROUPS * EXTENT), &mut a);
    assert!(matches!(
        full,
        ErrorReason::TierFull | ErrorReason::OverQuota
    ));
    let own = a.granted(ask::create(&tier, EXTENT));
    assert_eq!(
        reason(ask::relocate(own.id(), "common"), &mut a),
        ErrorReason::TierFull
    );
    balance(&all);
}

#[test]
fn the_daemons_of_both_hosts_die_and_what_is_shared_stays() {
    let served = Served::start_with_groups(2, EXTENTS, GROUPS);
    let mut all = daemons(&served, 2);
    let (mut a, mut b) = (all[0].attach("a"), all[1].attach("b"));
    let made = sealed(&mut a, 6, 3);
    let tag = made.segment.tag.clone();
    let there = joined(&mut b, &tag, "theirs");
    for daemon in &mut all {
        daemon.kill();
        daemon.restart();
    }
    assert!(
        made.holds(3) && there.holds(3),
        "what is mapped is not the daemon's"
    );
    a.reattach().unwrap();
    b.reattach().unwrap();
    b.granted(ask::refresh(there.id()));
    all.iter().for_each(reaches);
    let id = there.id();
    drop((made, there));
    b.ask(ask::free(id, false));
    let again = joined(&mut b, &tag, "theirs");
    assert!(again.holds(3), "it was published, and is joined anew");
    let (had, _) = served.extents();
    assert_eq!(had, [6, 6]);
    balance(&all);
}

#[test]
fn the_maker_of_a_group_dies_with_its_host_and_others_keep_it_and_may_join_it() {
    let served = Served::start_with_groups(4, EXTENTS, GROUPS);
    let all = daemons(&served, 3);
    let mut clients: Vec<_> = all.iter().map(|daemon| daemon.attach("a")).collect();
    let made = sealed(&mut clients[0], 5, 11);
    let tag = made.segment.tag.clone();
    let there = joined(&mut clients[1], &tag, "theirs");
    served.fault(Fault::HostDies(HostId(0)));
    assert!(there.holds(11));
    let late = joined(&mut clients[2], &tag, "late");
    assert!(late.holds(11));
    assert_eq!(late.segment.addr, there.segment.addr);
}

#[test]
fn a_group_that_is_taken_from_a_host_by_force_is_lost_there_and_nowhere_else() {
    let served = Served::start_with_groups(2, EXTENTS, GROUPS);
    let all = daemons(&served, 2);
    let (mut a, mut b) = (all[0].attach("a"), all[1].attach("b"));
    let made = sealed(&mut a, 5, 13);
    let tag = made.segment.tag.clone();
    let there = joined(&mut b, &tag, "theirs");
    served.take_group(1, tag.parse::<GroupTag>().unwrap().bytes(), 5);
    let event::Body::Lost(lost) = b.event() else {
        panic!("the holder is told");
    };
    assert_eq!(lost.segment_id, there.id());
    assert!(made.holds(13));
    a.granted(ask::refresh(made.id()));
    drop(there);
    b.ask(ask::close(lost.segment_id));
    let again = joined(&mut b, &tag, "theirs");
    assert!(again.holds(13));
    balance(&all);
}

#[test]
fn a_host_has_memory_of_its_own_and_groups_of_one_device_at_once() {
    let served = Served::start_with_groups(2, EXTENTS, GROUPS);
    let start = |host| Daemon::start(env!("CARGO_BIN_EXE_daemon"), &served.setup(host));
    let all: Vec<_> = (0..2).map(start).collect();
    all.iter().for_each(reaches);
    let (mut a, mut b) = (all[0].attach("a"), all[1].attach("b"));
    let own = a.granted(ask::create("far", 4 * EXTENT));
    own.write(1);
    let made = sealed(&mut a, 3, 5);
    let there = joined(&mut b, &made.segment.tag, "theirs");
    assert!(there.holds(5) && own.holds(1));
    served.fault(Fault::MemdevVanishes(POOL));
    for client in [&a, &b] {
        let event::Body::Lost(_) = client.event() else {
            panic!("all that lay on it is lost, on every host");
        };
    }
}
