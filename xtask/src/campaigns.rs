//! `cargo xtask campaigns`: what is run to see that the pool is reliable, how much of it, and what
//! the plan asks for, a line for each campaign.
//!
//! The figures come from whoever ran: `pool-sim --json` of the campaigns that the simulator is for,
//! and lines `campaign N: WHAT: FIGURES` that tests write to their standard output, past the
//! capture of the harness.
//!
//! # Verdicts
//! - `FAIL`: a program did not end well, or a figure is less than what the plan asks for, or, where
//!   the plan gives no number, less than what was run before with some room.
//! - `part`: no `FAIL`, but what the plan asks for is not all there to be run. The line names what
//!   is missing. It is no pass, and the command does not fail for it.
//! - `pass`: neither of them.
//!
//! [`benches/results/reliability.md`] keeps the figures, and tells at length what is not run.
//!
//! [`benches/results/reliability.md`]: ../../benches/results/reliability.md

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::command::{cargo, shown};

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these, by number, as in `1,2`.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = known,
        default_values_t = CAMPAIGNS.map(|it| it.number))]
    only: Vec<u32>,
    /// Seeds of campaign 1.
    #[arg(long, value_name = "N", default_value_t = 256)]
    seeds: u64,
    /// Ops of each of its seeds.
    #[arg(long, value_name = "K", default_value_t = 20_000)]
    ops: u64,
    /// Commands of a sequence of campaign 2, 2 or more.
    #[arg(long, value_name = "K", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(2..))]
    commands: u64,
    /// Each call of campaign 5 is the first to fail for good: half an hour of two processors.
    #[arg(long)]
    each_call: bool,
    /// How many planted bugs of campaign 16, 5 or more and others on each day; or `all`.
    #[arg(long, value_name = "N|all", default_value = "5")]
    planted: Planted,
}

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// The least number of planted bugs that the plan asks for.
const PLANTED_MIN: u64 = 5;
/// Figures for which the plan has no number: of what was run before, all but some room.
/// Operations of campaign 3 in each pool, of 24; deaths in each pool, of 150; and the deaths in
/// recoveries that follow each of them.
const OPERATIONS_MIN: usize = 24;
const DEATHS_MIN: u64 = 140;
const DEATHS_IN_RECOVERY: u64 = 4;
/// Kinds of call of campaign 5, of 16, one of which needs a machine with nodes; calls, of 804.
const KINDS_MIN: usize = 15;
const CALLS_MIN: u64 = 700;
/// Daemons whose calls failed for good, of 519; kinds of call of clients, all of 5, and clients,
/// of 101.
const RUNS_MIN: u64 = 440;
const KINDS_OF_CLIENTS: usize = 5;
const PROGRAMS_MIN: u64 = 80;
/// What campaign 5 lacks where each call is the first to fail for good.
const MISSING_OF_EACH_CALL: &str =
    "28 of 29 allocations of the daemon's own heap, at each of which Rust ends it";
/// What fails in a daemon that is no call, and daemons that it failed in, of 100.
const ALLOCATION: &str = "an allocation of the daemon";
const ALLOCATIONS_MIN: u64 = 60;
/// How the name of a kind ends that fails in a client.
const CLIENT: &str = " of a client for good";

/// The pools of campaign 3, as its lines name them.
const FILLS: [&str; 3] = ["Empty", "Half", "Full"];

/// A campaign of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Campaign {
    number: u32,
    plan: &'static str,
    /// What of the plan no program here runs.
    missing: Option<&'static str>,
}

const CAMPAIGNS: [Campaign; 5] = [
    Campaign {
        number: 1,
        plan: "256 seeds of 20,000 ops, >= 2,500 host and 250 daemon deaths; engine, coherence and \
               allocator; clocks jump too",
        missing: None,
    },
    Campaign {
        number: 2,
        plan: "<= 5 commands x every crash point x every set of <= 4 lines, 10^5 to 10^6 cases",
        missing: None,
    },
    Campaign {
        number: 3,
        plan: "each point x each operation x {empty, half full, full}, again in the recovery",
        missing: None,
    },
    Campaign {
        number: 5,
        plan: "allocation, mmap, write, sync, send: each public operation until it succeeds, once \
               and persistent",
        missing: Some(
            "(but with --each-call) eleven of twelve calls behind the sixteenth for good, and most \
             allocations of the daemon's own heap, at each of which Rust ends it",
        ),
    },
    Campaign {
        number: 16,
        plan: "rotating 5; all of >= 20 in a soak",
        missing: None,
    },
];

/// How many planted bugs to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Some(u64),
    All,
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count) if count >= PLANTED_MIN => Ok(Self::Some(count)),
            Ok(count) => Err(format!(
                "{count} are less than the plan's: give {PLANTED_MIN} or more, or `all`"
            )),
            Err(_) if text == "all" => Ok(Self::All),
            Err(error) => Err(format!("{error}: give a number, or `all`")),
        }
    }
}

/// The number of a campaign that is run here.
fn known(text: &str) -> Result<u32, String> {
    let numbers = CAMPAIGNS.map(|it| it.number);
    let number = text.parse().ok();
    let number = number.filter(|number| numbers.contains(number));
    number.ok_or_else(|| format!("there is no campaign {text} here: give some of {numbers:?}"))
}

/// What came of the programs of a campaign.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    what: String,
    figures: String,
    /// Whether they ended well, with no less than they have to show.
    is_enough: bool,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    /// What is missing.
    Part(&'static str),
    Fail,
}

impl Campaign {
    fn run(self, root: &Path, arguments: &Arguments) -> anyhow::Result<Ran> {
        match self.number {
            1 => seeds(root, arguments),
            2 => exhaustive(root, arguments),
            3 => crash_points(root),
            5 => failed_calls(root, arguments.each_call),
            16 => planted(root, arguments.planted),
            number => bail!("campaign {number} has no program"),
        }
    }

    /// As it is run with these arguments.
    fn with(self, arguments: &Arguments) -> Self {
        match self.number {
            5 if arguments.each_call => Self {
                missing: Some(MISSING_OF_EACH_CALL),
                ..self
            },
            _ => self,
        }
    }

    fn verdict(self, is_enough: bool) -> Verdict {
        match self.missing {
            _ if !is_enough => Verdict::Fail,
            Some(missing) => Verdict::Part(missing),
            None => Verdict::Pass,
        }
    }

    /// Its line, and its verdict. One that could not be run has failed.
    fn line(self, outcome: anyhow::Result<Ran>) -> (String, Verdict) {
        let Self { number, plan, .. } = self;
        let ran = outcome.unwrap_or_else(|error| Ran {
            what: "not run to its end".to_owned(),
            figures: format!("{error:#}"),
            is_enough: false,
        });
        let verdict = self.verdict(ran.is_enough);
        let shown = match verdict {
            Verdict::Pass => "pass".to_owned(),
            Verdict::Part(missing) => format!("part, without {missing}"),
            Verdict::Fail => "FAIL".to_owned(),
        };
        let Ran { what, figures, .. } = ran;
        let line = format!("campaign {number}: {what}: {figures} (plan: {plan}): {shown}");
        (line, verdict)
    }
}

/// Runs them and prints their lines at the end; fails where one failed.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let is_wanted = |it: &Campaign| arguments.only.contains(&it.number);
    let mut lines = Vec::new();
    for campaign in CAMPAIGNS.into_iter().filter(is_wanted) {
        let campaign = campaign.with(arguments);
        println!("== campaign {}", campaign.number);
        lines.push(campaign.line(campaign.run(root, arguments)));
    }
    println!("== campaigns");
    for (line, _) in &lines {
        println!("{line}");
    }
    let failed = lines.iter().filter(|(_, it)| *it == Verdict::Fail).count();
    if failed > 0 {
        bail!("{failed} of {} campaigns failed", lines.len());
    }
    Ok(())
}

/// What a command wrote to its standard output, and whether it ended well.
fn captured(command: &mut Command) -> anyhow::Result<(String, bool)> {
    let shown = shown(command);
    println!("{shown}");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((text, output.status.success()))
}

fn simulator(root: &Path, features: &[&str]) -> Command {
    let mut command = cargo(root);
    command.args(["run", "--package", "sim", "--profile", "sim"]);
    command.args(features).arg("--");
    command
}

/// The objects of an output that has one a line.
fn objects(text: &str) -> anyhow::Result<Vec<Value>> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let objects = lines.map(|line| serde_json::from_str(line).context("no JSON"));
    objects.collect()
}

fn count(object: &Value, path: &str) -> u64 {
    object.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn length(object: &Value, path: &str) -> usize {
    object
        .pointer(path)
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
}

fn seeds(root: &Path, arguments: &Arguments) -> anyhow::Result<Ran> {
    let (seeds, ops) = (arguments.seeds, arguments.ops);
    let mut command = simulator(root, &["--features", "fault"]);
    command.args([
        "--seeds",
        &seeds.to_string(),
        "--ops",
        &ops.to_string(),
        "--json",
    ]);
    let (text, is_well) = captured(&mut command)?;
    let objects = objects(&text)?;
    let object = objects.first().context("the simulator told nothing")?;
    let (hosts, daemons) = (
        count(object, "/faults/host-death"),
        count(object, "/faults/daemon-death"),
    );
    let (same, again) = (count(object, "/same_again"), count(object, "/run_twice"));
    let played = count(object, "/ops");
    let in_heaps = count(object, "/faults/heap-death");
    let figures = format!(
        "{played} ops, {hosts} host and {daemons} daemon deaths, {in_heaps} deaths within heaps at \
         {} of {} crash points, {} marks reached and {} missed, \
         {same} of {again} seeds the same again, hash {}, {} failures",
        count(object, "/heap_points/died_at"),
        count(object, "/heap_points/all"),
        length(object, "/marks"),
        length(object, "/missed"),
        object["hash"].as_str().unwrap_or("none"),
        length(object, "/failures"),
    );
    Ok(Ran {
        what: format!("{seeds} seeds of {ops} ops"),
        figures,
        is_enough: is_well
            && played >= 5_000_000
            && hosts >= 2_500
            && daemons >= 250
            && in_heaps > 0
            && count(object, "/heap_points/died_at") == count(object, "/heap_points/all"),
    })
}

fn exhaustive(root: &Path, arguments: &Arguments) -> anyhow::Result<Ran> {
    let commands = arguments.commands;
    let mut command = simulator(root, &[]);
    command.args([
        "--exhaustive",
        "--commands",
        &commands.to_string(),
        "--json",
    ]);
    let (text, is_well) = captured(&mut command)?;
    let objects = objects(&text)?;
    let all = |path: &str| objects.iter().map(|it| count(it, path)).sum::<u64>();
    let lines = objects.iter().map(|it| count(it, "/lines_most"));
    let lines = lines.max().unwrap_or(0);
    let figures = format!(
        "{} sequences and {} cases by {} runs, {} crash points, {} sets of up to {lines} lines, \
         {} states, {} pruned, {} s, {} failures",
        all("/sequences"),
        all("/cases"),
        all("/runs"),
        all("/points"),
        all("/sets"),
        all("/states"),
        all("/pruned"),
        all("/millis") / 1_000,
        all("/failures"),
    );
    Ok(Ran {
        what: format!("{} scopes, at most {commands} commands", objects.len()),
        figures,
        is_enough: is_well && commands >= 5 && all("/cases") >= 100_000 && lines >= 4,
    })
}

/// A line that a test wrote for a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    what: String,
    figures: String,
}

/// Runs tests of whole pools, with these variables in their environment; the lines that they wrote
/// for a campaign, and whether they passed.
fn told(
    root: &Path,
    number: u32,
    test: &str,
    variables: &[(&str, &str)],
) -> anyhow::Result<(Vec<Told>, bool)> {
    let mut command = cargo(root);
    command.envs(variables.iter().copied());
    command.args(["test", "--package", "tierpool-tests", "--test", test]);
    let (text, is_well) = captured(&mut command)?;
    if !is_well {
        print!("{text}");
    }
    Ok((told_in(&text, number), is_well))
}

/// The lines `campaign N: WHAT: FIGURES` of an output, wherever in a line they begin.
fn told_in(text: &str, number: u32) -> Vec<Told> {
    let begin = format!("campaign {number}: ");
    let told = text.lines().filter_map(|line| line.split_once(&begin));
    let pairs = told.filter_map(|(_, told)| told.split_once(": "));
    let told = pairs.map(|(what, figures)| Told {
        what: what.to_owned(),
        figures: figures.to_owned(),
    });
    told.collect()
}

/// The number before each of some words, added up over some lines.
fn sum_before<'a>(told: impl IntoIterator<Item = &'a Told>, word: &str) -> u64 {
    let of_one = |told: &Told| {
        let words: Vec<&str> = told
            .figures
            .split([' ', ','])
            .filter(|it| !it.is_empty())
            .collect();
        let pairs = words.windows(2).filter(|pair| pair[1] == word);
        pairs
            .filter_map(|pair| pair[0].parse::<u64>().ok())
            .sum::<u64>()
    };
    told.into_iter().map(of_one).sum()
}

/// The numbers of `N of M reached`.
fn reached(told: &[Told]) -> Option<(u64, u64)> {
    let counts = told
        .iter()
        .find_map(|it| it.figures.strip_suffix(" reached"));
    let (reached, defined) = counts?.split_once(" of ")?;
    Some((reached.parse().ok()?, defined.parse().ok()?))
}

fn crash_points(root: &Path) -> anyhow::Result<Ran> {
    let (told, is_well) = told(root, 3, "crash_points", &[])?;
    Ok(crash_points_of(&told, is_well))
}

fn crash_points_of(told: &[Told], is_well: bool) -> Ran {
    let pools = FILLS.map(|fill| {
        let is_of = |it: &&Told| it.what.rsplit_once(", ").is_some_and(|(_, it)| it == fill);
        let of_fill: Vec<&Told> = told.iter().filter(is_of).collect();
        let deaths = sum_before(of_fill.iter().copied(), "deaths");
        let again = sum_before(of_fill.iter().copied(), "in");
        (fill, of_fill.len(), deaths, again)
    });
    let are_enough = pools.iter().all(|&(_, operations, deaths, again)| {
        let is_again = again >= deaths * DEATHS_IN_RECOVERY;
        operations >= OPERATIONS_MIN && deaths >= DEATHS_MIN && is_again
    });
    let of_pools = pools.map(|(fill, operations, deaths, again)| {
        format!("{fill}: {operations} operations, {deaths} deaths, {again} in recoveries from them")
    });
    let counts = reached(told);
    let points = counts.map_or("none told".to_owned(), |(reached, defined)| {
        format!("{reached} of {defined} reached")
    });
    let are_all = counts.is_some_and(|(reached, defined)| reached > 0 && reached == defined);
    Ran {
        what: "operations of the daemon in three pools".to_owned(),
        figures: format!("points: {points}; {}", of_pools.join("; ")),
        is_enough: is_well && are_all && are_enough,
    }
}

fn failed_calls(root: &Path, each_call: bool) -> anyhow::Result<Ran> {
    let (once, is_well) = told(root, 5, "syscalls", &[])?;
    let variables: &[_] = if each_call {
        &[("TIERPOOL_EACH_CALL", "1")]
    } else {
        &[]
    };
    let (for_good, is_well_too) = told(root, 5, "persistent", variables)?;
    Ok(failed_calls_of(&once, &for_good, is_well && is_well_too))
}

fn failed_calls_of(once: &[Told], for_good: &[Told], is_well: bool) -> Ran {
    let is_of_a_client = |it: &&Told| it.what.ends_with(CLIENT);
    let (clients, daemons): (Vec<_>, Vec<_>) = for_good.iter().partition(is_of_a_client);
    let is_allocation = |it: &&Told| it.what == ALLOCATION;
    let (allocations, daemons): (Vec<_>, Vec<_>) = daemons.into_iter().partition(is_allocation);
    let allocations = sum_before(allocations, "runs");
    let calls = sum_before(once, "calls");
    let [runs, programs] = [&daemons, &clients].map(|of| sum_before(of.iter().copied(), "runs"));
    let are_kinds =
        once.len() >= KINDS_MIN && daemons.len() >= KINDS_MIN && clients.len() >= KINDS_OF_CLIENTS;
    Ran {
        what: format!("{} kinds of call of the daemon", once.len()),
        figures: format!(
            "{calls} calls failed, once each; {allocations} daemons, one allocation of each; \
             {runs} daemons whose calls failed for good, of {} kinds, and {programs} clients, \
             of {}",
            daemons.len(),
            clients.len()
        ),
        is_enough: is_well
            && are_kinds
            && calls >= CALLS_MIN
            && allocations >= ALLOCATIONS_MIN
            && runs >= RUNS_MIN
            && programs >= PROGRAMS_MIN,
    }
}

fn planted(root: &Path, planted: Planted) -> anyhow::Result<Ran> {
    let mut command = simulator(root, &["--features", "fault"]);
    command.arg("--planted");
    if let Planted::Some(count) = planted {
        let day = today();
        command.args(["--rotate", &count.to_string(), "--seed", &day.to_string()]);
    }
    let (text, is_well) = captured(&mut command)?;
    print!("{text}");
    let found = text
        .lines()
        .filter(|line| line.contains(": found after "))
        .count();
    let enough = match planted {
        Planted::Some(count) => found as u64 >= count.max(PLANTED_MIN),
        Planted::All => found >= 20,
    };
    Ok(Ran {
        what: match planted {
            Planted::Some(count) => format!("{count} planted bugs, by the day"),
            Planted::All => "every planted bug of the simulator".to_owned(),
        },
        figures: format!("{found} found, each within its budget"),
        is_enough: is_well && enough,
    })
}

/// Days since 1970.
fn today() -> u64 {
    pool_core::clock::calendar() / SECONDS_OF_A_DAY
}

#[cfg(test)]
mod tests;
