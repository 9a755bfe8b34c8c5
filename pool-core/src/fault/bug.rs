//! Which bug is planted: none or one in this process, and another one where a thread has its own.

use std::cell::Cell;
use std::sync::{LazyLock, PoisonError, RwLock};

static PLANTED: LazyLock<RwLock<Option<String>>> =
    LazyLock::new(|| RwLock::new(std::env::var("TIERPOOL_BUG").ok()));

thread_local! {
    static HERE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Plants the bug `name`, or none, in place of the one that was.
///
/// It is the process's: tests that plant bugs take turns, or run in processes of their own.
pub fn plant(name: Option<&str>) {
    // Not the shim's lock: loom has no static ones, and a model does not explore this.
    let mut planted = PLANTED.write().unwrap_or_else(PoisonError::into_inner);
    *planted = name.map(str::to_owned);
}

/// Plants the bug `name` for this thread alone, until what is returned is dropped, in place of the
/// process's. For tests of code that starts no threads: they run beside each other.
pub fn plant_here(name: &'static str) -> PlantedHere {
    PlantedHere(HERE.replace(Some(name)))
}

/// A bug that is planted for this thread: see [`plant_here`].
#[derive(Debug)]
#[must_use = "the bug is gone when this is dropped"]
pub struct PlantedHere(Option<&'static str>);

impl Drop for PlantedHere {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// Whether the bug `name` is planted; use [`crate::planted!`].
#[must_use]
pub fn planted(name: &'static str) -> bool {
    // A thread that ends has no bug of its own any more.
    if let Ok(Some(here)) = HERE.try_with(Cell::get) {
        return here == name;
    }
    let planted = PLANTED.read().unwrap_or_else(PoisonError::into_inner);
    planted.as_deref() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_there_while_it_is_planted_and_no_other() {
        assert!(!planted("test.bug"));
        plant(Some("test.bug"));
        assert!(planted("test.bug"));
        assert!(!planted("test.other"));
        plant(None);
        assert!(!planted("test.bug"));
    }

    #[test]
    fn a_bug_of_a_thread_is_no_other_threads_and_goes_with_a_panic() {
        let here = plant_here("test.here");
        assert!(planted("test.here"));
        let inner = std::panic::catch_unwind(|| {
            let _inner = plant_here("test.inner");
            assert!(planted("test.inner") && !planted("test.here"));
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(inner.is_err() && planted("test.here") && !planted("test.inner"));
        let elsewhere = std::thread::spawn(|| planted("test.here"));
        assert!(!elsewhere.join().expect("it looks"));
        drop(here);
        assert!(!planted("test.here"));
    }
}
