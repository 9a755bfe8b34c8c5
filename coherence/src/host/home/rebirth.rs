//! The home's beginning, from what its journal says, and the proof that its state is sound.

use std::collections::BTreeMap;

use pool_core::Nanos;

use super::{Gathered, Home, HomeLimits, HomeOutput, Host, is_slot};
use crate::host::message::{NUMBER_MAX, Tell};
use crate::host::refusal::Counts;
use crate::host::row::{Record, Row, Standing, State};
use crate::host::timer::Timer;

/// The journal contradicts itself: it is not this home's, or it is damaged. Restore it; to go on
/// without it, fence every host first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// A row names an extent that the device has not.
    #[error("the journal names extent {extent}, the device has {extents}")]
    UnknownExtent {
        /// The extent's number.
        extent: u32,
        /// How many the device has.
        extents: u32,
    },
    /// A row has a value that is never written.
    #[error("the journal's rows are not sound")]
    Unsound(#[from] Broken),
}

/// An invariant of the home does not hold: a bug, or a damaged journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// Someone who is no member, nor condemned, holds an extent.
    #[error("slot {slot} holds extent {extent} and is no member")]
    HolderIsNoMember {
        /// The extent's number.
        extent: u32,
        /// The holder.
        slot: u8,
    },
    /// A shared extent has no reader, or a grant has no ticket.
    #[error("extent {extent} is held by nobody, or by no ticket")]
    HeldByNobody {
        /// The extent's number.
        extent: u32,
    },
    /// A number is larger than any that is written.
    #[error("a number is larger than any that is written")]
    NumberTooLarge,
    /// A slot that no host can have, or a host without era.
    #[error("slot {slot} is none, or has no era")]
    NoSuchSlot {
        /// The slot.
        slot: u8,
    },
    /// A line is empty, or a host stands in it twice.
    #[error("the line of extent {extent} is empty, or a host waits twice")]
    BadLine {
        /// The extent's number.
        extent: u32,
    },
    /// Someone waits for what could be granted, or for what nobody gets.
    #[error("extent {extent} is waited for without need")]
    NeedlessWait {
        /// The extent's number.
        extent: u32,
    },
}

impl Home {
    /// The home as its journal says, in a new term; with no rows, its first beginning. Rows come
    /// in the order in which they were written, once or repeatedly; older ones may be left out.
    ///
    /// # Errors
    /// [`RecoverError`] where the rows cannot have been written by this home.
    pub fn recover(
        now: Nanos,
        limits: HomeLimits,
        rows: impl IntoIterator<Item = Record>,
    ) -> Result<(Self, Vec<HomeOutput>), RecoverError> {
        let mut home = Self {
            limits,
            term: 0,
            hosts: BTreeMap::new(),
            extents: BTreeMap::new(),
            lines: BTreeMap::new(),
            counts: Counts::default(),
        };
        for row in rows {
            home.replay(row)?;
        }
        home.check()?;
        home.term += 1;
        let mut out = Gathered {
            term: true,
            ..Gathered::default()
        };
        let term = home.term;
        for (slot, host) in &mut home.hosts {
            let era = host.era;
            match host.standing {
                Standing::Member => {
                    host.hello = Some(Timer::start(now, limits.resend_first));
                    out.send(*slot, era, Tell::Hello { term });
                }
                Standing::Condemned => out.rest.push(HomeOutput::Fence { host: *slot, era }),
                Standing::Fenced => {}
            }
        }
        let lost: Vec<_> = home.extents.keys().copied().collect();
        for extent in lost {
            home.report_lost(extent, &mut out);
        }
        let outputs = home.outputs(out);
        Ok((home, outputs))
    }

    fn replay(&mut self, record: Record) -> Result<(), RecoverError> {
        match record {
            Record::Term { term } => self.term = term,
            Record::Host {
                slot,
                era,
                boot,
                standing,
            } => {
                let host = Host {
                    era,
                    boot,
                    standing,
                    floor: 0,
                    hello: None,
                };
                self.hosts.insert(slot, host);
            }
            Record::Extent { extent, row } => {
                let extents = self.limits.extents;
                if extent >= extents {
                    return Err(RecoverError::UnknownExtent { extent, extents });
                }
                self.extents.insert(extent, row);
            }
        }
        Ok(())
    }

    /// All that must not be forgotten, one row for each thing: a journal may be begun anew with
    /// these.
    #[must_use]
    pub fn rows(&self) -> Vec<Record> {
        let extents = self.extents.iter().map(|(extent, row)| Record::Extent {
            extent: *extent,
            row: row.clone(),
        });
        let hosts = self.hosts.keys().filter_map(|slot| self.host_record(*slot));
        let term = Record::Term { term: self.term };
        std::iter::once(term).chain(extents).chain(hosts).collect()
    }

    /// Proves that the state is sound.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        if self.term > NUMBER_MAX {
            return Err(Broken::NumberTooLarge);
        }
        for (slot, host) in &self.hosts {
            if !is_slot(*slot) || host.era == 0 {
                return Err(Broken::NoSuchSlot { slot: *slot });
            }
            if host.era > NUMBER_MAX {
                return Err(Broken::NumberTooLarge);
            }
        }
        for (extent, row) in &self.extents {
            self.check_row(*extent, row)?;
        }
        self.check_lines()
    }

    fn check_row(&self, extent: u32, row: &Row) -> Result<(), Broken> {
        if row.epoch > NUMBER_MAX || row.version > NUMBER_MAX {
            return Err(Broken::NumberTooLarge);
        }
        let holders: Vec<_> = match &row.state {
            State::Shared(holders) => holders.iter().map(|(slot, held)| (*slot, *held)).collect(),
            State::Owned { slot, ticket } => vec![(*slot, *ticket)],
            State::Free | State::Lost { .. } | State::Withdrawn => return Ok(()),
        };
        if holders.is_empty() || holders.iter().any(|(_, ticket)| *ticket == 0) {
            return Err(Broken::HeldByNobody { extent });
        }
        // No peer has got as far, so none would ever say that it is done with it.
        if holders.iter().any(|(_, ticket)| *ticket > NUMBER_MAX) {
            return Err(Broken::NumberTooLarge);
        }
        let stranger = holders
            .iter()
            .map(|(slot, _)| *slot)
            .find(|slot| self.member(*slot).or(self.condemned(*slot)).is_none());
        match stranger {
            Some(slot) => Err(Broken::HolderIsNoMember { extent, slot }),
            None => Ok(()),
        }
    }

    fn check_lines(&self) -> Result<(), Broken> {
        for (extent, line) in &self.lines {
            let extent = *extent;
            let mut slots: Vec<_> = line.waiting.iter().map(|waiting| waiting.slot).collect();
            let waiting = slots.len();
            slots.sort_unstable();
            slots.dedup();
            let first = line.waiting.front().ok_or(Broken::BadLine { extent })?;
            if slots.len() != waiting {
                return Err(Broken::BadLine { extent });
            }
            let row = self.extents.get(&extent);
            if row.is_none_or(|row| row.obstacles(first.slot, first.right).is_empty()) {
                return Err(Broken::NeedlessWait { extent });
            }
        }
        Ok(())
    }
}
