//! `dies ACT...`: gets ready for an act and tells what there is, does it when it is told to, and
//! ends as if it were killed: at the latest after the act.
//!
//! It tells of blocks by lines, each with an address: see [`super::acts`]. Then `ready`. It is told
//! `go HOW N [ADDRESS...]`, where `HOW` is
//! - a point, at the `N`th passing of which it ends;
//! - `-`: it ends after the act;
//! - `stops`: it stops before the act and after it;
//! - `stops-at:POINT`: it stops where it passes that point, and after the act.
//!
//! After the act it tells which points it passed, and how often.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use allocator::pool::PoolHeap;
use nix::sys::signal::{Signal, raise};
use pool_core::fault;

use crate::acts::Actor;
use crate::listen;

/// Where it stops.
static STOP: OnceLock<String> = OnceLock::new();

fn stop_at(point: &'static str) {
    if STOP.get().is_some_and(|stop| stop == point) {
        raise(Signal::SIGSTOP).unwrap();
    }
}

/// See the module.
pub(crate) fn dies(heap: PoolHeap, act: &[&str]) {
    let mut actor = Actor::new(heap);
    actor.prepare(act);
    println!("ready");
    let line = listen().unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let ["go", point, nth, ref given @ ..] = words[..] else {
        panic!("go POINT N [ADDRESS...]: {line}");
    };
    let hexadecimal = |word: &&str| usize::from_str_radix(word, 16).unwrap();
    let given: Vec<usize> = given.iter().map(hexadecimal).collect();
    let before: BTreeMap<_, _> = fault::reached().into_iter().collect();
    let stop = point.strip_prefix("stops-at:");
    if let Some(point) = stop {
        STOP.set(point.to_owned()).unwrap();
        fault::observe(Some(stop_at));
    }
    if stop.is_none() && !["-", "stops"].contains(&point) {
        fault::arm_crash(point, nth.parse().unwrap());
    }
    if point == "stops" {
        raise(Signal::SIGSTOP).unwrap();
    }
    actor.act(act, &given);
    if stop.is_some() || point == "stops" {
        raise(Signal::SIGSTOP).unwrap();
    }
    for (name, passings) in fault::reached() {
        let passings = passings - before.get(name).unwrap_or(&0);
        if passings != 0 {
            println!("passed {name} {passings}");
        }
    }
    // No destructor runs, as after a kill.
    std::process::exit(0);
}
