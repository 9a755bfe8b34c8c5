//! Laws of the rows for tables and charts, and of the figures beside which they are put.

use fabric_emu::timing::curves::{Scene, classes, has_link};
use fabric_emu::timing::published::{Amount, Basis, Figure, Point, published};
use fabric_emu::timing::{ElementId, Picos, Rate, Share, Table};

#[test]
fn latency_rises_with_load_and_load_is_carried_until_it_cannot_be() {
    let table = Table::embedded().unwrap();
    for (class, switches) in [
        ("ddr", 0),
        ("hbm", 0),
        ("cxl-x8", 0),
        ("cxl-x16", 1),
        ("nvme", 0),
    ] {
        let scene = Scene::switched(&table, class, 1, switches).unwrap();
        for reads in [Share::ZERO, Share::from_permille(670), Share::ONE] {
            let rows = scene.loaded(reads, 100_000).unwrap();
            assert_eq!(rows.len(), 10);
            assert!(
                rows.iter().all(|row| row.outcome.rate == row.offered),
                "{class}"
            );
            assert!(rows.is_sorted_by_key(|row| row.outcome.latency), "{class}");
            assert!(rows[0].outcome.latency >= scene.unloaded(reads).unwrap());
            let few = scene.loaded(reads, 1).unwrap();
            assert!(
                few.iter()
                    .zip(&rows)
                    .all(|(few, many)| few.outcome.rate <= many.outcome.rate)
            );
        }
    }
}

#[test]
fn a_switch_adds_its_time_and_that_of_one_more_link_both_ways() {
    let table = Table::embedded().unwrap();
    let unloaded = |switches| {
        let scene = Scene::switched(&table, "cxl-x8", 1, switches).unwrap();
        scene.unloaded(Share::ONE).unwrap().get() / 1000
    };
    assert_eq!([0, 1, 2].map(unloaded), [230, 550, 870]);
}

#[test]
fn no_mix_is_more_than_the_media_can() {
    let table = Table::embedded().unwrap();
    for class in ["ddr", "cxl-x8", "cxl-x16", "nvme"] {
        let rows = Scene::direct(&table, class)
            .unwrap()
            .mixes(100_000)
            .unwrap();
        for row in rows {
            assert!(row.outcome.rate <= row.media, "{class} {row:?}");
            assert!(
                row.outcome.rate.get() > row.media.get() / 1000 * 990,
                "{class} {row:?}"
            );
        }
    }
}

#[test]
fn a_second_host_takes_nothing_until_the_device_is_full_and_half_of_it_then() {
    let table = Table::embedded().unwrap();
    let scene = Scene::switched(&table, "cxl-x8", 2, 1).unwrap();
    let rows = scene.contended(Share::ONE, 1000).unwrap();
    assert_eq!(rows.len(), 10);
    for row in &rows {
        let [first, second] = row.together.streams[..] else {
            panic!()
        };
        assert!(first.rate.get().abs_diff(second.rate.get()) < 1_000_000_000 / 100);
        assert!(
            first.latency.get() + 10 >= row.alone.latency.get(),
            "{row:?}"
        );
        assert!(first.rate.saturating_add(second.rate) <= Rate::new(20_800_000_000));
        let busy = row.together.utilisation(scene.paths[0].device);
        let wanted = row.offered.times(2).get().min(20_800_000_000);
        assert!(
            busy >= Share::ratio(wanted / 1000 * 999, 20_800_000_000),
            "{row:?}"
        );
        assert_eq!(row.together.utilisation(ElementId(usize::MAX)), Share::ZERO);
    }
    let alone = Scene::switched(&table, "cxl-x8", 0, 1).unwrap();
    assert!(alone.unloaded(Share::ONE).is_err(), "no host");
}

#[test]
fn what_was_put_in_comes_out_and_the_rest_is_as_far_off_as_is_told() {
    let figures = published(&Table::embedded().unwrap()).unwrap();
    assert!(figures.len() > 30);
    for figure in &figures {
        assert!(!figure.source.is_empty() && figure.low.number() <= figure.high.number());
        let error = figure.error_tenths();
        let is_exact = figure.low == figure.high;
        if figure.basis == Basis::Input && is_exact {
            assert!(error.abs() <= 15, "{figure:?}");
        }
        // The widest: a pool of few ports, and switch copies of 1 KiB.
        assert!(error.abs() <= 560, "{figure:?}: {error}");
    }
    let predicted = figures
        .iter()
        .filter(|figure| figure.basis == Basis::Predicted);
    assert!(predicted.count() > 10);
}

#[test]
fn an_error_is_told_against_the_middle_and_has_an_end() {
    let of = |low, high, ours| {
        let [low, high, ours] = [low, high, ours].map(|ns| Amount::Time(Picos::new(ns)));
        let figure = Figure {
            what: "",
            source: "",
            low,
            high,
            ours,
            basis: Basis::Predicted,
            class: "ddr",
            switches: 0,
            point: Point::None,
        };
        (figure.error_tenths(), figure.is_within())
    };
    assert_eq!(of(90, 110, 110), (100, true));
    assert_eq!(of(90, 110, 80), (-200, false));
    assert_eq!(of(3, 4, 3), (0, true));
    assert_eq!(of(0, 0, 0), (0, true));
    assert_eq!(of(0, 0, 1), (i64::MAX, false));
    assert_eq!(of(u64::MAX, u64::MAX, 0), (-1000, false));
    assert_eq!(Amount::Ratio(2_169).to_string(), "2.16 x");
}

#[test]
fn every_figure_is_of_a_class_and_what_is_of_a_point_is_what_its_curves_say_there() {
    let table = Table::embedded().unwrap();
    assert!(classes().count() > 8 && classes().any(has_link));
    for figure in published(&table).unwrap() {
        assert!(classes().any(|class| class == figure.class), "{figure:?}");
        let scene = Scene::switched(&table, figure.class, 1, figure.switches).unwrap();
        let most = |reads| scene.most(reads, 1 << 16).unwrap().rate;
        let ours = match figure.point {
            Point::IdleRead => Amount::Time(scene.unloaded(Share::ONE).unwrap()),
            Point::MostReads => Amount::Rate(most(Share::ONE)),
            Point::MostWrites => Amount::Rate(most(Share::ZERO)),
            Point::None => continue,
        };
        assert_eq!(figure.ours, ours, "{figure:?}");
    }
}
