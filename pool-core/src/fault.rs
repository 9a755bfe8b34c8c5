//! Planned failures and deaths, for tests of what happens then.
//!
//! Code that must survive a death names its instructions by [`crate::crash_point!`]; code that must
//! survive a failed system call asks [`syscall`] just before it. With the cargo feature `fault` a
//! test, or the environment of a child process, plans which passing of which point ends the process
//! and which call of which kind fails. Without the feature both compile to nothing.
//!
//! # The environment
//! Read once, at the first point or call. A plan that does not parse ends the process with status
//! 2: a test whose plan is misspelt must not pass.
//! - `TIERPOOL_BUG=<name>`: the bug of that name is there, see below.
//! - `TIERPOOL_CRASH=<point>:<n>`: the n-th passing of the point ends the process, from 1.
//! - `TIERPOOL_FAIL=<call>:<n>:<errno>[:persistent]`: the n-th call of that kind fails, from 1, as
//!   in `mmap:3:ENOMEM`; with `persistent`, each one from there on. The first one is told on the
//!   standard error, in a line that begins with `FAILURE_TOLD`.
//!
//! # Simulations
//! A simulation of many members in one process sees each passing of a point by [`observe`], where
//! it may let another thread go on or unwind this one, and says what the time is by [`set_time`].
//!
//! # Models
//! In a model a thread ends at a crash point by `stopping_at`: what it did until then is there, and
//! the others go on.
//!
//! # Lines
//! What is dropped from caches cannot be seen from outside. [`lines_dropped`] counts it.
//!
//! # Planted bugs
//! A checker is trusted once it has caught bugs. Code that is checked asks [`crate::planted!`]
//! where a mistake is likely and would be grave, and makes that mistake where the answer is yes:
//! only with the feature `fault` or under loom, and only where a test, or `TIERPOOL_BUG`, asks for
//! it.

use nix::errno::Errno;

#[cfg(any(loom, feature = "fault"))]
mod bug;
#[cfg(all(feature = "fault", not(loom)))]
mod lines;
#[cfg(feature = "fault")]
mod plan;
#[cfg(feature = "fault")]
mod simulated;
#[cfg(loom)]
mod stop;
#[cfg(any(loom, feature = "fault"))]
pub use bug::{PlantedHere, plant, plant_here, planted};
#[cfg(all(feature = "fault", not(loom)))]
pub(crate) use lines::dropped;
#[cfg(all(feature = "fault", not(loom)))]
pub use lines::lines_dropped;
#[cfg(all(feature = "fault", not(loom)))]
pub use plan::crash_point;
#[cfg(feature = "fault")]
pub use plan::{CRASH_STATUS, FAILURE_TOLD, arm_crash, arm_failure, disarm, passed, reached};
#[cfg(feature = "fault")]
pub(crate) use simulated::time;
#[cfg(feature = "fault")]
pub use simulated::{observe, set_time};
#[cfg(loom)]
pub use stop::{crash_point, stopping_at};

/// A kind of system call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named for its system call, see `name`")]
pub enum Call {
    Mmap,
    MemfdCreate,
    Ftruncate,
    Fallocate,
    Fcntl,
    Open,
    Write,
    Sync,
    Send,
    Receive,
    Poll,
    Accept,
    Mbind,
    Madvise,
    Setsockopt,
    /// Not of that name: a look at what the kernel tells of a process, in its `stat`.
    Stat,
}

impl Call {
    /// Every kind, so that a test can plan the failure of each.
    pub const ALL: [Self; 16] = [
        Self::Mmap,
        Self::MemfdCreate,
        Self::Ftruncate,
        Self::Fallocate,
        Self::Fcntl,
        Self::Open,
        Self::Write,
        Self::Sync,
        Self::Send,
        Self::Receive,
        Self::Poll,
        Self::Accept,
        Self::Mbind,
        Self::Madvise,
        Self::Setsockopt,
        Self::Stat,
    ];

    /// The name that a plan in the environment uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mmap => "mmap",
            Self::MemfdCreate => "memfd_create",
            Self::Ftruncate => "ftruncate",
            Self::Fallocate => "fallocate",
            Self::Fcntl => "fcntl",
            Self::Open => "open",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Poll => "poll",
            Self::Accept => "accept",
            Self::Mbind => "mbind",
            Self::Madvise => "madvise",
            Self::Setsockopt => "setsockopt",
            Self::Stat => "stat",
        }
    }
}

/// Names a point at which the process may die: `crash_point!("grant.journaled")`.
///
/// Passes, and counts the passing, unless the point was armed; then the process ends as by a kill:
/// no destructor runs and nothing is flushed.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::fault::crash_point($name)
    };
}

/// Whether the bug of this name is planted: `if planted!("release.skips_write_back") { .. }`.
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::fault::planted($name)
    };
}

/// Whether the bug `name` is planted; use [`crate::planted!`].
#[cfg(not(any(loom, feature = "fault")))]
#[inline(always)]
#[must_use]
pub const fn planted(_name: &'static str) -> bool {
    false
}

/// Passes the point `name`; use [`crate::crash_point!`].
#[cfg(not(any(loom, feature = "fault")))]
#[inline(always)]
pub const fn crash_point(_name: &'static str) {}

/// Counts lines that are dropped from the caches; see [`crate::flush`].
#[cfg(not(any(loom, feature = "fault")))]
#[inline(always)]
pub(crate) const fn dropped(_lines: u64) {}

/// Asked just before a system call of kind `call`: whether it shall be made.
///
/// # Errors
/// The planned error, which the caller treats as the system call's own.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub const fn syscall(_call: Call) -> Result<(), Errno> {
    Ok(())
}

/// Asked just before a system call of kind `call`: whether it shall be made.
///
/// # Errors
/// The planned error, which the caller treats as the system call's own.
#[cfg(feature = "fault")]
pub fn syscall(call: Call) -> Result<(), Errno> {
    plan::syscall(call)
}
