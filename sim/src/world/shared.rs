//! Extents that all hosts share: the real home and the real peers, a network between them that
//! loses, doubles and delays, the driver's duties, and users whose lines lie in the fabric.
//!
//! Host 0 has the home. Lines are kept coherent by software alone: who is granted a version that
//! its host has not cached drops the lines first, and who has written writes back before it
//! releases.

use std::collections::{BTreeMap, BTreeSet};

use coherence::host::{
    Ask, Change, Home, HomeInput, HomeLimits, HomeOutput, Peer, PeerInput, PeerLimits, PeerOutput,
    Record, Right, State, ToHome, ToPeer,
};
use fabric_emu::fabric::AccessError;
use fabric_emu::span::Span;
use pool_core::units::LINE_BYTES;
use pool_core::{Nanos, planted};

use super::World;
use super::clients::is_honest;
use super::lines::{SHARED, address};
use super::memory::{line_of, mark_of};
use crate::broken::{Checked, broken, holds};
use crate::oracle::shared::Truth;

/// Lines of a shared extent that anybody writes.
pub(crate) const SHARED_LINES: u32 = 3;
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
    /// Of each host, which version of an extent its caches may have.
    cached: Vec<BTreeMap<u32, u64>>,
    /// Of each host, extents of which a line did not reach memory.
    lost: Vec<BTreeSet<u32>>,
    /// The home dies after so many outputs of its next step.
    armed: Option<usize>,
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
            cached: vec![BTreeMap::new(); count],
            lost: vec![BTreeSet::new(); count],
            armed: None,
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

    /// When something happens next by itself.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let later = self.later.keys().next().map(|(due, _)| *due);
        let home = self.home.as_ref().and_then(Home::next_deadline);
        let peers = self.peers.iter().filter_map(Peer::next_deadline);
        let ticks = peers.chain(home).map(Nanos::get);
        ticks.chain(later).min()
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
        }
        let now = self.now;
        let is_due = |deadline: Option<Nanos>| deadline.is_some_and(|due| due <= now);
        if self.home_acts() && is_due(self.shared.home.as_ref().and_then(Home::next_deadline)) {
            self.step_home(HomeInput::Tick)?;
        }
        for h in 0..self.machines.len() {
            if self.machines[h].acts() && is_due(self.shared.peers[h].next_deadline()) {
                self.step_peer(h, PeerInput::Tick)?;
            }
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
                let is_member = self.shared.peers[h].member().is_some();
                if self.machines[h].acts() && is_member && self.lines.join_shared(h).is_err() {
                    self.after(pause, later);
                }
                self.hear_of_lost();
            }
        }
        Ok(())
    }

    fn home_born(&mut self) -> Checked {
        if self.shared.home.is_some() {
            return Ok(());
        }
        let limits = self.shared.limits();
        let rows = self.shared.journal.values().cloned();
        let (home, outputs) = match Home::recover(self.now, limits, rows) {
            Ok(born) => born,
            Err(error) => return broken("a home starts from its journal", error),
        };
        self.shared.home = Some(home);
        self.perform_home(outputs);
        Ok(())
    }

    /// The home dies, or its host does.
    pub(super) fn home_dies(&mut self) {
        if self.shared.home.take().is_some() {
            self.trace.fault("home-death", [0; 4]);
            let span = self.rng.below(40 * MS);
            self.after(span, Later::HomeBorn);
        }
    }

    /// The home dies within its next step.
    pub(super) fn arm_home(&mut self, outputs: usize) {
        self.shared.armed = Some(outputs);
    }

    fn step_home(&mut self, input: HomeInput) -> Checked {
        let now = self.now;
        let Some(home) = self.shared.home.as_mut() else {
            return Ok(());
        };
        let mut outputs = home.step(now, input);
        if let Err(found) = home.check() {
            return broken("the home is sound", found);
        }
        self.trace
            .note("home", [outputs.len() as u64, now.get(), 0, 0]);
        let dies = self.shared.armed.take().filter(|_| !self.heals);
        if let Some(count) = dies {
            if count > 0 && count < outputs.len() {
                self.trace.reached("the home dies between its outputs");
            }
            outputs.truncate(count);
        }
        self.perform_home(outputs);
        if dies.is_some() {
            self.home_dies();
        }
        Ok(())
    }

    fn perform_home(&mut self, outputs: Vec<HomeOutput>) {
        for output in outputs {
            match output {
                HomeOutput::Record(record) => {
                    self.shared.journal.insert(key(&record), record);
                }
                HomeOutput::Send(message) => self.post_message(Later::ToPeer(message)),
                HomeOutput::Lost { extent, .. } => {
                    self.trace.note("extent-lost", [u64::from(extent), 0, 0, 0]);
                    self.trace.reached("an extent is lost with its host");
                    let span = self.rng.below(30 * MS);
                    self.after(span, Later::Mend(extent));
                }
                HomeOutput::Suspect { host, era } => {
                    let span = self.rng.below(20 * MS);
                    self.after(span, Later::Condemn(host, era));
                }
                HomeOutput::Fence { host, era } => {
                    let span = self.rng.below(10 * MS);
                    self.after(span, Later::Fence(host, era));
                }
                HomeOutput::Refused(_) => self.trace.reached("a late message is refused"),
            }
        }
    }

    /// A host that was condemned is cut off, and the home is told.
    fn fence(&mut self, host: u8, era: u64) -> Checked {
        let home = self.shared.home.as_ref();
        let is_due = home.is_some_and(|home| home.condemned(host) == Some(era));
        if is_due && self.home_acts() && self.lines.fence(usize::from(host)).is_ok() {
            self.hear_of_lost();
            self.trace
                .fault("host-fenced", [u64::from(host), era, 0, 0]);
            self.shared.truth.fenced(host, era);
            self.step_home(HomeInput::HostFenced { host, era })?;
        }
        let home = self.shared.home.as_ref();
        if home.is_none_or(|home| home.condemned(host) == Some(era)) {
            self.after(20 * MS, Later::Fence(host, era));
        }
        Ok(())
    }

    /// Condemns a host that lives, or lived.
    pub(super) fn condemn(&mut self, h: usize, within: u64) {
        if let Some(era) = self.shared.peers[h].member() {
            let span = self.rng.below(within.max(1));
            self.after(span, Later::Condemn(slot_of(h), era));
        }
    }

    /// The host dies with its peer and all users.
    pub(super) fn peer_dies(&mut self, h: usize) {
        let slot = slot_of(h);
        self.condemn(h, 100 * MS);
        self.shared.peers[h] = Peer::new(slot, PeerLimits::default());
        self.shared.truth.end_users(slot);
        self.shared.uses[h].clear();
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
        let now = self.now;
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

    fn user_granted(
        &mut self,
        h: usize,
        era: u64,
        (user, extent): (u64, u32),
        right: Right,
        (epoch, version): (u64, u64),
    ) -> Checked {
        let slot = slot_of(h);
        if !self.shared.truth.is_fenced(slot, era) {
            let what = (epoch, version);
            let granted = self
                .shared
                .truth
                .granted((slot, user), extent, right, what)?;
            if granted {
                self.trace
                    .reached("an extent is read that another host wrote");
            }
        }
        // Lines of another version are stale.
        let cached = self.shared.cached[h].insert(extent, version);
        if cached != Some(version) && !planted!("sim.keeps_stale_lines") {
            self.flush_extent(h, extent);
        }
        self.shared.lost[h].remove(&extent);
        let mark = self.mark();
        let used = Use {
            era,
            writes: right == Right::Exclusive,
            version,
            mark,
            written: 0,
        };
        self.shared.uses[h].insert((user, extent), used);
        Ok(())
    }

    fn flush_extent(&mut self, h: usize, extent: u32) {
        for line in 0..SHARED_LINES {
            self.flush_line(h, address(SHARED, extent, line));
        }
    }

    /// A process asks for an extent.
    pub(super) fn acquire(&mut self, h: usize, pid: u32, pick: u16) -> Checked {
        let (user, extent) = (u64::from(pid), u32::from(pick / 4) % self.shared.extents);
        let peer = &self.shared.peers[h];
        let waits = peer.waiting(extent).any(|(waiter, _)| waiter == user);
        if waits || self.shared.uses[h].contains_key(&(user, extent)) {
            return Ok(());
        }
        let right = if pick.is_multiple_of(2) {
            Right::Exclusive
        } else {
            Right::Shared
        };
        let patience = 30 * MS + self.rng.below(200 * MS);
        let acquire = PeerInput::Acquire {
            user,
            extent,
            right,
            deadline: self.now.saturating_add(Nanos::new(patience)),
        };
        self.step_peer(h, acquire)
    }

    fn use_of(&self, h: usize, pid: u32, pick: u16) -> Option<((u64, u32), Use)> {
        let user = u64::from(pid);
        let mine = || self.shared.uses[h].range((user, 0)..=(user, u32::MAX));
        let place = usize::from(pick).checked_rem(mine().count())?;
        mine().nth(place).map(|(&at, &used)| (at, used))
    }

    /// A user writes the next line of an extent, or reads one.
    pub(super) fn touch(&mut self, h: usize, pid: u32, pick: u16, choice: u16) -> Checked {
        match self.use_of(h, pid, pick) {
            Some((at, used)) => self.touch_line(h, at, used, u32::from(choice)),
            None => Ok(()),
        }
    }

    fn touch_line(&mut self, h: usize, at: (u64, u32), used: Use, choice: u32) -> Checked {
        let (slot, extent) = (slot_of(h), at.1);
        if !used.writes {
            let line = choice % SHARED_LINES;
            let loaded = self.lines.load(h, address(SHARED, extent, line));
            self.hear_of_lost();
            self.trace.note(
                "shared-load",
                [h as u64, at.0, u64::from(extent), used.version],
            );
            if self.shared.truth.is_fenced(slot, used.era) {
                return Ok(());
            }
            return match loaded {
                Ok(content) => {
                    let found = mark_of(&content);
                    let truth = &self.shared.truth;
                    truth.read(slot, (extent, line), used.version, found)
                }
                Err(AccessError::Poisoned) => {
                    self.trace.reached("a line is poisoned and told");
                    self.shared.truth.told_poisoned((extent, line))
                }
                Err(_) => Ok(()),
            };
        }
        let line = used.written.min(SHARED_LINES - 1);
        let stored = self
            .lines
            .store(h, address(SHARED, extent, line), line_of(used.mark));
        self.hear_of_lost();
        self.trace.note(
            "shared-store",
            [h as u64, at.0, u64::from(extent), used.mark],
        );
        if stored.is_err() {
            return Ok(());
        }
        if let Some(used) = self.shared.uses[h].get_mut(&at) {
            used.written = line + 1;
        }
        Ok(())
    }

    /// The users of a host that wakes go on where they were, before the host hears anything.
    pub(super) fn users_wake(&mut self, h: usize) -> Checked {
        for ((user, extent), used) in self.shared.uses[h].clone() {
            self.touch_line(h, (user, extent), used, 0)?;
            if self.rng.once_in(2) {
                self.end_use(h, user, extent)?;
            }
        }
        Ok(())
    }

    /// A user ends its use; a writer writes what it has not written yet, and writes back.
    pub(super) fn release(&mut self, h: usize, pid: u32, pick: u16) -> Checked {
        match self.use_of(h, pid, pick) {
            Some(((user, extent), _)) => self.end_use(h, user, extent),
            None => Ok(()),
        }
    }

    fn end_use(&mut self, h: usize, user: u64, extent: u32) -> Checked {
        let at = (user, extent);
        for _ in 0..SHARED_LINES {
            match self.shared.uses[h].get(&at).copied() {
                Some(used) if used.writes && (1..SHARED_LINES).contains(&used.written) => {
                    self.touch_line(h, at, used, 0)?;
                }
                _ => break,
            }
        }
        let Some(used) = self.shared.uses[h].get(&at).copied() else {
            return Ok(());
        };
        let mut change = Change::None;
        if used.writes && used.written > 0 {
            let reached = self.write_extent_back(h, extent) && used.written == SHARED_LINES;
            change = if reached {
                Change::Published
            } else {
                Change::Torn
            };
        }
        self.give_up(h, at, used, change)
    }

    /// Writes back what a user wrote. False where it did not reach memory.
    fn write_extent_back(&mut self, h: usize, extent: u32) -> bool {
        let lines = SHARED_LINES - u32::from(planted!("sim.skips_write_back"));
        for line in 0..lines {
            if let Some(span) = Span::new(address(SHARED, extent, line), LINE_BYTES) {
                self.lines.write_back(h, span, false);
            }
        }
        self.hear_of_lost();
        if self.shared.lost[h].contains(&extent) {
            return false;
        }
        let slot = slot_of(h);
        let era = self.shared.peers[h].member().unwrap_or(0);
        for line in 0..SHARED_LINES {
            if !self.shared.truth.is_fenced(slot, era)
                && self.shared.truth.was_poisoned((extent, line))
            {
                self.trace.reached("a poisoned line is written anew");
            }
        }
        true
    }

    fn give_up(&mut self, h: usize, at: (u64, u32), used: Use, change: Change) -> Checked {
        let (slot, (user, extent)) = (slot_of(h), at);
        self.shared.uses[h].remove(&at);
        if change == Change::Torn && !planted!("sim.leaves_torn_lines") {
            // Before the home hears of it: later they would fall upon what others write.
            self.flush_extent(h, extent);
        }
        if !self.shared.truth.is_fenced(slot, used.era) {
            self.shared.truth.ended((slot, user), extent);
            if change == Change::Published {
                let (version, mark) = (used.version + 1, Some(used.mark));
                self.shared.truth.published(slot, extent, version, mark)?;
                self.shared.cached[h].insert(extent, version);
            }
        }
        let release = PeerInput::Release {
            user,
            extent,
            change,
        };
        self.step_peer(h, release)
    }

    /// A process is killed: what it was writing is torn, and it waits no longer.
    pub(super) fn user_dies(&mut self, h: usize, pid: u32) -> Checked {
        let user = u64::from(pid);
        for extent in 0..self.shared.extents {
            if let Some(used) = self.shared.uses[h].get(&(user, extent)).copied() {
                let change = if used.writes && used.written > 0 {
                    Change::Torn
                } else {
                    Change::None
                };
                self.give_up(h, (user, extent), used, change)?;
                continue;
            }
            let peer = &self.shared.peers[h];
            if peer.waiting(extent).any(|(waiter, _)| waiter == user) {
                let change = Change::None;
                self.step_peer(
                    h,
                    PeerInput::Release {
                        user,
                        extent,
                        change,
                    },
                )?;
            }
        }
        Ok(())
    }

    /// A host gives back what nobody uses.
    pub(super) fn drop_extent(&mut self, h: usize, pick: u16) -> Checked {
        let extent = u32::from(pick) % self.shared.extents;
        self.step_peer(h, PeerInput::Drop { extent })
    }

    /// A line of a host did not reach memory.
    pub(super) fn line_lost(&mut self, h: usize, extent: u32) {
        self.shared.lost[h].insert(extent);
        self.shared.cached[h].remove(&extent);
        let era = self.shared.peers[h].member().unwrap_or(0);
        if self.shared.truth.is_fenced(slot_of(h), era) {
            self.trace.reached("a zombie writes back into nothing");
        }
    }

    /// A lost extent is repaired from a copy, or accepted as it is.
    fn mend(&mut self, extent: u32) -> Checked {
        let row = self
            .shared
            .home
            .as_ref()
            .and_then(|home| home.extent(extent));
        let Some(row) = row.filter(|_| self.home_acts()) else {
            self.after(10 * MS, Later::Mend(extent));
            return Ok(());
        };
        let State::Lost { last_good } = row.state else {
            return Ok(());
        };
        if self.rng.once_in(4) {
            let version = if self.rng.once_in(2) {
                last_good + 1
            } else {
                last_good.saturating_sub(1)
            };
            if version != last_good {
                self.step_home(HomeInput::Repaired { extent, version })?;
            }
            let home = self.shared.home.as_ref();
            let state = home
                .and_then(|home| home.extent(extent))
                .map(|row| row.state);
            let is_taken = !matches!(state, Some(State::Lost { .. }) | None);
            holds(!is_taken, "only the last good copy repairs", || {
                format!("extent {extent}, lost after {last_good}, took version {version}")
            })?;
            if state.is_none() {
                self.after(10 * MS, Later::Mend(extent));
                return Ok(());
            }
        }
        let copy = self.shared.truth.content(extent, last_good);
        let copy = copy.filter(|_| self.rng.below(100) >= 30);
        let Some(mark) = copy else {
            self.trace.reached("an extent is accepted as it is");
            self.shared.truth.published(0, extent, row.version, None)?;
            return self.step_home(HomeInput::Accepted { extent });
        };
        for line in 0..SHARED_LINES {
            let at = address(SHARED, extent, line);
            self.flush_line(0, at);
            let stored = self.lines.store(0, at, line_of(mark));
            self.flush_line(0, at);
            let is_there = self
                .lines
                .load(0, at)
                .is_ok_and(|line| line == line_of(mark));
            self.hear_of_lost();
            if stored.is_err() || !is_there {
                self.after(10 * MS, Later::Mend(extent));
                return Ok(());
            }
        }
        self.trace.reached("an extent is repaired");
        self.shared.cached[0].remove(&extent);
        self.shared
            .truth
            .published(0, extent, row.version, Some(mark))?;
        let version = last_good;
        self.step_home(HomeInput::Repaired { extent, version })
    }

    /// A line of a shared extent is lost.
    pub(super) fn poison_shared(&mut self, h: usize, pick: u16) {
        let (extent, line) = (u32::from(pick) % self.shared.extents, u32::from(pick / 16));
        let line = line % SHARED_LINES;
        if self.lines.poison(h, address(SHARED, extent, line)) {
            self.trace
                .fault("line-poisoned", [u64::from(extent), u64::from(line), 1, 0]);
            self.shared.truth.poisoned((extent, line));
        }
    }
}
