//! The mode debt: a program that runs on local memory waits, where it releases, for what its
//! accesses would have stalled at memory of an emulated fabric.
//!
//! `cargo run -p fabric-emu --example debt -- --rounds 8`
//!
//! A program cannot delay a single load, so it counts one access in so many, and owes for all of
//! them what the tier takes longer than the memory where they really went. It pays where it would
//! give the memory to another one: at a release. **It is an approximation**: the stall comes later
//! than in truth, all at once, and of queues nothing is in it. Its figures are called emulated,
//! mode debt, and are never put together with those of another mode.

use std::error::Error;

use fabric_emu::fabric::Fabric;
use fabric_emu::id::{HostId, LdId, MemdevId};
use fabric_emu::timing::{Debt, Element, Mode, Path, Picos, Sampled, Share, Table};
use fabric_emu::topology::Topology;
use pool_core::clock;
use pool_core::rng::Rng;

/// One access in so many is counted.
const EVERY: u32 = 64;
/// How many of this program's loads are under way at once: each needs the one before.
const MLP: u32 = 1;
/// Words that are read, in an order that no prefetcher knows.
const WORDS: usize = 1 << 20;
/// Loads of a round.
const LOADS: u64 = 100_000;
/// Picoseconds of a nanosecond.
const PICOS: u64 = 1_000;

/// Memory that stands for that of a tier, and what its user owes.
struct Borrowed {
    words: Vec<u32>,
    tier: Picos,
    local: Picos,
    accesses: u64,
    debt: Debt,
}

impl Borrowed {
    /// Reads a word, and counts one such access in [`EVERY`].
    fn load(&mut self, at: u32) -> u32 {
        self.accesses += 1;
        if self.accesses.is_multiple_of(EVERY.into()) {
            let sampled = Sampled {
                accesses: 1,
                every: EVERY,
                mlp: MLP,
            };
            self.debt.charge(sampled, self.tier, self.local);
        }
        self.words.get(at as usize).copied().unwrap_or(0)
    }

    /// Gives the memory to whoever is next: what is owed is waited for first. How long that was.
    fn release(&mut self) -> Picos {
        let began = clock::now();
        let owed = self.debt.owed().get().div_ceil(PICOS);
        while clock::now().saturating_since(began).get() < owed {
            std::hint::spin_loop();
        }
        let waited = Picos::from_nanos(clock::now().saturating_since(began).get());
        // To wait for longer earns nothing.
        self.debt.pay(waited);
        waited
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = rounds()?;
    let (tier, local) = latencies()?;
    let mut borrowed = Borrowed {
        words: cycle(),
        tier,
        local,
        accesses: 0,
        debt: Debt::default(),
    };
    println!(
        "emulated, mode {}, an approximation: {tier} where {local} is local",
        Mode::Debt
    );
    let mut at = 0;
    for round in 0..rounds {
        let began = clock::now();
        for _ in 0..LOADS {
            at = borrowed.load(at);
        }
        let ran = Picos::from_nanos(clock::now().saturating_since(began).get());
        let owed = borrowed.debt.owed();
        let waited = borrowed.release();
        println!("round {round}: {LOADS} loads ran {ran}, owed {owed}, waited {waited}");
    }
    Ok(())
}

/// A read of the expander that a host reaches, and one of DRAM of its own.
fn latencies() -> Result<(Picos, Picos), Box<dyn Error>> {
    let fabric = Fabric::new(&Topology::named("expander")?, 1)?;
    let way = fabric.way(HostId(0), MemdevId(0), LdId(0));
    let way = way.ok_or("the host reaches nothing")?;
    let tier = fabric.elements().unloaded(&way, Share::ONE)?;
    let table = Table::embedded()?;
    let mut elements = table.elements()?;
    let own = Path {
        host: table.host("ddr")?,
        hops: Vec::new(),
        device: elements.add(Element::Device(table.device("ddr")?)),
    };
    Ok((tier, elements.unloaded(&own, Share::ONE)?))
}

/// Of each word the next one: all of them in one cycle, in an order that is drawn.
fn cycle() -> Vec<u32> {
    let mut words: Vec<u32> = (0..).take(WORDS).collect();
    let mut rng = Rng::new(1);
    for last in (1..WORDS).rev() {
        let other = usize::try_from(rng.below(last as u64)).unwrap_or(0);
        words.swap(last, other);
    }
    words
}

fn rounds() -> Result<u64, Box<dyn Error>> {
    let mut rounds = 4;
    let mut arguments = std::env::args().skip(1);
    while let Some(key) = arguments.next() {
        if key != "--rounds" {
            return Err(format!("{key}: only --rounds is known").into());
        }
        rounds = arguments.next().ok_or("--rounds needs a number")?.parse()?;
    }
    Ok(rounds)
}
