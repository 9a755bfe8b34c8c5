//! An emulated CXL fabric: hosts, switches and memory devices that do what the specification says,
//! take the time that real ones take, and fail as real ones fail.
//!
//! # The rule
//! Everything follows from a topology, a seed and the events that are fed in. Nothing in here
//! reads a clock, waits, starts a thread, computes with floating point, or depends on the order in
//! which a map is gone through. What is emulated is called emulated beside every figure that comes
//! of it.
//!
//! # Rooms
//! [`topology`]: what there is and how it is connected, as a file says it. [`fabric`]: all of it,
//! and what happens to it, one event after the other. Its parts: [`switch`]; [`memdev`], of
//! [`capacity`], [`media`] and [`log`]; [`cache`], a host's. [`cci`]: commands and answers, as
//! bytes. [`timing`]: how long an access takes. [`id`], [`span`], [`refusal`]: the small change.

#![forbid(unsafe_code)]

pub mod cache;
pub mod capacity;
pub mod cci;
pub mod fabric;
pub mod id;
pub mod log;
pub mod media;
pub mod memdev;
pub mod refusal;
pub mod span;
pub mod switch;
pub mod timing;
pub mod topology;
