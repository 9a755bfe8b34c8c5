//! What is told of a bug does not hang on how many threads look for it. A program of its own, with
//! one test: a planted bug is there for the whole process.

use pool_core::fault::plant;
use sim::exhaust::Scope;

#[test]
fn the_first_case_that_fails_is_the_same_with_one_thread_and_with_more() {
    for (bug, scope, commands) in [
        ("host.loss_keeps_the_version", Scope::Extents, 2),
        ("engine.loses_what_is_freed", Scope::Held, 1),
        ("sim.drops_a_record", Scope::Segments, 2),
    ] {
        plant(Some(bug));
        let failures = [1, 2, 3, 5].map(|threads| scope.try_all(commands, threads).failure);
        plant(None);
        assert!(failures[0].is_some(), "{bug}");
        assert!(failures.iter().all(|it| *it == failures[0]), "{bug}");
    }
}
