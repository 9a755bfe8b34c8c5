//! What was measured, as JSON lines or as a table: each result as it comes.

use std::io::Write as _;

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::contest::{Better, Mode, Result, Side};
use crate::machine::Machine;

/// One line of the output.
#[derive(Debug, Serialize)]
struct Line<'a> {
    suite: &'a str,
    case: &'a str,
    unit: &'a str,
    better: Better,
    mode: Mode,
    ours: &'a Side,
    peer: Option<&'a Side>,
    /// Median of the pairwise ours/peer.
    ratio: Option<f64>,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// A table, when all is done; what is under way is told on stderr.
    Table,
}

/// The results of one suite.
#[derive(Debug)]
pub(crate) struct Report {
    suite: &'static str,
    format: Format,
    results: Vec<Result>,
}

impl Report {
    /// Begins with the machine.
    pub(crate) fn new(
        suite: &'static str,
        format: Format,
        machine: &Machine,
    ) -> anyhow::Result<Self> {
        match format {
            Format::Json => print(&serde_json::json!({ "machine": machine }).to_string())?,
            Format::Table => print(&machine.to_string())?,
        }
        Ok(Self {
            suite,
            format,
            results: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, results: impl IntoIterator<Item = Result>) -> anyhow::Result<()> {
        for result in results {
            match self.format {
                Format::Json => print(&serde_json::to_string(&self.line(&result))?)?,
                Format::Table => eprintln!("{}: {}", result.case.name, shown(&result.ours)),
            }
            self.results.push(result);
        }
        Ok(())
    }

    /// Prints what was held back.
    pub(crate) fn finish(&self) -> anyhow::Result<&[Result]> {
        if self.format == Format::Table {
            print(&self.table().to_string())?;
        }
        Ok(&self.results)
    }

    fn line<'a>(&'a self, result: &'a Result) -> Line<'a> {
        Line {
            suite: self.suite,
            case: &result.case.name,
            unit: result.case.unit,
            better: result.case.better,
            mode: result.case.mode,
            ours: &result.ours,
            peer: result.peer.as_ref(),
            ratio: result.ratio(),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header([
            "case",
            "unit",
            "ours: median (min..max)",
            "peer",
            "peer: median (min..max)",
            "ratio",
            "mode",
        ]);
        for result in &self.results {
            let mode = match result.case.mode {
                Mode::Measured => "measured",
                Mode::Modelled => "modelled",
            };
            let peer = result.peer.as_ref();
            table.add_row([
                result.case.name.clone(),
                result.case.unit.to_owned(),
                shown(&result.ours),
                peer.map_or("-", |peer| peer.name).to_owned(),
                peer.map_or_else(|| "-".to_owned(), shown),
                result.ratio().map_or_else(|| "-".to_owned(), figure),
                mode.to_owned(),
            ]);
        }
        for column in [2, 4, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

fn shown(side: &Side) -> String {
    format!(
        "{} ({}..{})",
        figure(side.median),
        figure(side.min),
        figure(side.max)
    )
}

/// Three figures that count, and never fewer than the whole part.
pub(crate) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Case;

    #[test]
    fn a_figure_shows_what_counts() {
        assert_eq!(
            [123.4, 12.34, 1.234, 0.1234].map(figure),
            ["123", "12.3", "1.23", "0.123"]
        );
    }

    #[test]
    fn a_line_has_every_key_of_the_format() {
        let machine = Machine::here().unwrap();
        let report = Report::new("pool", Format::Table, &machine).unwrap();
        let result = Result::alone(Case::time("c", "us"), vec![1.0, 3.0]);
        let line = serde_json::to_value(report.line(&result)).unwrap();
        for key in [
            "suite", "case", "unit", "better", "mode", "ours", "peer", "ratio",
        ] {
            assert!(line.get(key).is_some(), "{key}");
        }
        for key in ["name", "version", "min", "median", "max", "runs"] {
            assert!(line["ours"].get(key).is_some(), "{key}");
        }
        assert_eq!(
            (&line["better"], &line["mode"]),
            (&"lower".into(), &"measured".into())
        );
    }
}
