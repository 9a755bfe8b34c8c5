//! What a simulation needs of the code it runs: to be asked at each crash point, and to say what
//! the time is.

use std::cell::Cell;
use std::sync::{PoisonError, RwLock};

use crate::units::Nanos;

// Not the shim's lock: loom has no static ones, and a model does not explore this.
static OBSERVER: RwLock<Option<fn(&'static str)>> = RwLock::new(None);

thread_local! {
    static TIME: Cell<Option<Nanos>> = const { Cell::new(None) };
}

/// Has `observer` called at each passing of a crash point by any thread of the process, in place of
/// the one that was. It is called with no lock held, and may unwind: a thread that dies there.
pub fn observe(observer: Option<fn(&'static str)>) {
    *OBSERVER.write().unwrap_or_else(PoisonError::into_inner) = observer;
}

pub(super) fn tell(name: &'static str) {
    let observer = *OBSERVER.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(observer) = observer {
        observer(name);
    }
}

/// Makes `time` what [`crate::clock::now`] tells this thread, or gives it the clock back.
///
/// Only [`crate::clock`] looks at it: the kernel waits and sleeps by its own clock.
pub fn set_time(time: Option<Nanos>) {
    TIME.set(time);
}

/// The time that was set for this thread.
pub(crate) fn time() -> Option<Nanos> {
    TIME.get()
}
