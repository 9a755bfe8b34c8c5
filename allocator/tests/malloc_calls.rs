//! The private heap beside another allocator, which has all other blocks of this process.
//!
//! `cargo xtask sanitize` has that one be AddressSanitizer's, which then sees every access of the
//! heap to what is not its own.

#[macro_use]
mod laws;

tests_of_the_laws!();
