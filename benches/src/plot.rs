//! Charts of a suite as SVG: one file a unit, a pair of bars a case, on a logarithmic axis.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use charts::{Bar, Row};

use crate::contest::{Result, Side};
use crate::report::figure;

/// Writes the charts into `folder`, which is made where it is missing.
pub(crate) fn write(folder: &Path, suite: &str, results: &[Result]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut units: BTreeMap<&str, Vec<&Result>> = BTreeMap::new();
    for result in results {
        units.entry(result.case.unit).or_default().push(result);
    }
    for (unit, results) in units {
        let file = format!("{suite}-{}.svg", unit.replace("1/s", "rate"));
        fs::write(folder.join(file), chart(suite, unit, &results))?;
    }
    Ok(())
}

fn chart(suite: &str, unit: &str, results: &[&Result]) -> String {
    let title = format!("{suite}, {unit}: median and range of the runs, logarithmic");
    let rows = results.iter().map(|result| {
        let sides = [Some(&result.ours), result.peer.as_ref()];
        Row {
            label: result.case.name.clone(),
            bars: sides.into_iter().flatten().map(bar).collect(),
        }
    });
    charts::bars(&title, &rows.collect::<Vec<_>>())
}

fn bar(side: &Side) -> Bar {
    Bar {
        low: side.min,
        value: side.median,
        high: side.max,
        text: format!("{} {}", figure(side.median), side.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Case;

    #[test]
    fn a_chart_shows_each_case_and_its_peer() {
        let results = [
            Result::alone(Case::time("a < b", "us"), vec![1.0, 2.0]),
            Result::alone(Case::time("none", "us"), vec![0.0]),
        ];
        let svg = chart("pool", "us", &results.iter().collect::<Vec<_>>());
        assert!(svg.contains("a &lt; b") && svg.contains("none") && svg.contains("1.50 tierpool"));
    }
}
