//! Laws of single accesses: closed forms, monotony, conservation, and nothing that panics.

use fabric_emu::timing::{
    Curves, Device, Element, ElementId, Elements, Link, Outcome, Path, PathError, Picos, Rate,
    Share, Stream, Switch, alone, little, md1, mixed, solve,
};
use proptest::prelude::*;

const GB: u64 = 1_000_000_000;

fn device(read: u64, write: u64) -> Device {
    Device {
        controller: Picos::from_nanos(135),
        media_read: Picos::from_nanos(30),
        media_write: Picos::from_nanos(40),
        read: Rate::new(read),
        write: Rate::new(write),
        bulk_read: Rate::new(read),
        bulk_write: Rate::new(write),
        channels: 2,
        access: 64,
        curves: None,
    }
}

fn link(rate: u64) -> Element {
    let rate = Rate::new(rate);
    Element::Link(Link {
        propagation: Picos::from_nanos(10),
        up: rate,
        down: rate,
    })
}

fn switch(rate: u64) -> Element {
    let cut_through = Picos::from_nanos(150);
    Element::Switch(Switch {
        cut_through,
        capacity: Rate::new(rate),
        channels: 4,
    })
}

/// Two hosts with a link each, a switch, a link and a device behind it, and another device.
fn fabric(rates: [u64; 6]) -> Elements {
    let mut elements = Elements::new(Share::from_permille(980));
    let [first, second, middle, last, read, write] = rates;
    elements.add(link(first));
    elements.add(link(second));
    elements.add(switch(middle));
    elements.add(link(last));
    elements.add(Element::Device(device(read, write)));
    elements.add(Element::Device(device(read, write)));
    elements
}

const USUAL: [u64; 6] = [28 * GB, 28 * GB, 200 * GB, 28 * GB, 21 * GB, 20 * GB];

fn path(host: usize) -> Path {
    let hops = [host, 2, 3].map(ElementId).to_vec();
    Path {
        host: Picos::from_nanos(45),
        hops,
        device: ElementId(4),
    }
}

fn stream(path: Path, demand: u64, permille: u64, mlp: u32) -> Stream {
    Stream {
        path,
        demand: Rate::new(demand),
        reads: Share::from_permille(permille),
        mlp,
    }
}

/// Bytes under way, from what came out.
fn under_way(outcome: Outcome) -> u128 {
    u128::from(outcome.rate.get()) * u128::from(outcome.latency.get()) / 1_000_000_000_000
}

#[test]
fn the_wait_of_an_md1_queue_is_its_closed_form() {
    let service = Picos::from_nanos(10);
    let cap = Share::from_permille(980);
    // rho s / (2 (1 - rho)) at 0, 1/2, 4/5, 9/10 and the cap.
    for (permille, picos) in [(0, 0), (500, 5_000), (800, 20_000), (900, 45_000)] {
        let wait = md1(Share::from_permille(permille), service, cap).get();
        assert!(wait.abs_diff(picos) <= 1, "{permille}: {wait}");
    }
    let capped = md1(cap, service, cap);
    assert!(capped.get().abs_diff(245_000) <= 1, "{capped}");
    assert_eq!(md1(Share::MAX, service, cap), capped);
    assert_eq!(md1(Share::ONE, service, Share::ONE), Picos::MAX);
}

#[test]
fn accesses_under_way_bound_the_rate() {
    assert_eq!(
        little(10, 64, Picos::from_nanos(100)),
        Rate::new(6_400_000_000)
    );
    assert_eq!(little(0, 64, Picos::ZERO), Rate::ZERO);
    let elements = fabric([u64::MAX; 6]);
    // Nothing queues: 45 + 3 * 20 + 280 + 165 ns, and each of 16 accesses takes that long.
    let outcome = alone(&elements, &stream(path(0), u64::MAX, 1000, 16)).unwrap();
    let unloaded = 45 + 20 + 300 + 20 + 165;
    assert_eq!(outcome.latency.get() / 1000, unloaded);
    assert_eq!(
        outcome.rate.get(),
        16 * 64 * 1_000_000_000_000 / (unloaded * 1000)
    );
}

#[test]
fn a_mix_takes_the_time_of_its_parts() {
    let device = device(30 * GB, 20 * GB);
    assert_eq!(mixed(&device, Share::ONE), Rate::new(30 * GB));
    assert_eq!(mixed(&device, Share::ZERO), Rate::new(20 * GB));
    // 1 / (1/60 + 1/40) = 24.
    let half = mixed(&device, Share::from_permille(500));
    assert!(half.get().abs_diff(24 * GB) <= 1, "{half}");
    let nothing = Device {
        write: Rate::ZERO,
        ..device
    };
    assert_eq!(mixed(&nothing, Share::from_permille(500)), Rate::ZERO);
}

#[test]
fn reads_and_writes_do_not_wait_for_each_other_on_a_link() {
    // The link alone is narrow: half reads and half writes move twice what reads move.
    let elements = fabric([10 * GB, GB, u64::MAX, u64::MAX, u64::MAX, u64::MAX]);
    let rate = |permille| {
        let stream = stream(path(0), u64::MAX, permille, 10_000);
        solve(&elements, &[stream]).unwrap().streams[0].rate.get()
    };
    assert!(rate(1000).abs_diff(10 * GB) < GB / 1000);
    assert!(rate(500).abs_diff(20 * GB) < GB / 1000);
}

#[test]
fn a_measured_curve_is_followed_and_joined_by_straight_lines() {
    let nanos = Picos::from_nanos;
    let share = Share::from_permille;
    let curve = |top| {
        vec![
            (share(0), nanos(0)),
            (share(500), nanos(10)),
            (share(1000), nanos(top)),
        ]
    };
    let curves = Curves::new(vec![(share(0), curve(210)), (share(1000), curve(110))]).unwrap();
    let near = |wait: Picos, ns: u64| wait.get().abs_diff(ns * 1000) <= 1;
    assert!(near(curves.wait(share(500), share(1000)), 10));
    assert!(near(curves.wait(share(750), share(1000)), 60));
    assert!(near(curves.wait(share(750), share(0)), 110));
    assert!(near(curves.wait(share(750), share(500)), 85));
    assert_eq!(curves.wait(Share::MAX, Share::MAX), nanos(110));
    assert!(Curves::new(Vec::new()).is_err());
    assert!(
        Curves::new(vec![(
            share(0),
            vec![(share(1), nanos(2)), (share(2), nanos(1))]
        )])
        .is_err()
    );

    let mut elements = fabric(USUAL);
    elements.list[4] = Element::Device(Device {
        curves: Some(curves),
        ..device(20 * GB, 20 * GB)
    });
    let local = Path {
        hops: Vec::new(),
        ..path(0)
    };
    let outcome = alone(&elements, &stream(local, 15 * GB, 1000, 10_000)).unwrap();
    assert!(near(outcome.latency, 45 + 165 + 60), "{outcome:?}");
}

#[test]
fn streams_alike_get_the_same_and_full_queues_are_shared() {
    let elements = fabric(USUAL);
    let streams = [0, 1].map(|host| stream(path(host), u64::MAX, 1000, 200));
    let solution = solve(&elements, &streams).unwrap();
    let [first, second] = solution.streams[..] else {
        panic!()
    };
    assert!(first.rate.get().abs_diff(second.rate.get()) < GB / 1000);
    let sum = first.rate.get() + second.rate.get();
    assert!(sum <= 21 * GB && sum > 21 * GB - GB / 100, "{sum}");
    assert!(solution.utilisation(ElementId(4)) > Share::from_permille(999));
    assert!(solution.utilisation(ElementId(3)) < Share::from_permille(800));
    assert_eq!(solution.utilisation(ElementId(5)), Share::ZERO);
    // 200 accesses under way in each, at the latency that both have.
    for outcome in solution.streams {
        assert!(under_way(outcome).abs_diff(200 * 64) < 20, "{outcome:?}");
    }
}

#[test]
fn twice_the_accesses_under_way_get_twice_the_share_of_a_full_device() {
    let elements = fabric(USUAL);
    let local = Path {
        hops: Vec::new(),
        ..path(0)
    };
    let streams = [300, 600].map(|mlp| stream(local.clone(), u64::MAX, 1000, mlp));
    let solution = solve(&elements, &streams).unwrap();
    let [one, two] = solution.streams[..] else {
        panic!()
    };
    assert!(
        (one.rate.get() * 2).abs_diff(two.rate.get()) < GB / 1000,
        "{one:?} {two:?}"
    );
    assert_eq!(one.latency, two.latency);
}

#[test]
fn a_device_makes_wait_by_its_mix_and_a_link_by_its_direction() {
    let mut elements = Elements::new(Share::from_permille(980));
    let narrow = Link {
        propagation: Picos::ZERO,
        up: Rate::new(8 * GB),
        down: Rate::new(16 * GB),
    };
    let link = elements.add(Element::Link(narrow));
    let fast = elements.add(Element::Device(device(u64::MAX, u64::MAX)));
    let slow = elements.add(Element::Device(device(40 * GB, 10 * GB)));
    let waits = |hops: Vec<ElementId>, device, demand, permille| {
        let path = Path {
            host: Picos::ZERO,
            hops,
            device,
        };
        let stream = stream(path.clone(), demand, permille, 10_000);
        let unloaded = elements.unloaded(&path, stream.reads).unwrap();
        let together = solve(&elements, core::slice::from_ref(&stream))
            .unwrap()
            .streams[0];
        let outcome = alone(&elements, &stream).unwrap();
        assert!(outcome.latency.get().abs_diff(together.latency.get()) <= 2);
        outcome.latency.saturating_sub(unloaded).get()
    };
    let near = |wait: u64, picos: u64| assert!(wait.abs_diff(picos) <= 4, "{wait} {picos}");
    // Half busy: half a service. Two channels of 64 bytes at 40 and at 10 GB/s.
    near(waits(vec![], slow, 20 * GB, 1000), 1_600);
    near(waits(vec![], slow, 5 * GB, 0), 6_400);
    // Half of each has 1 / (1/80 + 1/20) = 16 GB/s, hence a service of 8 ns.
    near(waits(vec![], slow, 8 * GB, 500), 4_000);
    // A link: 64 bytes at 8 GB/s up and at 16 GB/s down, each half busy.
    near(waits(vec![link], fast, 4 * GB, 1000), 4_000);
    near(waits(vec![link], fast, 8 * GB, 0), 2_000);
    // Half reads of 8 GB/s: up half busy, down a quarter: the mean of 4 and of 2/3 ns.
    near(waits(vec![link], fast, 8 * GB, 500), 2_333);
}

#[test]
fn the_same_question_has_the_same_answer_on_every_machine() {
    let streams = [
        stream(path(0), 30 * GB, 700, 150),
        stream(path(1), 9 * GB, 300, 400),
        stream(
            Path {
                device: ElementId(5),
                ..path(1)
            },
            4 * GB,
            1000,
            50,
        ),
    ];
    let solution = solve(&fabric(USUAL), &streams).unwrap();
    let found: Vec<_> = solution
        .streams
        .iter()
        .map(|one| (one.rate.get(), one.latency.get()))
        .collect();
    assert_eq!(found, PINNED);
}

/// What came out once. The device of the first two is full: its reads are 10.76 of 21 GB/s and its
/// writes 9.75 of 20 GB/s, and 150 accesses of 64 bytes are under way in the first.
const PINNED: [(u64, u64); 3] = [
    (11_512_309_777, 833_890),
    (9_000_000_000, 837_593),
    (4_000_000_000, 552_438),
];

#[test]
fn a_long_way_is_settled_as_well_as_a_short_one() {
    let mut elements = Elements::new(Share::from_permille(980));
    let hops: Vec<_> = (0..12)
        .map(|place| {
            elements.add(if place % 2 == 0 {
                link(20 * GB)
            } else {
                switch(20 * GB)
            })
        })
        .collect();
    let device = elements.add(Element::Device(device(20 * GB, 20 * GB)));
    for mlp in [50, 500, 1000, 5000] {
        let hops = hops.clone();
        let long = Path {
            host: Picos::ZERO,
            hops,
            device,
        };
        let stream = stream(long, u64::MAX, 1000, mlp);
        let one = alone(&elements, &stream).unwrap();
        let [all] = solve(&elements, &[stream]).unwrap().streams[..] else {
            panic!()
        };
        assert!(
            one.rate.get().abs_diff(all.rate.get()) <= one.rate.get() / 200,
            "{one:?} {all:?}"
        );
    }
}

#[test]
fn many_full_links_in_a_row_are_settled_with_the_streams_that_cross_them() {
    let mut elements = Elements::new(Share::from_permille(980));
    let links = [10, 12, 9, 11, 10, 10].map(|rate| elements.add(link(rate * GB)));
    let device = elements.add(Element::Device(device(200 * GB, 200 * GB)));
    let over = |hops: &[ElementId], mlp| {
        let path = Path {
            host: Picos::from_nanos(100),
            hops: hops.to_vec(),
            device,
        };
        stream(path, u64::MAX, 1000, mlp)
    };
    // One over all, one over each half, and one on each.
    let mut streams = vec![
        over(&links, 900),
        over(&links[..3], 300),
        over(&links[3..], 50),
    ];
    let each = links.iter().zip([100, 170, 240, 310, 380, 450]);
    streams.extend(each.map(|(link, mlp)| over(core::slice::from_ref(link), mlp)));
    let solution = solve(&elements, &streams).unwrap();
    for (stream, outcome) in streams.iter().zip(&solution.streams) {
        let window = 64 * u128::from(stream.mlp);
        assert!(
            (under_way(*outcome) + 1) * 1000 >= window * 995,
            "{stream:?} {outcome:?}"
        );
    }
    for link in links {
        assert!(solution.utilisation(link) > Share::from_permille(995));
    }
}

#[test]
fn a_path_that_is_none_is_refused() {
    let elements = fabric(USUAL);
    let bad_device = Path {
        device: ElementId(3),
        ..path(0)
    };
    let bad_hop = Path {
        hops: vec![ElementId(4)],
        ..path(0)
    };
    let lost_hop = Path {
        hops: vec![ElementId(usize::MAX)],
        ..path(0)
    };
    let refused = |path| solve(&elements, &[stream(path, 1, 1, 1)]).unwrap_err();
    assert_eq!(refused(bad_device), PathError::Device(3));
    assert_eq!(refused(bad_hop), PathError::Hop(4));
    assert_eq!(refused(lost_hop), PathError::Hop(usize::MAX));
    assert_eq!(solve(&elements, &[]).unwrap().streams, []);
    assert!(alone(&Elements::new(Share::ONE), &stream(path(0), 1, 1, 1)).is_err());
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        0..100_u64,
        0..100 * GB,
        any::<u64>()
    ]
}

fn any_stream() -> impl Strategy<Value = Stream> {
    let hops = proptest::collection::vec(0..4_usize, 0..4);
    let mlp = prop_oneof![Just(0), Just(u32::MAX), 0..400_u32];
    (hops, 4..6_usize, number(), number(), number(), mlp).prop_map(
        |(hops, device, host, demand, reads, mlp)| Stream {
            path: Path {
                host: Picos::new(host),
                hops: hops.into_iter().map(ElementId).collect(),
                device: ElementId(device),
            },
            demand: Rate::new(demand),
            reads: Share::from_parts(reads),
            mlp,
        },
    )
}

/// Streams as they are in use.
fn usual_stream() -> impl Strategy<Value = Stream> {
    (0..2_usize, 4..6_usize, 0..40 * GB, 0..=10_u64, 1..600_u32).prop_map(
        |(host, device, demand, tenths, mlp)| {
            let path = Path {
                device: ElementId(device),
                ..path(host)
            };
            stream(path, demand, tenths * 100, mlp)
        },
    )
}

/// Bytes a second on each direction of each link, and through the switch, counted apart.
fn carried(streams: &[Stream], outcomes: &[Outcome]) -> Vec<[u128; 2]> {
    let mut sums = vec![[0_u128; 2]; 6];
    for (stream, outcome) in streams.iter().zip(outcomes) {
        let rate = u128::from(outcome.rate.get());
        let reads = u128::from(stream.reads.parts().min(1 << 32));
        for hop in &stream.path.hops {
            // Rounded down on each, so that a stream counts no more than it may.
            sums[hop.0][0] += (rate * reads) >> 32;
            sums[hop.0][1] += (rate * ((1 << 32) - reads)) >> 32;
        }
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_queue_carries_more_than_it_can_whatever_is_asked(
        rates in proptest::array::uniform6(number()),
        streams in proptest::collection::vec(any_stream(), 0..6),
    ) {
        let elements = fabric(rates);
        let solution = solve(&elements, &streams).unwrap();
        prop_assert_eq!(&solution, &solve(&elements, &streams).unwrap());
        for (stream, outcome) in streams.iter().zip(&solution.streams) {
            prop_assert!(outcome.rate <= stream.demand);
            prop_assert!(outcome.latency >= elements.unloaded(&stream.path, stream.reads).unwrap());
            prop_assert!(under_way(*outcome) <= 64 * u128::from(stream.mlp));
            alone(&elements, stream).unwrap();
        }
        for element in 0..6 {
            prop_assert!(solution.utilisation(ElementId(element)) <= Share::ONE);
        }
        for (sums, place) in carried(&streams, &solution.streams).iter().zip(0..4) {
            let total = sums[0].max(sums[1]).max(if place == 2 { sums[0] + sums[1] } else { 0 });
            prop_assert!(total <= u128::from(rates[place]), "{}: {:?}", place, sums);
        }
    }

    #[test]
    fn more_demand_alone_is_never_a_lower_rate_or_a_shorter_latency(
        stream in usual_stream(), more in 1..20 * GB,
    ) {
        let elements = fabric(USUAL);
        let less = alone(&elements, &stream).unwrap();
        let demand = Rate::new(stream.demand.get() + more);
        let more = alone(&elements, &Stream { demand, ..stream }).unwrap();
        prop_assert!(more.rate >= less.rate && more.latency >= less.latency);
    }

    #[test]
    fn more_lanes_are_never_slower(
        stream in usual_stream(), lanes in 1..16_u64, more in 1..16_u64,
    ) {
        let narrow = fabric([lanes * GB, lanes * GB, 200 * GB, lanes * GB, 21 * GB, 20 * GB]);
        let wide = lanes + more;
        let wide = fabric([wide * GB, wide * GB, 200 * GB, wide * GB, 21 * GB, 20 * GB]);
        let slow = alone(&narrow, &stream).unwrap();
        let fast = alone(&wide, &stream).unwrap();
        prop_assert!(fast.rate >= slow.rate, "{:?} {:?}", slow, fast);
        // A higher rate may wait longer at the device; at one rate, nothing waits longer.
        let slow = alone(&narrow, &Stream { demand: slow.rate, ..stream.clone() }).unwrap();
        let fast = alone(&wide, &Stream { demand: slow.rate, ..stream }).unwrap();
        prop_assert!(fast.latency <= slow.latency, "{:?} {:?}", slow, fast);
    }

    #[test]
    fn alone_and_together_agree_on_one_stream(stream in usual_stream()) {
        let elements = fabric(USUAL);
        let one = alone(&elements, &stream).unwrap();
        let all = solve(&elements, &[stream]).unwrap().streams[0];
        prop_assert!(one.rate.get().abs_diff(all.rate.get()) <= one.rate.get() / 1000 + 1);
        // Near the demand the latency may be anything between that of the queues and of the window.
        let near = one.latency.get() / 200 + 10;
        prop_assert!(
            one.latency.get().abs_diff(all.latency.get()) <= near, "{:?} {:?}", one, all
        );
    }

    #[test]
    fn more_demand_of_another_never_gives_a_stream_more_of_what_they_share(
        mut streams in proptest::collection::vec(usual_stream(), 2..5), more in GB..20 * GB,
    ) {
        // All at one device with one share of reads: the case in which the outcome is unique.
        for stream in &mut streams {
            stream.path.device = ElementId(4);
            stream.path.hops.clear();
            stream.reads = Share::ONE;
        }
        let elements = fabric(USUAL);
        let before = solve(&elements, &streams).unwrap();
        streams[0].demand = Rate::new(streams[0].demand.get() + more);
        let after = solve(&elements, &streams).unwrap();
        let slack = |amount: u64| amount / 1000 + 10;
        for (old, new) in before.streams.iter().zip(&after.streams) {
            prop_assert!(new.latency.get() + slack(old.latency.get()) >= old.latency.get());
        }
        for (old, new) in before.streams.iter().zip(&after.streams).skip(1) {
            prop_assert!(new.rate.get() <= old.rate.get() + slack(old.rate.get()));
        }
        let (old, new) = (before.streams[0].rate.get(), after.streams[0].rate.get());
        prop_assert!(new + slack(new) >= old);
    }

    #[test]
    fn what_is_held_back_fills_its_window(
        streams in proptest::collection::vec(usual_stream(), 1..6),
    ) {
        let solution = solve(&fabric(USUAL), &streams).unwrap();
        for (stream, outcome) in streams.iter().zip(&solution.streams) {
            let window = 64 * u128::from(stream.mlp);
            let fills = (under_way(*outcome) + 1) * 1000 >= window * 995;
            let enough = u128::from(outcome.rate.get()) * 1000
                >= u128::from(stream.demand.get()) * 995;
            prop_assert!(fills || enough, "{:?}", outcome);
        }
    }
}
