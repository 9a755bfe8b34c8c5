//! What every crate of Tierpool may name: ids, units, addresses, limits, and the one door to mapped
//! pool memory.
//!
//! # Words
//! **Line**: 64 B. **Page**: the operating system's, 4 KiB. **Extent**: 2 MiB, the unit of
//! placement and of quarantine. **Window**: the virtual range every process of a pool reserves at
//! one base. **Segment**: a contiguous range of the window granted to one tenant. **Piece**: a part
//! of a segment that lies on one device, in one **backing** (a file). **Incarnation**: rises with
//! each new backing of the same addresses. **Device**: memory the daemon owns. **Tier**: a class of
//! devices. **Tenant**: who pays. **Client**: one attached process. **Quarantine**: memory that is
//! free but not reusable until every old mapping is proven gone.

pub mod addr;
#[cfg(not(loom))]
pub mod bare_thread;
#[cfg(any(test, not(loom)))]
mod before;
pub mod clock;
pub mod descriptor;
pub mod fault;
#[cfg(not(loom))]
pub mod flush;
#[cfg(not(loom))]
pub mod futex;
pub mod id;
pub mod limits;
#[cfg(not(loom))]
pub mod mem;
pub mod packet;
#[cfg(any(test, not(loom)))]
mod ranges;
pub mod rng;
#[cfg(not(loom))]
pub mod room;
pub mod socket;
pub mod sync;
pub mod tag;
pub mod units;

pub use addr::{PoolAddr, WindowRange};
pub use id::{BackingId, ClientId, DeviceId, Incarnation, SegmentId, TenantId, TierId};
pub use tag::{GroupTag, NoTag};
pub use units::{Bytes, EXTENT_BYTES, Extents, Nanos};
