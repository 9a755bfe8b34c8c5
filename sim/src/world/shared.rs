//! Extents that all hosts share: the real home and the real peers, a network between them that
//! loses, doubles and delays, the driver's duties, and users whose lines lie in the fabric.
//!
//! Host 0 has the home. Lines are kept coherent by software alone: who is granted a version that
//! its host has not cached drops the lines first, and who has written writes back before it
//! releases.
//!
//! Here: the network, what happens later, and the peers. `home`: the home and its driver. `users`:
//! who reads and writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use coherence::host::{
    Ask, Home, HomeInput, HomeLimits, Peer, PeerInput, PeerLimits, PeerOutput, Record, State,
    ToHome, ToPeer,
};
use pool_core::Nanos;

use super::World;
use super::clients::is_honest;
use super::lines::{SHARED, address};
use super::machine::Machine;
use crate::broken::{Checked, broken, holds};
use crate::oracle::shared::Truth;

mod home;
mod users;

const MS: u64 = 1_000_000;

/// What happens later.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Later {
    ToHome(ToHome),
    ToPeer(ToPeer),
    HomeBorn,
    Join(u8),
    Condemn(u8, u64),
    Fence(u8, u64),
    Mend(u32),
    /// The host is to be given what is shared.
    Regain(u8),
}

/// One user's use of an extent.
#[derive(Debug, Clone, Copy)]
struct Use {
    era: u64,
    writes: bool,
    version: u64,
    mark: u64,
    written: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    home: Option<Home>,
    journal: BTreeMap<(u8, u32), Record>,
    peers: Vec<Peer>,
    boots: Vec<u64>,
    later: BTreeMap<(u64, u64), Later>,
    last: u64,
    truth: Truth,
    uses: Vec<BTreeMap<(u64, u32), Use>>,
    /// Of each host, until when by its clock a user waits for an extent at most.
    asked: Vec<BTreeMap<(u64, u32), Nanos>>,
    /// Of each host, which version of an extent its caches may have.
    cached: Vec<BTreeMap<u32, u64>>,
    /// Of each host, extents of which a line did not reach memory.
    lost: Vec<BTreeSet<u32>>,
    /// The home dies after so many outputs of its next step.
    armed: Option<usize>,
    /// It goes through so many steps before that one.
    spared: u16,
    extents: u32,
}

fn key(record: &Record) -> (u8, u32) {
    match record {
        Record::Term { .. } => (0, 0),
        Record::Extent { extent, .. } => (1, *extent),
        Record::Host { slot, .. } => (2, u32::from(*slot)),
    }
}

fn slot_of(h: usize) -> u8 {
    u8::try_from(h).unwrap_or(u8::MAX)
}

impl Shared {
    pub(crate) fn new(hosts: u8, extents: u32) -> Self {
        let count = usize::from(hosts);
        Self {
            home: None,
            journal: BTreeMap::new(),
            peers: (0..hosts)
                .map(|slot| Peer::new(slot, PeerLimits::default()))
                .collect(),
            boots: vec![0; count],
            later: BTreeMap::new(),
            last: 0,
            truth: Truth::default(),
            uses: vec![BTreeMap::new(); count],
            asked: vec![BTreeMap::new(); count],
            cached: vec![BTreeMap::new(); count],
            lost: vec![BTreeSet::new(); count],
            armed: None,
            spared: 0,
            extents,
        }
    }

    fn limits(&self) -> HomeLimits {
        HomeLimits {
            extents: self.extents,
            patience: Nanos::from_millis(120),
            suspect_after: Nanos::from_millis(60),
            ..HomeLimits::default()
        }
    }

    /// Lines of a host that its users have written and not written back, by address.
    pub(crate) fn unwritten(&self, h: usize) -> Vec<u64> {
        let writers = self.uses[h].iter().filter(|(_, used)| used.writes);
        let lines = writers.flat_map(|((_, extent), used)| {
            (0..used.written).map(|line| address(SHARED, *extent, line))
        });
        lines.collect()
    }

    /// Whether a process of a host uses an extent.
    pub(crate) fn is_used_by(&self, h: usize, pid: u32) -> bool {
        let user = u64::from(pid);
        let mut uses = self.uses[h].range((user, 0)..=(user, u32::MAX));
        uses.next().is_some()
    }

    /// When something happens next by itself, as the world has it.
    pub(crate) fn next_due(&self, machines: &[Machine]) -> Option<u64> {
        let later = self.later.keys().next().map(|(due, _)| *due);
        let home = self.home.as_ref().and_then(Home::next_deadline);
        let peers = self.peers.iter().map(Peer::next_deadline);
        // The home is on host 0.
        let due = machines
            .iter()
            .zip(peers)
            .chain(machines.first().map(|it| (it, home)));
        let ticks = due.filter_map(|(machine, due)| Some(machine.clock.when(due?).get()));
        ticks.chain(later).min()
    }

    /// The home dies after so many outputs of a step, when it has gone through some others.
    pub(super) fn doom(&mut self, spared: u16, outputs: Option<u16>) {
        (self.spared, self.armed) = (spared, outputs.map(usize::from));
    }

    /// After how many outputs of the step that is now the home dies.
    fn loss_of_step(&mut self) -> Option<usize> {
        if self.armed.is_some() && self.spared > 0 {
            self.spared -= 1;
            return None;
        }
        self.armed.take()
    }

    /// All of it, but for what only numbers what is under way.
    pub(super) fn write_state(&self, text: &mut String) -> std::fmt::Result {
        let later = self.later.iter().map(|((due, _), later)| (due, later));
        let way = later.collect::<Vec<_>>();
        write!(text, "{way:?}{:?}{:?}", self.home, self.journal)?;
        write!(text, "{:?}{:?}{:?}", self.peers, self.boots, self.truth)?;
        write!(text, "{:?}{:?}{:?}", self.uses, self.cached, self.lost)?;
        let asked = &self.asked; // Empty, where everything is tried.
        let (armed, spared, extents) = (self.armed, self.spared, self.extents);
        write!(text, "{armed:?}{spared}{extents}{asked:?}")
    }

    /// Nobody waits, and nothing is lost.
    pub(crate) fn at_rest(&self) -> Checked {
        let waits = self.home.as_ref().map_or(1, Home::waiting);
        holds(waits == 0, "all are answered", || {
            format!("{waits} requests wait at the home")
        })?;
        if let Some(peer) = self.peers.iter().find(|peer| !peer.is_settled()) {
            return broken("all are answered", format_args!("a host waits: {peer:?}"));
        }
        if let Some(peer) = self.peers.iter().find(|peer| peer.member().is_none()) {
            return broken("all hosts are members again", format_args!("{peer:?}"));
        }
        for extent in 0..self.extents {
            let row = self.home.as_ref().and_then(|home| home.extent(extent));
            let state = row.map(|row| row.state);
            let is_lost = matches!(state, Some(State::Lost { .. }));
            holds(!is_lost, "what is lost is mended", || {
                format!("extent {extent} is {state:?}")
            })?;
        }
        Ok(())
    }
}

impl World {
    fn after(&mut self, span: u64, later: Later) {
        self.shared.last += 1;
        let due = (self.now.get() + span, self.shared.last);
        self.shared.later.insert(due, later);
    }

    /// The home is born, and all hosts join.
    pub(super) fn begin_shared(&mut self) {
        self.after(0, Later::HomeBorn);
        for slot in 0..self.mix.hosts {
            self.after(1, Later::Join(slot));
        }
    }

    /// Into the network: lost, doubled, late.
    fn post_message(&mut self, message: Later) {
        let (mix, calm) = (&self.mix, self.heals);
        let (lost, doubled, late) = (mix.lost_percent, mix.doubled_percent, mix.late_percent);
        let mut draws = |percent| self.rng.below(100) < percent && !calm;
        let copies = if draws(lost) {
            0
        } else {
            1 + u64::from(draws(doubled))
        };
        let is_late = draws(late);
        if copies != 1 || is_late {
            self.trace
                .fault("message-troubled", [copies, u64::from(is_late), 0, 0]);
        }
        for _ in 0..copies {
            let most = if is_late { 300 * MS } else { 2 * MS };
            let span = 100_000 + self.rng.below(most);
            self.after(span, message);
        }
    }

    /// All that is due by now.
    pub(super) fn run_shared(&mut self) -> Checked {
        while let Some((&(due, last), &later)) = self.shared.later.first_key_value() {
            if due > self.now.get() {
                break;
            }
            self.shared.later.remove(&(due, last));
            self.happens(later)?;
            self.came()?;
        }
        let due = self.shared.home.as_ref().and_then(Home::next_deadline);
        if self.home_acts() && due.is_some_and(|due| self.has_passed(0, due)) {
            self.step_home(HomeInput::Tick)?;
        }
        for h in 0..self.machines.len() {
            let due = self.shared.peers[h].next_deadline();
            if self.machines[h].acts() && due.is_some_and(|due| self.has_passed(h, due)) {
                self.step_peer(h, PeerInput::Tick)?;
            }
            self.nobody_waits_too_long(h)?;
        }
        Ok(())
    }

    fn home_acts(&self) -> bool {
        self.shared.home.is_some() && self.machines[0].acts()
    }

    fn happens(&mut self, later: Later) -> Checked {
        // What comes to a host that pauses waits for it, and for a while after it wakes.
        let pause = MS + self.rng.below(30 * MS);
        match later {
            Later::ToHome(_) if !self.machines[0].acts() => {
                if self.machines[0].alive {
                    self.after(pause, later);
                }
            }
            Later::ToHome(message) => return self.step_home(HomeInput::Message(message)),
            Later::ToPeer(message) => {
                let h = usize::from(message.to);
                if self.machines[h].acts() {
                    return self.step_peer(h, PeerInput::Message(message));
                }
                if self.machines[h].alive {
                    self.after(pause, later);
                }
            }
            Later::HomeBorn if self.machines[0].acts() => return self.home_born(),
            Later::HomeBorn => self.after(pause, later),
            Later::Join(slot) => return self.join(usize::from(slot)),
            Later::Condemn(host, era) => {
                if self.home_acts() {
                    self.step_home(HomeInput::Condemn { host, era })?;
                }
                let home = self.shared.home.as_ref();
                if home.is_none_or(|home| home.member(host) == Some(era)) {
                    self.after(20 * MS, later);
                }
            }
            Later::Fence(host, era) => return self.fence(host, era),
            Later::Mend(extent) => return self.mend(extent),
            Later::Regain(slot) => {
                let h = usize::from(slot);
                // Whoever cut a host off gives it nothing again before it has joined anew, which
                // it may not know of yet.
                let truth = &self.shared.truth;
                let era = self.shared.peers[h].member();
                let is_member = era.is_some_and(|era| !truth.is_fenced(slot, era));
                if self.machines[h].acts() && is_member && self.lines.join_shared(h).is_err() {
                    self.after(pause, later);
                }
                self.hear_of_lost();
            }
        }
        Ok(())
    }

    /// The host dies with its peer and all users.
    pub(super) fn peer_dies(&mut self, h: usize) {
        let slot = slot_of(h);
        self.condemn(h, 100 * MS);
        self.shared.peers[h] = Peer::new(slot, PeerLimits::default());
        self.shared.truth.end_users(slot);
        self.shared.uses[h].clear();
        self.shared.asked[h].clear();
        self.shared.cached[h].clear();
        self.shared.lost[h].clear();
        if h == 0 {
            self.home_dies();
        }
    }

    /// The host lives again and joins.
    pub(super) fn peer_starts(&mut self, h: usize) {
        let span = self.rng.below(20 * MS);
        self.after(span, Later::Join(slot_of(h)));
    }

    fn join(&mut self, h: usize) -> Checked {
        if !self.machines[h].alive || self.shared.peers[h].member().is_some() {
            return Ok(());
        }
        if self.machines[h].paused {
            self.after(5 * MS, Later::Join(slot_of(h)));
            return Ok(());
        }
        // It uses nothing of the device, and caches no line of it.
        self.lines.leave_shared(h);
        self.hear_of_lost();
        self.shared.cached[h].clear();
        self.shared.boots[h] += 1;
        let boot = self.shared.boots[h];
        self.step_peer(h, PeerInput::Join { boot })
    }

    fn step_peer(&mut self, h: usize, input: PeerInput) -> Checked {
        let now = self.time(h);
        let peer = &mut self.shared.peers[h];
        let before = peer.member();
        let outputs = peer.step(now, input);
        let era = before.or(peer.member()).unwrap_or(0);
        self.trace
            .note("peer", [h as u64, outputs.len() as u64, now.get(), era]);
        for output in outputs {
            self.perform_peer(h, era, output)?;
        }
        Ok(())
    }

    fn perform_peer(&mut self, h: usize, era: u64, output: PeerOutput) -> Checked {
        let slot = slot_of(h);
        match output {
            PeerOutput::Send(message) => {
                if let Ask::Release { extent, epoch, .. } = message.ask
                    && !self.shared.truth.is_fenced(slot, era)
                {
                    self.shared.truth.told_over(slot, extent, epoch);
                }
                self.post_message(Later::ToHome(message));
            }
            PeerOutput::Granted {
                user,
                extent,
                right,
                epoch,
                version,
            } => self.user_granted(h, era, (user, extent), right, (epoch, version))?,
            PeerOutput::Revoked { user, extent } => {
                self.shared.truth.ended((slot, user), extent);
                self.shared.uses[h].remove(&(user, extent));
                self.flush_extent(h, extent);
            }
            PeerOutput::Joined { .. } => self.after(0, Later::Regain(slot)),
            PeerOutput::JoinRefused { latest } => {
                self.shared.boots[h] = self.shared.boots[h].max(latest);
                self.after(MS, Later::Join(slot));
            }
            PeerOutput::Ended { era } => {
                if self.shared.truth.is_fenced(slot, era) {
                    self.trace.reached("a zombie hears that its era is over");
                }
                self.shared.truth.end_users(slot);
                self.shared.uses[h].clear();
                let span = self.rng.below(20 * MS);
                self.after(span, Later::Join(slot));
            }
            // An honest user lets go where it is asked: some at once.
            PeerOutput::Recall { user, extent } => {
                if u32::try_from(user).is_ok_and(is_honest) {
                    self.end_use(h, user, extent)?;
                }
            }
            PeerOutput::Refused(_) => self.trace.reached("a late message is refused"),
            PeerOutput::Denied { .. } | PeerOutput::JoinWaits => {}
        }
        Ok(())
    }
}
