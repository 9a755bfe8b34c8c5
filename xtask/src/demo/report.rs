//! What the demonstration showed: a table, and each claim with whether it holds.

use std::collections::BTreeMap;

use anyhow::bail;
use pool_core::{Bytes, Nanos};

use super::daemon::Picture;
use super::fact::Sight;
use super::job::Outcome;

/// Of 100 digits never learned from, so many are to be named rightly.
const ACCURACY_PERCENT_MIN: u32 = 95;

/// What the training alone ended with.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) digest: String,
    pub(super) hits: u32,
    pub(super) held_out: u32,
    pub(super) took: Nanos,
}

/// All that was seen.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) reference: Reference,
    pub(super) undisturbed: Outcome,
    pub(super) disturbed: Outcome,
    /// The pool after everybody has let go.
    pub(super) at_rest: Picture,
    /// The kills came when so many steps were done.
    pub(super) killed_after: u32,
}

/// Shows everything; fails where a claim does not hold.
pub(super) fn show(runs: &Runs) -> anyhow::Result<()> {
    println!("\nWhere the processes saw the segments of the disturbed run:");
    print!("{}", addresses(&runs.disturbed.sights));
    println!("\nThe pool at the end of the disturbed run:");
    print!("{}", table(runs));
    println!("\nWhat was to be shown:");
    let claims = claims(runs);
    for (claim, holds) in &claims {
        println!("  {} {claim}", if *holds { "holds" } else { "FAILS" });
    }
    let failed = claims.iter().filter(|(_, holds)| !holds).count();
    if failed > 0 {
        bail!("{failed} of {} claims do not hold", claims.len());
    }
    println!("\nAll {} claims hold.", claims.len());
    Ok(())
}

/// One line a segment: its address, and who saw it there.
fn addresses(sights: &[(&'static str, Sight)]) -> String {
    let mut seen: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (process, sight) in sights {
        seen.entry((&sight.segment, &sight.address))
            .or_default()
            .push(process);
    }
    let line = |((segment, address), processes): ((&str, &str), Vec<&str>)| {
        format!("  {segment:<10} {address}  {}\n", processes.join(", "))
    };
    seen.into_iter().map(line).collect()
}

fn table(runs: &Runs) -> String {
    let outcome = &runs.disturbed;
    let mut text = format!(
        "  {:<8} {:<9} {:>10} {:>10}\n",
        "tier", "memory", "size", "granted"
    );
    for tier in &outcome.picture.tiers {
        let memory = if tier.emulated { "emulated" } else { "real" };
        let [total, granted] =
            [tier.total, tier.granted].map(|bytes| Bytes::new(bytes).to_string());
        text += &format!("  {:<8} {memory:<9} {total:>10} {granted:>10}\n", tier.name);
    }
    text += &format!("  clients: {}\n", outcome.picture.clients);
    text += &format!(
        "  accuracy: {} of {} digits never learned from\n",
        outcome.hits, outcome.held_out
    );
    text += &format!(
        "  time: {} without a pool, {} over the pool, {} with the kills\n",
        seconds(runs.reference.took),
        seconds(runs.undisturbed.took),
        seconds(outcome.took)
    );
    text
}

fn seconds(span: Nanos) -> String {
    let tenths = span.get() / 100_000_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// Each claim, and whether it holds.
fn claims(runs: &Runs) -> Vec<(String, bool)> {
    let (alone, calm, killed) = (&runs.reference, &runs.undisturbed, &runs.disturbed);
    let accurate = killed.hits * 100 >= ACCURACY_PERCENT_MIN * killed.held_out;
    let taken_up_at = killed.taken_up_at.unwrap_or(0);
    vec![
        (
            "every process sees each segment at the same address".to_owned(),
            equal_addresses(&calm.sights) && equal_addresses(&killed.sights),
        ),
        (
            format!("the new worker carried on at step {taken_up_at}, from the pool's own state"),
            taken_up_at >= runs.killed_after,
        ),
        (
            format!(
                "the weights are bit-identical to those trained without a pool ({})",
                alone.digest
            ),
            calm.digest == alone.digest,
        ),
        (
            format!(
                "and so they are where worker and daemon were killed ({})",
                killed.digest
            ),
            killed.digest == alone.digest,
        ),
        (
            format!("at least {ACCURACY_PERCENT_MIN} % of unseen digits are named rightly"),
            accurate,
        ),
        (
            "`poolctl check` balances, extent by extent, during and after the job".to_owned(),
            [&calm.picture, &killed.picture, &runs.at_rest]
                .iter()
                .all(|seen| seen.balanced),
        ),
        (
            "all memory is free again, and nobody is attached".to_owned(),
            runs.at_rest.is_at_rest(),
        ),
    ]
}

/// Whether each segment has one address, and at least two processes saw some.
fn equal_addresses(sights: &[(&'static str, Sight)]) -> bool {
    let mut places = BTreeMap::new();
    let same = sights.iter().all(|(_, sight)| {
        *places.entry(&sight.segment).or_insert(&sight.address) == &sight.address
    });
    same && sights.len() > places.len()
}

#[cfg(test)]
mod tests {
    use super::super::daemon::Tier;
    use super::*;

    fn sight(segment: &str, address: &str) -> Sight {
        Sight {
            segment: segment.into(),
            address: address.into(),
            bytes: 2 << 20,
            tier: "ddr".into(),
            emulated: false,
        }
    }

    fn picture(free: u64, clients: u64) -> Picture {
        let (name, total) = ("ddr".to_owned(), 32 << 20);
        let tier = Tier {
            name,
            emulated: false,
            total,
            free,
            granted: total - free,
        };
        Picture {
            tiers: vec![tier],
            clients,
            balanced: true,
        }
    }

    fn outcome(taken_up_at: Option<u32>) -> Outcome {
        Outcome {
            digest: "d".into(),
            hits: 95,
            held_out: 100,
            took: Nanos::from_millis(1_250),
            sights: vec![
                ("trainer", sight("weights", "0x1")),
                ("worker", sight("weights", "0x1")),
            ],
            picture: picture(30 << 20, 3),
            taken_up_at,
        }
    }

    fn runs() -> Runs {
        Runs {
            reference: Reference {
                digest: "d".into(),
                hits: 95,
                held_out: 100,
                took: Nanos::from_millis(990),
            },
            undisturbed: outcome(None),
            disturbed: outcome(Some(50)),
            at_rest: picture(32 << 20, 0),
            killed_after: 50,
        }
    }

    #[test]
    fn each_claim_fails_where_what_it_says_is_not_so() {
        assert!(claims(&runs()).iter().all(|(_, holds)| *holds));
        let spoilt: [fn(&mut Runs); 10] = [
            |runs| runs.disturbed.sights[1].1.address = "0x2".into(),
            |runs| runs.undisturbed.sights.truncate(1),
            |runs| runs.disturbed.taken_up_at = Some(49),
            |runs| runs.disturbed.taken_up_at = None,
            |runs| runs.undisturbed.digest = "e".into(),
            |runs| runs.disturbed.digest = "e".into(),
            |runs| runs.disturbed.hits = 94,
            |runs| runs.at_rest.balanced = false,
            |runs| runs.at_rest = picture(30 << 20, 0),
            |runs| runs.at_rest.clients = 1,
        ];
        for (number, spoil) in spoilt.into_iter().enumerate() {
            let mut runs = runs();
            spoil(&mut runs);
            let failed = claims(&runs).iter().filter(|(_, holds)| !holds).count();
            assert_eq!(failed, 1, "spoilt in way {number}");
            assert!(show(&runs).is_err());
        }
    }

    #[test]
    fn the_table_says_what_is_emulated_and_how_long_it_took() {
        let mut runs = runs();
        runs.disturbed.picture.tiers[0].emulated = true;
        let text = table(&runs);
        assert!(
            text.contains("ddr      emulated      32 MiB      2 MiB\n"),
            "{text}"
        );
        assert!(
            text.contains("time: 0.9 s without a pool, 1.2 s over the pool, "),
            "{text}"
        );
    }
}
