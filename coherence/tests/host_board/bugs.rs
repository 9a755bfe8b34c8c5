//! Planted bugs, each in a process of its own: a test that finds none of them proves nothing.

use std::env::current_exe;
use std::process::Command;

use crate::{DEATHS, MAKING};

/// Each with the test that finds it.
const BUGS: [(&str, &str); 6] = [
    ("board.seal_is_not_looked_at", DEATHS),
    ("board.row_is_written_over_itself", DEATHS),
    ("board.journal_is_not_written", DEATHS),
    ("board.block_is_not_written_back", DEATHS),
    ("board.reads_stale_lines", DEATHS),
    ("board.old_header_outlives_its_rows", MAKING),
];

/// What a test says with this bug; `None` where it finds nothing wrong.
fn caught(bug: &str, test: &str) -> Option<String> {
    let search = Command::new(current_exe().expect("this test has a file"))
        .args(["--exact", test, "--nocapture"])
        .env("TIERPOOL_BUG", bug)
        .output()
        .expect("this test can run itself");
    let told = String::from_utf8_lossy(&search.stderr);
    let wrong = told
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let wrong = wrong.take(2).last().map(str::to_owned);
    wrong.filter(|_| !search.status.success())
}

/// Catches: board.seal_is_not_looked_at, board.row_is_written_over_itself
/// Catches: board.journal_is_not_written, board.block_is_not_written_back
/// Catches: board.reads_stale_lines, board.old_header_outlives_its_rows
#[test]
fn the_deaths_find_every_planted_bug() {
    let mut missed = Vec::new();
    for (bug, test) in BUGS {
        let found = caught(bug, test);
        println!("{bug:<36} {}", found.as_deref().unwrap_or("NOT CAUGHT"));
        if found.is_none() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
