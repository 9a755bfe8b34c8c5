//! From actions to the world: replies with descriptors, events, copies, files given up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pool_core::mem::MapError;
use pool_core::packet::{self, PacketError};
use pool_core::{BackingId, ClientId, SegmentId, clock, crash_point, planted};
use pool_proto::admin::v1::PoolEvent;
use pool_proto::common::v1::{Access, Error};
use pool_proto::session::v1::{Event, Reply, reply};
use prost::Message as _;

use super::poller::{Interest, Token};
use super::sessions::{Events, Unheard};
use super::{Reactor, ReactorError};
use crate::device::copy::Part;
use crate::engine::Refusal;
use crate::engine::command::{Command, ConnectionId, WorldError};
use crate::engine::effect::Action;
use crate::server::handle::Answer;
use crate::sys;

impl Reactor {
    pub(super) fn perform(&mut self, action: Action) -> Result<(), ReactorError> {
        match action {
            Action::Bind { connection, client } => self.bind(connection, client),
            Action::Welcome {
                connection,
                reply,
                welcome,
            } => self.welcome(connection, &reply, welcome),
            Action::Reply {
                client,
                reply,
                files,
            } => self.reply(client, &reply, &files),
            Action::Event { client, event } => self.tell(client, &event),
            Action::Close { client } => self.drop_client(client),
            // Begun when the engine asked for it.
            Action::Build { .. } | Action::Format { .. } | Action::Discard { .. } => {}
            Action::Withdrawn { device, runs } => self.stewards.withdrawn(device, runs),
            Action::Group { device, ask } => self.stewards.group(device, ask),
            Action::Copy { segment, from, to } => self.copy(segment, &from, &to),
            Action::Destroy { backing } => self.discard(backing),
            Action::Watch { backing } => {
                self.close_domain(backing);
                self.files.watch(backing, clock::now());
            }
            Action::Enter { directory, slot } => self.enter(directory, slot),
            Action::AwaitEnd {
                segment,
                slot,
                process,
            } => self.await_end(segment, slot, process),
            Action::Recover(recovery) => self.domains.recover(recovery),
            Action::Hold(hold) => self.domains.hold(hold),
            Action::Look {
                segment,
                directory,
                unit,
            } => self.look(segment, directory, unit),
            Action::EndRecall { directory, unit } => self.end_recall(directory, unit),
            Action::Lease {
                client,
                request_id,
                directory,
                slot,
                unit,
                lease,
            } => self.lease((client, request_id), (directory, unit), slot, lease),
            Action::Answer { ticket, outcome } => {
                if let Some(question) = self.questions.remove(&ticket) {
                    question.reply(outcome.map(Answer::Operated));
                }
            }
            Action::Publish(event) => {
                log(&event);
                if event.kind.starts_with("device-") {
                    self.keep_stock();
                }
                self.inbox.publish(event);
            }
        }
        Ok(())
    }

    /// From now on the connection is the client's. One it had before is closed.
    fn bind(&mut self, id: ConnectionId, client: ClientId) {
        if !self.engine.has_client(client) {
            // Given up in the very round in which it came back: it hears so when it asks again.
            return self.close_connection(id);
        }
        let Some(connection) = self.sessions.connections.get_mut(&id) else {
            return;
        };
        connection.client = Some(client);
        if self.engine.awaits_descriptors() && !connection.may_carry {
            // It may have to bring some back.
            connection.may_carry = sys::pass_descriptors(connection.socket.as_fd(), true).is_ok();
        }
        let pidfd = connection.pidfd.take();
        let attached = self.sessions.clients.entry(client).or_default();
        attached.give_up_at = None;
        let before = attached.connection.replace(id);
        if let (None, Some(pidfd)) = (&attached.pidfd, pidfd) {
            let token = Token::Process(client);
            match self.poller.add(&pidfd, token, Interest::Readable) {
                Ok(()) => attached.pidfd = Some(pidfd),
                // Its connection tells of its end as well, if later.
                Err(error) => tracing::warn!(%client, %error, "a process cannot be watched"),
            }
        }
        let before = before.filter(|before| *before != id);
        if let Some(before) = before.and_then(|before| self.sessions.connections.remove(&before)) {
            self.end(before.peer.uid, before.may_carry, before.socket);
        }
    }

    fn welcome(&mut self, id: ConnectionId, reply: &Reply, welcome: bool) {
        let client = self
            .sessions
            .connections
            .get(&id)
            .and_then(|connection| connection.client);
        let (Some(client), true) = (client, welcome) else {
            self.send_to(id, reply, &[]);
            return;
        };
        let is_told = match self.gifts(client) {
            Ok((events, page)) => self.send_to(id, reply, &[events.as_fd(), page.as_fd()]),
            Err(error) => {
                tracing::error!(%client, %error, "a client cannot be given its event socket and \
                 its page");
                self.answer(id, reply.request_id, Err(&Refusal::World(failed(&error))));
                self.close_connection(id);
                false
            }
        };
        // Nobody knows its token, so nobody comes back to it. Where it were kept until it is given
        // up, a client that tries again and again would have the daemon grow.
        let is_new = matches!(reply.body, Some(reply::Body::Attached(_)));
        if !is_told && is_new && !planted!("welcome.keeps_whom_it_refuses") {
            self.client_is_dead(client);
        }
    }

    /// What an attached client gets: its end of the event socket, and its liveness page.
    fn gifts(&mut self, client: ClientId) -> Result<(OwnedFd, OwnedFd), ReactorError> {
        let (ours, theirs) = packet::pair()?;
        let page = self.liveness.page_for(client)?;
        let Some(attached) = self.sessions.clients.get_mut(&client) else {
            return Ok((theirs, page));
        };
        let before = attached.events.take();
        if self.can_refuse {
            sys::pass_descriptors(ours.as_fd(), false)?;
        }
        self.poller
            .add(&ours, Token::Events(client), Interest::End)?;
        attached.events = Some(Events::new(ours));
        if let Some(before) = before {
            let uid = self.uid_of(client);
            self.end(uid, !self.can_refuse, before.socket);
        }
        Ok((theirs, page))
    }

    pub(super) fn uid_of(&self, client: ClientId) -> u32 {
        let attached = self.sessions.clients.get(&client);
        let connection = attached.and_then(|attached| attached.connection);
        let connection = connection.and_then(|id| self.sessions.connections.get(&id));
        connection.map_or(u32::MAX, |connection| connection.peer.uid)
    }

    fn reply(&mut self, client: ClientId, reply: &Reply, files: &[(BackingId, Access)]) {
        let Some(attached) = self.sessions.clients.get_mut(&client) else {
            return;
        };
        let asked = attached.asked.take();
        let Some(id) = attached.connection else {
            return; // It will ask again when it is back.
        };
        if let Some((kind, since)) = asked {
            let error = match &reply.body {
                Some(reply::Body::Error(error)) => Some(error.class()),
                _ => None,
            };
            self.metrics()
                .request(kind, error, clock::now().saturating_since(since));
        }
        let opened: Result<Vec<_>, _> = files
            .iter()
            .map(|&(id, access)| self.files.open_for(id, access))
            .collect();
        match opened {
            Ok(opened) => {
                let descriptors: Vec<BorrowedFd<'_>> = opened.iter().map(OwnedFd::as_fd).collect();
                self.send_to(id, reply, &descriptors);
            }
            // What was granted is journaled, and a refusal says that nothing was changed: without
            // its connection the client repeats the request, which is answered when descriptors are
            // to be had.
            Err(error) => {
                tracing::error!(%client, %error, "a grant cannot be handed out: the connection is \
                 closed");
                self.close_connection(id);
            }
        }
    }

    /// Sends a reply; whether it was sent. A client that does not read its replies, or is gone,
    /// loses its connection.
    pub(super) fn send_to(
        &mut self,
        id: ConnectionId,
        reply: &Reply,
        descriptors: &[BorrowedFd<'_>],
    ) -> bool {
        let Some(connection) = self.sessions.connections.get(&id) else {
            return false;
        };
        // A client reads an answer before it asks again. One that does not would let descriptors
        // pile up that count against this process.
        let unread = sys::unread_by_peer(connection.socket.as_fd()).is_ok_and(|bytes| bytes > 0);
        if unread && !descriptors.is_empty() {
            tracing::warn!(client = ?connection.client, "a client does not read its answers");
            self.close_connection(id);
            return false;
        }
        crash_point!("reply.before-send");
        let bytes = reply.encode_to_vec();
        let sent = packet::send(connection.socket.as_fd(), &bytes, descriptors);
        crash_point!("reply.after-send");
        if let Err(error) = &sent {
            // As where a grant cannot be handed out: it is no refusal, and is asked for again.
            if *error != PacketError::Closed {
                tracing::warn!(client = ?connection.client, %error, "a reply could not be sent");
            }
            self.close_connection(id);
        }
        sent.is_ok()
    }

    fn tell(&mut self, client: ClientId, event: &Event) {
        let Some(events) = self
            .sessions
            .clients
            .get_mut(&client)
            .and_then(|client| client.events.as_mut())
        else {
            return; // It re-reads what it holds when it is back.
        };
        let sent = events.send(event.encode_to_vec());
        self.after_events(client, sent);
    }

    pub(super) fn flush_events(&mut self, client: ClientId) {
        let Some(events) = self
            .sessions
            .clients
            .get_mut(&client)
            .and_then(|client| client.events.as_mut())
        else {
            return;
        };
        let sent = events.flush();
        // Told of an end with nothing to send: the peer has closed it.
        let ended = sent == Ok(false) && has_ended(events.socket.as_fd());
        self.after_events(client, if ended { Err(Unheard::Ended) } else { sent });
    }

    fn after_events(&mut self, client: ClientId, sent: Result<bool, Unheard>) {
        let Some(attached) = self.sessions.clients.get(&client) else {
            return;
        };
        let (Some(events), connection) = (&attached.events, attached.connection) else {
            return;
        };
        let waits = match sent {
            Ok(false) => Interest::End,
            Ok(true) => Interest::Writable,
            Err(unheard) => {
                if unheard == Unheard::TooSlow {
                    self.metrics().events_dropped(1);
                    tracing::warn!(%client, "a client does not read its events: its session is \
                     closed");
                }
                return connection
                    .into_iter()
                    .for_each(|id| self.close_connection(id));
            }
        };
        if let Err(error) = self
            .poller
            .change(&events.socket, Token::Events(client), waits)
        {
            tracing::error!(%error, "an event socket cannot be waited for");
        }
    }

    fn copy(&mut self, segment: SegmentId, from: &[BackingId], to: &[BackingId]) {
        let Some(&into) = to.first() else {
            return;
        };
        let begun = self
            .parts(from)
            .and_then(|from| self.builder.copy(into, &from, &self.parts(to)?));
        match begun {
            Ok(()) => _ = self.copying.insert(into, segment),
            Err(error) => self.step(Command::Copied {
                segment,
                result: Err(error),
            }),
        }
    }

    fn parts(&self, backings: &[BackingId]) -> Result<Vec<Part<'_>>, WorldError> {
        let part = |id: &BackingId| {
            let (file, expected) = (self.files.master(*id)?, self.engine.expected(*id)?);
            Some(Part {
                file,
                bytes: expected.bytes,
            })
        };
        let missing = WorldError::Os {
            call: "copy",
            errno: libc::ENOENT,
        };
        backings
            .iter()
            .map(part)
            .collect::<Option<_>>()
            .ok_or(missing)
    }

    pub(super) fn discard(&mut self, backing: BackingId) {
        self.close_domain(backing);
        if let Some((device, file)) = self.files.discard(backing) {
            self.builder.destroy(device, backing, file);
        }
    }

    /// An action of a batch of which nobody knows whether it was made durable. Clients find out
    /// when they come back; an operator is told to look.
    pub(super) fn leave_in_doubt(&mut self, action: Action) {
        // Files are found, or destroyed with what the journal does not know.
        if let Action::Answer { ticket, outcome } = action
            && let Some(question) = self.questions.remove(&ticket)
        {
            let doubtful = |_| Err(Error::from(&Refusal::InDoubt));
            question.reply(outcome.and_then(doubtful));
        }
    }
}

/// What of the world has failed, where that is known.
fn failed(error: &ReactorError) -> WorldError {
    let (call, errno) = match error {
        ReactorError::Os { call, errno }
        | ReactorError::Packet(PacketError::Os { call, errno })
        | ReactorError::Map(MapError::Os { call, errno, .. }) => (*call, *errno as i32),
        _ => ("memfd_create", libc::EMFILE),
    };
    WorldError::Os { call, errno }
}

/// What happens with every grant is for those who look closely; the rest is news.
fn log(event: &PoolEvent) {
    macro_rules! at {
        ($level:ident) => {
            tracing::$level!(
                kind = %event.kind,
                tenant = %event.tenant,
                segment = event.segment_id,
                client = event.client_id,
                device = %event.device,
                bytes = event.bytes,
                detail = %event.detail,
                "event"
            )
        };
    }
    match event.kind.as_str() {
        "segment-granted" | "segment-freed" | "segment-shrunk" | "released" => at!(debug),
        _ => at!(info),
    }
}

fn has_ended(socket: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
