//! The system calls that put memory at an address, and the one type that names mapped bytes.

use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use nix::sys::stat::{SFlag, fstat};

use super::{Access, MapError};
use crate::addr::PoolAddr;
use crate::fault::{self, Call};
use crate::units::Bytes;

/// Addresses of this process. What may be done with them is for the holder of a span to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a span is two numbers; whoever accesses the bytes does so atomically (invariants 1 to 3).
unsafe impl Send for Span {}
// SAFETY: as for `Send`.
unsafe impl Sync for Span {}

impl Span {
    pub(super) const fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len }
    }

    pub(super) const fn start(self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(super) const fn len(self) -> usize {
        self.len
    }

    pub(super) fn addr(self) -> PoolAddr {
        PoolAddr::new(self.start.addr().get() as u64)
    }

    pub(super) fn bytes(self) -> Bytes {
        Bytes::new(self.len as u64)
    }

    /// No bytes, at the same place.
    pub(super) const fn empty(self) -> Self {
        Self {
            start: self.start,
            len: 0,
        }
    }

    /// The `len` bytes from `offset`, or `None` where they are not all inside.
    #[inline]
    pub(super) fn part(self, offset: Bytes, len: Bytes) -> Option<Self> {
        let end = offset.checked_add(len)?;
        if end > self.bytes() {
            return None;
        }
        // At most one past the end of what is mapped, hence never null.
        let start = NonNull::new(self.start().wrapping_add(offset.to_usize()?))?;
        Some(Self {
            start,
            len: len.to_usize()?,
        })
    }

    fn error(self, call: &'static str) -> impl Fn(Errno) -> MapError {
        move |errno| MapError::Os {
            call,
            at: self.addr(),
            len: self.bytes(),
            errno,
        }
    }

    fn nonzero_len(self, call: &'static str) -> Result<NonZeroUsize, MapError> {
        NonZeroUsize::new(self.len).ok_or_else(|| self.error(call)(Errno::EINVAL))
    }
}

/// Reserves exactly these addresses, accessible to nobody, or `None` where something lies there.
pub(super) fn reserve(at: PoolAddr, len: Bytes) -> Result<Option<Span>, MapError> {
    let refused = |errno| MapError::Os {
        call: "mmap",
        at,
        len,
        errno,
    };
    let addr = usize::try_from(at.get()).ok().and_then(NonZeroUsize::new);
    let addr = addr.ok_or_else(|| refused(Errno::ENOMEM))?;
    let size = len
        .to_usize()
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| refused(Errno::ENOMEM))?;
    let flags = RESERVED | MapFlags::MAP_FIXED_NOREPLACE;
    fault::syscall(Call::Mmap).map_err(refused)?;
    // SAFETY: with MAP_FIXED_NOREPLACE the kernel maps over nothing that is there.
    let reserved = match unsafe { mmap_anonymous(Some(addr), size, ProtFlags::PROT_NONE, flags) } {
        Ok(start) => Span::new(start.cast(), size.get()),
        Err(Errno::EEXIST) => return Ok(None),
        Err(errno) => return Err(refused(errno)),
    };
    if reserved.addr() != at {
        // A kernel before 4.17 does not know the flag and takes the address for a wish.
        // SAFETY: just mapped, and nobody knows of it.
        unsafe { release(reserved) }?;
        return Ok(None);
    }
    if let Err(error) = hide(reserved) {
        // SAFETY: as above.
        unsafe { release(reserved) }?;
        return Err(error);
    }
    Ok(Some(reserved))
}

const RESERVED: MapFlags = MapFlags::MAP_PRIVATE.union(MapFlags::MAP_NORESERVE);

/// Ends a mapping.
///
/// # Safety
/// `span` is a whole mapping of the caller's, and nothing names it any more.
pub(super) unsafe fn release(span: Span) -> Result<(), MapError> {
    // SAFETY: the caller's.
    unsafe { munmap(span.start.cast::<c_void>(), span.len) }.map_err(span.error("munmap"))
}

/// Puts the bytes of `file` from `offset` at `span`, in place of what is there, in one step.
///
/// # Safety
/// `span` lies in a reservation of this process (invariant 4), and whoever may access its bytes has
/// at most `access` to them.
pub(super) unsafe fn place_file(
    span: Span,
    file: BorrowedFd<'_>,
    offset: Bytes,
    access: Access,
) -> Result<(), MapError> {
    let refused = span.error("mmap");
    let len = span.nonzero_len("mmap")?;
    let offset = i64::try_from(offset.get()).map_err(|_| refused(Errno::EOVERFLOW))?;
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
    fault::syscall(Call::Mmap).map_err(&refused)?;
    // SAFETY: the caller's.
    unsafe {
        mmap(
            Some(span.start.addr()),
            len,
            protection(access),
            flags,
            file,
            offset,
        )
    }
    .map_err(refused)?;
    Ok(())
}

/// Puts private zero pages at `span`, in place of what is there, in one step.
///
/// # Safety
/// As for [`place_file`].
pub(super) unsafe fn place_zeros(span: Span, access: Access) -> Result<(), MapError> {
    // SAFETY: the caller's.
    unsafe { place_private(span, protection(access)) }
}

/// Puts private zero pages at `span` where a mapping that failed has left a hole: the kernel takes
/// away what is there before it knows that the new mapping can be made. No reader may meet a hole
/// (invariant 5), and no other mapping may land in one (invariant 4).
///
/// # Safety
/// As for [`place_file`].
pub(super) unsafe fn fill_hole(span: Span, access: Access) -> Result<(), MapError> {
    // Advice that the range has had already does nothing, and is refused where there is a hole.
    if hide(span).is_ok() {
        return Ok(());
    }
    // SAFETY: the caller's.
    unsafe { place_zeros(span, access) }?;
    hide(span)
}

/// Puts the reservation back at `span`, in place of what is there, in one step.
///
/// # Safety
/// As for [`place_file`], and nobody accesses the bytes any more.
pub(super) unsafe fn place_reservation(span: Span) -> Result<(), MapError> {
    // SAFETY: the caller's.
    unsafe { place_private(span, ProtFlags::PROT_NONE) }
}

/// # Safety
/// As for [`place_file`], with `protection` for the access.
unsafe fn place_private(span: Span, protection: ProtFlags) -> Result<(), MapError> {
    let len = span.nonzero_len("mmap")?;
    fault::syscall(Call::Mmap).map_err(span.error("mmap"))?;
    let flags = RESERVED | MapFlags::MAP_FIXED;
    // SAFETY: the caller's.
    unsafe { mmap_anonymous(Some(span.start.addr()), len, protection, flags) }
        .map_err(span.error("mmap"))?;
    Ok(())
}

/// Keeps `span` out of forked children and out of core dumps.
pub(super) fn hide(span: Span) -> Result<(), MapError> {
    advise(span, MmapAdvise::MADV_DONTFORK)?;
    advise(span, MmapAdvise::MADV_DONTDUMP)
}

/// Enters every page of `span` into the page table now, so that no access has to.
///
/// Reading, not writing: a written page of a file would have to be written back. Device memory that
/// its driver maps as a whole cannot be asked for and does not need to be, nor can any memory of a
/// kernel before 5.14: both answer `EINVAL`, and pages are entered when they are first accessed.
pub(super) fn populate(span: Span) -> Result<(), MapError> {
    match advise(span, MmapAdvise::MADV_POPULATE_READ) {
        Err(MapError::Os {
            errno: Errno::EINVAL,
            ..
        }) => Ok(()),
        done => done,
    }
}

/// Has forked children find zeros at `span`, which is private memory.
pub(super) fn wipe_on_fork(span: Span) -> Result<(), MapError> {
    advise(span, MmapAdvise::MADV_WIPEONFORK)
}

fn advise(span: Span, advice: MmapAdvise) -> Result<(), MapError> {
    fault::syscall(Call::Madvise).map_err(span.error("madvise"))?;
    // SAFETY: no kind of advice used here changes what the bytes are in this process.
    unsafe { madvise(span.start.cast::<c_void>(), span.len, advice) }.map_err(span.error("madvise"))
}

/// Checks that `file` reaches to `offset + len`. A device has no length that could be asked for.
pub(super) fn check_file_len(
    file: BorrowedFd<'_>,
    offset: Bytes,
    len: Bytes,
) -> Result<(), MapError> {
    let os = |errno| MapError::Os {
        call: "fstat",
        at: PoolAddr::new(0),
        len,
        errno,
    };
    let status = fstat(file).map_err(os)?;
    let kind = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits());
    let size = Bytes::new(status.st_size.cast_unsigned());
    let needed = offset
        .checked_add(len)
        .ok_or_else(|| os(Errno::EOVERFLOW))?;
    if kind == SFlag::S_IFREG && size < needed {
        return Err(MapError::FileTooShort { needed, size });
    }
    Ok(())
}

fn protection(access: Access) -> ProtFlags {
    match access {
        Access::ReadOnly => ProtFlags::PROT_READ,
        Access::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
    }
}
