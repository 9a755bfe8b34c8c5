//! x

pub mod command;
pub mod effect;
pub mod plan;
