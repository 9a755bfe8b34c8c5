//! Breadth first through all worlds of a scope; what is wrong is told with the way to it.

use std::time::Duration;

use pool_core::clock;

use crate::fair;
use crate::memo::{Memo, QuickMap};
use crate::world::{Action, Scope, World, limits};

/// What a search has seen.
pub(crate) struct Found {
    pub(crate) worlds: usize,
    pub(crate) steps: u64,
    pub(crate) homes: usize,
    pub(crate) peers: usize,
    pub(crate) fair_runs: u64,
    pub(crate) time: Duration,
}

/// No world of a scope may need more, so that a mistake in a scope ends.
const WORLDS_MAX: usize = 1_500_000;

/// Searches the scope.
pub(crate) fn explore(scope: &Scope) -> Result<Found, String> {
    let start = clock::now();
    let mut memo = Memo::new(limits().0);
    let mut numbers: QuickMap<World, u32> = QuickMap::default();
    let mut worlds: Vec<(World, u32, Option<Action>)> = Vec::new();
    let first = World::begin(scope, &mut memo)
        .map_err(|wrong| format!("{}: {wrong}\n  (0 steps)", scope.name))?;
    numbers.insert(first.clone(), 0);
    worlds.push((first, 0, None));
    let (mut steps, mut fair_runs) = (0, fair::Runs::default());
    let mut at = 0;
    while at < worlds.len() {
        let world = worlds[at].0.clone();
        at += 1;
        if (at as u64 - 1).is_multiple_of(scope.fair_every) {
            fair_runs
                .from(scope, &mut memo, &world)
                .map_err(|wrong| told(scope, &memo, &worlds, at - 1, None, &wrong))?;
        }
        if world.is_beyond(scope, &memo) {
            continue;
        }
        let actions = world
            .actions(scope, &mut memo)
            .map_err(|wrong| told(scope, &memo, &worlds, at - 1, None, &wrong))?;
        for action in actions {
            steps += 1;
            let next = world
                .apply(&mut memo, action)
                .map_err(|wrong| told(scope, &memo, &worlds, at - 1, Some(action), &wrong))?;
            if next == world || numbers.contains_key(&next) {
                continue;
            }
            let number = u32::try_from(worlds.len()).unwrap();
            assert!(worlds.len() < WORLDS_MAX, "{}: too many worlds", scope.name);
            numbers.insert(next.clone(), number);
            worlds.push((next, u32::try_from(at - 1).unwrap(), Some(action)));
        }
    }
    Ok(Found {
        worlds: worlds.len(),
        steps,
        homes: memo.homes.len(),
        peers: memo.peers.len(),
        fair_runs: fair_runs.count,
        time: Duration::from_nanos(clock::now().saturating_since(start).get()),
    })
}

/// The way to what is wrong.
fn told(
    scope: &Scope,
    memo: &Memo,
    worlds: &[(World, u32, Option<Action>)],
    at: usize,
    last: Option<Action>,
    wrong: &str,
) -> String {
    let mut way = Vec::from_iter(last);
    let mut at = at;
    while let (_, before, Some(action)) = &worlds[at] {
        way.push(*action);
        at = *before as usize;
    }
    way.reverse();
    let mut text = format!("{}: {wrong}\n", scope.name);
    for action in &way {
        let step = match action {
            Action::Deliver(id) => format!("{:?}", memo.envelopes.get(*id)),
            Action::Crash(id, output) => {
                format!("{:?}, home dies in it ({output})", memo.envelopes.get(*id))
            }
            other => format!("{other:?}"),
        };
        text.push_str(&format!("  {step}\n"));
    }
    text.push_str(&format!("  ({} steps)", way.len()));
    text
}
