//! Charts of a suite as SVG: one file a unit, a pair of bars a case, on a logarithmic axis.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::contest::{Result, Side};
use crate::report::figure;

const ROW: f64 = 44.0;
const BAR: f64 = 14.0;
const LABELS: f64 = 460.0;
const PLOT: f64 = 420.0;
const FIGURES: f64 = 110.0;
const TOP: f64 = 40.0;

/// Writes the charts into `folder`, which is made where it is missing.
pub(crate) fn write(folder: &Path, suite: &str, results: &[Result]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut units: BTreeMap<&str, Vec<&Result>> = BTreeMap::new();
    for result in results {
        units.entry(result.case.unit).or_default().push(result);
    }
    for (unit, results) in units {
        let file = format!("{suite}-{}.svg", unit.replace("1/s", "rate"));
        fs::write(folder.join(file), chart(suite, unit, &results)?)?;
    }
    Ok(())
}

fn chart(suite: &str, unit: &str, results: &[&Result]) -> anyhow::Result<String> {
    let scale = Scale::over(results);
    let (width, height) = (
        LABELS + PLOT + FIGURES,
        results.iter().fold(TOP, |sum, _| sum + ROW),
    );
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"22\" font-size=\"15\">{suite}, {}: median and range of the runs, \
         logarithmic</text>",
        escaped(unit)
    )?;
    let mut y = TOP;
    for result in results {
        writeln!(
            svg,
            "<text x=\"8\" y=\"{}\">{}</text>",
            y + 18.0,
            escaped(&result.case.name)
        )?;
        bar(&mut svg, &scale, &result.ours, y, "#1f77b4")?;
        if let Some(peer) = &result.peer {
            bar(&mut svg, &scale, peer, y + BAR + 2.0, "#b0b0b0")?;
        }
        y += ROW;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn bar(svg: &mut String, scale: &Scale, side: &Side, y: f64, colour: &str) -> anyhow::Result<()> {
    let (end, middle) = (scale.at(side.median), y + BAR / 2.0);
    writeln!(
        svg,
        "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\n\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"black\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\">{} {}</text>",
        end - LABELS,
        scale.at(side.min),
        scale.at(side.max),
        scale.at(side.max) + 4.0,
        y + BAR - 3.0,
        figure(side.median),
        escaped(side.name),
    )?;
    Ok(())
}

/// From figures to places: logarithms of what is above zero.
#[derive(Debug)]
struct Scale {
    low: f64,
    span: f64,
}

impl Scale {
    fn over(results: &[&Result]) -> Self {
        let sides = results
            .iter()
            .flat_map(|result| [Some(&result.ours), result.peer.as_ref()]);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for side in sides.flatten() {
            (low, high) = (low.min(side.min), high.max(side.max));
        }
        let low = low.max(f64::MIN_POSITIVE).log10().floor();
        let high = high.max(f64::MIN_POSITIVE).log10().ceil();
        Self {
            low,
            span: (high - low).max(1.0),
        }
    }

    fn at(&self, value: f64) -> f64 {
        let place = (value.max(f64::MIN_POSITIVE).log10() - self.low) / self.span;
        LABELS + place.clamp(0.0, 1.0) * PLOT
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Case;

    #[test]
    fn a_chart_is_within_its_bounds_and_shows_each_case() {
        let results = [
            Result::alone(Case::time("a < b", "us"), vec![1.0, 2.0]),
            Result::alone(Case::time("none", "us"), vec![0.0]),
        ];
        let svg = chart("pool", "us", &results.iter().collect::<Vec<_>>()).unwrap();
        assert!(svg.contains("a &lt; b") && svg.contains("none"));
        let scale = Scale::over(&results.iter().collect::<Vec<_>>());
        for value in [0.0, 1.0, 2.0] {
            assert!(
                (LABELS..=LABELS + PLOT).contains(&scale.at(value)),
                "{value}"
            );
        }
    }
}
