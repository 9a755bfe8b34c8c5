//! Who speaks for a device whose memory comes from a fabric: asks for capacity when the pool runs
//! low, takes what is offered, gives back what lies idle, and tells the engine what is there.
//!
//! A [`Steward`] is a pure state machine. It is asked what to do [next](Steward::next), which its
//! driver does: a command to the device's mailbox of this host, a command to the fabric manager,
//! a word to the engine, or a rest. What was answered is [told](Steward::answered) to it. It reads
//! no clock and does no I/O, so the simulator runs the very same code as the daemon.
//!
//! # A round
//! ```text
//! configuration (once)     which range of the device the extents are numbered in
//! timestamp                whether the device was reset: then it holds nothing of before
//! events                   what is offered, asked back, and was taken by force
//!   answers                what is taken of each offer
//! extent list              what is there; the engine is told where it has changed
//! poison list              what is bad
//! demand                   ask for more, or have the engine let go of what lies idle
//! ```
//! Then it rests until the next round is due, or the demand is another one.
//!
//! # What is believed
//! The extent list alone. An event says that something is offered, asked back or gone; the list
//! says how things are. So an event that is lost, late or told twice does no harm, but for memory
//! that was taken and given again between two rounds: it holds nothing of before, and the event of
//! the taking is what says so. Where events were lost, all that is not known to have stayed is
//! said to be gone before it is said to be there.
//!
//! # Invariants
//! 1. Nothing is given back that the engine has not let go of, durably.
//! 2. The engine hears of memory that left before it hears of memory that came in its place.
//! 3. One command is under way at a time, and each wait ends.

use std::collections::VecDeque;

use fabric_emu::cci::dcd::{
    GetDcConfigRequest, GetDcExtentListRequest, GetDcExtentListResponse, UpdatedExtent,
    UpdatedExtentList,
};
use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
use fabric_emu::cci::events::{
    ClearEventRecordsRequest, EventLog, GetEventRecordsRequest, GetEventRecordsResponse,
};
use fabric_emu::cci::generic::{Empty, Timestamp};
use fabric_emu::cci::poison::{GetPoisonListRequest, GetPoisonListResponse};
use fabric_emu::cci::{DpaExtent, Request, Response, ReturnCode, Tag};
use fabric_emu::id::LdId;
use fabric_emu::span::Span;
use pool_core::{EXTENT_BYTES, Extents, Nanos, planted};

use crate::engine::command::Capacity;
use crate::engine::{Demand, Run, RunSet};

mod log;
mod region;
#[cfg(test)]
mod tests;

use log::{News, Offer};
pub(crate) use region::Region;

/// Extents in one answer: a list that is longer is asked for in parts.
const EXTENTS_AT_ONCE: u32 = 1_024;
/// Parts of a list, or of a log, in one round: what is longer goes on in the next one.
const MOST_PARTS: u32 = 64;
/// What a device's clock is set to. A device that was reset says less: its clock begins at 0.
const STAMP_NS: u64 = 1 << 60;

/// How a steward behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The logical device that is this host's way in, as the manager knows it.
    pub ld: LdId,
    /// The region of dynamic capacity that the memory is of.
    pub region: u8,
    /// So much is asked for at once, or more where more is wanted.
    pub step: Extents,
    /// More is asked for where less is free.
    pub low: Extents,
    /// What is free beyond that is given back when it has lain idle for so long.
    pub high: Extents,
    /// See `high`.
    pub idle: Nanos,
    /// From one round to the next.
    pub poll: Nanos,
    /// After a manager had nothing, until it is asked again.
    pub retry: Nanos,
    /// A device that is not reached for so long is taken for lost.
    pub patience: Nanos,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Send it to the device's mailbox of this host, and tell what was answered.
    Mailbox(Request),
    /// Send it to the manager, and tell what was answered.
    Manager(Request),
    /// Say it to the engine, of the device.
    Say(Capacity),
    /// Nothing before this time, unless the demand changes or something is withdrawn.
    Rest(Nanos),
}

/// Why a command has no answer with something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// It was refused.
    Refused(ReturnCode),
    /// Nobody answers, or not in time, or nothing that can be read.
    Unreached,
}

/// What is done at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Configure,
    Stamp,
    SetStamp,
    Events,
    Clear(Vec<u16>),
    Answer,
    List(Listing),
    Poison,
    Decide,
    Ask(Extents),
    /// The engine was asked to let go; if it says nothing by then, it is told anew what is there.
    Withdraw(Nanos),
    Release(Vec<Run>),
    Rest(Nanos),
}

/// A list that is read in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Listing {
    generation: Option<u32>,
    next: u32,
    pieces: Vec<Span>,
}

/// See the module.
#[derive(Debug)]
pub struct Steward {
    terms: Terms,
    region: Option<Region>,
    step: Step,
    /// To be said first, in order.
    says: VecDeque<Capacity>,
    offers: VecDeque<Offer>,
    /// Records of an offer of which more are to come.
    half_offer: Offer,
    /// The log has more records: they are read before anything is answered.
    reads_on: bool,
    /// What the engine was told is there; nothing before it was told.
    held: Option<RunSet>,
    /// What the engine was told is bad.
    bad: RunSet,
    found_bad: Vec<Run>,
    /// What the manager wants back and the engine has still.
    asked_back: RunSet,
    /// Parts of logs and lists that were read in this round.
    parts: u32,
    /// The least that the manager had not.
    not_had: Option<Extents>,
    ask_again_at: Nanos,
    idle_since: Option<Nanos>,
    unreached_since: Option<Nanos>,
    has_said_reached: bool,
}

impl Steward {
    /// One that knows nothing of its device yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            region: None,
            step: Step::Configure,
            says: VecDeque::new(),
            offers: VecDeque::new(),
            half_offer: Offer::default(),
            reads_on: false,
            held: None,
            bad: RunSet::default(),
            found_bad: Vec::new(),
            asked_back: RunSet::default(),
            parts: 0,
            not_had: None,
            ask_again_at: Nanos::ZERO,
            idle_since: None,
            unreached_since: None,
            has_said_reached: false,
        }
    }

    /// What is to be done now, as the pool stands.
    pub fn next(&mut self, now: Nanos, demand: &Demand) -> Do {
        if let Some(word) = self.says.pop_front() {
            return Do::Say(word);
        }
        if self.step == Step::Decide {
            self.decide(now, demand);
            if let Some(word) = self.says.pop_front() {
                return Do::Say(word);
            }
        }
        match self.step {
            Step::Withdraw(until) if now >= until => {
                // Whatever the engine has let go of is there: it is to hear so.
                self.held = None;
                self.read_list();
            }
            Step::Rest(until) if now >= until || self.is_wanted(now, demand) => self.begin_round(),
            _ => {}
        }
        let mailbox = Do::Mailbox;
        match &self.step {
            Step::Configure => mailbox(Request::GetDcConfig(GetDcConfigRequest {
                region_count: 8,
                starting_region_index: 0,
            })),
            Step::Stamp | Step::Decide => mailbox(Request::GetTimestamp(Empty)),
            Step::SetStamp => mailbox(Request::SetTimestamp(Timestamp {
                timestamp_ns: STAMP_NS,
            })),
            Step::Events => mailbox(Request::GetEventRecords(GetEventRecordsRequest {
                event_log: EventLog::DynamicCapacity,
            })),
            Step::Clear(handles) => mailbox(Request::ClearEventRecords(ClearEventRecordsRequest {
                event_log: EventLog::DynamicCapacity,
                clear_event_flags: 0,
                handles: handles.clone().try_into().unwrap_or_default(),
            })),
            Step::Answer => mailbox(Request::AddDcResponse(self.answer(demand))),
            Step::List(listing) => mailbox(Request::GetDcExtentList(GetDcExtentListRequest {
                extent_count: EXTENTS_AT_ONCE,
                starting_extent_index: listing.next,
            })),
            Step::Poison => mailbox(Request::GetPoisonList(self.poison_request())),
            Step::Ask(extents) => Do::Manager(Request::InitiateAdd(self.add_request(*extents))),
            Step::Release(runs) => mailbox(Request::ReleaseDc(self.list_of(runs))),
            Step::Withdraw(until) | Step::Rest(until) => Do::Rest(*until),
        }
    }

    /// What came of a command.
    pub fn answered(&mut self, now: Nanos, answer: Result<&Response, Unanswered>) {
        let answer = match (answer, &self.step) {
            (Ok(answer), _) => answer,
            (Err(_), Step::Ask(extents)) => {
                // Less may be had; nothing before a while where that is refused too.
                let extents = *extents;
                return self.was_refused(now, extents);
            }
            (Err(Unanswered::Unreached), _) => return self.lost_touch(now),
            // A device without such a list has no poison to tell of.
            (Err(Unanswered::Refused(_)), Step::Poison) => return self.listed_poison(),
            (Err(Unanswered::Refused(_)), Step::Answer | Step::Release(_)) => {
                // It was withdrawn meanwhile, or taken: the list says what is so.
                return self.read_list();
            }
            // Busy, or in the middle of something else: in the next round.
            (Err(Unanswered::Refused(_)), _) => return self.rest(now),
        };
        match (self.step.clone(), answer) {
            (Step::Configure, Response::GetDcConfig(found)) => {
                self.region = Region::of(found, self.terms.region);
                match self.region {
                    Some(_) => self.step = Step::Stamp,
                    None => self.rest(now),
                }
            }
            (Step::Stamp, Response::GetTimestamp(clock)) => self.stamped(clock.timestamp_ns),
            (Step::SetStamp, Response::SetTimestamp(_)) => self.step = Step::Events,
            (Step::Events, Response::GetEventRecords(log)) => self.heard(log),
            (Step::Clear(_), Response::ClearEventRecords(_)) => self.after_events(),
            (Step::Answer, Response::AddDcResponse(_)) => {
                self.offers.pop_front();
                self.after_events();
            }
            (Step::List(listing), Response::GetDcExtentList(list)) => {
                self.listed(now, listing, list);
            }
            (Step::Poison, Response::GetPoisonList(list)) => self.found_poison(list),
            (Step::Ask(_), Response::InitiateAdd(_)) => {
                self.not_had = None;
                self.ask_again_at = now.saturating_add(self.terms.poll);
                // The offer is in the log by now.
                self.step = Step::Events;
            }
            (Step::Release(_), Response::ReleaseDc(_)) => self.read_list(),
            // An answer to another question: as good as none.
            _ => self.lost_touch(now),
        }
    }

    /// The engine has let go of these: they may be given back.
    pub fn withdrawn(&mut self, now: Nanos, runs: Vec<Run>) {
        if !matches!(self.step, Step::Withdraw(_)) {
            // Too late: the engine has been told meanwhile that they are there.
            return;
        }
        if runs.is_empty() {
            return self.rest(now);
        }
        let left: RunSet = runs.iter().copied().collect();
        self.held = self.held.take().map(|held| held.minus(&left));
        if self.asked_back.common(&left).count() > 0 {
            // It is not asked for again at once.
            self.ask_again_at = now.saturating_add(self.terms.retry);
        }
        self.asked_back = self.asked_back.minus(&left);
        self.step = Step::Release(runs);
    }

    fn begin_round(&mut self) {
        self.parts = 0;
        self.step = if self.region.is_some() {
            Step::Stamp
        } else {
            Step::Configure
        };
    }

    fn rest(&mut self, now: Nanos) {
        self.step = Step::Rest(now.saturating_add(self.terms.poll));
    }

    fn read_list(&mut self) {
        self.step = Step::List(Listing::default());
    }

    /// A device whose clock was not set since it was reset holds nothing of before.
    fn stamped(&mut self, clock: u64) {
        if clock >= STAMP_NS || planted!("steward.trusts_what_was_reset") {
            self.step = Step::Events;
            return;
        }
        self.forget_all();
        self.step = Step::SetStamp;
    }

    /// What was there is there no more, whatever is there now.
    fn forget_all(&mut self) {
        let none = RunSet::default();
        if self.held.replace(none.clone()).as_ref() != Some(&none) {
            self.says.push_back(Capacity::Present(Vec::new()));
        }
        self.bad = none;
        self.offers.clear();
        self.half_offer = Offer::default();
    }

    fn lost_touch(&mut self, now: Nanos) {
        let since = *self.unreached_since.get_or_insert(now);
        if std::mem::take(&mut self.has_said_reached) {
            self.says.push_back(Capacity::Reached(false));
        }
        if now.saturating_since(since) >= self.terms.patience {
            self.forget_all();
        }
        self.rest(now);
    }

    fn heard(&mut self, log: &GetEventRecordsResponse) {
        let Some(region) = self.region else {
            return self.begin_round();
        };
        if log.flags & GetEventRecordsResponse::OVERFLOW != 0 {
            // What was taken meanwhile and given again cannot be told from what stayed.
            self.forget_all();
        }
        // As many as one command can clear.
        let records: Vec<_> = log.records.iter().take(u8::MAX.into()).collect();
        for record in &records {
            match log::news(record) {
                News::Offered { piece, has_more } => {
                    self.half_offer.pieces.push(piece);
                    if !has_more {
                        self.offers.push_back(std::mem::take(&mut self.half_offer));
                    }
                }
                News::AskedBack(piece) => {
                    let wanted = region.runs(&[piece]).minus(&self.asked_back);
                    // It is disjoint from what was asked back before.
                    let added = self.asked_back.add(&wanted);
                    debug_assert!(added.is_ok(), "what is new is not there");
                }
                News::Taken(piece) => self.was_taken(&region.runs(&[piece])),
                News::Reconfigured => self.region = None,
                News::Other => {}
            }
        }
        if records.is_empty() {
            return self.after_events();
        }
        let has_more = log.flags & GetEventRecordsResponse::MORE != 0;
        self.parts += 1;
        self.reads_on = self.parts < MOST_PARTS && (has_more || records.len() < log.records.len());
        self.step = Step::Clear(records.iter().map(|record| record.header.handle).collect());
    }

    fn was_taken(&mut self, taken: &RunSet) {
        self.asked_back = self.asked_back.minus(taken);
        let Some(held) = self
            .held
            .as_ref()
            .filter(|_| !planted!("steward.hears_no_taking"))
        else {
            return;
        };
        if held.common(taken).count() > 0 {
            let held = held.minus(taken);
            self.says
                .push_back(Capacity::Present(held.iter().collect()));
            self.held = Some(held);
        }
    }

    /// Records that are done with are gone: what is next.
    fn after_events(&mut self) {
        if std::mem::take(&mut self.reads_on) {
            self.step = Step::Events;
        } else if self.region.is_none() {
            self.step = Step::Configure;
        } else if self.offers.is_empty() {
            self.read_list();
        } else {
            self.step = Step::Answer;
        }
    }

    /// What of the oldest offer is taken: whole units, until there is as much as is wanted.
    fn answer(&self, demand: &Demand) -> UpdatedExtentList {
        let (Some(region), Some(offer)) = (self.region, self.offers.front()) else {
            return UpdatedExtentList {
                flags: 0,
                extents: fabric_emu::cci::List::new(),
            };
        };
        let room = demand.most.saturating_sub(demand.total).get();
        let wanted = if demand.draining { 0 } else { room };
        let (mut left, mut taken) = (wanted, Vec::new());
        for &piece in &offer.pieces {
            let whole = region.whole(piece).min(left / region.unit * region.unit);
            if whole > 0 {
                taken.push(UpdatedExtent {
                    start_dpa: piece.start,
                    length: u64::from(whole) * EXTENT_BYTES,
                });
                left -= whole;
            }
        }
        UpdatedExtentList {
            flags: 0,
            extents: taken.try_into().unwrap_or_default(),
        }
    }

    fn listed(&mut self, now: Nanos, mut listing: Listing, list: &GetDcExtentListResponse) {
        if *listing
            .generation
            .get_or_insert(list.extent_list_generation)
            != list.extent_list_generation
        {
            // It has changed in between.
            self.parts += 1;
            return if self.parts < MOST_PARTS {
                self.read_list();
            } else {
                self.rest(now);
            };
        }
        let piece = |it: &DpaExtent| Span {
            start: it.start_dpa,
            bytes: it.length,
        };
        listing.pieces.extend(list.extents.iter().map(piece));
        listing.next = u32::try_from(listing.pieces.len()).unwrap_or(u32::MAX);
        if listing.next < list.total_extent_count && !list.extents.is_empty() {
            self.step = Step::List(listing);
            return;
        }
        let Some(region) = self.region else {
            return self.begin_round();
        };
        let there = region.runs(&listing.pieces);
        if self.held.as_ref() != Some(&there) {
            self.says
                .push_back(Capacity::Present(there.iter().collect()));
        }
        self.asked_back = self.asked_back.common(&there);
        self.held = Some(there);
        self.found_bad.clear();
        self.step = Step::Poison;
    }

    fn poison_request(&self) -> GetPoisonListRequest {
        let (base, bytes) = self.region.map_or((0, 0), |it| (it.base, it.bytes()));
        let begins = if self.found_bad.is_empty() {
            GetPoisonListRequest::RESTART
        } else {
            0
        };
        GetPoisonListRequest {
            physical_address: base | begins,
            physical_address_length: bytes / pool_core::units::LINE_BYTES,
        }
    }

    fn found_poison(&mut self, list: &GetPoisonListResponse) {
        let Some(region) = self.region else {
            return self.begin_round();
        };
        let found = list.records.iter().filter_map(|it| {
            let line = it.media_error_address & !(pool_core::units::LINE_BYTES - 1);
            region.hit(line, it.media_error_length)
        });
        self.found_bad.extend(found);
        let more = list.poison_list_flags & GetPoisonListResponse::MORE != 0;
        if more && !list.records.is_empty() {
            return;
        }
        self.listed_poison();
    }

    fn listed_poison(&mut self) {
        let bad: RunSet = self.found_bad.drain(..).collect();
        let fresh = bad.minus(&self.bad);
        if fresh.count() > 0 {
            self.says
                .push_back(Capacity::Poisoned(fresh.iter().collect()));
            // It is disjoint from what was bad before.
            let added = self.bad.add(&fresh);
            debug_assert!(added.is_ok(), "what is new is not there");
        }
        self.unreached_since = None;
        if !std::mem::replace(&mut self.has_said_reached, true) {
            self.says.push_back(Capacity::Reached(true));
        }
        self.step = Step::Decide;
    }

    /// Whether more is to be asked for now.
    fn is_wanted(&self, now: Nanos, demand: &Demand) -> bool {
        now >= self.ask_again_at && self.has_said_reached && self.lacking(demand) > 0
    }

    /// Extents that the pool should have more, in whole units: none where the device has all that
    /// it may have.
    fn lacking(&self, demand: &Demand) -> u32 {
        let unit = self.region.map_or(1, |region| region.unit);
        let (wanted, low) = (demand.wanted.get(), self.terms.low.get());
        let missing = wanted.saturating_add(low.saturating_sub(demand.free.get()));
        if demand.draining || missing == 0 {
            return 0;
        }
        let most = demand.most.saturating_sub(demand.total).get() / unit * unit;
        let asked = missing.max(self.terms.step.get());
        asked.div_ceil(unit).saturating_mul(unit).min(most)
    }

    /// What is to be done about the demand.
    fn decide(&mut self, now: Nanos, demand: &Demand) {
        let unit = self.region.map_or(1, |region| region.unit);
        if self.is_wanted(now, demand) {
            let lacking = self.lacking(demand);
            let asked = self.not_had.map_or(lacking, |not_had| {
                lacking.min((not_had.get() / 2).div_ceil(unit).max(1) * unit)
            });
            self.step = Step::Ask(Extents::new(asked));
            return;
        }
        let keep = if demand.draining {
            0
        } else {
            self.terms.high.get()
        };
        let spare = demand.free.get().saturating_sub(keep) / unit;
        if spare == 0 || demand.wanted > Extents::ZERO {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
        let lay_idle = self
            .idle_since
            .is_some_and(|since| demand.draining || now.saturating_since(since) >= self.terms.idle);
        let within = if lay_idle {
            self.idle_since = None;
            self.held.clone().unwrap_or_default()
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
        let most = if lay_idle { spare } else { u32::MAX };
        self.says.push_back(Capacity::Withdraw {
            unit,
            most,
            within: within.iter().collect(),
        });
        self.step = Step::Withdraw(now.saturating_add(self.terms.retry));
    }

    fn add_request(&self, extents: Extents) -> InitiateAddRequest {
        InitiateAddRequest {
            host_id: self.terms.ld,
            selection_policy: SelectionPolicy::Free,
            region_number: self.terms.region,
            length: extents.bytes().get(),
            tag: Tag::default(),
            extents: None,
        }
    }

    /// The manager has not so much: half of it is asked for. Where that was the least, it is asked
    /// for no more than that, and not for a while.
    fn was_refused(&mut self, now: Nanos, asked: Extents) {
        let unit = self.region.map_or(1, |region| region.unit);
        self.not_had = Some(asked);
        if asked.get() <= unit {
            self.ask_again_at = now.saturating_add(self.terms.retry);
        }
        self.step = Step::Decide;
    }

    fn list_of(&self, runs: &[Run]) -> UpdatedExtentList {
        let spans = self.region.map(|region| region.spans(runs));
        let extents: Vec<UpdatedExtent> = spans
            .into_iter()
            .flatten()
            .map(|span| UpdatedExtent {
                start_dpa: span.start,
                length: span.bytes,
            })
            .collect();
        UpdatedExtentList {
            flags: 0,
            extents: extents.try_into().unwrap_or_default(),
        }
    }
}
