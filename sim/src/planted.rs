//! Bugs that are planted one at a time, and that the simulation must find: who tests the tests.
//!
//! Each is behind `planted!` in the code that would have it, and there only with the feature
//! `fault`. Those of this crate are mistakes of whoever drives the real code: the duties that a
//! daemon, a host or a fabric manager has.

use pool_core::fault::plant;

use crate::exhaust::Scope;
use crate::mix::Mix;
use crate::run::run;

/// A bug and how soon it must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// How many seeds, of [`OPS`] ops each, it may take.
    pub seeds: u64,
}

/// Ops of each seed.
pub const OPS: usize = 5_000;

const fn bug(name: &'static str, seeds: u64) -> Bug {
    Bug { name, seeds }
}

/// Every bug that must be found.
pub const BUGS: [Bug; 83] = [
    bug("cache.drops_what_was_written", 32),
    bug("capacity.frees_what_is_gone", 128),
    bug("capacity.grants_what_is_bad", 32),
    bug("capacity.loses_nothing", 32),
    bug("cell.clears_the_intent_first", 128),
    bug("cell.ends_before_it_changes", 128),
    bug("cell.helps_without_a_note", 128),
    bug("cell.publishes_before_it_links", 128),
    bug("chunks.claims_what_went", 128),
    bug("chunks.gives_up_on_what_was_left", 128),
    bug("engine.does_it_again", 32),
    bug("engine.frees_before_proof", 32),
    bug("engine.journals_no_move", 32),
    bug("engine.keeps_the_incarnation", 32),
    bug("engine.loses_what_is_freed", 32),
    bug("engine.opens_to_everybody", 32),
    bug("engine.takes_any_request_id", 32),
    bug("era.reused", 32),
    bug("frames.frees_the_head_first", 128),
    bug("frames.hides_what_it_gives_up", 128),
    bug("frames.keeps_what_it_gives_up", 32),
    bug("group.ends_what_it_does_not_know", 32),
    bug("group.goes_while_somebody_has_it", 128),
    bug("group.is_joined_by_nobody", 32),
    bug("group.is_left_in_use", 32),
    bug("group.is_published_unsealed", 32),
    bug("group.joins_what_is_not_published", 32),
    bug("group.keeps_what_was_reset", 32),
    bug("group.serves_what_was_reset", 128),
    bug("group.stays_published", 128),
    bug("group.takes_any_offer", 32),
    bug("heap.is_set_up_before_its_tiers", 128),
    bug("host.a_span_to_a_deadline_wraps", 32),
    bug("host.any_copy_repairs", 32),
    bug("host.downgrade_keeps_the_write_right", 32),
    bug("host.epoch_does_not_rise", 32),
    bug("host.fence_forgets_the_readers", 32),
    bug("host.fence_frees_without_loss", 32),
    bug("host.grant_of_a_settled_ticket_is_taken", 128),
    bug("host.joins_again_without_a_fence", 128),
    bug("host.late_release_is_not_acknowledged", 32),
    bug("host.loss_keeps_the_version", 32),
    bug("host.message_before_its_record", 32),
    bug("host.one_reader_is_overlooked", 32),
    bug("host.recall_waits_for_no_user", 32),
    bug("host.release_again_forgets_the_version", 32),
    bug("host.release_of_any_ticket_is_taken", 32),
    bug("host.the_condemned_are_heard", 128),
    bug("member.releases_before_version", 32),
    bug("place.aligns_the_offset", 32),
    bug("place.makes_groups_anywhere", 32),
    bug("pool.drains_in_the_wrong_order", 128),
    bug("pool.frees_the_last_into_another_word", 32),
    bug("pool.frees_the_last_that_is_told", 32),
    bug("pool.holds_before_it_marks", 128),
    bug("pressure.gives_up_early", 32),
    bug("pressure.waits_half_of_what_it_says", 32),
    bug("pressure.waits_twice_what_it_says", 32),
    bug("recall.evicts_at_the_second_look", 128),
    bug("recover.counts_incarnations_anew", 32),
    bug("recover.forgets_a_session", 32),
    bug("recover.frees_without_fence", 128),
    bug("recover.leaves_what_is_between", 32),
    bug("recover.sweeps_before_it_rolls", 128),
    bug("recover.takes_an_id_each_time", 32),
    bug("recover.waits_half_of_the_grace", 32),
    bug("seal.is_not_journaled", 32),
    bug("sim.announces_nobody_again", 512),
    bug("sim.destroys_before_the_commit", 32),
    bug("sim.drops_a_record", 32),
    bug("sim.fences_nobody", 128),
    bug("sim.hands_out_what_was_there", 32),
    bug("sim.keeps_lines_of_before", 128),
    bug("sim.keeps_stale_lines", 32),
    bug("sim.keeps_what_it_did_not_open", 128),
    bug("sim.leaves_torn_lines", 128),
    bug("sim.says_of_nobody_that_it_is_gone", 32),
    bug("sim.seals_what_is_in_its_caches", 128),
    bug("sim.skips_write_back", 32),
    bug("sim.starts_at_the_time_of_before", 32),
    bug("sim.waits_by_the_clock_of_another", 32),
    bug("steward.asks_no_engine", 32),
    bug("steward.trusts_what_was_reset", 32),
];

/// So many bugs of a day: from one day to the next those that follow them in the list, which begins
/// again at its end.
#[must_use]
pub fn of_day(day: u64, count: usize) -> Vec<&'static Bug> {
    let (all, count) = (BUGS.len(), count.min(BUGS.len()));
    let day = usize::try_from(day % all as u64).unwrap_or(0);
    let start = day * count % all;
    BUGS.iter().cycle().skip(start).take(count).collect()
}

/// Those that are found where everything is tried, in sequences of at most [`COMMANDS`].
pub const BUGS_IN_ALL: [&str; 21] = [
    "engine.frees_before_proof",
    "engine.journals_no_move",
    "engine.keeps_the_incarnation",
    "engine.loses_what_is_freed",
    "host.any_copy_repairs",
    "host.epoch_does_not_rise",
    "host.fence_forgets_the_readers",
    "host.fence_frees_without_loss",
    "host.joins_again_without_a_fence",
    "host.late_release_is_not_acknowledged",
    "host.loss_keeps_the_version",
    "host.message_before_its_record",
    "host.one_reader_is_overlooked",
    "host.recall_waits_for_no_user",
    "recover.counts_incarnations_anew",
    "recover.forgets_a_session",
    "recover.takes_an_id_each_time",
    "sim.drops_a_record",
    "sim.keeps_stale_lines",
    "sim.leaves_torn_lines",
    "sim.skips_write_back",
];

/// Commands of a sequence in which each of [`BUGS_IN_ALL`] is found.
pub const COMMANDS: usize = 3;

/// How a bug was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which rule it broke.
    pub rule: &'static str,
    /// After how many seeds.
    pub seeds: u64,
    /// After how many ops in all.
    pub ops: usize,
}

/// How a bug was found where everything is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundIn {
    /// Which rule it broke.
    pub rule: &'static str,
    /// In which scope.
    pub scope: Scope,
    /// In sequences of at most so many commands.
    pub commands: usize,
    /// After how many slots that were gone through.
    pub runs: u64,
}

/// Plants a bug and looks for it in everything that a small scope allows. `None` where it is not
/// found in sequences of at most so many commands.
///
/// A planted bug is there for the whole process: call it from one thread.
#[must_use]
pub fn find_in_all(bug: &str, most: usize, threads: usize) -> Option<FoundIn> {
    plant(Some(bug));
    let mut runs = 0;
    let lengths = (1..=most).flat_map(|commands| Scope::ALL.map(|scope| (commands, scope)));
    let mut found = None;
    for (commands, scope) in lengths {
        let tried = scope.try_all(commands, threads);
        runs += tried.runs;
        if let Some((_, broken)) = tried.failure {
            let rule = broken.rule;
            found = Some(FoundIn {
                rule,
                scope,
                commands,
                runs,
            });
            break;
        }
    }
    plant(None);
    found
}

/// Plants a bug and looks for it. `None` where it is not found within its budget.
///
/// A planted bug is there for the whole process: call it from one thread.
#[must_use]
pub fn find(bug: &Bug, first: u64) -> Option<Found> {
    plant(Some(bug.name));
    let mut ops = 0;
    let mut found = None;
    for seeds in 1..=bug.seeds {
        let mix = Mix::draw(first.saturating_add(seeds - 1));
        let outcome = run(&mix, &mix.ops(OPS));
        ops += outcome.ops;
        if let Some(failure) = outcome.failure {
            let rule = failure.broken.rule;
            found = Some(Found { rule, seeds, ops });
            break;
        }
    }
    plant(None);
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_bugs_of_a_day_are_none_of_the_next_and_in_as_many_days_as_they_fill_all_are_there() {
        let names = |day| {
            let bugs = of_day(day, 5).into_iter().map(|bug| bug.name);
            bugs.collect::<BTreeSet<_>>()
        };
        for first in [0, 20_000, u64::MAX - 100] {
            let days = first..first + BUGS.len().div_ceil(5) as u64;
            assert!(days.clone().all(|day| names(day).len() == 5));
            assert!(names(first).is_disjoint(&names(first + 1)));
            let all: BTreeSet<_> = days.flat_map(names).collect();
            assert_eq!(all.len(), BUGS.len());
        }
    }

    #[test]
    fn there_are_no_more_bugs_of_a_day_than_there_are() {
        assert_eq!(of_day(3, 1_000).len(), BUGS.len());
    }
}
