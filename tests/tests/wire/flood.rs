//! Too much of everything: connections, clients, tenants, answers and events that nobody reads.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pool_core::limits::{
    CLIENT_EVENTS_MAX, SEGMENT_SHARES_MAX, SHARED_TENANTS_MAX, TENANTS_MAX, USER_CLIENTS_MAX,
    USER_LABELS_MAX,
};
use pool_core::packet::PacketError;
use pool_proto::admin::v1::{ActivateDeviceRequest, DrainDeviceRequest};
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::Request;
use prost::Message as _;
use tierpool_tests::client::{Session, Unanswered, ask};
use tierpool_tests::puppet::Puppet;
use tierpool_tests::users::{ALICE, can_switch};
use tierpool_tests::{EXTENT, until};

use crate::{Besieged, Response, response};

/// Connections of one user that the daemon keeps without knowing who they are.
const STRANGERS_MAX: usize = 64;
/// Connections that are made.
const CROWD: usize = 2_000;

/// As many descriptors as the system allows: a crowd needs some.
fn allow_a_crowd() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

#[test]
fn thousands_of_connections_that_come_and_go_leave_nothing_behind() {
    let mut besieged = Besieged::new();
    for _ in 0..CROWD {
        drop(besieged.stranger());
    }
    besieged.serves();
    besieged.recovers();
}

#[test]
fn a_crowd_of_strangers_is_kept_small_and_shuts_out_no_other_user() {
    if !can_switch("a_crowd_of_strangers_is_kept_small_and_shuts_out_no_other_user") {
        return;
    }
    allow_a_crowd();
    let besieged = Besieged::new();
    let crowd: Vec<_> = (0..CROWD).map(|_| besieged.stranger()).collect();
    // Another user comes in while all of them wait.
    alice_gets_in(&besieged);
    let open = besieged.daemon.descriptors();
    // A socket and a pidfd each, and some for what Alice had.
    let most = besieged.descriptors + 2 * STRANGERS_MAX + 16;
    assert!(open <= most, "{open} descriptors, at most {most}");
    drop(crowd);
    besieged.recovers();
}

#[test]
fn a_stranger_that_says_nothing_is_let_go() {
    let besieged = Besieged::new();
    let stranger = besieged.stranger();
    // No reply comes before the end.
    assert!(matches!(response(&stranger), Response::Closed));
    besieged.recovers();
}

#[test]
fn a_client_that_reads_no_answer_loses_its_connection_and_nothing_else() {
    let besieged = Besieged::patient();
    let mut client = besieged.daemon.attach("client");
    let held = client.granted(ask::create("ddr", EXTENT));
    held.write(1);
    let ended = (1_000..1_000_000_u64).find_map(|request_id| {
        let body = Some(ask::refresh(held.id()));
        let bytes = Request { request_id, body }.encode_to_vec();
        client.connection().send(&bytes, &[]).err()
    });
    assert_eq!(ended, Some(PacketError::Closed));
    // It may come back, and its memory is still its own.
    client.reattach().unwrap();
    assert!(client.granted(ask::refresh(held.id())).holds(1));
    client.ask(ask::detach());
    drop((client, held));
    besieged.recovers();
}

#[test]
fn a_client_that_reads_no_event_loses_its_connection_and_nothing_else() {
    let besieged = Besieged::patient();
    let mut client = besieged.daemon.attach("client");
    let held = client.granted(ask::create("ddr", EXTENT));
    held.write(1);
    let mut admin = besieged.daemon.admin();
    let device = || "dev0".to_owned();
    let mut told = 0;
    until("the connection is closed", || {
        admin
            .drain_device(DrainDeviceRequest { device: device() })
            .unwrap();
        admin
            .activate_device(ActivateDeviceRequest { device: device() })
            .unwrap();
        told += 2;
        let request = client.connection().request(1_000 + told, ask::tiers());
        let answer = request.and_then(|()| client.connection().receive());
        answer.is_err().then_some(())
    });
    assert!(
        told >= CLIENT_EVENTS_MAX as u64,
        "events wait for a while: {told}"
    );
    client.reattach().unwrap();
    assert!(client.granted(ask::refresh(held.id())).holds(1));
    client.ask(ask::detach());
    drop((client, held, admin));
    besieged.recovers();
}

/// Alice, who is another user, gets in and gets memory.
fn alice_gets_in(besieged: &Besieged) {
    let mut alice = Puppet::start_as(env!("CARGO_BIN_EXE_puppet"), ALICE);
    alice.attach(&besieged.daemon, "");
    alice.granted(ask::create("ddr", EXTENT));
}

fn limit_of(refused: Result<Session, Unanswered>) -> u64 {
    match refused {
        Err(Unanswered::Refused(error)) => {
            assert_eq!(error.reason(), ErrorReason::Limit, "{}", error.message);
            error.limit
        }
        other => panic!("a refusal was hoped for, and there came {other:?}"),
    }
}

#[test]
fn a_user_has_so_many_clients_and_leaves_room_for_another_user() {
    if !can_switch("a_user_has_so_many_clients_and_leaves_room_for_another_user") {
        return;
    }
    allow_a_crowd();
    let besieged = Besieged::new();
    let socket = besieged.daemon.session_socket();
    let mut clients: Vec<_> = (0..USER_CLIENTS_MAX)
        .map(|_| besieged.daemon.attach("many"))
        .collect();
    for label in ["many", "other", ""] {
        let refused = Session::attach(&socket, label, "one-too-many");
        assert_eq!(limit_of(refused), USER_CLIENTS_MAX as u64);
    }
    alice_gets_in(&besieged);
    // One that leaves makes room for one.
    clients.pop().unwrap().ask(ask::detach());
    clients.push(besieged.daemon.attach("other"));
    drop(clients);
    besieged.recovers();
}

#[test]
fn a_user_who_makes_every_tenant_known_that_he_can_leaves_room_for_another_user() {
    if !can_switch("a_user_who_makes_every_tenant_known_that_he_can_leaves_room_for_another_user") {
        return;
    }
    let besieged = Besieged::new();
    let socket = besieged.daemon.session_socket();
    let mut labelled = Vec::new();
    let refused = loop {
        match Session::attach(&socket, &format!("label-{}", labelled.len()), "greedy") {
            Ok(session) => labelled.push(session),
            refused => break refused,
        }
        assert!(labelled.len() < TENANTS_MAX, "every tenant is his");
    };
    assert_eq!(limit_of(refused), USER_LABELS_MAX as u64);
    assert_eq!(labelled.len(), USER_LABELS_MAX);
    // One that is known may have another client, and a label that nobody uses makes room.
    drop(besieged.daemon.attach("label-0"));
    labelled.pop().unwrap().ask(ask::detach());
    labelled.push(besieged.daemon.attach("another"));
    // By shares, a user can make other users known, none of their labels, and not all there may be.
    let mut client = besieged.daemon.attach("");
    let mut named = 0;
    let refused = 'full: loop {
        let name = format!("segment-{named}");
        let id = client.granted(ask::create_named("ddr", EXTENT, &name)).id();
        for _ in 0..SEGMENT_SHARES_MAX {
            let tenant = format!("uid-{}", 100_000 + named);
            match client.try_ask(ask::share(id, &tenant, Access::ReadOnly)) {
                Ok(_) => named += 1,
                Err(Unanswered::Refused(refused)) => break 'full refused,
                Err(gone) => panic!("{gone}"),
            }
        }
    };
    assert_eq!(
        refused.limit, SHARED_TENANTS_MAX as u64,
        "{}",
        refused.message
    );
    let id = client
        .granted(ask::create_named("ddr", EXTENT, "one-more"))
        .id();
    let label = client.refused(ask::share(
        id,
        &format!("uid-{ALICE}/hers"),
        Access::ReadOnly,
    ));
    assert_eq!(
        label.reason(),
        ErrorReason::NotPermitted,
        "{}",
        label.message
    );
    alice_gets_in(&besieged);
    client.ask(ask::detach());
    drop(labelled);
    besieged.recovers();
}
