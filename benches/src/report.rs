//! What was measured, as JSON lines or as a table: each result as it comes.

use std::fmt;
use std::io::Write as _;

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::contest::{Better, Mode, Result, Side};
use crate::machine::Machine;

/// A peer that did not take part. Told in the output, so that nobody takes its absence for a win.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) case: String,
    pub(crate) peer: &'static str,
    pub(crate) why: &'static str,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, peer, why } = self;
        write!(f, "Left out: {peer} in \"{case}\": {why}")
    }
}

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
    machine: Machine,
    results: Vec<Result>,
    left_out: Vec<LeftOut>,
}

impl Report {
    /// Begins with the machine.
    pub(crate) fn new(
        suite: &'static str,
        format: Format,
        machine: Machine,
    ) -> anyhow::Result<Self> {
        let report = Self {
            suite,
            format,
            machine,
            results: Vec::new(),
            left_out: Vec::new(),
        };
        match format {
            Format::Json => print(&report.head())?,
            Format::Table => print(&report.machine.to_string())?,
        }
        Ok(report)
    }

    /// Says that a peer does not take part.
    pub(crate) fn leave_out(
        &mut self,
        case: String,
        peer: &'static str,
        why: &'static str,
    ) -> anyhow::Result<()> {
        let left_out = LeftOut { case, peer, why };
        match self.format {
            Format::Json => print(&self.absence(&left_out))?,
            Format::Table => eprintln!("{left_out}"),
        }
        self.left_out.push(left_out);
        Ok(())
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

    /// The same, where the suite itself tells what is under way.
    pub(crate) fn add_quietly(&mut self, results: Vec<Result>) -> anyhow::Result<()> {
        if self.format == Format::Json {
            return self.add(results);
        }
        self.results.extend(results);
        Ok(())
    }

    /// Prints what was held back.
    pub(crate) fn finish(&self) -> anyhow::Result<&[Result]> {
        self.finish_with(&self.table().to_string())
    }

    /// The same, with tables of the suite's own.
    pub(crate) fn finish_with(&self, tables: &str) -> anyhow::Result<&[Result]> {
        if self.format == Format::Table {
            print(tables)?;
            for left_out in &self.left_out {
                print(&left_out.to_string())?;
            }
        }
        Ok(&self.results)
    }

    /// What was measured so far.
    pub(crate) fn results(&self) -> &[Result] {
        &self.results
    }

    /// Who did not take part.
    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Where it was measured.
    pub(crate) const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// All that JSON output consists of.
    pub(crate) fn json_lines(&self) -> anyhow::Result<Vec<String>> {
        let mut lines = vec![self.head()];
        lines.extend(self.left_out.iter().map(|left_out| self.absence(left_out)));
        for result in &self.results {
            lines.push(serde_json::to_string(&self.line(result))?);
        }
        Ok(lines)
    }

    /// Which suite it is.
    pub(crate) const fn suite(&self) -> &'static str {
        self.suite
    }

    fn head(&self) -> String {
        serde_json::json!({ "machine": self.machine }).to_string()
    }

    fn absence(&self, left_out: &LeftOut) -> String {
        serde_json::json!({ "suite": self.suite, "left_out": left_out }).to_string()
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
                Mode::Emulated => "emulated",
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

pub(crate) fn shown(side: &Side) -> String {
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
        let report = Report::new("pool", Format::Table, machine).unwrap();
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
