//! The waiting handshake; see the module of rings for its proof.
//!
//! # Deadlines
//! A blocking call is made of steps. A step touches at most [`STEP_PLACES`] places of the ring,
//! asks the caller's closures once at most, and never waits. Between two sleeps the clock is looked
//! at after each step that is to be followed at once, and after every [`LOOK_EACH`] that found
//! nothing to do. So a call returns within [`LOOK_EACH`] steps of its deadline, however long the
//! ring is and whatever it holds; one whose deadline has passed before takes one step.
//!
//! # Bursts
//! Steps that are to be followed at once are a burst. An honest ring ends one: its places are taken
//! or passed, and they are a number. Somebody who writes what he likes can go on for ever, and
//! would have a call without a deadline spin for as long. So a burst has at most as many steps as
//! the caller says its ring can need; then the call sleeps like one that found nothing, and goes on
//! after that. An honest ring loses at most a sleep's cap by it, and nothing else: what there is to
//! do after a sleep is done then.

use pool_core::clock::{Deadline, TimedOut, now};
use pool_core::planted;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use pool_core::sync::atomic::{AtomicU32, fence};
use pool_core::sync::hint;
use pool_core::units::Nanos;

use super::RingError;
use crate::wait::Wait;

/// How often a sleeper looks before it sleeps: about the time of a wake-up across cores. None in a
/// model, where each look is a step of its own.
const SPINS: u32 = if cfg!(loom) { 0 } else { 256 };

/// How many looks at the ring there are between two looks at the clock, which costs about as much
/// as these.
const LOOK_EACH: u32 = 8;

/// The most places that one step of a blocking call touches.
pub(super) const STEP_PLACES: u64 = 64;

/// The burst of a call none of whose steps asks for another.
pub(super) const ONE_STEP: u64 = 1;

/// What came of one step of a blocking call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<T> {
    /// What was wanted.
    Done(T),
    /// There is nothing to do before the other side has changed the ring.
    Blocked,
    /// The step was not enough, and the next one is to follow at once.
    More,
}

impl<T> From<Option<T>> for Step<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Blocked, Self::Done)
    }
}

/// Two words by which one side tells the other that the ring has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signal<'a> {
    /// Rises with each wake.
    pub(super) event: &'a AtomicU32,
    /// Not zero: somebody sleeps, or is about to.
    pub(super) waiters: &'a AtomicU32,
}

/// Since when a call waits, until when, and how many steps it takes at once.
struct Patience {
    start: Nanos,
    until: Deadline,
    burst: u64,
}

/// How a burst has ended.
enum Burst<T> {
    Done(T),
    /// There is nothing to do.
    Blocked,
    /// It was as long as one may be.
    Spent,
}

impl Patience {
    /// Looks at the clock.
    fn check(&self) -> Result<(), RingError> {
        if self.until.expired() {
            let waited = now().saturating_since(self.start);
            return Err(TimedOut { waited }.into());
        }
        Ok(())
    }

    /// Steps until there is something, or nothing to do, or it is enough.
    fn burst<T>(
        &self,
        step: &mut impl FnMut() -> Result<Step<T>, RingError>,
    ) -> Result<Burst<T>, RingError> {
        for _ in 0..self.burst {
            match step()? {
                Step::Done(done) => return Ok(Burst::Done(done)),
                Step::Blocked => return Ok(Burst::Blocked),
                Step::More => self.check()?,
            }
        }
        Ok(Burst::Spent)
    }
}

impl Signal<'_> {
    /// Steps until one is done, and sleeps between, at most until `until`: at the latest after
    /// `burst` steps that are to be followed at once.
    pub(super) fn until<T>(
        &self,
        wait: &impl Wait,
        until: Deadline,
        burst: u64,
        mut step: impl FnMut() -> Result<Step<T>, RingError>,
    ) -> Result<T, RingError> {
        // Nobody who has not to wait looks at a clock.
        if let Step::Done(done) = step()? {
            return Ok(done);
        }
        let start = now();
        let patience = Patience {
            start,
            until,
            burst,
        };
        patience.check()?;
        for spin in 1..=SPINS {
            hint::spin_loop();
            match patience.burst(&mut step)? {
                Burst::Done(done) => return Ok(done),
                Burst::Blocked => {}
                Burst::Spent => break,
            }
            if spin.is_multiple_of(LOOK_EACH) {
                patience.check()?;
            }
        }
        self.sleep_until(wait, &patience, step)
    }

    fn sleep_until<T>(
        &self,
        wait: &impl Wait,
        patience: &Patience,
        mut step: impl FnMut() -> Result<Step<T>, RingError>,
    ) -> Result<T, RingError> {
        loop {
            // Before the flag is set: a waker that clears it raises the event after this value, so
            // that we cannot sleep with the flag cleared. Acquire pairs with the release in
            // `notify`: where we read a raised event, the flag was cleared before we set it.
            let mut seen = self.event.load(Acquire);
            self.waiters.store(1, Relaxed);
            if planted!("ring.event_read_after_flag") {
                seen = self.event.load(Acquire);
            }
            // Pairs with the fence in `notify`.
            if !planted!("ring.sleeps_without_fence") {
                fence(SeqCst);
            }
            if !planted!("ring.sleeps_without_recheck")
                && let Burst::Done(done) = patience.burst(&mut step)?
            {
                return Ok(done);
            }
            patience.check()?;
            wait.wait(self.event, seen, patience.until);
            if let Burst::Done(done) = patience.burst(&mut step)? {
                return Ok(done);
            }
        }
    }

    /// Wakes those who sleep; the ring has changed before.
    #[inline]
    pub(super) fn notify(&self, wait: &impl Wait) {
        // Pairs with the fence in `until`: either its attempt sees our change, or we see its flag.
        if !planted!("ring.wakes_without_fence") {
            fence(SeqCst);
        }
        // Read before it is written: the line stays shared as long as nobody sleeps.
        if self.waiters.load(Relaxed) != 0 && self.waiters.swap(0, Relaxed) != 0 {
            if !planted!("ring.event_not_raised") {
                self.event.fetch_add(1, Release);
            }
            wait.wake_all(self.event);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::wait::ModelWait;

    /// How many steps a call takes that is never done, where the deadline passes in step `at`.
    fn steps_where_late_in(at: u32, mut answer: impl FnMut() -> Step<()>) -> u32 {
        let (event, waiters) = (AtomicU32::new(0), AtomicU32::new(0));
        let signal = Signal {
            event: &event,
            waiters: &waiters,
        };
        let until = Deadline::after(Nanos::from_millis(u64::from(at)));
        let mut steps = 0;
        let done = signal.until(&ModelWait::new(), until, u64::MAX, || {
            steps += 1;
            while steps == at && !until.expired() {
                hint::spin_loop();
            }
            Ok(answer())
        });
        assert!(matches!(done, Err(RingError::TimedOut(_))), "{done:?}");
        steps
    }

    #[test]
    fn a_deadline_that_has_passed_leaves_one_step() {
        assert_eq!(steps_where_late_in(0, || Step::Blocked), 1);
        assert_eq!(steps_where_late_in(0, || Step::More), 1);
        assert_eq!(steps_where_late_in(1, || Step::Blocked), 1);
    }

    /// Counts sleeps, which end at once.
    #[derive(Default)]
    struct Counted(core::cell::Cell<u32>);

    impl Wait for Counted {
        fn wait(&self, _word: &AtomicU32, _seen: u32, _until: Deadline) {
            self.0.set(self.0.get() + 1);
        }

        fn wake_all(&self, _word: &AtomicU32) {}
    }

    #[test]
    fn a_call_without_a_deadline_sleeps_after_each_burst_however_long_there_is_more() {
        const BURST: u64 = 16;
        const SLEEPS: u32 = 3;
        let (event, waiters) = (AtomicU32::new(0), AtomicU32::new(0));
        let signal = Signal {
            event: &event,
            waiters: &waiters,
        };
        let (wait, mut steps) = (Counted::default(), 0);
        let done = signal.until(&wait, Deadline::NEVER, BURST, || {
            steps += 1;
            // The first step, a burst before the sleeps, and two a sleep.
            assert!(steps <= 1 + BURST + 2 * BURST * u64::from(SLEEPS));
            Ok(match wait.0.get() {
                SLEEPS => Step::Done(()),
                _ => Step::More,
            })
        });
        assert_eq!(done, Ok(()));
    }

    #[test]
    fn a_call_that_spins_returns_within_a_few_steps_of_its_deadline() {
        let steps = steps_where_late_in(20, || Step::Blocked);
        assert!(steps <= 20 + LOOK_EACH, "{steps}");
        let steps = steps_where_late_in(20, || Step::More);
        assert!(steps <= 20 + 1, "{steps}");
    }
}
