//! A system call of the daemon fails from some time on for good: whoever asks is answered with
//! success, with an error that says whose fault it is, or not at all; what was acknowledged is
//! there afterwards; and the daemon lives without growing, or ends in order and says why.
//!
//! For each kind of call a daemon takes up a pool that is in use with its first call of that kind
//! failing and every one after it; then with its second, and so on, until it goes through
//! everything that clients and operators ask without coming to the planned failure. Nobody insists:
//! each request is made once. Then that daemon is stopped, and one that nothing fails takes its
//! place: clients come back, everything acknowledged is there with its contents, everything is
//! asked for once more and must be done, and in the end nothing is left of it.
//!
//! Where a kind has many calls, each of the first is the first to fail, and behind them one in
//! several. Not here: allocations of the daemon's own heap, for Rust ends the process where they
//! fail; and calls that a signal interrupts for good, which no kernel does.

#[path = "persistent/callers.rs"]
mod callers;
#[path = "persistent/growth.rs"]
mod growth;
#[path = "persistent/operators.rs"]
mod operators;
#[path = "persistent/round.rs"]
mod round;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pool_core::fault::Call;
use round::{Figures, Pool};
use tierpool_tests::setup::has_nodes;
use tierpool_tests::{campaign, skipped};

/// Of so many calls each is the first to fail.
const EACH: usize = 16;
/// Behind them one in so many.
const STEP: usize = 12;
/// No kind of call is made more often than this in one round.
const CALLS_MAX: usize = 4_000;

/// Which calls are the first to fail.
fn firsts() -> impl Iterator<Item = usize> {
    let behind = (EACH + STEP..CALLS_MAX).step_by(STEP);
    (1..=EACH).chain(behind)
}

/// Fails the calls of a kind for good, from each of some on.
fn each_fails(call: Call, errno: &str) {
    let mut figures = Figures::default();
    round::on_new_pools(call, errno, &mut figures);
    let mut pool = Pool::new("keeper");
    let last = firsts().find(|&nth| !pool.round(call, nth, errno, &mut figures));
    assert!(last.is_some(), "more than {CALLS_MAX} calls");
    let mut pool = Pool::new("clients");
    firsts()
        .take(EACH)
        .find(|&nth| !pool.round(call, nth, errno, &mut figures));
    assert!(figures.runs() > 0);
    let what = format!("{} for good", call.name());
    campaign(5, &what, &format!("{errno}: {figures}"));
}

/// Whether some round shows that daemons with this bug are wrong.
fn is_caught(bug: &'static str, call: Call, mut firsts: impl Iterator<Item = usize>) -> bool {
    let rounds = AssertUnwindSafe(|| {
        let mut pool = Pool::with_bug("keeper", bug);
        let errno = "ENOSPC";
        firsts.find(|&nth| !pool.round(call, nth, errno, &mut Figures::default()))
    });
    catch_unwind(rounds).is_err()
}

/// Catches: welcome.keeps_whom_it_refuses
#[test]
fn a_daemon_that_grows_by_each_client_it_refuses_is_caught() {
    assert!(is_caught(
        "welcome.keeps_whom_it_refuses",
        Call::Madvise,
        1..=1
    ));
}

/// Catches: reactor.goes_on_without_a_journal
#[test]
fn a_daemon_that_acknowledges_what_it_cannot_write_is_caught() {
    let late = firsts().skip(EACH);
    assert!(is_caught(
        "reactor.goes_on_without_a_journal",
        Call::Write,
        late
    ));
}

macro_rules! each {
    ($($law:ident: $call:ident $errno:ident;)*) => {
        $(
            #[test]
            fn $law() {
                each_fails(Call::$call, stringify!($errno));
            }
        )*
    };
}

each! {
    mmap_that_fails_for_good_costs_nothing_acknowledged: Mmap ENOMEM;
    memfd_create_that_fails_for_good_costs_nothing_acknowledged: MemfdCreate EMFILE;
    ftruncate_that_fails_for_good_costs_nothing_acknowledged: Ftruncate EIO;
    fallocate_that_fails_for_good_costs_nothing_acknowledged: Fallocate ENOSPC;
    fcntl_that_fails_for_good_costs_nothing_acknowledged: Fcntl EMFILE;
    open_that_fails_for_good_costs_nothing_acknowledged: Open EMFILE;
    write_that_fails_for_good_costs_nothing_acknowledged: Write ENOSPC;
    sync_that_fails_for_good_costs_nothing_acknowledged: Sync EIO;
    send_that_fails_for_good_costs_nothing_acknowledged: Send ENOBUFS;
    receive_that_fails_for_good_costs_nothing_acknowledged: Receive ENOMEM;
    poll_that_fails_for_good_costs_nothing_acknowledged: Poll ENOMEM;
    accept_that_fails_for_good_costs_nothing_acknowledged: Accept EMFILE;
    madvise_that_fails_for_good_costs_nothing_acknowledged: Madvise ENOMEM;
    setsockopt_that_fails_for_good_costs_nothing_acknowledged: Setsockopt ENOPROTOOPT;
}

#[test]
fn mbind_that_fails_for_good_costs_nothing_acknowledged() {
    if has_nodes() {
        each_fails(Call::Mbind, "ENOMEM");
    } else {
        skipped(
            "mbind_that_fails_for_good_costs_nothing_acknowledged",
            "a kernel with NUMA nodes",
        );
    }
}
