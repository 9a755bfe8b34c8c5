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
/// The tier of the chunks of heaps, where hosts have any.
pub(crate) const HEAP_TIER: &str = "hbm";
/// The devices; the last one where hosts have heaps.
pub(crate) const DEVICES: [&str; 4] = ["d0", "d1", "p0", "h0"];
/// Names of segments; the first is that of one without.
pub(crate) const NAMES: [&str; 4] = ["", "a", "b", "c"];

/// Extents of a chunk of a heap.
pub(crate) const CHUNK_EXTENTS: u32 = 32;

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
        makes: None,
        step: Extents::new(2),
        low: Extents::new(2),
        high: Extents::new(5),
        idle: Nanos::from_millis(60),
        poll: Nanos::from_millis(4),
        retry: Nanos::from_millis(15),
        patience: Nanos::from_millis(150),
    }
}

/// Where segments have their addresses.
fn window(mix: &Mix) -> Checked<WindowRange> {
    let base = PoolAddr::new(0x2000_0000_0000 + bytes(5));
    // Chunks have addresses of their own, also those that somebody has not let go of.
    let extents = match mix.heap_chunks {
        0 => 96,
        chunks => 96 + CHUNK_EXTENTS * (chunks + 3),
    };
    WindowRange::new(base, Bytes::new(bytes(extents)))
        .or_else(|_| broken("the window is one", base))
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
    let window = window(mix)?;
    let mut plan = Plan {
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
    };
    if mix.heap_chunks > 0 {
        let all = CHUNK_EXTENTS * mix.heap_chunks;
        plan.devices.push(device("h0", HEAP_TIER, all));
        tier_of_heaps(&mut plan, all, mix.seed.is_multiple_of(2));
    }
    Ok(plan)
}

/// The tier of the chunks of a heap, of which its tenant may have all, or all but one chunk.
fn tier_of_heaps(plan: &mut Plan, all: u32, but_one: bool) {
    let name = HEAP_TIER.to_owned();
    plan.tiers.insert(0, TierPlan { name: name.clone() });
    let most = all - CHUNK_EXTENTS * u32::from(but_one);
    if let Some(alpha) = plan.tenancy.tenants.first_mut() {
        alpha.quotas.insert(name, quota(0, most));
    }
}
