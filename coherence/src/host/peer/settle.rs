//! What a peer does about one extent: its users' wishes and the home's answers.

use pool_core::{Nanos, planted};

use super::holding::{Grant, Holding, Owed, User, Want};
use super::{Change, Gathered, Peer, PeerOutput, Stage};
use crate::host::message::{Denial, Right};
use crate::host::refusal::Refusal;
use crate::host::timer::Timer;

impl Peer {
    pub(super) fn acquire(
        &mut self,
        now: Nanos,
        (user, extent, right, deadline): (u64, u32, Right, Nanos),
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        if right == Right::Nothing {
            return Err(Refusal::Malformed);
        }
        let mut deny = |why| out.tell(PeerOutput::Denied { user, extent, why });
        if self.stage != Stage::Member {
            deny(Denial::NotMember);
            return Err(Refusal::Membership);
        }
        let timer = self.timer(now);
        let full = self.extents.len() >= self.limits.extents_max;
        if full && !self.extents.contains_key(&extent) {
            deny(Denial::Busy);
            return Err(Refusal::Full);
        }
        if let Some(holding) = self.extents.get(&extent) {
            let waits = holding.waiting.iter().any(|waiting| waiting.user == user);
            if waits || holding.users.contains_key(&user) {
                return Err(Refusal::User);
            }
            if holding.users.len() + holding.waiting.len() >= self.limits.users_max {
                deny(Denial::Busy);
                return Err(Refusal::Full);
            }
        }
        let holding = self
            .extents
            .entry(extent)
            .or_insert_with(|| Holding::new(extent, timer));
        holding.waiting.push_back(User {
            user,
            right,
            deadline,
        });
        self.settle(now, extent, out);
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        now: Nanos,
        user: u64,
        extent: u32,
        change: Change,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let timer = self.timer(now);
        let holding = self.extents.get_mut(&extent).ok_or(Refusal::User)?;
        let waits = holding.waiting.iter().any(|waiting| waiting.user == user);
        match holding.users.get(&user) {
            None if waits && change == Change::None => {
                holding.waiting.retain(|waiting| waiting.user != user);
            }
            None => return Err(Refusal::User),
            Some(Right::Exclusive) => {}
            Some(_) if change != Change::None => return Err(Refusal::NotOwner),
            Some(_) => {}
        }
        holding.users.remove(&user);
        match (change, &mut holding.grant) {
            (Change::Published, Some(grant)) => grant.version += 1,
            (Change::Torn, _) => holding.give_back(timer, Right::Nothing, true, out),
            _ => {}
        }
        self.settle(now, extent, out);
        Ok(())
    }

    pub(super) fn give_up_idle(
        &mut self,
        now: Nanos,
        extent: u32,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let timer = self.timer(now);
        let holding = self.extents.get_mut(&extent).ok_or(Refusal::NotHeld)?;
        if !holding.users.is_empty() || !holding.waiting.is_empty() {
            return Err(Refusal::InUse);
        }
        if holding.grant.is_none() {
            return Err(Refusal::NotHeld);
        }
        holding.give_back(timer, Right::Nothing, false, out);
        self.settle(now, extent, out);
        Ok(())
    }

    /// A grant is taken for the request that is out, and for no other: a late copy of an older one
    /// speaks of a right that was given back. Where the home has granted anew, on a late copy of
    /// the request, it learns that nobody uses it when it recalls it.
    pub(super) fn granted(
        &mut self,
        now: Nanos,
        extent: u32,
        grant: Grant,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let ticket = grant.ticket;
        let timer = self.timer(now);
        if planted!("host.grant_of_a_settled_ticket_is_taken")
            && !self.extents.contains_key(&extent)
        {
            let holding = Holding::new(extent, timer);
            self.extents.entry(extent).or_insert(holding).grant = Some(grant);
            self.settle(now, extent, out);
            return Ok(());
        }
        if let Some(holding) = self.extents.get_mut(&extent) {
            if let Some(held) = holding.grant.as_mut().filter(|held| held.ticket == ticket) {
                if held.confirmed || grant.epoch != held.epoch || grant.right < held.right {
                    return Err(Refusal::Settled);
                }
                held.confirmed = true;
                self.settle(now, extent, out);
                return Ok(());
            }
            if holding.owed.is_some_and(|owed| owed.ticket == ticket) {
                return Err(Refusal::Settled);
            }
            if let Some(want) = holding.want.filter(|want| want.ticket == ticket) {
                if want.right != grant.right {
                    return Err(Refusal::Malformed);
                }
                holding.want = None;
                holding.grant = Some(grant);
                out.wants.remove(&ticket);
                self.settle(now, extent, out);
                return Ok(());
            }
        }
        Err(Refusal::NotHeld)
    }

    /// A grant is recalled that this host does not hold, and never will: its ticket is settled.
    fn not_mine(&self, extent: u32, ticket: u64, out: &mut Gathered) -> Result<(), Refusal> {
        if ticket == 0 || ticket > self.ticket {
            return Err(Refusal::Malformed);
        }
        out.send_release(extent, Owed::unused(ticket));
        Err(Refusal::NotHeld)
    }

    pub(super) fn refused(
        &mut self,
        extent: u32,
        ticket: u64,
        why: Denial,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let holding = self.extents.get_mut(&extent).ok_or(Refusal::Settled)?;
        if holding.want.is_none_or(|want| want.ticket != ticket) {
            return Err(Refusal::Settled);
        }
        holding.want = None;
        out.wants.remove(&ticket);
        holding.deny(why, |_| true, out);
        self.tidy(extent);
        Ok(())
    }

    pub(super) fn recalled(
        &mut self,
        now: Nanos,
        extent: u32,
        ticket: u64,
        to: Right,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        if to == Right::Exclusive {
            return Err(Refusal::Malformed);
        }
        let Some(holding) = self.extents.get_mut(&extent) else {
            return self.not_mine(extent, ticket, out);
        };
        if let Some(grant) = holding.grant.filter(|grant| grant.ticket == ticket) {
            // The least that may be kept counts, whatever comes later or came before.
            if grant.right <= to || holding.recall.is_some_and(|recall| recall <= to) {
                return Err(Refusal::Settled);
            }
            holding.recall = Some(to);
            for (user, right) in &holding.users {
                if *right > to {
                    let user = *user;
                    out.tell(PeerOutput::Recall { user, extent });
                }
            }
            self.settle(now, extent, out);
            return Ok(());
        }
        // A grant that is on its way is taken when it is here, and recalled again.
        let known = holding.want.is_some_and(|want| want.ticket == ticket)
            || holding.owed.is_some_and(|owed| owed.ticket == ticket);
        if known {
            return Err(Refusal::Settled);
        }
        self.not_mine(extent, ticket, out)
    }

    pub(super) fn released(
        &mut self,
        now: Nanos,
        extent: u32,
        ticket: u64,
        keep: Right,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let holding = self.extents.get_mut(&extent).ok_or(Refusal::Settled)?;
        if holding
            .owed
            .is_none_or(|owed| owed.ticket != ticket || owed.keep != keep)
        {
            return Err(Refusal::Settled);
        }
        holding.owed = None;
        self.settle(now, extent, out);
        Ok(())
    }

    pub(super) fn void(
        &mut self,
        now: Nanos,
        extent: u32,
        ticket: u64,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let holding = self.extents.get_mut(&extent).ok_or(Refusal::Settled)?;
        if holding.grant.is_none_or(|grant| grant.ticket != ticket) {
            return Err(Refusal::Settled);
        }
        holding.owed = None;
        holding.revoke(out);
        self.settle(now, extent, out);
        Ok(())
    }

    /// Does what can be done for the extent now.
    pub(super) fn settle(&mut self, now: Nanos, extent: u32, out: &mut Gathered) {
        let timer = self.timer(now);
        let Some(holding) = self.extents.get_mut(&extent) else {
            return;
        };
        holding.yield_up(timer, out);
        holding.serve(out);
        if holding.waiting.is_empty() {
            holding.withdraw(timer, out);
        }
        let idle = holding.grant.is_none() && holding.want.is_none() && holding.owed.is_none();
        if let Some(first) = holding.waiting.front().filter(|_| idle) {
            self.ticket += 1;
            let want = Want {
                ticket: self.ticket,
                right: first.right,
            };
            holding.want = Some(want);
            holding.timer = timer;
            out.wants.insert(want.ticket);
            out.send_request(extent, want);
        }
        self.tidy(extent);
    }

    /// Forgets an extent of which there is nothing to remember.
    fn tidy(&mut self, extent: u32) {
        let holding = self.extents.get(&extent);
        if holding.is_some_and(|holding| !holding.is_settled()) {
            self.busy.insert(extent);
        } else {
            self.busy.remove(&extent);
        }
        if holding.is_some_and(Holding::is_empty) {
            self.extents.remove(&extent);
        }
    }

    pub(super) fn timer(&self, now: Nanos) -> Timer {
        Timer::start(now, self.limits.resend_first)
    }

    /// Tells those who have waited too long, and sends again what is unanswered.
    pub(super) fn settle_late(&mut self, now: Nanos, out: &mut Gathered) {
        let busy: Vec<_> = self.busy.iter().copied().collect();
        let holder = self.slot;
        let longest = self.limits.resend_longest;
        for extent in busy {
            if let Some(holding) = self.extents.get_mut(&extent) {
                let why = Denial::Unavailable { holder };
                let is_late = |user: &User| {
                    let left = user.deadline.get().wrapping_sub(now.get());
                    let wraps = planted!("host.a_span_to_a_deadline_wraps");
                    user.deadline <= now && (left == 0 || !wraps)
                };
                holding.deny(why, is_late, out);
            }
            self.settle(now, extent, out);
            if let Some(holding) = self.extents.get_mut(&extent)
                && holding.timer.is_due(now)
            {
                holding.timer.again(now, longest);
                holding.send_again(out);
            }
        }
    }
}
