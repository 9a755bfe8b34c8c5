//! A process dies at every named point of everything that it may do with a heap, and nothing is
//! lost, nothing is kept, and nobody waits.
//!
//! Each act is done once to its end, which tells which points it passes, and how often. Then it is
//! done once for each passing, by a kin that dies there: see [`super::scene`] for what is true
//! afterwards.

use std::collections::BTreeSet;

use pool_core::fault::CRASH_STATUS;
use tierpool_tests::points;

use super::cases::{ALLOCATIONS, Case, ENDS, LINKS, RECOVERIES, SPARES};
use super::scene::{Scene, WHOLE};

/// Of more passings of one point, this many of the first and of the last, and some between.
const OFTEN: u64 = 6;

/// Lets a kin die, and says which points it passed where it did not.
pub(crate) fn run(
    case: &Case,
    death: Option<(&str, u64)>,
    bug: Option<&str>,
) -> Result<Vec<(String, u64)>, String> {
    let (mut scene, mut kin) = Scene::ready(case, bug);
    let how = match death {
        Some((point, nth)) => format!("{point} {nth}"),
        None => "- 0".to_owned(),
    };
    scene.tell(&mut kin, &how);
    let told = kin.hear_all();
    let status = kin.wait(&scene.family);
    let expected = if death.is_some() { CRASH_STATUS } else { 0 };
    if status.code() != Some(expected) {
        assert_ne!(
            status.code(),
            Some(0),
            "{}: it did not come to {death:?}",
            case.act
        );
        return Err(format!("it failed: {status}"));
    }
    scene.oracle.is_done = death.is_none();
    let (passings, others): (Vec<_>, _) = told
        .into_iter()
        .partition(|line| line.starts_with("passed "));
    scene.oracle.learn(&others);
    scene.judge()?;
    Ok(passings.iter().map(|line| passed(line)).collect())
}

fn passed(line: &str) -> (String, u64) {
    let words: Vec<&str> = line.split(' ').collect();
    let ["passed", point, passings] = words[..] else {
        panic!("{line}");
    };
    (point.to_owned(), passings.parse().expect(WHOLE))
}

/// Which passings of a point it dies at.
fn chosen(passings: u64) -> Vec<u64> {
    let is_chosen = |nth: &u64| {
        *nth <= OFTEN || *nth + OFTEN > passings || nth.is_multiple_of(passings.div_ceil(OFTEN))
    };
    (1..=passings).filter(is_chosen).collect()
}

/// Lets a kin die at each passing of each point of each act.
fn at_every_point(cases: &[Case]) {
    let mut failed = Vec::new();
    let mut deaths = 0;
    for (index, case) in cases.iter().enumerate() {
        let points = match run(case, None, None) {
            Ok(points) => points,
            Err(why) => {
                failed.push(format!("{index}, {}: {why}", case.act));
                continue;
            }
        };
        for (point, passings) in points {
            for nth in chosen(passings) {
                deaths += 1;
                if let Err(why) = run(case, Some((&point, nth)), None) {
                    failed.push(format!("{index}, {}, {point} {nth}: {why}", case.act));
                }
            }
        }
    }
    println!("{} acts, {deaths} deaths", cases.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn who_dies_while_it_allocates_or_frees_leaves_nothing_and_keeps_nothing() {
    at_every_point(ALLOCATIONS);
}

#[test]
fn who_dies_while_it_links_or_retires_has_done_all_of_it_or_none() {
    at_every_point(LINKS);
    at_every_point(SPARES);
}

#[test]
fn who_dies_while_it_gives_up_what_it_has_leaves_it_to_others() {
    at_every_point(ENDS);
}

#[test]
fn who_dies_while_it_recovers_another_is_recovered_with_it() {
    at_every_point(RECOVERIES);
}

/// Points of a heap that is made: whole heaps are made and died over by the simulator
/// (`cargo xtask sim`, which fails where it has died at none of them), and not here.
const MAKING: [&str; 3] = ["heap.id_stored", "heap.set_up", "heap.tier_named"];

#[test]
fn every_point_in_the_source_is_died_at() {
    let cases = [ALLOCATIONS, LINKS, SPARES, ENDS, RECOVERIES]
        .into_iter()
        .flatten();
    let passed = cases.flat_map(|case| run(case, None, None).expect(WHOLE));
    let mut passed: BTreeSet<_> = passed.map(|(point, _)| point).collect();
    for point in MAKING {
        assert!(
            passed.insert(point.into()),
            "{point} is passed here as well"
        );
    }
    let found = points::in_sources_of("allocator").into_iter();
    let found: BTreeSet<_> = found.filter(|point| point.starts_with("heap.")).collect();
    assert_eq!(passed, found);
}
