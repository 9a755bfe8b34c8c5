//! Who may have how much: limits, percentages, quarantine, and who pays for it.

use pool_core::{Bytes, Extents};
use pool_proto::common::v1::{Access, ErrorReason, Lifetime};
use pool_proto::session::v1 as session;
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, BETA, GAMMA, extents, plan};
use super::world::World;
use crate::engine::command::{Operation, WorldError};
use crate::engine::plan::Amount;

/// What a tenant uses of `ddr`, in extents, quarantine included; and the part in quarantine.
fn used(world: &World, tenant: &str) -> (u32, u32) {
    let tenant = world.engine.tenants.find(tenant).unwrap();
    let tenant = world.engine.tenants.get(tenant).unwrap();
    (tenant.used[0].get(), tenant.quarantined[0].get())
}

#[test]
fn a_limit_is_exact_to_the_extent() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.granted(alpha, Body::Create(ask::create(16)));
    let refusal = world.refused(alpha, Body::Create(ask::create(1)));
    assert_eq!(refusal.reason(), ErrorReason::OverQuota);
    let numbers = (refusal.limit, refusal.used, refusal.asked);
    assert_eq!(numbers, (extents(16), extents(16), extents(1)));
    for name in ["alpha", "ddr", "32 MiB", "2 MiB"] {
        assert!(
            refusal.message.contains(name),
            "{name}: {}",
            refusal.message
        );
    }
}

#[test]
fn a_byte_more_than_an_extent_costs_an_extent() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let create = session::Create {
        bytes: extents(1) + 1,
        ..ask::create(1)
    };
    let segment = world.granted(alpha, Body::Create(create));
    assert_eq!(segment.bytes, extents(2));
    assert_eq!(used(&world, "alpha"), (2, 0));
}

#[test]
fn a_percentage_is_of_the_tier_as_it_is_rounded_down() {
    let of = |percent, total| Amount::Percent(percent).of(Extents::new(total)).get();
    assert_eq!(
        [of(0, 24), of(50, 25), of(99, 1), of(100, 24)],
        [0, 12, 0, 24]
    );
    assert_eq!(of(255, 24), 24, "no more than all");
    let bytes = |bytes| Amount::Bytes(Bytes::new(bytes)).of(Extents::new(1)).get();
    assert_eq!([bytes(extents(1) - 1), bytes(extents(3) + 5)], [0, 3]);
    assert_eq!(bytes(u64::MAX), u32::MAX);

    let mut world = World::new(plan());
    let gamma = world.attach(GAMMA);
    world.granted(gamma, Body::Create(ask::create(12)));
    assert_eq!(
        world.reason(gamma, Body::Create(ask::create(1))),
        ErrorReason::OverQuota
    );
    world
        .operate(Operation::Resize("d1".into(), extents(16)))
        .unwrap();
    world.granted(gamma, Body::Create(ask::create(4)));
    assert_eq!(
        world.reason(gamma, Body::Create(ask::create(1))),
        ErrorReason::OverQuota
    );
}

#[test]
fn a_tier_without_a_quota_is_closed() {
    let mut world = World::new(plan());
    let gamma = world.attach(GAMMA);
    let create = session::Create {
        tier: "pooled".into(),
        ..ask::create(1)
    };
    assert_eq!(
        world.reason(gamma, Body::Create(create)),
        ErrorReason::OverQuota
    );
}

#[test]
fn quarantine_counts_against_the_quota_until_proof() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.processes.get_mut(&alpha).unwrap().tidy = false;
    let segment = world.granted(alpha, Body::Create(ask::create(16)));
    world.done(alpha, ask::close(segment.segment_id));
    world.prove();
    assert_eq!(used(&world, "alpha"), (16, 16), "its mapping is left");
    assert_eq!(
        world.reason(alpha, Body::Create(ask::create(1))),
        ErrorReason::OverQuota
    );
    world.kill(alpha);
    world.prove();
    assert_eq!(used(&world, "alpha"), (0, 0));
}

#[test]
fn a_failed_build_costs_nothing() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.prompt = false;
    let create = session::Create {
        piece_bytes: extents(2),
        ..ask::create_named("a", 6)
    };
    let id = world.send(alpha, Body::Create(create.clone()));
    assert_eq!(used(&world, "alpha"), (6, 0), "charged while it is built");
    world.finish_build(0, Ok(()));
    let short = WorldError::MachineShort {
        available_bytes: 3,
        asked_bytes: 4,
    };
    world.finish_build(0, Err(short));
    assert!(
        !world.processes[&alpha].answers.contains_key(&id),
        "a build is out"
    );
    world.finish_build(0, Ok(()));
    let session::reply::Body::Error(error) = &world.processes[&alpha].answers[&id] else {
        panic!("granted without a file");
    };
    assert_eq!(error.reason(), ErrorReason::MachineShort);
    assert_eq!((error.limit, error.asked), (3, 4));
    assert_eq!((used(&world, "alpha"), world.files.len()), ((0, 0), 0));
    world.prompt = true;
    world.granted(alpha, Body::Create(create));
}

#[test]
fn a_tenant_that_is_made_to_let_go_pays_until_it_has() {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 4)));
    world.done(
        alpha,
        ask::share(segment.segment_id, "beta", Access::ReadOnly),
    );
    world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    world.done(alpha, ask::free(segment.segment_id, true));
    assert_eq!(
        (used(&world, "alpha"), used(&world, "beta")),
        ((0, 0), (4, 4))
    );
    world.done(beta, ask::close(segment.segment_id));
    assert_eq!(
        (used(&world, "alpha"), used(&world, "beta")),
        ((4, 4), (0, 0))
    );
    world.prove();
    assert_eq!(used(&world, "alpha"), (0, 0));
}

#[test]
fn nobody_is_made_to_pay_past_its_limit() {
    let mut world = World::new(plan());
    let (alpha, user) = (world.attach(ALPHA), world.attach(2000));
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 5)));
    world.done(
        alpha,
        ask::share(segment.segment_id, "uid-2000", Access::ReadOnly),
    );
    world.granted(user, ask::open("alpha:a", Access::ReadOnly));
    world.done(alpha, ask::free(segment.segment_id, true));
    assert_eq!(
        (used(&world, "alpha"), used(&world, "uid-2000")),
        ((5, 5), (0, 0))
    );
}

#[test]
fn moving_over_and_over_earns_no_memory() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.processes.get_mut(&alpha).unwrap().tidy = false;
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 6)));
    world.granted(alpha, ask::relocate(segment.segment_id, "ddr"));
    assert_eq!(used(&world, "alpha"), (12, 6), "the old files are mapped");
    assert_eq!(
        world.reason(alpha, ask::relocate(segment.segment_id, "ddr")),
        ErrorReason::OverQuota
    );
}

#[test]
fn revoking_over_and_over_earns_no_memory() {
    let mut world = World::new(plan());
    let (alpha, user) = (world.attach(ALPHA), world.attach(2000));
    world.processes.get_mut(&alpha).unwrap().tidy = false;
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 9)));
    let id = segment.segment_id;
    let mut again = || {
        world.done(alpha, ask::share(id, "uid-2000", Access::ReadOnly));
        world.granted(user, ask::open("alpha:a", Access::ReadOnly));
        world.ask(alpha, ask::revoke(id, "uid-2000"))
    };
    // A security action is not refused by a full quota; a quota that is passed refuses the next.
    assert!(matches!(again(), session::reply::Body::Granted(_)));
    let session::reply::Body::Error(error) = again() else {
        panic!("18 of 16 extents, and more");
    };
    assert_eq!(error.reason(), ErrorReason::OverQuota);
}

#[test]
fn a_kept_segment_is_charged_when_nobody_holds_it() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let kept = ask::create_kept("a", 4);
    assert_eq!(kept.lifetime(), Lifetime::Persistent);
    world.granted(alpha, Body::Create(kept));
    world.kill(alpha);
    world.prove();
    assert_eq!(used(&world, "alpha"), (4, 0));
}
