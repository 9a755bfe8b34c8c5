//! Members die while they publish an object, and while they look one up.

use client_sdk::{Bytes, Create, LeaseError, ObjectError, Objects, Pool, Shared, Unpublished};
use pool_core::sync::MutexGuard;
use tierpool_tests::contents::OBJECT;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::{EXTENT, until};

use crate::scene::{UNIT, VICTIM, attached, holds, in_the_victims_slot};

const OF_PUBLISHING: [&str; 3] = ["object.drafted", "object.published", "object.listed"];
const OF_LOOKING_UP: [&str; 1] = ["object.looked_up"];

/// The points that are died at here.
pub(crate) fn points() -> impl Iterator<Item = &'static str> {
    OF_PUBLISHING.into_iter().chain(OF_LOOKING_UP)
}

struct Space {
    objects: Objects,
    _pool: Pool,
    daemon: Daemon,
    _turn: MutexGuard<'static, ()>,
}

impl Space {
    fn new() -> Self {
        let (turn, daemon, pool) = attached();
        let create = Create::new("ddr", Bytes::new(EXTENT)).name("units");
        let objects = pool.create_objects(&create, UNIT).expect("a space");
        Self {
            objects,
            _pool: pool,
            daemon,
            _turn: turn,
        }
    }

    /// Nobody holds anything: every place can be had, once the daemon has decided about all.
    fn is_empty(&self) {
        until("every place can be had", || {
            let all = 0..self.objects.capacity();
            let drafts = all.map(|_| self.objects.draft::<u8>(1));
            drafts.collect::<Result<Vec<_>, _>>().ok().map(drop)
        });
        self.daemon.balanced();
    }
}

/// A member does what its role says and dies at `point`; meanwhile this process acts, with the
/// daemon dead for a while where `daemon_dies`.
fn dies<T: Send>(
    (objects, daemon): (&Objects, &mut Daemon),
    (role, point): (&str, &str),
    daemon_dies: bool,
    act: impl Fn(&Objects) -> T + Sync,
) -> T {
    println!("{role} dies at {point}");
    let crash = format!("{point}:1");
    let mut victim = in_the_victims_slot(daemon, role, 0, Some(&crash));
    if daemon_dies {
        daemon.kill();
    }
    victim.goes_on();
    if victim.says().is_some() {
        victim.goes_on();
    }
    victim.ends_at_its_point();
    assert!(!daemon_dies || holds(objects.domain(), VICTIM));
    std::thread::scope(|threads| {
        let survivor = threads.spawn(|| act(objects));
        if daemon_dies {
            daemon.restart();
        }
        match survivor.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What is found under the name; whole, if something is.
fn look(objects: &Objects) -> bool {
    until("the index can be had", || match objects.get::<u64>("it") {
        Ok(found) => {
            assert_eq!(found.verify(), Ok(()));
            let elements: Result<Vec<_>, _> = found.view().expect("it is held").iter().collect();
            assert_eq!(elements.as_deref(), Ok(&OBJECT[..]));
            Some(true)
        }
        Err(ObjectError::NotFound { .. }) => Some(false),
        Err(ObjectError::Lease(LeaseError::TimedOut { .. })) => None,
        Err(error) => panic!("{error}"),
    })
}

/// Publishes an object once its name is free, and the index can be had.
fn publish<'o>(objects: &'o Objects, name: &str) -> Shared<'o, u64> {
    until("the name is free", || {
        let mut draft = objects.draft::<u64>(OBJECT.len()).expect("there is room");
        let mut view = draft.view_mut().expect("it is held");
        view.write_from(0, &OBJECT).expect("it is held");
        match draft.publish(name) {
            Ok(shared) => Some(shared),
            Err(Unpublished { error, .. }) => match error {
                ObjectError::NameTaken { .. } | ObjectError::Lease(LeaseError::TimedOut { .. }) => {
                    None
                }
                error => panic!("{error}"),
            },
        }
    })
}

#[test]
fn an_object_whose_publisher_dies_is_found_whole_or_not_at_all_and_its_name_is_free() {
    let mut space = Space::new();
    for (point, daemon_dies) in OF_PUBLISHING
        .map(|point| [(point, false), (point, true)])
        .concat()
    {
        let world = (&space.objects, &mut space.daemon);
        let found = dies(world, ("publishes", point), daemon_dies, look);
        assert!(
            !found || point == "object.listed",
            "nobody could know of it"
        );
        let shared = publish(&space.objects, "it");
        assert!(look(&space.objects));
        drop(shared);
        assert!(!look(&space.objects), "nobody holds it");
        space.is_empty();
    }
}

#[test]
fn who_dies_while_it_looks_up_keeps_no_object_and_no_publisher() {
    let mut space = Space::new();
    for daemon_dies in [false, true] {
        let shared = publish(&space.objects, "it");
        let world = (&space.objects, &mut space.daemon);
        dies(world, ("finds", OF_LOOKING_UP[0]), daemon_dies, |objects| {
            assert!(look(objects), "a survivor holds it");
            drop(publish(objects, "other"));
        });
        assert!(look(&space.objects));
        drop(shared);
        until("the dead one holds it no more", || {
            (!look(&space.objects)).then_some(())
        });
        space.is_empty();
    }
}
