//! What must be, said a second time: by looking at the words and at the memory, and with nothing of
//! how the crate comes to its decisions.
//!
//! Only one thread runs at a time, and after each of its steps, before another one runs, every unit
//! is looked at ([`Unit::observe`]). A step changes the ownership word of a unit once at most. So
//! the oracle sees each change, and who made it.
//!
//! # Laws
//! 1. The word goes only where its table allows, by whom it allows. So there is one writer or any
//!    number of readers.
//! 2. The epoch rises by one with each grant to write and each fence, and changes with nothing
//!    else; version and incarnation never fall. Only the daemon changes an incarnation, of a unit
//!    that is fenced.
//! 3. Contents are published by the holder's release of a unit it changed. Whoever holds a unit
//!    reads what was published last, or what it wrote itself, byte by byte ([`Unit::judge`]), and
//!    was granted the version of it ([`Unit::granted`]).
//! 4. A unit whose writer is gone has another version afterwards than the last that was published,
//!    and it is lost, or its contents are: what was published last, or, where the policy keeps
//!    them, what is in the memory. What is said of the last good version is right.
//! 5. Whoever sleeps will be woken: the word says that somebody sleeps, or the event has moved, or
//!    somebody is about to wake, or died when it was ([`Unit::slept_through`]).

use coherence::{Grant, Own, Slot, State};
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::Relaxed;

use crate::memory::Memory;
use crate::mix::Policy;
use crate::report::{Violation, broken};

const CHANGES: &str = "the ownership word goes only where its table allows";
const NUMBERS: &str = "epoch, version and incarnation never fall";
const CONTENTS: &str = "whoever holds a unit reads what was published last";
const GRANTS: &str = "a grant is of the version that was published last";
const RECOVERY: &str = "a unit whose writer is gone is lost, or has contents that were published";
const LAST_GOOD: &str = "what is said of the last good version is right";
const WAKING: &str = "whoever sleeps will be woken";

/// Who made a step: which thread, at which place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By {
    pub(crate) thread: usize,
    pub(crate) slot: Slot,
}

/// What a writer says it has written, before it lets go.
#[derive(Debug)]
struct Declared {
    own: Own,
    contents: Vec<u8>,
}

/// What is right of one unit now.
#[derive(Debug)]
pub(crate) struct Unit {
    own: Own,
    version: u64,
    backing: u64,
    /// The version that was published last, and its contents.
    pub(crate) good: u64,
    pub(crate) published: Vec<u8>,
    declared: Option<Declared>,
    /// Whose unit it was when it was fenced.
    pub(crate) fenced_of: Option<Slot>,
    /// Whether it has another frame since it was fenced.
    pub(crate) is_moved: bool,
    /// Threads that took the mark of those who sleep away and have not woken them.
    owing: Vec<usize>,
    /// Those of them that died, until the daemon has roused who sleeps.
    dead_owing: Vec<usize>,
}

impl Unit {
    /// A unit that is free and zero.
    pub(crate) fn new(line: &Descriptor, contents: Vec<u8>) -> Self {
        Self {
            own: Own::default(),
            version: 0,
            backing: line.backing.load(Relaxed),
            good: 0,
            published: contents,
            declared: None,
            fenced_of: None,
            is_moved: false,
            owing: Vec::new(),
            dead_owing: Vec::new(),
        }
    }

    /// Looks at the unit after a step of `by`; `is_gone` tells whether the member at a place is
    /// dead or cut off.
    pub(crate) fn observe(
        &mut self,
        line: &Descriptor,
        by: By,
        is_gone: impl Fn(Slot) -> bool,
        memory: &Memory,
        policy: Policy,
    ) -> Result<(), Violation> {
        let is = match Own::judge(line.own.load(Relaxed)) {
            Ok(own) => own,
            Err(corrupt) => return broken(CHANGES, corrupt.to_string()),
        };
        self.numbers(line, is, by)?;
        let was = self.own;
        if is == was {
            return Ok(());
        }
        if was.has_waiters() && !is.has_waiters() {
            self.owing.push(by.thread);
        }
        if !self.is_allowed(was, is, by, is_gone) {
            return broken(CHANGES, format!("{was:?} to {is:?} by {by:?}"));
        }
        match (was.state(), is.state()) {
            (State::Exclusive, State::Free | State::Shared) => self.released(was)?,
            (State::Exclusive, State::Fenced) => {
                (self.fenced_of, self.is_moved) = (holder(was), false);
            }
            (State::Fenced, State::Free) => self.repaired(memory, policy)?,
            (State::Fenced, State::Lost) if self.version <= self.good => {
                return broken(RECOVERY, format!("lost with version {}", self.version));
            }
            _ => {}
        }
        self.own = is;
        Ok(())
    }

    /// Law 2.
    fn numbers(&mut self, line: &Descriptor, is: Own, by: By) -> Result<(), Violation> {
        let (version, backing) = (line.version.load(Relaxed), line.backing.load(Relaxed));
        if version < self.version || backing < self.backing {
            let was = (self.version, self.backing);
            return broken(NUMBERS, format!("{was:?} to {:?}", (version, backing)));
        }
        let is_being_judged = by.slot == Slot::DAEMON && self.own.state() == State::Fenced;
        if backing != self.backing && !is_being_judged {
            return broken(NUMBERS, format!("incarnation changed by {by:?}"));
        }
        let rises = |to| self.own.state() != to && is.state() == to;
        let due = if rises(State::Exclusive) || rises(State::Fenced) {
            self.own.epoch().after()
        } else {
            self.own.epoch()
        };
        if is.epoch() != due {
            return broken(NUMBERS, format!("{:?} to {is:?}", self.own));
        }
        (self.version, self.backing) = (version, backing);
        Ok(())
    }

    /// Law 1.
    fn is_allowed(&self, was: Own, is: Own, by: By, is_gone: impl Fn(Slot) -> bool) -> bool {
        let is_daemon = by.slot == Slot::DAEMON;
        let came = is.holders() & !was.holders();
        let left = was.holders() & !is.holders();
        let leaves = left == 0 || left == by.slot.bit() || is_daemon && every(left, is_gone);
        match (was.state(), is.state()) {
            // Flags only.
            _ if was.state() == is.state() && came | left == 0 => true,
            (State::Free | State::Shared, State::Shared) => {
                leaves && (came == 0 || came == by.slot.bit() && !was.is_recalled())
                    // A free unit that is left to whoever asked for it is granted after a cap.
                    || was.state() == State::Free && came == by.slot.bit()
            }
            (State::Shared, State::Free) => leaves,
            (State::Free | State::Shared | State::Lost, State::Exclusive) => {
                !is_daemon
                    && is.holders() == by.slot.bit()
                    && was.holders() & !by.slot.bit() == 0
                    && !was.is_crowded()
            }
            (State::Exclusive, State::Free | State::Shared) => {
                was.holders() == by.slot.bit() && (left | came == left)
            }
            (State::Exclusive, State::Fenced) => is_daemon && leaves,
            (State::Fenced, State::Free | State::Lost) => is_daemon,
            _ => false,
        }
    }

    /// The writer has let go.
    fn released(&mut self, was: Own) -> Result<(), Violation> {
        let declared = self.declared.take().filter(|declared| {
            let Declared { own, .. } = declared;
            (own.epoch(), own.holders()) == (was.epoch(), was.holders())
        });
        match declared {
            Some(declared) => self.published = declared.contents,
            None if self.version != self.good => {
                let how = format!("version {} of nothing that was written", self.version);
                return broken(GRANTS, how);
            }
            None => {}
        }
        self.good = self.version;
        Ok(())
    }

    /// The daemon has found the contents good.
    fn repaired(&mut self, memory: &Memory, policy: Policy) -> Result<(), Violation> {
        let contents = memory.unit(self.backing);
        let version = self.version;
        if version <= self.good {
            return broken(RECOVERY, format!("repaired with version {version}"));
        }
        if policy == Policy::Lose || policy == Policy::Compare && contents != self.published {
            return broken(RECOVERY, format!("good by the policy {policy:?}"));
        }
        self.published = contents;
        self.good = version;
        Ok(())
    }

    /// The holder is about to let go of what it has written, and `contents` are to be published.
    pub(crate) fn declare(&mut self, contents: Vec<u8>) {
        let own = self.own;
        self.declared = Some(Declared { own, contents });
    }

    /// Whether these are contents that were published last, or were to be published by the holder
    /// that is gone.
    pub(crate) fn is_whole(&self, contents: &[u8]) -> bool {
        let declared = self.declared.as_ref();
        contents == self.published || declared.is_some_and(|d| d.contents == contents)
    }

    /// Law 3, of a grant that still stands.
    pub(crate) fn granted(&self, grant: &Grant) -> Result<(), Violation> {
        let restored = self.own.state() == State::Exclusive && self.version > self.good;
        if grant.backing != self.backing || grant.version != self.good && !restored {
            return broken(GRANTS, format!("{grant:?} where {} is good", self.good));
        }
        Ok(())
    }

    /// Law 3, of what was read while a lease stood.
    pub(crate) fn judge(&self, read: &[u8]) -> Result<(), Violation> {
        compare(read, &self.published, self.good)
    }

    /// Law 4, of what somebody was told.
    pub(crate) fn told(&self, last_good: u64) -> Result<(), Violation> {
        if last_good == self.good {
            return Ok(());
        }
        broken(LAST_GOOD, format!("{last_good} where {} is", self.good))
    }

    /// Law 5, of a thread that has slept since the event was `seen` until the cap or its deadline.
    pub(crate) fn slept_through(&self, line: &Descriptor, seen: u32) -> Result<(), Violation> {
        let owed = !self.owing.is_empty() || !self.dead_owing.is_empty();
        if owed || self.own.has_waiters() || line.event.load(Relaxed) != seen {
            return Ok(());
        }
        broken(WAKING, format!("asleep where the word is {:?}", self.own))
    }

    /// `thread` has moved the event and wakes who sleeps.
    pub(crate) fn woken(&mut self, thread: usize) {
        self.owing.retain(|other| *other != thread);
    }

    /// `thread` died.
    pub(crate) fn died(&mut self, thread: usize) {
        if self.owing.contains(&thread) {
            self.woken(thread);
            self.dead_owing.push(thread);
        }
    }

    /// The daemon has roused who sleeps, after the deaths of all for whom `of` says so.
    pub(crate) fn roused(&mut self, of: impl Fn(usize) -> bool) {
        self.dead_owing.retain(|thread| !of(*thread));
    }

    /// When all is over: nobody holds it or asks for it, and memory has what was published.
    pub(crate) fn ended(&self, memory: &Memory) -> Result<(), Violation> {
        if !matches!(self.own.state(), State::Free | State::Lost) || self.own.is_recalled() {
            return broken(
                "at the end every unit is free or lost",
                format!("{:?}", self.own),
            );
        }
        if self.own.state() == State::Free {
            compare(&memory.unit(self.backing), &self.published, self.good)?;
        }
        Ok(())
    }
}

/// Law 3.
pub(crate) fn compare(read: &[u8], right: &[u8], version: u64) -> Result<(), Violation> {
    let wrong = read
        .iter()
        .zip(right)
        .position(|(read, right)| read != right);
    match wrong {
        None if read.len() == right.len() => Ok(()),
        at => broken(
            CONTENTS,
            format!("byte {at:?} is another one than that of version {version}"),
        ),
    }
}

fn holder(own: Own) -> Option<Slot> {
    Slot::members().find(|slot| own.holders() == slot.bit())
}

fn every(holders: u32, is_gone: impl Fn(Slot) -> bool) -> bool {
    Slot::members()
        .filter(|slot| holders & slot.bit() != 0)
        .all(is_gone)
}
