//! From sockets to commands: accepting, reading, and what a client may not send.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use pool_core::packet::{self, PacketError};
use pool_core::{BackingId, ClientId, DeviceId, Nanos, clock};
use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};
use pool_proto::session::v1::{Reply, Request, reply, request};
use prost::Message as _;

use super::poller::{Interest, Token};
use super::{Reactor, ReactorError, process};
use crate::device::identity::{WrongFile, adopt};
use crate::engine::Refusal;
use crate::engine::command::{Command, ConnectionId, WorldError};
use crate::sys;

/// Connections accepted in one round, so that a crowd of them does not starve the sessions.
const ACCEPT_MAX: usize = 32;
/// How long nothing is accepted when the process is out of descriptors.
const ACCEPT_PAUSE: Nanos = Nanos::from_millis(100);

impl Reactor {
    pub(super) fn accept(&mut self) {
        for _ in 0..ACCEPT_MAX {
            match sys::accept(self.listener.as_fd()) {
                Ok(socket) => self.welcome_stranger(socket),
                Err(Errno::EAGAIN) => return,
                // The peer has given up already, or a signal came.
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(errno) => {
                    tracing::error!(%errno, "no connection can be accepted for a moment: raise \
                     LimitNOFILE");
                    self.poller.remove(&self.listener);
                    self.accept_again_at = Some(clock::now().saturating_add(ACCEPT_PAUSE));
                    return;
                }
            }
        }
    }

    fn welcome_stranger(&mut self, socket: OwnedFd) {
        let peer = match packet::peer(socket.as_fd()) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a peer could not be identified");
                return self.end(u32::MAX, !self.can_refuse, socket);
            }
        };
        let uid = peer.uid;
        let identity = match process::identity(&peer) {
            Ok(Some(identity)) => identity,
            Ok(None) => {
                tracing::warn!(
                    uid,
                    pid = peer.pid,
                    "a process cannot be seen: it is not let in"
                );
                return self.end(uid, !self.can_refuse, socket);
            }
            Err(error) => {
                tracing::error!(uid, %error, "a process cannot be looked at: it is not let in");
                return self.end(uid, !self.can_refuse, socket);
            }
        };
        if !self.may_connect(uid) {
            tracing::warn!(uid, "a user that leaves too much unread is not let in");
            return self.end(uid, !self.can_refuse, socket);
        }
        let admitted =
            self.sessions
                .admit(socket, identity, peer.pidfd, !self.can_refuse, clock::now());
        let id = match admitted {
            Ok(id) => id,
            Err(socket) => {
                tracing::warn!(
                    uid,
                    "too many connections of one user have not said who they are"
                );
                return self.end(uid, !self.can_refuse, socket);
            }
        };
        let Some(connection) = self.sessions.connections.get(&id) else {
            return;
        };
        let (token, interest) = (Token::Connection(id), Interest::Readable);
        if let Err(error) = self.poller.add(&connection.socket, token, interest) {
            tracing::error!(%error, "a connection cannot be waited for");
            self.close_connection(id);
        }
    }

    /// Reads one message; what waits behind it has its turn in the next round, after everybody
    /// else.
    pub(super) fn read(&mut self, id: ConnectionId) {
        let Some(connection) = self.sessions.connections.get(&id) else {
            return;
        };
        let (socket, uid) = (connection.socket.as_fd(), connection.peer.uid);
        let client = connection.client;
        let mut brought = Vec::new();
        let received = if connection.may_carry {
            packet::receive_with(socket, &mut self.buffer, &mut brought)
        } else {
            packet::receive_bytes(socket, &mut self.buffer)
        };
        let request =
            received.map(|len| Request::decode(self.buffer.get(..len).unwrap_or_default()));
        let down = self.journal_down_until.is_some();
        let wanted =
            client.is_some() && !down && matches!(&request, Ok(Ok(request)) if is_supply(request));
        let unwanted = if wanted {
            Vec::new()
        } else {
            std::mem::take(&mut brought)
        };
        let came = !unwanted.is_empty();
        self.closer.close(uid, unwanted);
        if came && self.closer.is_choked_by(uid) {
            return self.break_off(id, "too much of what its user sent hangs in being closed");
        }
        let request = match request {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => return self.break_off(id, &error.to_string()),
            Err(PacketError::WouldBlock) => return,
            Err(PacketError::Closed) => return self.close_connection(id),
            // Not the peer's fault: it asks again on a new connection.
            Err(error @ PacketError::Os { .. }) => {
                tracing::error!(%error, "a connection cannot be read: it is closed");
                return self.close_connection(id);
            }
            Err(error) => return self.break_off(id, &error.to_string()),
        };
        if down {
            return self.answer(id, request.request_id, Err(&Refusal::Journal));
        }
        if came && !is_supply(&request) {
            let refusal = Refusal::Malformed("descriptors ride along with Supply only");
            return self.answer(id, request.request_id, Err(&refusal));
        }
        match client {
            Some(client) => self.hear(id, client, request, brought),
            None => self.greet(id, request),
        }
    }

    /// The first request of a connection.
    fn greet(&mut self, connection: ConnectionId, request: Request) {
        let Some(peer) = self.sessions.connections.get(&connection).map(|c| c.peer) else {
            return;
        };
        let request_id = request.request_id;
        match request.body {
            Some(request::Body::Attach(request)) => match sys::random_token() {
                Ok(token) => self.step(Command::Attach {
                    connection,
                    request_id,
                    peer,
                    request,
                    token,
                }),
                Err(failed) => {
                    self.answer(connection, request_id, Err(&Refusal::World(failed.into())))
                }
            },
            Some(request::Body::Reattach(request)) => {
                self.step(Command::Reattach {
                    connection,
                    request_id,
                    peer,
                    request,
                });
            }
            _ => {
                let refusal = Refusal::OutOfOrder("the first request is Attach or Reattach");
                self.answer(connection, request_id, Err(&refusal));
            }
        }
    }

    /// A request of an attached client.
    fn hear(
        &mut self,
        id: ConnectionId,
        client: ClientId,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) {
        let request_id = request.request_id;
        if let (Some(attached), Some(body)) =
            (self.sessions.clients.get_mut(&client), &request.body)
        {
            attached.asked = Some((kind(body), clock::now()));
        }
        if matches!(request.body, Some(request::Body::Detach(_))) {
            self.gone.insert(client);
        }
        let Some(request::Body::Supply(supply)) = &request.body else {
            return self.step(Command::Request { client, request });
        };
        match self.take_supplied(client, supply.backing_id, descriptors) {
            Ok(backing) => self.step(Command::Supplied {
                client,
                request_id,
                backing,
            }),
            Err(refusal) => self.answer(id, request_id, Err(&refusal)),
        }
    }

    /// Takes a descriptor back that is the daemon's own file, and nothing else.
    fn take_supplied(
        &mut self,
        client: ClientId,
        id: u64,
        brought: Vec<OwnedFd>,
    ) -> Result<BackingId, Refusal> {
        let judged = self.judge_supplied(client, id, &brought);
        let Ok((backing, device, master)) = judged else {
            let uid = self.uid_of(client);
            self.closer.close(uid, brought);
            return Err(judged.err().unwrap_or(Refusal::UnknownClient));
        };
        // Where the store fails it is filled anew, and whoever brought the file has it as well.
        self.files.add(backing, device, master);
        Ok(backing)
    }

    fn judge_supplied(
        &self,
        client: ClientId,
        id: u64,
        brought: &[OwnedFd],
    ) -> Result<(BackingId, DeviceId, OwnedFd), Refusal> {
        let not_found = || Refusal::NotFound {
            what: "awaited backing",
            name: id.to_string(),
        };
        let backing = BackingId::new(id).ok_or_else(not_found)?;
        let expected = self
            .engine
            .awaited_from(client, backing)
            .ok_or_else(not_found)?;
        let [file] = brought else {
            return Err(Refusal::Malformed("Supply takes exactly one descriptor"));
        };
        let master = adopt(
            file.as_fd(),
            expected.identity,
            expected.bytes,
            expected.sealed,
        );
        let master = master.map_err(|wrong| wrong_file(&wrong))?;
        Ok((backing, expected.device, master))
    }

    /// Answers a request that never reached the engine.
    pub(super) fn answer(
        &mut self,
        id: ConnectionId,
        request_id: u64,
        outcome: Result<reply::Body, &Refusal>,
    ) {
        let body = outcome.unwrap_or_else(|refusal| reply::Body::Error(refusal.into()));
        self.send_to(
            id,
            &Reply {
                request_id,
                body: Some(body),
            },
            &[],
        );
    }

    /// Says what was wrong, and closes: what follows on this connection could not be understood
    /// either.
    fn break_off(&mut self, id: ConnectionId, reason: &str) {
        let error = Error {
            class: ErrorClass::Caller.into(),
            reason: ErrorReason::Malformed.into(),
            message: format!(
                "the message cannot be understood ({reason}); the connection is closed"
            ),
            ..Error::default()
        };
        self.send_to(
            id,
            &Reply {
                request_id: 0,
                body: Some(reply::Body::Error(error)),
            },
            &[],
        );
        self.close_connection(id);
    }

    pub(super) fn take_signals(&mut self) -> Result<(), ReactorError> {
        while let Some(signal) = self
            .signals
            .read_signal()
            .map_err(|errno| ReactorError::os("read", errno))?
        {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            let name = Signal::try_from(number).map_or("a signal", Signal::as_str);
            tracing::info!(signal = name, "stopping");
            self.stopping = true;
        }
        Ok(())
    }
}

fn is_supply(request: &Request) -> bool {
    matches!(request.body, Some(request::Body::Supply(_)))
}

/// The name of a request in the metrics.
fn kind(body: &request::Body) -> &'static str {
    use request::Body;
    match body {
        Body::Attach(_) => "attach",
        Body::Reattach(_) => "reattach",
        Body::Create(_) => "create",
        Body::Open(_) => "open",
        Body::Refresh(_) => "refresh",
        Body::Close(_) => "close",
        Body::Free(_) => "free",
        Body::Resize(_) => "resize",
        Body::Share(_) => "share",
        Body::Revoke(_) => "revoke",
        Body::Relocate(_) => "relocate",
        Body::List(_) => "list",
        Body::Supply(_) => "supply",
        Body::Tiers(_) => "tiers",
        Body::Detach(_) => "detach",
        Body::Acquire(_) => "acquire",
        Body::Release(_) => "release",
        Body::Seal(_) => "seal",
        Body::Join(_) => "join",
        Body::Recall(_) => "recall",
    }
}

/// Whoever brings the right file is not to blame where the machine cannot look at it now.
fn wrong_file(wrong: &WrongFile) -> Refusal {
    if let &WrongFile::Os { call, errno } = wrong {
        tracing::warn!(%wrong, "what a client brought back cannot be looked at");
        return Refusal::World(WorldError::Os { call, errno });
    }
    tracing::warn!(%wrong, "a client brought back a descriptor of another file");
    Refusal::Malformed("the descriptor is not of the file that backs it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_a_file_is_blamed_for_a_wrong_one_and_not_for_a_call_that_fails() {
        let reason = |wrong: &WrongFile| Error::from(&wrong_file(wrong)).reason();
        let (call, errno) = ("open", 24);
        let failed = reason(&WrongFile::Os { call, errno });
        assert_eq!(failed, ErrorReason::DeviceFailed);
        let short = WrongFile::Length {
            found_bytes: 1,
            expected_bytes: 2,
        };
        assert_eq!(reason(&short), ErrorReason::Malformed);
    }
}
