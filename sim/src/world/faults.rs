//! What goes wrong, and is well again.

use fabric_emu::span::Span;
use pool_core::units::LINE_BYTES;

use super::World;
use super::lines::{PRIVATE, address};
use super::machine::{File, Loss, Process};
use super::memory::LINES;
use crate::broken::Checked;
use crate::op::{Kind, Op};

/// Faults of which two may happen at once.
const PAIRS: [Kind; 9] = [
    Kind::Kill,
    Kind::DaemonKilled,
    Kind::DaemonDies,
    Kind::HostDies,
    Kind::HostPauses,
    Kind::LinkFails,
    Kind::Poison,
    Kind::HomeDies,
    Kind::Fence,
];

/// Commands within which a steward has joined a group.
const COMMANDS_OF_A_JOIN: u16 = 14;

impl World {
    pub(super) fn fault(&mut self, h: usize, op: &Op) -> Checked {
        let [_, b, c, d] = op.picks;
        match op.kind {
            Kind::Kill => return self.kill_one(h, b, d.is_multiple_of(2)),
            Kind::Disconnect => return self.disconnect_one(h, b, d.is_multiple_of(2)),
            Kind::DaemonDies if self.mix.is_exact => self.doom_daemon(h, (b, c)),
            Kind::DaemonDies => {
                self.machines[h].armed = Some(match c % 4 {
                    0 => Loss::BeforeCommit,
                    1 => Loss::AfterCommit,
                    _ => Loss::After(usize::from(d % 4)),
                });
            }
            Kind::DaemonKilled if self.machines[h].engine.is_some() => {
                return self.daemon_dies(h);
            }
            Kind::HostDies => return self.host_dies(h),
            Kind::HostDiesInStep => {
                self.doom_daemon(h, (b, c));
                self.machines[h].takes_host = Some(d);
            }
            Kind::HostDiesWith if b > 0 => self.doom_host((b, h, d)),
            Kind::HostDiesWith => return self.host_dies_with(h, d),
            Kind::HostPauses if self.machines[h].acts() => {
                self.trace.fault("host-pause", [h as u64, 0, 0, 0]);
                self.machines[h].paused = true;
                // Every other time somebody takes it for dead.
                if d.is_multiple_of(2) {
                    self.condemn(h, 20_000_000);
                }
            }
            Kind::BuildFails => {
                self.trace.fault("builds-fail", [h as u64, 0, 0, 0]);
                self.machines[h].failing_builds = 1 + c % 3;
            }
            Kind::CopyFails => {
                self.trace.fault("copy-fails", [h as u64, 0, 0, 0]);
                self.machines[h].failing_copies = 1;
            }
            Kind::HomeDies if self.mix.is_exact => self.shared.doom(b, Some(c)),
            Kind::HomeDies => self.arm_home(usize::from(c % 4)),
            Kind::HeapDies => self.doom_in_heap(h),
            Kind::Fence => self.condemn(h, 1),
            Kind::ClockJumps => self.clock_jumps(h, c),
            Kind::ClockStepsBack => self.clock_steps_back(h),
            Kind::TakeGroup => return self.take_group(h, (c, d)),
            Kind::DeviceCycles if self.mix.group_extents > 0 && !c.is_multiple_of(4) => {
                self.resets_in = Some(1 + d % COMMANDS_OF_A_JOIN);
            }
            Kind::DeviceCycles => return self.device_cycles(),
            Kind::Two => return self.two(h, op),
            _ => self.fault_of_fabric(h, op),
        }
        Ok(())
    }

    fn fault_of_fabric(&mut self, h: usize, op: &Op) {
        let [_, _, c, d] = op.picks;
        match op.kind {
            Kind::LinkFails => {
                self.trace.fault("link-failure", [h as u64, 0, 0, 0]);
                self.lines.link(h, false);
            }
            Kind::Poison if self.mix.group_extents > 0 && c % 8 < 3 => self.poison_group(h, d),
            Kind::Poison if c.is_multiple_of(2) => self.poison_shared(h, d),
            Kind::Poison => self.poison_private(h, d),
            Kind::DeviceVanishes if self.lines.device(false) => {
                self.trace.fault("device-vanishing", [0; 4]);
                self.groups.device_is_lost(self.machines.len());
                self.is_device_gone = true;
            }
            Kind::TakeBack if self.lines.want_back(h, c, true) => {
                self.trace.fault("memory-taken", [h as u64, 0, 0, 0]);
            }
            _ => {}
        }
        self.hear_of_lost();
    }

    /// Kills a process: one that uses something that is shared, where that is wanted and there is
    /// one.
    fn kill_one(&mut self, h: usize, pick: u16, a_user: bool) -> Checked {
        let shared = &self.shared;
        let uses = |pid, _: &Process| a_user && shared.is_used_by(h, pid);
        let user = self.machines[h].pick(pick, uses);
        let Some(pid) = user.or_else(|| self.machines[h].pick(pick, |_, _| true)) else {
            return Ok(());
        };
        self.trace
            .fault("process-death", [h as u64, pid.into(), 0, 0]);
        self.kill(h, pid)
    }

    /// A connection breaks; where its process stays away for long, its session is given up.
    fn disconnect_one(&mut self, h: usize, pick: u16, for_long: bool) -> Checked {
        let Some(pid) = self.machines[h].pick(pick, |_, p| p.connected) else {
            return Ok(());
        };
        self.trace
            .fault("disconnection", [h as u64, pid.into(), 0, 0]);
        self.disconnect(h, pid)?;
        if for_long {
            return self.give_up_session(h, pid);
        }
        Ok(())
    }

    fn two(&mut self, h: usize, op: &Op) -> Checked {
        self.trace.fault("two-at-once", [h as u64, 0, 0, 0]);
        self.trace.reached("two faults at once");
        let [_, b, c, d] = op.picks;
        let first = PAIRS[usize::from(b) % PAIRS.len()];
        let second = PAIRS[usize::from(c) % PAIRS.len()];
        let other = (h + usize::from(d % 2)) % self.machines.len();
        self.fault(h, &Op { kind: first, ..*op })?;
        self.fault(
            other,
            &Op {
                kind: second,
                ..*op
            },
        )
    }

    fn host_dies(&mut self, h: usize) -> Checked {
        if !self.machines[h].alive {
            return Ok(());
        }
        let lost = self.lines.host_dies(h);
        self.trace
            .fault("host-death", [h as u64, lost as u64, 0, 0]);
        self.hear_of_lost();
        let machine = &mut self.machines[h];
        (machine.alive, machine.paused, machine.mapped) = (false, false, false);
        machine.processes.clear();
        machine.heap = None;
        if machine.engine.is_some() {
            self.daemon_dies(h)?;
        }
        let machine = &mut self.machines[h];
        let outlives = |file: &File| file.pooled || file.group.is_some();
        machine.files.retain(|_, file| outlives(file) && file.kept);
        machine.words.clear();
        self.groups.host_dies(h);
        if machine.contents.all_unsettled() && lost > 0 {
            self.trace.reached("a line is lost with its host");
        }
        self.peer_dies(h);
        Ok(())
    }

    /// The host dies, and of the lines that it has written and not written back exactly those of
    /// `set` had left its caches: the rest does not find its way to memory.
    pub(super) fn host_dies_with(&mut self, h: usize, set: u16) -> Checked {
        let lines = self.unwritten(h);
        for (number, at) in lines.into_iter().enumerate().take(u16::BITS as usize) {
            if set >> number & 1 == 1
                && let Some(span) = Span::new(at, LINE_BYTES)
            {
                self.lines.write_back(h, span, false);
            }
        }
        self.lines.link(h, false);
        self.host_dies(h)?;
        self.lines.link(h, true);
        Ok(())
    }

    fn poison_private(&mut self, h: usize, pick: u16) {
        // Of what is used, where anything is.
        let files = self.machines[h].files.values().filter(|file| file.pooled);
        let extents: Vec<u32> = files
            .flat_map(|file| file.extents.iter().copied())
            .collect();
        let place = usize::from(pick).checked_rem(extents.len());
        let extent = place.and_then(|place| extents.get(place)).copied();
        let extent = extent.unwrap_or(u32::from(pick) % self.mix.pooled_extents);
        let at = address(PRIVATE, extent, u32::from(pick / 64) % LINES);
        if self.lines.poison(h, at) {
            self.trace.fault("line-poisoned", [h as u64, at, 0, 0]);
            self.machines[h].contents.poisoned(at);
        }
    }

    pub(super) fn heal_one(&mut self, h: usize, kind: Kind) -> Checked {
        match kind {
            Kind::DaemonStarts => return self.daemon_starts(h),
            Kind::HostStarts => return self.host_starts(h),
            Kind::HostWakes if std::mem::take(&mut self.machines[h].paused) => {
                return self.users_wake(h);
            }
            Kind::LinkHeals => {
                self.lines.link(h, true);
                self.map_private(h);
            }
            Kind::DeviceReturns => return self.device_returns(),
            _ => {}
        }
        Ok(())
    }

    fn map_private(&mut self, h: usize) {
        if self.machines[h].alive && !self.machines[h].mapped {
            self.machines[h].mapped = self.lines.map_private(h).is_ok();
        }
    }

    fn host_starts(&mut self, h: usize) -> Checked {
        if self.machines[h].alive {
            return Ok(());
        }
        self.trace.note("host-starts", [h as u64, 0, 0, 0]);
        self.lines.host_starts(h);
        self.clock_boots(h);
        let machine = &mut self.machines[h];
        (machine.alive, machine.paused) = (true, false);
        machine.boot += 1;
        if !self.mix.persistent {
            // Whatever is there is of no use to anybody after the boot.
            machine.files.clear();
        }
        self.map_private(h);
        self.peer_starts(h);
        self.daemon_starts(h)?;
        let segments = self.machines[h].durable.values();
        let kept = segments.filter(
            |record| matches!(record, pool_daemon::journal::Record::Segment(row) if !row.freed),
        );
        if kept.count() > 0 {
            self.trace.reached("a persistent segment outlives its host");
        }
        Ok(())
    }

    /// A steward has had a command done: where the device is to be reset in the middle of a join,
    /// it may be now.
    pub(super) fn resets_in_between(&mut self, h: usize) -> Checked {
        let Some(left) = self.resets_in.filter(|_| self.groups.waits_for_others(h)) else {
            return Ok(());
        };
        self.resets_in = left.checked_sub(1).filter(|left| *left > 0);
        if self.resets_in.is_some() || self.heals {
            return Ok(());
        }
        self.trace
            .reached("a device is reset while a group is joined");
        self.device_cycles()
    }

    /// The power of that device goes and comes.
    fn device_cycles(&mut self) -> Checked {
        if self.is_device_gone || self.mix.shipped {
            return Ok(());
        }
        self.lines.device_cycles();
        self.trace.fault("device-cycle", [0; 4]);
        self.is_empty()
    }

    /// The device of all hosts' private memory is there again.
    fn device_returns(&mut self) -> Checked {
        if !self.is_device_gone || !self.lines.device(true) {
            return Ok(());
        }
        self.is_device_gone = false;
        self.trace.reached("a device returns empty");
        self.trace.note("device-returns", [0; 4]);
        self.is_empty()
    }

    /// It is, so that nobody knows what is in the segments that lay there.
    fn is_empty(&mut self) -> Checked {
        self.groups.device_is_lost(self.machines.len());
        self.hear_of_lost();
        for h in 0..self.machines.len() {
            let machine = &mut self.machines[h];
            let emptied = machine.pooled_pieces();
            machine.contents.emptied(emptied);
            self.map_private(h);
        }
        self.look_at_groups()
    }
}
