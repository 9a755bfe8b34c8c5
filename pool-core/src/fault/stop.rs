//! Threads of a model that end at a crash point.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use crate::sync::thread::{self, ThreadId};

/// Which threads end where.
// Not the shim's lock: loom has no static ones, and this is no part of what a model explores.
static STOPS: RwLock<Vec<(ThreadId, &'static str)>> = RwLock::new(Vec::new());

/// What a thread unwinds with that ends at its point.
struct Stopped;

fn stops() -> RwLockWriteGuard<'static, Vec<(ThreadId, &'static str)>> {
    STOPS.write().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` up to where it passes the crash point `point` first. What it answers, or none where
/// it came to that point. For code without destructors that others could see.
pub fn stopping_at<T>(point: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    let own = thread::current().id();
    stops().push((own, point));
    let done = catch_unwind(AssertUnwindSafe(work));
    stops().retain(|(thread, _)| *thread != own);
    match done {
        Ok(done) => Some(done),
        Err(cause) if cause.is::<Stopped>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// Passes the point `name`, unless the thread is to end there.
pub fn crash_point(name: &'static str) {
    let stops = STOPS.read().unwrap_or_else(PoisonError::into_inner);
    let is_one = stops.iter().any(|(_, point)| *point == name);
    // Only where a model has asked for it is the thread one of a model.
    let is_own = is_one && stops.contains(&(thread::current().id(), name));
    drop(stops);
    if is_own {
        // Without a message for each schedule.
        resume_unwind(Box::new(Stopped));
    }
}
