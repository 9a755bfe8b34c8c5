//! The pool of each host: which tiers, devices and tenants it has.

use std::collections::BTreeMap;

use fabric_emu::id::LdId;
use pool_core::{Bytes, Extents, Nanos, PoolAddr, WindowRange};
use pool_daemon::engine::plan::{Amount, DevicePlan, Plan, Quota, Tenancy, TenantPlan, TierPlan};
use pool_daemon::steward::Terms;

use crate::broken::{Checked, broken};
use crate::mix::Mix;

/// Configured tenants, the user ids of their processes, and those of the users without one.
pub(crate) const USERS: [(u32, &str); 5] = [
    (1_000, ""),
    (1_001, ""),
    (1_002, ""),
    (2_000, ""),
    (2_000, "x"),
];
/// Every tenant there can be.
pub(crate) const TENANTS: [&str; 5] = ["alpha", "beta", "gamma", "uid-2000", "uid-2000/x"];
/// The tiers.
pub(crate) const TIERS: [&str; 2] = ["ddr", "pooled"];
/// The devices.
pub(crate) const DEVICES: [&str; 3] = ["d0", "d1", "p0"];
/// Names of segments; the first is that of one without.
pub(crate) const NAMES: [&str; 4] = ["", "a", "b", "c"];

/// So many extents in bytes.
pub(crate) fn bytes(extents: u32) -> u64 {
    Extents::new(extents).bytes().get()
}

fn quota(request: u32, limit: u32) -> Quota {
    let amount = |count| Amount::Bytes(Extents::new(count).bytes());
    Quota {
        request: amount(request),
        limit: amount(limit),
    }
}

/// How the steward of a host behaves.
pub(crate) fn terms(h: usize) -> Terms {
    Terms {
        ld: LdId(u16::try_from(h).unwrap_or(u16::MAX)),
        region: Some(0),
        groups: None,
        step: Extents::new(2),
        low: Extents::new(2),
        high: Extents::new(5),
        idle: Nanos::from_millis(60),
        poll: Nanos::from_millis(4),
        retry: Nanos::from_millis(15),
        patience: Nanos::from_millis(150),
    }
}

/// The plan of a host.
pub(crate) fn plan(mix: &Mix) -> Checked<Plan> {
    let device = |name: &str, tier: &str, count| DevicePlan {
        name: name.to_owned(),
        tier: tier.to_owned(),
        extents: Extents::new(count),
        emulated: true,
        kind: "memfd",
        sealed: true,
        persistent: false,
        numa_node: None,
        dynamic: false,
        shared: None,
    };
    let tenant = |name: &str, uid, ddr, pooled| TenantPlan {
        name: name.to_owned(),
        uids: vec![uid],
        gids: Vec::new(),
        quotas: TIERS
            .iter()
            .map(|tier| (*tier).to_owned())
            .zip([ddr, pooled])
            .collect(),
    };
    let (ddr, pooled) = (mix.ddr_extents, mix.pooled_extents);
    let percent = Quota {
        request: Amount::Percent(10),
        limit: Amount::Percent(50),
    };
    let base = PoolAddr::new(0x2000_0000_0000 + bytes(5));
    let Ok(window) = WindowRange::new(base, Bytes::new(bytes(96))) else {
        return broken("the window is one", base);
    };
    Ok(Plan {
        window,
        tiers: TIERS.map(|name| TierPlan { name: name.into() }).to_vec(),
        devices: vec![
            device("d0", "ddr", ddr - ddr / 3),
            device("d1", "ddr", ddr / 3),
            DevicePlan {
                persistent: mix.persistent,
                kind: "fabric",
                dynamic: !mix.shipped,
                shared: None,
                ..device("p0", "pooled", pooled)
            },
        ],
        tenancy: Tenancy {
            tenants: vec![
                tenant(
                    "alpha",
                    1_000,
                    quota(ddr / 3, ddr),
                    quota(pooled / 3, pooled),
                ),
                tenant("beta", 1_001, quota(ddr / 6, ddr), quota(0, pooled / 2)),
                tenant("gamma", 1_002, percent, quota(0, 2)),
            ],
            default_quotas: BTreeMap::from([("ddr".to_owned(), quota(0, 4))]),
            admit_unlisted: true,
        },
        daemon_uid: 900,
        pressure_deadline: Nanos::from_millis(1_000),
        reattach_grace: Nanos::from_millis(5_000),
    })
}
