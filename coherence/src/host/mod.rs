//! The directory between hosts.

pub mod home;
pub mod message;
pub mod peer;
pub mod refusal;
pub mod row;
mod timer;

pub use home::{Broken, Home, HomeInput, HomeLimits, HomeOutput, RecoverError};
pub use message::{Ask, Denial, Outcome, Right, SLOTS, Tell, ToHome, ToPeer};
pub use peer::{Change, Peer, PeerInput, PeerLimits, PeerOutput};
pub use refusal::{Counts, Refusal};
pub use row::{Record, Row, Standing, State};
