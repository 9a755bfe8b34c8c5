//! A mapping through which the daemon prepares a file that nobody else has yet.
//!
//! Memory policy and huge pages are asked for by address, so a file must be mapped to get them.
//! Only the kernel reads and writes through the mapping, never code of this process: there is no
//! reference into it, and so no alias to care for.
//!
//! # Invariants
//! 1. `room .. room + room_bytes` was reserved by [`Mapping::of`], is known to nobody else, and
//!    ends with the value.
//! 2. `base .. base + bytes` lies inside it, and begins and ends at multiples of an extent.

use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use pool_core::fault::Call;
use pool_core::{Bytes, EXTENT_BYTES};

use super::{Failed, made, offset, planned};

/// The most NUMA nodes a kernel is built for.
const NODES_MAX: u32 = 1024;
/// Bits in one word of a set of nodes.
const WORD_BITS: u32 = libc::c_ulong::BITS;

/// A file in this process's address space, aligned for huge pages. Unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    room: NonNull<libc::c_void>,
    room_bytes: usize,
    base: NonNull<libc::c_void>,
    bytes: usize,
}

impl Mapping {
    /// Maps the first `bytes` of a file: whole extents.
    ///
    /// # Errors
    /// `EINVAL` where `bytes` is not a number of whole extents, `ENOMEM` where the address space
    /// or the number of mappings is used up.
    pub fn of(file: BorrowedFd<'_>, bytes: Bytes) -> Result<Self, Failed> {
        let errno = Errno::EINVAL;
        let refused = Failed {
            call: "mmap",
            errno,
        };
        let whole = bytes.get().is_multiple_of(EXTENT_BYTES);
        let length = bytes.to_usize().filter(|_| whole).ok_or(refused)?;
        let length = NonZeroUsize::new(length).ok_or(refused)?;
        let mapping = Self::reserve(length).ok_or(refused)??;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // A hugetlb mapping would otherwise reserve pages a second time beside the file's own.
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED | MapFlags::MAP_NORESERVE;
        planned(Call::Mmap, "mmap", || {
            let at = NonZeroUsize::new(mapping.base.as_ptr().addr());
            // SAFETY: invariants 1 and 2: what `MAP_FIXED` replaces is the reservation itself.
            unsafe { nix::sys::mman::mmap(at, length, protection, flags, file, 0) }
        })?;
        Ok(mapping)
    }

    /// Address space for `length` bytes that begin at a multiple of an extent; `None` where that
    /// is more than there are addresses.
    fn reserve(length: NonZeroUsize) -> Option<Result<Self, Failed>> {
        let extent = usize::try_from(EXTENT_BYTES).ok()?;
        let room_bytes = length.checked_add(extent)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        let reserved = planned(Call::Mmap, "mmap", || {
            // SAFETY: the kernel chooses the place, so nothing of this process is replaced.
            unsafe { nix::sys::mman::mmap_anonymous(None, room_bytes, ProtFlags::PROT_NONE, flags) }
        });
        Some(reserved.map(|room| Self {
            room,
            room_bytes: room_bytes.get(),
            base: room.map_addr(|addr| addr.saturating_add(room.align_offset(extent))),
            bytes: length.get(),
        }))
    }

    /// Binds the memory that the file will get from now on to one NUMA node.
    ///
    /// # Errors
    /// `EINVAL` where the machine has no such node, or it has no memory.
    pub fn bind(&self, node: u32) -> Result<(), Failed> {
        let errno = Errno::EINVAL;
        let call = "mbind";
        let mut nodes = [0 as libc::c_ulong; (NODES_MAX / WORD_BITS) as usize];
        let word = nodes.get_mut((node / WORD_BITS) as usize);
        *word.ok_or(Failed { call, errno })? |= 1 << (node % WORD_BITS);
        planned(Call::Mbind, call, || {
            // SAFETY: invariant 2 for the range; the kernel reads `NODES_MAX` bits of `nodes`: it
            // takes the number it is given for one more than the bits.
            let answer = unsafe {
                libc::syscall(
                    libc::SYS_mbind,
                    self.base.as_ptr(),
                    self.bytes,
                    libc::MPOL_BIND,
                    nodes.as_ptr(),
                    libc::c_ulong::from(NODES_MAX) + 1,
                    0,
                )
            };
            Errno::result(answer).map(drop)
        })
    }

    /// Puts the extent that begins at `at` together into one huge page, as much of it as is there
    /// and zeros for the rest.
    ///
    /// # Errors
    /// Where the kernel has no huge page at hand, or makes none: the extent is as before.
    pub fn collapse(&self, at: u64) -> Result<(), Failed> {
        let (extent, length) = self.place("madvise", at, EXTENT_BYTES)?;
        planned(Call::Madvise, "madvise", || {
            // SAFETY: `place` has checked the range against invariant 2; this advice changes no
            // contents.
            let answer = unsafe { libc::madvise(extent.as_ptr(), length, libc::MADV_COLLAPSE) };
            Errno::result(answer).map(drop)
        })
    }

    /// Reads up to `bytes` of `file`, from `from` on, into the mapping at `at`. Tells how many
    /// came: none at the end of the file.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read_from(
        &self,
        at: u64,
        file: BorrowedFd<'_>,
        from: u64,
        bytes: u64,
    ) -> Result<u64, Failed> {
        let call = "pread";
        let (place, length) = self.place(call, at, bytes)?;
        let from = offset(call, from)?;
        let count = made(call, || {
            // SAFETY: `place` has checked the range against invariant 2, and only the kernel looks
            // at it.
            let count = unsafe { libc::pread(file.as_raw_fd(), place.as_ptr(), length, from) };
            Errno::result(count)
        })?;
        // A count is never negative, and at most `bytes`.
        Ok(count.cast_unsigned() as u64)
    }

    /// Copies `bytes` from another mapping, from `from` on, into this one at `at`. The kernel does
    /// it: memory that goes away meanwhile is an answer and not a signal.
    ///
    /// # Errors
    /// `EFAULT` where memory of either is not there any more. A part may have been copied.
    pub fn copy_from(&self, at: u64, other: &Self, from: u64, bytes: u64) -> Result<(), Failed> {
        let call = "process_vm_readv";
        let mut done = 0;
        while done < bytes {
            let (to, length) = self.place(call, at + done, bytes - done)?;
            let (source, _) = other.place(call, from + done, bytes - done)?;
            done += move_within(to, &[iovec(source, length)], length)?;
        }
        Ok(())
    }

    /// Fills all of it with zeros, in the same way.
    ///
    /// # Errors
    /// As for [`Mapping::copy_from`].
    pub fn zero(&self) -> Result<(), Failed> {
        let call = "process_vm_readv";
        let zeros = iovec(NonNull::from(&ZEROS).cast(), ZEROS.0.len());
        let (mut done, bytes) = (0, self.bytes as u64);
        while done < bytes {
            let most = bytes.min(done + (ZEROS.0.len() * ZEROS_AT_ONCE) as u64) - done;
            let (to, length) = self.place(call, done, most)?;
            let count = length.div_ceil(ZEROS.0.len());
            done += move_within(to, &vec![zeros; count], length)?;
        }
        Ok(())
    }

    /// The address and the length of `bytes` bytes at `at`, all of them inside the mapping.
    fn place(&self, call: &'static str, at: u64, bytes: u64) -> Result<Place, Failed> {
        let errno = Errno::EFAULT;
        let place = || {
            let (at, bytes) = (usize::try_from(at).ok()?, usize::try_from(bytes).ok()?);
            let inside = at.checked_add(bytes)? <= self.bytes;
            inside.then(|| (self.base.map_addr(|base| base.saturating_add(at)), bytes))
        };
        place().ok_or(Failed { call, errno })
    }
}

/// Zeros to copy from, and how often in one call.
struct Zeros([u8; 64 << 10]);
static ZEROS: Zeros = Zeros([0; 64 << 10]);
const ZEROS_AT_ONCE: usize = 64;

const fn iovec(start: NonNull<libc::c_void>, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: start.as_ptr(),
        iov_len: length,
    }
}

/// Has the kernel copy from places of this process to `length` bytes of a mapping. Tells how many
/// came.
fn move_within(
    to: NonNull<libc::c_void>,
    from: &[libc::iovec],
    length: usize,
) -> Result<u64, Failed> {
    let call = "process_vm_readv";
    let to = iovec(to, length);
    let this = nix::unistd::getpid().as_raw();
    let moved = made(call, || {
        // SAFETY: the kernel writes to `to` alone, which lies inside a mapping (invariant 2) that
        // nobody has a reference into, and reads `from`: places that are not mapped are an answer.
        let moved = unsafe {
            libc::process_vm_readv(
                this,
                &raw const to,
                1,
                from.as_ptr(),
                from.len() as libc::c_ulong,
                0,
            )
        };
        Errno::result(moved)
    })?;
    match u64::try_from(moved) {
        Ok(moved) if moved > 0 => Ok(moved),
        _ => Err(Failed {
            call,
            errno: Errno::EFAULT,
        }),
    }
}

/// Part of a mapping: where it begins, and its length.
type Place = (NonNull<libc::c_void>, usize);

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: invariant 1.
        let unmapped = unsafe { nix::sys::mman::munmap(self.room, self.room_bytes) };
        // The kernel refuses a range that is no range, and this one it gave out itself.
        debug_assert_eq!(unmapped, Ok(()));
    }
}
