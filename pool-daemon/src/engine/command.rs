//! What happens to the engine: requests of clients, wishes of operators, news of the world.

use std::fmt;

use coherence::{Epoch, Grant, LeaseError, Slot};
use pool_core::{BackingId, ClientId, DeviceId, Extents, GroupTag, SegmentId};
use pool_proto::common::v1::Pages;
use pool_proto::session::v1 as session;

use super::runs::Run;

/// One connection to the session socket, as the reactor numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One operator's question, as the reactor numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub u64);

/// The process at the other end of a socket, as the kernel names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its process id, which the kernel may give to another process later.
    pub pid: u32,
    /// Clock ticks after boot at which it started; with the pid it names one process for ever.
    pub started_ticks: u64,
    /// Its user id when it connected.
    pub uid: u32,
    /// Its group id when it connected.
    pub gid: u32,
}

/// One thing that happens to the engine.
#[derive(Debug)]
pub enum Command {
    /// A connection asks for a session. `token` is fresh randomness.
    Attach {
        /// Where the answer goes.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
        /// Who asks.
        peer: PeerIdentity,
        /// What it asks.
        request: session::Attach,
        /// The session's secret, from the kernel's random numbers.
        token: [u8; 16],
    },
    /// A connection takes up a session of before.
    Reattach {
        /// Where the answer goes.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
        /// Who asks.
        peer: PeerIdentity,
        /// What it asks.
        request: session::Reattach,
    },
    /// An attached client asks for something.
    Request {
        /// Who asks.
        client: ClientId,
        /// What it asks; Attach, Reattach and Supply do not come this way.
        request: session::Request,
    },
    /// A client brought a descriptor back, and the reactor found it to be the right file.
    Supplied {
        /// Who brought it.
        client: ClientId,
        /// Echoed in the answer.
        request_id: u64,
        /// What it backs.
        backing: BackingId,
    },
    /// The connection of a client has ended. Its process may still live, and take its session up
    /// again.
    Disconnected {
        /// Which.
        client: ClientId,
    },
    /// The process of a client has ended, or its session has.
    ClientGone {
        /// Which.
        client: ClientId,
    },
    /// A file that the engine wanted built is there, or cannot be.
    Built {
        /// Its name.
        backing: BackingId,
        /// How it went.
        result: Result<Built, WorldError>,
    },
    /// Contents that the engine wanted copied are, or cannot be.
    Copied {
        /// Of which segment.
        segment: SegmentId,
        /// How it went.
        result: Result<(), WorldError>,
    },
    /// No mapping and no descriptor of a quarantined file is left anywhere, and its pages are
    /// freed.
    Released {
        /// Its name.
        backing: BackingId,
    },
    /// The directory of a new domain is written, or cannot be.
    Formatted {
        /// Which domain.
        segment: SegmentId,
        /// How it went.
        result: Result<(), WorldError>,
    },
    /// The process that had a slot of a domain has ended, every thread of it.
    Ended {
        /// Which domain.
        segment: SegmentId,
        /// Which slot.
        slot: Slot,
    },
    /// All that was held in the slots of a recovery is held no more.
    Recovered {
        /// Of which domain.
        segment: SegmentId,
        /// How it went.
        result: Result<Recovered, Unrecovered>,
    },
    /// Who holds a unit that somebody waits for was seen.
    Looked {
        /// Of which domain.
        segment: SegmentId,
        /// Which unit.
        unit: u32,
        /// Nothing where nobody does, or nobody can tell.
        seen: Option<Seen>,
    },
    /// All units of a domain were gone through, that they can be copied.
    Held {
        /// Which domain.
        segment: SegmentId,
        /// The first of those that members write who are not to be evicted; all others are held.
        written: Vec<Written>,
        /// But for some, whose words changed too often: they are to be gone through again.
        missed: bool,
    },
    /// A unit was leased for a client, or let go of.
    Leased {
        /// For whom.
        client: ClientId,
        /// Which request wanted it.
        request_id: u64,
        /// Which unit.
        unit: u32,
        /// How it went.
        outcome: Leased,
    },
    /// Something is said about a dynamic device.
    Capacity {
        /// Which.
        device: DeviceId,
        /// What.
        change: Capacity,
    },
    /// An operator wants something changed.
    Operate {
        /// Where the answer goes.
        ticket: TicketId,
        /// What.
        operation: Operation,
    },
    /// Time has passed: deadlines are looked at.
    Tick,
}

/// What is said about a dynamic device. Extents are numbered from the device's first address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capacity {
    /// These are there now, and no others.
    Present(Vec<Run>),
    /// Free ones are to go out of service, to be given back: said by `Action::Withdrawn`.
    Withdraw {
        /// So many neighbours at a time, counted from the first of the device.
        unit: u32,
        /// So many units at most.
        most: u32,
        /// None but these.
        within: Vec<Run>,
    },
    /// These hold a line whose content was lost.
    Poisoned(Vec<Run>),
    /// These groups are there now, and no others.
    Groups(Vec<HadGroup>),
    /// The group that a segment was to be is not to be had.
    NoGroup {
        /// Which segment.
        segment: SegmentId,
        /// Why not.
        why: NoGroup,
    },
    /// Nobody joins this group any more.
    Unpublished(GroupTag),
    /// All of it is reached, or nothing is at the moment. Nothing is granted where it is not, nor
    /// before this is said first.
    Reached(bool),
    /// Why it does not get what it should, for operators; nothing where nothing is in the way.
    Noted(String),
}

/// A group that this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HadGroup {
    /// Its tag.
    pub tag: GroupTag,
    /// Its extents, in their order.
    pub runs: Vec<Run>,
    /// The segment that it was asked for, where that was in this life of the daemon.
    pub asked_for: Option<SegmentId>,
}

/// Why a group is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoGroup {
    /// The fabric has not so much.
    NoRoom,
    /// No host has made it, or its maker has not sealed it, or has freed it.
    NotThere,
    /// The fabric does not answer.
    Unreached,
    /// The fabric refuses to give any.
    Refused,
    /// The region is had by one host at a time.
    NotSharable,
    /// The region gives whole blocks of so many extents.
    Blocks(Extents),
}

/// What was granted with a lease; nothing where one was let go of.
pub type Leased = Result<Option<Grant>, LeaseError>;

/// Who holds a unit, or has asked for one that nobody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// A bit a slot; none of a free unit that is recalled.
    pub holders: u32,
    /// Rises with each change of who may write.
    pub epoch: Epoch,
    /// It is held to be written.
    pub writes: bool,
    /// Nobody new is let in.
    pub is_recalled: bool,
    /// Somebody sleeps until it changes.
    pub is_awaited: bool,
}

/// A unit that cannot be copied yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Which.
    pub unit: u32,
    /// Who writes it.
    pub slot: Slot,
    /// Since when.
    pub epoch: Epoch,
}

/// What a recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Units that readers who are gone hold no more.
    pub cleared: u32,
    /// Units whose writers are gone, and whose contents are good or pass for it.
    pub repaired: u32,
    /// Units whose contents are lost.
    pub lost: u32,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cleared,
            repaired,
            lost,
        } = self;
        write!(
            f,
            "{cleared} units cleared, {repaired} repaired, {lost} lost"
        )
    }
}

/// Some units of a domain could not be recovered; the others were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{units} units cannot be recovered, the first of them unit {first}: {reason}")]
pub struct Unrecovered {
    /// How many.
    pub units: u32,
    /// The first of them.
    pub first: u32,
    /// Why not.
    pub reason: coherence::recover::RecoverError,
}

/// What an operator may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Grant nothing more from this device.
    Drain(String),
    /// Grant from it again.
    Activate(String),
    /// Take it out of the pool; it must be drained and empty.
    Remove(String),
    /// Give it so many bytes.
    Resize(String, u64),
    /// End a segment.
    Free {
        /// Which.
        segment: u64,
        /// Even while it is held.
        force: bool,
    },
}

/// A file that was built: as many zeroed bytes as were asked, really there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// The pages it got.
    pub pages: Pages,
    /// What tells it from any other file.
    pub identity: FileIdentity,
}

/// Device and inode number of a file, as `fstat` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIdentity {
    /// Of the file system.
    pub device: u64,
    /// Of the file.
    pub inode: u64,
}

/// Why the world could not do what the engine wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// The machine has not enough free memory. Free some, or make the pool smaller.
    #[error("the machine has {available_bytes} bytes to spare and {asked_bytes} were asked")]
    MachineShort {
        /// What is free beyond the floor kept for the rest of the machine.
        available_bytes: u64,
        /// What was asked.
        asked_bytes: u64,
    },
    /// A system call failed. The device is as before.
    #[error("{call} failed with error number {errno}")]
    Os {
        /// Which.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
    /// The fabric took memory back that was being given away. Ask again.
    #[error("the memory was taken back by the fabric meanwhile: ask again")]
    Withdrawn,
}
