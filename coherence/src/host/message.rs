//! What a home and its peers tell each other. Every field is a plain number.

/// The hosts of one device: slot 0 is the home's own, 1 to 31 are its peers'.
pub const SLOTS: u8 = 32;

/// No epoch, version or era that is a number of this protocol is larger, so that none overflows.
pub const NUMBER_MAX: u64 = 1 << 62;

/// By how much one exclusive grant may raise the version at most.
pub const PUBLISHED_MAX: u64 = 1 << 48;

/// What a host may do with an extent. Each right includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Right {
    /// Neither read nor write.
    Nothing = 0,
    /// Read; others may read as well.
    Shared = 1,
    /// Read and write; no other host does either.
    Exclusive = 2,
}

/// What became of an extent's content under a grant that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Nothing was written under this grant, or the grant was never used.
    Unused,
    /// Changes were written back to the device, then published under this version.
    Wrote {
        /// The last version published; more than the version of the grant.
        version: u64,
    },
    /// A writer ended in the middle of a change, and its host could not repair it.
    Torn {
        /// The last version that users of this host have seen; at least that of the grant.
        version: u64,
    },
}

/// Why a host gets no right to an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Denial {
    /// A host holds the extent and does not answer, or the home does not. Ask again later; the
    /// operator is told whom to fence.
    #[error("not within the deadline; the host in slot {holder} holds it")]
    Unavailable {
        /// The slot of a host that holds the extent; the asker's own where that is not known.
        holder: u8,
    },
    /// A writer died in it. Repair it from a copy, accept what is there, or withdraw it.
    #[error("lost; version {last_good} was the last good one")]
    Lost {
        /// The last version that was published whole.
        last_good: u64,
    },
    /// The extent was withdrawn for good. Use another.
    #[error("withdrawn")]
    Withdrawn,
    /// A queue is full. Ask again later.
    #[error("too many requests wait")]
    Busy,
    /// The device has no extent of this number. The caller is wrong.
    #[error("no such extent")]
    UnknownExtent,
    /// The host is not, or no longer, a member. Join, then ask again.
    #[error("this host is no member")]
    NotMember,
}

/// A message of a peer to the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToHome {
    /// The sender's slot, below [`SLOTS`].
    pub from: u8,
    /// The sender's era; 0 with [`Ask::Join`].
    pub era: u64,
    /// What it asks or tells.
    pub ask: Ask,
}

/// What a peer asks or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// Make me a member. I use nothing, and I cache no line of the device.
    Join {
        /// Rises with each life of this host; never used twice.
        boot: u64,
    },
    /// Give me this right. I hold nothing of the extent, and all that I gave back is acknowledged.
    Request {
        /// The extent's number on the device.
        extent: u32,
        /// Rises with each request of this era.
        ticket: u64,
        /// Shared or exclusive.
        right: Right,
        /// Requests with lower tickets are settled: their late copies mean nothing.
        floor: u64,
    },
    /// I use the grant of this ticket no longer, beyond what I keep. It is sent again until
    /// [`Tell::Released`] comes, also for a request that is withdrawn.
    Release {
        /// The extent's number.
        extent: u32,
        /// The grant's ticket.
        ticket: u64,
        /// The grant's epoch; 0 where the grant was never received.
        epoch: u64,
        /// Nothing, or shared after an exclusive grant.
        keep: Right,
        /// What became of the content.
        outcome: Outcome,
        /// Requests with lower tickets are settled, mostly this one as well.
        floor: u64,
    },
    /// I hold this grant; does your journal say so?
    Announce {
        /// The extent's number.
        extent: u32,
        /// The grant's ticket.
        ticket: u64,
        /// What I hold.
        right: Right,
        /// The grant's epoch.
        epoch: u64,
    },
    /// All that I hold was announced and confirmed in this term.
    Announced {
        /// The term of [`Tell::Hello`].
        term: u64,
    },
}

/// A message of the home to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToPeer {
    /// The addressee's slot.
    pub to: u8,
    /// The era it is meant for; the addressee in another era throws it away.
    pub era: u64,
    /// What it is told.
    pub tell: Tell,
}

/// What the home tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tell {
    /// You are a member, in the era of this message.
    Welcome {
        /// Which life was made a member.
        boot: u64,
    },
    /// You are no member: a former life still holds extents and is not fenced. Ask again.
    NotFenced {
        /// Which life asked.
        boot: u64,
    },
    /// You are no member: a later life of your host was one already.
    Behind {
        /// Which life asked.
        boot: u64,
        /// The latest life that was a member.
        latest: u64,
    },
    /// You hold this.
    Grant {
        /// The extent's number.
        extent: u32,
        /// The ticket of the request.
        ticket: u64,
        /// What you hold.
        right: Right,
        /// The extent's epoch.
        epoch: u64,
        /// The version that is published: caches of another one are stale.
        version: u64,
    },
    /// You do not get this.
    Refuse {
        /// The extent's number.
        extent: u32,
        /// The ticket of the request.
        ticket: u64,
        /// Why.
        why: Denial,
    },
    /// Give this back, down to `to`.
    Recall {
        /// The extent's number.
        extent: u32,
        /// The ticket of the grant.
        ticket: u64,
        /// Nothing or shared.
        to: Right,
    },
    /// What you gave back is mine again.
    Released {
        /// The extent's number.
        extent: u32,
        /// The grant's ticket.
        ticket: u64,
        /// What you keep.
        keep: Right,
    },
    /// You announced what my journal does not say: use it no more.
    Void {
        /// The extent's number.
        extent: u32,
        /// The ticket that you announced.
        ticket: u64,
    },
    /// I began anew. Announce what you hold.
    Hello {
        /// Rises with each start of the home.
        term: u64,
    },
    /// The era of this message is over. End your users, forget your caches, join anew.
    Dead,
}
