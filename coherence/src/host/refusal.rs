//! What is refused, and how often: it changed nothing.

use std::collections::BTreeMap;

/// Why an input was refused. It has changed nothing; late copies of messages end here as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No host has, or can have, this slot. Drop the message; look at who sent it.
    #[error("no such host")]
    UnknownHost,
    /// The sender's era is over, or not yet begun. Nothing to do: it was told where it lives on.
    #[error("the message is of another era")]
    DeadEra,
    /// A later life of this host was a member already. Look for two hosts with one slot.
    #[error("a later life of this host is known")]
    Behind,
    /// The former life of the host holds extents. Fence it.
    #[error("the former life of this host is not fenced")]
    NotFenced,
    /// The device has no extent of this number. Look at who sent it.
    #[error("no such extent")]
    UnknownExtent,
    /// A field has a value that no correct sender uses. Look at who sent it.
    #[error("a field has an impossible value")]
    Malformed,
    /// A late copy of a request that is settled. Nothing to do.
    #[error("the request was settled before")]
    Settled,
    /// The message speaks of a grant that is not held. Nothing to do: it is a late copy.
    #[error("no such grant is held")]
    NotHeld,
    /// A change is reported by one who had no right to make it. Fence that host.
    #[error("a change by one who is not the owner")]
    NotOwner,
    /// The version does not rise, or leaps. Fence that host.
    #[error("the version does not rise as it must")]
    BadVersion,
    /// A queue is full. The sender was told to ask again later.
    #[error("a queue is full")]
    Full,
    /// The fence is of another era than the host's. Nothing to do.
    #[error("the fence is of another era")]
    OtherFence,
    /// The host was not condemned before it was fenced: what it said meanwhile cannot be told from
    /// the truth. Condemn it first.
    #[error("the host was not condemned")]
    NotCondemned,
    /// The extent is not lost. Look at who says that it was repaired.
    #[error("the extent is not lost")]
    NotLost,
    /// The copy is of another version than the last good one: a published change would vanish.
    /// Find the right copy, or accept the loss in so many words.
    #[error("the copy is not the last good version")]
    WrongCopy,
    /// The home is in another term. Nothing to do.
    #[error("the message is of another term")]
    OtherTerm,
    /// The host is, or is not, a member already. The caller is wrong.
    #[error("not in this state of membership")]
    Membership,
    /// The user holds or awaits this extent already, or does not. The caller is wrong.
    #[error("the user does not stand so to the extent")]
    User,
    /// The extent is in use. End its users first.
    #[error("the extent is in use")]
    InUse,
}

/// How often what was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Counts(BTreeMap<Refusal, u64>);

impl Counts {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// How often `why` was the reason.
    #[must_use]
    pub fn of(&self, why: Refusal) -> u64 {
        self.0.get(&why).copied().unwrap_or(0)
    }

    /// How often anything was refused.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(super) fn add(&mut self, why: Refusal) {
        let count = self.0.entry(why).or_default();
        *count = count.saturating_add(1);
    }
}
