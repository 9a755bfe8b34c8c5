//! A heap of which one allocation fails: that of the daemon under test.
//!
//! Rust ends a process whose allocation fails, but for the few that ask whether it did. So a daemon
//! dies at one instruction more, wherever that allocation is. Allocations of all threads are
//! counted together, from when the plan is read.

#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; all is passed on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::stderr;

use pool_core::fault::FAILURE_TOLD;
use pool_core::sync::atomic::{AtomicU64, Ordering};

/// The variable of the environment that says which allocation fails, counted from 1.
pub const FAIL_ALLOCATION: &str = "TIERPOOL_FAIL_ALLOCATION";

/// Allocations until the one that fails, itself among them; 0 where none does any more.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// From here on allocations are counted, where the environment plans a failure.
pub fn read_plan() {
    let Some(plan) = std::env::var_os(FAIL_ALLOCATION) else {
        return;
    };
    let nth = plan.to_str().and_then(|plan| plan.parse().ok());
    let nth = nth.expect("TIERPOOL_FAIL_ALLOCATION is a number");
    // Ordering: the number is all there is to be seen.
    LEFT.store(nth, Ordering::Relaxed);
}

/// The system's heap, but for that allocation.
#[derive(Debug)]
pub struct FailingHeap;

fn fails() -> bool {
    // Ordering: the number is all there is to be seen, here and below.
    if LEFT.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let less = |left: u64| left.checked_sub(1);
    let before = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    let is_it = before == Ok(1);
    if is_it {
        // Nothing that takes memory itself. Who cannot be told finds a process that has died.
        let told = [FAILURE_TOLD.as_bytes(), b" allocation\n"];
        for part in told {
            let _ = nix::unistd::write(stderr(), part);
        }
    }
    is_it
}

// SAFETY: what is given is the system's, of the layout that was asked for, or nothing; what is
// taken back was the system's with that layout, as the caller of these functions promises.
unsafe impl GlobalAlloc for FailingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut(); // The block stays as it is.
        }
        // SAFETY: the caller's promises are the system's.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(block, layout) }
    }
}
