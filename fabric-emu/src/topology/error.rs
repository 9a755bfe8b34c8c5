//! What can be wrong with a topology, and where.

use core::fmt;

use pool_core::Bytes;
use pool_core::units::ParseBytesError;

use super::limits::{BLOCK_MIN, GRANULE, NAME_CHARS_MAX};

/// Why a topology cannot be. Mend what it names, and read it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct TopologyError {
    /// Where.
    pub place: Place,
    /// What, and what would be allowed.
    pub problem: Problem,
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, where there is one.
    pub file: Option<String>,
    /// The line of the file, from 1, where it is known.
    pub line: Option<u32>,
    /// The part of the topology.
    pub part: Part,
    /// The key, by its name in a file, where it is one alone.
    pub key: Option<&'static str>,
}

/// A part of a topology, by its place among those of its kind, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All of it.
    Whole,
    /// A host.
    Host(u32),
    /// A memory of a host: which host, and which of its memories.
    Memory(u32, u32),
    /// A switch.
    Switch(u32),
    /// A memory device.
    Memdev(u32),
    /// A region of a memory device: which device, and which of its regions.
    Region(u32, u32),
    /// A link.
    Link(u32),
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is too long. Describe less.
    #[error("{bytes} bytes; at most {most} are read")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// The file is no TOML, or has a key that nobody knows, lacks one, or has a value of another
    /// kind. Do what the message says.
    #[error("{message}")]
    Form {
        /// What the parser says, in one line.
        message: String,
    },
    /// No topology is embedded under this name. Choose one that is, or name a file.
    #[error("there is no topology {name:?}; known: {known}")]
    NoSuchTopology {
        /// The name.
        name: String,
        /// Those that are known.
        known: String,
    },
    /// There are too many of a kind, or too few. Take some away, or add one.
    #[error("{count}; {least} to {most} are allowed")]
    Count {
        /// How many there are.
        count: u64,
        /// How many there must be.
        least: u64,
        /// How many there may be.
        most: u64,
    },
    /// A name is empty, too long, or has odd characters. Choose another.
    #[error(
        "{name:?} is no name: 1 to {NAME_CHARS_MAX} of A-Z, a-z, 0-9, '-', '_' and '.' are \
         allowed, a letter or digit first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Two parts have one name. Choose another for one of them.
    #[error("{name} is the name of {first} already; each part needs its own")]
    DoubleName {
        /// The name.
        name: String,
        /// Who has it.
        first: Part,
    },
    /// Two devices have one serial number. Choose another for one of them.
    #[error("{serial:#x} is the serial number of {first} already; each device needs its own")]
    DoubleSerial {
        /// The number.
        serial: u64,
        /// Who has it.
        first: Part,
    },
    /// A size cannot be read. Write it as the message says.
    #[error("{text:?} is {error}")]
    NoSize {
        /// What is there.
        text: String,
        /// How a size is written.
        error: ParseBytesError,
    },
    /// A number is too small or too large. Choose one within the bounds.
    #[error("{value}; {least} to {most} are allowed")]
    Number {
        /// The number.
        value: u64,
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
    /// A number is none of a few. Choose one of them.
    #[error("{value}; allowed are {allowed:?}")]
    NoneOf {
        /// The number.
        value: u64,
        /// Those allowed.
        allowed: &'static [u8],
    },
    /// A size is too small or too large. Choose one within the bounds.
    #[error("{size}; {least} to {most} are allowed")]
    Size {
        /// The size.
        size: Bytes,
        /// The smallest allowed.
        least: Bytes,
        /// The largest allowed.
        most: Bytes,
    },
    /// A size is no multiple of what it must be one of. Round it.
    #[error("{size}; a multiple of {of} is allowed")]
    Multiple {
        /// The size.
        size: Bytes,
        /// What it must be a multiple of.
        of: Bytes,
    },
    /// Memory cannot be divided among the logical devices. Round it.
    #[error(
        "{size} for {parts} logical devices; a multiple of {GRANULE} for each of them is allowed, \
         as the multiples of {of} are"
    )]
    Division {
        /// The memory of all of them.
        size: Bytes,
        /// How many they are.
        parts: u8,
        /// What it must be a multiple of.
        of: Bytes,
    },
    /// A block is too small or no power of two. Choose one that is.
    #[error("{size}; a power of two of {BLOCK_MIN} or more is allowed")]
    Block {
        /// The block.
        size: Bytes,
    },
    /// A device has no memory at all. Say `fixed` or `dynamic`.
    #[error("no memory; fixed or dynamic must be more than 0")]
    NoMemory,
    /// A device has dynamic capacity that no region has addresses for. Add a region.
    #[error("dynamic capacity without a region; 1 to 8 are allowed")]
    NoRegion,
    /// A device has regions for dynamic capacity that is not there. Say `dynamic`, or have none.
    #[error("regions without dynamic capacity; dynamic must be more than 0")]
    NoDynamic,
    /// An end of a link cannot be read. Write a name, a colon and the number of a port.
    #[error("{end:?} is no end of a link; NAME:PORT is allowed, with a port from 0 to 254")]
    NoEnd {
        /// What is there.
        end: String,
    },
    /// An end of a link is on nothing that there is. Choose a host, a switch or a device.
    #[error("there is no {name}; the name of a host, a switch or a memory device is allowed")]
    NoSuchNode {
        /// The name.
        name: String,
    },
    /// An end of a link is on a port that there is not. Choose a lower port.
    #[error("there is no port {end}; it has {ports}, counted from 0")]
    NoSuchPort {
        /// The end.
        end: String,
        /// How many there are.
        ports: u8,
    },
    /// A port has two links. Choose another port for one of them.
    #[error("{end} is an end of {first} already; each port has one link at most")]
    PortTaken {
        /// The port.
        end: String,
        /// The link it has.
        first: Part,
    },
    /// A link joins two hosts. Put a switch or a device at its lower end.
    #[error("joins two hosts; the lower end is a switch or a memory device")]
    JoinsHosts,
    /// A link joins two memory devices. Put a host or a switch at its upper end.
    #[error("joins two memory devices; the upper end is a host or a switch")]
    JoinsMemdevs,
    /// A host is the lower end of a link. Turn the link around.
    #[error("a host is the lower end; the lower end is a switch or a memory device")]
    HostBelow,
    /// A device is the upper end of a link. Turn the link around.
    #[error("a memory device is the upper end; the upper end is a host or a switch")]
    MemdevAbove,
    /// A head of a device has no link. Add one, or have fewer heads.
    #[error("{end} has no link; each port of a memory device needs one")]
    HeadAlone {
        /// The head.
        end: String,
    },
    /// Links lead from a switch down to itself. Take one of them out.
    #[error(
        "{} in a circle, each above the one after it; no switch may be below itself",
        through.join(", ")
    )]
    Cycle {
        /// The switches, each above the one after it.
        through: Vec<String>,
    },
    /// No link leads from a switch up. Add one, from a host or from another switch.
    #[error("no link leads up from {name}; each switch needs a way to a host")]
    NoWayUp {
        /// The switch.
        name: String,
    },
}

impl TopologyError {
    /// In this part, at this key of it or in all of it.
    pub(super) fn at(part: Part, key: Option<&'static str>, problem: Problem) -> Self {
        let place = Place {
            file: None,
            line: None,
            part,
            key,
        };
        Self { place, problem }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("topology"),
            Self::Host(host) => write!(f, "host[{host}]"),
            Self::Memory(host, memory) => write!(f, "host[{host}].memory[{memory}]"),
            Self::Switch(switch) => write!(f, "switch[{switch}]"),
            Self::Memdev(memdev) => write!(f, "memdev[{memdev}]"),
            Self::Region(memdev, region) => write!(f, "memdev[{memdev}].region[{region}]"),
            Self::Link(link) => write!(f, "link[{link}]"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        match (self.part, self.key) {
            (Part::Whole, Some(key)) => f.write_str(key),
            (part, None) => write!(f, "{part}"),
            (part, Some(key)) => write!(f, "{part}.{key}"),
        }
    }
}
