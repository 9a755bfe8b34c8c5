//! What the daemon of a host waits for is judged by what goes into it and comes out of it.

use pool_core::{Nanos, SegmentId};
use pool_daemon::engine::command::Command;
use pool_daemon::engine::effect::Effects;
use pool_daemon::journal::{Record, Table};
use pool_proto::admin::v1::PoolEvent;
use pool_proto::common::v1::ErrorReason;
use pool_proto::session::v1 as session;
use session::{reply, request};

use super::World;
use super::requests::WAIT_MOST_MS;
use crate::broken::{Checked, holds};

impl World {
    /// Whatever a daemon waits for is due by the clock that it has now, whatever an earlier one
    /// said, and within what its kind may last.
    pub(super) fn waits_by_its_clock(&self, h: usize) -> Checked {
        let machine = &self.machines[h];
        let latest = machine.clock.latest(self.now);
        let waits = machine.engine.iter().flat_map(|engine| engine.waits());
        for due in waits {
            let most = due.most.unwrap_or(Nanos::from_millis(WAIT_MOST_MS));
            let end = latest.saturating_add(most);
            holds(due.at <= end, "a wait is as long as it was to be", || {
                format!("the daemon of host {h} waits for {due:?}, and it is {latest:?}")
            })?;
        }
        Ok(())
    }

    /// A step of a daemon is about to be taken: what it looks at, where nobody is evicted yet.
    pub(super) fn waits_before(
        &mut self,
        h: usize,
        now: Nanos,
        command: &Command,
    ) -> Option<(SegmentId, u32)> {
        let machine = &mut self.machines[h];
        let engine = machine.engine.as_ref();
        let evicts = |id| engine.is_some_and(|engine| engine.evicts_from(id));
        let looked = match command {
            Command::Looked { segment, unit, .. } => Some((*segment, *unit)),
            _ => None,
        };
        let looked = looked.filter(|(segment, _)| !evicts(*segment));
        let now = machine.waits.time(now);
        machine.waits.hears(now, command);
        if let Command::Request { client, request } = command
            && let Some(request::Body::Create(create)) = &request.body
        {
            let asker = (client.number(), request.request_id);
            machine.waits.asks(now, asker, create.wait_ms);
        }
        looked
    }

    /// It was taken: what comes of it comes no earlier than it was to.
    pub(super) fn waits_after(
        &mut self,
        h: usize,
        now: Nanos,
        looked: Option<(SegmentId, u32)>,
        effects: &Effects,
    ) -> Checked {
        let now = self.machines[h].waits.time(now);
        if let Some(unit) = looked {
            self.evicts_at_a_look(h, now, unit)?;
        }
        self.evicts_in_time(h, now, effects)?;
        let machine = &mut self.machines[h];
        let grace = machine.plan.reattach_grace;
        if let Some(engine) = &machine.engine {
            machine
                .waits
                .awaits(now, engine.awaits_descriptors(), grace)?;
        }
        Ok(())
    }

    fn evicts_at_a_look(&self, h: usize, now: Nanos, unit: (SegmentId, u32)) -> Checked {
        let machine = &self.machines[h];
        let engine = machine.engine.as_ref();
        if !engine.is_some_and(|engine| engine.evicts_from(unit.0)) {
            return Ok(());
        }
        let row = machine.segment_row(unit.0);
        let terms = row.and_then(|row| row.coherence.as_ref());
        let millis = terms.map_or(0, |terms| terms.recall_ms);
        let recall = Nanos::from_millis(millis.into());
        machine.waits.evicts_at_a_look(now, unit, recall)
    }

    fn evicts_in_time(&self, h: usize, now: Nanos, effects: &Effects) -> Checked {
        let machine = &self.machines[h];
        for record in &effects.records {
            let Record::Segment(row) = record else {
                continue;
            };
            let before = machine.durable.get(&(Table::Segments, row.segment_id));
            let was_begun = matches!(before, Some(Record::Segment(row)) if row.eviction.is_some());
            let begins = row.eviction.as_ref().is_some_and(|it| !it.ended);
            let recall = row.coherence.as_ref().map(|terms| terms.recall_ms);
            if let (true, false, Some(millis), Some(id)) =
                (begins, was_begun, recall, SegmentId::new(row.segment_id))
            {
                let recall = Nanos::from_millis(millis.into());
                machine.waits.evicts(now, (id, row), recall)?;
            }
        }
        Ok(())
    }

    /// A client is answered.
    pub(super) fn waits_answered(
        &mut self,
        h: usize,
        client: u64,
        answer: &session::Reply,
    ) -> Checked {
        let now = self.time(h);
        let is_full = match &answer.body {
            Some(reply::Body::Error(error)) => error.reason() == ErrorReason::TierFull,
            _ => false,
        };
        let asker = (client, answer.request_id);
        let waits = &mut self.machines[h].waits;
        let now = waits.time(now);
        waits.answered(now, asker, is_full)
    }

    /// Something is published that ends a wait, or begins one.
    pub(super) fn waits_published(&mut self, h: usize, event: &PoolEvent) -> Checked {
        let now = self.time(h);
        let machine = &mut self.machines[h];
        let now = machine.waits.time(now);
        let deadline = machine.plan.pressure_deadline;
        match (event.kind.as_str(), event.detail.as_str()) {
            ("pressure", tier) => machine.waits.asks_back(now, tier),
            ("segment-revoked", "burst") => {
                let row = machine.durable.get(&(Table::Segments, event.segment_id));
                if let Some(Record::Segment(row)) = row {
                    return machine.waits.revokes(now, &row.tier, deadline);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
