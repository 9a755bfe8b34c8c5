//! Whose turn it is, among those who wait for a unit.
//!
//! A unit that was let go goes to whoever comes first, which is mostly the one that let it go: it
//! is awake, and has the word in its cache. That is fast, and it is how a member in a tight loop
//! would keep all others out. So one that has waited for [`GRACE`] *asks*: it recalls the unit, and
//! from then on nobody new is let in before one of those who have asked. A writer that waits for
//! readers asks at once, for readers come without any of them being kept waiting.
//!
//! Asking is one bit, and the grant that follows takes it back for all: others who asked as well
//! ask once more when they find the unit held. No order is kept among those who have asked, and
//! between a grant and the next asking somebody new may come in: nobody is promised a turn after so
//! many of others.
//!
//! One that has asked and does not come, because it is dead or stopped, keeps a free unit from
//! others for one cap of the wait, by the clock of each.

use pool_core::clock::Deadline;
use pool_core::{Nanos, planted};

use crate::own::{Own, Refused, State};
use crate::slot::Slot;
use crate::wait::WAIT_CAP;

/// How long whoever holds a unit exclusively may take it again and again while others wait.
/// Long against a sleep and a wake-up, which every forced turn costs both sides.
const GRACE: Nanos = Nanos::from_millis(1);

/// How one that waits has fared.
#[derive(Debug)]
pub(crate) struct Turn {
    slot: Slot,
    grace: Deadline,
    /// It has slept, in vain.
    slept: bool,
    /// It has recalled the unit.
    asked: bool,
    /// The word that it saw last, and until when it minds that somebody else has asked.
    left: Option<(Own, Deadline)>,
}

impl Turn {
    /// Of the member at `slot`, which begins to wait.
    pub(crate) fn new(slot: Slot) -> Self {
        Self {
            slot,
            grace: in_time(GRACE),
            slept: false,
            asked: false,
            left: None,
        }
    }

    /// Whether it has recalled the unit, and is to take that back where it gives up.
    pub(crate) const fn has_asked(&self) -> bool {
        self.asked
    }

    /// [`Own::grant_shared`], where it is its turn or not.
    pub(crate) fn shared(&self, own: Own) -> Result<Own, Refused> {
        if self.has_come(own) {
            own.grant_shared_in_turn(self.slot)
        } else {
            own.grant_shared(self.slot)
        }
    }

    /// [`Own::grant_exclusive`], where it is its turn or not.
    pub(crate) fn exclusive(&self, own: Own) -> Result<Own, Refused> {
        if self.has_come(own) {
            own.grant_exclusive_in_turn(self.slot)
        } else {
            own.grant_exclusive(self.slot)
        }
    }

    /// It has asked itself, or whoever did has left the unit as it is for a whole cap. A sleep that
    /// ended is no sign of that: it may have ended at once, by a wake-up for a change before it.
    fn has_come(&self, own: Own) -> bool {
        let expired = |(word, mind): (Own, Deadline)| word == own && mind.expired();
        self.asked || self.left.is_some_and(expired)
    }

    /// Whether it is to ask for the unit that it was `refused` while the word was `own`.
    pub(crate) fn asks(&self, own: Own, refused: Refused) -> bool {
        match (refused, own.state()) {
            (Refused::Recalled, _) => false,
            (_, State::Shared) => true,
            _ => self.slept && self.grace.expired(),
        }
    }

    /// How long it sleeps at most: not past the time to ask.
    pub(crate) fn sleeps_until(&self, until: Deadline) -> Deadline {
        if self.grace.expired() {
            until
        } else {
            until.min(self.grace)
        }
    }

    /// It has put `word` in the place of the one that it was refused, by which it `asks` or not.
    pub(crate) fn announced(&mut self, word: Own, asks: bool) {
        self.asked |= asks;
        self.slept = true;
        if self.left.is_none_or(|(left, _)| left != word) {
            self.left = Some((word, in_time(WAIT_CAP)));
        }
    }
}

/// The end of a time that begins now. Models have no clock: there the grace is over at once, and
/// nobody is ever left waiting for a cap.
fn in_time(time: Nanos) -> Deadline {
    if planted!("member.impatient") {
        return Deadline::at(Nanos::ZERO);
    }
    match (cfg!(loom), time) {
        (true, GRACE) => Deadline::at(Nanos::ZERO),
        (true, _) => Deadline::NEVER,
        (false, time) => Deadline::after(time),
    }
}
