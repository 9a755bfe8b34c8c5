//! Whole pools in one thread, from one seed.
//!
//! A seed draws a fabric with a few hosts, which faults are on, and a list of ops. Each host has
//! the real engine of the daemon with a journal in memory, processes that ask, write and read, and
//! pooled memory in the emulated fabric, and the real heap of a pool, which they have together; the
//! hosts share extents by the real home and peers over a
//! network that loses, doubles and delays. Nothing reads a clock, does I/O or depends on the order
//! of a map: the same seed is the same run, on every machine.
//!
//! [`op`]: what may happen. [`mix`]: what a seed draws. [`run`](mod@run): one run. `world`: where
//! it happens. `oracle`: what must hold. [`trace`]: what happened, as a hash. [`shrink`]: the
//! least that still fails. [`replay`]: a run in a file. [`campaign`]: many seeds.
//! `planted`, with the feature `fault`: bugs that must be found.
//!
//! What is emulated here is the fabric and its caches; see `docs/sim.md`.

#![deny(unsafe_code)]

mod broken;
pub mod campaign;
pub mod exhaust;
pub mod mix;
pub mod op;
mod oracle;
#[cfg(feature = "fault")]
pub mod planted;
pub mod replay;
pub mod run;
pub mod shrink;
pub mod trace;
mod world;

pub use broken::Broken;
