//! `cargo xtask sanitize`: the private heap under AddressSanitizer.
//!
//! The tests are those whose own allocator is another one: it is the sanitizer's then, which so
//! sees each access of the heap, or of the test, to what is of neither. In one of them the test
//! tells the sanitizer of each block that is free, so that the heap is seen to leave it alone.
//!
//! The sanitizer is no part of the language yet: the compiler is told to take the flag as one that
//! is built next would. It comes with every Rust, and nothing is installed. The standard library is
//! not built with it, and what is done there is not seen.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::command::{cargo, output, run as run_command, target_directory};

/// The tests of the allocator that can run beside the allocator of the sanitizer.
const TESTS: [&str; 2] = ["malloc_calls", "untouched"];

/// Builds the tests with the sanitizer, in a folder of their own, and runs them.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" -Zsanitizer=address --cfg asan");
    let mut command = cargo(root);
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["test", "--package", "allocator"])
        // With a target named, build scripts and macros are built without the sanitizer.
        .args(["--target", &host()?, "--target-dir"])
        .arg(target_directory(root)?.join("asan"));
    run_command(command.args(TESTS.iter().flat_map(|test| ["--test", test])))
}

/// The target that the compiler builds for, where none is named.
fn host() -> anyhow::Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
