//! A system call of the daemon fails from some time on for good: whoever asks is answered with
//! success, with an error that says whose fault it is, or not at all; what was acknowledged is
//! there afterwards; and the daemon lives without growing, or ends in order and says why.
//!
//! For each kind of call a daemon takes up a pool that is in use with its first call of that kind
//! failing and every one after it; then with its second, and so on, until it goes through
//! everything that clients and operators ask without coming to the planned failure. Nobody insists:
//! each request is made once. Then that daemon is stopped, and one that nothing fails takes its
//! place: clients come back and hold what they held, everything acknowledged is there with its
//! contents, sealed or not, and shared with whom it was; everything is asked for once more and must
//! be done; and in the end the pool has no file, no row and no quota used that one has not which
//! never saw a call fail. A new pool, whose making failed, is looked at in the same way.
//!
//! Where a kind has many calls, each of the first is the first to fail, and behind them one in
//! several; with `TIERPOOL_EACH_CALL` in the environment, whatever it says, each of all, those of a
//! client as well. An allocation of the daemon's own heap fails once, for Rust ends the process
//! there: of these, which are thousands, it is one in several always. Not here: calls that a signal
//! interrupts for good, which no kernel does.

#[path = "persistent/callers.rs"]
mod callers;
#[path = "persistent/growth.rs"]
mod growth;
#[path = "persistent/operators.rs"]
mod operators;
#[path = "persistent/planted.rs"]
mod planted;
#[path = "persistent/rest.rs"]
mod rest;
#[path = "persistent/round.rs"]
mod round;

use pool_core::fault::Call;
use round::{Figures, Planned, Pool};
use tierpool_tests::setup::has_nodes;
use tierpool_tests::{campaign, skipped};

/// Of so many calls each is the first to fail.
const EACH: usize = 16;
/// Behind them one in so many.
const STEP: usize = 12;
/// Of the daemon's allocations, of which there are more, one in so many; and where each call is to
/// fail.
const ALLOCATION_STEP: usize = 499;
const ALLOCATION_STEP_FINE: usize = 29;
/// No kind of call is made more often than this in one round.
const CALLS_MAX: usize = 4_000;

/// Which calls are the first to fail.
fn firsts() -> impl Iterator<Item = usize> {
    let step = match std::env::var_os("TIERPOOL_EACH_CALL") {
        Some(_) => 1,
        None => STEP,
    };
    let behind = (EACH + step..CALLS_MAX).step_by(step);
    (1..=EACH).chain(behind)
}

/// Which are, where clients alone keep descriptors: where not all are, only those that fail while
/// a daemon takes up a pool, or soon after.
fn first_firsts() -> impl Iterator<Item = usize> {
    let most = match std::env::var_os("TIERPOOL_EACH_CALL") {
        Some(_) => CALLS_MAX,
        None => EACH,
    };
    firsts().take(most)
}

/// Fails the calls of a kind for good, from each of some on.
fn each_fails(call: Call, errno: &str) {
    let mut figures = Figures::default();
    let mut pool = Pool::new("keeper");
    let planned = |nth| Planned::calls(call, nth, errno);
    round::on_new_pools((1..).map(planned), &pool.rest, &mut figures);
    let last = firsts().find(|&nth| !pool.round(&planned(nth), &mut figures));
    assert!(last.is_some(), "more than {CALLS_MAX} calls");
    let mut pool = Pool::new("clients");
    first_firsts().find(|&nth| !pool.round(&planned(nth), &mut figures));
    assert!(figures.runs() > 0);
    let what = format!("{} for good", call.name());
    campaign(5, &what, &format!("{errno}: {figures}"));
}

/// Which allocations fail: each of the first, and behind them one in so many.
fn allocations() -> impl Iterator<Item = usize> {
    let step = match std::env::var_os("TIERPOOL_EACH_CALL") {
        Some(_) => ALLOCATION_STEP_FINE,
        None => ALLOCATION_STEP,
    };
    (1..=EACH).chain((EACH + step..).step_by(step))
}

#[test]
fn a_daemon_that_dies_of_an_allocation_costs_nothing_acknowledged() {
    let mut figures = Figures::default();
    let mut pool = Pool::new("keeper");
    let planned = allocations().map(Planned::allocation);
    round::on_new_pools(planned, &pool.rest, &mut figures);
    allocations().find(|&nth| !pool.round(&Planned::allocation(nth), &mut figures));
    assert!(figures.deaths() > 0);
    campaign(5, "an allocation of the daemon", &figures.to_string());
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
    processes_that_cannot_be_looked_at_for_good_cost_nothing_acknowledged: Stat EMFILE;
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
