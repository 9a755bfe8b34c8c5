//! `poolctl doctor`: what of the platform works, what it falls back to, and what is off.

use pool_proto::admin::v1::{DoctorReport, DoctorRequest};

use crate::Verdict;
use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

/// Verdicts with which the pool keeps every promise. Any other is a hard problem.
const HARMLESS: [&str; 3] = ["works", "falls back", "off"];

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<Verdict, CtlError> {
    let response = pool.calls.doctor(DoctorRequest {}).await;
    let report = pool.answer(response)?;
    output.show(&report, render)?;
    let harmless = report
        .findings
        .iter()
        .all(|finding| HARMLESS.contains(&finding.verdict.as_str()));
    Ok(if harmless { Verdict::Yes } else { Verdict::No })
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
    grid.render()
}
