//! Every state of the coherence protocol that a small pool can be in.
//!
//! The words change by the crate's own [`coherence::Own`]; caches, frames, deaths and the daemon
//! are modelled around it. What is found to hold here holds for each order of steps within the
//! bounds of the scope; each scope tells how many states it has.
//!
//! Not modelled: giving a unit to another member and giving contents up, so neither the word
//! `handed` nor `abandon`; several threads of one member; and orderings weaker than one order of
//! all accesses. Those have models and tests of their own.

mod clean;
mod conformance;
mod daemon;
mod forget;
mod member;
mod planted;
mod pool;
mod scope;
mod search;
mod state;
mod waiting;
mod world;
