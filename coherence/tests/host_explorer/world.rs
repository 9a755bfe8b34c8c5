//! A world: one home, some peers, all that was ever sent, and what may still go wrong.

use coherence::host::{
    Change, Home, HomeInput, HomeLimits, Peer, PeerInput, PeerLimits, PeerOutput, Right, State,
};
use pool_core::Nanos;

use crate::memo::{Envelope, Memo, PeerStep};
use crate::truth::Truth;

pub(crate) const PEERS_MAX: usize = 3;

/// How large a world is, and what may happen in it how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) peers: usize,
    pub(crate) extents: u32,
    pub(crate) users: u64,
    /// How often users of each peer ask.
    pub(crate) asks: [u8; PEERS_MAX],
    /// What they ask for.
    pub(crate) rights: &'static [Right],
    /// Hosts that die, and may live again.
    pub(crate) kills: u8,
    /// Whether hosts that died live again.
    pub(crate) rejoins: bool,
    /// Living hosts that are fenced.
    pub(crate) cuts: u8,
    /// Deaths of the home, after any output of any step.
    pub(crate) restarts: u8,
    /// Passings of all deadlines.
    pub(crate) expiries: u8,
    /// Writers that die without their host.
    pub(crate) tears: u8,
    /// Idle grants that a host drops.
    pub(crate) drops: u8,
    /// Lost extents that get content again.
    pub(crate) mends: u8,
    /// Worlds beyond this epoch are looked at and not followed: late copies of requests may cause
    /// useless grants without end, while a request of a lower ticket waits.
    pub(crate) epochs: u64,
    /// One in how many states a fair run starts from.
    pub(crate) fair_every: u64,
}

impl Scope {
    pub(crate) const QUIET: Self = Self {
        name: "",
        peers: 2,
        extents: 1,
        users: 1,
        asks: [1, 1, 1],
        rights: &[Right::Shared, Right::Exclusive],
        kills: 0,
        rejoins: true,
        cuts: 0,
        restarts: 0,
        expiries: 0,
        tears: 0,
        drops: 0,
        mends: 0,
        epochs: 16,
        fair_every: 1,
    };
}

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    asks: [u8; PEERS_MAX],
    kills: u8,
    cuts: u8,
    restarts: u8,
    expiries: u8,
    tears: u8,
    drops: u8,
    mends: u8,
    /// The present life of each host.
    boot: [u8; PEERS_MAX],
}

/// A state of the world: its parts by number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) home: u32,
    pub(crate) peers: [u32; PEERS_MAX],
    /// Sorted, none twice.
    pub(crate) net: Vec<u32>,
    pub(crate) truth: u32,
    pub(crate) now: u8,
    pub(crate) budget: Budget,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Deliver(u32),
    /// The home dies within the delivery, with the outcome of this number.
    Crash(u32, usize),
    Home(HomeInput),
    Peer(usize, PeerInput),
    Kill(usize),
    Cut(u8, u64),
    Fence(u8, u64),
    Restart,
    Expire,
}

pub(crate) fn limits() -> (HomeLimits, PeerLimits) {
    let home = HomeLimits {
        extents: 2,
        contended_max: 2,
        resend_first: Nanos::ZERO,
        resend_longest: Nanos::ZERO,
        patience: Nanos::new(1),
        suspect_after: Nanos::new(1),
    };
    let peer = PeerLimits {
        extents_max: 2,
        users_max: 2,
        resend_first: Nanos::ZERO,
        resend_longest: Nanos::ZERO,
    };
    (home, peer)
}

/// The slot of a peer; the last of three is the home's own.
pub(crate) fn slot(peer: usize) -> u8 {
    [1, 2, 0][peer]
}

fn peer_of(slot: u8) -> usize {
    (0..PEERS_MAX)
        .find(|peer| crate::world::slot(*peer) == slot)
        .unwrap()
}

impl World {
    /// All hosts have joined.
    pub(crate) fn begin(scope: &Scope, memo: &mut Memo) -> Result<Self, String> {
        let (home, peer) = limits();
        let (born, _) = Home::recover(Nanos::ZERO, home, []).unwrap();
        let mut world = Self {
            home: memo.homes.number(born),
            peers: [0; PEERS_MAX],
            net: Vec::new(),
            truth: memo.truths.number(Truth::default()),
            now: 0,
            budget: Budget {
                asks: scope.asks,
                kills: scope.kills,
                cuts: scope.cuts,
                restarts: scope.restarts,
                expiries: scope.expiries,
                tears: scope.tears,
                drops: scope.drops,
                mends: scope.mends,
                boot: [1; PEERS_MAX],
            },
        };
        for index in 0..PEERS_MAX {
            world.peers[index] = memo.peers.number(Peer::new(slot(index), peer));
        }
        for index in 0..scope.peers {
            let join = PeerInput::Join { boot: 1 };
            world = world.apply(memo, Action::Peer(index, join))?;
            let asked = world.net.last().copied().unwrap();
            world = world.apply(memo, Action::Deliver(asked))?;
            let all = world.net.clone();
            for id in all {
                if matches!(memo.envelopes.get(id), Envelope::ToPeer(_)) {
                    world = world.apply(memo, Action::Deliver(id))?;
                }
            }
        }
        Ok(world)
    }

    fn send(&mut self, sends: &[u32]) {
        for id in sends {
            if let Err(place) = self.net.binary_search(id) {
                self.net.insert(place, *id);
            }
        }
    }

    /// Whether what follows is not looked at.
    pub(crate) fn is_beyond(&self, scope: &Scope, memo: &Memo) -> bool {
        let home = memo.homes.get(self.home);
        (0..scope.extents)
            .filter_map(|extent| home.extent(extent))
            .any(|row| row.epoch > scope.epochs)
    }

    /// All that may happen.
    pub(crate) fn actions(&self, scope: &Scope, memo: &mut Memo) -> Result<Vec<Action>, String> {
        let mut actions = Vec::new();
        for id in &self.net {
            actions.push(Action::Deliver(*id));
            if self.budget.restarts > 0
                && let Some(input) = home_input(memo.envelopes.get(*id))
            {
                // The last outcome is the step itself and a restart after it.
                let step = memo.home_step(self.home, self.now, input)?;
                let within = step.crashes.len().saturating_sub(1);
                actions.extend((0..within).map(|at| Action::Crash(*id, at)));
            }
        }
        actions.push(Action::Home(HomeInput::Tick));
        if self.budget.restarts > 0 {
            actions.push(Action::Restart);
        }
        if self.budget.expiries > 0 {
            actions.push(Action::Expire);
        }
        self.mends(scope, memo, &mut actions);
        for index in 0..scope.peers {
            self.peer_actions(scope, memo, index, &mut actions);
        }
        let truth = memo.truths.get(self.truth);
        for index in 0..scope.peers {
            let slot = slot(index);
            let condemned = memo.homes.get(self.home).condemned(slot);
            if let Some(era) = condemned.filter(|era| !truth.is_fenced(slot, *era)) {
                actions.push(Action::Fence(slot, era));
            }
        }
        Ok(actions)
    }

    fn mends(&self, scope: &Scope, memo: &Memo, actions: &mut Vec<Action>) {
        for extent in 0..scope.extents {
            let row = memo.homes.get(self.home).extent(extent).unwrap_or_default();
            if let State::Lost { last_good } = row.state
                && self.budget.mends > 0
            {
                let older = last_good.saturating_sub(1);
                for version in [last_good, older, last_good + 1] {
                    actions.push(Action::Home(HomeInput::Repaired { extent, version }));
                }
                actions.push(Action::Home(HomeInput::Accepted { extent }));
            }
        }
    }

    fn peer_actions(&self, scope: &Scope, memo: &Memo, index: usize, actions: &mut Vec<Action>) {
        let peer = memo.peers.get(self.peers[index]);
        let Some(era) = peer.member() else {
            let boot = u64::from(self.budget.boot[index]) + 1;
            // A host that was cut off may join again as well.
            if scope.rejoins {
                actions.push(Action::Peer(index, PeerInput::Join { boot }));
            }
            actions.push(Action::Peer(index, PeerInput::Tick));
            return;
        };
        actions.push(Action::Peer(index, PeerInput::Tick));
        if self.budget.kills > 0 {
            actions.push(Action::Kill(index));
        }
        let truth = memo.truths.get(self.truth);
        if self.budget.cuts > 0 && !truth.is_fenced(slot(index), era) {
            actions.push(Action::Cut(slot(index), era));
        }
        for extent in 0..scope.extents {
            for user in 1..=scope.users {
                let held = peer.users(extent).find(|(holder, _)| *holder == user);
                let waits = peer.waiting(extent).any(|(waiter, _)| waiter == user);
                let input = |change| {
                    Action::Peer(
                        index,
                        PeerInput::Release {
                            user,
                            extent,
                            change,
                        },
                    )
                };
                if let Some((_, right)) = held {
                    actions.push(input(Change::None));
                    if right == Right::Exclusive {
                        actions.push(input(Change::Published));
                        if self.budget.tears > 0 {
                            actions.push(input(Change::Torn));
                        }
                    }
                } else if !waits && self.budget.asks[index] > 0 {
                    for right in scope.rights {
                        let acquire = PeerInput::Acquire {
                            user,
                            extent,
                            right: *right,
                            deadline: Nanos::new(u64::from(self.now) + 1),
                        };
                        actions.push(Action::Peer(index, acquire));
                    }
                }
            }
            if self.budget.drops > 0 && peer.holds(extent).is_some() {
                actions.push(Action::Peer(index, PeerInput::Drop { extent }));
            }
        }
    }

    /// The world after it.
    pub(crate) fn apply(&self, memo: &mut Memo, action: Action) -> Result<Self, String> {
        let mut world = self.clone();
        match action {
            Action::Deliver(id) => match *memo.envelopes.get(id) {
                Envelope::ToPeer(message) => {
                    let index = peer_of(message.to);
                    world.step_peer(memo, index, PeerInput::Message(message))?;
                }
                envelope => {
                    if let Some(input) = home_input(&envelope) {
                        world.step_home(memo, input)?;
                    }
                }
            },
            Action::Crash(id, outcome) => {
                if let Some(input) = home_input(memo.envelopes.get(id)) {
                    let step = memo.home_step(self.home, self.now, input)?;
                    let (home, sends) = &step.crashes[outcome];
                    world.home = *home;
                    world.send(sends);
                }
                world.budget.restarts -= 1;
            }
            Action::Restart => {
                let step = memo.home_step(self.home, self.now, HomeInput::Tick)?;
                let (home, sends) = &step.crashes[0];
                world.home = *home;
                world.send(sends);
                world.budget.restarts -= 1;
            }
            Action::Home(input) => world.step_home(memo, input)?,
            Action::Peer(index, input) => world.step_peer(memo, index, input)?,
            Action::Kill(index) => {
                let mut truth = memo.truths.get(self.truth).clone();
                let era = memo.peers.get(self.peers[index]).member();
                truth.killed(slot(index), era);
                world.truth = memo.truths.number(truth);
                let (_, limits) = limits();
                world.peers[index] = memo.peers.number(Peer::new(slot(index), limits));
                world.budget.kills -= 1;
                if let Some(era) = era {
                    let slot = slot(index);
                    let condemn = memo.envelopes.number(Envelope::Condemn { slot, era });
                    world.send(&[condemn]);
                }
            }
            Action::Fence(slot, era) => {
                let mut truth = memo.truths.get(self.truth).clone();
                truth.fenced(slot, era);
                world.truth = memo.truths.number(truth);
                let fence = memo.envelopes.number(Envelope::Fence { slot, era });
                world.send(&[fence]);
            }
            Action::Cut(slot, era) => {
                world.budget.cuts -= 1;
                let condemn = memo.envelopes.number(Envelope::Condemn { slot, era });
                world.send(&[condemn]);
            }
            Action::Expire => {
                world.now += 1;
                world.budget.expiries -= 1;
            }
        }
        world.check(memo)?;
        Ok(world)
    }

    fn step_home(&mut self, memo: &mut Memo, input: HomeInput) -> Result<(), String> {
        let step = memo.home_step(self.home, self.now, input)?;
        let last_good = match input {
            HomeInput::Repaired { extent, .. } | HomeInput::Accepted { extent } => {
                let row = memo.homes.get(self.home).extent(extent).unwrap_or_default();
                match row.state {
                    State::Lost { last_good } => Some((extent, last_good, row.version)),
                    _ => None,
                }
            }
            _ => None,
        };
        if let (Some((extent, last_good, version)), false) = (last_good, step.refused) {
            if matches!(input, HomeInput::Repaired { version, .. } if version != last_good) {
                return Err("a copy that is not the last good one was taken".to_owned());
            }
            let accept = matches!(input, HomeInput::Accepted { .. });
            let mut truth = memo.truths.get(self.truth).clone();
            truth.mended(extent, last_good, version, accept);
            self.truth = memo.truths.number(truth);
            self.budget.mends -= 1;
        }
        self.home = step.next;
        self.send(&step.sends);
        Ok(())
    }

    fn step_peer(&mut self, memo: &mut Memo, index: usize, input: PeerInput) -> Result<(), String> {
        let slot = slot(index);
        let era = memo.peers.get(self.peers[index]).member().unwrap_or(0);
        let step = memo.peer_step(self.peers[index], self.now, input)?;
        if step.next == self.peers[index] && step.sends.is_empty() {
            return Ok(());
        }
        self.pay(index, input, &step);
        self.peers[index] = step.next;
        self.send(&step.sends);
        let user = match input {
            PeerInput::Release {
                user,
                extent,
                change,
            } => Some((user, extent, change)),
            _ => None,
        };
        let joins = matches!(input, PeerInput::Join { .. });
        if user.is_none() && !joins && !Truth::concerns(&step.outputs) {
            return Ok(());
        }
        let mut truth = memo.truths.get(self.truth).clone();
        if joins {
            truth.joins(slot);
        }
        if let Some((user, extent, change)) = user {
            truth.released(slot, era, user, extent, change);
        }
        truth.follow(slot, era, &step.outputs)?;
        self.truth = memo.truths.number(truth);
        Ok(())
    }

    fn pay(&mut self, index: usize, input: PeerInput, step: &PeerStep) {
        match input {
            PeerInput::Acquire { .. } => self.budget.asks[index] -= 1,
            PeerInput::Drop { .. } => {
                let refused = |output: &PeerOutput| matches!(output, PeerOutput::Refused(_));
                self.budget.drops -= u8::from(!step.outputs.iter().any(refused));
            }
            PeerInput::Join { boot } => {
                self.budget.boot[index] = u8::try_from(boot).unwrap();
            }
            PeerInput::Release { change, .. } => {
                self.budget.tears -= u8::from(change == Change::Torn);
            }
            PeerInput::Message(_) | PeerInput::Tick => {}
        }
    }

    /// What a host holds, in an era that is not fenced, the home knows; and writers are alone.
    fn check(&self, memo: &Memo) -> Result<(), String> {
        let home = memo.homes.get(self.home);
        let truth = memo.truths.get(self.truth);
        for extent in 0..limits().0.extents {
            let mut held = Vec::new();
            for index in 0..PEERS_MAX {
                let peer = memo.peers.get(self.peers[index]);
                let slot = slot(index);
                let Some(era) = peer.member().filter(|era| !truth.is_fenced(slot, *era)) else {
                    continue;
                };
                if home.member(slot).or(home.condemned(slot)) != Some(era) {
                    return Err(format!(
                        "slot {slot} lives in era {era}, unknown to the home"
                    ));
                }
                let Some((ticket, right, epoch, _)) = peer.holds(extent) else {
                    continue;
                };
                let row = home.extent(extent).unwrap_or_default();
                let known = row.held_by(slot);
                if known.is_none_or(|(by, known)| by != ticket || known < right)
                    || row.epoch != epoch
                {
                    return Err(format!(
                        "slot {slot} holds {right:?} by {ticket} in epoch {epoch}; home: {row:?}"
                    ));
                }
                held.push(right);
            }
            if held.len() > 1 && held.contains(&Right::Exclusive) {
                return Err(format!("a writer is not alone with extent {extent}"));
            }
        }
        Ok(())
    }
}

pub(crate) fn home_input(envelope: &Envelope) -> Option<HomeInput> {
    match *envelope {
        Envelope::ToHome(message) => Some(HomeInput::Message(message)),
        Envelope::Condemn { slot, era } => Some(HomeInput::Condemn { host: slot, era }),
        Envelope::Fence { slot, era } => Some(HomeInput::HostFenced { host: slot, era }),
        Envelope::ToPeer(_) => None,
    }
}
