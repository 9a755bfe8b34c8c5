//! What can go wrong between an address and a mapping.

use nix::errno::Errno;

use crate::addr::PoolAddr;
use crate::units::Bytes;

/// An access outside of what was mapped. The caller's arithmetic is wrong, or it trusted a number
/// that came from another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundsError {
    /// The range is not inside. Ask for one that is.
    #[error("{len} at offset {offset} are not inside the {size} there are")]
    Outside {
        /// Where the range was to start.
        offset: Bytes,
        /// How long it was to be; 2^64 - 1 where that many elements have no length.
        len: Bytes,
        /// How much there is.
        size: Bytes,
    },
    /// Elements of this type cannot start there. Choose a multiple of `align`.
    #[error("{addr} is no multiple of {align}")]
    Misaligned {
        /// Where the first element was to be.
        addr: PoolAddr,
        /// What its address must be a multiple of.
        align: usize,
    },
    /// The bytes may be read only. Open the segment read-write.
    #[error("the memory is mapped read-only")]
    ReadOnly,
}

/// Memory was not reserved or not mapped. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// Something of this process lies in the window. Attach before it is loaded, or give the pool
    /// another window.
    #[error("the window of {len} at {base} is taken: {occupant}")]
    Taken {
        /// The base of the window.
        base: PoolAddr,
        /// The size of the window.
        len: Bytes,
        /// What lies there, as a line of `/proc/self/maps`.
        occupant: Box<str>,
    },
    /// Another region of the window has a part of the range. Drop that one first.
    #[error("{len} at {at} overlap a region that is still in use")]
    Claimed {
        /// Where the region was to start.
        at: PoolAddr,
        /// How long it was to be.
        len: Bytes,
    },
    /// The range is not inside of the window, or of the region, or has no bytes.
    #[error("{len} at {at} are not inside the {size} at {start}")]
    Outside {
        /// Where the range was to start.
        at: PoolAddr,
        /// How long it was to be.
        len: Bytes,
        /// Where the window or region starts.
        start: PoolAddr,
        /// How long it is.
        size: Bytes,
    },
    /// An address or a length is no whole number of extents.
    #[error("{len} at {at} are no whole extents of 2 MiB")]
    NotExtents {
        /// Where the range was to start.
        at: PoolAddr,
        /// How long it was to be.
        len: Bytes,
    },
    /// The parts of a region are mapped from its start on, without a gap. Map the earlier ones
    /// first.
    #[error("{at} lies past {mapped}, up to where the region is mapped")]
    Gap {
        /// Where the part was to start.
        at: PoolAddr,
        /// The end of what is mapped.
        mapped: PoolAddr,
    },
    /// The bytes may be written, and would be mapped read-only under whoever writes them. Map the
    /// file read-write, or drop the region.
    #[error("{len} at {at} are in use for writing and cannot become read-only")]
    Narrower {
        /// Where the part was to start.
        at: PoolAddr,
        /// How long it was to be.
        len: Bytes,
    },
    /// The file ends before the range does: a load there would end the process. The file is broken,
    /// or is not the one it is said to be.
    #[error("a file of {size} cannot be mapped up to its byte {needed}")]
    FileTooShort {
        /// What the mapping needs.
        needed: Bytes,
        /// What the file has.
        size: Bytes,
    },
    /// The process was forked after it reserved the window, and the window stayed with the parent.
    /// Attach anew.
    #[error("the window belongs to the process this one was forked from")]
    Forked,
    /// The kernel refused. Where it did so after an old mapping was gone, zero pages stand in its
    /// place, and what the region held is to be mapped again or given up.
    #[error("{call} of {len} at {at}: {errno}{}", hint(*.errno))]
    Os {
        /// The system call.
        call: &'static str,
        /// The address; 0 where the kernel was to choose one.
        at: PoolAddr,
        /// The length.
        len: Bytes,
        /// What the kernel answered.
        errno: Errno,
    },
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOMEM => " (or too many mappings or addresses: see vm.max_map_count, ulimit -v)",
        _ => "",
    }
}
