//! Fair shares of what bulk transfers have in common, and transfers that end.
//!
//! # Shares
//! Max-min: no flow can get more without one that has as little or less getting less. Found by
//! progressive filling: all flows grow alike until a resource is full, the flows on it stay, the
//! rest grow on. Shares are whole bytes a second, rounded down, so each resource may stay free of
//! as many bytes a second as it has flows.
//!
//! # Transfers
//! A transfer that is alone takes `first + bytes / share`: its bytes occupy the resources from its
//! start on, and what it takes for the first of them to arrive is added at the end, when it
//! occupies nothing any more. Shares change only where a flow starts or its bytes are through.
//!
//! # Invariants
//! 1. On each resource the sum of shares is at most its rate.
//! 2. What is left of a transfer is kept in units of 10^-12 bytes, in which a whole number moves
//!    in each picosecond: however often the time is advanced, the end is the same.

use std::collections::{BTreeMap, BTreeSet};

use super::units::{PICOS_PER_SECOND, Picos, Rate, Share, narrow};

/// One flow and the resources that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Places of resources, and how much of the resource each byte takes: one byte for
    /// [`Share::ONE`]. One that is named twice takes the sum, and one that is not there moves
    /// nothing.
    pub uses: Vec<(usize, Share)>,
    /// It gets no more than this, as a logical device with a limit does.
    pub limit: Rate,
}

impl Flow {
    /// How much of a resource each byte takes, in parts of 2^32.
    fn weight(&self, resource: usize) -> u128 {
        let uses = self.uses.iter().filter(|(place, _)| *place == resource);
        uses.fold(0, |sum, (_, share)| {
            sum.saturating_add(u128::from(share.parts()))
        })
    }
}

/// The max-min fair share of each flow. A flow that uses nothing gets its limit.
#[must_use]
pub fn fair_shares(resources: &[Rate], flows: &[Flow]) -> Vec<Rate> {
    let mut filling = Filling {
        left: resources
            .iter()
            .map(|rate| u128::from(rate.get()) << 32)
            .collect(),
        flows,
        shares: vec![None; flows.len()],
    };
    // Each round settles a flow at least.
    while let Some(level) = filling.level() {
        filling.settle(level);
    }
    filling
        .shares
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect()
}

/// Flows that grow until something holds them.
struct Filling<'a> {
    /// What flows that are settled leave of each resource, in 2^-32 bytes a second.
    left: Vec<u128>,
    flows: &'a [Flow],
    shares: Vec<Option<Rate>>,
}

impl Filling<'_> {
    fn growing(&self) -> impl Iterator<Item = &Flow> {
        let pairs = self.flows.iter().zip(&self.shares);
        pairs
            .filter(|(_, share)| share.is_none())
            .map(|(flow, _)| flow)
    }

    /// What each growing flow could have on one resource; none where no such flow uses it.
    fn level_of(&self, resource: usize) -> Option<Rate> {
        let weights = self.growing().map(|flow| flow.weight(resource));
        let weight = weights.fold(0, u128::saturating_add);
        self.left
            .get(resource)?
            .checked_div(weight)
            .map(narrow)
            .map(Rate::new)
    }

    /// How far all growing flows can grow; none where all are settled.
    fn level(&self) -> Option<Rate> {
        let limits = self.growing().map(|flow| {
            let is_known = flow.uses.iter().all(|(place, _)| *place < self.left.len());
            if is_known { flow.limit } else { Rate::ZERO }
        });
        let levels = (0..self.left.len()).filter_map(|resource| self.level_of(resource));
        limits.chain(levels).min()
    }

    /// Settles the flows that cannot grow beyond `level`.
    fn settle(&mut self, level: Rate) {
        let places = 0..self.left.len();
        let is_full: Vec<_> = places
            .map(|place| self.level_of(place) == Some(level))
            .collect();
        for (flow, share) in self.flows.iter().zip(&mut self.shares) {
            let is_held = flow.uses.iter().any(|(place, weight)| {
                is_full
                    .get(*place)
                    .is_none_or(|is_full| *is_full && *weight != Share::ZERO)
            });
            if share.is_some() || !(is_held || flow.limit <= level) {
                continue;
            }
            *share = Some(level);
            for (resource, left) in self.left.iter_mut().enumerate() {
                let taken = flow
                    .weight(resource)
                    .saturating_mul(u128::from(level.get()));
                *left = left.saturating_sub(taken);
            }
        }
    }
}

/// How much of a resource nearly all flows take for each byte, at most.
const MOST_WEIGHT: u64 = 4;

/// A transfer, by the order of starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// The end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// When its last byte arrived.
    pub at: Picos,
    /// Which it is.
    pub transfer: TransferId,
}

#[derive(Debug, Clone)]
struct Moving {
    id: TransferId,
    flow: Flow,
    /// In 10^-12 bytes.
    left: u128,
    first: Picos,
    share: Rate,
}

/// Transfers that are under way.
#[derive(Debug, Clone)]
pub struct Transfers {
    resources: Vec<Rate>,
    now: Picos,
    started: u64,
    moving: Vec<Moving>,
    /// Through, but not yet arrived.
    arriving: Vec<Ended>,
}

impl Transfers {
    /// None, over these resources, at time 0.
    #[must_use]
    pub const fn new(resources: Vec<Rate>) -> Self {
        Self {
            resources,
            now: Picos::ZERO,
            started: 0,
            moving: Vec::new(),
            arriving: Vec::new(),
        }
    }

    /// What they share.
    #[must_use]
    pub fn resources(&self) -> &[Rate] {
        &self.resources
    }

    /// The time to which they were advanced.
    #[must_use]
    pub const fn now(&self) -> Picos {
        self.now
    }

    /// Starts one now: `bytes` of which the first takes `first` to arrive.
    pub fn start(&mut self, flow: Flow, bytes: u64, first: Picos) -> TransferId {
        let id = TransferId(self.started);
        self.started = self.started.saturating_add(1);
        let left = u128::from(bytes) * u128::from(PICOS_PER_SECOND);
        self.moving.push(Moving {
            id,
            flow,
            left,
            first,
            share: Rate::ZERO,
        });
        self.share();
        id
    }

    /// The share that a transfer has now; none where its bytes are through.
    #[must_use]
    pub fn share_of(&self, transfer: TransferId) -> Option<Rate> {
        let found = self.moving.iter().find(|moving| moving.id == transfer)?;
        Some(found.share)
    }

    /// From now on the resources are these: as many as before.
    pub fn change(&mut self, resources: Vec<Rate>) {
        self.resources = resources;
        self.share();
    }

    /// Stops one that has not ended; false where there is none of that number.
    pub fn stop(&mut self, transfer: TransferId) -> bool {
        let before = self.moving.len() + self.arriving.len();
        self.moving.retain(|moving| moving.id != transfer);
        self.arriving.retain(|ended| ended.transfer != transfer);
        self.share();
        before > self.moving.len() + self.arriving.len()
    }

    /// When a share changes next or one ends, if none starts until then.
    #[must_use]
    pub fn next_change(&self) -> Option<Picos> {
        let arriving = self.arriving.iter().map(|ended| ended.at);
        arriving.chain(self.through_at()).min()
    }

    /// Of each resource that some of them use: how many do, and how much of it they take.
    #[must_use]
    pub fn taken(&self) -> BTreeMap<usize, (u64, Rate)> {
        let mut taken: BTreeMap<usize, (u64, Rate)> = BTreeMap::new();
        for moving in &self.moving {
            let places: BTreeSet<_> = moving.flow.uses.iter().map(|(place, _)| *place).collect();
            for place in places {
                let bytes = u128::from(moving.share.get()) * moving.flow.weight(place);
                let (count, rate) = taken.entry(place).or_default();
                *count = count.saturating_add(1);
                *rate = rate.saturating_add(Rate::new(narrow(bytes >> 32)));
            }
        }
        taken
    }

    /// When the first of them ends, if none starts until then; none where none ever does.
    #[must_use]
    pub fn first_end(&self) -> Option<Ended> {
        let mut ahead = self.clone();
        loop {
            let arriving = ahead.arriving.iter().min().copied();
            match (ahead.through_at(), arriving) {
                (Some(through), Some(ended)) if through > ended.at => return Some(ended),
                (Some(through), _) => ahead.step(through),
                (None, ended) => return ended,
            }
        }
    }

    /// Whether each of them ends before [`Picos::MAX`], if none starts and no more than `most` are
    /// ever under way.
    ///
    /// What nearly all are far from is found out at once: that each ends also at the share that is
    /// left to one of `most`. Otherwise the time is gone through ahead.
    #[must_use]
    pub fn all_end(&self, most: usize) -> bool {
        let ends = |moving: &Moving| {
            let least = u128::from(self.least(&moving.flow, most).get());
            let takes = (least > 0).then(|| moving.left.div_ceil(least));
            let takes = takes.and_then(|it| u64::try_from(it).ok());
            let takes = takes.and_then(|it| it.checked_add(moving.first.get()));
            takes.is_some_and(|it| self.now.checked_add(Picos::new(it)).is_some())
        };
        if self.moving.iter().all(ends) {
            return true;
        }
        let mut ahead = self.clone();
        ahead.advance(Picos::MAX);
        ahead.moving.is_empty()
    }

    /// What a flow has at least, if `most` are under way and each takes no more of a resource than
    /// [`MOST_WEIGHT`] times what it moves; nothing where it takes more itself.
    fn least(&self, flow: &Flow, most: usize) -> Rate {
        let used = flow.uses.iter().filter(|(_, share)| *share != Share::ZERO);
        let rates = used.map(|&(place, _)| {
            let is_light = flow.weight(place) <= u128::from(MOST_WEIGHT) << 32;
            let rate = self.resources.get(place).filter(|_| is_light);
            rate.map_or(0, |it| it.get())
        });
        let least = rates.chain([flow.limit.get()]).min().unwrap_or(0);
        Rate::new(least / MOST_WEIGHT.saturating_mul(most.max(1) as u64))
    }

    /// Lets the time go to `to`, which is after now or nothing happens, and says what ended until
    /// then, and then itself, in the order of time and of starting.
    pub fn advance(&mut self, to: Picos) -> Vec<Ended> {
        while let Some(through) = self.through_at().filter(|at| *at <= to) {
            self.step(through);
        }
        self.move_on(to);
        let mut ended: Vec<_> = self
            .arriving
            .iter()
            .copied()
            .filter(|one| one.at <= self.now)
            .collect();
        self.arriving.retain(|one| one.at > self.now);
        ended.sort_unstable();
        ended
    }

    fn share(&mut self) {
        let flows: Vec<_> = self
            .moving
            .iter()
            .map(|moving| moving.flow.clone())
            .collect();
        for (moving, share) in self
            .moving
            .iter_mut()
            .zip(fair_shares(&self.resources, &flows))
        {
            moving.share = share;
        }
    }

    /// When the next bytes of a whole transfer are through.
    fn through_at(&self) -> Option<Picos> {
        let times = self.moving.iter().filter_map(|moving| {
            let share = u128::from(moving.share.get());
            let takes = match (moving.left, share) {
                (0, _) => 0,
                (_, 0) => return None,
                (left, share) => left.div_ceil(share),
            };
            self.now.checked_add(Picos::new(u64::try_from(takes).ok()?))
        });
        times.min()
    }

    fn move_on(&mut self, to: Picos) {
        let passed = u128::from(to.saturating_sub(self.now).get());
        for moving in &mut self.moving {
            let moved = passed.saturating_mul(u128::from(moving.share.get()));
            moving.left = moving.left.saturating_sub(moved);
        }
        self.now = self.now.max(to);
    }

    /// Goes to `at`, at which some transfer is through.
    fn step(&mut self, at: Picos) {
        self.move_on(at);
        let now = self.now;
        let through = self.moving.iter().filter(|moving| moving.left == 0);
        self.arriving.extend(through.map(|moving| Ended {
            at: now.saturating_add(moving.first),
            transfer: moving.id,
        }));
        self.moving.retain(|moving| moving.left != 0);
        self.share();
    }
}

/// What a transfer takes that has `share` all the time: `first + bytes / share`.
#[must_use]
pub fn transfer_time(first: Picos, bytes: u64, share: Rate) -> Picos {
    first.saturating_add(share.time_of(bytes))
}
