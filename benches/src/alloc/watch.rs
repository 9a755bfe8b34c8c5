//! The watch that runs while something is measured: the time that passed, and the time of
//! processors that this process took.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use pool_core::clock;
use pool_core::units::Nanos;

/// A span of time by two clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) wall: Nanos,
    /// Of all threads, those that have ended included; in the program and in the kernel.
    pub(super) cpu: Nanos,
}

/// Both clocks.
#[derive(Debug)]
pub(super) struct Watch(Span);

impl Watch {
    pub(super) fn start() -> Self {
        Self(Span::now())
    }

    pub(super) fn stop(self) -> Span {
        let now = Span::now();
        Span {
            wall: now.wall.saturating_since(self.0.wall),
            cpu: now.cpu.saturating_since(self.0.cpu),
        }
    }
}

impl Span {
    /// What both clocks show.
    #[expect(
        clippy::expect_used,
        reason = "fails for an argument that is wrong only"
    )]
    pub(super) fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("RUSAGE_SELF is there");
        let cpu = usage.user_time() + usage.system_time();
        Self {
            wall: clock::now(),
            cpu: Nanos::new(cpu.num_microseconds().unsigned_abs() * 1_000),
        }
    }
}
