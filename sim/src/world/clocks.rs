//! The clock of each host: where it begins at a boot, how fast it goes, and how it jumps.
//!
//! The time of the world is the fabric's and the network's, and nobody reads it. Whoever runs on a
//! host has the time of that host's clock, and no other: it begins anywhere at each boot, goes a
//! little too fast or too slow, jumps ahead, and steps back a little. Where everything is tried
//! there is one clock, so that two lists of ops end at the same time.

use pool_core::rng::Rng;
use pool_core::{Nanos, planted};

use super::World;
use crate::mix::Mix;

const SECOND: u64 = 1_000_000_000;
/// Parts of a million: what a drift is told in.
const MILLION: i128 = 1_000_000;
/// A clock is behind what it said already by so much at most.
pub(super) const BEHIND_MOST: u64 = 2 * SECOND;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    /// What it said at a time of the world.
    said: u64,
    at: u64,
    /// So many parts of a million faster than the world, or slower.
    drift: i32,
    /// The latest that it ever said before it was set.
    latest: u64,
}

impl Clock {
    /// One that begins at a boot.
    pub(crate) fn boots(rng: &mut Rng, mix: &Mix, now: Nanos) -> Self {
        if mix.is_exact {
            return Self::default();
        }
        // Just started, days ago, or ages.
        let begins = match rng.below(4) {
            0 => 0,
            1 => rng.below(SECOND),
            2 => rng.below(1_000_000 * SECOND),
            _ => rng.below(1 << 62),
        };
        let most = i32::try_from(mix.drift_ppm).unwrap_or(0);
        let span = u64::from(mix.drift_ppm) * 2 + 1;
        let drift = i32::try_from(rng.below(span)).unwrap_or(0) - most;
        Self {
            said: begins,
            at: now.get(),
            drift,
            latest: begins,
        }
    }

    /// What it says at a time of the world.
    pub(crate) fn says(&self, now: Nanos) -> Nanos {
        let passed = i128::from(now.get().saturating_sub(self.at));
        let drifted = passed + (passed * i128::from(self.drift)).div_euclid(MILLION);
        let drifted = u64::try_from(drifted).unwrap_or(0);
        Nanos::new(self.said.saturating_add(drifted))
    }

    /// The latest that it has said since its boot.
    pub(crate) fn latest(&self, now: Nanos) -> Nanos {
        self.says(now).max(Nanos::new(self.latest))
    }

    /// The first time of the world at which it says that, or more.
    pub(crate) fn when(&self, due: Nanos) -> Nanos {
        let left = i128::from(due.get().saturating_sub(self.said));
        let passes = (left * MILLION).div_euclid(MILLION + i128::from(self.drift));
        let passes = u64::try_from(passes).unwrap_or(u64::MAX);
        let mut when = Nanos::new(self.at.saturating_add(passes));
        while self.says(when) < due && when < Nanos::new(u64::MAX) {
            when = when.saturating_add(Nanos::new(1));
        }
        when
    }

    /// It jumps ahead.
    fn jumps(&mut self, now: Nanos, by: u64) {
        let said = self.says(now).get();
        (self.at, self.said) = (now.get(), said.saturating_add(by));
    }

    /// It steps back, where it is not far behind already. Whether it does.
    fn steps_back(&mut self, now: Nanos, by: u64) -> bool {
        let said = self.says(now).get();
        self.latest = self.latest.max(said);
        let Some(back) = said
            .checked_sub(by)
            .filter(|&back| back + BEHIND_MOST >= self.latest)
        else {
            return false;
        };
        (self.at, self.said) = (now.get(), back);
        true
    }
}

impl World {
    /// What the clock of a host says.
    pub(super) fn time(&self, h: usize) -> Nanos {
        self.machines[h].clock.says(self.now)
    }

    /// Up to when a user of a host waits that waits for so long.
    pub(super) fn patience_of(&self, h: usize, span: u64) -> Nanos {
        let whose = if planted!("sim.waits_by_the_clock_of_another") {
            (h + 1) % self.machines.len()
        } else {
            h
        };
        self.time(whose).saturating_add(Nanos::new(span))
    }

    /// Whether a deadline of a host has passed.
    pub(super) fn has_passed(&self, h: usize, due: Nanos) -> bool {
        due <= self.time(h)
    }

    /// The clock of a host jumps ahead, as after the whole machine stood still: by milliseconds
    /// to hours.
    pub(super) fn clock_jumps(&mut self, h: usize, pick: u16) {
        let most = [100_000_000, 10 * SECOND, 5 * 3_600 * SECOND][usize::from(pick % 3)];
        let by = self.rng.below(most);
        let before = self.time(h);
        self.machines[h].clock.jumps(self.now, by);
        self.trace.fault("clock-jump", [h as u64, by, 0, 0]);
        let engine = self.machines[h].engine.as_ref();
        let due = engine.and_then(pool_daemon::engine::Engine::next_deadline);
        if due.is_some_and(|due| before < due && due <= self.time(h)) {
            self.trace.reached("a clock jumps over a deadline");
        }
    }

    /// It steps back by less than a second.
    pub(super) fn clock_steps_back(&mut self, h: usize) {
        let by = 1 + self.rng.below(SECOND);
        if self.machines[h].clock.steps_back(self.now, by) {
            self.trace.fault("clock-step-back", [h as u64, by, 0, 0]);
        }
    }

    /// A host begins a boot, and its clock with it.
    pub(super) fn clock_boots(&mut self, h: usize) {
        let ended = self.time(h);
        self.machines[h].clock = Clock::boots(&mut self.rng, &self.mix, self.now);
        if self.time(h) < ended {
            self.trace
                .reached("a boot begins earlier than the last one ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_says_what_is_due_when_it_says_that_it_does_and_not_a_nanosecond_before() {
        let mut rng = Rng::new(9);
        for seed in 0..200 {
            let mut mix = Mix::draw(seed);
            mix.drift_ppm = 300;
            let now = Nanos::new(rng.below(1 << 50));
            let mut clock = Clock::boots(&mut rng, &mix, now);
            clock.jumps(now, rng.below(1 << 40));
            let said = clock.says(now);
            let due = said.saturating_add(Nanos::new(1 + rng.below(1 << 40)));
            let when = clock.when(due);
            assert!(clock.says(when) >= due, "{clock:?}");
            let before = Nanos::new(when.get() - 1);
            assert!(clock.says(before) < due, "{clock:?}");
        }
    }

    #[test]
    fn a_clock_is_never_far_behind_what_it_said_and_does_not_begin_before_zero() {
        let mut clock = Clock::default();
        assert!(!clock.steps_back(Nanos::new(5), 6));
        let now = Nanos::new(10 * SECOND);
        let steps = (0..10).filter(|_| clock.steps_back(now, SECOND / 2));
        assert_eq!(steps.count(), 4);
        assert_eq!(clock.says(now), Nanos::new(8 * SECOND));
    }
}
