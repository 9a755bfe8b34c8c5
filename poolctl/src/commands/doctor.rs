//! `poolctl doctor`: what of the platform works, what it falls back to, and what is off.

use pool_proto::admin::v1::{DoctorReport, DoctorRequest, Finding};

use crate::Verdict;
use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

/// Verdicts with which the pool keeps every promise. Any other is a hard problem.
const HARMLESS: [&str; 3] = ["works", "falls back", "off"];
/// The path without which memory that is freed is never granted again.
const NEEDED: &str = "proof of release";

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<Verdict, CtlError> {
    let response = pool.calls.doctor(DoctorRequest {}).await;
    let report = pool.answer(response)?;
    output.show(&report, render)?;
    let broken = report.findings.iter().any(is_broken);
    Ok(if broken { Verdict::No } else { Verdict::Yes })
}

fn is_broken(finding: &Finding) -> bool {
    let verdict = finding.verdict.as_str();
    !HARMLESS.contains(&verdict) || (finding.path == NEEDED && verdict == "off")
}

fn render(report: &DoctorReport) -> String {
    let mut grid = Grid::new(["PATH", "VERDICT", "DETAIL"]);
    for finding in &report.findings {
        grid.row([
            text::plain(&finding.path),
            text::plain(&finding.verdict),
            text::plain(&finding.detail),
        ]);
    }
    let broken = report.findings.iter().filter(|finding| is_broken(finding));
    let broken: Vec<_> = broken.map(|finding| text::plain(&finding.path)).collect();
    if broken.is_empty() {
        return grid.render();
    }
    format!("{}\nto be mended: {}\n", grid.render(), broken.join(", "))
}
