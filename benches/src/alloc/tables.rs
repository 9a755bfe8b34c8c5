//! Results as tables that a person can hold: a figure each, a row a workload, a column a contender.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};

use crate::contest::{CONTROL, Result};
use crate::report::figure;
use crate::results::is_control;

/// Tables of all figures. A cell is the ratio of ours to that contender's.
pub(super) fn tables(results: &[Result]) -> String {
    let mut figures: Vec<(&str, &str)> = Vec::new();
    for result in results {
        let of = (figure_of(result).1, result.case.unit);
        if !figures.contains(&of) {
            figures.push(of);
        }
    }
    let mut text = String::new();
    for (name, unit) in figures {
        let of_figure: Vec<_> = results
            .iter()
            .filter(|result| figure_of(result).1 == name)
            .collect();
        let table = table(&of_figure);
        let head = format!("\nRatio of ours to each, {name}; ours in {unit}:\n\n{table}\n");
        text.push_str(&head);
    }
    text
}

/// The case without its figure, and the figure.
fn figure_of(result: &Result) -> (&str, &str) {
    let name = &result.case.name;
    let name = name.strip_suffix(CONTROL).unwrap_or(name);
    name.rsplit_once(": ").unwrap_or((name, ""))
}

fn table(results: &[&Result]) -> Table {
    let (mut peers, mut cases) = (Vec::new(), Vec::new());
    for result in results {
        let (case, column) = (figure_of(result).0, column(result));
        if !peers.contains(&column) {
            peers.push(column);
        }
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    // The control goes last: it says how far the others are to be believed.
    peers.sort_by_key(|peer| *peer == "A/A");
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(
        ["workload", "ours"]
            .into_iter()
            .chain(peers.iter().copied()),
    );
    for case in cases {
        let of_case = || results.iter().filter(|result| figure_of(result).0 == case);
        let ours = of_case().next().map(|result| figure(result.ours.median));
        let mut row = vec![case.to_owned(), ours.unwrap_or_default()];
        for peer in &peers {
            let cell = of_case().find(|result| column(result) == *peer);
            row.push(cell.map_or_else(|| "-".to_owned(), |result| ratio(result)));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn column(result: &Result) -> &'static str {
    match &result.peer {
        Some(_) if is_control(result) => "A/A",
        Some(peer) => peer.name,
        None => "-",
    }
}

fn ratio(result: &Result) -> String {
    result.ratio().map_or_else(|| "-".to_owned(), figure)
}

/// One line for each figure of a case that is done, under `head`.
pub(super) fn progress(head: &str, results: &[Result]) -> String {
    let mut text = String::from(head);
    let mut last = "";
    for result in results {
        let (_, name) = figure_of(result);
        if name != last {
            let ours = figure(result.ours.median);
            let _ = write!(text, "\n  {name} {ours} {}:", result.case.unit);
            last = name;
        }
        let _ = write!(text, " {} {}", column(result), ratio(result));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::{Case, compare};

    fn results() -> Vec<Result> {
        let case = Case::time("lifo, 1 thread: CPU", "ns");
        let side = |name, value| ((name, "1"), vec![value]);
        let sides = [side("ours", 6.0), side("again", 6.0), side("x", 4.0)];
        let mut results = compare(&case, sides.into()).unwrap();
        let case = Case::time("batch, 1 thread: CPU", "ns");
        let sides = [side("ours", 6.0), side("again", 3.0)];
        results.extend(compare(&case, sides.into()).unwrap());
        results
    }

    #[test]
    fn a_cell_is_a_ratio_and_who_was_not_there_has_none() {
        let text = tables(&results());
        let rows: Vec<_> = text
            .lines()
            .filter(|line| line.contains("thread"))
            .collect();
        let cells = |row: &str| -> Vec<String> {
            let cells = row.split('|').map(|cell| cell.trim().to_owned());
            cells.filter(|cell| !cell.is_empty()).collect()
        };
        assert_eq!(cells(rows[0]), ["lifo, 1 thread", "6.00", "1.50", "1.00"]);
        assert_eq!(cells(rows[1]), ["batch, 1 thread", "6.00", "-", "2.00"]);
    }
}
