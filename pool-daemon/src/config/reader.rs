//! A TOML document, taken apart key by key.
//!
//! Whoever reads asks for each key it knows, with the kind and the bounds of its value; what is
//! left in the end is a key that nobody knows. So an error always names the key, the value as it
//! was written, what is allowed, and the line.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value as it was written: what an error about it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// As `device[1].size`.
    pub(super) key: String,
    pub(super) text: String,
    pub(super) place: Option<Place>,
}

impl Written {
    /// The error that this value is none of `allowed`.
    pub(super) fn refused(&self, allowed: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            key: self.key.clone(),
            value: self.text.clone(),
            allowed: allowed.into(),
            place: self.place.clone(),
        }
    }
}

/// A value, and how it was written.
#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) value: T,
    pub(super) written: Written,
}

impl<T> Item<T> {
    /// The value where `convert` makes one of it, else the error that it is none of `allowed`.
    pub(super) fn convert<U>(
        self,
        allowed: &str,
        convert: impl FnOnce(T) -> Option<U>,
    ) -> Result<Item<U>, ConfigError> {
        match convert(self.value) {
            Some(value) => Ok(Item {
                value,
                written: self.written,
            }),
            None => Err(self.written.refused(allowed)),
        }
    }
}

/// A document and every value that was taken out of it.
#[derive(Debug)]
pub(super) struct Document<'t> {
    file: String,
    text: &'t str,
    written: RefCell<BTreeMap<String, Written>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(file: String, text: &'t str) -> Self {
        Self {
            file,
            text,
            written: RefCell::default(),
        }
    }

    /// The top of the document.
    pub(super) fn top(&self) -> Result<Section<'_>, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| ConfigError::Syntax {
            place: self.place(error.span().unwrap_or_default()),
            message: error.message().to_owned(),
        })?;
        let span = table.span();
        Ok(Section::new(self, String::new(), span, table.into_inner()))
    }

    /// Each value by its key.
    pub(super) fn into_written(self) -> BTreeMap<String, Written> {
        self.written.into_inner()
    }

    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Place {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }

    fn write_down(&self, key: String, span: Range<usize>) -> Written {
        let text = self.text.get(span.clone()).unwrap_or_default().to_owned();
        let written = Written {
            key,
            text,
            place: Some(self.place(span)),
        };
        self.written
            .borrow_mut()
            .insert(written.key.clone(), written.clone());
        written
    }
}

/// One table of a document.
#[derive(Debug)]
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    path: String,
    span: Range<usize>,
    table: DeTable<'d>,
    known: Vec<&'static str>,
}

type Taken<T> = Result<Option<Item<T>>, ConfigError>;

impl<'d> Section<'d> {
    fn new(
        document: &'d Document<'d>,
        path: String,
        span: Range<usize>,
        table: DeTable<'d>,
    ) -> Self {
        Self {
            document,
            path,
            span,
            table,
            known: Vec::new(),
        }
    }

    /// The error that `key` must be there.
    pub(super) fn missing(&self, key: &str, allowed: &str) -> ConfigError {
        ConfigError::Missing {
            key: self.key(key),
            allowed: allowed.to_owned(),
            place: self.document.place(self.span.clone()),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str, allowed: &str) -> Taken<String> {
        self.value(key, allowed, |value| value.as_str().map(str::to_owned))
    }

    /// Yes or no.
    pub(super) fn boolean(&mut self, key: &'static str) -> Taken<bool> {
        self.value(key, "true or false", DeValue::as_bool)
    }

    /// A whole number within `bounds`.
    pub(super) fn number(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Taken<u64> {
        let allowed = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        self.value(key, &allowed, |value| {
            whole(value).filter(|number| bounds.contains(number))
        })
    }

    /// A list of at most `most` different numbers within `bounds`.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<u64>,
        most: usize,
    ) -> Taken<Vec<u64>> {
        let (first, last) = (bounds.start(), bounds.end());
        let allowed = format!("a list of at most {most} different numbers from {first} to {last}");
        self.value(key, &allowed, |value| {
            let list = value.as_array().filter(|list| list.len() <= most)?;
            let numbers: Vec<_> = list
                .iter()
                .map_while(|item| whole(item.get_ref()))
                .collect();
            let different = (1..numbers.len()).all(|at| !numbers[..at].contains(&numbers[at]));
            let whole = numbers.len() == list.len() && different;
            (whole && numbers.iter().all(|number| bounds.contains(number))).then_some(numbers)
        })
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Taken<T> {
        let allowed = words
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect::<Vec<_>>();
        self.value(key, &format!("one of {}", allowed.join(", ")), |value| {
            let found = value.as_str()?;
            words
                .iter()
                .find(|(word, _)| *word == found)
                .map(|&(_, meant)| meant)
        })
    }

    /// A text, or a whole number as it is written.
    pub(super) fn text_or_number(&mut self, key: &'static str, allowed: &str) -> Taken<String> {
        self.value(key, allowed, |value| match value {
            DeValue::Integer(_) => whole(value).map(|number| number.to_string()),
            _ => value.as_str().map(str::to_owned),
        })
    }

    /// A table.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Option<Self>, ConfigError> {
        let Some((value, written)) = self.take(key) else {
            return Ok(None);
        };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Ok(Some(Self::new(self.document, written.key, span, table))),
            _ => Err(written.refused(format!("a table, as [{}]", self.key(key)))),
        }
    }

    /// At most `most` tables of one name.
    pub(super) fn sections(
        &mut self,
        key: &'static str,
        most: usize,
    ) -> Result<Vec<Self>, ConfigError> {
        let Some((value, written)) = self.take(key) else {
            return Ok(Vec::new());
        };
        let refused =
            || written.refused(format!("at most {most} tables, as [[{}]]", self.key(key)));
        let DeValue::Array(tables) = value.into_inner() else {
            return Err(refused());
        };
        if tables.len() > most {
            return Err(refused());
        }
        tables
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                let span = value.span();
                let DeValue::Table(table) = value.into_inner() else {
                    return Err(refused());
                };
                Ok(Self::new(
                    self.document,
                    format!("{}[{index}]", self.key(key)),
                    span,
                    table,
                ))
            })
            .collect()
    }

    /// Every table in this one, whatever its name.
    pub(super) fn named_sections(mut self) -> Result<Vec<(String, Self)>, ConfigError> {
        std::mem::take(&mut self.table)
            .into_iter()
            .map(|(name, value)| {
                let name = name.into_inner().into_owned();
                let key = self.key(&name);
                let written = self.document.write_down(key.clone(), value.span());
                let span = value.span();
                match value.into_inner() {
                    DeValue::Table(table) => Ok((name, Self::new(self.document, key, span, table))),
                    _ => Err(written.refused(format!("a table, as [{key}]"))),
                }
            })
            .collect()
    }

    /// Ends the table: whatever is left in it is a key that nobody knows.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        match self.table.iter().min_by_key(|(name, _)| name.span().start) {
            None => Ok(()),
            Some((name, _)) => Err(ConfigError::UnknownKey {
                key: self.key(name.get_ref()),
                known: self.known.join(", "),
                place: self.document.place(name.span()),
            }),
        }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn take(&mut self, key: &'static str) -> Option<(Spanned<DeValue<'d>>, Written)> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let written = self.document.write_down(self.key(key), value.span());
        Some((value, written))
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        convert: impl FnOnce(&DeValue<'d>) -> Option<T>,
    ) -> Taken<T> {
        let Some((value, written)) = self.take(key) else {
            return Ok(None);
        };
        match convert(value.get_ref()) {
            Some(value) => Ok(Some(Item { value, written })),
            None => Err(written.refused(allowed)),
        }
    }
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}
