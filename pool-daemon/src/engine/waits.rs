//! What an engine waits for, by kind, and how long that lasts at most.
//!
//! Each wait is for a time that the engine has set by its own clock. None is longer than its kind
//! says: whoever looks at an engine from outside holds it to that.

use pool_core::Nanos;

use super::Engine;
use super::domain::Domain;
use super::recall;

/// What time alone brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Descriptors that are missed after a restart.
    Descriptors,
    /// Burst memory that holders were asked to give back.
    Burst,
    /// Whoever waits for memory gives up: as long as it has said.
    Memory,
    /// A look at a unit that somebody waits for.
    Look,
    /// The next step of an eviction.
    Eviction,
    /// Another try of a recovery.
    Recovery,
    /// Another pass for what is held in slots of nobody.
    TakeBack,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// What.
    pub wait: Wait,
    /// When.
    pub at: Nanos,
    /// How long after it was begun that is at most; nothing where whoever asked has said so.
    pub most: Option<Nanos>,
}

impl Engine {
    /// All that is waited for.
    pub fn waits(&self) -> impl Iterator<Item = Due> + '_ {
        let tended = self.tended.iter().filter_map(|id| self.domain(*id));
        let grace = self.grace_until.map(|at| Due {
            wait: Wait::Descriptors,
            at,
            most: Some(self.plan.reattach_grace),
        });
        self.pressure_waits()
            .chain(tended.flat_map(Domain::waits))
            .chain(grace)
    }

    /// When a `Tick` is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.waits().map(|due| due.at).min()
    }
}

impl Domain {
    /// When something is due that nothing but time brings.
    fn waits(&self) -> impl Iterator<Item = Due> + use<> {
        let step = self.eviction.as_ref().filter(|_| self.may_pass());
        let step = step.and_then(super::evict::Eviction::due_at);
        let recall_time = recall::time_of(&self.terms);
        let all = [
            (Wait::Eviction, step, super::evict::FAILURE_PAUSE),
            (
                Wait::Look,
                recall::next_look(&self.recalls),
                recall::longest_pause(recall_time),
            ),
            (Wait::Recovery, self.retry_at, super::mend::RETRY_PAUSE),
            (Wait::TakeBack, self.takes_back_at, recall_time),
        ];
        let due = all.map(|(wait, at, most)| {
            let most = Some(most);
            at.map(|at| Due { wait, at, most })
        });
        due.into_iter().flatten()
    }
}
