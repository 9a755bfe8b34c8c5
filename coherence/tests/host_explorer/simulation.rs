//! Many hosts and extents at random: 32 hosts, 64 extents, a network that loses, doubles and
//! delays, hosts that die, are cut off and come back, a home that dies after any output.
//!
//! All comes from one seed. `HOST_SEED=<seed>` runs that one alone.

use std::collections::BTreeMap;

use coherence::host::{
    Change, Home, HomeInput, HomeLimits, HomeOutput, Peer, PeerInput, PeerLimits, PeerOutput,
    Record, Right, SLOTS, Standing, State, ToHome, ToPeer,
};
use pool_core::Nanos;

use crate::truth::Truth;

const EXTENTS: u32 = 64;
const MS: u64 = 1_000_000;
/// How long things go wrong, and how long they may then take to come to rest.
const TROUBLE: u64 = 1_500 * MS;
const REST: u64 = 4_000 * MS;

/// Numbers that look random; the same for the same seed.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    ToHome(ToHome),
    ToPeer(ToPeer),
    HomeTick,
    PeerTick(u8),
    HomeBorn,
    Acquire,
    Release(u8, u64, u32),
    Condemn(u8, u64),
    Fence(u8, u64),
    Join(u8),
    Mend(u32),
    Trouble,
}

/// What happened how often.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    granted: u64,
    denied: u64,
    lost: u64,
    mended: u64,
    killed: u64,
    cut: u64,
    restarted: u64,
    refused: u64,
}

struct Simulation {
    random: Random,
    now: u64,
    count: u64,
    events: BTreeMap<(u64, u64), Event>,
    home: Option<Home>,
    journal: BTreeMap<(u8, u32), Record>,
    peers: Vec<Peer>,
    boots: Vec<u64>,
    truth: Truth,
    user: u64,
    tally: Tally,
    trace: bool,
}

fn home_limits() -> HomeLimits {
    HomeLimits {
        extents: EXTENTS,
        patience: Nanos::from_millis(120),
        suspect_after: Nanos::from_millis(60),
        ..HomeLimits::default()
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut simulation = Self {
            random: Random(seed),
            now: 0,
            count: 0,
            events: BTreeMap::new(),
            home: None,
            journal: BTreeMap::new(),
            peers: (0..SLOTS)
                .map(|slot| Peer::new(slot, PeerLimits::default()))
                .collect(),
            boots: vec![0; usize::from(SLOTS)],
            truth: Truth::default(),
            user: 0,
            tally: Tally::default(),
            trace: std::env::var("HOST_TRACE").is_ok(),
        };
        simulation.after(0, Event::HomeBorn);
        for slot in 0..SLOTS {
            simulation.after(1 + u64::from(slot), Event::Join(slot));
        }
        simulation.after(20 * MS, Event::Acquire);
        simulation.after(50 * MS, Event::Trouble);
        simulation
    }

    fn after(&mut self, span: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + span, self.count), event);
    }

    fn troubled(&self) -> bool {
        self.now < TROUBLE
    }

    /// Into the network: lost, doubled, late.
    fn post(&mut self, event: Event) {
        let troubled = self.troubled();
        let copies = if troubled && self.random.percent(8) {
            0
        } else {
            1 + u64::from(troubled && self.random.percent(8))
        };
        for _ in 0..copies {
            let late = troubled && self.random.percent(2);
            let span = 100_000 + self.random.below(if late { 300 * MS } else { 2 * MS });
            self.after(span, event);
        }
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(((time, _), event)) = self.events.pop_first() {
            if time > TROUBLE + REST {
                break;
            }
            self.now = time;
            if self.trace {
                println!("{time:>12} {event:?}");
            }
            self.happen(event)?;
        }
        self.at_rest()
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::ToHome(message) => self.step_home(HomeInput::Message(message))?,
            Event::HomeTick => {
                let due = self.home.as_ref().and_then(Home::next_deadline);
                if due.is_some_and(|due| due.get() <= self.now) {
                    self.step_home(HomeInput::Tick)?;
                }
            }
            Event::ToPeer(message) => {
                self.step_peer(message.to, PeerInput::Message(message))?;
            }
            Event::PeerTick(slot) => {
                let due = self.peers[usize::from(slot)].next_deadline();
                if due.is_some_and(|due| due.get() <= self.now) {
                    self.step_peer(slot, PeerInput::Tick)?;
                }
            }
            Event::HomeBorn => self.born()?,
            Event::Acquire => self.acquire()?,
            Event::Release(slot, user, extent) => self.release(slot, user, extent)?,
            Event::Condemn(host, era) => {
                self.step_home(HomeInput::Condemn { host, era })?;
                if self
                    .home
                    .as_ref()
                    .is_none_or(|home| home.member(host) == Some(era))
                {
                    self.after(20 * MS, event);
                }
            }
            Event::Fence(host, era) => {
                self.truth.fenced(host, era);
                self.step_home(HomeInput::HostFenced { host, era })?;
                if self
                    .home
                    .as_ref()
                    .is_none_or(|home| home.condemned(host) == Some(era))
                {
                    self.after(20 * MS, event);
                }
            }
            Event::Join(slot) => {
                if self.peers[usize::from(slot)].member().is_none() {
                    self.boots[usize::from(slot)] += 1;
                    self.truth.joins(slot);
                    let boot = self.boots[usize::from(slot)];
                    self.step_peer(slot, PeerInput::Join { boot })?;
                }
            }
            Event::Mend(extent) => self.mend(extent)?,
            Event::Trouble => self.trouble()?,
        }
        Ok(())
    }

    fn born(&mut self) -> Result<(), String> {
        let now = Nanos::new(self.now);
        let (home, outputs) = Home::recover(now, home_limits(), self.journal.values().cloned())
            .map_err(|error| error.to_string())?;
        self.home = Some(home);
        self.perform(outputs);
        Ok(())
    }

    fn step_home(&mut self, input: HomeInput) -> Result<(), String> {
        let Some(home) = &mut self.home else {
            return Ok(());
        };
        let mut outputs = home.step(Nanos::new(self.now), input);
        home.check().map_err(|broken| broken.to_string())?;
        if self.troubled() && self.random.below(4_000) == 0 {
            let end = self.random.below(outputs.len() as u64 + 1);
            outputs.truncate(usize::try_from(end).unwrap());
            self.perform(outputs);
            self.home_dies();
            return Ok(());
        }
        self.perform(outputs);
        let look = self.random.below(32) == 0;
        let home = self.home.as_ref().filter(|_| look);
        if home.is_none_or(|home| durable(&self.journal, home)) {
            return Ok(());
        }
        Err("the journal does not say what the home says".to_owned())
    }

    fn home_dies(&mut self) {
        self.home = None;
        self.tally.restarted += 1;
        let span = self.random.below(40 * MS);
        self.after(span, Event::HomeBorn);
    }

    fn perform(&mut self, outputs: Vec<HomeOutput>) {
        for output in outputs {
            match output {
                HomeOutput::Record(record) => {
                    self.journal.insert(key(&record), record);
                }
                HomeOutput::Send(message) => self.post(Event::ToPeer(message)),
                HomeOutput::Lost { extent, .. } => {
                    self.tally.lost += 1;
                    let span = self.random.below(30 * MS);
                    self.after(span, Event::Mend(extent));
                }
                HomeOutput::Suspect { .. } => {}
                HomeOutput::Fence { host, era } => {
                    let span = self.random.below(10 * MS);
                    self.after(span, Event::Fence(host, era));
                }
                HomeOutput::Refused(_) => self.tally.refused += 1,
            }
        }
        let due = self.home.as_ref().and_then(Home::next_deadline);
        if let Some(due) = due {
            self.after(due.get().saturating_sub(self.now), Event::HomeTick);
        }
    }

    fn step_peer(&mut self, slot: u8, input: PeerInput) -> Result<(), String> {
        let now = Nanos::new(self.now);
        let peer = &mut self.peers[usize::from(slot)];
        let before = peer.member();
        let outputs = peer.step(now, input);
        let era = before.or(peer.member()).unwrap_or(0);
        let due = peer.next_deadline();
        self.truth.follow(slot, era, &outputs)?;
        for output in outputs {
            match output {
                PeerOutput::Send(message) => self.post(Event::ToHome(message)),
                PeerOutput::Granted { user, extent, .. } => {
                    self.tally.granted += 1;
                    let span = self.random.below(4 * MS);
                    self.after(span, Event::Release(slot, user, extent));
                }
                PeerOutput::Denied { .. } => self.tally.denied += 1,
                PeerOutput::Ended { .. } => {
                    let span = self.random.below(20 * MS);
                    self.after(span, Event::Join(slot));
                }
                PeerOutput::Refused(_) => self.tally.refused += 1,
                _ => {}
            }
        }
        if let Some(due) = due {
            self.after(due.get().saturating_sub(self.now), Event::PeerTick(slot));
        }
        Ok(())
    }

    fn acquire(&mut self) -> Result<(), String> {
        if self.now < TROUBLE {
            let span = self.random.below(MS / 4);
            self.after(span, Event::Acquire);
        }
        self.user += 1;
        let slot = u8::try_from(self.random.below(u64::from(SLOTS))).unwrap();
        // Some extents are wanted more than others.
        let wide = if self.random.percent(50) { 4 } else { EXTENTS };
        let extent = u32::try_from(self.random.below(u64::from(wide))).unwrap();
        let right = if self.random.percent(40) {
            Right::Exclusive
        } else {
            Right::Shared
        };
        let acquire = PeerInput::Acquire {
            user: self.user,
            extent,
            right,
            deadline: Nanos::new(self.now + 30 * MS + self.random.below(200 * MS)),
        };
        self.step_peer(slot, acquire)
    }

    fn release(&mut self, slot: u8, user: u64, extent: u32) -> Result<(), String> {
        let peer = &self.peers[usize::from(slot)];
        let Some((_, right)) = peer.users(extent).find(|(holder, _)| *holder == user) else {
            return Ok(());
        };
        let change = match (right, self.random.below(100)) {
            (Right::Exclusive, 0) => Change::Torn,
            (Right::Exclusive, 1..70) => Change::Published,
            _ => Change::None,
        };
        let era = peer.member().unwrap_or(0);
        self.truth.released(slot, era, user, extent, change);
        let input = PeerInput::Release {
            user,
            extent,
            change,
        };
        self.step_peer(slot, input)
    }

    fn mend(&mut self, extent: u32) -> Result<(), String> {
        let row = self.home.as_ref().and_then(|home| home.extent(extent));
        let Some(row) = row else {
            self.after(10 * MS, Event::Mend(extent));
            return Ok(());
        };
        let State::Lost { last_good } = row.state else {
            return Ok(());
        };
        self.tally.mended += 1;
        let accept = self.random.percent(30);
        self.truth.mended(extent, last_good, row.version, accept);
        let input = if accept {
            HomeInput::Accepted { extent }
        } else {
            let version = last_good;
            HomeInput::Repaired { extent, version }
        };
        self.step_home(input)
    }

    fn trouble(&mut self) -> Result<(), String> {
        if !self.troubled() {
            return Ok(());
        }
        let slot = u8::try_from(self.random.below(u64::from(SLOTS))).unwrap();
        let era = self.peers[usize::from(slot)].member();
        let notice = 5 * MS + self.random.below(150 * MS);
        if self.random.percent(70) {
            self.tally.killed += 1;
            self.truth.killed(slot, era);
            self.peers[usize::from(slot)] = Peer::new(slot, PeerLimits::default());
            let rejoin = self.random.below(200 * MS);
            self.after(rejoin, Event::Join(slot));
            if let Some(era) = era {
                self.after(notice, Event::Condemn(slot, era));
            }
        } else if let Some(era) = era {
            self.tally.cut += 1;
            self.after(0, Event::Condemn(slot, era));
        }
        if self.random.percent(10) && self.home.is_some() {
            self.home_dies();
        }
        let span = self.random.below(40 * MS);
        self.after(span, Event::Trouble);
        Ok(())
    }

    /// Long after the last fault, nobody waits.
    fn at_rest(&self) -> Result<(), String> {
        let waits = self.home.as_ref().map_or(1, Home::waiting);
        if waits > 0 {
            return Err(format!("{waits} requests wait at the home for ever"));
        }
        match self.peers.iter().find(|peer| !peer.is_settled()) {
            Some(peer) => Err(format!("a host waits for ever: {peer:?}")),
            None => Ok(()),
        }
    }
}

fn key(record: &Record) -> (u8, u32) {
    match record {
        Record::Term { .. } => (0, 0),
        Record::Extent { extent, .. } => (1, *extent),
        Record::Host { slot, .. } => (2, u32::from(*slot)),
    }
}

/// Whether the journal says what the home would say, of the things that it has told.
fn durable(journal: &BTreeMap<(u8, u32), Record>, home: &Home) -> bool {
    journal.values().all(|record| match record {
        Record::Term { term } => *term == home.term(),
        Record::Host {
            slot,
            era,
            standing,
            ..
        } => home.member(*slot) == (*standing == Standing::Member).then_some(*era),
        Record::Extent { extent, row } => home.extent(*extent).as_ref() == Some(row),
    })
}

/// Runs one seed.
pub(crate) fn simulate(seed: u64) -> Result<Tally, String> {
    let mut simulation = Simulation::new(seed);
    let done = simulation.run();
    done.map_err(|wrong| {
        format!("HOST_SEED={seed} cargo test -p coherence --test host_explorer random: {wrong}")
    })?;
    Ok(simulation.tally)
}

impl Tally {
    /// Whether what should be tried was tried.
    pub(crate) fn is_rich(&self) -> bool {
        self.granted > 1_000
            && [
                self.denied,
                self.lost,
                self.mended,
                self.killed,
                self.cut,
                self.restarted,
                self.refused,
            ]
            .iter()
            .all(|count| *count > 0)
    }
}
