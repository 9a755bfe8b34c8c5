//! Memory that vanishes under a mapping, because the hardware behind it is pulled.
//!
//! The kernel ends whoever touches it then, by `SIGBUS`. A process that has to go on [says
//! so](survive_pulled), once. From then on, where an access of a [`FileMap`](super::FileMap) meets
//! such a hole, memory of the process's own is put there, each byte of which is [`PULLED`]. A word
//! of nothing but ones is none that any protocol of the pool writes, so whoever judges what it
//! reads finds it corrupt, and tells nobody anything of it.
//!
//! This is the last resort. Whoever copies contents has the kernel do it, which answers with an
//! error; and that the hardware is gone is told by those who look after it.
//!
//! # Invariants
//! 1. An entry of the list is a live mapping of this process: entered once it is there, and taken
//!    out before it ends. Who faults in one borrows it, so it stays until the handler has returned.
//!    A forked child has no such mapping, and whatever faults there is nothing of ours.
//! 2. The handler calls nothing but `mmap`, `mremap`, `getpid`, `sigaction` and `raise`, and writes
//!    bytes that only it knows of; none of it takes a lock. What handled the signal before is not
//!    waited for longer than it takes the thread that sets our handler to say it, which no signal
//!    interrupts.

use core::mem::MaybeUninit;
use core::num::NonZeroUsize;
use core::ptr::{self, NonNull};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::mman::{MRemapFlags, MapFlags, ProtFlags, mmap_anonymous, mremap};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, raise, sigaction,
};
use nix::unistd::getpid;

use super::MapError;
use super::sys::Span;
use crate::addr::PoolAddr;
use crate::before::Before;
use crate::ranges::{Entered, Ranges};
use crate::units::{Bytes, EXTENT_BYTES};

/// What each byte is of memory that vanished.
pub const PULLED: u8 = 0xff;

/// What handled the signal before.
static BEFORE: Before<SigAction> = Before::new();
/// The mappings.
static MAPPINGS: Ranges = Ranges::new();

/// Nothing is there (`asm-generic/siginfo.h`).
const BUS_ADRERR: c_int = 2;

/// From now on this process outlives the memory of its [`FileMap`](super::FileMap)s.
///
/// # Errors
/// [`MapError::Os`] where the handler cannot be set. Once it is, nothing happens.
pub fn survive_pulled() -> Result<(), MapError> {
    let bus: SigSet = Signal::SIGBUS.into();
    // The handler would wait for what it interrupts: for this thread to know what was there before.
    let mask = bus.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let mask = mask.map_err(refused("pthread_sigmask"))?;
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::SigAction(on_bus_error), flags, SigSet::empty());
    let set = BEFORE.replace(|| {
        // SAFETY: the handler keeps to what one may do (invariant 2).
        unsafe { sigaction(Signal::SIGBUS, &action) }
    });
    mask.thread_set_mask().map_err(refused("pthread_sigmask"))?;
    set.map_err(refused("sigaction"))
}

fn refused(call: &'static str) -> impl FnOnce(Errno) -> MapError {
    move |errno| MapError::Os {
        call,
        at: PoolAddr::new(0),
        len: Bytes::ZERO,
        errno,
    }
}

/// An entry of the list, for as long as the value lives.
#[derive(Debug)]
pub(super) struct Listed {
    _entered: Entered,
}

impl Listed {
    /// Enters a mapping that is there.
    pub(super) fn new(span: Span) -> Self {
        let start = span.start().addr();
        let range = start..start.saturating_add(span.len());
        let entered = MAPPINGS.enter(&range, this_process());
        Self { _entered: entered }
    }
}

fn this_process() -> usize {
    getpid().as_raw().unsigned_abs() as usize
}

/// The part of a mapping of a process that has this address which is replaced at once: an extent,
/// since one of huge pages is cut at those only.
fn part_with(at: usize, process: usize) -> Option<(usize, usize)> {
    let extent = usize::try_from(EXTENT_BYTES).ok()?;
    let found = MAPPINGS.find(at, process)?;
    let first = (at / extent * extent).max(found.start);
    let last = (at / extent * extent).saturating_add(extent).min(found.end);
    Some((first, last - first))
}

/// Puts memory where there is none any more; `None` where it is not ours to.
fn fill(at: usize) -> Option<()> {
    let (first, len) = part_with(at, this_process())?;
    let (first, size) = (NonZeroUsize::new(first)?, NonZeroUsize::new(len)?);
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses a place where nothing lies.
    let made = unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_PRIVATE) };
    let made = made.ok()?;
    // SAFETY: these bytes were just mapped, to be written, and nobody else knows of them.
    unsafe { ptr::write_bytes(made.as_ptr().cast::<u8>(), PULLED, len) };
    let how = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
    let to = NonNull::new(ptr::with_exposed_provenance_mut::<c_void>(first.get()))?;
    // SAFETY: what is mapped over is a part of a mapping of ours that leads nowhere any more
    // (invariant 1), and all that is there is accessed atomically. It is done in one step: whoever
    // reads there meets the hole, or ones.
    let put = unsafe { mremap(made, len, len, how, Some(to)) };
    put.ok().map(drop)
}

extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel passes what it says of the fault, and nobody else has it.
    let info_of_fault = unsafe { &*info };
    // Only an access that met a hole: not a signal that somebody sent, nor memory that failed.
    let is_hole = info_of_fault.si_code == BUS_ADRERR;
    // SAFETY: of a bus error it says the address.
    let at = unsafe { info_of_fault.si_addr() }.addr();
    if !is_hole || fill(at).is_none() {
        pass_on(signal, info, context);
    }
    Errno::set_raw(errno);
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    match BEFORE.wait().handler() {
        SigHandler::SigAction(handler) => handler(signal, info, context),
        SigHandler::Handler(handler) => handler(signal),
        _ => {
            let (flags, none) = (SaFlags::empty(), SigSet::empty());
            let action = SigAction::new(SigHandler::SigDfl, flags, none);
            // SAFETY: the default is no code of ours. The access is made again, and ends us.
            let _ends_now = unsafe { sigaction(Signal::SIGBUS, &action) };
        }
    }
    // What somebody sent is not sent again. Who handled it before may have left it to the default,
    // as the standard library does, for an access that is made again.
    if was_sent(info) && is_left_to_the_default() {
        let _ends_now = raise(Signal::SIGBUS);
    }
}

/// Whether a signal is of somebody's call, and not of the kernel's own.
fn was_sent(info: *mut siginfo_t) -> bool {
    // SAFETY: the kernel passes what it says of the signal, and nobody else has it.
    unsafe { (*info).si_code <= 0 }
}

/// Whether nobody handles this signal any more.
fn is_left_to_the_default() -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is set, and what there is is written where there is room for it.
    let asked = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), now.as_mut_ptr()) };
    // SAFETY: it was written where the call succeeded.
    asked == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_DFL
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, OwnedFd};

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::unistd::ftruncate;

    use super::super::{Access, FileMap};
    use super::*;
    use crate::sync::atomic::Ordering::{AcqRel, Release};

    const LEN: Bytes = Bytes::new(4 * EXTENT_BYTES);

    fn file(bytes: u64) -> OwnedFd {
        let file = memfd_create("pulled", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&file, i64::try_from(bytes).unwrap()).unwrap();
        file
    }

    #[test]
    fn what_vanishes_under_a_mapping_is_ones_and_nothing_else_changes() {
        survive_pulled().unwrap();
        let (pulled, kept) = (file(LEN.get()), file(LEN.get()));
        let map = |file: &OwnedFd| {
            FileMap::new(file.as_fd(), Bytes::ZERO, LEN, Access::ReadWrite).unwrap()
        };
        let (map, other) = (map(&pulled), map(&kept));
        let words = |map: &FileMap| {
            let view = map.mapped().view::<u64>(Bytes::ZERO, 4).unwrap();
            view.iter().collect::<Vec<_>>()
        };
        map.mapped()
            .atomic_u64(Bytes::ZERO)
            .unwrap()
            .store(7, Release);
        other
            .mapped()
            .atomic_u64(Bytes::ZERO)
            .unwrap()
            .store(9, Release);
        ftruncate(&pulled, 0).unwrap();
        assert_eq!(words(&map), [u64::MAX; 4]);
        let far = map
            .mapped()
            .atomic_u64(Bytes::new(3 * EXTENT_BYTES))
            .unwrap();
        assert_eq!(far.fetch_add(1, AcqRel), u64::MAX, "each extent on its own");
        assert_eq!(words(&other), [9, 0, 0, 0]);
    }

    #[test]
    fn an_entry_is_used_again() {
        let map = |file: &OwnedFd| {
            FileMap::new(file.as_fd(), Bytes::ZERO, LEN, Access::ReadOnly).unwrap()
        };
        let file = file(LEN.get());
        for _ in 0..1_000 {
            drop(map(&file));
        }
        // Other tests map files meanwhile.
        let entries = MAPPINGS.count();
        assert!(entries < 500, "{entries} entries");
    }

    #[test]
    fn what_a_forked_child_inherits_is_no_mapping_of_its_own() {
        let file = file(LEN.get());
        let map = FileMap::new(file.as_fd(), Bytes::ZERO, LEN, Access::ReadOnly).unwrap();
        let view = map.mapped().view::<u64>(Bytes::ZERO, 4).unwrap();
        let at = usize::try_from(view.addr().get()).unwrap();
        let me = this_process();
        assert!(part_with(at, me).is_some());
        assert_eq!(part_with(at, me + 1), None);
    }
}
