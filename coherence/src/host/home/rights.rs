//! What members ask for, give back and say they hold.

use pool_core::{Nanos, planted};

use super::{Gathered, Home, Waiting};
use crate::host::message::{Ask, Denial, NUMBER_MAX, Outcome, PUBLISHED_MAX, Right, Tell};
use crate::host::refusal::Refusal;
use crate::host::row::{Row, State};

impl Home {
    pub(super) fn request(
        &mut self,
        now: Nanos,
        slot: u8,
        era: u64,
        ask: Ask,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let Ask::Request {
            extent,
            ticket,
            right,
            floor,
        } = ask
        else {
            return Err(Refusal::Malformed);
        };
        if right == Right::Nothing || ticket == 0 || ticket > NUMBER_MAX || floor > ticket {
            return Err(Refusal::Malformed);
        }
        let Some(row) = self.extent(extent) else {
            let why = Denial::UnknownExtent;
            out.send(
                slot,
                era,
                Tell::Refuse {
                    extent,
                    ticket,
                    why,
                },
            );
            return Err(Refusal::UnknownExtent);
        };
        let host = self.hosts.get_mut(&slot).ok_or(Refusal::UnknownHost)?;
        match row.held_by(slot) {
            Some((held, _)) if held == ticket => {
                if !planted!("host.lost_grant_is_not_repeated") {
                    self.send_grant(extent, slot, out);
                }
                return Ok(());
            }
            Some((held, _)) if held > ticket => return Err(Refusal::Settled),
            _ if ticket < host.floor => return Err(Refusal::Settled),
            _ => {}
        }
        if let Some(why) = closed(&row.state) {
            self.refuse(extent, slot, ticket, why, out);
            return Ok(());
        }
        let request = Waiting {
            slot,
            ticket,
            right,
            deadline: now.saturating_add(self.limits.patience),
        };
        let at_once = row.obstacles(slot, right).is_empty();
        if let Err(why) = self.enqueue(extent, request, at_once) {
            if why == Refusal::Full {
                self.refuse(extent, slot, ticket, Denial::Busy, out);
            }
            return Err(why);
        }
        self.raise_floor(slot, floor);
        self.pump(now, extent, out);
        Ok(())
    }

    /// A grant, or a request, ends, down to `keep`. It is acknowledged also where there is nothing
    /// to end: the former acknowledgement may be lost.
    pub(super) fn release(
        &mut self,
        now: Nanos,
        slot: u8,
        era: u64,
        ask: Ask,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let Ask::Release {
            extent,
            ticket,
            epoch,
            keep,
            outcome,
            floor,
        } = ask
        else {
            return Err(Refusal::Malformed);
        };
        let torn = matches!(outcome, Outcome::Torn { .. });
        if keep == Right::Exclusive || (torn && keep != Right::Nothing) {
            return Err(Refusal::Malformed);
        }
        let row = self.extent(extent).ok_or(Refusal::UnknownExtent)?;
        let released = Tell::Released {
            extent,
            ticket,
            keep,
        };
        let withdrawn = self.dequeue(extent, |waiting| {
            waiting.slot == slot && waiting.ticket == ticket
        });
        if !withdrawn.is_empty() {
            self.raise_floor(slot, floor);
            out.send(slot, era, released);
            self.pump(now, extent, out);
            return Ok(());
        }
        match settle(row, slot, ticket, epoch, keep, outcome) {
            Ok(Some(row)) => {
                self.extents.insert(extent, row);
                out.extents.insert(extent);
            }
            Ok(None) => {}
            Err(Refusal::NotHeld) => {
                if !planted!("host.late_release_is_not_acknowledged") {
                    out.send(slot, era, released);
                }
                return Err(Refusal::NotHeld);
            }
            Err(why) => return Err(why),
        }
        self.raise_floor(slot, floor);
        out.send(slot, era, released);
        if torn {
            self.report_lost(extent, out);
        } else {
            self.pump(now, extent, out);
        }
        Ok(())
    }

    fn raise_floor(&mut self, slot: u8, floor: u64) {
        if let Some(host) = self.hosts.get_mut(&slot) {
            host.floor = host.floor.max(floor);
        }
    }

    /// A member says what it holds. What the journal says as well is confirmed by the grant; what
    /// it does not say is void.
    pub(super) fn announce(
        &self,
        slot: u8,
        era: u64,
        (extent, ticket, right, epoch): (u32, u64, Right, u64),
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let row = self.extent(extent).unwrap_or_default();
        let journaled = row.right_of(slot, ticket);
        let agrees = right != Right::Nothing && right <= journaled && epoch == row.epoch;
        // Readers keep their epoch while it stands still: it rises with an exclusive grant or a
        // loss, and both need all readers gone.
        if agrees {
            self.send_grant(extent, slot, out);
            return Ok(());
        }
        out.send(slot, era, Tell::Void { extent, ticket });
        Err(Refusal::NotHeld)
    }
}

/// Why nobody gets an extent in this state, if so.
pub(super) const fn closed(state: &State) -> Option<Denial> {
    match state {
        State::Lost { last_good } => Some(Denial::Lost {
            last_good: *last_good,
        }),
        State::Withdrawn => Some(Denial::Withdrawn),
        State::Free | State::Shared(_) | State::Owned { .. } => None,
    }
}

/// The row after the grant of this ticket was given back, or `None` where it is as before.
fn settle(
    mut row: Row,
    slot: u8,
    ticket: u64,
    epoch: u64,
    keep: Right,
    outcome: Outcome,
) -> Result<Option<Row>, Refusal> {
    let right = match row.held_by(slot) {
        Some((_, right)) if planted!("host.release_of_any_ticket_is_taken") => right,
        _ => row.right_of(slot, ticket),
    };
    if right == Right::Nothing {
        return Err(Refusal::NotHeld);
    }
    // A ticket is granted twice where a copy of its request comes late. The second grant has an
    // epoch of its own and nobody will use it: the first one has ended, and with it the ticket.
    // What is told of the first one was done then.
    let first_one = outcome != Outcome::Unused && epoch != row.epoch;
    if right == Right::Exclusive && first_one {
        row.give_back(slot, Right::Nothing);
        return Ok(Some(row));
    }
    if right == Right::Shared {
        // What it wrote came with the downgrade, and may be told once more.
        let told = match outcome {
            Outcome::Unused => true,
            Outcome::Wrote { version } => version <= row.version,
            Outcome::Torn { .. } => false,
        };
        if !told {
            return Err(Refusal::NotOwner);
        }
        if keep == Right::Shared {
            return Ok(None);
        }
    }
    match outcome {
        Outcome::Torn { version } => {
            published(&row, version, row.version)?;
            row.lose(version);
            return Ok(Some(row));
        }
        Outcome::Wrote { version } if right == Right::Exclusive => {
            published(&row, version, row.version + 1)?;
            row.version = version;
        }
        Outcome::Wrote { .. } | Outcome::Unused => {}
    }
    row.give_back(slot, keep);
    Ok(Some(row))
}

/// Whether one exclusive grant can have led to this version, which is no less than `least`.
fn published(row: &Row, version: u64, least: u64) -> Result<(), Refusal> {
    let most = NUMBER_MAX.min(row.version + PUBLISHED_MAX);
    if version < least || version > most {
        return Err(Refusal::BadVersion);
    }
    Ok(())
}
