//! The daemon dies at every named point of every change it makes durable, and nothing is lost,
//! nothing is done twice, and no extent is anybody's but its owner's.
//!
//! For each operation, each point and each passing of it, in a pool that is empty, half full, and
//! full but for four extents:
//! 1. a daemon is brought to where the operation begins, and killed;
//! 2. the next one is planned to die at that passing; its clients come back and ask, and it dies
//!    there ([`rounds`] tells a death within the operation from one before it);
//! 3. it dies again at each point of its recovery; the journal of a second recovery is that of the
//!    first, but for the epoch;
//! 4. the last daemon lives: the request, repeated under its id, is answered as before where there
//!    was an answer, the accounting balances, what the operation promises holds, and when all is
//!    given back all is free.
//!
//! Each operation says which points it passes, and dies at exactly these: so a point that is moved
//! or lost is noticed.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use std::collections::BTreeSet;

use pool_daemon::reactor::{CRASH_POINTS, EVICTION_POINTS};
use tierpool_tests::{campaign, points};

mod operations;
mod rounds;

use operations as op;

/// A test for each operation, and the list of them all.
macro_rules! operations {
    ($($law:ident: $case:expr;)*) => {
        $(
            #[test]
            fn $law() {
                rounds::at_every_point(stringify!($law), &$case);
            }
        )*

        fn all() -> Vec<rounds::Case> {
            vec![$($case),*]
        }
    };
}

operations! {
    an_attach_survives_the_daemons_death: op::ATTACH;
    a_reattach_survives_the_daemons_death: op::REATTACH;
    a_create_survives_the_daemons_death: op::CREATE;
    an_open_survives_the_daemons_death: op::OPEN;
    a_growing_segment_survives_the_daemons_death: op::GROW;
    a_shrinking_segment_survives_the_daemons_death: op::SHRINK;
    a_share_survives_the_daemons_death: op::SHARE;
    the_end_of_an_unused_share_survives_the_daemons_death: op::REVOKE_UNUSED;
    the_end_of_a_used_share_survives_the_daemons_death: op::REVOKE_USED;
    a_relocation_survives_the_daemons_death: op::RELOCATE;
    a_seal_survives_the_daemons_death: op::SEAL;
    a_close_survives_the_daemons_death: op::CLOSE;
    a_free_survives_the_daemons_death: op::FREE;
    a_detach_survives_the_daemons_death: op::DETACH;
    a_clients_death_survives_the_daemons_death: op::CLIENT_DEATH;
    the_creation_of_a_domain_survives_the_daemons_death: op::CREATE_DOMAIN;
    the_death_of_a_member_survives_the_daemons_death: op::MEMBER_DEATH;
    a_supplied_descriptor_survives_the_daemons_death: op::SUPPLY;
    a_drain_survives_the_daemons_death: op::DRAIN;
    an_activation_survives_the_daemons_death: op::ACTIVATE;
    the_removal_of_a_device_survives_the_daemons_death: op::REMOVE;
    a_growing_device_survives_the_daemons_death: op::GROW_DEVICE;
    a_shrinking_device_survives_the_daemons_death: op::SHRINK_DEVICE;
    an_operators_free_survives_the_daemons_death: op::OPERATORS_FREE;
}

#[test]
fn every_defined_point_is_died_at() {
    let passed = all().into_iter().flat_map(|case| case.passes.concat());
    let passed: BTreeSet<_> = passed.chain(rounds::OF_RECOVERY).collect();
    let (count, defined) = (passed.len(), CRASH_POINTS.len());
    campaign(
        3,
        "points of the daemon",
        &format!("{count} of {defined} reached"),
    );
    assert_eq!(passed, CRASH_POINTS.iter().copied().collect());
}

#[test]
fn every_point_in_the_source_is_defined_and_stands_there_once() {
    let found = points::in_sources_of("pool-daemon");
    // Those of evictions are died at by a test of their own.
    let defined = CRASH_POINTS.iter().chain(EVICTION_POINTS);
    let mut defined: Vec<_> = defined.map(ToString::to_string).collect();
    defined.sort_unstable();
    assert_eq!(found, defined);
}
