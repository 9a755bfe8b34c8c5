//! Waits for units: they end in time, are told to the daemon, and give way to others.

use std::time::Duration;

use client_sdk::{Create, Domain, DomainOptions, Error, Event, LeaseError, Mode, Pool};
use coherence::State;
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering;
use pool_core::{Bytes, Nanos};
use pool_proto::session::v1::{self as session, event, request};

use crate::fake::{Fake, Peer, Script};
use crate::lease::{read, shared, state};
use crate::read_only::read_only_of;
use crate::{EXTENT, attached, heard, wait_until};

const PAGE: Bytes = Bytes::new(4_096);
const NOW: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(20);
/// Half the timeout of the sessions here.
const EARLY: Nanos = Nanos::from_millis(10_000);

fn read_only(recall: Duration) -> (Fake, Pool, Domain, Peer) {
    read_only_of(DomainOptions::new().recall_time(recall))
}

/// Whether the daemon was given up, long before the timeout of the session.
fn given_up_early<T>(leased: Result<T, LeaseError>) -> bool {
    match leased {
        Err(LeaseError::Call(error)) => {
            matches!(*error, Error::Unreachable { waited, .. } if waited < EARLY)
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

/// How often the daemon was told that a unit of the domain is waited for.
fn recalls(fake: &Fake, domain: &Domain, unit: u32) -> usize {
    let segment_id = domain.id().number();
    let recall = request::Body::Recall(session::Recall { segment_id, unit });
    let model = fake.model();
    model.log.iter().filter(|(_, body)| *body == recall).count()
}

/// How often a unit was asked for.
fn asked_for(fake: &Fake, unit: u32) -> usize {
    let is_meant = |body: &request::Body| match body {
        request::Body::Acquire(ask) => ask.unit == unit,
        _ => false,
    };
    let model = fake.model();
    model.log.iter().filter(|(_, body)| is_meant(body)).count()
}

#[test]
fn waits_that_follow_each_other_tell_the_daemon_as_one_does() {
    let recall = Duration::from_millis(500);
    let (fake, pool) = attached();
    let options = DomainOptions::new().unit_bytes(PAGE).recall_time(recall);
    let domain = pool
        .create_domain(&Create::new("ddr", EXTENT), &options)
        .unwrap();
    let peer = fake.model().peer(domain.id().number(), 2);
    let (written, read) = (domain.unit(3).unwrap(), domain.unit(4).unwrap());
    for unit in [3, 4] {
        peer.member.try_exclusive(peer.line(unit)).unwrap();
    }
    wait_until(|| {
        assert!(written.write(SHORT).is_err() && read.read(SHORT).is_err());
        recalls(&fake, &domain, 3) > 0 && recalls(&fake, &domain, 4) > 0
    });
    let (fake, _pool, domain, peer) = read_only(recall);
    peer.member.try_exclusive(peer.line(3)).unwrap();
    wait_until(|| {
        assert!(domain.unit(3).unwrap().read(SHORT).is_err());
        recalls(&fake, &domain, 3) > 0
    });
}

#[test]
fn who_does_not_wait_has_not_waited_however_often_it_tries() {
    let recall = Duration::from_millis(500);
    let (fake, pool, domain, peer) = read_only(recall);
    let unit = domain.unit(3).unwrap();
    peer.member.try_exclusive(peer.line(3)).unwrap();
    let longer = Deadline::after(Nanos::from_millis(600));
    wait_until(|| {
        assert!(unit.read(NOW).is_err() && unit.try_read().is_err());
        longer.expired()
    });
    assert!(unit.read(SHORT).is_err());
    pool.tiers().unwrap(); // Whatever was to be told before is told before this.
    assert_eq!(recalls(&fake, &domain, 3), 0);
}

#[test]
fn nobody_gives_way_to_who_waits_for_units_of_another_domain() {
    let (fake, pool) = attached();
    let options = DomainOptions::new()
        .unit_bytes(PAGE)
        .recall_time(Duration::from_millis(50));
    let [domain, other] = ["one", "two"].map(|name| {
        let create = Create::new("ddr", EXTENT).name(name);
        pool.create_domain(&create, &options).unwrap()
    });
    let mut events = pool.events();
    let peer = fake.model().peer(domain.id().number(), 2);
    let own = || {
        let word = peer.line(0).own.load(Ordering::Acquire);
        coherence::Own::judge(word).unwrap()
    };
    let held = peer.member.try_exclusive(peer.line(2)).unwrap();
    let range = domain.range(Bytes::ZERO, Bytes::new(3 * 4_096)).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| range.write(LONG).map(drop));
        wait_until(|| own().state() == State::Exclusive);
        let epoch = own().epoch();
        fake.tell(event::Body::Recalled(session::Recalled {
            segment_id: other.id().number(),
            unit: 0,
            within_ms: 50,
        }));
        heard(&mut events, |event| matches!(event, Event::Recalled { .. }));
        // Between two sleeps after which it tells the daemon, it would have heard of it.
        let before = recalls(&fake, &domain, 2);
        wait_until(|| recalls(&fake, &domain, 2) >= before + 3);
        assert_eq!((own().state(), own().epoch()), (State::Exclusive, epoch));
        let line = peer.line(2);
        peer.member.release_exclusive(line, &held, false).unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}

#[test]
fn who_holds_others_meanwhile_looks_more_often_than_the_recall_time_is_long() {
    let (fake, _pool, domain, peer) = read_only(Duration::from_millis(50));
    let held = [2, 5].map(|unit| peer.member.try_exclusive(peer.line(unit)).unwrap());
    let range = domain.range(Bytes::ZERO, Bytes::new(3 * 4_096)).unwrap();
    let alone = domain.unit(5).unwrap();
    std::thread::scope(|scope| {
        let with_others = scope.spawn(|| range.read(LONG).map(drop));
        let without = scope.spawn(|| alone.read(LONG).map(drop));
        wait_until(|| asked_for(&fake, 5) > 25);
        let (with, without_any) = (asked_for(&fake, 2), asked_for(&fake, 5));
        for (unit, grant) in [2, 5].into_iter().zip(held) {
            let line = peer.line(unit);
            peer.member.release_exclusive(line, &grant, false).unwrap();
        }
        assert_eq!(with_others.join().unwrap(), Ok(()));
        assert_eq!(without.join().unwrap(), Ok(()));
        assert!(with > without_any * 3 / 2, "{with} to {without_any}");
    });
}
