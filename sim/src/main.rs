//! `pool-sim`.
use sim::{mix::Mix, run::run};
fn main() {
    let a: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (from, n, ops) = (a[0], a[1], a[2] as usize);
    let mut marks = std::collections::BTreeSet::new();
    let mut faults = std::collections::BTreeMap::<&str,u64>::new();
    for seed in from..from + n {
        let mix = Mix::draw(seed);
        let out = run(&mix, &mix.ops(ops));
        marks.extend(out.marks.iter().copied());
        for (k,v) in &out.counts { *faults.entry(k).or_default() += v; }
        match out.failure {
            None => println!("{seed} {:016x}", out.hash),
            Some(f) => { println!("{seed} FAILED at {}: {}", f.at, f.broken); if a.len() > 3 {
                println!("{mix}");
                let s = sim::shrink::shrink(&mix, &mix.ops(ops)).unwrap();
                println!("{} ops, {} tries", s.ops.len(), s.tries);
                for o in &s.ops { println!("{o}"); }
                let f = s.outcome.failure.unwrap();
                println!("{} {}", f.at, f.broken);
                for e in f.last { println!("  {e}"); } } }
        }
    }
    println!("{faults:?}");
    for m in sim::trace::MARKS { if !marks.contains(m) { println!("not reached: {m}"); } }
}
