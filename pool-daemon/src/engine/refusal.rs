//! Why a request was refused: always before anything was changed.

use coherence::{LayoutError, LeaseError};
use pool_core::{Bytes, EXTENT_BYTES, Extents, limits};
use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};

use super::command::WorldError;

/// A refusal. Its text names the numbers and says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field is missing, or holds what it cannot hold.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// A request came where the protocol does not allow it.
    #[error("the request is out of order: {0}")]
    OutOfOrder(&'static str),
    /// The client speaks another protocol.
    #[error(
        "the client speaks protocol {found}, this daemon speaks {supported}: use a matching library"
    )]
    Version {
        /// The client's.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// A number is outside its range.
    #[error("{what} is {asked}, and must be {least} to {most}")]
    OutOfRange {
        /// Which number, with its unit.
        what: &'static str,
        /// What was asked.
        asked: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// The name cannot be one.
    #[error("{0:?} is not a name: use 1 to 128 letters, digits and - _ . /")]
    BadName(String),
    /// The tenant has a segment of that name.
    #[error("a segment named {0:?} exists: open it, free it, or take another name")]
    NameTaken(String),
    /// There is no such thing, or it is not the asker's to know.
    #[error(
        "there is no {what} {name} for you: check its name{}",
        also_check(what)
    )]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// The name that was asked.
        name: String,
    },
    /// The asker may not do that.
    #[error("not permitted: {0}")]
    NotPermitted(&'static str),
    /// The members of a domain would not see each other's writes.
    #[error(transparent)]
    Mode(#[from] coherence::cache::ModeRefused),
    /// The tenant would have more of the tier than its limit.
    #[error(
        "over quota: tenant {tenant} may have {limit} of tier {tier}, uses {used} and asked for \
         {asked} more"
    )]
    OverQuota {
        /// Whose quota.
        tenant: String,
        /// Of which tier.
        tier: String,
        /// Its limit.
        limit: Bytes,
        /// What it uses, quarantine included.
        used: Bytes,
        /// What it asked.
        asked: Bytes,
    },
    /// The tier has not so much free.
    #[error(
        "tier {tier} is full: {free} of {total} can be granted{} and {asked} were asked; free some \
         or use another tier",
        on_draining(*draining)
    )]
    TierFull {
        /// Which tier.
        tier: String,
        /// Its size.
        total: Bytes,
        /// What is free of it, and may be granted.
        free: Bytes,
        /// What is free of it on draining devices, which grant nothing.
        draining: Bytes,
        /// What was asked.
        asked: Bytes,
    },
    /// A segment cannot be asked to begin at a multiple of that.
    #[error(
        "align is {} bytes, and must be a power of two from {least} to {most}, or 0 for any place",
        asked.get()
    )]
    Unaligned {
        /// What was asked.
        asked: Bytes,
        /// The least.
        least: Bytes,
        /// The most: no larger power of two fits the window.
        most: Bytes,
    },
    /// The window has no gap that is long enough, where it was asked for.
    #[error(
        "the window has no gap of {asked}{}: free segments, or configure a larger window",
        at_multiples(*align)
    )]
    WindowFull {
        /// What was asked.
        asked: Bytes,
        /// What it was to begin at a multiple of.
        align: Bytes,
    },
    /// The addresses behind the segment belong to another one.
    #[error(
        "the addresses behind the segment are taken beyond {capacity}: create it with that capacity"
    )]
    NoRoomBehind {
        /// Up to which size it can grow.
        capacity: Bytes,
    },
    /// A bound of the system is reached.
    #[error("at most {limit} {what}: close some first")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// What is free of a device of a fabric lies in so many runs that no file can be made of what
    /// was asked.
    #[error(
        "{asked} of device {device} would lie in {runs} runs, and a file of it can have {most}: \
         ask for less at once, or use another tier"
    )]
    Scattered {
        /// Which device.
        device: String,
        /// What one file was to be.
        asked: Bytes,
        /// The runs it would have.
        runs: usize,
        /// The most that it can have.
        most: usize,
    },
    /// It is being changed, or its files are awaited: soon over by itself.
    #[error("busy: {0}")]
    Busy(String),
    /// Others have it, and will until they let go.
    #[error("in use: {0}")]
    Held(String),
    /// Nobody writes it any more.
    #[error(
        "segment {0} is sealed, and nobody writes it any more: open it read-only, or create \
         another one and copy it there"
    )]
    Sealed(u64),
    /// The device does not give what it must for this.
    #[error("device {device} {why}")]
    Unsealed {
        /// Which device.
        device: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// A segment ends only where one of its pieces does.
    #[error(
        "a segment of this shape can have {below} or {above}, not {asked}: create it with \
         smaller pieces"
    )]
    NotAtBoundary {
        /// What was asked.
        asked: Bytes,
        /// The next smaller size it can have.
        below: Bytes,
        /// The next larger one.
        above: Bytes,
    },
    /// What was held is held no more.
    #[error("segment {0} was revoked: drop it and ask anew")]
    Revoked(u64),
    /// Its contents are gone.
    #[error("the contents of segment {0} are lost: build them anew")]
    Lost(u64),
    /// A domain cannot be cut so.
    #[error("a domain cannot be cut so: {0}")]
    Layout(#[from] LayoutError),
    /// The payload of a domain lies in files of its own.
    #[error("the payload of a domain is {asked}, and must be a whole number of extents of 2 MiB")]
    PartOfExtent {
        /// The payload that was asked.
        asked: Bytes,
    },
    /// A region of a fabric gives whole blocks.
    #[error(
        "memory that hosts share comes in blocks of {block}, and {asked} is no whole number of \
         them: ask for one"
    )]
    PartOfBlock {
        /// What was asked.
        asked: Bytes,
        /// A block of the region.
        block: Bytes,
    },
    /// The contents of a unit are lost.
    #[error(
        "the contents of unit {unit} are lost, and version {last_good} was the last that was \
         published: write them anew"
    )]
    LostUnit {
        /// Which unit.
        unit: u32,
        /// The last version that was published.
        last_good: u64,
    },
    /// A member has overwritten what decides who holds a unit.
    #[error("unit {unit}: {error}; free the domain and create another one")]
    CorruptUnit {
        /// Which unit.
        unit: u32,
        /// What was found.
        error: LeaseError,
    },
    /// The world failed.
    #[error("{0}; the request changed nothing: free memory or retry")]
    World(#[from] WorldError),
    /// The journal failed.
    #[error("the journal cannot be written: make room on its disk and retry; nothing was changed")]
    Journal,
    /// The journal failed in the midst of an operator's change. Look before you repeat it.
    #[error(
        "the journal failed while this was being done: look whether it is done before you repeat it"
    )]
    InDoubt,
    /// The client is not known.
    #[error("the daemon knows no such session: attach anew")]
    UnknownClient,
    /// A device cannot give up what is in use.
    #[error(
        "device {device} has {used} in use: free or move it before shrinking to {asked} or \
         removing it"
    )]
    InUse {
        /// Which device.
        device: String,
        /// What is in use.
        used: Bytes,
        /// The size that was asked.
        asked: Bytes,
    },
    /// Tenants are guaranteed more than would be left.
    #[error(
        "tier {tier} guarantees {guaranteed} to its tenants and would have {left}: lower their \
         requests first"
    )]
    Guaranteed {
        /// Which tier.
        tier: String,
        /// The sum of the requests.
        guaranteed: Bytes,
        /// What would be left.
        left: Bytes,
    },
    /// The engine's own tables disagree. Nothing was changed; the finding belongs in a report.
    #[error("an invariant of the daemon is broken: {0}; run `poolctl check` and report it")]
    Broken(&'static str),
}

impl Refusal {
    /// The refusal of a grant that passes a quota.
    pub(super) fn over_quota(
        tenant: &str,
        tier: &str,
        limit: Extents,
        used: Extents,
        asked: Extents,
    ) -> Self {
        let (tenant, tier) = (tenant.to_owned(), tier.to_owned());
        Self::OverQuota {
            tenant,
            tier,
            limit: limit.bytes(),
            used: used.bytes(),
            asked: asked.bytes(),
        }
    }

    /// The refusal of what does not exist for the asker.
    pub(super) fn not_found(what: &'static str, name: impl ToString) -> Self {
        let name = shown(&name.to_string());
        Self::NotFound { what, name }
    }

    /// The refusal of a name that cannot be one.
    pub(crate) fn bad_name(name: &str) -> Self {
        Self::BadName(shown(name))
    }

    fn kind(&self) -> (ErrorClass, ErrorReason) {
        use ErrorClass::{Caller, Corrupt, Exhausted, Lost, Revoked, Unreachable};
        use ErrorReason as R;
        match self {
            Self::Malformed(_) => (Caller, R::Malformed),
            Self::OutOfOrder(_) => (Caller, R::OutOfOrder),
            Self::Version { .. } => (Caller, R::Version),
            Self::OutOfRange { .. } | Self::Layout(_) | Self::PartOfExtent { .. } => {
                (Caller, R::OutOfRange)
            }
            Self::PartOfBlock { .. } => (Caller, R::OutOfRange),
            Self::Unaligned { .. } => (Caller, R::OutOfRange),
            Self::BadName(_) => (Caller, R::BadName),
            Self::NameTaken(_) => (Caller, R::NameTaken),
            Self::NotFound { .. } => (Caller, R::NotFound),
            Self::NotPermitted(_) | Self::Mode(_) => (Caller, R::NotPermitted),
            Self::OverQuota { .. } => (Exhausted, R::OverQuota),
            Self::TierFull { .. } => (Exhausted, R::TierFull),
            Self::WindowFull { .. } | Self::NoRoomBehind { .. } => (Exhausted, R::WindowFull),
            Self::Limit { .. } | Self::Scattered { .. } => (Exhausted, R::Limit),
            Self::Busy(_) => (Lost, R::Busy),
            Self::Sealed(_) => (Caller, R::Sealed),
            Self::Unsealed { .. } => (Caller, R::Unsealed),
            Self::NotAtBoundary { .. } => (Caller, R::NotAtBoundary),
            Self::Revoked(_) => (Revoked, R::Revoked),
            Self::Lost(_) | Self::LostUnit { .. } => (Lost, R::Lost),
            Self::World(WorldError::MachineShort { .. }) => (Exhausted, R::MachineShort),
            Self::World(WorldError::Os { .. } | WorldError::Withdrawn) => {
                (Unreachable, R::DeviceFailed)
            }
            Self::Journal | Self::InDoubt => (Unreachable, R::JournalFailed),
            Self::UnknownClient => (Lost, R::UnknownClient),
            Self::Held(_) | Self::InUse { .. } | Self::Guaranteed { .. } => (Caller, R::InUse),
            Self::Broken(_) | Self::CorruptUnit { .. } => (Corrupt, R::Unspecified),
        }
    }

    fn numbers(&self) -> (u64, u64, u64) {
        match self {
            Self::OverQuota {
                limit, used, asked, ..
            } => (limit.get(), used.get(), asked.get()),
            Self::TierFull {
                total, free, asked, ..
            } => (
                total.get(),
                total.get().saturating_sub(free.get()),
                asked.get(),
            ),
            Self::OutOfRange { most, asked, .. } => (*most, 0, *asked),
            Self::Unaligned { most, asked, .. } => (most.get(), 0, asked.get()),
            Self::LostUnit { unit, last_good } => (0, *last_good, u64::from(*unit)),
            Self::PartOfExtent { asked } | Self::PartOfBlock { asked, .. } => (0, 0, asked.get()),
            Self::Limit { limit, .. } => (*limit, *limit, 1),
            Self::Scattered { runs, most, .. } => (*most as u64, 0, *runs as u64),
            Self::InUse { used, asked, .. } => (0, used.get(), asked.get()),
            Self::World(WorldError::MachineShort {
                available_bytes,
                asked_bytes,
            }) => (*available_bytes, 0, *asked_bytes),
            _ => (0, 0, 0),
        }
    }
}

/// As much of a name as an answer repeats. The longest that can name anything is a tenant's and a
/// segment's; what is longer may be as long as a message, and longer still where it is quoted.
fn shown(name: &str) -> String {
    let most = 2 * limits::NAME_BYTES_MAX + 1;
    if name.len() <= most {
        return name.to_owned();
    }
    let mut shown: String = name.chars().take(most / 4).collect();
    shown.push_str("...");
    shown
}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        let (class, reason) = refusal.kind();
        let (limit, used, asked) = refusal.numbers();
        let message = refusal.to_string();
        Self {
            class: class.into(),
            reason: reason.into(),
            message,
            limit,
            used,
            asked,
        }
    }
}

/// What may be wrong besides the name: only segments are shared.
fn also_check(what: &str) -> &'static str {
    match what {
        "segment" => ", and that it is shared with your tenant",
        "group" => {
            " or its tag: a group can be joined when its maker has sealed it, until it is freed"
        }
        _ => "",
    }
}

/// Where a gap was looked for, where not every extent would do.
fn at_multiples(align: Bytes) -> String {
    if align.get() <= EXTENT_BYTES {
        return String::new();
    }
    format!(" that begins at a multiple of {align}")
}

fn on_draining(free: Bytes) -> String {
    if free == Bytes::ZERO {
        return String::new();
    }
    format!(", {free} more lie on devices that are being drained,")
}
