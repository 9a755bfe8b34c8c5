//! Processes lease units of a domain from each other, and die while they hold them.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use std::time::Duration;

use client_sdk::{
    Access, AttachOptions, Bytes, Create, Domain, DomainOptions, ErrorClass, LeaseError, Mode,
    Pool, Ticket,
};
use nix::sys::signal::Signal;
use pool_core::sync::{Mutex, MutexGuard, lock};
use tierpool_tests::churn::tenant_name;
use tierpool_tests::contents::{self, PATIENCE, ROUNDS};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::lessee::Lessee;
use tierpool_tests::setup::Setup;
use tierpool_tests::users::{BOB, can_switch};
use tierpool_tests::{EXTENT, until};

/// The pools of all tests have the same addresses: one at a time is mapped in this process.
static ONE_POOL: Mutex<()> = Mutex::new(());

/// A daemon, and a domain of it that this process has made and holds.
struct Scene {
    domain: Domain,
    pool: Pool,
    daemon: Daemon,
    _turn: MutexGuard<'static, ()>,
}

fn scene(mode: Mode) -> Scene {
    // So long that nobody is evicted who is only slow.
    scene_recalling(mode, PATIENCE)
}

fn scene_recalling(mode: Mode, recall_time: Duration) -> Scene {
    let turn = lock(&ONE_POOL);
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &Setup::small(16));
    let options = AttachOptions::new().socket(daemon.session_socket());
    let pool = Pool::attach(&options.tenant("left")).unwrap();
    let create = Create::new("ddr", Bytes::new(EXTENT)).name("units");
    let options = DomainOptions::new()
        .mode(mode)
        .recall_time(recall_time)
        .unit_bytes(Bytes::new(4_096));
    let domain = pool.create_domain(&create, &options).unwrap();
    Scene {
        domain,
        pool,
        daemon,
        _turn: turn,
    }
}

impl Scene {
    fn lessee(&self, role: &str) -> Lessee {
        self.lessee_of("left", "units", 0, role)
    }

    fn lessee_of(&self, label: &str, name: &str, uid: u32, role: &str) -> Lessee {
        let (program, uid) = (env!("CARGO_BIN_EXE_lessee"), uid.to_string());
        Lessee::start(program, &self.daemon, &[label, name, &uid, role], None)
    }

    /// Publishes `count` changes of unit 0.
    fn publish(&self, count: u64) {
        for _ in 0..count {
            let mut guard = self.domain.unit(0).unwrap().write(PATIENCE).unwrap();
            contents::change(&mut guard);
            guard.release().unwrap();
        }
    }

    fn number(&self) -> Result<u64, LeaseError> {
        let guard = self.domain.unit(0).unwrap().read(PATIENCE)?;
        Ok(contents::read(&guard))
    }
}

#[test]
fn two_processes_exchange_a_unit_a_thousand_times() {
    for mode in [Mode::Hardware, Mode::Software, Mode::Simulated] {
        let scene = scene(mode);
        let pair = [scene.lessee("even"), scene.lessee("odd")];
        pair.into_iter().for_each(Lessee::ends_well);
        assert_eq!(scene.number(), Ok(ROUNDS), "{mode}");
        scene.daemon.balanced();
    }
}

#[test]
fn two_processes_hand_a_unit_to_and_fro_a_thousand_times() {
    for mode in [Mode::Hardware, Mode::Simulated] {
        let scene = scene(mode);
        let pair = [scene.lessee("first"), scene.lessee("second")];
        pair.into_iter().for_each(Lessee::ends_well);
        assert_eq!(scene.number(), Ok(ROUNDS), "{mode}");
        scene.daemon.balanced();
    }
}

#[test]
fn leases_go_on_while_the_daemon_is_dead() {
    let mut scene = scene(Mode::Hardware);
    let pair = [scene.lessee("even"), scene.lessee("odd")];
    until("they have begun", || {
        scene.number().ok().filter(|number| *number > 10)
    });
    scene.daemon.kill();
    pair.into_iter().for_each(Lessee::ends_well);
    assert_eq!(scene.number(), Ok(ROUNDS));
    scene.daemon.restart();
    scene.pool.tiers().unwrap();
    assert_eq!(scene.number(), Ok(ROUNDS));
    scene.publish(1);
    scene.daemon.balanced();
}

#[test]
fn half_a_change_of_a_writer_that_was_killed_is_lost_to_all_until_it_is_restored() {
    let scene = scene(Mode::Hardware);
    scene.publish(3);
    let mut writer = scene.lessee("writes");
    assert_eq!(writer.tells(), 3);
    let busy = scene.domain.unit(0).unwrap().try_read().map(drop);
    assert!(
        matches!(busy, Err(LeaseError::Busy { unit: 0, .. })),
        "{busy:?}"
    );
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| scene.number());
        writer.is_killed();
        let lost = LeaseError::Lost {
            unit: 0,
            last_good: 3,
        };
        assert_eq!(waits.join().unwrap(), Err(lost));
    });
    let mut guard = scene.domain.unit(0).unwrap().restore().unwrap();
    contents::write_anew(&mut guard, 3);
    guard.release().unwrap();
    let mut reader = scene.lessee("reads");
    assert!(reader.tells() > 3, "whoever has older lines drops them");
    reader.goes_on();
    reader.ends_well();
    assert_eq!(scene.number(), Ok(3));
    scene.daemon.balanced();
}

#[test]
fn a_reader_that_was_killed_keeps_no_writer_out() {
    let scene = scene(Mode::Hardware);
    let mut reader = scene.lessee("reads");
    assert_eq!(reader.tells(), 0);
    assert!(scene.domain.unit(0).unwrap().try_write().is_err());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| scene.publish(1));
        reader.is_killed();
        waits.join().unwrap();
    });
    assert_eq!(scene.number(), Ok(1));
    scene.daemon.balanced();
}

#[test]
fn who_waits_for_a_member_that_was_stopped_is_granted_or_told() {
    for mode in [Mode::Hardware, Mode::Software, Mode::Simulated] {
        let scene = scene_recalling(mode, Duration::from_millis(50));
        scene.publish(3);
        let mut reader = scene.lessee("reads-late");
        assert_eq!(reader.tells(), 3);
        reader.signal(Signal::SIGSTOP);
        scene.publish(1);
        assert_eq!(scene.number(), Ok(4), "{mode}");
        reader.signal(Signal::SIGCONT);
        reader.goes_on();
        reader.ends_well();

        let mut writer = scene.lessee("writes-late");
        assert!(writer.tells() >= 4);
        writer.signal(Signal::SIGSTOP);
        let lost = scene.number();
        assert!(
            matches!(lost, Err(LeaseError::Lost { unit: 0, .. })),
            "{lost:?}"
        );
        let mut guard = scene.domain.unit(0).unwrap().restore().unwrap();
        contents::write_anew(&mut guard, 5);
        guard.release().unwrap();
        writer.signal(Signal::SIGCONT);
        writer.goes_on();
        writer.ends_well();
        assert_eq!(scene.number(), Ok(5), "{mode}");
        scene.publish(1);
        scene.daemon.balanced();
    }
}

#[test]
fn who_waits_in_steps_shorter_than_the_recall_time_gets_past_a_member_that_was_stopped() {
    let step = Duration::from_millis(40);
    let scene = scene_recalling(Mode::Hardware, Duration::from_millis(50));
    scene.publish(3);
    let mut reader = scene.lessee("reads-late");
    assert_eq!(reader.tells(), 3);
    reader.signal(Signal::SIGSTOP);
    let unit = scene.domain.unit(0).unwrap();
    let later = |error: &LeaseError| {
        let moves = error.class() == ErrorClass::Unreachable;
        moves || matches!(error, LeaseError::TimedOut { .. })
    };
    until("it is granted", || match unit.write(step) {
        Err(error) if later(&error) => None,
        leased => Some(leased.unwrap().release().unwrap()),
    });
    reader.signal(Signal::SIGCONT);
    reader.goes_on();
    reader.ends_well();

    let mut writer = scene.lessee("writes-late");
    assert_eq!(writer.tells(), 3);
    writer.signal(Signal::SIGSTOP);
    let lost = until("it is told", || match unit.read(step) {
        Err(error) if later(&error) => None,
        leased => Some(leased.map(drop)),
    });
    assert!(
        matches!(lost, Err(LeaseError::Lost { unit: 0, .. })),
        "{lost:?}"
    );
    writer.signal(Signal::SIGCONT);
    writer.goes_on();
    writer.ends_well();
}

#[test]
fn what_was_handed_to_a_process_that_died_before_it_took_it_is_whole() {
    let scene = scene(Mode::Hardware);
    scene.publish(1);
    let mut receiver = scene.lessee("receives");
    let ticket = Ticket::from_number(receiver.tells());
    let mut guard = scene.domain.unit(0).unwrap().write(PATIENCE).unwrap();
    contents::change(&mut guard);
    guard.hand_over(ticket).unwrap();
    assert!(scene.domain.unit(0).unwrap().try_read().is_err());
    receiver.is_killed();
    assert_eq!(scene.number(), Ok(2));
    // Its ticket is good for nothing by now.
    let gone = until("the daemon notices", || {
        let guard = scene.domain.unit(0).unwrap().write(PATIENCE).unwrap();
        match guard.hand_over(ticket) {
            Err(error @ LeaseError::ReceiverGone { .. }) => Some(error),
            handed => panic!("{handed:?}"),
        }
    });
    assert!(matches!(gone, LeaseError::ReceiverGone { unit: 0, .. }));
    let mut receiver = scene.lessee("receives");
    let ticket = Ticket::from_number(receiver.tells());
    let guard = scene.domain.unit(0).unwrap().write(PATIENCE).unwrap();
    guard.hand_over(ticket).unwrap();
    receiver.goes_on();
    assert_eq!(receiver.tells(), 2);
    receiver.ends_well();
    scene.daemon.balanced();
}

#[test]
fn another_user_reads_what_is_published_and_writes_nothing() {
    if !can_switch("another_user_reads_what_is_published_and_writes_nothing") {
        return;
    }
    let scene = scene(Mode::Hardware);
    scene.publish(1);
    let tenant = format!("uid-{BOB}");
    let segment = scene.domain.segment();
    segment.share(&tenant, Access::ReadOnly).unwrap();
    let name = format!("{}:units", tenant_name("left"));
    let mut reader = scene.lessee_of("", &name, BOB, "read-only");
    std::thread::scope(|scope| {
        scope.spawn(|| scene.publish(50));
        assert!((1..=51).contains(&reader.tells()));
    });
    reader.ends_well();
    assert_eq!(scene.number(), Ok(51));
    scene.daemon.balanced();
}
