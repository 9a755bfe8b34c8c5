//! Members of a domain that live and do not let go: stopped, looping, hostile. The others go on
//! without them, and nothing that they still do is seen by anybody.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use coherence::{LeaseError, State};
use nix::sys::signal::Signal;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_daemon::reactor::EVICTION_POINTS;
use pool_proto::common::v1::{Access, ErrorReason, OnDeath};
use pool_proto::session::v1::event;
use tierpool_tests::client::{Held, Session, Unanswered, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::domain::{
    acquire, create_recalling, lease, let_go, line, own, peek, poke, publish, recall, state,
    version,
};
use tierpool_tests::puppet::{Order, Puppet};
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, points, until};

const PUPPET: &str = env!("CARGO_BIN_EXE_puppet");
const RECALL_MS: u32 = 50;
/// The unit that is fought for, and one that nobody holds.
const UNIT: u32 = 3;
const OTHER: u32 = 40;

fn setup() -> Setup {
    Setup::small(64)
}

/// A domain with contents, and a member of it that is about to misbehave.
struct Scene {
    daemon: Daemon,
    client: Session,
    held: Held,
    puppet: Puppet,
    id: u64,
}

impl Scene {
    fn new(setup: &Setup, on_death: OnDeath) -> Self {
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), setup);
        let mut client = daemon.attach("a");
        let create = create_recalling(4 * EXTENT, "d", on_death, RECALL_MS);
        let held = client.granted(create);
        publish(&held, UNIT, 7);
        publish(&held, OTHER, 70);
        let puppet = member(&daemon);
        let id = held.id();
        Self {
            daemon,
            client,
            held,
            puppet,
            id,
        }
    }

    /// The puppet leases the unit, and is stopped with it.
    fn stop(&mut self, exclusive: bool) {
        assert!(self.puppet.tells(&Order::Lease(self.id, UNIT, exclusive)));
        if exclusive {
            self.puppet.done(&Order::Poke(self.id, UNIT, 8));
        }
        self.puppet.signal(Signal::SIGSTOP);
    }

    /// What a member that waits says in the word.
    fn says_that_it_waits(&self) {
        let word = own(&self.held, UNIT);
        if matches!(word.state(), State::Shared | State::Exclusive) {
            let recalled = word.recalled().word();
            let own = &line(&self.held, UNIT).own;
            let _ = own.compare_exchange(word.word(), recalled, Acquire, Acquire);
        }
    }

    /// Says that the unit is waited for until the daemon dies of it.
    fn wait_until_it_dies(&mut self) {
        until("it dies", || {
            self.says_that_it_waits();
            let asked = self.client.try_ask(recall(self.id, UNIT));
            matches!(asked, Err(Unanswered::Gone(_))).then_some(())
        });
    }

    /// Says that the unit is waited for, as one does that waits, until the eviction is over.
    fn wait(&mut self) {
        let (id, before) = (self.id, self.held.segment.incarnation);
        until("the eviction is over", || {
            self.says_that_it_waits();
            let _ = self.client.try_ask(recall(id, UNIT));
            let moved = line(&self.held, OTHER).backing.load(Acquire) > before;
            let given_back =
                own(&self.held, UNIT).holders() & !2 == 0 && own(&self.held, OTHER).holders() == 0;
            (moved && given_back && state(&self.held, UNIT) != State::Fenced).then_some(())
        });
        self.held = self.client.granted(ask::refresh(id));
        assert!(self.held.segment.incarnation > before);
    }

    fn ends(self) {
        let Self {
            daemon,
            mut client,
            held,
            mut puppet,
            ..
        } = self;
        puppet.kill();
        until("the old files come back", || {
            let check = daemon.balanced();
            let device = &check.devices[0];
            (device.quarantined_extents == 0 && device.granted_extents == 5).then_some(())
        });
        client.ask(ask::free(held.id(), true));
        drop(held);
        client.ask(ask::detach());
        daemon.await_all_free();
    }
}

fn member(daemon: &Daemon) -> Puppet {
    let mut puppet = Puppet::start(PUPPET);
    puppet.attach(daemon, "a");
    puppet.granted(ask::open("d", Access::ReadWrite));
    puppet
}

#[test]
fn a_reader_by_requests_gets_past_a_recall_that_nobody_follows() {
    let setup = setup();
    let mut scene = Scene::new(&setup, OnDeath::Lose);
    let (id, word) = (scene.id, own(&scene.held, UNIT));
    assert_eq!(word.state(), State::Free);
    // As one leaves it that has asked and is stopped.
    line(&scene.held, UNIT)
        .own
        .store(word.recalled().word(), Release);
    let mut reader = scene.daemon.attach("a");
    let _held = reader.granted(ask::open("d", Access::ReadOnly));
    let refused = reader.refused(acquire(id, UNIT));
    assert_eq!(refused.reason(), ErrorReason::InUse);
    until("the recall is ended", || {
        let _ = reader.try_ask(recall(id, UNIT));
        (!own(&scene.held, UNIT).is_recalled()).then_some(())
    });
    reader.ask(acquire(id, UNIT));
    assert_eq!(own(&scene.held, UNIT).state(), State::Shared);
    reader.ask(ask::detach());
    scene.puppet.kill();
    scene.daemon.balanced();
}

#[test]
fn a_stopped_writer_is_evicted_and_what_it_still_does_is_seen_by_nobody() {
    for on_death in [OnDeath::Lose, OnDeath::Keep] {
        let mut scene = Scene::new(&setup(), on_death);
        scene.stop(true);
        let mut events = scene.daemon.admin().events().unwrap();
        scene.wait();
        until("operators are told", || {
            (events.next_event().kind == "member-evicted").then_some(())
        });
        let granted = lease(&scene.held, UNIT, true);
        match on_death {
            OnDeath::Keep => {
                let grant = granted.unwrap();
                assert_eq!(grant.backing, scene.held.segment.incarnation);
                assert_eq!(peek(&scene.held, UNIT), 8);
                poke(&scene.held, UNIT, 9);
                let_go(&scene.held, UNIT, &grant, true).unwrap();
            }
            _ => assert_eq!(granted, Err(LeaseError::Lost { last_good: 1 })),
        }
        assert_eq!(peek(&scene.held, OTHER), 70);
        scene.daemon.balanced();
        let (before, seen) = (version(&scene.held, UNIT), peek(&scene.held, UNIT));
        scene.puppet.signal(Signal::SIGCONT);
        let id = scene.id;
        scene.puppet.done(&Order::Poke(id, UNIT, 99));
        assert!(!scene.puppet.tells(&Order::LetGo(id, UNIT)), "it is fenced");
        assert_eq!(peek(&scene.held, UNIT), seen, "a late store is seen");
        assert_eq!(version(&scene.held, UNIT), before);
        let refused = scene.puppet.refused(ask::refresh(id), 0);
        assert_eq!(refused.reason(), ErrorReason::NotFound);
        // It comes back as another member, and finds what the others have.
        scene.puppet.ask(ask::close(id));
        scene.puppet.done(&Order::Drop(id));
        scene.puppet.granted(ask::open("d", Access::ReadWrite));
        assert!(scene.puppet.tells(&Order::Lease(id, OTHER, false)));
        assert_eq!(own(&scene.held, OTHER).holders(), 1 << 3, "another slot");
        assert!(scene.puppet.tells(&Order::Peeks(id, OTHER, 70)));
        scene.ends();
    }
}

#[test]
fn a_stopped_reader_keeps_no_writer_out_and_what_it_sees_stays_as_it_was() {
    let mut scene = Scene::new(&setup(), OnDeath::Lose);
    scene.stop(false);
    scene.wait();
    publish(&scene.held, UNIT, 9);
    scene.puppet.signal(Signal::SIGCONT);
    let id = scene.id;
    assert!(scene.puppet.tells(&Order::Peeks(id, UNIT, 7)));
    assert!(!scene.puppet.tells(&Order::LetGo(id, UNIT)));
    scene.ends();
}

#[test]
fn operators_are_told_whose_mapping_the_memory_that_an_eviction_left_waits_for() {
    let mut scene = Scene::new(&setup(), OnDeath::Lose);
    scene.stop(false);
    scene.wait();
    let listed = scene.daemon.admin().segments().unwrap();
    let [detail] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(detail.quarantined_bytes, 4 * EXTENT);
    let named = &detail.waited_for[0];
    let tenant = &detail.segment.as_ref().unwrap().tenant;
    assert_eq!((named.pid, &named.tenant), (scene.puppet.pid(), tenant));
    assert_eq!(named.why, "told");
    scene.ends();
}

#[test]
fn who_answers_a_recall_keeps_all_that_it_has() {
    let mut scene = Scene::new(&setup(), OnDeath::Lose);
    let (id, before) = (scene.id, scene.held.segment.incarnation);
    let grant = lease(&scene.held, UNIT, true).unwrap();
    let mut asker = scene.daemon.attach("a");
    drop(asker.granted(ask::open("d", Access::ReadWrite)));
    scene.says_that_it_waits();
    asker.ask(recall(id, UNIT));
    match scene.client.event() {
        event::Body::Recalled(told) => {
            assert_eq!((told.segment_id, told.unit), (id, UNIT));
            assert_eq!(told.within_ms, u64::from(RECALL_MS));
        }
        other => panic!("{other:?}"),
    }
    let_go(&scene.held, UNIT, &grant, true).unwrap();
    until("the recall is over", || {
        let status = scene.daemon.admin().status().ok()?;
        (status.uptime_ms > 1_000).then_some(())
    });
    let now = scene.client.granted(ask::refresh(id));
    assert_eq!(now.segment.incarnation, before);
    drop(now);
    asker.ask(ask::detach());
    scene.ends();
}

#[test]
fn an_eviction_survives_the_daemons_death_at_each_of_its_points() {
    let of_words = points::in_sources_of("coherence");
    let of_words = of_words.iter().filter(|point| point.starts_with("evict."));
    let all = EVICTION_POINTS
        .iter()
        .copied()
        .chain(of_words.map(String::as_str));
    let passings = all.flat_map(|point| match point {
        // The first unit that is taken, and the one that is fenced, after all 64.
        "evict.unit_taken" => vec![(point, 1), (point, 64)],
        "evict.unit_placed" => vec![(point, 1), (point, 4), (point, 64)],
        point => vec![(point, 1)],
    });
    for (point, passing) in passings {
        let mut scene = Scene::new(&setup(), OnDeath::Lose);
        scene.stop(true);
        scene.daemon.kill();
        let crash = format!("{point}:{passing}");
        scene
            .daemon
            .restart_as(&setup().with("TIERPOOL_CRASH", crash));
        scene.client.reattach().unwrap();
        scene.wait_until_it_dies();
        scene.daemon.await_crash();
        scene.daemon.restart_as(&setup());
        scene.client.reattach().unwrap();
        scene.wait();
        let lost = lease(&scene.held, UNIT, false);
        assert_eq!(lost, Err(LeaseError::Lost { last_good: 1 }), "{point}");
        assert_eq!(peek(&scene.held, OTHER), 70, "{point}");
        publish(&scene.held, OTHER, 71);
        scene.puppet.signal(Signal::SIGCONT);
        scene.puppet.done(&Order::Poke(scene.id, OTHER, 99));
        assert_eq!(peek(&scene.held, OTHER), 71, "{point}");
        scene.ends();
    }
}

/// The daemon evicts a stopped writer, and dies before that is done where `dies`. Which law of an
/// eviction is broken, if any.
fn broken(bug: &str, dies: bool) -> Result<(), &'static str> {
    let planted = setup().with("TIERPOOL_BUG", bug);
    let mut scene = Scene::new(&planted, OnDeath::Lose);
    scene.stop(true);
    let (id, old) = (scene.id, scene.held.segment.incarnation);
    if dies {
        scene.daemon.kill();
        let dying = planted.with("TIERPOOL_CRASH", "evict.copied:1");
        scene.daemon.restart_as(&dying);
        scene.client.reattach().unwrap();
        scene.wait_until_it_dies();
        let place = line(&scene.held, OTHER).backing.load(Acquire);
        return (place == old)
            .then_some(())
            .ok_or("what is not journaled is said");
    }
    scene.wait();
    let outcome = lease(&scene.held, UNIT, false);
    if outcome != Err(LeaseError::Lost { last_good: 1 }) {
        return Err("half of a change is served");
    }
    let (mut next, before) = (member(&scene.daemon), peek(&scene.held, OTHER));
    assert!(next.tells(&Order::Lease(id, OTHER, false)));
    if own(&scene.held, OTHER).holders() == 1 << 2 {
        return Err("the slot is somebody's while its process lives");
    }
    scene.puppet.signal(Signal::SIGCONT);
    scene.puppet.done(&Order::Poke(id, OTHER, 99));
    if peek(&scene.held, OTHER) != before {
        return Err("a late store is seen");
    }
    next.kill();
    scene.ends();
    Ok(())
}

/// Catches: evict.in_place, evict.reuses_the_slot, evict.places_early
#[test]
fn the_gravest_mistakes_of_an_eviction_are_noticed() {
    for dies in [false, true] {
        assert_eq!(broken("none.planted", dies), Ok(()));
    }
    let noticed = [
        ("evict.in_place", false, "a late store is seen"),
        (
            "evict.reuses_the_slot",
            false,
            "the slot is somebody's while its process lives",
        ),
        ("evict.places_early", true, "what is not journaled is said"),
    ];
    for (bug, dies, law) in noticed {
        assert_eq!(broken(bug, dies), Err(law), "{bug}");
    }
}
