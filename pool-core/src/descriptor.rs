//! The ownership descriptor: the 64 bytes by which processes agree who may read and write one unit
//! of shared memory.
//!
//! This file says where its words lie; what they mean, and who may change them when, is the crate
//! `coherence`. It is here because only this crate turns mapped bytes into atomics
//! ([`crate::mem::Mapped::descriptors`]).
//!
//! ```text
//! byte  0 own      u64  who holds the unit: the word that decides
//!       8 version  u64  of the contents; rises when they are changed and published
//!      16 backing  u64  incarnation of the memory that holds the contents
//!      24 event    u32  futex: moves on when somebody who waits should look again
//!      28 flags    u32
//!      32 sum      u64  checksum of the contents, where the domain has checksums
//!      40 base     u64  the last version that was published, and the epoch that noted it
//!      48 handed   u64  whom the unit was handed to, until that member takes it
//!      56 spare    u64, zero
//! ```
//!
//! A descriptor of zeros is one of a unit that is free and was never written.

use crate::sync::atomic::{AtomicU32, AtomicU64};

/// Bytes of one descriptor: a line of its own, so that two units never share one.
pub const DESCRIPTOR_BYTES: u64 = 64;

/// The words of one descriptor. Any process of the domain may change any of them at any time.
#[derive(Debug, Default)]
#[cfg_attr(not(loom), repr(C, align(64)))]
pub struct Descriptor {
    /// Who holds the unit.
    pub own: AtomicU64,
    /// Version of the contents.
    pub version: AtomicU64,
    /// Incarnation of the memory that holds the contents. Stored with release.
    pub backing: AtomicU64,
    /// Moves on when those who wait should look again.
    pub event: AtomicU32,
    /// Properties of the contents.
    pub flags: AtomicU32,
    /// Checksum of the contents.
    pub sum: AtomicU64,
    /// The last version that was published, and the epoch that noted it.
    pub base: AtomicU64,
    /// Whom the unit was handed to, until that member takes it.
    pub handed: AtomicU64,
    /// Zero.
    pub spare: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Descriptor>() as u64 == DESCRIPTOR_BYTES);
#[cfg(not(loom))]
const _: () = assert!(align_of::<Descriptor>() as u64 == DESCRIPTOR_BYTES);
