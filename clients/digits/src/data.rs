//! The data set as the project carries it: a compressed table of handwritten digits.
//!
//! One digit a line: 64 pixels of value 0 to 16 and the label 0 to 9, parted by commas. Where it
//! comes from stands in `data/README.md`.

use std::io::{self, BufRead, BufReader};

use flate2::read::GzDecoder;

/// Pixels of one digit: 8 x 8.
pub(crate) const PIXELS: usize = 64;
/// Labels 0 to 9.
pub(crate) const CLASSES: usize = 10;
/// The largest value of a pixel in the table.
const PIXEL_MAX: u8 = 16;

/// The table as the project carries it.
static TABLE: &[u8] = include_bytes!("../data/digits.csv.gz");

/// A table that cannot be used, by the line that is wrong. Bring the file back as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// The file cannot be unpacked, or is no text.
    #[error("line {row} cannot be read")]
    Unreadable {
        /// Counted from 1.
        row: usize,
        /// Why.
        source: io::Error,
    },
    /// A line has another number of fields than pixels and a label.
    #[error("line {row} has {found} fields, not {}", PIXELS + 1)]
    Fields {
        /// Counted from 1.
        row: usize,
        /// How many there are.
        found: usize,
    },
    /// A field is no number, or a number that cannot stand there.
    #[error("line {row}, field {field}: `{text}` is no number from 0 to {max}")]
    Value {
        /// Counted from 1.
        row: usize,
        /// Counted from 1.
        field: usize,
        /// What stands there.
        text: String,
        /// The largest number that may.
        max: u8,
    },
    /// There is not one digit in it.
    #[error("the table is empty")]
    Empty,
}

/// Digits in private memory.
#[derive(Debug, PartialEq)]
pub(crate) struct Digits {
    /// [`PIXELS`] a digit, from 0 to 1.
    pub(crate) pixels: Vec<f32>,
    /// One a digit.
    pub(crate) labels: Vec<u8>,
}

impl Digits {
    /// The table that the project carries.
    pub(crate) fn carried() -> Result<Self, DataError> {
        Self::parse(BufReader::new(GzDecoder::new(TABLE)))
    }

    /// Reads a table, and refuses it whole where one line is wrong.
    fn parse(table: impl BufRead) -> Result<Self, DataError> {
        let mut digits = Self {
            pixels: Vec::new(),
            labels: Vec::new(),
        };
        for (index, line) in table.lines().enumerate() {
            let row = index + 1;
            let line = line.map_err(|source| DataError::Unreadable { row, source })?;
            digits.push(row, &line)?;
        }
        if digits.labels.is_empty() {
            return Err(DataError::Empty);
        }
        Ok(digits)
    }

    fn push(&mut self, row: usize, line: &str) -> Result<(), DataError> {
        let found = line.split(',').count();
        if found != PIXELS + 1 {
            return Err(DataError::Fields { row, found });
        }
        for (index, text) in line.split(',').enumerate() {
            let max = if index < PIXELS { PIXEL_MAX } else { 9 };
            let number = text
                .parse()
                .ok()
                .filter(|number| *number <= max)
                .ok_or_else(|| DataError::Value {
                    row,
                    field: index + 1,
                    text: text.to_owned(),
                    max,
                })?;
            if index < PIXELS {
                self.pixels.push(f32::from(number) / f32::from(PIXEL_MAX));
            } else {
                self.labels.push(number);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pixel: &str, label: &str) -> String {
        format!("{},{pixel},{label}", vec!["0"; PIXELS - 1].join(","))
    }

    #[test]
    fn the_carried_table_is_whole() {
        let digits = Digits::carried().unwrap();
        assert_eq!(digits.labels.len(), 1_797);
        assert_eq!(digits.pixels.len(), 1_797 * PIXELS);
        assert_eq!(digits.labels[..3], [0, 1, 2]);
        assert_eq!(digits.pixels[..4], [0.0, 0.0, 5.0 / 16.0, 13.0 / 16.0]);
        for class in 0..10 {
            let count = digits
                .labels
                .iter()
                .filter(|label| **label == class)
                .count();
            assert!(
                (174..=183).contains(&count),
                "{count} digits of label {class}"
            );
        }
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        let good = line("16", "9");
        for (bad, told) in [
            (String::new(), "line 2 has 1 fields, not 65"),
            (format!("{good},1"), "line 2 has 66 fields"),
            (
                line("17", "9"),
                "line 2, field 64: `17` is no number from 0 to 16",
            ),
            (line("-1", "9"), "line 2, field 64: `-1`"),
            (line("x", "9"), "line 2, field 64: `x`"),
            (line("1.5", "9"), "line 2, field 64: `1.5`"),
            (
                line("1", "10"),
                "line 2, field 65: `10` is no number from 0 to 9",
            ),
            (line("1", ""), "line 2, field 65: ``"),
        ] {
            let table = format!("{good}\n{bad}\n{good}\n");
            let error = Digits::parse(table.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        assert!(matches!(Digits::parse(&b""[..]), Err(DataError::Empty)));
        let no_text = [line("1", "1").as_bytes(), b"\n\xff\n"].concat();
        assert!(matches!(
            Digits::parse(&no_text[..]),
            Err(DataError::Unreadable { row: 2, .. })
        ));
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let half = &TABLE[..TABLE.len() / 2];
        let error = Digits::parse(BufReader::new(GzDecoder::new(half))).unwrap_err();
        assert!(matches!(error, DataError::Unreadable { .. }), "{error}");
    }
}
