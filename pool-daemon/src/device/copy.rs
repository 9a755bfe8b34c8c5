//! Moving the contents of files into new ones.
//!
//! The old files may still be in the hands of a hostile writer, who punches holes into them or,
//! where they are not sealed, cuts them short. So they are read, never mapped: what is missing is
//! an answer and not a signal. A dax device takes no `read`, and nobody cuts it short: it is
//! mapped, and the kernel copies from the mapping. The new ones are the daemon's alone, and are
//! written through a mapping, because a hugetlb file takes no `write`.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use pool_core::{Bytes, EXTENT_BYTES};

use crate::engine::command::WorldError;
use crate::sys::{self, Mapping};

/// A file, and how many of its bytes count: whole extents, as it was built.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// Its length when it was built, whatever it is by now.
    pub bytes: Bytes,
}

/// Copies the contents of `from`, end to end, into `to`, and makes them as durable as the files
/// are.
///
/// # Errors
/// Where a system call failed; `EINVAL` where the two are not equally long, and `ENODATA` where a
/// file of `from` has been cut short by somebody. What is in `to` then is a part of the contents,
/// and zeros.
pub fn copy(from: &[Part<'_>], to: &[Part<'_>]) -> Result<(), WorldError> {
    if extents(from).count() != extents(to).count() {
        let (call, errno) = ("copy", Errno::EINVAL as i32);
        return Err(WorldError::Os { call, errno });
    }
    let mut sources = extents(from);
    for part in to {
        let mapping = Mapping::of(part.file, part.bytes)?;
        let places = extents(core::slice::from_ref(part)).map(|(_, at)| at);
        for (at, (source, source_at)) in places.zip(sources.by_ref()) {
            copy_extent(&mapping, at, source, source_at)?;
        }
        drop(mapping);
        // What is written to a dax device is there.
        if sys::status(part.file)?.stands_for.is_none() {
            sys::sync(part.file)?;
        }
    }
    Ok(())
}

/// Every extent of `parts`: its file, and where it begins there.
fn extents<'a>(parts: &[Part<'a>]) -> impl Iterator<Item = (BorrowedFd<'a>, u64)> {
    parts.iter().flat_map(|part| {
        let count = part.bytes.get() / EXTENT_BYTES;
        (0..count).map(|index| (part.file, index * EXTENT_BYTES))
    })
}

fn copy_extent(
    mapping: &Mapping,
    at: u64,
    source: BorrowedFd<'_>,
    source_at: u64,
) -> Result<(), WorldError> {
    if sys::status(source)?.stands_for.is_some() {
        let all = Mapping::of(source, Bytes::new(source_at + EXTENT_BYTES))?;
        return Ok(mapping.copy_from(at, &all, source_at, EXTENT_BYTES)?);
    }
    let mut done = 0;
    while done < EXTENT_BYTES {
        let came = mapping.read_from(at + done, source, source_at + done, EXTENT_BYTES - done)?;
        if came == 0 {
            let (call, errno) = ("pread", Errno::ENODATA as i32);
            return Err(WorldError::Os { call, errno });
        }
        done += came;
    }
    Ok(())
}
