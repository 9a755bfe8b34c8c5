//! The model does what the crate does.
//!
//! One history at a time, without interleaving: each call is made to the crate, on a descriptor,
//! and the steps of that call are taken in the model; then both have the same words. Between calls
//! members die, are cut off while they live, and come to the slots of the dead.

use coherence::recover::{Fenced, Verdict, recover};
use coherence::{Grant, LeaseError, Member, Wait};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::rng::Rng;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::{Acquire, Release};

use crate::scope::{Caches, Scope};
use crate::search::Model;
use crate::state::{At, FRAMES, State, Who, slot_of};

const MEMBERS: usize = 3;
/// The bit of `base` by which a judge is told that the contents were lost before. The judge of the
/// model has no use for it: it looks at the contents.
const WAS_LOST: u64 = 1 << 37;

/// Nobody waits here.
#[derive(Debug)]
struct NoWait;

impl Wait for NoWait {
    fn wait(&self, _word: &AtomicU32, _seen: u32, _until: Deadline) {}

    fn wake_all(&self, _word: &AtomicU32) {}
}

struct Pair {
    scope: Scope,
    state: State,
    line: Descriptor,
    members: [Member<NoWait>; MEMBERS],
    grants: [Option<Grant>; MEMBERS],
}

/// The steps of each call, of which each is taken once at most, in whatever order the model has.
const READ: &[&str] = &["is granted shared"];
const WRITE: &[&str] = &["is granted exclusive", "is granted exclusive as well"];
const ARRIVE: &[&str] = &[
    "loads version",
    "loads backing",
    "looks at base: it is of before",
    "looks at base",
    "looks: it holds it",
    "maps, and drops stale lines",
    "loads line 0",
    "loads line 1",
];
const LOOK: &[&str] = &["checks: what it read counts"];
const LEAVE: &[&str] = &[
    "has read",
    "stores line 0",
    "stores line 1",
    "loads base",
    "loads base: it is noted",
    "looks: it holds it still",
    "looks: it was cut off",
    "notes the version",
    "raises the version",
    "raises in vain: it was cut off",
    "releases",
    "releases: it was cut off",
    "checks: it was cut off",
    "has nothing left of it",
];
const RECOVER: &[&str] = &[
    "finds a dead holder",
    "clears a bit",
    "fences",
    "loads version",
    "loads base",
    "notes the version for the holder",
    "raises the version",
    "notes it for the fence",
    "looks at the contents",
    "takes another frame",
    "writes line 0",
    "writes line 1",
    "judges: good",
    "judges: lost",
    "sets backing",
    "notes it with the verdict",
    "frees",
    "tells it lost",
];

impl Pair {
    fn new() -> Self {
        let scope = Scope {
            members: MEMBERS,
            frames: FRAMES,
            caches: Caches::Coherent,
            changes_of_mode: true,
            remembers: true,
            writes: 100,
            deaths: 100,
            evictions: 100,
            ..Scope::QUIET
        };
        Self {
            scope,
            state: scope.initial(),
            line: Descriptor::default(),
            members: std::array::from_fn(|index| Member::new(slot_of(index), NoWait)),
            grants: [None; MEMBERS],
        }
    }

    /// Takes the steps of `who` that are named, each once at most, for as long as there are any.
    fn model(&mut self, who: Who, named: &[&[&str]]) {
        let mut left: Vec<&str> = named.concat();
        loop {
            let mut out = Vec::new();
            self.scope.steps(&self.state, &mut out);
            let step = out.into_iter().find_map(|(label, state)| {
                let at = left.iter().position(|name| *name == label.what)?;
                (label.who == who).then_some((at, state))
            });
            let Some((at, state)) = step else { break };
            left.swap_remove(at);
            self.state = state;
            assert_eq!(self.scope.violated(&state), None);
        }
    }

    fn assert_same(&self, call: &str) {
        let unit = &self.state.units[0];
        let base = u64::from(unit.base.epoch) << 38 | u64::from(unit.base.version);
        assert_eq!(
            self.line.own.load(Acquire),
            unit.own.word(),
            "own after {call}"
        );
        assert_eq!(
            self.line.version.load(Acquire),
            u64::from(unit.version),
            "version: {call}"
        );
        let noted = self.line.base.load(Acquire) & !WAS_LOST;
        assert_eq!(noted, base, "base after {call}");
        let backing = u64::from(unit.backing.incarnation);
        assert_eq!(
            self.line.backing.load(Acquire),
            backing,
            "backing after {call}"
        );
    }

    fn acquire(&mut self, index: usize, writes: bool) {
        let member = &self.members[index];
        let lost = self.state.units[0].own.state() == coherence::State::Lost;
        let granted = match (writes, lost) {
            (false, _) => member.try_shared(0, &self.line),
            (true, false) => member.try_exclusive(&self.line),
            (true, true) => member.try_restore(&self.line),
        };
        let published = u64::from(self.state.units[0].published);
        if let Err(LeaseError::Lost { last_good }) = granted {
            assert_eq!(last_good, published);
        }
        self.grants[index] = granted.ok();
        let steps = if writes { WRITE } else { READ };
        self.model(Who::Member(index), &[steps, ARRIVE]);
        let at = self.state.members[index].at;
        assert_eq!(at != At::Idle, granted.is_ok(), "{granted:?} but {at:?}");
    }

    fn release(&mut self, index: usize, grant: &Grant, changed: bool) {
        let member = &self.state.members[index];
        let (reads, restores) = (crate::daemon::reads(member.aim), member.at == At::Store0);
        let cut = member.cut;
        let released = if reads {
            self.members[index].release_shared(0, &self.line, grant)
        } else {
            let changed = changed || restores;
            let released = self.members[index].release_exclusive(&self.line, grant, changed);
            released.map(drop)
        };
        assert_eq!(released.is_err(), cut, "{released:?}");
        let look: &[&str] = if changed || restores || reads {
            LOOK
        } else {
            &["checks, and writes nothing"]
        };
        self.model(Who::Member(index), &[look, LEAVE]);
        assert_eq!(self.state.members[index].at, At::Idle);
        self.grants[index] = None;
    }

    fn upgrade(&mut self, index: usize, grant: &Grant) {
        let cut = self.state.members[index].cut;
        let upgraded = self.members[index].try_upgrade(&self.line, grant);
        self.model(Who::Member(index), &[LOOK, WRITE, ARRIVE]);
        match upgraded {
            Ok(grant) => self.grants[index] = Some(grant),
            Err(LeaseError::Revoked) => {
                assert!(cut);
                self.model(Who::Member(index), &[LEAVE]);
                self.grants[index] = None;
            }
            // It reads as before.
            Err(_) => assert_eq!(self.state.members[index].at, At::Read),
        }
    }

    fn downgrade(&mut self, index: usize, grant: &Grant) {
        let downgraded = self.members[index].downgrade(&self.line, grant, true);
        assert_eq!(downgraded.is_err(), self.state.members[index].cut);
        let goes_on = ["goes on reading", "loads line 0", "loads line 1"];
        let others = ["releases", "has read"];
        let leave = LEAVE.iter().copied().filter(|name| !others.contains(name));
        let leave: Vec<&str> = leave.collect();
        self.model(Who::Member(index), &[LOOK, &leave, &goes_on]);
        self.grants[index] = downgraded.ok();
    }

    /// The daemon takes away what the member holds, which is dead or is cut off.
    fn recover(&mut self, index: usize, begin: &str) {
        let before = self.state;
        self.model(Who::Daemon, &[&[begin], RECOVER]);
        let (unit, old) = (&self.state.units[0], &before.units[0]);
        let line = &self.line;
        let judge = |fenced: Fenced| {
            assert_eq!(fenced.last_good, u64::from(old.published));
            line.backing
                .store(u64::from(unit.backing.incarnation), Release);
            if unit.own.state() == coherence::State::Lost {
                Verdict::Lost
            } else {
                Verdict::Good
            }
        };
        recover(line, slot_of(index), &NoWait, judge).expect("a sound word");
    }

    fn turn(&mut self, rng: &mut Rng) -> &'static str {
        let index = usize::try_from(rng.below(3)).unwrap_or(0);
        let changed = rng.once_in(2);
        // The model's daemon begins with the first.
        let own = self.state.units[0].own;
        let waits =
            |index: &usize| self.state.members[*index].is_dead() && own.is_held_by(slot_of(*index));
        let index = (0..MEMBERS).find(waits).unwrap_or(index);
        if self.state.members[index].is_dead() {
            self.recover(index, "finds a dead holder");
            self.model(Who::Member(index), &[&["another member comes to the slot"]]);
            return "recover of a dead one";
        }
        let Some(grant) = self.grants[index] else {
            self.acquire(index, changed);
            return "acquire";
        };
        let reads = crate::daemon::reads(self.state.members[index].aim);
        match rng.below(6) {
            0 if !self.state.members[index].cut => {
                if changed && !reads {
                    self.model(Who::Member(index), &[LOOK, &["stores line 0"]]);
                }
                self.model(Who::Member(index), &[&["dies"]]);
                self.grants[index] = None;
                "a death"
            }
            1 if !reads && !self.state.members[index].cut => {
                self.recover(index, "finds a holder stuck");
                "recover of a living one"
            }
            2 if reads => {
                self.upgrade(index, &grant);
                "upgrade"
            }
            2 if !self.state.members[index].cut => {
                self.downgrade(index, &grant);
                "downgrade"
            }
            _ => {
                self.release(index, &grant, changed);
                "release"
            }
        }
    }
}

#[test]
fn the_model_and_the_crate_make_the_same_words() {
    let _turn = crate::domain::turn();
    let mut calls = std::collections::BTreeMap::new();
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new();
        for _ in 0..40 {
            let call = pair.turn(&mut rng);
            pair.assert_same(call);
            *calls.entry(call).or_insert(0_u32) += 1;
        }
    }
    println!("{calls:?}");
    assert_eq!(calls.len(), 7, "{calls:?}");
}
