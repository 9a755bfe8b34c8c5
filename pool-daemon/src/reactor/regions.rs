//! Operators' questions about CXL memory, whose answers the kernel gives in its own time: one
//! thread asks it, so that the reactor never waits for it.
//!
//! # Protocol
//! The reactor hands a question over with what it needs of the engine. The thread answers what is
//! only looked at. What became of a change comes back to the reactor, which tells all operators of
//! it and answers.
//!
//! # Invariants
//! 1. One question is asked at a time, in the order in which they came, so that two changes never
//!    meet. At most [`WAITING_MAX`] wait; one more is refused.
//! 2. A question whose asker has gone is not asked, and no change begins that he could not hear of
//!    in time, however long it waits here or for another program.
//! 3. The end of the reactor waits for the change that is being made.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use nix::sys::eventfd::EventFd;
use pool_core::clock;
use pool_core::sync::{Arc, Mutex, lock, thread};
use pool_proto::admin::v1::Device;
use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};

use super::{Reactor, ReactorError};
use crate::device::regions::{Asked, Changed, Regions};
use crate::engine::{News, Refusal};
use crate::server::handle::{Answer, Query, Question};
use crate::sys;

/// Questions that wait for the kernel at once.
const WAITING_MAX: usize = 32;

/// What became of a change.
#[derive(Debug)]
struct Outcome {
    question: Question,
    result: Result<(Answer, News), Error>,
}

type Outcomes = Arc<(Mutex<Vec<Outcome>>, EventFd)>;

/// The thread, and the ways to it and back. Dropping it waits for the change that is being made.
#[derive(Debug)]
pub(super) struct RegionDesk {
    questions: Option<SyncSender<(Question, Vec<Device>)>>,
    outcomes: Outcomes,
    thread: Option<thread::JoinHandle<()>>,
}

impl RegionDesk {
    pub(super) fn start(regions: Regions) -> Result<Self, ReactorError> {
        let (questions, asked) = sync_channel(WAITING_MAX);
        let outcomes: Outcomes = Arc::new((Mutex::default(), sys::event()?));
        let theirs = Arc::clone(&outcomes);
        let thread = thread::Builder::new()
            .name("regions".to_owned())
            .spawn(move || serve(&regions, &asked, &theirs))
            .map_err(|error| sys::failed("clone", &error))?;
        Ok(Self {
            questions: Some(questions),
            outcomes,
            thread: Some(thread),
        })
    }

    /// Readable where a change has come to its end.
    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.outcomes.1.as_fd()
    }

    /// Hands a question over.
    fn ask(&self, question: Question, devices: Vec<Device>) {
        let Some(questions) = &self.questions else {
            return;
        };
        match questions.try_send((question, devices)) {
            Ok(()) => {}
            Err(TrySendError::Full((question, _))) => question.reply(Err(too_many())),
            // Dropped, it tells its asker that nobody answers.
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("the thread of regions has ended")
            }
        }
    }

    fn take(&self) -> Vec<Outcome> {
        sys::take_event(&self.outcomes.1);
        std::mem::take(&mut *lock(&self.outcomes.0))
    }
}

impl Drop for RegionDesk {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of regions panicked");
        }
    }
}

fn serve(
    regions: &Regions,
    asked: &Receiver<(Question, Vec<Device>)>,
    outcomes: &(Mutex<Vec<Outcome>>, EventFd),
) {
    for (question, devices) in asked {
        if question.answer.is_closed() {
            continue;
        }
        let by = question.caller.uid;
        let asked = Asked {
            until: question.until,
            is_awaited: &|| !question.answer.is_closed(),
        };
        let result = match &question.query {
            Query::Topology => {
                let told = regions.topology(devices).map(Answer::Topology);
                question.reply(told.map_err(|error| Error::from(&error)));
                continue;
            }
            Query::CreateRegion(wanted) => regions
                .create(wanted, asked)
                .map(|(region, made)| (Answer::Region(region), news("region-created", &made, by))),
            Query::DestroyRegion(name) => regions
                .destroy(name, asked)
                .map(|gone| (Answer::RegionDestroyed, news("region-destroyed", &gone, by))),
            // Nothing else is handed over.
            _ => continue,
        };
        let result = result.map_err(|error| Error::from(&error));
        lock(&outcomes.0).push(Outcome { question, result });
        sys::raise_event(&outcomes.1);
    }
}

fn news(kind: &'static str, changed: &Changed, by: u32) -> News {
    let who = match by {
        u32::MAX => "an operator of another machine".to_owned(),
        uid => format!("user {uid}"),
    };
    News {
        kind,
        bytes: changed.bytes,
        detail: format!("{changed}, for {who}"),
    }
}

fn too_many() -> Error {
    let most = WAITING_MAX as u64;
    Error {
        class: ErrorClass::Exhausted.into(),
        reason: ErrorReason::Limit.into(),
        message: format!("{most} questions wait for the kernel already; ask again later"),
        limit: most,
        used: most,
        asked: 1,
    }
}

impl Reactor {
    /// A question about CXL memory.
    pub(super) fn ask_of_regions(&mut self, question: Question) {
        let is_change = !matches!(question.query, Query::Topology);
        if is_change && self.journal_down_until.is_some() {
            return question.reply(Err(Error::from(&Refusal::Journal)));
        }
        self.regions.ask(question, self.engine.devices());
    }

    /// Tells of changes that were made, and answers who asked for them.
    pub(super) fn take_region_outcomes(&mut self) {
        for Outcome { question, result } in self.regions.take() {
            let answer = result.map(|(answer, news)| {
                if self.journal_down_until.is_none() {
                    let effects = self.engine.tell_operators(clock::now(), news);
                    self.absorb(effects);
                } else {
                    // This engine is of the past, and the next one knows nothing of it.
                    tracing::info!(kind = news.kind, detail = %news.detail, "not told as an event");
                }
                answer
            });
            question.reply(answer);
        }
    }
}

#[cfg(test)]
mod tests;
