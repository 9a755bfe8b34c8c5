//! What must come of everything once nothing goes wrong any more: whoever waits is answered, and
//! what everybody let go of is free.

use pool_core::Nanos;
use pool_daemon::engine::command::{Command, Operation};
use pool_daemon::journal::Table;

use super::World;
use super::clocks::BEHIND_MOST;
use crate::broken::{Checked, holds};
use crate::op::Kind;

/// Rounds of deadlines that the extents of several hosts need at most to come to rest.
const ROUNDS_MAX: usize = 20_000;
/// How long a daemon takes to hear what became of its devices, in nanoseconds: its steward looks
/// again after a pause by its own clock, which may have stepped back since as far as it may.
const SOON: u64 = BEHIND_MOST + 1_000_000_000;
/// How long the shared extents are given, in nanoseconds: some times the longest deadline.
const REST: u64 = 5_000_000_000;

impl World {
    /// Ends all faults, and sees that everything comes back.
    pub(crate) fn heal(&mut self) -> Checked {
        self.heals = true;
        self.resets_in = None;
        self.begins_to_heal();
        self.trace.note("heals", [0; 4]);
        for kind in [
            Kind::DeviceReturns,
            Kind::LinkHeals,
            Kind::HostWakes,
            Kind::HostStarts,
            Kind::LinkHeals,
            Kind::DaemonStarts,
        ] {
            for h in 0..self.machines.len() {
                self.machines[h].armed = None;
                self.machines[h].dies_leaving = false;
                self.machines[h].failing_builds = 0;
                self.machines[h].failing_copies = 0;
                self.heal_one(h, kind)?;
            }
        }
        self.come_to_rest()?;
        self.pass(SOON)?;
        for h in 0..self.machines.len() {
            self.groups_are_known(h)?;
        }
        for h in 0..self.machines.len() {
            self.answer_all(h)?;
            self.heap_comes_to_rest(h)?;
            self.end_all(h)?;
        }
        self.come_to_rest()?;
        self.groups_end()?;
        self.groups_are_shared()?;
        if self.mix.group_extents > 0 {
            for h in 0..self.machines.len() {
                self.end_all(h)?;
            }
            self.groups_end()?;
        }
        self.shared.at_rest()?;
        self.lines.check()
    }

    /// Goes from deadline to deadline until nothing more is to come.
    fn come_to_rest(&mut self) -> Checked {
        let end = self.now.saturating_add(Nanos::new(REST));
        for _ in 0..ROUNDS_MAX {
            match self.shared.next_due(&self.machines) {
                Some(due) if due <= end.get() => {
                    self.pass(due.saturating_sub(self.now.get()))?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Whoever comes back and waits is answered.
    fn answer_all(&mut self, h: usize) -> Checked {
        for pid in self.machines[h].pids() {
            self.reattach(h, pid)?;
        }
        // Past every deadline of a daemon: pressure, grace, recalls of domains.
        for _ in 0..8 {
            self.settle(h)?;
            self.pass(5_000_000_000)?;
        }
        self.settle(h)?;
        self.device_is_known(h)?;
        let machine = &self.machines[h];
        let mut waiting = machine.processes.iter();
        let waits = waiting.find(|(_, process)| process.connected && !process.is_answered);
        holds(waits.is_none(), "all are answered", || {
            format!("a process waits on host {h}: {waits:?}")
        })
    }

    /// Of a group that nobody has nothing is left in the fabric.
    fn groups_end(&mut self) -> Checked {
        for _ in 0..8 {
            self.pass(50_000_000)?;
        }
        let left = self.lines.all_groups();
        holds(left.is_empty(), "nothing is left of groups", || {
            format!("{left:?}")
        })
    }

    /// A daemon that is told of a device knows what of it is lost and what is bad.
    fn device_is_known(&self, h: usize) -> Checked {
        if self.mix.shipped {
            return Ok(()); // Nobody speaks for its device.
        }
        let machine = &self.machines[h];
        for (segment, files) in machine.contents.unknown() {
            let row = machine.segment_row(*segment);
            let kept = row.is_some_and(|row| row.backings.iter().any(|id| files.contains(id)));
            holds(!kept, "what returns empty is lost", || {
                format!("{segment} on host {h} has still files of {files:?}")
            })?;
        }
        for extent in self.lines.bad_extents(h) {
            holds(
                machine.books.knows_bad(extent),
                "poison is heard of",
                || format!("extent {extent} of host {h} is bad"),
            )?;
        }
        Ok(())
    }

    /// After everybody has ended, everything is free.
    fn end_all(&mut self, h: usize) -> Checked {
        for pid in self.machines[h].pids() {
            self.kill(h, pid)?;
        }
        let engine = self.machines[h].engine.as_ref();
        let sessions = engine.into_iter().flat_map(|engine| engine.processes());
        for client in sessions.map(|(client, _)| client).collect::<Vec<_>>() {
            self.tell(h, Command::ClientGone { client })?;
        }
        self.pass(60_000_000_000)?;
        for _ in 0..3 {
            self.settle(h)?;
            let rows = self.machines[h].durable.keys();
            let segments = rows.filter(|(table, _)| *table == Table::Segments);
            for segment in segments.map(|(_, key)| *key).collect::<Vec<_>>() {
                let force = true;
                self.operate(h, Operation::Free { segment, force })?;
            }
            self.settle(h)?;
            while !self.machines[h].watched.is_empty() {
                self.prove(h, 0)?;
            }
            self.pass(60_000_000_000)?;
        }
        let machine = &self.machines[h];
        let left = |table| {
            let rows = machine.durable.iter();
            let found = rows.filter(|((of, _), _)| *of == table);
            found.map(|(_, record)| record).collect::<Vec<_>>()
        };
        let rule = "all comes back";
        for table in [Table::Segments, Table::Backings, Table::Clients] {
            let left = left(table);
            holds(left.is_empty(), rule, || format!("host {h}: {left:?}"))?;
        }
        holds(machine.books.is_empty(), rule, || {
            format!("host {h}: extents are owned")
        })?;
        let account = machine.engine.as_ref().map(|engine| engine.account());
        let free = account.is_some_and(|account| {
            account.free == account.total && account.granted == 0 && account.quarantined == 0
        });
        holds(free, rule, || format!("host {h}: {account:?}"))
    }
}
