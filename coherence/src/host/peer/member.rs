//! How a peer becomes a member, and how it ends to be one.

use pool_core::Nanos;

use super::{Gathered, Peer, PeerOutput, Stage};
use crate::host::message::{Ask, Denial, NUMBER_MAX};
use crate::host::refusal::Refusal;

impl Peer {
    pub(super) fn join(
        &mut self,
        now: Nanos,
        boot: u64,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        if self.stage != Stage::Outside {
            return Err(Refusal::Membership);
        }
        let timer = self.timer(now);
        self.stage = Stage::Joining { boot, timer };
        ask_in(boot, out);
        Ok(())
    }

    pub(super) fn welcome(
        &mut self,
        boot: u64,
        era: u64,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        self.joins(boot)?;
        if era <= self.era || era > NUMBER_MAX {
            return Err(Refusal::Malformed);
        }
        self.stage = Stage::Member;
        self.era = era;
        self.term = 0;
        out.tell(PeerOutput::Joined { era });
        Ok(())
    }

    pub(super) fn not_fenced(&self, boot: u64, out: &mut Gathered) -> Result<(), Refusal> {
        self.joins(boot)?;
        out.tell(PeerOutput::JoinWaits);
        Ok(())
    }

    pub(super) fn behind(
        &mut self,
        boot: u64,
        latest: u64,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        self.joins(boot)?;
        self.stage = Stage::Outside;
        out.tell(PeerOutput::JoinRefused { latest });
        Ok(())
    }

    /// Whether this very life is joining.
    fn joins(&self, boot: u64) -> Result<(), Refusal> {
        match self.stage {
            Stage::Joining { boot: mine, .. } if mine == boot => Ok(()),
            _ => Err(Refusal::Membership),
        }
    }

    /// The home began anew. All that is held is announced, until it has confirmed all.
    pub(super) fn hello(
        &mut self,
        now: Nanos,
        term: u64,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        if term < self.term {
            return Err(Refusal::OtherTerm);
        }
        if term > self.term {
            self.term = term;
            let timer = self.timer(now);
            for (extent, holding) in &mut self.extents {
                if let Some(grant) = &mut holding.grant {
                    grant.confirmed = false;
                    holding.timer = timer;
                    holding.announce(out);
                    self.busy.insert(*extent);
                }
            }
        }
        let confirmed = self
            .busy()
            .all(|holding| holding.grant.is_none_or(|grant| grant.confirmed));
        if confirmed {
            out.send(Ask::Announced { term });
        }
        Ok(())
    }

    /// The era is over: nobody of this host uses the device any more.
    pub(super) fn end(&mut self, out: &mut Gathered) {
        for (_, mut holding) in std::mem::take(&mut self.extents) {
            holding.revoke(out);
            holding.deny(Denial::NotMember, |_| true, out);
        }
        self.busy.clear();
        out.wants.clear();
        self.stage = Stage::Outside;
        out.tell(PeerOutput::Ended { era: self.era });
    }

    pub(super) fn tick(&mut self, now: Nanos, out: &mut Gathered) {
        let longest = self.limits.resend_longest;
        if let Stage::Joining { boot, timer } = &mut self.stage
            && timer.is_due(now)
        {
            timer.again(now, longest);
            ask_in(*boot, out);
        }
        self.settle_late(now, out);
    }
}

fn ask_in(boot: u64, out: &mut Gathered) {
    let era = std::mem::replace(&mut out.era, 0);
    out.send(Ask::Join { boot });
    out.era = era;
}
