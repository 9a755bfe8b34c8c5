//! The daemon under test: the program that ships, built with feature `fault`, on a heap of which an
//! allocation can fail.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use tierpool_tests::failing_heap::{FailingHeap, read_plan};

#[global_allocator]
static HEAP: FailingHeap = FailingHeap;

fn main() -> ExitCode {
    read_plan();
    pool_daemon::cli::main()
}
