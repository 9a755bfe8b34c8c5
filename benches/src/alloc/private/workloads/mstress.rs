//! After mimalloc's stress test: threads that come and go, blocks that live for a moment, a while
//! or as long as their thread, and a shared array through which they get into other hands. Most are
//! small, a few are large; each is written to its end and looked at before it goes back.

use pool_core::sync::thread::scope;

use super::super::super::watch::Watch;
use super::super::crew::joined;
use super::super::heap::{Block, Slot};
use super::{Calls, Done, Random, Task, Times};

/// Blocks of a thread that come and go.
const PLACES: usize = 5_000;
/// Blocks of a thread that stay until it ends.
const RETAINED: usize = 500;
const SHARED: usize = 1_000;
/// Blocks that a thread takes before it ends.
pub(super) const LIFE: usize = 25_000;
const SMALL: usize = 256;
const LARGE: usize = 64 << 10;

pub(super) fn run<C: Calls>(task: Task) -> Done {
    let shared = super::desk(SHARED);
    let mut lives: Vec<Life<C>> = (0..task.threads).map(Life::new).collect();
    let watch = Watch::start();
    for _ in 0..task.rounds(LIFE) {
        scope(|scope| {
            let mut threads: [_; MOST_THREADS] = [const { None }; MOST_THREADS];
            for (thread, life) in threads.iter_mut().zip(&mut lives) {
                *thread = Some(scope.spawn(|| life.live(&shared)));
            }
            for thread in threads.into_iter().flatten() {
                joined(thread.join());
            }
        });
    }
    let span = watch.stop();
    for block in shared.iter().filter_map(|slot| slot.swap(None)) {
        block.free();
    }
    let times = lives.into_iter().map(|life| life.calls.times());
    Done {
        operations: task.operations,
        span,
        times: times.fold(Times::default(), Times::merged),
    }
}

/// So that their handles need no allocation.
const MOST_THREADS: usize = 8;

struct Life<C> {
    calls: C,
    random: Random,
    places: Vec<Option<Block>>,
    retained: Vec<Option<Block>>,
}

impl<C: Calls> Life<C> {
    fn new(thread: usize) -> Self {
        Self {
            calls: C::default(),
            random: Random::of(thread),
            places: super::places(PLACES),
            retained: super::places(RETAINED),
        }
    }

    fn live(&mut self, shared: &[Slot]) {
        for turn in 0..LIFE {
            let block = self.take();
            let place = self.random.below(PLACES);
            let old = match self.random.below(8) {
                // Into other hands.
                0 => shared[self.random.below(SHARED)].swap(Some(block)),
                // Until the end.
                1 if turn % (LIFE / RETAINED) < 4 => {
                    let kept = &mut self.retained[turn * RETAINED / LIFE];
                    kept.replace(block)
                }
                // For a moment.
                2 => Some(block),
                _ => self.places[place].replace(block),
            };
            if let Some(old) = old {
                self.give_back(old);
            }
        }
        // Half stays for the thread that comes next.
        let (now, _) = self.places.split_at_mut(PLACES / 2);
        self.calls.free_all(now);
        self.calls.free_all(&mut self.retained);
    }

    fn take(&mut self) -> Block {
        let most = match self.random.below(100) {
            0 => LARGE,
            _ => SMALL,
        };
        let mut block = self.calls.malloc(self.random.size(8, most));
        block.fill();
        block
    }

    fn give_back(&mut self, block: Block) {
        assert!(block.is_filled(), "a block was given to two");
        self.calls.free(block);
    }
}
