//! Calls of the crate, on a descriptor with the words of a unit, and what comes of each.
//!
//! A call is one step of the model. With the feature `fault` its caller may also die at each of the
//! crash points that it passes, and leaves what it has stored by then. What comes of a call follows
//! from the words and the call alone, so each is made once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use coherence::evict::{self, Held};
use coherence::pass::Pass;
use coherence::recover::{Fenced, Recovered, Verdict, fence_stranded};
use coherence::sum::{self, Digest, Hashing};
use coherence::{Grant, LeaseError, Member, Own, Slot, State, Wait};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::Relaxed;

use super::Terms;
use crate::search::Mix;

/// The words of a descriptor that anybody here looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Words {
    pub(super) own: u64,
    pub(super) version: u64,
    pub(super) base: u64,
    pub(super) backing: u64,
    pub(super) sum: u64,
    pub(super) handed: u64,
}

impl Words {
    pub(super) fn of(line: &Descriptor) -> Self {
        Self {
            own: line.own.load(Relaxed),
            version: line.version.load(Relaxed),
            base: line.base.load(Relaxed),
            backing: line.backing.load(Relaxed),
            sum: line.sum.load(Relaxed),
            handed: line.handed.load(Relaxed),
        }
    }

    pub(super) fn line(&self) -> Descriptor {
        let line = Descriptor::default();
        line.own.store(self.own, Relaxed);
        line.version.store(self.version, Relaxed);
        line.base.store(self.base, Relaxed);
        line.backing.store(self.backing, Relaxed);
        line.sum.store(self.sum, Relaxed);
        line.handed.store(self.handed, Relaxed);
        line
    }

    /// After the member at slot 1 has written half of the unit and given the contents up.
    pub(super) fn given_up(&self) -> Self {
        let line = self.line();
        let member = Member::new(super::slot_of(0), NoWait);
        let grant = member.try_exclusive(&line).expect("it is free");
        member.abandon(&line, &grant).expect("it is held");
        Self::of(&line)
    }

    /// # Panics
    /// Where the word is none: nobody here writes one.
    pub(super) fn own(&self) -> Own {
        Own::judge(self.own).expect("nobody here writes a word that is none")
    }
}

/// What goes with a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) own: u64,
    pub(super) version: u64,
    pub(super) backing: u64,
}

impl Lease {
    pub(super) const NONE: Self = Self {
        own: 0,
        version: 0,
        backing: 0,
    };

    fn of(grant: Grant) -> Self {
        Self {
            own: grant.own.word(),
            version: grant.version,
            backing: grant.backing,
        }
    }

    fn grant(self) -> Grant {
        Grant {
            own: Own::judge(self.own).expect("it was granted"),
            version: self.version,
            backing: self.backing,
        }
    }

    /// Whether its writer has the unit by `words`.
    pub(super) fn is_held_by(self, words: Words) -> bool {
        let (own, granted) = (words.own(), self.grant());
        own.state() == State::Exclusive && own.epoch() == granted.epoch()
    }

    /// What its writer writes: no other grant of the unit has the same.
    pub(super) fn contents(self) -> u8 {
        u8::try_from(self.grant().epoch().number()).expect("few grants")
    }
}

/// A call of the crate. Members are named by their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Read(Slot),
    Write(Slot),
    Restore(Slot),
    EndRead(Slot, Lease),
    EndUnchanged(Slot, Lease),
    /// What it wrote, under a checksum where the domain has them.
    Publish(Slot, Lease),
    Hold {
        evicted: u32,
        fences: bool,
    },
    Pass {
        slots: u32,
        moved: Option<u64>,
        settles: bool,
        in_order: bool,
        cut_off: u32,
        /// Where the daemon looks for them.
        contents: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Granted(Lease),
    /// It is not to be had, or not held any more.
    Refused,
    Done,
    /// The unit is to be copied, or is known to be in the way of it.
    Held(Held),
}

/// What the unit's words are after a call, and what was answered: nothing where the caller died.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) words: Words,
    pub(super) answer: Option<Answer>,
}

type Known = HashMap<(Words, Call), Rc<[Outcome]>, BuildHasherDefault<Mix>>;

/// The calls that were made, in one domain.
#[derive(Default)]
pub(super) struct Calls {
    known: RefCell<Known>,
}

impl Calls {
    /// Each is made anew.
    #[cfg(feature = "fault")]
    pub(super) fn forget(&self) {
        self.known.borrow_mut().clear();
    }

    pub(super) fn outcomes(&self, words: &Words, call: Call, terms: Terms) -> Rc<[Outcome]> {
        let key = (*words, call);
        if let Some(known) = self.known.borrow().get(&key) {
            return Rc::clone(known);
        }
        let outcomes: Rc<[Outcome]> = deaths::each(words, |line| made(line, call, terms)).into();
        self.known.borrow_mut().insert(key, Rc::clone(&outcomes));
        outcomes
    }
}

/// Nobody waits here.
#[derive(Debug)]
struct NoWait;

impl Wait for NoWait {
    fn wait(&self, _word: &AtomicU32, _seen: u32, _until: Deadline) {}

    fn wake_all(&self, _word: &AtomicU32) {}
}

/// That of a unit with these contents.
pub(super) fn digest(contents: u8) -> Digest {
    let mut hashing = Hashing::default();
    hashing.add(&[contents]);
    hashing.digest()
}

fn made(line: &Descriptor, call: Call, terms: Terms) -> Answer {
    let member = |slot| Member::new(slot, NoWait);
    let granted = |grant: Result<Grant, LeaseError>| {
        grant.map_or(Answer::Refused, |grant| Answer::Granted(Lease::of(grant)))
    };
    let ended = |done: bool| if done { Answer::Done } else { Answer::Refused };
    match call {
        Call::Read(slot) => granted(member(slot).try_shared(0, line)),
        Call::Write(slot) => granted(member(slot).try_exclusive(line)),
        Call::Restore(slot) => granted(member(slot).try_restore(line)),
        Call::EndRead(slot, lease) => {
            ended(member(slot).release_shared(0, line, &lease.grant()).is_ok())
        }
        Call::EndUnchanged(slot, lease) => {
            let done = member(slot).release_exclusive(line, &lease.grant(), false);
            ended(done.is_ok())
        }
        Call::Publish(slot, lease) => {
            let (member, grant) = (member(slot), lease.grant());
            let sum = digest(lease.contents());
            let told = terms != Terms::Checks || member.set_sum(line, &grant, sum).is_ok();
            ended(told && member.release_exclusive(line, &grant, true).is_ok())
        }
        Call::Hold { evicted, fences } => {
            let held = evict::hold(line, evicted, fences);
            Answer::Held(held.expect("few change the words"))
        }
        Call::Pass {
            slots,
            moved,
            settles,
            in_order,
            cut_off,
            contents,
        } => {
            let pass = Pass {
                slots,
                cut_off,
                moved,
                settles,
                in_order,
            };
            let judge = |holder: Option<Slot>, fenced: Fenced| {
                let is_cut_off = holder.is_some_and(|slot| cut_off & slot.bit() != 0);
                terms.verdict(line, &fenced, contents, is_cut_off)
            };
            let tell = |_: Option<Slot>, _: Recovered| {};
            // Members hand nothing over here: the notes are those of earlier passes.
            let freed = in_order || fence_stranded(line, &NoWait, |_, _| true).is_ok();
            let done = pass.go_on(line, &NoWait, judge, tell);
            ended(freed && done.is_ok())
        }
    }
}

impl Terms {
    /// As the daemon judges, of a holder that never had the contents where they are by now or of
    /// any other.
    fn verdict(
        self,
        line: &Descriptor,
        fenced: &Fenced,
        contents: u8,
        is_cut_off: bool,
    ) -> Verdict {
        match self {
            Self::Checks => sum::judge(line, fenced, digest(contents)),
            _ if is_cut_off && !fenced.was_lost => Verdict::Good,
            _ => fenced.by_terms(self == Self::Keep),
        }
    }
}

#[cfg(not(feature = "fault"))]
mod deaths {
    use super::{Answer, Descriptor, Outcome, Words};

    /// Nobody dies within a call.
    pub(super) fn each(words: &Words, body: impl Fn(&Descriptor) -> Answer) -> Vec<Outcome> {
        let line = words.line();
        let answer = Some(body(&line));
        let words = Words::of(&line);
        vec![Outcome { words, answer }]
    }
}

#[cfg(feature = "fault")]
mod deaths {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::{Answer, Descriptor, Outcome, Words};

    thread_local! {
        /// Crash points that are passed before the one that is died at.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    struct Dies;

    fn pass(_name: &'static str) {
        match LEFT.get() {
            Some(0) => {
                LEFT.set(None);
                resume_unwind(Box::new(Dies));
            }
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }

    /// Makes the call once to its end, and once to each crash point.
    pub(super) fn each(words: &Words, body: impl Fn(&Descriptor) -> Answer) -> Vec<Outcome> {
        pool_core::fault::observe(Some(pass));
        let mut outcomes: Vec<Outcome> = Vec::new();
        for points in 0.. {
            let line = words.line();
            LEFT.set(Some(points));
            let answer = catch_unwind(AssertUnwindSafe(|| body(&line)));
            LEFT.set(None);
            let answer = match answer {
                Ok(answer) => Some(answer),
                Err(death) if death.is::<Dies>() => None,
                Err(panic) => resume_unwind(panic),
            };
            let words = Words::of(&line);
            outcomes.push(Outcome { words, answer });
            if answer.is_some() {
                break;
            }
        }
        outcomes
    }
}
