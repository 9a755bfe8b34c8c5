//! Who waits for what: recalls, grants in turn, and the end of patience.

use pool_core::{Nanos, planted};

use super::{Gathered, Home, HomeOutput, Recall, Waiting};
use crate::host::message::{Denial, Right, Tell};
use crate::host::refusal::Refusal;
use crate::host::row::Obstacle;
use crate::host::timer::Timer;

impl Home {
    /// Puts a request at the end of the line. The same host's older request gives way; a copy
    /// keeps its place and its deadline. One that is granted `at_once` needs no room.
    pub(super) fn enqueue(
        &mut self,
        extent: u32,
        request: Waiting,
        at_once: bool,
    ) -> Result<(), Refusal> {
        let full = self.lines.len() >= self.limits.contended_max;
        if full && !at_once && !self.lines.contains_key(&extent) {
            return Err(Refusal::Full);
        }
        let line = self.lines.entry(extent).or_default();
        let older = line
            .waiting
            .iter()
            .position(|waiting| waiting.slot == request.slot);
        if let Some(index) = older {
            let ticket = line.waiting.get(index).map_or(0, |waiting| waiting.ticket);
            if ticket == request.ticket {
                return Ok(());
            }
            if ticket > request.ticket {
                return Err(Refusal::Settled);
            }
            line.waiting.remove(index);
            if index == 0 {
                line.recall = None;
            }
        }
        line.waiting.push_back(request);
        Ok(())
    }

    /// Takes the requests for which `goes` holds out of the line, and says which they were.
    pub(super) fn dequeue(&mut self, extent: u32, goes: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let Some(line) = self.lines.get_mut(&extent) else {
            return Vec::new();
        };
        if line.waiting.front().is_some_and(&goes) {
            line.recall = None;
        }
        let gone = line.waiting.iter().copied().filter(&goes).collect();
        line.waiting.retain(|waiting| !goes(waiting));
        if line.waiting.is_empty() {
            self.lines.remove(&extent);
        }
        gone
    }

    /// Grants in the order of coming, up to the first request that others stand in the way of;
    /// those are recalled.
    pub(super) fn pump(&mut self, now: Nanos, extent: u32, out: &mut Gathered) {
        while let Some(first) = self.first(extent) {
            let row = self.extents.entry(extent).or_default();
            let obstacles = row.obstacles(first.slot, first.right);
            if !obstacles.is_empty() {
                self.recall(now, extent, &obstacles, out);
                return;
            }
            row.grant(first.slot, first.ticket, first.right);
            out.extents.insert(extent);
            self.dequeue(extent, |waiting| waiting.slot == first.slot);
            self.send_grant(extent, first.slot, out);
        }
    }

    fn first(&self, extent: u32) -> Option<Waiting> {
        self.lines.get(&extent)?.waiting.front().copied()
    }

    /// Tells a holder what it holds.
    pub(super) fn send_grant(&self, extent: u32, slot: u8, out: &mut Gathered) {
        let (Some(row), Some(era)) = (self.extents.get(&extent), self.member(slot)) else {
            return;
        };
        if let Some((ticket, right)) = row.held_by(slot) {
            let tell = Tell::Grant {
                extent,
                ticket,
                right,
                epoch: row.epoch,
                version: row.version,
            };
            out.send(slot, era, tell);
        }
    }

    fn recall(&mut self, now: Nanos, extent: u32, obstacles: &[Obstacle], out: &mut Gathered) {
        let limits = self.limits;
        let Some(line) = self.lines.get_mut(&extent) else {
            return;
        };
        if line.recall.is_none() {
            line.recall = Some(Recall {
                timer: Timer::start(now, limits.resend_first),
                suspect_at: now.saturating_add(limits.suspect_after),
                suspected: false,
            });
            self.send_recalls(extent, obstacles, out);
        }
    }

    fn send_recalls(&self, extent: u32, obstacles: &[Obstacle], out: &mut Gathered) {
        for obstacle in obstacles {
            if let Some(era) = self.member(obstacle.slot) {
                let tell = Tell::Recall {
                    extent,
                    ticket: obstacle.ticket,
                    to: obstacle.to,
                };
                out.send(obstacle.slot, era, tell);
            }
        }
    }

    /// Refuses all who wait for the extent.
    pub(super) fn refuse_all(&mut self, extent: u32, why: Denial, out: &mut Gathered) {
        for waiting in self.dequeue(extent, |_| true) {
            self.refuse(extent, waiting.slot, waiting.ticket, why, out);
        }
    }

    pub(super) fn refuse(
        &self,
        extent: u32,
        slot: u8,
        ticket: u64,
        why: Denial,
        out: &mut Gathered,
    ) {
        if let Some(era) = self.member(slot) {
            let tell = Tell::Refuse {
                extent,
                ticket,
                why,
            };
            out.send(slot, era, tell);
        }
    }

    /// The host waits for nothing any more.
    pub(super) fn leave_lines(&mut self, slot: u8) {
        for extent in self.contended() {
            self.dequeue(extent, |waiting| waiting.slot == slot);
        }
    }

    /// Grants what can be granted now.
    pub(super) fn pump_lines(&mut self, now: Nanos, out: &mut Gathered) {
        for extent in self.contended() {
            self.pump(now, extent, out);
        }
    }

    fn contended(&self) -> Vec<u32> {
        self.lines.keys().copied().collect()
    }

    pub(super) fn tick(&mut self, now: Nanos, out: &mut Gathered) {
        self.greet(now, out);
        for extent in self.contended() {
            self.lose_patience(now, extent, out);
            self.pump(now, extent, out);
            self.recall_again(now, extent, out);
        }
    }

    /// Those whose time has passed hear who holds the extent; they get no data.
    fn lose_patience(&mut self, now: Nanos, extent: u32, out: &mut Gathered) {
        for late in self.dequeue(extent, |waiting| waiting.deadline <= now) {
            let obstacles = self
                .extents
                .get(&extent)
                .map(|row| row.obstacles(late.slot, Right::Exclusive))
                .unwrap_or_default();
            let holder = obstacles
                .iter()
                .map(|obstacle| obstacle.slot)
                .find(|holder| *holder != late.slot)
                .unwrap_or(late.slot);
            let why = Denial::Unavailable { holder };
            self.refuse(extent, late.slot, late.ticket, why, out);
        }
    }

    fn recall_again(&mut self, now: Nanos, extent: u32, out: &mut Gathered) {
        let Some(first) = self.first(extent) else {
            return;
        };
        let longest = self.limits.resend_longest;
        let obstacles = self
            .extents
            .get(&extent)
            .map(|row| row.obstacles(first.slot, first.right))
            .unwrap_or_default();
        let Some(recall) = self
            .lines
            .get_mut(&extent)
            .and_then(|line| line.recall.as_mut())
        else {
            return;
        };
        let suspect = !recall.suspected && recall.suspect_at <= now;
        recall.suspected |= suspect;
        let again = recall.timer.is_due(now);
        if again {
            recall.timer.again(now, longest);
        }
        if again && !planted!("host.recall_is_sent_once") {
            self.send_recalls(extent, &obstacles, out);
        }
        for obstacle in obstacles.iter().filter(|_| suspect) {
            if let Some(era) = self.member(obstacle.slot) {
                let host = obstacle.slot;
                out.rest.push(HomeOutput::Suspect { host, era });
            }
        }
    }
}
