//! What can be wrong with a configuration.

use std::io;
use std::path::PathBuf;

use pool_core::Bytes;

use super::reader::Place;

/// Why a configuration cannot be. Mend what it names, and start again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read. Name another one, or make it readable.
    #[error("cannot read the configuration {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The file is no TOML. Mend the line.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// Nobody knows the key. Take it out, or spell it as one of those that are known.
    #[error("{place}: {key} is not known; known here: {known}")]
    UnknownKey {
        /// Its full name.
        key: String,
        /// The names known in the same table.
        known: String,
        /// Where.
        place: Place,
    },
    /// A key must be there. Add it.
    #[error("{place}: {key} is missing; it is {allowed}")]
    Missing {
        /// Its full name.
        key: String,
        /// What it may be.
        allowed: String,
        /// The table that lacks it.
        place: Place,
    },
    /// A value is not what it may be. Choose one that is.
    #[error("{}{key} = {value}: must be {allowed}", at(place.as_ref()))]
    Value {
        /// The full name of its key.
        key: String,
        /// As it was written.
        value: String,
        /// What it may be.
        allowed: String,
        /// Where, if it was written.
        place: Option<Place>,
    },
    /// The machine has too little memory to set up a pool by itself. Free some, or configure
    /// devices.
    #[error(
        "a pool by default takes half of the memory to spare, which here is {spare}, and that is \
         too little for its device {device}: {needed} must be to spare"
    )]
    MachineTooSmall {
        /// What can be had at the moment.
        spare: Bytes,
        /// The device that would have less than 16 extents.
        device: String,
        /// What it takes.
        needed: Bytes,
    },
}

fn at(place: Option<&Place>) -> String {
    place.map(|place| format!("{place}: ")).unwrap_or_default()
}
