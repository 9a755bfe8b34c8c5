//! Every state of the coherence protocol that a small pool can be in.
//!
//! The words change by the crate's own [`coherence::Own`]; caches, frames, deaths and the daemon
//! are modelled around it. What is found to hold here holds for each order of steps within the
//! bounds of the scope; each scope tells how many states it has.
//!
//! Giving a unit to another member and giving contents up have a model of their own, without
//! caches: [`handing`]. So do passes over all units of a domain: [`domain`]. Not modelled: several
//! threads of one member, so no crowds; and orderings weaker than one order of all accesses. Those
//! have loom models and tests of their own.

mod clean;
mod conformance;
mod daemon;
mod domain;
mod forget;
mod handing;
mod member;
mod planted;
mod pool;
mod scope;
mod search;
mod state;
mod waiting;
mod world;
