//! The one place that names the standard library's atomics, locks and threads, so that a model
//! checker can stand in for them.
//!
//! With `--cfg loom` every name here is loom's, and [`model`] runs its body under every schedule;
//! without it the names are the standard library's and [`model`] runs the body once. Each model is
//! therefore compiled and run by plain `cargo test` as well.
//!
//! # Why aliases
//! `clippy.toml` refuses the atomics and `UnsafeCell` by their path, and clippy looks through a
//! re-export but not through a type alias. So the atomics are aliases: the names below pass, and
//! `core::sync::atomic::AtomicU64` anywhere else is an error of the gate.
//!
//! # What differs under loom
//! loom's atomics have no `const fn new` and are larger than their value. A static holds one only
//! by `lazy_static`, which there is in such a build alone: it is new in each schedule. A pointer
//! into mapped memory cannot become one: [`crate::mem`] and [`crate::futex`] are left out of such a
//! build.

#[cfg(loom)]
pub use loom::lazy_static;
#[cfg(loom)]
pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub use loom::{cell::UnsafeCell, hint, thread};
#[cfg(not(loom))]
pub use std::sync::{Arc, Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub use std::{hint, thread};

#[cfg(not(loom))]
pub use cell::UnsafeCell;

/// Runs `body` once, and under every schedule with `--cfg loom`.
pub fn model(body: impl Fn() + Send + Sync + 'static) {
    #[cfg(loom)]
    loom::model(body);
    #[cfg(not(loom))]
    body();
}

/// Locks `mutex`, also where a thread panicked while it held the lock.
///
/// For values that are whole between any two statements that change them. A value that is not must
/// look at the poison itself: `mutex.lock()`.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The atomic integers, the orderings and the fence.
pub mod atomic {
    #[cfg(loom)]
    use loom::sync::atomic as source;
    #[cfg(not(loom))]
    use std::sync::atomic as source;

    pub use source::{Ordering, fence};

    macro_rules! alias {
        ($($(#[$doc:meta])* $name:ident;)*) => {$(
            $(#[$doc])*
            #[expect(clippy::disallowed_types, reason = "this is the shim that all others name")]
            pub type $name = source::$name;
        )*};
    }

    alias! {
        /// An atomic truth value.
        AtomicBool;
        /// An atomic 8-bit number.
        AtomicU8;
        /// An atomic 16-bit number.
        AtomicU16;
        /// An atomic 32-bit number, the size of a futex.
        AtomicU32;
        /// An atomic 64-bit number.
        AtomicU64;
        /// An atomic number of the size of a pointer.
        AtomicUsize;
    }

    /// An atomic pointer.
    #[expect(
        clippy::disallowed_types,
        reason = "this is the shim that all others name"
    )]
    pub type AtomicPtr<T> = source::AtomicPtr<T>;
}

#[cfg(not(loom))]
mod cell {
    /// A cell with loom's interface over the standard one: the pointer stays inside a closure,
    /// where a model can see how long it is used.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    #[expect(
        clippy::disallowed_types,
        reason = "this is the shim that all others name"
    )]
    pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    #[expect(
        clippy::disallowed_types,
        reason = "this is the shim that all others name"
    )]
    impl<T> UnsafeCell<T> {
        /// A cell that holds `value`.
        pub const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        /// Calls `read` with a pointer to read through.
        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get().cast_const())
        }

        /// Calls `write` with a pointer to read and write through.
        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::atomic::{AtomicU64, Ordering::Relaxed};
    use super::*;

    #[test]
    fn a_model_runs_its_body() {
        static RUNS: std::sync::OnceLock<()> = std::sync::OnceLock::new();
        model(|| {
            let count = Arc::new(AtomicU64::new(0));
            let other = Arc::clone(&count);
            let adder = thread::spawn(move || other.fetch_add(1, Relaxed));
            count.fetch_add(1, Relaxed);
            adder.join().unwrap();
            assert_eq!(count.load(Relaxed), 2);
            RUNS.get_or_init(|| ());
        });
        assert!(RUNS.get().is_some());
    }

    #[test]
    #[cfg(not(loom))]
    fn a_lock_outlives_the_panic_of_its_holder() {
        let value = Arc::new(Mutex::new(1));
        let held = Arc::clone(&value);
        let holder = thread::spawn(move || {
            let _guard = lock(&held);
            panic!("while the lock is held");
        });
        assert!(holder.join().is_err());
        assert_eq!(*lock(&value), 1);
    }
}
