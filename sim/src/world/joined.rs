//! What must come of groups once nothing goes wrong any more: who has one that was lost knows it,
//! and what one host seals the others join, and read.

use pool_core::{GroupTag, SegmentId};
use pool_daemon::engine::command::Operation;
use pool_proto::session::v1 as session;
use session::request::Body;

use super::World;
use super::memory::LINES;
use super::plans::{GROUP_TIER, bytes};
use crate::broken::{Checked, broken, holds};

const TOLD: &str = "who has what is lost is told";
const JOINED: &str = "what is sealed is joined when all is well";
/// Extents of a group that is shared in the end.
const EXTENTS: u32 = 2;
/// How often an answer is looked for, and how often one that was refused is asked again.
const TRIES: usize = 24;
/// From one look for an answer to the next, in nanoseconds.
const PAUSE: u64 = 50_000_000;

impl World {
    /// Nobody on a host has a group that the host has no more, or that was lost.
    pub(super) fn groups_are_known(&self, h: usize) -> Checked {
        let there = self.lines.groups_of(h);
        let processes = self.machines[h].processes.iter();
        let connected = processes.filter(|(_, process)| process.connected);
        for (pid, process) in connected {
            let mut tags = process.held.values().filter_map(|held| held.tag);
            let lost =
                tags.find(|tag| !there.contains(tag) || self.groups.is_known_to_be_lost(*tag));
            holds(lost.is_none(), TOLD, || {
                format!("{pid} on host {h} has {lost:?}")
            })?;
        }
        Ok(())
    }

    /// The daemon of a host has told of all that a reset took: whoever is connected has none of it.
    pub(super) fn who_lost_a_group_is_told(&self, h: usize) -> Checked {
        let processes = self.machines[h].processes.iter();
        let connected = processes.filter(|(_, process)| process.connected);
        for (pid, process) in connected {
            let mut tags = process.held.values().filter_map(|held| held.tag);
            let lost = tags.find(|tag| self.groups.is_known_to_be_lost(*tag));
            holds(lost.is_none(), TOLD, || {
                format!("{pid} on host {h} has {lost:?}, which was reset")
            })?;
        }
        Ok(())
    }

    /// One host makes a group, writes it and seals it; each of the others joins it and finds in it
    /// what was written.
    pub(super) fn groups_are_shared(&mut self) -> Checked {
        if self.mix.group_extents == 0 {
            return Ok(());
        }
        let hosts = self.machines.len();
        let maker = usize::try_from(self.mix.seed % hosts as u64).unwrap_or(0);
        let mut pids = Vec::new();
        for h in 0..hosts {
            self.operate(h, Operation::Activate("g0".to_owned()))?;
            let all = bytes(self.mix.group_extents);
            self.operate(h, Operation::Resize("g0".to_owned(), all))?;
            self.spawn(h, 0, true)?;
            pids.push(self.pids);
        }
        let make = Body::Create(session::Create {
            tier: GROUP_TIER.to_owned(),
            bytes: bytes(EXTENTS),
            ..session::Create::default()
        });
        let (segment, tag) = self.has_group(maker, pids[maker], &make)?;
        let mut marks = Vec::new();
        for choice in 0..lines() {
            self.write(maker, pids[maker], 0, choice)?;
            marks.push(self.marks);
        }
        let writers = self.writers_of(maker, pids[maker], segment.number());
        let seal = Body::Seal(session::Seal {
            segment_id: segment.number(),
            writers,
        });
        self.is_done(maker, pids[maker], &seal)?;
        let join = Body::Join(session::Join {
            tier: GROUP_TIER.to_owned(),
            tag: tag.to_string(),
            ..session::Join::default()
        });
        for h in (0..hosts).filter(|h| *h != maker) {
            let (_, joined) = self.has_group(h, pids[h], &join)?;
            holds(joined == tag, JOINED, || format!("host {h} has {joined:?}"))?;
            for (choice, mark) in (0..lines()).zip(&marks) {
                let found = self.choose_line(h, pids[h], 0, choice);
                let found = found.map(|(_, place, _)| self.load(h, place));
                holds(found == Some(Ok(Some(*mark))), JOINED, || {
                    format!("host {h} finds {found:?} in {tag:?}, and {mark} was written")
                })?;
            }
        }
        self.trace
            .reached("all hosts read a group when all is well");
        self.trace.note("groups-shared", [maker as u64, 0, 0, 0]);
        Ok(())
    }

    /// A process asks, and is answered.
    fn is_done(&mut self, h: usize, pid: u32, body: &Body) -> Checked {
        self.send(h, pid, body.clone())?;
        for _ in 0..TRIES {
            let process = self.machines[h].processes.get(&pid);
            if process.is_some_and(|process| process.is_answered) {
                return Ok(());
            }
            self.pass(PAUSE)?;
            self.settle(h)?;
        }
        broken(JOINED, format_args!("host {h} is not answered {body:?}"))
    }

    /// A process that has nothing asks for a group until it has it.
    fn has_group(&mut self, h: usize, pid: u32, body: &Body) -> Checked<(SegmentId, GroupTag)> {
        for _ in 0..TRIES {
            self.is_done(h, pid, body)?;
            let process = self.machines[h].processes.get(&pid);
            let held = process.and_then(|process| process.held.first_key_value());
            if let Some((segment, held)) = held
                && let Some(tag) = held.tag
            {
                return Ok((*segment, tag));
            }
            self.pass(PAUSE)?;
        }
        let last = self.machines[h].processes.get(&pid);
        broken(JOINED, format_args!("host {h}: {body:?}: {last:?}"))
    }
}

/// Lines of the group that is shared in the end.
fn lines() -> u16 {
    u16::try_from(EXTENTS * LINES).unwrap_or(u16::MAX)
}
