//! Threads that work at the same time, and the watch that runs while they do.
//!
//! # Protocol
//! The first member of a crew is the thread that calls [`together`], so that a crew of one is a
//! program that has never had a second thread. All prepare, then they meet; the first starts the
//! watch, and they meet again; all work, and meet for the last time; the first stops the watch.
//! What is prepared is dropped after that. Whoever waits sleeps, so that waiting takes no processor
//! time.

use pool_core::sync::{Condvar, Mutex, lock, thread};

use super::super::times::Times;
use super::super::watch::{Span, Watch};
use super::calls::Calls;

/// What a worker is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) threads: usize,
    /// Of all threads together; a multiple of their number.
    pub(super) operations: u64,
}

impl Task {
    /// About `operations`, so that each thread has whole units of `unit` and one at least.
    pub(super) fn new(threads: usize, operations: u64, unit: usize) -> Self {
        let unit = (unit * threads) as u64;
        Self {
            threads,
            operations: (operations / unit).max(1) * unit,
        }
    }

    /// Operations of one of `members`.
    pub(super) fn share(self, members: usize) -> u64 {
        self.operations / members as u64
    }

    /// How many units of `unit` each thread does.
    pub(super) fn rounds(self, unit: usize) -> u64 {
        self.share(self.threads) / unit as u64
    }
}

/// How long it took, and how long single calls took.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) operations: u64,
    pub(super) span: Span,
    pub(super) times: Times,
}

/// Lets `task.threads` work at the same time: each is given its number, prepares, and works.
pub(super) fn together<C: Calls, S>(
    task: Task,
    prepare: impl Fn(usize) -> S + Sync,
    work: impl Fn(&mut C, &mut S) + Sync,
) -> Done {
    let gate = Gate::new(task.threads);
    let member = |number| {
        let (mut calls, mut state) = (C::default(), prepare(number));
        gate.meet();
        let watch = (number == 0).then(Watch::start);
        gate.meet();
        work(&mut calls, &mut state);
        gate.meet();
        (watch.map(Watch::stop), calls.times())
    };
    thread::scope(|scope| {
        let member = &member;
        let others: Vec<_> = (1..task.threads)
            .map(|number| scope.spawn(move || member(number).1))
            .collect();
        let (span, mut times) = member(0);
        for other in others {
            times = times.merged(joined(other.join()));
        }
        Done {
            operations: task.operations,
            span: span.unwrap_or_else(Span::now),
            times,
        }
    })
}

/// What a thread yields; where it panicked, so does this one.
pub(super) fn joined<T>(ended: thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Where a number of threads wait for each other, again and again.
#[derive(Debug)]
pub(super) struct Gate {
    members: u64,
    /// How often somebody came.
    arrivals: Mutex<u64>,
    opened: Condvar,
}

impl Gate {
    pub(super) fn new(members: usize) -> Self {
        Self {
            members: members as u64,
            arrivals: Mutex::new(0),
            opened: Condvar::new(),
        }
    }

    /// Waits until all are here.
    pub(super) fn meet(&self) {
        let mut arrivals = lock(&self.arrivals);
        *arrivals += 1;
        let all = arrivals.next_multiple_of(self.members);
        if *arrivals == all {
            self.opened.notify_all();
            return;
        }
        while *arrivals < all {
            arrivals = self
                .opened
                .wait(arrivals)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::Plain;
    use super::*;
    use pool_core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn nobody_works_before_all_have_prepared() {
        let (prepared, early) = (AtomicU64::new(0), AtomicU64::new(0));
        let task = Task::new(3, 4, 1);
        let done = together::<Plain, _>(
            task,
            |number| {
                prepared.fetch_add(1, Relaxed);
                number
            },
            |_, _| {
                early.fetch_add(3 - prepared.load(Relaxed), Relaxed);
            },
        );
        assert_eq!((done.operations, early.load(Relaxed)), (3, 0));
    }
}
