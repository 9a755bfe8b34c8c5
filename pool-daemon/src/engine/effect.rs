//! What the engine wants done: first the records made durable, then the actions performed in order.

use coherence::{Layout, Slot};
use pool_core::{
    BackingId, Bytes, ClientId, DeviceId, Extents, GroupTag, Incarnation, PoolAddr, SegmentId,
};
use pool_proto::admin::v1::{Device, PoolEvent};
use pool_proto::common::v1::{Access, Error};
use pool_proto::session::v1::{Event, Reply};

use super::command::{ConnectionId, PeerIdentity, TicketId};
use super::runs::Run;
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
        /// Which extents of the device, in the order of their offsets.
        runs: Vec<Run>,
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
    /// Write the directory of a new domain, whose file nobody has yet; the outcome comes back as
    /// `Command::Formatted`.
    Format {
        /// Of which segment.
        segment: SegmentId,
        /// Its first file.
        directory: BackingId,
        /// How it is cut.
        layout: Layout,
        /// How its members see each other's writes, as its header says it.
        mode: u8,
        /// The memory that holds the contents of every unit.
        incarnation: Incarnation,
        /// Each unit has a checksum.
        checksums: bool,
    },
    /// Say in the directory that a member has come to the slot.
    Enter {
        /// Whose.
        directory: BackingId,
        /// Which slot.
        slot: Slot,
    },
    /// Wait until the process has ended, every thread of it, and say `Command::Ended`.
    AwaitEnd {
        /// The domain in which it had a slot.
        segment: SegmentId,
        /// Which slot.
        slot: Slot,
        /// The process.
        process: PeerIdentity,
    },
    /// Take away all that is held in some slots; the outcome comes back as `Command::Recovered`.
    Recover(Recovery),
    /// See who holds a unit that somebody waits for; the outcome comes back as `Command::Looked`.
    Look {
        /// Of which segment.
        segment: SegmentId,
        /// Its first file.
        directory: BackingId,
        /// Which unit.
        unit: u32,
    },
    /// End the recall of a unit that whoever recalled it leaves free.
    EndRecall {
        /// Its first file.
        directory: BackingId,
        /// Which unit.
        unit: u32,
    },
    /// Take every unit of a domain, that its contents can be copied; the outcome comes back as
    /// `Command::Held`.
    Hold(Hold),
    /// Lease a unit for reading in the place of a client, or let go of it; the outcome comes back
    /// as `Command::Leased`.
    Lease {
        /// For whom.
        client: ClientId,
        /// Which request wants it.
        request_id: u64,
        /// The directory of the domain.
        directory: BackingId,
        /// The client's slot.
        slot: Slot,
        /// Which unit.
        unit: u32,
        /// Which of the two.
        lease: Lease,
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
    /// Destroy a file in quarantine that nobody here can have any more, and say
    /// `Command::Released`.
    Destroy {
        /// Its name.
        backing: BackingId,
    },
    /// These extents of a dynamic device are the pool's no more: they may be given back. None,
    /// where none is free.
    Withdrawn {
        /// Which device.
        device: DeviceId,
        /// Whole units, as they were asked for.
        runs: Vec<Run>,
    },
    /// Something is to be done about a group; what it came to is said by
    /// [`Capacity`](super::command::Capacity).
    Group {
        /// The device whose memory it is.
        device: DeviceId,
        /// What.
        ask: GroupAsk,
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

/// What is to be done about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAsk {
    /// Make one, under a tag that is drawn.
    Make {
        /// The segment that it is to be.
        segment: SegmentId,
        /// Its first address.
        addr: PoolAddr,
        /// Its length.
        extents: Extents,
    },
    /// Have one that another host has sealed.
    Join {
        /// The segment that it is to be.
        segment: SegmentId,
        /// Which.
        tag: GroupTag,
    },
    /// It is sealed: other hosts may join it from now on, also when this one has it no more.
    Publish(GroupTag),
    /// This host has it no more.
    Leave {
        /// Which.
        tag: GroupTag,
        /// This host has made it: nobody joins it from now on.
        is_ours: bool,
    },
}

/// What is to be done about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Take it.
    Acquire,
    /// Let go of it.
    Release,
}

/// Which domain is to be held to be copied, and away from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The domain.
    pub segment: SegmentId,
    /// Its first file.
    pub directory: BackingId,
    /// How it is cut.
    pub layout: Layout,
    /// The slots that are evicted: a bit each.
    pub evicted: u32,
    /// What they write is fenced. Nobody's else is.
    pub fences: bool,
}

/// Which slots of which domain are to be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The domain.
    pub segment: SegmentId,
    /// Its first file.
    pub directory: BackingId,
    /// How it is cut.
    pub layout: Layout,
    /// What a writer that is gone has left is kept as it is; otherwise it is lost.
    pub keeps: bool,
    /// It is judged by the checksum of the unit instead.
    pub checks: bool,
    /// The slots: a bit each.
    pub slots: u32,
    /// The slots that somebody has: they are said to live where the directory does not say so yet.
    pub members: u32,
    /// Whoever had the slots has left in order, and nothing of before this life is unfinished: so
    /// nobody died between a change of a word and the waking of those who sleep.
    pub in_order: bool,
    /// Of these, those of members that never had the contents mapped where they are now: what they
    /// write is as it was.
    pub cut_off: u32,
    /// An eviction is over, done or failed: the contents of every unit are in the memory of this
    /// incarnation, which is said before anything of a unit is given back.
    pub contents_in: Option<Incarnation>,
    /// Fenced units are judged. Otherwise their writers may live, and only what is known to be lost
    /// is said to be.
    pub settles: bool,
}
