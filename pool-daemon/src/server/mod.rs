//! The servers of the daemon, and how they reach its one engine.

#![forbid(unsafe_code)]

mod error;
pub mod handle;

pub use error::ServerError;
