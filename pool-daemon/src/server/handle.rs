//! How the servers, which are asynchronous, reach the one thread that owns the engine.
//!
//! [`Handle`] is the servers' end and [`Inbox`] the reactor's. A question goes into a bounded queue
//! and an eventfd wakes the reactor, which polls it beside its sockets; the answer comes back
//! through a channel of its own. Events flow the other way and never hold the reactor up.
//!
//! # Invariants
//! 1. A question is pushed before the eventfd is written, and the eventfd is cleared before the
//!    queue is emptied: a question is never in the queue without a wake-up on its way.
//! 2. The queue holds at most [`QUESTIONS_MAX`] questions; one more is refused at once. The last
//!    [`FOR_OPERATORS`] places are operators' alone, whom nobody else can keep out.
//! 3. A question whose asker has gone (it timed out, or it hung up) never reaches the engine, so
//!    what was reported as "not answered" before it was taken out of the queue was not done either.
//!    What waits longer behind the engine has [`Question::until`]: what has not begun by then does
//!    not begin, and the rest of [`ANSWER_WAIT`] is there to say so.
//! 4. What only operators may ask is refused here, whichever server it came through.
//! 5. [`Inbox::publish`] never waits: a receiver that is too slow loses the oldest events and is
//!    told how many.

use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_proto::admin::v1::{
    CheckReport, CreateRegionRequest, Device, DoctorReport, ListClientsReply, ListDevicesReply,
    ListSegmentsReply, ListSegmentsRequest, ListTenantsReply, ListTiersReply, PoolEvent, Region,
    Status, Topology,
};
use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::error::ServerError;
use crate::engine::command::Operation;

/// The most questions that wait for the engine at once.
pub const QUESTIONS_MAX: usize = 1024;

/// Places in the queue that only operators may take.
pub const FOR_OPERATORS: usize = 256;
/// The most questions that are taken out of the queue at once: clients have their turn in between.
pub const TAKEN_AT_ONCE_MAX: usize = 32;

/// How long whoever asks waits for the answer: less than the whole call may take, so that it is
/// this daemon that explains what happened.
pub const ANSWER_WAIT: Nanos = Nanos::from_millis(9_000);
/// When an answer has to be on its way to get there before.
const ANSWERED_WITHIN: Nanos = Nanos::new(ANSWER_WAIT.get() - 1_000_000_000);

/// Who asks, as its transport has proven it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Whether it may see every tenant and change things.
    pub operator: bool,
}

impl Caller {
    /// Somebody on another machine, with a certificate that was verified: an operator whose user
    /// and group are those of nobody here (the kernel gives out no id of all ones).
    pub const REMOTE_OPERATOR: Self = Self {
        uid: u32::MAX,
        gid: u32::MAX,
        operator: true,
    };
}

/// What is asked of the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// The pool in one message.
    Status,
    /// Every tier.
    Tiers,
    /// Every device.
    Devices,
    /// Segments of the tenants the caller may see.
    Segments(ListSegmentsRequest),
    /// The tenants the caller may see.
    Tenants,
    /// Clients of the tenants the caller may see.
    Clients,
    /// Full accounting. It walks every extent and names every tenant: for operators only.
    Check,
    /// The paths of the platform.
    Doctor,
    /// A change. For operators only.
    Operate(Operation),
    /// CXL memory as the kernel shows it, with addresses that it shows root alone: for operators
    /// only.
    Topology,
    /// Another region of CXL memory. For operators only.
    CreateRegion(CreateRegionRequest),
    /// A region less, by its name. For operators only.
    DestroyRegion(String),
}

impl Query {
    fn for_operators_only(&self) -> bool {
        match self {
            Self::Check | Self::Operate(_) => true,
            Self::Topology | Self::CreateRegion(_) | Self::DestroyRegion(_) => true,
            Self::Status | Self::Tiers | Self::Devices | Self::Doctor => false,
            Self::Segments(_) | Self::Tenants | Self::Clients => false,
        }
    }
}

/// The answer to the query of the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Query::Status`].
    Status(Status),
    /// To [`Query::Tiers`].
    Tiers(ListTiersReply),
    /// To [`Query::Devices`].
    Devices(ListDevicesReply),
    /// To [`Query::Segments`].
    Segments(ListSegmentsReply),
    /// To [`Query::Tenants`].
    Tenants(ListTenantsReply),
    /// To [`Query::Clients`].
    Clients(ListClientsReply),
    /// To [`Query::Check`].
    Check(CheckReport),
    /// To [`Query::Doctor`].
    Doctor(DoctorReport),
    /// To [`Query::Operate`]: the device as it now is, where there is one.
    Operated(Option<Device>),
    /// To [`Query::Topology`].
    Topology(Topology),
    /// To [`Query::CreateRegion`]: the region as it now is.
    Region(Region),
    /// To [`Query::DestroyRegion`].
    RegionDestroyed,
}

/// One question on its way to the engine.
#[derive(Debug)]
pub struct Question {
    /// Who asks. The engine's view shows it nothing else than it may see.
    pub caller: Caller,
    /// What is asked.
    pub query: Query,
    /// When its answer has to be on its way, for its asker to be there still.
    pub until: Deadline,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Answer, Error>>,
}

impl Question {
    /// Answers. Where the asker has gone meanwhile, nobody hears it.
    pub fn reply(self, answer: Result<Answer, Error>) {
        // The one way to fail is that the asker has gone, and then there is nobody to tell.
        drop(self.answer.send(answer));
    }
}

/// The servers' end. Clones reach the same engine.
#[derive(Debug, Clone)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
    wake: Arc<EventFd>,
    // Weak, so that streams end when the reactor does.
    events: broadcast::WeakSender<PoolEvent>,
}

/// The reactor's end.
#[derive(Debug)]
pub struct Inbox {
    questions: mpsc::Receiver<Question>,
    wake: Arc<EventFd>,
    events: broadcast::Sender<PoolEvent>,
}

impl Handle {
    /// Both ends. `events_max` is how many events a slow receiver may be behind before it loses
    /// the oldest (rounded up to a power of two).
    ///
    /// # Errors
    /// Where the machine gives out no eventfd.
    pub fn new(events_max: NonZeroU16) -> Result<(Self, Inbox), ServerError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake =
            EventFd::from_value_and_flags(0, flags).map_err(|errno| ServerError::EventFd {
                errno: errno as i32,
            })?;
        let wake = Arc::new(wake);
        let (asks, questions) = mpsc::channel(QUESTIONS_MAX);
        let (events, _) = broadcast::channel(usize::from(events_max.get()));
        let handle = Self {
            questions: asks,
            wake: Arc::clone(&wake),
            events: events.downgrade(),
        };
        let inbox = Inbox {
            questions,
            wake,
            events,
        };
        Ok((handle, inbox))
    }

    /// Asks the engine, and waits for its answer without holding the thread.
    ///
    /// Dropping the future before the engine has taken the question withdraws it.
    ///
    /// # Errors
    /// What the engine refuses; `NOT_PERMITTED` where only operators may ask this; `EXHAUSTED`
    /// where too many questions wait; `UNREACHABLE` where the daemon is shutting down.
    pub async fn ask(&self, caller: Caller, query: Query) -> Result<Answer, Error> {
        if query.for_operators_only() && !caller.operator {
            return Err(not_permitted(caller));
        }
        if !caller.operator && self.questions.capacity() <= FOR_OPERATORS {
            return Err(too_many(QUESTIONS_MAX - FOR_OPERATORS));
        }
        let (answer, answered) = oneshot::channel();
        let question = Question {
            caller,
            query,
            until: Deadline::after(ANSWERED_WITHIN),
            answer,
        };
        self.questions
            .try_send(question)
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => too_many(QUESTIONS_MAX),
                mpsc::error::TrySendError::Closed(_) => shutting_down(),
            })?;
        wake(&self.wake).map_err(|errno| {
            unreachable(format!(
                "the engine cannot be woken ({errno}); restart the daemon"
            ))
        })?;
        answered.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    /// Every event from now on; `None` where the daemon is shutting down.
    #[must_use]
    pub fn subscribe(&self) -> Option<broadcast::Receiver<PoolEvent>> {
        self.events.upgrade().map(|events| events.subscribe())
    }
}

fn wake(event: &EventFd) -> Result<(), Errno> {
    match event.write(1) {
        // A counter that is full wakes the reactor as well as one that rises.
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl Inbox {
    /// Readable while questions wait. Poll it, and call [`Inbox::drain`] when it is.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes out questions that wait, oldest first, at most [`TAKEN_AT_ONCE_MAX`]. Where more may
    /// wait, [`Inbox::event_fd`] stays readable.
    ///
    /// # Errors
    /// Where the eventfd cannot be used: the reactor would spin on it, or sleep.
    pub fn drain(&mut self) -> Result<Vec<Question>, ServerError> {
        let failed = |errno| ServerError::EventFd {
            errno: errno as i32,
        };
        match self.wake.read() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let mut taken = Vec::new();
        for _ in 0..TAKEN_AT_ONCE_MAX {
            // Empty, or every handle is gone: nothing waits either way.
            let Ok(question) = self.questions.try_recv() else {
                return Ok(taken);
            };
            if !question.answer.is_closed() {
                taken.push(question);
            }
        }
        wake(&self.wake).map_err(failed)?;
        Ok(taken)
    }

    /// Tells every receiver, and waits for none.
    pub fn publish(&self, event: PoolEvent) {
        // It fails where nobody listens, which is no failure.
        drop(self.events.send(event));
    }
}

fn not_permitted(caller: Caller) -> Error {
    Error {
        class: ErrorClass::Caller.into(),
        reason: ErrorReason::NotPermitted.into(),
        message: format!(
            "user {} is no operator of this pool; root, the daemon's own user and the users listed \
             as operators in its configuration are: ask one of them, or become one",
            caller.uid
        ),
        ..Error::default()
    }
}

fn too_many(most: usize) -> Error {
    let most = most as u64;
    Error {
        class: ErrorClass::Exhausted.into(),
        reason: ErrorReason::Limit.into(),
        message: format!("{most} questions wait for the daemon already; ask again later"),
        limit: most,
        used: most,
        asked: 1,
    }
}

fn shutting_down() -> Error {
    unreachable("the daemon is shutting down; ask again when it is back".to_owned())
}

fn unreachable(message: String) -> Error {
    Error {
        class: ErrorClass::Unreachable.into(),
        reason: ErrorReason::Unspecified.into(),
        message,
        ..Error::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATOR: Caller = Caller {
        uid: 0,
        gid: 0,
        operator: true,
    };
    const SOMEBODY: Caller = Caller {
        uid: 1000,
        gid: 1000,
        operator: false,
    };

    fn both() -> (Handle, Inbox) {
        Handle::new(NonZeroU16::MIN.saturating_add(3)).unwrap()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    fn readable(inbox: &Inbox) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut polled = [PollFd::new(inbox.event_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn a_question_wakes_the_reactor_and_its_answer_comes_back() {
        runtime().block_on(async {
            let (handle, mut inbox) = both();
            assert!(!readable(&inbox));
            let asking = tokio::spawn(async move { handle.ask(SOMEBODY, Query::Status).await });
            tokio::task::yield_now().await;
            assert!(readable(&inbox));
            let mut questions = inbox.drain().unwrap();
            assert!(!readable(&inbox));
            assert_eq!(questions.len(), 1);
            let question = questions.remove(0);
            assert_eq!(
                (question.caller, &question.query),
                (SOMEBODY, &Query::Status)
            );
            let status = Answer::Status(Status {
                pid: 7,
                ..Status::default()
            });
            question.reply(Ok(status.clone()));
            assert_eq!(asking.await.unwrap(), Ok(status));
        });
    }

    #[test]
    fn what_only_operators_may_ask_never_reaches_the_engine_from_others() {
        runtime().block_on(async {
            let (handle, mut inbox) = both();
            for query in [
                Query::Check,
                Query::Operate(Operation::Drain("ddr0".to_owned())),
                Query::Topology,
                Query::CreateRegion(CreateRegionRequest::default()),
                Query::DestroyRegion("region0".to_owned()),
            ] {
                let refused = handle.ask(SOMEBODY, query).await.unwrap_err();
                assert_eq!(refused.reason(), ErrorReason::NotPermitted);
                assert!(refused.message.contains("operators"), "{}", refused.message);
            }
            assert!(inbox.drain().unwrap().is_empty());
        });
    }

    #[test]
    fn a_full_queue_refuses_with_its_numbers() {
        runtime().block_on(async {
            let (handle, mut inbox) = both();
            let waiting: Vec<_> = (0..QUESTIONS_MAX)
                .map(|_| {
                    let handle = handle.clone();
                    tokio::spawn(async move { handle.ask(OPERATOR, Query::Check).await })
                })
                .collect();
            while handle.questions.capacity() > 0 {
                tokio::task::yield_now().await;
            }
            let refused = handle.ask(OPERATOR, Query::Check).await.unwrap_err();
            assert_eq!(refused.class(), ErrorClass::Exhausted);
            assert_eq!(
                (refused.limit, refused.used, refused.asked),
                (1024, 1024, 1)
            );
            let mut drained = 0;
            while readable(&inbox) {
                let taken = inbox.drain().unwrap().len();
                assert!(taken <= TAKEN_AT_ONCE_MAX, "clients have their turn");
                drained += taken;
            }
            assert_eq!(drained, QUESTIONS_MAX);
            for ask in waiting {
                // Drained and dropped: as a daemon that stops does.
                assert_eq!(
                    ask.await.unwrap().unwrap_err().class(),
                    ErrorClass::Unreachable
                );
            }
        });
    }

    #[test]
    fn an_operator_is_heard_however_much_others_ask() {
        runtime().block_on(async {
            let (handle, _inbox) = both();
            let ask = |caller, query| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.ask(caller, query).await })
            };
            let _waiting: Vec<_> = (FOR_OPERATORS..QUESTIONS_MAX)
                .map(|_| ask(SOMEBODY, Query::Tiers))
                .collect();
            while handle.questions.capacity() > FOR_OPERATORS {
                tokio::task::yield_now().await;
            }
            let refused = ask(SOMEBODY, Query::Tiers).await.unwrap().unwrap_err();
            assert_eq!(refused.class(), ErrorClass::Exhausted);
            let _heard = ask(OPERATOR, Query::Check);
            while handle.questions.capacity() == FOR_OPERATORS {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn a_question_whose_asker_has_gone_is_not_asked() {
        runtime().block_on(async {
            let (handle, mut inbox) = both();
            let operation = Query::Operate(Operation::Remove("ddr0".to_owned()));
            let asking = tokio::spawn(async move { handle.ask(OPERATOR, operation).await });
            tokio::task::yield_now().await;
            asking.abort();
            assert!(asking.await.unwrap_err().is_cancelled());
            assert!(inbox.drain().unwrap().is_empty());
        });
    }

    #[test]
    fn a_daemon_that_stops_answers_that_it_does() {
        runtime().block_on(async {
            let (handle, inbox) = both();
            let waits = handle.clone();
            let asking = tokio::spawn(async move { waits.ask(OPERATOR, Query::Tiers).await });
            tokio::task::yield_now().await;
            let mut events = handle.subscribe().unwrap();
            drop(inbox);
            let gone = asking.await.unwrap().unwrap_err();
            assert_eq!(gone.class(), ErrorClass::Unreachable);
            let gone = handle.ask(OPERATOR, Query::Tiers).await.unwrap_err();
            assert_eq!(gone.class(), ErrorClass::Unreachable);
            assert_eq!(
                events.recv().await,
                Err(broadcast::error::RecvError::Closed)
            );
            assert!(handle.subscribe().is_none());
        });
    }

    #[test]
    fn a_slow_receiver_is_told_how_many_events_it_missed() {
        runtime().block_on(async {
            let (handle, inbox) = both();
            let mut events = handle.subscribe().unwrap();
            for sequence in 1..=10 {
                inbox.publish(PoolEvent {
                    sequence,
                    ..PoolEvent::default()
                });
            }
            let lagged = broadcast::error::RecvError::Lagged(6);
            assert_eq!(events.recv().await, Err(lagged));
            assert_eq!(events.recv().await.unwrap().sequence, 7);
        });
    }
}
