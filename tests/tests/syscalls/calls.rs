//! Requests and operators' calls that are insisted on: refused or left without an answer, they are
//! made again, until they are done.

use std::cell::RefCell;
use std::rc::Rc;

use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};
use pool_proto::session::v1::{reply, request};
use tierpool_tests::admin::Admin;
use tierpool_tests::client::{Answer, Held, Session, Unanswered, ask, granted};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::until;
use tonic::{Code, Status};

/// What a failing world may cost one client or operator: refusals that say whose fault it is.
#[derive(Debug, Default, Clone)]
pub(crate) struct Costs(Rc<RefCell<Vec<Error>>>);

impl Costs {
    /// Takes a refusal down, which must blame the world and not the asker.
    fn refused(&self, error: Error) {
        let blames = [ErrorClass::Exhausted, ErrorClass::Unreachable];
        assert!(blames.contains(&error.class()), "{error:?}");
        self.0.borrow_mut().push(error);
    }

    fn refused_operator(status: &Status) {
        let blames = [Code::ResourceExhausted, Code::Unavailable];
        assert!(blames.contains(&status.code()), "{status:?}");
    }

    /// One failed call spoils one answer. While a failed journal is taken up again, every change is
    /// refused, however fast they come.
    pub(crate) fn are_bounded(&self) {
        let costs = self.0.borrow();
        let others = costs
            .iter()
            .filter(|error| error.reason() != ErrorReason::JournalFailed);
        assert!(others.count() <= 1, "{costs:#?}");
    }
}

/// A client that does not give up.
#[derive(Debug)]
pub(crate) struct Client {
    session: Session,
    costs: Costs,
}

impl Client {
    pub(crate) fn attach(daemon: &Daemon, label: &str, costs: &Costs) -> Self {
        let socket = daemon.session_socket();
        let session = until("a client is attached", || {
            match Session::attach(&socket, label, "syscalls") {
                Ok(session) => Some(session),
                Err(Unanswered::Refused(error)) => {
                    costs.refused(error);
                    None
                }
                Err(Unanswered::Gone(_)) => None,
            }
        });
        let costs = costs.clone();
        Self { session, costs }
    }

    pub(crate) fn tenant(&self) -> String {
        self.session.tenant().to_owned()
    }

    /// Asks until the answer is no refusal: under a new id after a refusal, which changed nothing,
    /// and under the same one after a lost connection, which says nothing.
    pub(crate) fn insist(&mut self, body: &request::Body) -> Answer {
        let mut id = self.session.next_id();
        until("a request is answered", || {
            match self.session.ask_as(id, body.clone()) {
                Ok(answer) => return Some(answer),
                Err(Unanswered::Refused(error)) => {
                    self.costs.refused(error);
                    id = self.session.next_id();
                }
                Err(Unanswered::Gone(_)) => self.come_back(),
            }
            None
        })
    }

    fn come_back(&mut self) {
        until("a client is back", || match self.session.reattach() {
            Ok(_) => Some(()),
            Err(Unanswered::Refused(error)) => {
                self.costs.refused(error);
                None
            }
            Err(Unanswered::Gone(_)) => None,
        });
    }

    pub(crate) fn granted(&mut self, body: &request::Body) -> Held {
        granted(self.insist(body))
    }

    pub(crate) fn done(&mut self, body: &request::Body) {
        let answer = self.insist(body);
        assert!(matches!(answer.body, reply::Body::Done(_)), "{answer:?}");
    }

    /// The ids of all that the client's tenant sees.
    pub(crate) fn sees(&mut self) -> Vec<u64> {
        let reply::Body::Listed(listed) = self.insist(&ask::list()).body else {
            panic!("a list was asked for");
        };
        listed.segments.iter().map(|s| s.segment_id).collect()
    }

    /// Ends the session. Who is not known any more has ended it already.
    pub(crate) fn detach(mut self) {
        let id = self.session.next_id();
        until("a client is detached", || {
            match self.session.ask_as(id, ask::detach()) {
                Ok(_) => return Some(()),
                Err(Unanswered::Refused(error)) => self.costs.refused(error),
                Err(Unanswered::Gone(_)) => match self.session.reattach() {
                    Err(Unanswered::Refused(error))
                        if error.reason() == ErrorReason::UnknownClient =>
                    {
                        return Some(());
                    }
                    Err(Unanswered::Refused(error)) => self.costs.refused(error),
                    Ok(_) | Err(Unanswered::Gone(_)) => {}
                },
            }
            None
        });
    }
}

/// Makes an operators' call until it is done.
pub(crate) fn operate<T>(
    daemon: &Daemon,
    mut call: impl FnMut(&mut Admin) -> Result<T, Status>,
) -> T {
    let mut admin = daemon.admin();
    until("an operators' call is answered", || {
        match call(&mut admin) {
            Ok(answer) => Some(answer),
            Err(status) => {
                Costs::refused_operator(&status);
                None
            }
        }
    })
}
