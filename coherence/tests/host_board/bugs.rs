//! Planted bugs, each in a process of its own: a test that finds none of them proves nothing.

use std::env::current_exe;
use std::process::Command;

const BUGS: [&str; 5] = [
    "board.seal_is_not_looked_at",
    "board.row_is_written_over_itself",
    "board.journal_is_not_written",
    "board.block_is_not_written_back",
    "board.reads_stale_lines",
];

/// What the test says with this bug; `None` where it finds nothing wrong.
fn caught(bug: &str) -> Option<String> {
    let search = Command::new(current_exe().expect("this test has a file"))
        .args(["--exact", crate::SEARCH, "--nocapture"])
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
/// Catches: board.reads_stale_lines
#[test]
fn the_deaths_find_every_planted_bug() {
    let mut missed = Vec::new();
    for bug in BUGS {
        let found = caught(bug);
        println!("{bug:<36} {}", found.as_deref().unwrap_or("NOT CAUGHT"));
        if found.is_none() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
