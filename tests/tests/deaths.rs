//! A client dies, falls silent or goes away: what only it held is taken back, what others need is
//! not, and who merely pauses loses nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use nix::sys::signal::Signal;
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::reply;
use tierpool_tests::client::ask;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::puppet::{Order, Outcome, Puppet};
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, until};

const PUPPET: &str = env!("CARGO_BIN_EXE_puppet");

/// A grace that no test lives to see the end of.
const FOREVER_MS: u64 = 3_600_000;

fn start(grace_ms: u64) -> Daemon {
    let setup = Setup {
        grace_ms,
        ..Setup::small(64)
    };
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup)
}

fn client(daemon: &Daemon, label: &str) -> (Puppet, u64) {
    let mut puppet = Puppet::start(PUPPET);
    let id = puppet.attach(daemon, label).client_id;
    (puppet, id)
}

/// Waits until the daemon knows the client no more.
fn await_gone(daemon: &Daemon, client: u64) {
    let mut admin = daemon.admin();
    until("the daemon notices", || {
        let known = admin.clients().ok()?;
        (!known.iter().any(|known| known.client_id == client)).then_some(())
    });
}

fn is_known(daemon: &Daemon, client: u64) -> bool {
    let known = daemon.admin().clients().unwrap();
    known.iter().any(|known| known.client_id == client)
}

#[test]
fn what_only_a_dead_client_held_is_taken_back_and_all_else_is_kept() {
    let daemon = start(FOREVER_MS);
    let ((mut victim, id), (mut friend, _)) = (client(&daemon, "a"), client(&daemon, "a"));
    let (mut guest, _) = client(&daemon, "b");
    let alone = victim.granted(ask::create("ddr", 2 * EXTENT)).segment_id;
    let common = victim
        .granted(ask::create_named("ddr", EXTENT, "common"))
        .segment_id;
    let lent = victim
        .granted(ask::create_named("ddr", EXTENT, "lent"))
        .segment_id;
    let kept = victim
        .granted(ask::create_persistent("ddr", EXTENT, "kept"))
        .segment_id;
    for id in [alone, common, lent, kept] {
        victim.done(&Order::Write(id, id));
    }
    friend.granted(ask::open("common", Access::ReadWrite));
    victim.ask(ask::share(lent, "uid-0/b", Access::ReadOnly));
    guest.granted(ask::open("uid-0/a:lent", Access::ReadOnly));

    victim.kill();
    await_gone(&daemon, id);
    until("its memory is free", || {
        let check = daemon.balanced();
        let used = check.devices[0].granted_extents + check.devices[0].quarantined_extents;
        (used == 3).then_some(())
    });
    assert!(friend.tells(&Order::Holds(common, common)));
    assert!(guest.tells(&Order::Holds(lent, lent)));
    friend.granted(ask::open("kept", Access::ReadOnly));
    assert!(friend.tells(&Order::Holds(kept, kept)));

    // The last holder ends what is not persistent.
    drop(guest);
    friend.ask(ask::close(common));
    friend.done(&Order::Drop(common));
    friend.ask(ask::free(kept, false));
    friend.done(&Order::Drop(kept));
    daemon.await_all_free();
}

#[test]
fn a_client_that_hangs_up_and_stays_away_is_given_up_although_it_lives() {
    let daemon = start(100);
    let (mut puppet, id) = client(&daemon, "a");
    let held = puppet.granted(ask::create("ddr", EXTENT)).segment_id;
    puppet.done(&Order::Write(held, 1));
    puppet.done(&Order::HangUp);
    await_gone(&daemon, id);
    // It still has its mapping, so nobody else is given the memory.
    let check = daemon.balanced();
    assert_eq!(check.devices[0].quarantined_extents, 1);
    assert!(puppet.tells(&Order::Holds(held, 1)));
    puppet.done(&Order::Drop(held));
    daemon.await_all_free();
}

#[test]
fn a_client_that_comes_back_in_time_has_lost_nothing() {
    let daemon = start(FOREVER_MS);
    let (mut puppet, id) = client(&daemon, "a");
    let held = puppet.granted(ask::create("ddr", EXTENT)).segment_id;
    puppet.done(&Order::Write(held, 1));
    for _ in 0..20 {
        // A new connection takes the session over, whether or not the old one is known to be gone.
        let Outcome::Reply(_) = puppet.order(&Order::Reattach) else {
            panic!("a reply was hoped for");
        };
    }
    assert!(is_known(&daemon, id));
    puppet.granted(ask::refresh(held));
    assert!(puppet.tells(&Order::Holds(held, 1)));
    daemon.balanced();
}

#[test]
fn the_death_of_the_registered_thread_is_the_death_of_the_client() {
    let daemon = start(FOREVER_MS);
    let (mut puppet, id) = client(&daemon, "a");
    let held = puppet.granted(ask::create("ddr", EXTENT)).segment_id;
    assert!(is_known(&daemon, id));
    // The process lives on and keeps its socket: the word alone tells.
    puppet.done(&Order::ShowDeath);
    await_gone(&daemon, id);
    let check = daemon.balanced();
    assert_eq!(
        check.devices[0].quarantined_extents, 1,
        "what is mapped is not free"
    );
    puppet.done(&Order::Drop(held));
    daemon.await_all_free();
}

#[test]
fn a_killed_client_is_noticed_by_its_word_as_well() {
    let daemon = start(FOREVER_MS);
    let (mut puppet, id) = client(&daemon, "a");
    puppet.granted(ask::create("ddr", EXTENT));
    puppet.done(&Order::ShowLife);
    puppet.kill();
    await_gone(&daemon, id);
    daemon.await_all_free();
}

#[test]
fn a_client_that_died_while_the_daemon_was_dead_is_missed() {
    let mut daemon = start(FOREVER_MS);
    let ((mut victim, id), (mut other, other_id)) = (client(&daemon, "a"), client(&daemon, "b"));
    victim.granted(ask::create("ddr", 2 * EXTENT));
    let kept = other.granted(ask::create("ddr", EXTENT)).segment_id;
    other.done(&Order::Write(kept, 1));
    daemon.kill();
    victim.kill();
    daemon.restart();
    await_gone(&daemon, id);
    assert!(is_known(&daemon, other_id));
    until("its memory is free", || {
        (daemon.balanced().devices[0].free_extents == 31).then_some(())
    });
    other.order(&Order::Reattach);
    other.granted(ask::refresh(kept));
    assert!(other.tells(&Order::Holds(kept, 1)));
}

#[test]
fn a_paused_client_keeps_its_memory_whatever_happens_meanwhile() {
    let mut daemon = start(50);
    let ((mut sleeper, id), (mut other, _)) = (client(&daemon, "a"), client(&daemon, "b"));
    let held = sleeper.granted(ask::create("ddr", EXTENT)).segment_id;
    sleeper.done(&Order::Write(held, 1));
    sleeper.signal(Signal::SIGSTOP);
    let all = other
        .try_ask(ask::create("ddr", 32 * EXTENT), 0)
        .unwrap_err();
    assert_eq!(all.reason(), ErrorReason::TierFull, "{}", all.message);
    daemon.kill();
    daemon.restart();
    // Past the grace, which is for descriptors: a process that lives is waited for.
    let mut admin = daemon.admin();
    until("the grace is over", || {
        (admin.status().ok()?.uptime_ms > 200).then_some(())
    });
    assert!(is_known(&daemon, id));
    sleeper.signal(Signal::SIGCONT);
    sleeper.order(&Order::Reattach);
    sleeper.granted(ask::refresh(held));
    assert!(sleeper.tells(&Order::Holds(held, 1)));
    daemon.balanced();
}

#[test]
fn a_client_that_detaches_leaves_nothing_behind() {
    let daemon = start(FOREVER_MS);
    let (mut puppet, id) = client(&daemon, "a");
    let held = puppet.granted(ask::create("ddr", EXTENT)).segment_id;
    puppet.done(&Order::Drop(held));
    assert_eq!(
        puppet.ask(ask::detach()),
        reply::Body::Done(Default::default())
    );
    await_gone(&daemon, id);
    daemon.await_all_free();
}
