//! What is published, and when that ends.

use fabric_emu::cci::dcd_management::ReferenceRequest;

use super::*;

#[test]
fn a_wish_that_nobody_joins_a_group_is_answered_when_it_is_so() {
    let mut two = Two::new();
    let tag = published(&mut two);
    let done = Capacity::Unpublished(tag);
    two.is_deaf = true;
    two.wish(0, GroupWish::Leave(tag, true));
    assert!(!two.hosts[0].said.contains(&done), "the manager is deaf");
    two.is_deaf = false;
    two.pass(200);
    assert!(two.hosts[0].said.contains(&done));
    // Once more, by a daemon that has not written down that it was told.
    two.hosts[0] = host(0);
    two.wish(0, GroupWish::Leave(tag, true));
    assert!(two.hosts[0].said.contains(&done));
    assert_eq!((two.really(), two.tags()), ([0, 0], 0));
}

#[test]
fn what_an_earlier_pool_of_this_host_has_published_stays_so() {
    let mut two = Two::new();
    let tag = published(&mut two);
    two.wish(0, GroupWish::Leave(tag, false));
    two.hosts[0] = host(0);
    two.pass(400);
    assert_eq!((two.really(), two.tags()), ([0, 0], 1));
    two.wish(1, GroupWish::Join(segment(3), tag));
    assert_eq!(two.really(), [0, 4]);
}

impl Two {
    fn refer(&mut self, tag: GroupTag) {
        let asked = ReferenceRequest {
            tag: Tag(tag.bytes()),
        };
        let at = Picos::from_nanos(self.now.get());
        let asked = Request::AddReference(asked);
        self.fabric.ask(at, Cci::Memdev(POOL), &asked).unwrap();
    }

    /// Whether another host is given the group, if it asks.
    fn is_joined(&mut self, tag: GroupTag) -> bool {
        self.wish(1, GroupWish::Join(segment(9), tag));
        self.pass(400);
        self.refused(1) != [NoGroup::NotThere]
    }
}

fn a_reference_that_outlives_a_reset_is_ended() {
    let mut two = Two::new();
    let tag = published(&mut two);
    two.reset();
    two.refer(tag);
    two.pass(200);
    assert!(!two.is_joined(tag), "nobody is offered zeros");
    // A daemon that was away meanwhile, and does not know of the reset when it begins.
    let mut two = Two::new();
    let tag = published(&mut two);
    two.reset();
    two.refer(tag);
    two.hosts[0] = host(0);
    two.hosts[0].steward.wish(two.now, GroupWish::Publish(tag));
    two.pass(200);
    assert!(!two.is_joined(tag));
}

#[test]
fn a_reset_device_that_has_kept_its_references_offers_no_zeros() {
    a_reference_that_outlives_a_reset_is_ended();
}

/// An engine that has not heard of the reset yet when it seals.
fn what_is_lost_is_not_published() {
    let mut two = Two::new();
    let tag = tag(1, 4);
    two.wish(0, GroupWish::Make(segment(1), tag));
    two.reset();
    two.pass(200);
    two.wish(0, GroupWish::Publish(tag));
    two.pass(200);
    assert!(!two.is_joined(tag), "it is of zeros");
}

#[test]
fn what_is_lost_before_it_is_published_is_not() {
    what_is_lost_is_not_published();
}

/// Catches: group.publishes_what_it_has_lost, group.stays_published_after_a_reset
#[cfg(feature = "fault")]
#[test]
fn planted_bugs_of_references_are_found() {
    are_found(&[
        (
            "group.stays_published_after_a_reset",
            a_reference_that_outlives_a_reset_is_ended,
        ),
        (
            "group.publishes_what_it_has_lost",
            what_is_lost_is_not_published,
        ),
    ]);
}
