//! `pool-sim`: runs seeds, replays files, and finds bugs that were planted. `cargo xtask sim`
//! builds and calls it.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use pool_core::clock::now;
use serde_json::json;
use sim::campaign::{Summary, campaign};
use sim::exhaust::{Scope, Tried};
use sim::mix::Mix;
use sim::replay::Replay;
use sim::run::{Failure, Outcome, run, run_keeping};
use sim::shrink::shrink;
use sim::trace::KEPT;

/// Seeds that are run a second time, to see that they are the same runs.
const AGAIN: u64 = 4;

/// Whole pools in one thread, from one seed.
#[derive(Debug, Parser)]
#[command(name = "pool-sim", max_term_width = 100)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 256)]
    seeds: u64,
    /// The first seed; where --seeds is not given, the only one.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Ops of each seed.
    #[arg(long, value_name = "K", default_value_t = 20_000)]
    ops: usize,
    /// Cut the first seed that fails down to what still breaks the same rule.
    #[arg(long)]
    shrink: bool,
    /// Write what is left by --shrink to this file, for --replay.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Run a file that --shrink wrote.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    replay: Option<PathBuf>,
    /// Events that are shown of a replay; where it is not given, 50 of one that fails.
    #[arg(long, value_name = "N", requires = "replay")]
    events: Option<usize>,
    /// Plant each bug that must be found, and find it. Needs a build with the feature `fault`.
    #[arg(long)]
    planted: bool,
    /// Of the planted bugs, only so many: those of the day --seed, others than those of the next.
    #[arg(long, value_name = "N", requires = "planted")]
    rotate: Option<usize>,
    /// Try every short sequence of a small scope, with each crash and each set of lost lines.
    #[arg(long)]
    exhaustive: bool,
    /// The most commands of a sequence, 2 or more.
    #[arg(long, value_name = "K", default_value_t = 5, requires = "exhaustive",
        value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    commands: usize,
    /// Threads; all processors where it is not given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// One line for each seed.
    #[arg(long)]
    each: bool,
    /// JSON in place of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // A panic within a run is an outcome, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    match start(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<bool> {
    if let Some(file) = &arguments.replay {
        return replay(file, arguments.events);
    }
    if arguments.planted {
        return planted(arguments);
    }
    if arguments.exhaustive {
        return exhaustive(arguments);
    }
    seeds(arguments)
}

fn threads(arguments: &Arguments) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.threads.unwrap_or_else(all)
}

fn seeds(arguments: &Arguments) -> anyhow::Result<bool> {
    let first = arguments.seed.unwrap_or(0);
    let count = match arguments.seed {
        // Where only a seed was given, it alone.
        Some(_) if !std::env::args().any(|word| word.starts_with("--seeds")) => 1,
        _ => arguments.seeds,
    };
    let each = arguments.each && !arguments.json;
    let mut hashes = Vec::new();
    let tell = |seed: u64, outcome: &Outcome| {
        hashes.push(outcome.hash);
        if each {
            println!("{seed} {:016x} {} ops", outcome.hash, outcome.ops);
        }
    };
    let summary = campaign((first, count), arguments.ops, threads(arguments), tell);
    // The first of them once more, on one thread: the same seed is the same run.
    let (mut again, mut same) = (0, 0);
    let tell = |_: u64, outcome: &Outcome| {
        same += u64::from(hashes.get(again) == Some(&outcome.hash));
        again += 1;
    };
    campaign((first, count.min(AGAIN)), arguments.ops, 1, tell);
    if arguments.json {
        println!("{}", in_json(&summary, (same, again as u64)));
    } else {
        in_text(&summary);
        println!("run twice: {same} of {again} seeds had the same hash again");
    }
    for (seed, outcome) in summary.failures.iter().take(4) {
        if let Some(failure) = &outcome.failure {
            told(*seed, arguments.ops, failure);
        }
    }
    if let (true, Some((seed, _))) = (arguments.shrink, summary.failures.first()) {
        shrunk(*seed, arguments)?;
    }
    let missed = summary.missed();
    for mark in &missed {
        eprintln!("never reached: {mark}");
    }
    Ok(summary.failures.is_empty() && missed.is_empty() && same == again as u64)
}

fn in_text(summary: &Summary) {
    println!(
        "{} seeds, {} ops, hash {:016x}",
        summary.seeds, summary.ops, summary.hash
    );
    let list = |counts: &std::collections::BTreeMap<&str, u64>| {
        let parts = counts.iter().map(|(name, count)| format!("{name} {count}"));
        parts.collect::<Vec<_>>().join(", ")
    };
    println!("faults: {}", list(&summary.faults));
    println!("events: {}", list(&summary.counts));
    println!(
        "marks: {} of {} reached",
        summary.marks.len(),
        sim::trace::MARKS.len()
    );
    let points = summary.points.iter();
    let points = points.map(|(name, point)| format!("{name} {} of {}", point.died, point.passed));
    let (died, all) = summary.died_at();
    println!(
        "crash points of the heap: {died} of {all} died at: {}",
        points.collect::<Vec<_>>().join(", ")
    );
    println!("failures: {}", summary.failures.len());
}

fn in_json(summary: &Summary, (same, again): (u64, u64)) -> serde_json::Value {
    let failures = summary.failures.iter().map(|(seed, outcome)| {
        let failure = outcome.failure.as_ref();
        json!({
            "seed": seed,
            "at": failure.map(|it| it.at),
            "rule": failure.map(|it| it.broken.rule),
            "found": failure.map(|it| it.broken.found.clone()),
        })
    });
    json!({
        "seeds": summary.seeds,
        "ops": summary.ops,
        "hash": format!("{:016x}", summary.hash),
        "faults": summary.faults,
        "events": summary.counts,
        "marks": summary.marks,
        "missed": summary.missed(),
        "heap_points": { "died_at": summary.died_at().0, "all": summary.died_at().1 },
        "run_twice": again,
        "same_again": same,
        "failures": failures.collect::<Vec<_>>(),
    })
}

/// Tells of a failure all that is needed to look into it.
fn told(seed: u64, ops: usize, failure: &Failure) {
    eprintln!(
        "\nseed {seed} breaks a rule at op {}: {}",
        failure.at, failure.broken
    );
    eprintln!("replay: cargo xtask sim --seed {seed} --ops {ops} --shrink");
    eprintln!("its world: {}", Mix::draw(seed));
    for event in &failure.last {
        eprintln!("  {event}");
    }
}

fn shrunk(seed: u64, arguments: &Arguments) -> anyhow::Result<()> {
    let mix = Mix::draw(seed);
    let Some(shrunk) = shrink(&mix, &mix.ops(arguments.ops)) else {
        bail!("seed {seed} failed and does not fail again: what it depends on is not its seed");
    };
    let replay = Replay {
        seed,
        ops: shrunk.ops,
    };
    println!(
        "\n{} ops are left after {} runs:\n{replay}",
        replay.ops.len(),
        shrunk.tries
    );
    if let Some(failure) = &shrunk.outcome.failure {
        println!("# {}", failure.broken);
        for event in &failure.last {
            println!("#   {event}");
        }
    }
    let Some(out) = &arguments.out else {
        return Ok(());
    };
    std::fs::write(out, replay.to_string())
        .with_context(|| format!("cannot write {}", out.display()))?;
    println!("replay: cargo xtask sim --replay {}", out.display());
    Ok(())
}

fn replay(file: &std::path::Path, events: Option<usize>) -> anyhow::Result<bool> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let replay = Replay::parse(&text).with_context(|| format!("in {}", file.display()))?;
    let outcome = run_keeping(&replay.mix(), &replay.ops, events.unwrap_or(KEPT));
    println!("{} ops, hash {:016x}", outcome.ops, outcome.hash);
    if let Some(failure) = &outcome.failure {
        eprintln!("op {}: {}", failure.at, failure.broken);
    }
    if events.is_some() || outcome.failure.is_some() {
        for event in &outcome.last {
            eprintln!("  {event}");
        }
    }
    Ok(outcome.failure.is_none())
}

fn exhaustive(arguments: &Arguments) -> anyhow::Result<bool> {
    let (most, threads) = (arguments.commands, threads(arguments).max(1));
    let mut is_well = true;
    for scope in Scope::ALL {
        let most = scope.of_at_most(most);
        let begun = now();
        let tried = scope.try_all(most, threads);
        let millis = now().get().saturating_sub(begun.get()) / 1_000_000;
        if arguments.json {
            println!("{}", tried_in_json(scope, most, &tried, millis));
        } else {
            tried_in_text(scope, most, &tried, millis);
        }
        if let Some((ops, broken)) = tried.failure {
            is_well = false;
            let seed = Mix::SCOPE;
            let failure = run(&Mix::scope(), &ops).failure;
            eprintln!("{broken}\n{}", Replay { seed, ops });
            for event in failure.iter().flat_map(|failure| &failure.last) {
                eprintln!("#   {event}");
            }
        }
    }
    Ok(is_well)
}

fn tried_in_text(scope: Scope, most: usize, tried: &Tried, millis: u64) {
    println!(
        "{scope:?}: {} sequences of at most {most} commands and {} cases, by {} runs: {} crash \
         points, {} sets of up to {} lines, {} states, {} pruned; {}.{} s; {} failures",
        tried.sequences,
        tried.cases,
        tried.runs,
        tried.points,
        tried.sets,
        tried.lines_most,
        tried.states,
        tried.pruned,
        millis / 1_000,
        millis / 100 % 10,
        u8::from(tried.failure.is_some()),
    );
}

fn tried_in_json(scope: Scope, most: usize, tried: &Tried, millis: u64) -> serde_json::Value {
    json!({
        "scope": format!("{scope:?}"),
        "commands": most,
        "sequences": tried.sequences,
        "cases": tried.cases,
        "runs": tried.runs,
        "points": tried.points,
        "sets": tried.sets,
        "lines_most": tried.lines_most,
        "states": tried.states,
        "pruned": tried.pruned,
        "millis": millis,
        "failures": u8::from(tried.failure.is_some()),
    })
}

#[cfg(not(feature = "fault"))]
fn planted(_arguments: &Arguments) -> anyhow::Result<bool> {
    bail!("no bug can be planted in this build: build it with --features fault")
}

/// Bugs that are found where everything is tried.
#[cfg(feature = "fault")]
fn planted_in_all(arguments: &Arguments) -> bool {
    use sim::planted::{BUGS_IN_ALL, COMMANDS, find_in_all};

    let mut all = true;
    for bug in BUGS_IN_ALL {
        match find_in_all(bug, COMMANDS, threads(arguments)) {
            Some(found) => println!(
                "{bug}: found in {:?} of at most {} commands after {} runs: {}",
                found.scope, found.commands, found.runs, found.rule
            ),
            None => {
                all = false;
                eprintln!("{bug}: not found in {COMMANDS} commands");
            }
        }
    }
    all
}

#[cfg(feature = "fault")]
fn planted(arguments: &Arguments) -> anyhow::Result<bool> {
    use sim::planted::{BUGS, find, of_day};

    if arguments.exhaustive {
        return Ok(planted_in_all(arguments));
    }

    let first = arguments.seed.unwrap_or(0);
    // Their budgets are measured from seed 0 on; with --rotate the seed says which bugs.
    let (bugs, from) = match arguments.rotate {
        Some(count) => (of_day(first, count), 0),
        None => (BUGS.iter().collect(), first),
    };
    let mut all = true;
    for bug in bugs {
        match find(bug, from) {
            Some(found) => println!(
                "{}: found after {} seeds and {} ops: {}",
                bug.name, found.seeds, found.ops, found.rule
            ),
            None => {
                all = false;
                eprintln!("{}: not found in {} seeds", bug.name, bug.seeds);
            }
        }
    }
    Ok(all)
}
