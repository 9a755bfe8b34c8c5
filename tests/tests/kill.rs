//! Clients and daemon killed at random times, together, round after round: after each the books
//! balance, nothing is owned twice, and whoever lives finds what he wrote.
//!
//! The clients are churners, which look after their own memory themselves. The test looks at what
//! is left between the rounds: the daemon's accounting, its journal while it is dead, and the
//! slots, which outlive their writers.
//!
//! `TIERPOOL_ROUNDS` says how many rounds there are, `TIERPOOL_SEED` who is killed in them.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "kill/audit.rs"]
mod audit;
#[path = "kill/slots.rs"]
mod slots;

use pool_core::Nanos;
use pool_core::clock::{self, Deadline};
use pool_core::sync::hint;
use tierpool_tests::churn::{CHURNERS, Churner};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::random::Random;
use tierpool_tests::setup::Setup;

use slots::Slots;

const ROUNDS: u64 = 500;
/// Steps of a churner between two rounds, at most.
const STEPS_MAX: u64 = 12;
/// How far into a step the killing may come.
const SPIN_NANOS_MAX: u64 = 400_000;
/// A client that is alive may take as long as it likes to come back.
const GRACE_MS: u64 = 3_600_000;

fn setup() -> Setup {
    let setup = Setup {
        grace_ms: GRACE_MS,
        ..Setup::small(48)
    };
    setup.and_device("dev1", "pooled", 32)
}

fn from_environment(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap())
}

struct Scene {
    random: Random,
    daemon: Daemon,
    churners: Vec<Churner>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup());
        let churners = (0..CHURNERS)
            .map(|number| churner(&daemon, number, &mut random))
            .collect();
        Self {
            random,
            daemon,
            churners,
        }
    }

    /// Lets everybody work for a random while.
    fn work(&mut self) {
        let watched = usize::try_from(self.random.below(CHURNERS)).unwrap();
        let steps = usize::try_from(1 + self.random.below(STEPS_MAX)).unwrap();
        self.churners[watched].await_steps(steps);
        let end = Deadline::after(Nanos::new(self.random.below(SPIN_NANOS_MAX)));
        while !end.expired() {
            hint::spin_loop();
        }
    }

    /// Kills some of them, looks at the journal if the daemon is dead, and starts them again.
    fn kill_some(&mut self) {
        // At least one of those that a bit is for.
        let victims = 1 + self.random.below((1 << (CHURNERS + 1)) - 1);
        let is_victim = |number: u64| victims >> number & 1 == 1;
        let kills_daemon = is_victim(CHURNERS);
        let daemon_first = self.random.once_in(2);
        if kills_daemon && daemon_first {
            self.daemon.kill();
        }
        let dead: Vec<u64> = (0..CHURNERS).filter(|number| is_victim(*number)).collect();
        for &number in &dead {
            self.churners[usize::try_from(number).unwrap()].kill();
        }
        if kills_daemon {
            if !daemon_first {
                self.daemon.kill();
            }
            audit::journal(&self.daemon.journal());
            self.daemon.restart();
        }
        for number in dead {
            let reborn = churner(&self.daemon, number, &mut self.random);
            self.churners[usize::try_from(number).unwrap()] = reborn;
        }
    }

    /// What must hold whatever was killed.
    fn check(&mut self, slots: &mut Slots) {
        assert!(self.daemon.is_running());
        self.daemon.balanced();
        audit::segments(&mut self.daemon.admin());
        slots.look(&self.daemon);
        self.churners.iter_mut().for_each(Churner::must_live);
    }
}

fn churner(daemon: &Daemon, number: u64, random: &mut Random) -> Churner {
    let program = env!("CARGO_BIN_EXE_churner");
    Churner::start(program, daemon, number, random.number())
}

#[test]
fn killed_at_random_times_nothing_is_lost_leaked_or_owned_twice() {
    let rounds = from_environment("TIERPOOL_ROUNDS").unwrap_or(ROUNDS);
    let seed = from_environment("TIERPOOL_SEED").unwrap_or_else(|| clock::now().get());
    eprintln!("TIERPOOL_SEED={seed} TIERPOOL_ROUNDS={rounds}");
    let (mut scene, mut slots) = (Scene::new(seed), Slots::default());
    for round in 0..rounds {
        eprintln!("round {round}");
        scene.work();
        scene.kill_some();
        scene.check(&mut slots);
    }
    let Scene {
        daemon,
        mut churners,
        ..
    } = scene;
    churners.iter_mut().for_each(Churner::kill);
    assert!(slots.were_written(), "the churners wrote their slots");
    assert!(!daemon.log().contains("segment-lost"), "nothing was lost");
    // With all clients dead and the slots freed, nothing is left of anybody.
    slots::free_all(&daemon);
    daemon.await_all_free();
}
