//! The heap of a host: the real one of `allocator`, which processes of one tenant have, each in
//! turn, and lose as they die.
//!
//! # What is real
//! The heap's code, all of it. And whatever the daemon decides about it: the control area belongs
//! to a domain that a process made, in whose slots the members are, whose words say who of them
//! lives; a chunk is a segment of 32 extents of the tier `hbm`, under the name of the heap and its
//! number, that was made, opened, closed and freed by requests. What befalls segments, clients, the
//! daemon and the host befalls it.
//!
//! # What is not
//! Its memory is anonymous memory of this program ([`memory`]), one for all processes of a host.
//! What a process has its heap stand on asks the daemon for nothing within a call: what it has not
//! is a shortage, or an error, and is asked for when the act is over ([`book`]); a chunk that is
//! given back is asked to be freed then. One process acts at a time, and each act is over, or its
//! process dead ([`death`]), before the next one.
//!
//! # What is gone under it
//! A chunk whose segment ends otherwise than by the heap is zeros for everybody, and the heap is in
//! ruins: it may answer as it likes, but neither panic nor reach beyond its memory, and those who
//! have it leave it. A real process that loses a chunk sees zeros of its own. Once nobody has it an
//! operator frees all that it was of, and it may be made anew; who tries to open it before is told
//! by an error that it cannot. What its maker died over before it was a heap says so, and is made
//! by another one, or cleared away. Where the domain ends, the control area is zeros: whoever still
//! has the heap is told that it has ended.

use std::collections::BTreeSet;

use allocator::pool::HeapError;
use pool_core::SegmentId;
use pool_core::sync::{Arc, Mutex, lock};
use pool_daemon::engine::command::Operation;
use pool_daemon::journal::{Record, Table};

use super::World;
use super::machine::{Machine, Process};
use super::members::Members;
use crate::broken::{Checked, broken, holds};
use crate::oracle::heap::Blocks;

mod asks;
mod book;
mod death;
pub(crate) mod hand;
mod looks;
mod memory;
mod opens;
mod uses;

use book::Book;
pub(crate) use book::Wish;
pub(crate) use death::POINTS;
use death::{Doom, RARE, within};
use hand::{Hand, Member};
use memory::Memory;

/// The user id of those who have the heap; nobody else can open it.
pub(super) const UID: u32 = 1_000;
/// Acts after which the heap is looked at.
const LOOK_EVERY: u64 = 192;
/// Acts of one op at most.
const ACTS_MAX: u64 = 24;
/// Deaths that wait for their points at most.
const DOOMS_MAX: usize = 60;
/// And so many at most are to die by one fault.
const DOOMED_MAX: u64 = 6;
/// Acts after a death in which nobody dies: who comes is to do something first.
const SPARED: u64 = 40;

/// How a heap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Its maker died before it was one.
    Unmade,
    /// A chunk is gone under it.
    Ruined,
    /// Somebody said that it ends.
    Ended,
}

/// The heap that there is.
#[derive(Debug)]
struct Instance {
    domain: SegmentId,
    members: Members,
    control: usize,
    state: State,
    /// A chunk of its table is gone, and nobody has done anything since: nobody can open it.
    is_torn: bool,
    blocks: Blocks,
    /// It is looked at as soon as nobody dead passes for one that lives.
    is_due: bool,
    /// And in any case after so many acts.
    looks_at: u64,
}

/// The heaps of a host in one life of it.
#[derive(Debug)]
pub(crate) struct Heap {
    memory: Arc<Memory>,
    book: Arc<Mutex<Book>>,
    now: Option<Instance>,
    /// Who dies in the next acts: each where its point comes.
    doom: Vec<Doom>,
    /// Before so many acts nobody does.
    spared_to: u64,
    acts: u64,
    heaps: usize,
    seeds: u64,
    /// The daemon died since the heap was used.
    outlives: bool,
}

/// What a segment is of the heap, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Control,
    Chunk(usize),
}

/// The name of the heap, and of its domain.
const NAME: &str = "heap";

fn name_of(number: usize) -> String {
    format!("{NAME}/{number}")
}

/// What a segment of this name is of a heap.
pub(crate) fn part(name: &str) -> Option<Part> {
    let rest = name.strip_prefix(NAME)?;
    if rest.is_empty() {
        return Some(Part::Control);
    }
    let number = rest.strip_prefix('/')?.parse();
    number.ok().map(Part::Chunk)
}

impl Heap {
    fn new() -> Checked<Self> {
        let Ok(memory) = Memory::new() else {
            return broken("a heap has its memory", "the machine has none");
        };
        Ok(Self {
            memory: Arc::new(memory),
            book: Arc::default(),
            now: None,
            doom: Vec::new(),
            spared_to: 0,
            acts: 0,
            heaps: 0,
            seeds: 0,
            outlives: false,
        })
    }

    /// A segment has ended: what lay in it is zeros. Whether that ruins the heap.
    pub(crate) fn segment_ended(&mut self, segment: SegmentId) -> Checked<bool> {
        let (at, bytes, was_used, is_torn) = match &self.now {
            Some(now) if now.domain == segment => {
                let at = self.memory.control(now.control);
                self.now = None;
                lock(&self.book).leave_all();
                (at, allocator::pool::CONTROL_BYTES, false, false)
            }
            _ => match lock(&self.book).ended(segment) {
                Some((place, was_used, is_torn)) => {
                    let at = self.memory.place(place);
                    (at, allocator::pool::CHUNK_BYTES, was_used, is_torn)
                }
                None => return Ok(false),
            },
        };
        if self.memory.empty(at, bytes).is_err() {
            return broken("a heap has its memory", "it cannot be emptied");
        }
        if let Some(now) = &mut self.now {
            now.is_torn |= is_torn;
        }
        let whole = self.now.as_mut();
        let whole = whole.filter(|now| was_used && now.state == State::Whole);
        let is_ruined = whole.is_some();
        whole.into_iter().for_each(|now| now.state = State::Ruined);
        Ok(is_ruined)
    }

    /// There is one now.
    pub(crate) const fn is_there(&self) -> bool {
        self.now.is_some()
    }

    /// The daemon has died.
    pub(crate) fn outlives(&mut self) {
        self.outlives = self.now.is_some();
    }
}

impl Machine {
    /// Segments of the heap that live, by what they are of it.
    fn parts(&self) -> impl Iterator<Item = (Part, SegmentId)> + '_ {
        let first = (Table::Segments, 0);
        let rows = self.durable.range(first..=(Table::Segments, u64::MAX));
        rows.filter_map(|(_, record)| match record {
            Record::Segment(row) if !row.freed => {
                part(&row.name).zip(SegmentId::new(row.segment_id))
            }
            _ => None,
        })
    }

    /// The hands of those who have the heap that there is.
    fn hands(&self) -> impl Iterator<Item = (u32, &Hand)> {
        let now = self.heap.as_ref().and_then(|heap| heap.now.as_ref());
        let domain = now.map(|now| now.domain);
        let hands = self.processes.iter();
        let hands = hands.filter_map(|(pid, process)| Some((*pid, process.hand.as_ref()?)));
        hands.filter(move |(_, hand)| Some(hand.domain) == domain)
    }
}

impl World {
    fn instance(&mut self, h: usize) -> Option<&mut Instance> {
        self.machines[h].heap.as_mut()?.now.as_mut()
    }

    /// Whether a member lives, as the words of the domain say.
    fn lives(&self, h: usize) -> impl Fn(Member) -> bool + use<> {
        let heap = self.machines[h].heap.as_ref();
        let now = heap.and_then(|heap| heap.now.as_ref());
        let members = now.map(|now| now.members.clone());
        move |(slot, era)| {
            let members = members.as_ref();
            members.is_some_and(|members| members.lives(slot, era))
        }
    }

    /// What an op has a process do to the heap.
    pub(super) fn heap_work(&mut self, h: usize, pid: u32, op: &crate::op::Op) -> Checked {
        use crate::op::Kind;
        self.who_has_it(h);
        let [_, _, c, d] = op.picks;
        match op.kind {
            Kind::HeapJoin => return self.join_heap(h, pid, c),
            Kind::HeapTidy => self.tidy_heap(h, pid, (c, d))?,
            _ => {
                self.use_heap(h, pid, (c, d))?;
                for _ in 0..self.rng.below(ACTS_MAX) {
                    let (c, d) = (self.rng.below(1 << 16), self.rng.below(1 << 16));
                    let pick = |number| u16::try_from(number).unwrap_or(0);
                    self.use_heap(h, pid, (pick(c), pick(d)))?;
                }
            }
        }
        self.ask(h, pid)?;
        if self.rng.once_in(5) {
            self.settle(h)?; // The daemon is quick.
        }
        self.look_now_and_then(h, pid)
    }

    /// Nobody has the heap who could do what an op says: somebody comes to it, or to the host.
    pub(super) fn comes_to_the_heap(&mut self, h: usize, op: &crate::op::Op) -> Checked {
        let [_, b, c, d] = op.picks;
        let has_domain = |process: &Process| {
            let mut held = process.held.values();
            held.any(|held| held.part == Some(Part::Control))
        };
        let machine = &self.machines[h];
        let first = machine.pick(b, |_, process| {
            process.hand.is_none() && has_domain(process)
        });
        let may = |_, process: &Process| process.hand.is_none() && may_have(process);
        match first.or_else(|| machine.pick(b, may)) {
            Some(pid) => self.join_heap(h, pid, c),
            None => self.spawn(h, 0, !d.is_multiple_of(5)),
        }
    }

    /// Those who have the heap, and those who died since somebody looked.
    fn who_has_it(&mut self, h: usize) {
        let members: BTreeSet<Member> = self.machines[h].hands().map(|(_, it)| it.member).collect();
        if let Some(now) = self.instance(h) {
            let before = now.blocks.dead.len();
            now.blocks.have_it(members);
            now.is_due |= now.blocks.dead.len() > before;
        }
    }

    /// A process makes the heap, opens it, or asks for what it needs to do so.
    fn join_heap(&mut self, h: usize, pid: u32, c: u16) -> Checked {
        self.ask(h, pid)?;
        if self.clears_away(h, c)? {
            return Ok(());
        }
        for _ in 0..2 {
            let process = self.machines[h].processes.get(&pid);
            let Some(process) = process.filter(|process| process.hand.is_none()) else {
                return Ok(());
            };
            // It asks for the heap by its name: what has ended it does not get.
            let domain = process.held.iter().find(|(id, held)| {
                let is_domain = held.part == Some(Part::Control) && held.slot.is_some();
                is_domain && !held.is_outdated && self.machines[h].segment_row(**id).is_some()
            });
            if let Some((&domain, _)) = domain {
                return self.open_heap(h, pid, domain);
            }
            if !process.is_idle() {
                return Ok(());
            }
            self.ask_for_domain(h, pid)?;
        }
        Ok(())
    }

    /// A heap in ruins, or that has ended, is cleared away once nobody has it: whether it was to
    /// be.
    fn clears_away(&mut self, h: usize, c: u16) -> Checked<bool> {
        let state = self.instance(h).map(|now| now.state);
        if state.is_none_or(|state| matches!(state, State::Whole | State::Unmade)) {
            return Ok(false);
        }
        if state == Some(State::Ruined) && c % 4 == 1 {
            return Ok(false); // Somebody tries to open it.
        }
        if self.machines[h].hands().next().is_some() && !c.is_multiple_of(4) {
            return Ok(true);
        }
        let parts: Vec<_> = self.machines[h].parts().collect();
        for (_, segment) in parts {
            let (segment, force) = (segment.number(), true);
            self.operate(h, Operation::Free { segment, force })?;
        }
        Ok(true)
    }

    /// What the process has of the heap, as far as it could know by asking.
    fn prepare(&mut self, h: usize, pid: u32) {
        let machine = &self.machines[h];
        let (Some(process), Some(heap)) = (machine.processes.get(&pid), &machine.heap) else {
            return;
        };
        let reaches = machine.engine.is_some() && process.connected && process.client().is_some();
        let offered = process
            .held
            .iter()
            .filter_map(|(id, held)| match held.part {
                Some(Part::Chunk(number)) => {
                    let is_there = !held.is_outdated && machine.segment_row(*id).is_some();
                    is_there.then_some((number, *id))
                }
                _ => None,
            });
        let book = &mut *lock(&heap.book);
        book.begin(offered.collect());
        (book.reaches_daemon, book.may_ask) = (reaches, reaches && process.is_answered);
    }

    /// What the act of a process wants of the daemon it will ask for.
    fn keep_wishes(&mut self, h: usize, pid: u32) {
        let machine = &mut self.machines[h];
        let process = machine.processes.get_mut(&pid);
        if let (Some(process), Some(heap)) = (process, &machine.heap) {
            let mut book = lock(&heap.book);
            if std::mem::take(&mut book.is_used_anew) {
                self.trace.reached("the number of a chunk is used anew");
            }
            for wish in book.wishes.drain(..) {
                if !process.wishes.contains(&wish) {
                    process.wishes.push_back(wish);
                }
            }
        }
    }

    /// A process does something to the heap. `None` where it died of it.
    fn acts_on_heap<T>(
        &mut self,
        h: usize,
        pid: u32,
        act: impl FnOnce(&mut Hand) -> Result<T, HeapError>,
    ) -> Checked<Option<Result<T, HeapError>>> {
        self.prepare(h, pid);
        let lives = self.lives(h);
        let machine = &mut self.machines[h];
        let process = machine.processes.get_mut(&pid);
        let hand = process.and_then(|process| process.hand.take());
        let (Some(mut hand), Some(heap)) = (hand, &machine.heap) else {
            return broken("a heap opens", "a process acts that has none");
        };
        let is_now = heap
            .now
            .as_ref()
            .is_some_and(|now| now.domain == hand.domain);
        holds(
            !is_now || lives(hand.member),
            "who has a slot lives",
            || format!("{pid} has the heap as {:?}, and is gone", hand.member),
        )?;
        match self.within_heap(h, || act(&mut hand)) {
            Ok(done) => {
                let process = self.machines[h].processes.get_mut(&pid);
                if let Some(process) = process {
                    process.hand = Some(hand);
                }
                self.keep_wishes(h, pid);
                Ok(Some(done))
            }
            Err(point) => {
                if let Some(heap) = &self.machines[h].heap {
                    lock(&heap.book).died(pid);
                }
                drop(hand);
                self.died_in_heap(h, pid, point);
                Ok(None)
            }
        }
    }

    /// Something is done to the heap within which its process may die: what it came to, or where
    /// it died.
    fn within_heap<T>(&mut self, h: usize, act: impl FnOnce() -> T) -> Result<T, &'static str> {
        let Some(heap) = &mut self.machines[h].heap else {
            return Ok(act());
        };
        heap.acts += 1;
        // What is seldom passed is mostly passed just after a death: it spares nobody.
        let is_spared = heap.acts < heap.spared_to;
        let comes = |doom: &Doom| !is_spared || doom.point.is_some_and(|it| RARE.contains(&it));
        let dooms = std::mem::take(&mut heap.doom);
        let (dooms, later): (Vec<_>, Vec<_>) = dooms.into_iter().partition(comes);
        let ended = within(dooms, act);
        heap.doom = ended.doom;
        heap.doom.extend(later);
        self.trace.passed(&ended.passed);
        ended.by
    }

    /// A process has died within what it did to the heap, and has nothing of it any more.
    fn died_in_heap(&mut self, h: usize, pid: u32, point: &'static str) {
        let index = POINTS.iter().position(|known| *known == point);
        let index = index.map_or(u64::MAX, |index| index as u64);
        self.trace
            .fault("heap-death", [h as u64, pid.into(), index, 0]);
        self.trace.died(point);
        if let Some(heap) = &mut self.machines[h].heap {
            heap.spared_to = heap.acts + SPARED;
        }
        self.mark_death(point);
        self.keep_wishes(h, pid);
        self.who_has_it(h);
    }

    fn mark_death(&mut self, point: &str) {
        let mark = match point {
            "heap.number_claimed" | "heap.chunk_added" => {
                "a member dies between naming and adding a chunk"
            }
            "heap.recovery_claimed" | "heap.swept_word" | "heap.rolled" => {
                "the recovery of a heap dies"
            }
            "heap.chunk_doomed" | "heap.chunk_left" | "heap.chunk_removed" => {
                "a member dies while it gives a chunk back"
            }
            _ => return,
        };
        self.trace.reached(mark);
    }

    /// The process that died within an act ends; what it asked to be freed may have been told.
    /// Others may do something to the heap before anybody hears of it: they wait for nobody.
    fn ends_in_act(&mut self, h: usize, pid: u32) -> Checked {
        for _ in 0..self.rng.below(8) {
            let picks = [(); 3].map(|()| u16::try_from(self.rng.below(1 << 16)).unwrap_or(0));
            let others = |of, process: &Process| of != pid && process.hand.is_some();
            if let Some(other) = self.machines[h].pick(picks[0], others) {
                // Every other time it looks at what a root has, or changes it.
                let c = if picks[0].is_multiple_of(2) {
                    12 + picks[1] % 10
                } else {
                    picks[1]
                };
                self.use_heap(h, other, (c, picks[2]))?;
            }
        }
        if self.rng.once_in(2) {
            self.ask(h, pid)?;
        }
        self.kill(h, pid)
    }

    /// Some die in the next acts.
    pub(super) fn doom_in_heap(&mut self, h: usize) {
        let some = 1 + self.rng.below(DOOMED_MAX);
        let dooms: Vec<Doom> = (0..some).map(|_| Doom::draw(&mut self.rng)).collect();
        if let Some(heap) = &mut self.machines[h].heap {
            for doom in dooms {
                // One that waits for a point is not pushed out by more of them.
                let waits = |other: &Doom| doom.point.is_some() && other.point == doom.point;
                if !heap.doom.iter().any(waits) {
                    heap.doom.push(doom);
                }
            }
            let over = heap.doom.len().saturating_sub(DOOMS_MAX);
            heap.doom.drain(..over);
        }
    }
}

/// Whether a process may have the heap.
pub(super) const fn may_have(process: &Process) -> bool {
    process.peer.uid == UID
}
