//! What the end-to-end tests share: the real daemon as a process, clients that speak the session
//! protocol byte by byte, the operators' calls, and processes under other user ids.
//!
//! - [`daemon`]: the daemon, started, killed, stopped and started again over one state.
//! - [`client`]: a session as one sees it on the wire, free to send anything.
//! - [`domain`]: a member of a domain, which changes its words by hand.
//! - [`fabric`]: an emulated fabric, served while the test runs.
//! - [`failing_heap`]: a heap of the daemon's of which one allocation fails.
//! - [`admin`]: the operators' calls.
//! - [`asker`]: clients that ask once, in a process of their own.
//! - [`puppet`]: a process of its own, under a user id of its own, that a test leads by the hand.
//! - [`chain`]: pointers in a segment, which hold in every process.
//! - [`churn`]: clients that do everything at random until they are killed.
//! - [`contents`]: contents of a leased unit, and processes that exchange it.
//! - [`blocks`]: what tests do with the blocks of a pool heap, by their addresses.
//! - [`family`]: a pool heap without a daemon, in processes that share its memory.
//! - [`kin`]: a member of such a heap in a process of its own.
//! - [`hand`]: one who does with a heap what he is told.
//! - [`lessee`]: a member of a domain in a process of its own.
//! - [`points`]: the crash points that the sources name.
//! - [`stepped`]: a process that goes on instruction by instruction.
//! - [`at_rest`]: a daemon at rest, as it was before anybody came.
//! - [`rooted`]: a member of a heap that does everything at random.
//! - [`slot`]: contents that are whole whenever their writer is killed.
//!
//! A step that fails where the test does not expect it panics: it fails the test that made it.
//! Nothing here measures time; what takes time is waited for, see [`until`].

#![deny(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    reason = "a harness that panics fails the test that used it, which is what it is for"
)]

use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};

pub mod admin;
pub mod asker;
pub mod at_rest;
pub mod attempt;
pub mod blocks;
pub mod chain;
pub mod churn;
pub mod client;
pub mod contents;
pub mod daemon;
pub mod domain;
pub mod fabric;
pub mod failing_heap;
pub mod family;
pub mod hand;
pub mod kin;
pub mod lessee;
pub mod pattern;
pub mod points;
pub mod puppet;
pub mod random;
pub mod rooted;
pub mod setup;
pub mod slot;
pub mod stepped;
pub mod users;

/// What an extent has.
pub const EXTENT: u64 = pool_core::EXTENT_BYTES;

/// How long anything may take before a test takes it for hung: far more than a busy machine needs.
const PATIENCE: Nanos = Nanos::from_millis(120_000);

/// The end of a test's patience, from now.
#[must_use]
pub fn patience() -> Deadline {
    Deadline::after(PATIENCE)
}

/// Asks `check` again and again until it answers, and fails the test with `what` if it never does.
pub fn until<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    match eventually(patience(), check) {
        Ok(answer) => answer,
        Err(late) => panic!("it never came about that {what}: {late}"),
    }
}

/// Tells that a test did not run, and why, in the form that `cargo xtask test` collects.
///
/// Written past the capture of the test harness, so that a plain `cargo test` shows it too.
pub fn skipped(test: &str, why: &str) {
    tell(&format!("skipped: {test}: {why}"));
}

/// Says what a campaign has gone through: `cargo xtask campaigns` adds up the numbers.
pub fn campaign(number: u32, what: &str, figures: &str) {
    tell(&format!("campaign {number}: {what}: {figures}"));
}

/// Writes a line past the capture of the test harness.
fn tell(line: &str) {
    use std::io::Write as _;
    let told = writeln!(std::io::stdout(), "{line}");
    assert!(told.is_ok(), "the standard output takes nothing");
}
