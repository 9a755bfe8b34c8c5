//! Laws of the engine.
//!
//! `world` is a small, exact world around the engine: a builder, a journal, and crashes; `process`
//! is who lives in it. `laws` are what must hold after each step, whatever happened; they are
//! written from the rows of the journal and from what processes map, and trust none of the engine's
//! own sums. The other files state one behaviour a test; `property` throws everything at once.

mod ask;
mod capacity;
mod configuration;
mod devices;
mod domains;
mod evictions;
mod groups;
mod holding;
mod laws;
mod leaving;
mod ops;
mod placing;
mod plans;
mod pressure;
mod process;
mod property;
mod quota;
mod resizing;
mod restart;
mod sealing;
mod sessions;
mod sharing;
mod sums;
mod taking_back;
mod waited_for;
mod whole;
mod world;
