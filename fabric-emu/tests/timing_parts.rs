//! Laws of amounts, of buckets and load levels, of tails and of debt.

use fabric_emu::timing::{
    Bucket, Debt, LoadLevel, Mode, NotYet, Picos, Rate, Sampled, Share, Table, Tail,
    TailParameters, ld_rate,
};
use proptest::prelude::*;

#[test]
fn amounts_end_at_the_end_of_their_numbers() {
    assert_eq!(Picos::MAX.saturating_add(Picos::new(1)), Picos::MAX);
    assert_eq!(Picos::MAX.checked_add(Picos::new(1)), None);
    assert_eq!(Picos::ZERO.saturating_sub(Picos::MAX), Picos::ZERO);
    assert_eq!(Picos::from_nanos(u64::MAX), Picos::MAX);
    assert_eq!(Picos::MAX.times(2).part(Share::MAX), Picos::MAX);
    assert_eq!(Rate::ZERO.time_of(1), Picos::MAX);
    assert_eq!(Rate::ZERO.time_of(0), Picos::ZERO);
    assert_eq!(Rate::of(1, Picos::ZERO), Rate::MAX);
    assert_eq!(Rate::MAX.bytes_in(Picos::MAX), u64::MAX);
    assert_eq!(Rate::MAX.saturating_add(Rate::MAX).times(3), Rate::MAX);
    assert_eq!(Share::ratio(1, 0), Share::MAX);
    assert_eq!(Share::ratio(0, 0), Share::ZERO);
    assert_eq!(Share::MAX.rest(), Share::ZERO);
    assert_eq!(Share::from_permille(500).of(1000), 500);
    assert_eq!(Share::from_permille(980).permille(), 980);
}

#[test]
fn a_time_and_a_rate_are_written_in_nanoseconds_and_gigabytes() {
    assert_eq!(Picos::new(230_450).to_string(), "230.4 ns");
    assert_eq!(Rate::new(20_809_000_000).to_string(), "20.80 GB/s");
    assert_eq!(Share::from_permille(975).to_string(), "97.5 %");
    assert_eq!(Mode::Debt.to_string(), "debt");
}

#[test]
fn a_bucket_lets_through_its_depth_and_then_its_rate() {
    // 3 bytes a second in a bucket of 4.
    let second = |thirds: u64| Picos::new(thirds * 1_000_000_000_000 / 3);
    let mut bucket = Bucket::new(Rate::new(3), 4);
    assert_eq!(bucket.take(Picos::ZERO, 4), Ok(()));
    let NotYet(wait) = bucket.take(Picos::ZERO, 1).unwrap_err();
    assert_eq!(wait, Picos::new(333_333_333_334));
    assert_eq!(
        bucket.take(wait.saturating_sub(Picos::new(1)), 1),
        Err(NotYet(Picos::new(1)))
    );
    assert_eq!(bucket.take(wait, 1), Ok(()));
    assert_eq!(
        bucket.take(Picos::ZERO, 1),
        Err(NotYet(second(1))),
        "no time comes back"
    );
    assert_eq!(
        bucket.take(wait, 1),
        Err(NotYet(second(1))),
        "nor does it pass twice"
    );
    assert_eq!(bucket.take(Picos::MAX, 5), Err(NotYet(Picos::MAX)));
    assert_eq!(bucket.take(Picos::MAX, 4), Ok(()));
    let mut empty = Bucket::new(Rate::ZERO, 1);
    assert_eq!(empty.take(Picos::ZERO, 1), Ok(()));
    assert_eq!(empty.take(Picos::MAX, 1), Err(NotYet(Picos::MAX)));
}

#[test]
fn a_logical_device_gets_the_smaller_of_its_limit_and_its_part() {
    let device = Rate::new(20_000);
    assert_eq!(
        ld_rate(Rate::MAX, Share::from_permille(250), device),
        Rate::new(5_000)
    );
    assert_eq!(
        ld_rate(Rate::new(100), Share::from_permille(250), device),
        Rate::new(100)
    );
    assert_eq!(ld_rate(Rate::MAX, Share::MAX, device), device);
}

#[test]
fn load_levels_begin_at_their_thresholds() {
    let thresholds = Table::embedded().unwrap().thresholds().unwrap();
    let at = |permille| thresholds.level(Share::from_permille(permille));
    let [light, optimal, moderate, severe] = [
        LoadLevel::Light,
        LoadLevel::Optimal,
        LoadLevel::Moderate,
        LoadLevel::Severe,
    ];
    assert_eq!(
        [at(0), at(499), at(500), at(799)],
        [light, light, optimal, optimal]
    );
    assert_eq!(
        [at(800), at(949), at(950), at(2000)],
        [moderate, moderate, severe, severe]
    );
}

fn draws(mut tail: Tail) -> Vec<u64> {
    (0..20_000).map(|_| tail.draw().get()).collect()
}

#[test]
fn a_tail_is_as_rare_and_as_long_as_it_is_told_and_follows_from_seed_and_device() {
    let parameters = Table::embedded().unwrap().tail("cxl-x8").unwrap();
    assert_eq!(parameters.once_in, 1000);
    let of = |seed, device| draws(Tail::of_device(parameters, seed, device));
    let drawn = of(1, 0);
    let slow: Vec<_> = drawn.iter().copied().filter(|more| *more != 0).collect();
    assert!((5..45).contains(&slow.len()), "{}", slow.len());
    assert!(slow.iter().all(|more| (300_000..=800_000).contains(more)));
    assert_eq!(drawn, of(1, 0));
    let places = |drawn: Vec<u64>| -> Vec<usize> {
        drawn
            .iter()
            .enumerate()
            .filter(|(_, more)| **more != 0)
            .map(|(place, _)| place)
            .collect()
    };
    assert_ne!(places(of(1, 0)), places(of(1, 1)));
    assert_ne!(places(of(1, 0)), places(of(2, 0)));
    let none = TailParameters {
        once_in: 0,
        ..parameters
    };
    assert!(
        draws(Tail::of_device(none, 1, 0))
            .iter()
            .all(|more| *more == 0)
    );
    // Often or rarely, each question draws as much: what is slow stays as slow.
    let often = draws(Tail::of_device(
        TailParameters {
            once_in: 500,
            ..parameters
        },
        1,
        0,
    ));
    assert!(
        drawn
            .iter()
            .zip(often)
            .all(|(rare, often)| *rare == 0 || *rare == often)
    );
}

#[test]
fn a_flit_that_is_sent_again_takes_another_round_trip() {
    let once_in = Table::embedded().unwrap().retry_once_in(64).unwrap();
    assert_eq!(once_in, 200_000);
    let round_trip = Picos::from_nanos(22);
    let drawn = draws(Tail::of_link(10, round_trip, 3, 0));
    assert!(drawn.iter().all(|more| *more == 0 || *more == 22_000));
    let retries = drawn.iter().filter(|more| **more != 0).count();
    assert!((1_700..2_300).contains(&retries), "{retries}");
    let all = TailParameters {
        once_in: 1,
        min: Picos::ZERO,
        max: Picos::MAX,
    };
    draws(Tail::of_device(all, u64::MAX, u64::MAX));
}

#[test]
fn debt_is_what_the_accesses_would_have_stalled() {
    let mut debt = Debt::default();
    let sampled = Sampled {
        accesses: 10,
        every: 100,
        mlp: 3,
    };
    let (tier, local) = (Picos::from_nanos(230), Picos::from_nanos(106));
    debt.charge(sampled, tier, local);
    // 1000 accesses, each 124 ns longer, three at once.
    assert_eq!(debt.owed(), Picos::new(41_333_333));
    debt.charge(sampled, local, tier);
    assert_eq!(debt.owed(), Picos::new(41_333_333));
    debt.pay(Picos::new(41_000_000));
    assert_eq!(debt.owed(), Picos::new(333_333));
    debt.pay(Picos::MAX);
    assert_eq!(debt, Debt::default());
    let most = Sampled {
        accesses: u64::MAX,
        every: u32::MAX,
        mlp: 0,
    };
    debt.charge(most, Picos::MAX, Picos::ZERO);
    debt.charge(most, Picos::MAX, Picos::ZERO);
    assert_eq!(debt.owed(), Picos::MAX);
}

#[test]
fn many_small_debts_are_one_large_debt() {
    let (tier, local) = (Picos::new(1_001), Picos::new(1_000));
    let mut debt = Debt::default();
    for _ in 0..30_000 {
        debt.charge(
            Sampled {
                accesses: 1,
                every: 1,
                mlp: 3,
            },
            tier,
            local,
        );
    }
    assert!(debt.owed().get().abs_diff(10_000) <= 1, "{}", debt.owed());
}

proptest! {
    #[test]
    fn a_bucket_never_lets_through_more_than_its_depth_and_its_rate(
        rate in 1..1_000_000_000_000_u64,
        depth in 1..10_000_u64,
        asked in proptest::collection::vec((0..1_000_000_u64, 1..10_000_u64), 1..200),
    ) {
        let mut bucket = Bucket::new(Rate::new(rate), depth);
        let (mut now, mut passed) = (0_u64, 0_u128);
        for (later, bytes) in asked {
            now += later;
            match bucket.take(Picos::new(now), bytes) {
                Ok(()) => passed += u128::from(bytes),
                Err(NotYet(Picos::MAX)) => prop_assert!(bytes > depth),
                Err(NotYet(wait)) => {
                    // It is told to the picosecond when there will be enough.
                    let early = Picos::new(now + wait.get() - 1);
                    prop_assert!(bucket.clone().take(early, bytes).is_err());
                    now += wait.get();
                    prop_assert_eq!(bucket.take(Picos::new(now), bytes), Ok(()));
                    passed += u128::from(bytes);
                }
            }
            let most = u128::from(depth) * 1_000_000_000_000 + u128::from(rate) * u128::from(now);
            prop_assert!(passed * 1_000_000_000_000 <= most);
        }
    }

    #[test]
    fn no_bucket_and_no_amount_panics(
        rate in any::<u64>(), depth in any::<u64>(), now in any::<u64>(), bytes in any::<u64>(),
        parts in any::<u64>(),
    ) {
        let mut bucket = Bucket::new(Rate::new(rate), depth);
        let _ = bucket.take(Picos::new(now), bytes);
        let _ = bucket.take(Picos::MAX, bytes);
        let share = Share::from_parts(parts);
        prop_assert!(share.at_most_one().of(rate) <= rate);
        prop_assert!(Rate::new(rate).part(share.at_most_one()) <= Rate::new(rate));
        let _ = Share::ratio(bytes, depth).saturating_add(share).permille();
        let takes = Rate::new(rate).time_of(bytes);
        prop_assert!(takes == Picos::MAX || Rate::new(rate).bytes_in(takes) >= bytes);
    }
}
