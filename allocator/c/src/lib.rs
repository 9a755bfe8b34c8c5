//! `libtierpool.so`: the private heap under the names of C's malloc family.
//!
//! A program that is linked with it, or started with `LD_PRELOAD=libtierpool.so`, has the private
//! heap of Tierpool in place of the C library's. It needs no daemon.
//!
//! The operators `new` and `delete` of C++ are left to the C++ library, which makes all of them of
//! this family: so handlers that a program sets are called, and `std::bad_alloc` is thrown, by the
//! code that is made for it.
//!
//! Beside it are the calls of the heaps that processes share (`pool`, `heap`, `cells`), which need
//! the daemon. They check what they are passed (`input`), answer codes, and keep the words for the
//! last error of each thread (`code`); no panic leaves them, for there is no code behind them that
//! panics, and where it does the process is aborted before it is back in C.
//!
//! Blocks of malloc are of such a heap as well, where `TIERPOOL_HEAP` says so (`large`).
//!
//! This library allocates from itself: the allocator of its Rust code is the same private heap.

mod cells;
mod code;
mod handle;
mod heap;
mod input;
mod large;
mod names;
mod pool;
mod stats;

#[global_allocator]
static HEAP: allocator::PrivateHeap = allocator::PrivateHeap;
