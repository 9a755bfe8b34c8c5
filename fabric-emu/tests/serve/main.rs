//! A fabric as a process: what comes over its sockets, what it costs, and whose the memory is.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

mod abuse;
mod commands;
mod late;
mod life;
mod memory;
mod operators;
mod rig;
