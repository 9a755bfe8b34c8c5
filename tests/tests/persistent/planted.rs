//! Daemons with planted bugs, each of which must fail a round, and for the reason that it causes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pool_core::fault::Call;
use tierpool_tests::client::ask;
use tierpool_tests::daemon::Daemon;

use super::rest::Rest;
use super::round::{Figures, Planned, Pool, setup};
use super::{CALLS_MAX, EACH, firsts};

/// More than any round makes of one kind: nothing fails but for the bug.
const NEVER: usize = 10 * CALLS_MAX;

/// What a panic says, or that there was none.
fn said(broken: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(broken)) else {
        return "nothing was found".to_owned();
    };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    text.expect("a panic says why")
}

/// A round of daemons with this bug fails, and says `why`.
fn is_caught(bug: &'static str, call: Call, firsts: impl Iterator<Item = usize>, why: &str) {
    let mut firsts = firsts;
    let said = said(|| {
        let mut pool = Pool::with_bug("keeper", bug);
        firsts.find(|&nth| {
            !pool.round(
                &Planned::calls(call, nth, "ENOSPC"),
                &mut Figures::default(),
            )
        });
    });
    assert!(
        said.contains(why),
        "{bug} is to be found by {why:?}: {said}"
    );
}

/// Catches: welcome.keeps_whom_it_refuses
#[test]
fn a_daemon_that_grows_by_each_client_it_refuses_is_caught() {
    let (bug, why) = ("welcome.keeps_whom_it_refuses", "it grew from");
    is_caught(bug, Call::Madvise, 1..=1, why);
}

/// Catches: reactor.goes_on_without_a_journal
#[test]
fn a_daemon_that_acknowledges_what_it_cannot_write_is_caught() {
    let late = firsts().skip(EACH);
    let (bug, why) = ("reactor.goes_on_without_a_journal", "lost: ");
    is_caught(bug, Call::Write, late, why);
}

/// Catches: process.is_gone_that_cannot_be_seen
#[test]
fn a_daemon_that_takes_a_process_it_cannot_see_for_gone_is_caught() {
    let (bug, why) = (
        "process.is_gone_that_cannot_be_seen",
        "knows no such session",
    );
    is_caught(bug, Call::Stat, 1..=3, why);
}

/// Catches: seal.is_not_journaled
#[test]
fn a_daemon_that_forgets_what_is_sealed_is_caught() {
    let (bug, why) = (
        "seal.is_not_journaled",
        "is sealed or not, and should be {true}",
    );
    is_caught(bug, Call::Mmap, NEVER..=NEVER, why);
}

/// Catches: share.is_not_journaled
#[test]
fn a_daemon_that_forgets_with_whom_it_shares_is_caught() {
    let (bug, why) = (
        "share.is_not_journaled",
        "is shared: false, and should be {true}",
    );
    is_caught(bug, Call::Mmap, NEVER..=NEVER, why);
}

/// Catches: open.is_not_journaled
#[test]
fn a_daemon_that_forgets_what_others_hold_is_caught() {
    let (bug, why) = ("open.is_not_journaled", "held, and lost: ");
    is_caught(bug, Call::Mmap, NEVER..=NEVER, why);
}

#[test]
fn a_file_a_row_and_quota_that_nobody_has_are_found() {
    let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup("keeper"));
    let rest = Rest::of(&mut daemon, 0);
    daemon.restart();
    rest.is_that_of(&mut daemon, "the same");
    let stray = daemon.path("state/stray");
    std::fs::write(&stray, "").expect("the folder takes a file");
    daemon.restart();
    let found = said(|| rest.is_that_of(&mut daemon, "stray"));
    assert!(found.contains("files that nobody has"), "{found}");
    assert!(daemon.stop().success());
    std::fs::remove_file(&stray).expect("it is there");
    daemon.restart();
    let mut session = daemon.attach("a");
    session.granted(ask::create_persistent(
        "ddr",
        tierpool_tests::EXTENT,
        "left",
    ));
    session.ask(ask::detach());
    let found = said(|| rest.is_that_of(&mut daemon, "left"));
    assert!(found.contains("quota that nobody has"), "{found}");
    assert!(daemon.stop().success());
    let found = said(|| rest.rows_are_those_of(&daemon, "left"));
    assert!(found.contains("rows that nobody has"), "{found}");
}
