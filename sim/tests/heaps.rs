//! Heaps of hosts in whole pools: what is worth knowing of their runs besides that no rule breaks.

use sim::campaign::campaign;
use sim::mix::Mix;
use sim::run::run;

#[test]
fn heaps_lose_and_keep_nothing_whoever_dies_within_them() {
    let summary = campaign((0, 24), 6_000, 2, |_, _| {});
    let failures = summary.failures.iter();
    let failures: Vec<_> = failures
        .filter_map(|(seed, outcome)| Some((*seed, outcome.failure.as_ref()?.broken.clone())))
        .collect();
    assert_eq!(failures, []);
    let count = |name: &str| summary.counts.get(name).copied().unwrap_or(0);
    assert!(count("heap-block") > 1_000, "{:?}", summary.counts);
    assert!(count("heap-look") > 50, "{:?}", summary.counts);
    assert!(count("heap-death") > 20, "{:?}", summary.counts);
    let (died, all) = summary.died_at();
    assert!(died > all / 2, "{:?}", summary.points);
}

#[test]
fn a_world_without_heaps_has_no_op_of_them() {
    let seed = (0..64).find(|&seed| Mix::draw(seed).heap_chunks == 0);
    let mix = Mix::draw(seed.unwrap());
    let outcome = run(&mix, &mix.ops(2_000));
    let of_heaps = outcome.counts.keys().find(|name| name.starts_with("heap-"));
    assert_eq!(of_heaps, None);
}
