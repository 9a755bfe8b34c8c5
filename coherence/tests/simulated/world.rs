//! The world of one seed: hosts over one memory, the descriptors, and what a step does to all of
//! it.

use std::panic::resume_unwind;

use coherence::simulated::SimCache;
use coherence::sum::Digest;
use coherence::{Member, Slot};
use pool_core::descriptor::Descriptor;
use pool_core::rng::Rng;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, Mutex, MutexGuard, lock};
use pool_core::{Bytes, Nanos, planted};

use crate::memory::{Memory, small};
use crate::mix::Mix;
use crate::oracle::{By, Unit};
use crate::report::{Step, Story, Tally, Trace, Violation, broken};
use crate::scheduler::{self, Baton, BatonWait, Schedule, Stand, Strand};

/// Steps within which every lease call must come back, and every end.
const PATIENCE: u64 = 200_000;
pub(crate) const DAEMON: usize = 0;

/// Why a thread unwinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its member died.
    Killed,
    /// The world is over.
    Over,
}

/// What dies with a host.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) member: Member<BatonWait>,
    pub(crate) cache: SimCache<Arc<Memory>>,
    /// Incarnation and version of each unit that the cache has no older line of.
    pub(crate) seen: Mutex<Vec<Option<(u64, u64)>>>,
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// It lives, and the daemon takes it for dead.
    CutOff,
    /// The daemon has recovered it, and it lives.
    Expelled,
    /// Its threads are being ended.
    Dying,
    Dead,
}

/// The place of a member, and who is there.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) slot: Slot,
    pub(crate) life: Life,
    pub(crate) process: Option<Arc<Process>>,
    /// How many of its threads have not ended.
    living: usize,
    /// How often it was to be recovered, and how often it was.
    pub(crate) asked: u64,
    pub(crate) recovered: u64,
    /// Frames it may still store to.
    pub(crate) quarantine: Vec<u64>,
}

impl Host {
    /// Whether it is to be recovered.
    pub(crate) const fn is_due(&self) -> bool {
        self.asked != self.recovered
    }
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) schedule: Schedule,
    pub(crate) units: Vec<Unit>,
    /// Number 0 is the daemon's.
    pub(crate) hosts: Vec<Host>,
    pub(crate) frames_free: Vec<u64>,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    violation: Option<Violation>,
    /// When nothing new was begun any more.
    ending_since: Option<u64>,
    pub(crate) is_over: bool,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) mix: Mix,
    pub(crate) lines: Vec<Descriptor>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) baton: Baton,
    state: Mutex<State>,
}

impl World {
    pub(crate) fn new(mix: Mix) -> Self {
        let frames = u64::from(mix.units) * (2 + u64::from(mix.members));
        let memory = Arc::new(Memory::new(frames, mix.unit_bytes, mix.stops_in_lines));
        let zeroes = Digest::of_zeroes(Bytes::new(mix.unit_bytes)).word(0);
        let line = |_| {
            let line = Descriptor::default();
            line.sum.store(zeroes, Relaxed);
            line
        };
        let lines: Vec<_> = (0..mix.units).map(line).collect();
        for (line, frame) in lines.iter().zip(0..) {
            line.backing.store(Memory::after(0, frame), Relaxed);
        }
        let contents = vec![0; small(mix.unit_bytes)];
        let units = lines.iter().map(|line| Unit::new(line, contents.clone()));
        let hosts = (0..=mix.members).map(|index| Host {
            slot: Slot::new(index).expect("fewer members than slots"),
            life: Life::Alive,
            process: None,
            living: mix.threads,
            asked: 0,
            recovered: 0,
            quarantine: Vec::new(),
        });
        let strand = |host, stand| Strand {
            host,
            stand,
            unit: 0,
            called: None,
            is_locking: false,
        };
        let members = 1..=usize::from(mix.members);
        let strands =
            members.flat_map(|host| (0..mix.threads).map(move |_| strand(host, Stand::Ready)));
        let strands = core::iter::once(strand(DAEMON, Stand::Idle)).chain(strands);
        let rng = Rng::new(mix.seed ^ 0x7469_6572_706f_6f6c);
        let mut state = State {
            units: units.collect(),
            hosts: hosts.collect(),
            frames_free: (u64::from(mix.units)..frames).collect(),
            schedule: Schedule::new(rng, strands.collect(), mix.switched_once_in, mix.is_uneven),
            tally: Tally::default(),
            trace: Trace::default(),
            violation: None,
            ending_since: None,
            is_over: false,
        };
        for host in 1..state.hosts.len() {
            state.populate(host, &mix, &memory);
        }
        Self {
            mix,
            lines,
            memory,
            baton: Baton::new(),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What has happened.
    pub(crate) fn story(&self) -> Story {
        let mut state = self.state();
        state.tally.words_spurious = self.memory.spurious();
        Story {
            mix: self.mix,
            tally: state.tally.clone(),
            trace: core::mem::take(&mut state.trace),
            violation: state.violation.take(),
        }
    }

    /// `me` begins an operation.
    pub(crate) fn operate(&self, me: usize, name: &'static str) {
        let mut state = self.state();
        state.tally.operations += 1;
        *state.tally.by_name.entry(name).or_default() += 1;
        self.pass_with(state, me, name);
    }

    /// `me` passes a point.
    pub(crate) fn pass(&self, me: usize, name: &'static str) {
        self.pass_with(self.state(), me, name);
    }

    fn pass_with<'a>(&'a self, mut state: MutexGuard<'a, State>, me: usize, name: &'static str) {
        state.schedule.now += 1;
        let result = state.note(self, me, name);
        self.settle(&mut state, result);
        let ends = state.end_of(me);
        if let Some(end) = ends.or_else(|| state.draw_death(self, me, name)) {
            drop(state);
            resume_unwind(Box::new(end));
        }
        state.draw_cut_off(self, me, name);
        self.go_on(state, me);
    }

    /// The next one runs; comes back when that is `me`.
    pub(crate) fn go_on<'a>(&'a self, mut state: MutexGuard<'a, State>, me: usize) {
        let next = state.next(self, me);
        if next != me {
            state.tally.switches += 1;
            drop(state);
            self.baton.hand_to(next);
            self.baton.wait_for(me);
            state = self.state();
        }
        let end = state.end_of(me);
        let now = state.schedule.now;
        drop(state);
        pool_core::fault::set_time(Some(Nanos::new(now)));
        if let Some(end) = end {
            resume_unwind(Box::new(end));
        }
    }

    /// Ends the world where a law was broken.
    pub(crate) fn settle(&self, state: &mut State, result: Result<(), Violation>) {
        if let Err(violation) = result {
            state.violation.get_or_insert(violation);
            state.is_over = true;
        }
    }

    /// As [`World::settle`], for a step that is not a point: unwinds at once.
    pub(crate) fn demand(&self, mut state: MutexGuard<'_, State>, result: Result<(), Violation>) {
        if result.is_err() {
            self.settle(&mut state, result);
            drop(state);
            resume_unwind(Box::new(End::Over));
        }
    }

    /// `me` sleeps on the event `word`.
    pub(crate) fn sleep(&self, me: usize, word: &AtomicU32, seen: u32, until: u64) {
        let mut state = self.state();
        if state.schedule.rng.once_in(self.mix.woken_early_once_in) {
            return;
        }
        let until = until.min(state.schedule.now + self.mix.cap);
        let unit = self.unit_of(word);
        state.schedule.strands[me].stand = Stand::Asleep { unit, seen, until };
        self.go_on(state, me);
    }

    /// `me` wakes who sleeps on the event `word`.
    pub(crate) fn wake(&self, me: usize, word: &AtomicU32) {
        let mut state = self.state();
        let woken = self.unit_of(word);
        state.units[woken as usize].woken(me);
        for strand in &mut state.schedule.strands {
            if matches!(strand.stand, Stand::Asleep { unit, .. } if unit == woken) {
                strand.stand = Stand::Ready;
            }
        }
    }

    fn unit_of(&self, word: &AtomicU32) -> u32 {
        let mut units = (0..).zip(&self.lines);
        let found = units.find(|(_, line)| core::ptr::eq(&raw const line.event, word));
        found.expect("the event of a unit").0
    }

    /// Whether nothing new is to be begun.
    pub(crate) fn is_ending(&self) -> bool {
        let mut state = self.state();
        let is_ending = state.tally.operations >= self.mix.operations;
        if is_ending {
            let now = state.schedule.now;
            state.ending_since.get_or_insert(now);
        }
        is_ending
    }
}

impl State {
    /// A new member comes to the place of `host`.
    pub(crate) fn populate(&mut self, host: usize, mix: &Mix, memory: &Arc<Memory>) {
        let seed = self.schedule.rng.number();
        let mut living = 0;
        for strand in &mut self.schedule.strands {
            if strand.host == host && !matches!(strand.stand, Stand::Done | Stand::Gone) {
                strand.stand = Stand::Ready;
                living += 1;
            }
        }
        let host = &mut self.hosts[host];
        host.process = Some(Arc::new(Process {
            member: Member::new(host.slot, BatonWait),
            cache: SimCache::new(Arc::clone(memory), seed, mix.faults),
            seen: Mutex::new(vec![None; mix.units as usize]),
        }));
        host.living = living;
        host.life = Life::Alive;
        self.frames_free.append(&mut host.quarantine);
    }

    /// The oracle looks at what the step before this point did.
    pub(crate) fn note(
        &mut self,
        world: &World,
        me: usize,
        name: &'static str,
    ) -> Result<(), Violation> {
        let strand = &mut self.schedule.strands[me];
        let may_lock = ["in a line", "lease.released_not_woken"].contains(&name);
        strand.is_locking = may_lock || strand.is_locking && name == "to wake";
        let (unit, called) = (strand.unit, strand.called);
        let line = &world.lines[unit as usize];
        let now = self.schedule.now;
        self.trace.add(Step {
            now,
            thread: me,
            point: name,
            unit,
            own: line.own.load(Relaxed),
            version: line.version.load(Relaxed),
        });
        let since = called.into_iter().chain(self.ending_since).min();
        if since.is_some_and(|since| now > since + PATIENCE) {
            return broken("nobody waits for ever", format!("thread {me} at {name}"));
        }
        self.observe(world, me)
    }

    /// The oracle looks at all units.
    pub(crate) fn observe(&mut self, world: &World, me: usize) -> Result<(), Violation> {
        let hosts = &self.hosts;
        let by = By {
            thread: me,
            slot: hosts[self.schedule.strands[me].host].slot,
        };
        let is_gone = |slot: Slot| {
            let host = &hosts[usize::from(slot.index())];
            host.life != Life::Alive && host.is_due()
        };
        for (unit, line) in self.units.iter_mut().zip(&world.lines) {
            unit.observe(line, by, is_gone, &world.memory, world.mix.policy)?;
        }
        Ok(())
    }

    /// Whether, and why, `me` is to unwind.
    pub(crate) fn end_of(&self, me: usize) -> Option<End> {
        let host = self.schedule.strands[me].host;
        if self.is_over {
            return Some(End::Over);
        }
        (self.hosts[host].life == Life::Dying).then_some(End::Killed)
    }

    /// Whether `me` dies here.
    fn draw_death(&mut self, world: &World, me: usize, name: &'static str) -> Option<End> {
        let is_crash_point = name.contains('.');
        let mix = &world.mix;
        let anywhere = if me == DAEMON {
            mix.daemon_killed_once_in.saturating_mul(10)
        } else {
            mix.killed_once_in
        };
        let at_point = match (is_crash_point, me) {
            (false, _) => 0,
            (true, DAEMON) => mix.daemon_killed_once_in,
            (true, _) => mix.killed_at_point_once_in,
        };
        let rng = &mut self.schedule.rng;
        if !(rng.once_in(anywhere) | rng.once_in(at_point)) {
            return None;
        }
        if is_crash_point {
            *self.tally.kills.entry(name).or_default() += 1;
        }
        self.kill(me);
        Some(End::Killed)
    }

    /// The member of `me` begins to die, or the daemon does.
    pub(crate) fn kill(&mut self, me: usize) {
        let host = self.schedule.strands[me].host;
        if host == DAEMON {
            self.tally.daemon_killed += 1;
            return;
        }
        self.tally.members_killed += 1;
        self.hosts[host].life = Life::Dying;
        for strand in &mut self.schedule.strands {
            let waits = matches!(strand.stand, Stand::Asleep { .. } | Stand::Stuck { .. });
            if strand.host == host && waits {
                strand.stand = Stand::Ready;
            }
        }
    }

    /// Whether the member of `me`, which lives, is taken for dead from here on, because it is stuck
    /// for a while.
    fn draw_cut_off(&mut self, world: &World, me: usize, name: &'static str) {
        let rate = world.mix.cut_off_once_in;
        let rate = if name.contains('.') {
            rate.div_ceil(10)
        } else {
            rate
        };
        let is_drawn = self.schedule.rng.once_in(rate);
        let host = self.schedule.strands[me].host;
        let has_frames = self.frames_free.len() >= self.units.len();
        if is_drawn && host != DAEMON && has_frames && self.hosts[host].life == Life::Alive {
            self.tally.cut_off += 1;
            self.hosts[host].life = Life::CutOff;
            let until = self.schedule.now + self.schedule.rng.below(2 * world.mix.cap);
            self.schedule.strands[me].stand = Stand::Stuck { until };
            self.ask_daemon(host);
        }
    }

    /// The member at `host` is to be recovered.
    fn ask_daemon(&mut self, host: usize) {
        self.hosts[host].asked += 1;
        self.rouse_daemon();
    }

    /// The daemon is to look what there is to do.
    pub(crate) fn rouse_daemon(&mut self) {
        let daemon = &mut self.schedule.strands[DAEMON];
        if daemon.stand == Stand::Idle {
            daemon.stand = Stand::Ready;
        }
    }

    /// What `me` had to do for others it does no more.
    pub(crate) fn mourn(&mut self, me: usize) {
        for unit in &mut self.units {
            unit.died(me);
        }
    }

    /// A thread of a member that dies has unwound. With the last one the host is dead.
    pub(crate) fn bury(&mut self, world: &World, me: usize) {
        let strand = &mut self.schedule.strands[me];
        let host = strand.host;
        (strand.stand, strand.called, strand.is_locking) = (Stand::Idle, None, false);
        self.mourn(me);
        self.hosts[host].living -= 1;
        if self.hosts[host].living > 0 {
            return;
        }
        let seed = self.schedule.rng.number();
        if let Some(process) = self.hosts[host].process.take() {
            self.tally.lines_lost += scheduler::quietly(|| process.cache.kill(seed));
        }
        self.hosts[host].life = Life::Dead;
        self.ask_daemon(host);
        if planted!("caller.reuses_the_slot_at_once") {
            self.populate(host, &world.mix, &world.memory);
        }
    }

    /// A thread of a member has nothing more to do.
    pub(crate) fn finish(&mut self, me: usize) {
        let strand = &mut self.schedule.strands[me];
        strand.stand = Stand::Done;
        self.hosts[strand.host].living -= 1;
        self.rouse_daemon();
    }

    /// Who runs next; where nobody can the world is over.
    pub(crate) fn next(&mut self, world: &World, me: usize) -> usize {
        let Some(next) = self.schedule.pick(me) else {
            let stuck = broken("somebody can always go on", "all wait for each other");
            world.settle(self, stuck);
            return me;
        };
        let strand = &mut self.schedule.strands[next];
        let stand = core::mem::replace(&mut strand.stand, Stand::Ready);
        if let Stand::Asleep { unit, seen, .. } = stand {
            let line = &world.lines[unit as usize];
            let result = self.units[unit as usize].slept_through(line, seen);
            world.settle(self, result);
        }
        next
    }
}
