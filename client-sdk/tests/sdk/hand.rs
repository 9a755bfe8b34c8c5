//! Units that go from hand to hand, and units that are lent to a worker.

use std::time::Duration;

use client_sdk::{
    Access, AccessError, Completion, Create, LeaseError, Loan, Mode, Ordering, Progress, SharedU32,
    Ticket,
};
use coherence::{NotHanded, State};
use pool_core::Bytes;
use pool_core::clock::Deadline;

use crate::EXTENT;
use crate::fake::Peer;
use crate::lease::{read, shared, write};

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(20);

fn ticket_of(peer: &Peer) -> Ticket {
    let to = peer.receiver();
    Ticket::from_number(to.era << 5 | u64::from(to.slot.index()))
}

fn is_free(peer: &Peer, unit: u32) -> bool {
    let word = peer.line(unit).own.load(Ordering::Acquire);
    coherence::Own::judge(word).unwrap().state() == State::Free
}

#[test]
fn units_are_handed_to_another_process_with_what_was_written() {
    for mode in [Mode::Hardware, Mode::Software, Mode::Simulated] {
        let (_fake, _pool, domain, peer) = shared(mode);
        let era = peer.receiver().era;
        let range = domain.range(Bytes::ZERO, Bytes::new(2 * 4_096)).unwrap();
        let mut guard = range.write(NOW).unwrap();
        guard
            .view_mut::<u64>(Bytes::ZERO, 1)
            .unwrap()
            .set(0, 41)
            .unwrap();
        guard.hand_over(ticket_of(&peer)).unwrap();
        assert!(domain.unit(0).unwrap().try_read().is_err());
        let one = peer.member.try_receive(peer.line(0), era).unwrap();
        let two = peer.member.try_receive(peer.line(1), era).unwrap();
        assert_eq!((one.version, two.version, peer.peek(0)), (1, 0, 41));
        peer.poke(0, 42);
        peer.member
            .release_exclusive(peer.line(0), &one, true)
            .unwrap();
        peer.member
            .release_exclusive(peer.line(1), &two, false)
            .unwrap();
        assert_eq!(read(&domain, 0), Ok(42), "{mode}");
    }
}

#[test]
fn a_process_waits_for_what_it_is_handed() {
    let (_fake, _pool, domain, peer) = shared(Mode::Simulated);
    let ticket = Ticket::from_number(domain.ticket().unwrap().number());
    assert_eq!(
        (ticket, ticket.slot()),
        (domain.ticket().unwrap(), domain.slot())
    );
    let early = domain.unit(0).unwrap().receive(NOW).map(drop);
    assert!(matches!(early, Err(LeaseError::TimedOut { unit: 0, .. })));
    assert_eq!(read(&domain, 0), Ok(0));
    let line = peer.line(0);
    let grant = peer.member.try_exclusive(line).unwrap();
    peer.poke(0, 7);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let guard = domain.unit(0).unwrap().receive(LONG).unwrap();
            let value = guard.view::<u64>(Bytes::ZERO, 1).unwrap().get(0).unwrap();
            (value, guard.version(), guard.release())
        });
        let to = coherence::Receiver {
            slot: ticket.slot(),
            era: ticket.number() >> 5,
        };
        let lives = || peer.directory().lives(to.slot, to.era).unwrap();
        assert_eq!(peer.member.hand_over(line, &grant, true, to, lives), Ok(1));
        assert_eq!(receiver.join().unwrap(), (7, 1, Ok(1)));
    });
    assert!(is_free(&peer, 0));
}

#[test]
fn a_range_that_comes_in_part_is_let_go_again() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let ticket = domain.ticket().unwrap();
    let to = coherence::Receiver {
        slot: ticket.slot(),
        era: ticket.number() >> 5,
    };
    let grant = peer.member.try_exclusive(peer.line(0)).unwrap();
    peer.member
        .hand_over(peer.line(0), &grant, true, to, || true)
        .unwrap();
    let range = domain.range(Bytes::ZERO, Bytes::new(2 * 4_096)).unwrap();
    let late = range.receive(Duration::from_millis(1)).map(drop);
    assert!(
        matches!(late, Err(LeaseError::TimedOut { unit: 1, .. })),
        "{late:?}"
    );
    assert!(is_free(&peer, 0));
}

#[test]
fn a_range_that_is_not_received_leaves_none_of_its_units_held() {
    // Which of three units come, and which are lost.
    for (handed, lost) in [
        (0b110, 0),
        (0b101, 0),
        (0b100, 0b001),
        (0b101, 0b010),
        (0b011, 0),
    ] {
        let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
        let ticket = domain.ticket().unwrap();
        let to = coherence::Receiver {
            slot: ticket.slot(),
            era: ticket.number() >> 5,
        };
        for unit in 0..3 {
            let line = peer.line(unit);
            let grant = peer.member.try_exclusive(line).unwrap();
            if handed & 1 << unit != 0 {
                peer.member
                    .hand_over(line, &grant, true, to, || true)
                    .unwrap();
            } else if lost & 1 << unit != 0 {
                peer.member.abandon(line, &grant).unwrap();
            }
        }
        let range = domain.range(Bytes::ZERO, Bytes::new(3 * 4_096)).unwrap();
        assert!(range.receive(Duration::from_millis(1)).is_err());
        for unit in (0..3).filter(|unit| handed & 1 << unit != 0) {
            assert!(is_free(&peer, unit), "unit {unit} of {handed:b}");
            assert_eq!(domain.unit(unit).unwrap().read(NOW).unwrap().version(), 1);
        }
    }
}

#[test]
fn what_comes_after_the_receiver_has_given_up_is_let_go_when_it_looks_again() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let ticket = domain.ticket().unwrap();
    let to = coherence::Receiver {
        slot: ticket.slot(),
        era: ticket.number() >> 5,
    };
    let range = domain.range(Bytes::ZERO, Bytes::new(2 * 4_096)).unwrap();
    assert!(range.receive(NOW).is_err());
    let grant = peer.member.try_exclusive(peer.line(1)).unwrap();
    peer.member
        .hand_over(peer.line(1), &grant, true, to, || true)
        .unwrap();
    assert!(range.receive(NOW).is_err());
    assert!(is_free(&peer, 1));
}

#[test]
fn what_was_meant_for_a_process_that_is_gone_is_let_go() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let ticket = ticket_of(&peer);
    peer.directory().leave(peer.member.slot()).unwrap();
    let mut guard = domain.unit(3).unwrap().write(NOW).unwrap();
    guard
        .view_mut::<u64>(Bytes::ZERO, 1)
        .unwrap()
        .set(0, 5)
        .unwrap();
    let gone = LeaseError::ReceiverGone {
        unit: 3,
        slot: peer.member.slot(),
    };
    assert_eq!(guard.hand_over(ticket), Err(gone.clone()));
    assert!(is_free(&peer, 3));
    assert_eq!((read(&domain, 3), write(&domain, 3, 6)), (Ok(5), Ok(2)));
    // Whoever is in its place by now is somebody else.
    peer.directory().enter(peer.member.slot()).unwrap();
    let guard = domain.unit(3).unwrap().write(NOW).unwrap();
    assert_eq!(guard.hand_over(ticket), Err(gone));
    assert!(is_free(&peer, 3));
}

#[test]
fn a_lease_that_was_taken_away_is_handed_to_nobody() {
    let (_fake, _pool, domain, peer) = shared(Mode::Hardware);
    let guard = domain.unit(0).unwrap().write(NOW).unwrap();
    peer.bury(domain.slot());
    let revoked = LeaseError::Revoked { unit: 0 };
    assert_eq!(guard.hand_over(ticket_of(&peer)), Err(revoked));
    let nothing = peer
        .member
        .receive(peer.line(0), peer.receiver().era, Deadline::NEVER);
    assert!(matches!(nothing, Err(coherence::LeaseError::Lost { .. })));
    // A giver of the other side finds this process gone.
    let grant = peer.member.try_exclusive(peer.line(1)).unwrap();
    let ticket = domain.ticket().unwrap();
    let to = coherence::Receiver {
        slot: ticket.slot(),
        era: ticket.number() >> 5,
    };
    let lives = || peer.directory().lives(to.slot, to.era).unwrap();
    let kept = peer
        .member
        .hand_over(peer.line(1), &grant, false, to, lives);
    assert_eq!(kept, Err(NotHanded::Gone(grant)));
}

/// What a worker tells by a word that lies outside the units.
fn with_word(check: impl FnOnce(&client_sdk::Domain, &Peer, SharedU32<'_>)) {
    let (_fake, pool, domain, peer) = shared(Mode::Hardware);
    let words = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    check(&domain, &peer, words.atomic_u32(Bytes::ZERO).unwrap());
}

#[test]
fn a_unit_that_is_lent_is_let_go_when_the_worker_has_ended() {
    with_word(|domain, peer, word| {
        let mut guard = domain.unit(0).unwrap().write(NOW).unwrap();
        guard
            .view_mut::<u64>(Bytes::ZERO, 1)
            .unwrap()
            .set(0, 1)
            .unwrap();
        let mut lent = guard.lend(word).unwrap();
        assert!(matches!(lent.wait(NOW), Ok(Loan::Running)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let memory = domain.segment();
                let offset = Bytes::new(domain.addr().get() - memory.addr().get());
                memory
                    .view_mut::<u64>(offset, 1)
                    .unwrap()
                    .set(0, 2)
                    .unwrap();
                Progress::Done.tell(&word).unwrap();
            });
            let Loan::Back(guard) = lent.wait(LONG).unwrap() else {
                panic!("the worker has not ended");
            };
            assert_eq!(guard.view::<u64>(Bytes::ZERO, 1).unwrap().get(0), Ok(2));
            assert_eq!(guard.release(), Ok(1));
        });
        // Once, and whoever asks again is told so.
        let given_back = LeaseError::NotLent { unit: 0 };
        for _ in 0..2 {
            assert_eq!(lent.wait(NOW).map(|_| ()), Err(given_back.clone()));
        }
        assert_eq!(lent.abandon(), Err(given_back));
        assert!(is_free(peer, 0));
        assert_eq!(read(domain, 0), Ok(2));
    });
}

#[test]
fn what_a_worker_did_not_finish_is_served_to_nobody() {
    with_word(|domain, peer, word| {
        let unit = domain.unit(0).unwrap();
        write(domain, 0, 9).unwrap();
        let mut lent = unit.write(NOW).unwrap().lend(word).unwrap();
        Progress::Failed.tell(&word).unwrap();
        let lost = LeaseError::Lost {
            unit: 0,
            last_good: 1,
        };
        for _ in 0..2 {
            assert_eq!(lent.wait(LONG).map(|_| ()), Err(lost.clone()));
        }
        assert_eq!(lent.abandon(), Err(lost.clone()));
        assert_eq!(read(domain, 0), Err(lost));

        // The same where nobody waits for it, and where it is known to be dead.
        drop(
            domain
                .unit(1)
                .unwrap()
                .write(NOW)
                .unwrap()
                .lend(word)
                .unwrap(),
        );
        word.store(0, Ordering::Release).unwrap();
        let lent = domain
            .unit(2)
            .unwrap()
            .write(NOW)
            .unwrap()
            .lend(word)
            .unwrap();
        lent.abandon().unwrap();
        for unit in [1, 2] {
            assert!(matches!(read(domain, unit), Err(LeaseError::Lost { .. })));
        }
        let _ = peer;
    });
}

#[test]
fn units_stay_held_while_a_worker_may_write_whatever_becomes_of_the_guard() {
    with_word(|domain, peer, word| {
        drop(
            domain
                .unit(0)
                .unwrap()
                .write(NOW)
                .unwrap()
                .lend(word)
                .unwrap(),
        );
        assert!(!is_free(peer, 0));
        assert!(domain.unit(0).unwrap().try_read().is_err());
        // Done, and nobody waits: it is published.
        let lent = domain
            .unit(1)
            .unwrap()
            .write(NOW)
            .unwrap()
            .lend(word)
            .unwrap();
        Progress::Done.tell(&word).unwrap();
        drop(lent);
        assert!(is_free(peer, 1));
        assert_eq!(domain.unit(1).unwrap().read(NOW).unwrap().version(), 1);
        // Nothing is lent that is not held.
        let guard = domain.unit(2).unwrap().write(NOW).unwrap();
        peer.bury(domain.slot());
        let revoked = LeaseError::Revoked { unit: 2 };
        assert_eq!(guard.lend(word).map(drop), Err(revoked));
    });
}

/// How this process has an address mapped, as the kernel tells it.
fn mapped_at(addr: u64) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of = |line: &str| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let bounds = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        (bounds[0]..bounds[1])
            .contains(&addr)
            .then(|| rest[..4].to_owned())
    };
    maps.lines().find_map(of).unwrap_or_default()
}

#[test]
fn a_domain_that_is_closed_while_a_worker_runs_stays_held_with_what_was_lent() {
    for forgotten in [false, true] {
        let (fake, pool, domain, peer) = shared(Mode::Hardware);
        let words = pool.create(&Create::new("ddr", EXTENT)).unwrap();
        let word = words.atomic_u32(Bytes::ZERO).unwrap();
        let (addr, id) = (domain.addr().get(), domain.id().number());
        let unit = domain.unit(0).unwrap();
        let lent = unit.write(NOW).unwrap().lend(word).unwrap();
        let (closed, after_close) = std::sync::mpsc::channel();
        if forgotten {
            let _never_dropped = std::mem::ManuallyDrop::new(lent);
        } else {
            drop(lent);
        }
        std::thread::scope(|scope| {
            // Dropped with the scope, so that the worker ends where a check fails.
            let closed = closed;
            let (peer, word) = (&peer, &word);
            let worker = scope.spawn(move || {
                after_close.recv().unwrap();
                peer.poke(0, 77);
                Progress::Done.tell(word).unwrap();
            });
            domain.close();
            // What is queued is sent before the next request.
            pool.segments().unwrap();
            assert!(fake.model().holds(id), "the daemon was told of a close");
            assert_eq!(mapped_at(addr), "rw-s");
            assert!(peer.member.try_shared(0, peer.line(0)).is_err());
            closed.send(()).unwrap();
            worker.join().unwrap();
            assert!(peer.member.try_exclusive(peer.line(0)).is_err());
        });
        // Whoever opens it again is the same member.
        let again = pool.open_domain("units", Access::ReadWrite).unwrap();
        assert_eq!(
            (again.addr().get(), mapped_at(addr).as_str()),
            (addr, "rw-s")
        );
        assert!(again.unit(0).unwrap().try_read().is_err());
    }
}

#[test]
fn a_domain_is_closed_as_ever_once_the_worker_has_ended() {
    let (fake, pool, domain, peer) = shared(Mode::Hardware);
    let words = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let word = words.atomic_u32(Bytes::ZERO).unwrap();
    let id = domain.id().number();
    let mut lent = domain
        .unit(0)
        .unwrap()
        .write(NOW)
        .unwrap()
        .lend(word)
        .unwrap();
    Progress::Done.tell(&word).unwrap();
    assert!(matches!(lent.wait(NOW), Ok(Loan::Back(_))));
    drop(lent);
    domain.close();
    pool.segments().unwrap();
    assert!(!fake.model().holds(id) && is_free(&peer, 0));
}

#[test]
fn a_word_that_says_something_else_is_a_failure() {
    with_word(|_, _, word| {
        for (value, progress) in [
            (0, Progress::Running),
            (1, Progress::Done),
            (2, Progress::Failed),
            (u32::MAX, Progress::Failed),
        ] {
            word.store(value, Ordering::Release).unwrap();
            assert_eq!(Completion::wait(&word, NOW), Ok(progress));
        }
    });
    assert_eq!(AccessError::Forked.class(), client_sdk::ErrorClass::Caller);
}
