//! The private heap under threads.
//!
//! This test's own allocator is the private heap too, so that the test harness, its threads and
//! every collection here are tests of it as well.

#[macro_use]
mod laws;

use allocator::PrivateHeap;
#[global_allocator]
static HEAP: PrivateHeap = PrivateHeap;

tests_of_the_laws!();
