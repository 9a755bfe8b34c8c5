//! The pool that most laws are stated of.

use std::collections::BTreeMap;

use pool_core::{Bytes, Extents, Nanos, PoolAddr, WindowRange};

use crate::engine::plan::{Amount, DevicePlan, Plan, Quota, Tenancy, TenantPlan, TierPlan};

/// So many extents in bytes.
pub(super) fn extents(count: u32) -> u64 {
    Extents::new(count).bytes().get()
}

/// A quota in extents.
pub(super) fn quota(request: u32, limit: u32) -> Quota {
    let amount = |count| Amount::Bytes(Extents::new(count).bytes());
    Quota {
        request: amount(request),
        limit: amount(limit),
    }
}

pub(super) fn device(name: &str, tier: &str, count: u32) -> DevicePlan {
    DevicePlan {
        name: name.into(),
        tier: tier.into(),
        extents: Extents::new(count),
        emulated: true,
        kind: "memfd",
        sealed: true,
        persistent: false,
        numa_node: None,
        dynamic: false,
        shared: None,
        whole: false,
    }
}

pub(super) const ALPHA: u32 = 1000;
pub(super) const BETA: u32 = 1001;
pub(super) const GAMMA: u32 = 1002;

/// Two tiers. `ddr`: 24 extents on two volatile devices. `pooled`: 16 extents on one whose files
/// outlive the machine's power and can be resized by their holders. Of `ddr` tenant alpha is
/// guaranteed 8, beta 4, gamma 10 percent; the users without a tenant have at most 4.
pub(super) fn plan() -> Plan {
    let tenant = |name: &str, uid, ddr, pooled| TenantPlan {
        name: name.into(),
        uids: vec![uid],
        gids: Vec::new(),
        quotas: BTreeMap::from([("ddr".to_owned(), ddr), ("pooled".to_owned(), pooled)]),
    };
    let percent = Quota {
        request: Amount::Percent(10),
        limit: Amount::Percent(50),
    };
    Plan {
        window: WindowRange::new(PoolAddr::new(0x2000_0000_0000), Bytes::new(extents(96))).unwrap(),
        tiers: ["ddr", "pooled"]
            .map(|name| TierPlan { name: name.into() })
            .to_vec(),
        devices: vec![
            device("d0", "ddr", 16),
            device("d1", "ddr", 8),
            DevicePlan {
                sealed: false,
                persistent: true,
                kind: "file",
                ..device("p0", "pooled", 16)
            },
        ],
        tenancy: Tenancy {
            tenants: vec![
                tenant("alpha", ALPHA, quota(8, 16), quota(0, 12)),
                tenant("beta", BETA, quota(4, 24), quota(0, 4)),
                tenant("gamma", GAMMA, percent, quota(0, 0)),
            ],
            default_quotas: BTreeMap::from([("ddr".to_owned(), quota(0, 4))]),
            admit_unlisted: true,
        },
        daemon_uid: 900,
        pressure_deadline: Nanos::from_millis(1_000),
        reattach_grace: Nanos::from_millis(5_000),
    }
}
