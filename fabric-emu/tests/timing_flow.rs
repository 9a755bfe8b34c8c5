//! Laws of bulk transfers: fair shares, conservation, ends that do not depend on who looks when.

use std::collections::BTreeSet;

use fabric_emu::timing::{
    Element, Ended, Flow, Path, Picos, Rate, Share, Table, TransferId, Transfers, fair_shares,
    transfer_time,
};
use proptest::prelude::*;

fn flow(uses: &[usize]) -> Flow {
    let uses = uses.iter().map(|place| (*place, Share::ONE)).collect();
    Flow {
        uses,
        limit: Rate::MAX,
    }
}

/// How much of a resource each byte of a flow takes, in parts of 2^32.
fn weight(flow: &Flow, resource: usize) -> u128 {
    let uses = flow.uses.iter().filter(|(place, _)| *place == resource);
    uses.map(|(_, share)| u128::from(share.parts())).sum()
}

fn shares(resources: &[u64], flows: &[Flow]) -> Vec<u64> {
    let resources: Vec<_> = resources.iter().copied().map(Rate::new).collect();
    fair_shares(&resources, flows)
        .into_iter()
        .map(Rate::get)
        .collect()
}

#[test]
fn flows_on_one_resource_share_it_and_the_rest_grow_on() {
    // The textbook case: one long flow over two links, one short flow on each.
    let flows = [flow(&[0, 1]), flow(&[0]), flow(&[1])];
    assert_eq!(shares(&[10, 30], &flows), [5, 5, 25]);
    let limited = Flow {
        limit: Rate::new(2),
        ..flow(&[0])
    };
    assert_eq!(
        shares(&[10, 30], &[flow(&[0, 1]), limited, flow(&[1])]),
        [8, 2, 22]
    );
    assert_eq!(shares(&[], &[]), [0_u64; 0]);
    assert_eq!(shares(&[7], &[flow(&[])]), [u64::MAX]);
    assert_eq!(
        shares(&[7], &[flow(&[0]), flow(&[1])]),
        [7, 0],
        "an unknown resource"
    );
    assert_eq!(shares(&[0, 9], &[flow(&[0, 1]), flow(&[1])]), [0, 9]);
    assert_eq!(shares(&[9], &[flow(&[0, 0]), flow(&[0])]), [3, 3]);
}

#[test]
fn a_transfer_alone_takes_its_first_byte_and_the_rest_at_its_share() {
    let mut transfers = Transfers::new(vec![Rate::new(20_000_000_000)]);
    let id = transfers.start(flow(&[0]), 1 << 21, Picos::from_nanos(550));
    let takes = transfer_time(Picos::from_nanos(550), 1 << 21, Rate::new(20_000_000_000));
    assert_eq!(takes, Picos::new(550_000 + 104_857_600));
    assert_eq!(
        transfers.first_end(),
        Some(Ended {
            at: takes,
            transfer: id
        })
    );
    assert_eq!(transfers.advance(takes.saturating_sub(Picos::new(1))), []);
    assert_eq!(
        transfers.advance(takes),
        [Ended {
            at: takes,
            transfer: id
        }]
    );
    assert_eq!(transfers.first_end(), None);
}

#[test]
fn a_share_grows_when_another_flow_is_through() {
    // 100 bytes/s for two: the short one has 50 and is through after 2 s, with 200 bytes left of
    // the long one, which then has 100: 4 s in all.
    let second = |seconds: u64| Picos::new(seconds * 1_000_000_000_000);
    let mut transfers = Transfers::new(vec![Rate::new(100)]);
    let long = transfers.start(flow(&[0]), 300, Picos::ZERO);
    let short = transfers.start(flow(&[0]), 100, second(1));
    assert_eq!(transfers.share_of(long), Some(Rate::new(50)));
    assert_eq!(
        transfers.first_end(),
        Some(Ended {
            at: second(3),
            transfer: short
        })
    );
    assert_eq!(transfers.advance(second(2)), []);
    assert_eq!(transfers.share_of(long), Some(Rate::new(100)));
    assert_eq!(transfers.share_of(short), None);
    let ends = transfers.advance(second(9));
    let ended = |at, transfer| Ended {
        at: second(at),
        transfer,
    };
    assert_eq!(ends, [ended(3, short), ended(4, long)]);
    assert_eq!(transfers.now(), second(9));
    assert_eq!(transfers.advance(second(1)), [], "time does not go back");
}

#[test]
fn a_transfer_over_nothing_that_moves_never_ends_and_an_empty_one_is_there_at_once() {
    let mut transfers = Transfers::new(vec![Rate::ZERO]);
    transfers.start(flow(&[0]), u64::MAX, Picos::MAX);
    assert_eq!(transfers.first_end(), None);
    assert_eq!(transfers.advance(Picos::MAX), []);
    let mut transfers = Transfers::new(vec![Rate::new(1)]);
    transfers.start(flow(&[0]), u64::MAX, Picos::ZERO);
    assert_eq!(transfers.first_end(), None, "past the end of time");
    let empty = transfers.start(flow(&[0]), 0, Picos::new(7));
    assert_eq!(
        transfers.first_end(),
        Some(Ended {
            at: Picos::new(7),
            transfer: empty
        })
    );
    assert_eq!(transfer_time(Picos::ZERO, 0, Rate::ZERO), Picos::ZERO);
    assert_eq!(transfer_time(Picos::ZERO, 1, Rate::ZERO), Picos::MAX);
}

#[test]
fn transfers_of_two_hosts_share_the_device_and_each_direction_of_a_link_is_its_own() {
    let table = Table::embedded().unwrap();
    let mut elements = table.elements().unwrap();
    let links = [8, 8, 16].map(|lanes| elements.add(Element::Link(table.link(32, lanes).unwrap())));
    let switch = elements.add(Element::Switch(table.switch().unwrap()));
    let device = elements.add(Element::Device(table.device("cxl-x16").unwrap()));
    let path = |host: usize| Path {
        host: Picos::ZERO,
        hops: vec![links[host], switch, links[2]],
        device,
    };
    let flow = |host, reads| elements.flow(&path(host), reads, Rate::MAX).unwrap();
    let rates = |flows: &[Flow]| fair_shares(&elements.resources(), flows);
    let lane = table.link(32, 8).unwrap().up;
    // Each direction of a link of 8 lanes alone, and a device that has less than both together.
    assert_eq!(rates(&[flow(0, Share::ONE)]), [lane]);
    let both = rates(&[flow(0, Share::ONE), flow(1, Share::ONE)]);
    assert_eq!(both, [Rate::new(20_500_000_000); 2]);
    let opposite = rates(&[flow(0, Share::ONE), flow(0, Share::ZERO)]);
    assert!(
        opposite
            .iter()
            .all(|rate| *rate > Rate::new(20_500_000_000)),
        "{opposite:?}"
    );
    assert!(
        elements
            .flow(
                &Path {
                    device: switch,
                    ..path(0)
                },
                Share::ONE,
                lane
            )
            .is_err()
    );
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..40_u64, any::<u64>()]
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let share = prop_oneof![Just(1_u64 << 32), 1..1_u64 << 34].prop_map(Share::from_parts);
    let uses = proptest::collection::vec((0..4_usize, share), 1..4);
    (uses, amount()).prop_map(|(uses, limit)| Flow {
        uses,
        limit: Rate::new(limit),
    })
}

/// Of all ways to share in whole numbers, the best by its shares in rising order: what max-min
/// means. Only for numbers that are small.
fn best_by_trial(resources: &[u64], flows: &[Flow]) -> Vec<u64> {
    let mut best: Vec<u64> = vec![0; flows.len()];
    let mut trial = best.clone();
    let most = resources.iter().copied().max().unwrap_or(0);
    loop {
        let fits = resources.iter().enumerate().all(|(resource, &rate)| {
            let users = flows
                .iter()
                .zip(&trial)
                .filter(|(flow, _)| weight(flow, resource) != 0);
            users.map(|(_, share)| share).sum::<u64>() <= rate
        });
        let limits = flows
            .iter()
            .zip(&trial)
            .all(|(flow, share)| *share <= flow.limit.get());
        let sorted = |shares: &[u64]| {
            let mut shares = shares.to_vec();
            shares.sort_unstable();
            shares
        };
        if fits && limits && sorted(&trial) > sorted(&best) {
            best.clone_from(&trial);
        }
        let Some(place) = trial.iter().position(|share| *share < most) else {
            return best;
        };
        trial[..place].fill(0);
        trial[place] += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn shares_fit_and_each_is_held_by_a_full_resource_or_its_limit(
        resources in proptest::collection::vec(amount(), 4),
        flows in proptest::collection::vec(any_flow(), 0..9),
    ) {
        let found = shares(&resources, &flows);
        prop_assert_eq!(&found, &shares(&resources, &flows));
        let users = |resource: usize| {
            let all = flows.iter().zip(&found);
            all.map(move |(flow, share)| (weight(flow, resource), *share))
                .filter(|(weight, _)| *weight != 0)
        };
        let left = |resource: usize| {
            let taken = users(resource).map(|(weight, share)| weight * u128::from(share));
            (u128::from(resources[resource]) << 32).checked_sub(taken.sum())
        };
        for resource in 0..resources.len() {
            prop_assert!(left(resource).is_some(), "{}: {:?}", resource, found);
        }
        // A flow cannot grow, but by rounding, unless one that has no more than it shrinks.
        for (flow, share) in flows.iter().zip(&found) {
            let is_held = flow.uses.iter().any(|&(one, _)| {
                let all: u128 = users(one).map(|(weight, _)| weight).sum();
                left(one).is_some_and(|left| left < all)
                    && users(one).all(|(_, other)| other <= *share)
            });
            prop_assert!(is_held || *share == flow.limit.get(), "{:?} {:?}", flow, found);
        }
    }

    #[test]
    fn shares_are_the_best_of_all_where_they_come_out_whole(
        resources in proptest::collection::vec(0..4_u64, 3),
        uses in proptest::collection::vec(proptest::collection::vec(0..3_usize, 1..3), 1..4),
        limits in proptest::collection::vec(0..16_u64, 4),
    ) {
        // A rate of sixes can be halved and be parted in three, so shares often come out whole.
        let flows: Vec<_> = uses.iter().zip(&limits).map(|(uses, limit)| Flow {
            uses: uses.iter().collect::<BTreeSet<_>>().into_iter()
                .map(|place| (*place, Share::ONE)).collect(),
            limit: Rate::new(*limit),
        }).collect();
        let resources: Vec<_> = resources.iter().map(|rate| rate * 6).collect();
        let found = shares(&resources, &flows);
        let is_whole = resources.iter().enumerate().all(|(resource, rate)| {
            let users: Vec<_> = flows.iter().zip(&found)
                .filter(|(flow, _)| weight(flow, resource) != 0).collect();
            let sum: u64 = users.iter().map(|(_, share)| **share).sum();
            let left = rate - sum;
            left == 0 || left >= users.len() as u64
        });
        if is_whole {
            prop_assert_eq!(best_by_trial(&resources, &flows), found);
        }
    }

    #[test]
    fn the_ends_do_not_depend_on_how_often_the_time_is_advanced(
        sizes in proptest::collection::vec((1..100_000_u64, any_flow(), 0..5_000_u64), 1..6),
        stops in proptest::collection::vec(0..400_000_000_u64, 0..40),
    ) {
        let run = |stops: &[u64]| {
            let rates = [3_000_000_000, 1_000_000_007, 2_500_000_001, 999_999_937];
            let mut transfers = Transfers::new(rates.map(Rate::new).to_vec());
            for (bytes, flow, first) in &sizes {
                let flow = Flow { limit: Rate::MAX, ..flow.clone() };
                transfers.start(flow, *bytes, Picos::new(*first));
            }
            let mut ends = Vec::new();
            for stop in stops {
                ends.extend(transfers.advance(Picos::new(*stop)));
            }
            while let Some(first) = transfers.first_end() {
                let ended = transfers.advance(first.at);
                assert_eq!(ended.first(), Some(&first), "it was told before");
                ends.extend(ended);
            }
            ends
        };
        let mut stops = stops;
        stops.sort_unstable();
        let ends = run(&stops);
        prop_assert_eq!(&ends, &run(&[]));
        prop_assert_eq!(ends.len(), sizes.len());
        prop_assert!(ends.is_sorted());
        // None is faster than it would be alone, and all bytes of one resource take their time.
        for (index, (bytes, flow, first)) in sizes.iter().enumerate() {
            let ended = ends.iter().find(|end| end.transfer == TransferId(index as u64)).unwrap();
            let rates = [3_000_000_000, 1_000_000_007, 2_500_000_001, 999_999_937];
            let alone = flow.uses.iter().map(|(one, share)| {
                // A byte more a second for the share that is rounded down.
                let rate = Rate::new(Share::ratio(rates[*one], share.parts()).parts());
                transfer_time(Picos::new(*first), *bytes, rate)
            }).max().unwrap();
            prop_assert!(ended.at >= alone);
        }
    }

    #[test]
    fn extreme_transfers_neither_wrap_nor_panic(
        resources in proptest::collection::vec(amount(), 0..4),
        flows in proptest::collection::vec((any_flow(), amount(), amount()), 0..5),
        stops in proptest::collection::vec(amount(), 0..5),
    ) {
        let mut transfers = Transfers::new(resources.into_iter().map(Rate::new).collect());
        for (flow, bytes, first) in flows {
            transfers.start(flow, bytes, Picos::new(first));
        }
        let _ = transfers.first_end();
        for stop in stops {
            transfers.advance(Picos::new(stop));
            prop_assert!(transfers.now() >= Picos::new(stop));
        }
    }
}
