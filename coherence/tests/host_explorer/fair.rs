//! From any world, without further faults, whoever waits is answered.
//!
//! A fair run sends again what is due, delivers all that is sent, in turn, and lets users end
//! their use. With the dead fenced, nobody's patience may be needed; with a dead host that nobody
//! fences, the end of patience must be enough. Of what was under way before, a run loses all, or
//! begins with the delivery of all.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasherDefault;

use coherence::host::{Change, HomeInput, PeerInput};
use pool_core::Nanos;

use crate::memo::{Envelope, Memo, Quick};
use crate::world::{PEERS_MAX, Scope, World, home_input, slot};

const ROUNDS: u8 = 12;
const DELIVERIES_MAX: u32 = 5_000;

/// Where a run begins: home, peers, what is to be fenced, whether it is, and the time.
type Start = (u32, [u32; PEERS_MAX], Vec<(u8, u64)>, bool, u8);

/// Runs that were made; those from the same parts with nothing under way are made once.
#[derive(Default)]
pub(crate) struct Runs {
    pub(crate) count: u64,
    seen: HashSet<Start, BuildHasherDefault<Quick>>,
}

impl Runs {
    pub(crate) fn from(
        &mut self,
        scope: &Scope,
        memo: &mut Memo,
        world: &World,
    ) -> Result<(), String> {
        let dead = to_fence(scope, memo, world);
        for fence in [true, false] {
            if !fence && dead.is_empty() {
                continue;
            }
            let key = (world.home, world.peers, dead.clone(), fence, world.now);
            if self.seen.insert(key) {
                self.count += 1;
                run(scope, memo, world, fence, VecDeque::new())
                    .map_err(|wrong| format!("all lost, then fair: {wrong}"))?;
                let all = world.net.iter().copied().collect();
                run(scope, memo, world, fence, all)
                    .map_err(|wrong| format!("all delivered, then fair: {wrong}"))?;
            }
        }
        Ok(())
    }
}

/// The eras that a fair fabric fences: those of the dead, and the condemned ones.
fn to_fence(scope: &Scope, memo: &Memo, world: &World) -> Vec<(u8, u64)> {
    let home = memo.homes.get(world.home);
    let mut eras = memo.truths.get(world.truth).to_fence();
    for index in 0..scope.peers {
        if let Some(era) = home.condemned(slot(index)) {
            eras.push((slot(index), era));
        }
    }
    eras.sort_unstable();
    eras.dedup();
    eras
}

struct Run<'a> {
    scope: &'a Scope,
    memo: &'a mut Memo,
    home: u32,
    peers: [u32; PEERS_MAX],
    now: u8,
    under_way: VecDeque<u32>,
    deliveries: u32,
}

fn run(
    scope: &Scope,
    memo: &mut Memo,
    world: &World,
    fence: bool,
    under_way: VecDeque<u32>,
) -> Result<(), String> {
    let truth = memo.truths.get(world.truth);
    let mut fences = if fence {
        to_fence(scope, memo, world)
    } else {
        Vec::new()
    };
    // What is fenced is told until it is done.
    for index in 0..scope.peers {
        for era in 1..8 {
            if truth.is_fenced(slot(index), era) {
                fences.push((slot(index), era));
            }
        }
    }
    let mut run = Run {
        scope,
        memo,
        home: world.home,
        peers: world.peers,
        now: world.now,
        under_way,
        deliveries: 0,
    };
    for (slot, era) in fences {
        for told in [
            Envelope::Condemn { slot, era },
            Envelope::Fence { slot, era },
        ] {
            let told = run.memo.envelopes.number(told);
            run.under_way.push_back(told);
        }
    }
    run.rounds(fence)?;
    if !fence && !run.answered(false) {
        run.now += 1;
        run.rounds(false)?;
    }
    if run.answered(fence) {
        return Ok(());
    }
    let peers: Vec<_> = run.peers.map(|peer| run.memo.peers.get(peer)).into();
    Err(format!(
        "someone waits for ever (fenced: {fence}): {:?}, {peers:?}",
        run.memo.homes.get(run.home)
    ))
}

impl Run<'_> {
    fn rounds(&mut self, joins: bool) -> Result<(), String> {
        for _ in 0..ROUNDS {
            self.deliver_all()?;
            if self.answered(joins) {
                return Ok(());
            }
            self.end_users()?;
            self.home(HomeInput::Tick)?;
            for index in 0..self.scope.peers {
                self.peer(index, PeerInput::Tick)?;
            }
        }
        Ok(())
    }

    fn deliver_all(&mut self) -> Result<(), String> {
        while let Some(id) = self.under_way.pop_front() {
            self.deliveries += 1;
            if self.deliveries > DELIVERIES_MAX {
                return Err("messages beget messages for ever".to_owned());
            }
            match *self.memo.envelopes.get(id) {
                Envelope::ToPeer(message) => {
                    let index = (0..PEERS_MAX)
                        .find(|index| slot(*index) == message.to)
                        .unwrap();
                    self.peer(index, PeerInput::Message(message))?;
                }
                envelope => {
                    if let Some(input) = home_input(&envelope) {
                        self.home(input)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn end_users(&mut self) -> Result<(), String> {
        for index in 0..self.scope.peers {
            for extent in 0..self.scope.extents {
                let peer = self.memo.peers.get(self.peers[index]);
                let users: Vec<_> = peer.users(extent).collect();
                for (user, _) in users {
                    let input = PeerInput::Release {
                        user,
                        extent,
                        change: Change::None,
                    };
                    self.peer(index, input)?;
                }
            }
        }
        Ok(())
    }

    fn home(&mut self, input: HomeInput) -> Result<(), String> {
        let step = self.memo.home_step(self.home, self.now, input)?;
        self.home = step.next;
        self.under_way.extend(&step.sends);
        Ok(())
    }

    fn peer(&mut self, index: usize, input: PeerInput) -> Result<(), String> {
        let step = self.memo.peer_step(self.peers[index], self.now, input)?;
        self.peers[index] = step.next;
        self.under_way.extend(&step.sends);
        Ok(())
    }

    /// Whether nobody waits, at the home or at a peer; without a fence, a host that joins may.
    fn answered(&self, joins: bool) -> bool {
        let home = self.memo.homes.get(self.home);
        let at_home = home.waiting() == 0;
        let greeted = home
            .next_deadline()
            .is_none_or(|due| due > Nanos::new(u64::from(self.now)));
        at_home
            && (greeted || !joins)
            && self.peers.iter().all(|peer| {
                let peer = self.memo.peers.get(*peer);
                peer.is_settled() || (!joins && peer.member().is_none())
            })
    }
}
