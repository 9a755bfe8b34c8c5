//! Segments, the backings behind them, and the sessions that hold them.
//!
//! # Invariants
//! 1. The backings of a live segment follow each other without a gap: their extents sum up to the
//!    segment's.
//! 2. A client is among `holders` of a segment exactly if the segment is among its `held`, and
//!    among its `leaving` exactly if the segment is among the client's.
//! 3. A freed segment has no name, no holders and no backings in use; it is forgotten, and its
//!    addresses are free again, when the last backing that was ever mapped there is proven gone.
//! 4. No holder and no share of a sealed segment may write it, and it is no domain.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{
    BackingId, ClientId, DeviceId, Extents, GroupTag, Incarnation, SegmentId, TenantId,
};
use pool_proto::common::v1::{Access, Lifetime};

use super::command::{Built, PeerIdentity};
use super::domain::Domain;
use super::runs::Run;

/// How far a segment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its files are being built: nobody has it, and the journal does not know it.
    Building,
    /// Granted.
    Live,
    /// Ended, and waiting for proof.
    Freed,
}

/// What another tenant may do with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) access: Access,
    /// A client of the tenant has had it open, and so may have kept a mapping.
    pub(super) opened: bool,
}

/// A contiguous range of the window.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) tenant: TenantId,
    /// Empty where it has none.
    pub(super) name: String,
    /// The position of its tier.
    pub(super) tier: usize,
    /// Its addresses, in extents from the base of the window; `count` is its capacity.
    pub(super) range: Run,
    pub(super) extents: Extents,
    pub(super) incarnation: Incarnation,
    pub(super) lifetime: Lifetime,
    /// When it was granted, grown or moved last, its tenant used more than it is guaranteed.
    pub(super) burst: bool,
    /// The most extents of one piece; 0 where there is no bound.
    pub(super) piece_max: u32,
    pub(super) stage: Stage,
    /// In the order of their offsets.
    pub(super) backings: Vec<BackingId>,
    /// Every backing that names the segment: those above, those being built, those in quarantine.
    pub(super) files: BTreeSet<BackingId>,
    pub(super) shares: BTreeMap<TenantId, Share>,
    pub(super) holders: BTreeMap<ClientId, Access>,
    /// Clients that were told to let go and have not answered yet.
    pub(super) leaving: BTreeSet<ClientId>,
    /// Nobody writes it any more (invariant 4).
    pub(super) sealed: bool,
    /// How often a client was given it to write.
    pub(super) writers: u64,
    /// Set while it lives, where its payload is cut into units that are leased.
    pub(super) domain: Option<Domain>,
    /// It is a group that hosts share, on a device of such.
    pub(super) is_group: bool,
    /// Of a group, once it is there.
    pub(super) tag: Option<GroupTag>,
    /// The group was joined, and is not published by this host.
    pub(super) is_joined: bool,
}

impl Segment {
    /// Granted, and held by nobody.
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Live && self.holders.is_empty()
    }

    /// # Errors
    /// What breaks invariant 4.
    pub(super) fn check_seal(&self) -> Result<(), &'static str> {
        let may_write = |access: Access| access == Access::ReadWrite;
        if !self.sealed {
            return Ok(());
        }
        if self.holders.values().copied().any(may_write) {
            return Err("it is sealed, and a holder may write it");
        }
        if self.shares.values().any(|share| may_write(share.access)) {
            return Err("it is sealed, and a tenant may write it");
        }
        match self.domain {
            Some(_) => Err("it is sealed, and a domain"),
            None => Ok(()),
        }
    }
}

/// A file behind a part of a segment.
#[derive(Debug, Clone)]
pub(super) struct Backing {
    pub(super) id: BackingId,
    pub(super) segment: SegmentId,
    pub(super) device: DeviceId,
    pub(super) runs: Vec<Run>,
    /// `None` while it is being built.
    pub(super) built: Option<Built>,
    /// Who pays.
    pub(super) charged: TenantId,
    /// Out of use, and waiting for proof that no mapping of it is left.
    pub(super) quarantined: bool,
    /// The daemon has its descriptor.
    pub(super) present: bool,
}

impl Backing {
    pub(super) fn extents(&self) -> Extents {
        // A backing is carved from one device, whose extents are counted in a u32.
        Extents::new(self.runs.iter().map(|run| run.count).sum())
    }
}

/// What the last changing request of a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) request_id: u64,
    /// The segment it granted; `None` where the answer was just "done".
    pub(super) granted: Option<SegmentId>,
}

/// One process's session.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) tenant: TenantId,
    pub(super) peer: PeerIdentity,
    pub(super) name: String,
    pub(super) token: [u8; 16],
    /// It has a connection; otherwise it is awaited since the daemon restarted.
    pub(super) attached: bool,
    pub(super) held: BTreeSet<SegmentId>,
    /// What it was told to let go, and has not closed yet.
    pub(super) leaving: BTreeSet<SegmentId>,
    pub(super) last: Last,
    pub(super) requests: u64,
}
