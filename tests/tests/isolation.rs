//! What a client under another user id can do to those who are not of its tenant: nothing.
//!
//! Each test runs its clients as processes that really have switched their user ids, and so needs
//! root; without it the tests say that they were skipped.

use nix::errno::Errno;
use pool_proto::common::v1::{Access, Error, ErrorReason};
use pool_proto::session::v1::{self as session, request};
use tierpool_tests::attempt::{Attempt, Spying};
use tierpool_tests::client::ask;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::domain;
use tierpool_tests::puppet::{Call, Order, Outcome, Puppet};
use tierpool_tests::setup::Setup;
use tierpool_tests::users::{ALICE, BOB, NOBODY, can_switch};
use tierpool_tests::{EXTENT, until};

const PUPPET: &str = env!("CARGO_BIN_EXE_puppet");

fn daemon() -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), &Setup::small(128))
}

/// A client under a user id of its own, attached as that user's tenant.
fn client(daemon: &Daemon, uid: u32) -> Puppet {
    let mut puppet = Puppet::start_as(PUPPET, uid);
    let attached = puppet.attach(daemon, "");
    assert_eq!(attached.tenant, format!("uid-{uid}"));
    assert!(
        !attached.advisory_isolation,
        "the daemon has another user id"
    );
    puppet
}

/// A segment of Alice's that Bob has open with `access`.
fn shared(daemon: &Daemon, access: Access) -> (Puppet, Puppet, u64) {
    let (mut alice, mut bob) = (client(daemon, ALICE), client(daemon, BOB));
    let id = alice
        .granted(ask::create_named("ddr", 2 * EXTENT, "shared"))
        .segment_id;
    alice.done(&Order::Write(id, 1));
    alice.ask(ask::share(id, &format!("uid-{BOB}"), access));
    bob.granted(ask::open(&format!("uid-{ALICE}:shared"), access));
    assert!(
        bob.tells(&Order::Holds(id, 1)),
        "what is shared can be read"
    );
    (alice, bob, id)
}

#[test]
fn a_reader_cannot_make_what_it_reads_writable() {
    if !can_switch("a_reader_cannot_make_what_it_reads_writable") {
        return;
    }
    let daemon = daemon();
    let (mut alice, mut bob, id) = shared(&daemon, Access::ReadOnly);
    for attempt in Attempt::OF_A_READER {
        let tried = bob.tries(&Order::Try(id, attempt));
        assert!(
            matches!(
                tried,
                Err(Errno::EACCES | Errno::EPERM | Errno::EBADF | Errno::EIO | Errno::EINVAL)
            ),
            "{attempt:?}: {tried:?}"
        );
        assert!(alice.tells(&Order::Holds(id, 1)), "{attempt:?}");
    }
    let refused = bob.refused(
        ask::open(&format!("uid-{ALICE}:shared"), Access::ReadWrite),
        0,
    );
    assert_eq!(
        refused.reason(),
        ErrorReason::NotPermitted,
        "{}",
        refused.message
    );
    daemon.balanced();
}

#[test]
fn a_writer_cannot_resize_or_seal_what_it_writes() {
    if !can_switch("a_writer_cannot_resize_or_seal_what_it_writes") {
        return;
    }
    let daemon = daemon();
    let (mut alice, mut bob, id) = shared(&daemon, Access::ReadWrite);
    for attempt in Attempt::OF_A_WRITER {
        for (who, puppet) in [("owner", &mut alice), ("guest", &mut bob)] {
            let tried = puppet.tries(&Order::Try(id, attempt));
            assert!(
                matches!(tried, Err(Errno::EACCES | Errno::EPERM)),
                "{who}, {attempt:?}: {tried:?}"
            );
        }
    }
    bob.done(&Order::Write(id, 2));
    assert!(
        alice.tells(&Order::Holds(id, 2)),
        "both still write and read it"
    );
    daemon.balanced();
}

/// The requests that name a segment, or its memory, by a number.
fn requests_about(id: u64) -> Vec<request::Body> {
    vec![
        ask::refresh(id),
        ask::close(id),
        ask::free(id, false),
        ask::free(id, true),
        ask::resize(id, EXTENT),
        ask::resize(id, 4 * EXTENT),
        ask::share(id, &format!("uid-{BOB}"), Access::ReadWrite),
        ask::revoke(id, &format!("uid-{NOBODY}")),
        ask::relocate(id, "ddr"),
        domain::acquire(id, 0),
        domain::release(id, 0),
        supply(id),
    ]
}

fn supply(backing_id: u64) -> request::Body {
    request::Body::Supply(session::Supply { backing_id })
}

/// An id that nothing has.
const ABSENT: u64 = 987_654_321;

/// A refusal without the name that was asked for.
fn without(refusal: Error, name: &str) -> Error {
    let message = refusal.message.replace(name, "it");
    Error { message, ..refusal }
}

/// A descriptor that the daemon does not await cannot even be sent, whatever it is said to be;
/// before Linux 6.16 it is received, and refused.
fn cannot_be_supplied(daemon: &Daemon, id: u64) {
    let bob = || client(daemon, BOB);
    if daemon.refuses_descriptors() {
        for number in [id, ABSENT] {
            match bob().ask_anyhow(supply(number), 1) {
                Outcome::Gone(why) => assert!(why.contains("EPERM"), "{why}"),
                other => panic!("a descriptor that nobody awaits ended in {other:?}"),
            }
        }
        return;
    }
    let refused = without(bob().refused(supply(id), 1), &format!(" {id} "));
    let absent = without(bob().refused(supply(ABSENT), 1), &format!(" {ABSENT} "));
    assert_eq!(refused, absent);
    assert_eq!(refused.reason(), ErrorReason::NotFound);
}

#[test]
fn a_segment_of_another_tenant_is_like_one_that_does_not_exist() {
    if !can_switch("a_segment_of_another_tenant_is_like_one_that_does_not_exist") {
        return;
    }
    let setup = Setup::small(128);
    for setup in [setup.clone().on_an_older_kernel(), setup] {
        seems_not_to_exist(&Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup));
    }
}

/// Alice makes a segment, and Bob finds out nothing about it.
fn seems_not_to_exist(daemon: &Daemon) {
    let (mut alice, mut bob) = (client(daemon, ALICE), client(daemon, BOB));
    let secret = alice.granted(ask::create_persistent("ddr", 2 * EXTENT, "secret"));
    alice.done(&Order::Write(secret.segment_id, 1));
    // Bob knows everything about it that one can know, and tries each number it could have.
    let backing = secret.pieces[0].backing_id;
    for id in [secret.segment_id, backing] {
        for (asked, absent) in requests_about(id).into_iter().zip(requests_about(ABSENT)) {
            let what = format!("{asked:?}");
            let refused = without(bob.refused(asked, 0), &format!(" {id} "));
            let absent = without(bob.refused(absent, 0), &format!(" {ABSENT} "));
            assert_eq!(refused, absent, "{what}");
            assert_eq!(refused.reason(), ErrorReason::NotFound, "{what}");
        }
        cannot_be_supplied(daemon, id);
    }
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let refused = bob.refused(ask::open(&format!("uid-{ALICE}:secret"), access), 0);
        let absent = bob.refused(ask::open(&format!("uid-{ALICE}:absent"), access), 0);
        let nobody = bob.refused(ask::open("uid-4242:secret", access), 0);
        assert_eq!(
            without(refused.clone(), "secret"),
            without(absent, "absent")
        );
        assert_eq!(
            without(refused, &format!("uid-{ALICE}")),
            without(nobody, "uid-4242")
        );
    }
    let own = bob.refused(ask::open("secret", Access::ReadOnly), 0);
    assert_eq!(own.reason(), ErrorReason::NotFound);
    // A name is taken in its own tenant only.
    bob.granted(ask::create_named("ddr", EXTENT, "secret"));
    assert!(alice.tells(&Order::Holds(secret.segment_id, 1)));
    daemon.balanced();
}

#[test]
fn a_user_sees_nothing_of_other_tenants_and_changes_nothing() {
    if !can_switch("a_user_sees_nothing_of_other_tenants_and_changes_nothing") {
        return;
    }
    let daemon = daemon();
    let (mut alice, mut bob) = (client(&daemon, ALICE), client(&daemon, BOB));
    let secret = alice.granted(ask::create_persistent("ddr", EXTENT, "secret"));
    bob.granted(ask::create_named("ddr", EXTENT, "own"));
    let session::reply::Body::Listed(listed) = bob.ask(ask::list()) else {
        panic!("a list was asked for");
    };
    let names: Vec<_> = listed
        .segments
        .iter()
        .map(|segment| segment.name.as_str())
        .collect();
    assert_eq!(names, ["own"]);

    let socket = daemon.admin_socket();
    let names =
        |names: &[&str]| Outcome::Names(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(bob.call(&socket, Call::Segments), names(&["own"]));
    assert_eq!(
        bob.call(&socket, Call::Tenants),
        names(&[&format!("uid-{BOB}")])
    );
    let Outcome::Names(clients) = bob.call(&socket, Call::Clients) else {
        panic!("clients were asked for");
    };
    assert_eq!(clients.len(), 1, "{clients:?}");
    let forbidden = [
        Call::Check,
        Call::Drain("dev0".to_owned()),
        Call::Activate("dev0".to_owned()),
        Call::Remove("dev0".to_owned()),
        Call::Resize("dev0".to_owned(), EXTENT),
        Call::Free(secret.segment_id),
    ];
    for call in forbidden {
        let what = format!("{call:?}");
        let denied = Outcome::Code(tonic::Code::PermissionDenied.into());
        assert_eq!(bob.call(&socket, call), denied, "{what}");
    }
    assert_eq!(
        daemon.admin().device("dev0").state(),
        pool_proto::common::v1::DeviceState::Online
    );
    daemon.balanced();
}

#[test]
fn events_of_other_tenants_do_not_reach_a_user() {
    if !can_switch("events_of_other_tenants_do_not_reach_a_user") {
        return;
    }
    let daemon = daemon();
    let (mut alice, mut bob) = (client(&daemon, ALICE), client(&daemon, BOB));
    bob.done(&Order::Follow(daemon.admin_socket()));
    let id = alice.granted(ask::create("ddr", EXTENT)).segment_id;
    alice.ask(ask::free(id, true));
    bob.granted(ask::create_named("ddr", EXTENT, "own"));
    // Events come in order: had Bob got one of Alice's, it would have come before his own.
    let Outcome::Names(event) = bob.order(&Order::NextEvent) else {
        panic!("an event was asked for");
    };
    assert_eq!(event, ["segment-granted", &format!("uid-{BOB}")]);
}

#[test]
fn nobody_can_look_into_the_daemon_or_into_a_client_of_another_user() {
    if !can_switch("nobody_can_look_into_the_daemon_or_into_a_client_of_another_user") {
        return;
    }
    let daemon = daemon();
    let (alice, mut bob) = (client(&daemon, ALICE), client(&daemon, BOB));
    for spying in Spying::ALL {
        bob.done(&Order::Spy(bob.pid(), spying));
        for (who, pid) in [
            ("the daemon", daemon.pid()),
            ("Alice's client", alice.pid()),
        ] {
            let spied = bob.tries(&Order::Spy(pid, spying));
            assert!(
                matches!(spied, Err(Errno::EACCES | Errno::EPERM)),
                "{spying:?} on {who}: {spied:?}"
            );
        }
    }
}

#[test]
fn who_scribbles_over_all_it_can_write_hurts_its_own_tenant_only() {
    if !can_switch("who_scribbles_over_all_it_can_write_hurts_its_own_tenant_only") {
        return;
    }
    let mut daemon = daemon();
    let mut alice = client(&daemon, ALICE);
    let mut vandal = client(&daemon, BOB);
    let mut other = client(&daemon, NOBODY);
    let mine = alice
        .granted(ask::create_named("ddr", 2 * EXTENT, "mine"))
        .segment_id;
    let lent = alice
        .granted(ask::create_named("ddr", EXTENT, "lent"))
        .segment_id;
    let given = alice
        .granted(ask::create_named("ddr", EXTENT, "given"))
        .segment_id;
    let apart = other.granted(ask::create("ddr", EXTENT)).segment_id;
    for (puppet, id) in [(&mut alice, mine), (&mut other, apart)] {
        puppet.done(&Order::Write(id, id));
    }
    alice.done(&Order::Write(lent, lent));
    let tenant = format!("uid-{BOB}");
    alice.ask(ask::share(lent, &tenant, Access::ReadOnly));
    alice.ask(ask::share(given, &tenant, Access::ReadWrite));
    vandal.granted(ask::open(&format!("uid-{ALICE}:lent"), Access::ReadOnly));
    vandal.granted(ask::open(&format!("uid-{ALICE}:given"), Access::ReadWrite));
    let own = vandal.granted(ask::create("ddr", 3 * EXTENT)).segment_id;

    for seed in 0..8 {
        vandal.done(&Order::Scribble(seed));
        daemon.balanced();
    }
    assert!(daemon.is_running());
    assert!(alice.tells(&Order::Holds(mine, mine)) && alice.tells(&Order::Holds(lent, lent)));
    assert!(other.tells(&Order::Holds(apart, apart)));
    assert!(
        alice.tells(&Order::Holds(given, 7)),
        "the vandal did write where it may"
    );
    // The vandal, too, is served as before, or has declared itself dead; and all can be taken back.
    drop(vandal);
    let mut admin = daemon.admin();
    until("the vandal's memory is taken back", || {
        let left = admin.segments().ok()?;
        let is_left = left
            .iter()
            .any(|s| s.segment.as_ref().is_some_and(|s| s.segment_id == own));
        (!is_left).then_some(())
    });
    alice.ask(ask::free(mine, false));
    daemon.balanced();
}

#[test]
fn memory_that_changes_its_tenant_is_zero() {
    if !can_switch("memory_that_changes_its_tenant_is_zero") {
        return;
    }
    const WHOLE: u64 = 32 * EXTENT;
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &Setup::small(64));
    let (mut alice, mut bob) = (client(&daemon, ALICE), client(&daemon, BOB));
    for round in 0..4 {
        let (giver, taker) = if round % 2 == 0 {
            (&mut alice, &mut bob)
        } else {
            (&mut bob, &mut alice)
        };
        // All of the device, so that the next one has the very same extents.
        let id = giver.granted(ask::create("ddr", WHOLE)).segment_id;
        giver.done(&Order::Write(id, round));
        giver.ask(ask::free(id, false));
        giver.done(&Order::Drop(id));
        daemon.await_all_free();
        let id = taker.granted(ask::create("ddr", WHOLE)).segment_id;
        assert!(taker.tells(&Order::IsZero(id)), "round {round}");
        taker.ask(ask::free(id, false));
        taker.done(&Order::Drop(id));
        daemon.await_all_free();
    }
}

#[test]
fn a_session_cannot_be_taken_over_by_whoever_has_its_token() {
    if !can_switch("a_session_cannot_be_taken_over_by_whoever_has_its_token") {
        return;
    }
    let daemon = daemon();
    let mut alice = Puppet::start_as(PUPPET, ALICE);
    let attached = alice.attach(&daemon, "");
    let id = alice.granted(ask::create("ddr", EXTENT)).segment_id;
    alice.done(&Order::Write(id, 1));
    // Another process with Alice's secret, under another user, then under her own.
    for uid in [BOB, ALICE] {
        let mut thief = client(&daemon, uid);
        let stolen = Order::ReattachAs(attached.client_id, attached.token.clone());
        let refused = thief.refused_order(&stolen);
        assert_eq!(
            refused.reason(),
            ErrorReason::UnknownClient,
            "{}",
            refused.message
        );
    }
    alice.ask(ask::refresh(id));
    assert!(alice.tells(&Order::Holds(id, 1)));
    daemon.balanced();
}
