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
//! extent list (at first)   what is there before anything is answered
//! events                   what is offered, asked back, and was taken by force
//!   answers                what is taken of each offer
//! extent list              what is there
//! poison list              what is bad; the engine is told, and then of what has changed
//! demand                   ask for more, or have the engine let go of what lies idle
//! ```
//! Then it rests until the next round is due, or the demand is another one.
//!
//! # What is believed
//! The extent list alone. An event says that something is offered, asked back or gone; the list
//! says how things are. So an event that is lost, late or told twice does no harm, but for memory
//! that was taken and given again between two rounds: it holds nothing of before, and the event of
//! the taking is what says so. Where events were lost, all that is not known to have stayed is
//! said to be gone before it is said to be there. One that begins tells what is there before it
//! answers any offer: memory that was taken while nobody looked is not there then, and its events
//! may be of a time of which this one knows nothing.
//!
//! A fabric has the oldest offer answered first, and one that was forgotten (the daemon died after
//! its event was cleared, or the link was out for long) would keep all others waiting for ever. So
//! where an answer is refused, and once when all that is known is answered, the oldest offer is
//! declined unseen.
//!
//! # Invariants
//! 1. Nothing is given back that the engine has not let go of, durably.
//! 2. The engine hears of memory that left before it hears of memory that came in its place.
//! 3. One command is under way at a time, and each wait ends.

use std::collections::VecDeque;

use fabric_emu::cci::dcd::{GetDcConfigRequest, GetDcConfigResponse, GetDcExtentListRequest};
use fabric_emu::cci::events::{
    ClearEventRecordsRequest, EventLog, GetEventRecordsRequest, GetEventRecordsResponse,
};
use fabric_emu::cci::generic::{Empty, Timestamp};
use fabric_emu::cci::{DpaExtent, Request, Response, ReturnCode};
use fabric_emu::id::LdId;
use fabric_emu::span::Span;
use pool_core::{Extents, Nanos, planted};

use crate::engine::command::Capacity;
use crate::engine::{Demand, Run, RunSet};

mod awaited;
mod demand;
mod groups;
mod lists;
mod log;
mod notes;
mod offers;
#[cfg(feature = "server")]
mod parting;
mod region;
#[cfg(test)]
mod tests;

pub use groups::GroupWish;
use groups::{GroupStep, Groups};
use log::{News, Offer};
use notes::Note;
use offers::NOTHING;
#[cfg(feature = "server")]
pub(crate) use parting::give_all_back;
pub(crate) use region::Region;

/// Extents in one answer: a list that is longer is asked for in parts.
const EXTENTS_AT_ONCE: u32 = 1_024;
/// Parts of a log in one round, and of a list of poison: what is longer goes on in the next one.
const MOST_PARTS: u32 = 64;
/// Pieces of a list of extents. A list that is longer is none that can be read.
const LISTED_MAX: usize = 1 << 20;
/// Pieces that are offered and not answered: others are declined unseen.
const OFFERED_MAX: usize = 1 << 14;
/// Pieces that are given back by one command.
const GIVEN_AT_ONCE: usize = 1_024;
/// What a device's clock is set to. A device that was reset says less: its clock begins at 0.
const STAMP_NS: u64 = 1 << 60;

/// How a steward behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The logical device that is this host's way in, as the manager knows it.
    pub ld: LdId,
    /// The region of dynamic capacity that the memory is of; none where there are groups alone.
    pub region: Option<u8>,
    /// The region that groups are of.
    pub groups: Option<u8>,
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

/// Of which device something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Of memory that this host has alone.
    Own,
    /// Of groups that hosts share.
    Groups,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Send it to the device's mailbox of this host, and tell what was answered.
    Mailbox(Request),
    /// Send it to the manager, and tell what was answered.
    Manager(Request),
    /// Say it to the engine, of that device.
    Say(Whose, Capacity),
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
    /// The oldest offer is declined, whatever it is.
    Decline,
    List(Listing),
    /// After so many parts of it.
    Poison(u32),
    /// The same, of the region of groups.
    GroupPoison(u32),
    Group(GroupStep),
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
    pieces: Vec<DpaExtent>,
}

/// See the module.
#[derive(Debug)]
pub struct Steward {
    terms: Terms,
    region: Option<Region>,
    groups: Option<Groups>,
    step: Step,
    /// To be said first, in order.
    says: VecDeque<(Whose, Capacity)>,
    offers: VecDeque<Offer>,
    /// Records of an offer of which more are to come.
    half_offer: Offer,
    /// Pieces of all of them.
    offered: usize,
    /// There may be an offer that is not among them.
    in_doubt: bool,
    /// Extents that the answer under way takes, and those of answers since the list was read.
    taking: u32,
    taken: u32,
    /// The log has more records: they are read before anything is answered.
    reads_on: bool,
    /// What the engine was told is there; nothing before it was told.
    held: Option<RunSet>,
    /// What the list says is there, until the engine is told.
    there: RunSet,
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
    /// It was reached once.
    was_reached: bool,
    /// What was said last of what is in the way.
    noted: Option<Note>,
}

impl Steward {
    /// One that knows nothing of its device yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            region: None,
            groups: terms.groups.map(Groups::new),
            step: Step::Configure,
            says: VecDeque::new(),
            offers: VecDeque::new(),
            half_offer: Offer::default(),
            offered: 0,
            in_doubt: true,
            taking: 0,
            taken: 0,
            reads_on: false,
            held: None,
            there: RunSet::default(),
            bad: RunSet::default(),
            found_bad: Vec::new(),
            asked_back: RunSet::default(),
            parts: 0,
            not_had: None,
            ask_again_at: Nanos::ZERO,
            idle_since: None,
            unreached_since: None,
            has_said_reached: false,
            was_reached: false,
            noted: None,
        }
    }

    /// What is to be done now, as the pool stands.
    pub fn next(&mut self, now: Nanos, demand: &Demand) -> Do {
        self.give_up_overdue(now);
        if let Some((whose, word)) = self.says.pop_front() {
            return Do::Say(whose, word);
        }
        if self.step == Step::Decide {
            if !self.begin_wish(now) {
                self.decide(now, demand);
            }
            if let Some((whose, word)) = self.says.pop_front() {
                return Do::Say(whose, word);
            }
        }
        match self.step {
            Step::Withdraw(until) if now >= until => {
                // Whatever the engine has let go of is there: it is to hear so.
                self.held = None;
                self.read_list();
            }
            Step::Rest(until) if now >= until || self.is_wanted(now, demand) => self.begin_round(),
            Step::Rest(_) if self.has_wishes(now) => self.begin_round(),
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
            Step::Answer => {
                let (answer, taking) = self.answer(demand);
                self.taking = taking;
                mailbox(Request::AddDcResponse(answer))
            }
            Step::Decline => mailbox(Request::AddDcResponse(NOTHING)),
            Step::List(listing) => mailbox(Request::GetDcExtentList(GetDcExtentListRequest {
                extent_count: EXTENTS_AT_ONCE,
                starting_extent_index: listing.next,
            })),
            Step::Poison(parts) => mailbox(Self::poison_request(self.region, *parts == 0)),
            Step::GroupPoison(parts) => {
                let region = self.groups.as_ref().and_then(|groups| groups.region);
                mailbox(Self::poison_request(region, *parts == 0))
            }
            Step::Group(step) => match self.group_request(*step) {
                (request, true) => Do::Manager(request),
                (request, false) => mailbox(request),
            },
            Step::Ask(extents) => Do::Manager(Request::InitiateAdd(self.add_request(*extents))),
            Step::Release(runs) => mailbox(Request::ReleaseDc(self.given_back(runs))),
            Step::Withdraw(until) | Step::Rest(until) => Do::Rest(self.next_overdue(*until)),
        }
    }

    /// What came of a command.
    pub fn answered(&mut self, now: Nanos, answer: Result<&Response, Unanswered>) {
        if let Step::Group(step) = self.step {
            return self.group_answered(now, step, answer);
        }
        let answer = match (answer, &self.step) {
            (Ok(answer), _) => answer,
            // Whether it has less nobody knows: as good as nothing for a while.
            (Err(Unanswered::Unreached), Step::Ask(_)) => {
                self.ask_again_at = now.saturating_add(self.terms.retry);
                self.note(Some(Note::ManagerIsSilent));
                return self.step = Step::Decide;
            }
            (Err(Unanswered::Refused(code)), Step::Ask(extents)) => {
                // Less may be had; nothing before a while where that is refused too.
                let extents = *extents;
                return self.was_refused(now, extents, code);
            }
            (Err(Unanswered::Unreached), _) => return self.lost_touch(now),
            // A device without such a list has no poison to tell of.
            (Err(Unanswered::Refused(_)), Step::Poison(_)) => return self.listed_poison(),
            (Err(Unanswered::Refused(_)), Step::GroupPoison(_)) => return self.settled(),
            (Err(Unanswered::Refused(_)), Step::Answer) => return self.is_not_the_oldest(),
            (Err(Unanswered::Refused(_)), Step::Decline) => return self.has_declined_all(),
            (Err(Unanswered::Refused(code)), Step::Configure) => {
                self.note(Some(Note::Refused(code)));
                return self.rest(now);
            }
            // Busy, or in the middle of something else, or what was to be released was taken: the
            // list says what is so, in the next round.
            (Err(Unanswered::Refused(_)), _) => return self.rest(now),
        };
        match (self.step.clone(), answer) {
            (Step::Configure, Response::GetDcConfig(found)) => {
                self.configured(now, found);
            }
            (Step::Stamp, Response::GetTimestamp(clock)) => self.stamped(clock.timestamp_ns),
            (Step::SetStamp, Response::SetTimestamp(_)) => self.begin_to_read(),
            (Step::Events, Response::GetEventRecords(log)) => self.heard(log),
            (Step::Clear(_), Response::ClearEventRecords(_)) => self.after_events(),
            (Step::Answer, Response::AddDcResponse(_)) => self.has_answered(),
            (Step::Decline, Response::AddDcResponse(_)) => self.has_declined(now),
            (Step::List(listing), Response::GetDcExtentList(list)) => {
                self.listed(now, listing, list);
            }
            (Step::Poison(parts), Response::GetPoisonList(list)) => {
                self.found_poison(parts, list);
            }
            (Step::GroupPoison(parts), Response::GetPoisonList(list)) => {
                self.found_group_poison(parts, list);
            }
            (Step::Ask(_), Response::InitiateAdd(_)) => {
                self.not_had = None;
                self.note(None);
                self.ask_again_at = now.saturating_add(self.terms.poll);
                // The offer is in the log by now.
                self.step = Step::Events;
            }
            (Step::Release(mut runs), Response::ReleaseDc(_)) => {
                let rest = runs.split_off(runs.len().min(GIVEN_AT_ONCE));
                self.step = Step::Release(rest);
                if self.step == Step::Release(Vec::new()) {
                    self.read_list();
                }
            }
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

    /// Puts down a word to the engine. Of groups nobody hears where there are none.
    fn say(&mut self, whose: Whose, word: Capacity) {
        if whose == Whose::Own || self.groups.is_some() {
            self.says.push_back((whose, word));
        }
    }

    fn has_wishes(&self, now: Nanos) -> bool {
        let groups = self.groups.as_ref();
        self.has_said_reached && groups.is_some_and(|groups| groups.are_wanted(now))
    }

    /// The device has told how it is laid out. It is looked at again where it lacks a region.
    fn configured(&mut self, now: Nanos, found: &GetDcConfigResponse) {
        let number = self.terms.region;
        let own = number.map_or(Some(Region::NONE), |number| Region::of(found, number));
        let mut lacks = number.filter(|_| own.is_none());
        if let Some(groups) = &mut self.groups {
            groups.region = Region::of(found, groups.number);
            lacks = lacks.or(Some(groups.number).filter(|_| groups.region.is_none()));
        }
        self.region = own.filter(|_| lacks.is_none());
        match lacks {
            None => self.step = Step::Stamp,
            Some(number) => {
                self.note(Some(Note::NoRegion(number)));
                self.rest(now);
            }
        }
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
        let until = now.saturating_add(self.terms.poll);
        if let Some(groups) = &mut self.groups {
            groups.rest(until);
        }
        self.step = Step::Rest(until);
    }

    fn read_list(&mut self) {
        self.step = Step::List(Listing::default());
    }

    /// A device whose clock was not set since it was reset holds nothing of before.
    fn stamped(&mut self, clock: u64) {
        if clock >= STAMP_NS || planted!("steward.trusts_what_was_reset") {
            return self.begin_to_read();
        }
        self.forget_all();
        let words = self.groups.as_mut().map(Groups::was_reset);
        for word in words.into_iter().flatten() {
            self.say(Whose::Groups, word);
        }
        self.step = Step::SetStamp;
    }

    fn begin_to_read(&mut self) {
        match self.held {
            Some(_) => self.step = Step::Events,
            None => self.read_list(),
        }
    }

    /// What was there is there no more, whatever is there now.
    fn forget_all(&mut self) {
        let none = RunSet::default();
        if self.held.replace(none.clone()).as_ref() != Some(&none) {
            self.say(Whose::Own, Capacity::Present(Vec::new()));
        }
        self.bad = none;
        if let Some(word) = self.groups.as_mut().and_then(Groups::forget_all) {
            self.say(Whose::Groups, word);
        }
        self.forget_offers();
    }

    fn lost_touch(&mut self, now: Nanos) {
        let since = *self.unreached_since.get_or_insert(now);
        if std::mem::take(&mut self.has_said_reached) {
            self.say(Whose::Own, Capacity::Reached(false));
            self.say(Whose::Groups, Capacity::Reached(false));
        }
        if !self.was_reached {
            self.note(Some(Note::NobodyAnswers));
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
                News::Offered {
                    piece,
                    tag,
                    is_sharable,
                    has_more,
                } => {
                    if !is_sharable {
                        self.is_not_sharable(tag);
                    }
                    self.is_offered(piece, tag, has_more);
                }
                News::AskedBack(piece) => {
                    let wanted = region.runs(&[piece]).minus(&self.asked_back);
                    // It is disjoint from what was asked back before.
                    let added = self.asked_back.add(&wanted);
                    debug_assert!(added.is_ok(), "what is new is not there");
                }
                News::Taken(piece) => self.was_taken(region, piece),
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

    fn was_taken(&mut self, region: Region, piece: Span) {
        if let Some(word) = self.groups.as_mut().and_then(|it| it.was_taken(piece)) {
            self.say(Whose::Groups, word);
        }
        let taken = &region.runs(&[piece]);
        self.asked_back = self.asked_back.minus(taken);
        let Some(held) = &self.held else {
            return;
        };
        if held.common(taken).count() > 0 {
            let held = held.minus(taken);
            self.say(Whose::Own, Capacity::Present(held.iter().collect()));
            self.held = Some(held);
        }
    }
}
