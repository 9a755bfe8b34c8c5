//! A session as one sees it on the wire: nothing is checked before it is sent, and nothing is
//! repaired.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};
use pool_core::clock::Deadline;
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::mem::{Access as MapAccess, FileMap, Mapped};
use pool_core::packet::{self, PacketError};
use pool_core::{Bytes, Nanos};
use pool_proto::common::v1::{Access, Error, Lifetime, Segment};
use pool_proto::session::v1 as session;
use prost::Message as _;
use session::{Reply, Request, event, reply, request};

use crate::{PATIENCE, patience, pattern};

/// The protocol that the tests speak.
pub const PROTOCOL: u32 = 1;

/// Why a request has no answer that it hoped for.
#[derive(Debug, Clone, PartialEq)]
pub enum Unanswered {
    /// The daemon refused it.
    Refused(Error),
    /// The connection is closed, or the daemon does not answer.
    Gone(PacketError),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {}", error.message),
            Self::Gone(error) => write!(f, "no answer: {error}"),
        }
    }
}

/// What came back: a message, and the descriptors that rode along.
#[derive(Debug)]
pub struct Answer {
    /// The id of the request it answers.
    pub request_id: u64,
    /// What it says.
    pub body: reply::Body,
    /// The descriptors.
    pub files: Vec<OwnedFd>,
}

/// A connection to the session socket, without a session.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    patience: Nanos,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open(path: &Path) -> nix::Result<Self> {
        Self::open_within(path, PATIENCE)
    }

    /// Connects, and waits for that and for an answer no longer than `patience`.
    ///
    /// # Errors
    /// As the kernel says: `EAGAIN` where too many wait to be let in.
    pub fn open_within(path: &Path, patience: Nanos) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let micros = i64::try_from(patience.get() / 1_000).unwrap_or(i64::MAX);
        setsockopt(&socket, SendTimeout, &TimeVal::microseconds(micros))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self { socket, patience })
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends any bytes, with any descriptors.
    ///
    /// # Errors
    /// Where the daemon has closed the connection, or takes no more.
    pub fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), PacketError> {
        let deadline = Deadline::after(self.patience);
        packet::send_by(self.socket(), bytes, files, deadline)
    }

    /// The next message.
    ///
    /// # Errors
    /// Where the daemon has closed the connection.
    pub fn receive(&self) -> Result<Answer, PacketError> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let deadline = Deadline::after(self.patience);
        let packet = packet::receive_by(self.socket(), &mut buffer, deadline)?;
        let reply = Reply::decode(&buffer[..packet.len]).expect("the daemon sends replies");
        Ok(Answer {
            request_id: reply.request_id,
            body: reply.body.expect("a reply says something"),
            files: packet.descriptors,
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn request(&self, request_id: u64, body: request::Body) -> Result<(), PacketError> {
        let request = Request {
            request_id,
            body: Some(body),
        };
        self.send(&request.encode_to_vec(), &[])
    }
}

/// A segment that is held and mapped, somewhere in this process.
#[derive(Debug)]
pub struct Held {
    /// As the daemon described it last.
    pub segment: Segment,
    /// What the daemon allows.
    pub access: Access,
    /// The client's place, where it is a domain.
    pub slot: u32,
    /// A descriptor for each piece.
    pub files: Vec<OwnedFd>,
    maps: Vec<FileMap>,
}

impl Held {
    /// Takes a grant, and maps it.
    pub fn new(granted: session::Granted, files: Vec<OwnedFd>) -> Self {
        let (access, slot) = (granted.access(), granted.slot);
        let segment = granted.segment.expect("a grant has a segment");
        assert_eq!(
            segment.pieces.len(),
            files.len(),
            "a descriptor for each piece"
        );
        let allowed = match access {
            Access::ReadWrite => MapAccess::ReadWrite,
            _ => MapAccess::ReadOnly,
        };
        let map = |(piece, file): (&pool_proto::common::v1::Piece, &OwnedFd)| {
            FileMap::new(file.as_fd(), Bytes::ZERO, Bytes::new(piece.bytes), allowed)
        };
        let maps = segment
            .pieces
            .iter()
            .zip(&files)
            .map(map)
            .collect::<Result<_, _>>();
        let maps = maps.expect("what is granted can be mapped");
        Self {
            segment,
            access,
            slot,
            files,
            maps,
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.segment.segment_id
    }

    /// The pieces, with the offset of each.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, Mapped<'_>)> {
        let offsets = self.segment.pieces.iter().map(|piece| piece.offset);
        offsets.zip(self.maps.iter().map(FileMap::mapped))
    }

    /// Fills it with what `seed` writes.
    pub fn write(&self, seed: u64) {
        self.pieces()
            .for_each(|(offset, mapped)| pattern::write(&mapped, offset, seed));
    }

    /// Whether it holds what `seed` wrote, all of it.
    #[must_use]
    pub fn holds(&self, seed: u64) -> bool {
        self.pieces()
            .all(|(offset, mapped)| pattern::holds(&mapped, offset, seed))
    }

    /// Whether it is zero throughout.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.pieces().all(|(_, mapped)| pattern::is_zero(&mapped))
    }
}

/// An attached client.
#[derive(Debug)]
pub struct Session {
    patience: Nanos,
    connection: Connection,
    socket: PathBuf,
    events: OwnedFd,
    page: OwnedFd,
    attached: session::Attached,
    last_id: u64,
}

impl Session {
    /// Attaches.
    ///
    /// # Errors
    /// As the daemon refuses it.
    pub fn attach(socket: &Path, tenant: &str, name: &str) -> Result<Self, Unanswered> {
        Self::attach_within(socket, tenant, name, PATIENCE)
    }

    /// Attaches, and waits no longer than `patience` for this answer and for those to come.
    ///
    /// # Errors
    /// As the daemon refuses it.
    pub fn attach_within(
        socket: &Path,
        tenant: &str,
        name: &str,
        patience: Nanos,
    ) -> Result<Self, Unanswered> {
        let connection = connected(socket, patience)?;
        let ask = session::Attach {
            protocol: PROTOCOL,
            tenant: tenant.to_owned(),
            name: name.to_owned(),
        };
        let answer = exchange(&connection, 1, request::Body::Attach(ask))?;
        let reply::Body::Attached(attached) = answer.body else {
            panic!("an attach is answered by {:?}", answer.body);
        };
        let [events, page] = gifts(answer.files);
        let socket = socket.to_owned();
        Ok(Self {
            patience,
            connection,
            socket,
            events,
            page,
            attached,
            last_id: 1,
        })
    }

    /// Takes the session up again on a new connection, after the daemon was started anew.
    ///
    /// # Errors
    /// As the daemon refuses it.
    pub fn reattach(&mut self) -> Result<session::Reattached, Unanswered> {
        let (client_id, token) = (self.attached.client_id, self.attached.token.clone());
        self.reattach_as(client_id, token)
    }

    /// Takes up the session that `client_id` and `token` say.
    ///
    /// # Errors
    /// As the daemon refuses it.
    pub fn reattach_as(
        &mut self,
        client_id: u64,
        token: Vec<u8>,
    ) -> Result<session::Reattached, Unanswered> {
        let connection = connected(&self.socket, self.patience)?;
        let ask = session::Reattach {
            protocol: PROTOCOL,
            client_id,
            token,
        };
        let answer = exchange(&connection, 1, request::Body::Reattach(ask))?;
        let reply::Body::Reattached(reattached) = answer.body else {
            panic!("a reattach is answered by {:?}", answer.body);
        };
        [self.events, self.page] = gifts(answer.files);
        self.connection = connection;
        Ok(reattached)
    }

    /// Waits no longer than `patience` for answers from now on.
    pub fn set_patience(&mut self, patience: Nanos) {
        self.patience = patience;
        self.connection.patience = patience;
    }

    /// What the daemon said when the session was made.
    #[must_use]
    pub fn attached(&self) -> &session::Attached {
        &self.attached
    }

    /// The tenant the client belongs to.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.attached.tenant
    }

    /// The connection, to misuse.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The page through which the client shows that it lives.
    #[must_use]
    pub fn page(&self) -> BorrowedFd<'_> {
        self.page.as_fd()
    }

    /// The id that the next request takes.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The id of the last request.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Asks, under the next id.
    ///
    /// # Errors
    /// As the daemon refuses it.
    pub fn try_ask(&mut self, body: request::Body) -> Result<Answer, Unanswered> {
        let id = self.next_id();
        self.ask_as(id, body)
    }

    /// Asks under any id.
    ///
    /// # Errors
    /// As the daemon refuses it.
    pub fn ask_as(&self, request_id: u64, body: request::Body) -> Result<Answer, Unanswered> {
        exchange(&self.connection, request_id, body)
    }

    /// Asks for what must succeed.
    pub fn ask(&mut self, body: request::Body) -> Answer {
        let what = format!("{body:?}");
        self.try_ask(body)
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Asks for what must be refused.
    pub fn refused(&mut self, body: request::Body) -> Error {
        let what = format!("{body:?}");
        match self.try_ask(body) {
            Err(Unanswered::Refused(error)) => error,
            other => panic!("{what} is answered by {other:?}"),
        }
    }

    /// Asks for a grant that must succeed.
    pub fn granted(&mut self, body: request::Body) -> Held {
        granted(self.ask(body))
    }

    /// Brings a descriptor back.
    ///
    /// # Errors
    /// As the daemon refuses it.
    pub fn supply(&mut self, backing_id: u64, file: BorrowedFd<'_>) -> Result<(), Unanswered> {
        let request_id = self.next_id();
        let body = Some(request::Body::Supply(session::Supply { backing_id }));
        let bytes = Request { request_id, body }.encode_to_vec();
        self.connection
            .send(&bytes, &[file])
            .map_err(Unanswered::Gone)?;
        take_answer(&self.connection, request_id).map(drop)
    }

    /// The next event, which must come.
    pub fn event(&self) -> event::Body {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let packet = packet::receive_by(self.events.as_fd(), &mut buffer, patience());
        let packet = packet.expect("an event comes");
        let event = session::Event::decode(&buffer[..packet.len]).expect("it is an event");
        event.body.expect("it says something")
    }

    /// The event socket.
    #[must_use]
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// What the client's tenant may see, by name.
    pub fn list(&mut self) -> BTreeMap<String, Segment> {
        let reply::Body::Listed(listed) = self.ask(ask::list()).body else {
            panic!("a list was asked for");
        };
        assert!(!listed.truncated);
        listed
            .segments
            .into_iter()
            .map(|segment| (segment.name.clone(), segment))
            .collect()
    }
}

/// The grant in an answer.
pub fn granted(answer: Answer) -> Held {
    match answer.body {
        reply::Body::Granted(granted) => Held::new(granted, answer.files),
        other => panic!("a grant was hoped for, and there came {other:?}"),
    }
}

fn connected(socket: &Path, patience: Nanos) -> Result<Connection, Unanswered> {
    let call = "connect";
    let gone = |errno| match errno {
        Errno::EAGAIN => Unanswered::Gone(PacketError::TimedOut),
        _ => Unanswered::Gone(PacketError::Os { call, errno }),
    };
    Connection::open_within(socket, patience).map_err(gone)
}

fn gifts(files: Vec<OwnedFd>) -> [OwnedFd; 2] {
    files
        .try_into()
        .expect("the event socket and the liveness page")
}

fn exchange(
    connection: &Connection,
    request_id: u64,
    body: request::Body,
) -> Result<Answer, Unanswered> {
    connection
        .request(request_id, body)
        .map_err(Unanswered::Gone)?;
    take_answer(connection, request_id)
}

fn take_answer(connection: &Connection, request_id: u64) -> Result<Answer, Unanswered> {
    let answer = connection.receive().map_err(Unanswered::Gone)?;
    assert_eq!(answer.request_id, request_id, "{:?}", answer.body);
    match answer.body {
        reply::Body::Error(error) => {
            assert!(answer.files.is_empty(), "a refusal brings no descriptors");
            assert_ne!(error.class, 0, "{error:?}");
            assert!(!error.message.is_empty(), "{error:?}");
            Err(Unanswered::Refused(error))
        }
        _ => Ok(answer),
    }
}

/// Whether the kernel says that nobody listens any more.
#[must_use]
pub fn is_gone(error: PacketError) -> bool {
    let refused = [Errno::ECONNREFUSED, Errno::ENOENT, Errno::ENOTCONN];
    match error {
        PacketError::Closed => true,
        PacketError::Os { errno, .. } => refused.contains(&errno),
        _ => false,
    }
}

/// The bodies of requests.
pub mod ask {
    use super::{Access, Lifetime, request::Body, session};
    use crate::EXTENT;

    /// So many bytes of a tier, for this client alone.
    #[must_use]
    pub fn create(tier: &str, bytes: u64) -> Body {
        named(tier, bytes, "", Lifetime::Held)
    }

    /// A segment that others may open, as long as somebody holds it.
    #[must_use]
    pub fn create_named(tier: &str, bytes: u64, name: &str) -> Body {
        named(tier, bytes, name, Lifetime::Held)
    }

    /// A segment that outlives its holders.
    #[must_use]
    pub fn create_persistent(tier: &str, bytes: u64, name: &str) -> Body {
        named(tier, bytes, name, Lifetime::Persistent)
    }

    /// A segment of two extents, each a piece of its own, that may become one of three.
    #[must_use]
    pub fn create_in_pieces(tier: &str, name: &str) -> Body {
        Body::Create(session::Create {
            tier: tier.to_owned(),
            bytes: 2 * EXTENT,
            capacity_bytes: 3 * EXTENT,
            piece_bytes: EXTENT,
            name: name.to_owned(),
            lifetime: Lifetime::Held.into(),
            ..session::Create::default()
        })
    }

    fn named(tier: &str, bytes: u64, name: &str, lifetime: Lifetime) -> Body {
        Body::Create(session::Create {
            tier: tier.to_owned(),
            bytes,
            name: name.to_owned(),
            lifetime: lifetime.into(),
            ..session::Create::default()
        })
    }

    /// Opens a segment by its name.
    #[must_use]
    pub fn open(name: &str, access: Access) -> Body {
        Body::Open(session::Open {
            name: name.to_owned(),
            access: access.into(),
        })
    }

    /// The present state of what is held.
    #[must_use]
    pub fn refresh(segment_id: u64) -> Body {
        Body::Refresh(session::Refresh { segment_id })
    }

    /// Holds it no more.
    #[must_use]
    pub fn close(segment_id: u64) -> Body {
        Body::Close(session::Close { segment_id })
    }

    /// Ends it.
    #[must_use]
    pub fn free(segment_id: u64, force: bool) -> Body {
        Body::Free(session::Free { segment_id, force })
    }

    /// Gives it another size.
    #[must_use]
    pub fn resize(segment_id: u64, bytes: u64) -> Body {
        Body::Resize(session::Resize { segment_id, bytes })
    }

    /// Lets another tenant open it.
    #[must_use]
    pub fn share(segment_id: u64, tenant: &str, access: Access) -> Body {
        Body::Share(session::Share {
            segment_id,
            tenant: tenant.to_owned(),
            access: access.into(),
        })
    }

    /// Takes that back.
    #[must_use]
    pub fn revoke(segment_id: u64, tenant: &str) -> Body {
        Body::Revoke(session::Revoke {
            segment_id,
            tenant: tenant.to_owned(),
        })
    }

    /// Moves it to another tier.
    #[must_use]
    pub fn relocate(segment_id: u64, tier: &str) -> Body {
        Body::Relocate(session::Relocate {
            segment_id,
            tier: tier.to_owned(),
        })
    }

    /// Joins a group.
    #[must_use]
    pub fn join(tag: &str, name: &str, lifetime: Lifetime) -> Body {
        Body::Join(session::Join {
            tier: "common".to_owned(),
            tag: tag.to_owned(),
            name: name.to_owned(),
            lifetime: lifetime.into(),
        })
    }

    /// Seals it, as one that was told `writers` when it dropped its lines.
    #[must_use]
    pub fn seal(segment_id: u64, writers: u64) -> Body {
        Body::Seal(session::Seal {
            segment_id,
            writers,
        })
    }

    /// What the tenant may see.
    #[must_use]
    pub fn list() -> Body {
        Body::List(session::List {})
    }

    /// The tiers.
    #[must_use]
    pub fn tiers() -> Body {
        Body::Tiers(session::Tiers {})
    }

    /// Ends the session.
    #[must_use]
    pub fn detach() -> Body {
        Body::Detach(session::Detach {})
    }
}
