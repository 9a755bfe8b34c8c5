//! What is asked for as the demand says, and what is given back.

use fabric_emu::cci::dcd::UpdatedExtentList;
use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
use fabric_emu::cci::{ReturnCode, Tag};
use pool_core::{Extents, Nanos, planted};

use super::notes::Note;
use super::offers::list_of;
use super::{Capacity, GIVEN_AT_ONCE, Step, Steward, Whose};
use crate::engine::{Demand, Run, RunSet};

impl Steward {
    /// Whether more is to be asked for now.
    pub(super) fn is_wanted(&self, now: Nanos, demand: &Demand) -> bool {
        now >= self.ask_again_at && self.has_said_reached && self.lacking(demand) > 0
    }

    /// Extents that the pool should have more, in whole units: none where the device has all that
    /// it may have.
    pub(super) fn lacking(&self, demand: &Demand) -> u32 {
        let unit = self.region.map_or(1, |region| region.unit);
        let (wanted, low) = (demand.wanted.get(), self.terms.low.get());
        let missing = wanted.saturating_add(low.saturating_sub(demand.free.get()));
        if demand.draining || missing == 0 {
            return 0;
        }
        let most = self.room(demand) / unit * unit;
        let asked = missing.max(self.terms.step.get());
        asked.div_ceil(unit).saturating_mul(unit).min(most)
    }

    /// What is to be done about the demand.
    pub(super) fn decide(&mut self, now: Nanos, demand: &Demand) {
        if self.lacking(demand) == 0 {
            self.note(None); // It has what it should.
        }
        let unit = self.region.map_or(1, |region| region.unit);
        let held = self.held.clone().unwrap_or_default();
        let beyond = held.minus(&numbered(demand));
        if beyond.count() > 0 {
            // The engine has no numbers for it.
            let rest = held.minus(&beyond);
            self.say(Whose::Own, Capacity::Present(rest.iter().collect()));
            self.held = Some(rest);
            // In units, for a piece that is given back lies in one that was given.
            let units = beyond.iter().flat_map(|run| {
                let firsts = (run.first..run.end()).step_by(unit.max(1) as usize);
                firsts.map(move |first| Run {
                    first,
                    count: unit.min(run.end() - first),
                })
            });
            return self.step = Step::Release(units.collect());
        }
        if self.is_wanted(now, demand) {
            let lacking = self.lacking(demand);
            let asked = self.not_had.map_or(lacking, |not_had| {
                lacking.min((not_had.get() / 2).div_ceil(unit).max(1) * unit)
            });
            self.step = Step::Ask(Extents::new(asked));
            return;
        }
        self.give_back(now, demand, held);
    }

    /// Has the engine let go of what lies idle, or is bad, or else of what the manager wants back.
    fn give_back(&mut self, now: Nanos, demand: &Demand, held: RunSet) {
        let unit = self.region.map_or(1, |region| region.unit);
        let keep = if demand.draining {
            0
        } else {
            self.terms.high.get()
        };
        let spoiled = held.common(&self.bad);
        let spare = demand.free.get().saturating_sub(keep) / unit;
        if (spare == 0 && spoiled.count() == 0) || demand.wanted > Extents::ZERO {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
        let lay_idle = self
            .idle_since
            .is_some_and(|since| demand.draining || now.saturating_since(since) >= self.terms.idle);
        let within = if lay_idle {
            self.idle_since = None;
            // What is bad is of no use to anybody here.
            if spare > 0 { held } else { spoiled }
        } else if demand.free > Extents::ZERO {
            self.asked_back.clone()
        } else {
            RunSet::default()
        };
        if within.count() == 0 {
            return self.rest(now);
        }
        if planted!("steward.asks_no_engine") {
            self.step = Step::Release(within.iter().take(1).collect());
            return;
        }
        let most = if lay_idle && spare > 0 {
            spare
        } else {
            u32::MAX
        };
        self.say(
            Whose::Own,
            Capacity::Withdraw {
                unit,
                most,
                within: within.iter().collect(),
            },
        );
        self.step = Step::Withdraw(now.saturating_add(self.terms.retry));
    }

    pub(super) fn add_request(&self, extents: Extents) -> InitiateAddRequest {
        InitiateAddRequest {
            host_id: self.terms.ld,
            selection_policy: SelectionPolicy::Free,
            region_number: self.terms.region.unwrap_or(0),
            length: extents.bytes().get(),
            tag: Tag::default(),
            extents: None,
        }
    }

    /// The manager has not so much: half of it is asked for. Where that was the least, it is asked
    /// for no more than that, and not for a while.
    pub(super) fn was_refused(&mut self, now: Nanos, asked: Extents, code: ReturnCode) {
        let unit = self.region.map_or(1, |region| region.unit);
        self.not_had = Some(asked);
        if asked.get() <= unit {
            self.ask_again_at = now.saturating_add(self.terms.retry);
            self.note(Some(Note::NotGiven(code)));
        }
        self.step = Step::Decide;
    }

    /// As many of these as one command gives back.
    pub(super) fn given_back(&self, runs: &[Run]) -> UpdatedExtentList {
        let (runs, _) = runs.split_at(runs.len().min(GIVEN_AT_ONCE));
        let spans = self.region.map(|region| region.spans(runs));
        list_of(spans.into_iter().flatten())
    }
}

/// The extents that the engine has numbers for.
fn numbered(demand: &Demand) -> RunSet {
    RunSet::of(Run {
        first: 0,
        count: demand.most.get(),
    })
}
