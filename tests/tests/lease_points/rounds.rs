//! Members killed at random times, round after round, and the daemon with them now and then: after
//! each round every unit is somebody's or nobody's, and has what was published last, or is known to
//! be lost.
//!
//! `TIERPOOL_ROUNDS` says how many rounds there are, `TIERPOOL_SEED` who is killed in them.

use std::collections::BTreeMap;

use client_sdk::{Bytes, Create, Domain, DomainOptions, LeaseError, Pool};
use pool_core::Nanos;
use pool_core::clock::{self, Deadline};
use pool_core::sync::{MutexGuard, hint};
use tierpool_tests::contents::{self, PATIENCE, UNITS};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::lessee::Lessee;
use tierpool_tests::random::Random;
use tierpool_tests::{EXTENT, until};

use crate::scene::{UNIT, Waits, attached, lessee, row, words};

const ROUNDS: u64 = 200;
const MEMBERS: u64 = 3;
/// The daemon dies in each round of so many.
const DAEMON_DIES_EVERY: u64 = 20;
/// Versions that are published between two rounds, at most.
const VERSIONS_MAX: u64 = 200;
/// How far into what comes then the killing may come.
const SPIN_NANOS_MAX: u64 = 100_000;
/// Where in a descriptor the version is, in words.
const VERSION: usize = 1;

struct Scene {
    domain: Domain,
    _pool: Pool,
    daemon: Daemon,
    members: Vec<Lessee>,
    random: Random,
    /// The last version of each unit that was seen published.
    seen: BTreeMap<u32, u64>,
    tally: Tally,
    _turn: MutexGuard<'static, ()>,
}

#[derive(Default)]
struct Tally {
    kills: u64,
    kills_of_the_daemon: u64,
    lost: u64,
    waits: Waits,
}

fn from_environment(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a number"))
}

fn worker(daemon: &Daemon, random: &mut Random) -> Lessee {
    lessee(daemon, "works", random.number(), None)
}

impl Scene {
    fn new(seed: u64) -> Self {
        let (turn, daemon, pool) = attached();
        let create = Create::new("ddr", Bytes::new(EXTENT)).name("units");
        let domain = pool.create_domain(&create, &DomainOptions::new().unit_bytes(UNIT));
        let mut random = Random::new(seed);
        let members = (0..MEMBERS).map(|_| worker(&daemon, &mut random)).collect();
        Self {
            domain: domain.expect("a domain"),
            _pool: pool,
            daemon,
            members,
            random,
            seen: BTreeMap::new(),
            tally: Tally::default(),
            _turn: turn,
        }
    }

    fn versions(&self) -> u64 {
        let units = 0..UNITS;
        units.map(|unit| words(&self.domain, unit)[VERSION]).sum()
    }

    /// Lets everybody work for a random while.
    fn work(&mut self) {
        let wanted = self.versions() + 1 + self.random.below(VERSIONS_MAX);
        until("they work", || (self.versions() >= wanted).then_some(()));
        let end = Deadline::after(Nanos::new(self.random.below(SPIN_NANOS_MAX)));
        while !end.expired() {
            hint::spin_loop();
        }
    }

    /// Kills one of them, in some rounds with the daemon, and starts another one.
    fn kill_one(&mut self, kills_daemon: bool) {
        let daemon_first = self.random.once_in(2);
        if kills_daemon && daemon_first {
            self.daemon.kill();
        }
        let victim = usize::try_from(self.random.below(MEMBERS)).expect("it is small");
        self.members.swap_remove(victim).is_killed();
        self.tally.kills += 1;
        if kills_daemon {
            if !daemon_first {
                self.daemon.kill();
            }
            self.tally.kills_of_the_daemon += 1;
            // Those who live go on meanwhile, with what the dead one did not hold.
            (0..UNITS).for_each(|unit| self.look_in_passing(unit));
            self.daemon.restart();
        }
    }

    fn look_in_passing(&mut self, unit: u32) {
        let units = self.domain.unit(unit).expect("it has it");
        match units.try_read() {
            Ok(guard) => assert_eq!(contents::read(&guard), guard.version()),
            Err(LeaseError::Busy { .. } | LeaseError::Lost { .. }) => {}
            Err(error) => panic!("unit {unit}: {error}"),
        }
    }

    /// Every unit can be had, with what was published last, or is known to be lost.
    fn look(&mut self, unit: u32) {
        let units = self.domain.unit(unit).expect("it has it");
        let began = clock::now();
        let version = match units.read(PATIENCE) {
            Ok(guard) => {
                let version = guard.version();
                assert_eq!(contents::read(&guard), version, "unit {unit}");
                version
            }
            Err(LeaseError::Lost { last_good, .. }) => {
                self.tally.lost += 1;
                last_good
            }
            Err(error) => panic!("unit {unit}: {error}"),
        };
        self.tally.waits.add(clock::now().saturating_since(began));
        let seen = self.seen.insert(unit, version).unwrap_or(0);
        assert!(version >= seen, "unit {unit}: {version} after {seen}");
    }

    /// What must hold whoever was killed.
    fn check(&mut self) {
        (0..UNITS).for_each(|unit| self.look(unit));
        let row = row(&self.daemon);
        let all = row.free + row.shared + row.exclusive + row.fenced + row.lost + row.retired;
        assert_eq!((all, row.retired), (row.units, 0), "{row:?}");
        self.members.iter_mut().for_each(Lessee::must_live);
    }

    /// With all members dead nobody holds anything.
    fn end(mut self) {
        self.members.drain(..).for_each(Lessee::is_killed);
        (0..UNITS).for_each(|unit| self.look(unit));
        let row = until("nobody holds anything", || {
            let row = row(&self.daemon);
            (row.members == 1 && row.free + row.lost == row.units).then_some(row)
        });
        let Tally {
            kills,
            kills_of_the_daemon,
            lost,
            waits,
        } = &self.tally;
        let versions = self.versions();
        println!(
            "{kills} members and {kills_of_the_daemon} daemons killed, {versions} versions; a unit \
             was found lost {lost} times, {} are at the end; {waits}",
            row.lost
        );
    }
}

#[test]
fn killed_at_random_times_members_lose_no_unit_and_leave_none_torn() {
    let rounds = from_environment("TIERPOOL_ROUNDS").unwrap_or(ROUNDS);
    let seed = from_environment("TIERPOOL_SEED").unwrap_or_else(|| clock::now().get());
    eprintln!("TIERPOOL_SEED={seed} TIERPOOL_ROUNDS={rounds}");
    let mut scene = Scene::new(seed);
    for round in 1..=rounds {
        scene.work();
        scene.kill_one(round % DAEMON_DIES_EVERY == 0);
        let next = worker(&scene.daemon, &mut scene.random);
        scene.members.push(next);
        scene.check();
    }
    scene.end();
}
