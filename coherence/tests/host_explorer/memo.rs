//! Steps of home and peers, each computed and checked once: a state of the world names the states
//! of its parts by number.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use coherence::host::{
    Home, HomeInput, HomeLimits, HomeOutput, Peer, PeerInput, PeerOutput, Record, Right, State,
    Tell, ToHome, ToPeer,
};
use pool_core::Nanos;

use crate::truth::Truth;

/// A quick hash for numbers; nobody attacks it here.
#[derive(Default, Clone, Copy)]
pub(crate) struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

pub(crate) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Values by number.
pub(crate) struct Interner<T> {
    values: Vec<Rc<T>>,
    numbers: QuickMap<Rc<T>, u32>,
}

impl<T: Eq + Hash> Interner<T> {
    fn new() -> Self {
        Self {
            values: Vec::new(),
            numbers: QuickMap::default(),
        }
    }

    pub(crate) fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap();
        let value = Rc::new(value);
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    pub(crate) fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

/// What is on its way, for ever: it may arrive at any time, any number of times, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Envelope {
    ToHome(ToHome),
    ToPeer(ToPeer),
    /// What the fabric's driver tells the home until it is done: first this, ..
    Condemn {
        slot: u8,
        era: u64,
    },
    /// .. then this.
    Fence {
        slot: u8,
        era: u64,
    },
}

/// A step of the home, and what is left of it where the home dies after each of its outputs.
pub(crate) struct HomeStep {
    pub(crate) next: u32,
    pub(crate) sends: Vec<u32>,
    pub(crate) refused: bool,
    pub(crate) crashes: Vec<(u32, Vec<u32>)>,
}

pub(crate) struct PeerStep {
    pub(crate) next: u32,
    pub(crate) sends: Vec<u32>,
    pub(crate) outputs: Vec<PeerOutput>,
}

/// All parts of worlds that were ever seen.
pub(crate) struct Memo {
    pub(crate) limits: HomeLimits,
    pub(crate) homes: Interner<Home>,
    pub(crate) peers: Interner<Peer>,
    pub(crate) envelopes: Interner<Envelope>,
    pub(crate) truths: Interner<Truth>,
    home_steps: QuickMap<(u32, u8, HomeInput), Rc<HomeStep>>,
    peer_steps: QuickMap<(u32, u8, PeerInput), Rc<PeerStep>>,
}

fn at(now: u8) -> Nanos {
    Nanos::new(u64::from(now))
}

impl Memo {
    pub(crate) fn new(limits: HomeLimits) -> Self {
        Self {
            limits,
            homes: Interner::new(),
            peers: Interner::new(),
            envelopes: Interner::new(),
            truths: Interner::new(),
            home_steps: QuickMap::default(),
            peer_steps: QuickMap::default(),
        }
    }

    pub(crate) fn home_step(
        &mut self,
        home: u32,
        now: u8,
        input: HomeInput,
    ) -> Result<Rc<HomeStep>, String> {
        let key = (home, now, input);
        if let Some(step) = self.home_steps.get(&key) {
            return Ok(step.clone());
        }
        let before = self.homes.get(home).clone();
        let mut after = before.clone();
        let outputs = after.step(at(now), input);
        let _ = after.take_counts();
        check_home(&before, &after, &outputs)?;
        let crashes = self.crashes(&before, &after, &outputs, now)?;
        let step = Rc::new(HomeStep {
            next: self.homes.number(after),
            sends: self.sent_by_home(&outputs),
            refused: outputs
                .iter()
                .any(|output| matches!(output, HomeOutput::Refused(_))),
            crashes,
        });
        self.home_steps.insert(key, step.clone());
        Ok(step)
    }

    pub(crate) fn sent_by_home(&mut self, outputs: &[HomeOutput]) -> Vec<u32> {
        let mut sends = Vec::new();
        for output in outputs {
            if let HomeOutput::Send(message) = output {
                sends.push(self.envelopes.number(Envelope::ToPeer(*message)));
            }
        }
        sends
    }

    /// The home dies after each of its outputs, and is born again from what is durable then.
    fn crashes(
        &mut self,
        before: &Home,
        after: &Home,
        outputs: &[HomeOutput],
        now: u8,
    ) -> Result<Vec<(u32, Vec<u32>)>, String> {
        let mut rows = before.rows();
        let mut crashes: Vec<(u32, Vec<u32>)> = Vec::new();
        for count in 0..=outputs.len() {
            if let Some(HomeOutput::Record(record)) =
                count.checked_sub(1).and_then(|last| outputs.get(last))
            {
                rows.push(record.clone());
            }
            let (born, hellos) = Home::recover(at(now), self.limits, rows.iter().cloned())
                .map_err(|error| format!("after {count} of {outputs:?}: {error}"))?;
            if let Some(HomeOutput::Send(message)) = outputs.get(count) {
                justified(&born, message)?;
            }
            if count == outputs.len() && same(&born) != same(after) {
                return Err(format!("the journal forgets: {born:?} was {after:?}"));
            }
            let twice = rows.iter().chain(&rows).cloned();
            if Home::recover(at(now), self.limits, twice).as_ref()
                != Ok(&(born.clone(), hellos.clone()))
            {
                return Err("a journal read twice says something else".to_owned());
            }
            let mut sends = self.sent_by_home(&outputs[..count]);
            sends.extend(self.sent_by_home(&hellos));
            let crash = (self.homes.number(born), sends);
            if crashes.last() != Some(&crash) {
                crashes.push(crash);
            }
        }
        Ok(crashes)
    }

    pub(crate) fn peer_step(
        &mut self,
        peer: u32,
        now: u8,
        input: PeerInput,
    ) -> Result<Rc<PeerStep>, String> {
        let key = (peer, now, input);
        if let Some(step) = self.peer_steps.get(&key) {
            return Ok(step.clone());
        }
        let before = self.peers.get(peer);
        let mut after = before.clone();
        let outputs = after.step(at(now), input);
        let _ = after.take_counts();
        let refused = outputs
            .iter()
            .any(|output| matches!(output, PeerOutput::Refused(_)));
        if refused && after != *before {
            return Err(format!("{input:?} was refused and changed the peer"));
        }
        let mut sends = Vec::new();
        for output in &outputs {
            if let PeerOutput::Send(message) = output {
                sends.push(self.envelopes.number(Envelope::ToHome(*message)));
            }
        }
        let step = Rc::new(PeerStep {
            next: self.peers.number(after),
            sends,
            outputs,
        });
        self.peer_steps.insert(key, step.clone());
        Ok(step)
    }
}

/// What must survive, without the number of the start.
fn same(home: &Home) -> Vec<Record> {
    let mut rows = home.rows();
    rows.retain(|row| !matches!(row, Record::Term { .. }));
    rows
}

/// Laws of one step of the home.
fn check_home(before: &Home, after: &Home, outputs: &[HomeOutput]) -> Result<(), String> {
    after.check().map_err(|broken| broken.to_string())?;
    let is_record = |output: &HomeOutput| matches!(output, HomeOutput::Record(_));
    let records = outputs
        .iter()
        .take_while(|output| is_record(output))
        .count();
    if outputs[records..].iter().any(is_record) {
        return Err(format!("a record after what it justifies: {outputs:?}"));
    }
    let refused = outputs
        .iter()
        .any(|output| matches!(output, HomeOutput::Refused(_)));
    if refused && (records > 0 || before != after) {
        return Err(format!("refused, and yet it changed: {outputs:?}"));
    }
    for row in before.rows() {
        match row {
            Record::Extent { extent, row: old } => {
                let new = after.extent(extent).ok_or("an extent vanished")?;
                let rises = matches!(new.state, State::Owned { .. }) && new.state != old.state;
                if new.epoch < old.epoch || new.version < old.version {
                    return Err(format!("a number falls: {old:?}, then {new:?}"));
                }
                if rises && new.epoch == old.epoch {
                    return Err(format!("the epoch does not rise: {old:?}, then {new:?}"));
                }
            }
            Record::Host { slot, era, .. } => {
                if after.member(slot).is_some_and(|now| now < era) {
                    return Err(format!("the era of {slot} falls"));
                }
            }
            Record::Term { .. } => {}
        }
    }
    Ok(())
}

/// Whether a home born at this moment would say the same.
fn justified(born: &Home, message: &ToPeer) -> Result<(), String> {
    let ToPeer { to, era, tell } = *message;
    let held = |extent, ticket| {
        let held = born.extent(extent).and_then(|row| row.held_by(to));
        held.filter(|(by, _)| *by == ticket)
            .map_or(Right::Nothing, |(_, right)| right)
    };
    let just = match tell {
        Tell::Welcome { .. } => born.member(to) == Some(era),
        Tell::Grant {
            extent,
            ticket,
            right,
            ..
        } => held(extent, ticket) == right,
        Tell::Released {
            extent,
            ticket,
            keep,
        } => held(extent, ticket) <= keep,
        _ => true,
    };
    if just {
        Ok(())
    } else {
        Err(format!("{message:?} is sent before its record is durable"))
    }
}
