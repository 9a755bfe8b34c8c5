//! How long accesses take in a fabric, beside what the model of the steady state says. All of it is
//! emulated time.

use fabric_emu::fabric::{AccessError, Effect, Event, Fabric, FabricError};
use fabric_emu::id::{HostId, LdId};
use fabric_emu::span::Span;
use fabric_emu::timing::{Picos, Rate, Share, Stream, Table, alone, solve};
use fabric_emu::topology::Topology;
use pool_core::rng::Rng;
use pool_core::units::{GIB, LINE_BYTES};

use super::rig::{BASE, DEVICE, LD, apart, at, fabric, load, steady, store, unloaded, write_back};

const LOADS: u64 = 200_000;

#[test]
fn an_access_that_is_alone_takes_what_the_model_says_to_the_picosecond() {
    for hosts in [1, 4] {
        let mut fabric = fabric(hosts, |_| {});
        let read = unloaded(&fabric, 0, Share::ONE);
        assert_eq!(load(&mut fabric, apart(1), 0, 5), read, "{hosts}");
        assert_eq!(
            store(&mut fabric, apart(2), 0, 6),
            read,
            "the line is brought"
        );
        let write = unloaded(&fabric, 0, Share::ZERO);
        let span = Span::new(at(6), 64).unwrap();
        let flush = Event::Flush {
            host: HostId(0),
            span,
        };
        assert_eq!(
            fabric.step(apart(3), &flush),
            [Effect::Written { took: write }]
        );
        let hit = steady().cache_hit().unwrap();
        store(&mut fabric, apart(4), 0, 7);
        assert_eq!(load(&mut fabric, apart(5), 0, 7), hit);
        assert_eq!(store(&mut fabric, apart(6), 0, 7), hit);
        assert_eq!(
            fabric.step(apart(7), &flush),
            [Effect::Written { took: hit }]
        );
    }
}

/// The mean of what loads of one host take more than where they are alone: of so many loads, each
/// at a time and of a line that `next` says.
fn mean_wait(fabric: &mut Fabric, loads: u64, mut next: impl FnMut() -> (Picos, u64)) -> u64 {
    let alone = unloaded(fabric, 0, Share::ONE).get();
    let mut now = Picos::from_nanos(1);
    let mut sum = 0;
    for _ in 0..loads {
        let (later, line) = next();
        now = now.saturating_add(later);
        sum += load(fabric, now, 0, line).get() - alone;
    }
    sum / loads
}

/// Loads at random times, so many nanoseconds apart in the mean, of lines at random: times that
/// are drawn evenly from a while are those of a Poisson process that has as many in it.
fn at_random(seed: u64, mean: u64) -> impl FnMut() -> (Picos, u64) {
    let mut rng = Rng::new(seed);
    let while_long = LOADS * mean * 1_000;
    let mut times: Vec<_> = (0..LOADS).map(|_| rng.below(while_long)).collect();
    times.sort_unstable();
    let (mut times, mut last) = (times.into_iter(), 0);
    move || {
        let next = times.next().unwrap();
        let later = next - std::mem::replace(&mut last, next);
        (Picos::new(later), rng.below(1 << 30))
    }
}

fn expected(fabric: &Fabric, mean_ns: u64) -> u64 {
    let path = fabric.way(HostId(0), DEVICE, LD).unwrap();
    let stream = Stream {
        path,
        demand: Rate::of(LINE_BYTES, Picos::from_nanos(mean_ns)),
        reads: Share::ONE,
        mlp: 100_000,
    };
    let outcome = alone(fabric.elements(), &stream).unwrap();
    let both = solve(fabric.elements(), &[stream]).unwrap();
    assert!(
        both.streams[0]
            .latency
            .get()
            .abs_diff(outcome.latency.get())
            < 10
    );
    assert_eq!(
        outcome.rate,
        Rate::of(LINE_BYTES, Picos::from_nanos(mean_ns))
    );
    outcome.latency.get() - unloaded(fabric, 0, Share::ONE).get()
}

/// A wide link, so that the device is what is waited for. It carries 13.4 GB/s of 20.8.
#[test]
fn reads_at_random_times_wait_as_long_as_the_steady_state_says() {
    let wide = |topology: &mut Topology| {
        topology.links[0].lanes = 16;
        topology.links[0].gigatransfers = 64;
    };
    for (mean, seed) in [(4, 1), (5, 2), (10, 3)] {
        let mut fabric = fabric(1, wide);
        let wait = mean_wait(&mut fabric, LOADS, at_random(seed, mean));
        let expected = expected(&fabric, mean);
        // 3 %: the mean of 200,000 waits, of which each is like those before it, strays by one or
        // two, and the link behind the device has waits that the steady state counts as if
        // nobody had waited before.
        let stray = wait.abs_diff(expected);
        assert!(
            stray * 33 <= expected,
            "each {mean} ns: {wait} ps, {expected} ps expected"
        );
    }
}

#[test]
fn reads_at_equal_distances_wait_less_than_the_steady_state_says() {
    let mut fabric = fabric(1, |_| {});
    let mut rng = Rng::new(4);
    let apart = Picos::from_nanos(4);
    let wait = mean_wait(&mut fabric, 50_000, || (apart, rng.below(1 << 30)));
    let random = expected(&fabric, 4);
    assert!(
        0 < wait && wait * 5 < random * 4,
        "{wait} ps, {random} ps at random times"
    );
    let mut line = 0;
    let in_turns = || {
        line += 1;
        (apart, line)
    };
    assert_eq!(
        mean_wait(&mut super::rig::fabric(1, |_| {}), 5_000, in_turns),
        0
    );
}

#[test]
fn more_than_can_be_carried_comes_at_the_rate_that_can() {
    let mut fabric = fabric(1, |_| {});
    let now = apart(1);
    let takes: Vec<_> = (0..10_000)
        .map(|line| load(&mut fabric, now, 0, line).get())
        .collect();
    assert!(takes.is_sorted(), "who comes first is served first");
    // The device reads at 20.8 GB/s, and two channels end a line each at a time.
    let all = takes[9_999] - takes[1];
    let ideal = Rate::new(20_800_000_000).time_of(9_998 * LINE_BYTES).get();
    assert!(all.abs_diff(ideal) <= 9_998, "{all} {ideal}");
}

#[test]
fn hosts_wait_for_each_other_at_what_they_share_alone() {
    let mut fabric = fabric(4, |_| {});
    let now = apart(1);
    for line in 0..1_000 {
        load(&mut fabric, now, 1, line);
    }
    let behind = load(&mut fabric, now, 0, 0);
    let mut quiet = super::rig::fabric(4, |_| {});
    let first = load(&mut quiet, now, 0, 0);
    // 1,000 lines at 20.8 GB/s, half of them in its channel.
    let waited = behind.get() - first.get();
    assert!((2_900_000..3_200_000).contains(&waited), "{waited}");
    // Later on it is as it was.
    assert_eq!(load(&mut fabric, apart(9), 0, 1), first);
}

#[test]
fn a_core_has_so_many_lines_under_way_that_it_writes_back() {
    let mut fabric = fabric(1, |topology| topology.hosts[0].cache_lines = 10_000);
    let mut now = apart(1);
    for line in 0..5_000 {
        now = now.saturating_add(store(&mut fabric, now, 0, line));
    }
    let took = write_back(&mut fabric, now, 0, 5_000).get();
    let one = unloaded(&fabric, 0, Share::ZERO).get();
    let core = u64::from(steady().core_accesses().unwrap());
    let at_a_time = 5_000_u64.div_ceil(core) * one;
    assert!(
        (at_a_time..at_a_time * 21 / 20).contains(&took),
        "{took} {at_a_time}"
    );
}

#[test]
fn a_logical_device_moves_no_more_than_its_limit() {
    let limit = Rate::new(2_000_000_000);
    let mut fabric = fabric(4, |topology| topology.memdevs[0].ld_limit = Some(limit));
    let now = apart(1);
    let last = (0..4_000)
        .map(|line| load(&mut fabric, now, 0, line).get())
        .max()
        .unwrap();
    let ideal = limit.time_of(4_000 * LINE_BYTES).get();
    assert!(last.abs_diff(ideal) * 40 < ideal, "{last} {ideal}");
    // What is another one's is as fast as ever.
    let other = load(&mut fabric, now, 1, 0).get();
    assert!(other < ideal / 100, "{other}");
}

#[test]
fn a_line_that_another_host_wrote_takes_the_time_to_have_it_back() {
    let mut topology = Topology::named("two-heads").unwrap();
    for host in &mut topology.hosts {
        host.cache_lines = 64;
    }
    let mut fabric = Fabric::with_table(&topology, 3, &steady()).unwrap();
    let tag = fabric_emu::cci::Tag([1; 16]);
    for host in 0..2 {
        let device = fabric.memdev_mut(DEVICE).unwrap();
        let what = match host {
            0 => fabric_emu::capacity::Selection::Free(2 << 20),
            _ => fabric_emu::capacity::Selection::Shared,
        };
        let (now, ld) = (Picos::ZERO, LdId(host));
        let offered = device.add(now, (ld, 0), &what, tag).unwrap();
        let spans: Vec<_> = offered.iter().map(|extent| extent.span).collect();
        device.answer(now, ld, &spans).unwrap();
        let map = Event::Map {
            host: HostId(host),
            span: Span::new(BASE, 2 << 20).unwrap(),
            memdev: DEVICE,
            ld,
            address: spans[0].start,
        };
        assert_eq!(fabric.step(now, &map), [Effect::Done]);
    }
    let alone = load(&mut fabric, apart(1), 0, 0);
    assert_eq!(load(&mut fabric, apart(2), 1, 0), alone, "nobody wrote it");
    let owned = store(&mut fabric, apart(3), 1, 0);
    // Host 0 lets go of a line that it read: there and back from the device.
    let one_way = Picos::from_nanos(10).get();
    let in_host = Table::embedded().unwrap().host("cxl-x8").unwrap().get();
    assert_eq!(owned.get() - alone.get(), 2 * one_way + in_host);
    let given = load(&mut fabric, apart(4), 0, 0);
    assert!(given > owned, "its data comes along, and is written first");
    assert_eq!(
        load(&mut fabric, apart(5), 1, 0),
        steady().cache_hit().unwrap()
    );
}

#[test]
fn what_takes_longer_now_and_then_does_so_by_the_seed() {
    let run = |seed| {
        let mut topology = Topology::named("expander").unwrap();
        topology.hosts[0].cache_lines = 1;
        let mut fabric = Fabric::new(&topology, seed).unwrap();
        let map = Event::Map {
            host: HostId(0),
            span: Span::new(BASE, GIB).unwrap(),
            memdev: DEVICE,
            ld: LD,
            address: 0,
        };
        fabric.step(Picos::ZERO, &map);
        let unloaded = unloaded(&fabric, 0, Share::ONE);
        let takes = (1..10_000).map(|number| load(&mut fabric, apart(number), 0, number));
        let longer = takes.map(|took| took.saturating_sub(unloaded));
        longer.collect::<Vec<_>>()
    };
    let longer = run(1);
    let slow: Vec<_> = longer.iter().filter(|it| **it > Picos::ZERO).collect();
    assert!(
        (3..30).contains(&slow.len()),
        "one in a thousand: {}",
        slow.len()
    );
    let (min, max) = (Picos::from_nanos(300), Picos::from_nanos(800));
    assert!(slow.iter().all(|it| (min..=max).contains(*it)));
    assert_eq!(run(1), longer);
    assert_ne!(run(2), longer);
}

#[test]
fn an_unknown_class_is_told_with_whose_it_is_and_what_there_is() {
    let refused = |change: &dyn Fn(&mut Topology)| {
        let mut topology = Topology::named("gpu-box").unwrap();
        change(&mut topology);
        match Fabric::new(&topology, 1) {
            Err(error @ FabricError::Class { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let memdev = refused(&|topology| topology.memdevs[0].class = "cxl-x9".to_owned());
    assert!(
        memdev.starts_with("memdev \"expander\": [cxl-x9]"),
        "{memdev}"
    );
    let host = refused(&|topology| topology.hosts[0].memories[1].class = "dram".to_owned());
    assert!(host.starts_with("host \"h0\": [dram]"), "{host}");
    let link = refused(&|topology| topology.links[0].gigatransfers = 7);
    assert!(link.starts_with("link 0: [link-7]"), "{link}");
    for (error, one) in [(memdev, "cxl-x8"), (host, "hbm"), (link, "link-32")] {
        assert!(
            error.contains("allowed: ") && error.contains(one),
            "{error}"
        );
    }
}

#[test]
fn what_fails_takes_no_time_of_others() {
    let mut fabric = fabric(1, |_| {});
    let nowhere = Event::Load {
        host: HostId(0),
        address: 0,
    };
    let failed = [Effect::Failed(AccessError::Unmapped)];
    assert_eq!(fabric.step(apart(1), &nowhere), failed);
    assert_eq!(
        load(&mut fabric, apart(1), 0, 0),
        unloaded(&fabric, 0, Share::ONE)
    );
}
