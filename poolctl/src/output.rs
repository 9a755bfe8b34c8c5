//! Standard output: tables for people, JSON for programs.

use std::io::{self, StdoutLock, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::error::CtlError;

/// Where answers go.
#[derive(Debug)]
pub(crate) struct Output {
    out: StdoutLock<'static>,
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            out: io::stdout().lock(),
            json,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// `message` as one line of JSON, or what `human` makes of it.
    pub(crate) fn show<T: Serialize>(
        &mut self,
        message: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), CtlError> {
        if self.json {
            self.json(message)
        } else {
            self.text(&human(message))
        }
    }

    /// `message` as one line of JSON.
    pub(crate) fn json<T: Serialize>(&mut self, message: &T) -> Result<(), CtlError> {
        let line = serde_json::to_string(message).map_err(|error| CtlError::Output {
            source: io::Error::from(error),
        })?;
        self.text(&format!("{line}\n"))
    }

    /// `text` as it is; it ends with the end of a line. It is flushed at once: whoever reads a pipe
    /// sees each answer as it comes.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CtlError> {
        let written = self.out.write_all(text.as_bytes());
        written
            .and_then(|()| self.out.flush())
            .map_err(|source| CtlError::Output { source })
    }
}

/// A table without lines. Columns whose title begins with `>` are aligned to the right.
#[derive(Debug)]
pub(crate) struct Grid(Table);

impl Grid {
    pub(crate) fn new<const N: usize>(titles: [&str; N]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(titles.map(|title| title.trim_start_matches('>')));
        for (column, title) in table.column_iter_mut().zip(titles) {
            column.set_padding((0, 2));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }

    /// The lines, with nothing after the last word of each.
    pub(crate) fn render(&self) -> String {
        self.0
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }
}
