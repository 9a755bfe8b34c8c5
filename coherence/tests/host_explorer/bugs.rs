//! Planted bugs, each in a process of its own: a search that finds none of them proves nothing.

use std::env::current_exe;
use std::process::Command;

/// A bug, and the scope whose search must find it.
const BUGS: &[(&str, &str)] = &[
    ("host.message_before_its_record", "two hosts"),
    ("host.one_reader_is_overlooked", "two hosts"),
    ("host.epoch_does_not_rise", "two hosts"),
    ("host.lost_grant_is_not_repeated", "two hosts"),
    ("host.late_release_is_not_acknowledged", "two hosts"),
    ("host.recall_is_sent_once", "two hosts"),
    ("host.release_of_any_ticket_is_taken", "two hosts"),
    ("host.release_again_forgets_the_version", "two hosts"),
    ("host.grant_of_a_settled_ticket_is_taken", "two hosts"),
    ("host.recall_waits_for_no_user", "two hosts"),
    ("host.downgrade_keeps_the_write_right", "two hosts"),
    ("host.message_of_a_dead_era_is_taken", "a host dies"),
    ("host.grant_of_an_old_era_is_taken", "a host dies"),
    ("host.joins_again_without_a_fence", "a host dies"),
    ("host.fence_frees_without_loss", "a host dies"),
    ("host.fence_forgets_the_readers", "a host dies"),
    ("host.the_condemned_are_heard", "a living host is cut off"),
    ("host.any_copy_repairs", "writers tear"),
    ("host.loss_keeps_the_version", "writers tear"),
];

/// What the search says of a world with this bug; `None` where it finds nothing wrong.
fn caught(bug: &str, scope: &str) -> Option<String> {
    let search = Command::new(current_exe().expect("this test has a file"))
        .args(["--exact", crate::SEARCH, "--nocapture"])
        .env("TIERPOOL_BUG", bug)
        .env("HOST_SCOPE", scope)
        .output()
        .expect("this test can run itself");
    let told = String::from_utf8_lossy(&search.stderr);
    let wrong = told.lines().find_map(|line| line.strip_prefix(scope));
    let steps = told.lines().find(|line| line.ends_with(" steps)"));
    let found = wrong.zip(steps).filter(|_| !search.status.success());
    found.map(|(wrong, steps)| {
        let wrong: String = wrong.chars().take(90).collect();
        format!("{:<10} {}", steps.trim(), wrong.trim_start_matches(": "))
    })
}

/// Catches: host.message_before_its_record, host.one_reader_is_overlooked
/// Catches: host.epoch_does_not_rise, host.lost_grant_is_not_repeated
/// Catches: host.late_release_is_not_acknowledged, host.recall_is_sent_once
/// Catches: host.release_of_any_ticket_is_taken, host.release_again_forgets_the_version
/// Catches: host.grant_of_a_settled_ticket_is_taken, host.recall_waits_for_no_user
/// Catches: host.downgrade_keeps_the_write_right, host.message_of_a_dead_era_is_taken
/// Catches: host.grant_of_an_old_era_is_taken, host.joins_again_without_a_fence
/// Catches: host.fence_frees_without_loss, host.fence_forgets_the_readers
/// Catches: host.the_condemned_are_heard, host.any_copy_repairs, host.loss_keeps_the_version
#[test]
fn the_search_finds_every_planted_bug() {
    let mut missed = Vec::new();
    for (bug, scope) in BUGS {
        let found = caught(bug, scope);
        let told = found.as_deref().unwrap_or("NOT CAUGHT");
        println!("{bug:<42} {scope:<25} {told}");
        if found.is_none() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
