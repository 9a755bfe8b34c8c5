//! The daemon that owns the tiers of a Tierpool.
//!
//! Data flows one way. A request arrives at the [`reactor`], which turns it into a command for the
//! [`engine`]: a pure state machine that knows no clock and does no I/O. The engine answers with
//! effects: records, which the [`journal`] makes durable, and then actions, which the reactor
//! performs: it builds memory on a [`device`], keeps its descriptors in a [`store`], and replies.
//! Nothing is answered before it is journaled.

#![deny(unsafe_code)]

#[cfg(feature = "server")]
pub mod cli;
pub mod config;
pub mod device;
pub mod discover;
pub mod doctor;
pub mod engine;
pub mod journal;
pub mod plug;
#[cfg(feature = "server")]
pub mod reactor;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service;
pub mod steward;
pub mod store;
pub mod sys;
