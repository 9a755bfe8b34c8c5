//! Domains on the real daemon: members die with what they hold, the daemon dies while it recovers
//! that, and nobody is served what nobody published.

use std::collections::BTreeSet;

use coherence::{LeaseError, State};
use pool_proto::common::v1::{Access, ErrorClass, ErrorReason, OnDeath};
use pool_proto::session::v1::reply;
use tierpool_tests::attempt::Attempt;
use tierpool_tests::client::{Held, Session, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::domain::{self, acquire, create, directory, own, release, state, version};
use tierpool_tests::puppet::{Order, Puppet};
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, points, until};

const PUPPET: &str = env!("CARGO_BIN_EXE_puppet");

fn setup() -> Setup {
    Setup::small(64)
}

fn start() -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup())
}

/// A process of the same tenant that has opened the domain, and its id there.
fn other(daemon: &Daemon, name: &str) -> (Puppet, u64) {
    let mut puppet = Puppet::start(PUPPET);
    puppet.attach(daemon, "a");
    let id = puppet
        .granted(ask::open(name, Access::ReadWrite))
        .segment_id;
    (puppet, id)
}

fn takes(puppet: &mut Puppet, id: u64, unit: u32, exclusive: bool) {
    assert!(puppet.tells(&Order::Lease(id, unit, exclusive)));
}

fn await_state(held: &Held, unit: u32, wanted: State) {
    until("the unit is recovered", || {
        (state(held, unit) == wanted).then_some(())
    });
}

fn gives_back(mut client: Session, held: Held) {
    client.ask(ask::free(held.id(), true));
    drop(held);
    client.ask(ask::detach());
}

#[test]
fn a_new_domain_is_laid_out_before_anybody_has_it() {
    let daemon = start();
    let mut client = daemon.attach("a");
    let held = client.granted(create(2 * EXTENT, "d", OnDeath::Lose));
    let directory = directory(&held);
    assert_eq!(directory.is_formatted(), Ok(true));
    let backing = |line: &pool_core::descriptor::Descriptor| {
        line.backing
            .load(pool_core::sync::atomic::Ordering::Relaxed)
    };
    let incarnation = held.segment.incarnation;
    assert!(
        directory
            .lines()
            .iter()
            .all(|line| backing(line) == incarnation)
    );
    let slot = coherence::Slot::new(u8::try_from(held.slot).unwrap()).unwrap();
    let era = directory.era(slot).unwrap();
    assert_eq!((era, directory.lives(slot, era)), (1, Ok(true)));
    let check = daemon.balanced();
    let row = check.domains[0];
    assert_eq!((row.members, row.units, row.free), (1, 64, 64));
    gives_back(client, held);
    daemon.await_all_free();
}

#[test]
fn what_a_dead_writer_held_is_lost_or_kept_as_its_domain_says() {
    for (on_death, becomes) in [(OnDeath::Lose, State::Lost), (OnDeath::Keep, State::Free)] {
        let daemon = start();
        let mut client = daemon.attach("a");
        let held = client.granted(create(2 * EXTENT, "d", on_death));
        let (mut puppet, id) = other(&daemon, "d");
        takes(&mut puppet, id, 3, true);
        assert!(matches!(
            domain::lease(&held, 3, false),
            Err(LeaseError::Busy(_))
        ));
        puppet.kill();
        await_state(&held, 3, becomes);
        assert_eq!(version(&held, 3), 1, "whoever has it cached drops it");
        let again = domain::lease(&held, 3, true);
        match becomes {
            State::Free => assert!(again.is_ok()),
            _ => assert_eq!(again, Err(LeaseError::Lost { last_good: 0 })),
        }
        daemon.balanced();
        gives_back(client, held);
        daemon.await_all_free();
    }
}

#[test]
fn a_dead_reader_holds_nothing_and_its_slot_is_given_again() {
    let daemon = start();
    let mut client = daemon.attach("a");
    let held = client.granted(create(EXTENT, "d", OnDeath::Lose));
    let (mut puppet, id) = other(&daemon, "d");
    takes(&mut puppet, id, 0, false);
    takes(&mut puppet, id, 31, false);
    assert_eq!(own(&held, 0).holders(), 1 << 2);
    puppet.kill();
    await_state(&held, 0, State::Free);
    await_state(&held, 31, State::Free);
    let mut next = daemon.attach("a");
    let slot = until("the slot is free", || {
        let opened = next.granted(ask::open("d", Access::ReadWrite));
        let era = directory(&held).era(coherence::Slot::new(2).unwrap());
        if opened.slot == 2 {
            return Some(era);
        }
        next.ask(ask::close(opened.id()));
        None
    });
    assert_eq!(slot, Ok(2), "another member, another era");
    gives_back(client, held);
}

#[test]
fn the_unit_of_who_is_given_up_is_nobody_elses_while_its_process_lives() {
    let setup = Setup {
        grace_ms: 50,
        ..setup()
    };
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let mut client = daemon.attach("a");
    let held = client.granted(create(EXTENT, "d", OnDeath::Keep));
    let (mut puppet, id) = other(&daemon, "d");
    takes(&mut puppet, id, 5, true);
    puppet.done(&Order::HangUp);
    until("it is given up", || {
        (daemon.admin().clients().ok()?.len() == 1).then_some(())
    });
    // It may still write.
    daemon.balanced();
    assert_eq!(state(&held, 5), State::Exclusive);
    puppet.kill();
    await_state(&held, 5, State::Free);
    gives_back(client, held);
}

#[test]
fn nobody_is_watched_for_a_domain_that_has_ended() {
    let setup = Setup {
        grace_ms: 50,
        ..setup()
    };
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let mut client = daemon.attach("a");
    let (mut puppet, id) = {
        let _held = client.granted(create(EXTENT, "first", OnDeath::Lose));
        other(&daemon, "first")
    };
    puppet.done(&Order::HangUp);
    until("it is given up", || {
        (daemon.admin().clients().ok()?.len() == 1).then_some(())
    });
    let watched = || daemon.pidfds_of(puppet.pid());
    until("its process is watched", || (watched() == 1).then_some(()));
    client.ask(ask::free(id, true));
    until("it is watched no more", || (watched() == 0).then_some(()));
    client.ask(ask::detach());
}

#[test]
fn a_reader_leases_through_the_daemon_and_cannot_write_the_words() {
    let daemon = start();
    let mut writer = daemon.attach("a");
    let held = writer.granted(create(EXTENT, "d", OnDeath::Lose));
    let mut reader = daemon.attach("a");
    let readers = reader.granted(ask::open("d", Access::ReadOnly));
    let id = readers.id();
    let file = std::os::fd::AsFd::as_fd(&readers.files[0]);
    assert!(Attempt::MapWritable.on(file, EXTENT).is_err());
    let first = reader.ask(acquire(id, 7)).body;
    assert!(matches!(&first, reply::Body::Acquired(acquired)
        if acquired.backing == held.segment.incarnation));
    assert_eq!(own(&held, 7).holders(), 1 << readers.slot);
    assert_eq!(reader.ask(acquire(id, 7)).body, first);
    assert!(domain::lease(&held, 7, true).is_err());
    reader.ask(release(id, 7));
    assert_eq!(state(&held, 7), State::Free);
    reader.ask(release(id, 7));
    domain::lease(&held, 7, true).unwrap();
    let refused = reader.refused(acquire(id, 7));
    assert_eq!(refused.reason(), ErrorReason::InUse);
    assert!(refused.message.contains("holds"), "{}", refused.message);
    assert_eq!(
        writer.refused(acquire(id, 7)).reason(),
        ErrorReason::NotPermitted
    );
    assert_eq!(
        reader.refused(acquire(id, 32)).reason(),
        ErrorReason::NotFound
    );
    // What it leased ends with it.
    reader.ask(acquire(id, 8));
    reader.ask(ask::close(id));
    await_state(&held, 8, State::Free);
    gives_back(writer, held);
}

#[test]
fn the_thirty_second_member_is_refused() {
    let daemon = start();
    let mut client = daemon.attach("a");
    let held = client.granted(create(EXTENT, "d", OnDeath::Lose));
    let mut members = Vec::new();
    for _ in 2..=31 {
        let mut member = daemon.attach("a");
        drop(member.granted(ask::open("d", Access::ReadOnly)));
        members.push(member);
    }
    let mut late = daemon.attach("a");
    let refused = late.refused(ask::open("d", Access::ReadOnly));
    assert_eq!((refused.reason(), refused.limit), (ErrorReason::Limit, 31));
    assert_eq!(daemon.balanced().domains[0].members, 31);
    gives_back(client, held);
}

#[test]
fn a_member_that_dies_while_the_daemon_is_dead_is_missed() {
    let mut daemon = start();
    let mut client = daemon.attach("a");
    let held = client.granted(create(EXTENT, "d", OnDeath::Lose));
    let (mut puppet, id) = other(&daemon, "d");
    takes(&mut puppet, id, 1, true);
    takes(&mut puppet, id, 2, false);
    domain::lease(&held, 4, true).unwrap();
    daemon.kill();
    puppet.kill();
    daemon.restart();
    client.reattach().unwrap();
    await_state(&held, 1, State::Lost);
    await_state(&held, 2, State::Free);
    // Who lives keeps what it holds.
    assert_eq!(state(&held, 4), State::Exclusive);
    let again = client.granted(ask::refresh(held.id()));
    assert_eq!((again.slot, &again.segment), (held.slot, &held.segment));
    daemon.balanced();
    drop(again);
    gives_back(client, held);
    daemon.await_all_free();
}

/// Points that a recovery of one reader and one writer passes, and the passing that is died at: a
/// start goes through its own recovery first.
const POINTS: [(&str, u32); 15] = [
    ("domain.slot-left", 2),
    ("recover.reader_found", 1),
    ("recover.writer_found", 1),
    ("recover.fenced", 1),
    ("recover.noted", 1),
    ("recover.raise_to_note", 1),
    ("recover.version_raised", 1),
    ("recover.judged", 1),
    ("recover.verdict_noted", 1),
    // The fence, the verdict, and the end of the reader.
    ("recover.changed_not_woken", 1),
    ("recover.changed_not_woken", 2),
    ("recover.changed_not_woken", 3),
    ("recover.settled", 1),
    ("domain.recovered", 2),
    ("domain.recovered", 1),
];

#[test]
fn a_recovery_survives_the_daemons_death_at_each_of_its_steps() {
    for (point, passing) in POINTS {
        let mut daemon = start();
        let mut client = daemon.attach("a");
        let held = client.granted(create(EXTENT, "d", OnDeath::Lose));
        let (mut puppet, id) = other(&daemon, "d");
        takes(&mut puppet, id, 1, true);
        takes(&mut puppet, id, 2, false);
        daemon.kill();
        daemon.set_up(&setup().with("TIERPOOL_CRASH", format!("{point}:{passing}")));
        daemon.launch();
        puppet.kill();
        daemon.await_crash();
        daemon.restart_as(&setup());
        client.reattach().unwrap();
        await_state(&held, 1, State::Lost);
        await_state(&held, 2, State::Free);
        // Raised, and not noted yet, it is raised once more.
        let raised = 1 + u64::from(point == "recover.raise_to_note");
        assert_eq!(version(&held, 1), raised, "{point}");
        let lost = domain::lease(&held, 1, false);
        assert_eq!(lost, Err(LeaseError::Lost { last_good: 0 }), "{point}");
        let check = until("it is recovered", || {
            daemon.admin().check().ok().filter(|check| check.balanced)
        });
        assert_eq!(check.domains[0].lost, 1, "{point}");
        gives_back(client, held);
        daemon.await_all_free();
    }
}

#[test]
fn every_point_of_a_recovery_is_died_at() {
    let died_at = POINTS.iter().map(|(point, _)| *point);
    let died_at: BTreeSet<_> = died_at
        .filter(|point| point.starts_with("recover."))
        .collect();
    let defined = points::in_sources_of("coherence");
    let defined = defined.iter().map(String::as_str);
    assert_eq!(
        died_at,
        // Of checksums, see `sums`.
        defined
            .filter(|point| point.starts_with("recover.") && *point != "recover.sum_swapped")
            .collect()
    );
}

#[test]
fn who_scribbles_over_a_directory_hurts_its_own_domain_only() {
    let daemon = start();
    let mut client = daemon.attach("a");
    let spared = client.granted(create(EXTENT, "spared", OnDeath::Lose));
    let hurt = client.granted(create(EXTENT, "hurt", OnDeath::Lose));
    let mut reader = daemon.attach("a");
    let readers = reader.granted(ask::open("hurt", Access::ReadOnly));
    let events = daemon.admin().events().unwrap();
    let (mut puppet, _) = other(&daemon, "hurt");
    puppet.done(&Order::Scribble(0xdead_beef));
    let refused = reader.refused(acquire(readers.id(), 0));
    assert_eq!(refused.class(), ErrorClass::Corrupt, "{}", refused.message);
    puppet.kill();
    let mut events = events;
    until("operators are told", || {
        (events.next_event().kind == "domain-corrupt").then_some(())
    });
    let check = daemon.admin().check().unwrap();
    assert!(!check.balanced);
    assert!(check.findings.len() <= 16, "{:?}", check.findings);
    let rows: Vec<_> = check.domains.iter().map(|row| row.violations > 0).collect();
    assert_eq!(rows, [false, true]);
    // The other one works, and its dead are recovered.
    let (mut puppet, id) = other(&daemon, "spared");
    takes(&mut puppet, id, 0, true);
    puppet.kill();
    await_state(&spared, 0, State::Lost);
    client.ask(ask::free(hurt.id(), true));
    drop((hurt, readers));
    daemon.balanced();
    gives_back(client, spared);
    daemon.await_all_free();
}
