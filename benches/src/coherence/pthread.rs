//! The peer of the C library: a robust mutex that processes share, in memory that they map.
//!
//! It is what a program would take that wants what a lease gives it in the simplest case: one at a
//! time, in any process, and word of a holder that died.
//!
//! # Invariants
//! 1. The bytes of a mutex are its own: nobody else reads or writes them.
//! 2. They are made a mutex once, before anybody else has them ([`RobustMutex::create`]).

#![expect(unsafe_code, reason = "the C library's functions")]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use anyhow::ensure;
use nix::errno::Errno;
use nix::libc;
use pool_core::mem::Mapped;

/// Bytes from one mutex to the next: two lines, since lines are fetched in pairs.
pub(super) const STRIDE: u64 = 128;
const _: () = assert!(size_of::<libc::pthread_mutex_t>() as u64 <= STRIDE);

/// One mutex.
#[derive(Debug)]
pub(super) struct RobustMutex<'a> {
    at: *mut libc::pthread_mutex_t,
    memory: PhantomData<Mapped<'a>>,
}

impl<'a> RobustMutex<'a> {
    /// The mutex in the first bytes of `memory`, which is one already.
    pub(super) fn open(memory: Mapped<'a>) -> anyhow::Result<Self> {
        let at = memory.as_ptr().cast_mut().cast::<libc::pthread_mutex_t>();
        ensure!(memory.bytes().get() >= STRIDE, "no room for a mutex");
        ensure!(at.is_aligned(), "a mutex at {at:?}");
        let memory = PhantomData;
        Ok(Self { at, memory })
    }

    /// Makes one of the first bytes of `memory`, which nobody else has yet.
    pub(super) fn create(memory: Mapped<'a>) -> anyhow::Result<Self> {
        let mutex = Self::open(memory)?;
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: `attributes` is room for attributes, here and below; they are made by this call.
        done(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        let shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: as above, and made.
        done(unsafe { libc::pthread_mutexattr_setpshared(attributes, shared) })?;
        let robust = libc::PTHREAD_MUTEX_ROBUST;
        // SAFETY: as above.
        done(unsafe { libc::pthread_mutexattr_setrobust(attributes, robust) })?;
        // SAFETY: as above; `at` is mapped and aligned, its bytes are the mutex's own (invariant 1)
        // and not yet in use (invariant 2).
        done(unsafe { libc::pthread_mutex_init(mutex.at, attributes) })?;
        // SAFETY: as above; used no more.
        done(unsafe { libc::pthread_mutexattr_destroy(attributes) })?;
        Ok(mutex)
    }

    /// Waits for it. Fails where its holder died.
    #[inline]
    pub(super) fn lock(&self) -> nix::Result<()> {
        // SAFETY: a mutex (invariant 2), mapped as long as `self` lives.
        done(unsafe { libc::pthread_mutex_lock(self.at) })
    }

    /// Lets go of it.
    #[inline]
    pub(super) fn unlock(&self) -> nix::Result<()> {
        // SAFETY: as for `lock`; where this thread does not hold it, the call says so.
        done(unsafe { libc::pthread_mutex_unlock(self.at) })
    }
}

/// The C library that the mutex is of.
pub(crate) fn version() -> &'static str {
    // SAFETY: takes nothing.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: a text that ends with a zero and is there as long as the process.
    let version = unsafe { CStr::from_ptr(version) };
    version.to_str().unwrap_or("unknown")
}

#[inline]
const fn done(code: libc::c_int) -> nix::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Errno::from_raw(code)),
    }
}
