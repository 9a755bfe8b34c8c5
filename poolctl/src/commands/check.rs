//! `poolctl check`: whether the accounts balance, extent by extent, and what the units of domains
//! are.

use pool_proto::admin::v1::{CheckReport, CheckRequest, DomainCheck};

use crate::Verdict;
use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<Verdict, CtlError> {
    let response = pool.calls.check(CheckRequest {}).await;
    let report = pool.answer(response)?;
    output.show(&report, render)?;
    Ok(if report.balanced {
        Verdict::Yes
    } else {
        Verdict::No
    })
}

fn render(report: &CheckReport) -> String {
    let mut grid = Grid::new(["DEVICE", ">EXTENTS", ">FREE", ">GRANTED", ">QUARANTINED"]);
    for device in &report.devices {
        grid.row([
            text::plain(&device.device),
            device.total_extents.to_string(),
            device.free_extents.to_string(),
            device.granted_extents.to_string(),
            device.quarantined_extents.to_string(),
        ]);
    }
    let mut page = grid.render();
    if !report.domains.is_empty() {
        page.push_str(&render_domains(&report.domains));
    }
    for finding in &report.findings {
        page.push_str(&format!("finding: {}\n", text::plain(finding)));
    }
    page.push_str(if report.balanced {
        "balanced\n"
    } else {
        "NOT balanced: keep the daemon's log and its journal, and report this\n"
    });
    page
}

fn render_domains(domains: &[DomainCheck]) -> String {
    let mut grid = Grid::new([
        ">DOMAIN",
        ">MEMBERS",
        ">UNITS",
        ">FREE",
        ">SHARED",
        ">EXCLUSIVE",
        ">FENCED",
        ">LOST",
        ">VIOLATIONS",
    ]);
    for domain in domains {
        let numbers = [
            domain.members,
            domain.units,
            domain.free,
            domain.shared,
            domain.exclusive,
            domain.fenced,
            domain.lost,
            domain.violations,
        ];
        let [
            members,
            units,
            free,
            shared,
            exclusive,
            fenced,
            lost,
            violations,
        ] = numbers.map(|number| number.to_string());
        grid.row([
            domain.segment_id.to_string(),
            members,
            units,
            free,
            shared,
            exclusive,
            fenced,
            lost,
            violations,
        ]);
    }
    grid.render()
}
