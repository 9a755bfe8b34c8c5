//! What a peer knows of one extent: the grant, what is asked for or given back, and its users.

use std::collections::{BTreeMap, VecDeque};

use pool_core::{Nanos, planted};

use super::{Gathered, PeerOutput};
use crate::host::message::{Ask, Denial, Outcome, Right};
use crate::host::timer::Timer;

/// A grant that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) ticket: u64,
    pub(super) right: Right,
    pub(super) epoch: u64,
    /// What users of this host see.
    pub(super) version: u64,
    /// What the home knows, or is being told.
    base: u64,
    /// Whether the home has said so in its present term.
    pub(super) confirmed: bool,
}

impl Grant {
    pub(super) const fn new(ticket: u64, right: Right, epoch: u64, version: u64) -> Self {
        Self {
            ticket,
            right,
            epoch,
            version,
            base: version,
            confirmed: true,
        }
    }
}

/// A request without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Want {
    pub(super) ticket: u64,
    pub(super) right: Right,
}

/// What was given back, until the home acknowledges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owed {
    pub(super) ticket: u64,
    pub(super) epoch: u64,
    pub(super) keep: Right,
    pub(super) outcome: Outcome,
}

impl Owed {
    /// What was never used, and never will be.
    pub(super) const fn unused(ticket: u64) -> Self {
        Self {
            ticket,
            epoch: 0,
            keep: Right::Nothing,
            outcome: Outcome::Unused,
        }
    }
}

/// A user that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct User {
    pub(super) user: u64,
    pub(super) right: Right,
    pub(super) deadline: Nanos,
}

/// One extent. A request is out only while nothing is held and nothing is owed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    pub(super) extent: u32,
    pub(super) grant: Option<Grant>,
    pub(super) want: Option<Want>,
    pub(super) owed: Option<Owed>,
    /// Down to what the grant is recalled. No user gets anything meanwhile.
    pub(super) recall: Option<Right>,
    pub(super) users: BTreeMap<u64, Right>,
    pub(super) waiting: VecDeque<User>,
    pub(super) timer: Timer,
}

impl Holding {
    pub(super) const fn new(extent: u32, timer: Timer) -> Self {
        Self {
            extent,
            grant: None,
            want: None,
            owed: None,
            recall: None,
            users: BTreeMap::new(),
            waiting: VecDeque::new(),
            timer,
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.grant.is_none() && self.is_settled()
    }

    /// Whether nothing is awaited, from the home or by a user.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_unanswered() && self.waiting.is_empty()
    }

    fn is_unanswered(&self) -> bool {
        let unconfirmed = self.grant.is_some_and(|grant| !grant.confirmed);
        self.want.is_some() || self.owed.is_some() || unconfirmed
    }

    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let resend = self.is_unanswered().then(|| self.timer.due());
        let deadlines = self.waiting.iter().map(|user| user.deadline);
        deadlines.chain(resend).min()
    }

    pub(super) fn has_writer(&self) -> bool {
        self.users.values().any(|right| *right == Right::Exclusive)
    }

    /// Gives the grant back, down to `keep`. What was written before and is not yet acknowledged
    /// is told again.
    pub(super) fn give_back(&mut self, timer: Timer, keep: Right, torn: bool, out: &mut Gathered) {
        let Some(mut grant) = self.grant.take() else {
            return;
        };
        let earlier = self
            .owed
            .filter(|owed| owed.ticket == grant.ticket)
            .map(|owed| owed.outcome);
        let outcome = if torn {
            Outcome::Torn {
                version: grant.version,
            }
        } else if grant.version > grant.base {
            Outcome::Wrote {
                version: grant.version,
            }
        } else {
            earlier.unwrap_or(Outcome::Unused)
        };
        let owed = Owed {
            ticket: grant.ticket,
            epoch: grant.epoch,
            keep,
            outcome,
        };
        self.recall = None;
        if keep == Right::Shared {
            if !planted!("host.downgrade_keeps_the_write_right") {
                grant.right = Right::Shared;
            }
            grant.base = grant.version;
            self.grant = Some(grant);
        }
        self.owe(timer, owed, out);
    }

    /// Withdraws the request: also if it is granted, the grant is never used.
    pub(super) fn withdraw(&mut self, timer: Timer, out: &mut Gathered) {
        if let Some(want) = self.want.take() {
            out.wants.remove(&want.ticket);
            let owed = Owed::unused(want.ticket);
            self.owe(timer, owed, out);
        }
    }

    fn owe(&mut self, timer: Timer, owed: Owed, out: &mut Gathered) {
        self.owed = Some(owed);
        self.timer = timer;
        out.send_release(self.extent, owed);
    }

    pub(super) fn send_again(&self, out: &mut Gathered) {
        if let Some(want) = self.want {
            out.send_request(self.extent, want);
        }
        if let Some(mut owed) = self.owed {
            if planted!("host.release_again_forgets_the_version") {
                owed.outcome = Outcome::Unused;
            }
            out.send_release(self.extent, owed);
        }
        self.announce(out);
    }

    /// Asks the home whether its journal says what is held, unless it has said so.
    pub(super) fn announce(&self, out: &mut Gathered) {
        if let Some(grant) = self.grant.filter(|grant| !grant.confirmed) {
            out.send(Ask::Announce {
                extent: self.extent,
                ticket: grant.ticket,
                right: grant.right,
                epoch: grant.epoch,
            });
        }
    }

    /// Follows a recall once the users that stand against it are gone, and makes way for a user
    /// who wants more than is held: it gives up and asks anew, so that two hosts that both want
    /// more never wait for each other.
    pub(super) fn yield_up(&mut self, timer: Timer, out: &mut Gathered) {
        let Some(grant) = self.grant else {
            return;
        };
        let idle = self.users.is_empty() || planted!("host.recall_waits_for_no_user");
        let more = self
            .waiting
            .front()
            .is_some_and(|user| user.right > grant.right);
        match self.recall {
            Some(Right::Nothing) if idle => self.give_back(timer, Right::Nothing, false, out),
            Some(Right::Shared) if !self.has_writer() => {
                self.give_back(timer, Right::Shared, false, out);
            }
            None if more && idle => self.give_back(timer, Right::Nothing, false, out),
            _ => {}
        }
    }

    /// Serves users in the order of their coming.
    pub(super) fn serve(&mut self, out: &mut Gathered) {
        while let (Some(grant), None) = (self.grant, self.recall) {
            let Some(first) = self.waiting.front().copied() else {
                return;
            };
            let fits = match first.right {
                Right::Exclusive => self.users.is_empty(),
                Right::Shared | Right::Nothing => !self.has_writer(),
            };
            if !fits || first.right > grant.right {
                return;
            }
            self.waiting.pop_front();
            self.users.insert(first.user, first.right);
            out.tell(PeerOutput::Granted {
                user: first.user,
                extent: self.extent,
                right: first.right,
                epoch: grant.epoch,
                version: grant.version,
            });
        }
    }

    /// Denies what `goes` says of those who wait.
    pub(super) fn deny(&mut self, why: Denial, goes: impl Fn(&User) -> bool, out: &mut Gathered) {
        let extent = self.extent;
        for user in self.waiting.iter().filter(|user| goes(user)) {
            let user = user.user;
            out.tell(PeerOutput::Denied { user, extent, why });
        }
        self.waiting.retain(|user| !goes(user));
    }

    /// The grant has ended without being given back.
    pub(super) fn revoke(&mut self, out: &mut Gathered) {
        let extent = self.extent;
        self.grant = None;
        self.recall = None;
        for user in std::mem::take(&mut self.users).into_keys() {
            out.tell(PeerOutput::Revoked { user, extent });
        }
    }
}
