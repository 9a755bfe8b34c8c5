//! The checksum of a unit beside its version, under every schedule. Plain `cargo test` runs each
//! body once.

mod models;

use coherence::recover::{self, Recovered};
use coherence::sum::{self, Digest, Hashing};
use models::{A, B, Unit, explore, spawn};
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed};

/// The hash of contents that are this number.
fn of(number: u64) -> Digest {
    let mut hashing = Hashing::default();
    hashing.add(&number.to_le_bytes());
    hashing.digest()
}

/// Catches: publish.sum_after_version
#[test]
fn whoever_sees_a_version_raised_sees_its_sum() {
    explore(|turned| {
        let unit = Unit::new(turned);
        unit.line.sum.store(of(0).word(0), Relaxed);
        let writer = unit.member(A);
        let grant = writer.try_exclusive(&unit.line).unwrap();
        // As the daemon sees it, which may fence the writer at any moment.
        let seen = spawn(&unit, |unit| {
            let version = unit.line.version.load(Acquire);
            (version, unit.line.sum.load(Relaxed))
        });
        unit.page.write(1);
        writer.set_sum(&unit.line, &grant, of(1)).unwrap();
        let published = writer.release_exclusive(&unit.line, &grant, true);
        assert_eq!(published, Ok(1));
        let (version, sum) = seen.join().unwrap();
        assert!(version == 0 || sum == of(1).word(1), "{version}: {sum:#x}");
        assert_eq!(of(unit.page.read()).word(1), unit.line.sum.load(Relaxed));
        unit.assert_at_rest();
    });
}

/// Catches: publish.stores_sum, publish.reads_sum_relaxed
#[test]
fn a_writer_that_was_fenced_leaves_the_sum_of_what_was_found_good() {
    explore(|turned| {
        let unit = Unit::new(turned);
        unit.line.sum.store(of(0).word(0), Relaxed);
        let grant = unit.member(A).try_exclusive(&unit.line).unwrap();
        // It lives, and what it writes is nowhere that others see.
        let late = spawn(&unit, move |unit| {
            unit.member(A).set_sum(&unit.line, &grant, of(7))
        });
        let judge = |fenced| sum::judge(&unit.line, &fenced, of(0));
        let recovered = recover::recover(&unit.line, A, &unit.wait, judge).unwrap();
        let _ = late.join().unwrap();
        match recovered {
            Recovered::Repaired => {
                let version = unit.line.version.load(Relaxed);
                assert_eq!(unit.line.sum.load(Relaxed), of(0).word(version));
            }
            // It was first, and the contents are not what it said they were.
            other => assert_eq!(other, Recovered::Lost { last_good: 0 }),
        }
    });
}

/// Catches: publish.stores_sum, publish.reads_sum_relaxed
#[test]
fn a_writer_that_was_fenced_leaves_the_sum_of_who_restored_the_unit() {
    explore(|turned| {
        let unit = Unit::new(turned);
        unit.line.sum.store(of(0).word(0), Relaxed);
        let grant = unit.member(A).try_exclusive(&unit.line).unwrap();
        let late = spawn(&unit, move |unit| {
            unit.member(A).set_sum(&unit.line, &grant, of(7))
        });
        let judge = |fenced| sum::judge(&unit.line, &fenced, of(9));
        recover::recover(&unit.line, A, &unit.wait, judge).unwrap();
        let next = unit.member(B);
        let grant = next.try_restore(&unit.line).unwrap();
        next.set_sum(&unit.line, &grant, of(2)).unwrap();
        let version = next.release_exclusive(&unit.line, &grant, true).unwrap();
        let _ = late.join().unwrap();
        assert_eq!(unit.line.sum.load(Relaxed), of(2).word(version));
    });
}
