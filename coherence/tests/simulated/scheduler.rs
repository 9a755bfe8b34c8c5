//! One thread at a time: the baton, who has it next, and where a thread hands it on.
//!
//! The threads are real ones, but all except one wait for their turn. The one that runs passes
//! *points*: before each operation, at each crash point of the crate, where it would sleep or wake.
//! At each of them the seed says whether it goes on, dies, or another one runs. So what happens
//! follows from the seed alone, whatever the operating system does.
//!
//! Time is the number of points that were passed: a nanosecond each. Where all sleep it leaps to
//! the end of the first sleep.
//!
//! A thread may hold a lock of the code that is tested when it hands the baton on; what waits for
//! such a lock would wait for ever. Only threads of the same member can, so they are not chosen
//! until the holder has passed its next point ([`Strand::is_locking`]).

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;

use coherence::Wait;
use pool_core::clock::Deadline;
use pool_core::rng::Rng;
use pool_core::sync::Arc;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::sync::atomic::{AtomicU32, AtomicUsize};
use pool_core::sync::thread::{self, Thread};

use crate::world::World;

/// How often, in steps, it is drawn anew which threads are hardly ever chosen.
const UNEVEN_STEPS: u32 = 500;

/// The right to run.
#[derive(Debug, Default)]
pub(crate) struct Baton {
    turn: AtomicUsize,
    threads: OnceLock<Vec<Thread>>,
}

impl Baton {
    /// Nobody's, until it is handed to somebody.
    pub(crate) fn new() -> Self {
        Self {
            turn: AtomicUsize::new(usize::MAX),
            threads: OnceLock::new(),
        }
    }

    /// All who may have it, in their order.
    pub(crate) fn register(&self, threads: Vec<Thread>) {
        self.threads.set(threads).expect("threads register once");
    }

    pub(crate) fn hand_to(&self, next: usize) {
        let threads = self.threads.get().expect("the threads are registered");
        // Release pairs with the acquire in `wait_for`.
        self.turn.store(next, Release);
        threads[next].unpark();
    }

    pub(crate) fn wait_for(&self, me: usize) {
        while self.turn.load(Acquire) != me {
            thread::park();
        }
    }
}

/// Whether a thread can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    Ready,
    /// On the event of a unit since it was `seen`, at most until a time.
    Asleep {
        unit: u32,
        seen: u32,
        until: u64,
    },
    /// It is cut off because it does nothing, until a time.
    Stuck {
        until: u64,
    },
    /// Until somebody has something for it.
    Idle,
    /// It has nothing more to do.
    Done,
    /// It has ended.
    Gone,
}

/// One thread, to the scheduler.
#[derive(Debug)]
pub(crate) struct Strand {
    /// Whose thread it is: 0 is the daemon's host.
    pub(crate) host: usize,
    pub(crate) stand: Stand,
    /// The unit it is busy with.
    pub(crate) unit: u32,
    /// Since when it is in a lease call.
    pub(crate) called: Option<u64>,
    /// It may hold a lock of its member.
    pub(crate) is_locking: bool,
}

/// Who runs when.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) strands: Vec<Strand>,
    switched_once_in: u32,
    is_uneven: bool,
    /// A bit for each thread that is hardly ever chosen.
    slow: u64,
}

impl Schedule {
    pub(crate) fn new(rng: Rng, strands: Vec<Strand>, switches: u32, is_uneven: bool) -> Self {
        Self {
            rng,
            now: 0,
            strands,
            switched_once_in: switches,
            is_uneven,
            slow: 0,
        }
    }

    /// Who runs now that `me` has come to a point, or `None` where nobody ever will.
    pub(crate) fn pick(&mut self, me: usize) -> Option<usize> {
        if self.is_uneven && self.rng.once_in(UNEVEN_STEPS) {
            self.slow = self.rng.number() & self.rng.number();
        }
        if self.strands[me].stand == Stand::Ready && !self.rng.once_in(self.switched_once_in) {
            return Some(me);
        }
        let mut able = self.able();
        if able.is_empty() {
            let first = self.strands.iter().filter_map(|strand| match strand.stand {
                Stand::Asleep { until, .. } | Stand::Stuck { until } => Some(until),
                _ => None,
            });
            self.now = first.min()?.max(self.now);
            able = self.able();
        }
        let quick: Vec<_> = able
            .iter()
            .copied()
            .filter(|thread| self.slow & (1 << thread) == 0)
            .collect();
        let among = if quick.is_empty() || self.rng.once_in(64) {
            &able
        } else {
            &quick
        };
        let chosen = self.rng.below(among.len() as u64);
        among.get(crate::memory::small(chosen)).copied()
    }

    fn able(&self) -> Vec<usize> {
        let strands = self.strands.iter().enumerate();
        let able = strands.filter(|(thread, strand)| {
            let runs = match strand.stand {
                Stand::Ready => true,
                Stand::Asleep { until, .. } | Stand::Stuck { until } => until <= self.now,
                _ => false,
            };
            runs && !self.is_locked_out(*thread)
        });
        able.map(|(thread, _)| thread).collect()
    }

    fn is_locked_out(&self, thread: usize) -> bool {
        let host = self.strands[thread].host;
        let mut others = self.strands.iter().enumerate();
        others.any(|(other, strand)| other != thread && strand.host == host && strand.is_locking)
    }
}

thread_local! {
    static HERE: RefCell<Option<(Arc<World>, usize)>> = const { RefCell::new(None) };
    static IS_ORDERED: Cell<bool> = const { Cell::new(true) };
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Makes this thread the thread `me` of `world`.
pub(crate) fn enter(world: Arc<World>, me: usize) {
    HERE.set(Some((world, me)));
}

fn here() -> Option<(Arc<World>, usize)> {
    HERE.with_borrow(Clone::clone)
}

/// Passes the crash point `name`: the observer of all of them. A thread of no world goes on.
pub(crate) fn pass(name: &'static str) {
    if let Some((world, me)) = here() {
        world.pass(me, name);
    }
}

/// Passes the point before a word of a line is stored to memory.
pub(crate) fn pass_in_line() {
    if !IS_QUIET.get() {
        pass("in a line");
    }
}

/// Runs `death` without passing points: what a dead host's cache does is one step.
pub(crate) fn quietly<T>(death: impl FnOnce() -> T) -> T {
    IS_QUIET.set(true);
    let done = death();
    IS_QUIET.set(false);
    done
}

/// Whether what reaches memory now was asked for by this thread.
pub(crate) fn is_ordered() -> bool {
    IS_ORDERED.get()
}

/// Says whether what reaches memory from now on was asked for by this thread.
pub(crate) fn set_ordered(is_ordered: bool) {
    IS_ORDERED.set(is_ordered);
}

/// Sleeping and waking, by the baton.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatonWait;

impl Wait for BatonWait {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        let (world, me) = here().expect("only threads of a world sleep");
        // Between the second look and the kernel's.
        world.pass(me, "to sleep");
        if word.load(Relaxed) == seen {
            world.sleep(me, word, seen, until.time().get());
        }
    }

    fn wake_all(&self, word: &AtomicU32) {
        let (world, me) = here().expect("only threads of a world wake");
        // Between the event and the waking.
        world.pass(me, "to wake");
        world.wake(me, word);
    }
}
