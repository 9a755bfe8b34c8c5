//! A client that asks once, and how it takes what comes for an answer.

use std::collections::BTreeSet;
use std::path::Path;

use pool_core::Nanos;
use pool_core::packet::PacketError;
use pool_proto::common::v1::{ErrorClass, ErrorReason};
use pool_proto::session::v1::request;
use tierpool_tests::asker::Tally;
use tierpool_tests::client::{Answer, Session, Unanswered, ask};
use tierpool_tests::until;

use super::known::{Holds, Known};

/// How long somebody waits who takes no answer for one.
const BRIEFLY: Nanos = Nanos::from_millis(250);
/// How long, after so many answers in a row that did not come: all is asked for still, and what
/// comes later than that is in doubt like what does not come at all.
const HARDLY: Nanos = Nanos::from_millis(10);
const LATE_MAX: u64 = 2;
/// How long somebody waits who must be answered.
const LONG: Nanos = Nanos::from_millis(120_000);

/// How it went.
pub(crate) enum Asked {
    Done(Box<Answer>),
    /// Nothing was changed.
    Refused,
    /// Nobody knows whether it was done.
    InDoubt,
    /// Nobody was asked.
    LeftOut,
}

/// How everybody asks at the moment, and how it went so far.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    /// Everything must be done.
    pub(crate) insists: bool,
    /// Something is in doubt: who asks for it may be told that it is not there, or there already.
    pub(crate) doubts: bool,
    /// Who asks was left without an answer before, to what may be on its way still.
    pub(crate) was_unanswered: bool,
    /// It may have got files that nobody but the daemon has, where the store failed as well: then
    /// they are waited for in vain. Who gave the order decides whether that may be.
    pub(crate) awaits: bool,
    /// How often in a row this daemon has not answered.
    pub(crate) late: u64,
    pub(crate) tally: Tally,
}

impl Manner {
    fn patience(&self) -> Nanos {
        match self.insists {
            true => LONG,
            false if self.late < LATE_MAX => BRIEFLY,
            false => HARDLY,
        }
    }

    fn take<T>(&mut self, what: &str, outcome: Result<T, Unanswered>) -> Option<Result<T, ()>> {
        if let (true, Err(error)) = (self.insists, &outcome) {
            let is_awaited = matches!(error, Unanswered::Refused(error)
                if error.reason() == ErrorReason::Busy);
            assert!(is_awaited && self.awaits, "{what}: {error}");
        }
        if !matches!(outcome, Err(Unanswered::Gone(PacketError::TimedOut))) {
            self.late = 0;
        }
        match outcome {
            Ok(answer) => {
                self.tally.done += 1;
                Some(Ok(answer))
            }
            Err(Unanswered::Refused(error)) => {
                use ErrorReason::{Busy, InUse, NameTaken, NotFound, OutOfOrder};
                let blames = [ErrorClass::Exhausted, ErrorClass::Unreachable];
                let follows = [NameTaken, NotFound, InUse].contains(&error.reason());
                let is_early = self.was_unanswered && error.reason() == OutOfOrder;
                assert!(
                    blames.contains(&error.class())
                        || error.reason() == Busy
                        || (self.doubts && follows)
                        || is_early,
                    "{what}: {error:?}"
                );
                let reason = error.reason().as_str_name().to_owned();
                *self.tally.refused.entry(reason).or_default() += 1;
                Some(Err(()))
            }
            Err(Unanswered::Gone(PacketError::TimedOut)) => {
                self.late += 1;
                self.tally.late += 1;
                None
            }
            Err(Unanswered::Gone(_)) => {
                self.tally.ended += 1;
                None
            }
        }
    }
}

/// A client, with a connection or without.
#[derive(Debug)]
pub(crate) struct Client {
    session: Session,
    pub(crate) is_connected: bool,
    /// It asked, and has had no answer to anything since.
    is_unanswered: bool,
    /// What it holds that it did not make.
    pub(crate) holds: Holds,
}

impl Client {
    pub(crate) fn attach(socket: &Path, label: &str, manner: &mut Manner) -> Option<Self> {
        let attached = Session::attach_within(socket, label, "asker", manner.patience());
        let session = manner.take("attach", attached)?.ok()?;
        Some(Self {
            session,
            is_connected: true,
            is_unanswered: false,
            holds: Holds::default(),
        })
    }

    pub(crate) fn tenant(&self) -> String {
        self.session.tenant().to_owned()
    }

    /// Comes back, where it has lost its connection, with what it holds of what the daemon misses.
    /// `known` is what the owner knows, who has made everything.
    pub(crate) fn is_back(&mut self, known: Option<&Known>, manner: &mut Manner) -> bool {
        self.session.set_patience(manner.patience());
        if self.is_connected {
            return true;
        }
        let back = self.session.reattach();
        let Some(Ok(back)) = manner.take("reattach", back) else {
            return false;
        };
        self.is_connected = true;
        let held: BTreeSet<u64> = back.held.iter().map(|held| held.segment_id).collect();
        let Some(known) = known else {
            self.holds.are(&held, manner.insists);
            return true;
        };
        known.are_held(&held);
        for backing in back.missing_backings {
            if let Some(file) = known.file(backing) {
                let supplied = self.session.supply(backing, file);
                if manner.take("supply", supplied).is_none() {
                    self.is_connected = false;
                    return false;
                }
            }
        }
        true
    }

    pub(crate) fn ask(
        &mut self,
        body: request::Body,
        known: Option<&Known>,
        manner: &mut Manner,
    ) -> Asked {
        if !self.is_back(known, manner) {
            manner.tally.left_out += 1;
            return Asked::LeftOut;
        }
        let what = format!("{body:?}");
        let answer = if manner.insists {
            self.insists_on(&what, &body)
        } else {
            self.session.try_ask(body)
        };
        manner.was_unanswered = self.is_unanswered;
        match manner.take(&what, answer) {
            Some(Ok(answer)) => {
                self.is_unanswered = false;
                Asked::Done(Box::new(answer))
            }
            Some(Err(())) => Asked::Refused,
            None => {
                self.is_connected = false;
                self.is_unanswered = true;
                Asked::InDoubt
            }
        }
    }

    /// Asks again where there is no memory: what was freed comes back once it is proven that nobody
    /// has it mapped.
    fn insists_on(&mut self, what: &str, body: &request::Body) -> Result<Answer, Unanswered> {
        until(what, || match self.session.try_ask(body.clone()) {
            Err(Unanswered::Refused(error)) if error.class() == ErrorClass::Exhausted => None,
            answer => Some(answer),
        })
    }

    /// Asks for what may be refused, whoever insists; the caller judges it.
    pub(crate) fn tries(&mut self, body: request::Body) -> Result<Answer, Unanswered> {
        self.session.try_ask(body)
    }

    /// Lets go of everything that it did not make.
    pub(crate) fn lets_go(&mut self, manner: &mut Manner) {
        for id in self.holds.all() {
            if let Asked::Done(_) = self.ask(ask::close(id), None, manner) {
                self.holds.is_closed(id);
            }
        }
    }
}
