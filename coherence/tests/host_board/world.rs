//! Two hosts at one board, their users, and the manager of their fabric.
//!
//! Each extent has one line of contents behind the board: eight times the mark of what was
//! published last. A writer stores them one by one, so that its death tears them.

use std::collections::BTreeMap;

use coherence::cache::Caches;
use coherence::host::board::{Board, Shape, Station, Told};
use coherence::host::{Change, Denial, HomeLimits, PeerLimits, PeerOutput, Right, State};
use coherence::simulated::Backing;
use pool_core::Nanos;

use crate::memory::{Kind, Memory, Words, raw, zeroes};

pub(crate) const EXTENTS: u32 = 2;
/// The one user of a host.
const USER: u64 = 1;
const LINE_WORDS: u64 = 8;

/// What was published of an extent under a version: a mark, or whatever was there.
type Truth = BTreeMap<(u32, u64), Option<u64>>;

/// One life of a host.
struct Host {
    slot: u8,
    memory: Memory,
    station: Station<Memory, Memory>,
    /// Of each extent, which version its cache may have.
    seen: BTreeMap<u32, u64>,
    waits: BTreeMap<u32, Right>,
    is_leaving: bool,
}

/// What a run came through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Grants to write.
    pub(crate) exclusive: u64,
    pub(crate) shared: u64,
    pub(crate) losses: u64,
    pub(crate) denials: u64,
    pub(crate) repaired: u64,
    pub(crate) accepted: u64,
    pub(crate) homes: u64,
    /// Stores of the host that is to die.
    pub(crate) stores: u64,
}

pub(crate) struct World {
    now: Nanos,
    words: Words,
    kind: Kind,
    manager: Board<Memory, Memory>,
    hosts: [Option<Host>; 2],
    lives: u64,
    truth: Truth,
    epochs: BTreeMap<u32, u64>,
    last_writer: BTreeMap<u32, u8>,
    mark: u64,
    pub(crate) tally: Tally,
}

fn limits() -> HomeLimits {
    HomeLimits {
        patience: Nanos::from_millis(150),
        suspect_after: Nanos::from_millis(60),
        ..HomeLimits::default()
    }
}

fn contents(extent: u32) -> u64 {
    let board = Shape::new(2, EXTENTS).unwrap().bytes().get() / 8;
    board + u64::from(extent) * LINE_WORDS
}

impl World {
    pub(crate) fn new(kind: Kind) -> Self {
        let shape = Shape::new(2, EXTENTS).unwrap();
        let words = zeroes(contents(EXTENTS));
        let memory = Memory::new(&words, kind, 255, u64::MAX);
        let manager = Board::create(memory.clone(), memory, shape).unwrap();
        manager.appoint(0).unwrap();
        Self {
            now: Nanos::from_millis(1),
            words,
            kind,
            manager,
            hosts: [None, None],
            lives: 0,
            truth: (0..EXTENTS).map(|it| ((it, 0), Some(0))).collect(),
            epochs: BTreeMap::new(),
            last_writer: BTreeMap::new(),
            mark: 0,
            tally: Tally::default(),
        }
    }

    /// A host begins a life in which it dies after so many stores.
    pub(crate) fn start(&mut self, slot: u8, left: u64) {
        self.lives += 1;
        let memory = Memory::new(&self.words, self.kind, self.lives, left);
        let board = Board::open(memory.clone(), memory.clone()).unwrap();
        let station = Station::open(self.now, board, slot, limits(), PeerLimits::default());
        self.hosts[usize::from(slot)] = Some(Host {
            slot,
            memory,
            station: station.unwrap(),
            seen: BTreeMap::new(),
            waits: BTreeMap::new(),
            is_leaving: false,
        });
        self.bury(slot);
    }

    /// All hosts take turns until `is_enough`, or for so many rounds.
    pub(crate) fn run(&mut self, rounds: u32, is_enough: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..rounds {
            if is_enough(self) {
                return true;
            }
            self.now = self.now.saturating_add(Nanos::from_millis(1));
            for slot in 0..2 {
                self.turn(slot);
            }
        }
        is_enough(self)
    }

    pub(crate) fn is_alive(&self, slot: u8) -> bool {
        self.hosts[usize::from(slot)].is_some()
    }

    /// The manager has cut a dead host off, and says so; the other one has the home from then on.
    pub(crate) fn fence(&mut self, slot: u8) {
        assert!(!self.is_alive(slot));
        let life = self.manager.life(slot).unwrap();
        self.manager.fence(slot, life).unwrap();
        if self.manager.home() == Ok(Some(slot)) {
            self.manager.appoint(1 - slot).unwrap();
        }
    }

    /// Whether all living hosts are members.
    pub(crate) fn all_joined(&self) -> bool {
        let mut hosts = self.hosts.iter().flatten();
        hosts.all(|host| host.station.peer().member().is_some())
    }

    /// Everybody lets go, and nothing is left: neither held nor lost nor waited for. False where
    /// one of them dies meanwhile: the other one goes on.
    pub(crate) fn ends_at_rest(&mut self) -> bool {
        for host in self.hosts.iter_mut().flatten() {
            host.is_leaving = true;
        }
        let died = |world: &Self| world.hosts.iter().any(Option::is_none);
        let ended = self.run(4_000, |world| died(world) || world.is_at_rest());
        assert!(ended, "something is left: {}", self.left());
        if died(self) {
            for host in self.hosts.iter_mut().flatten() {
                host.is_leaving = false;
            }
            return false;
        }
        for extent in 0..EXTENTS {
            let home = self.hosts.iter().flatten().find_map(|it| it.station.home());
            let row = home.and_then(|home| home.extent(extent)).unwrap();
            let mark = self.truth[&(extent, row.version)];
            let at = contents(extent);
            let found: Vec<_> = (at..at + LINE_WORDS)
                .map(|word| raw(&self.words, word))
                .collect();
            if let Some(mark) = mark {
                assert_eq!(found, [mark; 8], "what memory has in the end");
            }
        }
        true
    }

    /// What each host still has to do.
    fn left(&self) -> String {
        let hosts = self.hosts.iter().flatten();
        let left = hosts.map(|host| {
            let station = &host.station;
            format!("{:?} {:?} {:?}", host.waits, station.peer(), station.home())
        });
        left.collect::<Vec<_>>().join("\n")
    }

    fn is_at_rest(&self) -> bool {
        let mut hosts = self.hosts.iter().flatten();
        let home = hosts.clone().find_map(|host| host.station.home());
        let Some(home) = home else {
            return false;
        };
        home.check().unwrap();
        let is_free = |extent| {
            home.extent(extent)
                .is_some_and(|row| row.state == State::Free)
        };
        hosts.all(|host| host.station.peer().is_settled()) && (0..EXTENTS).all(is_free)
    }

    fn turn(&mut self, slot: u8) {
        let Some(mut host) = self.hosts[usize::from(slot)].take() else {
            return;
        };
        let told = host.station.turn(self.now).unwrap();
        for told in told {
            if !host.memory.is_dead() {
                self.hear(&mut host, told);
            }
        }
        if !host.memory.is_dead() && host.station.peer().member().is_some() {
            self.wish(&mut host);
        }
        assert_eq!(host.station.garbled(), 0);
        self.tally.stores = self.tally.stores.max(host.memory.done());
        self.hosts[usize::from(slot)] = Some(host);
        self.bury(slot);
    }

    fn bury(&mut self, slot: u8) {
        let host = &mut self.hosts[usize::from(slot)];
        if host.as_ref().is_some_and(|host| host.memory.is_dead()) {
            *host = None;
        }
    }

    /// The user of a host asks for all that it has not; in the end it gives back.
    fn wish(&mut self, host: &mut Host) {
        for extent in 0..EXTENTS {
            if host.is_leaving {
                let idle = host.station.peer().holds(extent).is_some();
                if idle && !host.waits.contains_key(&extent) {
                    host.station.give_back(self.now, extent).unwrap();
                }
                continue;
            }
            if host.waits.contains_key(&extent) {
                continue;
            }
            self.mark += 1;
            let right = if self.mark.is_multiple_of(5) {
                Right::Shared
            } else {
                Right::Exclusive
            };
            host.waits.insert(extent, right);
            let deadline = self.now.saturating_add(Nanos::from_millis(100));
            let user = (USER, extent);
            host.station
                .acquire(self.now, user, right, deadline)
                .unwrap();
        }
    }

    fn hear(&mut self, host: &mut Host, told: Told) {
        match told {
            Told::Peer(PeerOutput::Granted {
                extent,
                right,
                epoch,
                version,
                ..
            }) => self.granted(host, extent, right, (epoch, version)),
            Told::Peer(PeerOutput::Denied { extent, why, .. }) => {
                host.waits.remove(&extent);
                match why {
                    Denial::Lost { .. } | Denial::Unavailable { .. } => self.tally.denials += 1,
                    why => panic!("extent {extent} is denied: {why}"),
                }
            }
            Told::Peer(PeerOutput::Revoked { .. } | PeerOutput::Ended { .. }) => {
                panic!("a living host is cut off: {told:?}")
            }
            Told::Lost { extent, last_good } => self.mend(host, extent, last_good),
            Told::HomeBegins { .. } => self.tally.homes += 1,
            _ => {}
        }
    }

    fn granted(&mut self, host: &mut Host, extent: u32, right: Right, now: (u64, u64)) {
        let (epoch, version) = now;
        host.waits.remove(&extent);
        let found = self.load(host, extent, version);
        let mark = self.truth.get(&(extent, version));
        let mark = mark.unwrap_or_else(|| panic!("extent {extent} has no version {version}"));
        if let Some(mark) = mark {
            assert_eq!(found, [*mark; 8], "extent {extent}, version {version}");
        }
        let user = (USER, extent);
        if right == Right::Shared {
            self.tally.shared += 1;
            return host.station.release(self.now, user, Change::None).unwrap();
        }
        self.tally.exclusive += 1;
        let last = self.epochs.entry(extent).or_default();
        if self.last_writer.insert(extent, host.slot) != Some(host.slot) {
            assert!(
                epoch > *last,
                "epoch {epoch} of extent {extent} after {last}"
            );
        }
        *last = epoch;
        self.mark += 1;
        let mark = self.mark;
        self.store(host, extent, mark);
        if host.memory.is_dead() {
            return;
        }
        self.truth.insert((extent, version + 1), Some(mark));
        host.seen.insert(extent, version + 1);
        host.station
            .release(self.now, user, Change::Published)
            .unwrap();
    }

    /// What was lost is repaired from a copy of what was good, or taken as it is.
    fn mend(&mut self, host: &mut Host, extent: u32, last_good: u64) {
        self.tally.losses += 1;
        let row = host.station.home().and_then(|home| home.extent(extent));
        let version = row.unwrap().version;
        let copy = self.truth.get(&(extent, last_good)).copied().flatten();
        let copy = copy.filter(|_| !self.tally.losses.is_multiple_of(2));
        if let Some(mark) = copy {
            self.store(host, extent, mark);
            self.tally.repaired += 1;
        } else {
            self.tally.accepted += 1;
        }
        self.truth.insert((extent, version), copy);
        let from = copy.map(|_| last_good);
        host.station.mended(self.now, extent, from).unwrap();
    }

    /// What a host finds in an extent of this version.
    fn load(&self, host: &mut Host, extent: u32, version: u64) -> Vec<u64> {
        let at = contents(extent);
        if host.seen.insert(extent, version) != Some(version) {
            host.memory.invalidate(8 * at, 64);
            host.memory.fence_all();
        }
        (at..at + LINE_WORDS)
            .map(|word| host.memory.load_word(word))
            .collect()
    }

    fn store(&self, host: &mut Host, extent: u32, mark: u64) {
        let at = contents(extent);
        for word in at..at + LINE_WORDS {
            host.memory.store_word(word, mark);
        }
        host.memory.write_back(8 * at, 64);
        host.memory.fence_stores();
        host.seen.remove(&extent);
    }
}
