//! What one machine does: it asks for extents, sees that they are what they should be, writes them,
//! and lets go.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use client_sdk::Segment;
use coherence::cache::Hardware;
use coherence::host::board::{Board, Station, Told};
use coherence::host::{Change, Denial, HomeLimits, PeerLimits, PeerOutput, Refusal, Right, State};
use pool_core::Nanos;
use pool_core::clock::{self, Deadline, eventually};
use pool_core::sync::atomic::AtomicU64;

use super::payload::{EXTENTS, Head, Payload};
use crate::say;

/// The one user of the memory on this machine.
const USER: u64 = 1;
/// How long a user waits for an extent before it asks again.
const TURN: Nanos = Nanos::from_millis(5_000);
/// How long anything may take as a whole: another machine may have to start.
const PATIENCE: Nanos = Nanos::from_millis(150_000);

type Words<'s> = &'s [AtomicU64];

/// An extent that was granted to the user.
#[derive(Debug, Clone, Copy)]
struct Grant {
    extent: u32,
    version: u64,
}

/// See the module.
pub(super) struct Part<'s> {
    name: &'s str,
    slot: u8,
    segment: &'s Segment,
    station: Station<Words<'s>, Hardware>,
    waits: BTreeSet<u32>,
    grants: Vec<Grant>,
    /// What the home said to be lost, and what was denied for that.
    lost: BTreeSet<u32>,
    denied: BTreeSet<u32>,
    /// What was taken as it is, and has to be written before it is anything.
    torn: BTreeSet<u32>,
}

impl<'s> Part<'s> {
    /// This machine is a member from then on.
    pub(super) fn join(
        name: &'s str,
        slot: u8,
        segment: &'s Segment,
        board: Board<Words<'s>, Hardware>,
    ) -> anyhow::Result<Self> {
        ensure!(board.shape().extents() == EXTENTS, "{board:?}");
        let (home, peer) = (HomeLimits::default(), PeerLimits::default());
        let station = Station::open(clock::now(), board, slot, home, peer)?;
        let mut part = Self {
            name,
            slot,
            segment,
            station,
            waits: BTreeSet::new(),
            grants: Vec::new(),
            lost: BTreeSet::new(),
            denied: BTreeSet::new(),
            torn: BTreeSet::new(),
        };
        part.go_on("to be a member", |part| {
            Ok(part.station.peer().member().is_some())
        })?;
        part.say(&format!("joined in life {}", part.station.life()));
        Ok(part)
    }

    /// Each extent goes from one machine to the other, until all have `until` times together since
    /// the first machine began.
    pub(super) fn exchange(&mut self, until: u64) -> anyhow::Result<()> {
        let each = until / u64::from(EXTENTS);
        let mut done = BTreeSet::new();
        let began = clock::now();
        self.go_on("an exchange", |part| {
            for grant in std::mem::take(&mut part.grants) {
                let payload = Payload::of(part.segment, grant.extent)?;
                let head = payload.is(grant.version)?;
                let goes_on = head.exchanges < each && head.writer != part.me();
                let exchanges = head.exchanges + u64::from(goes_on);
                if exchanges >= each {
                    done.insert(grant.extent);
                }
                if goes_on {
                    part.publish(grant, &payload, exchanges)?;
                } else {
                    part.let_go(grant, Change::None)?;
                }
            }
            for extent in (0..EXTENTS).filter(|it| !done.contains(it)) {
                // Who wrote it last waits until the other one has asked for it.
                if part.station.peer().holds(extent).is_none() {
                    part.ask(extent, Right::Exclusive)?;
                }
            }
            Ok(done.len() == EXTENTS as usize)
        })?;
        let millis = clock::now().saturating_since(began).get() / 1_000_000;
        self.say(&format!(
            "{until} exchanges by now, {millis} ms for the last"
        ));
        Ok(())
    }

    /// Holds one extent, and nothing else, half written, until the machine is killed.
    pub(super) fn hold(&mut self, extent: u32) -> anyhow::Result<()> {
        self.let_go_of_all()?;
        self.ask(extent, Right::Exclusive)?;
        self.go_on("the extent to hold", |part| Ok(!part.grants.is_empty()))?;
        let grant = self.grants.remove(0);
        let payload = Payload::of(self.segment, extent)?;
        payload.is(grant.version)?;
        payload.write_half(grant.version + 1)?;
        self.say("holds an extent, half written");
        self.go_on("its death", |_| Ok(false))
    }

    /// The other machine dies while it holds an extent: that one is told to be lost and never
    /// granted, until it is taken for what it is; then this machine has all of them.
    pub(super) fn outlive(&mut self, extent: u32) -> anyhow::Result<()> {
        self.go_on("the loss of an extent", |part| {
            for grant in std::mem::take(&mut part.grants) {
                // The other one does not hold it yet.
                Payload::of(part.segment, grant.extent)?.is(grant.version)?;
                part.let_go(grant, Change::None)?;
                part.station.give_back(clock::now(), grant.extent)?;
            }
            part.ask(extent, Right::Exclusive)?;
            Ok(part.denied.contains(&extent))
        })?;
        let only = BTreeSet::from([extent]);
        ensure!(self.lost == only, "lost are {:?}", self.lost);
        self.say("is told that the extent is lost");
        self.station.mended(clock::now(), extent, None)?;
        self.torn.insert(extent);
        self.lost.clear();
        self.denied.clear();
        let mut had = BTreeSet::new();
        self.go_on("all extents", |part| {
            for grant in std::mem::take(&mut part.grants) {
                let payload = Payload::of(part.segment, grant.extent)?;
                let head = if part.torn.remove(&grant.extent) {
                    payload.head()?
                } else {
                    payload.is(grant.version)?
                };
                part.publish(grant, &payload, head.exchanges)?;
                had.insert(grant.extent);
            }
            for extent in (0..EXTENTS).filter(|it| !had.contains(it)) {
                part.ask(extent, Right::Exclusive)?;
            }
            Ok(had.len() == EXTENTS as usize)
        })?;
        self.let_go_of_all()?;
        self.say("has had all extents");
        Ok(())
    }

    /// The last that a machine does which is not the home: it sees all, once more, says so, and
    /// leaves.
    pub(super) fn take_leave(&mut self, exchanges: u64) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        let mut sum = 0;
        self.go_on("a last look", |part| {
            for grant in std::mem::take(&mut part.grants) {
                sum += Payload::of(part.segment, grant.extent)?
                    .is(grant.version)?
                    .exchanges;
                seen.insert(grant.extent);
                part.let_go(grant, Change::None)?;
            }
            for extent in (0..EXTENTS).filter(|it| !seen.contains(it)) {
                part.ask(extent, Right::Shared)?;
            }
            Ok(seen.len() == EXTENTS as usize)
        })?;
        ensure!(sum == exchanges, "{sum} exchanges, not {exchanges}");
        self.say(&format!("{sum} exchanges stand in the extents"));
        self.let_go_of_all()?;
        self.ask(0, Right::Exclusive)?;
        self.go_on("an extent to say so", |part| Ok(!part.grants.is_empty()))?;
        let grant = self.grants.remove(0);
        let payload = Payload::of(self.segment, 0)?;
        let head = payload.is(grant.version)?;
        payload.write(Head {
            version: grant.version + 1,
            leaves: 1,
            ..head
        })?;
        self.let_go(grant, Change::Published)?;
        self.let_go_of_all()
    }

    /// The home stays until the other machine has left, and nothing is held.
    pub(super) fn see_off(&mut self) -> anyhow::Result<()> {
        self.go_on("the other one to leave", |part| {
            let mut left = false;
            for grant in std::mem::take(&mut part.grants) {
                let head = Payload::of(part.segment, grant.extent)?.is(grant.version)?;
                left |= head.leaves != 0;
                part.let_go(grant, Change::None)?;
            }
            if !left {
                part.ask(0, Right::Shared)?;
            }
            Ok(left)
        })?;
        self.let_go_of_all()?;
        self.go_on("nothing to be held", |part| {
            let Some(home) = part.station.home() else {
                bail!("the home is gone");
            };
            let rows = (0..EXTENTS).filter_map(|extent| home.extent(extent));
            Ok(rows.into_iter().all(|row| row.state == State::Free))
        })?;
        self.say("no extent is held");
        Ok(())
    }

    /// Gives back whatever this machine holds, and waits until the home knows.
    fn let_go_of_all(&mut self) -> anyhow::Result<()> {
        self.go_on("to hold nothing", |part| {
            for grant in std::mem::take(&mut part.grants) {
                part.let_go(grant, Change::None)?;
            }
            let now = clock::now();
            for extent in 0..EXTENTS {
                let peer = part.station.peer();
                let is_idle =
                    peer.users(extent).next().is_none() && peer.waiting(extent).next().is_none();
                if is_idle && peer.holds(extent).is_some() {
                    part.station.give_back(now, extent)?;
                }
            }
            let peer = part.station.peer();
            let mut all = 0..EXTENTS;
            Ok(peer.is_settled() && all.all(|extent| peer.holds(extent).is_none()))
        })
    }

    fn ask(&mut self, extent: u32, right: Right) -> anyhow::Result<()> {
        if self.waits.insert(extent) {
            let now = clock::now();
            let deadline = now.saturating_add(TURN);
            let user = (USER, extent);
            self.station.acquire(now, user, right, deadline)?;
        }
        Ok(())
    }

    /// Writes all of an extent, as its next version.
    fn publish(
        &mut self,
        grant: Grant,
        payload: &Payload<'_>,
        exchanges: u64,
    ) -> anyhow::Result<()> {
        payload.write(Head {
            version: grant.version + 1,
            exchanges,
            writer: self.me(),
            leaves: 0,
        })?;
        self.let_go(grant, Change::Published)
    }

    fn let_go(&mut self, grant: Grant, change: Change) -> anyhow::Result<()> {
        let user = (USER, grant.extent);
        Ok(self.station.release(clock::now(), user, change)?)
    }

    /// Takes turns, and does `work` after each, until that says that it is done.
    fn go_on(
        &mut self,
        what: &str,
        mut work: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            if work(self)? {
                return Ok(());
            }
            // What is told ends the pause, and so does a while in which nothing is.
            let pause = Deadline::after(Nanos::from_millis(20));
            let told = eventually(pause, || match self.station.turn(clock::now()) {
                Ok(told) if told.is_empty() => None,
                told => Some(told),
            });
            if let Ok(told) = told {
                for told in told? {
                    self.hear(told)?;
                }
            }
            ensure!(
                !deadline.expired(),
                "{} waits in vain for {what}: {:?}",
                self.name,
                self.station
            );
        }
    }

    fn hear(&mut self, told: Told) -> anyhow::Result<()> {
        match told {
            Told::Peer(PeerOutput::Granted {
                extent, version, ..
            }) => {
                self.waits.remove(&extent);
                self.grants.push(Grant { extent, version });
            }
            Told::Peer(PeerOutput::Denied { extent, why, .. }) => {
                self.waits.remove(&extent);
                match why {
                    Denial::Lost { .. } => drop(self.denied.insert(extent)),
                    Denial::Unavailable { .. } => {}
                    _ => bail!("extent {extent} is denied: {why}"),
                }
            }
            // Each use is short, but for the one that its machine does not survive.
            Told::Peer(PeerOutput::Recall { .. } | PeerOutput::Joined { .. }) => {}
            Told::Peer(PeerOutput::JoinWaits) => self.say("waits until its former life is fenced"),
            Told::HomeBegins { term } => self.say(&format!("has the home, in term {term}")),
            Told::Lost { extent, .. } => drop(self.lost.insert(extent)),
            Told::Suspect { slot, life } => {
                self.say(&format!("suspects the machine in slot {slot}, life {life}"));
            }
            Told::Fenced { slot, life } => {
                self.say(&format!(
                    "the machine in slot {slot} is fenced up to life {life}"
                ));
            }
            // Late copies; what is said of anybody else's mistake is a failure.
            Told::Refused(
                Refusal::Settled | Refusal::NotHeld | Refusal::DeadEra | Refusal::OtherTerm,
            )
            | Told::Peer(PeerOutput::Refused(
                Refusal::Settled | Refusal::NotHeld | Refusal::DeadEra | Refusal::Membership,
            )) => {}
            told => bail!("{}: {told:?}", self.name),
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        say::told(&format!("{}: {what}", self.name));
    }

    fn me(&self) -> u64 {
        u64::from(self.slot) + 1
    }
}
