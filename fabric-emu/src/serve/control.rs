//! What operators and tests say to a served fabric: a line of JSON, answered by one.
//!
//! **It is the emulator's own and no part of CXL.**
//! ```text
//! "state"                                                 what there is now
//! {"fault":{"host_dies":0}}                               as well host_starts, switch_restarts,
//!                                                         memdev_vanishes, memdev_returns
//! {"fault":{"link_fails":{"node":{"switch":0},"port":4}}} as well link_heals
//! {"fault":{"poison":{"memdev":0,"physical":4096}}}
//! {"advance":1000000000}                                  so many picoseconds go by
//! ```

use serde::{Deserialize, Serialize};

use super::carvings::Carvings;
use super::pace::Mode;
use crate::fabric::{Effect, Fabric, Fault};
use crate::id::{HostId, LdId, MemdevId};
use crate::timing::Picos;

/// What an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Asks what there is.
    State,
    /// Has something go wrong, or be well again.
    Fault(Fault),
    /// Has so much time go by, with all that is due by then. Refused where time passes by itself.
    Advance(Picos),
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// What there is.
    State(State),
    /// The fault has happened, or the time has gone by.
    Done {
        /// Lines that hosts had written and that are lost.
        lost_lines: usize,
    },
    /// It has not: why.
    Refused(String),
}

/// What there is, all of it emulated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the topology is called.
    pub topology: String,
    /// Always true.
    pub emulated: bool,
    /// How time passes.
    pub mode: Mode,
    /// What the fabric was begun with.
    pub seed: u64,
    /// Picoseconds of the fabric since the beginning, as far as something has happened.
    pub now_picos: u64,
    /// Its hosts.
    pub hosts: Vec<HostState>,
    /// Its memory devices.
    pub memdevs: Vec<MemdevState>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// Which.
    pub host: HostId,
    /// Whether it is alive.
    pub is_alive: bool,
    /// The logical devices that it reaches, and what it has of their dynamic capacity.
    pub reaches: Vec<Reached>,
    /// What it has carved.
    pub carvings: Vec<CarvingState>,
}

/// A logical device that a host reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The device.
    pub memdev: MemdevId,
    /// The logical device.
    pub ld: LdId,
    /// What the host has, each extent with where it begins and how long it is.
    pub extents: Vec<(u64, u64)>,
}

/// What a host has carved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarvingState {
    /// Its number.
    pub carving: u64,
    /// The device.
    pub memdev: MemdevId,
    /// The logical device.
    pub ld: LdId,
    /// How long its file is.
    pub bytes: u64,
}

/// A memory device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemdevState {
    /// Which.
    pub memdev: MemdevId,
    /// Whether it has not vanished.
    pub is_there: bool,
    /// Memory that is added and released.
    pub dynamic_bytes: u64,
    /// How much of it is nobody's.
    pub free_bytes: u64,
}

impl HostState {
    /// How much dynamic capacity it has.
    #[must_use]
    pub fn had_bytes(&self) -> u64 {
        let extents = self.reaches.iter().flat_map(|it| &it.extents);
        extents.map(|&(_, bytes)| bytes).sum()
    }
}

/// The hosts as they are now.
pub(super) fn hosts(fabric: &Fabric, carvings: &Carvings) -> Vec<HostState> {
    let host = |host| HostState {
        host,
        is_alive: fabric.is_alive(host),
        reaches: fabric
            .reach(host)
            .into_iter()
            .map(|way| reached(fabric, way.memdev, way.ld))
            .collect(),
        carvings: carvings
            .of_host(host)
            .map(|(carving, it)| CarvingState {
                carving,
                memdev: it.memdev,
                ld: it.ld,
                bytes: it.bytes(),
            })
            .collect(),
    };
    fabric.hosts().map(host).collect()
}

fn reached(fabric: &Fabric, memdev: MemdevId, ld: LdId) -> Reached {
    let device = fabric.memdev(memdev);
    let extents = device.and_then(|device| device.capacity().extents(ld).ok());
    let extents = extents.into_iter().flatten();
    Reached {
        memdev,
        ld,
        extents: extents.map(|it| (it.span.start, it.span.bytes)).collect(),
    }
}

/// The memory devices as they are now.
pub(super) fn memdevs(fabric: &Fabric) -> Vec<MemdevState> {
    let memdev = |memdev| {
        let capacity = fabric.memdev(memdev).map(|device| device.capacity());
        MemdevState {
            memdev,
            is_there: fabric.is_there(memdev),
            dynamic_bytes: capacity.map_or(0, |it| it.bytes()),
            free_bytes: capacity.map_or(0, |it| it.free_bytes()),
        }
    };
    fabric.memdevs().map(memdev).collect()
}

/// What is told of what came of a fault.
pub(super) fn told(effects: &[Effect]) -> Told {
    let failed = effects.iter().find_map(|effect| match effect {
        Effect::Failed(why) => Some(Told::Refused(why.to_string())),
        _ => None,
    });
    failed.unwrap_or_else(|| gone_by(effects))
}

/// What is told of what came of time that went by, where planned faults may have failed.
pub(super) fn gone_by(effects: &[Effect]) -> Told {
    let lost = |effect: &Effect| match effect {
        Effect::Lost { .. } => 1,
        Effect::LostLines { lines, .. } => *lines,
        _ => 0,
    };
    Told::Done {
        lost_lines: effects.iter().map(lost).sum(),
    }
}
