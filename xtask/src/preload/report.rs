//! What is shown of the runs: a table for people, or one JSON object a line.

use pool_core::Nanos;
use serde_json::json;

use super::measure::Measured;
use super::programs::Program;

/// What became of a program.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Both runs did their work and printed the same.
    Passed {
        /// Without the library.
        plain: Measured,
        /// With it.
        preloaded: Measured,
    },
    /// It did not, and why.
    Failed(String),
    /// It could not run here, and why.
    Skipped(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed { .. } => "pass",
            Self::Failed(_) => "FAIL",
            Self::Skipped(_) => "SKIPPED",
        }
    }
}

/// Shows what became of one.
pub(super) fn show(program: &Program, verdict: &Verdict, as_json: bool) {
    if as_json {
        println!("{}", line(program, verdict));
        return;
    }
    let word = verdict.word();
    match verdict {
        Verdict::Passed { plain, preloaded } => println!(
            "{:<9} {word:<7} {:>8} {:>8} {:>9} {:>9}  {}",
            program.name,
            seconds(plain.wall),
            seconds(preloaded.wall),
            mib(plain.peak_kib),
            mib(preloaded.peak_kib),
            program.work
        ),
        Verdict::Failed(why) | Verdict::Skipped(why) => {
            println!("{:<9} {word:<7} {}", program.name, program.work);
            for line in why.lines() {
                println!("          {line}");
            }
        }
    }
}

/// The heads of the columns.
pub(super) fn show_head() {
    println!("wall time in s and peak memory of the largest process in MiB, without and with");
    println!(
        "{:<9} {:<7} {:>8} {:>8} {:>9} {:>9}  what it did",
        "program", "", "wall", "with", "peak", "with"
    );
}

fn line(program: &Program, verdict: &Verdict) -> String {
    let mut line = json!({
        "program": program.name,
        "work": program.work,
        "verdict": verdict.word().to_lowercase(),
    });
    match verdict {
        Verdict::Passed { plain, preloaded } => {
            line["wall_ns"] = json!([plain.wall.get(), preloaded.wall.get()]);
            line["peak_kib"] = json!([plain.peak_kib, preloaded.peak_kib]);
        }
        Verdict::Failed(why) | Verdict::Skipped(why) => line["why"] = json!(why),
    }
    line.to_string()
}

fn seconds(span: Nanos) -> String {
    let millis = span.get() / 1_000_000;
    format!("{}.{:02}", millis / 1_000, millis % 1_000 / 10)
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1_024, kib % 1_024 * 10 / 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_cut_and_not_lost() {
        assert_eq!(seconds(Nanos::from_millis(61_079)), "61.07");
        assert_eq!(mib(1_536), "1.5");
        assert_eq!(mib(1_023), "0.9");
    }
}
