//! C programs have heaps of a pool, through `tierpool.h`, at the real daemon.
//!
//! The programs are built here with the system's compiler, against the library as its users have
//! it. Each case of `tests/c/shared.c` is a test, with a daemon and a process of its own.

#[path = "c_heaps/build.rs"]
mod build;
#[path = "c_heaps/calls.rs"]
mod calls;
#[path = "preload/library.rs"]
mod library;
#[path = "c_heaps/scene.rs"]
mod scene;
