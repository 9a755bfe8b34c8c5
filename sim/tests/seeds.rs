//! A fixed share of the campaigns, and what makes them worth running: that a seed is one run, and
//! that a failure is cut down to what breaks it.

use sim::campaign::campaign;
use sim::exhaust::Scope;
use sim::mix::Mix;
use sim::replay::Replay;
use sim::run::run;

fn no_failures(first: u64, seeds: u64, ops: usize) -> sim::campaign::Summary {
    let summary = campaign((first, seeds), ops, 2, |_, _| {});
    let failed = summary.failures.iter();
    let failed = failed.filter_map(|(seed, outcome)| Some((seed, outcome.failure.as_ref()?)));
    let replay = |seed| format!("cargo xtask sim --seed {seed} --ops {ops} --shrink");
    let failed = failed.map(|(seed, failure)| format!("{}: {}", replay(seed), failure.broken));
    assert_eq!(failed.collect::<Vec<_>>(), Vec::<String>::new());
    summary
}

#[test]
fn whatever_happens_to_whole_pools_every_rule_holds() {
    let summary = no_failures(0, 16, 4_000);
    assert_eq!(summary.ops, 16 * 4_000);
    for fault in [
        "host-death",
        "daemon-death",
        "process-death",
        "host-fenced",
        "memory-taken",
    ] {
        assert!(
            summary.faults.get(fault).is_some_and(|count| *count > 5),
            "{fault}"
        );
    }
    assert!(summary.marks.len() > 30, "{:?}", summary.marks);
}

#[test]
fn a_seed_is_the_same_run_each_time_on_however_many_threads() {
    let hash = |threads| campaign((40, 6), 1_500, threads, |_, _| {}).hash;
    assert_eq!(hash(1), hash(1));
    assert_eq!(hash(1), hash(3));
    let other = campaign((41, 6), 1_500, 1, |_, _| {}).hash;
    assert_ne!(hash(1), other);
}

#[test]
fn a_replay_of_a_seed_is_that_run() {
    let mix = Mix::draw(7);
    let ops = mix.ops(1_000);
    let replay = Replay { seed: 7, ops };
    let read = Replay::parse(&replay.to_string()).unwrap();
    let (first, second) = (run(&mix, &replay.ops), run(&read.mix(), &read.ops));
    assert_eq!((first.hash, first.ops), (second.hash, second.ops));
}

#[test]
fn a_calm_world_has_no_faults_and_answers_everybody() {
    let mix = Mix::draw(5).calm();
    let outcome = run(&mix, &mix.ops(3_000));
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    // A host whose user does not let go is cut off in a calm world as well.
    let mut faults = outcome.faults;
    faults.remove("host-fenced");
    assert_eq!(faults.len(), 0, "{faults:?}");
}

#[test]
fn every_short_sequence_survives_every_death() {
    let mut lines_most = 0;
    for scope in Scope::ALL {
        let tried = scope.try_all(2, 2);
        if let Some((ops, broken)) = tried.failure {
            let seed = Mix::SCOPE;
            panic!("{broken}\n{}", Replay { seed, ops });
        }
        assert!(tried.cases > 1_000, "{scope:?}: {tried:?}");
        assert!(
            tried.points > 100 && tried.sets > 40,
            "{scope:?}: {tried:?}"
        );
        lines_most = lines_most.max(tried.lines_most);
        let alone = scope.try_all(1, 1);
        assert_eq!(alone, scope.try_all(1, 3));
    }
    assert_eq!(lines_most, 4);
}
