//! Operators' questions: what can be read is answered at once, changes become commands, and what
//! takes time is done on a thread of its own.

use std::fmt;

use pool_core::sync::{Arc, Mutex, lock, thread};
use pool_core::{Nanos, clock};
use pool_proto::admin::v1::{
    CheckReport, DoctorReport, ListClientsReply, ListDevicesReply, ListTenantsReply,
    ListTiersReply, Status,
};
use pool_proto::common::v1::Error;

use super::{Reactor, ReactorError};
use crate::device::identity::verify;
use crate::engine::command::Command;
use crate::engine::{Refusal, Visible};
use crate::server::handle::{Answer, Caller, Query, Question};

/// For so long everybody is told what was found last.
const FINDINGS_LAST: Nanos = Nanos::from_millis(1_000);

/// Looks at the platform; takes milliseconds. Anybody may ask, so there is one look at a time, on
/// one thread, and what it finds is the answer to all who asked meanwhile or ask soon.
#[derive(Clone)]
pub struct Doctor {
    examine: Arc<dyn Fn() -> DoctorReport + Send + Sync>,
    practice: Arc<Mutex<Practice>>,
}

#[derive(Debug, Default)]
struct Practice {
    /// Those who wait for the look that is under way; `None` while there is none.
    waiting: Option<Vec<Question>>,
    last: Option<(Nanos, DoctorReport)>,
}

impl Doctor {
    /// One that looks by `examine`.
    pub fn new(examine: impl Fn() -> DoctorReport + Send + Sync + 'static) -> Self {
        Self {
            examine: Arc::new(examine),
            practice: Arc::default(),
        }
    }

    fn ask(&self, question: Question) {
        let mut practice = lock(&self.practice);
        if let Some(waiting) = &mut practice.waiting {
            waiting.retain(|question| !question.answer.is_closed());
            return waiting.push(question);
        }
        if let Some((found_at, report)) = &practice.last
            && clock::now().saturating_since(*found_at) < FINDINGS_LAST
        {
            return question.reply(Ok(Answer::Doctor(report.clone())));
        }
        practice.waiting = Some(vec![question]);
        drop(practice);
        let doctor = self.clone();
        let looks = move || doctor.look();
        if let Err(error) = thread::Builder::new()
            .name("doctor".to_owned())
            .spawn(looks)
        {
            tracing::error!(%error, "no thread for the doctor");
            // Dropped, they tell their askers that nobody answers.
            lock(&self.practice).waiting = None;
        }
    }

    fn look(&self) {
        let report = (self.examine)();
        let mut practice = lock(&self.practice);
        practice.last = Some((clock::now(), report.clone()));
        let waiting = practice.waiting.take();
        drop(practice);
        for question in waiting.into_iter().flatten() {
            question.reply(Ok(Answer::Doctor(report.clone())));
        }
    }
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doctor")
    }
}

impl Reactor {
    pub(super) fn take_questions(&mut self) -> Result<(), ReactorError> {
        for question in self.inbox.drain()? {
            self.answer_question(question);
        }
        Ok(())
    }

    fn answer_question(&mut self, question: Question) {
        if self.journal_down_until.is_some() && matches!(question.query, Query::Operate(_)) {
            return question.reply(Err(Error::from(&Refusal::Journal)));
        }
        let visible = visible(question.caller);
        let answer = match &question.query {
            Query::Status => Answer::Status(self.status()),
            Query::Tiers => Answer::Tiers(ListTiersReply {
                tiers: self.engine.tiers(),
            }),
            Query::Devices => Answer::Devices(ListDevicesReply {
                devices: self.engine.devices(),
            }),
            Query::Segments(ask) => Answer::Segments(self.engine.segments(visible, ask)),
            Query::Tenants => Answer::Tenants(ListTenantsReply {
                tenants: self.engine.tenants(visible),
            }),
            Query::Clients => Answer::Clients(ListClientsReply {
                clients: self.engine.clients(visible),
            }),
            Query::Check => Answer::Check(self.check()),
            Query::Doctor => return self.doctor.ask(question),
            Query::Topology | Query::CreateRegion(_) | Query::DestroyRegion(_) => {
                return self.ask_of_regions(question);
            }
            Query::Operate(operation) => {
                let (ticket, operation) = (self.next_ticket(), operation.clone());
                self.questions.insert(ticket, question);
                return self.step(Command::Operate { ticket, operation });
            }
        };
        question.reply(Ok(answer));
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            journal_durability: self.journal.durability().to_owned(),
            descriptor_store: self.files.store_kind().to_owned(),
            ..self.engine.status(clock::now())
        }
    }

    /// The engine's accounting, and each file against it: it is there, the right one, and as long
    /// as it must be. And every domain: its words are held by members, and by nobody else.
    fn check(&self) -> CheckReport {
        let mut report = self.engine.check();
        for backing in self.engine.backing_ids() {
            let (Some(expected), Some(file)) =
                (self.engine.expected(backing), self.files.master(backing))
            else {
                continue; // Being built, awaited, or proven gone and being destroyed.
            };
            if let Err(wrong) = verify(file, expected.identity, expected.bytes, expected.sealed) {
                report.findings.push(format!(
                    "the file of {backing} is not as it was built: {wrong}"
                ));
            }
        }
        self.check_domains(&mut report);
        report.balanced = report.findings.is_empty();
        report
    }
}

fn visible(caller: Caller) -> Visible {
    if caller.operator {
        Visible::All
    } else {
        Visible::OfUser {
            uid: caller.uid,
            gid: caller.gid,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use pool_core::clock::Deadline;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn there_is_one_look_at_a_time_and_all_are_told_what_it_found() {
        let (begin, begun) = mpsc::channel::<()>();
        let begun = Mutex::new(begun);
        let looks = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&looks);
        let doctor = Doctor::new(move || {
            *lock(&counted) += 1;
            // Once the test holds nobody up any more, there is nothing to wait for.
            let _held_up = lock(&begun).recv();
            DoctorReport::default()
        });
        let ask = || {
            let (answer, answered) = oneshot::channel();
            doctor.ask(Question {
                caller: Caller::REMOTE_OPERATOR,
                query: Query::Doctor,
                until: Deadline::NEVER,
                answer,
            });
            answered
        };
        let mut asked: Vec<_> = (0..100).map(|_| ask()).collect();
        drop(begin);
        let first = asked.remove(0).blocking_recv().unwrap();
        for answered in asked {
            assert_eq!(answered.blocking_recv().unwrap(), first);
        }
        assert_eq!(*lock(&looks), 1);
        // Whoever asks later is answered too, from this look or another one.
        assert_eq!(ask().blocking_recv().unwrap(), first);
    }
}
