//! Operators' questions: what can be read is answered at once, changes become commands, and what
//! takes time is done on a thread of its own.

use std::fmt;

use pool_core::clock;
use pool_core::sync::{Arc, thread};
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

/// Looks at the platform; takes milliseconds.
#[derive(Clone)]
pub struct Doctor(Arc<dyn Fn() -> DoctorReport + Send + Sync>);

impl Doctor {
    /// One that looks by `examine`.
    pub fn new(examine: impl Fn() -> DoctorReport + Send + Sync + 'static) -> Self {
        Self(Arc::new(examine))
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
            Query::Doctor => return self.examine(question),
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
    /// as it must be.
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
        report.balanced = report.findings.is_empty();
        report
    }

    fn examine(&self, question: Question) {
        let doctor = self.doctor.clone();
        let examined = thread::Builder::new()
            .name("doctor".to_owned())
            .spawn(move || question.reply(Ok(Answer::Doctor((doctor.0)()))));
        if let Err(error) = examined {
            // The question went with the thread that was not to be: its asker is told that nobody
            // answers.
            tracing::error!(%error, "no thread for the doctor");
        }
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
