//! A process that holds a domain read-only leases by requests, and can change nothing.

use std::time::Duration;

use client_sdk::{Access, AccessError, Create, Domain, DomainOptions, Error, LeaseError, Pool};
use coherence::State;
use pool_core::Bytes;
use pool_core::clock::Deadline;
use pool_proto::session::v1::request;

use crate::fake::{Fake, Peer, SLOT, Script};
use crate::lease::{read, state, write};
use crate::{EXTENT, attached, wait_until};

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(20);

fn is_acquire(body: &request::Body) -> bool {
    matches!(body, request::Body::Acquire(_))
}

fn is_release(body: &request::Body) -> bool {
    matches!(body, request::Body::Release(_))
}

fn read_only() -> (Fake, Pool, Domain, Peer) {
    read_only_of(DomainOptions::new())
}

/// A domain that is held read-only, with another member that writes it.
pub(crate) fn read_only_of(options: DomainOptions) -> (Fake, Pool, Domain, Peer) {
    let (fake, pool) = attached();
    let options = options.unit_bytes(Bytes::new(4_096));
    let create = Create::new("ddr", EXTENT).name("units").persistent();
    drop(pool.create_domain(&create, &options).unwrap());
    let domain = pool.open_domain("units", Access::ReadOnly).unwrap();
    let peer = fake.model().peer(domain.id().number(), 2);
    (fake, pool, domain, peer)
}

#[test]
fn it_reads_what_was_published_and_the_daemon_keeps_the_word() {
    let (fake, _pool, domain, peer) = read_only();
    peer.write(3, 17);
    let guard = domain.unit(3).unwrap().read(NOW).unwrap();
    assert_eq!(guard.version(), 1);
    assert_eq!(guard.view::<u64>(Bytes::ZERO, 1).unwrap().get(0), Ok(17));
    assert_eq!((state(&peer, 3), guard.check()), (State::Shared, Ok(())));
    guard.release().unwrap();
    wait_until(|| state(&peer, 3) == State::Free);
    for round in 0..20 {
        peer.write(3, round);
        assert_eq!(read(&domain, 3), Ok(round));
        wait_until(|| state(&peer, 3) == State::Free);
    }
    assert_eq!(fake.model().asked(is_release).len(), 21);
}

#[test]
fn it_writes_nothing() {
    let (_fake, _pool, domain, _) = read_only();
    let read_only = LeaseError::Access(AccessError::ReadOnly);
    let unit = domain.unit(0).unwrap();
    assert_eq!(unit.try_write().map(drop), Err(read_only.clone()));
    assert_eq!(unit.write(LONG).map(drop), Err(read_only.clone()));
    assert_eq!(unit.restore().map(drop), Err(read_only.clone()));
    assert_eq!(unit.receive(NOW).map(drop), Err(read_only.clone()));
    assert_eq!(domain.ticket().map(drop), Err(read_only.clone()));
    let (guard, error) = unit.read(NOW).unwrap().upgrade().unwrap_err();
    assert_eq!((error, guard.check()), (read_only, Ok(())));
}

#[test]
fn its_threads_hold_a_unit_once() {
    let (fake, pool, domain, peer) = read_only();
    let unit = domain.unit(0).unwrap();
    let guards: Vec<_> = (0..5).map(|_| unit.read(NOW).unwrap()).collect();
    assert_eq!(fake.model().asked(is_acquire).len(), 1);
    for guard in guards {
        assert_eq!((guard.check(), state(&peer, 0)), (Ok(()), State::Shared));
        drop(guard);
    }
    pool.tiers().unwrap(); // Every release before was sent before this.
    assert_eq!(state(&peer, 0), State::Free);
    assert_eq!(fake.model().asked(is_release).len(), 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(read(&domain, 0), Ok(0));
                }
            });
        }
    });
    pool.tiers().unwrap();
    assert_eq!(state(&peer, 0), State::Free);
}

#[test]
fn it_waits_for_a_writer_and_lets_no_thread_in_before_one_that_waits() {
    let (_fake, _pool, domain, peer) = read_only();
    let (unit, line) = (domain.unit(0).unwrap(), peer.line(0));
    let grant = peer.member.try_exclusive(line).unwrap();
    let (number, holders) = (0, peer.member.slot().bit());
    let busy = LeaseError::Busy {
        unit: number,
        holders,
    };
    assert_eq!(unit.try_read().map(drop), Err(busy));
    let late = LeaseError::TimedOut {
        unit: number,
        holders,
    };
    assert_eq!(unit.read(Duration::from_millis(5)).map(drop), Err(late));
    let guard = std::thread::scope(|scope| {
        let reader = scope.spawn(|| unit.read(LONG));
        peer.member.release_exclusive(line, &grant, true).unwrap();
        reader.join().unwrap().unwrap()
    });
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| peer.member.exclusive(line, Deadline::NEVER));
        wait_until(|| guard.recalled().unwrap());
        let busy = unit.try_read().map(drop);
        assert!(matches!(busy, Err(LeaseError::Busy { unit: 0, .. })));
        drop(guard);
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn it_is_told_what_was_taken_away_and_what_is_lost() {
    let (_fake, _pool, domain, peer) = read_only();
    peer.write(1, 1);
    let guard = domain.unit(1).unwrap().read(NOW).unwrap();
    let view = guard.view::<u64>(Bytes::ZERO, 1).unwrap();
    peer.bury(SLOT);
    let revoked = LeaseError::Revoked { unit: 1 };
    assert_eq!(view.get(0), Err(revoked.clone()));
    let again = domain.unit(1).unwrap().read(NOW).unwrap();
    // Nobody has written in between: all who had it have it again.
    assert_eq!((view.get(0), guard.release()), (Ok(1), Ok(())));
    assert_eq!(again.release(), Ok(()));
    wait_until(|| state(&peer, 1) == State::Free);
    peer.member.try_exclusive(peer.line(1)).unwrap();
    peer.bury(peer.member.slot());
    let lost = LeaseError::Lost {
        unit: 1,
        last_good: 1,
    };
    assert_eq!(read(&domain, 1), Err(lost));
}

#[test]
fn a_lease_whose_answer_was_lost_is_had_again_or_given_back() {
    let (fake, _pool, domain, peer) = read_only();
    fake.once(is_acquire, Script::DoAndHangUp);
    assert_eq!(read(&domain, 0), Ok(0));
    wait_until(|| state(&peer, 0) == State::Free);
}

#[test]
fn it_is_not_opened_for_writing_while_it_leases_by_requests() {
    let (_fake, pool, domain, _) = read_only();
    let held = Err(Error::HeldHere {
        segment: domain.id(),
        others: 1,
    });
    for name in ["units", "tests:units"] {
        let opened = pool.open_domain(name, Access::ReadWrite).map(drop);
        assert_eq!(opened, held);
    }
    assert_eq!(read(&domain, 0), Ok(0));
    drop(domain);
    let domain = pool.open_domain("units", Access::ReadWrite).unwrap();
    assert_eq!(write(&domain, 0, 1), Ok(1));
    // The other way round nothing stands against it: its words can be changed.
    let reader = pool.open_domain("units", Access::ReadOnly).unwrap();
    assert_eq!((read(&reader, 0), read(&domain, 0)), (Ok(1), Ok(1)));
    let read_only = LeaseError::Access(AccessError::ReadOnly);
    assert_eq!(write(&reader, 0, 2), Err(read_only));
}
