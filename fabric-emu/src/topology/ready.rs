//! Topologies that need no file: each is one of `topologies/`, embedded.

use super::error::{Part, Problem};
use super::{Topology, TopologyError};

macro_rules! ready {
    ($($name:literal),+ $(,)?) => {
        /// The names of the topologies that [`Topology::named`] has.
        pub const READY_NAMES: &[&str] = &[$($name),+];

        /// The file of each.
        const FILES: &[(&str, &str)] = &[$(
            (
                concat!($name, ".toml"),
                include_str!(concat!("../../topologies/", $name, ".toml")),
            )
        ),+];
    };
}

ready!("expander", "four-hosts", "two-heads", "gpu-box");

impl Topology {
    /// One of the topologies that are ready, by its name.
    ///
    /// # Errors
    /// [`TopologyError`] where none has the name; it says which there are.
    pub fn named(name: &str) -> Result<Self, TopologyError> {
        let known = READY_NAMES.iter().zip(FILES);
        match known.clone().find(|(known, _)| **known == name) {
            Some((_, (file, text))) => Self::parse(file, text),
            None => {
                let known = READY_NAMES.join(", ");
                let name = name.to_owned();
                let problem = Problem::NoSuchTopology { name, known };
                Err(TopologyError::at(Part::Whole, None, problem))
            }
        }
    }
}
