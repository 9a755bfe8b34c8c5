//! The client library of Tierpool: attach to the pool of this machine, and hold memory of it at
//! the same address as every other process.
//!
//! # Words
//! A [`Pool`] is a session with the daemon. A [`Segment`] is a contiguous range of memory in one
//! tier; a [`View`] is a typed part of it, [`SharedU32`] and [`SharedU64`] are words that
//! processes share. A [`Domain`] is a segment whose units processes lease from each other: a
//! [`ReadGuard`] or a [`WriteGuard`] of some [`Units`] is the right to them, for as long as it
//! lives; a [`Ticket`] names a process that units can be handed to. A [`PoolHeap`] has objects
//! that processes allocate, reach and free, and that no death loses or keeps. A [`Reserve`] keeps
//! segments ready. [`Events`] tell what happens unasked. See [`pool_core`] for the words of the
//! whole system.
//!
//! # What it promises
//! - A call that returns a segment returns memory that is there: no access to it ends in a signal.
//! - No wrong byte is returned: what was taken away is an error from then on, whatever is mapped.
//! - The daemon may be killed and restarted at any time. What is held stays usable; calls wait
//!   until it is back, within their timeout, and are carried out exactly once.
//! - Nothing is left behind: what a call that failed had been granted is given back.
//!
//! # Leases
//! ```no_run
//! use std::time::Duration;
//! use client_sdk::{Access, AttachOptions, Bytes, Create, DomainOptions, Pool};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::attach(&AttachOptions::new())?;
//! let create = Create::new("ddr", Bytes::new(64 << 20)).name("frames");
//! let frames = pool.create_domain(&create, &DomainOptions::new())?;
//!
//! let mut frame = frames.unit(3)?.write(Duration::from_secs(1))?;
//! frame.view_mut::<f32>(Bytes::ZERO, 1024)?.fill(0.5)?;
//! frame.release()?; // published: whoever reads it from now on finds all of it
//!
//! // In another process, under a lease that keeps writers out:
//! let frames = pool.open_domain("frames", Access::ReadWrite)?;
//! let frame = frames.unit(3)?.read(Duration::from_secs(1))?;
//! assert_eq!(frame.view::<f32>(Bytes::ZERO, 1024)?.get(1023)?, 0.5);
//! # Ok(())
//! # }
//! ```
//!
//! # Forks
//! A forked child attaches anew; what it inherits fails with [`Error::Forked`]. It inherits no
//! mapping, but copies of the descriptors of all pieces, until it executes a program or ends.
//! While it has them, memory that its parent gave back or was revoked stays in use and is charged
//! to the tenant: let children that go on without `exec` be forked before the first attach.
//!
//! No runtime is needed and none is started but one thread a session. No call is safe in a signal
//! handler.

#![deny(unsafe_code)]

mod atomic;
mod attach;
mod background;
mod caches;
mod connection;
mod domain;
mod error;
mod event;
mod heap;
mod hear;
mod held;
mod info;
mod lease;
mod membership;
mod object;
mod pool;
mod reserve;
mod segment;
mod session;
mod shared;
mod table;
mod turn;
mod view;
mod wire;

pub use allocator::pool as pool_heap;
pub use allocator::pool::{Cell, HeapError, PoolHeap, ThreadHeap};
pub use atomic::{SharedU32, SharedU64, Waited};
pub use attach::AttachOptions;
pub use coherence::Slot;
pub use domain::{Domain, DomainOptions};
pub use error::{AccessError, Error, ErrorClass, ProtocolError, Reason, Refused};
pub use event::{Event, Events};
pub use heap::HeapOptions;
pub use info::{
    DomainInfo, Lifetime, Mode, OnDeath, Pages, PieceInfo, SegmentInfo, SegmentList, TierInfo,
};
pub use lease::hand::Ticket;
pub use lease::read::ReadGuard;
pub use lease::view::{LeasedView, LeasedViewMut};
pub use lease::work::{Completion, Lent, Loan, Progress};
pub use lease::write::WriteGuard;
pub use lease::{LeaseError, Units};
pub use object::draft::{Draft, Unpublished};
pub use object::shared::{Shared, WeakShared};
pub use object::{ObjectError, Objects};
pub use pool::{Create, Join, Pool};
pub use pool_core::mem::Access;
pub use pool_core::sync::atomic::Ordering;
pub use pool_core::{Bytes, ClientId, GroupTag, Incarnation, NoTag, PoolAddr, SegmentId};
pub use reserve::Reserve;
pub use segment::{Force, Segment};
pub use view::{Element, View, ViewMut};
