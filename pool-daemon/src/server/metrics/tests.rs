use pool_core::units::MIB;

use super::*;

/// The value of the series that is written exactly so.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let page = metrics.render().unwrap();
    let line = page.lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then(|| value.to_owned())
    })?;
    Some(line.parse().unwrap())
}

fn series(metrics: &Metrics) -> usize {
    let page = metrics.render().unwrap();
    page.lines().filter(|line| !line.starts_with('#')).count()
}

fn mib(count: u64) -> Bytes {
    Bytes::new(count * MIB)
}

#[test]
fn the_uses_of_a_tier_are_shown_beside_its_capacity() {
    let metrics = Metrics::new();
    metrics.tier("ddr").set(TierBytes {
        total: mib(10),
        free: mib(5),
        granted: mib(4),
        quarantined: mib(1),
    });
    let capacity = "tierpool_tier_capacity_bytes{tier=\"ddr\"}";
    assert_eq!(value(&metrics, capacity), Some(10_485_760.0));
    let used: f64 = ["free", "granted", "quarantined"]
        .map(|state| format!("tierpool_tier_bytes{{tier=\"ddr\",state=\"{state}\"}}"))
        .map(|series| value(&metrics, &series).unwrap())
        .iter()
        .sum();
    assert!((used - 10_485_760.0).abs() < 0.5);
}

#[test]
fn requests_are_counted_by_kind_and_outcome() {
    let metrics = Metrics::new();
    for error in [None, None, Some(ErrorClass::Exhausted)] {
        metrics.request("create", error, Nanos::from_millis(2));
    }
    let count = |outcome| {
        let series = format!("tierpool_requests_total{{kind=\"create\",outcome=\"{outcome}\"}}");
        value(&metrics, &series)
    };
    assert_eq!(
        (count("done"), count("exhausted"), count("lost")),
        (Some(2.0), Some(1.0), None)
    );
    let measured = "tierpool_request_seconds_count{kind=\"create\"}";
    assert_eq!(value(&metrics, measured), Some(3.0));
}

#[test]
fn tenants_beyond_the_bound_are_summed_and_none_is_lost() {
    let metrics = Metrics::new();
    let count = TENANTS_SHOWN_MAX as u64 + 10;
    for tenant in 0..count {
        metrics.tenant(&format!("uid-{tenant}"), mib(1));
    }
    metrics.tenant("uid-265", mib(5));
    metrics.tenant("uid-0", mib(3));
    let used = |tenant| {
        let series = format!("tierpool_tenant_used_bytes{{tenant=\"{tenant}\"}}");
        value(&metrics, &series).map(|bytes| bytes / 1_048_576.0)
    };
    assert_eq!(
        (used("uid-0"), used("uid-1"), used("uid-260")),
        (Some(3.0), Some(1.0), None)
    );
    assert_eq!(used("all others"), Some(14.0));
    metrics.forget_tenant("uid-265");
    assert_eq!(used("all others"), Some(9.0));
    for tenant in 0..count {
        metrics.forget_tenant(&format!("uid-{tenant}"));
    }
    assert_eq!((used("uid-1"), used("all others")), (None, None));
}

#[test]
fn the_number_of_series_does_not_grow_with_use() {
    let metrics = Metrics::new();
    let work = || {
        for _ in 0..1_000 {
            metrics.request("open", None, Nanos::new(500));
            metrics.build(None);
            metrics.journal_commit(Nanos::from_millis(1));
            metrics.segments(1 << 20);
            metrics.events_dropped(3);
        }
    };
    work();
    let before = series(&metrics);
    work();
    assert_eq!(series(&metrics), before);
}

#[test]
fn a_page_ends_as_open_metrics_demands() {
    let page = Metrics::new().render().unwrap();
    assert!(page.ends_with("# EOF\n"));
}
