//! One death of a member at a named point, with others that wait for the unit it had.
//!
//! The survivors are threads of this process, which is another member: one wants to read the unit
//! and one to write it. Where the daemon dies as well, it dies before the member, and comes back
//! once the survivors have waited in vain for a while.

use std::thread::ScopedJoinHandle;
use std::time::Duration;

use client_sdk::{Domain, LeaseError, OnDeath, Slot, Ticket, WriteGuard};
use pool_core::Nanos;
use pool_core::clock;
use tierpool_tests::contents::{self, PATIENCE};
use tierpool_tests::lessee::Lessee;
use tierpool_tests::until;

use crate::cases::{Case, Leaves};
use crate::scene::{self, Scene, VICTIM, in_the_victims_slot};

/// How long somebody waits in vain while the daemon is dead: a few caps of a sleep.
const IMPATIENCE: Duration = Duration::from_millis(150);

/// The number of the contents that a survivor was granted, and the version.
pub(crate) type Granted = Result<(u64, u64), LeaseError>;

/// Lets a member die as `case` says.
pub(crate) fn run(scene: &mut Scene, case: &Case, daemon_dies: bool) {
    println!("{} dies at {}", case.role, case.point);
    match (case.role, case.point) {
        ("restores", "lease.released_not_woken") => scene.abandon(),
        ("restores", _) => scene.lose(),
        _ => {}
    }
    let number = match case.role {
        "gives" => scene.domain.ticket().expect("it may write").number(),
        _ => scene.number + 1,
    };
    let crash = format!("{}:1", case.point);
    let victim = in_the_victims_slot(&scene.daemon, case.role, number, Some(&crash));
    if daemon_dies {
        scene.daemon.kill();
    }
    let found = dies_beside_survivors(scene, case, victim, daemon_dies);
    judge(scene, case, found);
    scene.is_succeeded();
}

/// Kills a member that has unit 0, and lets the daemon die at the `nth` change of the word that it
/// makes then, before it wakes who waits: who waits looks again by itself. Returns what it finds.
pub(crate) fn is_never_woken(scene: &mut Scene, role: &str, nth: u32) -> Granted {
    let crash = format!("recover.changed_not_woken:{nth}");
    let setup = scene.daemon.setup().clone();
    scene.daemon.kill();
    scene
        .daemon
        .restart_as(&setup.clone().with("TIERPOOL_CRASH", crash));
    let mut victim = in_the_victims_slot(&scene.daemon, role, 0, None);
    victim.goes_on();
    victim.tells();
    let (domain, daemon) = (&scene.domain, &mut scene.daemon);
    std::thread::scope(|threads| {
        let survivor = threads.spawn(|| writes(domain));
        await_waiters(domain, false);
        victim.is_killed();
        daemon.await_crash();
        let since = clock::now();
        let (found, at) = joined(survivor);
        let wait = at.saturating_since(since).get() / 1_000;
        println!("{role}: {wait} us from the daemon's death until it is had");
        daemon.restart_as(&setup);
        found
    })
}

/// What the survivors find, who wait while the member dies.
fn dies_beside_survivors(
    scene: &mut Scene,
    case: &Case,
    mut victim: Lessee,
    daemon_dies: bool,
) -> Vec<Granted> {
    let (domain, daemon, waits) = (&scene.domain, &mut scene.daemon, &mut scene.waits);
    let unit = domain.unit(0).expect("it has one");
    let held = case
        .finds_it_held()
        .then(|| unit.write(PATIENCE).expect("it is had"));
    victim.goes_on();
    let ready = victim.says();
    if let Some(ticket) = ready.filter(|_| case.point == "hand.taken") {
        hand(unit.write(PATIENCE).expect("it is had"), ticket);
    }
    std::thread::scope(|threads| {
        let survive = || {
            [
                threads.spawn(|| reads(domain)),
                threads.spawn(|| writes(domain)),
            ]
        };
        let early = (ready.is_some() && case.lets_others_wait()).then(|| {
            let survivors = survive();
            await_waiters(domain, held.is_some());
            survivors
        });
        // No later than the death, and no later than when the unit could be had.
        let (mut since, wakes) = (clock::now(), scene::wakes(domain));
        if ready.is_some() {
            victim.goes_on();
        }
        victim.ends_at_its_point();
        if held.is_some() {
            since = clock::now();
        }
        match (held, ready) {
            (Some(guard), Some(ticket)) if case.role == "takes" => hand(guard, ticket),
            (held, _) => drop(held),
        }
        let survivors = early.unwrap_or_else(survive);
        let received = (case.role, case.leaves) == ("gives", Leaves::New);
        let received = received.then(|| receives(domain));
        let needs_the_daemon = scene::own(domain, 0).is_held_by(victims_slot());
        if daemon_dies && needs_the_daemon {
            waits_in_vain(domain);
            since = clock::now();
            daemon.restart();
        }
        let found = survivors.map(joined);
        if daemon_dies && !needs_the_daemon {
            daemon.restart();
        }
        let last = found.iter().map(|(_, at)| *at).max().unwrap_or(since);
        let wait = last.saturating_since(since);
        let wakes = scene::wakes(domain).wrapping_sub(wakes);
        println!(
            "  {} us and {wakes} wakes until the last one had it",
            wait.get() / 1_000
        );
        waits[usize::from(daemon_dies && !needs_the_daemon)].add(wait);
        let found = found.into_iter().map(|(granted, _)| granted);
        found.chain(received).collect()
    })
}

/// Waits until somebody waits for the unit, and nobody has it but the victim, or this thread.
fn await_waiters(domain: &Domain, is_held_here: bool) {
    let slots = [victims_slot(), domain.slot()];
    let holder = slots[usize::from(is_held_here)];
    until("they wait", || {
        let own = scene::own(domain, 0);
        (own.has_waiters() && own.holders() == holder.bit()).then_some(())
    });
}

/// While the daemon is dead, whoever wants what a dead member holds is told so at its deadline.
fn waits_in_vain(domain: &Domain) {
    let unit = domain.unit(0).expect("it has one");
    let late = unit.write(IMPATIENCE).map(drop);
    let told = matches!(late, Err(LeaseError::TimedOut { unit: 0, .. }));
    assert!(told, "nobody can know that its holder is dead: {late:?}");
}

fn victims_slot() -> Slot {
    u8::try_from(VICTIM)
        .ok()
        .and_then(Slot::new)
        .expect("it is one")
}

/// What is found must be what `case` says, and be the same for all. What is lost is restored.
fn judge(scene: &mut Scene, case: &Case, found: Vec<Granted>) {
    let leaves = match scene.on_death {
        _ if scene.domain.has_checksums() => case.leaves_where_summed(),
        OnDeath::Lose => case.leaves,
        OnDeath::Keep => case.leaves_where_kept(),
    };
    // It was handed what this process had published.
    let last_good = scene.version + u64::from(case.point == "hand.taken");
    let number = match leaves {
        Leaves::Old => scene.number,
        Leaves::New | Leaves::Lost => scene.number + 1,
    };
    for granted in found {
        match granted {
            Ok((found, version)) => {
                assert!(
                    leaves != Leaves::Lost && version >= scene.version,
                    "{version}"
                );
                assert_eq!(found, number);
            }
            Err(error) => {
                assert_eq!(error, LeaseError::Lost { unit: 0, last_good });
                assert_eq!(leaves, Leaves::Lost);
            }
        }
    }
    match leaves {
        Leaves::Lost => scene.restore(),
        Leaves::Old | Leaves::New => scene.number = number,
    }
}

/// Changes the unit and hands it to whoever has the ticket. Whoever is gone by then does not get
/// it, and the change is published.
fn hand(mut guard: WriteGuard<'_>, ticket: u64) {
    contents::change(&mut guard);
    match guard.hand_over(Ticket::from_number(ticket)) {
        Ok(()) | Err(LeaseError::ReceiverGone { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn reads(domain: &Domain) -> (Granted, Nanos) {
    let guard = domain.unit(0).and_then(|unit| unit.read(PATIENCE));
    let at = clock::now();
    (
        guard.map(|guard| (contents::read(&guard), guard.version())),
        at,
    )
}

fn writes(domain: &Domain) -> (Granted, Nanos) {
    let guard = domain.unit(0).and_then(|unit| unit.write(PATIENCE));
    let at = clock::now();
    (
        guard.map(|guard| (contents::check(&guard), guard.version())),
        at,
    )
}

fn receives(domain: &Domain) -> Granted {
    let guard = domain.unit(0).and_then(|unit| unit.receive(PATIENCE));
    guard.map(|guard| (contents::check(&guard), guard.version()))
}

fn joined(survivor: ScopedJoinHandle<'_, (Granted, Nanos)>) -> (Granted, Nanos) {
    match survivor.join() {
        Ok(found) => found,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
