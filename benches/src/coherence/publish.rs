//! What it costs to be granted what another process has just published: its descriptor and its
//! contents lie in the other processor's cache.
//!
//! The other process takes every one of [`UNITS`] units for writing, changes a word of it, and
//! publishes it; then this one takes them all for reading and reads the word. What takes time is
//! taken of all of them together.

use std::hint::black_box;

use anyhow::ensure;
use pool_core::sync::atomic::Ordering::{Acquire, Release};

use super::contended::Rival;
use super::domain::{TOOLS, Tool};
use super::locks::{CompareExchange, Exclusive, Lock, Shared, Unit};
use super::partner::{Partner, Side, Task, announce, meet, patience, spin};
use super::pthread;
use super::uncontended::{ONE_WORD, ROBUST};
use crate::contest::{Case, Contender, hold, median, timed};
use crate::report::Report;

/// How many units are published at a time. Their lines fit the cache of a processor.
const UNITS: u32 = TOOLS;
/// How often all of them.
const TURNS: u32 = 31;

/// The units of a domain of this part.
pub(super) const UNITS_MIN: u32 = UNITS;

/// All cases of this part.
pub(super) fn measure(
    side: &Side<'_>,
    partner: &Partner,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let case = Case::time("acquire, read and release what another published", "ns");
    let ours = || acquire(side, partner, Rival::Shared);
    let peers = vec![
        Contender::new(ROBUST, || acquire(side, partner, Rival::Robust)).of(pthread::version()),
        Contender::new(ONE_WORD, || acquire(side, partner, Rival::Word)),
    ];
    report.add(hold(&case, rounds, ours, peers)?)
}

/// Nanoseconds for one unit.
fn acquire(side: &Side<'_>, partner: &Partner, rival: Rival) -> anyhow::Result<f64> {
    announce(side.domain)?;
    partner.tell(Task::Publish(rival))?;
    let turn = side.domain.futex(Tool::Turn)?;
    let mut times = Vec::new();
    meet(side.domain)?;
    for now in 0..TURNS {
        spin(|| turn.load(Acquire) == 2 * now + 1)?;
        let (time, done) = timed(|| take_all(side, rival, now));
        done?;
        times.push(time / f64::from(UNITS));
        // Release pairs with the acquire of the other.
        turn.store(2 * now + 2, Release);
    }
    partner.done()?;
    Ok(median(&times))
}

fn take_all(side: &Side<'_>, rival: Rival, now: u32) -> anyhow::Result<()> {
    let until = patience();
    for number in 0..UNITS {
        let object = side.domain.object(number, 8)?;
        let expected = u64::from(now) + 1;
        match rival {
            Rival::Shared | Rival::Exclusive => {
                let unit = Unit {
                    member: &side.member,
                    number,
                    line: side.domain.line(number)?,
                    until,
                };
                let lock = Shared(unit);
                let held = lock.acquire()?;
                let found = object.peek();
                lock.release(held)?;
                ensure!(found == expected, "found {found}, published {expected}");
            }
            Rival::Robust => {
                let lock = side.domain.mutex(number)?;
                lock.acquire()?;
                let found = object.peek();
                lock.unlock()?;
                ensure!(found == expected, "found {found}, published {expected}");
            }
            Rival::Word => {
                CompareExchange::new(side.domain.word(Tool::Word(number))?).acquire()?;
                black_box(object.peek());
            }
        }
    }
    Ok(())
}

/// The other side.
pub(super) fn publish(side: &Side<'_>, rival: Rival) -> anyhow::Result<u64> {
    let turn = side.domain.futex(Tool::Turn)?;
    meet(side.domain)?;
    for now in 0..TURNS {
        spin(|| turn.load(Acquire) == 2 * now)?;
        publish_all(side, rival, now)?;
        turn.store(2 * now + 1, Release);
    }
    // The last turn is the other's.
    spin(|| turn.load(Acquire) == 2 * TURNS)?;
    Ok(u64::from(TURNS))
}

fn publish_all(side: &Side<'_>, rival: Rival, now: u32) -> anyhow::Result<()> {
    let until = patience();
    for number in 0..UNITS {
        let object = side.domain.object(number, 8)?;
        let value = u64::from(now) + 1;
        match rival {
            Rival::Shared | Rival::Exclusive => {
                let unit = Unit {
                    member: &side.member,
                    number,
                    line: side.domain.line(number)?,
                    until,
                };
                let lock = Exclusive {
                    unit,
                    publishes: true,
                };
                let held = lock.acquire()?;
                object.write(value);
                lock.release(held)?;
            }
            Rival::Robust => {
                let lock = side.domain.mutex(number)?;
                lock.acquire()?;
                object.write(value);
                lock.unlock()?;
            }
            Rival::Word => {
                object.write(value);
                CompareExchange::new(side.domain.word(Tool::Word(number))?).acquire()?;
            }
        }
    }
    Ok(())
}
