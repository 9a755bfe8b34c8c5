//! The session: one request in flight, answered exactly once whatever happens to the daemon.
//!
//! # Protocol
//! Requests have rising ids. A connection that breaks is made anew until the deadline, by Reattach,
//! and the request is sent again with its id: the daemon has it done once and answers it from its
//! journal. A request whose deadline passed has an unknown outcome. It is kept, and whoever sends
//! next first has it answered and gives back what it brought, so that nothing is held that nobody
//! knows. It is kept until it is answered: the daemon remembers one request only, the last.
//!
//! The segment that such a request moves is suspended until then (see [`crate::held`]).
//!
//! A request is sent once on each connection, unless it was answered there. A second one could be
//! carried out when the first has been refused already, and its answer be taken for none.
//!
//! Errands, releases above all, are queued (see [`crate::table`]) and sent before the next request.
//!
//! A segment that moves, or waits after a restart of the daemon for its holders to bring its files
//! back, is `BUSY`. Both end by themselves, and a request that meets one is repeated until then.

use pool_core::clock::{Backoff, Deadline, now};
use pool_core::sync::atomic::Ordering;
use pool_core::sync::{Arc, lock};
use pool_core::{ClientId, Nanos, SegmentId};
use pool_proto::common::v1::{ErrorReason, Lifetime};
use pool_proto::session::v1::{self as session, reply, request};

use crate::connection::{Connection, Trip};
use crate::error::{Error, Reason};
use crate::event::Event;
use crate::held::Fate;
use crate::shared::Shared;
use crate::table::Errand;
use crate::wire::Answer;

mod takeup;
use takeup::Failed;
pub(crate) use takeup::liveness_page;

/// Pauses between attempts to reach the daemon.
const RETRY_FIRST: Nanos = Nanos::from_millis(1);
const RETRY_LONGEST: Nanos = Nanos::from_millis(100);
/// How long one attempt to take the session up, or to settle what was begun, may take where nobody
/// waits for it.
pub(crate) const ATTEMPT: Nanos = Nanos::from_millis(2_000);

#[derive(Debug)]
pub(crate) struct Session {
    connection: Option<Connection>,
    /// How many connections there have been.
    generation: u64,
    client: ClientId,
    token: Vec<u8>,
    next_id: u64,
    /// Whoever uses it waits for a daemon that is away, until the deadline.
    pub(crate) patient: bool,
    /// Sent, with an unknown outcome.
    unresolved: Option<Sent>,
    /// The daemon does not know the session any more.
    ended: bool,
}

#[derive(Debug)]
struct Sent {
    id: u64,
    body: request::Body,
    /// It may have been carried out without our knowledge.
    in_doubt: bool,
    /// The connection on which it was sent, and on which its answer is still to come.
    awaited_on: Option<u64>,
}

impl Sent {
    const fn new(id: u64, body: request::Body) -> Self {
        Self {
            id,
            body,
            in_doubt: false,
            awaited_on: None,
        }
    }

    /// Whether something of it may be left for nobody.
    const fn is_to_be_resolved(&self) -> bool {
        use request::Body;
        let asks_only = matches!(
            self.body,
            Body::List(_) | Body::Tiers(_) | Body::Refresh(_) | Body::Recall(_)
        );
        self.in_doubt && !asks_only
    }
}

impl Session {
    /// A session whose first request was `last_id`.
    pub(crate) fn new(
        connection: Connection,
        client: ClientId,
        token: Vec<u8>,
        last_id: u64,
    ) -> Self {
        Self {
            connection: Some(connection),
            generation: 1,
            client,
            token,
            next_id: last_id + 1,
            patient: true,
            unresolved: None,
            ended: false,
        }
    }

    pub(crate) fn call(
        &mut self,
        shared: &Arc<Shared>,
        body: request::Body,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        self.settle(shared, deadline)?;
        self.ask(shared, body, deadline)
    }

    /// Ends what was begun before: afterwards no request of before is under way.
    pub(crate) fn settle(&mut self, shared: &Arc<Shared>, deadline: Deadline) -> Result<(), Error> {
        self.resolve(shared, deadline)?;
        self.flush(shared, deadline)
    }

    /// One request and its answer, once all before it is settled.
    pub(crate) fn ask(
        &mut self,
        shared: &Arc<Shared>,
        body: request::Body,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let id = self.take_id();
        self.exchange(shared, Sent::new(id, body), deadline)
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Sends a request until it is answered.
    fn exchange(
        &mut self,
        shared: &Arc<Shared>,
        mut sent: Sent,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let start = now();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let failed = loop {
            if let Err(error) = self.connect(shared, deadline) {
                break error;
            }
            let wait = match self.trip(&mut sent, deadline) {
                Ok(answer) => match refusal(&answer) {
                    Some(ErrorReason::UnknownClient) => return Err(self.end(shared)),
                    // At the deadline it is the answer.
                    Some(ErrorReason::Busy) if backoff.pause(deadline) && !deadline.expired() => {
                        continue;
                    }
                    _ => return Ok(answer),
                },
                Err(Trip::Gone) => {
                    self.disconnect(shared);
                    self.patient && backoff.pause(deadline)
                }
                Err(Trip::NotSent | Trip::NoAnswer) => false,
                Err(Trip::Broken(error)) => {
                    self.disconnect(shared);
                    break error.into();
                }
                Err(Trip::Unsent(error) | Trip::Unreceived(error)) => break Error::Packet(error),
            };
            if !wait {
                let waited = now().saturating_since(start);
                break Error::Unreachable {
                    socket: shared.socket.clone(),
                    waited,
                };
            }
        };
        if sent.is_to_be_resolved() && !self.ended {
            self.unresolved = Some(sent);
            shared.unresolved.store(true, Ordering::Release);
            shared.wake();
        }
        Err(failed)
    }

    /// Sends a request on the connection there is, unless that has happened, and has its answer.
    fn trip(&mut self, sent: &mut Sent, deadline: Deadline) -> Result<Answer, Trip> {
        let connection = self.connection.as_mut().ok_or(Trip::Gone)?;
        if sent.awaited_on != Some(self.generation) {
            connection.send(sent.id, &sent.body, &[], deadline)?;
            (sent.in_doubt, sent.awaited_on) = (true, Some(self.generation));
        }
        let answer = connection.answer(sent.id, deadline);
        match answer {
            Ok(_) => (sent.in_doubt, sent.awaited_on) = (false, None),
            // It came, and no other one will come by itself.
            Err(Trip::Unreceived(_)) => sent.awaited_on = None,
            Err(_) => {}
        }
        answer
    }

    /// Learns the outcome of the request before, and gives back what nobody waits for any more.
    fn resolve(&mut self, shared: &Arc<Shared>, deadline: Deadline) -> Result<(), Error> {
        let Some(sent) = self.unresolved.take() else {
            return Ok(());
        };
        shared.unresolved.store(false, Ordering::Release);
        let body = sent.body.clone();
        let answer = self.exchange(shared, sent, deadline)?;
        match (body, &answer.body) {
            (request::Body::Free(ask), reply::Body::Error(_)) => {
                // It was unmapped before it was to be freed, so it is held no more.
                let id = SegmentId::new(ask.segment_id);
                lock(&shared.table).errands.extend(id.map(Errand::Close));
            }
            (body, reply::Body::Granted(_)) => {
                let grant = answer.granted(shared.window.range()).inspect_err(|_| {
                    // Where it lies now a refresh brings.
                    let moved = moved_by(&body).and_then(SegmentId::new);
                    moved.into_iter().for_each(|id| shared.postpone(id));
                })?;
                let id = grant.info.id;
                // Queued where the session was taken up in between: this answer overtook it.
                lock(&shared.table).forget_close(id);
                match shared.find(id) {
                    Some(held) => {
                        if shared.follow(&held, grant).is_err() {
                            shared.postpone(id);
                        }
                    }
                    None => lock(&shared.table).queue(unwanted(&body, id)),
                }
            }
            (request::Body::Acquire(ask), reply::Body::Acquired(_)) => {
                let id = SegmentId::new(ask.segment_id);
                let unit = id.map(|id| Errand::Unit(id, ask.unit));
                lock(&shared.table).errands.extend(unit);
            }
            (body, reply::Body::Error(_)) => {
                // It stays where it is.
                let moved = moved_by(&body).and_then(SegmentId::new);
                let held = moved.and_then(|id| shared.find(id));
                if let Some(held) = held.filter(|held| !held.resume()) {
                    shared.postpone(held.id());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells the daemon what is queued.
    fn flush(&mut self, shared: &Arc<Shared>, deadline: Deadline) -> Result<(), Error> {
        loop {
            let Some(errand) = lock(&shared.table).errands.pop_front() else {
                return Ok(());
            };
            let (id, body) = (self.take_id(), errand.request());
            let told = self
                .exchange(shared, Sent::new(id, body), deadline)
                .and_then(Answer::done);
            match told {
                // That there is nothing to release the daemon has heard otherwise.
                Ok(()) => {}
                Err(error) if error.reason() == Some(Reason::NotFound) => {}
                // So it has where the domain is not held any more, or the unit lost.
                Err(error)
                    if matches!(errand, Errand::Unit(..))
                        && matches!(error.reason(), Some(Reason::NotPermitted | Reason::Lost)) => {}
                // Whoever still waits asks again.
                Err(error) if matches!(errand, Errand::Recall(..)) && error.reason().is_some() => {}
                Err(error) if matches!(errand, Errand::Recall(..)) => return Err(error),
                Err(error) => {
                    if self.unresolved.is_none() && !self.ended {
                        lock(&shared.table).errands.push_front(errand);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Makes sure that there is a connection.
    pub(crate) fn connect(
        &mut self,
        shared: &Arc<Shared>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let start = now();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        while self.connection.is_none() {
            if self.ended {
                return Err(Error::SessionEnded);
            }
            match self.take_up(shared, deadline) {
                Ok(()) => return Ok(()),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::Now) if self.patient && backoff.pause(deadline) => {}
                Err(Failed::Now) => {
                    let waited = now().saturating_since(start);
                    return Err(Error::Unreachable {
                        socket: shared.socket.clone(),
                        waited,
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether a request that frees or moves `segment` has an outcome that will be learned, and
    /// acted upon, later.
    pub(crate) fn awaits(&self, segment: SegmentId) -> bool {
        let body = self.unresolved.as_ref().map(|sent| &sent.body);
        let meant = body.and_then(|body| match body {
            request::Body::Free(ask) => Some(ask.segment_id),
            body => moved_by(body),
        });
        meant == Some(segment.number())
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Gives the connection up, if it is the one meant.
    pub(crate) fn give_up(&mut self, shared: &Shared, generation: u64) {
        if self.generation == generation {
            self.disconnect(shared);
        }
    }

    fn disconnect(&mut self, shared: &Shared) {
        if self.connection.take().is_some() {
            shared.events.publish(&Event::DaemonGone);
            shared.wake();
        }
    }

    /// The daemon does not know the session: everything held is lost.
    fn end(&mut self, shared: &Arc<Shared>) -> Error {
        self.ended = true;
        self.connection = None;
        self.unresolved = None;
        shared.unresolved.store(false, Ordering::Release);
        for held in shared.holdings() {
            // What cannot be replaced stays mapped, and nobody accesses it.
            if held.end(Fate::Lost) != Ok(false) {
                shared.events.publish(&Event::Lost { segment: held.id() });
            }
        }
        lock(&shared.table).errands.clear();
        Error::SessionEnded
    }

    /// Gives back what nobody else knows of, before the session ends: the daemon closes what is
    /// held by itself, but what was created persistent stays.
    pub(crate) fn give_back(&mut self, shared: &Arc<Shared>) {
        let free = |errand: &Errand| matches!(errand, Errand::Free(_));
        let unwanted = lock(&shared.table).errands.iter().any(free);
        if self.unresolved.is_some() || unwanted {
            // A daemon that does not answer now is not waited for.
            drop(self.settle(shared, Deadline::after(ATTEMPT)));
        }
    }

    /// Ends the session in good order, as far as that can be done at once.
    pub(crate) fn detach(&mut self) {
        let id = self.take_id();
        let body = request::Body::Detach(session::Detach {});
        if let Some(mut connection) = self.connection.take() {
            // A daemon that does not hear of it finds out by the end of the connection or process.
            drop(connection.round_trip(id, &body, &[], Deadline::after(ATTEMPT)));
        }
        self.ended = true;
    }
}

/// What is to become of a grant nobody waits for.
pub(crate) fn unwanted(body: &request::Body, id: SegmentId) -> Errand {
    match body {
        request::Body::Create(ask) if ask.lifetime == i32::from(Lifetime::Persistent) => {
            Errand::Free(id)
        }
        _ => Errand::Close(id),
    }
}

/// Which segment a request gives other files, or other rights, if any.
const fn moved_by(body: &request::Body) -> Option<u64> {
    match body {
        request::Body::Relocate(ask) => Some(ask.segment_id),
        request::Body::Revoke(ask) => Some(ask.segment_id),
        request::Body::Seal(ask) => Some(ask.segment_id),
        _ => None,
    }
}

fn refusal(answer: &Answer) -> Option<ErrorReason> {
    match &answer.body {
        reply::Body::Error(error) => Some(error.reason()),
        _ => None,
    }
}
