//! What the engine is told about the pool before it starts: tiers, devices, tenants, bounds.
//!
//! A plan is made by the configuration (or by discovery, where there is none), has been validated,
//! and does not change while the daemon runs.

use std::collections::BTreeMap;

use pool_core::{Bytes, Extents, Nanos, WindowRange};

/// Everything the engine is told at its start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The virtual range of the pool.
    pub window: WindowRange,
    /// The tiers, fastest first.
    pub tiers: Vec<TierPlan>,
    /// The devices of all tiers. Names are unique.
    pub devices: Vec<DevicePlan>,
    /// Who may use how much.
    pub tenancy: Tenancy,
    /// The user the daemon runs as: clients of the same user are isolated by courtesy only.
    pub daemon_uid: u32,
    /// How long tenants have to give burst memory back before it is revoked.
    pub pressure_deadline: Nanos,
    /// How long a restarted engine waits for the clients of before.
    pub reattach_grace: Nanos,
}

/// A class of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPlan {
    /// As `hbm`, `ddr`, `pooled`.
    pub name: String,
}

/// A piece of memory the daemon owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePlan {
    /// Unique among the devices.
    pub name: String,
    /// The name of its tier.
    pub tier: String,
    /// Its size as configured or found.
    pub extents: Extents,
    /// Ordinary DRAM that stands for something else.
    pub emulated: bool,
    /// What operators see: `memfd` or `file`.
    pub kind: &'static str,
    /// Its files cannot be resized by whoever holds them. Unsealed files are shared with no other
    /// tenant.
    pub sealed: bool,
    /// Its files outlive the machine's power.
    pub persistent: bool,
    /// The NUMA node its memory is bound to.
    pub numa_node: Option<u32>,
    /// Its memory comes and goes while the daemon runs: `extents` is the most it may be, and none
    /// of it is there before that is said.
    pub dynamic: bool,
    /// Its memory is that of groups that hosts share, each a segment: this host's part of the
    /// addresses of groups, 0 to [`GROUP_PARTS`] - 1. Such a device is dynamic, and the only one of
    /// its tier.
    pub shared: Option<u8>,
    /// Other hosts have the same memory under the same offsets: it is one segment or none, and the
    /// daemon never touches its contents. Such a device is the only one of its tier.
    pub whole: bool,
}

/// Hosts that may make groups: the upper half of the window is parted among them.
pub const GROUP_PARTS: u32 = 16;

/// Who the tenants are and what each may use.
#[derive(Debug, Clone, Default)]
pub struct Tenancy {
    /// Tenants of the configuration, in its order.
    pub tenants: Vec<TenantPlan>,
    /// The quotas of tenants that the configuration does not name: `uid-N` and `uid-N/label`.
    pub default_quotas: BTreeMap<String, Quota>,
    /// Whether a user id that no configured tenant lists may attach at all.
    pub admit_unlisted: bool,
}

/// One configured tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantPlan {
    /// Unique among the tenants.
    pub name: String,
    /// User ids that belong to it.
    pub uids: Vec<u32>,
    /// Group ids whose members belong to it.
    pub gids: Vec<u32>,
    /// Quotas by tier name. A tier that is missing has the quota `0 / 0`.
    pub quotas: BTreeMap<String, Quota>,
}

/// How much of one tier a tenant is guaranteed and how much it may use at most.
///
/// What is used beyond `request` is burst: granted while there is room, asked back first when
/// another tenant claims what it is guaranteed. The requests of all configured tenants together
/// fit the tier; their limits need not (overcommit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Guaranteed.
    pub request: Amount,
    /// The most.
    pub limit: Amount,
}

/// An amount of a tier's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes, rounded down to whole extents.
    Bytes(Bytes),
    /// So many hundredths of the tier as it is at the moment, 0 to 100, rounded down to whole
    /// extents.
    Percent(u8),
}

impl Amount {
    /// The amount in extents, for a tier of `total`.
    #[must_use]
    pub fn of(self, total: Extents) -> Extents {
        match self {
            Self::Bytes(bytes) => {
                let whole = bytes.get() / pool_core::EXTENT_BYTES;
                Extents::new(u32::try_from(whole).unwrap_or(u32::MAX))
            }
            Self::Percent(percent) => {
                let share = u64::from(total.get()) * u64::from(percent.min(100)) / 100;
                // At most `total`, which is a u32.
                Extents::new(u32::try_from(share).unwrap_or(u32::MAX))
            }
        }
    }
}
