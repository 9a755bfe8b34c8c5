//! What the engine wants done: first the records made durable, then the actions performed in order.

use pool_core::{BackingId, Bytes, ClientId, DeviceId, SegmentId};
use pool_proto::admin::v1::{Device, PoolEvent};
use pool_proto::common::v1::{Access, Error};
use pool_proto::session::v1::{Event, Reply};

use super::command::{ConnectionId, TicketId};
use crate::journal::Record;

/// The outcome of one step.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be durable before any action is performed.
    pub records: Vec<Record>,
    /// To be performed in this order.
    pub actions: Vec<Action>,
}

/// One thing to be done in the world.
#[derive(Debug)]
pub enum Action {
    /// From now on requests on `connection` are those of `client`. A connection it had before is
    /// closed.
    Bind {
        /// The connection.
        connection: ConnectionId,
        /// The client.
        client: ClientId,
    },
    /// Answer the first request of a connection. The event socket and the liveness page of its
    /// client ride along where `welcome` is set.
    Welcome {
        /// Where to.
        connection: ConnectionId,
        /// The answer.
        reply: Reply,
        /// Whether the client is attached.
        welcome: bool,
    },
    /// Answer a client.
    Reply {
        /// Whom.
        client: ClientId,
        /// The answer.
        reply: Reply,
        /// Files to ride along, in the order of the pieces.
        files: Vec<(BackingId, Access)>,
    },
    /// Tell a client something unasked.
    Event {
        /// Whom.
        client: ClientId,
        /// What.
        event: Event,
    },
    /// End the session of a client.
    Close {
        /// Whose.
        client: ClientId,
    },
    /// Build a file; the outcome comes back as `Command::Built`.
    Build {
        /// Its name from now on.
        backing: BackingId,
        /// Where.
        device: DeviceId,
        /// How large: whole extents.
        bytes: Bytes,
        /// Other tenants may come to map it: no page of it may ever be missing, whatever a writer
        /// does.
        shareable: bool,
    },
    /// Copy the contents of some files, end to end, into others; the outcome comes back as
    /// `Command::Copied`. The new files are mapped by nobody yet.
    Copy {
        /// Of which segment.
        segment: SegmentId,
        /// From, in order.
        from: Vec<BackingId>,
        /// To, in order. As many bytes in all.
        to: Vec<BackingId>,
    },
    /// Watch a file until no mapping and no descriptor of it is left, free its pages, and say
    /// `Command::Released`.
    Watch {
        /// Its name.
        backing: BackingId,
    },
    /// Destroy a file that was built and never handed to anybody.
    Discard {
        /// Its name.
        backing: BackingId,
    },
    /// Answer an operator.
    Answer {
        /// Which question.
        ticket: TicketId,
        /// The device as it now is, nothing for what is removed, or why not.
        outcome: Result<Option<Device>, Error>,
    },
    /// Tell operators.
    Publish(PoolEvent),
}
