//! Who may read and write shared memory, at memory speed, and what stays right when its users die.

#![forbid(unsafe_code)]

pub mod host;
