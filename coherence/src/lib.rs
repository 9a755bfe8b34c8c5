//! Who may read and write shared memory, at memory speed, and what stays right when its users die.

#![forbid(unsafe_code)]

pub mod ring;
pub mod slot;
pub mod wait;

pub use slot::Slot;
