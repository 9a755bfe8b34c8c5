//! The answers of the model as rows, for tables and charts: unloaded latency, latency against load,
//! mixes of reads and writes, a switch in between, two hosts at one device.
//!
//! All of it is emulated; what was measured by others stands beside it in [`super::published`].

use super::element::{Element, ElementId, Elements, Path, PathError, Stream, mixed};
use super::schema::{CLASSES, Family};
use super::solve::{Outcome, Solution, alone, solve};
use super::table::{Table, TableError};
use super::units::{Picos, Rate, Share};

/// Why there are no rows. Correct what it names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CurvesError {
    /// Ask for a class that there is.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Correct the path.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Hosts that reach one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// What lies between.
    pub elements: Elements,
    /// By host.
    pub paths: Vec<Path>,
}

/// The classes of memory that there are scenes of.
pub fn classes() -> impl Iterator<Item = &'static str> {
    let is_memory = |(_, family): &&(&str, Family)| *family == Family::Memory;
    CLASSES.iter().filter(is_memory).map(|(name, _)| *name)
}

/// Whether a class of memory is behind a link, so that switches and other hosts may be there too.
#[must_use]
pub fn has_link(class: &str) -> bool {
    lanes(class).is_some()
}

/// The lanes of the link that a class of memory is usually behind; none where it is the host's own.
fn lanes(class: &str) -> Option<u8> {
    match class {
        "cxl-x8" => Some(8),
        "cxl-x16" | "cxl-fpga" => Some(16),
        _ => None,
    }
}

/// Gigatransfers a second of the links in a scene.
const GIGATRANSFERS: u8 = 32;

impl Scene {
    /// One host with memory of `class` of its own, or behind a link where the class is one that
    /// has one.
    ///
    /// # Errors
    /// [`CurvesError::Table`] where there is no such class.
    pub fn direct(table: &Table, class: &str) -> Result<Self, CurvesError> {
        Self::switched(table, class, 1, 0)
    }

    /// So many hosts, each with a link to the first of so many switches in a row, and a device of
    /// `class` with a link to the last. Without a switch they meet at its link, or at the device.
    ///
    /// # Errors
    /// [`CurvesError::Table`] where there is no such class.
    pub fn switched(
        table: &Table,
        class: &str,
        hosts: u8,
        switches: u8,
    ) -> Result<Self, CurvesError> {
        let mut elements = table.elements()?;
        let link = lanes(class)
            .map(|lanes| table.link(GIGATRANSFERS, lanes))
            .transpose()?;
        let join = |elements: &mut Elements, hops: &mut Vec<ElementId>| {
            hops.extend(link.map(|link| elements.add(Element::Link(link))));
        };
        let mut shared = Vec::new();
        for _ in 0..switches {
            shared.push(elements.add(Element::Switch(table.switch()?)));
            join(&mut elements, &mut shared);
        }
        if switches == 0 {
            join(&mut elements, &mut shared);
        }
        let device = elements.add(Element::Device(table.device(class)?));
        let host = table.host(class)?;
        let mut paths = Vec::new();
        for _ in 0..hosts {
            let mut hops = Vec::new();
            if switches != 0 {
                join(&mut elements, &mut hops);
            }
            hops.extend(&shared);
            paths.push(Path { host, hops, device });
        }
        Ok(Self { elements, paths })
    }

    fn stream(&self, host: usize, demand: Rate, reads: Share, mlp: u32) -> Stream {
        // A scene without hosts has a path that no solver takes, and so says what is wrong.
        let nowhere = Path {
            host: Picos::ZERO,
            hops: Vec::new(),
            device: ElementId(usize::MAX),
        };
        let path = self.paths.get(host).cloned().unwrap_or(nowhere);
        Stream {
            path,
            demand,
            reads,
            mlp,
        }
    }

    /// What an access of the first host takes with nobody else there.
    ///
    /// # Errors
    /// [`CurvesError::Path`] where the scene has no host.
    pub fn unloaded(&self, reads: Share) -> Result<Picos, CurvesError> {
        let stream = self.stream(0, Rate::ZERO, reads, 1);
        Ok(self.elements.unloaded(&stream.path, reads)?)
    }

    /// What the first host gets that asks for all it can with `mlp` accesses under way.
    ///
    /// # Errors
    /// [`CurvesError::Path`] where the scene has no host.
    pub fn most(&self, reads: Share, mlp: u32) -> Result<Outcome, CurvesError> {
        Ok(alone(
            &self.elements,
            &self.stream(0, Rate::MAX, reads, mlp),
        )?)
    }

    /// Latency of the first host against what it asks for, in ten steps up to the most.
    ///
    /// # Errors
    /// [`CurvesError::Path`] where the scene has no host.
    pub fn loaded(&self, reads: Share, mlp: u32) -> Result<Vec<LoadRow>, CurvesError> {
        let most = self.most(reads, u32::MAX)?.rate;
        let row = |tenth: u64| {
            let offered = most.part(Share::from_permille(tenth * 100));
            let stream = self.stream(0, offered, reads, mlp);
            Ok(LoadRow {
                offered,
                outcome: alone(&self.elements, &stream)?,
            })
        };
        (1..=10).map(row).collect()
    }

    /// What the first host gets at several shares of reads, all that it can.
    ///
    /// # Errors
    /// [`CurvesError::Path`] where the scene has no host.
    pub fn mixes(&self, mlp: u32) -> Result<Vec<MixRow>, CurvesError> {
        let row = |percent: u64| {
            let reads = Share::from_permille(percent * 10);
            let path = self.stream(0, Rate::ZERO, reads, mlp).path;
            Ok(MixRow {
                percent,
                media: mixed(self.elements.device(&path)?, reads),
                outcome: self.most(reads, mlp)?,
            })
        };
        [100, 75, 67, 50, 33, 25, 0].into_iter().map(row).collect()
    }

    /// What all hosts get of a device that each asks for as much of, in ten steps up to all that
    /// one alone could have.
    ///
    /// # Errors
    /// [`CurvesError::Path`] where the scene has no host.
    pub fn contended(&self, reads: Share, mlp: u32) -> Result<Vec<ContentionRow>, CurvesError> {
        let most = self.most(reads, u32::MAX)?.rate;
        let row = |tenth: u64| {
            let offered = most.part(Share::from_permille(tenth * 100));
            let hosts = 0..self.paths.len();
            let streams: Vec<_> = hosts
                .map(|host| self.stream(host, offered, reads, mlp))
                .collect();
            let first = self.stream(0, offered, reads, mlp);
            Ok(ContentionRow {
                offered,
                alone: alone(&self.elements, &first)?,
                together: solve(&self.elements, &streams)?,
            })
        };
        (1..=10).map(row).collect()
    }
}

/// One host at one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadRow {
    /// What it asks for.
    pub offered: Rate,
    /// What it gets.
    pub outcome: Outcome,
}

/// One host at one mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MixRow {
    /// Reads, of 100 accesses.
    pub percent: u64,
    /// What the media could do.
    pub media: Rate,
    /// What the host gets.
    pub outcome: Outcome,
}

/// Several hosts at one load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentionRow {
    /// What each asks for.
    pub offered: Rate,
    /// What the first would get without the others.
    pub alone: Outcome,
    /// What they get.
    pub together: Solution,
}
