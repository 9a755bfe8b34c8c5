//! How a simulated process dies within an act: at a crash point its thread unwinds out of the heap.
//!
//! What unwinding runs of the heap's destructors is its own of the process and changes nothing that
//! others see: counters of who looks, and locks. What it has of the heap is dropped after
//! [`PoolHeap::die`](allocator::pool::PoolHeap), which has it do nothing.
//!
//! Which act is under way is known by thread, since seeds run on several.

#[cfg(feature = "fault")]
use std::cell::RefCell;
use std::collections::BTreeMap;
#[cfg(feature = "fault")]
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pool_core::rng::Rng;

/// Every crash point of the pool heap.
pub(crate) const POINTS: [&str; 49] = [
    "heap.cell_changed",
    "heap.cell_marked",
    "heap.chunk_added",
    "heap.chunk_claimed",
    "heap.chunk_doomed",
    "heap.chunk_entered",
    "heap.chunk_left",
    "heap.chunk_removed",
    "heap.doomed_found",
    "heap.drained",
    "heap.drained_pending",
    "heap.frame_released",
    "heap.frame_taken",
    "heap.frames_marked",
    "heap.freed_pending",
    "heap.held_put_back",
    "heap.help_noted",
    "heap.id_stored",
    "heap.intent_begun",
    "heap.intent_ended",
    "heap.linked",
    "heap.number_claimed",
    "heap.opened_blocks_held",
    "heap.recovery_claimed",
    "heap.retired",
    "heap.rolled",
    "heap.root_named",
    "heap.root_placed",
    "heap.run_claimed",
    "heap.run_freeing",
    "heap.run_kept",
    "heap.run_made",
    "heap.set_up",
    "heap.slab_adopted",
    "heap.slab_claimed",
    "heap.slab_freeing",
    "heap.slab_kept",
    "heap.slab_left",
    "heap.slab_made",
    "heap.slot_freed",
    "heap.slot_marked",
    "heap.slot_taken",
    "heap.swept_word",
    "heap.tail_released",
    "heap.tails_released",
    "heap.tier_named",
    "heap.told",
    "heap.word_held",
    "heap.word_marked",
];

/// Those that are seldom passed.
pub(crate) const RARE: [&str; 10] = [
    "heap.chunk_claimed",
    "heap.chunk_doomed",
    "heap.chunk_left",
    "heap.chunk_removed",
    "heap.doomed_found",
    "heap.help_noted",
    "heap.rolled",
    "heap.run_kept",
    "heap.slab_kept",
    "heap.slab_left",
];

/// Those while a heap is made; after the last one it is made.
pub(crate) const OF_MAKING: [&str; 3] = ["heap.id_stored", "heap.tier_named", IS_MADE];
pub(crate) const IS_MADE: &str = "heap.set_up";

/// Those of what is done to roots, which others find and go on with.
pub(crate) const OF_CELLS: [&str; 6] = [
    "heap.cell_changed",
    "heap.cell_marked",
    "heap.intent_begun",
    "heap.intent_ended",
    "heap.linked",
    "heap.retired",
];

/// Where somebody is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doom {
    /// At this point; at any where there is none.
    pub(crate) point: Option<&'static str>,
    /// At which passing of it, from 1.
    pub(crate) nth: u32,
}

impl Doom {
    /// One of whoever makes a heap.
    pub(crate) fn of_making(rng: &mut Rng) -> Self {
        let drawn = usize::try_from(rng.below(OF_MAKING.len() as u64)).unwrap_or(0);
        let point = OF_MAKING.get(drawn).copied();
        Self { point, nth: 1 }
    }

    /// One by chance.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut one_of = |points: &[&'static str]| {
            let place = usize::try_from(rng.below(points.len() as u64)).unwrap_or(0);
            points.get(place).copied()
        };
        let drawn = (one_of(&RARE), one_of(&OF_CELLS), one_of(&POINTS));
        let (point, most) = match rng.below(8) {
            0 => (None, 200),
            1 | 2 => (drawn.0, 1),
            3..=5 => (drawn.1, 2),
            _ => (drawn.2, 3),
        };
        let nth = u32::try_from(1 + rng.below(most)).unwrap_or(1);
        Self { point, nth }
    }
}

/// An act that is under way.
#[cfg(feature = "fault")]
#[derive(Debug, Default)]
struct Act {
    doom: Vec<Doom>,
    passed: BTreeMap<&'static str, u64>,
}

#[cfg(feature = "fault")]
thread_local! {
    static ACT: RefCell<Option<Act>> = const { RefCell::new(None) };
}

/// What came of an act.
#[derive(Debug)]
pub(crate) struct Ended<T> {
    /// What it came to, or where its process died.
    pub(crate) by: Result<T, &'static str>,
    /// Who is still to die.
    pub(crate) doom: Vec<Doom>,
    /// Which points were passed, and how often.
    pub(crate) passed: BTreeMap<&'static str, u64>,
}

#[cfg(feature = "fault")]
struct Died(&'static str);

/// Called at each crash point of any code in any thread.
#[cfg(feature = "fault")]
fn pass(point: &'static str) {
    if std::thread::panicking() {
        return;
    }
    let dies = ACT.with_borrow_mut(|act| {
        let Some(act) = act else { return false };
        *act.passed.entry(point).or_default() += 1;
        for doom in &mut act.doom {
            let is_here = doom.point.is_none_or(|wanted| wanted == point);
            doom.nth = doom.nth.saturating_sub(u32::from(is_here));
        }
        let comes = act.doom.iter().position(|doom| doom.nth == 0);
        comes.map(|comes| act.doom.remove(comes)).is_some()
    });
    if dies {
        resume_unwind(Box::new(Died(point)));
    }
}

/// Has something be done within which its process may die.
#[cfg(feature = "fault")]
pub(crate) fn within<T>(doom: Vec<Doom>, act: impl FnOnce() -> T) -> Ended<T> {
    static OBSERVED: std::sync::Once = std::sync::Once::new();
    OBSERVED.call_once(|| pool_core::fault::observe(Some(pass)));
    let passed = BTreeMap::new();
    ACT.set(Some(Act { doom, passed }));
    let done = catch_unwind(AssertUnwindSafe(act));
    let Act { doom, passed } = ACT.take().unwrap_or_default();
    let by = match done {
        Ok(done) => Ok(done),
        Err(panic) => match panic.downcast::<Died>() {
            Ok(died) => Err(died.0),
            Err(panic) => resume_unwind(panic),
        },
    };
    Ended { by, doom, passed }
}

/// The same where nobody dies within an act: no crash point says that it is passed.
#[cfg(not(feature = "fault"))]
pub(crate) fn within<T>(doom: Vec<Doom>, act: impl FnOnce() -> T) -> Ended<T> {
    let (by, passed) = (Ok(act()), BTreeMap::new());
    Ended { by, doom, passed }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn points_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                points_in(&path, found);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                let uses = text.split("crash_point!(\"").skip(1);
                found.extend(uses.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_crash_point_in_the_source_of_the_pool_heap_is_one_to_die_at() {
        let mut found = BTreeSet::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../allocator/src/pool");
        points_in(&source, &mut found);
        let known: BTreeSet<String> = POINTS.into_iter().map(str::to_owned).collect();
        assert_eq!(found, known);
        let some = RARE.iter().chain(&OF_CELLS).chain(&OF_MAKING);
        assert!(some.into_iter().all(|point| POINTS.contains(point)));
    }
}
