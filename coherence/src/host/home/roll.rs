//! Who is a member: joining, fencing, and the greeting after a restart.

use pool_core::{Nanos, planted};

use super::{Gathered, Home, HomeOutput, Host, is_slot};
use crate::host::message::{Ask, Denial, Right, Tell, ToHome};
use crate::host::refusal::Refusal;
use crate::host::row::{Standing, State};

impl Home {
    pub(super) fn message(
        &mut self,
        now: Nanos,
        message: ToHome,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let ToHome { from, era, ask } = message;
        if !is_slot(from) {
            return Err(Refusal::UnknownHost);
        }
        if let Ask::Join { boot } = ask {
            return self.join(now, from, boot, out);
        }
        let heard = planted!("host.the_condemned_are_heard")
            .then(|| self.condemned(from))
            .flatten();
        let Some(member) = self
            .member(from)
            .or(heard)
            .filter(|member| *member == era || planted!("host.message_of_a_dead_era_is_taken"))
        else {
            out.send(from, era, Tell::Dead);
            return Err(Refusal::DeadEra);
        };
        match ask {
            Ask::Request { .. } => self.request(now, from, member, ask, out),
            Ask::Release { .. } => self.release(now, from, member, ask, out),
            Ask::Announce {
                extent,
                ticket,
                right,
                epoch,
            } => {
                let announced = (extent, ticket, right, epoch);
                self.announce(from, member, announced, out)
            }
            Ask::Announced { term } if term == self.term => {
                self.greeted(from);
                Ok(())
            }
            Ask::Announced { .. } => Err(Refusal::OtherTerm),
            Ask::Join { .. } => Ok(()),
        }
    }

    /// A life of a host asks to be a member. It becomes one in a new era, once nothing is held in
    /// the old one: what was held and not given back needs a fence.
    fn join(&mut self, now: Nanos, slot: u8, boot: u64, out: &mut Gathered) -> Result<(), Refusal> {
        let mut era = 1;
        if let Some(host) = self.hosts.get(&slot) {
            let ended = host.standing == Standing::Fenced;
            if boot == host.boot && host.standing == Standing::Member {
                out.send(slot, host.era, Tell::Welcome { boot });
                return Ok(());
            }
            if boot <= host.boot {
                let latest = host.boot;
                out.send(slot, 0, Tell::Behind { boot, latest });
                return Err(Refusal::Behind);
            }
            let old = host.era;
            if !ended && !self.held(slot).is_empty() {
                if !planted!("host.joins_again_without_a_fence") {
                    out.rest.push(HomeOutput::Suspect {
                        host: slot,
                        era: old,
                    });
                    out.send(slot, 0, Tell::NotFenced { boot });
                    return Err(Refusal::NotFenced);
                }
                for extent in self.held(slot) {
                    self.row(extent)?.give_back(slot, Right::Nothing);
                    out.extents.insert(extent);
                }
            }
            era = old + 1;
        }
        self.leave_lines(slot);
        let host = Host {
            era,
            boot,
            standing: Standing::Member,
            floor: 0,
            hello: None,
        };
        self.hosts.insert(slot, host);
        out.hosts.insert(slot);
        out.send(slot, era, Tell::Welcome { boot });
        self.pump_lines(now, out);
        Ok(())
    }

    /// This era of a host shall end. From before the fence on it is heard no more: of what it says
    /// once it is fenced, nothing has reached the device, whatever it believes.
    pub(super) fn condemn(
        &mut self,
        now: Nanos,
        slot: u8,
        era: u64,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let host = self.hosts.get_mut(&slot).ok_or(Refusal::UnknownHost)?;
        if host.era != era {
            return Err(Refusal::OtherFence);
        }
        if host.standing == Standing::Fenced {
            return Ok(());
        }
        if host.standing == Standing::Member {
            host.standing = Standing::Condemned;
            host.hello = None;
            out.hosts.insert(slot);
            out.send(slot, era, Tell::Dead);
        }
        out.rest.push(HomeOutput::Fence { host: slot, era });
        self.leave_lines(slot);
        self.pump_lines(now, out);
        Ok(())
    }

    /// The fabric has proved that this era of a host writes no more. Its grants end: what it read
    /// is free of it, what it might have been writing is lost.
    pub(super) fn fenced(
        &mut self,
        now: Nanos,
        slot: u8,
        era: u64,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let host = self.hosts.get_mut(&slot).ok_or(Refusal::UnknownHost)?;
        if host.era != era {
            return Err(Refusal::OtherFence);
        }
        match host.standing {
            Standing::Member => return Err(Refusal::NotCondemned),
            Standing::Condemned => host.standing = Standing::Fenced,
            Standing::Fenced => return Ok(()),
        }
        out.hosts.insert(slot);
        for extent in self.held(slot) {
            let row = self.row(extent)?;
            let owned = matches!(row.state, State::Owned { .. });
            if !owned && planted!("host.fence_forgets_the_readers") {
                continue;
            }
            out.extents.insert(extent);
            if owned && !planted!("host.fence_frees_without_loss") {
                row.lose(row.version);
                self.report_lost(extent, out);
            } else {
                row.give_back(slot, Right::Nothing);
            }
        }
        self.pump_lines(now, out);
        Ok(())
    }

    /// Tells the driver and all who wait that the extent is lost.
    pub(super) fn report_lost(&mut self, extent: u32, out: &mut Gathered) {
        let Some(State::Lost { last_good }) = self.extents.get(&extent).map(|row| &row.state)
        else {
            return;
        };
        let last_good = *last_good;
        out.rest.push(HomeOutput::Lost { extent, last_good });
        self.refuse_all(extent, Denial::Lost { last_good }, out);
    }

    /// The extents that `slot` holds.
    pub(super) fn held(&self, slot: u8) -> Vec<u32> {
        self.extents
            .iter()
            .filter(|(_, row)| row.held_by(slot).is_some())
            .map(|(extent, _)| *extent)
            .collect()
    }

    fn greeted(&mut self, slot: u8) {
        if let Some(host) = self.hosts.get_mut(&slot) {
            host.hello = None;
        }
    }

    /// Greets again those who have not announced all.
    pub(super) fn greet(&mut self, now: Nanos, out: &mut Gathered) {
        let (term, longest) = (self.term, self.limits.resend_longest);
        for (slot, host) in &mut self.hosts {
            if let Some(timer) = host.hello.as_mut().filter(|timer| timer.is_due(now)) {
                timer.again(now, longest);
                out.send(*slot, host.era, Tell::Hello { term });
            }
        }
    }
}
