//! A daemon killed while it commits, again and again on one file: every commit that it acknowledged
//! is there, and nothing half.
//!
//! The daemon is this test program again, which commits until it is killed and says so after each
//! commit, through a pipe.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use pool_daemon::journal::database::{DatabaseJournal, Durability};
use pool_daemon::journal::{FORMAT, Journal, JournalError, Record, Rows, Table};
use pool_proto::journal::v1 as row;
use tempfile::TempDir;

const BOOT: &str = "6f0d2a5e-3d0c-4c1a-9a51-0d9f7a3f2b11";
/// Names the journal to the child, and makes it one.
const JOURNAL: &str = "TIERPOOL_TEST_JOURNAL";
const DURABILITY: &str = "TIERPOOL_TEST_DURABILITY";
/// The longest that a child lives after its first acknowledgement, in microseconds.
const LIFE_US_MAX: u64 = 3_000;
/// The longest that a child lives which need not have acknowledged anything.
const START_US_MAX: u64 = 20_000;
const ROUNDS_PROCESS: u64 = 50;
const ROUNDS_POWER: u64 = 15;

#[test]
fn a_killed_daemon_loses_nothing_it_acknowledged() {
    kill_again_and_again("process", Durability::Process, ROUNDS_PROCESS);
}

#[test]
fn a_killed_daemon_whose_journal_outlives_power_loses_nothing_it_acknowledged() {
    kill_again_and_again("power", Durability::Power, ROUNDS_POWER);
}

fn kill_again_and_again(name: &str, durability: Durability, rounds: u64) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("journal");
    let mut last = 0;
    for round in 0..rounds {
        let mut child = Daemon::start(&path, name);
        // Some die while they start and take the file up, the others at some point of a commit.
        let commits = !round.is_multiple_of(5);
        if commits {
            last = child.acknowledged().unwrap().max(last);
        }
        let most = if commits { LIFE_US_MAX } else { START_US_MAX };
        let life = Nanos::new(scattered(round) % (most * 1_000));
        eventually(Deadline::after(life), || None::<()>).unwrap_err();
        last = child.kill().max(last);

        let mut journal = DatabaseJournal::open(&path, durability, BOOT).unwrap();
        let rows = journal.load().unwrap();
        let there = last_commit(&rows);
        assert!(
            there == last || there == last + 1,
            "round {round}: {there} after {last}"
        );
        assert_eq!(rows, rows_after(there), "round {round}");
        last = there;
    }
    println!("{last} commits in {rounds} lives");
    assert!(last > rounds, "only {last} commits in {rounds} lives");
}

/// Numbers that look like chance, the same in each run.
fn scattered(round: u64) -> u64 {
    round.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}

/// A process that commits.
struct Daemon {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Daemon {
    fn start(journal: &Path, durability: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "commits_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(JOURNAL, journal)
            .env(DURABILITY, durability)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next commit that it acknowledges.
    fn acknowledged(&mut self) -> Option<u64> {
        let mut line = String::new();
        while self.said.read_line(&mut line).unwrap() > 0 {
            if let Some(number) = number_in(&line) {
                return Some(number);
            }
            line.clear();
        }
        None
    }

    /// Kills it; tells the last commit that it had acknowledged, or 0.
    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        rest.split_inclusive('\n')
            .filter_map(number_in)
            .max()
            .unwrap_or_default()
    }
}

/// The number in a whole line that acknowledges a commit.
fn number_in(line: &str) -> Option<u64> {
    line.strip_suffix('\n')?
        .strip_prefix("committed ")?
        .parse()
        .ok()
}

#[test]
#[ignore = "not a test: what the tests of this file start and kill"]
fn commits_until_it_is_killed() {
    let path = PathBuf::from(std::env::var_os(JOURNAL).unwrap());
    let durability = match std::env::var(DURABILITY).unwrap().as_str() {
        "process" => Durability::Process,
        _ => Durability::Power,
    };
    // The kernel gives the lock of a killed process back a moment after its death is seen.
    let opened =
        eventually(
            Deadline::after(Nanos::from_millis(10_000)),
            || match DatabaseJournal::open(&path, durability, BOOT) {
                Err(JournalError::InUse { .. }) => None,
                opened => Some(opened),
            },
        );
    let mut journal = opened.unwrap().unwrap();
    let mut last = last_commit(&journal.load().unwrap());
    loop {
        last += 1;
        journal.commit(&commit(last)).unwrap();
        std::io::stdout()
            .write_all(format!("committed {last}\n").as_bytes())
            .unwrap();
    }
}

/// The records of commit `number`: each row says it, some go away, and one grows and shrinks.
fn commit(number: u64) -> Vec<Record> {
    let pool = row::PoolRow {
        format: FORMAT,
        daemon_epoch: number,
        ..Default::default()
    };
    let bytes = usize::try_from(number % 7).unwrap() * 3_000;
    let client = row::ClientRow {
        client_id: number % 16 + 1,
        last_request_id: number,
        token: vec![7; bytes],
        ..Default::default()
    };
    let segment = row::SegmentRow {
        segment_id: number,
        bytes: number,
        ..Default::default()
    };
    vec![
        Record::Segment(segment),
        Record::Client(client),
        Record::Delete(Table::Segments, number.saturating_sub(20)),
        Record::Pool(pool),
    ]
}

fn last_commit(rows: &Rows) -> u64 {
    rows.pool.as_ref().map_or(0, |pool| pool.daemon_epoch)
}

/// The rows after commit `number`, made from the last commits that left any.
fn rows_after(number: u64) -> Rows {
    let mut journal = pool_daemon::journal::memory::MemoryJournal::default();
    for number in number.saturating_sub(40).max(1)..=number {
        journal.commit(&commit(number)).unwrap();
    }
    journal.load().unwrap()
}
