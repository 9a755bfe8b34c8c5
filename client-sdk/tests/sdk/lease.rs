//! Units of a domain under leases: who gets in, what is published, and what is told of what was
//! taken away.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use client_sdk::{
    AccessError, Create, Domain, DomainOptions, Error, ErrorClass, LeaseError, Mode, OnDeath, Pool,
    ProtocolError, Reason,
};
use coherence::State;
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering;
use pool_core::{Bytes, EXTENT_BYTES};
use pool_proto::session::v1::{self as session, event, reply, request};

use crate::fake::{Fake, Peer, SLOT, Script};
use crate::fork::in_a_child;
use crate::{EXTENT, attached, wait_until};

const PAGE: Bytes = Bytes::new(4096);
const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(20);

fn options(mode: Mode) -> DomainOptions {
    DomainOptions::new().mode(mode).unit_bytes(PAGE)
}

fn create() -> Create {
    Create::new("ddr", EXTENT).name("units").persistent()
}

/// A domain of pages, and another member of it.
pub(crate) fn shared(mode: Mode) -> (Fake, Pool, Domain, Peer) {
    let (fake, pool) = attached();
    let domain = pool.create_domain(&create(), &options(mode)).unwrap();
    let peer = fake.model().peer(domain.id().number(), 2);
    (fake, pool, domain, peer)
}

/// Writes the first word of a unit.
pub(crate) fn write(domain: &Domain, unit: u32, value: u64) -> Result<u64, LeaseError> {
    let mut guard = domain.unit(unit)?.write(NOW)?;
    guard.view_mut::<u64>(Bytes::ZERO, 1)?.set(0, value)?;
    guard.release()
}

/// Reads the first word of a unit.
pub(crate) fn read(domain: &Domain, unit: u32) -> Result<u64, LeaseError> {
    let guard = domain.unit(unit)?.read(NOW)?;
    let value = guard.view::<u64>(Bytes::ZERO, 1)?.get(0)?;
    guard.release().map(|()| value)
}

pub(crate) fn state(peer: &Peer, unit: u32) -> State {
    let word = peer.line(unit).own.load(Ordering::Acquire);
    coherence::Own::judge(word).unwrap().state()
}

#[test]
fn a_range_of_no_bytes_has_an_error_of_its_own() {
    let (_fake, _pool, domain, _) = shared(Mode::Hardware);
    for offset in [Bytes::ZERO, PAGE, EXTENT, Bytes::new(u64::MAX)] {
        let empty = domain.range(offset, Bytes::ZERO).map(|_| ());
        assert_eq!(empty, Err(LeaseError::Empty { offset }));
        assert_eq!(empty.unwrap_err().class(), ErrorClass::Caller);
    }
}

#[test]
fn a_domain_is_units_behind_a_directory() {
    let (fake, pool, domain, _) = shared(Mode::Hardware);
    let start = domain.segment().addr();
    assert_eq!(domain.addr(), start.checked_add(EXTENT).unwrap());
    assert_eq!((domain.units(), domain.unit_bytes()), (512, PAGE));
    assert_eq!((domain.bytes(), domain.slot()), (EXTENT, SLOT));
    assert_eq!(domain.on_death(), OnDeath::Lose);
    let info = pool.segments().unwrap().segments[0].domain.unwrap();
    assert_eq!((info.mode, info.layout.units()), (Mode::Hardware, 512));
    for (offset, len) in [(EXTENT_BYTES, 1), (4096, EXTENT_BYTES)] {
        let range = domain.range(Bytes::new(offset), Bytes::new(len));
        let outside = matches!(range, Err(LeaseError::Access(AccessError::Outside { .. })));
        assert!(outside, "{offset} {len}: {range:?}");
    }
    assert!(domain.unit(512).is_err());
    let range = domain.range(Bytes::new(4095), Bytes::new(4098)).unwrap();
    assert_eq!((range.first(), range.count()), (0, 3));
    drop(fake);
}

#[test]
fn what_one_member_publishes_the_next_finds_in_every_mode() {
    for mode in [Mode::Hardware, Mode::Software, Mode::Simulated] {
        let (_fake, _pool, domain, peer) = shared(mode);
        for round in 1..=50 {
            assert_eq!(write(&domain, 3, round), Ok(2 * round - 1), "{mode}");
            assert_eq!(peer.peek(3), round, "{mode}");
            peer.write(3, round + 1_000);
            assert_eq!(read(&domain, 3), Ok(round + 1_000), "{mode}");
        }
    }
}

#[test]
fn every_kind_of_access_reaches_the_same_bytes_in_every_mode() {
    for mode in [Mode::Hardware, Mode::Software, Mode::Simulated] {
        let (_fake, _pool, domain, _) = shared(mode);
        let mut guard = domain
            .range(PAGE, Bytes::new(5_000))
            .unwrap()
            .write(NOW)
            .unwrap();
        let mut view = guard.view_mut::<u16>(Bytes::new(4_090), 100).unwrap();
        view.fill(7).unwrap();
        view.write_from(1, &[1, 2, 3]).unwrap();
        view.set(99, 9).unwrap();
        assert!(view.set(100, 9).is_err() && view.write_from(99, &[1, 2]).is_err());
        let mut some = [0; 5];
        view.read_into(0, &mut some).unwrap();
        assert_eq!((some, view.get(99)), ([7, 1, 2, 3, 7], Ok(9)));
        assert!(view.get(100).is_err() && view.read_into(96, &mut some).is_err());
        assert_eq!(
            view.iter().map(Result::unwrap).filter(|x| *x == 7).count(),
            96
        );
        assert!(guard.view::<u8>(Bytes::new(4_999), 2).is_err());
        guard.release().unwrap();
        let guard = domain.all().unwrap().read(NOW).unwrap();
        let view = guard.view::<u16>(Bytes::new(4_096 + 4_090), 100).unwrap();
        assert_eq!((view.get(3), view.get(98), view.len()), (Ok(3), Ok(7), 100));
    }
}

#[test]
fn only_units_in_which_something_was_written_are_published() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let versions = || [0, 1, 2].map(|unit| peer.line(unit).version.load(Ordering::Acquire));
    drop(domain.all().unwrap().write(NOW).unwrap());
    assert_eq!(versions(), [0, 0, 0]);
    let mut guard = domain.all().unwrap().write(NOW).unwrap();
    let _ = guard.view_mut::<u8>(Bytes::ZERO, 4_096).unwrap();
    guard.view_mut::<u8>(PAGE, 8).unwrap().set(0, 1).unwrap();
    drop(guard);
    assert_eq!(versions(), [0, 1, 0]);
    let mut guard = domain.all().unwrap().write(NOW).unwrap();
    guard.mark_dirty(Bytes::new(4_095), Bytes::new(2)).unwrap();
    assert!(guard.mark_dirty(EXTENT, Bytes::new(1)).is_err());
    guard.release().unwrap();
    assert_eq!(versions(), [1, 2, 0]);
    let mut guard = domain.unit(2).unwrap().write(NOW).unwrap();
    let start = guard.as_mut_ptr().unwrap();
    let expected = domain.addr().get() + 2 * 4_096;
    assert_eq!(start.addr() as u64, expected);
    assert_eq!(guard.release(), Ok(1));
    let guard = domain.unit(1).unwrap().read(NOW).unwrap();
    assert_eq!((guard.version(), guard.as_ptr().is_some()), (2, true));
}

#[test]
fn whoever_is_kept_out_is_told_by_whom() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let line = peer.line(5);
    let unit = domain.unit(5).unwrap();
    let grant = peer.member.try_exclusive(line).unwrap();
    let (number, holders) = (5, peer.member.slot().bit());
    let busy = || {
        Err(LeaseError::Busy {
            unit: number,
            holders,
        })
    };
    assert_eq!(unit.try_read().map(drop), busy());
    assert_eq!(unit.try_write().map(drop), busy());
    let late = Err(LeaseError::TimedOut {
        unit: number,
        holders,
    });
    assert_eq!(unit.read(NOW).map(drop), late);
    assert_eq!(unit.write(Duration::from_millis(1)).map(drop), late);
    peer.member.release_exclusive(line, &grant, false).unwrap();
    let (one, two) = (unit.try_read().unwrap(), unit.try_read().unwrap());
    let shared = peer.member.try_shared(5, line).unwrap();
    assert!(unit.try_write().is_err());
    drop((one, two));
    peer.member.release_shared(5, line, &shared).unwrap();
    unit.try_write().unwrap().release().unwrap();
}

/// Whether the daemon was told that a unit is waited for.
fn is_recalled(fake: &Fake, domain: &Domain, unit: u32) -> bool {
    let segment_id = domain.id().number();
    let recall = request::Body::Recall(session::Recall { segment_id, unit });
    let model = fake.model();
    model.log.iter().any(|(_, body)| *body == recall)
}

#[test]
fn whoever_waits_for_long_tells_the_daemon_and_nobody_else_does() {
    let (fake, pool) = attached();
    let soon = options(Mode::Hardware).recall_time(Duration::from_millis(50));
    let domain = pool.create_domain(&create(), &soon).unwrap();
    assert_eq!(domain.recall_time(), Duration::from_millis(50));
    let peer = fake.model().peer(domain.id().number(), 2);
    let held = [3, 4].map(|unit| peer.member.try_exclusive(peer.line(unit)).unwrap());
    assert!(domain.unit(3).unwrap().read(NOW).is_err());
    std::thread::scope(|scope| {
        let waits = || domain.unit(3).unwrap().write(LONG).map(drop);
        let (one, two) = (scope.spawn(waits), scope.spawn(waits));
        let reader = scope.spawn(|| domain.unit(4).unwrap().read(LONG).map(drop));
        wait_until(|| is_recalled(&fake, &domain, 3) && is_recalled(&fake, &domain, 4));
        let word = peer.line(3).own.load(Ordering::Acquire);
        let own = coherence::Own::judge(word).unwrap();
        assert!(own.is_recalled(), "its turn stands while it asks");
        for (unit, grant) in [3, 4].into_iter().zip(held) {
            let line = peer.line(unit);
            peer.member.release_exclusive(line, &grant, false).unwrap();
        }
        for thread in [one, two, reader] {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    });
    assert!(!is_recalled(&fake, &domain, 5));
}

#[test]
fn whoever_waits_is_woken_and_a_writer_that_waits_is_announced() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let line = peer.line(0);
    let grant = peer.member.try_exclusive(line).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            domain
                .unit(0)
                .unwrap()
                .read(LONG)
                .map(|guard| guard.version())
        });
        peer.member.release_exclusive(line, &grant, true).unwrap();
        assert_eq!(reader.join().unwrap(), Ok(1));
    });
    let guard = domain.unit(0).unwrap().read(NOW).unwrap();
    assert_eq!(guard.recalled(), Ok(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| peer.member.exclusive(line, Deadline::NEVER));
        wait_until(|| guard.recalled().unwrap());
        assert!(matches!(
            domain.unit(0).unwrap().try_read(),
            Err(LeaseError::Busy { unit: 0, .. })
        ));
        drop(guard);
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn a_range_is_leased_as_a_whole_or_not_at_all() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let grant = peer.member.try_exclusive(peer.line(2)).unwrap();
    let range = domain.range(Bytes::ZERO, Bytes::new(4 * 4_096)).unwrap();
    for refused in [range.try_read().map(drop), range.try_write().map(drop)] {
        assert!(matches!(refused, Err(LeaseError::Busy { unit: 2, .. })));
        let states = [0, 1, 3].map(|unit| state(&peer, unit));
        assert_eq!(states, [State::Free; 3]);
    }
    peer.member
        .release_exclusive(peer.line(2), &grant, true)
        .unwrap();
    let guard = range.try_write().unwrap();
    let states = [0, 1, 2, 3, 4].map(|unit| state(&peer, unit));
    assert_eq!(states[..4], [State::Exclusive; 4]);
    assert_eq!(states[4], State::Free);
    drop(guard);
    assert_eq!(state(&peer, 3), State::Free);
}

#[test]
fn a_reader_writes_where_nobody_else_reads_and_a_writer_goes_on_reading() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let range = domain.range(Bytes::ZERO, Bytes::new(3 * 4_096)).unwrap();
    let shared = peer.member.try_shared(1, peer.line(1)).unwrap();
    let guard = range.read(NOW).unwrap();
    let (guard, error) = guard.upgrade().unwrap_err();
    assert!(matches!(error, LeaseError::Busy { unit: 1, .. }), "{error}");
    assert_eq!((state(&peer, 0), guard.check()), (State::Shared, Ok(())));
    peer.member
        .release_shared(1, peer.line(1), &shared)
        .unwrap();
    let mut guard = guard.upgrade().unwrap();
    guard.view_mut::<u64>(PAGE, 1).unwrap().set(0, 8).unwrap();
    let guard = guard.downgrade().unwrap();
    assert_eq!(guard.view::<u64>(PAGE, 1).unwrap().get(0), Ok(8));
    let [zero, one] = [0, 1].map(|unit| peer.member.try_shared(unit, peer.line(unit)).unwrap());
    assert_eq!((zero.version, one.version), (0, 1));
    guard.release().unwrap();
}

#[test]
fn a_lease_that_was_taken_away_reads_and_publishes_nothing() {
    for mode in [Mode::Hardware, Mode::Simulated] {
        let (_fake, _pool, domain, peer) = shared(mode);
        write(&domain, 1, 5).unwrap();
        let reader = domain.unit(0).unwrap().read(NOW).unwrap();
        let mut writer = domain.unit(1).unwrap().write(NOW).unwrap();
        let mut view = writer.view_mut::<u64>(Bytes::ZERO, 1).unwrap();
        view.set(0, 6).unwrap();
        peer.bury(SLOT);
        let revoked = LeaseError::Revoked { unit: 1 };
        assert_eq!(view.get(0), Err(revoked.clone()));
        assert_eq!(view.set(0, 7), Err(revoked.clone()));
        assert_eq!(writer.check(), Err(revoked.clone()));
        assert_eq!(writer.release(), Err(revoked));
        let revoked = LeaseError::Revoked { unit: 0 };
        assert!(reader.view::<u8>(Bytes::ZERO, 1).is_err());
        assert_eq!(reader.release(), Err(revoked));
        let lost = LeaseError::Lost {
            unit: 1,
            last_good: 1,
        };
        assert_eq!(read(&domain, 1), Err(lost.clone()));
        assert_eq!(write(&domain, 1, 1), Err(lost));
        assert_eq!(read(&domain, 0), Ok(0));
    }
}

#[test]
fn what_is_lost_is_lost_until_all_of_it_was_written_anew() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    peer.write(4, 11);
    peer.member.try_exclusive(peer.line(4)).unwrap();
    peer.poke(4, 12);
    peer.bury(peer.member.slot());
    let unit = domain.unit(4).unwrap();
    let lost = LeaseError::Lost {
        unit: 4,
        last_good: 1,
    };
    assert_eq!(unit.read(LONG).map(drop), Err(lost.clone()));
    drop(unit.restore().unwrap());
    assert_eq!(unit.read(LONG).map(drop), Err(lost));
    let mut guard = unit.restore().unwrap();
    guard
        .view_mut::<u64>(Bytes::ZERO, 512)
        .unwrap()
        .fill(13)
        .unwrap();
    let version = guard.release().unwrap();
    assert!(version > 2, "{version}: whoever has older lines drops them");
    assert_eq!(read(&domain, 4), Ok(13));
    let there = LeaseError::NotLost { unit: 4 };
    assert_eq!(unit.restore().map(drop), Err(there));
}

#[test]
fn half_a_change_of_a_thread_that_panicked_is_served_to_nobody() {
    for (on_death, checksums, expected) in [
        (OnDeath::Lose, false, State::Lost),
        (OnDeath::Keep, false, State::Free),
        (OnDeath::Lose, true, State::Lost),
        (OnDeath::Keep, true, State::Lost),
    ] {
        let (fake, pool) = attached();
        let options = options(Mode::Hardware)
            .on_death(on_death)
            .checksums(checksums);
        let domain = pool.create_domain(&create(), &options).unwrap();
        let peer = fake.model().peer(domain.id().number(), 2);
        let panics = |unit: u32, writes: bool| {
            let mut guard = domain.unit(unit).unwrap().write(NOW).unwrap();
            if writes {
                guard
                    .view_mut::<u8>(Bytes::ZERO, 1)
                    .unwrap()
                    .set(0, 1)
                    .unwrap();
            }
            panic!("half of a change is written");
        };
        for (unit, writes) in [(0, true), (1, false)] {
            catch_unwind(AssertUnwindSafe(|| panics(unit, writes))).unwrap_err();
        }
        assert_eq!((state(&peer, 0), state(&peer, 1)), (expected, State::Free));
        domain
            .unit(2)
            .unwrap()
            .write(NOW)
            .unwrap()
            .abandon()
            .unwrap();
        assert_eq!(state(&peer, 2), State::Lost);
    }
}

#[test]
fn a_grant_of_a_newer_incarnation_is_read_from_where_it_lies() {
    for mode in [Mode::Hardware, Mode::Software, Mode::Simulated] {
        let (fake, _pool, domain, _) = shared(mode);
        write(&domain, 0, 1).unwrap();
        // Nobody is told.
        fake.model().refill(domain.id().number(), 0x22);
        assert_eq!(read(&domain, 0), Ok(0x2222_2222_2222_2222), "{mode}");
        let peer = fake.model().peer(domain.id().number(), 2);
        write(&domain, 0, 3).unwrap();
        assert_eq!(peer.peek(0), 3, "{mode}");
        // One that does not come about is no reason to read the old one.
        let far = peer.line(9).backing.fetch_add(1_000, Ordering::AcqRel);
        let moving = domain.unit(9).unwrap().try_read().map(drop);
        assert!(matches!(moving, Err(LeaseError::Moving { unit: 9, .. })));
        assert_eq!(state(&peer, 9), State::Free);
        peer.line(9).backing.store(far, Ordering::Release);
        assert!(read(&domain, 9).is_ok());
    }
}

#[test]
fn a_word_that_is_none_is_told_and_nothing_is_read() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let guard = domain.unit(7).unwrap().read(NOW).unwrap();
    peer.line(7).own.store(u64::MAX, Ordering::Release);
    let corrupt = LeaseError::Corrupt { unit: 7 };
    assert_eq!(read(&domain, 7), Err(corrupt.clone()));
    assert_eq!(guard.check(), Err(corrupt.clone()));
    assert_eq!(guard.release(), Err(corrupt));
}

#[test]
fn a_domain_that_was_revoked_leases_nothing_and_gives_nothing_back() {
    let (fake, _pool, domain, peer) = shared(Mode::Hardware);
    let segment = domain.id();
    let mut writer = domain.unit(0).unwrap().write(NOW).unwrap();
    let _ = writer.as_mut_ptr();
    let (segment_id, incarnation) = (segment.number(), u64::MAX);
    fake.tell(event::Body::Revoked(session::Revoked {
        segment_id,
        incarnation,
    }));
    let revoked = LeaseError::Access(AccessError::Revoked { segment });
    wait_until(|| writer.check().is_err());
    assert_eq!(writer.check(), Err(revoked.clone()));
    assert_eq!(writer.release(), Err(revoked.clone()));
    assert_eq!(domain.unit(1).map(drop), Err(revoked));
    // What it held is for the daemon to take back.
    assert_eq!(state(&peer, 0), State::Exclusive);
}

#[test]
fn a_guard_in_a_forked_child_is_dead_and_its_parents_lives() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let unit = domain.unit(0).unwrap();
    let mut guards = Some((
        unit.write(NOW).unwrap(),
        domain.unit(1).unwrap().read(NOW).unwrap(),
    ));
    let forked = LeaseError::Access(AccessError::Forked);
    assert!(in_a_child(|| {
        let (writer, reader) = guards.take().unwrap();
        let told = writer.check() == Err(forked.clone())
            && reader.view::<u8>(Bytes::ZERO, 1).is_err()
            && unit.try_read().map(drop) == Err(forked.clone())
            && unit.receive(LONG).map(drop) == Err(forked.clone())
            && domain.unit(2).map(drop) == Err(forked.clone());
        told && writer.release() == Err(forked.clone()) && reader.release() == Err(forked.clone())
    }));
    assert_eq!(
        (state(&peer, 0), state(&peer, 1)),
        (State::Exclusive, State::Shared)
    );
    let (writer, reader) = guards.unwrap();
    assert_eq!((writer.release(), reader.release()), (Ok(0), Ok(())));
}

#[test]
fn what_is_no_domain_has_no_units_and_a_broken_one_is_not_believed() {
    let (fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("plain").persistent())
        .unwrap();
    let id = segment.id();
    assert_eq!(
        segment.into_domain().map(drop),
        Err(Error::NotADomain { segment: id })
    );
    let domain = pool
        .create_domain(&create(), &options(Mode::Hardware))
        .unwrap();
    type Breakage = fn(&mut session::Granted);
    let breakages: [(Breakage, &str); 5] = [
        (|granted| granted.slot = 0, "slot"),
        (|granted| granted.slot = 32, "slot"),
        (|granted| granted.slot = 2, "slot"),
        (|granted| coherence_of(granted).mode = 0, "coherence"),
        (
            |granted| coherence_of(granted).directory_bytes = 4096,
            "coherence",
        ),
    ];
    for (breakage, field) in breakages {
        let (reply::Body::Granted(mut broken), files) = fake.model().grant(domain.id().number())
        else {
            panic!("the fake grants");
        };
        breakage(&mut broken);
        let is_open = |body: &request::Body| matches!(body, request::Body::Open(_));
        fake.once(is_open, Script::Say(reply::Body::Granted(broken), files));
        let error = pool
            .open_domain("units", client_sdk::Access::ReadWrite)
            .map(drop);
        assert!(
            matches!(error, Err(Error::Protocol(ProtocolError::Field(name))) if name == field),
            "{error:?}"
        );
    }
    assert_eq!(write(&domain, 0, 1), Ok(1));
    // Evicted, and back before it has heard of it.
    let (mut granted, files) = fake.model().grant(domain.id().number());
    if let reply::Body::Granted(granted) = &mut granted {
        granted.slot = 2;
        granted.segment.as_mut().unwrap().incarnation += 1;
    }
    let is_open = |body: &request::Body| matches!(body, request::Body::Open(_));
    fake.once(is_open, Script::Say(granted, files));
    let evicted = pool.open_domain("units", client_sdk::Access::ReadWrite);
    assert_eq!(evicted.unwrap_err().class(), ErrorClass::Revoked);
    let missing = pool
        .open_domain("none", client_sdk::Access::ReadOnly)
        .unwrap_err();
    assert_eq!(missing.reason(), Some(Reason::NotFound));
}

fn coherence_of(granted: &mut session::Granted) -> &mut pool_proto::common::v1::Coherence {
    granted
        .segment
        .as_mut()
        .unwrap()
        .coherence
        .as_mut()
        .unwrap()
}

#[test]
fn what_was_given_up_is_not_written_back_over_what_was_restored() {
    for mode in [Mode::Hardware, Mode::Software, Mode::Simulated] {
        let (_fake, _pool, domain, peer) = shared(mode);
        for unit in 0..8 {
            let mut guard = domain.unit(unit).unwrap().write(NOW).unwrap();
            guard
                .view_mut::<u64>(Bytes::ZERO, 1)
                .unwrap()
                .set(0, 7)
                .unwrap();
            guard.abandon().unwrap();
            let line = peer.line(unit);
            let grant = peer.member.try_restore(line).unwrap();
            peer.poke(unit, 9);
            peer.member.release_exclusive(line, &grant, true).unwrap();
            assert_eq!(read(&domain, unit), Ok(9), "{mode}");
            assert_eq!(peer.peek(unit), 9, "{mode}");
        }
    }
}

#[test]
fn a_unit_is_restored_as_a_whole() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    domain
        .unit(0)
        .unwrap()
        .write(NOW)
        .unwrap()
        .abandon()
        .unwrap();
    for (start, len) in [(8, 8), (0, 8), (8, 4088)] {
        let part = domain.range(Bytes::new(start), Bytes::new(len)).unwrap();
        let refused = part.restore().map(drop);
        assert_eq!(refused, Err(LeaseError::PartOfUnit { unit: PAGE }));
    }
    assert_eq!(state(&peer, 0), State::Lost);
    domain
        .unit(0)
        .unwrap()
        .restore()
        .unwrap()
        .release()
        .unwrap();
    assert_eq!(state(&peer, 0), State::Free);
}

#[test]
fn whoever_waits_with_other_units_in_its_hands_lets_those_have_them_that_ask() {
    let (fake, _pool, domain, peer) = shared(Mode::Hardware);
    let (first, last) = (peer.line(0), peer.line(2));
    let held = peer.member.try_exclusive(last).unwrap();
    let range = domain.range(Bytes::ZERO, Bytes::new(3 * 4_096)).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| range.write(LONG).map(drop));
        let own = || coherence::Own::judge(first.own.load(Ordering::Acquire)).unwrap();
        wait_until(|| own().state() == State::Exclusive);
        // Somebody waits for the first one, has asked for it, and has told the daemon.
        let other = scope.spawn(|| peer.member.exclusive(first, Deadline::NEVER));
        wait_until(|| own().is_recalled());
        let segment_id = domain.id().number();
        fake.tell(event::Body::Recalled(session::Recalled {
            segment_id,
            unit: 0,
            within_ms: 1_000,
        }));
        let taken = other.join().unwrap().unwrap();
        assert!(!waiter.is_finished(), "its time is not over");
        peer.member.release_exclusive(first, &taken, true).unwrap();
        peer.member.release_exclusive(last, &held, false).unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}
