//! Bugs that are planted in the real code, and in what drives it: the simulator finds each within
//! its budget of seeds. One test: a planted bug is there for the whole process.

use sim::planted::{BUGS, Bug, find};

/// All of them, by name.
const NAMES: [&str; 83] = [
    "cache.drops_what_was_written",
    "capacity.frees_what_is_gone",
    "capacity.grants_what_is_bad",
    "capacity.loses_nothing",
    "cell.clears_the_intent_first",
    "cell.ends_before_it_changes",
    "cell.helps_without_a_note",
    "cell.publishes_before_it_links",
    "chunks.claims_what_went",
    "chunks.gives_up_on_what_was_left",
    "engine.does_it_again",
    "engine.frees_before_proof",
    "engine.journals_no_move",
    "engine.keeps_the_incarnation",
    "engine.loses_what_is_freed",
    "engine.opens_to_everybody",
    "engine.takes_any_request_id",
    "era.reused",
    "frames.frees_the_head_first",
    "frames.hides_what_it_gives_up",
    "frames.keeps_what_it_gives_up",
    "group.ends_what_it_does_not_know",
    "group.goes_while_somebody_has_it",
    "group.is_joined_by_nobody",
    "group.is_left_in_use",
    "group.is_published_unsealed",
    "group.joins_what_is_not_published",
    "group.keeps_what_was_reset",
    "group.serves_what_was_reset",
    "group.stays_published",
    "group.takes_any_offer",
    "heap.is_set_up_before_its_tiers",
    "host.a_span_to_a_deadline_wraps",
    "host.any_copy_repairs",
    "host.downgrade_keeps_the_write_right",
    "host.epoch_does_not_rise",
    "host.fence_forgets_the_readers",
    "host.fence_frees_without_loss",
    "host.grant_of_a_settled_ticket_is_taken",
    "host.joins_again_without_a_fence",
    "host.late_release_is_not_acknowledged",
    "host.loss_keeps_the_version",
    "host.message_before_its_record",
    "host.one_reader_is_overlooked",
    "host.recall_waits_for_no_user",
    "host.release_again_forgets_the_version",
    "host.release_of_any_ticket_is_taken",
    "host.the_condemned_are_heard",
    "member.releases_before_version",
    "place.aligns_the_offset",
    "place.makes_groups_anywhere",
    "pool.drains_in_the_wrong_order",
    "pool.frees_the_last_into_another_word",
    "pool.frees_the_last_that_is_told",
    "pool.holds_before_it_marks",
    "pressure.gives_up_early",
    "pressure.waits_half_of_what_it_says",
    "pressure.waits_twice_what_it_says",
    "recall.evicts_at_the_second_look",
    "recover.counts_incarnations_anew",
    "recover.forgets_a_session",
    "recover.frees_without_fence",
    "recover.leaves_what_is_between",
    "recover.sweeps_before_it_rolls",
    "recover.takes_an_id_each_time",
    "recover.waits_half_of_the_grace",
    "seal.is_not_journaled",
    "sim.announces_nobody_again",
    "sim.destroys_before_the_commit",
    "sim.drops_a_record",
    "sim.fences_nobody",
    "sim.hands_out_what_was_there",
    "sim.keeps_lines_of_before",
    "sim.keeps_stale_lines",
    "sim.keeps_what_it_did_not_open",
    "sim.leaves_torn_lines",
    "sim.says_of_nobody_that_it_is_gone",
    "sim.seals_what_is_in_its_caches",
    "sim.skips_write_back",
    "sim.starts_at_the_time_of_before",
    "sim.waits_by_the_clock_of_another",
    "steward.asks_no_engine",
    "steward.trusts_what_was_reset",
];

/// Catches: cache.drops_what_was_written, engine.does_it_again, engine.frees_before_proof
/// Catches: engine.journals_no_move, engine.keeps_the_incarnation, engine.loses_what_is_freed
/// Catches: engine.opens_to_everybody, engine.takes_any_request_id, host.any_copy_repairs
/// Catches: host.downgrade_keeps_the_write_right, host.epoch_does_not_rise
/// Catches: host.fence_forgets_the_readers, host.fence_frees_without_loss
/// Catches: host.grant_of_a_settled_ticket_is_taken, host.joins_again_without_a_fence
/// Catches: host.late_release_is_not_acknowledged, host.loss_keeps_the_version
/// Catches: host.message_before_its_record, host.one_reader_is_overlooked
/// Catches: host.recall_waits_for_no_user, host.release_again_forgets_the_version
/// Catches: host.release_of_any_ticket_is_taken, host.the_condemned_are_heard
/// Catches: member.releases_before_version, place.aligns_the_offset
/// Catches: recover.counts_incarnations_anew, recover.forgets_a_session
/// Catches: recover.frees_without_fence, recover.takes_an_id_each_time, seal.is_not_journaled
/// Catches: sim.drops_a_record, sim.fences_nobody, sim.hands_out_what_was_there
/// Catches: sim.keeps_stale_lines, sim.leaves_torn_lines, sim.skips_write_back
/// Catches: sim.starts_at_the_time_of_before, sim.waits_by_the_clock_of_another
/// Catches: host.a_span_to_a_deadline_wraps
/// Catches: group.goes_while_somebody_has_it, sim.destroys_before_the_commit
/// Catches: group.is_left_in_use, group.is_published_unsealed
/// Catches: group.joins_what_is_not_published, group.stays_published
/// Catches: place.makes_groups_anywhere, sim.keeps_lines_of_before
/// Catches: sim.seals_what_is_in_its_caches
/// Catches: capacity.frees_what_is_gone, capacity.grants_what_is_bad, capacity.loses_nothing
/// Catches: steward.asks_no_engine, steward.trusts_what_was_reset
/// Catches: cell.clears_the_intent_first, cell.ends_before_it_changes, cell.helps_without_a_note
/// Catches: cell.publishes_before_it_links, chunks.claims_what_went, era.reused
/// Catches: frames.frees_the_head_first, frames.hides_what_it_gives_up
/// Catches: frames.keeps_what_it_gives_up, pool.drains_in_the_wrong_order
/// Catches: pool.frees_the_last_into_another_word, pool.frees_the_last_that_is_told
/// Catches: pool.holds_before_it_marks, recover.leaves_what_is_between
/// Catches: recover.sweeps_before_it_rolls
/// Catches: sim.announces_nobody_again, sim.says_of_nobody_that_it_is_gone
/// Catches: chunks.gives_up_on_what_was_left, group.ends_what_it_does_not_know
/// Catches: group.is_joined_by_nobody, group.keeps_what_was_reset, group.serves_what_was_reset
/// Catches: group.takes_any_offer, heap.is_set_up_before_its_tiers, pressure.gives_up_early
/// Catches: pressure.waits_half_of_what_it_says, pressure.waits_twice_what_it_says
/// Catches: recall.evicts_at_the_second_look, recover.waits_half_of_the_grace
/// Catches: sim.keeps_what_it_did_not_open
#[test]
fn each_planted_bug_is_found_within_its_budget() {
    assert_eq!(BUGS.map(|bug| bug.name), NAMES);
    let missed = |bug: &Bug| find(bug, 0).is_none();
    let missed: Vec<Bug> = BUGS.into_iter().filter(missed).collect();
    assert_eq!(missed, [], "each of them took all of its seeds");
}
