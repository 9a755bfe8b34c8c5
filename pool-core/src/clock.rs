//! Time: the monotonic clock, deadlines on it, and the one way to poll.
//!
//! Only this file reads a clock or sleeps; everything else is given a [`Nanos`] or a [`Deadline`].
//! The clock is `CLOCK_MONOTONIC`: the same in every process of the machine since boot, so a point
//! in time may be compared across a socket, but never with one of another machine or boot. Within a
//! boot it never falls. It stands still while the machine is suspended. With the feature `fault` a
//! simulation may say what the time is, [`crate::fault`].

use core::fmt;
use core::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// The present, in nanoseconds since boot.
#[must_use]
#[expect(
    clippy::missing_panics_doc,
    reason = "Linux fails this call for an unknown clock or a bad pointer only"
)]
pub fn now() -> Nanos {
    #[cfg(feature = "fault")]
    if let Some(time) = crate::fault::time() {
        return time;
    }
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC always exists");
    // Time since boot is never negative.
    let seconds = time.tv_sec().cast_unsigned();
    let nanos = time.tv_nsec().cast_unsigned();
    Nanos::new(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Seconds since the beginning of 1970, as the machine's calendar has it: for people to read. It is
/// set by hand and jumps, so nothing is decided by it.
#[must_use]
pub fn calendar() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_REALTIME);
    // Before 1970, or on a kernel that knows no such clock, it is 1970.
    time.map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or(0))
}

/// The point in time at which a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Nanos);

impl Deadline {
    /// The end of time: the wait ends with its event only.
    pub const NEVER: Self = Self(Nanos::new(u64::MAX));

    /// The deadline `span` from now. A span of zero gives one that has passed.
    #[must_use]
    pub fn after(span: Nanos) -> Self {
        Self(now().saturating_add(span))
    }

    /// The deadline at a point of the monotonic clock.
    #[must_use]
    pub const fn at(time: Nanos) -> Self {
        Self(time)
    }

    /// The point of the monotonic clock.
    #[must_use]
    pub const fn time(self) -> Nanos {
        self.0
    }

    /// The time left; zero once the deadline has passed.
    #[must_use]
    pub fn remaining(self) -> Nanos {
        self.0.saturating_since(now())
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn expired(self) -> bool {
        self.remaining() == Nanos::ZERO
    }

    /// The time left for a system call that takes a span, or `None` to wait without end.
    pub(crate) fn remaining_timespec(self) -> Option<TimeSpec> {
        (self != Self::NEVER)
            .then(|| TimeSpec::from_duration(Duration::from_nanos(self.remaining().get())))
    }

    /// The point itself for a system call that takes one, or `None` to wait without end.
    #[cfg(not(loom))]
    pub(crate) fn timespec(self) -> Option<TimeSpec> {
        (self != Self::NEVER).then(|| TimeSpec::from_duration(Duration::from_nanos(self.0.get())))
    }
}

/// The deadline passed and the awaited thing had not come. Ask again with a later deadline, or
/// report what did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not within {} us", waited.get() / 1_000)]
pub struct TimedOut {
    /// How long was waited.
    pub waited: Nanos,
}

/// Ever longer pauses between attempts that fail.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses that start with `first`, double each time, and are never longer than `longest`.
    #[must_use]
    pub const fn new(first: Nanos, longest: Nanos) -> Self {
        Self {
            next: Duration::from_nanos(first.get()),
            longest: Duration::from_nanos(longest.get()),
        }
    }

    /// Pauses, at most until `deadline`. Returns false, and at once, where that has passed.
    #[must_use]
    pub fn pause(&mut self, deadline: Deadline) -> bool {
        let left = Duration::from_nanos(deadline.remaining().get());
        pause(self.next.min(left));
        self.next = (self.next * 2).min(self.longest);
        !left.is_zero()
    }
}

/// Asks `check` until it answers, at most 5 ms apart.
///
/// It is asked at least once, and once more after the deadline has passed, so that a slow machine
/// never turns an answer that is there into a failure.
///
/// For conditions that no event announces. Where one does, wait for the event.
///
/// # Errors
/// [`TimedOut`] where `check` still had no answer at `deadline`.
pub fn eventually<T>(
    deadline: Deadline,
    mut check: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    let start = now();
    let mut backoff = Backoff::new(Nanos::new(50_000), Nanos::from_millis(5));
    loop {
        if let Some(answer) = check() {
            return Ok(answer);
        }
        if !backoff.pause(deadline) {
            let waited = now().saturating_since(start);
            return check().ok_or(TimedOut { waited });
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one sleep, between two polls"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("no deadline");
        }
        write!(f, "in {} us", self.remaining().get() / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let mut last = now();
        for _ in 0..10_000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }

    #[test]
    fn a_deadline_of_no_time_has_passed_and_the_end_of_time_has_not() {
        assert!(Deadline::after(Nanos::ZERO).expired());
        assert_eq!(Deadline::at(Nanos::ZERO).remaining(), Nanos::ZERO);
        assert!(!Deadline::NEVER.expired());
        assert!(Deadline::after(Nanos::new(u64::MAX)) == Deadline::NEVER);
    }

    #[test]
    fn polling_ends_with_the_first_answer() {
        let mut asked = 0;
        let answer = eventually(Deadline::NEVER, || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer, Ok(3));
    }

    #[test]
    fn an_answer_that_is_there_is_found_after_the_deadline() {
        assert_eq!(eventually(Deadline::at(Nanos::ZERO), || Some(7)), Ok(7));
    }

    #[test]
    fn pauses_grow_and_end_with_the_deadline() {
        let mut backoff = Backoff::new(Nanos::new(1_000), Nanos::new(3_000));
        let start = now();
        assert!((0..3).all(|_| backoff.pause(Deadline::NEVER)));
        assert!(now().saturating_since(start) >= Nanos::new(1_000 + 2_000 + 3_000));
        assert!(
            !Backoff::new(Nanos::from_millis(60_000), Nanos::ZERO).pause(Deadline::at(Nanos::ZERO))
        );
    }

    #[test]
    fn polling_gives_up_not_before_the_deadline() {
        let deadline = Deadline::after(Nanos::from_millis(3));
        assert!(eventually(deadline, || None::<()>).is_err());
        assert!(deadline.expired());
    }
}
