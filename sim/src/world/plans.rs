//! The pool of each host: which tiers, devices and tenants it has.

use std::collections::BTreeMap;

use fabric_emu::id::LdId;
use pool_core::{Bytes, Extents, Nanos, PoolAddr, WindowRange};
use pool_daemon::engine::plan::{Amount, DevicePlan, Plan, Quota, Tenancy, TenantPlan, TierPlan};
use pool_daemon::steward::Terms;

use super::lines::GROUP_REGION;
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
/// User ids from here on are of no configured tenant.
pub(crate) const UNLISTED: u32 = 2_000;
/// Every tenant there can be.
pub(crate) const TENANTS: [&str; 5] = ["alpha", "beta", "gamma", "uid-2000", "uid-2000/x"];
/// The tiers.
pub(crate) const TIERS: [&str; 2] = ["ddr", "pooled"];
/// The tier of groups, in worlds that have any.
pub(crate) const GROUP_TIER: &str = "common";
/// The tier of the chunks of heaps, where hosts have any.
pub(crate) const HEAP_TIER: &str = "hbm";

/// The devices of each host.
pub(crate) fn devices(mix: &Mix) -> Vec<&'static str> {
    let groups = (mix.group_extents > 0).then_some("g0");
    let heap = (mix.heap_chunks > 0).then_some("h0");
    ["d0", "d1", "p0"]
        .into_iter()
        .chain(groups)
        .chain(heap)
        .collect()
}
/// Names of segments; the first is that of one without.
pub(crate) const NAMES: [&str; 4] = ["", "a", "b", "c"];
/// Names of groups, half of which have none, and some one that others have as well.
pub(crate) const GROUP_NAMES: [&str; 6] = ["", "", "", "g", "h", "a"];

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
pub(crate) fn terms(mix: &Mix, h: usize) -> Terms {
    Terms {
        ld: LdId(u16::try_from(h).unwrap_or(u16::MAX)),
        region: Some(0),
        groups: (mix.group_extents > 0).then_some(GROUP_REGION),
        step: Extents::new(2),
        low: Extents::new(2),
        high: Extents::new(5),
        idle: Nanos::from_millis(60),
        poll: Nanos::from_millis(4),
        retry: Nanos::from_millis(15),
        // A group is looked for during 300 ms.
        patience: Nanos::from_millis(if mix.group_extents > 0 { 450 } else { 150 }),
    }
}

/// Where segments have their addresses; as many for groups, where there are any.
fn window(mix: &Mix) -> Checked<WindowRange> {
    let base = PoolAddr::new(0x2000_0000_0000 + bytes(5));
    // Chunks have addresses of their own, also those that somebody has not let go of.
    let own = match mix.heap_chunks {
        0 => 96,
        chunks => 96 + CHUNK_EXTENTS * (chunks + 3),
    };
    let extents = if mix.group_extents > 0 { 2 * own } else { own };
    WindowRange::new(base, Bytes::new(bytes(extents)))
        .or_else(|_| broken("the window is one", base))
}

/// The plan of a host.
pub(crate) fn plan(mix: &Mix, h: u8) -> Checked<Plan> {
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
        whole: false,
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
    let mut plan = Plan {
        window: window(mix)?,
        tiers: TIERS.map(|name| TierPlan { name: name.into() }).to_vec(),
        devices: vec![
            device("d0", "ddr", ddr - ddr / 3),
            device("d1", "ddr", ddr / 3),
            DevicePlan {
                persistent: mix.persistent,
                kind: "fabric",
                dynamic: !mix.shipped,
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
    if mix.group_extents > 0 {
        add_groups(&mut plan, mix, h);
    }
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

/// A tier of groups, and a device of it that is beside the other one of the fabric.
fn add_groups(plan: &mut Plan, mix: &Mix, h: u8) {
    let name = GROUP_TIER.to_owned();
    plan.tiers.push(TierPlan { name: name.clone() });
    let own = plan.devices.last().cloned();
    plan.devices.extend(own.map(|own| DevicePlan {
        name: "g0".to_owned(),
        tier: name.clone(),
        extents: Extents::new(mix.group_extents),
        shared: Some(h),
        ..own
    }));
    for (tenant, limit) in plan.tenancy.tenants.iter_mut().zip([1, 2, 3]) {
        let limit = quota(0, mix.group_extents / limit);
        tenant.quotas.insert(name.clone(), limit);
    }
}
