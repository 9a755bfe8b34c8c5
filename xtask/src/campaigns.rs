//! `cargo xtask campaigns`: what is run to see that the pool is reliable, how much of it, and what
//! the plan asks for, a line for each campaign.
//!
//! The figures come from whoever ran: `pool-sim --json` of the campaigns that the simulator is for,
//! and lines `campaign N: WHAT: FIGURES` that tests write to their standard output, past the
//! capture of the harness. A campaign passes where all of its programs end well and its figures are
//! no less than the plan's; [`benches/results/reliability.md`] keeps them, and names what of the
//! plan is not run.
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
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = [1, 2, 3, 5, 16])]
    only: Vec<u32>,
    /// Seeds of campaign 1.
    #[arg(long, value_name = "N", default_value_t = 256)]
    seeds: u64,
    /// Ops of each of its seeds.
    #[arg(long, value_name = "K", default_value_t = 20_000)]
    ops: u64,
    /// Commands of a sequence of campaign 2.
    #[arg(long, value_name = "K", default_value_t = 5)]
    commands: u64,
    /// How many planted bugs of campaign 16, from another one on each day; or `all`.
    #[arg(long, value_name = "N|all", default_value = "5")]
    planted: Planted,
}

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

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
            Ok(count) => Ok(Self::Some(count)),
            Err(_) if text == "all" => Ok(Self::All),
            Err(error) => Err(format!("{error}: give a number, or `all`")),
        }
    }
}

/// What came of a campaign.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    number: u32,
    ran: String,
    figures: String,
    plan: &'static str,
    passes: bool,
}

/// Runs them and prints their lines at the end; fails unless all pass.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for &number in &arguments.only {
        println!("== campaign {number}");
        lines.push(match number {
            1 => seeds(root, arguments)?,
            2 => exhaustive(root, arguments)?,
            3 => crash_points(root)?,
            5 => failed_calls(root)?,
            16 => planted(root, arguments.planted)?,
            _ => bail!("there is no campaign {number} here: give 1, 2, 3, 5 or 16"),
        });
    }
    println!("== campaigns");
    for line in &lines {
        println!("{}", shown_line(line));
    }
    let failed = lines.iter().filter(|line| !line.passes).count();
    if failed > 0 {
        bail!("{failed} of {} campaigns failed", lines.len());
    }
    Ok(())
}

fn shown_line(line: &Line) -> String {
    let Line {
        number,
        ran,
        figures,
        plan,
        passes,
    } = line;
    let verdict = if *passes { "pass" } else { "FAIL" };
    format!("campaign {number}: {ran}: {figures} (plan: {plan}): {verdict}")
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
    command.args(["run", "--quiet", "--package", "sim", "--profile", "sim"]);
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

fn seeds(root: &Path, arguments: &Arguments) -> anyhow::Result<Line> {
    let (seeds, ops) = (arguments.seeds, arguments.ops);
    let mut command = simulator(root, &[]);
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
    let figures = format!(
        "{played} ops, {hosts} host and {daemons} daemon deaths, {} marks reached and {} missed, \
         {same} of {again} seeds the same again, hash {}, {} failures",
        length(object, "/marks"),
        length(object, "/missed"),
        object["hash"].as_str().unwrap_or("none"),
        length(object, "/failures"),
    );
    Ok(Line {
        number: 1,
        ran: format!("{seeds} seeds of {ops} ops"),
        figures,
        plan: "256 seeds of 20,000 ops, >= 2,500 host and 250 daemon deaths",
        passes: is_well && played >= 5_000_000 && hosts >= 2_500 && daemons >= 250,
    })
}

fn exhaustive(root: &Path, arguments: &Arguments) -> anyhow::Result<Line> {
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
    Ok(Line {
        number: 2,
        ran: format!("{} scopes, at most {commands} commands", objects.len()),
        figures,
        plan: "<= 5 commands x every crash point x every set of <= 4 lines, 10^5 to 10^6 cases",
        passes: is_well && commands >= 5 && all("/cases") >= 100_000 && lines >= 4,
    })
}

/// Runs tests of whole pools; the figures of the lines that they wrote for a campaign, and whether
/// they passed.
fn told(root: &Path, number: u32, test: &str) -> anyhow::Result<(Vec<String>, bool)> {
    let mut command = cargo(root);
    command.args(["test", "--package", "tierpool-tests", "--test", test]);
    let (text, is_well) = captured(&mut command)?;
    let lines: Vec<String> = figures_of(&text, number);
    if !is_well {
        print!("{text}");
    }
    Ok((lines, is_well))
}

/// What stands behind `campaign N: WHAT: ` in an output.
fn figures_of(text: &str, number: u32) -> Vec<String> {
    let begin = format!("campaign {number}: ");
    let told = text.lines().filter_map(|line| line.split_once(&begin));
    let figures = told.filter_map(|(_, told)| told.split_once(": "));
    figures.map(|(_, figures)| figures.to_owned()).collect()
}

/// The number before each of some words, added up over some figures.
fn sum_before(figures: &[String], word: &str) -> u64 {
    let of_one = |figures: &String| {
        let words: Vec<&str> = figures
            .split([' ', ','])
            .filter(|it| !it.is_empty())
            .collect();
        let pairs = words.windows(2).filter(|pair| pair[1] == word);
        pairs
            .filter_map(|pair| pair[0].parse::<u64>().ok())
            .sum::<u64>()
    };
    figures.iter().map(of_one).sum()
}

fn crash_points(root: &Path) -> anyhow::Result<Line> {
    let (figures, is_well) = told(root, 3, "crash_points")?;
    let operations = figures.iter().filter(|it| it.contains(" deaths")).count();
    let reached = figures.iter().find(|it| it.ends_with("reached"));
    let deaths = sum_before(&figures, "deaths");
    let again = sum_before(&figures, "in");
    Ok(Line {
        number: 3,
        ran: format!("{operations} operations of the daemon, as good as empty"),
        figures: format!(
            "points {}, {deaths} deaths, {again} in recoveries from them",
            reached.map_or("not told", String::as_str),
        ),
        plan: "each point x each operation x {empty, half full, full}, again in the recovery",
        passes: is_well && reached.is_some() && deaths > 0,
    })
}

fn failed_calls(root: &Path) -> anyhow::Result<Line> {
    let (figures, is_well) = told(root, 5, "syscalls")?;
    let calls = sum_before(&figures, "calls");
    Ok(Line {
        number: 5,
        ran: format!("{} kinds of call of the daemon", figures.len()),
        figures: format!("{calls} calls failed, once each"),
        plan: "each public operation until it succeeds, once and persistent",
        passes: is_well && calls > 0,
    })
}

fn planted(root: &Path, planted: Planted) -> anyhow::Result<Line> {
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
        Planted::Some(count) => found as u64 >= count.min(5),
        Planted::All => found >= 20,
    };
    Ok(Line {
        number: 16,
        ran: match planted {
            Planted::Some(count) => format!("{count} planted bugs, by the day"),
            Planted::All => "every planted bug of the simulator".to_owned(),
        },
        figures: format!("{found} found, each within its budget"),
        plan: "rotating 5; all of >= 20 in a soak",
        passes: is_well && enough,
    })
}

/// Days since 1970.
fn today() -> u64 {
    pool_core::clock::calendar() / SECONDS_OF_A_DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_wherever_the_harness_puts_them_and_added_up() {
        let output = "running 2 tests\n\
            campaign 3: a_share: 4 points, 7 deaths, 28 in recoveries from them\n\
            test a_share ... ok\n\
            test a_seal ... campaign 3: a_seal: 2 points, 3 deaths, 12 in recoveries from them\n\
            campaign 5: mmap: 9 calls failed once each with ENOMEM\n\
            campaign 3: points of the daemon: 17 of 17 reached\n";
        let figures = figures_of(output, 3);
        assert_eq!(figures.len(), 3);
        assert_eq!(sum_before(&figures, "deaths"), 10);
        assert_eq!(sum_before(&figures, "in"), 40);
        assert_eq!(figures[2], "17 of 17 reached");
        assert_eq!(sum_before(&figures_of(output, 5), "calls"), 9);
    }

    #[test]
    fn a_line_tells_what_ran_its_figures_the_plan_and_the_verdict() {
        let line = |passes| Line {
            number: 2,
            ran: "3 scopes".to_owned(),
            figures: "9 cases".to_owned(),
            plan: "10 cases",
            passes,
        };
        let passed = "campaign 2: 3 scopes: 9 cases (plan: 10 cases): pass";
        assert_eq!(shown_line(&line(true)), passed);
        assert!(shown_line(&line(false)).ends_with(": FAIL"));
    }

    #[test]
    fn all_bugs_are_asked_for_by_all() {
        assert_eq!("all".parse(), Ok(Planted::All));
        assert_eq!("7".parse(), Ok(Planted::Some(7)));
        assert!("some".parse::<Planted>().is_err());
    }
}
