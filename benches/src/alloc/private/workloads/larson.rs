//! After Larson and Krishnan: a server whose threads replace objects of random sizes at random, and
//! hand what they hold to a successor when they end. An object is mostly freed by another thread
//! than the one that took it.
//!
//! Starting a thread takes a few blocks for the thread itself; that is part of what is measured.

use pool_core::sync::thread::{Scope, scope};
use pool_core::sync::{Mutex, lock};

use super::super::super::watch::Watch;
use super::super::heap::Block;
use super::{Calls, Done, Random, Task, Times};

/// Objects that one thread holds.
const OBJECTS: usize = 5_000;
/// Objects that a thread replaces before it hands on.
pub(super) const TURN: usize = 50_000;
const LEAST: usize = 8;
const MOST: usize = 1_000;

/// What is handed on.
struct Estate<C> {
    objects: Vec<Option<Block>>,
    random: Random,
    calls: C,
    turns: u64,
}

pub(super) fn run<C: Calls>(task: Task) -> Done {
    let mut estates: Vec<_> = (0..task.threads)
        .map(|thread| {
            let mut random = Random::of(thread);
            let mut calls = C::default();
            let fill = |_| Some(calls.malloc(random.between(LEAST, MOST)));
            Estate {
                objects: (0..OBJECTS).map(fill).collect(),
                random,
                calls,
                turns: task.rounds(TURN),
            }
        })
        .collect();
    let times = Mutex::new(Times::default());
    let watch = Watch::start();
    scope(|scope| {
        for estate in estates.drain(..) {
            let times = &times;
            scope.spawn(move || serve(scope, estate, times));
        }
    });
    let span = watch.stop();
    let times = std::mem::take(&mut *lock(&times));
    Done {
        operations: task.operations,
        span,
        times,
    }
}

fn serve<'scope, C: Calls + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut estate: Estate<C>,
    times: &'scope Mutex<Times>,
) {
    for _ in 0..TURN {
        let place = estate.random.below(OBJECTS);
        let bytes = estate.random.between(LEAST, MOST);
        estate.calls.replace(&mut estate.objects[place], bytes);
    }
    estate.turns -= 1;
    if estate.turns > 0 {
        scope.spawn(move || serve(scope, estate, times));
        return;
    }
    estate.calls.free_all(&mut estate.objects);
    let mut all = lock(times);
    *all = std::mem::take(&mut *all).merged(estate.calls.times());
}
