//! Groups that hosts share, as the engine of one of them has them.

use std::collections::BTreeMap;

use pool_core::{DeviceId, Extents, GroupTag, PoolAddr, SegmentId};
use pool_proto::common::v1::{Access, Error, ErrorReason, Lifetime, Segment};
use pool_proto::session::v1::{self as session, event, reply};
use session::request::Body;

use super::ask;
use super::capacity::run;
use super::plans::{ALPHA, BETA, device, plan, quota};
use super::process::Pid;
use super::world::World;
use crate::engine::command::{Capacity, Command, HadGroup, NoGroup, Operation};
use crate::engine::effect::GroupAsk;
use crate::engine::plan::{DevicePlan, GROUP_PARTS, Plan, TierPlan};
use crate::engine::{Engine, Run};
use crate::journal::{Record, Table};

const COMMON: &str = "common";

/// The pool of the laws, with a tier of groups of at most 16 extents, of which this host makes its
/// own in part 1.
fn group_plan() -> Plan {
    let mut plan = plan();
    // The upper half has three extents for each host.
    plan.tiers.push(TierPlan {
        name: COMMON.into(),
    });
    plan.devices.push(DevicePlan {
        dynamic: true,
        shared: Some(1),
        kind: "fabric",
        ..device("g0", COMMON, 16)
    });
    for tenant in &mut plan.tenancy.tenants {
        let common = BTreeMap::from([(COMMON.to_owned(), quota(0, 12))]);
        tenant.quotas.extend(common);
    }
    plan
}

/// The tag of a group that another host has made: in part 2.
fn foreign(number: u8, extents: u32) -> GroupTag {
    let window = group_plan().window;
    let places = 96 / 2 / GROUP_PARTS;
    let first = u64::from(48 + 2 * places);
    let addr = PoolAddr::new(window.base().get() + first * pool_core::EXTENT_BYTES);
    GroupTag::new([number; 8], addr, Extents::new(extents)).unwrap()
}

fn create(count: u32) -> Body {
    let mut create = ask::create_kept("g", count);
    create.tier = COMMON.into();
    Body::Create(create)
}

fn join(tag: GroupTag) -> Body {
    Body::Join(session::Join {
        tier: COMMON.into(),
        tag: tag.to_string(),
        name: String::new(),
        lifetime: Lifetime::Held.into(),
    })
}

impl World {
    fn groups_device(&self) -> DeviceId {
        let mut ids = self.engine.device_ids();
        ids.find(|(_, name)| *name == "g0").unwrap().0
    }

    fn says_of_groups(&mut self, change: Capacity) {
        let device = self.groups_device();
        self.step(Command::Capacity { device, change });
    }

    /// These groups are there; the last was asked for, for a segment.
    fn has(&mut self, groups: &[(GroupTag, Run)], asked_for: Option<SegmentId>) {
        let last = groups.len().saturating_sub(1);
        self.there = groups.iter().map(|&(_, run)| run).collect();
        let had = groups.iter().enumerate().map(|(at, &(tag, run))| HadGroup {
            tag,
            runs: vec![run],
            asked_for: asked_for.filter(|_| at == last),
        });
        self.says_of_groups(Capacity::Groups(had.collect()));
    }

    /// What the steward was asked since this was asked last.
    fn wishes(&mut self) -> Vec<GroupAsk> {
        std::mem::take(&mut self.asked_of_groups)
    }

    fn last_answer(&self, pid: Pid) -> &reply::Body {
        let process = &self.processes[&pid];
        &process.answers[&process.last_id]
    }

    fn granted_last(&self, pid: Pid) -> Segment {
        match self.last_answer(pid) {
            reply::Body::Granted(granted) => granted.segment.clone().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn refused_last(&self, pid: Pid) -> Error {
        match self.last_answer(pid) {
            reply::Body::Error(error) => error.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A client asks to join a group: the segment that the steward is asked for.
    fn joins(&mut self, pid: Pid, tag: GroupTag) -> SegmentId {
        self.send(pid, join(tag));
        match self.wishes()[..] {
            [
                GroupAsk::Join {
                    segment,
                    tag: asked,
                },
            ] if asked == tag => segment,
            ref other => panic!("{other:?}"),
        }
    }

    /// A group of so many extents that a client has made, at the first of the device.
    fn made(&mut self, pid: Pid, count: u32) -> (Segment, GroupTag) {
        self.send(pid, create(count));
        let wishes = self.wishes();
        let &[
            GroupAsk::Make {
                segment,
                addr,
                extents,
            },
        ] = &wishes[..]
        else {
            panic!("{wishes:?}");
        };
        let tag = GroupTag::new([1; 8], addr, extents).unwrap();
        self.has(&[(tag, run(0, count))], Some(segment));
        (self.granted_last(pid), tag)
    }

    /// The same, which is sealed, and so published.
    fn sealed(&mut self, pid: Pid, count: u32) -> (Segment, GroupTag) {
        let (segment, tag) = self.made(pid, count);
        self.granted(pid, ask::seal(segment.segment_id, 1));
        assert_eq!(self.wishes(), [GroupAsk::Publish(tag)]);
        (segment, tag)
    }
}

fn world() -> World {
    let mut world = World::new(group_plan());
    world.says_of_groups(Capacity::Reached(true));
    world
}

const fn leave(tag: GroupTag, is_ours: bool) -> GroupAsk {
    GroupAsk::Leave { tag, is_ours }
}

#[test]
fn a_group_lies_in_the_makers_part_of_the_addresses_and_is_published_when_it_is_sealed() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let (segment, tag) = world.made(alpha, 2);
    let places = u64::from(96 / 2 / GROUP_PARTS);
    let first = (segment.addr - group_plan().window.base().get()) / pool_core::EXTENT_BYTES;
    assert_eq!(first, 48 + places, "the first of part 1");
    assert_eq!(segment.tag, tag.to_string());
    assert!(world.wishes().is_empty(), "nobody may join it yet");
    world.granted(alpha, ask::seal(segment.segment_id, 1));
    assert_eq!(world.wishes(), [GroupAsk::Publish(tag)]);
}

#[test]
fn what_is_joined_is_read_only_at_its_makers_address_and_had_once() {
    let mut world = world();
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let tag = foreign(7, 3);
    world.send(alpha, join(tag));
    let wishes = world.wishes();
    let &[
        GroupAsk::Join {
            segment,
            tag: asked,
        },
    ] = &wishes[..]
    else {
        panic!("{wishes:?}");
    };
    assert_eq!(asked, tag);
    let busy = world.refused(beta, join(tag));
    assert_eq!(busy.reason(), ErrorReason::Busy);
    world.has(&[(tag, run(4, 3))], Some(segment));
    let granted = world.granted_last(alpha);
    assert_eq!((granted.addr, granted.sealed), (tag.addr().get(), true));
    let again = world.attach(ALPHA);
    assert_eq!(
        world.granted(again, join(tag)).segment_id,
        granted.segment_id
    );
    let other = world.refused(beta, join(tag));
    assert_eq!(
        other.reason(),
        ErrorReason::InUse,
        "it is another tenant's here"
    );
    assert!(world.wishes().is_empty());
}

fn what_is_joined_again_is_asked_for_as_it_is() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let tag = foreign(7, 3);
    let named = |name: &str, lifetime: Lifetime| {
        let Body::Join(join) = join(tag) else {
            unreachable!("it is a join");
        };
        Body::Join(session::Join {
            name: name.to_owned(),
            lifetime: lifetime.into(),
            ..join
        })
    };
    world.send(alpha, named("mine", Lifetime::Held));
    let wishes = world.wishes();
    let &[GroupAsk::Join { segment, .. }] = &wishes[..] else {
        panic!("{wishes:?}");
    };
    world.has(&[(tag, run(4, 3))], Some(segment));
    let again = world.attach(ALPHA);
    for (name, lifetime) in [("other", Lifetime::Held), ("mine", Lifetime::Persistent)] {
        let refused = world.refused(again, named(name, lifetime));
        assert_eq!(refused.reason(), ErrorReason::InUse, "{name} {lifetime:?}");
    }
    for name in ["", "mine"] {
        world.granted(again, named(name, Lifetime::Held));
    }
}

#[test]
fn who_joins_what_is_here_by_another_name_or_for_longer_is_told_how_it_is_here() {
    what_is_joined_again_is_asked_for_as_it_is();
}

#[test]
fn a_group_is_left_when_nobody_here_has_it_and_is_no_more_published_where_it_was_made() {
    what_is_freed_is_left();
}

fn what_is_freed_is_left() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let (segment, tag) = world.sealed(alpha, 2);
    let reader = world.attach(ALPHA);
    world.granted(reader, ask::open("g", Access::ReadOnly));
    world.send(alpha, ask::free(segment.segment_id, true));
    assert!(world.wishes().is_empty(), "somebody has it mapped");
    world.send(reader, ask::close(segment.segment_id));
    assert_eq!(world.wishes(), [leave(tag, true)]);
    world.has(&[], None);
    let theirs = foreign(3, 2);
    world.has(&[(theirs, run(0, 2))], None);
    assert_eq!(
        world.wishes(),
        [leave(theirs, false)],
        "nobody wants what is there"
    );
}

#[test]
fn a_group_that_comes_for_nobody_is_left_again() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    world.send(alpha, create(2));
    let wishes = world.wishes();
    let &[
        GroupAsk::Make {
            segment,
            addr,
            extents,
        },
    ] = &wishes[..]
    else {
        panic!("{wishes:?}");
    };
    world.kill(alpha);
    let tag = GroupTag::new([1; 8], addr, extents).unwrap();
    world.has(&[(tag, run(0, 2))], Some(segment));
    assert_eq!(
        world.wishes(),
        [leave(tag, false)],
        "it was published never"
    );
    assert!(world.engine.check().balanced);
}

#[test]
fn what_is_not_to_be_had_is_refused_and_changes_nothing() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let reasons = [
        (NoGroup::NoRoom, ErrorReason::TierFull),
        (NoGroup::NotThere, ErrorReason::NotFound),
        (NoGroup::Unreached, ErrorReason::Busy),
        (NoGroup::Refused, ErrorReason::Busy),
        (NoGroup::Blocks(Extents::new(128)), ErrorReason::OutOfRange),
    ];
    for (why, reason) in reasons {
        world.send(alpha, create(2));
        let wishes = world.wishes();
        let &[GroupAsk::Make { segment, .. }] = &wishes[..] else {
            panic!("{wishes:?}");
        };
        world.says_of_groups(Capacity::NoGroup { segment, why });
        assert_eq!(world.refused_last(alpha).reason(), reason, "{why:?}");
        assert!(world.engine.check().balanced && world.engine.segments.is_empty());
    }
    for (body, reason) in [
        (join(foreign(1, 60)), ErrorReason::NotPermitted),
        (create(13), ErrorReason::OverQuota),
        (create(4), ErrorReason::WindowFull),
    ] {
        assert_eq!(world.refused(alpha, body).reason(), reason);
    }
    assert!(world.wishes().is_empty());
}

#[test]
fn a_group_whose_length_is_not_that_of_its_tag_is_not_granted() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let tag = foreign(7, 3);
    let segment = world.joins(alpha, tag);
    world.has(&[(tag, run(4, 2))], Some(segment));
    let refused = world.refused_last(alpha);
    assert_eq!(refused.reason(), ErrorReason::NotPermitted);
    assert_eq!(world.wishes(), [leave(tag, false)]);
}

#[test]
fn what_is_waited_for_counts_as_what_is_had() {
    let mut world = world();
    let (alpha, beta, again) = (world.attach(ALPHA), world.attach(BETA), world.attach(ALPHA));
    world.send(alpha, join(foreign(1, 8)));
    let over = world.refused(again, join(foreign(2, 5)));
    assert_eq!(over.reason(), ErrorReason::OverQuota, "12 is the limit");
    let full = world.refused(beta, join(foreign(3, 9)));
    assert_eq!(full.reason(), ErrorReason::TierFull, "16 is the most");
    assert_eq!(world.wishes().len(), 1);
}

#[test]
fn a_group_beyond_the_size_of_the_device_is_refused_and_left() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let tag = foreign(7, 3);
    let segment = world.joins(alpha, tag);
    world.has(&[(tag, run(15, 3))], Some(segment));
    assert_eq!(world.refused_last(alpha).reason(), ErrorReason::TierFull);
    assert_eq!(world.wishes(), [leave(tag, false)]);
}

#[test]
fn a_group_that_is_joined_with_a_bad_line_is_damaged_there_and_a_new_one_is_not_taken() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let bad = |world: &mut World| {
        world.says_of_groups(Capacity::Poisoned(vec![run(1, 1)]));
        world.bad = std::iter::once(run(1, 1)).collect();
    };
    world.has(&[(foreign(9, 4), run(0, 4))], None);
    bad(&mut world);
    world.wishes();
    let tag = foreign(9, 4);
    let segment = world.joins(alpha, tag);
    world.has(&[(tag, run(0, 4))], None);
    bad(&mut world);
    world.has(&[(tag, run(0, 4))], Some(segment));
    let granted = world.granted_last(alpha);
    let damaged = event::Body::Damaged(session::Damaged {
        segment_id: granted.segment_id,
        offset: pool_core::EXTENT_BYTES,
        bytes: pool_core::EXTENT_BYTES,
    });
    assert!(world.processes[&alpha].events.contains(&damaged));
}

#[test]
fn another_tenant_that_has_a_share_is_not_told_the_tag() {
    let mut world = world();
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let (segment, _) = world.made(alpha, 2);
    world.done(
        alpha,
        ask::share(segment.segment_id, "beta", Access::ReadOnly),
    );
    let theirs = world.granted(beta, ask::open("alpha:g", Access::ReadOnly));
    assert_eq!((theirs.tag, theirs.addr), (String::new(), segment.addr));
}

#[test]
fn a_group_that_left_is_lost_here_and_its_holders_are_told() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let (segment, tag) = world.sealed(alpha, 2);
    world.has(&[], None);
    let lost = event::Body::Lost(session::Lost {
        segment_id: segment.segment_id,
    });
    assert_eq!(world.processes[&alpha].events, [lost]);
    world.send(alpha, ask::close(segment.segment_id));
    assert_eq!(
        world.wishes(),
        [leave(tag, true)],
        "nobody is to join what its maker has lost"
    );
    assert!(world.engine.segments.is_empty() && world.engine.check().balanced);
}

#[test]
fn a_new_life_has_the_groups_of_before_and_publishes_what_is_sealed_again() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let (segment, tag) = world.sealed(alpha, 2);
    world.restart(|_| true);
    assert_eq!(world.wishes(), [GroupAsk::Publish(tag)]);
    world.has(&[(tag, run(0, 2))], None);
    assert!(world.wishes().is_empty(), "somebody has it");
    let row = &world.durable[&(Table::Segments, segment.segment_id)];
    let Record::Segment(row) = row else {
        panic!("{row:?}");
    };
    assert_eq!(row.tag, tag.bytes());
}

#[test]
fn a_new_life_has_a_group_of_which_all_was_bad_when_it_was_joined() {
    what_is_all_bad_is_had_in_a_new_life();
}

fn what_is_all_bad_is_had_in_a_new_life() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let tag = foreign(7, 1);
    let segment = world.joins(alpha, tag);
    world.says_of_groups(Capacity::Poisoned(vec![run(4, 1)]));
    world.has(&[(tag, run(4, 1))], Some(segment));
    let granted = world.granted_last(alpha);
    world.restart(|_| true);
    let row = &world.durable[&(Table::Segments, granted.segment_id)];
    assert!(matches!(row, Record::Segment(row) if !row.freed), "{row:?}");
    assert!(world.engine.check().balanced);
}

#[test]
fn a_new_life_publishes_nothing_that_is_not_sealed() {
    what_is_not_sealed_is_not_published();
}

fn what_is_not_sealed_is_not_published() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    world.made(alpha, 2);
    world.restart(|_| true);
    assert_eq!(world.wishes(), []);
}

/// A group of this host's own addresses, which its journal does not know: it has a new one.
fn what_is_of_an_earlier_pool_is_left_alone() {
    let mut world = world();
    let places = u64::from(96 / 2 / GROUP_PARTS);
    let first = group_plan().window.base().get() + (48 + places) * pool_core::EXTENT_BYTES;
    let tag = GroupTag::new([9; 8], PoolAddr::new(first), Extents::new(2)).unwrap();
    world.has(&[(tag, run(0, 2))], None);
    let left = leave(tag, false);
    assert_eq!(world.wishes(), [left], "others may rely on it");
    let alpha = world.attach(ALPHA);
    world.has(&[], None);
    let segment = world.joins(alpha, tag);
    world.has(&[(tag, run(0, 2))], Some(segment));
    let joined = world.granted_last(alpha);
    world.restart(|_| true);
    assert_eq!(world.wishes(), [], "this pool has not published it");
    world.has(&[(tag, run(0, 2))], None);
    world.send(alpha, ask::close(joined.segment_id));
    assert_eq!(world.wishes(), [left], "nor ends that");
    world.restart(|_| true);
    assert_eq!(world.wishes(), []);
}

#[test]
fn what_the_journal_does_not_know_is_published_by_somebody_else() {
    what_is_of_an_earlier_pool_is_left_alone();
}

/// A daemon that dies between the end of a group and what the fabric hears of it.
fn what_was_published_is_ended_by_the_next_life() {
    for is_here in [true, false] {
        let mut world = world();
        let alpha = world.attach(ALPHA);
        let (segment, tag) = world.sealed(alpha, 2);
        if is_here {
            let reader = world.attach(ALPHA);
            world.granted(reader, ask::open("g", Access::ReadOnly));
            world.send(alpha, ask::free(segment.segment_id, true));
            world.send(reader, ask::close(segment.segment_id));
        } else {
            world.has(&[], None);
            world.send(alpha, ask::close(segment.segment_id));
        }
        assert_eq!(world.wishes(), [leave(tag, true)]);
        for _ in 0..2 {
            world.restart(|_| true);
            assert_eq!(
                world.wishes(),
                [leave(tag, true)],
                "nobody has said that it is done"
            );
        }
        world.says_of_groups(Capacity::Unpublished(tag));
        world.restart(|_| true);
        assert_eq!(world.wishes(), [], "it is done");
    }
}

#[test]
fn what_was_published_and_is_forgotten_is_ended_in_any_life() {
    what_was_published_is_ended_by_the_next_life();
}

/// Catches: group.claims_in_memory_alone, group.is_published_unsealed, group.stays_published
/// Catches: group.ends_what_it_does_not_know, group.takes_what_it_joined_for_its_own
/// Catches: group.forgets_what_it_published, group.joins_by_any_name
#[cfg(feature = "fault")]
#[test]
fn planted_bugs_of_groups_are_found() {
    for (bug, law) in [
        (
            "group.is_published_unsealed",
            what_is_not_sealed_is_not_published as fn(),
        ),
        ("group.stays_published", what_is_freed_is_left),
        (
            "group.joins_by_any_name",
            what_is_joined_again_is_asked_for_as_it_is,
        ),
        (
            "group.ends_what_it_does_not_know",
            what_is_of_an_earlier_pool_is_left_alone,
        ),
        (
            "group.takes_what_it_joined_for_its_own",
            what_is_of_an_earlier_pool_is_left_alone,
        ),
        (
            "group.forgets_what_it_published",
            what_was_published_is_ended_by_the_next_life,
        ),
        (
            "group.claims_in_memory_alone",
            what_is_all_bad_is_had_in_a_new_life,
        ),
    ] {
        law();
        let planted = pool_core::fault::plant_here(bug);
        let broken = std::panic::catch_unwind(law).is_err();
        drop(planted);
        assert!(broken, "{bug} is not found");
    }
}

#[test]
fn the_addresses_of_groups_are_nobody_elses() {
    let mut world = world();
    let alpha = world.attach(ALPHA);
    let beta = world.attach(BETA);
    world.send(alpha, create(3));
    let full = world.refused(beta, {
        let mut create = ask::create(2);
        create.capacity_bytes = super::plans::extents(49);
        Body::Create(create)
    });
    assert_eq!(
        full.reason(),
        ErrorReason::WindowFull,
        "half of it is for groups"
    );
    world.operate(Operation::Drain("g0".into())).unwrap();
    let drained = world.refused(beta, join(foreign(1, 2)));
    assert_eq!(drained.reason(), ErrorReason::TierFull);
    assert!(Engine::check(&world.engine).balanced);
}
