//! Who speaks for a device that is plugged in and pulled while the daemon runs: takes what is there
//! into the pool, says what is gone or damaged, and gives it back once an operator has taken it
//! out.
//!
//! A [`Plug`] is asked what is to be said to the engine [next](Plug::next); it looks at its
//! [`Hardware`] for that. What the engine has let go of is [told](Plug::withdrawn) to it.
//!
//! ```text
//!            take                       an operator removes it
//!  Absent ---------->  There  ------------------------------------->  Leaving
//!     ^                  |  ^                                            |   give back
//!     |    it is pulled  |  |  it is in use, or activated meanwhile      v
//!     +------------------+  +-----------------------------------------  Left
//!     ^                                                                  |
//!     +------------------------------------------------------------------+  it is activated
//! ```
//!
//! # Invariants
//! 1. The engine hears that all is gone before it hears of what comes in its place.
//! 2. Nothing is given back that the engine has not let go of, durably.
//! 3. What is damaged is told before anything of it can be granted: nothing is while that is not
//!    known.
//! 4. The hardware is looked at once in a round, and a round ends in a rest.

use std::collections::VecDeque;

use pool_core::{Extents, Nanos, planted};

use crate::device::SetupError;
use crate::engine::command::Capacity;
use crate::engine::{Demand, Run};

/// From one look at the hardware to the next.
const POLL: Nanos = Nanos::from_millis(250);
/// The most from one look for what is not there to the next: it grows from [`POLL`].
const SELDOM: Nanos = Nanos::from_millis(1_000);
/// After the kernel refused something, until it is tried again.
const RETRY: Nanos = Nanos::from_millis(5_000);

/// What may be there or not.
pub trait Hardware {
    /// Takes it for this daemon. Where it is had already nothing happens.
    ///
    /// # Errors
    /// Where it is not there, or cannot be had. Nothing has changed then.
    fn take(&self) -> Result<(), SetupError>;

    /// Whether what was taken is there still.
    fn is_there(&self) -> bool;

    /// It is not: nothing of it is had any more.
    fn forget(&self);

    /// Lets go of it, nothing of which is in use.
    ///
    /// # Errors
    /// Where somebody uses it still. It is had as before.
    fn give_back(&self) -> Result<(), SetupError>;

    /// All extents that hold a line whose content was lost. Once they are known they are known for
    /// as long as it is there.
    ///
    /// # Errors
    /// Why they are not known yet.
    fn damaged(&self) -> Result<Vec<Run>, SetupError>;
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Say it to the engine.
    Say(Capacity),
    /// Nothing before this time, unless the demand changes or something is withdrawn.
    Rest(Nanos),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    There,
    /// The engine was asked to let go.
    Leaving,
    Left,
}

/// See the module.
#[derive(Debug)]
pub struct Plug {
    extents: Extents,
    state: State,
    /// Why nothing of it is there, as the engine has heard it.
    told_absent: Option<String>,
    /// What is damaged, as the engine has heard it; nothing while that is not known, and nothing is
    /// granted.
    told_damaged: Option<Vec<Run>>,
    /// Why that is not known, as the engine has heard it.
    told_unknown: Option<String>,
    /// To be said first, in order.
    says: VecDeque<Capacity>,
    /// The hardware is not looked at before.
    look_at: Nanos,
    /// It is not tried to have or to leave it before.
    try_at: Nanos,
    /// How long after it was not there.
    pause: Nanos,
    withdrawn: Option<Vec<Run>>,
}

impl Plug {
    /// Of a device that has so many extents while it is there.
    #[must_use]
    pub const fn new(extents: Extents) -> Self {
        Self {
            extents,
            state: State::Absent,
            told_absent: None,
            told_damaged: None,
            told_unknown: None,
            says: VecDeque::new(),
            look_at: Nanos::ZERO,
            try_at: Nanos::ZERO,
            pause: POLL,
            withdrawn: None,
        }
    }

    /// The engine has let go of these.
    pub fn withdrawn(&mut self, runs: Vec<Run>) {
        self.withdrawn = Some(runs);
    }

    /// What is to be done at this time, as the engine's demand is now.
    pub fn next(&mut self, now: Nanos, demand: &Demand, hardware: &dyn Hardware) -> Do {
        if let Some(word) = self.says.pop_front() {
            return Do::Say(word);
        }
        let is_let_go = self.state == State::Leaving && self.withdrawn.take().is_some();
        if is_let_go && demand.removed {
            self.leave(now, demand, hardware);
        } else if now >= self.look_at || demand.removed != self.is_out() {
            self.look_at = now.saturating_add(POLL);
            self.look(now, demand, hardware);
        }
        match self.says.pop_front() {
            Some(word) => Do::Say(word),
            None => Do::Rest(self.look_at),
        }
    }

    /// Whether it is on its way out of the pool, or out of it.
    const fn is_out(&self) -> bool {
        matches!(self.state, State::Leaving | State::Left)
    }

    fn look(&mut self, now: Nanos, demand: &Demand, hardware: &dyn Hardware) {
        match self.state {
            State::Absent => self.come(now, demand, hardware),
            State::Left if !demand.removed => {
                self.state = State::Absent;
                self.come(now, demand, hardware);
            }
            State::Left => {}
            State::There | State::Leaving if !hardware.is_there() => {
                hardware.forget();
                self.state = State::Absent;
                self.say_gone("it was pulled, or its driver has let go of it");
            }
            State::There => self.stay(now, demand, hardware),
            // It was activated meanwhile: what the engine let go of is there.
            State::Leaving if !demand.removed => self.say_there(hardware),
            // The engine has not heard, or its word was lost: it is asked again.
            State::Leaving => self.ask_to_let_go(),
        }
    }

    fn come(&mut self, now: Nanos, demand: &Demand, hardware: &dyn Hardware) {
        if demand.removed && !hardware.is_there() {
            self.state = State::Left;
            return self.say_gone("it is out of the pool");
        }
        if now < self.try_at {
            return;
        }
        match hardware.take() {
            Ok(()) => self.say_there(hardware),
            Err(why) => {
                let pause = if why.is_absence() { self.pause } else { RETRY };
                self.try_at = now.saturating_add(pause);
                self.pause = self.pause.saturating_add(self.pause).min(SELDOM);
                self.say_gone(&why.to_string());
            }
        }
    }

    fn stay(&mut self, now: Nanos, demand: &Demand, hardware: &dyn Hardware) {
        self.tell_damage(hardware);
        if demand.removed && now >= self.try_at {
            self.ask_to_let_go();
        }
    }

    /// All of it is there.
    fn say_there(&mut self, hardware: &dyn Hardware) {
        (self.state, self.pause) = (State::There, POLL);
        (self.withdrawn, self.told_absent) = (None, None);
        (self.told_damaged, self.told_unknown) = (None, None);
        let all = self.all();
        self.says.push_back(Capacity::Present(all));
        self.tell_damage(hardware);
    }

    /// Tells what is damaged, and the first time that all else may be granted.
    fn tell_damage(&mut self, hardware: &dyn Hardware) {
        let is_first = self.told_damaged.is_none();
        match hardware.damaged() {
            Ok(damaged) => self.say_damaged(damaged),
            Err(_) if is_first && planted!("plug.grants_what_may_be_damaged") => {
                self.say_damaged(Vec::new());
            }
            Err(why) if is_first => self.say_unknown(why.to_string()),
            // What was known is so still.
            Err(_) => {}
        }
    }

    fn say_damaged(&mut self, damaged: Vec<Run>) {
        let before = self.told_damaged.replace(damaged.clone());
        let is_first = before.is_none();
        if before.unwrap_or_default() != damaged && !planted!("plug.keeps_damage_to_itself") {
            self.says.push_back(Capacity::Poisoned(damaged));
        }
        if is_first {
            self.says.push_back(Capacity::Reached(true));
            self.says.push_back(Capacity::Noted(String::new()));
        }
    }

    /// It is not known what is damaged, which is said once for each reason.
    fn say_unknown(&mut self, why: String) {
        if self.told_unknown.as_ref() != Some(&why) {
            self.told_unknown = Some(why.clone());
            self.says.push_back(Capacity::Reached(false));
            self.says.push_back(Capacity::Noted(why));
        }
    }

    /// Nothing of it is there, which is said once for each reason.
    fn say_gone(&mut self, why: &str) {
        if self.told_absent.as_deref() == Some(why) {
            return;
        }
        self.told_absent = Some(why.to_owned());
        if !planted!("plug.keeps_what_was_pulled") {
            self.says.push_back(Capacity::Present(Vec::new()));
        }
        self.says.push_back(Capacity::Reached(false));
        self.says.push_back(Capacity::Noted(why.to_owned()));
    }

    fn ask_to_let_go(&mut self) {
        self.state = State::Leaving;
        self.says.push_back(Capacity::Withdraw {
            unit: 1,
            most: u32::MAX,
            within: self.all(),
        });
    }

    /// The engine has let go of what was free.
    fn leave(&mut self, now: Nanos, demand: &Demand, hardware: &dyn Hardware) {
        let is_all = demand.total == Extents::ZERO || planted!("plug.gives_back_what_is_in_use");
        let given = if is_all {
            hardware.give_back().map_err(|why| why.to_string())
        } else {
            Err(format!("{} of it are in use again", demand.total.bytes()))
        };
        match given {
            Ok(()) => {
                self.state = State::Left;
                self.say_gone("it is out of the pool, and may be pulled");
            }
            Err(why) => {
                self.try_at = now.saturating_add(RETRY);
                self.say_there(hardware);
                // Why it stays, in place of that nothing is in the way.
                self.says.pop_back();
                self.says.push_back(Capacity::Noted(why));
            }
        }
    }

    fn all(&self) -> Vec<Run> {
        let (first, count) = (0, self.extents.get());
        vec![Run { first, count }]
    }
}

#[cfg(test)]
mod tests;
