//! How figures grow with hosts: the same case of each fabric in one row, and as curves.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use charts::{Axis, Curve, Plot, Spacing};

use super::HOSTS;
use crate::contest::{Mode, Result};
use crate::report::figure;
use crate::results::is_control;

/// The figures of one case.
struct Row<'a> {
    what: &'a str,
    unit: &'static str,
    mode: Mode,
    /// Hosts and the median, in the order of measurement.
    figures: Vec<(u16, f64)>,
}

/// Cases of the same kind together; a peer's row is its own suite's matter.
fn rows(results: &[Result]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for result in results.iter().filter(|result| !is_control(result)) {
        let Some((what, hosts)) = parted(&result.case.name) else {
            continue;
        };
        let point = (hosts, result.ours.median);
        match rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.figures.push(point),
            None => rows.push(Row {
                what,
                unit: result.case.unit,
                mode: result.case.mode,
                figures: vec![point],
            }),
        }
    }
    rows
}

/// What is measured, and of how many hosts.
fn parted(name: &str) -> Option<(&str, u16)> {
    let (what, hosts) = name.rsplit_once(", ")?;
    let (hosts, _) = hosts.split_once(" host")?;
    Some((what, hosts.parse().ok()?))
}

/// One row a case, one column a number of hosts.
pub(super) fn table(results: &[Result]) -> anyhow::Result<String> {
    let mut text = String::from("### Growth with hosts (medians, ours)\n\n| case | unit | mode |");
    for hosts in HOSTS {
        write!(text, " {hosts} |")?;
    }
    text.push_str("\n|---|---|---|");
    text.push_str(&"---:|".repeat(HOSTS.len()));
    text.push('\n');
    for row in rows(results) {
        let mode = match row.mode {
            Mode::Measured => "measured",
            Mode::Emulated => "emulated",
            Mode::Modelled => "modelled",
        };
        write!(text, "| {} | {} | {mode} |", row.what, row.unit)?;
        for hosts in HOSTS {
            let found = row.figures.iter().find(|point| point.0 == hosts);
            let shown = found.map_or_else(|| "-".to_owned(), |point| figure(point.1));
            write!(text, " {shown} |")?;
        }
        text.push('\n');
    }
    text.push_str("\n### All cases\n\n");
    Ok(text)
}

/// Rates against hosts, as `fabric-growth.svg`.
pub(super) fn plot(folder: &Path, results: &[Result]) -> anyhow::Result<()> {
    let rates = rows(results).into_iter().filter(|row| row.unit == "1/s");
    let curves = rates.map(|row| Curve {
        name: row.what.to_owned(),
        points: row
            .figures
            .iter()
            .map(|&(hosts, rate)| (hosts.into(), rate))
            .collect(),
    });
    let plot = Plot {
        title: "fabric: events a second (measured), by hosts".to_owned(),
        across: Axis {
            label: "hosts".to_owned(),
            spacing: Spacing::Logarithmic,
        },
        up: Axis {
            label: "events a second".to_owned(),
            spacing: Spacing::Logarithmic,
        },
        curves: curves.collect(),
        marks: Vec::new(),
    };
    Ok(fs::write(
        folder.join("fabric-growth.svg"),
        charts::curves(&plot),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Case;
    use crate::fabric::name;

    #[test]
    fn the_same_case_of_several_fabrics_is_one_row() {
        let result = |what, hosts, rate| Result::alone(Case::rate(name(what, hosts)), vec![rate]);
        let results = [
            result("load, hot", 1, 10.0),
            result("store", 1, 5.0),
            result("load, hot", 1_024, 8.0),
        ];
        let table = table(&results).unwrap();
        assert!(
            table.contains("| load, hot | 1/s | measured | 10.0 | - | - | - | - | 8.00 |"),
            "{table}"
        );
        assert_eq!(parted("load, hot, 1 host"), Some(("load, hot", 1)));
        assert_eq!(parted("no number of hosts"), None);
    }
}
