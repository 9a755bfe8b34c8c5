//! Bars: one group of them for each thing, on a logarithmic axis.

use core::fmt::Write as _;

use crate::scale::{Scale, Spacing};
use crate::{escaped, head, title_width, width_of};

const BAR: f64 = 14.0;
/// Between two bars of a row, and below the last.
const GAP: f64 = 2.0;
const BELOW: f64 = 12.0;
const LABELS: f64 = 460.0;
const PLOT: f64 = 420.0;
const FIGURES: f64 = 110.0;
const TOP: f64 = 40.0;

/// A figure and its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// The least.
    pub low: f64,
    /// How long the bar is.
    pub value: f64,
    /// The most.
    pub high: f64,
    /// What stands beside it.
    pub text: String,
}

/// Figures of one thing: the subject's first, then those beside which it is put.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which thing.
    pub label: String,
    /// In this order from above.
    pub bars: Vec<Bar>,
}

/// A picture of them.
#[must_use]
pub fn bars(title: &str, rows: &[Row]) -> String {
    let all = rows.iter().flat_map(|row| &row.bars);
    let figures = all.flat_map(|bar| [bar.low, bar.value, bar.high]);
    let scale = Scale::over(Spacing::Logarithmic, figures);
    let height = rows.iter().fold(TOP, |sum, row| sum + height_of(row));
    let texts = rows
        .iter()
        .flat_map(|row| &row.bars)
        .map(|bar| bar.text.as_str());
    let beside = texts.map(width_of).fold(FIGURES, f64::max) + 8.0;
    let width = (LABELS + PLOT + beside).max(title_width(title));
    let mut svg = head(width, height, title);
    let mut y = TOP;
    for row in rows {
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{}\">{}</text>",
            y + 18.0,
            escaped(&row.label)
        );
        for (index, bar) in (0_u32..).zip(&row.bars) {
            let at = y + f64::from(index) * (BAR + GAP);
            let colour = if index == 0 { "#1f77b4" } else { "#b0b0b0" };
            draw(&mut svg, &scale, bar, at, colour);
        }
        y += height_of(row);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Of two bars, as most rows have, or of as many as there are.
fn height_of(row: &Row) -> f64 {
    row.bars
        .iter()
        .skip(2)
        .fold(2.0 * (BAR + GAP), |sum, _| sum + BAR + GAP)
        + BELOW
}

fn draw(svg: &mut String, scale: &Scale, bar: &Bar, y: f64, colour: &str) {
    let at = |figure| LABELS + scale.at(figure) * PLOT;
    let (end, middle) = (at(bar.value), y + BAR / 2.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\n\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"black\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\">{}</text>",
        end - LABELS,
        at(bar.low),
        at(bar.high),
        at(bar.high) + 4.0,
        y + BAR - 3.0,
        escaped(&bar.text),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, values: &[f64]) -> Row {
        let bar = |&value: &f64| Bar {
            low: value,
            value,
            high: value * 2.0,
            text: format!("{value} <of>"),
        };
        Row {
            label: label.to_owned(),
            bars: values.iter().map(bar).collect(),
        }
    }

    #[test]
    fn a_picture_is_as_wide_as_what_stands_beside_its_bars() {
        let mut rows = [row("a", &[1.0])];
        let narrow = bars("t", &rows);
        rows[0].bars[0].text = "x".repeat(100);
        let wide = bars("t", &rows);
        assert!(
            narrow.contains("width=\"998\"") && wide.contains("width=\"1588\""),
            "{wide}"
        );
    }

    #[test]
    fn a_picture_shows_each_row_and_is_as_high_as_its_bars() {
        let rows = [
            row("a < b", &[1.0, 2.0]),
            row("none", &[0.0, 1.0, 2.0]),
            row("", &[]),
        ];
        let svg = bars("t & u", &rows);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for text in ["a &lt; b", "none", "t &amp; u", "2 &lt;of&gt;"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.contains("height=\"188\""), "{svg}");
        assert_eq!(svg.matches("<rect x").count(), 5);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
