//! Valid requests with bytes changed at random: whatever they mean then, the daemon answers or
//! closes the connection, and its books balance.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use pool_core::packet::PacketError;
use pool_proto::common::v1::{Access, ErrorReason, OnDeath};
use pool_proto::session::v1::{Attach, Reattach, Request, Supply, reply, request::Body};
use prost::Message as _;
use tierpool_tests::EXTENT;
use tierpool_tests::client::{Answer, PROTOCOL, Session, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::domain;

use crate::Besieged;

/// Messages that are sent.
const CASES: u32 = 1_500;

fn bodies() -> Vec<Body> {
    let name = "shared".to_owned();
    vec![
        ask::create("ddr", 3 * EXTENT),
        ask::create_named("ddr", EXTENT, &name),
        ask::create_persistent("ddr", 2 * EXTENT, "kept"),
        ask::open(&name, Access::ReadWrite),
        ask::open("uid-0/mutant:shared", Access::ReadOnly),
        ask::refresh(1),
        ask::close(1),
        ask::free(1, true),
        ask::resize(1, 2 * EXTENT),
        ask::share(1, "uid-0/other", Access::ReadWrite),
        ask::revoke(1, "uid-0/other"),
        ask::relocate(1, "ddr"),
        domain::create(EXTENT, "domain", OnDeath::Lose),
        ask::open("domain", Access::ReadOnly),
        domain::acquire(1, 3),
        domain::release(1, 3),
        ask::list(),
        ask::tiers(),
        ask::detach(),
        Body::Supply(Supply { backing_id: 1 }),
        Body::Attach(Attach {
            protocol: PROTOCOL,
            tenant: "mutant".to_owned(),
            name,
        }),
        Body::Reattach(Reattach {
            protocol: PROTOCOL,
            client_id: 1,
            token: vec![0; 16],
        }),
    ]
}

/// One change of a message.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    CutAt(prop::sample::Index),
    Double,
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            8 => (at(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            2 => (at(), any::<u8>()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            2 => at().prop_map(Self::Remove),
            1 => at().prop_map(Self::CutAt),
            1 => Just(Self::Double),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Set(at, byte) => bytes[at.index(len)] = *byte,
            Self::Insert(at, byte) => bytes.insert(at.index(len), *byte),
            // A message of no bytes is no message.
            Self::Remove(_) if len == 1 => {}
            Self::Remove(at) => _ = bytes.remove(at.index(len)),
            Self::CutAt(at) => bytes.truncate(at.index(len).max(1)),
            Self::Double => bytes.extend_from_within(..),
        }
    }
}

/// A client that is made anew when the daemon will hear it no more.
#[derive(Default)]
struct Attacker {
    session: Option<Session>,
    last_id: u64,
}

impl Attacker {
    fn attack(
        &mut self,
        daemon: &Daemon,
        body: &Body,
        changes: &[Change],
    ) -> Result<(), PacketError> {
        self.last_id += 1;
        let request = Request {
            request_id: self.last_id,
            body: Some(body.clone()),
        };
        let mut bytes = request.encode_to_vec();
        changes.iter().for_each(|change| change.apply(&mut bytes));
        let session = self.session.get_or_insert_with(|| daemon.attach("mutant"));
        let sent = session.connection().send(&bytes, &[]);
        match sent.and_then(|()| session.connection().receive()) {
            // An id was changed to one that leaves none for later.
            Ok(Answer {
                body: reply::Body::Error(error),
                ..
            }) if error.reason() == ErrorReason::OutOfOrder => {
                self.session = None;
            }
            Ok(_) => {}
            Err(PacketError::Closed) => self.session = None,
            Err(other) => return Err(other),
        }
        Ok(())
    }
}

#[test]
fn a_mutated_request_is_answered_or_ends_its_connection() {
    let mut besieged = Besieged::new();
    let (bodies, attacker) = (bodies(), RefCell::new(Attacker::default()));
    let strategy = (0..bodies.len(), vec(Change::any(), 0..4));
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |(body, changes)| {
        let sent = attacker
            .borrow_mut()
            .attack(&besieged.daemon, &bodies[body], &changes);
        sent.map_err(|error| TestCaseError::fail(error.to_string()))
    });
    outcome.unwrap();
    besieged.serves();
    besieged.daemon.balanced();
    drop(attacker);
    let mut admin = besieged.daemon.admin();
    let mut janitor = besieged.daemon.attach("mutant");
    for segment in admin.segments().unwrap() {
        let id = segment.segment.unwrap().segment_id;
        // What went with the connection is gone already, or on its way.
        drop(janitor.try_ask(ask::free(id, true)));
    }
    drop((janitor, admin));
    besieged.recovers();
}
