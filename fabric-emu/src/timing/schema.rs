//! What a table of parameters may hold: the classes, the keys of each, and their units.

/// What a number is an amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Kept in picoseconds.
    Time,
    /// Kept in bytes a second.
    Rate,
    /// Parts of 1000.
    Permille,
    /// Bytes.
    Bytes,
    /// How many.
    Count,
    /// Operations a second; 0 is no limit.
    Operations,
    /// One in so many; 0 is never.
    OnceIn,
}

impl Quantity {
    /// The units it may be written in, each with how many of the kept unit it is.
    pub(super) const fn units(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Time => &[("ps", 1), ("ns", 1_000), ("us", 1_000_000)],
            Self::Rate => &[("B/s", 1), ("MB/s", 1_000_000), ("GB/s", 1_000_000_000)],
            Self::Permille => &[("permille", 1)],
            Self::Bytes => &[("B", 1)],
            Self::Count => &[("count", 1)],
            Self::Operations => &[("1/s", 1)],
            Self::OnceIn => &[("once in", 1)],
        }
    }
}

/// One number that a class has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) quantity: Quantity,
    /// In the kept unit.
    pub(super) min: u64,
    /// In the kept unit.
    pub(super) max: u64,
}

const fn key(name: &'static str, quantity: Quantity, min: u64, max: u64) -> Key {
    Key {
        name,
        quantity,
        min,
        max,
    }
}

/// A second, for times of one access.
const SECOND: u64 = 1_000_000_000_000;
/// 10^15 bytes a second.
const FAST: u64 = 1_000_000_000_000_000;
const U32: u64 = 0xffff_ffff;

/// What classes of one family are about, and so their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Memory,
    Link,
    Switch,
    Model,
}

impl Family {
    /// In the order in which they are printed.
    pub(super) const fn keys(self) -> &'static [Key] {
        match self {
            Self::Memory => &MEMORY,
            Self::Link => &LINK,
            Self::Switch => &SWITCH,
            Self::Model => &MODEL,
        }
    }
}

const MEMORY: [Key; 14] = [
    key("latency", Quantity::Time, 1, SECOND),
    key("latency_link", Quantity::Time, 0, SECOND),
    key("host", Quantity::Time, 0, SECOND),
    key("media_read", Quantity::Time, 0, SECOND),
    key("media_write", Quantity::Time, 0, SECOND),
    key("bandwidth_read", Quantity::Rate, 1, FAST),
    key("bandwidth_write", Quantity::Rate, 1, FAST),
    key("channels", Quantity::Count, 1, 4096),
    key("access", Quantity::Bytes, 64, 1 << 20),
    key("operations_read", Quantity::Operations, 0, FAST),
    key("operations_write", Quantity::Operations, 0, FAST),
    key("tail_once_in", Quantity::OnceIn, 0, U32),
    key("tail_min", Quantity::Time, 0, SECOND),
    key("tail_max", Quantity::Time, 0, SECOND),
];

const LINK: [Key; 5] = [
    key("propagation", Quantity::Time, 0, SECOND),
    key("lane", Quantity::Rate, 1, FAST),
    key("payload", Quantity::Permille, 1, 1000),
    key("credits", Quantity::Count, 1, U32),
    key("retry_once_in", Quantity::OnceIn, 0, U32),
];

const SWITCH: [Key; 3] = [
    key("cut_through", Quantity::Time, 0, SECOND),
    key("bandwidth", Quantity::Rate, 1, FAST),
    key("channels", Quantity::Count, 1, 4096),
];

const MODEL: [Key; 6] = [
    key("utilisation_cap", Quantity::Permille, 0, 999),
    key("core_accesses", Quantity::Count, 1, U32),
    key("cache_hit", Quantity::Time, 0, SECOND),
    key("load_optimal", Quantity::Permille, 0, 1000),
    key("load_moderate", Quantity::Permille, 0, 1000),
    key("load_severe", Quantity::Permille, 0, 1000),
];

/// The classes, in the order in which they are printed.
pub(super) const CLASSES: [(&str, Family); 15] = [
    ("hbm", Family::Memory),
    ("ddr", Family::Memory),
    ("remote-ddr", Family::Memory),
    ("cxl-x8", Family::Memory),
    ("cxl-x16", Family::Memory),
    ("cxl-fpga", Family::Memory),
    ("c2c", Family::Memory),
    ("pcie5-x16-dma", Family::Memory),
    ("nvme", Family::Memory),
    ("link-8", Family::Link),
    ("link-16", Family::Link),
    ("link-32", Family::Link),
    ("link-64", Family::Link),
    ("switch", Family::Switch),
    ("model", Family::Model),
];

/// The family of a class.
pub(super) fn family(class: &str) -> Option<Family> {
    let (_, family) = CLASSES.iter().find(|(name, _)| *name == class)?;
    Some(*family)
}

/// What may be written, as a message says it.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
