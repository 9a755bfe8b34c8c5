//! What the figures of campaigns come to.

use super::*;

const OUTPUT: &str = "running 2 tests\n\
    campaign 3: a_share, Half: 4 points, 7 deaths, 28 in recoveries from them\n\
    test a_share ... ok\n\
    test a_seal ... campaign 3: a_seal, Full: 2 points, 3 deaths, 12 in recoveries from them\n\
    campaign 5: mmap: 9 calls failed once each with ENOMEM\n\
    campaign 3: points of the daemon: 16 of 17 reached\n";

#[test]
fn figures_are_found_wherever_the_harness_puts_them_and_added_up() {
    let told = told_in(OUTPUT, 3);
    assert_eq!(told.len(), 3);
    assert_eq!(told[1].what, "a_seal, Full");
    assert_eq!(sum_before(&told, "deaths"), 10);
    assert_eq!(sum_before(&told, "in"), 40);
    assert_eq!(reached(&told), Some((16, 17)));
    assert_eq!(sum_before(&told_in(OUTPUT, 5), "calls"), 9);
    assert_eq!(reached(&told_in(OUTPUT, 5)), None);
}

/// What the tests of campaign 3 tell of so many operations in each of some pools.
fn of_pools(fills: &[&str], operations: usize, deaths: u64, points: &str) -> Vec<Told> {
    let line = |what, figures| Told { what, figures };
    let mut told = vec![line("points of the daemon".to_owned(), points.to_owned())];
    for fill in fills {
        let again = deaths * DEATHS_IN_RECOVERY;
        let figures = format!("6 points, {deaths} deaths, {again} in recoveries from them");
        told.extend((0..operations).map(|n| line(format!("op {n}, {fill}"), figures.clone())));
    }
    told
}

#[test]
fn crash_points_are_enough_where_each_pool_and_all_points_were_died_at() {
    let all = "17 of 17 reached";
    let is_enough = |told: &[Told]| crash_points_of(told, true).is_enough;
    assert!(is_enough(&of_pools(&FILLS, 24, 6, all)));
    assert!(!crash_points_of(&of_pools(&FILLS, 24, 6, all), false).is_enough);
    assert!(!is_enough(&of_pools(&FILLS, 24, 6, "16 of 17 reached")));
    assert!(!is_enough(&of_pools(&FILLS, 24, 6, "0 of 0 reached")));
    assert!(
        !is_enough(&of_pools(&FILLS[..2], 24, 6, all)),
        "none is full"
    );
    assert!(
        !is_enough(&of_pools(&FILLS, 23, 7, all)),
        "an operation less"
    );
    assert!(!is_enough(&of_pools(&FILLS, 24, 5, all)), "too few deaths");
}

#[test]
fn failed_calls_are_enough_where_none_of_the_kinds_and_few_of_the_calls_are_less_than_before() {
    let told = |kinds: usize, end: &str, figures: &str| {
        let told = (0..kinds).map(|n| Told {
            what: format!("{n}{end}"),
            figures: figures.to_owned(),
        });
        told.collect::<Vec<_>>()
    };
    let once = |kinds, calls: u64| told(kinds, "", &format!("{calls} calls failed once each"));
    let for_good = |kinds, runs: u64| {
        let mut lines = told(kinds, " for good", &format!("EIO: {runs} runs, 0 lived"));
        lines.extend(told(5, CLIENT, "EIO: 20 runs of a program; 1 done"));
        lines.push(Told {
            what: ALLOCATION.to_owned(),
            figures: "100 runs, 90 died".to_owned(),
        });
        lines
    };
    let is_enough = |once: &[Told], for_good: &[Told]| {
        let ran = failed_calls_of(once, for_good, true);
        assert!(!failed_calls_of(once, for_good, false).is_enough);
        ran.is_enough
    };
    assert!(is_enough(&once(15, 53), &for_good(15, 40)));
    assert!(!is_enough(&once(13, 100), &for_good(15, 40)));
    assert!(!is_enough(&once(15, 1), &for_good(15, 40)));
    assert!(!is_enough(&once(15, 53), &for_good(13, 60)));
    assert!(!is_enough(&once(15, 53), &for_good(15, 1)));
    let no_allocation = &for_good(15, 40)[..20];
    assert!(!is_enough(&once(15, 53), no_allocation));
    let daemons = &for_good(15, 40)[..15];
    assert!(!is_enough(&once(15, 53), daemons), "no client");
}

#[test]
fn a_line_tells_what_ran_its_figures_the_plan_and_the_verdict() {
    let line = |missing, outcome: anyhow::Result<bool>| {
        let plan = "10 cases";
        let number = 2;
        let campaign = Campaign {
            number,
            plan,
            missing,
        };
        campaign.line(outcome.map(|is_enough| Ran {
            what: "3 scopes".to_owned(),
            figures: "9 cases".to_owned(),
            is_enough,
        }))
    };
    let begin = "campaign 2: 3 scopes: 9 cases (plan: 10 cases): ";
    let expect = |end: &str, verdict| (format!("{begin}{end}"), verdict);
    let (passes, fails) = (|| Ok(true), || Ok(false));
    assert_eq!(line(None, passes()), expect("pass", Verdict::Pass));
    let part = expect("part, without lines", Verdict::Part("lines"));
    assert_eq!(line(Some("lines"), passes()), part);
    assert_eq!(line(None, fails()), expect("FAIL", Verdict::Fail));
    assert_eq!(line(Some("lines"), fails()), expect("FAIL", Verdict::Fail));
    let (text, verdict) = line(None, Err(anyhow::anyhow!("no JSON")));
    assert_eq!(verdict, Verdict::Fail);
    let expected = "campaign 2: not run to its end: no JSON (plan: 10 cases): FAIL";
    assert_eq!(text, expected);
}

#[test]
fn each_call_that_fails_for_good_takes_one_thing_off_what_is_missing() {
    let campaign = CAMPAIGNS.into_iter().find(|it| it.number == 5);
    let campaign = campaign.expect("it is here");
    let arguments = |each_call| Arguments {
        only: vec![5],
        seeds: 1,
        ops: 1,
        commands: 5,
        each_call,
        planted: Planted::All,
    };
    let is_told = |each_call: bool| {
        let (line, verdict) = campaign.with(&arguments(each_call)).line(Ok(Ran {
            what: "calls".to_owned(),
            figures: "all".to_owned(),
            is_enough: true,
        }));
        assert!(
            matches!(verdict, Verdict::Part(_)) && line.contains("own heap"),
            "{line}"
        );
        line.contains("eleven of twelve")
    };
    assert!(is_told(false) && !is_told(true));
}

#[test]
fn a_campaign_that_is_not_here_is_refused_before_any_runs() {
    assert_eq!(known("16"), Ok(16));
    for text in ["4", "0", "x", ""] {
        assert!(known(text).is_err(), "{text}");
    }
}

#[test]
fn all_bugs_are_asked_for_by_all_and_no_fewer_than_the_plan_asks_for() {
    assert_eq!("all".parse(), Ok(Planted::All));
    assert_eq!("7".parse(), Ok(Planted::Some(7)));
    for text in ["some", "0", "4", "-1"] {
        assert!(text.parse::<Planted>().is_err(), "{text}");
    }
}
