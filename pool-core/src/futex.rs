//! Waiting for a word in shared memory to change, and leaving word of one's own death there.
//!
//! All futexes here are shared ones: the kernel finds the waiters of a word by the page of the file
//! it lies in, so processes meet on it wherever they map it.
//!
//! A word that another process may write proves nothing. A waiter that was woken looks again, and
//! a word that never changes is no reason to wait without a deadline.

use nix::errno::Errno;
use nix::libc;

use crate::clock::Deadline;
use crate::sync::atomic::AtomicU32;

mod robust;
pub use robust::{RobustError, RobustWord};

/// Set by the kernel in a [`RobustWord`] whose thread has died.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// Set in a [`RobustWord`] so that the kernel wakes a waiter when its thread dies.
pub const WAITERS: u32 = 0x8000_0000;
/// The thread id in a [`RobustWord`].
pub const TID_MASK: u32 = 0x3fff_ffff;

/// The most words one thread can wait for at once: the kernel's bound of `futex_waitv`.
pub const WAIT_ANY_MAX: usize = 128;

/// How a wait for one word ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Somebody woke the word. Look at it: it need not have changed.
    Woken,
    /// The word was another one than expected already. Look at it.
    Changed,
    /// The deadline passed first.
    TimedOut,
}

/// How a wait for several words ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitedAny {
    /// Somebody woke the word with this index, and perhaps others. Look at all of them.
    Woken {
        /// Which word it was.
        index: usize,
    },
    /// One of the words was another one than expected already. Look at all of them.
    Changed,
    /// The deadline passed first.
    TimedOut,
}

/// A word could not be waited for or woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FutexError {
    /// More words than the kernel waits for at once. Spread them over several threads.
    #[error("{count} words where one thread waits for at most {max}")]
    TooMany {
        /// The words that were to be waited for.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// The system call failed. `ENOSYS`: the kernel is older than 5.16 and waits for one word only.
    #[error("{call}: {errno}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

/// Waits until somebody wakes `word`, unless it is another one than `expected` already.
///
/// # Errors
/// [`FutexError::Os`], of a word whose page is gone or that lies in memory without a file.
pub fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Result<Waited, FutexError> {
    let call = "futex FUTEX_WAIT_BITSET";
    let end = deadline.timespec();
    let end = end
        .as_ref()
        .map_or(core::ptr::null(), |end| core::ptr::from_ref(end.as_ref()));
    // The deadline is a point in time, so an interrupted wait is taken up as it was.
    let woken = uninterrupted(|| {
        // SAFETY: `word` is borrowed and `end` null or a local timespec; the kernel only reads
        // both.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT_BITSET,
                expected,
                end,
                core::ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        }
    });
    match woken {
        Ok(_) => Ok(Waited::Woken),
        Err(Errno::EAGAIN) => Ok(Waited::Changed),
        Err(Errno::ETIMEDOUT) => Ok(Waited::TimedOut),
        Err(errno) => Err(FutexError::Os { call, errno }),
    }
}

/// Wakes at most `count` of those who wait for `word`, and says how many it woke.
///
/// # Errors
/// [`FutexError::Os`], of a word whose page is gone.
pub fn wake(word: &AtomicU32, count: u32) -> Result<u32, FutexError> {
    let call = "futex FUTEX_WAKE";
    let count = count.min(i32::MAX.cast_unsigned());
    // SAFETY: `word` is borrowed, and the kernel uses its address only.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    let woken = Errno::result(woken).map_err(|errno| FutexError::Os { call, errno })?;
    // Never negative, and at most `count`.
    Ok(u32::try_from(woken).unwrap_or(count))
}

/// One word to wait for, as the kernel reads it: `struct futex_waitv`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Waiter {
    expected: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Waiter>() == 24);

/// `FUTEX2_SIZE_U32`, and shared for want of `FUTEX2_PRIVATE`.
const SHARED_WORD: u32 = 2;

/// Waits until somebody wakes one of `words`, unless one is another one than expected already.
///
/// # Errors
/// [`FutexError::TooMany`] past [`WAIT_ANY_MAX`]; [`FutexError::Os`], for no word at all too.
pub fn wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Result<WaitedAny, FutexError> {
    let call = "futex_waitv";
    let (count, max) = (words.len(), WAIT_ANY_MAX);
    if count > max {
        return Err(FutexError::TooMany { count, max });
    }
    let mut waiters = [Waiter {
        expected: 0,
        addr: 0,
        flags: SHARED_WORD,
        reserved: 0,
    }; WAIT_ANY_MAX];
    for (waiter, (word, expected)) in waiters.iter_mut().zip(words) {
        waiter.expected = u64::from(*expected);
        waiter.addr = word.as_ptr().expose_provenance() as u64;
    }
    let end = deadline.timespec();
    let end = end
        .as_ref()
        .map_or(core::ptr::null(), |end| core::ptr::from_ref(end.as_ref()));
    let woken = uninterrupted(|| {
        // SAFETY: the first `count` waiters name borrowed words, and `end` is null or a local
        // timespec; the kernel only reads them all.
        unsafe {
            libc::syscall(
                libc::SYS_futex_waitv,
                waiters.as_ptr(),
                count,
                0,
                end,
                libc::CLOCK_MONOTONIC,
            )
        }
    });
    match woken.map(usize::try_from) {
        Ok(Ok(index)) => Ok(WaitedAny::Woken { index }),
        // Not reached: a negative answer is an error.
        Ok(Err(_)) => Err(FutexError::Os {
            call,
            errno: Errno::EOVERFLOW,
        }),
        Err(Errno::EAGAIN) => Ok(WaitedAny::Changed),
        Err(Errno::ETIMEDOUT) => Ok(WaitedAny::TimedOut),
        Err(errno) => Err(FutexError::Os { call, errno }),
    }
}

fn uninterrupted(mut call: impl FnMut() -> libc::c_long) -> nix::Result<libc::c_long> {
    loop {
        match Errno::result(call()) {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests;
