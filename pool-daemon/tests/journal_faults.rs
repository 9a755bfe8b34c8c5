//! The n-th failure of every system call a journal makes: an error of its type, what was
//! acknowledged still there, and the next commit taken.
//!
//! One test, since the plan of failures is one for the process.

#![cfg(feature = "fault")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

use std::path::Path;

use nix::errno::Errno;
use pool_core::fault::{self, Call};
use pool_daemon::journal::database::{DatabaseJournal, Durability};
use pool_daemon::journal::memory::MemoryJournal;
use pool_daemon::journal::{FORMAT, Journal, JournalError, Record, Rows};
use pool_proto::journal::v1 as row;
use tempfile::TempDir;

const BOOT: &str = "6f0d2a5e-3d0c-4c1a-9a51-0d9f7a3f2b11";
/// More calls than any life below makes of one kind.
const CALLS_MAX: u64 = 10_000;
/// Commits of one life.
const COMMITS: u64 = 4;

#[test]
fn the_failure_of_any_call_loses_nothing_and_the_next_commit_is_taken() {
    let mut failed = 0;
    for durability in [Durability::Process, Durability::Power] {
        for call in [Call::Open, Call::Write, Call::Sync, Call::Ftruncate] {
            for persistent in [false, true] {
                failed += fail_each(durability, call, persistent);
            }
        }
    }
    println!("{failed} calls failed");
    assert!(failed > 100, "only {failed} calls failed");
}

/// Fails the first call, then the second, until a life makes no more; tells how many.
fn fail_each(durability: Durability, call: Call, persistent: bool) -> u64 {
    (1..CALLS_MAX)
        .find(|&nth| !fails(durability, call, nth, persistent))
        .unwrap()
        - 1
}

/// Lives a life in which a call fails; tells whether one did.
fn fails(durability: Durability, call: Call, nth: u64, persistent: bool) -> bool {
    let what = format!(
        "{durability:?}: {} number {nth}, persistent: {persistent}",
        call.name()
    );
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("journal");
    let before = fault::passed(call);
    fault::arm_failure(call, nth, Errno::EIO, persistent);
    let (journal, acknowledged) = live(&path, durability, &what);
    let reached = fault::passed(call) >= before + nth;
    fault::disarm();

    // The same handle goes on, where there is one; and so does a successor.
    if let Some(mut journal) = journal {
        goes_on(&mut journal, acknowledged, &what);
        drop(journal);
        let mut successor = DatabaseJournal::open(&path, durability, BOOT).unwrap();
        successor.load().unwrap();
        return reached;
    }
    let mut successor = DatabaseJournal::open(&path, durability, BOOT).unwrap();
    goes_on(&mut successor, acknowledged, &what);
    reached
}

/// Opens a journal and commits until something fails; tells the handle, if there is one, and how
/// many commits were acknowledged.
fn live(path: &Path, durability: Durability, what: &str) -> (Option<DatabaseJournal>, u64) {
    let mut journal = match DatabaseJournal::open(path, durability, BOOT) {
        Ok(journal) => journal,
        Err(error) => {
            is_store(&error, what);
            return (None, 0);
        }
    };
    if let Err(error) = journal.load() {
        is_store(&error, what);
        return (Some(journal), 0);
    }
    for number in 1..=COMMITS {
        if let Err(error) = journal.commit(&commit(number)) {
            is_store(&error, what);
            let error = journal.commit(&commit(number)).unwrap_err();
            is_store(&error, what);
            return (Some(journal), number - 1);
        }
    }
    (Some(journal), COMMITS)
}

/// Loads what is there, which is what was acknowledged or one commit more, and commits again.
fn goes_on(journal: &mut DatabaseJournal, acknowledged: u64, what: &str) {
    let rows = journal
        .load()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let there = rows.pool.as_ref().map_or(0, |pool| pool.daemon_epoch);
    assert!(
        there == acknowledged || there == acknowledged + 1,
        "{what}: {there}"
    );
    assert_eq!(rows, rows_after(there), "{what}");
    journal
        .commit(&commit(there + 1))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(journal.load().unwrap(), rows_after(there + 1), "{what}");
}

fn is_store(error: &JournalError, what: &str) {
    assert!(
        matches!(error, JournalError::Store { .. }),
        "{what}: {error}"
    );
}

/// The records of commit `number`; one of them makes the file longer.
fn commit(number: u64) -> Vec<Record> {
    let pool = row::PoolRow {
        format: FORMAT,
        daemon_epoch: number,
        ..Default::default()
    };
    let bytes = if number == 3 { 2_000_000 } else { 100 };
    let client = row::ClientRow {
        client_id: number,
        token: vec![7; bytes],
        ..Default::default()
    };
    vec![Record::Client(client), Record::Pool(pool)]
}

fn rows_after(number: u64) -> Rows {
    let mut journal = MemoryJournal::default();
    for number in 1..=number {
        journal.commit(&commit(number)).unwrap();
    }
    journal.load().unwrap()
}
