//! Two hosts whose stewards have groups of one region, on a real fabric.

use fabric_emu::cci::dcd_management::ListTagsRequest;
use pool_core::{GroupTag, PoolAddr, SegmentId};

use super::*;
use crate::engine::command::{HadGroup, NoGroup};

mod references;

const SHARED: &str = r#"
name = "shared"
[[host]]
name = "h0"
window = "1 GiB"
[[host]]
name = "h1"
window = "1 GiB"
[[memdev]]
name = "pool"
kind = { heads = 2 }
dynamic = "512 MiB"
[[memdev.region]]
length = "256 MiB"
block = "2 MiB"
[[memdev.region]]
length = "256 MiB"
block = "4 MiB"
sharable = true
[[link]]
up = "h0:0"
down = "pool:0"
[[link]]
up = "h1:0"
down = "pool:1"
"#;

/// A steward of groups alone, and what it said of them.
struct Host {
    steward: Steward,
    said: Vec<Capacity>,
}

struct Two {
    fabric: Fabric,
    hosts: [Host; 2],
    now: Nanos,
    /// The manager answers nobody.
    is_deaf: bool,
    /// The device answers nobody.
    is_mute: bool,
    /// The device answers so often and not again.
    answers: u32,
    /// What the manager refuses with, so many times.
    refuses: (ReturnCode, u32),
}

fn host(number: u16) -> Host {
    let terms = Terms {
        region: None,
        groups: Some(1),
        ..terms(LdId(number))
    };
    Host {
        steward: Steward::new(terms),
        said: Vec::new(),
    }
}

fn tag(number: u8, extents: u32) -> GroupTag {
    GroupTag::new([number; 8], PoolAddr::new(1 << 40), Extents::new(extents)).unwrap()
}

fn segment(number: u64) -> SegmentId {
    SegmentId::new(number).unwrap()
}

impl Two {
    fn new() -> Self {
        let topology = Topology::parse("shared", SHARED).unwrap();
        let mut two = Self {
            fabric: Fabric::new(&topology, 1).unwrap(),
            hosts: [host(0), host(1)],
            now: Nanos::from_millis(1_000),
            is_deaf: false,
            is_mute: false,
            answers: u32::MAX,
            refuses: (ReturnCode::Busy, 0),
        };
        two.pass(20);
        two
    }

    fn round(&mut self, number: usize) {
        let demand = Demand {
            total: Extents::ZERO,
            free: Extents::ZERO,
            most: Extents::ZERO,
            wanted: Extents::ZERO,
            draining: true,
            removed: false,
        };
        let id = u16::try_from(number).unwrap();
        let mailbox = Cci::Mailbox {
            host: HostId(id),
            memdev: POOL,
            ld: LdId(id),
        };
        for _ in 0..300 {
            let host = &mut self.hosts[number];
            let (cci, request) = match host.steward.next(self.now, &demand) {
                Do::Mailbox(request) => (mailbox, request),
                Do::Manager(request) => (Cci::Memdev(POOL), request),
                Do::Say(Whose::Own, _) => continue,
                Do::Say(Whose::Groups, word) => {
                    host.said.push(word);
                    continue;
                }
                Do::Rest(until) => {
                    assert!(until > self.now, "a rest ends later");
                    return;
                }
            };
            let is_manager = cci == Cci::Memdev(POOL);
            let is_mute = self.is_mute || self.answers == 0;
            self.answers -= u32::from(!is_manager && !is_mute);
            if (is_manager && self.is_deaf) || (!is_manager && is_mute) {
                host.steward.answered(self.now, Err(Unanswered::Unreached));
                continue;
            }
            if is_manager && self.refuses.1 > 0 {
                self.refuses.1 -= 1;
                let refused = Err(Unanswered::Refused(self.refuses.0));
                host.steward.answered(self.now, refused);
                continue;
            }
            let at = Picos::from_nanos(self.now.get());
            let answer = self.fabric.ask(at, cci, &request);
            let answer = match &answer {
                Ok(response) => Ok(response),
                Err(Asked::Refused(code)) => Err(Unanswered::Refused(*code)),
                Err(_) => Err(Unanswered::Unreached),
            };
            host.steward.answered(self.now, answer);
        }
        panic!("a round does not end");
    }

    /// The device loses power, and has it again.
    fn reset(&mut self) {
        let at = Picos::from_nanos(self.now.get());
        for fault in [Fault::MemdevVanishes(POOL), Fault::MemdevReturns(POOL)] {
            self.fabric.step(at, &Event::Fault(fault));
        }
        self.hosts.iter_mut().for_each(|host| host.said.clear());
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now = self.now.saturating_add(Nanos::from_millis(10));
            self.round(0);
            self.round(1);
        }
    }

    fn wish(&mut self, host: usize, wish: GroupWish) {
        self.hosts[host].said.clear();
        self.hosts[host].steward.wish(self.now, wish);
        self.pass(30);
    }

    /// The groups that a host was told of last.
    fn last(&self, host: usize) -> Vec<HadGroup> {
        let mut words = self.hosts[host].said.iter().rev();
        let groups = words.find_map(|word| match word {
            Capacity::Groups(groups) => Some(groups.clone()),
            _ => None,
        });
        groups.unwrap_or_default()
    }

    fn refused(&self, host: usize) -> Vec<NoGroup> {
        let why = |word: &Capacity| match word {
            Capacity::NoGroup { why, .. } => Some(*why),
            _ => None,
        };
        self.hosts[host].said.iter().filter_map(why).collect()
    }

    /// How many extents each host has, as the fabric says.
    fn really(&self) -> [u64; 2] {
        let device = self.fabric.memdev(POOL).unwrap();
        [0, 1].map(|ld| {
            let spans = device.reached(LdId(ld));
            spans.iter().map(|it| it.bytes).sum::<u64>() / EXTENT_BYTES
        })
    }

    fn tags(&mut self) -> u32 {
        let at = Picos::from_nanos(self.now.get());
        let asked = Request::ListTags(ListTagsRequest {
            starting_index: 0,
            max_tags: 0,
        });
        match self.fabric.ask(at, Cci::Memdev(POOL), &asked) {
            Ok(Response::ListTags(list)) => list.total_tags,
            other => panic!("{other:?}"),
        }
    }
}

/// What must hold between a maker and a host that joins, to its end.
fn a_group_goes_its_way() {
    let mut two = Two::new();
    let tag = tag(1, 4);
    two.wish(0, GroupWish::Make(segment(5), tag));
    let made = two.last(0);
    assert_eq!((made.len(), made[0].tag), (1, tag));
    assert_eq!(made[0].asked_for, Some(segment(5)));
    assert_eq!(made[0].runs.iter().map(|run| run.count).sum::<u32>(), 4);
    two.wish(1, GroupWish::Join(segment(8), tag));
    two.pass(400);
    assert_eq!(two.refused(1), [NoGroup::NotThere], "it is not published");
    assert_eq!(two.really(), [4, 0]);
    two.wish(0, GroupWish::Publish(tag));
    two.wish(1, GroupWish::Join(segment(9), tag));
    assert_eq!(two.last(1)[0].asked_for, Some(segment(9)));
    assert_eq!(two.really(), [4, 4]);
    two.wish(0, GroupWish::Leave(tag, true));
    assert_eq!((two.really(), two.last(0)), ([0, 4], Vec::new()));
    two.wish(0, GroupWish::Join(segment(7), tag));
    two.pass(400);
    assert_eq!(two.refused(0), [NoGroup::NotThere], "its maker has left it");
    two.wish(1, GroupWish::Leave(tag, false));
    assert_eq!(
        (two.really(), two.tags()),
        ([0, 0], 0),
        "nothing is left of it"
    );
}

#[test]
fn a_group_is_made_published_joined_and_left() {
    a_group_goes_its_way();
}

#[test]
fn what_is_published_stays_when_no_host_has_it_and_is_joined_again() {
    let mut two = Two::new();
    let tag = tag(2, 8);
    two.wish(0, GroupWish::Make(segment(1), tag));
    two.wish(0, GroupWish::Publish(tag));
    // Another life of the maker, that does not know it.
    two.wish(0, GroupWish::Leave(tag, false));
    assert_eq!((two.really(), two.tags()), ([0, 0], 1));
    two.wish(1, GroupWish::Join(segment(2), tag));
    assert_eq!(two.really(), [0, 8]);
}

/// A host that lets go of a group and wants it again before the fabric has heard of either.
fn what_is_joined_again_is_not_what_is_left() {
    let mut two = Two::new();
    let tag = tag(2, 8);
    two.wish(0, GroupWish::Make(segment(1), tag));
    two.wish(0, GroupWish::Publish(tag));
    two.wish(1, GroupWish::Join(segment(2), tag));
    two.hosts[1].said.clear();
    two.hosts[1]
        .steward
        .wish(two.now, GroupWish::Leave(tag, false));
    two.hosts[1]
        .steward
        .wish(two.now, GroupWish::Join(segment(3), tag));
    two.pass(100);
    assert_eq!(two.really(), [8, 8]);
    assert_eq!(two.last(1)[0].asked_for, Some(segment(3)));
}

#[test]
fn a_group_that_is_left_and_joined_again_at_once_is_there_in_the_end() {
    what_is_joined_again_is_not_what_is_left();
}

/// A host whose segment of a group is gone only when it waits for that group again, in vain.
fn what_is_let_go_of_amid_a_wait_is_left() {
    for is_ours in [false, true] {
        let mut two = Two::new();
        let tag = tag(2, 8);
        two.wish(0, GroupWish::Make(segment(1), tag));
        two.wish(0, GroupWish::Publish(tag));
        two.is_deaf = true;
        two.wish(0, GroupWish::Join(segment(2), tag));
        two.wish(0, GroupWish::Leave(tag, is_ours));
        assert_eq!(two.really(), [8, 0], "it may come still");
        two.pass(600);
        assert_eq!(two.refused(0), [NoGroup::Unreached]);
        two.is_deaf = false;
        two.pass(200);
        let stays = u32::from(!is_ours);
        assert_eq!((two.really(), two.tags()), ([0, 0], stays));
    }
}

#[test]
fn what_is_let_go_of_while_it_is_waited_for_is_left_if_it_does_not_come() {
    what_is_let_go_of_amid_a_wait_is_left();
}

#[test]
fn what_comes_is_not_left_for_what_was_let_go_of_before() {
    let mut two = Two::new();
    let tag = tag(2, 8);
    two.wish(0, GroupWish::Make(segment(1), tag));
    two.wish(0, GroupWish::Publish(tag));
    two.wish(1, GroupWish::Join(segment(2), tag));
    two.is_deaf = true;
    two.wish(1, GroupWish::Join(segment(3), tag));
    two.wish(1, GroupWish::Leave(tag, false));
    two.is_deaf = false;
    two.pass(200);
    assert_eq!(two.last(1)[0].asked_for, Some(segment(3)));
    two.pass(600);
    assert_eq!((two.really(), two.refused(1)), ([8, 8], Vec::new()));
}

#[test]
fn what_cannot_be_had_is_said() {
    let mut two = Two::new();
    two.wish(0, GroupWish::Make(segment(1), tag(1, 3)));
    assert_eq!(two.refused(0), [NoGroup::Blocks(Extents::new(2))]);
    two.wish(0, GroupWish::Make(segment(2), tag(2, 256)));
    assert_eq!(two.refused(0), [NoGroup::NoRoom]);
    two.is_deaf = true;
    two.wish(0, GroupWish::Make(segment(3), tag(3, 2)));
    assert_eq!(two.refused(0), [], "it is asked again");
    two.pass(600);
    assert_eq!(two.refused(0), [NoGroup::Unreached]);
    two.is_deaf = false;
    two.pass(600);
    assert_eq!(
        two.refused(0),
        [NoGroup::Unreached],
        "nobody waits for it any more"
    );
    two.wish(0, GroupWish::Make(segment(4), tag(4, 2)));
    assert_eq!(two.last(0).last().unwrap().asked_for, Some(segment(4)));
}

#[test]
fn who_waits_for_a_device_that_falls_silent_is_told_in_time() {
    let mut two = Two::new();
    two.is_mute = true;
    two.wish(0, GroupWish::Make(segment(3), tag(3, 2)));
    assert_eq!(two.refused(0), []);
    two.pass(500);
    assert_eq!(two.refused(0), [NoGroup::Unreached]);
}

#[test]
fn what_a_manager_refuses_for_a_while_is_done_later() {
    for code in [ReturnCode::Busy, ReturnCode::RetryRequired] {
        let mut two = Two::new();
        let tag = tag(1, 4);
        two.wish(0, GroupWish::Make(segment(1), tag));
        two.refuses = (code, 2);
        two.wish(0, GroupWish::Publish(tag));
        two.pass(500);
        two.wish(1, GroupWish::Join(segment(2), tag));
        assert_eq!(two.really(), [4, 4], "it was published in the end");
        two.wish(1, GroupWish::Leave(tag, false));
        two.refuses = (code, 2);
        two.wish(0, GroupWish::Leave(tag, true));
        two.pass(500);
        assert_eq!((two.really(), two.tags()), ([0, 0], 0), "and is no more");
    }
}

#[test]
fn a_group_that_is_listed_twice_or_in_part_is_none() {
    let mut groups = super::super::groups::Groups::new(1);
    groups.region = Some(Region::with(64));
    let piece = |start: u64, extents: u64| DpaExtent {
        start_dpa: start * EXTENT_BYTES,
        length: extents * EXTENT_BYTES,
        tag: Tag(tag(1, 4).bytes()),
        shared_extent_sequence: 1,
    };
    for (pieces, there) in [
        (vec![piece(0, 4)], 1),
        (vec![piece(0, 2), piece(2, 2)], 1),
        (vec![piece(0, 3)], 0),
        (vec![piece(0, 2), piece(0, 2)], 0),
        (vec![piece(0, 4), piece(8, 4)], 0),
    ] {
        match groups.listed(&pieces, true) {
            Some(Capacity::Groups(groups)) => assert_eq!(groups.len(), there, "{pieces:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_group_that_is_sealed_while_it_is_looked_for_is_joined() {
    let mut two = Two::new();
    let tag = tag(1, 4);
    two.wish(0, GroupWish::Make(segment(1), tag));
    two.wish(1, GroupWish::Join(segment(2), tag));
    assert_eq!(two.refused(1), []);
    two.wish(0, GroupWish::Publish(tag));
    two.pass(50);
    assert_eq!(two.really(), [4, 4]);
}

#[test]
fn memory_that_no_other_host_can_have_is_no_group() {
    let mut two = Two::new();
    let terms = Terms {
        region: None,
        groups: Some(0),
        ..terms(LdId(0))
    };
    two.hosts[0].steward = Steward::new(terms);
    two.pass(20);
    two.wish(0, GroupWish::Make(segment(1), tag(1, 4)));
    assert_eq!(two.refused(0), [NoGroup::NotSharable]);
    assert_eq!(two.really(), [0, 0]);
}

/// What a manager offers without having been asked is not taken.
fn offers_of_others_are_declined() {
    let mut two = Two::new();
    let offer = Request::InitiateAdd(InitiateAddRequest {
        host_id: LdId(0),
        selection_policy: SelectionPolicy::Free,
        region_number: 1,
        length: 4 * EXTENT_BYTES,
        tag: Tag(tag(9, 4).bytes()),
        extents: None,
    });
    let at = Picos::from_nanos(two.now.get());
    two.fabric.ask(at, Cci::Memdev(POOL), &offer).unwrap();
    two.pass(50);
    assert_eq!((two.really(), two.tags()), ([0, 0], 0));
    two.wish(0, GroupWish::Make(segment(1), tag(1, 2)));
    assert_eq!(two.really(), [2, 0], "and keep no other waiting");
}

#[test]
fn a_group_that_nobody_asked_for_is_declined() {
    offers_of_others_are_declined();
}

/// A host waits for a group that is not sealed yet, and somebody offers it by hand.
fn offers_of_what_is_not_published_are_declined() {
    let mut two = Two::new();
    let tag = tag(1, 4);
    two.wish(0, GroupWish::Make(segment(1), tag));
    two.wish(1, GroupWish::Join(segment(2), tag));
    let offer = Request::InitiateAdd(InitiateAddRequest {
        host_id: LdId(1),
        selection_policy: SelectionPolicy::EnableSharedAccess,
        region_number: 1,
        length: 0,
        tag: Tag(tag.bytes()),
        extents: None,
    });
    let at = Picos::from_nanos(two.now.get());
    two.fabric.ask(at, Cci::Memdev(POOL), &offer).unwrap();
    two.pass(400);
    assert_eq!(two.really(), [4, 0]);
    assert_eq!(two.refused(1), [NoGroup::NotThere]);
}

#[test]
fn a_group_that_is_offered_by_hand_before_it_is_published_is_declined_by_who_waits_for_it() {
    offers_of_what_is_not_published_are_declined();
}

#[test]
fn a_steward_that_begins_anew_says_which_groups_there_are() {
    let mut two = Two::new();
    two.wish(0, GroupWish::Make(segment(1), tag(1, 4)));
    let before = two.last(0);
    two.hosts[0] = host(0);
    two.pass(20);
    let groups = two.hosts[0].said.iter();
    let groups: Vec<_> = groups
        .filter(|word| matches!(word, Capacity::Groups(_)))
        .collect();
    let none = |group: &HadGroup| HadGroup {
        asked_for: None,
        ..group.clone()
    };
    let there = Capacity::Groups(before.iter().map(none).collect());
    assert_eq!(groups, [&there], "and nothing was lost");
    two.fabric.step(
        Picos::from_nanos(two.now.get()),
        &Event::Fault(Fault::MemdevCycles(POOL)),
    );
    two.hosts[0].said.clear();
    two.pass(20);
    let none = Capacity::Groups(Vec::new());
    assert_eq!(
        two.hosts[0].said[0], none,
        "a device that was reset holds nothing of before"
    );
}

/// A group that host 0 has made and published.
fn published(two: &mut Two) -> GroupTag {
    let tag = tag(1, 4);
    two.wish(0, GroupWish::Make(segment(1), tag));
    two.wish(0, GroupWish::Publish(tag));
    tag
}

#[test]
fn what_was_sealed_before_a_reset_is_joined_by_nobody_after_it_nor_published_again() {
    let mut two = Two::new();
    let tag = published(&mut two);
    two.reset();
    // Another life of the maker, which has not seen the reset yet.
    two.hosts[0] = host(0);
    let (now, publish) = (two.now, GroupWish::Publish(tag));
    two.hosts[0].steward.wish(now, publish);
    two.wish(1, GroupWish::Join(segment(2), tag));
    two.pass(400);
    assert_eq!(two.refused(1), [NoGroup::NotThere]);
    two.wish(1, GroupWish::Join(segment(3), tag));
    two.pass(400);
    assert_eq!(two.refused(1), [NoGroup::NotThere]);
}

/// However far a host has come to join a group, once the device was reset it is told of none.
fn what_is_half_joined_is_lost_with_a_reset() {
    for answers in 0..24 {
        let mut two = Two::new();
        let tag = published(&mut two);
        two.answers = answers;
        two.hosts[1]
            .steward
            .wish(two.now, GroupWish::Join(segment(2), tag));
        two.round(1);
        let was_told = two.last(1).iter().any(|group| group.asked_for.is_some());
        two.reset();
        two.answers = u32::MAX;
        two.pass(600);
        let words = two.hosts[1].said.iter().filter_map(|word| match word {
            Capacity::Groups(groups) => Some(groups),
            _ => None,
        });
        let told = words.flatten().find(|group| group.asked_for.is_some());
        assert_eq!(told, None, "after {answers} answers");
        assert!(was_told || !two.refused(1).is_empty(), "{answers}");
    }
}

#[test]
fn a_group_that_is_half_joined_is_lost_with_its_device() {
    what_is_half_joined_is_lost_with_a_reset();
}

/// Catches: group.joins_what_is_not_published, group.takes_any_offer
/// Catches: group.serves_what_was_reset, group.takes_what_was_not_published
/// Catches: group.keeps_what_it_waited_for
#[cfg(feature = "fault")]
#[test]
fn planted_bugs_of_groups_are_found() {
    are_found(&[
        (
            "group.joins_what_is_not_published",
            a_group_goes_its_way as fn(),
        ),
        ("group.takes_any_offer", offers_of_others_are_declined),
        (
            "group.keeps_what_it_waited_for",
            what_is_let_go_of_amid_a_wait_is_left,
        ),
        (
            "group.takes_what_was_not_published",
            offers_of_what_is_not_published_are_declined,
        ),
        (
            "group.serves_what_was_reset",
            what_is_half_joined_is_lost_with_a_reset,
        ),
    ]);
}

/// Each bug breaks the law beside it.
#[cfg(feature = "fault")]
fn are_found(bugs: &[(&'static str, fn())]) {
    for &(bug, law) in bugs {
        law();
        let planted = pool_core::fault::plant_here(bug);
        let broken = std::panic::catch_unwind(law).is_err();
        drop(planted);
        assert!(broken, "{bug} is not found");
    }
}
