//! A lock for what is rare: a flag, and giving way to whoever holds it.
//!
//! The locks of the standard library and of libc are let go by who took them, and by nobody else.
//! This one is taken by the handler before a fork, and let go by other handlers on both sides.

use pool_core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

use crate::system;

/// See the module. What it guards is told where it is declared.
#[derive(Debug)]
pub(crate) struct Lock(AtomicBool);

/// It is held as long as this lives.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Lock);

impl Lock {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        self.take();
        Held(self)
    }

    /// Takes it, to be let go by [`Lock::let_go`].
    pub(crate) fn take(&self) {
        // Pairs with `let_go`.
        while self.0.swap(true, Acquire) {
            system::give_way();
        }
    }

    pub(crate) fn let_go(&self) {
        self.0.store(false, Release);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.let_go();
    }
}
