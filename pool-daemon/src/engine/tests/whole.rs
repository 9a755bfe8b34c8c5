//! Devices whose memory other hosts have as well: one segment or none, and nothing is done to it.

use pool_proto::common::v1::{Access, ErrorReason, Segment};
use pool_proto::session::v1::{self as session, event};
use session::request::Body;

use super::ask;
use super::capacity::{dynamic_plan, run};
use super::plans::{ALPHA, device, extents, plan, quota};
use super::process::Pid;
use super::world::World;
use crate::engine::command::{Capacity, Operation};
use crate::engine::plan::{DevicePlan, Plan, TierPlan};

const TIER: &str = "hosts";
const EXTENTS: u32 = 8;

fn plan_of_hosts() -> Plan {
    let mut plan = plan();
    plan.tiers.push(TierPlan { name: TIER.into() });
    plan.devices.push(DevicePlan {
        whole: true,
        kind: "devdax",
        ..device("x0", TIER, EXTENTS)
    });
    let tenant = &mut plan.tenancy.tenants[0];
    tenant.quotas.insert(TIER.to_owned(), quota(0, EXTENTS));
    plan
}

fn create(count: u32) -> session::Create {
    session::Create {
        tier: TIER.into(),
        ..ask::create_kept("whole", count)
    }
}

/// A process that has all of the device.
fn one() -> (World, Pid, Segment) {
    let mut world = World::new(plan_of_hosts());
    let alpha = world.attach(ALPHA);
    let granted = world.granted(alpha, Body::Create(create(EXTENTS)));
    (world, alpha, granted)
}

#[test]
fn memory_that_other_hosts_have_is_granted_as_a_whole_or_not_at_all() {
    let mut world = World::new(plan_of_hosts());
    let alpha = world.attach(ALPHA);
    let parts = [
        create(EXTENTS - 1),
        create(1),
        session::Create {
            capacity_bytes: extents(EXTENTS + 1),
            ..create(EXTENTS)
        },
        session::Create {
            piece_bytes: extents(1),
            ..create(EXTENTS)
        },
        session::Create {
            tier: TIER.into(),
            ..ask::create_domain("domain", EXTENTS - 1)
        },
    ];
    for part in parts {
        let reason = world.reason(alpha, Body::Create(part.clone()));
        assert_eq!(reason, ErrorReason::Malformed, "{part:?}");
    }
    let granted = world.granted(alpha, Body::Create(create(EXTENTS)));
    assert_eq!(granted.bytes, extents(EXTENTS));
    assert_eq!(granted.pieces.len(), 1);
}

#[test]
fn what_other_hosts_have_is_neither_moved_nor_sealed_nor_shared_nor_of_another_size() {
    let (mut world, alpha, whole) = one();
    let id = whole.segment_id;
    let asks = [
        ask::relocate(id, "ddr"),
        ask::relocate(id, TIER),
        ask::share(id, "beta", Access::ReadOnly),
        ask::seal(id, 1),
        ask::resize(id, EXTENTS / 2),
    ];
    for ask in asks {
        let reason = world.reason(alpha, ask.clone());
        assert_eq!(reason, ErrorReason::NotPermitted, "{ask:?}");
    }
    let resize = Operation::Resize("x0".into(), extents(2 * EXTENTS));
    let refused = world.operate(resize).unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::NotPermitted);
}

#[test]
fn nothing_is_copied_over_what_other_hosts_have() {
    let mut world = World::new(plan_of_hosts());
    let alpha = world.attach(ALPHA);
    let other = world.granted(alpha, Body::Create(ask::create_kept("o", EXTENTS)));
    let reason = world.reason(alpha, ask::relocate(other.segment_id, TIER));
    assert_eq!(reason, ErrorReason::NotPermitted);
}

#[test]
fn a_device_that_is_drained_keeps_its_segment_until_that_is_freed_and_gives_it_again() {
    let (mut world, alpha, whole) = one();
    world.operate(Operation::Drain("x0".into())).unwrap();
    world.work();
    let kept = world.granted(alpha, ask::refresh(whole.segment_id));
    assert_eq!(kept.pieces, whole.pieces);
    world.operate(Operation::Activate("x0".into())).unwrap();
    world.done(alpha, ask::free(whole.segment_id, false));
    world.prove();
    world.work();
    let again = world.granted(alpha, Body::Create(create(EXTENTS)));
    assert_eq!(again.bytes, whole.bytes);
}

#[test]
fn a_line_that_is_lost_is_told_to_who_has_the_memory_and_nobody_has_it_after_that_one() {
    let mut plan = dynamic_plan();
    for device in plan.devices.iter_mut().filter(|it| it.name == "x0") {
        (device.whole, device.kind) = (true, "devdax");
    }
    let mut world = World::new(plan);
    let alpha = world.attach(ALPHA);
    let all = session::Create {
        tier: "far".into(),
        ..ask::create_kept("whole", 16)
    };
    let absent = world.reason(alpha, Body::Create(all.clone()));
    assert_eq!(absent, ErrorReason::TierFull);
    world.says(Capacity::Present(vec![run(0, 16)]));
    world.says(Capacity::Reached(true));
    let whole = world.granted(alpha, Body::Create(all.clone()));
    assert_eq!(whole.pieces.len(), 1);
    world.says(Capacity::Poisoned(vec![run(5, 1)]));
    let told = event::Body::Damaged(session::Damaged {
        segment_id: whole.segment_id,
        offset: extents(5),
        bytes: extents(1),
    });
    assert_eq!(world.processes[&alpha].events, [told]);
    world.done(alpha, ask::free(whole.segment_id, false));
    world.prove();
    world.work();
    for count in [15, 16] {
        let ask = session::Create {
            bytes: extents(count),
            ..all.clone()
        };
        let reason = world.reason(alpha, Body::Create(ask));
        let expected = if count == 16 {
            ErrorReason::TierFull
        } else {
            ErrorReason::Malformed
        };
        assert_eq!(reason, expected, "{count}");
    }
}
