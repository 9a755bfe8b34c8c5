//! Domains of one host: the real words of `coherence`, in memory that lasts as long as the file of
//! their directory, and the members that lease units by them.
//!
//! The daemon's side does what its reactor does, unit by unit, so that it may die between two.

use coherence::evict::{self, Held as Keeps};
use coherence::pass::Pass;
use coherence::recover::{Fenced, RecoverError, Recovered as Became, Verdict, rouse};
use coherence::{Grant, Layout, LeaseError, Member, Own, Slot, State, Wait, proxy};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::{BackingId, Incarnation, SegmentId};
use pool_daemon::engine::command::{
    Command, Leased as CommandLeased, Recovered, Seen, Unrecovered, Written,
};
use pool_daemon::engine::effect::{Action, Hold, Lease, Recovery};
use pool_proto::common::v1::Access;

use super::World;
use super::clients::is_honest;
use super::machine::Loss;
use super::members::Members;
use super::memory::{LINES, Place};
use crate::broken::{Checked, broken};

/// Nobody sleeps in a world of one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Awake;

impl Wait for Awake {
    fn wait(&self, _word: &AtomicU32, _seen: u32, _until: Deadline) {}

    fn wake_all(&self, _word: &AtomicU32) {}
}

/// The words of a domain.
#[derive(Debug)]
pub(crate) struct Words {
    lines: Vec<Descriptor>,
    pub(crate) members: Members,
}

/// A unit that a process leased, and how far it has come.
#[derive(Debug)]
pub(crate) struct Leased {
    grant: Grant,
    writes: bool,
    /// It was lost: what it holds is nothing until all of it is written.
    restores: bool,
    directory: BackingId,
    /// What it is writing, and how many lines hold it by now.
    mark: u64,
    written: u32,
}

impl Words {
    fn new(layout: Layout, incarnation: Incarnation) -> Self {
        let lines: Vec<Descriptor> = (0..layout.units()).map(|_| Descriptor::default()).collect();
        for line in &lines {
            line.backing.store(incarnation.number(), Relaxed);
        }
        let members = Members::default();
        Self { lines, members }
    }

    fn line(&self, unit: u32) -> Option<&Descriptor> {
        self.lines.get(usize::try_from(unit).ok()?)
    }
}

fn seen_of(line: &Descriptor) -> Option<Seen> {
    let own = Own::judge(line.own.load(Acquire)).ok()?;
    let left = own.state() == State::Free && own.is_recalled();
    (own.holders() != 0 || left).then_some(Seen {
        holders: own.holders(),
        epoch: own.epoch(),
        writes: own.state() == State::Exclusive,
        is_recalled: own.is_recalled(),
        is_awaited: own.has_waiters(),
    })
}

/// Leases a unit in the place of a client, or lets go of it.
fn lease_for(line: Option<&Descriptor>, slot: Slot, lease: Lease) -> CommandLeased {
    line.map_or(Err(LeaseError::Retired), |line| match lease {
        Lease::Acquire => proxy::lease(line, slot).map(Some),
        Lease::Release => proxy::let_go(line, slot, &Awake).map(|_| None),
    })
}

/// A member leases a unit, to read or to write; where it is lost it may restore it: whether it did.
fn take(
    (unit, line): (u32, &Descriptor),
    slot: Slot,
    (writes, may_restore): (bool, bool),
) -> (Result<Grant, LeaseError>, bool) {
    let member = Member::new(slot, Awake);
    let granted = if writes {
        member.try_exclusive(line)
    } else {
        member.try_shared(unit, line)
    };
    match granted {
        Err(LeaseError::Lost { .. }) if writes && may_restore => (member.try_restore(line), true),
        other => (other, false),
    }
}

impl World {
    pub(super) fn act_on_words(&mut self, h: usize, action: Action) {
        let machine = &mut self.machines[h];
        match action {
            Action::Enter { directory, slot } => {
                if let Some(words) = machine.words.get_mut(&directory) {
                    words.members.enter(slot);
                }
            }
            Action::EndRecall { directory, unit } => {
                let words = machine.words.get(&directory);
                if let Some(line) = words.and_then(|words| words.line(unit)) {
                    // Where it cannot be ended yet the daemon asks again.
                    let _again = rouse(line, &Awake);
                }
            }
            action => machine.work.push_back(action),
        }
    }

    /// Ends one piece of work with words, or hears of the end of a process; whether there was any.
    pub(super) fn work_on_words(&mut self, h: usize) -> Checked<bool> {
        let machine = &mut self.machines[h];
        if machine.engine.is_none() || !machine.acts() {
            return Ok(false);
        }
        let lives = |pid: &u32| machine.processes.contains_key(pid);
        if let Some(dead) = machine.awaited.iter().position(|(.., pid)| !lives(pid)) {
            let (segment, slot, _) = machine.awaited.remove(dead);
            self.tell(h, Command::Ended { segment, slot })?;
            return Ok(true);
        }
        let Some(action) = machine.work.pop_front() else {
            return Ok(false);
        };
        let command = match action {
            Action::Format {
                segment,
                directory,
                layout,
                incarnation,
                ..
            } => {
                let words = Words::new(layout, incarnation);
                machine.words.insert(directory, words);
                let result = Ok(());
                Command::Formatted { segment, result }
            }
            Action::Recover(recovery) => match self.recover(h, recovery) {
                Some(command) => command,
                None => return self.daemon_dies(h).map(|()| true),
            },
            Action::Hold(hold) => self.hold(h, hold),
            Action::Look {
                segment,
                directory,
                unit,
            } => {
                let words = machine.words.get(&directory);
                let seen = words.and_then(|words| words.line(unit)).and_then(seen_of);
                Command::Looked {
                    segment,
                    unit,
                    seen,
                }
            }
            Action::Lease {
                client,
                request_id,
                directory,
                slot,
                unit,
                lease,
            } => {
                let words = machine.words.get(&directory);
                let outcome = lease_for(words.and_then(|words| words.line(unit)), slot, lease);
                Command::Leased {
                    client,
                    request_id,
                    unit,
                    outcome,
                }
            }
            other => return broken("work is with words", format_args!("{other:?}")),
        };
        self.tell(h, command)?;
        Ok(true)
    }

    /// Takes away all that is held in some slots. `None` where the daemon dies between two units.
    fn recover(&mut self, h: usize, recovery: Recovery) -> Option<Command> {
        let machine = &mut self.machines[h];
        let segment = recovery.segment;
        let dies_at = match machine.armed {
            Some(Loss::After(count)) => count,
            _ => usize::MAX,
        };
        let (mut found, mut stuck) = (Recovered::default(), None);
        if let Some(words) = machine.words.get_mut(&recovery.directory) {
            words.members.leave(&recovery);
            // Where it dies before the first unit it dies between those who went and who came.
            if dies_at > 0 {
                words.members.announce(&recovery);
            }
        }
        let words = machine.words.get(&recovery.directory);
        let lines = words.map_or(&[][..], |words| &words.lines);
        for (unit, line) in lines.iter().enumerate() {
            if unit == dies_at {
                return None;
            }
            let unit = u32::try_from(unit).unwrap_or(u32::MAX);
            let outcome = recover_unit(line, &recovery, &mut found);
            for became in outcome.kept {
                // Whoever was cut off never had the contents; else a half may have been kept.
                let version = line.version.load(Acquire);
                let contents = &mut machine.contents;
                match became {
                    Kept::AsPublished(last_good) => {
                        contents.published_again((segment, unit), last_good, version);
                    }
                    Kept::Anything => contents.published((segment, unit), version, None),
                }
            }
            if outcome.is_lost {
                self.trace.reached("a unit is lost with its writer");
            }
            if let Err(reason) = outcome.done {
                let stuck = stuck.get_or_insert(Unrecovered {
                    units: 0,
                    first: unit,
                    reason,
                });
                stuck.units += 1;
            }
        }
        if stuck.is_none() {
            machine.recovered(segment, recovery.slots);
        }
        let result = stuck.map_or(Ok(found), Err);
        Some(Command::Recovered { segment, result })
    }

    /// Goes through the units that their contents can be copied.
    fn hold(&mut self, h: usize, hold: Hold) -> Command {
        let machine = &self.machines[h];
        let words = machine.words.get(&hold.directory);
        let lines = words.map_or(&[][..], |words| &words.lines);
        let (mut written, mut missed) = (Vec::new(), false);
        for (unit, line) in (0..).zip(lines) {
            match evict::hold(line, hold.evicted, hold.fences) {
                Ok(Keeps::Written { slot, epoch }) => written.push(Written { unit, slot, epoch }),
                Ok(_) | Err(RecoverError::Corrupt(_)) => {}
                Err(_) => missed = true,
            }
        }
        Command::Held {
            segment: hold.segment,
            written,
            missed,
        }
    }

    /// A member leases a unit, to read or to write, or restores one that is lost.
    pub(super) fn lease_unit(&mut self, h: usize, pid: u32, pick: u16, choice: u16) {
        let machine = &mut self.machines[h];
        let Some(process) = machine.processes.get_mut(&pid) else {
            return;
        };
        let domains: Vec<_> = process
            .held
            .iter()
            .filter(|(_, held)| held.access == Access::ReadWrite && !held.is_outdated)
            .filter(|(_, held)| held.part.is_none())
            .filter_map(|(id, held)| Some((*id, held.slot?, *held.pieces.first()?)))
            .collect();
        let place = usize::from(pick).checked_rem(domains.len());
        let Some(&(segment, slot, directory)) = place.and_then(|place| domains.get(place)) else {
            return;
        };
        let Some(words) = machine.words.get(&directory) else {
            return;
        };
        let units = u32::try_from(words.lines.len()).unwrap_or(0);
        let Some(unit) = u32::from(choice / 4).checked_rem(units) else {
            return;
        };
        let Some(line) = words.line(unit) else {
            return;
        };
        if process.leased.contains_key(&(segment, unit)) {
            return;
        }
        let (writes, may_restore) = (choice % 4 < 2, choice % 4 == 1);
        let (granted, restores) = take((unit, line), slot, (writes, may_restore));
        if restores && granted.is_ok() {
            self.trace.reached("a lost unit is restored");
        }
        self.trace.note(
            "leased",
            [
                h as u64,
                pid.into(),
                segment.number(),
                u64::from(granted.is_ok()),
            ],
        );
        match granted {
            Ok(grant) => {
                self.marks += 1;
                let leased = Leased {
                    grant,
                    writes,
                    restores,
                    directory,
                    mark: self.marks,
                    written: 0,
                };
                process.leased.insert((segment, unit), leased);
            }
            Err(LeaseError::Busy(_)) => {
                self.trace
                    .reached("a unit that is being written is refused");
            }
            Err(_) => {}
        }
    }

    /// A member goes on with one unit that it leased: it writes the next line, or reads one.
    pub(super) fn use_unit(&mut self, h: usize, pid: u32, pick: u16, choice: u16) -> Checked {
        let Some((segment, unit)) = self.leased_unit(h, pid, pick) else {
            return Ok(());
        };
        let machine = &self.machines[h];
        let Some(process) = machine.processes.get(&pid) else {
            return Ok(());
        };
        let (Some(leased), Some(held)) = (
            process.leased.get(&(segment, unit)),
            process.held.get(&segment),
        ) else {
            return Ok(());
        };
        if !process.is_answered || leased.grant.backing != held.incarnation {
            return Ok(()); // It is to ask first where the contents are.
        }
        let row = machine.segment_row(segment);
        let is_moved = row.is_none_or(|row| row.incarnation != held.incarnation);
        if row.is_none() || is_moved && !leased.writes {
            // It was freed, or this member was evicted: what it still sees of the old files is
            // what anybody stores there who has them mapped.
            return Ok(());
        }
        let line = if leased.writes {
            leased.written.min(LINES - 1)
        } else {
            u32::from(choice) % LINES
        };
        // The directory is one extent, and a unit another.
        let found = machine.find(held, unit + 1);
        let place = found.and_then(|(backing, at)| machine.place(backing, at, line));
        let Some(place) = place else {
            return Ok(());
        };
        let (writes, mark) = (leased.writes, leased.mark);
        self.trace.note(
            "used",
            [h as u64, pid.into(), segment.number(), u64::from(writes)],
        );
        if writes {
            if self.store(h, place, mark).is_err() {
                return Ok(());
            }
            let process = self.machines[h].processes.get_mut(&pid);
            let leased = process.and_then(|process| process.leased.get_mut(&(segment, unit)));
            leased
                .into_iter()
                .for_each(|leased| leased.written = line + 1);
            return Ok(());
        }
        self.read_unit(h, pid, (segment, unit), place)
    }

    /// A reader reads a line of a unit, and looks whether its lease stood after it.
    fn read_unit(&mut self, h: usize, pid: u32, at: (SegmentId, u32), place: Place) -> Checked {
        let Ok(found) = self.load(h, place) else {
            return Ok(());
        };
        let machine = &self.machines[h];
        let process = machine.processes.get(&pid);
        let leased = process.and_then(|process| process.leased.get(&at));
        let Some((leased, slot)) = leased.zip(process.and_then(|p| p.held.get(&at.0)?.slot)) else {
            return Ok(());
        };
        let words = machine.words.get(&leased.directory);
        let Some(line) = words.and_then(|words| words.line(at.1)) else {
            return Ok(());
        };
        let member = Member::new(slot, Awake);
        if member.check_shared(line, &leased.grant).is_err() {
            return Ok(());
        }
        machine.contents.unit_read(at, leased.grant.version, found)
    }

    fn leased_unit(&self, h: usize, pid: u32, pick: u16) -> Option<(SegmentId, u32)> {
        let process = self.machines[h].processes.get(&pid)?;
        let place = usize::from(pick).checked_rem(process.leased.len())?;
        process.leased.keys().nth(place).copied()
    }

    /// A member lets go of a unit; a writer writes what it has not written yet, and publishes.
    pub(super) fn let_go_unit(&mut self, h: usize, pid: u32, pick: u16) -> Checked {
        let Some(unit) = self.leased_unit(h, pid, pick) else {
            return Ok(());
        };
        self.end_lease(h, pid, unit)
    }

    fn end_lease(&mut self, h: usize, pid: u32, at: (SegmentId, u32)) -> Checked {
        for _ in 0..LINES {
            let process = self.machines[h].processes.get(&pid);
            let leased = process.and_then(|process| process.leased.get(&at));
            let half = |leased: &Leased| leased.writes && (1..LINES).contains(&leased.written);
            if !leased.is_some_and(half) {
                break;
            }
            let keys = process.map(|process| process.leased.keys());
            let place = keys.and_then(|mut keys| keys.position(|key| *key == at));
            self.use_unit(h, pid, u16::try_from(place.unwrap_or(0)).unwrap_or(0), 0)?;
        }
        let machine = &mut self.machines[h];
        let Some(process) = machine.processes.get_mut(&pid) else {
            return Ok(());
        };
        let slot = process.held.get(&at.0).and_then(|held| held.slot);
        let Some((leased, slot)) = process.leased.remove(&at).zip(slot) else {
            return Ok(());
        };
        let words = machine.words.get(&leased.directory);
        let Some(line) = words.and_then(|words| words.line(at.1)) else {
            return Ok(());
        };
        let member = Member::new(slot, Awake);
        if !leased.writes {
            // Where it was taken away meanwhile nothing was changed.
            let _taken = member.release_shared(at.1, line, &leased.grant);
            return Ok(());
        }
        let is_whole = leased.written == LINES;
        let is_half = (leased.written > 0 || leased.restores) && !is_whole;
        let done = if is_half {
            member
                .abandon(line, &leased.grant)
                .map(|()| leased.grant.version)
        } else {
            member.release_exclusive(line, &leased.grant, is_whole)
        };
        self.trace.note(
            "let-go",
            [h as u64, pid.into(), at.0.number(), u64::from(done.is_ok())],
        );
        match done {
            Ok(version) if is_whole => {
                self.trace.reached("a unit is written");
                machine.contents.published(at, version, Some(leased.mark));
            }
            Ok(_) => {}
            Err(_) => self.trace.reached("a fenced writer is refused"),
        }
        Ok(())
    }

    /// A unit of a domain that a process may say it has waited for: one that others hold. It says
    /// so in the word, as who sleeps does.
    pub(super) fn wait_for_unit(&mut self, h: usize, pid: u32, pick: u16) -> Option<(u64, u32)> {
        let machine = &self.machines[h];
        let process = machine.processes.get(&pid)?;
        let mut wanted = Vec::new();
        for (segment, held) in process.held.iter().filter(|(_, held)| held.part.is_none()) {
            let (Some(slot), Some(directory)) = (held.slot, held.pieces.first()) else {
                continue;
            };
            let lines = machine
                .words
                .get(directory)
                .map_or(&[][..], |words| &words.lines);
            for (unit, line) in (0..).zip(lines) {
                let own = Own::judge(line.own.load(Acquire)).ok();
                if let Some(own) = own.filter(|own| own.holders() & !slot.bit() != 0) {
                    wanted.push((segment.number(), unit, held.access, line, own));
                }
            }
        }
        let place = usize::from(pick).checked_rem(wanted.len())?;
        let &(segment, unit, access, line, own) = wanted.get(place)?;
        if access == Access::ReadWrite {
            // Nobody is in between.
            line.own.store(own.recalled().word(), Release);
        }
        Some((segment, unit))
    }

    /// The daemon wants a unit back: an honest member lets go.
    pub(super) fn recalled_from(&mut self, h: usize, pid: u32, segment: u64, unit: u32) -> Checked {
        let process = self.machines[h].processes.get(&pid);
        let honest = process.is_some_and(|process| process.tidy) && is_honest(pid);
        match SegmentId::new(segment).filter(|_| honest) {
            Some(segment) => self.end_lease(h, pid, (segment, unit)),
            None => Ok(()),
        }
    }
}

/// For what the contents of a unit pass that were judged to be good.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// For what this version was.
    AsPublished(u64),
    /// For anything.
    Anything,
}

#[derive(Debug)]
struct Outcome {
    done: Result<(), RecoverError>,
    kept: Vec<Kept>,
    is_lost: bool,
}

/// As the daemon's reactor judges, in a domain without checksums.
fn recover_unit(line: &Descriptor, recovery: &Recovery, found: &mut Recovered) -> Outcome {
    let pass = Pass {
        slots: recovery.slots,
        cut_off: recovery.cut_off,
        moved: recovery.contents_in.map(Incarnation::number),
        settles: recovery.settles,
        in_order: recovery.in_order,
    };
    let (mut kept, mut is_lost) = (Vec::new(), false);
    let judge = |holder: Option<Slot>, fenced: Fenced| {
        let cut_off = holder.is_some_and(|slot| recovery.cut_off & slot.bit() != 0);
        let is_untouched = cut_off && !fenced.was_lost;
        let verdict = if is_untouched {
            Verdict::Good
        } else {
            fenced.by_terms(recovery.keeps)
        };
        if verdict == Verdict::Good {
            kept.push(if is_untouched || fenced.is_untaken {
                Kept::AsPublished(fenced.last_good)
            } else {
                Kept::Anything
            });
        }
        verdict
    };
    let tell = |holder: Option<Slot>, what: Became| {
        is_lost |= matches!(what, Became::Lost { .. });
        if holder == Some(Slot::DAEMON) || (holder.is_none() && !recovery.settles) {
            return;
        }
        match what {
            Became::Untouched => {}
            Became::Cleared => found.cleared += 1,
            Became::Repaired => found.repaired += 1,
            Became::Lost { .. } => found.lost += 1,
        }
    };
    let done = pass.go_on(line, &Awake, judge, tell);
    Outcome {
        done,
        kept,
        is_lost,
    }
}
