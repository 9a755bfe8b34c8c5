//! Bugs that are planted, and found where everything is tried that a small scope allows. A program
//! of its own, with one test: a planted bug is there for the whole process.

use sim::planted::{BUGS_IN_ALL, find_in_all};

/// Those of `BUGS_IN_ALL` that one command brings to light; the others take up to three.
const AT_ONCE: [&str; 8] = [
    "engine.frees_before_proof",
    "engine.loses_what_is_freed",
    "host.epoch_does_not_rise",
    "host.fence_forgets_the_readers",
    "host.late_release_is_not_acknowledged",
    "host.loss_keeps_the_version",
    "host.message_before_its_record",
    "sim.drops_a_record",
];

#[test]
fn each_planted_bug_that_one_command_shows_is_found_in_everything_that_one_command_can_do() {
    let missed = AT_ONCE.into_iter().filter(|bug| {
        assert!(BUGS_IN_ALL.contains(bug), "{bug}");
        find_in_all(bug, 1, 2).is_none()
    });
    assert_eq!(missed.collect::<Vec<_>>(), Vec::<&str>::new());
}
