//! The processes of a host: what they ask, what they are told, and how they end.

use std::collections::BTreeMap;

use pool_core::{BackingId, ClientId, EXTENT_BYTES, PoolAddr, SegmentId};
use pool_daemon::engine::PROTOCOL;
use pool_daemon::engine::command::{Command, ConnectionId, PeerIdentity};
use pool_daemon::journal::{Record, Table};
use pool_proto::common::v1::{Access, ErrorReason, Segment as SegmentMessage};
use pool_proto::session::v1 as session;
use session::{event, reply, request};

use super::World;
use super::heap;
use super::machine::{Durable, File, Held, Machine, Mapping, Process};
use super::plans::USERS;
use crate::broken::{Checked, broken, holds};
use crate::oracle::books::Books;

/// Processes of one host at most.
const PROCESSES_MAX: usize = 6;
/// The request id of a Supply, above those of other requests.
const SUPPLY: u64 = 1 << 40;

impl World {
    /// A new process comes and attaches.
    pub(super) fn spawn(&mut self, h: usize, user: u16, tidy: bool) -> Checked {
        let machine = &mut self.machines[h];
        if machine.processes.len() >= PROCESSES_MAX || !machine.acts() {
            return Ok(());
        }
        self.pids += 1;
        let (pid, (uid, tenant)) = (self.pids, USERS[usize::from(user) % USERS.len()]);
        let peer = PeerIdentity {
            pid,
            started_ticks: u64::from(pid) * 10,
            uid,
            gid: uid,
        };
        machine.processes.insert(pid, Process::new(peer, tidy));
        self.attach(h, pid, tenant)
    }

    fn attach(&mut self, h: usize, pid: u32, tenant: &str) -> Checked {
        let Some(process) = self.machines[h].processes.get(&pid) else {
            return Ok(());
        };
        let mut token = [0; 16];
        token[..4].copy_from_slice(&pid.to_le_bytes());
        let attach = Command::Attach {
            connection: ConnectionId(pid.into()),
            request_id: 1,
            peer: process.peer,
            request: session::Attach {
                protocol: PROTOCOL,
                tenant: tenant.to_owned(),
                name: String::new(),
            },
            token,
        };
        self.tell(h, attach)
    }

    /// The connection of a process breaks; the process lives on.
    pub(super) fn disconnect(&mut self, h: usize, pid: u32) -> Checked {
        let process = self.machines[h].processes.get_mut(&pid);
        let Some(process) = process.filter(|process| process.connected) else {
            return Ok(());
        };
        process.connected = false;
        match process.client() {
            Some(client) => self.tell(h, Command::Disconnected { client }),
            None => Ok(()),
        }
    }

    /// The session of a process that lives is given up: it stayed away for too long.
    pub(super) fn give_up_session(&mut self, h: usize, pid: u32) -> Checked {
        let process = self.machines[h].processes.get(&pid);
        match process.and_then(Process::client) {
            Some(client) => self.tell(h, Command::ClientGone { client }),
            None => Ok(()),
        }
    }

    /// A process takes its session up again, or attaches anew where it has none; it brings back
    /// what is missed, and repeats what was not answered.
    pub(super) fn reattach(&mut self, h: usize, pid: u32) -> Checked {
        let machine = &self.machines[h];
        let Some(process) = machine.processes.get(&pid) else {
            return Ok(());
        };
        let Some((client, token)) = process.session.clone() else {
            let tenant = USERS.iter().find(|(uid, _)| *uid == process.peer.uid);
            return self.attach(h, pid, tenant.map_or("", |(_, tenant)| tenant));
        };
        let reattach = Command::Reattach {
            connection: ConnectionId(pid.into()),
            request_id: 1,
            peer: process.peer,
            request: session::Reattach {
                protocol: PROTOCOL,
                client_id: client.number(),
                token,
            },
        };
        self.tell(h, reattach)?;
        self.supply(h, pid)?;
        let process = self.machines[h].processes.get(&pid);
        if process.is_some_and(|process| process.connected && !process.is_answered) {
            self.trace.reached("a request is repeated after a restart");
            return self.repeat(h, pid);
        }
        Ok(())
    }

    /// Brings back every descriptor that is awaited and still mapped.
    pub(super) fn supply(&mut self, h: usize, pid: u32) -> Checked {
        let Some(process) = self.machines[h].processes.get(&pid) else {
            return Ok(());
        };
        let Some(client) = process
            .client()
            .filter(|_| process.tidy && process.connected)
        else {
            return Ok(());
        };
        for backing in process.mapped.keys().copied().collect::<Vec<_>>() {
            let machine = &mut self.machines[h];
            let Some(engine) = &machine.engine else {
                return Ok(());
            };
            if engine.awaited_from(client, backing).is_none() {
                continue;
            }
            let Some(file) = machine.files.get_mut(&backing) else {
                continue;
            };
            file.kept = true;
            let supplied = Command::Supplied {
                client,
                request_id: SUPPLY,
                backing,
            };
            self.tell(h, supplied)?;
        }
        Ok(())
    }

    /// Ends a process, and tells the daemon where it knows it.
    pub(super) fn kill(&mut self, h: usize, pid: u32) -> Checked {
        let machine = &mut self.machines[h];
        if machine.processes.remove(&pid).is_none() {
            return Ok(());
        }
        machine.forget_unkept();
        self.user_dies(h, pid)?;
        // It may have sessions whose answers it never got.
        let engine = self.machines[h].engine.as_ref();
        let sessions = engine.into_iter().flat_map(|engine| engine.processes());
        let sessions: Vec<_> = sessions
            .filter(|(_, peer)| peer.pid == pid)
            .map(|(client, _)| client)
            .collect();
        for client in sessions {
            self.tell(h, Command::ClientGone { client })?;
        }
        Ok(())
    }

    /// A process that waits for nothing sends a request.
    pub(super) fn send(&mut self, h: usize, pid: u32, body: request::Body) -> Checked {
        let machine = &mut self.machines[h];
        let process = machine.processes.get_mut(&pid);
        let Some(process) = process.filter(|process| process.is_idle()) else {
            return Ok(());
        };
        if let request::Body::Detach(_) = &body {
            process.loses_heap();
        }
        process.last_id += 1;
        (process.sent, process.is_answered) = (Some(body.clone()), false);
        if let request::Body::Close(ask) = &body
            && let Some(segment) = SegmentId::new(ask.segment_id)
        {
            process.unmap(segment);
            process.owes.remove(&segment);
        }
        process.lets_go_before(&body);
        let request_id = process.last_id;
        if let request::Body::Seal(ask) = &body {
            self.before_the_seal(h, pid, ask.segment_id);
        }
        let body = Some(body);
        self.post(h, pid, session::Request { request_id, body })
    }

    /// Puts a request on the wire as it is.
    pub(super) fn post(&mut self, h: usize, pid: u32, request: session::Request) -> Checked {
        let machine = &mut self.machines[h];
        let Some(client) = machine.processes.get(&pid).and_then(Process::client) else {
            return Ok(());
        };
        if let Some(request::Body::Open(_) | request::Body::Join(_)) = &request.body {
            machine.books.opens(client.number());
        }
        self.tell(h, Command::Request { client, request })
    }

    /// Sends the last request once more, and waits for its answer anew.
    pub(super) fn repeat(&mut self, h: usize, pid: u32) -> Checked {
        let Some(process) = self.machines[h].processes.get_mut(&pid) else {
            return Ok(());
        };
        if !process.connected || process.sent.is_none() {
            return Ok(());
        }
        let was_answered = std::mem::replace(&mut process.is_answered, false);
        let (request_id, body) = (process.last_id, process.sent.clone());
        let client = process.client().map_or(0, ClientId::number);
        let row = self.machines[h].durable.get(&(Table::Clients, client));
        let is_done = matches!(row, Some(Record::Client(row)) if row.last_request_id == request_id);
        let before = is_done.then(|| self.machines[h].durable.clone());
        let building = self.machines[h].building.len();
        self.post(h, pid, session::Request { request_id, body })?;
        let machine = &self.machines[h];
        if let Some(before) = before.filter(|_| was_answered && machine.engine.is_some()) {
            let is_begun = machine.building.len() > building;
            return holds(
                machine.durable == before && !is_begun,
                "a request is done once",
                || format!("client {client} repeated {request_id}"),
            );
        }
        Ok(())
    }

    /// A request whose id was passed, or that comes of a session that is over, is refused and
    /// changes nothing.
    pub(super) fn stale(&mut self, h: usize, pid: u32, body: request::Body) -> Checked {
        let machine = &self.machines[h];
        let Some(process) = machine.processes.get(&pid) else {
            return Ok(());
        };
        let (true, Some(client), Some(engine)) =
            (process.is_idle(), process.client(), &machine.engine)
        else {
            return Ok(());
        };
        let (refused, rows) = (engine.counters().refused, machine.durable.clone());
        let is_old = process.last_id > 1;
        let client = if is_old {
            Some(client)
        } else {
            ClientId::new(client.number() + 1_000_000)
        };
        let Some(client) = client else {
            return Ok(());
        };
        // The id before the last that changed something is passed; id 0 is none.
        let request = session::Request {
            request_id: 0,
            body: Some(body),
        };
        self.tell(h, Command::Request { client, request })?;
        self.trace.reached(if is_old {
            "a stale request is refused"
        } else {
            "a session that is over is refused"
        });
        let machine = &self.machines[h];
        let Some(engine) = &machine.engine else {
            return Ok(()); // It died of something else.
        };
        let is_refused = engine.counters().refused > refused && machine.durable == rows;
        holds(is_refused, "who is stale is refused", || {
            format!("a stale request of {client} was taken")
        })
    }

    pub(super) fn welcomed(
        &mut self,
        h: usize,
        connection: ConnectionId,
        body: Option<reply::Body>,
    ) -> Checked {
        let pid = u32::try_from(connection.0).unwrap_or(0);
        let Some(process) = self.machines[h].processes.get_mut(&pid) else {
            return Ok(());
        };
        match body {
            Some(reply::Body::Attached(attached)) => {
                let client = ClientId::new(attached.client_id);
                process.session = client.map(|client| (client, attached.token.clone()));
                (process.last_id, process.sent, process.is_answered) = (0, None, true);
            }
            Some(reply::Body::Reattached(again)) => {
                let told = |id: &SegmentId| {
                    again
                        .held
                        .iter()
                        .find(|held| held.segment_id == id.number())
                };
                let held: Vec<_> = process.held.keys().copied().collect();
                for id in held {
                    match told(&id) {
                        None => process.lets_go(id),
                        Some(told) => {
                            let held = process.held.get_mut(&id);
                            let moved = held.filter(|held| held.incarnation != told.incarnation);
                            moved.into_iter().for_each(|held| held.is_outdated = true);
                        }
                    }
                }
            }
            Some(reply::Body::Error(error)) if error.reason() == ErrorReason::UnknownClient => {
                process.forget();
            }
            Some(reply::Body::Error(_)) => {}
            other => return broken("a connection is welcomed", format_args!("{other:?}")),
        }
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        h: usize,
        client: ClientId,
        reply: &session::Reply,
        files: &[(BackingId, Access)],
    ) -> Checked {
        let machine = &self.machines[h];
        let Some(pid) = machine.pid_of(client) else {
            return Ok(());
        };
        let Some(process) = machine.processes.get(&pid).filter(|p| p.connected) else {
            return Ok(());
        };
        let is_due = reply.request_id == process.last_id;
        let asked = process.sent.clone().filter(|_| is_due);
        let Some(body) = reply.body.clone() else {
            return broken("an answer has a body", format_args!("{reply:?}"));
        };
        match &body {
            reply::Body::Granted(granted) => {
                self.granted(h, pid, granted, files)?;
                if let (Some(request::Body::Create(ask)), Some(segment)) =
                    (&asked, &granted.segment)
                {
                    let fits = ask.align == 0 || segment.addr.is_multiple_of(ask.align);
                    holds(fits, "a segment begins where it was asked to", || {
                        format!("at {:#x} for {:#x}", segment.addr, ask.align)
                    })?;
                }
            }
            reply::Body::Done(_) => self.done(h, client, asked.as_ref())?,
            reply::Body::Error(error) => {
                let joins = matches!(asked, Some(request::Body::Join(_)));
                if joins && error.reason() == ErrorReason::NotFound {
                    self.trace.reached("a group is not found");
                }
                self.mark_refusal(error.reason());
            }
            _ => {}
        }
        let Some(process) = self.machines[h].processes.get_mut(&pid) else {
            return Ok(());
        };
        if let (Some(request::Body::Free(ask)), reply::Body::Done(_)) = (&asked, &body) {
            SegmentId::new(ask.segment_id)
                .into_iter()
                .for_each(|id| process.unmap(id));
        }
        let is_refused = matches!(body, reply::Body::Error(_));
        if let (Some(request::Body::Revoke(_)), false) = (&asked, is_refused) {
            self.trace.reached("a share is taken back");
        }
        if let (Some(request::Body::Seal(ask)), reply::Body::Error(_)) = (&asked, &body) {
            // It may be sealed, where this is a repetition: whoever is refused asks what it holds
            // before it accesses anything.
            let group = process
                .held
                .iter()
                .find(|(id, held)| id.number() == ask.segment_id && held.tag.is_some());
            match group.map(|(id, _)| *id) {
                Some(id) => process.unmap(id),
                None => process.held.retain(|id, _| id.number() != ask.segment_id),
            }
        }
        process.is_answered |= is_due;
        Ok(())
    }

    /// What a client is told to be done, the journal says.
    fn done(&self, h: usize, client: ClientId, asked: Option<&request::Body>) -> Checked {
        let durable = &self.machines[h].durable;
        match asked {
            Some(request::Body::Close(ask)) => {
                Books::told_gone(durable, Some(client.number()), ask.segment_id)
            }
            Some(request::Body::Free(ask)) => Books::told_gone(durable, None, ask.segment_id),
            _ => Ok(()),
        }
    }

    fn mark_refusal(&mut self, reason: ErrorReason) {
        let mark = match reason {
            ErrorReason::OverQuota => "a grant is refused for quota",
            ErrorReason::TierFull => "a grant is refused for room",
            ErrorReason::MachineShort => "a grant is refused for the machine's memory",
            _ => return,
        };
        self.trace.reached(mark);
    }

    fn granted(
        &mut self,
        h: usize,
        pid: u32,
        granted: &session::Granted,
        files: &[(BackingId, Access)],
    ) -> Checked {
        let Some(segment) = &granted.segment else {
            return broken("a grant has a segment", format_args!("{granted:?}"));
        };
        let machine = &mut self.machines[h];
        let Some(process) = machine.processes.get_mut(&pid) else {
            return Ok(());
        };
        let client = process.client().map_or(0, ClientId::number);
        let pieces: Vec<u64> = files.iter().map(|(id, _)| id.number()).collect();
        let told = (client, segment.segment_id);
        let what = (segment.incarnation, segment.sealed);
        Books::told_granted(&machine.durable, told, what, &pieces)?;
        let Some(id) = SegmentId::new(segment.segment_id) else {
            return broken("a grant has a segment", format_args!("{granted:?}"));
        };
        Books::told_to_whom_it_may_be(&machine.durable, told, granted.access())?;
        let foreign = is_foreign(&machine.durable, client, segment.segment_id);
        let mapped = mapped(
            &machine.files,
            (id, segment),
            granted.access(),
            files,
            foreign,
        )?;
        let before = process.held.get(&id).map(|held| held.pieces.len());
        if before.is_some_and(|before| before < files.len()) {
            self.trace.reached("a segment grows");
        }
        let (leased, hand) = (std::mem::take(&mut process.leased), process.hand.take());
        process.unmap(id);
        (process.leased, process.hand) = (leased, hand);
        for (backing, mapping) in mapped {
            process.mapped.insert(backing, mapping);
            process.received.insert(backing);
            if granted.access() == Access::ReadWrite {
                process.wrote.insert(backing);
            }
        }
        let slot = slot_of(granted);
        if let Some(slot) = slot {
            let before = machine.given.insert((id, slot), client);
            let is_its = before.is_none_or(|before| before == client);
            holds(is_its, "a slot is of one member", || {
                format!("{slot} of {id} is given to {client} and is {before:?}'s")
            })?;
        }
        let held = machine.held(client, (id, slot), (granted, segment), files)?;
        if let Some(process) = machine.processes.get_mut(&pid) {
            process.held.insert(id, held);
        }
        self.told_tag(&segment.tag, foreign)?;
        self.addresses_are_nobody_elses(h)
    }

    /// No address is mapped for two segments, by whomever.
    fn addresses_are_nobody_elses(&self, h: usize) -> Checked {
        let machine = &self.machines[h];
        let mut ranges = Vec::new();
        for process in machine.processes.values() {
            for (backing, mapping) in &process.mapped {
                // The daemon cannot know of what it has no descriptor of.
                if machine.files.get(backing).is_some_and(|file| file.kept) {
                    let start = mapping.addr.get();
                    ranges.push((start, start + mapping.bytes, mapping.segment));
                }
            }
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            let apart = pair[0].1 <= pair[1].0 || pair[0].2 == pair[1].2;
            holds(apart, "an address is of one segment", || {
                format!("{pair:?}")
            })?;
        }
        Ok(())
    }

    /// A client is told something unasked.
    pub(super) fn told(
        &mut self,
        h: usize,
        client: ClientId,
        body: Option<event::Body>,
    ) -> Checked {
        let machine = &mut self.machines[h];
        let Some(pid) = machine.pid_of(client) else {
            return Ok(());
        };
        let Some(process) = machine.processes.get_mut(&pid).filter(|p| p.connected) else {
            return Ok(());
        };
        match body {
            Some(event::Body::Revoked(session::Revoked { segment_id, .. }))
            | Some(event::Body::Lost(session::Lost { segment_id })) => {
                let Some(id) = SegmentId::new(segment_id) else {
                    return Ok(());
                };
                let leases = process.leased.keys().any(|(of, _)| *of == id);
                if leases && !is_honest(pid) {
                    // It hears nothing, and goes on as if it held the domain.
                    let held = process.held.get_mut(&id);
                    held.into_iter().for_each(|held| held.is_outdated = true);
                } else {
                    process.lets_go(id);
                }
            }
            Some(event::Body::Changed(session::Changed { segment_id, .. })) => {
                let held = SegmentId::new(segment_id).and_then(|id| process.held.get_mut(&id));
                held.into_iter().for_each(|held| held.is_outdated = true);
            }
            Some(event::Body::Damaged(session::Damaged {
                segment_id, offset, ..
            })) => {
                self.trace.reached("holders are told of damage");
                let books = &mut self.machines[h].books;
                return books.told_of_damage(client.number(), segment_id, offset);
            }
            Some(event::Body::Recalled(session::Recalled {
                segment_id, unit, ..
            })) => self.recalled_from(h, pid, segment_id, unit)?,
            _ => {}
        }
        Ok(())
    }
}

impl Machine {
    /// What a client holds of a segment that it is granted.
    fn held(
        &mut self,
        client: u64,
        (id, slot): (SegmentId, Option<coherence::Slot>),
        (granted, segment): (&session::Granted, &SegmentMessage),
        files: &[(BackingId, Access)],
    ) -> Checked<Held> {
        let pieces: Vec<BackingId> = files.iter().map(|(backing, _)| *backing).collect();
        let era = match slot {
            Some(slot) => {
                let words = pieces.first().and_then(|id| self.words.get(id));
                let living = words.and_then(|words| words.members.living(slot));
                self.eras.granted((id, slot), living, client)?
            }
            None => 0,
        };
        let row = match self.durable.get(&(Table::Segments, segment.segment_id)) {
            Some(Record::Segment(row)) => Some(row),
            _ => None,
        };
        let first = files.first().and_then(|(id, _)| self.files.get(id));
        let tag = first.and_then(|file| file.group);
        Ok(Held {
            tag,
            access: granted.access(),
            incarnation: segment.incarnation,
            pieces,
            is_outdated: false,
            slot,
            era,
            writers: granted.writers,
            part: row.and_then(|row| heap::part(&row.name)),
        })
    }
}

/// Where a process has the files of what it was granted, which are what it was told.
fn mapped(
    all: &BTreeMap<BackingId, File>,
    (id, segment): (SegmentId, &SegmentMessage),
    granted: Access,
    files: &[(BackingId, Access)],
    foreign: bool,
) -> Checked<Vec<(BackingId, Mapping)>> {
    let (mut end, mut mapped) = (0, Vec::new());
    for (piece, &(backing, access)) in segment.pieces.iter().zip(files) {
        let file = all.get(&backing).filter(|file| file.kept);
        let bytes = file.map_or(0, |file| file.extents.len() as u64 * EXTENT_BYTES);
        let shows = !foreign || file.is_some_and(|file| file.shareable);
        holds(shows, "what another tenant maps is whole", || {
            format!("{file:?}")
        })?;
        let fits = piece.offset == end && piece.bytes == bytes && access == granted;
        holds(fits, "a descriptor is of what was granted", || {
            format!("{piece:?} of {segment:?} is {file:?}")
        })?;
        end += bytes;
        let addr = PoolAddr::new(segment.addr + piece.offset);
        let mapping = Mapping {
            segment: id,
            addr,
            bytes,
        };
        mapped.push((backing, mapping));
    }
    Ok(mapped)
}

/// The place in a domain that somebody is given.
fn slot_of(granted: &session::Granted) -> Option<coherence::Slot> {
    let slot = u8::try_from(granted.slot).ok();
    let slot = slot.and_then(coherence::Slot::new);
    slot.filter(|slot| *slot != coherence::Slot::DAEMON)
}

/// Whether a client is of another tenant than a segment is.
fn is_foreign(durable: &Durable, client: u64, segment: u64) -> bool {
    let client = match durable.get(&(Table::Clients, client)) {
        Some(Record::Client(row)) => Some(row.tenant_id),
        _ => None,
    };
    let owner = match durable.get(&(Table::Segments, segment)) {
        Some(Record::Segment(row)) => Some(row.tenant_id),
        _ => None,
    };
    client != owner
}

/// Whether a process does what it is told; one in three is stopped, or looks away.
pub(super) const fn is_honest(pid: u32) -> bool {
    !pid.is_multiple_of(3)
}
