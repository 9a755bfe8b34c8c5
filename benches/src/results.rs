//! The result files of a suite: `SUITE.jsonl`, and the measured part of `SUITE.md`.
//!
//! In the latter, what stands between [`BEGIN`] and [`END`] is written anew with each run; the rest
//! is a person's, and stays.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::contest::{CONTROL, Result};
use crate::report::{Report, figure, shown};

const BEGIN: &str = "<!-- measured: written by `cargo xtask bench`, not by hand -->\n";
const END: &str = "<!-- end of what was measured -->\n";

/// What was said of one ratio before it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Claim {
    pub(crate) case: &'static str,
    pub(crate) peer: &'static str,
    /// The ratio that the design asks for, at most for what is better lower, at least for what is
    /// better higher.
    pub(crate) target: Option<f64>,
    /// The ratio that was expected.
    pub(crate) predicted: f64,
    /// What the expectation came from.
    pub(crate) why: &'static str,
}

impl Claim {
    pub(crate) const fn new(
        case: &'static str,
        peer: &'static str,
        target: Option<f64>,
        predicted: f64,
        why: &'static str,
    ) -> Self {
        Self {
            case,
            peer,
            target,
            predicted,
            why,
        }
    }
}

/// Writes both files into `folder`; `tables` is how the results are shown.
pub(crate) fn write(
    folder: &Path,
    report: &Report,
    rounds: usize,
    tables: &str,
    claims: &[Claim],
) -> anyhow::Result<()> {
    let mut lines = report.json_lines()?.join("\n");
    lines.push('\n');
    fs::write(folder.join(format!("{}.jsonl", report.suite())), lines)?;
    let path = folder.join(format!("{}.md", report.suite()));
    let before = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let measured = measured(report, rounds, tables, claims)?;
    let after = replaced(&before, &measured)
        .with_context(|| format!("{} has no place for figures", path.display()))?;
    Ok(fs::write(path, after)?)
}

/// `text` with `measured` between the marks, or `None` where it has none.
fn replaced(text: &str, measured: &str) -> Option<String> {
    let (head, rest) = text.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}{measured}{END}{tail}"))
}

fn measured(
    report: &Report,
    rounds: usize,
    tables: &str,
    claims: &[Claim],
) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "\n{rounds} rounds. Machine: {}.\n", report.machine())?;
    for left_out in report.left_out() {
        writeln!(text, "{left_out}.\n")?;
    }
    text.push_str(tables);
    text.push_str("\n## Predicted and measured\n\n");
    text.push_str(
        "| case | against | target | predicted | because | measured | A/A | outcome |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for claim in claims {
        text.push_str(&row(claim, report.results())?);
    }
    text.push('\n');
    Ok(text)
}

/// One row for each result.
pub(crate) fn table(results: &[Result]) -> anyhow::Result<String> {
    let mut text = String::from(
        "| case | unit | ours: median (min..max) | peer | version | peer: median (min..max) | \
         ratio | A/A |\n|---|---|---|---|---|---|---|---|\n",
    );
    let measured = results.iter().filter(|result| !is_control(result));
    for result in measured {
        let peer = result.peer.as_ref();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            result.case.name,
            result.case.unit,
            shown(&result.ours),
            peer.map_or("-", |peer| peer.name),
            peer.map_or("-", |peer| peer.version),
            peer.map_or_else(|| "-".to_owned(), shown),
            shown_ratio(result.ratio()),
            shown_ratio(control(results, &result.case.name)),
        )?;
    }
    Ok(text)
}

fn row(claim: &Claim, results: &[Result]) -> anyhow::Result<String> {
    let Claim {
        case,
        peer,
        target,
        predicted,
        why,
    } = claim;
    let found = results.iter().find(|result| {
        let name = result.peer.as_ref().map(|peer| peer.name);
        result.case.name == *case && name == Some(*peer)
    });
    let ratio = found.and_then(Result::ratio);
    let outcome = match (ratio, found) {
        (Some(ratio), Some(found)) => outcome(claim, found, ratio),
        _ => "not measured".to_owned(),
    };
    let mut row = String::new();
    writeln!(
        row,
        "| {case} | {peer} | {} | {} | {why} | {} | {} | {outcome} |",
        shown_ratio(*target),
        figure(*predicted),
        shown_ratio(ratio),
        shown_ratio(control(results, case)),
    )?;
    Ok(row)
}

fn outcome(claim: &Claim, found: &Result, ratio: f64) -> String {
    use crate::contest::Better;
    let within = |bound: f64| match found.case.better {
        Better::Lower => ratio <= bound,
        Better::Higher => ratio >= bound,
    };
    let verdict = match claim.target {
        Some(target) if within(target) => "target met",
        Some(_) => "**target missed**",
        None if within(1.0) => "won",
        None => "**lost**",
    };
    format!(
        "{verdict}; {} of what was predicted",
        figure(ratio / claim.predicted)
    )
}

pub(crate) fn is_control(result: &Result) -> bool {
    result.case.name.ends_with(CONTROL)
}

/// How far the subject was from itself.
fn control(results: &[Result], case: &str) -> Option<f64> {
    let name = format!("{case}{CONTROL}");
    results
        .iter()
        .find(|result| result.case.name == name)?
        .ratio()
}

fn shown_ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_wrote_stays() {
        let text = format!("mine\n{BEGIN}old\n{END}mine too\n");
        let after = replaced(&text, "new\n").unwrap();
        assert_eq!(after, format!("mine\n{BEGIN}new\n{END}mine too\n"));
        assert_eq!(replaced("no place", "new\n"), None);
    }
}
