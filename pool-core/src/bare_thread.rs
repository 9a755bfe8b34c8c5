//! A thread that starts in a forked child as well.
//!
//! The standard library takes a lock of its own whenever one of its threads begins or ends. A child
//! that was forked while another thread of its parent had that lock waits for it for ever, in the
//! first thread that it starts (seen with Rust 1.95: the table of stack guards). A library whose
//! sessions are to work in forked children starts its thread by the C library's call, which knows
//! of forks. Code in such a thread may use the standard library like any other.
//!
//! # Invariants
//! 1. What is to be done is owned by whoever starts the thread until it runs, and then by it alone.
//! 2. A thread is joined once, or detached when the handle is dropped. In a forked child a handle
//!    of before is neither: forget it.

use core::ffi::{CStr, c_void};
use core::mem::ManuallyDrop;
use core::{fmt, ptr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::libc;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that has been started, to be joined.
pub struct BareThread(libc::pthread_t);

impl BareThread {
    /// Starts a thread that does `work`, called `name`, of which the kernel keeps 15 bytes. A panic
    /// ends the thread and nothing else.
    ///
    /// # Errors
    /// What the kernel says: `EAGAIN` where there are as many threads as there may be.
    pub fn spawn(name: &CStr, work: impl FnOnce() + Send + 'static) -> Result<Self, Errno> {
        let work: Box<Work> = Box::new(Box::new(work));
        let argument = Box::into_raw(work);
        let mut id = 0;
        // SAFETY: `id` is written before this returns, no attributes are the default ones, and
        // `run` takes what `argument` points to (invariant 1).
        let errno = unsafe { libc::pthread_create(&raw mut id, ptr::null(), run, argument.cast()) };
        if errno != 0 {
            // SAFETY: no thread was started, so it is still owned here (invariant 1).
            drop(unsafe { Box::from_raw(argument) });
            return Err(Errno::from_raw(errno));
        }
        let thread = Self(id);
        // A name that is too long is none: it is for people who look at a list of threads.
        // SAFETY: the thread is neither joined nor detached, so its id is valid.
        let _named = unsafe { libc::pthread_setname_np(thread.0, name.as_ptr()) };
        Ok(thread)
    }

    /// Waits until the thread has ended.
    pub fn join(self) {
        let thread = ManuallyDrop::new(self);
        // It fails only for a thread that joins itself, which then ends as if it were detached.
        // SAFETY: it was neither joined nor detached (invariant 2).
        let _errno = unsafe { libc::pthread_join(thread.0, ptr::null_mut()) };
    }
}

impl Drop for BareThread {
    fn drop(&mut self) {
        // SAFETY: it was neither joined nor detached (invariant 2).
        let _errno = unsafe { libc::pthread_detach(self.0) };
    }
}

impl fmt::Debug for BareThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BareThread({:#x})", self.0)
    }
}

extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` made it for this thread, and has given it away (invariant 1).
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    // The hook of panics has told what there is to tell, and no panic may pass into C.
    let _ended = catch_unwind(AssertUnwindSafe(work));
    ptr::null_mut()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_does_its_work_and_is_joined() {
        let (told, hears) = channel();
        let thread = BareThread::spawn(c"bare", move || told.send(7).unwrap()).unwrap();
        thread.join();
        assert_eq!(hears.recv(), Ok(7));
    }

    #[test]
    fn a_panic_ends_the_thread_and_nothing_else() {
        let (told, hears) = channel::<()>();
        let thread = BareThread::spawn(c"bare", move || {
            let _dropped_by_the_panic = told;
            panic!("as it is to");
        });
        thread.unwrap().join();
        assert!(hears.recv().is_err());
    }

    #[test]
    fn a_thread_that_is_let_go_of_goes_on() {
        let (told, hears) = channel();
        let (go, goes) = channel::<()>();
        let thread = BareThread::spawn(c"bare", move || {
            let _ = goes.recv();
            told.send(7).unwrap();
        });
        drop(thread.unwrap());
        drop(go);
        assert_eq!(hears.recv(), Ok(7));
    }
}
