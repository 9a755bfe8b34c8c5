//! What a thread of a member does all its life: it leases units, and does to their contents and to
//! its cache what the rules of software mode demand, or leaves a step out where such a bug is
//! planted.

use coherence::cache::Caches as _;
use coherence::sum::{Digest, Hashing};
use coherence::{Grant, LeaseError, Own};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::rng::Rng;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, lock};
use pool_core::{Nanos, planted};

use crate::memory::small;
use crate::oracle::compare;
use crate::report::{Violation, broken};
use crate::scheduler::set_ordered;
use crate::world::{End, Life, Process, World};

const LINE: u64 = 64;

/// How often a reader that was not asked to let go reads on.
const READS_MAX: u64 = 12;

/// One thread of a member.
pub(crate) struct Thread<'a> {
    world: &'a World,
    me: usize,
    process: Arc<Process>,
    rng: Rng,
}

/// What was written, and is not in memory yet.
struct Written {
    /// Of the payload.
    ranges: Vec<(u64, u64)>,
    /// The whole unit, as this thread sees it.
    contents: Vec<u8>,
}

impl<'a> Thread<'a> {
    /// The thread `me`, which begins.
    pub(crate) fn new(world: &'a World, me: usize) -> Self {
        let mut state = world.state();
        let rng = Rng::new(state.schedule.rng.number());
        let host = state.schedule.strands[me].host;
        let process = state.hosts[host].process.clone();
        drop(state);
        Self {
            world,
            me,
            process: process.expect("a thread that runs has a process"),
            rng,
        }
    }

    /// Works until all that is to be done is done. It unwinds where the member dies.
    pub(crate) fn live(mut self) {
        while !self.world.is_ending() {
            let unit = self.rng.below(u64::from(self.world.mix.units));
            let unit = u32::try_from(unit).expect("below the number of units");
            self.world.state().schedule.strands[self.me].unit = unit;
            if self.rng.below(8) < self.world.mix.writes_in_8 {
                self.write_unit(unit);
            } else {
                self.read_unit(unit);
            }
            self.leave_if_cut_off();
        }
    }

    /// Who finds that it was taken for dead ends.
    fn leave_if_cut_off(&self) {
        let mut state = self.world.state();
        let host = state.schedule.strands[self.me].host;
        if !matches!(state.hosts[host].life, Life::Alive) {
            state.kill(self.me);
            drop(state);
            std::panic::resume_unwind(Box::new(End::Killed));
        }
    }

    fn read_unit(&mut self, unit: u32) {
        let slot = self.rng.once_in(16);
        let until = self.deadline();
        let result = match until {
            _ if slot => self.lease("try_shared_beside", unit, |process, line| {
                process.member.try_shared_beside(unit, line)
            }),
            None => self.lease("try_shared", unit, |process, line| {
                process.member.try_shared(unit, line)
            }),
            Some(until) => self.lease("shared", unit, |process, line| {
                process.member.shared(unit, line, until)
            }),
        };
        let Some(grant) = self.granted(unit, result) else {
            return;
        };
        self.follow(unit, &grant);
        let mut reads = 1 + self.rng.below(2);
        if self.rng.once_in(8) {
            reads = READS_MAX;
        }
        for _ in 0..reads {
            let read = self.load(&grant);
            self.still_shared(unit, &grant);
            self.judge(unit, &read);
            if self.is_recalled(unit) {
                break;
            }
        }
        if self.rng.once_in(self.world.mix.upgraded_once_in) {
            let upgraded = self.lease("try_upgrade", unit, |process, line| {
                process.member.try_upgrade(line, &grant)
            });
            if let Some(grant) = self.granted(unit, upgraded) {
                return self.write(unit, &grant, false);
            }
        }
        self.release_shared(unit, &grant);
    }

    fn release_shared(&mut self, unit: u32, grant: &Grant) {
        let released = self.lease("release_shared", unit, |process, line| {
            process.member.release_shared(unit, line, grant)
        });
        self.let_go(released);
    }

    fn write_unit(&mut self, unit: u32) {
        let result = match self.deadline() {
            None => self.lease("try_exclusive", unit, |process, line| {
                process.member.try_exclusive(line)
            }),
            Some(until) => self.lease("exclusive", unit, |process, line| {
                process.member.exclusive(line, until)
            }),
        };
        if let Some(grant) = self.granted(unit, result) {
            self.follow(unit, &grant);
            self.write(unit, &grant, false);
        }
    }

    /// The owner of the contents has a copy of them.
    fn restore(&mut self, unit: u32) {
        if !self.rng.once_in(self.world.mix.restored_once_in) {
            return;
        }
        let restored = self.lease("try_restore", unit, |process, line| {
            process.member.try_restore(line)
        });
        // Somebody else was first, where it is refused.
        if let Ok(grant) = restored {
            self.check_grant(unit, &grant);
            self.follow(unit, &grant);
            self.write(unit, &grant, true);
        }
    }

    /// Until when to wait, or not at all.
    fn deadline(&mut self) -> Option<Deadline> {
        let mix = &self.world.mix;
        let waits = self.rng.below(8) < mix.waits_in_8;
        let has_end = self.rng.once_in(mix.deadline_once_in);
        let span = self.rng.below(3 * mix.cap);
        let end = self.world.state().schedule.now + span;
        waits.then(|| match has_end {
            true => Deadline::at(Nanos::new(end)),
            false => Deadline::NEVER,
        })
    }

    /// What was granted, if it was. Where the contents are lost they may be restored.
    fn granted(&mut self, unit: u32, result: Result<Grant, LeaseError>) -> Option<Grant> {
        match result {
            Ok(grant) => {
                self.check_grant(unit, &grant);
                Some(grant)
            }
            Err(LeaseError::Lost { .. }) => {
                self.restore(unit);
                None
            }
            Err(_) => None,
        }
    }

    fn check_grant(&self, unit: u32, grant: &Grant) {
        let line = &self.world.lines[unit as usize];
        let member = &self.process.member;
        let stands =
            member.check_shared(line, grant).is_ok() || member.check_exclusive(line, grant).is_ok();
        let mut state = self.world.state();
        state.tally.grants += 1;
        if stands {
            let result = state.units[unit as usize].granted(grant);
            self.world.demand(state, result);
        }
    }

    /// After a grant: drops what the cache may have of other versions.
    fn follow(&self, unit: u32, grant: &Grant) {
        let now = Some((grant.backing, grant.version));
        if lock(&self.process.seen)[unit as usize] == now {
            return;
        }
        let place = self.world.memory.place(grant.backing);
        set_ordered(true);
        if !planted!("caller.skips_invalidate") {
            self.world.operate(self.me, "invalidate");
            let len = self.world.mix.unit_bytes;
            self.process.cache.invalidate(place, len);
        }
        if !planted!("caller.skips_fence_all") {
            self.world.operate(self.me, "fence_all");
            self.process.cache.fence_all();
        }
        lock(&self.process.seen)[unit as usize] = now;
    }

    /// Reads the whole unit, line by line.
    fn load(&self, grant: &Grant) -> Vec<u8> {
        let place = self.world.memory.place(grant.backing);
        let mut contents = vec![0; small(self.world.mix.unit_bytes)];
        for (line, at) in contents.chunks_mut(small(LINE)).zip((place..).step_by(64)) {
            self.world.operate(self.me, "load");
            set_ordered(false);
            self.process.cache.read(at, line);
            set_ordered(true);
        }
        contents
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        self.world.operate(self.me, "store");
        set_ordered(false);
        self.process.cache.write(at, bytes);
        set_ordered(true);
    }

    /// Writes under a lease, or changes its mind, and lets go.
    fn write(&mut self, unit: u32, grant: &Grant, restores: bool) {
        let published = self.world.state().units[unit as usize].published.clone();
        if !restores && self.rng.once_in(2) {
            self.read_own(unit, grant, &published);
        }
        if !restores && self.rng.once_in(6) {
            return self.publish(unit, grant, false);
        }
        let mut written = Written {
            ranges: Vec::new(),
            contents: published,
        };
        if restores {
            let whole = (0, self.world.mix.unit_bytes);
            self.write_range(grant, whole, true, &mut written);
        }
        for _ in 0..self.rng.below(4) + u64::from(!restores) {
            let range = self.draw_range();
            self.write_range(grant, range, false, &mut written);
        }
        if self.rng.once_in(3) {
            self.read_own(unit, grant, &written.contents);
        }
        if planted!("caller.publishes_before_write_back") {
            self.declare(unit, grant, written.contents);
            self.publish(unit, grant, true);
            return self.write_back(&written.ranges);
        }
        self.write_back(&written.ranges);
        let digest = digest_of(&written.contents);
        self.declare(unit, grant, written.contents);
        self.sum_up(unit, grant, digest);
        self.publish(unit, grant, true);
    }

    /// Stores the checksum of what is going to be published. Where the lease does not stand any
    /// more the publication says so.
    fn sum_up(&self, unit: u32, grant: &Grant, digest: Digest) {
        let _ = self.lease("set_sum", unit, |process, line| {
            process.member.set_sum(line, grant, digest)
        });
    }

    /// Reads what only this thread can have changed.
    fn read_own(&self, unit: u32, grant: &Grant, right: &[u8]) {
        let read = self.load(grant);
        self.still_exclusive(unit, grant);
        self.demand(compare(&read, right, grant.version));
    }

    fn draw_range(&mut self) -> (u64, u64) {
        let at = self.rng.below(self.world.mix.unit_bytes);
        let len = 1 + self.rng.below((self.world.mix.unit_bytes - at).min(150));
        (at, len)
    }

    /// Stores new bytes to a range, or what is there already where the unit is restored.
    fn write_range(
        &mut self,
        grant: &Grant,
        (from, len): (u64, u64),
        restores: bool,
        written: &mut Written,
    ) {
        let place = self.world.memory.place(grant.backing);
        let end = from + len;
        let mut at = from;
        while at < end {
            let until = end.min((at / LINE + 1) * LINE);
            let part = &mut written.contents[small(at)..small(until)];
            if !restores {
                let drawn = self.rng.number().to_le_bytes();
                for (byte, drawn) in part.iter_mut().zip(drawn.iter().cycle()) {
                    *byte = *drawn;
                }
            }
            self.store(place + at, part);
            at = until;
        }
        written.ranges.push((place + from, len));
    }

    fn write_back(&self, ranges: &[(u64, u64)]) {
        set_ordered(true);
        let forgotten = usize::from(planted!("caller.skips_write_back"));
        for &(at, len) in ranges.iter().skip(forgotten) {
            self.world.operate(self.me, "write_back");
            self.process.cache.write_back(at, len);
        }
        if !planted!("caller.skips_fence_stores") {
            self.world.operate(self.me, "fence_stores");
            self.process.cache.fence_stores();
        }
    }

    /// Tells the oracle what is going to be published, where the lease still stands.
    fn declare(&self, unit: u32, grant: &Grant, contents: Vec<u8>) {
        let line = &self.world.lines[unit as usize];
        if self.process.member.check_exclusive(line, grant).is_ok() {
            self.world.state().units[unit as usize].declare(contents);
        }
    }

    /// Lets go, or goes on reading for a while.
    fn publish(&mut self, unit: u32, grant: &Grant, changed: bool) {
        let raises = changed && !planted!("caller.does_not_raise_the_version");
        if !self.rng.once_in(self.world.mix.downgraded_once_in) {
            let released = self.lease("release_exclusive", unit, |process, line| {
                process.member.release_exclusive(line, grant, raises)
            });
            if let Some(version) = self.let_go(released) {
                lock(&self.process.seen)[unit as usize] = Some((grant.backing, version));
            }
            return;
        }
        let downgraded = self.lease("downgrade", unit, |process, line| {
            process.member.downgrade(line, grant, raises)
        });
        let Some(grant) = self.let_go(downgraded) else {
            return;
        };
        self.check_grant(unit, &grant);
        lock(&self.process.seen)[unit as usize] = Some((grant.backing, grant.version));
        let read = self.load(&grant);
        self.still_shared(unit, &grant);
        self.judge(unit, &read);
        self.release_shared(unit, &grant);
    }

    fn still_shared(&self, unit: u32, grant: &Grant) {
        let line = &self.world.lines[unit as usize];
        self.let_go(self.process.member.check_shared(line, grant));
    }

    fn still_exclusive(&self, unit: u32, grant: &Grant) {
        let line = &self.world.lines[unit as usize];
        self.let_go(self.process.member.check_exclusive(line, grant));
    }

    /// What was read under a lease that still stands.
    fn judge(&self, unit: u32, read: &[u8]) {
        let mut state = self.world.state();
        state.trace.mix_bytes(read);
        let result = state.units[unit as usize].judge(read);
        drop(state);
        self.demand(result);
    }

    fn is_recalled(&self, unit: u32) -> bool {
        let word = self.world.lines[unit as usize].own.load(Relaxed);
        Own::judge(word).is_ok_and(Own::is_recalled)
    }

    /// What a call says that needs a lease. A member that was cut off ends there.
    fn let_go<T>(&self, result: Result<T, LeaseError>) -> Option<T> {
        let error = match result {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        self.leave_if_cut_off();
        self.demand(broken(
            "a lease is taken from nobody who lives and is not cut off",
            error.to_string(),
        ));
        None
    }

    /// One call of the crate.
    fn lease<T>(
        &self,
        name: &'static str,
        unit: u32,
        call: impl FnOnce(&Process, &Descriptor) -> Result<T, LeaseError>,
    ) -> Result<T, LeaseError> {
        self.world.operate(self.me, name);
        let mut state = self.world.state();
        let called = state.schedule.now;
        state.schedule.strands[self.me].called = Some(called);
        drop(state);
        let result = call(&self.process, &self.world.lines[unit as usize]);
        let mut state = self.world.state();
        let strand = &mut state.schedule.strands[self.me];
        (strand.called, strand.is_locking) = (None, false);
        let observed = state.observe(self.world, self.me);
        let judged = observed.and_then(|()| match &result {
            Err(LeaseError::Lost { last_good }) => state.units[unit as usize].told(*last_good),
            Err(error @ (LeaseError::Corrupt(_) | LeaseError::Retired)) => broken(
                "no word is broken, and no unit withdrawn",
                error.to_string(),
            ),
            _ => Ok(()),
        });
        self.world.demand(state, judged);
        result
    }

    fn demand(&self, result: Result<(), Violation>) {
        let mut state = self.world.state();
        state.tally.verified += 1;
        self.world.demand(state, result);
    }
}

/// The hash of the contents of a unit.
pub(crate) fn digest_of(contents: &[u8]) -> Digest {
    let mut hashing = Hashing::default();
    hashing.add(contents);
    hashing.digest()
}
