//! Tenants with a guarantee, a limit and what lies between: burst memory, which is asked back.

use nix::unistd::{getgid, getuid};
use pool_proto::common::v1::ErrorReason;
use pool_proto::session::v1::{self as session, event, request};
use tierpool_tests::client::{Held, Session, ask, granted};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, until};

use super::start;

/// A deadline that no test lives to see.
const FAR_MS: u64 = 60_000;
/// What `gold` is guaranteed.
const GOLD_EXTENTS: u64 = 20;
/// What `bronze` may have at most; it is guaranteed eight.
const BRONZE_EXTENTS: u64 = 24;
/// The pool.
const ALL_EXTENTS: u64 = 32;
/// What `gold` lacks of its guarantee where `bronze` has all that it may.
const MISSING_EXTENTS: u64 = GOLD_EXTENTS + BRONZE_EXTENTS - ALL_EXTENTS;

/// Two tenants of one user, told apart by his user id and his group id.
fn two_tenants(pressure_ms: u64) -> Daemon {
    let tenants = format!(
        "[[tenant]]\nname = \"gold\"\nuids = [{}]\n\
         [tenant.quota.ddr]\nrequest = \"40 MiB\"\n\
         [[tenant]]\nname = \"bronze\"\ngids = [{}]\n\
         [tenant.quota.ddr]\nrequest = \"16 MiB\"\nlimit = \"48 MiB\"\n",
        getuid(),
        getgid()
    );
    start(&Setup {
        tenants,
        grace_ms: 1_000,
        pressure_ms,
        ..Setup::small(64)
    })
}

/// All that `bronze` may have, in four segments of which it is guaranteed the first alone.
fn take_all(bronze: &mut Session) -> Vec<Held> {
    let take = |seed| {
        let held = bronze.granted(ask::create("ddr", BRONZE_EXTENTS / 4 * EXTENT));
        assert_eq!(held.segment.burst, seed > 0);
        held.write(seed);
        held
    };
    (0..4).map(take).collect()
}

fn patient_create(extents: u64) -> request::Body {
    request::Body::Create(session::Create {
        tier: "ddr".to_owned(),
        bytes: extents * EXTENT,
        lifetime: pool_proto::common::v1::Lifetime::Held.into(),
        wait_ms: FAR_MS,
        ..session::Create::default()
    })
}

/// Asks for all that `gold` is guaranteed, ready to wait, and does not wait here.
fn ask_for_guarantee(gold: &mut Session) -> u64 {
    let id = gold.next_id();
    gold.connection()
        .request(id, patient_create(GOLD_EXTENTS))
        .unwrap();
    id
}

fn take_guarantee(gold: &Session, id: u64) -> Held {
    let answer = gold.connection().receive().unwrap();
    assert_eq!(answer.request_id, id);
    let held = granted(answer);
    assert!(!held.segment.burst && held.is_zero());
    held.write(99);
    assert!(held.holds(99));
    held
}

fn is_asked_back(client: &Session, deadline_ms: u64) {
    let event::Body::Pressure(pressure) = client.event() else {
        panic!("pressure comes first");
    };
    assert_eq!(pressure.tier, "ddr");
    assert_eq!(pressure.bytes, MISSING_EXTENTS * EXTENT);
    assert_eq!(pressure.deadline_ms, deadline_ms);
}

#[test]
fn nobody_passes_his_limit_and_each_is_told_what_he_uses() {
    let daemon = two_tenants(FAR_MS);
    let mut bronze = daemon.attach("bronze");
    let held = take_all(&mut bronze);
    let refused = bronze.refused(ask::create("ddr", EXTENT));
    assert_eq!(refused.reason(), ErrorReason::OverQuota);
    assert_eq!(
        (refused.limit, refused.used, refused.asked),
        (BRONZE_EXTENTS * EXTENT, BRONZE_EXTENTS * EXTENT, EXTENT)
    );
    let tenants = daemon.admin().tenants().unwrap();
    let tenant = tenants.iter().find(|tenant| tenant.name == "bronze");
    let uses = &tenant.unwrap().tiers[0];
    assert_eq!(
        (
            uses.request_bytes,
            uses.limit_bytes,
            uses.used_bytes,
            uses.burst_bytes
        ),
        (
            8 * EXTENT,
            BRONZE_EXTENTS * EXTENT,
            BRONZE_EXTENTS * EXTENT,
            16 * EXTENT
        )
    );
    assert!((0..).zip(&held).all(|(seed, held)| held.holds(seed)));
    daemon.balanced();
}

#[test]
fn who_gives_burst_memory_back_when_asked_keeps_the_rest() {
    let daemon = two_tenants(FAR_MS);
    let mut operator = daemon.admin().events().unwrap();
    let (mut gold, mut bronze) = (daemon.attach("gold"), daemon.attach("bronze"));
    let mut held = take_all(&mut bronze);
    let full = gold.refused(ask::create("ddr", GOLD_EXTENTS * EXTENT));
    assert_eq!(
        full.reason(),
        ErrorReason::TierFull,
        "who does not wait gets nothing back"
    );

    let id = ask_for_guarantee(&mut gold);
    is_asked_back(&bronze, FAR_MS);
    assert_eq!(operator.next_of("pressure").bytes, MISSING_EXTENTS * EXTENT);
    for given in held.drain(2..) {
        let id = given.id();
        drop(given);
        bronze.ask(ask::close(id));
    }
    let guaranteed = take_guarantee(&gold, id);
    assert!((0..).zip(&held).all(|(seed, held)| held.holds(seed)));
    let check = daemon.balanced();
    assert_eq!(check.devices[0].free_extents, 0);
    assert!(guaranteed.holds(99));
}

#[test]
fn who_keeps_burst_memory_past_the_deadline_loses_the_newest_first() {
    // Long enough for this test to let go of what it lost before more is taken for want of it.
    let deadline_ms = 1_000;
    let daemon = two_tenants(deadline_ms);
    let mut operator = daemon.admin().events().unwrap();
    let (mut gold, mut bronze) = (daemon.attach("gold"), daemon.attach("bronze"));
    let mut held = take_all(&mut bronze);
    let id = ask_for_guarantee(&mut gold);
    is_asked_back(&bronze, deadline_ms);
    let lost: Vec<_> = held.drain(2..).rev().collect();
    for (seed, lost) in [(3, &lost[0]), (2, &lost[1])] {
        assert_eq!(operator.next_of("segment-revoked").segment_id, lost.id());
        let event::Body::Revoked(revoked) = bronze.event() else {
            panic!("the loss of {} is told", lost.id());
        };
        assert_eq!(revoked.segment_id, lost.id());
        assert!(lost.holds(seed), "what is mapped still stands");
        bronze.refused(ask::refresh(lost.id()));
    }
    // Nobody is given what another process still has mapped.
    let check = daemon.balanced();
    assert_eq!(check.devices[0].quarantined_extents, 12);
    drop(lost);
    take_guarantee(&gold, id);
    assert!((0..).zip(&held).all(|(seed, held)| held.holds(seed)));
    for held in &held {
        bronze.granted(ask::refresh(held.id()));
    }
    daemon.balanced();
}

#[test]
fn beyond_the_guarantee_nobody_is_pressed() {
    let daemon = two_tenants(50);
    let (mut gold, mut bronze) = (daemon.attach("gold"), daemon.attach("bronze"));
    let held = take_all(&mut bronze);
    let refused = gold.refused(patient_create(GOLD_EXTENTS + 1));
    assert_eq!(refused.reason(), ErrorReason::TierFull);
    // What is free anyway is had by anybody within his limit.
    let free = ALL_EXTENTS - BRONZE_EXTENTS;
    let first = gold.granted(ask::create("ddr", free * EXTENT));
    first.write(5);
    assert!((0..).zip(&held).all(|(seed, held)| held.holds(seed)));
    for held in held {
        bronze.granted(ask::refresh(held.id()));
        assert!(first.holds(5));
    }
    daemon.balanced();
}

#[test]
fn a_client_that_leaves_while_it_waits_takes_nothing() {
    let daemon = two_tenants(FAR_MS);
    let (mut gold, mut bronze) = (daemon.attach("gold"), daemon.attach("bronze"));
    let held = take_all(&mut bronze);
    ask_for_guarantee(&mut gold);
    is_asked_back(&bronze, FAR_MS);
    drop(gold);
    drop(bronze);
    drop(held);
    let mut admin = daemon.admin();
    until("both are given up", || {
        (admin.status().unwrap().clients == 0).then_some(())
    });
    daemon.await_all_free();
}
