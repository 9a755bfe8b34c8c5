//! Who may read and write shared memory, at memory speed, and what stays right when its users die.
//!
//! A **domain** is a segment whose payload is cut into **units** of one size, each with an
//! ownership descriptor of 64 bytes before the payload. A **member** is a process that has a
//! **slot** in the domain; slot 0 is the daemon's. A member *leases* a unit, shared (to read) or
//! exclusive (to write), by one compare-exchange of the unit's ownership word, without a system
//! call and without the daemon. It lets go by another one. Whoever cannot have a unit yet sleeps,
//! with a deadline.
//!
//! | what | where |
//! |---|---|
//! | the word and every change of it | [`own`](Own) |
//! | acquiring, releasing, waiting | [`Member`] |
//! | what the daemon does when a holder is gone | [`recover`](mod@recover) |
//! | how it goes through all units to do so | [`pass`] |
//! | what it does where a holder lives and is to be cut off | [`evict`](mod@evict) |
//! | how it tells whole contents by their checksums | [`sum`] |
//! | what it does for a member that may only read | [`proxy`] |
//! | where descriptors and payload lie | [`Directory`] |
//! | what must always hold | [`check`](mod@check) |
//! | queues between members | [`ring`] |
//! | several hosts that share one device | [`host`] |
//! | how writes reach other members, in each mode | [`cache`] |
//! | caches that lose and delay lines | [`simulated`] |
//!
//! # What is promised
//! 1. One writer or any number of readers, for each epoch of a unit.
//! 2. Whoever is granted a unit finds the contents that were published last, or an error.
//! 3. What a writer has not published nobody is served, unless the domain was made to keep it. A
//!    writer that died after it stored the checksum of what it was publishing counts as one that
//!    published it; in a domain with checksums nobody is served what fits none.
//! 4. Epoch, version and incarnation of a unit never fall.
//! 5. A holder that was fenced publishes nothing, however late it tries.
//! 6. Nobody sleeps longer than [`WAIT_CAP`] while it could have what it waits for. Who leases by
//!    way of the daemon has no such cap where a writer recalled a unit and does not come for it: it
//!    waits until that writer does, or is gone, or its own deadline has passed.
//! 7. A change that is refused has changed nothing.
//! 8. Every step of a recovery may be the last one before the daemon dies, and is taken up.

#![forbid(unsafe_code)]

mod base;
pub mod cache;
pub mod check;
#[cfg(not(loom))]
pub mod directory;
pub mod era;
mod error;
pub mod evict;
mod grant;
pub mod host;
mod member;
mod own;
pub mod pass;
pub mod proxy;
mod publish;
pub mod recover;
pub mod ring;
pub mod simulated;
mod slot;
pub mod sum;
mod wait;
mod word;

pub use base::last_good;
#[cfg(not(loom))]
pub use directory::{Directory, Layout, LayoutError};
pub use error::LeaseError;
pub use grant::Grant;
pub use member::Member;
pub use member::hand::{NotHanded, Receiver};
pub use own::{CorruptWord, Epoch, Own, Refused, State};
pub use slot::{Slot, Slots};
#[cfg(not(loom))]
pub use wait::FutexWait;
pub use wait::{ModelWait, WAIT_CAP, Wait};
