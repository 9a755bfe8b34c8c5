//! Everything at once: random tenants, clients, requests, outcomes and crashes.
//!
//! The normal run takes fixed seeds, so that it says the same each time; `PROPTEST_CASES` raises
//! the number of cases, and `TIERPOOL_LAWS_SEED` draws others.

use std::cell::RefCell;
use std::collections::BTreeSet;

use coherence::Epoch;
use pool_core::{BackingId, PoolAddr, SegmentId, WindowRange};
use pool_proto::common::v1::Access;
use pool_proto::session::v1 as session;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use session::request::Body;

use super::ask;
use super::capacity::{dynamic_plan, run};
use super::laws;
use super::ops::{Ask, Far, NAMES, Op, op};
use super::plans::{ALPHA, BETA, GAMMA, extents};
use super::process::Pid;
use super::world::{Loss, World};
use crate::engine::RunSet;
use crate::engine::command::{Capacity, Command, Operation, Seen, WorldError};

/// The most in one case; half of it on average.
const STEPS: usize = 400;
const TENANTS: [&str; 5] = ["alpha", "beta", "gamma", "uid-2000", "uid-2000/x"];

/// What the engine tells operators of; each of it must happen in a run.
const KINDS: [&str; 21] = [
    "client-attached",
    "client-gone",
    "segment-granted",
    "segment-freed",
    "segment-revoked",
    "segment-lost",
    "segment-moved",
    "segment-shrunk",
    "segment-stays",
    "released",
    "pressure",
    "device-draining",
    "device-activated",
    "device-removed",
    "device-resized",
    "device-poisoned",
    "segment-damaged",
    "device-reached",
    "device-unreached",
    "member-evicted",
    "eviction-failed",
];

/// What the world does unasked must happen, too.
const RECOVERY: &str = "the recovery of a domain";

/// So must a grant at each alignment that fits the window: from one extent to 64.
fn alignments() -> impl Iterator<Item = String> {
    (0..7_u32).map(|shift| aligned(extents(1 << shift)))
}

fn aligned(align: u64) -> String {
    format!("a grant at a multiple of {align}")
}

/// A world that is driven by [`Op`]s.
struct Play {
    world: World,
}

impl Play {
    fn new() -> Self {
        let mut plan = dynamic_plan();
        // At no multiple of any alignment but an extent's.
        let (base, len) = (plan.window.base().get() + extents(5), plan.window.len());
        plan.window = WindowRange::new(PoolAddr::new(base), len).unwrap();
        let mut world = World::new(plan);
        world.prompt = false;
        let mut play = Self { world };
        (0..5).for_each(|user| play.spawn(user, user != 3));
        play.spawn(0, true);
        play.begin_with_a_domain();
        play.world.says(Capacity::Present(vec![run(0, 12)]));
        play.world.says(Capacity::Reached(true));
        play
    }

    /// Two members of one domain, which chance seldom brings together.
    fn begin_with_a_domain(&mut self) {
        let alpha = |(_, process): &(&Pid, &super::process::Process)| process.peer.uid == ALPHA;
        let members: Vec<_> = self.world.processes.iter().filter(alpha).collect();
        let members: Vec<_> = members.into_iter().map(|(&pid, _)| pid).collect();
        let create = Body::Create(ask::create_domain("c", 2));
        let open = ask::open("c", Access::ReadWrite);
        for (pid, body) in members.into_iter().zip([create, open]) {
            self.world.send(pid, body);
            self.world.work();
        }
    }

    fn process(&self, choice: u8) -> Option<Pid> {
        let pids: Vec<_> = self.world.processes.keys().copied().collect();
        pids.get(usize::from(choice) % pids.len().max(1)).copied()
    }

    /// A process that can send a request.
    fn speaker(&self, choice: u8) -> Option<Pid> {
        let speaks = |(_, p): &(&Pid, &super::process::Process)| p.connected && p.session.is_some();
        let pids: Vec<_> = self.world.processes.iter().filter(speaks).collect();
        let chosen = pids.get(usize::from(choice) % pids.len().max(1))?;
        Some(*chosen.0)
    }

    /// The id of a segment: mostly of one that the process holds, else of one that is, was or never
    /// will be.
    fn segment_of(&self, pid: Pid, choice: u8) -> u64 {
        let held: Vec<_> = self.world.processes[&pid].held.keys().collect();
        match held.get(usize::from(choice / 4) % held.len().max(1)) {
            Some(id) if !choice.is_multiple_of(4) => id.number(),
            _ => self.segment(choice / 4),
        }
    }

    fn segment(&self, choice: u8) -> u64 {
        let ids: Vec<_> = self.world.engine.segments.keys().collect();
        let chosen = ids.get(usize::from(choice) % (ids.len() + 1));
        chosen.map_or(u64::from(choice), |id| id.number())
    }

    /// One that waits for nothing, and has ids left.
    fn idle_speaker(&self, choice: u8) -> Option<Pid> {
        let processes = &self.world.processes;
        let idle = |pid: &Pid| !processes[pid].waits() && processes[pid].last_id < 1 << 40;
        self.speaker(choice).filter(idle)
    }

    fn body(&self, pid: Pid, ask: &Ask) -> Body {
        let tenant = |choice: u8| TENANTS[usize::from(choice) % TENANTS.len()];
        let segment = |choice| self.segment_of(pid, choice);
        match *ask {
            Ask::Create(ref create) => Body::Create(create.clone()),
            Ask::Open(name, owner, access) => {
                let name = NAMES[1 + usize::from(name) % (NAMES.len() - 1)];
                let own = owner > 127;
                let name = if own {
                    name.to_owned()
                } else {
                    format!("{}:{name}", tenant(owner))
                };
                ask::open(&name, access)
            }
            Ask::Refresh(s) => ask::refresh(segment(s)),
            Ask::Close(s) => ask::close(segment(s)),
            Ask::Free(s, force) => ask::free(segment(s), force),
            Ask::Resize(s, count) => ask::resize(segment(s), count),
            Ask::Share(s, t, access) => ask::share(segment(s), tenant(t), access),
            Ask::Revoke(s, t) => ask::revoke(segment(s), tenant(t)),
            Ask::Relocate(s, tier) => ask::relocate(segment(s), tier),
            Ask::Seal(s, due) => {
                let (id, engine) = (segment(s), &self.world.engine);
                let state = SegmentId::new(id).and_then(|id| engine.segments.get(&id));
                let writers = state.map_or(0, |segment| segment.writers);
                ask::seal(id, writers ^ u64::from(!due))
            }
            Ask::Acquire(s, unit) => ask::acquire(segment(s), unit),
            Ask::Release(s, unit) => ask::release(segment(s), unit),
            Ask::Recall(s, unit) => ask::recall(segment(s), unit),
            Ask::List => ask::list(),
            Ask::Detach => Body::Detach(session::Detach {}),
        }
    }

    fn keeps(choice: u8) -> impl Fn(BackingId) -> bool {
        // One in four restarts keeps all, one in four nothing, the others some.
        move |id| match choice % 4 {
            0 => true,
            1 => false,
            _ => (id.number() ^ u64::from(choice >> 2)) % 3 != 0,
        }
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Operate(operation) => _ = self.world.operate(operation),
            Op::Far(far) => self.play_far(far),
            Op::FreeAny(s, force) => {
                let segment = self.segment(s);
                _ = self.world.operate(Operation::Free { segment, force });
            }
            Op::Pass(millis) => self.world.pass(millis.into()),
            Op::Restart { keeps, back } => {
                self.world.restart(Self::keeps(keeps));
                self.come_back(back);
            }
            Op::LoseAsk {
                p,
                ask,
                loss,
                keeps,
                back,
            } => {
                self.lose(p, &ask, loss, keeps);
                self.come_back(back);
            }
            Op::Reboot { back } => {
                self.world.reboot();
                (0..5).for_each(|user| self.spawn(user, back % 5 != user));
            }
            Op::Build(..)
            | Op::Copy(_)
            | Op::Work
            | Op::Prove(_)
            | Op::Holds(..)
            | Op::LetsGo(_) => self.play_world(&op),
            op => self.play_client(op),
        }
    }

    fn play_far(&mut self, far: Far) {
        let world = &mut self.world;
        let of = |first, count| RunSet::of(run(first, count));
        let (mut there, mut bad) = (world.there.clone(), world.bad.clone());
        match far {
            Far::Comes(first, count) => {
                there.add(&of(first, count).minus(&world.there)).unwrap();
            }
            Far::IsTaken(first, count) => there = there.minus(&of(first, count)),
            Far::IsAsked(unit, most) => {
                let within = vec![run(0, 16)];
                return world.says(Capacity::Withdraw { unit, most, within });
            }
            Far::Poison(index) => {
                bad.add(&of(index, 1).minus(&world.bad)).unwrap();
            }
            Far::Unreached => return world.says(Capacity::Reached(false)),
            Far::Reached => {}
        }
        world.says(Capacity::Present(there.iter().collect()));
        world.says(Capacity::Poisoned(bad.iter().collect()));
        if matches!(far, Far::Reached) {
            world.says(Capacity::Reached(true));
        }
    }

    fn play_world(&mut self, op: &Op) {
        let outcome = |ok, choice| if ok { Ok(()) } else { Err(failure(choice)) };
        match *op {
            Op::Build(index, ok) => {
                let count = self.world.building.len().max(1);
                let index = usize::from(index);
                self.world.finish_build(index % count, outcome(ok, index));
            }
            Op::Copy(ok) => {
                self.world.finish_copy(outcome(ok, 1));
                let _was_any = self.world.finish_domain_work(ok);
            }
            Op::Work => self.world.work(),
            Op::Prove(choice) => {
                let watched: Vec<_> = self.world.watched.iter().copied().collect();
                if let Some(id) = watched.get(usize::from(choice) % watched.len().max(1)) {
                    self.world.prove_one(*id);
                }
            }
            Op::Holds(slot, unit, writes) => {
                let seen = Seen {
                    holders: 1 << (1 + slot % 3),
                    epoch: Epoch::new(u32::from(slot)),
                    writes,
                    is_recalled: true,
                    is_awaited: true,
                };
                self.world.domains.seen.entry(unit).or_insert(seen);
            }
            Op::LetsGo(unit) => _ = self.world.domains.seen.remove(&unit),
            ref other => unreachable!("{other:?} is none of the world's"),
        }
    }

    fn play_client(&mut self, op: Op) {
        match op {
            Op::Spawn { user, tidy } => self.spawn(user, tidy),
            Op::Disconnect(p) => self.with(Self::speaker, p, World::disconnect),
            Op::Reattach(p) => self.with(Self::process, p, World::reattach),
            Op::Kill(p) => self.with(Self::process, p, World::kill),
            Op::Supply(p) => self.with(Self::speaker, p, World::supply),
            Op::Repeat(p) => self.repeat(p),
            Op::Ask(p, ask) => {
                if let Some(pid) = self.idle_speaker(p) {
                    let body = self.body(pid, &ask);
                    self.world.send(pid, body);
                }
            }
            Op::Nonsense(p, Some(body)) => {
                if let Some(pid) = self.idle_speaker(p) {
                    self.world.send(pid, body);
                }
            }
            Op::OutOfOrder(p, id, body) => {
                // An answer to an id that was sent would be taken for that request's.
                let sent = |pid: &Pid| self.world.processes[pid].sent.contains_key(&id);
                if let Some(pid) = self.speaker(p).filter(|pid| !sent(pid)) {
                    self.out_of_order(pid, id, body);
                }
            }
            Op::Write(p, s, number) => {
                let Some(pid) = self.process(p) else { return };
                let held: Vec<_> = self.world.processes[&pid].held.keys().copied().collect();
                if let Some(id) = held.get(usize::from(s) % held.len().max(1)) {
                    self.world.write(pid, *id, number);
                }
            }
            Op::Nonsense(_, None) => {}
            other => unreachable!("{other:?} is none of a client's"),
        }
    }

    fn with(&mut self, choose: fn(&Self, u8) -> Option<Pid>, choice: u8, act: fn(&mut World, Pid)) {
        if let Some(pid) = choose(self, choice) {
            act(&mut self.world, pid);
        }
    }

    fn spawn(&mut self, user: u8, tidy: bool) {
        if self.world.processes.len() >= 8 {
            return;
        }
        let users = [
            (ALPHA, ""),
            (BETA, ""),
            (GAMMA, ""),
            (2000, ""),
            (2000, "x"),
        ];
        let (uid, label) = users[usize::from(user) % users.len()];
        let pid = self.world.spawn(uid);
        self.world.processes.get_mut(&pid).unwrap().tidy = tidy;
        self.world.attach_as(pid, label);
    }

    /// What was done is not done again when it is asked again.
    fn repeat(&mut self, p: u8) {
        let Some(pid) = self.speaker(p) else { return };
        let process = &self.world.processes[&pid];
        let changed = self.world.engine.clients[&self.world.client(pid)]
            .last
            .request_id;
        let settled = self.world.engine.waiting.is_empty();
        if process.last_id == changed && settled {
            let (before, building) = (laws::dump(&self.world.engine), self.world.building.len());
            self.world.repeat(pid);
            let after = laws::dump(&self.world.engine);
            assert_eq!(after, before, "a repeated request was done again");
            assert_eq!(self.world.building.len(), building, "or begun again");
        } else {
            self.world.repeat(pid);
        }
    }

    /// An id that was passed is refused, and harms nothing; one above is, to the engine, just the
    /// next.
    fn out_of_order(&mut self, pid: Pid, id: u64, body: Option<Body>) {
        let process = self.world.processes.get_mut(&pid).unwrap();
        if id <= process.last_id {
            self.world.post(pid, id, body);
        } else if let Some(body) = body
            && !process.waits()
            && id < 1 << 40
        {
            process.last_id = id - 1;
            self.world.send(pid, body);
        }
    }

    fn come_back(&mut self, back: u8) {
        for (bit, pid) in self
            .world
            .processes
            .keys()
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
            .enumerate()
        {
            if back.rotate_left(u32::try_from(bit).unwrap()) & 3 != 0 {
                self.world.reattach(pid);
            }
        }
    }

    fn lose(&mut self, p: u8, ask: &Ask, loss: Loss, keeps: u8) {
        let Some(pid) = self.idle_speaker(p) else {
            return;
        };
        let (client, body) = (self.world.client(pid), self.body(pid, ask));
        let request_id = self.world.write_down(pid, &body);
        let request = session::Request {
            request_id,
            body: Some(body),
        };
        let command = Command::Request { client, request };
        self.world.lose_step(command, loss, Self::keeps(keeps));
    }

    /// After everything has ended, everything is free.
    fn heal(mut self) {
        let world = &mut self.world;
        world.prompt = true;
        world.work();
        for pid in world.processes.keys().copied().collect::<Vec<_>>() {
            world.kill(pid);
        }
        // Sessions of processes that died while the daemon was down.
        for (client, _) in world.engine.processes().collect::<Vec<_>>() {
            world.step(Command::ClientGone { client });
        }
        world.pass(60_000);
        for segment in world
            .engine
            .segments
            .keys()
            .map(|id| id.number())
            .collect::<Vec<_>>()
        {
            _ = world.operate(Operation::Free {
                segment,
                force: true,
            });
        }
        world.prove();
        let engine = &world.engine;
        assert_eq!(
            engine.segments.keys().collect::<Vec<_>>(),
            Vec::<&SegmentId>::new()
        );
        assert!(engine.backings.is_empty() && engine.jobs.is_empty() && engine.waiting.is_empty());
        assert!(engine.clients.is_empty() && engine.names.is_empty());
        assert_eq!(engine.next_deadline(), None, "nothing is waited for");
        let account = engine.account();
        assert_eq!((account.free, account.granted), (account.total, 0));
        let used = engine
            .tenants
            .iter()
            .flat_map(|t| t.used.iter().chain(&t.quarantined));
        assert!(used.copied().all(|used| used == pool_core::Extents::ZERO));
    }
}

fn failure(choice: usize) -> WorldError {
    if choice.is_multiple_of(2) {
        WorldError::MachineShort {
            available_bytes: 1,
            asked_bytes: 2,
        }
    } else {
        WorldError::Os {
            call: "ftruncate",
            errno: 28,
        }
    }
}

fn runner() -> TestRunner {
    let mut config = Config {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 1_024;
    }
    let seed = std::env::var("TIERPOOL_LAWS_SEED").ok();
    let seed: u64 = seed.map_or(0, |seed| {
        seed.parse().expect("TIERPOOL_LAWS_SEED is a number")
    });
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn whatever_happens_the_laws_hold_and_everything_comes_back() {
    let ops = proptest::collection::vec(op(), 1..STEPS);
    let happened = RefCell::new(BTreeSet::new());
    let outcome = runner().run(&ops, |ops| {
        let mut play = Play::new();
        ops.into_iter().for_each(|op| play.play(op));
        happened
            .borrow_mut()
            .extend(play.world.published.iter().cloned());
        let aligns = play.world.laws.aligned.iter();
        happened.borrow_mut().extend(aligns.copied().map(aligned));
        if !play.world.domains.recovered.is_empty() {
            happened.borrow_mut().insert(RECOVERY.to_owned());
        }
        play.heal();
        Ok(())
    });
    if let Err(failed) = outcome {
        panic!("{failed}");
    }
    // What never happened was not tested.
    let kinds = KINDS.into_iter().chain([RECOVERY]).map(str::to_owned);
    for kind in kinds.chain(alignments()) {
        assert!(happened.borrow().contains(&kind), "{kind} never happened");
    }
}
