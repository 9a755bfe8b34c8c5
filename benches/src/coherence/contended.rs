//! What a lease costs that two want at the same time: two processes, each in a loop, for a while.
//!
//! Under a lock for writing each side adds one to a word by a load and a store; the sum is compared
//! with what both say they did: a turn is lost where a lock let both in.
//!
//! Locks that no process can share are contended by two threads of this one, and named so.

use std::hint::black_box;
use std::sync::Barrier;

use anyhow::{anyhow, ensure};
use parking_lot::Mutex;
use pool_core::Nanos;
use pool_core::clock::{self, Deadline};
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::thread;
use serde::{Deserialize, Serialize};

use super::domain::Tool;
use super::locks::{CompareExchange, Exclusive, Lock, Read, Shared, Unit, Write};
use super::partner::{Partner, Side, Task, announce, meet, patience};
use super::pthread;
use super::uncontended::{ONE_WORD, ROBUST};
use crate::contest::{Better, Case, Contender, hold, nanos, number};
use crate::lock_file::version_of;
use crate::report::Report;

/// How long both are at it.
const SPAN: Nanos = Nanos::from_millis(200);
/// Times between two looks at the clock.
const TIMES: u64 = 64;
/// The unit that both want.
const UNIT: u32 = 3;
/// How many waits are kept at most.
const WAITS_MAX: usize = 1 << 21;

/// What both processes take and let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Rival {
    /// A lease for writing; each publishes what it changed.
    Exclusive,
    /// A lease for reading.
    Shared,
    /// The mutex of the C library.
    Robust,
    /// A counter that is raised by compare-exchange: the least that two processors can do.
    Word,
}

/// What one side did.
#[derive(Debug, Default)]
pub(super) struct Strife {
    pub(super) count: u64,
    /// How long each acquire took, in nanoseconds, where that was asked.
    waits: Vec<f64>,
}

/// What both did.
#[derive(Debug)]
struct Both {
    mine: Strife,
    theirs: u64,
}

/// What is made of it.
#[derive(Debug, Clone, Copy)]
enum Figure {
    Rate,
    /// The wait that so many of a thousand are no longer than.
    Wait(usize),
    /// The part of the side that got less, in percent.
    Share,
}

/// All cases of this part.
pub(super) fn measure(
    side: &Side<'_>,
    partner: &Partner,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (name, unit, better, figure) in [
        ("turns of both", "1/s", Better::Higher, Figure::Rate),
        ("median wait", "ns", Better::Lower, Figure::Wait(500)),
        (
            "99th percentile of the waits",
            "ns",
            Better::Lower,
            Figure::Wait(990),
        ),
        (
            "turns of the one that got fewer",
            "%",
            Better::Higher,
            Figure::Share,
        ),
    ] {
        let name = format!("exclusive, contended by 2: {name}");
        let case = Case::figure(name, unit, better);
        let ours = || processes(Rival::Exclusive, side, partner, figure);
        let peers = vec![
            Contender::new(ROBUST, || processes(Rival::Robust, side, partner, figure))
                .of(pthread::version()),
            Contender::new(ONE_WORD, || processes(Rival::Word, side, partner, figure)),
            Contender::new("parking_lot Mutex, 2 threads", || {
                threads(&Mutex::new(()), true, figure)
            })
            .of(version_of("parking_lot")),
            Contender::new("parking_lot RwLock, write, 2 threads", || {
                threads(&Write::default(), true, figure)
            })
            .of(version_of("parking_lot")),
        ];
        report.add(hold(&case, rounds, ours, peers)?)?;
    }
    let case = Case::rate("shared, by 2 at a time: leases of both");
    let ours = || processes(Rival::Shared, side, partner, Figure::Rate);
    let peer = Contender::new("parking_lot RwLock, read, 2 threads", || {
        threads(&Read::default(), false, Figure::Rate)
    });
    let peers = vec![peer.of(version_of("parking_lot"))];
    report.add(hold(&case, rounds, ours, peers)?)
}

/// This process and the other.
fn processes(
    rival: Rival,
    side: &Side<'_>,
    partner: &Partner,
    figure: Figure,
) -> anyhow::Result<f64> {
    announce(side.domain)?;
    partner.tell(Task::Strive(rival))?;
    let mine = strive_as(rival, side, matches!(figure, Figure::Wait(_)))?;
    let both = Both {
        theirs: partner.done()?,
        mine,
    };
    if matches!(rival, Rival::Exclusive | Rival::Robust) {
        both.check(side.domain.word(Tool::Count)?)?;
    }
    Ok(both.figure(figure))
}

/// One side, in whichever process.
pub(super) fn strive_as(rival: Rival, side: &Side<'_>, timed: bool) -> anyhow::Result<Strife> {
    let unit = Unit {
        member: &side.member,
        number: UNIT,
        line: side.domain.line(UNIT)?,
        until: patience(),
    };
    let count = side.domain.word(Tool::Count)?;
    let begin = || meet(side.domain);
    match rival {
        Rival::Exclusive => {
            let lock = Exclusive {
                unit,
                publishes: true,
            };
            strive(&lock, begin, || bump(count), timed)
        }
        Rival::Shared => strive(&Shared(unit), begin, || peek(count), timed),
        Rival::Robust => strive(&side.domain.mutex(0)?, begin, || bump(count), timed),
        Rival::Word => {
            let lock = CompareExchange::new(side.domain.word(Tool::Word(0))?);
            strive(&lock, begin, || (), timed)
        }
    }
}

/// Two threads of this process.
fn threads<L: Lock + Sync>(lock: &L, writes: bool, figure: Figure) -> anyhow::Result<f64> {
    let (meeting, count) = (Barrier::new(2), AtomicU64::new(0));
    let one = |timed| {
        let begin = || {
            meeting.wait();
            Ok(())
        };
        if writes {
            strive(lock, begin, || bump(&count), timed)
        } else {
            strive(lock, begin, || peek(&count), timed)
        }
    };
    let both = thread::scope(|scope| {
        let other = scope.spawn(|| one(false));
        let mine = one(matches!(figure, Figure::Wait(_)))?;
        let theirs = other.join().map_err(|_| anyhow!("a thread panicked"))??;
        anyhow::Ok(Both {
            mine,
            theirs: theirs.count,
        })
    })?;
    if writes {
        both.check(&count)?;
    }
    Ok(both.figure(figure))
}

/// Takes it, does what is done under it, lets go, until the time is over.
fn strive<L: Lock>(
    lock: &L,
    begin: impl FnOnce() -> anyhow::Result<()>,
    work: impl Fn(),
    timed: bool,
) -> anyhow::Result<Strife> {
    let mut waits = Vec::new();
    if timed {
        waits.reserve_exact(WAITS_MAX);
    }
    begin()?;
    let deadline = Deadline::after(SPAN);
    let mut count = 0;
    while !deadline.expired() {
        for _ in 0..TIMES {
            let start = timed.then(clock::now);
            let held = lock.acquire()?;
            if let Some(start) = start {
                let wait = clock::now().saturating_since(start);
                if waits.len() < WAITS_MAX {
                    waits.push(nanos(wait));
                }
            }
            work();
            lock.release(held)?;
        }
        count += TIMES;
    }
    Ok(Strife { count, waits })
}

/// Two steps on purpose: only a lock makes them one.
fn bump(count: &AtomicU64) {
    count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
}

fn peek(count: &AtomicU64) {
    black_box(count.load(Relaxed));
}

impl Both {
    /// Nobody was let in while the other was.
    fn check(&self, count: &AtomicU64) -> anyhow::Result<()> {
        let (counted, told) = (count.load(Relaxed), self.mine.count + self.theirs);
        ensure!(
            counted == told,
            "{told} turns were taken and {counted} counted"
        );
        Ok(())
    }

    fn figure(mut self, figure: Figure) -> f64 {
        let (mine, theirs) = (number(self.mine.count), number(self.theirs));
        match figure {
            Figure::Rate => (mine + theirs) * 1e9 / nanos(SPAN),
            Figure::Share => 100.0 * mine.min(theirs) / (mine + theirs),
            Figure::Wait(thousandth) => {
                let waits = &mut self.mine.waits;
                waits.sort_by(f64::total_cmp);
                let place = waits.len() * thousandth / 1000;
                waits.get(place).copied().unwrap_or(f64::NAN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_was_lost_is_found_out() {
        let both = Both {
            mine: Strife {
                count: 3,
                ..Strife::default()
            },
            theirs: 1,
        };
        assert!(both.check(&AtomicU64::new(3)).is_err());
        assert!(both.check(&AtomicU64::new(4)).is_ok());
        assert!(threads(&Mutex::new(()), true, Figure::Rate).is_ok());
    }

    #[test]
    fn the_smaller_part_is_of_the_whole() {
        let mine = Strife {
            count: 3,
            waits: (1..=1000).rev().map(f64::from).collect(),
        };
        let both = Both { mine, theirs: 1 };
        assert!((both.figure(Figure::Share) - 25.0).abs() < f64::EPSILON);
        let mine = Strife {
            count: 1,
            waits: (1..=1000).rev().map(f64::from).collect(),
        };
        let both = Both { mine, theirs: 1 };
        assert!((both.figure(Figure::Wait(500)) - 501.0).abs() < f64::EPSILON);
    }
}
