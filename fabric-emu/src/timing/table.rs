//! The parameters: a table of classes, in which each value says where it comes from.
//!
//! # The file
//! TOML, one table a class, and each key an inline table:
//! `latency = { value = 106, unit = "ns", source = "...", evidence = "published" }`.
//! A memory class may have measured waits beside its keys, one for each share of reads, in permille
//! as the utilisations are:
//! `[[ddr.curve]]` with `read_share = 1000`, `points = [[0, 0], [900, 80]]` (utilisation, added
//! time), `unit = "ns"`, `source` and `evidence`.
//!
//! # Invariants
//! 1. A [`Table`] has each class and each key of it, in a unit and a range that the key allows.
//! 2. The parts of a latency are no more than the latency: what is left is the controller's.
//! 3. Printed and parsed again, a table is the same.

use core::fmt::{self, Write as _};
use std::collections::BTreeMap;

use serde::Deserialize;

use super::queue::Curves;
use super::schema::{CLASSES, Family, Key, Quantity, family, list};
use super::units::{Picos, Share};

/// The table that comes with the crate.
const EMBEDDED: &str = include_str!("../../data/timing.toml");

/// How well a value is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// Measured on the machine that is emulated.
    Measured,
    /// Published by those who measured it.
    Published,
    /// Told by someone who cites or sums up those who measured it.
    Secondary,
    /// Recalled, inferred or guessed.
    Assumed,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measured => "measured",
            Self::Published => "published",
            Self::Secondary => "secondary",
            Self::Assumed => "assumed",
        })
    }
}

/// A number as the file says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// In `unit`.
    pub value: u64,
    /// One that the key allows.
    pub unit: String,
    /// Where it comes from; never empty.
    pub source: String,
    /// How well it is known.
    pub evidence: Evidence,
}

/// A measured wait for one share of reads, as the file says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// In permille.
    pub read_share: u64,
    /// Utilisation in permille and added time in `unit`.
    pub points: Vec<[u64; 2]>,
    /// A unit of time.
    pub unit: String,
    /// Where it comes from; never empty.
    pub source: String,
    /// How well it is known.
    pub evidence: Evidence,
}

/// Why a file is no table of parameters. Correct the file at the class and key that it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Correct the form of the file.
    #[error("no TOML: {0}")]
    Form(Box<toml::de::Error>),
    /// Write one of the classes that there are.
    #[error("no class [{class}]; allowed: {allowed}")]
    Class {
        /// As it is written.
        class: String,
        /// The classes.
        allowed: String,
    },
    /// Write one of the keys of the class.
    #[error("[{class}] has no {key}; allowed: {allowed}")]
    Key {
        /// The class.
        class: String,
        /// As it is written.
        key: String,
        /// The keys of the class.
        allowed: String,
    },
    /// Write the entry with its four fields, or a curve with its five.
    #[error(
        "[{class}] {key}: {why}; allowed: {{ value = 1, unit = \"ns\", source = \"...\", \
         evidence = \"measured|published|secondary|assumed\" }}"
    )]
    Entry {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// What is wrong.
        why: Box<toml::de::Error>,
    },
    /// Write one of the units of the key.
    #[error("[{class}] {key}: no unit \"{unit}\"; allowed: {allowed}")]
    Unit {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// As it is written.
        unit: String,
        /// The units of the key.
        allowed: String,
    },
    /// Write a value in the range, which is in the first unit of the key.
    #[error("[{class}] {key}: {value} {unit} is out of range; allowed: {min} to {max} {base}")]
    Range {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// As it is written.
        value: u64,
        /// Its unit.
        unit: String,
        /// The least, in `base`.
        min: u64,
        /// The most, in `base`.
        max: u64,
        /// The first unit of the key.
        base: &'static str,
    },
    /// Say where the value comes from.
    #[error("[{class}] {key} says no source; allowed: any text that names one")]
    Source {
        /// The class.
        class: String,
        /// The key.
        key: String,
    },
    /// Write the key; only a file that is laid over a table may leave keys out.
    #[error("[{class}] lacks {key}")]
    Missing {
        /// The class.
        class: String,
        /// The key.
        key: &'static str,
    },
    /// Make the parts smaller or the whole larger.
    #[error("[{class}] {key} is less than {parts}; allowed: {key} at least {parts}")]
    Order {
        /// The class.
        class: String,
        /// The key that is too small.
        key: &'static str,
        /// What it may not be less than.
        parts: &'static str,
    },
    /// Put the points in order: utilisations and read shares that rise, times that do not fall.
    #[error(
        "[{class}] curve: allowed: points of rising utilisation whose times never fall, each read \
         share once, both 1000 at most"
    )]
    Curve {
        /// The class.
        class: String,
    },
    /// Ask for a class of the family in question.
    #[error("[{class}] is no {wanted}; allowed: {allowed}")]
    Family {
        /// The class.
        class: String,
        /// What was asked for.
        wanted: &'static str,
        /// The classes that are.
        allowed: String,
    },
}

/// One class, as a file says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Class {
    values: BTreeMap<String, Value>,
    curves: Vec<Curve>,
}

/// The parameters of all classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(BTreeMap<String, Class>);

impl Table {
    /// The table that comes with the crate: figures of others, and guesses where there are none.
    ///
    /// # Errors
    /// None that a build which passed its tests can have.
    pub fn embedded() -> Result<Self, TableError> {
        Self::parse(EMBEDDED)
    }

    /// The table that `text` says in full.
    ///
    /// # Errors
    /// [`TableError`], which names the class and the key and says what is allowed.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        Self(parse(text)?).checked()
    }

    /// This table with what `text` says in place of its own: each key alone, and all curves of a
    /// class together. `text` has the form of a table and may leave out what it leaves as it is.
    ///
    /// # Errors
    /// [`TableError`], as for a whole table; this one stays as it is.
    pub fn overlay(&self, text: &str) -> Result<Self, TableError> {
        let mut table = self.clone();
        for (name, class) in parse(text)? {
            let under = table.0.entry(name).or_default();
            under.values.extend(class.values);
            if !class.curves.is_empty() {
                under.curves = class.curves;
            }
        }
        table.checked()
    }

    /// The table as a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (name, family) in CLASSES {
            let Some(class) = self.0.get(name) else {
                continue;
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "[{name}]");
            for key in family.keys() {
                if let Some(Value {
                    value,
                    unit,
                    source,
                    evidence,
                }) = class.values.get(key.name)
                {
                    let (unit, source) = (quoted(unit), quoted(source));
                    let _ = writeln!(
                        text,
                        "{} = {{ value = {value}, unit = {unit}, source = {source}, \
                         evidence = \"{evidence}\" }}",
                        key.name,
                    );
                }
            }
            for curve in &class.curves {
                let Curve {
                    read_share,
                    points,
                    unit,
                    source,
                    evidence,
                } = curve;
                let _ = writeln!(
                    text,
                    "[[{name}.curve]]\nread_share = {read_share}\npoints = {points:?}\n\
                     unit = {}\nsource = {}\nevidence = \"{evidence}\"",
                    quoted(unit),
                    quoted(source),
                );
            }
            text.push('\n');
        }
        text
    }

    /// Each value with its class and its key, in the order of the alphabet.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.0.iter().flat_map(|(name, class)| {
            let values = class.values.iter();
            values.map(move |(key, value)| (name.as_str(), key.as_str(), value))
        })
    }

    /// A number in the kept unit of its key.
    pub(super) fn number(&self, class: &str, key: &'static str) -> Result<u64, TableError> {
        let missing = || TableError::Missing {
            class: class.to_owned(),
            key,
        };
        let value = self.0.get(class).and_then(|values| values.values.get(key));
        let value = value.ok_or_else(missing)?;
        let family = family(class).ok_or_else(missing)?;
        let key = family
            .keys()
            .iter()
            .find(|one| one.name == key)
            .ok_or_else(missing)?;
        in_kept_unit(class, key, value)
    }

    /// What a hit in the caches of a host takes.
    ///
    /// # Errors
    /// None that a table can have.
    pub fn cache_hit(&self) -> Result<Picos, TableError> {
        self.number("model", "cache_hit").map(Picos::new)
    }

    /// How many accesses a core has under way at once.
    ///
    /// # Errors
    /// None that a table can have.
    pub fn core_accesses(&self) -> Result<u32, TableError> {
        // A table holds no more than fits.
        let number = self.number("model", "core_accesses")?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The measured waits of a class, where it has some.
    pub(super) fn curves(&self, class: &str) -> Result<Option<Curves>, TableError> {
        match self.0.get(class) {
            Some(found) if !found.curves.is_empty() => curves(class, &found.curves).map(Some),
            _ => Ok(None),
        }
    }

    fn checked(self) -> Result<Self, TableError> {
        for (class, family) in CLASSES {
            for key in family.keys() {
                self.number(class, key.name)?;
            }
            self.curves(class)?;
            let order = match family {
                Family::Memory => &[
                    ("latency", "latency_link + host + media_read"),
                    ("tail_max", "tail_min"),
                ][..],
                Family::Model => &[
                    ("load_moderate", "load_optimal"),
                    ("load_severe", "load_moderate"),
                ][..],
                Family::Link | Family::Switch => &[],
            };
            for &(key, parts) in order {
                let mut sum = 0_u64;
                for part in parts.split(" + ") {
                    sum = sum.saturating_add(self.number(class, part)?);
                }
                if self.number(class, key)? < sum {
                    return Err(TableError::Order {
                        class: class.to_owned(),
                        key,
                        parts,
                    });
                }
            }
        }
        Ok(self)
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// What a file says, whether all or not.
fn parse(text: &str) -> Result<BTreeMap<String, Class>, TableError> {
    let file: toml::Table = text
        .parse()
        .map_err(|why| TableError::Form(Box::new(why)))?;
    let mut classes = BTreeMap::new();
    for (name, content) in file {
        let Some(family) = family(&name) else {
            let allowed = list(CLASSES.iter().map(|(name, _)| *name));
            return Err(TableError::Class {
                class: name,
                allowed,
            });
        };
        let content: toml::Table = content.try_into().map_err(|why| TableError::Entry {
            class: name.clone(),
            key: String::new(),
            why: Box::new(why),
        })?;
        let class = parse_class(&name, family, content)?;
        classes.insert(name, class);
    }
    Ok(classes)
}

fn parse_class(name: &str, family: Family, content: toml::Table) -> Result<Class, TableError> {
    let mut class = Class::default();
    for (key, entry) in content {
        let entry_error = |why| TableError::Entry {
            class: name.to_owned(),
            key: key.clone(),
            why: Box::new(why),
        };
        if key == "curve" && family == Family::Memory {
            class.curves = entry.try_into().map_err(entry_error)?;
            curves(name, &class.curves)?;
            continue;
        }
        let Some(known) = family.keys().iter().find(|known| known.name == key) else {
            let keys = family.keys().iter().map(|key| key.name);
            let allowed = list(keys.chain((family == Family::Memory).then_some("curve")));
            return Err(TableError::Key {
                class: name.to_owned(),
                key,
                allowed,
            });
        };
        let value: Value = entry.try_into().map_err(entry_error)?;
        in_kept_unit(name, known, &value)?;
        sourced(name, &key, &value.source)?;
        class.values.insert(key, value);
    }
    Ok(class)
}

fn sourced(class: &str, key: &str, source: &str) -> Result<(), TableError> {
    if source.trim().is_empty() {
        return Err(TableError::Source {
            class: class.to_owned(),
            key: key.to_owned(),
        });
    }
    Ok(())
}

fn scale(class: &str, key: &str, quantity: Quantity, unit: &str) -> Result<u64, TableError> {
    let units = quantity.units();
    let found = units.iter().find(|(name, _)| *name == unit);
    found
        .map(|(_, scale)| *scale)
        .ok_or_else(|| TableError::Unit {
            class: class.to_owned(),
            key: key.to_owned(),
            unit: unit.to_owned(),
            allowed: list(units.iter().map(|(name, _)| *name)),
        })
}

fn in_kept_unit(class: &str, key: &Key, value: &Value) -> Result<u64, TableError> {
    let scale = scale(class, key.name, key.quantity, &value.unit)?;
    let kept = value.value.checked_mul(scale);
    let in_range = kept.filter(|kept| (key.min..=key.max).contains(kept));
    in_range.ok_or_else(|| TableError::Range {
        class: class.to_owned(),
        key: key.name.to_owned(),
        value: value.value,
        unit: value.unit.clone(),
        min: key.min,
        max: key.max,
        base: key.quantity.units()[0].0,
    })
}

fn curves(class: &str, said: &[Curve]) -> Result<Curves, TableError> {
    let wrong = || TableError::Curve {
        class: class.to_owned(),
    };
    let permille = |parts: u64| match parts {
        0..=1000 => Ok(Share::from_permille(parts)),
        _ => Err(wrong()),
    };
    let mut lines = Vec::new();
    for curve in said {
        sourced(class, "curve", &curve.source)?;
        let scale = scale(class, "curve", Quantity::Time, &curve.unit)?;
        let mut points = Vec::new();
        for &[utilisation, added] in &curve.points {
            let added = added.checked_mul(scale).ok_or_else(wrong)?;
            points.push((permille(utilisation)?, Picos::new(added)));
        }
        lines.push((permille(curve.read_share)?, points));
    }
    lines.sort_by_key(|(share, _)| *share);
    Curves::new(lines).map_err(|_| wrong())
}
