//! A client of the demonstration, in its own process: a process attaches to one pool at a time.
//!
//! It does what comes in on standard input, an [`Order`] a line, and answers each by a line. It
//! ends with its input, so that none outlives the demonstration.
//!
//! It writes one word of each page and nothing else, and so do all others: where that word is not
//! what somebody else wrote, or zero, nobody's memory has come to light in that page. All bytes
//! would say no more, and take their time in a program that is not optimised.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use client_sdk::{
    AccessError, AttachOptions, Bytes, Create, Error, ErrorClass, Event, Events, Pool, Reason,
    Segment,
};
use pool_core::clock::Deadline;
use pool_core::units::PAGE_BYTES;
use pool_core::{EXTENT_BYTES, Nanos};

use super::order::{Order, Refusal, Said, Slot};
use crate::error::CtlError;
use crate::output::Output;

/// The words of an extent.
const WORDS: usize = 1 << 18;
/// From one word that is written to the next.
const APART: usize = 1 << 9;
const _: () = assert!(WORDS as u64 * 8 == EXTENT_BYTES && APART as u64 * 8 == PAGE_BYTES);

/// Does what comes in until nothing more does.
pub(in super::super) fn run(socket: &Path, output: &mut Output) -> Result<(), CtlError> {
    let options = AttachOptions::new().socket(socket).wait_for_daemon(true);
    let pool = match Pool::attach(&options) {
        Ok(pool) => pool,
        Err(error) => return output.json(&refused(&error)),
    };
    let client = pool.id().number();
    output.json(&Said::Attached { client })?;
    let mut led = Led {
        events: pool.events(),
        pool,
        held: BTreeMap::new(),
    };
    for line in io::stdin().lines() {
        let line = line.map_err(|source| CtlError::Machine { source })?;
        let said = match serde_json::from_str(&line) {
            Ok(order) => led.does(order).unwrap_or_else(|error| refused(&error)),
            Err(error) => Said::Refused {
                why: error.to_string(),
                is: Refusal::Other,
            },
        };
        output.json(&said)?;
    }
    Ok(())
}

fn refused(error: &Error) -> Said {
    let is = match (error.reason(), error.class()) {
        (Some(Reason::TierFull), _) => Refusal::Full,
        (_, ErrorClass::Lost) => Refusal::Lost,
        _ => Refusal::Other,
    };
    Said::Refused {
        why: error.to_string(),
        is,
    }
}

/// A session, and what it holds.
struct Led {
    pool: Pool,
    events: Events,
    held: BTreeMap<Slot, Held>,
}

/// A segment, and the extents of it that it was told are lost.
struct Held {
    segment: Segment,
    damaged: Vec<(Bytes, Bytes)>,
}

impl Led {
    fn does(&mut self, order: Order) -> Result<Said, Error> {
        match order {
            Order::Hold {
                slot,
                bytes,
                wait_ms,
            } => {
                let tier = match slot {
                    Slot::Local => super::LOCAL_TIER,
                    Slot::Far | Slot::Probe => super::FAR_TIER,
                };
                let create = Create::new(tier, Bytes::new(bytes));
                let create = create.wait(Duration::from_millis(wait_ms));
                let segment = self.pool.create(&create)?;
                let number = segment.id().number();
                let damaged = Vec::new();
                self.held.insert(slot, Held { segment, damaged });
                Ok(Said::Held { segment: number })
            }
            Order::Free { slot } => {
                self.held.remove(&slot);
                Ok(Said::Done)
            }
            Order::Fill { slot, seed } => {
                self.with(slot, |held| held.fill(seed).map(|()| Said::Done))
            }
            Order::Holds { slot, seed } => self.with(slot, |held| {
                held.holds(|extent| word(seed, extent)).map(Said::Truth)
            }),
            Order::IsZero { slot } => self.with(slot, |held| held.holds(|_| 0).map(Said::Truth)),
            Order::Event { wait_ms } => self.hear(Deadline::after(Nanos::from_millis(wait_ms))),
        }
    }

    fn with(
        &self,
        slot: Slot,
        act: impl FnOnce(&Held) -> Result<Said, AccessError>,
    ) -> Result<Said, Error> {
        match self.held.get(&slot) {
            Some(held) => Ok(act(held)?),
            None => Ok(Said::Nothing),
        }
    }

    /// Waits for something to be lost of what it holds; other events tell of nothing here.
    fn hear(&mut self, deadline: Deadline) -> Result<Said, Error> {
        loop {
            let left = Duration::from_nanos(deadline.remaining().get());
            match self.events.next(left)? {
                Some(Event::Lost { segment }) => {
                    let lost = |held: &Held| held.segment.id() == segment;
                    if let Some(slot) = self.slot_where(lost) {
                        return Ok(Said::Lost { slot });
                    }
                }
                Some(Event::Damaged {
                    segment,
                    offset,
                    len,
                }) => {
                    let hurt = |held: &Held| held.segment.id() == segment;
                    let Some(slot) = self.slot_where(hurt) else {
                        continue;
                    };
                    if let Some(held) = self.held.get_mut(&slot) {
                        held.damaged.push((offset, len));
                    }
                    return Ok(Said::Damaged {
                        slot,
                        offset: offset.get(),
                        bytes: len.get(),
                    });
                }
                Some(_) => {}
                None => return Ok(Said::Nothing),
            }
        }
    }

    fn slot_where(&self, is: impl Fn(&Held) -> bool) -> Option<Slot> {
        let found = self.held.iter().find(|(_, held)| is(held));
        found.map(|(&slot, _)| slot)
    }
}

impl Held {
    /// Where its extents begin, and the number of each.
    fn extents(&self) -> impl Iterator<Item = (u64, Bytes)> + use<> {
        let count = self.segment.bytes().get() / EXTENT_BYTES;
        (0..count).map(|number| (number, Bytes::new(number * EXTENT_BYTES)))
    }

    fn fill(&self, seed: u64) -> Result<(), AccessError> {
        for (number, offset) in self.extents() {
            let view = self.segment.view_mut::<u64>(offset, WORDS)?;
            for page in (0..WORDS).step_by(APART) {
                view.set(page, word(seed, number))?;
            }
        }
        Ok(())
    }

    /// Whether each page of each extent is as `expected` says, where nothing was told lost.
    fn holds(&self, expected: impl Fn(u64) -> u64) -> Result<bool, AccessError> {
        for (number, offset) in self.extents() {
            let is_hurt = |&(begin, len): &(Bytes, Bytes)| {
                (begin.get()..begin.get().saturating_add(len.get())).contains(&offset.get())
            };
            if self.damaged.iter().any(is_hurt) {
                continue;
            }
            let view = self.segment.view::<u64>(offset, WORDS)?;
            for page in (0..WORDS).step_by(APART) {
                if view.get(page)? != expected(number) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// What is written into an extent: never zero, and another one in each.
const fn word(seed: u64, extent: u64) -> u64 {
    seed << 32 | (extent + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_another_one_in_each_extent_and_of_each_seed() {
        assert_ne!(word(1, 0), word(1, 1));
        assert_ne!(word(1, 0), word(2, 0));
        assert_ne!(word(0, 0), 0);
    }

    #[test]
    fn orders_and_answers_are_read_as_they_were_written() {
        let order = Order::Hold {
            slot: Slot::Far,
            bytes: 4,
            wait_ms: 5,
        };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(line, r#"{"hold":{"slot":"far","bytes":4,"wait_ms":5}}"#);
        let said = Said::Damaged {
            slot: Slot::Far,
            offset: 1,
            bytes: 2,
        };
        let line = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Said>(&line).unwrap(), said);
    }
}
