//! Requests that come where the protocol does not allow them.

use pool_proto::common::v1::{Access, ErrorReason, OnDeath};
use pool_proto::session::v1::{Attach, Reattach, Supply, request};
use tierpool_tests::EXTENT;
use tierpool_tests::client::{PROTOCOL, Unanswered, ask, granted};
use tierpool_tests::domain;

use crate::{Besieged, Response, response};

fn every_body() -> Vec<request::Body> {
    vec![
        ask::create("ddr", EXTENT),
        ask::open("x", Access::ReadOnly),
        ask::refresh(1),
        ask::close(1),
        ask::free(1, true),
        ask::resize(1, EXTENT),
        ask::share(1, "uid-0/b", Access::ReadOnly),
        ask::revoke(1, "uid-0/b"),
        ask::relocate(1, "ddr"),
        domain::create(EXTENT, "d", OnDeath::Lose),
        domain::acquire(1, 0),
        domain::release(1, 0),
        ask::list(),
        ask::tiers(),
        ask::detach(),
        request::Body::Supply(Supply { backing_id: 1 }),
    ]
}

fn attach() -> request::Body {
    request::Body::Attach(Attach {
        protocol: PROTOCOL,
        ..Attach::default()
    })
}

fn reattach(client_id: u64, token: Vec<u8>) -> request::Body {
    request::Body::Reattach(Reattach {
        protocol: PROTOCOL,
        client_id,
        token,
    })
}

#[test]
fn nothing_is_answered_before_an_attach() {
    let besieged = Besieged::new();
    let stranger = besieged.stranger();
    for (id, body) in (1..).zip(every_body()) {
        let what = format!("{body:?}");
        stranger.request(id, body).unwrap();
        let Response::Refused(error) = response(&stranger) else {
            panic!("{what} ends the connection");
        };
        assert_eq!(
            error.reason(),
            ErrorReason::OutOfOrder,
            "{what}: {}",
            error.message
        );
    }
    drop(stranger);
    besieged.recovers();
}

#[test]
fn a_session_is_attached_once() {
    let besieged = Besieged::new();
    let mut client = besieged.daemon.attach("client");
    let held = client.granted(ask::create("ddr", EXTENT));
    let own = client.attached().clone();
    for body in [
        attach(),
        reattach(own.client_id, own.token),
        reattach(0, Vec::new()),
    ] {
        assert_eq!(client.refused(body).reason(), ErrorReason::OutOfOrder);
    }
    assert_eq!(client.granted(ask::refresh(held.id())).id(), held.id());
    drop((client, held));
    besieged.recovers();
}

#[test]
fn a_session_that_never_was_cannot_be_taken_up() {
    let besieged = Besieged::new();
    let client = besieged.daemon.attach("client");
    let own = client.attached().clone();
    let tokens = [
        Vec::new(),
        own.token[..15].to_vec(),
        [&own.token[..], &[0]].concat(),
        vec![0; 16],
        vec![7; 60_000],
    ];
    for id in [0, own.client_id, own.client_id + 1, u64::MAX] {
        for token in &tokens {
            let stranger = besieged.stranger();
            stranger.request(1, reattach(id, token.clone())).unwrap();
            let Response::Refused(error) = response(&stranger) else {
                panic!("it is told why");
            };
            assert_eq!(error.reason(), ErrorReason::UnknownClient);
        }
    }
    drop(client);
    besieged.recovers();
}

#[test]
fn request_ids_rise_from_one() {
    let besieged = Besieged::new();
    let client = besieged.daemon.attach("client");
    let refused = |outcome| match outcome {
        Err(Unanswered::Refused(error)) => error.reason(),
        other => panic!("a refusal was hoped for, and there came {other:?}"),
    };
    assert_eq!(
        refused(client.ask_as(0, ask::create("ddr", EXTENT))),
        ErrorReason::OutOfOrder
    );
    let first = granted(client.ask_as(10, ask::create("ddr", EXTENT)).unwrap());
    for old in [1, 9] {
        let outcome = client.ask_as(old, ask::create("ddr", EXTENT));
        assert_eq!(refused(outcome), ErrorReason::OutOfOrder);
    }
    // The same id again is the same request, whatever it says now.
    let again = granted(client.ask_as(10, ask::create("ddr", 5 * EXTENT)).unwrap());
    assert_eq!((again.id(), again.segment.bytes), (first.id(), EXTENT));
    let last = granted(client.ask_as(u64::MAX, ask::create("ddr", EXTENT)).unwrap());
    assert_ne!(last.id(), first.id());
    assert_eq!(
        refused(client.ask_as(11, ask::close(last.id()))),
        ErrorReason::OutOfOrder
    );
    // No id is left, but for the one that was last.
    let last_again = granted(client.ask_as(u64::MAX, ask::detach()).unwrap());
    assert_eq!(last_again.id(), last.id());
    assert_eq!(
        refused(client.ask_as(u64::MAX - 1, ask::list())),
        ErrorReason::OutOfOrder
    );
    drop((client, first, again, last, last_again));
    besieged.recovers();
}

#[test]
fn a_request_that_was_refused_may_be_mended_under_its_id() {
    let besieged = Besieged::new();
    let client = besieged.daemon.attach("client");
    assert!(client.ask_as(5, ask::create("ddr", 0)).is_err());
    let held = granted(client.ask_as(5, ask::create("ddr", EXTENT)).unwrap());
    assert_eq!(held.segment.bytes, EXTENT);
    drop((client, held));
    besieged.recovers();
}
