//! A word that tells of its thread's death, by the kernel's hand.
//!
//! Each thread can register one list of words with the kernel (`set_robust_list`). When the thread
//! ends, by return, exit, exec or kill, the kernel goes through it: it sets [`super::OWNER_DIED`]
//! in each word that holds the thread's id, and wakes a waiter where [`super::WAITERS`] is set.
//! This comes before the address space is taken down, which a hang-up and a pidfd have to wait for.
//!
//! # Layout
//! The kernel finds a word at a fixed distance from its list entry. Head and entry are kept in
//! private memory, where no other process can bend the list, and the distance is chosen to reach
//! from the entry to the word in the shared page.
//!
//! # Protocol
//! The word is 0 before [`RobustWord::register`] and after a drop: the thread left in good order.
//! In between it is the thread's id with [`super::WAITERS`]. With [`super::OWNER_DIED`], and the id
//! gone, the thread has died. A thread killed within `register` leaves 0: other signs tell of that
//! death.
//!
//! # Invariants
//! 1. While registered, head and entry stay where they are, and point to each other only.
//! 2. The page of the word stays mapped for as long as the thread is registered.
//! 3. At most one word of a thread is registered, and it is unregistered by the same thread.

use core::cell::Cell;
use core::ffi::c_void;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, gettid};

use super::{FutexError, WAITERS, wake};
use crate::mem::{BoundsError, FileMap};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::units::Bytes;

thread_local! {
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// The word was not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RobustError {
    /// This thread has one already. Use it, or another thread.
    #[error("the thread has registered a robust word already")]
    Registered,
    /// There is no word at the offset, or it may not be written.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// Those who wait for the word could not be woken.
    #[error(transparent)]
    Wake(#[from] FutexError),
    /// The kernel refused.
    #[error("{call}: {errno}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

/// `struct robust_list_head`: what the kernel reads when the thread ends.
#[repr(C)]
struct Head {
    first: *mut c_void,
    /// From an entry to its word.
    word_offset: isize,
    pending: *mut c_void,
    /// Not the kernel's: the one entry, which points back to the head.
    entry: *mut c_void,
}

/// What the kernel takes for the size of a head.
const KERNEL_HEAD_BYTES: usize = core::mem::offset_of!(Head, entry);

/// The registration of the calling thread. Dropped, it says that the thread left in good order.
///
/// The thread must not hold robust pthread mutexes meanwhile: the C library registers its list of
/// those in the same place, and gets it back with the drop.
pub struct RobustWord {
    map: FileMap,
    word: *mut u32,
    head: NonNull<Head>,
    /// The C library's list.
    before: *mut c_void,
    thread: Pid,
    /// Bound to its thread (invariant 3).
    not_send: PhantomData<*const ()>,
}

impl RobustWord {
    /// Registers the word at `offset` of `map` for the calling thread, and wakes who waits for
    /// that.
    ///
    /// # Errors
    /// [`RobustError`], and the word is 0 or as it was.
    pub fn register(map: FileMap, offset: Bytes) -> Result<Self, RobustError> {
        let word = map.mapped().atomic_u32(offset)?.as_ptr();
        if REGISTERED.get() {
            return Err(RobustError::Registered);
        }
        let before = current_list()?;
        let head = new_list(word);
        if let Err(error) = set_list(head.as_ptr().cast::<c_void>()) {
            // SAFETY: from `new_list`, and the kernel did not take it.
            drop(unsafe { Box::from_raw(head.as_ptr()) });
            return Err(error);
        }
        REGISTERED.set(true);
        let thread = gettid();
        let robust = Self {
            map,
            word,
            head,
            before,
            thread,
            not_send: PhantomData,
        };
        // Release: whoever sees the word sees what the thread did before.
        robust
            .word()
            .store(thread.as_raw().cast_unsigned() | WAITERS, Ordering::Release);
        wake(robust.word(), u32::MAX)?;
        Ok(robust)
    }

    /// The mapping that holds the word.
    #[must_use]
    pub const fn map(&self) -> &FileMap {
        &self.map
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: a word of `map` (invariant 2), which `register` found in it, aligned and
        // writable.
        unsafe { AtomicU32::from_ptr(self.word) }
    }
}

impl Drop for RobustWord {
    fn drop(&mut self) {
        if gettid() != self.thread {
            // A forked child: neither the list nor the page came along.
            return;
        }
        self.word().store(0, Ordering::Release);
        // A waiter that cannot be woken finds out at its deadline.
        let _ = wake(self.word(), u32::MAX);
        if set_list(self.before).is_ok() {
            // SAFETY: from `new_list`, and no longer the kernel's.
            drop(unsafe { Box::from_raw(self.head.as_ptr()) });
        }
        // Else the list stays, with a word that no longer holds the thread's id.
        REGISTERED.set(false);
    }
}

impl fmt::Debug for RobustWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RobustWord(thread {} in {:?})", self.thread, self.map)
    }
}

/// A list of one entry, whose word is `word`.
fn new_list(word: *mut u32) -> NonNull<Head> {
    let null = core::ptr::null_mut();
    let head = Box::new(Head {
        first: null,
        word_offset: 0,
        pending: null,
        entry: null,
    });
    // SAFETY: a box is never null.
    let head = unsafe { NonNull::new_unchecked(Box::into_raw(head)) };
    let entry = head
        .as_ptr()
        .wrapping_byte_add(KERNEL_HEAD_BYTES)
        .cast::<c_void>();
    let value = Head {
        first: entry,
        // The kernel adds this to the entry's address, wrapping.
        word_offset: word.addr().wrapping_sub(entry.addr()).cast_signed(),
        pending: null,
        entry: head.as_ptr().cast::<c_void>(),
    };
    // SAFETY: just allocated for a `Head`.
    unsafe { head.write(value) };
    head
}

fn set_list(head: *mut c_void) -> Result<(), RobustError> {
    // SAFETY: the kernel keeps the address and reads it when the thread ends; `head` is the C
    // library's own, or lives until it is taken back (invariant 1).
    let set = unsafe { libc::syscall(libc::SYS_set_robust_list, head, KERNEL_HEAD_BYTES) };
    Errno::result(set)
        .map(drop)
        .map_err(|errno| RobustError::Os {
            call: "set_robust_list",
            errno,
        })
}

fn current_list() -> Result<*mut c_void, RobustError> {
    let mut head: *mut c_void = core::ptr::null_mut();
    let mut len = 0_usize;
    // SAFETY: the kernel writes a pointer and a length; 0 is the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    Errno::result(got).map_err(|errno| RobustError::Os {
        call: "get_robust_list",
        errno,
    })?;
    Ok(head)
}
