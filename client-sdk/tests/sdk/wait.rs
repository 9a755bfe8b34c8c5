//! Waits for units: they end in time, are told to the daemon, and give way to others.

use std::time::Duration;

use client_sdk::{Access, Create, Domain, DomainOptions, Error, Event, LeaseError, Mode, Pool};
use coherence::State;
use pool_core::sync::atomic::Ordering;
use pool_core::{Bytes, Nanos};
use pool_proto::session::v1::request;

use crate::fake::{Fake, Peer, Script};
use crate::lease::{read, shared};
use crate::{EXTENT, attached, heard, wait_until};

const PAGE: Bytes = Bytes::new(4_096);
const NOW: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(20);
/// The timeout of the sessions here.
const TIMEOUT: Nanos = Nanos::from_millis(20_000);

/// Domains that are held read-only, of the given recall time.
fn read_only(recall: Duration) -> (Fake, Pool, Domain, Peer) {
    let (fake, pool) = attached();
    let options = DomainOptions::new().unit_bytes(PAGE).recall_time(recall);
    let create = Create::new("ddr", EXTENT).name("units").persistent();
    drop(pool.create_domain(&create, &options).unwrap());
    let domain = pool.open_domain("units", Access::ReadOnly).unwrap();
    let peer = fake.model().peer(domain.id().number(), 2);
    (fake, pool, domain, peer)
}

fn state(peer: &Peer, unit: u32) -> State {
    let word = peer.line(unit).own.load(Ordering::Acquire);
    coherence::Own::judge(word).unwrap().state()
}

/// Whether the daemon was given up, after less than the timeout of the session.
fn given_up_early<T>(leased: Result<T, LeaseError>) -> bool {
    match leased {
        Err(LeaseError::Call(error)) => {
            matches!(*error, Error::Unreachable { waited, .. } if waited < TIMEOUT)
        }
        _ => false,
    }
}

#[test]
fn a_wait_ends_with_its_deadline_where_the_mapping_is_old_and_the_daemon_away() {
    let (mut fake, _pool, domain, peer) = shared(Mode::Hardware);
    peer.line(9).backing.fetch_add(1_000, Ordering::AcqRel);
    fake.kill();
    let unit = domain.unit(9).unwrap();
    assert!(given_up_early(unit.write(SHORT)));
    assert_eq!(state(&peer, 9), State::Free);
    assert!(given_up_early(unit.read(SHORT)));
    assert!(given_up_early(unit.try_write()));
    assert_eq!(state(&peer, 9), State::Free);
}

#[test]
fn a_wait_ends_with_its_deadline_while_another_thread_has_the_session() {
    let (fake, pool, domain, peer) = shared(Mode::Hardware);
    peer.line(9).backing.fetch_add(1_000, Ordering::AcqRel);
    let is_tiers = |body: &request::Body| matches!(body, request::Body::Tiers(_));
    fake.once(is_tiers, Script::DoAndAnswerLate);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| pool.tiers().map(drop));
        wait_until(|| !fake.model().asked(is_tiers).is_empty());
        assert!(given_up_early(domain.unit(9).unwrap().write(SHORT)));
        assert_eq!(state(&peer, 9), State::Free);
        fake.answer_late();
        assert_eq!(other.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_mapping_that_is_old_when_a_wait_ends_is_brought_up_to_date_all_the_same() {
    let (fake, pool, domain, _) = shared(Mode::Hardware);
    let mut events = pool.events();
    fake.model().refill(domain.id().number(), 0x22);
    let is_refresh = |body: &request::Body| matches!(body, request::Body::Refresh(_));
    fake.once(is_refresh, Script::DoAndAnswerLate);
    assert!(given_up_early(domain.unit(0).unwrap().read(SHORT)));
    heard(&mut events, |event| matches!(event, Event::Changed { .. }));
    assert_eq!(read(&domain, 0), Ok(0x2222_2222_2222_2222));
}

#[test]
fn a_wait_by_requests_ends_with_its_deadline_and_tells_who_held_the_unit() {
    let (mut fake, _pool, domain, peer) = read_only(Duration::from_secs(1));
    peer.member.try_exclusive(peer.line(1)).unwrap();
    fake.kill();
    assert!(given_up_early(domain.unit(0).unwrap().read(SHORT)));
    assert!(given_up_early(domain.unit(0).unwrap().try_read()));
    let holders = peer.member.slot().bit();
    let late = LeaseError::TimedOut { unit: 1, holders };
    for timeout in [SHORT, NOW] {
        assert_eq!(
            domain.unit(1).unwrap().read(timeout).map(drop),
            Err(late.clone())
        );
    }
    fake.listen();
    wait_until(|| domain.unit(0).unwrap().read(LONG).is_ok());
}
