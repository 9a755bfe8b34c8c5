//! The processes of the world: what they were told, what they map, what they ask.
//!
//! A process keeps what it was given. A tidy one unmaps what it is told to let go, and brings back
//! descriptors that are awaited; the others keep every mapping until they die.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{BackingId, ClientId, PoolAddr, SegmentId};
use pool_proto::common::v1::{Access, Error, ErrorReason, Segment as SegmentMessage};
use pool_proto::session::v1 as session;
use session::{event, reply, request};

use super::laws;
use super::world::World;
use crate::engine::PROTOCOL;
use crate::engine::command::{Command, ConnectionId, PeerIdentity};

/// A process, by its pid.
pub(super) type Pid = u32;

/// What a process holds of one segment, as it was told.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) access: Access,
    pub(super) incarnation: u64,
    pub(super) pieces: Vec<BackingId>,
    /// It was told since that they are others.
    pub(super) is_outdated: bool,
}

/// Where a process has a file mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    pub(super) segment: SegmentId,
    pub(super) addr: PoolAddr,
    pub(super) bytes: u64,
}

/// One process that is, was or wants to be a client.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) peer: PeerIdentity,
    pub(super) session: Option<(ClientId, Vec<u8>)>,
    pub(super) connected: bool,
    /// It unmaps what it is told to let go; otherwise it keeps every mapping until it dies.
    pub(super) tidy: bool,
    pub(super) last_id: u64,
    pub(super) sent: BTreeMap<u64, request::Body>,
    pub(super) answers: BTreeMap<u64, reply::Body>,
    pub(super) welcome: Option<reply::Body>,
    pub(super) events: Vec<event::Body>,
    pub(super) held: BTreeMap<SegmentId, Held>,
    pub(super) mapped: BTreeMap<BackingId, Mapping>,
    /// Every file it was ever given.
    pub(super) received: BTreeSet<BackingId>,
}

impl Process {
    pub(super) fn new(peer: PeerIdentity) -> Self {
        Self {
            peer,
            session: None,
            connected: false,
            tidy: true,
            last_id: 0,
            sent: BTreeMap::new(),
            answers: BTreeMap::new(),
            welcome: None,
            events: Vec::new(),
            held: BTreeMap::new(),
            mapped: BTreeMap::new(),
            received: BTreeSet::new(),
        }
    }

    /// It waits for the answer of its last request.
    pub(super) fn waits(&self) -> bool {
        self.last_id > 0 && !self.answers.contains_key(&self.last_id)
    }

    pub(super) fn unmap(&mut self, segment: SegmentId) {
        self.held.remove(&segment);
        if self.tidy {
            self.mapped.retain(|_, mapping| mapping.segment != segment);
        }
    }
}

impl World {
    pub(super) fn spawn(&mut self, uid: u32) -> Pid {
        let pid = 100 + u32::try_from(self.laws.spawned()).unwrap();
        let peer = PeerIdentity {
            pid,
            started_ticks: u64::from(pid) * 10,
            uid,
            gid: uid,
        };
        self.processes.insert(pid, Process::new(peer));
        pid
    }

    /// A new process of this user, attached.
    pub(super) fn attach(&mut self, uid: u32) -> Pid {
        let pid = self.spawn(uid);
        self.attach_as(pid, "");
        assert!(self.processes[&pid].session.is_some());
        pid
    }

    pub(super) fn attach_as(&mut self, pid: Pid, tenant: &str) {
        let process = &self.processes[&pid];
        let mut token = [0; 16];
        token[..4].copy_from_slice(&pid.to_le_bytes());
        self.step(Command::Attach {
            connection: ConnectionId(pid.into()),
            request_id: 1,
            peer: process.peer,
            request: session::Attach {
                protocol: PROTOCOL,
                tenant: tenant.into(),
                name: String::new(),
            },
            token,
        });
    }

    pub(super) fn client(&self, pid: Pid) -> ClientId {
        self.processes[&pid].session.as_ref().unwrap().0
    }

    pub(super) fn pid_of(&self, client: ClientId) -> Option<Pid> {
        let is = |p: &Process| p.session.as_ref().is_some_and(|(id, _)| *id == client);
        self.processes
            .iter()
            .find(|(_, p)| is(p))
            .map(|(&pid, _)| pid)
    }

    pub(super) fn process_of_connection(&mut self, connection: ConnectionId) -> &mut Process {
        let pid = Pid::try_from(connection.0).unwrap();
        self.processes.get_mut(&pid).unwrap()
    }

    /// The connection of a process breaks; the process lives on.
    pub(super) fn disconnect(&mut self, pid: Pid) {
        let process = self.processes.get_mut(&pid).unwrap();
        if std::mem::take(&mut process.connected) {
            let client = self.client(pid);
            self.step(Command::Disconnected { client });
        }
    }

    /// The process takes its session up again, brings back what is missed, and repeats what was not
    /// answered.
    pub(super) fn reattach(&mut self, pid: Pid) {
        let process = &self.processes[&pid];
        let Some((client, token)) = process.session.clone() else {
            return;
        };
        let reattach = session::Reattach {
            protocol: PROTOCOL,
            client_id: client.number(),
            token,
        };
        self.step(Command::Reattach {
            connection: ConnectionId(pid.into()),
            request_id: 1,
            peer: process.peer,
            request: reattach,
        });
        self.supply(pid);
        let process = &self.processes[&pid];
        if process.connected && process.waits() {
            self.repeat(pid);
        }
    }

    /// Brings back every descriptor that is awaited and still mapped.
    pub(super) fn supply(&mut self, pid: Pid) {
        let process = &self.processes[&pid];
        if !(process.tidy && process.connected) {
            return;
        }
        let client = self.client(pid);
        for backing in process.mapped.keys().copied().collect::<Vec<_>>() {
            if self.engine.awaited_from(client, backing).is_some() {
                self.files.get_mut(&backing).unwrap().kept = true;
                let request_id = 1 << 40;
                self.step(Command::Supplied {
                    client,
                    request_id,
                    backing,
                });
            }
        }
    }

    /// Ends a process, and tells the engine where it knows it.
    pub(super) fn kill(&mut self, pid: Pid) {
        self.processes.remove(&pid).unwrap();
        self.forget_unkept();
        // It may have sessions whose answers it never got.
        let sessions = self.engine.processes();
        let sessions: Vec<_> = sessions.filter(|(_, peer)| peer.pid == pid).collect();
        for (client, _) in sessions {
            self.step(Command::ClientGone { client });
        }
        self.end_awaited(pid);
    }

    /// Memory that neither the daemon nor any process has is gone.
    pub(super) fn forget_unkept(&mut self) {
        let processes = &self.processes;
        let mapped = |id: &BackingId| processes.values().any(|p| p.mapped.contains_key(id));
        self.files.retain(|id, file| file.kept || mapped(id));
    }

    /// Sends a request and leaves the answer to come.
    pub(super) fn send(&mut self, pid: Pid, body: request::Body) -> u64 {
        let id = self.write_down(pid, &body);
        self.post(pid, id, Some(body));
        id
    }

    /// Gives a request its id. What it wants closed is unmapped first.
    pub(super) fn write_down(&mut self, pid: Pid, body: &request::Body) -> u64 {
        let process = self.processes.get_mut(&pid).unwrap();
        process.last_id += 1;
        process.sent.insert(process.last_id, body.clone());
        if let request::Body::Close(ask) = body
            && let Some(segment) = SegmentId::new(ask.segment_id)
        {
            process.unmap(segment);
        }
        process.last_id
    }

    /// Puts a request on the wire as it is.
    pub(super) fn post(&mut self, pid: Pid, request_id: u64, body: Option<request::Body>) {
        let client = self.client(pid);
        let request = session::Request { request_id, body };
        self.step(Command::Request { client, request });
    }

    /// Sends the last request once more, and waits for its answer anew.
    pub(super) fn repeat(&mut self, pid: Pid) {
        let process = self.processes.get_mut(&pid).unwrap();
        if let Some((&id, body)) = process.sent.last_key_value() {
            process.answers.remove(&id);
            let body = body.clone();
            self.post(pid, id, Some(body));
        }
    }

    /// Sends a request and returns its answer, which must come at once.
    pub(super) fn ask(&mut self, pid: Pid, body: request::Body) -> reply::Body {
        let id = self.send(pid, body);
        self.processes[&pid].answers[&id].clone()
    }

    /// The segment that a request grants.
    pub(super) fn granted(&mut self, pid: Pid, body: request::Body) -> SegmentMessage {
        match self.ask(pid, body) {
            reply::Body::Granted(granted) => granted.segment.unwrap(),
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Why a request is refused.
    pub(super) fn refused(&mut self, pid: Pid, body: request::Body) -> Error {
        match self.ask(pid, body) {
            reply::Body::Error(error) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Which rule refuses a request.
    pub(super) fn reason(&mut self, pid: Pid, body: request::Body) -> ErrorReason {
        self.refused(pid, body).reason()
    }

    pub(super) fn done(&mut self, pid: Pid, body: request::Body) {
        match self.ask(pid, body) {
            reply::Body::Done(_) => {}
            other => panic!("not done: {other:?}"),
        }
    }

    pub(super) fn welcome(&mut self, connection: ConnectionId, body: reply::Body) {
        let process = self.process_of_connection(connection);
        match &body {
            reply::Body::Attached(attached) => {
                let client = ClientId::new(attached.client_id).unwrap();
                process.session = Some((client, attached.token.clone()));
                process.last_id = 0;
                process.answers.clear();
                process.sent.clear();
            }
            reply::Body::Reattached(again) => {
                let still: BTreeSet<_> = again.held.iter().map(|h| h.segment_id).collect();
                let gone: Vec<_> = process
                    .held
                    .keys()
                    .copied()
                    .filter(|id| !still.contains(&id.number()))
                    .collect();
                gone.into_iter().for_each(|id| process.unmap(id));
                for told in &again.held {
                    let held = process
                        .held
                        .get_mut(&SegmentId::new(told.segment_id).unwrap());
                    let moved = held.filter(|held| held.incarnation != told.incarnation);
                    moved.into_iter().for_each(|held| held.is_outdated = true);
                }
            }
            reply::Body::Error(_) => {}
            other => panic!("a connection is welcomed with {other:?}"),
        }
        process.welcome = Some(body);
    }

    pub(super) fn answer(
        &mut self,
        client: ClientId,
        reply: &session::Reply,
        files: &[(BackingId, Access)],
    ) {
        let Some(pid) = self.pid_of(client) else {
            return;
        };
        let body = reply.body.clone().unwrap();
        if !self.processes[&pid].connected {
            return;
        }
        if let reply::Body::Granted(granted) = &body {
            laws::of_grant(self, pid, granted, files);
            let asked = self.processes[&pid].sent.get(&reply.request_id);
            if let Some(request::Body::Create(ask)) = asked.cloned() {
                laws::of_create(self, &ask, granted);
            }
            self.has_slot(client, granted);
            self.map(pid, granted, files);
        }
        let process = self.processes.get_mut(&pid).unwrap();
        let freed = match process.sent.get(&reply.request_id) {
            Some(request::Body::Free(ask)) if matches!(body, reply::Body::Done(_)) => {
                SegmentId::new(ask.segment_id)
            }
            _ => None,
        };
        freed.into_iter().for_each(|id| process.unmap(id));
        if let Some(request::Body::Seal(ask)) = process.sent.get(&reply.request_id)
            && matches!(body, reply::Body::Error(_))
        {
            // It may be sealed, where this is a repetition: whoever is refused asks what it holds
            // before it accesses anything.
            process.held.retain(|id, _| id.number() != ask.segment_id);
        }
        process.answers.insert(reply.request_id, body);
    }

    fn map(&mut self, pid: Pid, granted: &session::Granted, files: &[(BackingId, Access)]) {
        let segment = granted.segment.as_ref().unwrap();
        let id = SegmentId::new(segment.segment_id).unwrap();
        let process = self.processes.get_mut(&pid).unwrap();
        process.unmap(id);
        for (piece, &(backing, _)) in segment.pieces.iter().zip(files) {
            let mapping = Mapping {
                segment: id,
                addr: PoolAddr::new(segment.addr + piece.offset),
                bytes: piece.bytes,
            };
            process.mapped.insert(backing, mapping);
            process.received.insert(backing);
        }
        let held = Held {
            access: granted.access(),
            incarnation: segment.incarnation,
            pieces: files.iter().map(|(backing, _)| *backing).collect(),
            is_outdated: false,
        };
        process.held.insert(id, held);
    }

    pub(super) fn notify(&mut self, client: ClientId, body: event::Body) {
        let pid = self.pid_of(client).unwrap();
        let process = self.processes.get_mut(&pid).unwrap();
        match &body {
            event::Body::Revoked(session::Revoked { segment_id, .. })
            | event::Body::Lost(session::Lost { segment_id }) => {
                process.unmap(SegmentId::new(*segment_id).unwrap());
            }
            event::Body::Changed(session::Changed { segment_id, .. }) => {
                let held = process.held.get_mut(&SegmentId::new(*segment_id).unwrap());
                held.into_iter().for_each(|held| held.is_outdated = true);
            }
            _ => {}
        }
        process.events.push(body);
    }

    /// Writes `number` over everything that the process may write of a segment.
    pub(super) fn write(&mut self, pid: Pid, segment: SegmentId, number: u64) {
        let process = &self.processes[&pid];
        let Some(held) = process.held.get(&segment) else {
            return;
        };
        if held.access != Access::ReadWrite || process.waits() {
            return;
        }
        for backing in held.pieces.clone() {
            self.files.get_mut(&backing).unwrap().contents.fill(number);
        }
    }

    /// The numbers that the process reads in a segment.
    pub(super) fn read(&self, pid: Pid, segment: SegmentId) -> Vec<u64> {
        let held = &self.processes[&pid].held[&segment];
        let contents = |backing| self.files[backing].contents.clone();
        held.pieces.iter().flat_map(contents).collect()
    }
}
