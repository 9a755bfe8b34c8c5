//! What can be asked about the pool: tiers, segments and their pieces.

use coherence::Layout;
use pool_core::mem::Access;
use pool_core::{Bytes, GroupTag, Incarnation, Nanos, PoolAddr, SegmentId};

/// How long a segment is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// Until its last holder closes it or dies.
    Held,
    /// Until it is freed.
    Persistent,
}

/// The pages that really back a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pages {
    /// 4 KiB.
    Base,
    /// 2 MiB, put together by the kernel.
    Collapsed,
    /// 2 MiB, from the operator's hugetlb pool.
    Hugetlb,
    /// Blocks of a file system.
    File,
    /// 2 MiB, of a dax device.
    Dax,
}

/// How the caches of the members of a domain are kept the same.
pub use coherence::cache::Mode;

/// What becomes of the contents of a unit whose writer died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnDeath {
    /// They are lost, unless a checksum shows that they are as they were published last.
    Lose,
    /// They are kept as they are: those who read them can tell a half-made change from a whole one.
    Keep,
}

/// How a segment that is a domain is cut, and what holds in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DomainInfo {
    /// How members see each other's writes.
    pub mode: Mode,
    /// What becomes of the contents of a unit whose writer died.
    pub on_death: OnDeath,
    /// Where descriptors and units lie.
    pub layout: Layout,
    /// How long a member may keep others waiting before it is recalled, and then before it is
    /// evicted.
    pub recall: Nanos,
    /// Each unit has a checksum: see [`DomainOptions::checksums`](crate::DomainOptions::checksums).
    pub checksums: bool,
}

/// A segment as the daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Never used again.
    pub id: SegmentId,
    /// Rises with each new backing of the same addresses.
    pub incarnation: Incarnation,
    /// The same in every process.
    pub addr: PoolAddr,
    /// Its size.
    pub bytes: Bytes,
    /// The size it can grow to in its place, at the least.
    pub capacity: Bytes,
    /// Empty where it has none.
    pub name: String,
    /// Who owns and pays for it.
    pub tenant: String,
    /// Where it lies.
    pub tier: String,
    /// How long it is kept.
    pub lifetime: Lifetime,
    /// Granted beyond what its tenant is guaranteed: asked back first under pressure.
    pub burst: bool,
    /// Set where it is a domain.
    pub domain: Option<DomainInfo>,
    /// Other tenants that may open it.
    pub shares: Vec<(String, Access)>,
    /// How many processes hold it, of all tenants: those that the daemon knows, which are of its
    /// own machine.
    pub holders: u32,
    /// Nobody writes it any more: see [`Segment::seal`](crate::Segment::seal).
    pub sealed: bool,
    /// Where it is a group that hosts share: by what other hosts [join](crate::Pool::join) it.
    pub tag: Option<GroupTag>,
}

/// Segments that a tenant owns or may open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentList {
    /// By rising id.
    pub segments: Vec<SegmentInfo>,
    /// There are more than fit one answer of the daemon: those with the highest ids are not listed.
    pub truncated: bool,
}

/// One part of a segment, in one file on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PieceInfo {
    /// Where in the segment it starts.
    pub offset: Bytes,
    /// How long it is.
    pub bytes: Bytes,
    /// The device it lies on.
    pub device: String,
    /// Ordinary DRAM that stands for something else.
    pub emulated: bool,
    /// The pages it got.
    pub pages: Pages,
}

/// A class of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierInfo {
    /// As `hbm`, `ddr`, `pooled`.
    pub name: String,
    /// Every device of it is ordinary DRAM that stands for something else.
    pub emulated: bool,
    /// Its size.
    pub total: Bytes,
    /// What can be granted.
    pub free: Bytes,
    /// What is granted.
    pub granted: Bytes,
    /// What is free, and waits for proof that no old mapping is left.
    pub quarantined: Bytes,
}
