//! The threads that speak for devices whose memory comes and goes, so that the reactor never waits
//! for one: a thread for each mailbox of a fabric, whose device gives this host memory of its own,
//! groups that hosts share, or both; and one for each device that may be plugged in and pulled.
//!
//! # Protocol
//! A thread does what its [`Steward`] or its [`Plug`] wants done. A word to the engine is put down
//! here; the reactor takes it up as a command of its next batch, and says so once the batch is
//! done, with the demand as it is then. Until then the thread waits: nobody decides by a demand
//! that its own words have not reached. What the engine has let go of comes back after its commit.
//!
//! When the journal has failed, words that were put down are thrown away, and who said them begins
//! anew: the engine of after is told everything.
//!
//! # Invariants
//! 1. The engine hears the words of a device in their order, each once, or their speaker begins
//!    anew.
//! 2. Nothing waits for a fabric, or for the kernel's drivers, under a lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use fabric_emu::cci::dcd_management::ReferenceRequest;
use fabric_emu::cci::{Opcode, Request, Response, ReturnCode, Tag};
use fabric_emu::fabric::Cci;
use fabric_emu::id::{LdId, MemdevId};
use fabric_emu::serve::names::Door;
use fabric_emu::serve::{AskError, Remote};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use pool_core::sync::{Arc, Condvar, Mutex, lock, thread};
use pool_core::{DeviceId, Extents, GroupTag, Nanos, SegmentId, clock};

use super::ReactorError;
use crate::config::FabricSource;
use crate::device::cxl::CxlRegion;
use crate::device::fabric::mailbox;
use crate::engine::command::{Capacity, Command, NoGroup};
use crate::engine::effect::GroupAsk;
use crate::engine::{Demand, Engine, Run};
use crate::plug::{self, Plug};
use crate::steward::{self, Do, GroupWish, Steward, Terms, Unanswered, Whose};
use crate::sys;

/// From one round of a steward to the next.
const POLL: Nanos = Nanos::from_millis(100);
/// After a manager had nothing, until it is asked again.
const RETRY: Nanos = Nanos::from_millis(1_000);
/// How long an answer is waited for.
const PATIENCE: Nanos = Nanos::from_millis(2_000);

/// See the module.
#[derive(Debug)]
pub(super) struct Stewards {
    all: Vec<Voice>,
    event: Arc<EventFd>,
}

#[derive(Debug)]
struct Voice {
    devices: Devices,
    shared: Arc<Shared>,
    /// Words that were taken up.
    taken: u64,
    thread: Option<thread::JoinHandle<()>>,
}

/// The devices that one thread speaks for.
#[derive(Debug, Default, Clone, Copy)]
struct Devices {
    own: Option<DeviceId>,
    groups: Option<DeviceId>,
}

impl Devices {
    fn get(self, whose: Whose) -> Option<DeviceId> {
        match whose {
            Whose::Own => self.own,
            Whose::Groups => self.groups,
        }
    }

    fn have(self, device: DeviceId) -> bool {
        self.own == Some(device) || self.groups == Some(device)
    }

    /// What the engine wants of them. Where a device has groups alone nothing is asked for ahead.
    fn demand(self, engine: &Engine) -> Option<Demand> {
        match self.own {
            Some(own) => engine.demand(own),
            None => Some(NO_DEMAND),
        }
    }
}

const NO_DEMAND: Demand = Demand {
    total: Extents::ZERO,
    free: Extents::ZERO,
    most: Extents::ZERO,
    wanted: Extents::ZERO,
    draining: true,
    removed: false,
};

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// As of the last batch.
    demand: Option<Demand>,
    words: VecDeque<(DeviceId, Capacity)>,
    wishes: VecDeque<GroupWish>,
    /// Words that were ever put down, and those whose batch is done.
    said: u64,
    heard: u64,
    withdrawn: Option<Vec<Run>>,
    begins_anew: bool,
    ends: bool,
}

/// What is news since the last one.
#[derive(Debug)]
struct Turn {
    /// The engine is another one, which has heard nothing.
    begins_anew: bool,
    demand: Demand,
    withdrawn: Option<Vec<Run>>,
    wishes: VecDeque<GroupWish>,
}

impl Stewards {
    /// Starts a thread for each mailbox of these fabrics, and for each device of these regions.
    pub(super) fn start(
        fabrics: Vec<(DeviceId, FabricSource)>,
        regions: Vec<(DeviceId, Arc<CxlRegion>)>,
    ) -> Result<Self, ReactorError> {
        let (all, event) = (Vec::new(), Arc::new(sys::event()?));
        let mut stewards = Self { all, event };
        for (devices, mailbox) in by_mailbox(fabrics.into_iter()) {
            stewards.add("steward", devices, move |shared, event| {
                speak(&mailbox, devices, shared, event);
            })?;
        }
        for (device, region) in regions {
            let (own, groups) = (Some(device), None);
            stewards.add("plug", Devices { own, groups }, move |shared, event| {
                attend(&region, device, shared, event);
            })?;
        }
        Ok(stewards)
    }

    fn add(
        &mut self,
        name: &str,
        devices: Devices,
        body: impl FnOnce(&Shared, &EventFd) + Send + 'static,
    ) -> Result<(), ReactorError> {
        let shared = Arc::new(Shared::default());
        let theirs = (Arc::clone(&shared), Arc::clone(&self.event));
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || body(&theirs.0, &theirs.1))
            .map_err(|_| ReactorError::os("clone", Errno::EAGAIN))?;
        self.all.push(Voice {
            devices,
            shared,
            taken: 0,
            thread: Some(thread),
        });
        Ok(())
    }

    /// Readable where words were put down.
    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Not readable any more, whatever words there are.
    pub(super) fn hush(&self) {
        sys::take_event(&self.event);
    }

    /// Takes up all words, each as a command.
    pub(super) fn take(&mut self) -> Vec<Command> {
        self.hush();
        let mut commands = Vec::new();
        for voice in &mut self.all {
            let mut state = lock(&voice.shared.state);
            let words = std::mem::take(&mut state.words);
            voice.taken = state.said;
            let command = |(device, change)| Command::Capacity { device, change };
            commands.extend(words.into_iter().map(command));
        }
        commands
    }

    /// What was taken up has been done, and is durable.
    pub(super) fn done(&self, engine: &Engine) {
        for voice in &self.all {
            let demand = voice.devices.demand(engine);
            let mut state = lock(&voice.shared.state);
            if (state.demand, state.heard) != (demand, voice.taken) {
                (state.demand, state.heard) = (demand, voice.taken);
                voice.shared.changed.notify_all();
            }
        }
    }

    /// The engine has let go of these extents.
    pub(super) fn withdrawn(&self, device: DeviceId, runs: Vec<Run>) {
        if let Some(voice) = self.voice_of(device) {
            lock(&voice.shared.state).withdrawn = Some(runs);
            voice.shared.changed.notify_all();
        }
    }

    /// The engine wants something done about a group.
    pub(super) fn group(&self, device: DeviceId, ask: GroupAsk) {
        let Some(voice) = self.voice_of(device) else {
            return;
        };
        let mut state = lock(&voice.shared.state);
        match wish(ask) {
            Ok(wish) => state.wishes.push_back(wish),
            Err(segment) => {
                let why = NoGroup::Unreached;
                let word = Capacity::NoGroup { segment, why };
                state.words.push_back((device, word));
                state.said += 1;
                sys::raise_event(&self.event);
            }
        }
        voice.shared.changed.notify_all();
    }

    fn voice_of(&self, device: DeviceId) -> Option<&Voice> {
        self.all.iter().find(|voice| voice.devices.have(device))
    }

    /// The engine is another one: it is told everything.
    pub(super) fn begin_anew(&self) {
        for voice in &self.all {
            let mut state = lock(&voice.shared.state);
            state.words.clear();
            state.wishes.clear();
            (state.heard, state.begins_anew, state.withdrawn) = (state.said, true, None);
            // What the engine of after wants published is asked for before its first demand.
            state.demand = None;
            voice.shared.changed.notify_all();
        }
    }
}

impl Drop for Stewards {
    fn drop(&mut self) {
        for voice in &self.all {
            lock(&voice.shared.state).ends = true;
            voice.shared.changed.notify_all();
        }
        for voice in &mut self.all {
            if voice.thread.take().is_some_and(|it| it.join().is_err()) {
                tracing::error!("a steward has panicked");
            }
        }
    }
}

impl Shared {
    /// What is news, once there is a demand; `None` at the end.
    fn turn(&self) -> Option<Turn> {
        let mut state = lock(&self.state);
        loop {
            if state.ends {
                return None;
            }
            if let Some(demand) = state.demand {
                return Some(Turn {
                    begins_anew: std::mem::take(&mut state.begins_anew),
                    demand,
                    withdrawn: state.withdrawn.take(),
                    wishes: std::mem::take(&mut state.wishes),
                });
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts a word down, and waits until its batch is done.
    fn say(&self, device: DeviceId, word: Capacity, event: &EventFd) {
        let mut state = lock(&self.state);
        state.words.push_back((device, word));
        state.said += 1;
        let said = state.said;
        sys::raise_event(event);
        while state.heard < said && !state.ends && !state.begins_anew {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a time, or until something is another than it was.
    fn rest(&self, until: Nanos, demand: &Demand) {
        let mut state = lock(&self.state);
        loop {
            let rest = until.saturating_since(clock::now());
            let is_same = state.demand.as_ref() == Some(demand)
                && state.withdrawn.is_none()
                && state.wishes.is_empty();
            if rest == Nanos::ZERO || !is_same || state.ends || state.begins_anew {
                return;
            }
            let rest = Duration::from_nanos(rest.get());
            state = self
                .changed
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// What a mailbox is configured as: of each kind of device one at most.
#[derive(Debug, Default)]
struct Mailbox {
    own: Option<FabricSource>,
    groups: Option<FabricSource>,
}

/// The devices that there are, and their sources, by the mailbox that each has.
fn by_mailbox(
    sources: impl Iterator<Item = (DeviceId, FabricSource)>,
) -> impl Iterator<Item = (Devices, Mailbox)> {
    let mut all = BTreeMap::<_, (Devices, Mailbox)>::new();
    for (device, source) in sources {
        let place = (
            source.directory.clone(),
            source.host,
            source.memdev,
            source.ld,
        );
        let (devices, mailbox) = all.entry(place).or_default();
        if source.shared {
            (devices.groups, mailbox.groups) = (Some(device), Some(source));
        } else {
            (devices.own, mailbox.own) = (Some(device), Some(source));
        }
    }
    all.into_values()
}

/// A wish of the steward; a tag that is to be one is drawn here. The segment that gets none, where
/// the kernel gives no random numbers.
fn wish(ask: GroupAsk) -> Result<GroupWish, SegmentId> {
    Ok(match ask {
        GroupAsk::Make {
            segment,
            addr,
            extents,
        } => {
            let random = sys::random_token();
            let drawn = random.ok().and_then(|token| token.first_chunk().copied());
            let tag = drawn.and_then(|drawn| GroupTag::new(drawn, addr, extents));
            GroupWish::Make(segment, tag.ok_or(segment)?)
        }
        GroupAsk::Join { segment, tag } => GroupWish::Join(segment, tag),
        GroupAsk::Publish(tag) => GroupWish::Publish(tag),
        GroupAsk::Leave { tag, is_ours } => GroupWish::Leave(tag, is_ours),
    })
}

fn speak(mailbox: &Mailbox, devices: Devices, shared: &Shared, event: &EventFd) {
    let Some((source, terms)) = terms(mailbox) else {
        return;
    };
    let mut steward = Steward::new(terms);
    let door = |cci| source.directory.join(Door::Cci(cci).to_string());
    let mut device = Line::to(door(self::mailbox(source)));
    let mut manager = Line::to(door(Cci::Memdev(MemdevId(source.memdev))));
    while let Some(turn) = shared.turn() {
        if turn.begins_anew {
            steward = Steward::new(terms);
        }
        if let Some(runs) = turn.withdrawn {
            steward.withdrawn(clock::now(), runs);
        }
        for wish in turn.wishes {
            steward.wish(clock::now(), wish);
        }
        let demand = turn.demand;
        match steward.next(clock::now(), &demand) {
            Do::Mailbox(request) => answer(&mut steward, &mut device, &request),
            Do::Manager(request) => answer(&mut steward, &mut manager, &request),
            Do::Say(whose, word) => {
                // Of a device that is not configured nobody wants to hear.
                if let Some(device) = devices.get(whose) {
                    shared.say(device, word, event);
                }
            }
            Do::Rest(until) => shared.rest(until, &demand),
        }
    }
}

fn attend(region: &CxlRegion, device: DeviceId, shared: &Shared, event: &EventFd) {
    let mut plug = Plug::new(region.extents());
    while let Some(turn) = shared.turn() {
        if turn.begins_anew {
            plug = Plug::new(region.extents());
        }
        if let Some(runs) = turn.withdrawn {
            plug.withdrawn(runs);
        }
        match plug.next(clock::now(), &turn.demand, region) {
            plug::Do::Say(word) => shared.say(device, word, event),
            plug::Do::Rest(until) => shared.rest(until, &turn.demand),
        }
    }
}

fn answer(steward: &mut Steward, line: &mut Line, request: &Request) {
    let answer = line.ask(request);
    let now = clock::now();
    steward.answered(now, answer.as_ref().map_err(|&unanswered| unanswered));
}

fn terms(mailbox: &Mailbox) -> Option<(&FabricSource, Terms)> {
    let source = mailbox.own.as_ref().or(mailbox.groups.as_ref())?;
    // Whole extents, fewer than 2^32 of them, since they were read.
    let extents = |bytes| Extents::holding(bytes).unwrap_or(Extents::new(u32::MAX));
    let terms = Terms {
        ld: LdId(source.ld),
        region: mailbox.own.as_ref().map(|own| own.region),
        groups: mailbox.groups.as_ref().map(|groups| groups.region),
        step: extents(source.step),
        low: extents(source.low),
        high: extents(source.high),
        idle: source.idle,
        poll: POLL,
        retry: RETRY,
        patience: source.patience,
    };
    Some((source, terms))
}

/// Gives back what the host of a device has of it, now that nobody has any of it in use, and has
/// nobody join what this pool has `published`. What cannot be given back stays the host's, until a
/// manager takes it.
pub(super) fn give_all_back(source: &FabricSource, published: &BTreeSet<GroupTag>) {
    let path = source
        .directory
        .join(Door::Cci(mailbox(source)).to_string());
    let mut line = Line::to(path.clone());
    let path = path.display();
    if source.shared
        && let Err(why) = unpublish_all(source, published)
    {
        tracing::warn!(%path, ?why, "groups of this host stay published: a manager can end that");
    }
    match steward::give_all_back(source.region, |request| line.ask(request)) {
        Ok(bytes) => tracing::info!(%path, %bytes, "what the host had is given back"),
        Err(why) => tracing::warn!(
            %path, ?why, "what the host has is not given back: a manager can take it by force"
        ),
    }
}

/// How often a manager is asked that is busy.
const UNPUBLISH_TRIES: usize = 16;

/// Has nobody join these groups: who has one keeps it.
fn unpublish_all(source: &FabricSource, published: &BTreeSet<GroupTag>) -> Result<(), Unanswered> {
    let door = Door::Cci(Cci::Memdev(MemdevId(source.memdev)));
    let mut manager = Line::to(source.directory.join(door.to_string()));
    for tag in published {
        let asked = ReferenceRequest {
            tag: Tag(tag.bytes()),
        };
        let ask = || manager.ask(&Request::RemoveReference(asked.clone()));
        let is_later = |answer: &Result<_, _>| {
            let code = match answer {
                Err(Unanswered::Refused(code)) => *code,
                _ => return false,
            };
            matches!(code, ReturnCode::Busy | ReturnCode::RetryRequired)
        };
        let mut answers = std::iter::repeat_with(ask).take(UNPUBLISH_TRIES);
        match answers.find(|answer| !is_later(answer)) {
            // It was not yet, or is of another device.
            Some(Ok(_) | Err(Unanswered::Refused(ReturnCode::InvalidInput))) => {}
            Some(Err(why)) => return Err(why),
            None => return Err(Unanswered::Refused(ReturnCode::Busy)),
        }
    }
    Ok(())
}

/// A connection that is made anew where it broke.
struct Line {
    path: PathBuf,
    remote: Option<Remote>,
    /// What was refused last, and how: it is logged once.
    refused: Option<(Opcode, ReturnCode)>,
}

impl Line {
    const fn to(path: PathBuf) -> Self {
        Self {
            path,
            remote: None,
            refused: None,
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Response, Unanswered> {
        let mut remote = match self.remote.take() {
            Some(remote) => remote,
            None => {
                Remote::connect_within(&self.path, PATIENCE).map_err(|_| Unanswered::Unreached)?
            }
        };
        let answer = match remote.ask(request) {
            Ok(response) => Ok(response),
            Err(AskError::Refused(code)) => {
                self.note(request.opcode(), code);
                Err(Unanswered::Refused(code))
            }
            // None of what a steward asks goes on in the background, or is that long.
            Err(_) => return Err(Unanswered::Unreached),
        };
        self.remote = Some(remote);
        answer
    }

    fn note(&mut self, command: Opcode, code: ReturnCode) {
        if self.refused.replace((command, code)) != Some((command, code)) {
            let path = self.path.display();
            if is_usual(command, code) {
                return tracing::debug!(%path, ?command, ?code, "refused, as may be");
            }
            tracing::warn!(%path, ?command, ?code, "the fabric refuses a command of the steward");
        }
    }
}

/// What is refused where a steward only makes sure: that nothing is offered, that a group is
/// published, or is no more.
fn is_usual(command: Opcode, code: ReturnCode) -> bool {
    let tries = [
        Opcode::AddDcResponse,
        Opcode::AddReference,
        Opcode::RemoveReference,
    ];
    code == ReturnCode::InvalidInput && tries.contains(&command)
}
