//! Memory that comes and goes: the extents of a dynamic device.

use std::collections::BTreeMap;

use pool_core::{Bytes, DeviceId, Extents, SegmentId, WindowRange};
use pool_proto::admin::v1::Device as DeviceMessage;
use pool_proto::common::v1::ErrorReason;
use pool_proto::session::v1::{self as session, event};
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, BETA, device, extents, plan, quota};
use super::world::World;
use crate::engine::command::{Capacity, Command, Operation};
use crate::engine::plan::{DevicePlan, Plan, TierPlan};
use crate::engine::{RecoverError, Run, RunSet};

const FAR: &str = "far";

/// The pool of the laws, with a tier of one device of which 16 extents may come to be.
pub(super) fn dynamic_plan() -> Plan {
    let mut plan = plan();
    plan.tiers.push(TierPlan { name: FAR.into() });
    plan.devices.push(DevicePlan {
        dynamic: true,
        shared: None,
        kind: "fabric",
        ..device("x0", FAR, 16)
    });
    let far = |limit| BTreeMap::from([(FAR.to_owned(), quota(0, limit))]);
    for (tenant, limit) in plan.tenancy.tenants.iter_mut().zip([16, 8, 0]) {
        tenant.quotas.append(&mut far(limit));
    }
    plan
}

pub(super) fn run(first: u32, count: u32) -> Run {
    Run { first, count }
}

impl World {
    pub(super) fn dynamic_device(&self) -> DeviceId {
        let mut ids = self.engine.device_ids();
        let found = ids.find(|(_, name)| *name == "x0");
        found.unwrap().0
    }

    /// The dynamic device, as operators see it.
    fn far_device(&self) -> DeviceMessage {
        let mut devices = self.engine.devices().into_iter();
        devices.find(|device| device.name == "x0").unwrap()
    }

    pub(super) fn says(&mut self, change: Capacity) {
        match &change {
            Capacity::Present(runs) => {
                self.there = runs.iter().copied().collect();
                // Of what comes anew nothing is known.
                self.bad = self.bad.common(&self.there);
            }
            Capacity::Poisoned(runs) => {
                let fresh: RunSet = runs.iter().copied().collect();
                self.bad.add(&fresh.minus(&self.bad)).unwrap();
            }
            Capacity::Withdraw { .. }
            | Capacity::Reached(_)
            | Capacity::Noted(_)
            | Capacity::Groups(_)
            | Capacity::NoGroup { .. }
            | Capacity::Unpublished(_) => {}
        }
        let device = self.dynamic_device();
        self.step(Command::Capacity { device, change });
    }

    /// These extents are there, and reached.
    fn comes(&mut self, runs: &[Run]) {
        self.says(Capacity::Present(runs.to_vec()));
        self.says(Capacity::Reached(true));
    }
}

fn far(count: u32, wait_ms: u64) -> Body {
    let mut create = ask::create(count);
    create.tier = FAR.into();
    create.wait_ms = wait_ms;
    Body::Create(create)
}

fn world() -> World {
    World::new(dynamic_plan())
}

#[test]
fn nothing_is_granted_of_what_has_not_come_or_is_not_reached() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let full = |world: &mut World| world.refused(alpha, far(2, 0)).reason();
    assert_eq!(full(&mut world), ErrorReason::TierFull);
    world.says(Capacity::Present(vec![run(0, 4)]));
    assert_eq!(full(&mut world), ErrorReason::TierFull, "nobody said so");
    world.says(Capacity::Reached(true));
    world.granted(alpha, far(2, 0));
    world.says(Capacity::Reached(false));
    assert_eq!(full(&mut world), ErrorReason::TierFull);
    assert!(
        world
            .published
            .iter()
            .any(|kind| kind == "device-unreached")
    );
}

#[test]
fn a_request_waits_for_memory_that_may_come_and_takes_it_from_nobody() {
    let mut world = world();
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    world.comes(&[run(0, 4)]);
    world.granted(alpha, far(4, 0));
    world.send(beta, far(6, 2_000));
    assert!(world.processes[&beta].waits());
    let demand = world.engine.demand(world.dynamic_device()).unwrap();
    assert_eq!(
        (demand.wanted, demand.most),
        (Extents::new(6), Extents::new(16))
    );
    assert!(world.processes[&alpha].events.is_empty(), "nobody is asked");
    world.says(Capacity::Present(vec![run(0, 10)]));
    assert!(!world.processes[&beta].waits());
    assert_eq!(world.processes[&beta].held.len(), 1);
    let demand = world.engine.demand(world.dynamic_device()).unwrap();
    assert_eq!(demand.wanted, Extents::ZERO);
}

#[test]
fn a_request_that_can_never_fit_or_for_which_nothing_comes_is_refused() {
    let mut world = world();
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    world.comes(&[run(0, 4)]);
    assert_eq!(
        world.refused(beta, far(9, 2_000)).reason(),
        ErrorReason::OverQuota
    );
    world.send(alpha, far(16, 2_000));
    assert!(world.processes[&alpha].waits());
    world.pass(2_001);
    assert!(!world.processes[&alpha].waits() && world.processes[&alpha].held.is_empty());
    world.operate(Operation::Drain("x0".into())).unwrap();
    assert_eq!(
        world.refused(alpha, far(5, 2_000)).reason(),
        ErrorReason::TierFull
    );
}

#[test]
fn what_lies_on_memory_that_was_taken_is_lost_told_and_never_granted_again() {
    let mut world = world();
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    world.comes(&[run(0, 8)]);
    let lost = world.granted(alpha, far(3, 0));
    let kept = world.granted(beta, far(3, 0));
    let taken = world.durable.values().find_map(|record| match record {
        crate::journal::Record::Backing(row) if row.segment_id == lost.segment_id => {
            Some(row.runs[0].first)
        }
        _ => None,
    });
    let taken = taken.unwrap();
    let others = (0..8)
        .filter(|&index| index != taken)
        .map(|index| run(index, 1));
    world.says(Capacity::Present(others.collect()));
    let told = event::Body::Lost(session::Lost {
        segment_id: lost.segment_id,
    });
    assert!(world.processes[&alpha].events.contains(&told));
    assert!(world.processes[&beta].events.is_empty());
    world.granted(beta, ask::refresh(kept.segment_id));
    assert_eq!(
        world.refused(alpha, ask::refresh(lost.segment_id)).reason(),
        ErrorReason::NotFound
    );
    world.done(alpha, ask::close(lost.segment_id));
    world.prove();
    let device = world.far_device();
    assert_eq!(
        (device.total_bytes, device.free_bytes),
        (extents(7), extents(4))
    );
}

#[test]
fn what_is_built_on_memory_that_was_taken_meanwhile_is_granted_to_nobody() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    world.comes(&[run(0, 8)]);
    world.prompt = false;
    world.send(alpha, far(3, 0));
    world.says(Capacity::Present(Vec::new()));
    world.prompt = true;
    world.work();
    assert!(!world.processes[&alpha].waits() && world.processes[&alpha].held.is_empty());
    assert_eq!(
        world.engine.account().total - 40,
        0,
        "the other devices have 40"
    );
    assert!(world.files.is_empty());
}

#[test]
fn a_segment_that_moves_to_memory_that_was_taken_stays_where_it_was() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    world.comes(&[run(0, 8)]);
    let segment = world.granted(alpha, Body::Create(ask::create(2)));
    let id = SegmentId::new(segment.segment_id).unwrap();
    world.write(alpha, id, 7);
    world.prompt = false;
    world.send(alpha, ask::relocate(segment.segment_id, FAR));
    world.finish_build(0, Ok(()));
    world.says(Capacity::Present(Vec::new()));
    world.finish_copy(Ok(()));
    world.prompt = true;
    assert_eq!(world.read(alpha, id), [7, 7]);
    let now = world.granted(alpha, ask::refresh(segment.segment_id));
    assert_eq!(now.incarnation, segment.incarnation);
}

#[test]
fn free_memory_leaves_in_whole_units_and_not_what_somebody_is_guaranteed() {
    let mut plan = dynamic_plan();
    plan.tenancy.tenants[0]
        .quotas
        .insert(FAR.into(), quota(5, 16));
    let mut world = World::new(plan);
    world.comes(&[run(0, 16)]);
    let (unit, all) = (4, vec![run(0, 16)]);
    let ask = |most| Capacity::Withdraw {
        unit,
        most,
        within: all.clone(),
    };
    world.says(ask(1));
    assert_eq!(world.withdrawn.take(), Some(vec![run(12, 4)]));
    world.says(ask(9));
    assert_eq!(
        world.withdrawn.take(),
        Some(vec![run(8, 4)]),
        "5 are guaranteed"
    );
    world.restart(|_| true);
    let device = world.far_device();
    assert_eq!(device.total_bytes, extents(8), "it is durable");
    world.comes(&[run(0, 16)]);
    let device = world.far_device();
    assert_eq!(device.total_bytes, extents(16), "it was not taken");
}

#[test]
fn a_poisoned_line_costs_its_extent_and_is_told_to_who_holds_it_now_and_later() {
    let mut world = world();
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    world.comes(&[run(4, 6)]);
    let mut create = ask::create_kept("a", 3);
    create.tier = FAR.into();
    let segment = world.granted(alpha, Body::Create(create));
    world.done(
        alpha,
        ask::share(
            segment.segment_id,
            "beta",
            pool_proto::common::v1::Access::ReadOnly,
        ),
    );
    world.says(Capacity::Poisoned(vec![run(5, 1)]));
    let told = event::Body::Damaged(session::Damaged {
        segment_id: segment.segment_id,
        offset: extents(1),
        bytes: extents(1),
    });
    assert_eq!(world.processes[&alpha].events, std::slice::from_ref(&told));
    world.says(Capacity::Poisoned(vec![run(5, 1)]));
    assert_eq!(world.processes[&alpha].events.len(), 1, "it is told once");
    world.granted(
        beta,
        ask::open("alpha:a", pool_proto::common::v1::Access::ReadOnly),
    );
    assert_eq!(world.processes[&beta].events, [told]);
    let refusal = world.refused(alpha, ask::relocate(segment.segment_id, "ddr"));
    assert_eq!(
        refusal.reason(),
        ErrorReason::Lost,
        "half of it would pass for whole"
    );
    world.done(alpha, ask::free(segment.segment_id, true));
    world.done(beta, ask::close(segment.segment_id));
    world.prove();
    let device = world.far_device();
    assert_eq!(
        (device.total_bytes, device.free_bytes),
        (extents(5), extents(5))
    );
}

#[test]
fn a_second_poisoned_line_is_told_without_the_first() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    world.comes(&[run(0, 8)]);
    let create = session::Create {
        tier: FAR.into(),
        ..ask::create(4)
    };
    world.granted(alpha, Body::Create(create));
    for number in [1, 3] {
        world.says(Capacity::Poisoned(vec![run(1, 1), run(number, 1)]));
    }
    let events = &world.processes[&alpha].events;
    let offsets: Vec<u64> = events
        .iter()
        .map(|event| match event {
            event::Body::Damaged(damaged) => damaged.offset,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offsets, [extents(1), extents(3)]);
}

#[test]
fn a_domain_with_a_poisoned_line_is_lost() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    world.comes(&[run(0, 8)]);
    let mut create = ask::create_domain("c", 2);
    create.tier = FAR.into();
    let segment = world.granted(alpha, Body::Create(create));
    world.says(Capacity::Poisoned(vec![run(1, 1)]));
    let told = event::Body::Lost(session::Lost {
        segment_id: segment.segment_id,
    });
    assert!(world.processes[&alpha].events.contains(&told));
}

#[test]
fn nothing_is_believed_of_a_device_that_has_a_size_of_its_own() {
    let mut world = world();
    let (device, _) = world.engine.device_ids().next().unwrap();
    let before = super::laws::dump(&world.engine);
    for change in [
        Capacity::Present(Vec::new()),
        Capacity::Poisoned(vec![run(0, 4)]),
        Capacity::Reached(false),
    ] {
        world.step(Command::Capacity { device, change });
    }
    assert_eq!(super::laws::dump(&world.engine), before);
    let alpha = world.attach(ALPHA);
    world.granted(alpha, Body::Create(ask::create(2)));
    assert_eq!(world.engine.demand(device), None);
}

#[test]
fn the_most_a_dynamic_device_may_be_is_the_configurations_to_say() {
    let mut world = world();
    world.comes(&[run(0, 16)]);
    let alpha = world.attach(ALPHA);
    world.granted(alpha, far(2, 0));
    let refused = world.operate(Operation::Resize("x0".into(), extents(4)));
    assert_eq!(refused.unwrap_err().reason(), ErrorReason::NotPermitted);
    world.plan.devices.last_mut().unwrap().extents = Extents::new(24);
    world.restart(|_| true);
    let demand = world.engine.demand(world.dynamic_device()).unwrap();
    let total = Extents::new(16);
    assert_eq!((demand.total, demand.most), (total, Extents::new(24)));
    world.plan.devices.last_mut().unwrap().extents = Extents::new(1);
    let used = Bytes::new(extents(2));
    let refused = world.start().unwrap_err();
    let is_due =
        |it: &RecoverError| matches!(it, RecoverError::DeviceInUse { used: it, .. } if *it == used);
    assert!(is_due(&refused), "{refused}");
}

#[test]
fn what_is_built_for_a_segment_that_ends_is_nobody_elses_until_it_has_come_back() {
    let mut world = world();
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    world.comes(&[run(0, 8)]);
    let segment = world.granted(alpha, far(2, 0));
    world.prompt = false;
    world.send(alpha, ask::resize(segment.segment_id, 6));
    // What it had leaves: it is lost as a whole, with what was to be a part of it.
    let left = world.there.iter().next().unwrap();
    world.says(Capacity::Present(vec![run(left.first + 2, 6)]));
    let device = world.far_device();
    assert_eq!(device.free_bytes, extents(2), "four are being built");
    world.send(beta, far(4, 0));
    assert_eq!(world.building.len(), 1, "there is no room for it");
    world.finish_build(0, Ok(()));
    world.prompt = true;
    world.prove();
    assert_eq!(world.far_device().free_bytes, extents(6));
    world.granted(beta, far(6, 0));
}

#[test]
fn what_could_not_be_built_is_free_before_the_rest_has_come_back() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    world.comes(&[run(0, 8)]);
    world.prompt = false;
    let mut create = ask::create(4);
    (create.tier, create.piece_bytes) = (FAR.into(), extents(2));
    world.send(alpha, Body::Create(create));
    world.finish_build(0, Err(crate::engine::command::WorldError::Withdrawn));
    assert_eq!(world.far_device().free_bytes, extents(6));
    world.kill(alpha);
    world.finish_build(0, Ok(()));
    assert_eq!(world.far_device().free_bytes, extents(8));
    assert!(world.files.is_empty());
}

#[test]
fn what_is_free_in_more_runs_than_a_file_can_have_is_refused_and_less_is_granted() {
    let mut plan = dynamic_plan();
    let x0 = plan.devices.iter_mut().find(|device| device.name == "x0");
    x0.unwrap().extents = Extents::new(4_096);
    let far_of_all = BTreeMap::from([(FAR.to_owned(), quota(0, 4_096))]);
    plan.tenancy.tenants[0].quotas = far_of_all;
    plan.window = WindowRange::new(plan.window.base(), Bytes::new(extents(4_096))).unwrap();
    let mut world = World::new(plan);
    let alpha = world.attach(ALPHA);
    let scattered: Vec<Run> = (0..600).map(|at| run(2 * at, 1)).collect();
    world.comes(&scattered);
    let refusal = world.refused(alpha, far(513, 0));
    assert_eq!(refusal.reason(), ErrorReason::Limit);
    assert!(refusal.message.contains("513 runs"), "{}", refusal.message);
    assert_eq!(
        world.far_device().free_bytes,
        extents(600),
        "nothing has changed"
    );
    world.granted(alpha, far(512, 0));
    world.granted(alpha, far(88, 0));
}

#[test]
fn what_is_in_the_way_of_a_device_is_shown_and_told_once_until_it_is_something_else() {
    let mut world = world();
    let device = world.far_device();
    assert_eq!((device.unreached, device.most_bytes), (true, extents(16)));
    let told = |world: &World| {
        let all = world.published.iter();
        all.filter(|kind| *kind == "device-refused").count()
    };
    for (note, count) in [("a", 1), ("a", 1), ("", 1), ("a", 2), ("b", 3), ("", 3)] {
        world.says(Capacity::Noted(note.to_owned()));
        assert_eq!(
            (told(&world), world.far_device().note.as_str()),
            (count, note)
        );
        let status = world.engine.status(world.now);
        assert_eq!(status.devices_noted, u32::from(!note.is_empty()));
    }
    world.comes(&[run(0, 4)]);
    assert!(!world.far_device().unreached);
    let others = world.engine.devices().into_iter();
    let others = others.filter(|device| device.name != "x0");
    assert!({ others }.all(|it| !it.unreached && it.most_bytes == it.total_bytes));
}

#[test]
fn what_a_tier_lacks_is_asked_of_one_device_after_the_other_and_not_of_each() {
    let mut plan = dynamic_plan();
    plan.devices.push(DevicePlan {
        dynamic: true,
        kind: "fabric",
        ..device("x1", FAR, 16)
    });
    let far_of_all = BTreeMap::from([(FAR.to_owned(), quota(0, 32))]);
    plan.tenancy.tenants[0].quotas = far_of_all;
    let mut world = World::new(plan);
    let named = |name| world.engine.device_ids().find(|it| it.1 == name);
    let (first, second) = (world.dynamic_device(), named("x1").unwrap().0);
    let of_second = |world: &mut World, change| {
        let device = second;
        world.step(Command::Capacity { device, change });
    };
    world.comes(&[run(0, 2)]);
    of_second(&mut world, Capacity::Reached(true));
    let alpha = world.attach(ALPHA);
    world.send(alpha, far(24, 2_000));
    let wanted = |world: &World| {
        let of = |device| world.engine.demand(device).unwrap().wanted.get();
        (of(first), of(second))
    };
    assert_eq!(wanted(&world), (14, 8), "of 22 that are lacking");
    // Where the first one is given nothing, the second is asked first.
    world.says(Capacity::Noted("no more".to_owned()));
    assert_eq!(wanted(&world), (6, 16));
    of_second(&mut world, Capacity::Reached(false));
    assert_eq!(wanted(&world), (22, 22), "nobody knows whom to ask");
    world.says(Capacity::Noted(String::new()));
    assert_eq!(wanted(&world), (14, 8));
}

#[test]
fn what_is_guaranteed_in_bytes_is_asked_for_before_anybody_asks() {
    let mut plan = dynamic_plan();
    let far_of_all = BTreeMap::from([(FAR.to_owned(), quota(6, 16))]);
    plan.tenancy.tenants[0].quotas = far_of_all;
    let mut world = World::new(plan);
    world.comes(&[run(0, 2)]);
    let wanted = |world: &World| world.engine.demand(world.dynamic_device()).unwrap().wanted;
    assert_eq!(wanted(&world), Extents::new(4));
    world.comes(&[run(0, 6)]);
    assert_eq!(wanted(&world), Extents::ZERO);
}
