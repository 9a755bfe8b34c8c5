//! The calls of the operating system that the private heap makes: memory, and words before an end.
//!
//! None of them allocates, and none changes `errno` for the caller of `malloc` unless it fails.

use core::ffi::c_void;
use core::ops::Range;

/// Calls the kernel, and leaves `errno` as it was: whoever frees a block finds it so.
pub(crate) fn quietly<R>(call: impl FnOnce() -> R) -> R {
    // SAFETY: the place of `errno` of this thread is always valid.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above, and nobody else uses it.
    let before = unsafe { place.read() };
    let answer = call();
    // SAFETY: as above.
    unsafe { place.write(before) };
    answer
}

fn pointer(address: usize) -> *mut c_void {
    core::ptr::with_exposed_provenance_mut(address)
}

/// Reserves `bytes` of addresses that nothing may be read from or written to.
pub(crate) fn reserve(bytes: usize) -> Option<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, at a place that the kernel chooses, changes no other memory.
    let place = unsafe { libc::mmap(pointer(0), bytes, libc::PROT_NONE, flags, -1, 0) };
    (place != libc::MAP_FAILED).then(|| place.expose_provenance())
}

/// Maps `bytes` of zeros.
pub(crate) fn map(bytes: usize) -> Option<usize> {
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping, at a place that the kernel chooses, changes no other memory.
    let place = unsafe { libc::mmap(pointer(0), bytes, access, flags, -1, 0) };
    (place != libc::MAP_FAILED).then(|| place.expose_provenance())
}

/// Unmaps what [`reserve`] or [`map`] gave.
///
/// # Safety
/// The range is a whole number of pages that came from there, and nobody uses any of it.
pub(crate) unsafe fn unmap(range: Range<usize>) {
    // SAFETY: it is ours and unused, says the caller. It cannot fail for a whole mapping.
    let failed = quietly(|| unsafe { libc::munmap(pointer(range.start), range.len()) });
    debug_assert_eq!(failed, 0);
}

/// Lets `range`, which was reserved, be read and written; it is zero.
#[must_use]
pub(crate) fn commit(range: &Range<usize>) -> bool {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: more may be done to memory than before; no memory of others is in a reservation.
    unsafe { libc::mprotect(pointer(range.start), range.len(), access) == 0 }
}

/// Gives the memory of `range` back; what was committed reads as zero from now on.
///
/// False where the kernel refuses, as it does for locked memory: then nothing has changed.
///
/// # Safety
/// The range is of a reservation of ours, and nobody has any of it.
#[must_use]
pub(crate) unsafe fn discard(range: &Range<usize>) -> bool {
    // SAFETY: nobody has it, says the caller.
    quietly(|| unsafe {
        libc::madvise(pointer(range.start), range.len(), libc::MADV_DONTNEED) == 0
    })
}

/// Asks for huge pages in `range`. Where there are none to be had, it is of small ones.
pub(crate) fn advise_huge(range: &Range<usize>) {
    // SAFETY: changes of what size the pages are that are not there yet.
    quietly(|| unsafe { libc::madvise(pointer(range.start), range.len(), libc::MADV_HUGEPAGE) });
}

/// Makes `range` what it was when it was reserved.
///
/// # Safety
/// As of [`discard`].
#[must_use]
pub(crate) unsafe fn decommit(range: &Range<usize>) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    let place = pointer(range.start);
    // SAFETY: nobody has it, says the caller.
    let new = quietly(|| unsafe { libc::mmap(place, range.len(), libc::PROT_NONE, flags, -1, 0) });
    new != libc::MAP_FAILED
}

/// Moves the pages of `from` to `to`, which is as long and reserved. `from` stays mapped, and is
/// zero then. False where the kernel cannot (before Linux 5.7, or of more than one mapping): then
/// nothing has changed.
///
/// # Safety
/// Both are of reservations of ours; nobody has any of `to`, and the caller has `from`.
#[must_use]
pub(crate) unsafe fn relocate(from: &Range<usize>, to: usize) -> bool {
    // Without the last flag others might map something where the pages were.
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    let (old, bytes) = (pointer(from.start), from.len());
    // SAFETY: as the caller says.
    let place = unsafe { libc::mremap(old, bytes, bytes, flags, pointer(to)) };
    place != libc::MAP_FAILED
}

/// How much memory the machine has, in bytes, as far as it says.
pub(crate) fn machine_bytes() -> usize {
    // SAFETY: reads a number.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    // SAFETY: reads a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGE_SIZE) };
    let number = |value: libc::c_long| usize::try_from(value).unwrap_or(0);
    number(pages).saturating_mul(number(bytes))
}

/// How many bytes of addresses this process may have, if that is bounded.
pub(crate) fn address_limit() -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes to a place of ours.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    let is_bounded = failed == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    is_bounded.then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Milliseconds of a clock that only rises, as of the last tick of the kernel.
pub(crate) fn coarse_ms() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to a place of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let milliseconds = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1_000).saturating_add(milliseconds)
}

/// Lets another thread run.
pub(crate) fn give_way() {
    // SAFETY: has no effect on memory.
    unsafe { libc::sched_yield() };
}

/// Sets `errno` to "no memory".
pub(crate) fn set_no_memory() {
    // SAFETY: the place of `errno` of this thread is always valid.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above, and nobody else uses it.
    unsafe { *place = libc::ENOMEM };
}

/// The value of a variable of the environment, as it was when the process began.
pub(crate) fn environment(name: &core::ffi::CStr) -> Option<&'static [u8]> {
    // SAFETY: the name ends in a zero. Whoever changes the environment while another thread
    // makes its first allocation breaks any C program.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a string of the environment, which ends in a zero; it is read at once.
    Some(unsafe { core::ffi::CStr::from_ptr(value) }.to_bytes())
}

/// Writes to the standard error, as far as that is open.
pub(crate) fn tell(text: &[u8]) {
    // SAFETY: reads `text`. What cannot be written has nowhere else to go.
    let _ = unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

/// What the nodes of a policy mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Memory of these nodes alone.
    Bind,
    /// Memory of the first of them, while it has some.
    Prefer,
    /// Memory of all of them in turns, page by page.
    Interleave,
}

/// Has the memory of `range` be of the NUMA nodes whose bits are set. False where the kernel
/// refuses.
#[must_use]
pub(crate) fn place(range: &Range<usize>, policy: Policy, nodes: u64) -> bool {
    let mode = match policy {
        Policy::Bind => libc::MPOL_BIND,
        Policy::Prefer => libc::MPOL_PREFERRED,
        Policy::Interleave => libc::MPOL_INTERLEAVE,
    };
    let (start, mask) = (pointer(range.start), &raw const nodes);
    // The kernel takes one bit less than it is told.
    let bits = u64::BITS + 1;
    // SAFETY: reads the mask; changes where pages come from that are not there yet.
    let failed = quietly(|| unsafe {
        libc::syscall(libc::SYS_mbind, start, range.len(), mode, mask, bits, 0)
    });
    failed == 0
}

/// Ends the process at once, with nothing run that it would run at its end.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the process by SIGABRT.
pub(crate) fn abort() -> ! {
    // SAFETY: does not return.
    unsafe { libc::abort() }
}

/// Fills `bytes` from `start` with zeros.
///
/// # Safety
/// The caller has them, and nobody else.
pub(crate) unsafe fn zero(start: usize, bytes: usize) {
    let place: *mut u8 = core::ptr::with_exposed_provenance_mut(start);
    // SAFETY: as the caller says.
    unsafe { place.write_bytes(0, bytes) };
}

/// Copies `bytes` between places that do not overlap.
///
/// # Safety
/// The caller has both.
pub(crate) unsafe fn copy(from: usize, to: usize, bytes: usize) {
    let from: *const u8 = core::ptr::with_exposed_provenance(from);
    let to: *mut u8 = core::ptr::with_exposed_provenance_mut(to);
    // SAFETY: as the caller says.
    unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
}
