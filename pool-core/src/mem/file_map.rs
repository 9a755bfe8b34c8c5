//! A file mapped anywhere in this process: liveness pages, and memory that is being copied.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid};

use super::pulled::Listed;
use super::sys::{self, Span};
use super::{Access, MapError, Mapped};
use crate::addr::PoolAddr;
use crate::fault::{self, Call};
use crate::units::Bytes;

/// A mapping of a part of a file. It ends when the value is dropped.
///
/// A forked child does not inherit it: to access the bytes of an inherited value ends the child.
pub struct FileMap {
    map: ManuallyDrop<MmapRaw>,
    /// Taken out of the list before the mapping ends.
    listed: ManuallyDrop<Listed>,
    owner: Pid,
    span: Span,
    access: Access,
}

impl FileMap {
    /// Maps the `len` bytes of `file` from `offset`, every page at once, shared with all who map
    /// the file.
    ///
    /// # Errors
    /// [`MapError::FileTooShort`], [`MapError::Os`].
    pub fn new(
        file: BorrowedFd<'_>,
        offset: Bytes,
        len: Bytes,
        access: Access,
    ) -> Result<Self, MapError> {
        let refused = |call| {
            move |error: std::io::Error| {
                let errno = error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw);
                MapError::Os {
                    call,
                    at: PoolAddr::new(0),
                    len,
                    errno,
                }
            }
        };
        let size = len.to_usize().filter(|&size| size > 0);
        let size = size.ok_or_else(|| refused("mmap")(Errno::EINVAL.into()))?;
        sys::check_file_len(file, offset, len)?;
        let mut options = MmapOptions::new();
        options.offset(offset.get()).len(size).populate();
        fault::syscall(Call::Mmap).map_err(|errno| refused("mmap")(errno.into()))?;
        let map = match access {
            Access::ReadOnly => options.map_raw_read_only(file.as_raw_fd()),
            Access::ReadWrite => options.map_raw(file.as_raw_fd()),
        }
        .map_err(refused("mmap"))?;
        fault::syscall(Call::Madvise).map_err(|errno| refused("madvise")(errno.into()))?;
        map.advise(Advice::DontFork).map_err(refused("madvise"))?;
        let start = NonNull::new(map.as_mut_ptr());
        let start = start.ok_or_else(|| refused("mmap")(Errno::EFAULT.into()))?;
        let map = ManuallyDrop::new(map);
        let span = Span::new(start, size);
        Ok(Self {
            span,
            map,
            listed: ManuallyDrop::new(Listed::new(span)),
            owner: getpid(),
            access,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn mapped(&self) -> Mapped<'_> {
        // SAFETY: `map` keeps these bytes mapped with this access for as long as `self` is
        // borrowed, and hands them to nobody else (invariant 1).
        unsafe { Mapped::new(self.span, self.access) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // SAFETY: dropped here only, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.listed) };
        // In a forked child something else may lie at these addresses by now.
        if self.owner == getpid() {
            // SAFETY: dropped here only, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

impl fmt::Debug for FileMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileMap({:?} of {:?})", self.mapped(), self.map)
    }
}
