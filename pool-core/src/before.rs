//! What was in a place before this process put its own there, where several threads may do so at
//! once: the second one would find what the first one has put there, and take it for what was
//! before.

use std::sync::OnceLock;

use crate::planted;
use crate::sync::{Mutex, hint, lock};

/// See the module.
#[derive(Debug)]
pub(crate) struct Before<T> {
    kept: OnceLock<T>,
    replacing: Mutex<()>,
}

impl<T> Before<T> {
    /// Nothing was replaced yet.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            kept: OnceLock::new(),
            replacing: Mutex::new(()),
        }
    }

    /// Nothing was replaced yet.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            kept: OnceLock::new(),
            replacing: Mutex::new(()),
        }
    }

    /// Has it replaced, once, and keeps what that returns: what was there before.
    ///
    /// # Errors
    /// Where it could not be replaced. It can be tried again.
    pub(crate) fn replace<E>(&self, replace: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
        let is_alone = !planted!("before.is_replaced_twice");
        let _one_at_a_time = is_alone.then(|| lock(&self.replacing));
        if self.kept.get().is_none() {
            // Nobody else has kept one meanwhile.
            let _kept = self.kept.set(replace()?);
        }
        Ok(())
    }

    /// What was there before. Who asks while it is being replaced waits until that is known; it was
    /// replaced, or is being so.
    pub(crate) fn wait(&self) -> &T {
        loop {
            match self.kept.get() {
                Some(before) => return before,
                None => hint::spin_loop(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicUsize;
    use crate::sync::atomic::Ordering::AcqRel;
    use crate::sync::{Arc, model, thread};

    const OURS: usize = 7;

    /// Catches: before.is_replaced_twice
    #[test]
    fn what_two_threads_put_there_at_once_is_not_what_was_there_before() {
        model(|| {
            let all = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), Before::new()));
            let put = |(place, said, before): &(AtomicUsize, AtomicUsize, Before<usize>)| {
                // What is kept is no word that the model sees: threads meet here.
                said.fetch_add(1, AcqRel);
                let replaced = before.replace(|| {
                    let found = place.swap(OURS, AcqRel);
                    // Another thread may come to say first what it has found.
                    said.fetch_add(1, AcqRel);
                    Ok::<_, ()>(found)
                });
                assert_eq!(replaced, Ok(()));
                assert_eq!(*before.wait(), 0);
            };
            let theirs = Arc::clone(&all);
            let other = thread::spawn(move || put(&theirs));
            put(&all);
            other.join().unwrap();
        });
    }

    #[test]
    fn what_could_not_be_replaced_is_tried_again() {
        model(|| {
            let before = Before::new();
            assert_eq!(before.replace(|| Err("it is held")), Err("it is held"));
            assert_eq!(before.replace(|| Ok::<_, ()>(1)), Ok(()));
            assert_eq!(before.replace(|| Ok::<_, ()>(2)), Ok(()), "once");
            assert_eq!(*before.wait(), 1);
        });
    }
}
