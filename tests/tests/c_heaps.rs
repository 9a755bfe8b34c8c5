//! C programs have heaps of a pool, through `tierpool.h` and under `malloc`, at the real daemon.
//!
//! The programs are built here with the system's compiler, against the library as its users have
//! it. `tests/c/shared.c` has the calls, `tests/c/large.c` what variables say; each of their cases
//! is a test, with a daemon and a process of its own.

#[path = "c_heaps/build.rs"]
mod build;
#[path = "c_heaps/calls.rs"]
mod calls;
#[path = "c_heaps/large.rs"]
mod large;
#[path = "preload/library.rs"]
mod library;
#[path = "c_heaps/scene.rs"]
mod scene;
