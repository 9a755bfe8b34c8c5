//! The connections and what belongs to their clients in this process: sockets, pidfds, events that
//! wait.
//!
//! # Invariants
//! 1. A client has at most one connection; a connection is that of at most one client.
//! 2. A connection that is nobody's yet says who it is within [`HELLO_MAX`], or is closed; a user
//!    has at most [`STRANGERS_PER_UID_MAX`] of them.
//! 3. Events that wait for a client are at most [`CLIENT_EVENTS_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

use pool_core::limits::CLIENT_EVENTS_MAX;
use pool_core::packet::{self, PacketError};
use pool_core::{ClientId, Nanos};

use crate::engine::command::{ConnectionId, PeerIdentity};

/// How long a connection may be silent before it says who it is.
pub(super) const HELLO_MAX: Nanos = Nanos::from_millis(5_000);
/// Connections of one user that have not said who they are.
pub(super) const STRANGERS_PER_UID_MAX: usize = 64;

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) peer: PeerIdentity,
    /// The process that connected, until it is bound to a client.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) client: Option<ClientId>,
    pub(super) hello_by: Nanos,
    /// Descriptors may be on their way in it: see [`super::closer`].
    pub(super) may_carry: bool,
}

/// What a client has in this process.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) events: Option<Events>,
    /// What it asked last, and when; until it is answered.
    pub(super) asked: Option<(&'static str, Nanos)>,
    /// When a client without a connection, whose process lives, is given up.
    pub(super) give_up_at: Option<Nanos>,
}

/// The event socket of a client, and what did not fit into it yet.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) socket: OwnedFd,
    backlog: VecDeque<Vec<u8>>,
}

/// Why a client hears no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unheard {
    /// It does not read them.
    TooSlow,
    /// It has closed its end, or is gone.
    Ended,
}

impl Events {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            backlog: VecDeque::new(),
        }
    }

    /// Sends, or keeps for later; `true` where something waits now.
    pub(super) fn send(&mut self, event: Vec<u8>) -> Result<bool, Unheard> {
        if self.backlog.len() >= CLIENT_EVENTS_MAX {
            return Err(Unheard::TooSlow);
        }
        self.backlog.push_back(event);
        self.flush()
    }

    /// Sends what waits; `true` where something still does.
    pub(super) fn flush(&mut self) -> Result<bool, Unheard> {
        while let Some(event) = self.backlog.front() {
            match packet::send(self.socket.as_fd(), event, &[]) {
                Ok(()) => _ = self.backlog.pop_front(),
                Err(PacketError::WouldBlock) => return Ok(true),
                Err(_) => return Err(Unheard::Ended),
            }
        }
        Ok(false)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) clients: BTreeMap<ClientId, Attached>,
    last: u64,
}

impl Sessions {
    /// Takes a connection in.
    ///
    /// # Errors
    /// Its socket, where its user has too many strangers already.
    pub(super) fn admit(
        &mut self,
        socket: OwnedFd,
        peer: PeerIdentity,
        pidfd: OwnedFd,
        may_carry: bool,
        now: Nanos,
    ) -> Result<ConnectionId, OwnedFd> {
        let stranger = |c: &&Connection| c.client.is_none() && c.peer.uid == peer.uid;
        if self.connections.values().filter(stranger).count() >= STRANGERS_PER_UID_MAX {
            return Err(socket);
        }
        self.last += 1;
        let (id, hello_by) = (ConnectionId(self.last), now.saturating_add(HELLO_MAX));
        self.connections.insert(
            id,
            Connection {
                socket,
                peer,
                pidfd: Some(pidfd),
                client: None,
                hello_by,
                may_carry,
            },
        );
        Ok(id)
    }

    /// When a stranger is to be closed, or a client given up.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let strangers = self
            .connections
            .values()
            .filter(|c| c.client.is_none())
            .map(|c| c.hello_by);
        strangers
            .chain(self.clients.values().filter_map(|client| client.give_up_at))
            .min()
    }

    /// Strangers whose time is up.
    pub(super) fn overdue_strangers(&self, now: Nanos) -> Vec<ConnectionId> {
        let overdue = |c: &&Connection| c.client.is_none() && c.hello_by <= now;
        self.connections
            .iter()
            .filter(|(_, c)| overdue(c))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Clients whose time is up.
    pub(super) fn overdue_clients(&self, now: Nanos) -> Vec<ClientId> {
        let overdue = |client: &&Attached| client.give_up_at.is_some_and(|at| at <= now);
        self.clients
            .iter()
            .filter(|(_, client)| overdue(client))
            .map(|(&id, _)| id)
            .collect()
    }
}
