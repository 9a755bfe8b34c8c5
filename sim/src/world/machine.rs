//! One host: its daemon, or the place of one, its processes, and the files that the daemon built.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coherence::Slot;
use pool_core::{BackingId, ClientId, DeviceId, GroupTag, Nanos, PoolAddr, SegmentId};
use pool_daemon::engine::Engine;
use pool_daemon::engine::Run;
use pool_daemon::engine::command::PeerIdentity;
use pool_daemon::engine::effect::Action;
use pool_daemon::engine::plan::Plan;
use pool_daemon::journal::{Record, Rows, Table};
use pool_proto::common::v1::Access;
use pool_proto::session::v1::request;

use super::clocks::Clock;
use super::groups::Voice;
use super::heap::hand::Hand;
use super::heap::{Heap, Part, Wish};
use super::words::{Leased, Words};
use crate::oracle::books::Books;
use crate::oracle::contents::Contents;
use crate::oracle::members::Eras;
use crate::oracle::waits::Waits;

/// What a journal holds.
pub(crate) type Durable = BTreeMap<(Table, u64), Record>;

/// How a step ends that does not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The daemon dies before the commit.
    BeforeCommit,
    /// It dies after the commit and before any action.
    AfterCommit,
    /// It dies after so many actions.
    After(usize),
}

/// A file that the daemon built.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// It lies in pooled memory; otherwise in the host's DDR.
    pub(crate) pooled: bool,
    /// It is of a group that hosts share, and lies in none of both.
    pub(crate) group: Option<GroupTag>,
    /// Other tenants may come to map it.
    pub(crate) shareable: bool,
    /// The daemon has a descriptor of it.
    pub(crate) kept: bool,
    /// Which extents of the device it is made of, in order.
    pub(crate) extents: Vec<u32>,
    /// What lies in DDR, line after line: the mark of each.
    pub(crate) ddr: Vec<u64>,
}

/// A file that is to be built.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) backing: BackingId,
    pub(crate) device: DeviceId,
    pub(crate) bytes: u64,
    pub(crate) runs: Vec<Run>,
    pub(crate) shareable: bool,
}

/// Contents that are to be copied.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    pub(crate) segment: SegmentId,
    pub(crate) from: Vec<BackingId>,
    pub(crate) to: Vec<BackingId>,
}

/// What a process holds of one segment, as it was told.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) access: Access,
    pub(crate) incarnation: u64,
    pub(crate) pieces: Vec<BackingId>,
    pub(crate) is_outdated: bool,
    /// Its place, where the segment is a domain, and the era in which it has it.
    pub(crate) slot: Option<Slot>,
    pub(crate) era: u64,
    /// How often somebody was given it to write.
    pub(crate) writers: u64,
    /// What it is of a heap.
    pub(crate) part: Option<Part>,
    /// It is a group that hosts share.
    pub(crate) tag: Option<GroupTag>,
}

impl Held {
    /// It is a group that its holder may write, and so may seal.
    pub(crate) fn may_be_sealed(&self) -> bool {
        self.tag.is_some() && self.access == Access::ReadWrite
    }
}

/// Where a process has a file mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping {
    pub(crate) segment: SegmentId,
    pub(crate) addr: PoolAddr,
    pub(crate) bytes: u64,
}

/// One process that is, was or wants to be a client.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) peer: PeerIdentity,
    pub(crate) session: Option<(ClientId, Vec<u8>)>,
    pub(crate) connected: bool,
    /// It unmaps what it is told to let go; otherwise it keeps every mapping until it dies.
    pub(crate) tidy: bool,
    pub(crate) last_id: u64,
    /// Its last request, and whether that was answered.
    pub(crate) sent: Option<request::Body>,
    pub(crate) is_answered: bool,
    pub(crate) held: BTreeMap<SegmentId, Held>,
    pub(crate) mapped: BTreeMap<BackingId, Mapping>,
    /// Every file it was ever given.
    pub(crate) received: BTreeSet<BackingId>,
    /// Those it was given to write.
    pub(crate) wrote: BTreeSet<BackingId>,
    /// Units of domains that it leased.
    pub(crate) leased: BTreeMap<(SegmentId, u32), Leased>,
    /// What it has of the heap of its host, and what it wants the daemon to do for it.
    pub(crate) hand: Option<Hand>,
    pub(crate) wishes: VecDeque<Wish>,
    /// Groups that it was told to let go: it is to say that it has.
    pub(crate) owes: BTreeSet<SegmentId>,
}

impl Process {
    pub(crate) const fn new(peer: PeerIdentity, tidy: bool) -> Self {
        Self {
            peer,
            session: None,
            connected: false,
            tidy,
            last_id: 0,
            sent: None,
            is_answered: true,
            held: BTreeMap::new(),
            mapped: BTreeMap::new(),
            received: BTreeSet::new(),
            wrote: BTreeSet::new(),
            leased: BTreeMap::new(),
            hand: None,
            wishes: VecDeque::new(),
            owes: BTreeSet::new(),
        }
    }

    /// The client it is, where it has a session.
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.session.as_ref().map(|session| session.0)
    }

    /// It can send a request, and waits for none.
    pub(crate) fn is_idle(&self) -> bool {
        self.connected && self.session.is_some() && self.is_answered
    }

    /// It is told to let go of the segment. Of a group it has to say that it has.
    pub(crate) fn lets_go(&mut self, segment: SegmentId) {
        if self
            .held
            .get(&segment)
            .is_some_and(|held| held.tag.is_some())
        {
            self.owes.insert(segment);
        }
        self.unmap(segment);
    }

    /// Of groups nobody proves that they are mapped no more: who asks that one ends, or ends
    /// itself, has let go before.
    pub(crate) fn lets_go_before(&mut self, body: &request::Body) {
        let ends = |id: &SegmentId| match body {
            request::Body::Free(ask) => id.number() == ask.segment_id,
            request::Body::Detach(_) => true,
            _ => false,
        };
        let held = self.held.iter();
        let groups = held.filter(|(id, held)| held.tag.is_some() && ends(id));
        let groups: Vec<_> = groups.map(|(id, _)| *id).collect();
        groups.into_iter().for_each(|id| self.lets_go(id));
    }

    /// It holds the segment no more.
    pub(crate) fn unmap(&mut self, segment: SegmentId) {
        self.held.remove(&segment);
        self.leased.retain(|(of, _), _| *of != segment);
        if self
            .hand
            .as_ref()
            .is_some_and(|hand| hand.domain == segment)
        {
            self.hand = None;
        }
        if self.tidy {
            self.mapped.retain(|_, mapping| mapping.segment != segment);
        }
    }

    /// It has nothing of a heap any more, and says nothing to the others who have it.
    pub(crate) fn loses_heap(&mut self) {
        self.wishes.clear();
        let parts = self.held.iter().filter(|(_, held)| held.part.is_some());
        for segment in parts.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.unmap(segment);
        }
    }

    /// It ends its session: all that it held is held no more.
    pub(crate) fn forget(&mut self) {
        (self.connected, self.session) = (false, None);
        self.is_answered = true;
        self.held.clear();
        self.leased.clear();
        self.hand = None;
        self.wishes.clear();
        self.owes.clear();
        if self.tidy {
            self.mapped.clear();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) plan: Plan,
    pub(crate) clock: Clock,
    /// What its daemon's clock said last, in this boot or the one before.
    pub(crate) told_time: Nanos,
    /// `None` while the daemon is dead.
    pub(crate) engine: Option<Engine>,
    /// Who speaks for the pooled device, where its memory comes and goes, and for groups.
    pub(crate) steward: Option<Voice>,
    pub(crate) alive: bool,
    /// It does nothing, and does not know it.
    pub(crate) paused: bool,
    /// Its own pooled memory is mapped.
    pub(crate) mapped: bool,
    pub(crate) boot: u32,
    pub(crate) durable: Durable,
    pub(crate) files: BTreeMap<BackingId, File>,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) building: VecDeque<Order>,
    pub(crate) copying: VecDeque<Transfer>,
    /// What is to be done with the words of domains.
    pub(crate) work: VecDeque<Action>,
    /// Who was given a slot of a domain last, until it was recovered.
    pub(crate) given: BTreeMap<(SegmentId, Slot), u64>,
    /// Whose ends are waited for.
    pub(crate) awaited: Vec<(SegmentId, Slot, u32)>,
    pub(crate) words: BTreeMap<BackingId, Words>,
    pub(crate) watched: BTreeSet<BackingId>,
    /// Files of groups that are to go.
    pub(crate) leaving_files: VecDeque<BackingId>,
    /// What its daemon waits for.
    pub(crate) waits: Waits,
    /// How the next step of the daemon ends.
    pub(crate) armed: Option<Loss>,
    /// Its host dies with the daemon then, and of its lines this set had left its caches.
    pub(crate) takes_host: Option<u16>,
    /// Its daemon dies the next time that it leaves a group.
    pub(crate) dies_leaving: bool,
    /// It goes through so many steps before that one.
    pub(crate) spared: u16,
    /// So many builds fail.
    pub(crate) failing_builds: u16,
    pub(crate) failing_copies: u16,
    pub(crate) books: Books,
    pub(crate) contents: Contents,
    pub(crate) eras: Eras,
    pub(crate) heap: Option<Heap>,
    /// What an operator was answered last.
    pub(crate) is_refused: bool,
}

impl Machine {
    pub(crate) fn new(plan: Plan, clock: Clock) -> Self {
        Self {
            plan,
            clock,
            told_time: Nanos::ZERO,
            engine: None,
            steward: None,
            alive: true,
            paused: false,
            mapped: true,
            boot: 1,
            durable: Durable::new(),
            files: BTreeMap::new(),
            processes: BTreeMap::new(),
            building: VecDeque::new(),
            copying: VecDeque::new(),
            work: VecDeque::new(),
            given: BTreeMap::new(),
            awaited: Vec::new(),
            words: BTreeMap::new(),
            watched: BTreeSet::new(),
            leaving_files: VecDeque::new(),
            waits: Waits::default(),
            armed: None,
            takes_host: None,
            dies_leaving: false,
            spared: 0,
            failing_builds: 0,
            failing_copies: 0,
            books: Books::default(),
            contents: Contents::default(),
            eras: Eras::default(),
            heap: None,
            is_refused: false,
        }
    }

    /// It lives and does not pause: things happen on it.
    pub(crate) const fn acts(&self) -> bool {
        self.alive && !self.paused
    }

    /// Something is to be done with the words of domains.
    pub(crate) fn has_words_to_do(&self) -> bool {
        let ended = |pid: &u32| !self.processes.contains_key(pid);
        !self.work.is_empty() || self.awaited.iter().any(|(.., pid)| ended(pid))
    }

    pub(crate) fn is_mapped(&self, backing: BackingId) -> bool {
        let maps = |process: &Process| process.mapped.contains_key(&backing);
        self.processes.values().any(maps)
    }

    /// The session of a process, as far as it knows of one, is over for the daemon.
    pub(crate) fn gave_up(&self, pid: u32) -> bool {
        let client = self.processes.get(&pid).and_then(Process::client);
        client.is_none_or(|id| !self.durable.contains_key(&(Table::Clients, id.number())))
    }

    /// The process that is this client.
    pub(crate) fn pid_of(&self, client: ClientId) -> Option<u32> {
        let is = |p: &Process| p.client() == Some(client);
        let mut found = self.processes.iter().filter(|(_, p)| is(p));
        found.next().map(|(&pid, _)| pid)
    }

    /// The session of a client is over.
    pub(crate) fn closed(&mut self, client: ClientId) {
        let process = self.pid_of(client);
        let process = process.and_then(|pid| self.processes.get_mut(&pid));
        process.into_iter().for_each(Process::forget);
    }

    /// All of its processes, which may come and go while the list is gone through.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.keys().copied().collect()
    }

    /// A process by a number, modulo how many there are that fit.
    pub(crate) fn pick(&self, pick: u16, fits: impl Fn(u32, &Process) -> bool) -> Option<u32> {
        let fitting = || self.processes.iter().filter(|(pid, p)| fits(**pid, p));
        let count = fitting().count();
        let mut found = fitting().skip(usize::from(pick).checked_rem(count)?);
        found.next().map(|(&pid, _)| pid)
    }

    /// Slots of a domain were recovered: those are free whose processes have ended.
    pub(crate) fn recovered(&mut self, segment: SegmentId, slots: u32) {
        let awaited = &self.awaited;
        let is_awaited = |slot: &Slot| {
            awaited
                .iter()
                .any(|(of, its, _)| of == &segment && its == slot)
        };
        self.given
            .retain(|(of, slot), _| *of != segment || slots & slot.bit() == 0 || is_awaited(slot));
    }

    /// Memory that neither the daemon nor any process has is gone.
    pub(crate) fn forget_unkept(&mut self) {
        let processes = &self.processes;
        let mapped = |id: &BackingId| processes.values().any(|p| p.mapped.contains_key(id));
        self.files.retain(|id, file| file.kept || mapped(id));
        let files = &self.files;
        self.words.retain(|id, _| files.contains_key(id));
    }

    /// Of each segment that lives, its files in pooled memory.
    pub(crate) fn pooled_pieces(&self) -> Vec<(SegmentId, Vec<u64>)> {
        let pooled = |id: &u64| {
            let file = BackingId::new(*id).and_then(|id| self.files.get(&id));
            file.is_some_and(|file| file.pooled)
        };
        let rows = self.durable.values().filter_map(|record| match record {
            Record::Segment(row) if !row.freed => {
                let pieces: Vec<u64> = row.backings.iter().copied().filter(pooled).collect();
                let id = SegmentId::new(row.segment_id)?;
                (!pieces.is_empty()).then_some((id, pieces))
            }
            _ => None,
        });
        rows.collect()
    }

    /// The row of a segment that lives.
    pub(crate) fn segment_row(
        &self,
        id: SegmentId,
    ) -> Option<&pool_proto::journal::v1::SegmentRow> {
        match self.durable.get(&(Table::Segments, id.number())) {
            Some(Record::Segment(row)) if !row.freed => Some(row),
            _ => None,
        }
    }
}

/// The row of a file.
pub(crate) fn row_of_backing(
    durable: &Durable,
    backing: BackingId,
) -> Option<&pool_proto::journal::v1::BackingRow> {
    match durable.get(&(Table::Backings, backing.number())) {
        Some(Record::Backing(row)) => Some(row),
        _ => None,
    }
}

/// Takes a commit into what a journal holds.
pub(crate) fn commit(durable: &mut Durable, records: &[Record]) {
    for record in records {
        match record {
            Record::Delete(table, key) => _ = durable.remove(&(*table, *key)),
            record => _ = durable.insert(record.place(), record.clone()),
        }
    }
}

/// What a journal holds, as it is loaded.
pub(crate) fn rows(durable: &Durable) -> Rows {
    let mut rows = Rows::default();
    for record in durable.values().cloned() {
        match record {
            Record::Pool(row) => rows.pool = Some(row),
            Record::Device(row) => rows.devices.push(row),
            Record::Tenant(row) => rows.tenants.push(row),
            Record::Client(row) => rows.clients.push(row),
            Record::Segment(row) => rows.segments.push(row),
            Record::Backing(row) => rows.backings.push(row),
            // A deletion is no row, and none was kept.
            Record::Delete(..) => {}
        }
    }
    rows
}
