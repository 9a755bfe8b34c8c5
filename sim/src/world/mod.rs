//! The world of a seed: hosts on a fabric, each with a daemon and processes, and time that passes
//! only where it is told to.
//!
//! [`lines`]: the fabric. [`machine`]: a host. [`clocks`]: which time it has. [`waits`]: how long
//! its daemon waits. [`daemon`]: how it steps, commits, performs, dies and starts. [`clients`],
//! [`requests`]: processes, and what they ask. [`memory`]: what they read and write. [`words`],
//! [`members`]: domains. [`heap`]: the heap of a host. [`shared`]: extents of several hosts.
//! [`groups`], [`joined`]: groups that hosts share. [`faults`]: what goes wrong. [`heal`]: what
//! must come of it once nothing does. [`exact`]: worlds in which everything is tried.

use std::collections::VecDeque;

use pool_core::rng::Rng;
use pool_core::{GroupTag, Nanos};
use pool_daemon::engine::command::Operation;

use crate::broken::Checked;
use crate::mix::Mix;
use crate::op::{Group, Kind, Op};
use crate::oracle::groups::Groups;
use crate::trace::Trace;

mod clients;
mod clocks;
mod daemon;
mod exact;
mod faults;
mod groups;
mod heal;
pub(crate) mod heap;
mod joined;
pub(crate) mod lines;
pub(crate) mod machine;
mod members;
mod memory;
mod plans;
mod requests;
mod shared;
mod waits;
mod words;

use clocks::Clock;
use exact::Doomed;
pub(crate) use exact::{Noted, NotedStep, Start};
use lines::Lines;
use machine::{Held, Machine, Process};
use plans::UNLISTED;
use shared::Shared;

/// After how many ops the whole fabric is looked at.
const CHECK_EVERY: usize = 512;

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) mix: Mix,
    pub(crate) trace: Trace,
    rng: Rng,
    now: Nanos,
    lines: Lines,
    machines: Vec<Machine>,
    shared: Shared,
    groups: Groups,
    /// Tags that somebody was told.
    told_tags: VecDeque<GroupTag>,
    /// The group of which a line was lost last.
    damaged_tag: Option<GroupTag>,
    marks: u64,
    pids: u32,
    is_device_gone: bool,
    /// The device is reset after so many commands of stewards that join a group.
    resets_in: Option<u16>,
    /// Nothing goes wrong any more.
    heals: bool,
    pub(crate) noted: Noted,
    /// A host that is to die while something is under way.
    doomed: Option<Doomed>,
}

impl World {
    /// The world of a mix, in which every daemon has started and every host has joined.
    pub(crate) fn new(mix: Mix, kept: usize) -> Checked<Self> {
        let lines = Lines::new(&mix)?;
        Self::over(lines, mix, kept)
    }

    /// The same over a fabric in which everything is bound, added, taken and mapped.
    pub(crate) fn over(lines: Lines, mix: Mix, kept: usize) -> Checked<Self> {
        let mut machines = Vec::new();
        let mut rng = Rng::new(mix.seed);
        for h in 0..mix.hosts {
            let clock = Clock::boots(&mut rng, &mix, Nanos::ZERO);
            machines.push(Machine::new(plans::plan(&mix, h)?, clock));
        }
        let mut world = Self {
            trace: Trace::new(kept),
            rng,
            now: Nanos::ZERO,
            lines,
            machines,
            shared: Shared::new(mix.hosts, mix.shared_extents),
            groups: Groups::default(),
            told_tags: VecDeque::new(),
            damaged_tag: None,
            marks: 0,
            pids: 100,
            is_device_gone: false,
            resets_in: None,
            heals: false,
            noted: Noted::default(),
            doomed: None,
            mix,
        };
        for h in 0..world.machines.len() {
            world.daemon_starts(h)?;
            for user in [0, 0, 1] {
                world.spawn(h, user, true)?;
            }
        }
        world.begin_shared();
        Ok(world)
    }

    /// Has an op happen, the `number`th of its list.
    pub(crate) fn play(&mut self, number: usize, op: &Op) -> Checked {
        self.rng = Rng::new(u64::from(op.salt));
        self.trace.begin(number);
        self.trace
            .note("op", [op.kind as u64, u64::from(op.salt), 0, 0]);
        if !self.mix.is_exact {
            let span = self.rng.below(400_000);
            self.pass(span)?;
        }
        let h = self.host_of(op);
        match op.kind.group() {
            Group::Fault => {
                self.fault(h, op)?;
                self.lines.check()?;
            }
            Group::Heals => self.heal_one(h, op.kind)?,
            Group::Work if op.kind == Kind::Pass && self.mix.is_exact => self.end_slot()?,
            Group::Work if !self.machines[h].acts() => {}
            Group::Work => self.work(h, op)?,
        }
        if number.is_multiple_of(CHECK_EVERY) {
            self.lines.check()?;
        }
        Ok(())
    }

    /// On which host an op happens: one that has something to do for it, where there is one.
    fn host_of(&self, op: &Op) -> usize {
        let has_work = |h: usize, machine: &Machine| match op.kind {
            Kind::Build => machine.acts() && !machine.building.is_empty(),
            Kind::Copy => machine.acts() && !machine.copying.is_empty(),
            Kind::Words => machine.acts() && machine.has_words_to_do(),
            Kind::Prove => {
                let waits = !machine.watched.is_empty() || !machine.leaving_files.is_empty();
                machine.acts() && waits
            }
            Kind::DaemonStarts => machine.acts() && machine.engine.is_none(),
            Kind::HostStarts => !machine.alive,
            Kind::HeapDies => machine.heap.as_ref().is_some_and(heap::Heap::is_there),
            Kind::HostWakes => machine.paused,
            _ if op.kind.group() == Group::Fault => true,
            _ if !machine.acts() => false,
            kind if kind.is_of_client() => {
                let mut processes = machine.processes.iter();
                processes.any(|(pid, process)| self.fits(kind, h, *pid, process))
            }
            _ => true,
        };
        let first = usize::from(op.picks[0]) % self.machines.len();
        if self.mix.is_exact {
            return first;
        }
        let turns = (0..self.machines.len()).map(|turn| (first + turn) % self.machines.len());
        let mut found = turns.filter(|&h| has_work(h, &self.machines[h]));
        found.next().unwrap_or(first)
    }

    /// Time passes, and what was due happens.
    fn pass(&mut self, nanos: u64) -> Checked {
        self.now = self.now.saturating_add(Nanos::new(nanos));
        self.lines.pass(nanos);
        self.hear_of_lost();
        self.run_shared()?;
        for h in 0..self.machines.len() {
            self.tick(h)?;
            self.run_steward(h)?;
        }
        Ok(())
    }

    fn prove_or_destroy(&mut self, h: usize, pick: u16) -> Checked {
        self.destroy(h)?;
        self.prove(h, pick)
    }

    fn work(&mut self, h: usize, op: &Op) -> Checked {
        let [_, b, c, d] = op.picks;
        if op.kind.is_of_groups() && self.mix.group_extents == 0 {
            return Ok(());
        }
        match op.kind {
            Kind::Spawn => return self.spawn(h, b, !c.is_multiple_of(5)),
            Kind::Build => return self.build(h, b),
            Kind::Copy => return self.copy(h),
            Kind::Words => return self.work_on_words(h).map(drop),
            Kind::Settle => return self.settle(h),
            Kind::Prove => return self.prove_or_destroy(h, b),
            Kind::Operate => return self.operate_by(h, op),
            Kind::Pass => {
                let millis = self.rng.below(if c.is_multiple_of(8) { 4_000 } else { 40 });
                return self.pass(millis * 1_000_000);
            }
            Kind::Drop => return self.drop_extent(h, c),
            Kind::AskBack => {
                if self.lines.want_back(h, c, false) {
                    self.trace.reached("memory is asked back");
                }
                return Ok(());
            }
            _ => {}
        }
        let fits = |pid: u32, process: &Process| self.fits(op.kind, h, pid, process);
        let Some(pid) = self.machines[h].pick(b, fits) else {
            if self.mix.is_exact {
                return Ok(());
            }
            if op.kind.is_of_heap() {
                return self.comes_to_the_heap(h, op);
            }
            // Nobody can: somebody comes who may the next time.
            return self.spawn(h, b, !c.is_multiple_of(5));
        };
        match op.kind {
            Kind::Reattach => self.reattach(h, pid),
            Kind::Supply => self.supply(h, pid),
            Kind::Repeat => self.repeat(h, pid),
            Kind::Write => self.write(h, pid, c, d),
            Kind::Read => self.read(h, pid, c, d),
            Kind::WriteGroup | Kind::ReadGroup => self.use_group(h, pid, op),
            Kind::WriteBack => self.write_back(h, pid, c),
            Kind::WriteStale => self.write_stale(h, pid, c),
            Kind::Lease => {
                self.lease_unit(h, pid, c, d);
                Ok(())
            }
            Kind::Use => self.use_unit(h, pid, c, d),
            Kind::LetGo => self.let_go_unit(h, pid, c),
            Kind::HeapJoin | Kind::HeapUse | Kind::HeapTidy => self.heap_work(h, pid, op),
            Kind::Acquire => self.acquire(h, pid, c),
            Kind::Touch => self.touch(h, pid, c, d),
            Kind::Release => self.release(h, pid, c),
            Kind::Stale => {
                let kind = Kind::ALL[usize::from(d) % Kind::ALL.len()];
                match self.request_of(h, pid, &Op { kind, ..*op }) {
                    Some(body) => self.stale(h, pid, body),
                    None => Ok(()),
                }
            }
            _ => match self.request_of(h, pid, op) {
                Some(body) => self.send(h, pid, body),
                None => Ok(()),
            },
        }
    }

    /// Whether a process of a host can do what a kind says.
    fn fits(&self, kind: Kind, h: usize, pid: u32, process: &Process) -> bool {
        let mut held = process.held.values();
        match kind {
            Kind::Reattach => !process.connected,
            Kind::Supply => process.connected,
            Kind::Repeat => process.connected && process.sent.is_some(),
            Kind::HeapJoin => heap::may_have(process) && process.hand.is_none(),
            Kind::HeapUse | Kind::HeapTidy => process.hand.is_some(),
            Kind::Lease => held.any(|held| held.slot.is_some() && held.part.is_none()),
            Kind::Use | Kind::LetGo => !process.leased.is_empty(),
            Kind::MakeGroup | Kind::Join => process.is_idle() && process.peer.uid < UNLISTED,
            Kind::WriteGroup => held.any(Held::may_be_sealed),
            Kind::SealGroup => process.is_idle() && held.any(Held::may_be_sealed),
            Kind::ReadGroup => held.any(|held| held.tag.is_some()),
            Kind::Write | Kind::Read | Kind::WriteBack => {
                held.any(|held| held.slot.is_none() && held.part.is_none())
            }
            Kind::WriteStale => !process.mapped.is_empty(),
            Kind::Acquire => true,
            Kind::Touch | Kind::Release => self.shared.is_used_by(h, pid),
            _ => process.is_idle(),
        }
    }

    fn operate_by(&mut self, h: usize, op: &Op) -> Checked {
        let [_, _, c, d] = op.picks;
        let devices = plans::devices(&self.mix);
        let device = devices[usize::from(c) % devices.len()].to_owned();
        let most = match device.as_str() {
            "p0" => self.mix.pooled_extents,
            "g0" => self.mix.group_extents,
            "h0" => plans::CHUNK_EXTENTS * self.mix.heap_chunks,
            _ => self.mix.ddr_extents,
        };
        let operation = match d % 8 {
            0 | 1 => Operation::Drain(device),
            2..=4 => Operation::Activate(device),
            5 => {
                // No device is larger than the fabric's or the machine's memory.
                let extents = u32::from(d / 8) % (most / 3 + 1);
                Operation::Resize(device, plans::bytes(extents))
            }
            _ => {
                let rows = self.machines[h].durable.keys();
                let segments = rows
                    .filter(|(table, _)| *table == pool_daemon::journal::Table::Segments)
                    .map(|(_, key)| *key);
                let segments: Vec<u64> = segments.collect();
                let place = usize::from(d / 8).checked_rem(segments.len());
                let segment = place.and_then(|place| segments.get(place)).copied();
                Operation::Free {
                    segment: segment.unwrap_or(0),
                    force: c.is_multiple_of(2),
                }
            }
        };
        self.operate(h, operation)
    }
}
