//! A peer: the daemon of a host that uses extents of another host's device.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{Nanos, planted};

use super::message::{Ask, Denial, NUMBER_MAX, Right, Tell, ToHome, ToPeer};
use super::refusal::{Counts, Refusal};
use super::timer::Timer;

mod holding;
mod member;
mod settle;
#[cfg(test)]
mod tests;

use holding::{Grant, Holding, Owed, Want};

/// What a peer is given to work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerLimits {
    /// How many extents are held or asked for at most. Further ones are told [`Denial::Busy`].
    pub extents_max: usize,
    /// How many users hold or await one extent at most. Further ones are told [`Denial::Busy`].
    pub users_max: usize,
    /// When an unanswered message is sent again; the pause doubles each time.
    pub resend_first: Nanos,
    /// The longest pause between two sendings.
    pub resend_longest: Nanos,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            extents_max: 1 << 16,
            users_max: 1024,
            resend_first: Nanos::from_millis(2),
            resend_longest: Nanos::from_millis(200),
        }
    }
}

/// What a peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerInput {
    /// A message of the home, in whatever order, however often.
    Message(ToPeer),
    /// Become a member. No user of this host uses the device, and no line of it is cached.
    Join {
        /// Rises with each life of this host; never used twice.
        boot: u64,
    },
    /// A user of this host wants a right.
    Acquire {
        /// The user; the caller's number for it.
        user: u64,
        /// The extent's number.
        extent: u32,
        /// Shared or exclusive.
        right: Right,
        /// When it wants to hear that the extent is not available.
        deadline: Nanos,
    },
    /// A user has ended its use, or waits no longer. What it wrote was written back before.
    Release {
        /// The user.
        user: u64,
        /// The extent's number.
        extent: u32,
        /// Whether it changed the content.
        change: Change,
    },
    /// Give back a grant that no user uses and none waits for.
    Drop {
        /// The extent's number.
        extent: u32,
    },
    /// Time has passed.
    Tick,
}

/// What a user did to an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Nothing.
    None,
    /// It published a change.
    Published,
    /// It died while it wrote, and what it left is not whole.
    Torn,
}

/// What a peer wants done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerOutput {
    /// Send this. It may be lost.
    Send(ToHome),
    /// The user has the right. Lines of another version than this are stale.
    Granted {
        /// The user.
        user: u64,
        /// The extent's number.
        extent: u32,
        /// Shared or exclusive.
        right: Right,
        /// The extent's epoch.
        epoch: u64,
        /// The version that is published.
        version: u64,
    },
    /// The user gets nothing.
    Denied {
        /// The user.
        user: u64,
        /// The extent's number.
        extent: u32,
        /// Why.
        why: Denial,
    },
    /// Another host waits: the user should end its use soon.
    Recall {
        /// The user.
        user: u64,
        /// The extent's number.
        extent: u32,
    },
    /// The user's right has ended. Stop it now; what it wrote since its last publishing is lost.
    Revoked {
        /// The user.
        user: u64,
        /// The extent's number.
        extent: u32,
    },
    /// This host is a member.
    Joined {
        /// In this era.
        era: u64,
    },
    /// This host cannot join yet: its former life is not fenced. It goes on asking.
    JoinWaits,
    /// This host cannot join in this life: a later one was a member. Begin one later than that.
    JoinRefused {
        /// The latest life that was a member.
        latest: u64,
    },
    /// This era is over: end all users, forget all cached lines, then join in a new life.
    Ended {
        /// The era.
        era: u64,
    },
    /// The input was refused and changed nothing.
    Refused(Refusal),
}

/// How a peer stands to its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Outside,
    Joining { boot: u64, timer: Timer },
    Member,
}

/// The state of a peer. See the module's page for the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    slot: u8,
    limits: PeerLimits,
    stage: Stage,
    /// The era of the membership, or of the last one.
    era: u64,
    /// The last ticket that was used.
    ticket: u64,
    /// The home's term for which all that is held was, or is being, announced.
    term: u64,
    /// What is held, asked for or given back; none is empty.
    extents: BTreeMap<u32, Holding>,
    /// Those of them of which something is awaited.
    busy: BTreeSet<u32>,
    /// The tickets of all requests without an answer.
    wants: BTreeSet<u64>,
    counts: Counts,
}

/// The outputs of a step, with the address that its messages carry.
#[derive(Debug)]
struct Gathered {
    from: u8,
    era: u64,
    /// The tickets of all requests without an answer.
    wants: BTreeSet<u64>,
    outputs: Vec<PeerOutput>,
}

impl Gathered {
    fn send(&mut self, ask: Ask) {
        let (from, era) = (self.from, self.era);
        self.tell(PeerOutput::Send(ToHome { from, era, ask }));
    }

    fn tell(&mut self, output: PeerOutput) {
        self.outputs.push(output);
    }

    /// Says that the grant of this ticket is used no longer, beyond what `owed` keeps.
    fn send_release(&mut self, extent: u32, owed: Owed) {
        self.send(Ask::Release {
            extent,
            ticket: owed.ticket,
            epoch: owed.epoch,
            keep: owed.keep,
            outcome: owed.outcome,
            floor: self.floor(owed.ticket + 1),
        });
    }

    fn send_request(&mut self, extent: u32, want: Want) {
        self.send(Ask::Request {
            extent,
            ticket: want.ticket,
            right: want.right,
            floor: self.floor(want.ticket),
        });
    }

    /// Below this, no ticket is of use any more. More than `most` need not be said.
    fn floor(&self, most: u64) -> u64 {
        self.wants.first().map_or(most, |first| most.min(*first))
    }
}

impl Peer {
    /// A host in `slot` that is no member yet.
    #[must_use]
    pub const fn new(slot: u8, limits: PeerLimits) -> Self {
        Self {
            slot,
            limits,
            stage: Stage::Outside,
            era: 0,
            ticket: 0,
            term: 0,
            extents: BTreeMap::new(),
            busy: BTreeSet::new(),
            wants: BTreeSet::new(),
            counts: Counts::new(),
        }
    }

    /// Does what the input asks for, and says what must be done outside, in order.
    #[must_use = "messages must be sent and users be told"]
    pub fn step(&mut self, now: Nanos, input: PeerInput) -> Vec<PeerOutput> {
        let mut out = Gathered {
            from: self.slot,
            era: self.era,
            wants: std::mem::take(&mut self.wants),
            outputs: Vec::new(),
        };
        let done = match input {
            PeerInput::Message(message) => self.message(now, message, &mut out),
            PeerInput::Join { boot } => self.join(now, boot, &mut out),
            PeerInput::Acquire {
                user,
                extent,
                right,
                deadline,
            } => self.acquire(now, (user, extent, right, deadline), &mut out),
            PeerInput::Release {
                user,
                extent,
                change,
            } => self.release(now, user, extent, change, &mut out),
            PeerInput::Drop { extent } => self.give_up_idle(now, extent, &mut out),
            PeerInput::Tick => {
                self.tick(now, &mut out);
                Ok(())
            }
        };
        if let Err(why) = done {
            self.counts.add(why);
            out.tell(PeerOutput::Refused(why));
        }
        self.wants = out.wants;
        out.outputs
    }

    /// When [`PeerInput::Tick`] is due; `None` while there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        let join = match self.stage {
            Stage::Joining { timer, .. } => Some(timer.due()),
            Stage::Outside | Stage::Member => None,
        };
        self.busy()
            .filter_map(Holding::next_deadline)
            .chain(join)
            .min()
    }

    /// The era of this membership, if this host is a member.
    #[must_use]
    pub fn member(&self) -> Option<u64> {
        (self.stage == Stage::Member).then_some(self.era)
    }

    /// What this host holds of an extent: the ticket, the right, the epoch and the version.
    #[must_use]
    pub fn holds(&self, extent: u32) -> Option<(u64, Right, u64, u64)> {
        let grant = self.extents.get(&extent)?.grant?;
        Some((grant.ticket, grant.right, grant.epoch, grant.version))
    }

    /// What its users hold of an extent.
    pub fn users(&self, extent: u32) -> impl Iterator<Item = (u64, Right)> + '_ {
        let holding = self.extents.get(&extent);
        let users = holding.into_iter().flat_map(|holding| &holding.users);
        users.map(|(user, right)| (*user, *right))
    }

    /// Who waits for an extent, in the order of coming.
    pub fn waiting(&self, extent: u32) -> impl Iterator<Item = (u64, Right)> + '_ {
        let holding = self.extents.get(&extent);
        let waiting = holding.into_iter().flat_map(|holding| &holding.waiting);
        waiting.map(|user| (user.user, user.right))
    }

    /// Whether nothing is asked for or given back without an answer, and nobody waits.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let joining = matches!(self.stage, Stage::Joining { .. });
        !joining && self.busy.is_empty()
    }

    /// What was refused since the counts were last taken.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes the counts; they begin anew.
    #[must_use]
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn message(&mut self, now: Nanos, message: ToPeer, out: &mut Gathered) -> Result<(), Refusal> {
        let ToPeer { to, era, tell } = message;
        if to != self.slot {
            return Err(Refusal::UnknownHost);
        }
        match tell {
            Tell::Welcome { boot } => return self.welcome(boot, era, out),
            Tell::NotFenced { boot } => return self.not_fenced(boot, out),
            Tell::Behind { boot, latest } => return self.behind(boot, latest, out),
            _ => {}
        }
        let taken = era == self.era
            || (matches!(tell, Tell::Grant { .. })
                && planted!("host.grant_of_an_old_era_is_taken"));
        if self.stage != Stage::Member || !taken {
            return Err(Refusal::DeadEra);
        }
        match tell {
            Tell::Grant {
                extent,
                ticket,
                right,
                epoch,
                version,
            } => {
                if right == Right::Nothing || epoch > NUMBER_MAX || version > NUMBER_MAX {
                    return Err(Refusal::Malformed);
                }
                let grant = Grant::new(ticket, right, epoch, version);
                self.granted(now, extent, grant, out)
            }
            Tell::Refuse {
                extent,
                ticket,
                why,
            } => self.refused(extent, ticket, why, out),
            Tell::Recall { extent, ticket, to } => self.recalled(now, extent, ticket, to, out),
            Tell::Released {
                extent,
                ticket,
                keep,
            } => self.released(now, extent, ticket, keep, out),
            Tell::Void { extent, ticket } => self.void(now, extent, ticket, out),
            Tell::Hello { term } => self.hello(now, term, out),
            Tell::Dead => {
                self.end(out);
                Ok(())
            }
            Tell::Welcome { .. } | Tell::NotFenced { .. } | Tell::Behind { .. } => Ok(()),
        }
    }

    fn busy(&self) -> impl Iterator<Item = &Holding> {
        self.busy
            .iter()
            .filter_map(|extent| self.extents.get(extent))
    }
}
